"""Tokens a second of a Ray Train worker, against a plain PyTorch loop with the same model and data, in one run.

The plain loop: batches made in a thread, forward, backward, clipping, AdamW. Loop and worker take turns, as a machine
gets slower and faster on the way, and each worker is compared with the loops before and after it.
"""

import argparse
import json
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from benchmarks.faces import make_faces
from benchmarks.record import about, save
from uniface_ray.cluster import connect
from uniface_ray.core.compose import compose
from uniface_ray.core.interrupts import Asked
from uniface_ray.core.lease import taken
from uniface_ray.core.storage import Folder
from uniface_ray.core.train_config import TrainConfig
from uniface_ray.data.pixels import fit_square
from uniface_ray.engine.protocol import Encode, Encoded
from uniface_ray.engine.uniface import UniFaceEngine
from uniface_ray.train.base import Base
from uniface_ray.train.batches import Counts
from uniface_ray.train.group import train_on_ray
from uniface_ray.train.losses import Trainee
from uniface_ray.train.mixture import Ahead, Mixture
from uniface_ray.train.optimizer import build_optimizer
from uniface_ray.train.shards import Shards
from uniface_ray.train.trained import freeze, learning

_EVERY = 5
_ROWS = 256


def main() -> None:
    """Measure, print, and write the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train", description=__doc__)
    parser.add_argument("--steps", type=int, default=40, help="of each run")
    parser.add_argument("--rounds", type=int, default=5, help="runs of the worker; the loop has one more")
    parser.add_argument("--batch", type=int, default=24, help="rows of a step")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch, in both")
    parser.add_argument("--out", type=Path, default=Path("out/bench/train"), help="where faces are kept")
    parser.add_argument("--dry", action="store_true", help="write no result file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        words = [
            f"data.path={folder / 'tokens'}",
            f"sink.path={folder / 'run'}",
            f"data.batch_size={arguments.batch}",
            f"stages.steps={arguments.steps}",
            f"parallel.threads={arguments.threads}",
            f"run.log_every_steps={_EVERY}",
            "data.held_out=0",
            "checkpoint.every_steps=1000000",
            "validation.every_steps=1000000",
            "validation.rows=0",
            "report.samples=0",
        ]
        config = compose("train", words, TrainConfig)
        make_tokens(config, make_faces(arguments.out / "faces", _ROWS), folder / "tokens")
        torch.set_num_threads(arguments.threads)
        connect(config.cluster, 4)
        plain, worker = [plain_loop(config)], []
        for number in range(arguments.rounds):
            worker.append(ray_worker(config, f"{config.sink.path}-{number}"))
            plain.append(plain_loop(config))
            print(f"round {number + 1}: plain {plain[-2]} and {plain[-1]} tokens/s, worker {worker[-1]}", flush=True)
    ratios = [own * 2 / sum(beside) for own, beside in zip(worker, pairwise(plain), strict=True)]
    result = {
        **about("benchmarks.train"),
        "model": config.model.name,
        "batch": arguments.batch,
        "steps": arguments.steps,
        "threads": arguments.threads,
        "tokens_per_s": {"plain": plain, "ray worker": worker},
        "ratios": [round(ratio, 3) for ratio in ratios],
        "ratio": round(statistics.median(ratios), 3),
    }
    print(json.dumps(result, indent=1))
    if not arguments.dry:
        print(save(result, "train"))


def make_tokens(config: TrainConfig, faces: Path, folder: Path) -> None:
    """What `uniface tokenize` would write, with texts of the length of captions."""
    engine = UniFaceEngine(Base(config.model, config.storage).folder)
    pictures = [np.array(Image.open(path).convert("RGB")) for path in sorted(faces.glob("*.jpg"))[:_ROWS]]
    found = engine.run([Encode(fit_square(picture, engine.image_size), features=True) for picture in pictures])
    rows: list[dict[str, Any]] = []
    for number, one in enumerate(found):
        assert isinstance(one, Encoded)
        texts = {
            "captions": ["A middle-aged man with short brown hair smiles, in front of a dark background."],
            "questions": ["What color is his hair?"],
            "answers": ["He has brown hair."],
        }
        features = {name: value.tobytes() for name, value in one.features.items()}
        rows.append({"row_id": number, "codes": one.codes.tolist(), **texts, **features})
    folder.mkdir()
    for part in range(4):
        pq.write_table(pa.Table.from_pylist(rows[part::4]), folder / f"part-{part}.parquet")


def plain_loop(config: TrainConfig) -> float:
    """Tokens a second after the first steps."""
    base = Base(config.model, config.storage)
    shards = Shards(config.data.path, config.storage, base.config, config.data.held_out)
    (stage,) = config.stages.each()
    model = base.model()
    freeze(model, stage)
    learning(model)
    trainee, optimizer = Trainee(model, config.loss), build_optimizer(model, config.optimizer, stage)
    learns = [parameter for parameter in model.parameters() if parameter.requires_grad]
    shares = Ahead(Mixture(config, shards, base.processor, 0, 1).shares(stage, {}))
    tokens, began_s = 0, 0.0
    for step in range(stage.steps):
        if step == _warm(config):
            tokens, began_s = 0, time.perf_counter()
        (batch,) = next(shares).parts
        counts: Counts = batch.counts
        optimizer.zero_grad()
        trainee(batch, counts)[0].backward()
        torch.nn.utils.clip_grad_norm_(learns, 1.0)
        optimizer.step()
        tokens += batch.tokens
    seconds = time.perf_counter() - began_s
    shares.close()
    return round(tokens / seconds, 1)


def ray_worker(config: TrainConfig, path: str) -> float:
    """Tokens a second of one Ray Train worker that writes to `path`, after as many steps, from its own lines."""
    records: list[dict[str, Any]] = []
    with taken(Folder(path, config.storage), print) as lease:
        train_on_ray(config, "cpu", "float32", lease.sink, Asked(), records.append)
    steady = [one for one in records if "tokens_per_s" in one and one["step"] > _warm(config)]
    tokens = sum(one["tokens_per_step"] for one in steady)
    return round(tokens / sum(one["seconds_per_step"] for one in steady), 1)


def _warm(config: TrainConfig) -> int:
    """Steps that are not counted: a quarter, in whole lines."""
    return config.stages.steps[0] // 4 // _EVERY * _EVERY


if __name__ == "__main__":
    main()
