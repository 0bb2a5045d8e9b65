"""`uniface evaluate`: a model is run on labelled rows, or was; its output is measured row by row, and summed up.

    <sink.path>/run/         the model's run, where this command makes it
    <sink.path>/real/        features of real faces, where drawn ones are compared with them
    <sink.path>/measured/    a row for each output row of the run
    <sink.path>/metrics.json, report.html   what they say together

Each of the three folders is the sink of a run like any other: resumed, verified and replayed like any other.
"""

from collections.abc import Sequence

from uniface_ray.batch.driver import run
from uniface_ray.batch.evaluation_steps import run_settings, steps_of
from uniface_ray.batch.measured import write_findings
from uniface_ray.core.compose import absolute, compose
from uniface_ray.core.errors import UserError
from uniface_ray.core.evaluate_config import EvaluateJobConfig
from uniface_ray.core.storage import Folder


def compose_evaluation(overrides: Sequence[str]) -> EvaluateJobConfig:
    """The settings of `uniface evaluate`; of a finished run, its own model and task.

    Raises:
        UserError: a mistake in what is typed, or no finished run.
    """
    typed = {name: text for name, _, text in (override.partition("=") for override in overrides)}
    finished = typed.get("evaluate.run", "null")
    if finished == "null":
        return _absolute(compose("evaluate", overrides, EvaluateJobConfig))
    if also := sorted(name for name in typed if name.split(".")[0] in ("source", "task", "faces")):
        raise UserError(
            f"evaluate.run is {finished!r}, a run that is done, and {', '.join(also)} would say what to run: leave one "
            "of the two out"
        )
    config = _absolute(compose("evaluate", [*overrides, f"source.path={finished}"], EvaluateJobConfig))
    theirs = run_settings(str(config.evaluate.run), config.storage)
    own_model = any(name.partition(".")[0] == "model" for name in typed)
    names = ["source", "task", "faces", *([] if own_model else ["model"])]
    return config.model_copy(update={name: getattr(theirs, name) for name in names})


def evaluate(config: EvaluateJobConfig) -> int:
    """Make the runs of an evaluation that are not done yet, and write what they say together.

    Returns:
        The exit code: that of a run which was stopped, or 0.

    Raises:
        UserError: a mistake in the settings, found before Ray starts wherever it can be.
        UniFaceError: see `driver.run`.
    """
    steps = steps_of(config)
    for step in (steps.real, steps.model, steps.measured):
        if step:
            summary = run(step)
            if summary.state != "done":
                return summary.exit_code
    write_findings(config, steps, Folder(config.sink.path, config.storage))
    return 0


def _absolute(config: EvaluateJobConfig) -> EvaluateJobConfig:
    paths = {name: getattr(config.evaluate, name) for name in ("run", "real")}
    found = {name: absolute(path) for name, path in paths.items() if path}
    return config.model_copy(update={"evaluate": config.evaluate.model_copy(update=found)})
