"""The settings of `uniface evaluate`: those of three commands, by the task that is picked."""

import pytest

from uniface_ray.core.compose import compose
from uniface_ray.core.conf import groups_of
from uniface_ray.core.errors import UserError
from uniface_ray.core.evaluate_config import EvaluateConfig, EvaluateJobConfig

PATHS = ["source.path=/faces", "sink.path=/out"]


def composed(*typed: str) -> EvaluateJobConfig:
    return compose("evaluate", [*PATHS, *typed], EvaluateJobConfig)


def test_conf_and_schema_have_the_same_defaults() -> None:
    config = composed()
    assert config.evaluate == EvaluateConfig()
    group = next(group for group in groups_of("evaluate") if group.name == "evaluate")
    assert [setting.name for setting in group.settings] == [f"evaluate.{name}" for name in EvaluateConfig.model_fields]
    assert {group.name for group in groups_of("evaluate")} == set(EvaluateJobConfig.model_fields)


@pytest.mark.parametrize("task", ["caption", "vqa", "generate"])
def test_every_task_has_its_own_settings(task: str) -> None:
    config = composed(f"task={task}")
    assert config.task.name == task
    assert config.task == compose(task, PATHS).task


def test_settings_of_the_picked_task_only() -> None:
    assert composed("task=generate", "task.guidance=2").task.model_dump()["guidance"] == 2
    assert composed("task.guidance=2", "task=generate").task.model_dump()["guidance"] == 2
    with pytest.raises(UserError, match=r"task.guidance: there is no such setting"):
        composed("task.guidance=2")
    with pytest.raises(UserError, match=r"task=edit: there is only caption and vqa and generate to pick from"):
        composed("task=edit")
