"""A run's stages one after the other in this process, with an engine that answers at once: real chunks, no Ray."""

from collections.abc import Callable, Iterable, Sequence
from itertools import count
from pathlib import Path
from uuid import uuid4

import pyarrow as pa

from uniface_ray.batch.commit import Marker
from uniface_ray.batch.decoding import decode_chunk
from uniface_ray.batch.follow import Course
from uniface_ray.batch.job import Job
from uniface_ray.batch.manifest import Manifest
from uniface_ray.batch.photos import kept_with_faces
from uniface_ray.batch.plan import Plan
from uniface_ray.batch.replaying import begin
from uniface_ray.batch.reporting import build_report
from uniface_ray.batch.stages import commit_chunk, read_chunk
from uniface_ray.batch.tally import Tally, read_markers
from uniface_ray.batch.work import Replica
from uniface_ray.core.compose import compose
from uniface_ray.core.config import JobConfig
from uniface_ray.core.fenced import Fenced, lease_name
from uniface_ray.core.progress import RunState
from uniface_ray.core.records import Reject
from uniface_ray.core.report import render
from uniface_ray.core.sink_config import ReplaySettings
from uniface_ray.core.storage import Folder
from uniface_ray.data.sources import open_source
from uniface_ray.engine.null import NullEngine
from uniface_ray.engine.protocol import Request, Result, Text
from uniface_ray.engine.uniface import UniFaceEngine
from uniface_ray.tasks.registry import build_task

WEIGHTS = "weights"


class Instant(NullEngine):
    """Answers with what `answer` says of each request."""

    def __init__(self, answer: Callable[[Request], Result | Reject] | None = None) -> None:
        super().__init__(image_size=32)
        self.answer = answer or (lambda request: Text(f"{request.pixels.mean():.1f}", 3))

    def _answer(self, request: Request) -> Result | Reject:
        return self.answer(request)


Worker = Instant | UniFaceEngine


class PlainRun:
    """A sink of a command and what works on it; `chunk_rows` 5."""

    def __init__(
        self, source: Path, sink: Folder, *words: str, engine: Worker | None = None, command: str = "caption"
    ) -> None:
        storage = sink.storage.model_dump(exclude_defaults=True)
        typed = [f"source.path={source}", f"sink.path={sink.uri}", "run.chunk_rows=5", *words]
        self.config: JobConfig = compose(command, [*typed, *(f"storage.{k}={v}" for k, v in storage.items())])
        self.sink = sink
        token = next(one for one in count(1) if sink.create(lease_name(one), uuid4().bytes))
        fenced = Fenced(sink.uri, sink.storage, token)
        self.command = command
        self.engine = engine or Instant()
        wanted = build_task(self.config).wanted
        opened = open_source(self.config.source, self.config.storage, self.config.decode, wanted)
        self.manifest = Manifest.open(fenced, self.config, WEIGHTS, "float32", token)
        kept = kept_with_faces(opened.kept(), self.config.faces)
        self.job = Job(self.config, opened, kept, 32, "cpu", "float32", fenced)
        self.plan = Plan.load(fenced)
        self.plan.extend(opened, self.config.run.chunk_rows, self.config.run.limit)
        self.tally = Tally(input=self.plan.rows)
        self.manifest.write("running", self.tally)

    def answered(self, chunk: int) -> bytes:
        """A chunk, ready to be committed."""
        decoded = decode_chunk(self.job, pa.py_buffer(read_chunk(self.job, self.plan.index, chunk)))
        return Replica(self.job, self.engine).answer(pa.py_buffer(decoded))

    def commit(self, chunk: int) -> Marker:
        """Do a chunk."""
        return commit_chunk(self.job, self.plan.index, pa.py_buffer(self.answered(chunk)))

    def pending(self) -> list[int]:
        """Chunks without a marker."""
        done = {marker.chunk for marker in read_markers(self.sink)}
        return [chunk for chunk in range(self.plan.chunks) if chunk not in done]

    def replay(self, *kinds: str, limit: int | None = None) -> "PlainRun":
        """Choose rejects to do again; `finish(chunks=run.tally.reopened)` does them."""
        self.tally = Tally()
        settings = ReplaySettings(kinds=kinds, limit=limit)
        self.job, self.plan = begin(self.job, self.manifest, self.tally, settings)
        return self

    def finish(self, state: RunState = "done", chunks: Iterable[int] | None = None) -> "PlainRun":
        """Do chunks (None: all that are pending) and end the run."""
        for chunk in self.pending() if chunks is None else list(chunks):
            self.commit(chunk)
        self.tally = Tally(input=self.plan.rows)
        for marker in read_markers(self.sink):
            self.tally.add(marker)
        self.manifest.write(state, self.tally)
        return self

    def page(self, state: RunState = "done") -> str:
        """report.html of the run."""
        return render(build_report(self.job, self.plan, Course(self.tally), self.manifest, state, 1.0))

    def again(self, *words: str, engine: Worker | None = None) -> "PlainRun":
        """The same run once more, in another process so to say."""
        self.manifest.sink = self.sink  # as this run left it: by now another may have the lease
        self.manifest.write("interrupted", self.tally)
        return PlainRun(
            Path(self.config.source.path), self.sink, *words, engine=engine or self.engine, command=self.command
        )


def faces(folder: Path, portraits: Sequence[bytes], bad: Sequence[int] = ()) -> Path:
    """The portraits as files of a folder; those of `bad` are no images."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(portraits):
        (folder / f"{number:02d}.jpg").write_bytes(b"no image" if number in bad else data)
    return folder
