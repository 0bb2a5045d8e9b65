"""The first and the last stage of a chunk, as plain functions; `work` has those between, `pipeline` Ray Data around."""

import random
import time
from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import replace
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc

from uniface_ray.batch.chunk import Answered, Chunk, pack_rows, unpack_answers
from uniface_ray.batch.commit import Marker, commit
from uniface_ray.batch.files import write_files
from uniface_ray.batch.job import Job
from uniface_ray.batch.plan import PlanIndex
from uniface_ray.batch.replay import commit_again
from uniface_ray.batch.timing import timed
from uniface_ray.core.errors import StoppedError
from uniface_ray.core.metrics import ChunkNumbers, Metrics, count_chunk
from uniface_ray.core.records import Reject, RejectKind, Row, row_id_of
from uniface_ray.core.storage_errors import sink_failed
from uniface_ray.data.slices import Slice, Source
from uniface_ray.data.uris import is_web
from uniface_ray.tasks.registry import build_task

# Longest waits before failed rows are read again.
_WAITS_S = (1.0, 4.0)


def read_chunk(job: Job, plan: PlanIndex, number: int) -> bytes:
    """Fetch the encoded bytes of a chunk's rows.

    Raises:
        StoppedError: not one of several rows can be fetched, and none of other chunks either: the storage is at fault,
            and the rows wait for it. Web hosts that fail cost their rows only.
    """
    chunk = Chunk(number, [])
    with timed(chunk.seconds, "read"):
        only = job.replay.row_ids(plan.sink, number) if job.replay else None
        slices = plan.slices(number) if only is None else [one for one in plan.slices(number) if _count(one, only)]
        chunk.rows = _read(job.source, slices, only)
        if failed := _failed(chunk.rows):
            _check_others(job, plan, number, failed)
            chunk.rows = _read(job.source, slices, only)
        complete(job, chunk.rows)
    chunk.amounts["read_bytes"] = sum(len(row.data) for row in chunk.rows if row.data)
    return pack_rows(chunk, job.kept, job.source.wanted.schema)


def _read(source: Source, slices: Sequence[Slice], only: Set[int] | None) -> list[Row]:
    """The slices' rows, or of them those with the ids `only`.

    Those of which a row could not be fetched are read again: a client tries a request again, but not a table of which a
    part did not come whole.
    """
    rows = _by_slice(source, slices, only)
    for longest_s in _WAITS_S:
        again = [number for number, some in enumerate(rows) if any(map(_is_failed, some))]
        if not again:
            break
        time.sleep(random.uniform(0, longest_s))
        found = _by_slice(source, [slices[number] for number in again], only)
        for number, some in zip(again, found, strict=True):
            rows[number] = some
    return [row for some in rows for row in some]


def _by_slice(source: Source, slices: Sequence[Slice], only: Set[int] | None) -> list[list[Row]]:
    rows = source.read(slices, only)
    return [list(islice(rows, _count(one, only))) for one in slices]


def _count(piece: Slice, only: Set[int] | None) -> int:
    """Of the rows that are wanted."""
    if only is None:
        return piece.count
    return sum(row_id_of(piece.path, position) in only for position in piece.positions)


def _is_failed(row: Row) -> bool:
    """Whether a storage failed; web hosts have been asked often enough."""
    reject = row.reject
    return reject is not None and reject.kind == RejectKind.FETCH_FAILED and not is_web(row.ref.uri)


def _failed(rows: Sequence[Row]) -> Reject | None:
    """Why none of several rows could be fetched; None where one was, or where a storage has no part in it."""
    return rows[0].reject if len(rows) > 1 and all(map(_is_failed, rows)) else None


def _check_others(job: Job, plan: PlanIndex, number: int, failed: Reject) -> None:
    """A storage that gives rows of other chunks is not at fault: it refuses these (no rights, a disk's bad sector)."""
    for other in plan.others(number):
        first = replace(plan.slices(other)[0], count=1)
        rejects = [row.reject for row in job.source.read([first])]
        if any(one is None or one.kind != RejectKind.FETCH_FAILED for one in rejects):
            return
    raise StoppedError(
        f"the source gives nothing any more ({failed.message}): once it does, the same command goes on where "
        "this one stopped. Workers need the storage's credentials too, in their environment or as storage.*"
    )


def complete(job: Job, rows: Sequence[Row]) -> None:
    """What is the same for every row, put into each; kept values of another type than the outputs' make rejects."""
    for row in rows:
        row.fields = {} if row.reject else job.source.wanted.given | row.fields
        _check_kept(row, job.kept)


def _check_kept(row: Row, kept: pa.Schema) -> None:
    """Files of one source may disagree on a column's type; the outputs have one, that of the first file."""
    for column in kept:
        try:
            pa.scalar(row.kept.get(column.name), column.type)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            value = f"{row.kept.pop(column.name)!r}"[:80]
            what = f"column {column.name} is {value}, but the first file has {column.type} there: {error}"
            row.reject = row.reject or Reject(RejectKind.BAD_REQUEST, what, "read")


def commit_chunk(job: Job, plan: PlanIndex, payload: pa.Buffer | bytes, metrics: Metrics | None = None) -> Marker:
    """Output rows -> files and marker in the sink; what they add up to goes to `metrics`.

    Raises:
        StoppedError: the sink cannot be written; a resumed run does this chunk again.
    """
    task = build_task(job.config)
    answered = unpack_answers(payload, task, job.config.source.kept_names)
    try:
        if task.files:
            write_files(job.sink, answered.ok["file"].to_pylist(), answered.ok[task.image_column])
        put = commit_again if job.replay else commit
        marker, written = put(job.sink, answered, plan.rows(answered.number))
    except OSError as error:
        raise sink_failed(job.sink.uri, error) from error
    if metrics and written:
        count_chunk(metrics, _numbers(answered))
    return marker


def _numbers(answered: Answered) -> ChunkNumbers:
    ok = pc.count_distinct(pc.coalesce(answered.ok["parent_id"], answered.ok["row_id"])).as_py()
    kinds = Counter(answered.rejected["error_kind"].to_pylist())
    ok += answered.amounts.get("faceless", 0)
    return ChunkNumbers(ok, answered.ok.num_rows, kinds, answered.seconds, answered.amounts)
