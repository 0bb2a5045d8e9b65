"""What a run costs: the time its replicas were up, and what that gave."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Costs:
    """Of all attempts on one sink.

    Attributes:
        replica_hours: that replicas were up, from when their weights are loaded.
        gpu_hours: of the GPUs that they held.
        rows: accounted for, rejects included.
        price: of the replica-hours, in the currency of `run.price_per_replica_hour`; None where that is not set.
    """

    replica_hours: float
    gpu_hours: float
    rows: int
    price: float | None

    @classmethod
    def of(cls, attempts: Iterable[Mapping[str, Any]], rows: int, price_per_replica_hour: float | None) -> "Costs":
        """The sum of a manifest's attempts; one that died is known as far as it was last heard of."""
        attempts = list(attempts)
        hours = sum(float(attempt.get("replica_hours", 0.0)) for attempt in attempts)
        gpus = sum(float(attempt.get("gpu_hours", 0.0)) for attempt in attempts)
        return cls(hours, gpus, rows, None if price_per_replica_hour is None else hours * price_per_replica_hour)

    @property
    def rows_per_replica_hour(self) -> float | None:
        """None before a replica was up."""
        return self.rows / self.replica_hours if self.replica_hours > 0 else None

    @property
    def price_per_million_rows(self) -> float | None:
        """None without a price, or without a row."""
        return None if self.price is None or not self.rows else self.price * 1e6 / self.rows

    def document(self) -> dict[str, float | None]:
        """As manifest.json and progress.json hold it."""
        values = {
            "replica_hours": self.replica_hours,
            "gpu_hours": self.gpu_hours,
            "rows_per_replica_hour": self.rows_per_replica_hour,
            "price": self.price,
            "price_per_million_rows": self.price_per_million_rows,
        }
        return {name: None if value is None else round(value, 6) for name, value in values.items()}


def costs_text(costs: Mapping[str, float | None]) -> str:
    """`0.52 replica-hours, 184,000 rows in each, 3.42 per million rows`, from `Costs.document`."""
    parts = [f"{costs['replica_hours'] or 0.0:.3g} replica-hours"]
    if costs["gpu_hours"]:
        parts.append(f"{costs['gpu_hours']:.3g} GPU-hours")
    if costs["rows_per_replica_hour"]:
        parts.append(f"{costs['rows_per_replica_hour']:,.0f} rows per replica-hour")
    if costs["price_per_million_rows"] is not None:
        parts.append(f"price {costs['price']:,.2f}, {costs['price_per_million_rows']:,.2f} per million rows")
    return ", ".join(parts)
