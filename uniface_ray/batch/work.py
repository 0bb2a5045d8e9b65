"""The stage of the model, which runs in a child process.

Ray's workers import none of the model's libraries, which take seconds and memory: see `isolation`.
"""

from collections.abc import Sequence

import pyarrow as pa

from uniface_ray.batch.chunk import pack_answers, unpack_rows
from uniface_ray.batch.job import Job
from uniface_ray.batch.photos import answers_of_photos
from uniface_ray.core.child import Beat, Handler
from uniface_ray.core.task_config import MeasureConfig
from uniface_ray.engine.aside import aside
from uniface_ray.engine.build import build_engine
from uniface_ray.engine.protocol import Engine, Outcome, Request, Text
from uniface_ray.engine.shared import SharedEngine
from uniface_ray.tasks.answer import answer_rows
from uniface_ray.tasks.registry import build_task


def replica(job: Job, threads: int | None) -> Handler:
    """For `core.child`: the model, asked about chunks."""
    return Replica(job, aside(lambda: _engine(job, threads))).answer  # a thread of its own will step it


def _engine(job: Job, threads: int | None) -> Engine:
    engine = build_engine(job.config, job.device, job.dtype, threads)
    if isinstance(job.config.task, MeasureConfig):
        from uniface_ray.evaluate.eyes import with_eyes  # transformers' vision models, which no other task needs

        engine = with_eyes(engine, job.config.task, job.config.storage, job.device)
    return engine


class _Caller:
    """The engine, as one chunk sees it: what it asks joins what is under way, and its time and tokens are counted."""

    def __init__(self, engine: SharedEngine, beat: Beat) -> None:
        self._engine = engine
        self._beat = beat
        self.tokens = 0
        self.seconds = 0.0

    def run(self, requests: Sequence[Request]) -> list[Outcome]:
        outcomes, seconds = self._engine.run(requests, self._beat)
        self.tokens += sum(one.tokens for one in outcomes if isinstance(one, Text))
        self.seconds += seconds
        return outcomes


class Replica:
    """One model, answering chunks: several at a time, each from a thread of its own."""

    def __init__(self, job: Job, engine: Engine) -> None:
        self.job = job
        self.engine = SharedEngine(engine)
        self.task = build_task(job.config)

    def answer(self, payload: pa.Buffer | bytes, beat: Beat = lambda: None) -> bytes:
        """Pixels -> output rows and rejects. A `beat` now and then while the engine goes on."""
        chunk = unpack_rows(payload, self.job.image_size)
        caller = _Caller(self.engine, beat)
        answers = answers_of_photos(answer_rows(self.task, caller, chunk.rows, self.job.config.run.seed))
        chunk.seconds["engine"] = caller.seconds
        chunk.amounts["tokens"] = caller.tokens
        return pack_answers(chunk, answers, self.task, self.job.config.model.name, self.job.kept)
