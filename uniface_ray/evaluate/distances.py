"""How far two sets of images are apart, in the features of some network: Fréchet distance and kernel distance.

With Inception's features these are FID and KID; with any others they are not, and are named by the features.
Letters in shapes: N images, D features of an image.
"""

import math
from dataclasses import dataclass, field
from functools import reduce

import numpy as np

from uniface_ray.evaluate.intervals import Estimate, Floats, Ids, jackknife, uniform

GROUPS = 10  # of the jackknife


@dataclass(frozen=True, slots=True)
class Moments:
    """Count, mean (D,) and scatter (D, D) of features, in float64; those of two parts merge to those of the whole."""

    count: int
    mean: Floats
    scatter: Floats

    @classmethod
    def of(cls, features: Floats) -> "Moments":
        """Of features (N, D), in two passes."""
        mean = features.mean(axis=0, dtype=np.float64) if len(features) else np.zeros(features.shape[1])
        centred = features.astype(np.float64) - mean
        return cls(len(features), mean, centred.T @ centred)

    def merge(self, other: "Moments") -> "Moments":
        """Of both (Chan, Golub, LeVeque 1979)."""
        if not self.count or not other.count:
            return self if self.count else other
        count = self.count + other.count
        apart = other.mean - self.mean
        scatter = self.scatter + other.scatter + np.outer(apart, apart) * (self.count * other.count / count)
        return Moments(count, self.mean + apart * (other.count / count), scatter)

    @property
    def covariance(self) -> Floats:
        """(D, D), with N - 1 below the line as numpy's."""
        return self.scatter / (self.count - 1)


def frechet_distance(one: Moments, other: Moments) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of the Gaussians with these moments (Dowson, Landau 1982).

    The trace of the root is the sum of the roots of the eigenvalues of C1^(1/2) C2 C1^(1/2), which is symmetric: no
    root of an asymmetric matrix, and so nothing imaginary.

    Raises:
        ValueError: fewer than two images on a side, which have no covariance.
    """
    if min(one.count, other.count) < 2:
        raise ValueError(f"a covariance needs 2 images or more, and there are {one.count} and {other.count}")
    root = _root(one.covariance)
    values = np.linalg.eigvalsh(root @ other.covariance @ root)
    apart = one.mean - other.mean
    shared = np.sqrt(values.clip(0)).sum()
    return float(apart @ apart + np.trace(one.covariance) + np.trace(other.covariance) - 2 * shared)


def kernel_distance(one: Floats, other: Floats) -> float:
    """Unbiased estimate of the squared maximum mean discrepancy with the kernel (x.y / D + 1)^3 (Bińkowski et al.
    2018): KID where the features are Inception's. It may be negative.

    Args:
        one: features (N, D).
        other: features (M, D).

    Raises:
        ValueError: fewer than two images on a side.
    """
    if min(len(one), len(other)) < 2:
        raise ValueError(f"an unbiased estimate needs 2 images or more, and there are {len(one)} and {len(other)}")
    return _within(_kernel(one, one)) + _within(_kernel(other, other)) - 2 * float(_kernel(one, other).mean())


@dataclass(slots=True)
class Cloud:
    """What is kept of a set of images' features: moments of `GROUPS` random groups, and a random sample of the rows.

    Which group a row is in, and whether it is in the sample, depends on its key and the seed only. Memory is that of
    `GROUPS` covariances and the sample, however many rows come.

    Attributes:
        most: rows of the sample.
    """

    most: int = 5000
    seed: int = 0
    groups: list[Moments | None] = field(default_factory=lambda: [None] * GROUPS)
    _chance: Floats = field(default_factory=lambda: np.zeros(0))
    _group: Ids = field(default_factory=lambda: np.zeros(0, np.int64))
    _rows: Floats | None = None

    def add(self, keys: Ids, features: Floats) -> None:
        """Count rows in: keys (N,), features (N, D)."""
        group = (uniform(keys, self.seed) * GROUPS).astype(np.int64)
        for number in np.unique(group):
            self._merge_group(int(number), Moments.of(features[group == number]))
        self._sample(uniform(keys, self.seed + 1), group, features)

    def merge(self, other: "Cloud") -> None:
        """Count in what another one has counted, of other rows under the same seed."""
        for number, moments in enumerate(other.groups):
            if moments:
                self._merge_group(number, moments)
        if other._rows is not None:
            self._sample(other._chance, other._group, other._rows)

    @property
    def count(self) -> int:
        return sum(group.count for group in self.groups if group)

    @property
    def width(self) -> int:
        """D; 0 before a row came."""
        return 0 if self._rows is None else self._rows.shape[1]

    def moments(self, without: int | None = None) -> Moments:
        """Of all rows, or of those outside a group."""
        chosen = [group for number, group in enumerate(self.groups) if group and number != without]
        return reduce(Moments.merge, chosen)

    def sample(self, without: int | None = None) -> Floats:
        """The sampled rows (at most `most`, D), or those outside a group."""
        assert self._rows is not None
        return self._rows if without is None else self._rows[self._group != without]

    def sizes(self, sampled: bool = False) -> Ids:
        """Images of each group (GROUPS,), or sampled ones."""
        if sampled:
            return np.bincount(self._group, minlength=GROUPS)
        return np.array([group.count if group else 0 for group in self.groups], np.int64)

    def _merge_group(self, number: int, moments: Moments) -> None:
        before = self.groups[number]
        self.groups[number] = before.merge(moments) if before else moments

    def _sample(self, chance: Floats, group: Ids, rows: Floats) -> None:
        """Keep the rows of the smallest chances: the same ones whatever the order in which they came."""
        rows = rows.astype(np.float32)
        if self._rows is not None:
            chance, group = np.concatenate([self._chance, chance]), np.concatenate([self._group, group])
            rows = np.concatenate([self._rows, rows])
        kept = np.argsort(chance, kind="stable")[: self.most]
        self._chance, self._group, self._rows = chance[kept], group[kept], rows[kept]


def frechet(one: Cloud, other: Cloud) -> Estimate:
    """Fréchet distance of two clouds, with its interval where there are groups to leave out."""
    left_out = _left_out(one.sizes(), other.sizes(), least=max(one.width, other.width) + 1)
    without = [frechet_distance(one.moments(number), other.moments(number)) for number in left_out]
    return jackknife(frechet_distance(one.moments(), other.moments()), without, min(one.count, other.count))


def kernel(one: Cloud, other: Cloud) -> Estimate:
    """Kernel distance of two clouds' samples, with its interval where there are groups to leave out."""
    left_out = _left_out(one.sizes(sampled=True), other.sizes(sampled=True), least=2)
    without = [kernel_distance(one.sample(number), other.sample(number)) for number in left_out]
    known = min(len(one.sample()), len(other.sample()))
    return jackknife(kernel_distance(one.sample(), other.sample()), without, known)


def least_images(width: int) -> int:
    """Images without which the covariance of `width` features has no full rank, with one group left out."""
    return math.ceil((width + 1) * GROUPS / (GROUPS - 1)) + GROUPS


def _left_out(one: Ids, other: Ids, least: int) -> list[int]:
    """Groups that hold something; none where a side has but one (all rows share a prompt) or keeps too few without one.

    Args:
        one: images of each group.
        other: likewise.
        least: images that must be left on each side.
    """
    if any(np.count_nonzero(side) < 2 or side.sum() - side.max() < least for side in (one, other)):
        return []
    return np.flatnonzero(one + other).tolist()


def _root(covariance: Floats) -> Floats:
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(values.clip(0))) @ vectors.T


def _kernel(one: Floats, other: Floats) -> Floats:
    return (one.astype(np.float64) @ other.astype(np.float64).T / one.shape[1] + 1) ** 3


def _within(kernel: Floats) -> float:
    """Mean off the diagonal."""
    count = len(kernel)
    return float((kernel.sum() - np.trace(kernel)) / (count * (count - 1)))


__all__ = ["Cloud", "Moments", "frechet", "frechet_distance", "kernel", "kernel_distance", "least_images"]
