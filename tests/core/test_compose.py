import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uniface_ray.core import conf
from uniface_ray.core.compose import compose
from uniface_ray.core.conf import groups_of
from uniface_ray.core.config import JobConfig
from uniface_ray.core.errors import UserError
from uniface_ray.core.serve_config import ServeConfig
from uniface_ray.core.settings import Settings
from uniface_ray.core.sink_config import ReplayConfig, StatusConfig, VerifyConfig
from uniface_ray.core.task_config import TASK_CONFIGS

COMMANDS = [*TASK_CONFIGS]
PATHS = ["source.path=/faces", "sink.path=/out"]


def composed(*overrides: str) -> JobConfig:
    return compose("caption", [*PATHS, *overrides])


@given(st.text(min_size=1))
@settings(deadline=None, max_examples=30)
def test_any_text_is_literal(text: str) -> None:
    config = composed(f"task.question={text}", f"source.path=s3://{text}", f"sink.path=s3://b/{text}")
    assert config.task.question == text
    assert config.source.path == f"s3://{text}"
    assert config.sink.path == f"s3://b/{text}"


@pytest.mark.parametrize(
    "text",
    [
        "What's her mood, roughly?",
        '"quoted"',
        "'",
        "a=b==c",
        "${run.seed} $HOME \\${x}",
        "# not a comment",
        "[1,2]",
        "{a: b}",
        "null",
        "true",
        "7",
        "???",
        "~",
        " spaces around ",
        "幸せですか",
        "two\nlines\ttab",
        "choice(a,b)",
    ],
)
def test_a_question_is_literal(text: str) -> None:
    assert composed(f"task.question={text}").task.question == text


@pytest.mark.parametrize("name", ["status=ok", "a, b", "it's", "[x]", "ä b#c", "$x", "null"])
def test_a_local_path_is_literal_and_from_the_root(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert composed(f"source.path={name}").source.path == str(tmp_path / name)
    assert composed(f"source.path={tmp_path}/{name}").source.path == str(tmp_path / name)


def test_home_and_schemes_in_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    config = composed("source.path=~/faces", "sink.path=s3://bucket/~/../x/", "model.path=../weights")
    assert config.source.path == "/home/ada/faces"
    assert config.sink.path == "s3://bucket/~/../x/"
    assert config.model.path == os.path.abspath("../weights")


def test_other_values_are_read_by_their_type() -> None:
    config = composed(
        "engine.replicas=[1,4]",
        "engine.num_gpus=0.5",
        "engine.threads=2",
        "source.keep_columns=[id, 1,true,null]",
        "storage.connect_timeout_s=1e-3",
        "storage.endpoint=http://host:9000",
        "run.dry_run=true",
        "run.limit=010",
    )
    assert config.engine.replicas == (1, 4)
    assert config.engine.num_gpus == 0.5
    assert config.engine.threads == 2
    assert config.source.keep_columns == ("id", "1", "true", "null")
    assert config.storage.connect_timeout_s == 0.001
    assert config.storage.endpoint == "http://host:9000"
    assert config.run.dry_run is True
    assert config.run.limit == 10


def test_values_of_one_call_do_not_stay_for_the_next() -> None:
    before = composed()
    assert composed("run.seed=7", "model=uniface-tiny", "engine.replicas=[1,4]") != before
    assert composed() == before


def test_null_unsets_what_may_be_null() -> None:
    config = composed("storage.region=eu", "run.limit=5", "storage.region=null", "run.limit=null")
    assert config.storage.region is None
    assert config.run.limit is None


def test_one_number_of_replicas() -> None:
    assert composed("engine.replicas=3").engine.replicas == (3, 3)


def test_groups_are_picked_and_values_go_over_them() -> None:
    config = compose("caption", ["sink.path=/out", "source=demo", "model=uniface-tiny", "model.path=/my/weights"])
    assert config.source.path == "package://assets/portraits"
    assert (config.model.name, config.model.path) == ("uniface-tiny", "/my/weights")


def test_the_last_value_wins() -> None:
    assert composed("run.seed=1", "run.seed=2").run.seed == 2


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("engine.batchsize=3", "engine.batchsize: there is no such setting. Did you mean engine.batch_size"),
        ("batch_size=3", "Did you mean engine.batch_size"),
        ("--sink.path=x", "Did you mean sink.path"),
        ("+run.seed=1", "Did you mean run.seed"),
        ("xyzzy=1", "All settings: add --help"),
        ("faces/", "faces/: a setting is written name=value"),
        (
            "source=s3://b/f",
            "default and demo to pick from; for a path of your own type source.path=s3://b/f",
        ),
        ("run=fast", "run=fast: there is only default to pick from"),
        ("engine.batch_size=many", "engine.batch_size=many: must be a valid integer. It means:"),
        ("engine.batch_size=0", "engine.batch_size=0: must be greater than or equal to 1"),
        ("engine.dtype=int8", "engine.dtype=int8: must be 'auto', 'float32'"),
        ("engine.device=tpu", "engine.device=tpu: must match pattern"),
        ("run.limit=true", "run.limit=true: must be a valid integer"),
        ("run.seed=null", "run.seed=null: must be a valid integer"),
        ("report.images=perhaps", "report.images=perhaps: must be a valid boolean"),
        ("engine.replicas=[4,1]", "needs 1 <= min <= max, and [4, 1] is not"),
        ("engine.replicas=[1,4", "engine.replicas=[1,4: this list does not parse"),
        ('source.keep_columns=["a,b]', "this list does not parse"),
        ("task=vqa", "task=vqa: there is only caption to pick from"),
        ("task.name=vqa", "task.name: there is no such setting"),
        ("source.question_column=q", "source.question_column: there is no such setting"),
        ("source.keep_columns=id", "source.keep_columns=id: must be a list, as in source.keep_columns=[a,b]"),
        ("task.question=", "task.question=: must have at least 1 character"),
        ("source.path=", "source.path=: must have at least 1 character"),
    ],
)
def test_a_mistake_is_told(override: str, told: str) -> None:
    with pytest.raises(UserError) as error:
        composed(override)
    assert told in str(error.value)


def test_all_wrong_values_are_told_at_once() -> None:
    with pytest.raises(UserError) as error:
        composed("engine.batch_size=0", "run.seed=-1")
    assert len(str(error.value).splitlines()) == 2


def test_missing_paths_say_what_to_type() -> None:
    with pytest.raises(UserError, match=r"source\.path is missing.*\n.*sink\.path is missing"):
        compose("caption", [])


@pytest.mark.parametrize("setting", ["secret_key", "access_key"])
def test_secrets_are_not_told(setting: str) -> None:
    with pytest.raises(UserError, match="give both or neither") as error:
        composed(f"storage.{setting}=hush-hush")
    assert "hush" not in str(error.value)
    assert error.value.__cause__ is None
    assert "hush" not in repr(composed("storage.access_key=hush1", "storage.secret_key=hush2"))


def test_lists_are_literal_too() -> None:
    typed = ["What's her mood, roughly?", "Is she smiling?", 'a "quoted" word', "[x]", "1"]
    config = compose("vqa", [*PATHS, f"task.questions={json.dumps(typed)}"])
    assert config.task.questions == tuple(typed)
    config = compose("vqa", [*PATHS, 'task.questions=[Is she smiling?, "What\'s her mood, roughly?",1]'])
    assert config.task.questions == ("Is she smiling?", "What's her mood, roughly?", "1")
    assert compose("vqa", [*PATHS, "task.questions=[]"]).task.questions == ()


@pytest.mark.parametrize("command", COMMANDS)
def test_conf_and_schema_agree(command: str) -> None:
    """A setting is a field of the schema, and a line with a meaning in conf/; with the same default, where all
    commands have it from there."""
    config = compose(command, PATHS)
    groups = groups_of(command)
    no_photos = {"faces"} if command in ("generate", "edit", "tokenize") else set()
    no_questions = {"remote"} if command not in ("caption", "vqa") else set()
    assert {group.name for group in groups} == {*JobConfig.model_fields} - no_photos - no_questions
    for group in groups:
        values = getattr(config, group.name)
        fields = type(values).model_fields
        named = [setting.name.partition(".")[2] for setting in group.settings]
        assert [field for field in fields if field in named] == named
        if group.member == "default" or group.name == "task":
            defaults = {field: info.default for field, info in fields.items() if not info.is_required()}
            assert {field: getattr(values, field) for field in defaults} == defaults


@pytest.mark.parametrize(
    ("command", "schema"),
    [("serve", ServeConfig), ("status", StatusConfig), ("verify", VerifyConfig), ("replay-rejects", ReplayConfig)],
)
def test_conf_and_schema_agree_beside_the_tasks(command: str, schema: type[Settings]) -> None:
    groups = groups_of(command)
    assert {group.name for group in groups} == {*schema.model_fields}
    config = compose(command, [] if command == "serve" else ["sink.path=/out"], schema)
    for group in groups:
        fields = type(getattr(config, group.name)).model_fields
        assert [*fields] == [setting.name.partition(".")[2] for setting in group.settings]


def test_every_setting_belongs_to_a_command() -> None:
    named = {setting.name for command in COMMANDS for group in groups_of(command) for setting in group.settings}
    groups = {name: field.annotation for name, field in JobConfig.model_fields.items() if name != "task"}
    fields = [*groups.items(), *(("task", schema) for schema in TASK_CONFIGS.values())]
    assert {f"{group}.{field}" for group, schema in fields for field in schema.model_fields} == named | {"task.name"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_member_of_every_group_composes(command: str) -> None:
    for group in groups_of(command):
        for choice in group.choices:
            config = compose(command, [*PATHS, f"{group.name}={choice}"])
            assert config.task.name == command


def test_the_installed_conf_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "uniface_ray"
    monkeypatch.setattr(conf, "__file__", str(package / "core" / "conf.py"))
    assert conf.conf_folder() == tmp_path / "conf"
    shutil.copytree(Path(__file__).parents[2] / "conf", package / "conf")
    assert conf.conf_folder() == package / "conf"
