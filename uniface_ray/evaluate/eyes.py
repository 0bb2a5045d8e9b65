"""An engine with eyes: beside what its model answers, judges and a vision model look at images, many at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers

from uniface_ray.core.config import StorageConfig
from uniface_ray.core.records import Pixels
from uniface_ray.core.task_config import ENCODERS, MeasureConfig
from uniface_ray.engine.lane import Lane
from uniface_ray.engine.protocol import Drawing, Engine, Look, Outcome, Request, Seen, Text, run_all
from uniface_ray.evaluate.vision import Judge, Vision, load_judge, load_vision
from uniface_ray.model.pixels import to_model_range

_TOGETHER = 64


@dataclass(slots=True, eq=False)
class _LookSequence:
    """An image, and what was seen in it once it is `done`."""

    id: int
    pixels: Pixels
    seen: Seen | None = None

    @property
    def done(self) -> bool:
        return self.seen is not None

    @property
    def origin(self) -> int:
        return self.id


class _LookRunner:
    """All that runs is looked at in one step; see `engine.lane.Runner`."""

    def __init__(self, judges: Sequence[Judge], vision: Vision | None, device: str) -> None:
        self.judges, self.vision, self.device = judges, vision, device

    def order(self, one: _LookSequence) -> Any:
        return one.id

    def enter(self, entering: Sequence[_LookSequence], first: int) -> None:
        pass

    def advance(self, running: Sequence[_LookSequence], first: int) -> None:
        """Look at all of `running`."""
        pixels = to_model_range(torch.from_numpy(np.stack([one.pixels for one in running])).to(self.device))
        chances = {name: found for judge in self.judges for name, found in judge(pixels).items()}
        features = self.vision(pixels) if self.vision else None
        for index, one in enumerate(running):
            told = {name: {value: float(of[index]) for value, of in found.items()} for name, found in chances.items()}
            one.seen = Seen(told, None if features is None else features[index])

    def collect(self) -> None:
        pass

    def keep(self, slots: Sequence[int]) -> None:
        pass


class Eyes:
    """See `engine.protocol.Engine`: `Look` is answered here, all else by the engine within."""

    def __init__(self, engine: Engine, judges: Sequence[Judge], vision: Vision | None, device: str) -> None:
        self.engine = engine
        self.lane: Lane[_LookSequence] = Lane(_LookRunner(judges, vision, device), _TOGETHER, _TOGETHER)
        self._next = 0
        self._inner: dict[int, int] = {}  # our number by the inner engine's

    @property
    def image_size(self) -> int:
        return self.engine.image_size

    def submit(self, request: Request) -> int:
        self._next += 1
        if isinstance(request, Look):
            self.lane.scheduler.add(_LookSequence(self._next, request.pixels))
        else:
            self._inner[self.engine.submit(request)] = self._next
        return self._next

    def step(self) -> list[tuple[int, Outcome]]:
        ended: list[tuple[int, Outcome]] = []
        for one, reject in self.lane.step() if len(self.lane) else ():
            outcome = reject or one.seen
            assert outcome
            ended.append((one.id, outcome))
        inner = self.engine.step() if self._inner else []
        return ended + [(self._inner.pop(number), outcome) for number, outcome in inner]

    def progress(self) -> list[tuple[int, Text | Drawing]]:
        return [(self._inner[number], so_far) for number, so_far in self.engine.progress()]

    def cancel(self, number: int) -> None:
        self.lane.drop(lambda one: one.id == number)
        for inner, ours in list(self._inner.items()):
            if ours == number:
                self.engine.cancel(inner)
                del self._inner[inner]

    def run(self, requests: Sequence[Request]) -> list[Outcome]:
        return run_all(self, requests)


def with_eyes(engine: Engine, config: MeasureConfig, storage: StorageConfig, device: str) -> Engine:
    """The engine, with the judges and the vision model that a measurement asks for."""
    transformers.logging.disable_progress_bar()  # a replica has no terminal
    judges = [load_judge(path, storage, device) for path in config.judges]
    outside = config.features is not None and config.features not in ENCODERS
    vision = load_vision(str(config.features), storage, device) if outside else None
    return Eyes(engine, judges, vision, device) if judges or vision else engine


__all__ = ["Eyes", "with_eyes"]
