"""The stages of a chunk, as plain functions and one plain class; `pipeline` puts Ray Data around them."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.compute as pc

from uniface_ray.batch.chunk import Answered, Chunk, pack_answers, pack_rows, unpack_answers, unpack_rows
from uniface_ray.batch.commit import Marker, commit
from uniface_ray.batch.files import write_files
from uniface_ray.batch.job import Job
from uniface_ray.batch.photos import answers_of_photos, rows_of_faces
from uniface_ray.batch.plan import PlanIndex
from uniface_ray.batch.replay import commit_again, read_again
from uniface_ray.core.config import DecodeConfig, FacesConfig
from uniface_ray.core.errors import StoppedError
from uniface_ray.core.metrics import ChunkNumbers, Metrics, count_chunk
from uniface_ray.core.records import Reject, RejectError, RejectKind, Row
from uniface_ray.core.storage import Folder
from uniface_ray.data.images import decode_image
from uniface_ray.data.uris import is_web
from uniface_ray.engine.protocol import Engine, Request, Result, Text
from uniface_ray.model.pixels import fit_square
from uniface_ray.tasks.answer import answer_rows
from uniface_ray.tasks.regions import region_of
from uniface_ray.tasks.registry import build_task


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Note how long a stage took."""
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start


def read_chunk(job: Job, plan: PlanIndex, number: int) -> bytes:
    """Fetch the encoded bytes of a chunk's rows.

    Raises:
        StoppedError: not one of several rows can be fetched: the storage is at fault, and the rows wait for it.
            Web hosts that fail cost their rows only.
    """
    chunk = Chunk(number, [])
    with timed(chunk.seconds, "read"):
        slices = plan.slices(number)
        if job.replay:
            chunk.rows = read_again(job.source, slices, job.replay.rows(plan.sink, number))
        else:
            chunk.rows = list(job.source.read(slices))
        for row in chunk.rows:
            row.fields = {} if row.reject else job.source.wanted.given | row.fields
            _check_kept(row, job.kept)
    chunk.amounts["read_bytes"] = sum(len(row.data) for row in chunk.rows if row.data)
    failed = [
        row.reject
        for row in chunk.rows
        if row.reject and row.reject.kind == RejectKind.FETCH_FAILED and not is_web(row.ref.uri)
    ]
    if len(failed) == len(chunk.rows) > 1 and not job.replay:
        raise StoppedError(
            f"the source gives nothing any more ({failed[0].message}): once it does, the same command goes on where "
            "this one stopped. Workers need the storage's credentials too, in their environment or as storage.*"
        )
    return pack_rows(chunk, job.kept, job.source.wanted.schema)


def _check_kept(row: Row, kept: pa.Schema) -> None:
    """Files of one source may disagree on a column's type; the outputs have one, that of the first file."""
    for column in kept:
        try:
            pa.scalar(row.kept.get(column.name), column.type)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            value = f"{row.kept.pop(column.name)!r}"[:80]
            what = f"column {column.name} is {value}, but the first file has {column.type} there: {error}"
            row.reject = row.reject or Reject(RejectKind.BAD_REQUEST, what, "read")


def decode_chunk(job: Job, payload: pa.Buffer | bytes) -> bytes:
    """Encoded bytes -> pixels at the model's size; the bytes go no further."""
    chunk = unpack_rows(payload, job.image_size)
    with timed(chunk.seconds, "decode"):
        decoded = [(row, decode_row(row, job.config.decode, job.image_size, job.config.faces)) for row in chunk.rows]
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


class _Counted:
    """An engine, and the tokens of its answers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.tokens = 0

    def run(self, requests: Sequence[Request]) -> list[Result | Reject]:
        outcomes = self._engine.run(requests)
        self.tokens += sum(one.tokens for one in outcomes if isinstance(one, Text))
        return outcomes


class Replica:
    """One model, answering chunk after chunk."""

    def __init__(self, job: Job, engine: Engine) -> None:
        self.job = job
        self.engine = engine
        self.task = build_task(job.config)

    def answer(self, payload: pa.Buffer | bytes) -> bytes:
        """Pixels -> output rows and rejects."""
        chunk = unpack_rows(payload, self.job.image_size)
        counted = _Counted(self.engine)
        with timed(chunk.seconds, "engine"):
            answers = answers_of_photos(answer_rows(self.task, counted, chunk.rows, self.job.config.run.seed))
        chunk.amounts["tokens"] = counted.tokens
        return pack_answers(chunk, answers, self.task, self.job.config.model.name, self.job.kept)


def commit_chunk(job: Job, plan: PlanIndex, payload: pa.Buffer | bytes, metrics: Metrics | None = None) -> Marker:
    """Output rows -> files and marker in the sink; what they add up to goes to `metrics`.

    Raises:
        StoppedError: the sink cannot be written; a resumed run does this chunk again.
    """
    task = build_task(job.config)
    answered = unpack_answers(payload, task)
    try:
        if task.files:
            write_files(job.sink, answered.ok["file"].to_pylist(), answered.ok[task.image_column])
        put = commit_again if job.replay else commit
        marker = put(job.sink, answered, plan.rows(answered.number))
    except OSError as error:
        raise sink_failed(job.sink, error) from error
    if metrics:
        count_chunk(metrics, _numbers(answered))
    return marker


def _numbers(answered: Answered) -> ChunkNumbers:
    ok = pc.count_distinct(pc.coalesce(answered.ok["parent_id"], answered.ok["row_id"])).as_py()
    kinds = Counter(answered.rejected["error_kind"].to_pylist())
    ok += answered.amounts.get("faceless", 0)
    return ChunkNumbers(ok, answered.ok.num_rows, kinds, answered.seconds, answered.amounts)


def sink_failed(sink: Folder, error: OSError) -> StoppedError:
    """What to tell of a sink that was writable once."""
    return StoppedError(
        f"sink.path is {sink.uri!r}, which cannot be written any more ({error}); once it can, the same "
        "command goes on where this one stopped"
    )
