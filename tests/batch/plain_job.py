"""A run from settings to manifest in this process: the driver's work, without Ray."""

from itertools import count
from uuid import uuid4

import pyarrow as pa

from uniface_ray.batch.decoding import decode_chunk
from uniface_ray.batch.driver import RunSummary
from uniface_ray.batch.job import Job
from uniface_ray.batch.manifest import Manifest
from uniface_ray.batch.plan import Plan
from uniface_ray.batch.preflight import check
from uniface_ray.batch.stages import commit_chunk, read_chunk
from uniface_ray.batch.tally import Tally, read_markers
from uniface_ray.batch.work import replica
from uniface_ray.core.config import JobConfig
from uniface_ray.core.fenced import Fenced, lease_name


def run_here(config: JobConfig) -> RunSummary:
    """See `driver.run`."""
    checked = check(config)
    sink = checked.sink
    token = next(one for one in count(1) if sink.create(lease_name(one), uuid4().bytes))
    fenced = Fenced(sink.uri, sink.storage, token)
    manifest = Manifest.open(fenced, config, checked.model.fingerprint, "float32", token)
    job = Job(config, checked.source, checked.kept, checked.model.image_size, "cpu", "float32", fenced)
    plan = Plan.load(fenced)
    plan.extend(checked.source, config.run.chunk_rows, config.run.limit)
    tally = Tally(input=plan.rows)
    for marker in read_markers(sink):
        tally.add(marker)
    pending = [chunk for chunk in range(plan.chunks) if chunk not in tally.chunks]
    answer = replica(job, None) if pending else None
    for chunk in pending:
        assert answer
        decoded = decode_chunk(job, pa.py_buffer(read_chunk(job, plan.index, chunk)))
        tally.add(commit_chunk(job, plan.index, pa.py_buffer(answer(pa.py_buffer(decoded), lambda: None))))
    manifest.write("done", tally)
    return RunSummary("done", tally.counts(), sink.uri, exit_code=0)
