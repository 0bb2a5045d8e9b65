"""Markers, read and added up."""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace

from uniface_ray.batch.commit import Marker, OutputFile, marker_of
from uniface_ray.batch.layout import CHECKPOINT, is_marker, marker_name
from uniface_ray.core.parallel import map_ahead
from uniface_ray.core.storage import Folder


@dataclass(slots=True)
class Tally:
    """Markers added up. Holds a few numbers a chunk, nothing a row."""

    input: int | None = None
    ok: int = 0
    rejected: int = 0
    rows_out: int = 0
    rejects_by_kind: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)
    amounts: Counter[str] = field(default_factory=Counter)
    _files: dict[int, list[OutputFile]] = field(default_factory=dict)
    _open: dict[int, Marker] = field(default_factory=dict)

    def add(self, marker: Marker) -> None:
        """Count a chunk; once, however often its marker comes. One that was reopened is counted as it is now."""
        if before := self._open.pop(marker.chunk, None):
            self._count(before, -1)
        elif marker.chunk in self._files:
            return
        self._files[marker.chunk] = marker.files
        self._count(marker, 1)

    def reopen(self, marker: Marker, rejects: Counter[str]) -> None:
        """Count a chunk, but not the rejects that are done again: they are pending until `add` hears of the chunk."""
        left = Counter(marker.rejects_by_kind) - rejects
        counted = replace(marker, rejected=left.total(), rejects_by_kind=dict(left))
        self.add(counted)
        self._open[marker.chunk] = counted

    def _count(self, marker: Marker, sign: int) -> None:
        self.ok += sign * marker.ok
        self.rejected += sign * marker.rejected
        self.rows_out += sign * marker.rows_out
        for kind, rows in marker.rejects_by_kind.items():
            self.rejects_by_kind[kind] += sign * rows
        self.rejects_by_kind = +self.rejects_by_kind
        for name, amount in marker.amounts.items():
            self.amounts[name] += sign * amount
        for stage, seconds in marker.seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + sign * seconds

    @property
    def chunks(self) -> Collection[int]:
        """Those that were counted."""
        return self._files.keys()

    @property
    def reopened(self) -> Collection[int]:
        """Chunks of which rejects are done again, and that `add` has not heard of since."""
        return self._open.keys()

    @property
    def pending_again(self) -> int:
        """Rejects of those."""
        return sum(marker.input - marker.ok - marker.rejected for marker in self._open.values())

    @property
    def files(self) -> list[OutputFile]:
        """Of all chunks."""
        return [file for files in self._files.values() for file in files]

    @property
    def done(self) -> int:
        """Rows accounted for."""
        return self.ok + self.rejected

    @property
    def pending(self) -> int | None:
        """Rows still to do; None before the source is listed."""
        return None if self.input is None else self.input - self.done

    def counts(self) -> dict[str, int | None]:
        """The manifest's `counts`: input = ok + rejected + pending, always."""
        return {
            "input": self.input,
            "ok": self.ok,
            "rejected": self.rejected,
            "pending": self.pending,
            "rows_out": self.rows_out,
        }


def read_markers(sink: Folder, known: Collection[int] = ()) -> Iterable[Marker]:
    """The markers in the sink, in order of their chunks; those that are open are none, `known` ones are not read."""
    skipped = {marker_name(chunk) for chunk in known}
    names = [entry.name for entry in sink.list(CHECKPOINT) if is_marker(entry.name) and entry.name not in skipped]
    # Objects in a bucket answer one by one in tens of milliseconds: ask for several at a time.
    found = map(marker_of, map_ahead(sink.read, names, threads=16, ahead=256))
    yield from (marker for marker in found if marker)
