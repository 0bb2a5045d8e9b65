"""Small pictures for the report: of what a row came with, and of what was drawn."""

import io
from collections.abc import Sequence
from typing import Any

from PIL import Image

from uniface_ray.batch.job import Job
from uniface_ray.batch.plan import Plan
from uniface_ray.core.records import RejectError, RejectKind, row_id_of
from uniface_ray.data.images import decode_image
from uniface_ray.data.pixels import fit_square
from uniface_ray.data.squares import portrait

_SIDE = 192
# What ended a process of its own must not be decoded in the driver.
_DANGEROUS = (RejectKind.CRASHED, RejectKind.TIMEOUT, RejectKind.OUT_OF_MEMORY)


class Thumbnails:
    """Pictures of output rows; None where the config or the bytes forbid."""

    def __init__(self, job: Job, plan: Plan) -> None:
        self.job = job
        self.plan = plan
        self.found: dict[tuple[int, int | None], bytes | None] = {}

    def drawn(self, image: bytes) -> bytes | None:
        """JPEG of an image that was drawn."""
        return thumbnail(image, self.job.config.decode.max_pixels) if self.job.config.report.images else None

    def source(self, row: dict[str, Any]) -> bytes | None:
        """JPEG of the picture, or of the face in it, that an output row came from, read again from the source."""
        if not self.job.config.report.images or not self.job.source.wanted.image:
            return None
        if row.get("error_kind") in _DANGEROUS:
            return None
        wanted = row["parent_id"] if row["parent_id"] is not None else row["row_id"]
        face = row.get("face_points")
        key = (wanted, row["face_index"] if face else None)
        if key not in self.found:
            data = self._read(row["chunk"], wanted)
            self.found[key] = thumbnail(data, self.job.config.decode.max_pixels, face)
        return self.found[key]

    def _read(self, chunk: int, row_id: int) -> bytes | None:
        slices = self.plan.index.slices(chunk)
        # A file of its own is read for its row alone; rows of a table come with their neighbours.
        own = [one for one in slices if one.count == 1 and row_id_of(one.path, one.start) == row_id]
        for source_row in self.job.source.read(own or [one for one in slices if one.count > 1]):
            if source_row.ref.row_id == row_id:
                return source_row.data
        return None


def thumbnail(data: bytes | None, max_pixels: int, face: Sequence[float] | None = None) -> bytes | None:
    """An encoded image, or the face with these points in it, as a small JPEG; None where it cannot be decoded."""
    if data is None:
        return None
    try:
        picture = decode_image(data, max_pixels)
        pixels = portrait(picture, face, _SIDE) if face else fit_square(picture, _SIDE)
    except (RejectError, MemoryError, RuntimeError):
        return None
    buffer = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(buffer, "JPEG", quality=82)
    return buffer.getvalue()
