"""The Ray shell of `core.metrics`: each node's metrics port serves them to Prometheus."""

from collections.abc import Mapping
from functools import lru_cache

from ray.util.metrics import Counter, Gauge

from uniface_ray.core.metrics import METRICS


class RayMetrics:
    """See `core.metrics.Metrics`. Needs a worker or driver of a running Ray; one for each process (`ray_metrics`)."""

    def __init__(self) -> None:
        kinds = {"counter": Counter, "gauge": Gauge}
        self._metrics = {one.name: kinds[one.kind](one.name, one.meaning, one.tags) for one in METRICS}

    def add(self, name: str, amount: float, tags: Mapping[str, str] | None = None) -> None:
        if amount > 0:  # Ray refuses to add nothing
            self._metrics[name].inc(amount, dict(tags or {}))

    def set(self, name: str, value: float) -> None:
        self._metrics[name].set(value)


@lru_cache(maxsize=1)
def ray_metrics() -> RayMetrics:
    """This process's."""
    return RayMetrics()
