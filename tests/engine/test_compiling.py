"""A compiled transformer and recorded steps: what they answer and draw, and that new sizes are not compiled anew."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.engine.test_text import BOTH, answers, disagreements, sequences
from uniface_ray.core.errors import UniFaceError
from uniface_ray.engine.compiling import compile_transformer, warm_up
from uniface_ray.engine.lane import Lane
from uniface_ray.engine.protocol import Ask, Draw, Drawing, Outcome, Request, Score
from uniface_ray.engine.recorded import RecordedSteps
from uniface_ray.engine.text import TextRunner
from uniface_ray.engine.uniface import UniFaceEngine
from uniface_ray.model import UniFaceForConditionalGeneration


@pytest.fixture
def _forget_graphs() -> Iterator[None]:
    yield
    torch.compiler.reset()


class Repeated(RecordedSteps):
    """As on a GPU, but that a step is computed again where a graph would be replayed."""

    def _record(self, rows: int) -> tuple[Callable[[], Any], Tensor]:
        logits = self._step(rows)
        return lambda: logits.copy_(self._step(rows)), logits


@BOTH
@pytest.mark.parametrize(("slots", "most_entering"), [(1, 1), (6, 2), (64, 64)])
def test_recorded_steps_give_the_tokens_of_the_plain_loop(
    model: UniFaceForConditionalGeneration, slots: int, most_entering: int
) -> None:
    asked = sequences(model)
    runner = TextRunner(model, slots)
    recorded = runner.recorded = Repeated(runner._step, slots, model.device)
    lane = Lane(runner, slots, most_entering)
    for one in asked:
        lane.scheduler.add(one)
    with torch.inference_mode():
        while len(lane):
            assert not any(reject for _, reject in lane.step())
    assert disagreements(model, asked) == 0
    assert recorded._graphs.keys() <= {1, 2, 4, 6, 8, 16, 32, 64}


def test_what_was_recorded_before_slots_moved_is_not_replayed(model: UniFaceForConditionalGeneration) -> None:
    runner = TextRunner(model, 2)
    runner.cache.reserve(64)
    steps = Repeated(runner._step, 2, model.device)
    ids, positions = torch.ones(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
    with torch.inference_mode():
        recorded = []
        for moves in (0, 0, 1):
            steps(ids, positions, 64, moves)
            recorded.append(steps._graphs[1])
    assert recorded[0] is recorded[1] is not recorded[2]


def test_recorded_steps_leave_alone_who_runs_beside_them(model: UniFaceForConditionalGeneration) -> None:
    """Where memory takes three of six rows at a time, the fourth slot is computed beside the first three."""
    asked = sequences(model)
    runner = TextRunner(model, 6)
    runner.recorded = Repeated(runner._step, 6, model.device)
    lane = Lane(runner, 6, 6)
    lane._advance.most = 3
    for one in asked:
        lane.scheduler.add(one)
    with torch.inference_mode():
        while len(lane):
            assert not any(reject for _, reject in lane.step())
    assert [one.tokens for one in asked] == answers(model, sequences(model), 6)


def test_what_cannot_be_compiled_is_told_before_the_first_request(folder: Path) -> None:
    engine = UniFaceEngine(folder)
    engine.model.showo.model.forward = lambda **_: 1 / 0  # as a compiler that fails would
    with pytest.raises(UniFaceError, match=r"cannot be compiled here: .*; use engine\.compile=false"):
        warm_up(engine, 32, [Ask])


def requests(size: int) -> list[Request]:
    """Of every kind, of many lengths."""
    pixels = np.random.default_rng(1).integers(0, 256, (9, 3, size, size), dtype=np.uint8)
    asks = [Ask(one, "q" * place, 3 + 2 * place, place) for place, one in enumerate(pixels)]
    # One after the other, so that all mixtures of rows with guidance and without come up.
    intervals = [(0.0, 1.0), (0.4, 0.8), (0.5, 1.0)]
    draws = [
        Draw("q" * place, place, 2 + place, place % 4, 1.0, "cosine", guidance_interval=intervals[place % 3])
        for place in range(12)
    ]
    return [*asks, *draws, *(Score(one, "q") for one in pixels[:5])]


def told(outcomes: list[Outcome]) -> list[Any]:
    """With pixels that can be compared."""
    return [one.pixels.tolist() if isinstance(one, Drawing) else one for one in outcomes]


def without_compiling(engine: UniFaceEngine, some: list[Request]) -> list[Outcome]:
    """Outcomes; what would have to be compiled fails."""
    with torch._dynamo.config.patch(error_on_recompile=True):
        return engine.run(some)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("_forget_graphs")
@BOTH
def test_compiled_code_gives_the_tokens_of_the_plain_loop(model: UniFaceForConditionalGeneration, folder: Path) -> None:
    compiled = UniFaceForConditionalGeneration.from_pretrained(folder).eval()
    compile_transformer(compiled)
    asked = sequences(model)
    answers(compiled, asked, 5, 2)
    assert disagreements(model, asked) == 0


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("_forget_graphs")
@BOTH
@pytest.mark.parametrize("batch_size", [1, 2, 6])
def test_no_size_of_a_batch_is_compiled_anew(folder: Path, batch_size: int) -> None:
    plain = UniFaceEngine(folder, batch_size=batch_size).run(requests(32))
    engine = UniFaceEngine(folder, batch_size=batch_size)
    compile_transformer(engine.model, backend="eager")
    warm_up(engine, 32, (Ask, Draw, Score))
    engine._texts._advance.most = engine._images._advance.most = 4  # as where memory ends
    with ThreadPoolExecutor(1) as thread:  # as a replica does
        assert told(thread.submit(without_compiling, engine, requests(32)).result()) == told(plain)
