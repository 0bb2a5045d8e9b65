"""95 % intervals: Wilson's for shares, Poisson bootstrap for what is made of sums, jackknife for distances.

All of them stream: they hold sums, never rows, and sums of two parts of the rows add up to those of the whole.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]

_Z = 1.96
# Chances of a Poisson variable of mean 1 to be at most 0, 1, 2, ...: what lies beyond has none in 53 bits.
_POISSON = np.cumsum([math.exp(-1) / math.factorial(count) for count in range(20)])


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % interval; bounds are nan where there is nothing to tell them from.

    Attributes:
        known: rows that it is made of.
        method: of the interval: `wilson`, `bootstrap` or `jackknife`; `none` where there is none.
    """

    value: float
    low: float
    high: float
    known: int
    method: str


def wilson(hits: float, trials: float, z: float = _Z) -> tuple[float, float]:
    """Wilson score interval of a share (Wilson 1927, eq. 4); (nan, nan) without trials."""
    if trials == 0:
        return math.nan, math.nan
    share = hits / trials
    centre = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def share(hits: int, trials: int) -> Estimate:
    """A share of independent trials, with Wilson's interval."""
    return Estimate(hits / trials if trials else math.nan, *wilson(hits, trials), trials, "wilson")


class Resampled:
    """Sums of columns over rows, and over `resamples` bootstrap samples of the rows.

    A row's weight in a sample is a Poisson variable of mean 1 (the Poisson bootstrap), made from the seed, the sample's
    number and the row's key only: so the order of the rows and the cuts between chunks change nothing. Rows with the
    same key (questions of one image, images of one prompt) are drawn together, so that what they share is not taken for
    independent.
    """

    def __init__(self, names: Sequence[str], resamples: int = 1000, seed: int = 0) -> None:
        self.names = tuple(names)
        self.seed = seed
        self.rows = 0
        self.sums = np.zeros(len(names))
        self.samples = np.zeros((resamples, len(names)))

    def add(self, keys: Ids, values: Floats) -> None:
        """Count rows in: keys (N,), values (N, columns) in the order of `names`."""
        self.rows += len(keys)
        self.sums += values.sum(axis=0)
        self.samples += poisson_weights(keys, len(self.samples), self.seed).T @ values

    def merge(self, other: "Resampled") -> None:
        """Count in what another one has counted, of other rows under the same seed."""
        self.rows += other.rows
        self.sums += other.sums
        self.samples += other.samples

    def sum(self, name: str) -> float:
        """Of a column."""
        return float(self.sums[self.names.index(name)])

    def estimate(self, statistic: Callable[..., Floats], names: Sequence[str], known: int) -> Estimate:
        """A statistic of some columns' sums, with its percentile interval.

        Args:
            statistic: takes the sums of the columns, each one of any shape, and gives what has that shape.
            names: of the columns.
            known: rows that it is made of.
        """
        columns = [self.names.index(name) for name in names]
        with np.errstate(divide="ignore", invalid="ignore"):
            value = float(statistic(*self.sums[columns]))
            samples = np.asarray(statistic(*self.samples[:, columns].T))
        samples = samples[np.isfinite(samples)]
        if not len(samples) or not math.isfinite(value):
            return Estimate(math.nan, math.nan, math.nan, known, "bootstrap")
        low, high = np.quantile(samples, [0.025, 0.975])
        return Estimate(value, float(low), float(high), known, "bootstrap")

    def mean(self, name: str, count: str, known: int) -> Estimate:
        """Sum of one column over the sum of another."""
        return self.estimate(lambda total, rows: np.divide(total, rows), (name, count), known)


def poisson_weights(keys: Ids, resamples: int, seed: int) -> Floats:
    """(N, resamples) whole numbers of mean 1, each from its key, its sample and the seed alone."""
    mixed = keys.astype(np.uint64)[:, None] ^ _seeded(np.arange(resamples), seed + 1)[None, :]
    return np.searchsorted(_POISSON, _unit(_mix(mixed)), side="right").astype(np.float64)


def uniform(keys: Ids, seed: int) -> Floats:
    """Numbers in [0, 1), each from its key and the seed alone."""
    return _unit(_seeded(keys, seed))


def jackknife(value: float, without: Sequence[float], known: int) -> Estimate:
    """Delete-a-group jackknife (Kott 2001) of a statistic that resampling with replacement would bias.

    Args:
        value: of all rows.
        without: of the rows without each of the groups, which were made at random; empty gives no interval.
        known: rows.
    """
    if not without:
        return Estimate(value, math.nan, math.nan, known, "none")
    left = np.asarray(without)
    spread = _Z * math.sqrt((len(left) - 1) / len(left) * float(((left - left.mean()) ** 2).sum()))
    return Estimate(value, value - spread, value + spread, known, "jackknife")


def _seeded(keys: Ids, seed: int) -> NDArray[np.uint64]:
    return _mix(keys.astype(np.uint64) + _mix(np.asarray([seed], np.uint64)))


def _mix(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        mixed = keys + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return mixed ^ (mixed >> np.uint64(31))


def _unit(bits: NDArray[np.uint64]) -> Floats:
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


__all__ = ["Estimate", "Floats", "Ids", "Resampled", "jackknife", "poisson_weights", "share", "uniform", "wilson"]
