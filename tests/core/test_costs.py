"""What a run costs, from the hours of its attempts."""

import pytest

from uniface_ray.core.costs import Costs, costs_text

ATTEMPTS = [
    {"attempt": 1, "replica_hours": 1.5, "gpu_hours": 0.75},
    {"attempt": 2},  # ended before a replica was up
    {"attempt": 3, "replica_hours": 0.5, "gpu_hours": 0.25},
]


def test_hours_of_all_attempts_are_paid_for() -> None:
    costs = Costs.of(ATTEMPTS, rows=500_000, price_per_replica_hour=3.0)
    assert costs.document() == {
        "replica_hours": 2.0,
        "gpu_hours": 1.0,
        "rows_per_replica_hour": 250_000,
        "price": 6.0,
        "price_per_million_rows": 12.0,
    }
    told = "2 replica-hours, 1 GPU-hours, 250,000 rows per replica-hour, price 6.00, 12.00 per million rows"
    assert costs_text(costs.document()) == told


@pytest.mark.parametrize(("rows", "price"), [(10, None), (0, 2.0)])
def test_what_is_not_known_is_not_told(rows: int, price: float | None) -> None:
    costs = Costs.of(ATTEMPTS, rows, price).document()
    assert costs["price_per_million_rows"] is None
    assert "per million" not in costs_text(costs)


def test_before_a_replica_is_up() -> None:
    costs = Costs.of([{"attempt": 1}], 0, 2.0).document()
    assert costs["rows_per_replica_hour"] is None
    assert costs_text(costs) == "0 replica-hours"
