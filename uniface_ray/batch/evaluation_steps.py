"""The runs that make an evaluation, and the mistakes that can be told before the first of them."""

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from uniface_ray.batch.layout import OK
from uniface_ray.core.config import FacesConfig, JobConfig, SinkConfig, SourceConfig, StorageConfig
from uniface_ray.core.errors import UserError
from uniface_ray.core.evaluate_config import EvaluateConfig, EvaluateJobConfig
from uniface_ray.core.run_facts import load_document
from uniface_ray.core.storage import Folder, join
from uniface_ray.core.storage_errors import explain
from uniface_ray.core.task_config import ENCODERS, MeasureConfig
from uniface_ray.data.sources import open_source
from uniface_ray.data.wanted import Field, FieldKind, Wanted
from uniface_ray.evaluate import texts
from uniface_ray.evaluate.claims import VALUES

Kind = Literal["captions", "answers", "drawings"]
_KINDS: dict[str, Kind] = {"caption": "captions", "vqa": "answers", "generate": "drawings", "edit": "drawings"}
_TEXT = {"captions": "caption", "answers": "answer", "drawings": "prompt"}
# Before the names of labels in a run that is made for them: the run's own columns may have the same names.
_PREFIX = "given_"


@dataclass(frozen=True, slots=True)
class Steps:
    """The runs that make an evaluation, and what they are about.

    Attributes:
        kind: `captions`, `answers` or `drawings`.
        run: address of the model's run.
        settings: of it.
        model: the same, where it is still to be run.
        real: of real faces; None where there are none.
        measured: of the run's output.
        features: what they are called; empty where none are taken.
    """

    kind: Kind
    run: str
    settings: JobConfig
    model: JobConfig | None
    real: JobConfig | None
    measured: JobConfig
    features: str = ""

    @property
    def measure(self) -> MeasureConfig:
        """Of the step `measured`."""
        assert isinstance(self.measured.task, MeasureConfig)
        return self.measured.task


def steps_of(config: EvaluateJobConfig) -> Steps:
    """What there is to run.

    Raises:
        UserError: nothing to hold the output against, or something that cannot be used.
    """
    wanted = config.evaluate
    kind = _KINDS.get(config.task.name)
    if kind is None:
        raise UserError(
            f"evaluate.run is {wanted.run!r}, a run of {config.task.name}, but only those of {', '.join(_KINDS)} can "
            "be held against anything"
        )
    labels = _labels(wanted)
    _check_asked(wanted, kind, labels)
    right = {"captions": wanted.reference_column, "answers": wanted.answer_column}.get(kind)
    own = JobConfig(**{name: getattr(config, name) for name in JobConfig.model_fields})
    model = _model_step(own, [*labels.values(), right]) if wanted.run is None else None
    run, settings = str(wanted.run or join(config.sink.path, "run")), model or own
    prefix = _PREFIX if model else ""
    drawn = kind == "drawings"
    measure = MeasureConfig(
        of=kind,
        labels={name: prefix + column for name, column in labels.items()},
        text_column=_TEXT[kind],
        right_column=prefix + right if right else None,
        judges=wanted.judges if drawn else (),
        own_score=wanted.own_score and drawn,
        features=wanted.features if drawn and wanted.real else None,
    )
    features = _check_models(measure, config)
    rows = SourceConfig(path=join(run, OK), format="parquet")
    _check_columns(own.source if model else rows, config, labels, right, kept=model is None)
    measured = _measure_step(own, rows, "measured", measure)
    real = _real_step(own, wanted) if measure.features else None
    return Steps(kind, run, settings, model, real, measured, features)


def run_settings(address: str, storage: StorageConfig) -> JobConfig:
    """The settings of a finished run.

    Raises:
        UserError: there is none, it is not finished, or another version made it.
    """
    folder = Folder(address, storage)
    folder.check("evaluate.run")
    try:
        document = load_document(folder)
    except OSError as error:
        raise explain(error, "evaluate.run", folder.uri) from error
    if not document:
        raise UserError(
            f"evaluate.run is {folder.uri!r}, which holds no run (no manifest.json there): give the sink.path of a "
            "run, or leave it out and give source.path of labelled rows"
        )
    if document["state"] != "done":
        raise UserError(
            f"evaluate.run is {folder.uri!r}, whose run is {document['state']} with "
            f"{document['counts']['pending']} rows pending: finish it by its own command"
        )
    settings: dict[str, Any] = {**document["config"], "storage": storage, "sink": {"path": folder.uri}}
    try:
        return JobConfig.model_validate(settings)
    except ValidationError as error:
        names = ", ".join(".".join(map(str, item["loc"])) for item in error.errors())
        raise UserError(
            f"evaluate.run is {folder.uri!r}, whose manifest has settings that this version does not take: {names}. "
            "Evaluate it with the version that made it (see versions in the manifest)"
        ) from None


def _labels(wanted: EvaluateConfig) -> dict[str, str]:
    """Column by attribute."""
    labels: dict[str, str] = {}
    for item in wanted.labels:
        name, _, column = item.partition(":")
        if name not in VALUES:
            raise UserError(
                f"evaluate.labels has {item!r}, but the attributes that can be read are {', '.join(VALUES)}: give one "
                "of them, or attribute:column where the column has another name, as in smile:smiling"
            )
        labels[name] = column or name
    return labels


def _check_asked(wanted: EvaluateConfig, kind: Kind, labels: dict[str, str]) -> None:
    if kind == "captions" and not labels and not wanted.reference_column:
        raise UserError(
            "nothing says what the captions are held against: give evaluate.labels, as in "
            "'evaluate.labels=[gender,smile]', evaluate.reference_column, or both"
        )
    if kind == "captions" and wanted.reference_column:
        texts.check_installed(f"evaluate.reference_column={wanted.reference_column}")
    if kind == "answers" and not wanted.answer_column:
        raise UserError("nothing says what the right answers are: give evaluate.answer_column, as in answer")
    if kind == "drawings" and not (wanted.judges or wanted.own_score or wanted.real):
        raise UserError(
            "nothing says what the drawn faces are held against: give evaluate.judges, evaluate.real, or leave "
            "evaluate.own_score on"
        )


def _check_models(measure: MeasureConfig, config: EvaluateJobConfig) -> str:
    """Look at judges and vision model; what the features are called.

    Raises:
        UserError: one of them cannot be used, or no judge knows an attribute that there are labels of.
    """
    outside = measure.features is not None and measure.features not in ENCODERS
    if not measure.judges and measure.features is None:
        return ""
    from uniface_ray.evaluate.vision import check_encoder, check_judge, check_vision

    judged = {name for path in measure.judges for name in check_judge(path, config.storage)}
    if unknown := [name for name in measure.labels if measure.judges and name not in judged]:
        raise UserError(
            f"evaluate.labels has {', '.join(unknown)}, but the judges of evaluate.judges know {', '.join(judged)} "
            "alone: leave it out, or add a judge that knows it"
        )
    if outside:
        return check_vision(str(measure.features), config.storage)
    return check_encoder(measure.features, config.model, config.storage) if measure.features else ""


def _check_columns(
    source: SourceConfig, config: EvaluateJobConfig, labels: dict[str, str], right: str | None, kept: bool
) -> None:
    """See that the columns are there, under the name of the setting that asks for them."""
    asked = [("evaluate.labels", column) for column in labels.values()]
    asked += [("evaluate.answer_column" if config.evaluate.answer_column else "evaluate.reference_column", right or "")]
    fields = [Field(column, FieldKind.VALUE, column, setting) for setting, column in asked if column]
    wanted = Wanted(image=False, fields=tuple(fields))
    try:
        open_source(source, config.storage, config.decode, wanted).check()
    except UserError as error:
        if not kept:
            raise
        raise UserError(
            f"{error}. The rows of a run (evaluate.run) have the columns that source.keep_columns carried along: run "
            "it again with them, into another sink"
        ) from error


def _model_step(own: JobConfig, columns: list[str | None]) -> JobConfig:
    kept = tuple(dict.fromkeys([*own.source.keep_columns, *(column for column in columns if column)]))
    source = own.source.model_copy(update={"keep_columns": kept, "keep_prefix": _PREFIX})
    return own.model_copy(update={"source": source, "sink": _inside(own, "run")})


def _real_step(own: JobConfig, wanted: EvaluateConfig) -> JobConfig:
    source = SourceConfig(path=str(wanted.real), image_column=own.source.image_column, uri_column=own.source.uri_column)
    try:
        open_source(source, own.storage, own.decode).check()
    except UserError as error:
        raise UserError(f"evaluate.real cannot be read as a source of images: {error}") from error
    return _measure_step(own, source, "real", MeasureConfig(of="faces", features=wanted.features))


def _measure_step(own: JobConfig, source: SourceConfig, folder: str, task: MeasureConfig) -> JobConfig:
    """Only what asks the model needs one."""
    kind = "uniface" if task.own_score or task.features in ENCODERS else "null"
    changed = {
        "source": source,
        "sink": _inside(own, folder),
        "task": task,
        "faces": FacesConfig(),
        "engine": own.engine.model_copy(update={"kind": kind}),
        "run": own.run.model_copy(update={"limit": None}),
    }
    return own.model_copy(update=changed)


def _inside(own: JobConfig, name: str) -> SinkConfig:
    return SinkConfig(path=join(own.sink.path, name))


__all__ = ["Steps", "run_settings", "steps_of"]
