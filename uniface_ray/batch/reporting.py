"""The end of a run: manifest, progress, report page and closing words."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from uniface_ray.batch.closing import closing
from uniface_ray.batch.follow import Course
from uniface_ray.batch.job import Job
from uniface_ray.batch.layout import OK, PROGRESS, REJECTED, REPORT, part_name
from uniface_ray.batch.manifest import Manifest
from uniface_ray.batch.plan import Plan
from uniface_ray.batch.tally import Tally
from uniface_ray.batch.thumbnails import Thumbnails
from uniface_ray.core.progress import RunState
from uniface_ray.core.report import render
from uniface_ray.core.report_data import RejectSample, Report, Sample
from uniface_ray.core.run_facts import redacted, versions
from uniface_ray.core.storage import Folder, address_of
from uniface_ray.core.view import View
from uniface_ray.tasks.base import Task
from uniface_ray.tasks.registry import build_task

# What the page looks at: parts spread over the run, so that its cost does not grow with the number of rows.
_PARTS = 8
_REJECTS = 24
_PICTURES_S = 60.0


def close_run(job: Job, plan: Plan, course: Course, manifest: Manifest, state: RunState, view: View) -> None:
    """Write progress.json, manifest.json and report.html, and print the closing words."""
    sink = manifest.sink
    progress = course.progress(state)
    pace = course.meter.overall(course.started_s + progress.elapsed_s)

    def write_manifest() -> None:
        manifest.write(
            state,
            course.tally,
            elapsed_s=round(progress.elapsed_s, 2),
            rows_per_s=round(pace, 2),
            replicas=course.most_replicas,
            **course.spent(),
            device=job.device,
            dtype=job.dtype,
        )

    sink.write(PROGRESS, progress.to_json().encode())
    if state != "done":
        write_manifest()  # whoever asked the run to end may not wait for its page
    report = build_report(job, plan, course, manifest, state, pace)
    sink.write(REPORT, render(report).encode())
    if state == "done":
        write_manifest()  # last: a run that is done is not looked at again
    view.finish(closing(report))


def build_report(job: Job, plan: Plan, course: Course, manifest: Manifest, state: RunState, pace: float) -> Report:
    """What report.html shows; reads a few parts of the output, and the source's pictures where the run is done."""
    config, tally, sink = job.config, course.tally, manifest.sink
    task = build_task(config)
    thumbnails = Thumbnails(job, plan, budget_s=_PICTURES_S if state == "done" else 0.0)
    ok = [_part(sink, OK, chunk) for chunk in _spread(_with_files(tally, OK), _PARTS)]
    rejected = [_part(sink, REJECTED, chunk) for chunk in _spread(_with_files(tally, REJECTED), _PARTS)]
    samples, rejects = list(_some(ok, config.report.samples)), list(_some(rejected, _REJECTS))
    thumbnails.want(samples + rejects)
    texts = (text for part in ok for text in part[task.text_column].to_pylist()) if task.own_words else ()
    words = Counter(len(text.split()) for text in texts)
    partly = words and len(ok) < len(_with_files(tally, OK))
    return Report(
        title=task.headline.format(f"{tally.done:,}"),
        task=config.task.name,
        model=config.model.name,
        source=address_of(config.source.path),
        sink=sink.uri,
        state=state,
        started=manifest.attempts[-1]["started_at"],
        duration_s=course.progress(state).elapsed_s,
        counts=tally.counts(),
        rows_per_s=pace,
        replicas=course.most_replicas,
        timeline=course.timeline,
        rejects_by_kind=dict(tally.rejects_by_kind),
        stage_seconds=dict(tally.seconds),
        answer_words=dict(words),
        samples=[_sample(row, task, thumbnails) for row in samples],
        rejects=[
            RejectSample(
                row["row_id"],
                row["uri"],
                row["error_kind"],
                row["error_message"],
                row["stage"],
                thumbnails.source(row),
            )
            for row in rejects
        ],
        config=redacted(config),
        versions={**versions(), "model": f"{config.model.name} ({config.model.path})"},
        costs=course.costs().document(),
        files=[(file.name, file.bytes, file.sha256) for file in sorted(tally.files, key=lambda file: file.name)],
        notes=[f"Answer lengths are those of {len(ok)} parts spread over the output."] if partly else [],
    )


def _sample(row: dict[str, Any], task: Task, thumbnails: Thumbnails) -> Sample:
    drawn = thumbnails.drawn(row[task.image_column]) if task.image_column else None
    pictures = [picture for picture in (thumbnails.source(row), drawn) if picture]
    text = row[task.text_column]
    said = text if isinstance(text, str) else " · ".join(text or [])
    return Sample(row["row_id"], row["uri"], said, tuple(pictures), task.details(row))


def _part(sink: Folder, status: str, chunk: int) -> pa.Table:
    table = pq.read_table(pa.BufferReader(sink.read(part_name(status, chunk))))
    return table.append_column("chunk", pa.array([chunk] * table.num_rows, pa.int64()))


def _with_files(tally: Tally, status: str) -> list[int]:
    prefix = f"{status}/part-"
    names = (file.name for file in tally.files)
    return sorted(int(name[len(prefix) :].removesuffix(".parquet")) for name in names if name.startswith(prefix))


def _spread(values: Sequence[int], count: int) -> list[int]:
    """At most `count` of the values, evenly spaced, the first and the last among them."""
    if len(values) <= count:
        return list(values)
    return [values[round(i * (len(values) - 1) / (count - 1))] for i in range(count)]


def _some(parts: Iterable[pa.Table], count: int) -> Iterator[dict[str, Any]]:
    """At most `count` rows, evenly spaced over the parts."""
    parts = list(parts)
    rows = [(part, index) for part in parts for index in range(part.num_rows)]
    for position in _spread(range(len(rows)), count) if count > 1 else range(min(count, len(rows))):
        part, index = rows[position]
        yield part.slice(index, 1).to_pylist()[0]
