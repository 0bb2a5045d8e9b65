"""A plain convolutional classifier of the attributes, apart from the model: it says whether a drawn face is what its
prompt asked for."""

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from uniface_ray.evaluate.attribute_net import IMAGE_SIZE, AttributeNet
from uniface_ray.train.tiny.attributes import VALUES
from uniface_ray.train.tiny.augment import random_views
from uniface_ray.train.tiny.checkpoint import load_progress, one_cycle, save_progress
from uniface_ray.train.tiny.image_tokenizer import attribute_loss
from uniface_ray.train.tiny.prepare import Prepared

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class JudgeRecipe:
    """Steps and rates of the classifier."""

    steps: int = 1200
    batch: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    seed: int = 2


class Judge(AttributeNet):
    """The classifier of all attributes in VALUES."""

    def __init__(self) -> None:
        super().__init__(VALUES)


def train_judge(prepared: Prepared, recipe: JudgeRecipe, weights: Tensor, path: Path) -> Judge:
    """Train on the sure attributes, or take up the checkpoint at `path`; faces are drawn by `weights` (count,)."""
    torch.manual_seed(recipe.seed)
    judge = Judge().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(
        judge.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )
    first = load_progress(path, judge, optimizer)
    judge.train()
    for step in range(first, recipe.steps):
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        torch.manual_seed(recipe.seed * 1_000_003 + step)
        chosen = torch.multinomial(weights, recipe.batch, replacement=True, generator=generator)
        # It sees aligned faces only, as training faces and drawn ones are.
        views = random_views(prepared.faces[chosen], IMAGE_SIZE, generator, strength=0.6)
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * one_cycle(step, recipe.steps)
        with torch.autocast("cpu", torch.bfloat16):
            reading = judge(views.contiguous(memory_format=torch.channels_last))
        loss = attribute_loss(reading, prepared.classes[chosen], prepared.years[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            log.info("judge step %d: attributes %.3f", step, loss.item())
        if (step + 1) % 200 == 0 or step + 1 == recipe.steps:
            save_progress(path, judge, optimizer, step + 1)
    return judge.eval()
