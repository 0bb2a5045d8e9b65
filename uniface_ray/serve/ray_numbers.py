"""The Ray shell of `metrics`: each node's metrics port serves the doors' numbers to Prometheus, all doors' together."""

from collections.abc import Mapping
from functools import lru_cache

from ray.util.metrics import Counter, Gauge, Histogram

from uniface_ray.serve.metrics import BUCKETS, NUMBERS


class RayNumbers:
    """See `metrics.Exporter`. Needs a worker of a running Ray; one for each process (`ray_numbers`)."""

    def __init__(self) -> None:
        self._counters, self._gauges, self._histograms = {}, {}, {}
        for one in NUMBERS:
            if one.kind == "counter":
                self._counters[one.name] = Counter(one.name, one.meaning, one.tags)
            elif one.kind == "gauge":
                self._gauges[one.name] = Gauge(one.name, one.meaning, one.tags)
            else:
                self._histograms[one.name] = Histogram(one.name, one.meaning, list(BUCKETS), one.tags)

    def add(self, name: str, amount: float, tags: Mapping[str, str]) -> None:
        if amount > 0:  # Ray refuses to add nothing
            self._counters[name].inc(amount, dict(tags))

    def set(self, name: str, value: float, tags: Mapping[str, str]) -> None:
        self._gauges[name].set(value, dict(tags))

    def observe(self, name: str, seconds: float, tags: Mapping[str, str]) -> None:
        if seconds > 0:  # and to observe none
            self._histograms[name].observe(seconds, dict(tags))


@lru_cache(maxsize=1)
def ray_numbers() -> RayNumbers:
    """This process's."""
    return RayNumbers()
