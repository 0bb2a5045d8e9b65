"""The stages between reading and committing, which run in child processes: decoding, and asking the model.

Ray's workers import none of this (torch alone takes them seconds and memory): see `isolation`.
"""

from collections.abc import Sequence

import pyarrow as pa

from uniface_ray.batch.chunk import pack_answers, pack_rows, unpack_rows
from uniface_ray.batch.job import Job
from uniface_ray.batch.photos import answers_of_photos, rows_of_faces
from uniface_ray.batch.timing import timed
from uniface_ray.core.child import Beat, Handler
from uniface_ray.core.config import DecodeConfig, FacesConfig
from uniface_ray.core.records import Reject, RejectError, RejectKind, Row
from uniface_ray.data.images import decode_image
from uniface_ray.engine.build import build_engine
from uniface_ray.engine.protocol import Engine, Outcome, Request, Text, run_all
from uniface_ray.model.pixels import fit_square
from uniface_ray.tasks.answer import answer_rows
from uniface_ray.tasks.regions import region_of
from uniface_ray.tasks.registry import build_task


def decoder(job: Job) -> Handler:
    """For `core.child`: decodes chunks."""
    return lambda payload, beat: decode_chunk(job, payload, beat)


def replica(job: Job, threads: int | None) -> Handler:
    """For `core.child`: the model, asked about chunks."""
    return Replica(job, build_engine(job.config, job.device, job.dtype, threads)).answer


def decode_chunk(job: Job, payload: pa.Buffer | bytes, beat: Beat = lambda: None) -> bytes:
    """Encoded bytes -> pixels at the model's size; the bytes go no further. One `beat` for each row."""
    chunk = unpack_rows(payload, job.image_size)
    with timed(chunk.seconds, "decode"):
        decoded = []
        for row in chunk.rows:
            decoded.append((row, decode_row(row, job.config.decode, job.image_size, job.config.faces)))
            beat()
    chunk.rows = [one for _, rows in decoded for one in rows]
    chunk.amounts["images"] = sum(row.pixels is not None for row in chunk.rows)
    if job.config.faces.enabled:
        chunk.faceless = [row.ref.row_id for row, rows in decoded if not rows]
        chunk.amounts["faceless"] = len(chunk.faceless)
    return pack_rows(chunk, job.kept, job.source.wanted.schema)


def decode_row(row: Row, limits: DecodeConfig, image_size: int, faces: FacesConfig | None = None) -> list[Row]:
    """Bytes -> pixels, or a reject; of a photo, a row for each face."""
    data, row.data = row.data, None
    if row.reject or data is None:
        return [row]
    try:
        picture = decode_image(data, limits.max_pixels)
        if faces and faces.enabled:
            return rows_of_faces(row, picture, faces, image_size)
        row.pixels = fit_square(picture, image_size)
        row.mask = region_of(row, picture.shape[:2], image_size, limits.max_pixels)
    except RejectError as error:
        row.reject = error.at("decode")
    except Exception as error:  # whatever a decoder finds to raise, it is this row's alone
        what = f"{type(error).__name__}: {error}"
        row.reject = Reject(RejectKind.UNREADABLE_IMAGE, f"decoding failed with {what[:200]}", "decode")
    return [row]


class _Watched:
    """An engine whose steps are signs of progress, and whose tokens are counted."""

    def __init__(self, engine: Engine, beat: Beat) -> None:
        self.image_size = engine.image_size
        self.submit, self.cancel = engine.submit, engine.cancel
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
