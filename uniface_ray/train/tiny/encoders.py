"""Trains the encoders that the experts see through: both read attributes, the identity encoder knows a face again.

The semantic encoder is a small transformer, which a few thousand faces teach little: it learns from the identity
encoder's answers as well (distillation, Hinton et al. 2015). Heads and projections are dropped after training.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import SiglipVisionModel

from uniface_ray.model.encoders import semantic_features
from uniface_ray.model.identity import IRResNet
from uniface_ray.model.presets import preset
from uniface_ray.train.tiny.attributes import VALUES
from uniface_ray.train.tiny.augment import random_views, wild_views
from uniface_ray.train.tiny.checkpoint import load_progress, one_cycle, save_progress
from uniface_ray.train.tiny.image_tokenizer import attribute_loss
from uniface_ray.train.tiny.prepare import Prepared

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EncodersRecipe:
    """Steps and weights: `faces` a step, each in a mild and a wild view; `temperature` is that of telling apart."""

    steps: int = 1000
    faces: int = 16
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    apart_weight: float = 0.3
    taught_weight: float = 1.0
    hiding_weight: float = 1.0
    temperature: float = 0.2
    seed: int = 3


class Telling(nn.Module):
    """Features (B, M, width) to logits of the attributes in VALUES and the age in tens of years, linear in them."""

    def __init__(self, number: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.out = nn.ModuleDict({name: nn.Linear(number * width, len(values)) for name, values in VALUES.items()})
        self.age = nn.Linear(number * width, 1)
        self.hidden = nn.Linear(number * width, len(VALUES))

    def forward(self, features: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        seen = self._seen(features)
        return {name: layer(seen) for name, layer in self.out.items()}, self.age(seen)[:, 0]

    def hiding_loss(self, features: Tensor, told: Tensor) -> Tensor:
        """Cross-entropy of which attributes a view hides: `told` (B, attributes) bool is false for those. A cap that is
        not known for a cap is taken for hair."""
        return F.binary_cross_entropy_with_logits(self.hidden(self._seen(features)), (~told).float())

    def _seen(self, features: Tensor) -> Tensor:
        return F.dropout(self.norm(features.float()).flatten(1), 0.3, self.training)


class Pupils(nn.Module):
    """Both encoders and what trains them."""

    def __init__(self) -> None:
        super().__init__()
        config = preset("tiny")
        self.identity = IRResNet(config.identity_config)
        self.semantic = SiglipVisionModel(config.semantic_config)
        number, width = self.identity.config.features
        # AdaFace's own last layers, which the model has no use for.
        self.recognises = nn.Sequential(
            nn.BatchNorm2d(width),
            nn.Dropout(0.4),
            nn.Flatten(),
            nn.Linear(number * width, config.identity_config.embedding_size),
            nn.BatchNorm1d(config.identity_config.embedding_size, affine=False),
        )
        self.identity_tells = Telling(number, width)
        self.semantic_tells = Telling(*semantic_features(self.semantic.config))

    def look(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels (B, 3, H, W) in -1..1 to identity cells (B, M, C), embeddings (B, E) and patches (B, P, D)."""
        side = self.identity.config.image_size
        edge = (pixels.shape[-1] - round(pixels.shape[-1] * self.identity.config.crop)) // 2
        faces = pixels[..., edge:-edge, edge:-edge]
        small = F.interpolate(faces, size=side, mode="bicubic", antialias=True).clamp(-1, 1)
        cells = self.identity.body(self.identity.input_layer(small.contiguous(memory_format=torch.channels_last)))
        embedding = F.normalize(self.recognises(cells).float(), dim=-1)
        patches = self.semantic(pixel_values=pixels).last_hidden_state
        return cells.flatten(2).transpose(1, 2), embedding, patches


def apart_loss(embeddings: Tensor, temperature: float) -> Tensor:
    """NT-Xent (Chen et al. 2020): each of (2 B, E) unit vectors is to find its face's other view, B places on."""
    likeness = embeddings @ embeddings.T / temperature
    likeness.fill_diagonal_(float("-inf"))
    count = len(embeddings)
    return F.cross_entropy(likeness, (torch.arange(count) + count // 2) % count)


def taught_loss(pupil: dict[str, Tensor], teacher: dict[str, Tensor]) -> Tensor:
    """Kullback-Leibler divergence from the teacher's answers, summed over the attributes."""
    total = torch.zeros(())
    for name, logits in pupil.items():
        wanted = teacher[name].detach().log_softmax(-1)
        total = total + F.kl_div(logits.log_softmax(-1), wanted, reduction="batchmean", log_target=True)
    return total


@torch.no_grad()
def read_attributes(pupils: Pupils, pixels: Tensor) -> dict[str, Tensor]:
    """What the identity encoder makes of pixels (B, 3, H, W) in -1..1: probabilities (B, values) by attribute name,
    averaged with those of the mirrored views."""
    total = {name: torch.zeros(len(pixels), len(values)) for name, values in VALUES.items()}
    for start in range(0, len(pixels), 64):
        for views in (pixels[start : start + 64], pixels[start : start + 64].flip(-1)):
            for name, logits in pupils.identity_tells(pupils.look(views)[0])[0].items():
                total[name][start : start + 64] += logits.float().softmax(-1) / 2
    return total


def train_encoders(prepared: Prepared, weights: Tensor, recipe: EncodersRecipe, out: Path) -> Pupils:
    """Train, or go on training from the checkpoint in `out`; faces are drawn by `weights` (count,)."""
    torch.manual_seed(recipe.seed)
    pupils = Pupils()
    pupils.identity.to(memory_format=torch.channels_last)
    decayed = [p for p in pupils.parameters() if p.ndim >= 2]
    others = [p for p in pupils.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98), fused=True)
    path = out / "encoders.pt"
    first = load_progress(path, pupils, optimizer)
    pupils.train()
    size = pupils.semantic.config.image_size
    for step in range(first, recipe.steps):
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        torch.manual_seed(recipe.seed * 1_000_003 + step)
        chosen = torch.multinomial(weights, recipe.faces, generator=generator)
        mild = random_views(prepared.faces[chosen], size, generator, strength=0.5)
        wild, told = wild_views(prepared.faces[chosen], size, generator)
        views, told = torch.cat([mild, wild]), torch.cat([torch.ones_like(told), told])
        chosen = chosen.repeat(2)
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * one_cycle(step, recipe.steps)
        with torch.autocast("cpu", torch.bfloat16):
            cells, embedding, patches = pupils.look(views)
        classes, years = prepared.classes[chosen].masked_fill(~told, -1), prepared.years[chosen]
        taught, learnt = pupils.identity_tells(cells), pupils.semantic_tells(patches)
        reading, learning = attribute_loss(taught, classes, years), attribute_loss(learnt, classes, years)
        apart = apart_loss(embedding, recipe.temperature)
        hiding = pupils.identity_tells.hiding_loss(cells, told) + pupils.semantic_tells.hiding_loss(patches, told)
        known = recipe.taught_weight * taught_loss(learnt[0], taught[0]) + recipe.hiding_weight * hiding
        loss = reading + recipe.apart_weight * apart + learning + known
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(pupils.parameters(), 5.0)
        optimizer.step()
        if step % 50 == 0:
            log.info(
                "encoders step %d: identity reads %.3f, tells apart %.3f; semantic reads %.3f",
                step,
                reading.item(),
                apart.item(),
                learning.item(),
            )
        if (step + 1) % 100 == 0 or step + 1 == recipe.steps:
            save_progress(path, pupils, optimizer, step + 1)
    return pupils.eval()
