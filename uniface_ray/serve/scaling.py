"""How many replicas a model needs. Serve's controller runs this, where the package need not be: it imports nothing."""

from typing import Any

DRAWINGS = "drawings"
"""What a replica reports beside Serve's own count of all its requests (`record_autoscaling_stats`)."""


class BySlots:
    """An autoscaling policy of Ray Serve: each request counts by the share of a replica's slots that it takes.

    Args:
        weight: answers that one drawing counts as.
    """

    def __init__(self, weight: float) -> None:
        self._weight = weight

    def __call__(self, context: Any) -> tuple[float, dict[str, Any]]:
        """Replicas wanted, before Serve's bounds and delays, and what to remember."""
        if not context.current_num_replicas:
            return context.target_num_replicas, {}
        drawings = sum((context.aggregated_metrics or {}).get(DRAWINGS, {}).values())
        answers = context.total_num_requests + (self._weight - 1) * drawings
        return answers / context.config.get_target_ongoing_requests(), {}


__all__ = ["DRAWINGS", "BySlots"]
