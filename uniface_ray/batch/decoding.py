"""The stage of decoding, which runs in a child process.

It imports torch, but nothing of the model: that would take each of these processes seconds. See `isolation`.
"""

import pyarrow as pa

from uniface_ray.batch.chunk import pack_rows, unpack_rows
from uniface_ray.batch.job import Job
from uniface_ray.batch.photos import rows_of_faces
from uniface_ray.batch.timing import timed
from uniface_ray.core.child import Beat, Handler
from uniface_ray.core.config import DecodeConfig, FacesConfig
from uniface_ray.core.records import Reject, RejectError, RejectKind, Row
from uniface_ray.data.images import decode_image
from uniface_ray.data.pixels import fit_square
from uniface_ray.tasks.regions import region_of


def decoder(job: Job) -> Handler:
    """For `core.child`: decodes chunks."""
    return lambda payload, beat: decode_chunk(job, payload, beat)


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
