"""Checkpoints of the recipe: weights, optimizer and step in one file, written whole or not at all."""

import math
import os
from pathlib import Path

import torch
from torch import nn


def save_progress(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Write the state after `step` steps."""
    part = path.with_suffix(".part")
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, part)
    os.replace(part, path)


def load_progress(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Restore the state from `path` and return the steps done; 0 where there is no checkpoint yet."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def one_cycle(step: int, steps: int, warm_up: int = 50) -> float:
    """Factor of the learning rate: a linear warm-up, then a cosine to 2 %."""
    if step < warm_up:
        return (step + 1) / warm_up
    progress = (step - warm_up) / max(1, steps - warm_up)
    return 0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * progress))
