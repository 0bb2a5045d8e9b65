"""Shards of made faces: parquet files that say what they were made with."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from uniface_ray.core.errors import UserError
from uniface_ray.train.synthetic.generator import STYLE_SIZE, FaceGenerator
from uniface_ray.train.synthetic.rare import StyleReader

SHARD = 256
_KEY = b"uniface_ray.made_with"


@dataclass(frozen=True)
class MadeWith:
    """What the faces of a shard depend on, beside their number.

    Attributes:
        seed: of the random numbers.
        truncation: see `FaceGenerator.truncated`.
        rarer_than: seeds of the faces among which these are rare; empty for ordinary faces.
    """

    seed: int
    truncation: float
    rarer_than: tuple[int, ...] = ()


def styles(generator: FaceGenerator, made: MadeWith, shard: int, times: int = 1) -> Tensor:
    """Ordinary styles for a shard, the same whenever they are asked for: (256 `times`, 512)."""
    numbers = np.random.default_rng([made.seed, shard * SHARD]).standard_normal((times * SHARD, STYLE_SIZE))
    return generator.truncated(generator.styles(torch.from_numpy(numbers.astype(np.float32))), made.truncation)


def shard_path(folder: Path, seed: int, shard: int) -> Path:
    """File of a shard."""
    return folder / f"faces-{seed:04d}-{shard:03d}.parquet"


def write_shard(rows: list[dict[str, Any]], made: MadeWith, path: Path) -> None:
    """Write a shard, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows)
    part = path.with_suffix(".part")
    pq.write_table(table.replace_schema_metadata({_KEY: json.dumps(asdict(made))}), part)
    os.replace(part, path)


def read_made_with(path: Path) -> tuple[MadeWith, int]:
    """What a shard was made with, and its rows.

    Raises:
        UserError: it is not a shard that `write_shard` wrote.
    """
    try:
        schema, rows = pq.read_schema(path), pq.read_metadata(path).num_rows
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: {error}") from error
    told = (schema.metadata or {}).get(_KEY)
    if told is None:
        raise UserError(f"{path} does not say what it was made with: only shards that this command has made will do")
    values = json.loads(told)
    return MadeWith(values["seed"], values["truncation"], tuple(values["rarer_than"])), rows


def missing_shards(folder: Path, made: MadeWith, count: int) -> list[int]:
    """Numbers of the shards of `count` faces that are not there, or have fewer rows than they should.

    Raises:
        UserError: one that is there was made with something else.
    """
    missing = []
    for shard in range(-(-count // SHARD)):
        path = shard_path(folder, made.seed, shard)
        if path.exists():
            found, rows = read_made_with(path)
            if found != made:
                raise UserError(
                    f"{path} was made with {asdict(found)}, and asked is {asdict(made)}: give another --out"
                )
            if rows >= min(SHARD, count - shard * SHARD):
                continue
        missing.append(shard)
    return missing


def fit_reader(generator: FaceGenerator, folder: Path, seed: int) -> tuple[StyleReader, tuple[int, ...]]:
    """A reader of styles by the ordinary faces in `folder`, and the seeds of these.

    Raises:
        UserError: `folder` has other shards than ordinary ones, or some of `seed`, whose faces would come again.
    """
    chosen, estimates, seeds = [], [], set()
    for path in sorted(folder.glob("*.parquet")):
        made, rows = read_made_with(path)
        if made.rarer_than or made.seed == seed:
            why = "has rare faces itself" if made.rarer_than else f"is of --seed {seed}, whose faces would come again"
            raise UserError(f"--rarer-than is {folder}, where {path.name} {why}: give a folder of others")
        table = pq.read_table(path, columns=["id", "age", "p_male", "p_happy"])
        chosen.append(styles(generator, made, int(table["id"][0].as_py().split("-")[1]) // SHARD)[:rows])
        columns = [table[name].to_numpy() for name in ("age", "p_male", "p_happy")]
        estimates.append(torch.from_numpy(np.stack(columns, axis=1)))
        seeds.add(made.seed)
    return StyleReader.fitted(torch.cat(chosen), torch.cat(estimates)), tuple(sorted(seeds))
