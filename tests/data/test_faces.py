"""Faces of photos: composites of the package's portraits, whose places are known."""

import io
from math import cos, degrees, radians, sin
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.pictures import encoded, group_photo, picture
from uniface_ray.core.config import FacesConfig
from uniface_ray.core.records import Pixels
from uniface_ray.data.blazeface import SIDE, blazeface
from uniface_ray.data.faces import Face, FaceFinder, tiles
from uniface_ray.data.images import decode_image
from uniface_ray.data.squares import Square, cut, portrait, portrait_square

Place = tuple[int, int, int, float]
# What LiteRT 2.3 says of the five people's portraits: the highest score, and its box in pixels.
REFERENCE = [
    (0.63752, [37.449, 60.565, 149.083, 172.195]),
    (0.80406, [28.897, 48.192, 165.017, 184.305]),
    (0.79924, [35.415, 51.198, 157.964, 173.741]),
    (0.7218, [37.099, 53.211, 156.416, 172.522]),
    (0.63954, [32.631, 53.54, 158.101, 179.006]),
]
# Where the face is in a portrait, measured by hand: centre and side as shares of the portrait's.
CENTRE, FACE = (0.5, 0.6), 0.62

GROUPS: dict[str, list[Place]] = {
    "nobody": [],
    "one": [(600, 400, 300, 0)],
    "one that fills it": [(600, 400, 900, 0)],
    "one in a corner": [(110, 110, 200, 0)],
    "one cut by the edge": [(60, 400, 300, 0)],
    "two of different sizes": [(300, 300, 520, 0), (900, 500, 150, 0)],
    "two close to each other": [(400, 400, 260, 0), (610, 400, 260, 0)],
    "five, tilted": [
        (150, 200, 240, -20),
        (450, 250, 300, 10),
        (800, 200, 180, 25),
        (1030, 500, 220, -10),
        (400, 620, 260, 0),
    ],
    "upside down": [(600, 400, 400, 180)],
    "on its side": [(600, 400, 400, 90)],
}


@pytest.fixture(scope="module")
def people(portraits: list[bytes]) -> list[bytes]:
    """One portrait of each person, as it is."""
    return portraits[3::4]


@pytest.fixture(scope="module")
def finder() -> FaceFinder:
    return FaceFinder(FacesConfig(enabled=True))


def pixels(image: Image.Image) -> Pixels:
    return np.array(image.convert("RGB"))


def expected_box(place: Place) -> tuple[float, float, float, float]:
    x, y, side, angle = place
    dx, dy = ((share - 0.5) * side for share in CENTRE)
    turn = radians(angle)
    x, y = round(x + dx * cos(turn) - dy * sin(turn)), round(y + dx * sin(turn) + dy * cos(turn))
    half = FACE * side / 2
    return x - half, y - half, x + half, y + half


def iou(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    width, height = (min(one[i + 2], other[i + 2]) - max(one[i], other[i]) for i in (0, 1))
    shared = max(0.0, width) * max(0.0, height)
    return shared / (sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)) - shared)


@pytest.mark.parametrize("name", GROUPS)
def test_faces_of_a_group_are_found_where_they_are(finder: FaceFinder, people: list[bytes], name: str) -> None:
    places = GROUPS[name]
    found = finder.find(pixels(group_photo(people, places)))
    assert len(found) == len(places)
    assert [face.size for face in found] == sorted((face.size for face in found), reverse=True)
    for place in places:
        face = max(found, key=lambda one: iou(one.box, expected_box(place)))
        assert iou(face.box, expected_box(place)) > 0.6
        square = portrait_square(face.points)
        x, y, side, angle = place
        assert np.hypot(square.x - x, square.y - y) < 0.1 * side
        assert square.side == pytest.approx(side, rel=0.25)
        assert abs((degrees(square.angle) - angle + 180) % 360 - 180) < 10


def test_a_portrait_of_a_group_is_the_portrait(finder: FaceFinder, people: list[bytes]) -> None:
    place = (500, 400, 400, 20.0)
    photo = pixels(group_photo(people, [place]))
    (face,) = finder.find(photo)
    ours = portrait(photo, face.points, 64).transpose(1, 2, 0)
    original = pixels(Image.open(io.BytesIO(people[0])).resize((64, 64)))
    others = [pixels(Image.open(io.BytesIO(one)).resize((64, 64))) for one in people[1:]]

    def likeness(one: Pixels, other: Pixels) -> float:
        return float(np.corrcoef(one[12:52, 12:52].ravel(), other[12:52, 12:52].ravel())[0, 1])

    assert likeness(ours, original) > 0.7
    assert likeness(ours, original) > max(likeness(ours, other) for other in others)
    assert ours.shape == (64, 64, 3)
    assert ours.dtype == np.uint8


def test_every_portrait_of_the_package_has_one_face_framed_as_it_is(finder: FaceFinder, portraits: list[bytes]) -> None:
    for data in portraits[::3]:
        photo = decode_image(data, 10**7)
        (face,) = finder.find(photo)
        square, side = portrait_square(face.points), photo.shape[0]
        assert np.hypot(square.x - side / 2, square.y - side / 2) < 0.06 * side
        assert square.side == pytest.approx(side, rel=0.2)


def test_settings(people: list[bytes]) -> None:
    photo = pixels(group_photo(people, GROUPS["two of different sizes"]))

    def sizes(**settings: Any) -> list[float]:
        return [face.size for face in FaceFinder(FacesConfig(**settings)).find(photo)]

    large, small = sizes()
    assert sizes(max_faces=1) == [large]
    assert sizes(min_size=int(small) + 20) == [pytest.approx(large, rel=0.05)]
    assert sizes(min_score=0.999) == []


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (2000, 2), (192, 192)])
def test_pictures_of_any_shape(finder: FaceFinder, size: tuple[int, int]) -> None:
    assert finder.find(pixels(picture(1, size))) == []


def test_the_same_photo_gives_the_same_faces(finder: FaceFinder, people: list[bytes]) -> None:
    photo = decode_image(encoded(group_photo(people, GROUPS["five, tilted"])), 10**7)
    first, second = finder.find(photo), finder.find(photo)
    assert [(face.box, face.score) for face in first] == [(face.box, face.score) for face in second]


def test_the_network_gives_what_its_own_runtime_gives(people: list[bytes]) -> None:
    photos = np.stack([pixels(Image.open(io.BytesIO(data)).resize((SIDE, SIDE))) for data in people])
    found = blazeface()(torch.from_numpy(photos).permute(0, 3, 1, 2))
    best = found.scores.argmax(1)
    for i, (score, box) in enumerate(REFERENCE):
        assert float(found.scores[i, best[i]]) == pytest.approx(score, abs=1e-4)
        assert (found.boxes[i, best[i]] * SIDE).tolist() == pytest.approx(box, abs=0.02)


def test_tiles_cover_a_picture_and_end(people: list[bytes]) -> None:
    assert tiles(300, 200, 64) == []
    for width, height in ((4000, 3000), (3000, 4000), (5000, 200)):
        found = tiles(width, height, 64)
        assert len(found) < 100
        smallest = min(square.side for square in found)
        seen = np.zeros((height // 10, width // 10), bool)
        for square in found:
            x, y, half = square.x / 10, square.y / 10, square.side / 20
            seen[max(0, round(y - half)) : round(y + half), max(0, round(x - half)) : round(x + half)] |= (
                square.side == smallest
            )
        assert seen.all()


def test_cutting_a_square(people: list[bytes]) -> None:
    photo = pixels(picture(5, (60, 40)))
    whole = cut(photo, Square(30, 20, 40), 40)
    assert (whole.numpy() == photo[:, 10:50].transpose(2, 0, 1)).all()
    turned = cut(photo, Square(30, 20, 40, np.pi / 2), 40)
    assert np.abs(turned.numpy().astype(int) - np.rot90(photo[:, 10:50]).transpose(2, 0, 1)).max() <= 1
    assert (cut(photo, Square(500, 500, 10), 8) == 0).all()
    assert (cut(photo, Square(0, 20, 40), 40)[:, :, :20] == 0).all()
    assert (cut(photo, Square(0, 20, 40), 40, "reflection")[:, :, :20] > 0).any()
    assert isinstance(Face((0, 0, 2, 1), np.zeros((6, 2)), 1.0).size, float | int)
