"""Settings of a training: conf/ and schema, stages as lists, and what is refused."""

import pytest

from uniface_ray.core.compose import compose
from uniface_ray.core.conf import groups_of
from uniface_ray.core.errors import UserError
from uniface_ray.core.train_config import TrainConfig

PATHS = ["data.path=/tokens", "sink.path=/out"]


def composed(*words: str) -> TrainConfig:
    return compose("train", [*PATHS, *words], TrainConfig)


def test_conf_and_schema_agree() -> None:
    config = composed()
    groups = groups_of("train")
    assert [group.name for group in groups] == [*TrainConfig.model_fields]
    for group in groups:
        values = getattr(config, group.name)
        fields = type(values).model_fields
        assert [*fields] == [setting.name.partition(".")[2] for setting in group.settings]
        if group.name != "report":  # a training shows fewer samples than a job
            defaults = {field: info.default for field, info in fields.items() if not info.is_required()}
            assert {field: getattr(values, field) for field in defaults} == defaults
        for choice in group.choices:
            composed(f"{group.name}={choice}")


def test_a_list_has_a_value_for_each_stage_and_one_value_holds_for_all() -> None:
    stages = composed("stages.steps=[5,7]", "stages.learning_rate=[1e-3,1e-4]", "stages.vqa=0").stages.each()
    assert [(one.number, one.first, one.end, one.learning_rate) for one in stages] == [
        (0, 0, 5, 1e-3),
        (1, 5, 12, 1e-4),
    ]
    assert [one.shares for one in stages] == [{"draw": 1.0, "caption": 1.0, "vqa": 0.0}] * 2
    assert [one.trained for one in composed("stages=experts-first").stages.each()] == ["experts", "all"]
    assert composed("parallel.workers=2").parallel.workers == (2, 2)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["stages.steps=[1,2]", "stages.draw=[1,2,3]"],
            r"stages: lists of different lengths, \{'steps': 2, 'draw': 3\}",
        ),
        (["stages.trained=(("], r"stages.trained=\(\(: must be all, experts, everything or a regular expression"),
        (["stages.draw=0", "stages.vqa=0", "stages.caption=0"], r"draw, caption and vqa are all 0 in stage 0"),
        (["stages.learning_rate=0"], r"stages.learning_rate=0: must be greater than 0"),
        (["stages.steps=[]"], r"stages.steps=\[\]: "),
        (["parallel.workers=[2,1]"], r"needs 0 <= min <= max, and \[2, 1\] is not"),
        (["loss.schedule=pow0"], r"loss.schedule=pow0: must be cosine, linear"),
        (["optimizer.ema=1"], r"optimizer.ema=1: must be less than 1"),
        (
            ["checkpoint.every_steps=150"],
            r"checkpoint.every_steps is 150 and validation.every_steps 100, .* make one a multiple of the other",
        ),
        (["checkpoint.export=best", "data.held_out=0"], r"checkpoint.export is best, but .* data.held_out 0: none of"),
        (["checkpoint.export=best", "checkpoint.best=false"], r"but checkpoint.best is false, validation.rows 128"),
    ],
)
def test_what_is_refused_is_told_with_its_rule(words: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        composed(*words)


@pytest.mark.parametrize("more", ["validation.every_steps=50", "checkpoint.best=false", "validation.rows=0"])
def test_checkpoints_of_which_none_need_be_the_best_are_free(more: str) -> None:
    assert composed("checkpoint.every_steps=150", more).checkpoint.every_steps == 150


def test_what_is_missing_is_told() -> None:
    with pytest.raises(UserError, match=r"data.path is missing: say what to train on, as in data.path=out/tokens"):
        compose("train", ["sink.path=/out"], TrainConfig)
