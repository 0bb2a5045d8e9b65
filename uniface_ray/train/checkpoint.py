"""Checkpoints in the sink: written in the background, whole or not at all, the newest and the best kept.

    checkpoints/step-00000100.weights-000.safetensors    what learns; several files where it is large
    checkpoints/step-00000100.optimizer-000.safetensors  the optimizer's averages, and `ema-...` where there is one
    checkpoints/step-00000100.state.json                 last: step, places in the data, sizes and checksums

They hold whole tensors, whatever number of workers wrote them, so any number of workers can go on with them.
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from uniface_ray.core.errors import StoppedError, UserError
from uniface_ray.core.storage import Folder

FOLDER = "checkpoints"
_STATE = re.compile(FOLDER + r"/(step-\d{8,})\.state\.json")
_FILE_BYTES = 2**28
_Tensors = dict[str, dict[str, Tensor]]


@dataclass(frozen=True, slots=True)
class State:
    """All that a training is, after some step.

    Attributes:
        step: steps that are behind, over all stages.
        stage: number of the stage that `optimizer` is of.
        places: of the streams, as `stream.Place` has them.
        tensors: `weights`, `optimizer`, `ema`: whole tensors by name; on the first worker only.
        facts: whatever else must go on: sums since the last line, tokens, time.
        score: held-out loss, where it was measured at this step.
        data: `Shards.fingerprint` of the files that `places` are places of.
    """

    step: int
    stage: int
    places: dict[str, dict[str, int]]
    tensors: _Tensors = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    score: float | None = None
    data: str = ""


class Checkpoints:
    """Of one run, seen from its first worker.

    Args:
        sink: of the run.
        keep: how many of the newest.
        best: also keep the one of the lowest score.
    """

    def __init__(self, sink: Folder, keep: int, best: bool) -> None:
        self._sink, self._keep, self._best = sink, keep, best
        self._thread: threading.Thread | None = None
        self.error: Exception | None = None
        """Why the last one could not be written."""
        self.last = 0
        """Step of the last that is whole; 0 where there is none."""
        self.damaged: set[str] = set()
        """Names of those that `load` has passed over."""

    def save(self, state: State) -> None:
        """Write in the background; waits for the one before."""
        self.wait()
        self._thread = threading.Thread(target=self._try, args=(state,), name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Until what was saved is in the sink, or has failed."""
        if self._thread:
            self._thread.join()
            self._thread = None

    def check(self) -> None:
        """Wait, and raise where the last one could not be written.

        Raises:
            StoppedError: the sink cannot be written; what is in it is whole.
        """
        if failure := self.failure():
            raise failure

    def failure(self) -> Exception | None:
        """What `check` raises, None where it does not; waits, too."""
        self.wait()
        if not isinstance(self.error, OSError):
            return self.error
        stopped = StoppedError(
            f"sink.path is {self._sink.uri!r}, which cannot be written any more ({self.error}); the checkpoints in "
            f"it are whole, the last is of step {self.last}: once it can, the same command goes on from there"
        )
        stopped.__cause__ = self.error
        return stopped

    def names(self) -> list[str]:
        """Those that were written to the end, oldest first; what has become of them since, `load` finds out."""
        found = (_STATE.fullmatch(entry.name) for entry in self._sink.walk(FOLDER))
        return sorted(one[1] for one in found if one)

    def load(self) -> State | None:
        """The newest that can be read, None where there is none.

        Raises:
            UserError: there are some, all of them damaged.
        """
        names = self.names()
        for name in reversed(names):
            state = self._read(name)
            if state:
                self.last = state.step
                return state
            self.damaged.add(name)
        if names:
            raise UserError(
                f"sink.path is {self._sink.uri!r}, whose {FOLDER}/ has {', '.join(names)}, none of which can be read "
                "(files are lost or changed): put them back, or use another sink.path to begin anew"
            )
        return None

    def best(self) -> State | None:
        """That of the lowest score which can be read; None where none has a score."""
        scores = self._scores(self.names())
        found = (self._read(name) for name in sorted(scores, key=lambda name: scores[name]))
        return next((state for state in found if state), None)

    def _read(self, name: str) -> State | None:
        """None for a damaged one."""
        document = self._document(name)
        if not document:
            return None
        tensors: _Tensors = {}
        for file, expected in document.pop("files").items():
            try:
                data = self._sink.read(f"{FOLDER}/{name}.{file}")
            except FileNotFoundError:
                return None
            if hashlib.sha256(data).hexdigest() != expected["sha256"]:
                return None
            tensors.setdefault(file.rpartition("-")[0], {}).update(load(data))
        return State(**document, tensors=tensors)

    def _document(self, name: str) -> dict[str, Any]:
        """Empty for a damaged one."""
        try:
            return dict(json.loads(self._sink.read(f"{FOLDER}/{name}.state.json")))
        except ValueError:
            return {}

    def _try(self, state: State) -> None:
        try:
            self._write(state)
            self.last = state.step
            self.damaged.discard(f"step-{state.step:08d}")
            self._prune()
        except Exception as error:
            self.error = error

    def _write(self, state: State) -> None:
        stem = f"{FOLDER}/step-{state.step:08d}"
        files = {}
        for group, tensors in state.tensors.items():
            for number, some in enumerate(_in_files(tensors)):
                name, data = f"{group}-{number:03d}.safetensors", save(some)
                self._sink.write(f"{stem}.{name}", data)
                files[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        document = {name: getattr(state, name) for name in ("step", "stage", "places", "facts", "score", "data")}
        self._sink.write(f"{stem}.state.json", json.dumps({**document, "files": files}, indent=1).encode())

    def _prune(self) -> None:
        """Remove what is neither new nor best, and what dead runs have left half written."""
        names = [name for name in self.names() if name not in self.damaged]
        kept = {*names[-self._keep :]}
        if self._best and (scores := self._scores(names)):
            kept.add(min(scores, key=lambda name: scores[name]))
        for entry in [*self._sink.walk(FOLDER)]:
            name = entry.name.removeprefix(f"{FOLDER}/").partition(".")[0]
            if name not in kept:
                self._sink.delete(entry.name)

    def _scores(self, names: list[str]) -> dict[str, float]:
        """Of those that have one."""
        scores = {name: self._document(name).get("score") for name in names}
        return {name: score for name, score in scores.items() if score is not None}


def _in_files(tensors: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    some: dict[str, Tensor] = {}
    size = 0
    for name, tensor in tensors.items():
        if some and size + tensor.nbytes > _FILE_BYTES:
            yield some
            some, size = {}, 0
        some[name] = tensor
        size += tensor.nbytes
    if some:
        yield some
