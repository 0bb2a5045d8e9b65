"""The transformer under torch.compile, ready before the first request comes."""

from collections.abc import Collection

import numpy as np

from uniface_ray.core.errors import UniFaceError
from uniface_ray.core.records import Reject
from uniface_ray.engine.protocol import Answers, Ask, Draw, Request, Score
from uniface_ray.model import UniFaceForConditionalGeneration

Kinds = Collection[type[Request]]

# One row and several, prompts of pictures and of words, tokens and drawings: each is compiled on its own, once.
_GRAPHS = 64


def compile_transformer(model: UniFaceForConditionalGeneration, backend: str = "inductor") -> None:
    """Compile all layers as one, at their first calls, for batches and prompts of any size."""
    # The limit as an argument: torch's setting would hold in this thread only, and engines work in others.
    model.showo.model.compile(dynamic=True, fullgraph=True, backend=backend, recompile_limit=_GRAPHS)


def warm_up(engine: Answers, image_size: int, kinds: Kinds) -> None:
    """Ask for what is compiled at its first time, so that no request waits minutes for it.

    Raises:
        UniFaceError: it cannot be compiled here.
    """
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, image_size, image_size), dtype=np.uint8)
    examples: dict[type[Request], list[Request]] = {
        Ask: [Ask(one, "who " * (1 + place), 2) for place, one in enumerate(pixels)],
        Score: [Score(one, "who") for one in pixels],
        Draw: [Draw("who " * place, 0, 2, guidance, 1.0, "cosine") for place, guidance in enumerate((5.0, 0.0, 5.0))],
    }
    for kind in kinds:
        for some in (examples[kind][:1], examples[kind]):
            for outcome in engine.run(some):
                if isinstance(outcome, Reject):
                    raise UniFaceError(
                        f"the model cannot be compiled here: {outcome.message}; use engine.compile=false"
                    )


__all__ = ["Kinds", "compile_transformer", "warm_up"]
