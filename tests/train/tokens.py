"""Data for trainings that take seconds: crops of the portraits, tokenized by a model with random weights."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from tests.batch.plain_run import PlainRun
from tests.model.toys import toy_config
from tests.pictures import variations
from tests.tiny import tokenizer
from uniface_ray.core.compose import compose
from uniface_ray.core.config import StorageConfig
from uniface_ray.core.storage import Folder
from uniface_ray.core.train_config import TrainConfig
from uniface_ray.engine.uniface import UniFaceEngine
from uniface_ray.model import UniFaceConfig, UniFaceForConditionalGeneration, UniFaceProcessor
from uniface_ray.train.base import Base
from uniface_ray.train.hooks import Hooks, Outcome
from uniface_ray.train.loop import train
from uniface_ray.train.parallel import World

Train = Callable[..., Outcome]


def save_toy(folder: Path, config: UniFaceConfig | None = None) -> Path:
    """A model with experts of both levels, 64 image tokens, and random weights."""
    torch.manual_seed(0)
    model = UniFaceForConditionalGeneration(config or toy_config(max_text_length=24))
    model.save_pretrained(folder)
    UniFaceProcessor(tokenizer(300), model.config).save_pretrained(folder)
    return folder


def tokenized(folder: Path, model: Path, portraits: Sequence[bytes], rows: int, *more: str) -> Path:
    """A sink of `uniface tokenize` with crops of the portraits in files of ten."""
    pictures = folder / "pictures"
    pictures.mkdir(parents=True)
    lines = []
    for number, data in enumerate(variations(portraits, rows)):
        (pictures / f"{number:03d}.jpg").write_bytes(data)
        who = ("man", "woman")[number % 2]
        talk = [{"from": "human", "value": f"Is this a {one}?"} for one in ("man", "woman")]
        said = [{"from": "gpt", "value": "Yes." if who == one else "No."} for one in ("man", "woman")]
        turns = [turn for pair in zip(talk, said, strict=True) for turn in pair]
        lines.append({"uri": f"{number:03d}.jpg", "caption": f"a {who} smiles", "talk": turns if number % 3 else None})
    (pictures / "faces.jsonl").write_text("\n".join(map(json.dumps, lines)))
    sink = Folder(str(folder / "tokens"), StorageConfig())
    columns = ["source.caption_column=caption", "source.conversation_column=talk", "run.chunk_rows=10", *more]
    typed = [f"model.path={model}", *columns]
    engine = UniFaceEngine(model, threads=1)
    PlainRun(pictures / "faces.jsonl", sink, *typed, engine=engine, command="tokenize").finish()
    return Path(sink.uri)


def words(data: Path, model: Path, sink: Path | str) -> list[str]:
    """What is typed for a training of a few small steps."""
    return [
        f"data.path={data}",
        f"model.path={model}",
        f"sink.path={sink}",
        "data.batch_size=6",
        "data.held_out=0.2",
        "data.held_out_by=row_id",  # the addresses change with the folder of the tests
        "data.shuffle_files=3",
        "stages.steps=6",
        "stages.warmup_steps=2",
        "stages.learning_rate=1e-3",
        "run.log_every_steps=1",
        "checkpoint.every_steps=2",
        "checkpoint.best=false",
        "validation.every_steps=3",
        "validation.rows=4",
        "validation.steps=2",
        "validation.max_new_tokens=4",
        "report.samples=1",
    ]


def settings(data: Path, model: Path, sink: Path | str, *more: str) -> TrainConfig:
    """Of such a training."""
    return compose("train", [*words(data, model, sink), *more], TrainConfig)


def run_alone(config: TrainConfig, hooks: Hooks | None = None) -> Outcome:
    """The training, in this process."""
    world = World(config.parallel, torch.device("cpu"), torch.float32)
    return train(config, Base(config.model, config.storage), world, Folder(config.sink.path, config.storage), hooks)
