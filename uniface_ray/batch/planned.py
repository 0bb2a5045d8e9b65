"""The plan at the start of a run: brought up to date with the source, and what of it is done."""

from uniface_ray.batch.job import Job
from uniface_ray.batch.manifest import Manifest
from uniface_ray.batch.plan import Plan
from uniface_ray.batch.replicas import most_replicas
from uniface_ray.batch.spreading import rows_of_a_chunk
from uniface_ray.batch.tally import Tally, read_markers
from uniface_ray.core.errors import UserError
from uniface_ray.core.view import View
from uniface_ray.tasks.registry import build_task

# Decoded, a chunk is 3 bytes a pixel of the model's size: this many bytes are enough to move at a time.
_CHUNK_PIXELS = 128 * 2**20


def planned(job: Job, manifest: Manifest, tally: Tally, view: View) -> Plan:
    """List the source; the manifest tells what was found there, `tally` counts what is done.

    Raises:
        UserError: the source has files, but no rows; a share of one (`source.shard`) may have none.
        StoppedError: the storage failed half-way.
    """
    config, sink = job.config, manifest.sink
    view.note(f"listing {config.source.path}")
    plan = Plan.load(sink)
    # Before the listing: a run that ends in it must not tell of less than what is done.
    tally.input = plan.rows if plan.generations else None
    for marker in read_markers(sink):
        tally.add(marker)
    old_rows = plan.rows
    chunk_rows, limit = _most_rows(job), config.run.limit
    if not plan.rows:
        engine = config.engine
        chunk_rows = rows_of_a_chunk(job.source, chunk_rows, most_replicas(job), engine.batch_size, limit)
    listing = plan.extend(job.source, chunk_rows, limit)
    if not plan.rows and not config.source.shard:
        raise UserError(f"source.path is {config.source.path!r}, whose files have no rows: give one that has")
    tally.input = plan.rows
    manifest.source = {
        "uri": config.source.path,
        "format": job.source.format,
        "files": sum(generation.files for generation in plan.generations),
        "fingerprint": plan.fingerprint,
        "vanished_files": listing.vanished,
        "changed_files": listing.changed,
        "changed_examples": list(listing.changed_examples),
        "passed_over": dict(listing.passed_over),
    }
    new = f", {plan.rows - old_rows:,} of them new" if old_rows and listing.added else ""
    view.note(f"plan: {plan.rows:,} rows in {plan.chunks:,} chunks{new}")
    for remark in remarks(manifest):
        view.note(remark)
    return plan


def remarks(manifest: Manifest) -> list[str]:
    """What of the source is not in the output as it is now; for the start of a run, and once more for its end."""
    source, told = manifest.source, []
    if passed_over := source.get("passed_over"):
        endings = ", ".join(f"{count:,} {ending}" for ending, count in passed_over.items())
        told.append(
            f"passed over {sum(passed_over.values()):,} files whose names do not end as those of "
            f"source.format={source['format']} do: {endings}"
        )
    if vanished := source.get("vanished_files"):
        told.append(f"{vanished:,} planned files are gone from the source")
    if changed := source.get("changed_files"):
        examples = ", ".join(source.get("changed_examples", ["their names are not kept"]))
        mend = "a table under another name is a new one, and all its rows are done"
        if source["format"] == "images":
            mend = "`uniface replay-rejects` reads those of them again that were rejected"
        told.append(
            f"{changed:,} planned files have another size than when they were listed ({examples}): what was made of "
            f"them stays; {mend}"
        )
    return told


def _most_rows(job: Job) -> int:
    """Of a chunk."""
    config = job.config
    if config.engine.kind == "null" and not job.source.wanted.image:
        return config.run.chunk_rows  # no pixels travel
    images = build_task(config).images_out * (config.faces.max_faces if config.faces.enabled else 1)
    return min(config.run.chunk_rows, max(1, _CHUNK_PIXELS // (3 * job.image_size**2 * images)))
