"""From the measured rows in the sink to metrics.json and report.html of an evaluation."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from uniface_ray.batch.evaluation_steps import Steps
from uniface_ray.batch.job import Job
from uniface_ray.batch.layout import OK, REPORT
from uniface_ray.batch.plan import Plan
from uniface_ray.batch.thumbnails import Thumbnails
from uniface_ray.core.config import JobConfig
from uniface_ray.core.errors import UniFaceError, UserError
from uniface_ray.core.evaluate_config import EvaluateJobConfig
from uniface_ray.core.fenced import Fenced
from uniface_ray.core.report_data import Sample
from uniface_ray.core.run_facts import load_document, redacted, versions
from uniface_ray.core.storage import Folder
from uniface_ray.core.view import View
from uniface_ray.data.sources import open_source
from uniface_ray.evaluate.claims import VALUES
from uniface_ray.evaluate.findings import Number, document, numbers_of, to_json
from uniface_ray.evaluate.page import Evaluation, render
from uniface_ray.evaluate.summary import Summary
from uniface_ray.tasks.base import Task
from uniface_ray.tasks.registry import build_task

METRICS = "metrics.json"


def write_findings(config: EvaluateJobConfig, steps: Steps, sink: Folder) -> None:
    """Sum up, write both files, and tell the numbers.

    Raises:
        UserError: not one row is known anything of.
    """
    # The images of one prompt share it; of an edit, the image is what rows share.
    by_prompt = steps.settings.task.name == "generate"
    summary = _summed(config, steps.kind, _attributes(steps), steps.measured, by_prompt)
    real = _summed(config, "faces", (), steps.real).cloud if steps.real else None
    numbers = numbers_of(summary, real, steps.features)
    if not any(number.estimate and number.estimate.known for number in numbers):
        raise UserError(_nothing_known(summary, config, steps))
    notes = list(_notes(summary, config, steps))
    told = document(numbers, summary)
    about = {"kind": steps.kind, "model": steps.settings.model.name, "run": steps.run, "features": steps.features}
    told = {"format": 1, **about, **told, "notes": notes, "versions": versions()}
    told["settings"] = config.evaluate.model_dump(mode="json") | {"seed": config.run.seed}
    sink.write(METRICS, to_json(told).encode())
    pictures = RunPictures(steps)
    sides = [summary.extremes.rows(heap) for heap in (summary.extremes.best, summary.extremes.worst)]
    best, worst = ([pictures.sample(row, steps.kind) for row in rows] for rows in sides)
    page = Evaluation(
        title=f"Evaluation of {summary.sums.rows:,} {steps.kind}",
        kind=steps.kind,
        model=steps.settings.model.name,
        run=steps.run,
        sink=sink.uri,
        numbers=numbers,
        attributes=summary.attributes,
        confusion=summary.confusion,
        own_scores=summary.own_scores,
        best=best,
        worst=worst,
        config=redacted(config),
        versions=versions(),
        notes=notes,
    )
    sink.write(REPORT, render(page).encode())
    with View.for_console(None, 1.0) as view:
        view.finish([*map(_line, numbers), ("metrics", f"{sink.uri}/{METRICS}"), ("report", f"{sink.uri}/{REPORT}")])


def _attributes(steps: Steps) -> Sequence[str]:
    """Those that are compared; of prompts without labels, all that can be read."""
    if steps.kind == "answers":
        return ()
    return tuple(steps.measure.labels) or (tuple(VALUES) if steps.kind == "drawings" else ())


def _summed(
    config: EvaluateJobConfig, kind: str, attributes: Sequence[str], step: JobConfig, by_prompt: bool = False
) -> Summary:
    wanted, seed = config.evaluate, config.run.seed
    summary = Summary(kind, attributes, wanted.resamples, wanted.kernel_images, wanted.samples, seed, by_prompt)
    for table in _parts(Folder(step.sink.path, config.storage)):
        summary.add(table)
    return summary


def _parts(sink: Folder) -> Iterator[pa.Table]:
    for entry in sink.walk(OK):
        yield pq.read_table(pa.BufferReader(sink.read(entry.name)))


def _notes(summary: Summary, config: EvaluateJobConfig, steps: Steps) -> Iterator[str]:
    rejected = load_document(Folder(steps.run, config.storage)).get("counts", {}).get("rejected", 0)
    if rejected:
        yield f"{rejected:,} rows of the run were rejected and count nowhere here."
    rejected = load_document(Folder(steps.measured.sink.path, config.storage)).get("counts", {}).get("rejected", 0)
    if rejected:
        yield f"{rejected:,} output rows could not be measured; measured/report.html says why."
    if summary.odd:
        what = "labels" if steps.measure.labels else "wishes"
        yield f"{summary.odd:,} {what} mean no value and count as unknown, such as: {'; '.join(summary.odd_labels)}."
    if not summary.alone:
        yield "Several rows belong to one image or prompt: intervals are the bootstrap's, which draws them together."
    if steps.kind == "drawings" and not steps.measure.judges:
        yield "No judge looked at the drawn faces (evaluate.judges): how they agree with their prompts is not known."
    elif steps.kind == "drawings" and not steps.measure.labels:
        yield "What was wished for is read out of the prompts, by the rules under Details."
        if unknown := [name for name in summary.attributes if not summary.known(f"{name}_known")]:
            yield f"No prompt wishes for {', '.join(unknown)}, or no judge knows of it."
    if summary.known("own_scored") if steps.kind == "drawings" else 0:
        yield "The model scores itself: its own score compares settings of one model, not models."


def _nothing_known(summary: Summary, config: EvaluateJobConfig, steps: Steps) -> str:
    settings = {"captions": "evaluate.labels", "answers": "evaluate.answer_column"}.get(steps.kind, "evaluate.labels")
    odd = f"; what stands there means none of the values: {'; '.join(summary.odd_labels)}" if summary.odd else ""
    return (
        f"{settings} names columns in which not one of {summary.sums.rows:,} rows has a label{odd}. Name the columns "
        f"that have them (the rows are in {steps.measured.sink.path})"
    )


def _line(number: Number) -> tuple[str, str]:
    one = number.estimate
    if one is None:
        return number.title, f"not known: {number.missing}"
    if number.bounded:
        return number.title, f"{100 * one.value:.1f} %  ({100 * one.low:.1f} to {100 * one.high:.1f}, of {one.known:,})"
    interval = f"{one.low:.4g} to {one.high:.4g}" if one.method != "none" else "no interval"
    return number.title, f"{one.value:.4g}  ({interval}, of {one.known:,})"


class RunPictures:
    """Pictures of a run's output rows; none where the source is gone or the settings keep faces out."""

    def __init__(self, steps: Steps) -> None:
        config = steps.settings
        self.sink = Folder(steps.run, config.storage)
        self.task: Task = build_task(config)
        self.thumbnails: Thumbnails | None = None
        try:
            source = open_source(config.source, config.storage, config.decode, self.task.wanted)
            fenced = Fenced(self.sink.uri, config.storage, 0)
            job = Job(config, source, pa.schema([]), 0, "cpu", "float32", fenced)
            self.thumbnails = Thumbnails(job, Plan.load(self.sink, clean=False))
        except (UniFaceError, OSError):
            pass

    def sample(self, row: dict[str, Any], kind: str) -> Sample:
        """A measured row on a contact sheet."""
        details = " · ".join(part for part in (f"score {row['score']:.2f}", row.get("question"), row["right"]) if part)
        thumbnail = self._picture(row)
        return Sample(row["run_row"], row["run_uri"], row["text"], (thumbnail,) if thumbnail else (), details)

    def _picture(self, row: dict[str, Any]) -> bytes | None:
        if self.thumbnails is None:
            return None
        part = row["uri"].rpartition("/")[2]
        table = pq.read_table(pa.BufferReader(self.sink.read(f"{OK}/{part}")))
        found = table.filter(pc.equal(table["row_id"], row["run_row"])).to_pylist()[0]
        if self.task.image_column:
            return self.thumbnails.drawn(found[self.task.image_column])
        chunk = int(part.removeprefix("part-").removesuffix(".parquet"))
        try:
            return self.thumbnails.source(found | {"chunk": chunk})
        except (UniFaceError, OSError):
            return None
