"""How fast a training goes, and what it takes."""

import resource
import time
from collections.abc import Mapping, Sequence

import torch

from uniface_ray.model.modeling import UniFaceForConditionalGeneration
from uniface_ray.model.presets import parameters
from uniface_ray.train.losses import LOSSES


class Meter:
    """Sums since the last line; they outlive a restart, the clock does not.

    Args:
        facts: of `to_dict`, or nothing.
    """

    def __init__(self, facts: Mapping[str, float]) -> None:
        self._begin(facts)

    def add(self, losses: Sequence[float], tokens: float, cut: float) -> None:
        """One step's losses in the order of `LOSSES`, and what it was made of, over all workers."""
        for name, value in zip(LOSSES, losses, strict=True):
            self.sums[name] += value
        self.sums["steps"] += 1
        self.sums["tokens"] += tokens
        self.sums["texts_cut"] += cut
        self._timed_tokens += tokens
        self._timed_steps += 1

    def pause(self, seconds: float) -> None:
        """Leave out time in which nothing was trained."""
        self._began_s += seconds

    def to_dict(self) -> dict[str, float]:
        """What a checkpoint keeps."""
        return dict(self.sums)

    def line(self) -> dict[str, float]:
        """Mean losses since the last line, and the pace; then all begins again."""
        steps = max(1.0, self.sums["steps"])
        seconds = time.monotonic() - self._began_s
        found = {f"loss/{name}": self.sums[name] / steps for name in LOSSES}
        found |= {
            "tokens_per_s": self._timed_tokens / max(seconds, 1e-9),
            "seconds_per_step": seconds / max(1, self._timed_steps),
            "tokens_per_step": self.sums["tokens"] / steps,
            "texts_cut": self.sums["texts_cut"],
        }
        self._begin({})
        return found

    def _begin(self, facts: Mapping[str, float]) -> None:
        self.sums = {"steps": 0.0, "tokens": 0.0, "texts_cut": 0.0, **dict.fromkeys(LOSSES, 0.0), **facts}
        self._began_s, self._timed_tokens, self._timed_steps = time.monotonic(), 0.0, 0


def flops_per_token(model: UniFaceForConditionalGeneration) -> float:
    """Of forward and backward: 4 a parameter that a token passes through and 2 more where it learns, embeddings left
    out (torchtitan's count, where all learn).

    Attention's products of positions with positions are not counted; at these lengths they are a few per cent. The head
    is counted for every token, though only answers and masked image tokens pass through it: so much is too high.
    """
    embeddings = model.get_input_embeddings().weight
    passed = parameters(model)["active"] - embeddings.numel()
    learning = parameters(model, learning=True)["active"] - (embeddings.numel() if embeddings.requires_grad else 0)
    return 4.0 * passed + 2.0 * learning


def memory_gb(device: torch.device) -> float:
    """Most memory that was held so far, GB: of the GPU, or of this process."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device)) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
