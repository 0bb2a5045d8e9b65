"""The supervisors of a Ray worker: what decodes and what answers, each in a child process of its own."""

import importlib
import pickle

from uniface_ray.batch.chunk import Chunk, pack_rows, unpack_rows
from uniface_ray.batch.job import Job
from uniface_ray.batch.supervisor import Supervisor
from uniface_ray.core.child import Handler
from uniface_ray.core.records import Row

_DECODER = "uniface_ray.batch.decoding:decoder"
_REPLICA = "uniface_ray.batch.work:replica"
# Ray gives a worker tasks of any stage: one that decoded once must not keep a process with torch for good.
_IDLE_S = 60.0

_decoders: dict[bytes, Supervisor] = {}


def supervised_decoder(job: Job) -> Supervisor:
    """The worker's decoder; one for all tasks of a run that Ray gives to the worker. That of another run ends."""
    key = pickle.dumps(job)
    if key not in _decoders:
        while _decoders:
            _decoders.popitem()[1].close()
        timeout_s = job.config.decode.timeout_s
        _decoders[key] = Supervisor("decode", _make, (_DECODER, job), timeout_s, tells=True, idle_s=_IDLE_S)
    return _decoders[key]


def decode_alone(job: Job, rows: list[Row]) -> Chunk:
    """A few rows, decoded as the run does it, in a child process that ends again."""
    supervisor = supervised_decoder(job)
    try:
        payload = pack_rows(Chunk(0, rows), job.kept, job.source.wanted.schema)
        return unpack_rows(supervisor.answer(payload), job.image_size)
    finally:
        supervisor.close()


def supervised_replica(job: Job, threads: int | None) -> Supervisor:
    """A replica of the model, up and ready, which takes `job.calls` chunks at a time.

    Raises:
        UniFaceError: it cannot start.
    """
    supervisor = Supervisor("engine", _make, (_REPLICA, job, threads), job.config.engine.timeout_s, calls=job.calls)
    supervisor.start()
    return supervisor


def _make(name: str, *arguments: object) -> Handler:
    # Imported in the child only.
    module, _, factory = name.partition(":")
    handler: Handler = getattr(importlib.import_module(module), factory)(*arguments)
    return handler
