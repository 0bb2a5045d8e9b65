"""Faces with other hair and other backgrounds: what was not painted stays, and the labels say what is seen."""

import torch
from torch import Tensor

from tests.train.test_tiny_attributes import FAIR, GREEN, draw
from uniface_ray.train.tiny.appearance import read_appearance
from uniface_ray.train.tiny.attributes import VALUES
from uniface_ray.train.tiny.prepare import Prepared
from uniface_ray.train.tiny.repaint import repaint_backgrounds, repaint_hair, with_repainted

NAMES = list(VALUES)
BROWN = (95, 65, 45)


def drawn(count: int) -> Tensor:
    return torch.from_numpy(draw(BROWN)).permute(2, 0, 1).expand(count, -1, -1, -1).clone()


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_painted_hair_is_read_as_its_new_colour_and_the_rest_stays() -> None:
    for color, lightness, depth in (("grey", (140.0, 180.0), 0.9), ("black", (18.0, 40.0), 0.35)):
        painted = repaint_hair(drawn(4), lightness, depth, seeded())
        pixels = painted.permute(0, 2, 3, 1).numpy()
        seen = [one.hair_color for one in read_appearance(pixels)]
        assert seen.count(color) >= 2
        assert set(seen) <= {color, None}  # a grey without any hue may also be a hat
        for (x, y), was in (((64, 75), FAIR), ((4, 10), GREEN)):
            torch.testing.assert_close(painted[:, :, y, x].float().mean(0), torch.tensor(was).float(), atol=12, rtol=0)


def test_another_background_leaves_the_face_and_its_hair() -> None:
    before, after = drawn(8), repaint_backgrounds(drawn(8), seeded())
    change = (after.float() - before.float()).abs().mean(1)
    assert change[:, 5:20, 3:20].mean() > 30
    assert change[:, 50:100, 54:74].mean() < 5
    assert [one.hair_color for one in read_appearance(after.permute(0, 2, 3, 1).numpy())].count("brown") >= 6


def test_copies_are_labelled_as_they_are_painted_and_the_faces_themselves_stay() -> None:
    classes = torch.zeros(40, len(NAMES), dtype=torch.int64)
    classes[:, NAMES.index("hair_color")] = VALUES["hair_color"].index("brown")
    years = torch.tensor([30.0, 60.0]).repeat(20)
    before = Prepared(drawn(40), classes, years)
    after = with_repainted(before)
    assert torch.equal(after.faces[:40], before.faces)
    assert torch.equal(after.classes[:40], classes)
    assert len(after.faces) == len(after.classes) == len(after.years) > 60
    assert after.origin is not None
    assert torch.equal(after.origin[:40], torch.arange(40))
    assert torch.equal(after.years, years[after.origin])
    hair = after.classes[:, NAMES.index("hair_color")]
    for name in ("grey", "black"):
        of_it = hair == VALUES["hair_color"].index(name)
        assert of_it.any()
        assert (after.years[of_it] == 60).all()
    behind = after.classes[:, NAMES.index("background")]
    assert 10 < (behind == -1).sum() < len(after.years) / 2
    other = [name not in ("hair_color", "background") for name in NAMES]
    assert (after.classes[:, other] == 0).all()
