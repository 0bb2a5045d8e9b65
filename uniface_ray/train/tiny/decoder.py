"""Goes on training the decoder alone, with the codes fixed: sharper pictures that still read back as the same codes."""

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uniface_ray.model.magvit import MagvitV2
from uniface_ray.train.tiny.augment import random_views
from uniface_ray.train.tiny.checkpoint import load_progress, one_cycle, save_progress
from uniface_ray.train.tiny.image_tokenizer import picture_loss

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DecoderRecipe:
    """Steps and weights; `read_back_weight` is on the error of the latents that the encoder finds in what was made."""

    steps: int = 700
    batch: int = 16
    learning_rate: float = 1e-3
    read_back_weight: float = 0.1
    seed: int = 1


def train_decoder(magvit: MagvitV2, faces: Tensor, recipe: DecoderRecipe, out: Path) -> None:
    """Train `magvit.decoder` in place, or go on from the checkpoint in `out`; the encoder stays as it is.

    Args:
        magvit: the tokenizer, trained.
        faces: (count, 3, side, side) uint8.
        recipe: what to do.
        out: folder for `decoder.pt`.
    """
    optimizer = torch.optim.AdamW(magvit.decoder.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.98), fused=True)
    path = out / "decoder.pt"
    first = load_progress(path, magvit.decoder, optimizer)
    magvit.encoder.requires_grad_(False)
    for step in range(first, recipe.steps):
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        chosen = torch.randint(len(faces), (recipe.batch,), generator=generator)
        views = random_views(faces[chosen], magvit.config.image_size, generator, strength=0.4)
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * one_cycle(step, recipe.steps)
        with torch.autocast("cpu", torch.bfloat16):
            latents = magvit.encoder(views).float()
            made = magvit.decoder(magvit.quantize(latents)).float()
            read_back = magvit.encoder(made).float()
        loss = picture_loss(made, views) + recipe.read_back_weight * F.l1_loss(read_back, latents)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(magvit.decoder.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0:
            log.info("decoder step %d: loss %.3f", step, loss.item())
        if (step + 1) % 100 == 0 or step + 1 == recipe.steps:
            save_progress(path, magvit.decoder, optimizer, step + 1)
