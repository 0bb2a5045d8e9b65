"""How many logical CPUs a run asks for, and whose cluster it joins."""

import os
from contextlib import nullcontext

import pytest
import ray

from uniface_ray.batch.needs import leave_memory_to_supervisors, local_cpus, needed_cpus
from uniface_ray.cluster import _start, connect, joins_cluster
from uniface_ray.core.compose import compose
from uniface_ray.core.config import JobConfig
from uniface_ray.core.errors import UniFaceError, UserError


def job(*words: str) -> JobConfig:
    return compose("caption", ["source=demo", "sink.path=out", *words])


def test_there_is_room_beside_the_replicas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert local_cpus(job()) == 4
    assert local_cpus(job("engine.replicas=4")) == 6
    assert local_cpus(job("engine.replicas=[1,8]", "engine.num_cpus=0.5")) == 6
    assert needed_cpus(job("engine.replicas=[1,8]", "engine.num_cpus=0.5")) == 3


def test_cpus_that_leave_no_room_are_a_mistake() -> None:
    with pytest.raises(UserError, match=r"cluster\.num_cpus is 3, but 2 replicas .* need 4"):
        local_cpus(job("cluster.num_cpus=3", "engine.replicas=2"))


def test_the_environment_says_which_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("uniface_ray.cluster._connected", lambda: False)
    assert not joins_cluster(job().cluster)
    assert joins_cluster(job("cluster.address=head:6379").cluster)
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert joins_cluster(job().cluster)
    assert not joins_cluster(job("cluster.address=local").cluster)


@pytest.mark.parametrize("errors", [1, 2])
def test_a_start_that_takes_too_long_is_tried_once_more(monkeypatch: pytest.MonkeyPatch, errors: int) -> None:
    calls = []

    def init(**_: object) -> None:
        calls.append(1)
        if len(calls) <= errors:
            raise Exception("The current node timed out during startup. This could happen because ...")

    monkeypatch.setattr(ray, "init", init)
    with nullcontext() if errors == 1 else pytest.raises(Exception, match="timed out during startup"):
        _start(num_cpus=4)
    assert len(calls) == 2


def test_a_ray_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: object) -> None:
        raise TimeoutError("The current node timed out\nduring startup")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr("uniface_ray.cluster._connected", lambda: False)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # decided, so that no token stays behind in this process
    with pytest.raises(UniFaceError, match="Ray does not start on this machine: The current node timed out during"):
        connect(job("cluster.address=local").cluster, 4)


def test_a_ray_of_our_own_kills_nobody_for_want_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"RAY_task_oom_retries": "7"})
    leave_memory_to_supervisors()
    assert os.environ == {"RAY_memory_monitor_refresh_ms": "0", "RAY_task_oom_retries": "7"}
