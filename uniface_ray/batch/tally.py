"""Markers, read and added up."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from uniface_ray.batch.commit import Marker, OutputFile
from uniface_ray.batch.layout import CHECKPOINT, is_marker
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
    seconds: Counter[str] = field(default_factory=Counter)
    files: list[OutputFile] = field(default_factory=list)
    chunks: set[int] = field(default_factory=set)

    def add(self, marker: Marker) -> None:
        """Count a chunk; once, however often its marker comes."""
        if marker.chunk in self.chunks:
            return
        self.chunks.add(marker.chunk)
        self.ok += marker.ok
        self.rejected += marker.rejected
        self.rows_out += marker.rows_out
        self.rejects_by_kind.update(marker.rejects_by_kind)
        self.seconds.update(marker.seconds)
        self.files += marker.files

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


def read_markers(sink: Folder) -> Iterable[Marker]:
    """The markers in the sink, in order of their chunks."""
    names = [entry.name for entry in sink.list(CHECKPOINT) if is_marker(entry.name)]
    # Objects in a bucket answer one by one in tens of milliseconds: ask for several at a time.
    yield from map(Marker.from_json, map_ahead(sink.read, names, threads=16, ahead=256))
