"""One run from settings to report: the driver."""

from dataclasses import dataclass

from uniface_ray.batch.cluster import Cluster, connect, joins_cluster
from uniface_ray.batch.follow import Course, follow
from uniface_ray.batch.interrupts import Asked, InterruptedRunError, interrupts
from uniface_ray.batch.job import Job
from uniface_ray.batch.manifest import Manifest, Tally, read_markers
from uniface_ray.batch.plan import Plan
from uniface_ray.batch.preflight import Checked, check
from uniface_ray.batch.reporting import close_run
from uniface_ray.batch.view import View
from uniface_ray.core.config import JobConfig
from uniface_ray.core.errors import StoppedError, UniFaceError
from uniface_ray.core.progress import RunState
from uniface_ray.engine.device import local_gpus, resolve_device, resolve_dtype


@dataclass(frozen=True, slots=True)
class RunSummary:
    """How a run ended.

    Attributes:
        state: `done`, or why not.
        counts: as in manifest.json.
        sink: its address.
        exit_code: of the process.
    """

    state: RunState
    counts: dict[str, int | None]
    sink: str
    exit_code: int


def run(config: JobConfig) -> RunSummary:
    """Run the task of `config` over its source into its sink, or resume it.

    Raises:
        UserError: a mistake in the settings, found before Ray starts wherever it can be.
        StoppedError: the storage failed; the same call resumes.
        InterruptedRunError: a signal, where nothing was under way or for the second time.
        UniFaceError: what went wrong in a stage.
    """
    with View.for_console(None, config.run.progress_every_s) as view, interrupts() as asked:
        return _run(config, view, asked)


def _run(config: JobConfig, view: View, asked: Asked) -> RunSummary:
    checked = check(config)
    cluster = _connect(config, view) if joins_cluster(config) else None
    device = resolve_device(config.engine, cluster.gpus if cluster else local_gpus())
    dtype = resolve_dtype(config.engine, device)
    checked.sink.make_writable("sink.path")
    course = Course(Tally())
    tally = course.tally
    manifest = Manifest.open(checked.sink, config, dtype)
    if manifest.attempt == 1:
        manifest.write("running", tally)
    plan = _plan(checked, config, manifest, tally, view)
    pending = [chunk for chunk in range(plan.chunks) if chunk not in tally.chunks]
    if config.run.dry_run:
        view.note(f"dry run: {tally.pending:,} of {tally.input:,} rows, in {len(pending):,} chunks, are to be done")
        manifest.write("stopped", tally)
        return RunSummary("stopped", tally.counts(), checked.sink.uri, exit_code=0)
    if not pending and manifest.was_done:
        view.note(f"nothing new: all {tally.done:,} rows are done, see {checked.sink.uri}")
        return RunSummary("done", tally.counts(), checked.sink.uri, exit_code=0)

    manifest.write("running", tally)
    job = Job(config, checked.source, checked.kept, checked.image_size, device, dtype, manifest.attempt)
    try:
        if pending:
            _work(job, plan, pending, course, view, checked, asked, cluster)
    except BaseException as error:
        _close_failed(job, plan, course, manifest, view, error)
        raise
    state: RunState = "interrupted" if tally.pending else "done"
    close_run(job, plan, course, manifest, state, view)
    exit_code = 128 + (asked.number or 0) if tally.pending else 0
    return RunSummary(state, tally.counts(), checked.sink.uri, exit_code)


def _close_failed(job: Job, plan: Plan, course: Course, manifest: Manifest, view: View, error: BaseException) -> None:
    """Leave the sink telling how the run ended, if it can still be written to; `error` is what the user must see."""
    state: RunState = "failed"
    if isinstance(error, StoppedError):
        state = "stopped"
    elif isinstance(error, InterruptedRunError):
        state = "interrupted"
    try:
        close_run(job, plan, course, manifest, state, view)
    except (OSError, UniFaceError) as another:
        view.note(f"manifest and report are not up to date: {another}")


def _connect(config: JobConfig, view: View) -> Cluster:
    cluster = connect(config)
    where = "on this machine" if cluster.local else f"cluster {cluster.address}"
    view.note(f"Ray {where}: {cluster.cpus:g} CPUs, {cluster.gpus:g} GPUs")
    return cluster


def _plan(checked: Checked, config: JobConfig, manifest: Manifest, tally: Tally, view: View) -> Plan:
    view.note(f"listing {config.source.path}")
    plan = Plan.load(checked.sink)
    old_rows = plan.rows
    listing = plan.extend(checked.source, config.run.chunk_rows, config.run.limit)
    tally.input = plan.rows
    for marker in read_markers(checked.sink):
        tally.add(marker)
    manifest.source = {
        "uri": config.source.path,
        "format": checked.source.format,
        "files": sum(generation.files for generation in plan.generations),
        "fingerprint": plan.fingerprint,
        "vanished_files": listing.vanished,
        "changed_files": listing.changed,
    }
    new = f", {plan.rows - old_rows:,} of them new" if old_rows and listing.added else ""
    view.note(f"plan: {plan.rows:,} rows in {plan.chunks:,} chunks{new}")
    if listing.vanished:
        view.note(f"{listing.vanished:,} planned files are gone from the source")
    if listing.changed:
        view.note(f"{listing.changed:,} planned files changed since; what was made of them stays")
    return plan


def _work(
    job: Job,
    plan: Plan,
    pending: list[int],
    course: Course,
    view: View,
    checked: Checked,
    asked: Asked,
    cluster: Cluster | None,
) -> None:
    if cluster is None:
        view.note("starting Ray")
        cluster = _connect(job.config, view)
    # Only now: importing ray takes seconds, which a mistake in the settings should not cost.
    from uniface_ray.batch.pipeline import Pipeline

    view.start(course.tally.input, course.tally.done)
    asked.listen()  # once more: Ray takes SIGTERM for itself when it starts
    with Pipeline(job, plan.files, cluster) as pipeline:
        asked.patient = True
        try:
            markers = pipeline.run(pending)
            follow(markers, pipeline, course, view, checked.sink, asked, job.config.run.progress_every_s)
        finally:
            asked.patient = False
