"""`run.preflight=true`: one replica on some rows of the source, in this process: how fast, how large, which sizes.

The rows are decoded as in the run, in a child process, and faces found where they are looked for.
"""

import resource
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from uniface_ray.batch.chunking import limited, slices_of
from uniface_ray.batch.isolation import decode_alone
from uniface_ray.batch.job import Job
from uniface_ray.batch.needs import replica_threads
from uniface_ray.batch.preflight import Checked
from uniface_ray.batch.replicas import with_replicas
from uniface_ray.batch.stages import complete
from uniface_ray.cluster import joins_cluster
from uniface_ray.core.config import JobConfig
from uniface_ray.core.costs import Costs
from uniface_ray.core.errors import UserError
from uniface_ray.core.fenced import Fenced
from uniface_ray.core.memory import available_bytes
from uniface_ray.core.progress import clock, rate_text
from uniface_ray.core.records import Row
from uniface_ray.engine.build import build_engine
from uniface_ray.tasks.answer import answer_rows
from uniface_ray.tasks.base import Task
from uniface_ray.tasks.registry import build_task

_ROWS = 256  # of the source that are tried
_LONGEST_S = 60.0  # a batch that takes longer is the last one that is tried
_WORTH = 1.05  # a larger batch must be this much faster to be proposed
_CHUNK_S = 90.0  # of one replica's work: what a killed run repeats at most


@dataclass(frozen=True, slots=True)
class Measured:
    """One batch size.

    Attributes:
        batch_size: rows that go through the model together.
        rows_per_s: of one replica, without reading and decoding.
        memory_mib: highest so far: of the device on a GPU, of the process (weights and libraries included) on a CPU.
    """

    batch_size: int
    rows_per_s: float
    memory_mib: int


@dataclass(frozen=True, slots=True)
class Trial:
    """What was measured.

    Attributes:
        tried: rows of the source.
        rejected: of them, those that could not be read or decoded.
        faces: found in the others, where the run looks for faces.
        read_s: seconds to read one row.
        decode_s: seconds to decode one row.
        sizes: in order of batch sizes.
        chunk_rows: proposed.
        replicas: that a long run has here, at most.
    """

    tried: int
    rejected: int
    read_s: float
    decode_s: float
    sizes: list[Measured]
    chunk_rows: int
    replicas: int = 1
    faces: int | None = None

    @property
    def best(self) -> Measured:
        """The smallest batch that no larger one beats by much."""
        best = self.sizes[0]
        for one in self.sizes[1:]:
            if one.rows_per_s > best.rows_per_s * _WORTH:
                best = one
        return best

    def lines(self, price_per_replica_hour: float | None) -> list[tuple[str, str]]:
        """(label, text) for `view.aligned`."""
        best = self.best
        bad = f", {self.rejected:,} of them rejected" if self.rejected else ""
        rows = [
            ("sample", f"the first {self.tried:,} rows of the source{bad}"),
            ("read", f"{self.read_s * 1e3:.1f} ms a row"),
            ("decode", f"{self.decode_s * 1e3:.1f} ms a row"),
        ]
        if self.faces is not None:
            rows.append(("faces", f"{self.faces:,} in them; of what follows, a row is a face"))
        for one in self.sizes:
            mark = "  <- proposed" if one is best else ""
            rows.append((f"batch {one.batch_size}", f"{rate_text(one.rows_per_s)}, {one.memory_mib:,} MiB{mark}"))
        hours = 1e6 / best.rows_per_s / 3600
        cost = Costs(hours, 0.0, 1_000_000, None if price_per_replica_hour is None else hours * price_per_replica_hour)
        price = "" if cost.price is None else f", price {cost.price:,.2f}"
        more = f"; a long run has {self.replicas}, side by side" if self.replicas > 1 else ""
        rows.append(("estimate", f"a million rows take one replica {clock(hours * 3600)}{price}{more}"))
        rows.append(("propose", f"engine.batch_size={best.batch_size} run.chunk_rows={self.chunk_rows}"))
        return rows


def try_out(config: JobConfig, checked: Checked, device: str, dtype: str, rows: int = _ROWS) -> Trial:
    """Measure one replica. Writes nothing.

    Raises:
        UserError: no row of the sample can be answered.
    """
    began_s = time.perf_counter()
    source = checked.source
    slices = limited(slices_of(source, source.files(), min(rows, config.run.chunk_rows)), rows)
    found: list[Row] = list(islice(source.read(list(slices)), rows))
    if not found and config.source.shard:
        raise UserError(f"source.shard is {config.source.shard}, and this share has no rows to try: give another")
    read_s = (time.perf_counter() - began_s) / max(1, len(found))
    sink = Fenced(checked.sink.uri, config.storage, 0)  # nothing is written to it
    job = Job(config, source, checked.kept, checked.model.image_size, device, dtype, sink)
    long = with_replicas(job, sys.maxsize, sys.maxsize).config
    complete(job, found)
    decoded = decode_alone(job, found)
    decode_s = decoded.seconds["decode"] / max(1, len(found))
    good = [row for row in decoded.rows if row.reject is None]
    rejects = [row.reject for row in decoded.rows if row.reject]
    if not good:
        why = f": {rejects[0].message}" if rejects else ": no face was found in them" if config.faces.enabled else ""
        raise UserError(f"none of the first {len(found)} rows of {config.source.path!r} can be read{why}")
    threads = replica_threads(long, not joins_cluster(config.cluster))
    sizes = list(_measured(config, build_task(config), good, device, dtype, threads))
    faces = len(good) if config.faces.enabled else None
    trial = Trial(len(found), len(rejects), read_s, decode_s, sizes, 0, long.engine.bounds[1], faces)
    batch = trial.best.batch_size
    chunk = max(1, round(trial.best.rows_per_s * _CHUNK_S / batch)) * batch
    return replace(trial, chunk_rows=min(chunk, max(batch, 4096)))


def _measured(
    config: JobConfig, task: Task, rows: Sequence[Row], device: str, dtype: str, threads: int | None
) -> Iterator[Measured]:
    """Batch sizes 1, 2, 4, ... until one is slow, brings little, or the next might not fit."""
    size, before, slower = 1, 0.0, 0
    while size <= max(config.engine.batch_size, 256):
        with_size = config.model_copy(update={"engine": config.engine.model_copy(update={"batch_size": size})})
        engine = build_engine(with_size, device, dtype, threads)
        answer_rows(task, engine, rows[:1], config.run.seed)  # kernels and caches are made at first use
        asked = _cycled(rows, 2 * size)
        began_s = time.perf_counter()
        answer_rows(task, engine, asked, config.run.seed)
        took_s = time.perf_counter() - began_s
        rate = len(asked) / max(took_s, 1e-9)
        yield Measured(size, rate, _peak_mib(device))
        del engine
        slower = slower + 1 if rate < before * _WORTH else 0
        before = max(before, rate)
        if slower == 2 or took_s > _LONGEST_S or not _has_room(device):
            return
        size *= 2


def _cycled(rows: Sequence[Row], count: int) -> list[Row]:
    """So many rows: the sample, again and again."""
    return [rows[number % len(rows)] for number in range(count)]


def _peak_mib(device: str) -> int:
    if device == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated() / 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _has_room(device: str) -> bool:
    """Whether as much again as is used is free."""
    if device == "cuda":
        import torch

        free, total = torch.cuda.mem_get_info()
        return bool(free > total - free)
    free_bytes = available_bytes()  # where the system does not tell, only time bounds the trial
    return free_bytes is None or free_bytes > _peak_mib(device) * 2**20
