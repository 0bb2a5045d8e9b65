"""How many replicas a model needs, by Ray Serve's own autoscaling objects, without a cluster."""

import math
import sys
from typing import Any

import pytest
from ray.serve.config import AutoscalingContext

from tests.serve.conftest import Configure
from uniface_ray.serve.deployment import scaling_of


def wanted(config: Any, answers: float, drawings: dict[str, float], replicas: int = 1) -> int:
    """Replicas, for so many answers and the drawings of each replica."""
    scaling = scaling_of(config)
    policy = scaling.policy.get_policy()(**scaling.policy.policy_kwargs)
    facts: dict[str, Any] = dict.fromkeys(
        ("deployment_id", "app_name", "total_queued_requests", "raw_metrics", "current_time")
    )
    facts |= dict.fromkeys(("last_scale_up_time", "last_scale_down_time"))
    context = AutoscalingContext(
        deployment_name="model",
        current_num_replicas=replicas,
        target_num_replicas=replicas,
        running_replicas=[],
        total_num_requests=lambda: answers + sum(drawings.values()),
        aggregated_metrics=lambda: {"drawings": drawings} if drawings else {},
        capacity_adjusted_min_replicas=1,
        capacity_adjusted_max_replicas=9,
        policy_state={},
        config=scaling,
        **facts,
    )
    found, _ = policy(context)
    return math.ceil(found)


def test_drawings_count_by_their_slots_as_answers_do(configure: Configure) -> None:
    config = configure("engine.batch_size=20", "serve.image_batch=4", "engine.replicas=[1,9]")
    assert wanted(config, 16, {}) == 1
    assert wanted(config, 17, {}) == 2
    assert wanted(config, 0, {"a": 3}) == 1
    assert wanted(config, 0, {"a": 4}) == 2
    assert wanted(config, 10, {"a": 2}) == 2
    assert wanted(config, 8, {"a": 4, "b": 1}, replicas=2) == 3
    assert wanted(config, 0, {}, replicas=2) == 0, "which Serve's bounds make one"
    assert wanted(config, 5, {}, replicas=0) == 0, "as many as were wanted: Serve itself sees to that"


def test_serve_s_controller_needs_no_package_of_ours(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    scaling = scaling_of(configure("engine.replicas=[1,9]"))
    for name in [name for name in sys.modules if name.partition(".")[0] == "uniface_ray"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uniface_ray", None)  # importing it fails
    policy = scaling.policy
    policy._cached_policy = None
    assert policy.get_policy()(**policy.policy_kwargs)
