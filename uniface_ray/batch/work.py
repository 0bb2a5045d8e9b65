"""The stage of the model, which runs in a child process.

Ray's workers import none of this (torch and transformers take them seconds and memory): see `isolation`.
"""

from collections.abc import Sequence

import pyarrow as pa

from uniface_ray.batch.chunk import pack_answers, unpack_rows
from uniface_ray.batch.job import Job
from uniface_ray.batch.photos import answers_of_photos
from uniface_ray.batch.timing import timed
from uniface_ray.core.child import Beat, Handler
from uniface_ray.core.task_config import MeasureConfig
from uniface_ray.engine.build import build_engine
from uniface_ray.engine.protocol import Engine, Outcome, Request, Text, run_all
from uniface_ray.tasks.answer import answer_rows
from uniface_ray.tasks.registry import build_task


def replica(job: Job, threads: int | None) -> Handler:
    """For `core.child`: the model, asked about chunks."""
    engine = build_engine(job.config, job.device, job.dtype, threads)
    if isinstance(job.config.task, MeasureConfig):
        from uniface_ray.evaluate.eyes import with_eyes  # transformers' vision models, which no other task needs

        engine = with_eyes(engine, job.config.task, job.config.storage, job.device)
    return Replica(job, engine).answer


class _Watched:
    """An engine whose steps are signs of progress, and whose tokens are counted."""

    def __init__(self, engine: Engine, beat: Beat) -> None:
        self.image_size = engine.image_size
        self.submit, self.cancel, self.progress = engine.submit, engine.cancel, engine.progress
        self._engine = engine
        self._beat = beat
        self.tokens = 0

    def step(self) -> list[tuple[int, Outcome]]:
        self._beat()
        return self._engine.step()

    def run(self, requests: Sequence[Request]) -> list[Outcome]:
        outcomes = run_all(self, requests)
        self.tokens += sum(one.tokens for one in outcomes if isinstance(one, Text))
        return outcomes


class Replica:
    """One model, answering chunk after chunk."""

    def __init__(self, job: Job, engine: Engine) -> None:
        self.job = job
        self.engine = engine
        self.task = build_task(job.config)

    def answer(self, payload: pa.Buffer | bytes, beat: Beat = lambda: None) -> bytes:
        """Pixels -> output rows and rejects. A `beat` for each step of the engine."""
        chunk = unpack_rows(payload, self.job.image_size)
        watched = _Watched(self.engine, beat)
        with timed(chunk.seconds, "engine"):
            answers = answers_of_photos(answer_rows(self.task, watched, chunk.rows, self.job.config.run.seed))
        chunk.amounts["tokens"] = watched.tokens
        return pack_answers(chunk, answers, self.task, self.job.config.model.name, self.job.kept)
