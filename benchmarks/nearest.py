"""How near made pictures come to the pictures that their model was trained on, so that memorising shows.

A distance means little alone: pictures that were never trained on, of the same kind, are measured beside them. A model
that draws anew comes no nearer to its training pictures than those do; one that repeats them comes much nearer.
Letters in shapes: N pictures, M training pictures, D features of a picture.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
_ROWS = 256


def nearest(queries: Floats, known: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Index of the nearest known row and the Euclidean distance to it, each (N,), for queries (N, D) and known (M, D).

    Raises:
        ValueError: there is no known row, or the widths differ.
    """
    if not len(known) or queries.shape[1:] != known.shape[1:]:
        raise ValueError(f"no nearest row: queries are {queries.shape} and known rows {known.shape}")
    squares = (known.astype(np.float64) ** 2).sum(1)
    indices, distances = [np.zeros(0, np.int64)], [np.zeros(0)]
    for start in range(0, len(queries), _ROWS):
        rows = queries[start : start + _ROWS].astype(np.float64)
        # The row's own square is the same for all known rows.
        best = (squares - 2 * rows @ known.T).argmin(1)
        indices.append(best)
        distances.append(np.linalg.norm(rows - known[best], axis=1))
    return np.concatenate(indices), np.concatenate(distances)


@dataclass(frozen=True, slots=True)
class Nearness:
    """Distances to the nearest training picture, of made pictures and of ones never trained on.

    Attributes:
        made: 5th, 50th and 95th percentile of the made pictures' distances.
        unseen: the same of the unseen pictures'.
        nearer: share of the made pictures that are nearer than 99 % of the unseen ones; 0.01 where nothing is
            memorised and both are alike.
    """

    made: tuple[float, float, float]
    unseen: tuple[float, float, float]
    nearer: float


def nearness(made: Floats, unseen: Floats) -> Nearness:
    """Of the distances (N,) of made pictures and those of unseen ones.

    Raises:
        ValueError: one of them is empty.
    """
    if not len(made) or not len(unseen):
        raise ValueError(f"nothing to compare: {len(made)} made and {len(unseen)} unseen pictures")
    return Nearness(_spread(made), _spread(unseen), float((made < np.quantile(unseen, 0.01)).mean()))


def _spread(distances: Floats) -> tuple[float, float, float]:
    low, middle, high = (float(value) for value in np.quantile(distances, (0.05, 0.5, 0.95)))
    return low, middle, high
