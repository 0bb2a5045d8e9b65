"""Rejected rows, done once more: which they are, and how a chunk takes in what became of them.

A chunk stays the unit of commit. Its files are written anew with the rows moved, its marker is opened before and
written after (see `commit`): a replay that dies in between leaves an open chunk, which the run's own command does
again as a whole, over the same names. So every row is in the output once, whatever happens; the price is that the
chunks in that moment repeat their good rows too.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from uniface_ray.batch.chunk import Answered
from uniface_ray.batch.commit import Marker, attempt_of, settle
from uniface_ray.batch.layout import OK, REJECTED, part_name
from uniface_ray.batch.tally import Tally
from uniface_ray.core.errors import UserError
from uniface_ray.core.fenced import Fenced
from uniface_ray.core.records import RejectKind
from uniface_ray.core.storage import Folder

_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True, slots=True)
class Replay:
    """Which rejected rows are done again. Small: it travels with the job.

    Attributes:
        kinds: of their errors.
        cut: (chunk, rows) of the chunk of which only so many rows are wanted; None where there is none.
    """

    kinds: frozenset[str]
    cut: tuple[int, int] | None = None

    @classmethod
    def of(cls, kinds: Sequence[str]) -> "Replay":
        """Of these kinds; all where none is named.

        Raises:
            UserError: there is no such kind.
        """
        if unknown := sorted(set(kinds) - set(RejectKind)):
            raise UserError(f"replay.kinds has {', '.join(unknown)}, but the kinds are {', '.join(RejectKind)}")
        return cls(frozenset(kinds or RejectKind))

    def row_ids(self, sink: Folder, chunk: int) -> set[int]:
        """Of those of a chunk, by its rejected file."""
        table = _part(sink, REJECTED, chunk)
        if table is None:
            return set()
        wanted = table.filter(pc.is_in(table["error_kind"], pa.array(sorted(self.kinds))))
        if self.cut and self.cut[0] == chunk:
            wanted = wanted.slice(0, self.cut[1])
        return set(wanted["row_id"].to_pylist())


def select(markers: Iterable[Marker], replay: Replay, limit: int | None, tally: Tally) -> tuple[Replay, int]:
    """What is to be done, and how many rows it is.

    Args:
        markers: in order of chunks.
        replay: what is wanted.
        limit: most rows; None for all.
        tally: counts every chunk, and the chosen rows as pending again.
    """
    taken = 0
    for marker in markers:
        room = None if limit is None else limit - taken
        kinds = Counter({kind: rows for kind, rows in marker.rejects_by_kind.items() if kind in replay.kinds})
        if not kinds or room == 0:
            tally.add(marker)
            continue
        if room is not None and kinds.total() > room:
            # Which of them come first in the file, its reader will see; the sum is right, the kinds are a guess.
            replay = replace(replay, cut=(marker.chunk, room))
            kinds = _first(kinds, room)
        taken += kinds.total()
        tally.reopen(marker, kinds)
    return replay, taken


def commit_again(sink: Fenced, answered: Answered, planned: int) -> tuple[Marker, bool]:
    """Commit a chunk of which `answered` holds the rows that were done again; whatever else is in it stays.

    A second call with the same answers (Ray repeats a task whose worker is gone) gives the same files.
    """
    done_again = [*_parents(answered.ok), *answered.faceless, *answered.rejected["row_id"].to_pylist()]
    again = pa.array(done_again, pa.int64())

    def merged(before: Marker | None) -> Answered:
        ok, rejected = _part(sink, OK, answered.number), _part(sink, REJECTED, answered.number)
        return replace(
            answered,
            ok=_beside(ok, answered.ok, again),
            rejected=_beside(rejected, _counted_up(answered.rejected, rejected, sink.token), again),
            seconds=_sum(answered.seconds, before.seconds if before else {}),
            amounts=_sum(answered.amounts, before.amounts if before else {}),
        )

    return settle(sink, answered.number, planned, lambda done: done.attempt == sink.token, merged)


def _beside(old: pa.Table | None, new: pa.Table, again: pa.Array) -> pa.Table:
    """The old rows but those that were done again, then the new ones."""
    if old is None:
        return new
    keys = pc.coalesce(old["parent_id"], old["row_id"])
    kept = old.filter(pc.invert(pc.is_in(keys, again)))
    return pa.concat_tables([kept.cast(new.schema), new]) if kept.num_rows else new


def _counted_up(new: pa.Table, old: pa.Table | None, token: int) -> pa.Table:
    """Attempts of this time and of the times before."""
    if old is None:
        return new
    before = dict(zip(old["row_id"].to_pylist(), old["attempts"].to_pylist(), strict=True))
    # Where this run has written the file already, and then lost the worker, this time is counted in it.
    counted = attempt_of(old) == token
    sums = [
        before.get(row_id, 0) + (0 if counted and row_id in before else attempts)
        for row_id, attempts in zip(new["row_id"].to_pylist(), new["attempts"].to_pylist(), strict=True)
    ]
    at = new.schema.get_field_index("attempts")
    return new.set_column(at, new.schema.field(at), pa.array(sums, pa.int32()))


def _sum(one: dict[str, _Number], other: dict[str, _Number]) -> dict[str, _Number]:
    return other | {name: value + other[name] if name in other else value for name, value in one.items()}


def _parents(ok: pa.Table) -> list[int]:
    return list(pc.coalesce(ok["parent_id"], ok["row_id"]).to_pylist())


def _part(sink: Folder, status: str, chunk: int) -> pa.Table | None:
    try:
        return pq.read_table(pa.BufferReader(sink.read(part_name(status, chunk))))
    except FileNotFoundError:
        return None


def _first(kinds: Counter[str], rows: int) -> Counter[str]:
    taken: Counter[str] = Counter()
    for kind, count in kinds.items():
        taken[kind] = min(count, rows - taken.total())
    return +taken
