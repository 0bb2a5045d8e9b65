"""One run from settings to report: the driver."""

from dataclasses import dataclass, replace

from uniface_ray.batch import dry_run
from uniface_ray.batch.follow import Course, follow
from uniface_ray.batch.job import Job
from uniface_ray.batch.limits import RejectLimit
from uniface_ray.batch.manifest import Manifest
from uniface_ray.batch.needs import leave_memory_to_supervisors, local_cpus, needed_cpus, replica_threads
from uniface_ray.batch.plan import Plan
from uniface_ray.batch.planned import planned, remarks
from uniface_ray.batch.preflight import Checked, check
from uniface_ray.batch.replaying import begin, end
from uniface_ray.batch.replicas import with_replicas
from uniface_ray.batch.reporting import close_run
from uniface_ray.batch.strays import sweep
from uniface_ray.batch.tally import Tally, read_markers
from uniface_ray.batch.trial import try_out
from uniface_ray.cluster import Cluster, connect, joins_cluster
from uniface_ray.core.config import JobConfig
from uniface_ray.core.errors import SinkInUseError, StoppedError, UniFaceError, UserError
from uniface_ray.core.interrupts import Asked, InterruptedRunError, interrupts
from uniface_ray.core.lease import Lease, taken
from uniface_ray.core.progress import RunState
from uniface_ray.core.sink_config import ReplaySettings
from uniface_ray.core.storage_errors import explain, sink_failed
from uniface_ray.core.task_config import MeasureConfig
from uniface_ray.core.view import View
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


def run(config: JobConfig, replay: ReplaySettings | None = None) -> RunSummary:
    """Run the task of `config` over its source into its sink, or resume it.

    Args:
        config: of the run.
        replay: do its rejected rows again, and nothing else (see `replay`).

    Raises:
        UserError: a mistake in the settings, found before Ray starts wherever it can be.
        SinkInUseError: another run is writing to the sink.
        StoppedError: the storage failed; the same call resumes.
        InterruptedRunError: a signal, where nothing was under way or for the second time.
        UniFaceError: what went wrong in a stage.
    """
    with View.for_console(None, config.run.progress_every_s) as view, interrupts() as asked:
        return _run(config, view, asked, replay)


def _run(config: JobConfig, view: View, asked: Asked, replay: ReplaySettings | None) -> RunSummary:
    checked = check(config)
    cluster = None
    if joins_cluster(config.cluster):
        cluster = _connect(config, view)
    else:
        local_cpus(config)  # to tell of a mistake now, not when Ray starts
    device = _device(config, cluster)
    if config.run.preflight:
        view.note(f"trying one replica on {device}")
        trial = try_out(config, checked, device, resolve_dtype(config.engine, device))
        view.finish(trial.lines(config.run.price_per_replica_hour))
        return RunSummary("stopped", Tally().counts(), checked.sink.uri, exit_code=0)
    if not checked.sink.make_writable("sink.path"):
        view.note("the sink's server ignores conditional writes: see to it that no other run writes to it meanwhile")
    with taken(checked.sink, view.note) as lease:
        return _run_alone(config, checked, device, lease, view, asked, cluster, replay)


def _run_alone(
    config: JobConfig,
    checked: Checked,
    device: str,
    lease: Lease,
    view: View,
    asked: Asked,
    cluster: Cluster | None,
    replay: ReplaySettings | None,
) -> RunSummary:
    """The run, on a sink that is its own."""
    sink = lease.sink
    try:
        dtype = resolve_dtype(config.engine, device)
        manifest = Manifest.open(sink, config, checked.model.fingerprint, dtype, lease.token)
    except UserError:
        lease.release(withdraw=True)
        raise
    except OSError as error:
        lease.release(withdraw=True)
        raise explain(error, "sink.path", sink.uri) from error
    job = Job(
        config,
        checked.source,
        checked.kept,
        checked.model.image_size,
        device,
        manifest.dtype,
        sink,
    )
    price = config.run.price_per_replica_hour
    limit = RejectLimit(config.run.max_reject_fraction, config.run.max_reject_min_rows)
    course = Course(Tally(), manifest.attempts[:-1], job.replica_gpus, price, manifest.attempt, limit)
    plan = Plan(sink, [])
    try:
        if len(manifest.attempts) == 1:
            manifest.write("running", course.tally)
        if replay:
            job, plan = begin(job, manifest, course.tally, replay)
        else:
            plan = planned(job, manifest, course.tally, view)
        return _finish(job, plan, manifest, course, view, asked, cluster, lease)
    except SinkInUseError:
        raise  # it is another run's to say what became of it
    except BaseException as error:
        known = sink_failed(sink.uri, error) if isinstance(error, OSError) else error
        _close_failed(job, plan, course, manifest, lease, view, known)
        if known is error:
            raise
        raise known from error


def _finish(
    job: Job,
    plan: Plan,
    manifest: Manifest,
    course: Course,
    view: View,
    asked: Asked,
    cluster: Cluster | None,
    lease: Lease,
) -> RunSummary:
    """Do what of the plan is not done."""
    tally, sink = course.tally, manifest.sink
    pending = list(tally.reopened) if job.replay else [one for one in range(plan.chunks) if one not in tally.chunks]
    if not pending and (manifest.was_done or job.replay):
        what = "there are no such rejected rows" if job.replay else f"nothing new: all {tally.done:,} rows are done"
        _sweep(lease, tally, view)
        view.note(f"{what}, see {sink.uri}")
        lease.release(withdraw=True)
        return RunSummary("done", tally.counts(), sink.uri, exit_code=0)
    if job.config.run.dry_run:
        paces = [attempt["rows_per_s"] for attempt in manifest.attempts if attempt.get("rows_per_s")]
        view.finish(dry_run.told(job, plan, tally, len(pending), paces[-1] if paces else None))
        if not job.replay:
            manifest.write("stopped", tally)
        return RunSummary("stopped", tally.counts(), sink.uri, exit_code=0)
    manifest.write("running", tally)
    if pending:
        _work(job, plan, pending, course, view, lease, asked, cluster)
    undone = tally.pending_again if job.replay else None
    _recount(tally, lease)
    undone = tally.pending if undone is None else undone
    if undone and asked.number is None:
        raise UniFaceError(f"Ray ended the run with {undone:,} rows undone; the same command goes on with them")
    state: RunState = "done"
    if tally.pending:
        state = "interrupted" if undone else "stopped"
    if job.replay:
        end(manifest, tally, view)
    if state == "done":
        _sweep(lease, tally, view)
    close_run(job, plan, course, manifest, state, view)
    for remark in remarks(manifest):
        view.note(remark)
    return RunSummary(state, tally.counts(), sink.uri, exit_code=128 + (asked.number or 0) if undone else 0)


def _sweep(lease: Lease, tally: Tally, view: View) -> None:
    if strays := sweep(lease.sink, tally.files):
        view.note(f"removed {len(strays)} output files of chunks that another worker has done")


def _close_failed(
    job: Job, plan: Plan, course: Course, manifest: Manifest, lease: Lease, view: View, error: BaseException
) -> None:
    """Leave the sink telling how the run ended, if it can still be written to; `error` is what the user must see."""
    state: RunState = "failed"
    if isinstance(error, StoppedError):
        state = "stopped"
    elif isinstance(error, InterruptedRunError):
        state = "interrupted"
    try:
        _recount(course.tally, lease)
        close_run(job, plan, course, manifest, state, view)
    except (OSError, UniFaceError) as another:
        view.note(f"manifest and report are not up to date: {another}")


def _recount(tally: Tally, lease: Lease) -> None:
    """Chunks may have been committed without their markers reaching the driver; none is from now on."""
    if tally.input is not None and tally.pending:
        lease.fence()
        for marker in read_markers(lease.sink, known=set(tally.chunks) - set(tally.reopened)):
            tally.add(marker)


def _connect(config: JobConfig, view: View) -> Cluster:
    joins = joins_cluster(config.cluster)
    if not joins:
        leave_memory_to_supervisors()
    cluster = connect(config.cluster, 0 if joins else local_cpus(config))
    where = "on this machine" if cluster.local else f"cluster {cluster.address}"
    view.note(f"Ray {where}: {cluster.cpus:g} CPUs, {cluster.gpus:g} GPUs")
    if cluster.cpus < needed_cpus(config):
        view.note(f"the run needs {needed_cpus(config)} CPUs and waits until the cluster has grown that far")
    if config.engine.device == "cuda" and not cluster.gpus:
        view.note("engine.device is cuda, and the run waits until the cluster has grown a GPU")
    return cluster


def _device(config: JobConfig, cluster: Cluster | None) -> str:
    if cluster and config.engine.device == "cuda":
        return "cuda"  # a cluster that scales to zero has no GPUs before it is asked for one
    looks = isinstance(config.task, MeasureConfig)
    if cluster is None and config.engine.device == "auto" and not (config.engine.holds_model or looks):
        return "cpu"  # without torch, which takes seconds to look for GPUs
    return resolve_device(config.engine, cluster.gpus if cluster else local_gpus(), looks)


def _work(
    job: Job,
    plan: Plan,
    pending: list[int],
    course: Course,
    view: View,
    lease: Lease,
    asked: Asked,
    cluster: Cluster | None,
) -> None:
    rows = course.tally.pending_again if job.replay else course.tally.pending
    job = with_replicas(replace(job, chunk_rows=max(1, plan.rows // plan.chunks)), rows or 0, len(pending))
    if cluster is None:
        view.note("starting Ray")
        cluster = _connect(job.config, view)
        if (count := job.config.engine.bounds[1]) > 1:
            view.note(f"{count} replicas of the model, of {replica_threads(job.config, cluster.local)} threads each")
    # Only now: importing ray takes seconds, which a mistake in the settings should not cost.
    from uniface_ray.batch.pipeline import Pipeline
    from uniface_ray.nodes import check_nodes, local_paths

    if not cluster.local:
        config = job.config
        # The address of a `package://` source lies where the package lies on this machine.
        source = config.source.path if config.source.path.startswith("package://") else job.source.address
        given = {"source.path": source, "sink.path": config.sink.path, "model.path": config.model.path}
        check_nodes("uniface_ray.batch.pipeline", local_paths(given, config.storage), view.note)

    view.start(course.tally.input, course.tally.done)
    asked.listen()  # once more: Ray takes SIGTERM for itself when it starts
    with Pipeline(job, plan.index, cluster) as pipeline:
        asked.patient = True
        try:
            markers = pipeline.run(pending)
            follow(markers, pipeline, course, view, lease, asked, job.config.run.progress_every_s)
        finally:
            asked.patient = False
