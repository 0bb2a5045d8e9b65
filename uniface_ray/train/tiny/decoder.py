"""Goes on training the decoder alone, with the codes fixed: clearer pictures of the same faces.

Error of pixels alone gives the mean of all faces that a code can stand for, which is soft. What the identity encoder
sees in a face and in the picture made of its codes must be alike as well (a perceptual loss, Johnson et al. 2016).
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uniface_ray.model.identity import IRResNet
from uniface_ray.model.magvit import MagvitV2
from uniface_ray.train.tiny.augment import random_views
from uniface_ray.train.tiny.checkpoint import load_progress, one_cycle, save_progress
from uniface_ray.train.tiny.image_tokenizer import picture_loss

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DecoderRecipe:
    """Steps and weights."""

    steps: int = 400
    batch: int = 12
    learning_rate: float = 8e-4
    likeness_weight: float = 0.7
    seed: int = 1


def likeness_loss(seer: IRResNet, made: Tensor, wanted: Tensor) -> Tensor:
    """Difference of what the identity encoder's layers see in two pictures (B, 3, H, W), each to its own scale."""
    side = seer.config.image_size
    x, y = (F.interpolate(picture, size=side, mode="bilinear", antialias=True) for picture in (made, wanted))
    total = torch.zeros(())
    for layer in (seer.input_layer, *seer.body):
        x = layer(x)
        with torch.no_grad():
            y = layer(y)
        total = total + F.l1_loss(x.float(), y.float()) / y.float().abs().mean()
    return total / (1 + len(seer.body))


def train_decoder(magvit: MagvitV2, seer: IRResNet, faces: Tensor, recipe: DecoderRecipe, out: Path) -> None:
    """Train `magvit.decoder` in place, or go on from the checkpoint in `out`; encoder and `seer` stay as they are.

    Args:
        magvit: the tokenizer, trained.
        seer: the identity encoder, trained.
        faces: (count, 3, side, side) uint8.
        recipe: what to do.
        out: folder for `decoder.pt`.
    """
    seer.requires_grad_(False).eval()
    optimizer = torch.optim.AdamW(
        magvit.decoder.requires_grad_(True).parameters(), lr=recipe.learning_rate, betas=(0.9, 0.98), fused=True
    )
    path = out / "decoder.pt"
    for step in range(load_progress(path, magvit.decoder, optimizer), recipe.steps):
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        chosen = torch.randint(len(faces), (recipe.batch,), generator=generator)
        views = random_views(faces[chosen], magvit.config.image_size, generator, strength=0.3)
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * one_cycle(step, recipe.steps)
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                codes = magvit.quantize(magvit.encoder(views))
            made = magvit.decoder(codes).float()
            likeness = likeness_loss(seer, made, views)
        pictures = picture_loss(made, views)
        optimizer.zero_grad()
        (pictures + recipe.likeness_weight * likeness).backward()
        nn.utils.clip_grad_norm_(magvit.decoder.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0:
            log.info("decoder step %d: pictures %.3f, likeness %.3f", step, pictures.item(), likeness.item())
        if (step + 1) % 50 == 0 or step + 1 == recipe.steps:
            save_progress(path, magvit.decoder, optimizer, step + 1)
    magvit.requires_grad_(False)
