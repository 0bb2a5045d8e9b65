"""The engine that does nothing keeps to what engines promise."""

import numpy as np

from uniface_ray.engine.null import NullEngine
from uniface_ray.engine.protocol import Ask, Draw, Drawing, Encode, Encoded, Likelihood, Score, Text, run_all

PIXELS = np.zeros((3, 32, 32), np.uint8)
REQUESTS = [Ask(PIXELS, "?", 5), Draw("a face", 1, 5, 0.0, 1.0, "cosine"), Score(PIXELS, "a face"), Encode(PIXELS)]


def test_every_kind_of_request_has_its_kind_of_result() -> None:
    engine = NullEngine(32)
    kinds = [Text, Drawing, Likelihood, Encoded]
    assert [type(one) for one in engine.run(REQUESTS)] == kinds
    assert [type(one) for one in run_all(engine, REQUESTS)] == kinds


def test_what_is_cancelled_does_not_come() -> None:
    engine = NullEngine(32)
    first, second = engine.submit(REQUESTS[0]), engine.submit(REQUESTS[0])
    engine.cancel(first)
    assert [number for number, _ in engine.step()] == [second]
    assert engine.step() == []
