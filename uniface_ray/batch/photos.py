"""Photos in a chunk: each becomes a row for each of its faces, and their answers become the photo's again."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from uniface_ray.core.config import FacesConfig
from uniface_ray.core.records import Pixels, Row, RowRef, child_id_of
from uniface_ray.tasks.answer import Answer

if TYPE_CHECKING:
    from uniface_ray.data.faces import Face

COLUMNS = pa.schema(
    [
        ("face_index", pa.int32()),
        ("face_box", pa.list_(pa.float32(), 4)),
        ("face_points", pa.list_(pa.float32(), 12)),
        ("face_score", pa.float32()),
    ]
)
"""Of each face, beside the kept columns: number in its photo, the largest first; `Face.box`, `.points`, `.score`."""


def kept_with_faces(kept: pa.Schema, config: FacesConfig) -> pa.Schema:
    """The kept columns, and those of faces where they are looked for."""
    return pa.schema([*kept, *COLUMNS]) if config.enabled else kept


def rows_of_faces(row: Row, picture: Pixels, config: FacesConfig, size: int) -> list[Row]:
    """A row for each face of a row's picture (uint8 (H, W, 3)), with pixels of side `size`; none if it has no face."""
    # With torch, which only the decoders need: everybody imports this module.
    from uniface_ray.data.faces import face_finder
    from uniface_ray.data.squares import portrait

    return [
        Row(
            RowRef(child_id_of(row.ref.row_id, index), row.ref.uri),
            parent=row.ref.row_id,
            pixels=portrait(picture, face.points, size),
            fields=row.fields,
            kept={**row.kept, **_columns(index, face)},
        )
        for index, face in enumerate(face_finder(config).find(picture))
    ]


def answers_of_photos(answers: Iterable[Answer]) -> list[Answer]:
    """The answers; where one of a photo's faces was rejected, the photo is as a whole, so that it can be replayed."""
    found: list[Answer] = []
    for parent, group in groupby(answers, key=lambda answer: answer.row.parent):
        faces = list(group)
        rejected = next((number for number, face in enumerate(faces, 1) if face.reject), None)
        if parent is None or rejected is None:
            found += faces
            continue
        failed = faces[rejected - 1]
        assert failed.reject
        reject = replace(failed.reject, message=f"face {rejected} of {len(faces)}: {failed.reject.message}")
        kept = {name: value for name, value in failed.row.kept.items() if name not in COLUMNS.names}
        found.append(Answer(Row(RowRef(parent, failed.row.ref.uri), kept=kept), failed.seed, [], reject))
    return found


def _columns(index: int, face: "Face") -> dict[str, Any]:
    return {
        "face_index": index,
        "face_box": list(face.box),
        "face_points": face.points.reshape(-1).tolist(),
        "face_score": face.score,
    }
