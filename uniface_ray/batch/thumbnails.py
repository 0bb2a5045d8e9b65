"""Small pictures for the report: of what a row came with, and of what was drawn."""

import io
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from PIL import Image

from uniface_ray.batch.job import Job
from uniface_ray.batch.plan import Plan
from uniface_ray.core.records import RejectError, RejectKind, row_id_of
from uniface_ray.data.fetching import fetch
from uniface_ray.data.images import decode_image

_SIDE = 192
# What ended a process of its own must not be decoded in the driver.
_DANGEROUS = (RejectKind.CRASHED, RejectKind.TIMEOUT, RejectKind.OUT_OF_MEMORY)


class Thumbnails:
    """Pictures of output rows; None where the config or the bytes forbid, or no time is left.

    Args:
        job: of the run.
        plan: likewise.
        budget_s: seconds from now after which nothing more is read from the source; 0 for nothing at all.
    """

    def __init__(self, job: Job, plan: Plan, budget_s: float = 60.0) -> None:
        self.job = job
        self.plan = plan
        self._until_s = time.monotonic() + budget_s
        self._found: dict[tuple[int, int | None], bytes | None] = {}
        self._wanted: dict[int, list[dict[str, Any]]] = {}

    def drawn(self, image: bytes) -> bytes | None:
        """JPEG of an image that was drawn."""
        return thumbnail(image, self.job.config.decode.max_pixels) if self.job.config.report.images else None

    def want(self, rows: Iterable[dict[str, Any]]) -> None:
        """Output rows that `source` will be asked for: those of a chunk are then read together."""
        for row in rows:
            self._wanted.setdefault(row["chunk"], []).append(row)

    def source(self, row: dict[str, Any]) -> bytes | None:
        """JPEG of the picture, or of the face in it, that an output row came from, read again from the source."""
        if not self._shown(row):
            return None
        if _key(row) not in self._found and self._in_time():
            self._find(row["chunk"], [row, *filter(self._shown, self._wanted.pop(row["chunk"], []))])
        return self._found.get(_key(row))

    def _shown(self, row: dict[str, Any]) -> bool:
        wanted = self.job.config.report.images and self.job.source.wanted.image
        return wanted and row.get("error_kind") not in _DANGEROUS

    def _in_time(self) -> bool:
        return time.monotonic() < self._until_s

    def _find(self, chunk: int, rows: list[dict[str, Any]]) -> None:
        by_id: dict[int, list[dict[str, Any]]] = {}
        for row in rows:
            self._found.setdefault(_key(row), None)
            by_id.setdefault(_source_id(row), []).append(row)
        for row_id, data in self._read(chunk, {row_id: some[0]["uri"] for row_id, some in by_id.items()}):
            for row in by_id[row_id]:
                self._found[_key(row)] = thumbnail(data, self.job.config.decode.max_pixels, row.get("face_points"))

    def _read(self, chunk: int, uris: dict[int, str]) -> Iterator[tuple[int, bytes | None]]:
        """(row id, bytes) of the rows, in any order, for as long as there is time. Args: URIs by row id."""
        slices, left = self.plan.index.slices(chunk), set(uris)
        own = [one for one in slices if one.count == 1 and row_id_of(one.path, one.start) in left]
        tables = [one for one in slices if one.count > 1]
        inside = [one for one in tables if one.bytes] if len(own) < len(left) else []
        for row in self.job.source.read([*own, *inside]):
            if row.ref.row_id in left:
                left.remove(row.ref.row_id)
                yield row.ref.row_id, row.data
            if not left or not self._in_time():
                return
        # Tables of addresses: an output row has the address of its picture, or else that of the table.
        names = {one.path.rpartition("/")[2] for one in tables if not one.bytes}
        config = self.job.config
        for row_id in left if names else ():
            if self._in_time() and uris[row_id].rpartition("/")[2] not in names:
                with suppress(RejectError):
                    yield row_id, fetch(uris[row_id], config.storage, config.decode.max_bytes)


def _source_id(row: dict[str, Any]) -> int:
    """Of the source's row that an output row came from."""
    row_id: int = row["row_id"] if row["parent_id"] is None else row["parent_id"]
    return row_id


def _key(row: dict[str, Any]) -> tuple[int, int | None]:
    """The source's row, and which face of it."""
    return _source_id(row), row["face_index"] if row.get("face_points") else None


def thumbnail(data: bytes | None, max_pixels: int, face: Sequence[float] | None = None) -> bytes | None:
    """An encoded image, or the face with these points in it, as a small JPEG; None where it cannot be decoded."""
    if data is None:
        return None
    # Only here: they bring torch, which a run of texts can do without.
    from uniface_ray.data.pixels import fit_square
    from uniface_ray.data.squares import portrait

    try:
        picture = decode_image(data, max_pixels)
        pixels = portrait(picture, face, _SIDE) if face else fit_square(picture, _SIDE)
    except (RejectError, MemoryError, RuntimeError):
        return None
    buffer = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(buffer, "JPEG", quality=82)
    return buffer.getvalue()
