"""Pictures changed where a mask says, and nowhere else; pictures extended."""

import io
import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from uniface_ray.core.errors import UserError
from uniface_ray.data.pixels import fit_square
from uniface_ray.model import UniFaceForConditionalGeneration, outpainting
from uniface_ray.model.drawing import DrawRequest, DrawSettings, draw
from uniface_ray.model.inpainting import masked_tokens, paste
from uniface_ray.model.outpainting import OutpaintRequest, outpaint
from uniface_ray.model.pixels import from_model_range, to_model_range

QUICK = DrawSettings(steps=4, guidance=1.0)


@pytest.fixture(scope="module")
def faces(portraits: list[bytes]) -> list[Tensor]:
    """Portraits of 16 pixels."""
    return [torch.from_numpy(fit_square(np.array(Image.open(io.BytesIO(jpeg))), 16)) for jpeg in portraits[:3]]


@pytest.fixture
def mask() -> Tensor:
    """The lower right quarter and one row and column more, less than half of the tokens there."""
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[7:, 7:] = True
    return mask


def test_a_feather_reaches_as_far_as_told(faces: list[Tensor], mask: Tensor) -> None:
    white = torch.full((3, 16, 16), 255, dtype=torch.uint8)
    black = torch.zeros_like(white)
    row = paste(black, white, mask, feather=4)[0, 12].tolist()
    assert row[7:] == [255] * 9
    assert row[:3] == [0] * 3
    assert row[3:7] == sorted(row[3:7])
    assert all(0 < value < 255 for value in row[4:7])
    assert torch.equal(paste(black, white, mask), white * mask)


@pytest.mark.parametrize(("threshold", "tokens"), [(1.0, 4), (0.5, 4), (0.25, 8), (0.05, 9)])
def test_a_token_is_drawn_from_its_share_on(mask: Tensor, threshold: float, tokens: int) -> None:
    assert masked_tokens(mask, 4, threshold).sum() == tokens


def test_masks_that_mean_nothing_are_named(mask: Tensor) -> None:
    speck = torch.zeros(16, 16, dtype=torch.bool)
    speck[4:6, 4:6] = True
    with pytest.raises(UserError, match=r"covers 4 of 256 pixels and at most 25% of any.*drawn from 50%"):
        masked_tokens(speck, 4)
    with pytest.raises(UserError, match="threshold is 0"):
        masked_tokens(mask, 4, threshold=0)


@pytest.mark.parametrize(
    ("sides", "shape"),
    [
        ({"right": 2}, (16, 24)),
        ({"left": 1}, (16, 20)),
        ({"up": 2}, (24, 16)),
        ({"down": 2}, (24, 16)),
        ({"left": 3, "up": 1, "right": 6}, (20, 52)),
    ],
)
def test_a_picture_grows_at_every_side(
    model: UniFaceForConditionalGeneration, faces: list[Tensor], sides: dict[str, int], shape: tuple[int, int]
) -> None:
    requests = [OutpaintRequest(face, [7], seed, settings=QUICK, **sides) for seed, face in enumerate(faces[:2])]
    grown = outpaint(model, requests)
    top, left = 4 * sides.get("up", 0), 4 * sides.get("left", 0)
    for face, picture in zip(faces[:2], grown, strict=True):
        assert picture.shape == (3, *shape)
        assert torch.equal(picture[:, top : top + 16, left : left + 16], face)
    assert torch.equal(outpaint(model, requests[1:])[0], grown[1])


def test_a_side_by_one_half_is_one_window_beside_the_old_picture(
    model: UniFaceForConditionalGeneration, faces: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[DrawRequest] = []

    def listening(model: UniFaceForConditionalGeneration, requests: list[DrawRequest]) -> Tensor:
        asked.extend(requests)
        return draw(model, requests)

    monkeypatch.setattr(outpainting, "draw", listening)
    (grown,) = outpaint(model, [OutpaintRequest(faces[0], [7], 3, down=2, settings=QUICK)])
    (request,) = asked
    old = model.encode_images(to_model_range(faces[0][None])).reshape(4, 4)
    assert torch.equal(request.codes.reshape(4, 4)[:2], old[2:])
    assert request.unknown.reshape(4, 4).tolist() == [[False] * 4] * 2 + [[True] * 4] * 2
    whole = torch.cat([old, draw(model, [request]).reshape(4, 4)[2:]]).flatten()[None]
    decoded = from_model_range(model.decode_images(whole, shape=(6, 4))[0])
    assert torch.equal(grown[:, 16:], decoded[:, 16:])


def test_extensions_that_make_no_sense_are_named(model: UniFaceForConditionalGeneration, faces: list[Tensor]) -> None:
    with pytest.raises(UserError, match="give at least one side"):
        OutpaintRequest(faces[0], [], 0)
    with pytest.raises(UserError, match="'left': -1"):
        OutpaintRequest(faces[0], [], 0, left=-1)
    with pytest.raises(UserError, match=re.escape("takes (3, 16, 16)")):
        outpaint(model, [OutpaintRequest(faces[0][:, :8], [], 0, left=1)])
