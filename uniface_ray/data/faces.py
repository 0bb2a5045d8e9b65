"""Find the faces of a photo: BlazeFace over the whole and over tiles, doubles removed, each looked at again closely."""

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, product
from math import atan2, ceil, pi

import numpy as np
import torch

from uniface_ray.core.config import FacesConfig
from uniface_ray.core.records import Pixels
from uniface_ray.data.blazeface import SIDE, blazeface
from uniface_ray.data.squares import Square, cut

# Measured on the package's portraits: the network's score is highest for a face of a fifth of its view, and falls below
# _GUESS where it is smaller than this share of it; those need a closer view.
_SMALLEST_SHARE = 0.06
_GUESS = 0.3
_CLOSE_UP = 3.0
# Around the whole picture, for faces that fill it.
_SPACE = 2.0
# Neighbouring views share this much of their side; what is larger than it, the next larger views see.
_OVERLAP = 0.25
_AT_A_TIME = 16
# Two boxes of one face: intersection over union, or over the smaller.
_SAME, _INSIDE = 0.3, 0.6


@dataclass(frozen=True, slots=True)
class Face:
    """One face, in pixels of the upright photo.

    Attributes:
        box: x0 y0 x1 y1, from the brows to the chin; it may reach beyond the photo.
        points: float32 (6, 2), x y: right eye, left eye (the person's), nose tip, mouth, right ear, left ear.
        score: 0..1.
    """

    box: tuple[float, float, float, float]
    points: np.ndarray
    score: float

    @property
    def size(self) -> float:
        """Length of the box's longer side."""
        return max(self.box[2] - self.box[0], self.box[3] - self.box[1])


class FaceFinder:
    """Finds faces from `min_size` pixels on, turned by any angle if there is no upright one.

    Args:
        config: which faces count.
    """

    def __init__(self, config: FacesConfig) -> None:
        self._config = config
        self._network = blazeface()

    def find(self, picture: Pixels) -> list[Face]:
        """The faces of a photo, uint8 (H, W, 3), upright: the largest first, at most `max_faces`."""
        height, width = picture.shape[:2]
        whole = [Square(width / 2, height / 2, max(width, height) * space) for space in (_SPACE, 1)]
        turned = ([replace(square, angle=angle) for square in whole] for angle in (pi / 2, -pi / 2, pi))
        for squares in chain([whole + tiles(width, height, self._config.min_size)], turned):
            guesses = distinct(self._look(picture, squares, _GUESS))
            # The closer look has the better landmarks, and the last word.
            close = self._look(picture, [close_up(face) for face in guesses], self._config.min_score, one_each=True)
            faces = [face for face in distinct(close) if face.size >= self._config.min_size]
            if faces:
                return sorted(faces, key=lambda face: -face.size)[: self._config.max_faces]
        return []

    def _look(self, picture: Pixels, squares: list[Square], least: float, one_each: bool = False) -> list[Face]:
        """What the network sees in the squares with a score from `least` on: all that is whole, or the best of each."""
        found: list[Face] = []
        for start in range(0, len(squares), _AT_A_TIME):
            some = squares[start : start + _AT_A_TIME]
            seen = self._network(torch.stack([cut(picture, square, SIDE) for square in some]))
            for square, scores, boxes, points in zip(some, seen.scores, seen.boxes, seen.points, strict=True):
                best = scores.argsort(descending=True)[: 1 if one_each else None]
                for index in best[scores[best] >= least]:
                    if one_each or _is_whole(boxes[index], square, picture.shape):
                        found.append(_face(square, scores[index], boxes[index], points[index]))
        return found


@lru_cache(maxsize=4)
def face_finder(config: FacesConfig) -> FaceFinder:
    """The process's finder."""
    return FaceFinder(config)


def tiles(width: int, height: int, min_size: float) -> list[Square]:
    """Squares that cover a picture, ever smaller ones, until faces of `min_size` pixels are large in them."""
    found = []
    side = float(max(width, height))
    while side * _SMALLEST_SHARE > min_size and side > SIDE:
        side /= 2
        step = side * (1 - _OVERLAP)
        columns, rows = (1 + max(0, ceil((length - side) / step)) for length in (width, height))
        for column, row in product(range(columns), range(rows)):
            found.append(Square(_place(column, columns, side, width), _place(row, rows, side, height), side))
    return found


def _place(number: int, count: int, side: float, length: int) -> float:
    """Centre of a tile, evenly spread from edge to edge."""
    return length / 2 if count == 1 else side / 2 + number * (length - side) / (count - 1)


def close_up(face: Face) -> Square:
    """A square around a face, its eyes level."""
    x0, y0, x1, y1 = face.box
    (right, left) = face.points[:2]
    angle = atan2(left[1] - right[1], left[0] - right[0])
    return Square((x0 + x1) / 2, (y0 + y1) / 2, face.size * _CLOSE_UP, angle)


def distinct(faces: list[Face]) -> list[Face]:
    """Without doubles, the best of them kept."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda one: -one.score):
        if not any(_is_same(face, other) for other in kept):
            kept.append(face)
    return kept


def _is_same(one: Face, other: Face) -> bool:
    width, height = (min(one.box[i + 2], other.box[i + 2]) - max(one.box[i], other.box[i]) for i in (0, 1))
    shared = max(0.0, width) * max(0.0, height)
    areas = [(face.box[2] - face.box[0]) * (face.box[3] - face.box[1]) for face in (one, other)]
    return shared > _SAME * (sum(areas) - shared) or shared > _INSIDE * min(areas)


def _is_whole(box: torch.Tensor, square: Square, shape: tuple[int, ...]) -> bool:
    """Whether a face is not cut by the square's edge, other than where the picture ends too."""
    if square.angle:  # of the whole picture
        return True
    slack = 0.1 * float(box[2] - box[0])
    edges = square.to_picture(torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
    low = (box[:2] >= -slack) | (edges[0] <= 0)
    high = (box[2:] <= 1 + slack) | (edges[1] >= torch.tensor([shape[1], shape[0]]))
    return bool((low & high).all())


def _face(square: Square, score: torch.Tensor, box: torch.Tensor, points: torch.Tensor) -> Face:
    """From the network's view to the photo. The box stays level: a turned one keeps its centre and size."""
    centre = square.to_picture((box[:2] + box[2:]) / 2)
    half = (box[2:] - box[:2]) / 2 * square.side
    x0, y0, x1, y1 = torch.cat([centre - half, centre + half]).tolist()
    return Face((x0, y0, x1, y1), square.to_picture(points).numpy(), float(score))
