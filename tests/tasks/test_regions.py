"""Masks and boxes, fitted as their pictures are."""

import numpy as np
import pytest
from PIL import Image

from tests.pictures import encoded
from uniface_ray.core.records import RejectError, RejectKind, Row, RowRef
from uniface_ray.tasks.regions import region_of

SHAPE = (64, 96)  # height, width: the square that the model sees is the middle 64 columns


def mask_file(size: tuple[int, int], box: tuple[int, int, int, int], mode: str = "L") -> bytes:
    image = Image.new(mode, size, 0)
    image.paste("white", box)
    return encoded(image, "PNG")


def region(**fields: object) -> np.ndarray:
    found = region_of(Row(RowRef(1, "a"), fields=fields), SHAPE, 32, 10**6)
    assert found is not None
    return found


@pytest.mark.parametrize("mode", ["L", "RGB", "1"])
def test_a_mask_is_cropped_and_resized_with_its_picture(mode: str) -> None:
    found = region(mask=mask_file((96, 64), (16, 0, 48, 64), mode))
    assert found.shape == (32, 32)
    assert set(np.unique(found)) == {0, 255}
    assert found[:, :16].all()
    assert not found[:, 16:].any()


def test_a_box_is_a_mask_in_fractions_of_the_picture() -> None:
    box = region(box=[16 / 96, 0.5, 48 / 96, 1.0])
    assert np.array_equal(box, region(mask=mask_file((96, 64), (16, 32, 48, 64))))


def test_no_region_no_mask() -> None:
    assert region_of(Row(RowRef(1, "a"), fields={"prompt": "x"}), SHAPE, 32, 10**6) is None


@pytest.mark.parametrize(
    ("fields", "kind", "told"),
    [
        ({"mask": mask_file((64, 96), (0, 0, 9, 9))}, RejectKind.BAD_REQUEST, "mask is 96 x 64 .* picture is 64 x 96"),
        ({"mask": mask_file((96, 64), (0, 0, 0, 0))}, RejectKind.BAD_REQUEST, "leaves nothing to draw"),
        ({"mask": mask_file((96, 64), (0, 0, 9, 64))}, RejectKind.BAD_REQUEST, "leaves nothing .* the model sees"),
        ({"mask": b"no image"}, RejectKind.UNSUPPORTED_FORMAT, "not an image"),
        ({"mask": mask_file((2000, 2000), (0, 0, 9, 9))}, RejectKind.TOO_LARGE, "decode.max_pixels"),
        ({"box": [0.5, 0, 0.5, 1]}, RejectKind.BAD_REQUEST, r"box is \[0.5, 0, 0.5, 1\], but needs"),
        ({"box": [0, 0, 1, 1.1]}, RejectKind.BAD_REQUEST, "fractions"),
        ({"box": [0, 0, 1]}, RejectKind.BAD_REQUEST, "x0, y0, x1, y1"),
    ],
)
def test_a_region_that_makes_no_sense_rejects_its_row(fields: dict[str, object], kind: RejectKind, told: str) -> None:
    with pytest.raises(RejectError, match=told) as error:
        region(**fields)
    assert error.value.kind == kind


def test_the_bytes_of_a_mask_go_no_further() -> None:
    row = Row(RowRef(1, "a"), fields={"mask": mask_file((96, 64), (0, 0, 96, 64)), "prompt": "x"})
    region_of(row, SHAPE, 32, 10**6)
    assert row.fields == {"prompt": "x"}
