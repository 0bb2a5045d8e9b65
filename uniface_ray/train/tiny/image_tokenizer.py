"""Trains the small MAGVIT-v2: faces to 64 codes and back, with codes that carry what a caption says.

Reconstruction alone spends the few bits on backgrounds and collars. A head that reads the attributes off the quantised
codes, dropped after training, makes them keep what a person would remark on; a second one on the encoder's last
features teaches it to see that in the first place. Codes harden gradually: with hard bits from the start, half of them
never come alive.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uniface_ray.evaluate import attribute_net
from uniface_ray.model.magvit import MagvitV2
from uniface_ray.model.presets import preset
from uniface_ray.train.tiny.attributes import VALUES
from uniface_ray.train.tiny.augment import random_views
from uniface_ray.train.tiny.checkpoint import load_progress, one_cycle, save_progress

log = logging.getLogger(__name__)

# A smile is a small part of the picture and most faces have one: unless pressed, "always" is learnt and stays.
_WEIGHTS = {"gender": 1.0, "age_group": 1.0, "smile": 3.0, "hair_color": 1.0}


@dataclass(frozen=True)
class TokenizerRecipe:
    """Steps and weights of the training.

    `reconstructed` is the share of a batch that is also decoded, to save time; `hard_after` the share of the training
    after which all bits are hard.
    """

    steps: int = 2600
    batch: int = 24
    reconstructed: float = 0.25
    augmentation: float = 0.7
    learning_rate: float = 1.2e-3
    attribute_weight: float = 0.5
    spread_weight: float = 0.3
    hard_after: float = 0.5
    seed: int = 0


class Tap:
    """Keeps what a module gave last."""

    def __init__(self, module: nn.Module) -> None:
        self.value = torch.empty(0)
        self.hook = module.register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: object, output: Tensor) -> None:
        self.value = output


class AttributeHead(attribute_net.AttributeHead):
    """Codes or features (B, channels, h, w) to logits of the attributes in VALUES, and the age in tens of years."""

    def __init__(self, channels: int, grid: int) -> None:
        super().__init__(channels, grid, VALUES)


def attribute_loss(reading: tuple[dict[str, Tensor], Tensor], classes: Tensor, years: Tensor) -> Tensor:
    """Mean cross-entropy of the sure attributes, and the error of the age.

    Args:
        reading: logits by attribute name, each (B, values), and the age (B,) in tens of years.
        classes: (B, attributes) int64 in the order of VALUES; -1 where unsure.
        years: (B,) estimated ages.
    """
    logits, age = reading
    total = 0.5 * F.smooth_l1_loss(age.float(), years / 10.0)
    for column, name in enumerate(VALUES):
        sure = classes[:, column] >= 0
        if bool(sure.any()):
            total = total + _WEIGHTS.get(name, 0.25) * F.cross_entropy(
                logits[name].float()[sure], classes[sure, column]
            )
    return total


def soften(latents: Tensor, hard: float, generator: torch.Generator) -> Tensor:
    """Latents (B, K, h, w) as bits: hard ones (-1 or +1, straight-through) with probability `hard`, else soft ones."""
    soft = torch.tanh(latents)
    signs = soft + (torch.where(latents > 0, 1.0, -1.0) - soft).detach()
    return torch.where(torch.rand(latents.shape, generator=generator) < hard, signs, soft)


def spread_loss(latents: Tensor) -> Tensor:
    """Pushes latents (B, K, h, w) to mean 0, deviation 1 and uncorrelated bits, so that all codes are used."""
    values = latents.transpose(0, 1).flatten(1)
    mean, deviation = values.mean(1), values.std(1)
    normal = (values - mean[:, None]) / (deviation[:, None] + 1e-4)
    correlation = normal @ normal.T / normal.shape[1]
    between = correlation - torch.diag(torch.diagonal(correlation))
    return mean.square().mean() + (deviation - 1.0).square().mean() + between.square().sum() / len(between)


def picture_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """Absolute error at three scales and of the gradients, which plain error would blur away; (B, 3, H, W) each."""
    loss = F.l1_loss(made, wanted)
    for scale in (2, 4):
        loss = loss + 0.5 * F.l1_loss(F.avg_pool2d(made, scale), F.avg_pool2d(wanted, scale))
    for axis in (-1, -2):
        loss = loss + 0.5 * F.l1_loss(made.diff(dim=axis), wanted.diff(dim=axis))
    return loss


def initialise(model: MagvitV2) -> MagvitV2:
    """Weights that keep the scale of their inputs (He et al. 2015).

    Transformers' default deviation of 0.02 all but closes the shortcuts, and learning takes twice as long.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            nn.init.zeros_(module.bias)
    return model


def train_image_tokenizer(
    faces: Tensor, classes: Tensor, years: Tensor, recipe: TokenizerRecipe, out: Path
) -> tuple[MagvitV2, AttributeHead]:
    """Train, or go on training from the checkpoint in `out`; the tokenizer and its attribute head, in float32.

    Args:
        faces: (count, 3, side, side) uint8.
        classes: (count, attributes) int64, see `attribute_loss`.
        years: (count,) estimated ages.
        recipe: what to do.
        out: folder for `image_tokenizer.pt`.
    """
    torch.manual_seed(recipe.seed)
    model = initialise(MagvitV2(preset("tiny").magvit_config))
    head = AttributeHead(model.config.latent_bits, model.config.grid_size)
    features = Tap(model.encoder.norm_out)
    seeing = AttributeHead(model.encoder.norm_out.num_channels, model.config.grid_size)
    parts = nn.ModuleDict({"magvit": model, "head": head, "seeing": seeing})
    optimizer = torch.optim.AdamW(
        parts.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.02, fused=True
    )
    path = out / "image_tokenizer.pt"
    first = load_progress(path, parts, optimizer)
    parts.train()
    for step in range(first, recipe.steps):
        # Seeds a step (dropout too) make a resumed run go as an unbroken one would have.
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        torch.manual_seed(recipe.seed * 1_000_003 + step)
        chosen = torch.randint(len(faces), (recipe.batch,), generator=generator)
        views = random_views(faces[chosen], model.config.image_size, generator, recipe.augmentation)
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * one_cycle(step, recipe.steps)
        decoded = max(1, int(recipe.batch * recipe.reconstructed))
        with torch.autocast("cpu", torch.bfloat16):
            latents = model.encoder(views).float()
            codes = soften(latents, step / (recipe.hard_after * recipe.steps), generator)
            made = model.decoder(codes[:decoded]).float()
            told, seen = head(codes), seeing(features.value)
        pictures = picture_loss(made, views[:decoded])
        telling = attribute_loss(told, classes[chosen], years[chosen])
        seeing_loss = attribute_loss(seen, classes[chosen], years[chosen])
        loss = (
            pictures + recipe.attribute_weight * (telling + seeing_loss) + recipe.spread_weight * spread_loss(latents)
        )
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parts.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0:
            log.info(
                "tokenizer step %d: pictures %.3f, attributes %.3f, %.3f from features",
                step,
                pictures.item(),
                telling.item(),
                seeing_loss.item(),
            )
        if (step + 1) % 200 == 0 or step + 1 == recipe.steps:
            save_progress(path, parts, optimizer, step + 1)
    features.hook.remove()
    return model.eval(), head.eval()
