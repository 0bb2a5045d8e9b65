"""`uniface replay-rejects`: the settings of a run again, and which of its rejected rows to do."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from uniface_ray.batch.job import Job
from uniface_ray.batch.manifest import Manifest
from uniface_ray.batch.plan import Plan
from uniface_ray.batch.replay import Replay, select
from uniface_ray.batch.status import open_document
from uniface_ray.batch.tally import Tally, read_markers
from uniface_ray.core.compose import compose
from uniface_ray.core.config import JobConfig
from uniface_ray.core.errors import UserError
from uniface_ray.core.run_facts import REDACTED
from uniface_ray.core.sink_config import ReplayConfig, ReplaySettings
from uniface_ray.core.storage import Folder
from uniface_ray.core.view import View


def compose_again(overrides: Sequence[str]) -> tuple[JobConfig, ReplaySettings]:
    """The settings of the run that the sink holds, with what is typed over them.

    Raises:
        UserError: a mistake in what is typed, or no run in the sink.
    """
    typed = compose("replay-rejects", overrides, ReplayConfig)
    Replay.of(typed.replay.kinds)
    sink = Folder(typed.sink.path, typed.storage)
    settings: dict[str, Any] = open_document(sink)["config"]
    given = typed.model_dump(exclude={"replay"})
    for name in ("access_key", "secret_key", "session_token"):
        if settings["storage"].get(name) == REDACTED:
            settings["storage"][name] = given["storage"][name]
    settings["sink"] = given["sink"]
    settings["run"] |= {"dry_run": False, "preflight": False}  # what was asked of that run once, is not asked of this
    for group, _, name in (override.partition("=")[0].partition(".") for override in overrides):
        if group in given:
            settings[group] = {**settings[group], name: given[group][name]} if name else given[group]
    try:
        return JobConfig.model_validate(settings), typed.replay
    except ValidationError as error:
        names = ", ".join(".".join(map(str, item["loc"])) for item in error.errors())
        raise UserError(
            f"sink.path is {sink.uri!r}, whose manifest has settings that this version does not take: {names}. Replay "
            "it with the version that made it (see versions in the manifest)"
        ) from None


def begin(job: Job, manifest: Manifest, tally: Tally, wanted: ReplaySettings) -> tuple[Job, Plan]:
    """Choose the rows.

    `tally` counts them as pending from here on, and the manifest's attempt says how many they are. The plan stays as it
    is: nothing is listed.
    """
    plan = Plan.load(manifest.sink, clean=False)
    tally.input = plan.rows
    replay, rows = select(read_markers(manifest.sink), Replay.of(wanted.kinds), wanted.limit, tally)
    manifest.attempts[-1]["replay"] = {"kinds": sorted(replay.kinds), "rows": rows, "ok_before": tally.ok}
    return replace(job, replay=replay), plan


def end(manifest: Manifest, tally: Tally, view: View) -> None:
    """Note what became of the rows."""
    about = manifest.attempts[-1]["replay"]
    about["now_ok"] = tally.ok - about.pop("ok_before")
    view.note(f"{about['rows']:,} rejected rows were done again, {about['now_ok']:,} of them are ok now")
    if tally.pending:
        view.note(f"{tally.pending:,} rows are pending: the run's own command does them")
