"""`run.dry_run=true`: what a run would do, from its plan and a few rows of the source."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from uniface_ray.batch.isolation import decode_alone
from uniface_ray.batch.job import Job
from uniface_ray.batch.plan import Plan
from uniface_ray.batch.stages import complete
from uniface_ray.batch.tally import Tally
from uniface_ray.core.progress import clock
from uniface_ray.core.records import Row
from uniface_ray.data.slices import Slice

_SAMPLES = 5


def told(job: Job, plan: Plan, tally: Tally, chunks: int, rows_per_s: float | None) -> list[tuple[str, str]]:
    """(label, text) for `View.finish`.

    Args:
        job: of the run.
        plan: of the run.
        tally: what of it is done.
        chunks: that are to be done.
        rows_per_s: of the last attempt on this sink; None where there was none.
    """
    if not plan.rows:
        return [("dry run", f"source.shard is {job.config.source.shard}, and this share has no rows")]
    pending = tally.pending or 0
    picked = sorted({round(index * (plan.chunks - 1) / (_SAMPLES - 1)) for index in range(_SAMPLES)})
    slices = {chunk: plan.index.slices(chunk) for chunk in picked}
    rows_seen = sum(one.count for pieces in slices.values() for one in pieces)
    size = sum(one.bytes for pieces in slices.values() for one in pieces) / rows_seen * pending
    volume = f", about {size / 1e9:,.2f} GB of images" if size else ""
    if rows_per_s:
        guess = f"{clock(pending / rows_per_s)} at the pace of the last attempt"
    else:
        guess = "how long it takes, run.preflight=true measures"
    return [
        ("dry run", f"{pending:,} of {plan.rows:,} rows, in {chunks:,} chunks, are to be done{volume}"),
        *(("sample", text) for text in _samples(job, [pieces[0] for pieces in slices.values()])),
        ("estimate", guess),
    ]


def _samples(job: Job, slices: Sequence[Slice]) -> Iterator[str]:
    rows = list(job.source.read([replace(piece, count=1) for piece in slices]))
    complete(job, rows)
    decoded = decode_alone(job, rows).rows
    for row in rows:
        own = [one for one in decoded if row.ref.row_id in (one.parent, one.ref.row_id)]
        yield _sample(row, own, job.config.faces.enabled)


def _sample(row: Row, decoded: Sequence[Row], faces: bool) -> str:
    name = row.ref.uri.rpartition("/")[2]
    if reject := next((one.reject for one in decoded if one.reject), None):
        return f"{name}: would be rejected as {reject.kind}: {reject.message}"
    parts = [f"{len(row.data):,} bytes"] if row.data else []
    parts += [f"{len(decoded)} faces"] if faces else []
    values = {**row.fields, **row.kept}.items()
    parts += [f"{key}={value!r:.60}" for key, value in values if not isinstance(value, bytes)]
    return f"{name}: {', '.join(parts) or 'fine'}"
