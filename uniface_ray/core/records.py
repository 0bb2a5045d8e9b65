"""What travels down the road of one row (see the `batch` package): references, rows and rejects."""

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


class RejectKind(StrEnum):
    """Why a row has no result; the values of the `error_kind` column."""

    UNREADABLE_IMAGE = "unreadable_image"
    UNSUPPORTED_FORMAT = "unsupported_format"
    TOO_LARGE = "too_large"
    NOT_FOUND = "not_found"
    FETCH_FAILED = "fetch_failed"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    CRASHED = "crashed"
    BAD_REQUEST = "bad_request"
    MODEL_ERROR = "model_error"


@dataclass(frozen=True, slots=True)
class Reject:
    """A row's error. It travels the same road as a row, in its place."""

    kind: RejectKind
    message: str
    stage: str
    attempts: int = 1


class RejectError(Exception):
    """Raised where one row cannot go on; caught for that row only and turned into a `Reject`."""

    def __init__(self, kind: RejectKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message

    def at(self, stage: str) -> Reject:
        """The reject of this error, seen at `stage`."""
        return Reject(self.kind, self.message, stage)


@dataclass(frozen=True, slots=True)
class RowRef:
    """Where one row of the source is.

    Attributes:
        row_id: `row_id_of(path, position)`, int64 >= 0.
        uri: absolute path or s3:// URI of the image, or of the file that the row stands in.
    """

    row_id: int
    uri: str


@dataclass(slots=True)
class Row:
    """One row on its way: bytes after `read`, pixels after `decode`; `reject` once it has failed.

    Attributes:
        ref: where it came from.
        parent: id of the photo that it is a face of; None where it is the source's own.
        data: encoded image bytes, until they are decoded.
        pixels: uint8 (3, size, size) RGB at the model's size.
        mask: uint8 (size, size), not 0 where the image is to be drawn anew, fitted as `pixels` are.
        fields: what the task takes from its columns or the settings (`data.wanted`).
        kept: `source.keep_columns`, carried to both outputs.
    """

    ref: RowRef
    parent: int | None = None
    data: bytes | None = None
    pixels: Pixels | None = None
    mask: Pixels | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    kept: dict[str, Any] = field(default_factory=dict)
    reject: Reject | None = None


def row_id_of(path: str, position: int) -> int:
    """A row's id: 63 bits of BLAKE2b over its file's path relative to `source.path`, and its position in that file.

    The same files at another place give the same ids; a renamed file or a row moved inside its file gives another.
    """
    digest = hashlib.blake2b(f"{path}\0{position}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def child_id_of(row_id: int, index: int) -> int:
    """The id of the `index`-th of several output rows that one row gave; 63 bits, as `row_id_of`."""
    return row_id_of(f"{row_id}", index)


def seed_of(run_seed: int, row_id: int) -> int:
    """A row's own seed, int64 >= 0: depends on the run's seed and the row only, not on batches or replicas."""
    digest = hashlib.blake2b(f"{run_seed}\0{row_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1
