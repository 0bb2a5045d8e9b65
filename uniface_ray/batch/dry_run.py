"""`run.dry_run=true`: what a run would do, from its plan and a few rows of the source."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from uniface_ray.batch.decoding import decode_row
from uniface_ray.batch.job import Job
from uniface_ray.batch.plan import Plan
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
    for piece in slices:
        for row in job.source.read([replace(piece, count=1)]):
            yield _sample(job, row)


def _sample(job: Job, row: Row) -> str:
    data = row.data
    row.fields = {} if row.reject else job.source.wanted.given | row.fields
    decode_row(row, job.config.decode, job.image_size)
    name = row.ref.uri.rpartition("/")[2]
    if row.reject:
        return f"{name}: would be rejected as {row.reject.kind}: {row.reject.message}"
    parts = [f"{len(data):,} bytes"] if data else []
    values = {**row.fields, **row.kept}.items()
    parts += [f"{key}={value!r:.60}" for key, value in values if not isinstance(value, bytes)]
    return f"{name}: {', '.join(parts) or 'fine'}"
