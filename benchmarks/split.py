"""Where the time of a run goes: the model's own methods, timed from outside."""

import time
from collections import Counter
from types import TracebackType
from typing import Any, Self

from torch import Tensor

from uniface_ray.model import UniFaceForConditionalGeneration

PARTS = {
    "text_logits": "head",
    "image_logits": "head",
    "encode_images": "image encoder",
    "decode_images": "image decoder",
}


class Split:
    """Seconds by part of the work, while this context is open.

    Parts: prefill (prompts), decode (one position a row) or denoise (whole images), head, image encoder and decoder;
    what is left is sampling, copies between slots and bookkeeping.
    """

    def __init__(self, model: UniFaceForConditionalGeneration) -> None:
        self.model = model
        self.seconds: Counter[str] = Counter()
        self.steps: Counter[str] = Counter()

    def __enter__(self) -> Self:
        for name in ("hidden_states", *PARTS):
            setattr(self.model, name, self._timed(name))
        self._start = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.total_s = time.perf_counter() - self._start
        for name in ("hidden_states", *PARTS):
            delattr(self.model, name)

    def shares(self) -> dict[str, float]:
        """Share of the whole time by part."""
        known = {part: seconds / self.total_s for part, seconds in self.seconds.items()}
        known["sampling and the rest"] = 1 - sum(known.values())
        return {part: round(share, 3) for part, share in known.items()}

    def _timed(self, name: str) -> Any:
        method = getattr(self.model, name)

        def call(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            result = method(*arguments, **named)
            part = PARTS.get(name) or part_of(self.model, arguments[0])
            self.seconds[part] += time.perf_counter() - start
            self.steps[part] += 1
            return result

        return call


def part_of(model: UniFaceForConditionalGeneration, ids: Tensor) -> str:
    """What a pass of the transformer over these ids (batch, length) is for."""
    if ids.shape[1] == 1:
        return "decode"
    return "denoise" if int(ids[0, 0]) == model.config.special_id("<|soi|>") else "prefill"
