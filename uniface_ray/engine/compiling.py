"""Steps of decoding and drawing under torch.compile, ready before the first request comes."""

from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import Cache

from uniface_ray.core.errors import UniFaceError
from uniface_ray.core.records import Reject
from uniface_ray.engine.protocol import Answers, Ask, Draw, Request, Score
from uniface_ray.engine.slots import SlotCache
from uniface_ray.model import UniFaceForConditionalGeneration
from uniface_ray.model.prefix import PrefixCache

Kinds = Collection[type[Request]]

# One row and several, tokens and drawings: each is compiled on its own, once.
_GRAPHS = 64


def compile_transformer(model: UniFaceForConditionalGeneration, backend: str = "inductor") -> None:
    """Compile all layers as one, at their first steps of decoding and drawing, for batches of any size.

    Prompts and pictures, which go through the layers once, are computed as before: they are large matrix products,
    which gain little, and would take as many minutes again.
    """
    transformer = model.showo.model
    plain = transformer.forward
    # The limit as an argument: torch's setting would hold in this thread only, and engines work in others.
    compiled = torch.compile(plain, dynamic=True, fullgraph=True, backend=backend, recompile_limit=_GRAPHS)

    def forward(*, past_key_values: Cache, **given: Any) -> Any:
        return (compiled if _is_step(past_key_values) else plain)(past_key_values=past_key_values, **given)

    transformer.forward = forward


def _is_step(cache: Cache) -> bool:
    """Whether a call is one of many alike: one more position of answers, or one more step of images.

    Answers beyond the first slot, which go through the layers apart only where memory ends, would be code of their own.
    """
    if isinstance(cache, SlotCache):
        return isinstance(cache.rows, slice) and cache.rows.start == 0 and isinstance(cache.start, Tensor)
    return isinstance(cache, PrefixCache)


def warm_up(engine: Answers, image_size: int, kinds: Kinds) -> None:
    """Ask for what is compiled at its first time, so that no request waits minutes for it: a row and several.

    Raises:
        UniFaceError: it cannot be compiled here.
    """
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, image_size, image_size), dtype=np.uint8)
    examples: dict[type[Request], list[Request]] = {
        Ask: [Ask(one, "who " * (1 + place), 2) for place, one in enumerate(pixels)],
        Score: [Score(one, "who") for one in pixels],
        # The first is one row; a row with guidance is two, and so are all the others.
        Draw: [Draw("who " * place, 0, 2, guidance, 1.0, "cosine") for place, guidance in enumerate((0.0, 5.0, 5.0))],
    }
    # Sizes that happen to be equal here are not so for ever.
    with torch.fx.experimental._config.patch(use_duck_shape=False):
        for kind in kinds:
            for some in (examples[kind][:1], examples[kind]):
                for outcome in engine.run(some):
                    if isinstance(outcome, Reject):
                        raise UniFaceError(
                            f"the model cannot be compiled here: {outcome.message}; use engine.compile=false"
                        )


__all__ = ["Kinds", "compile_transformer", "warm_up"]
