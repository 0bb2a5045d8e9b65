"""Trains the language model on image codes and text.

Two helps that are gone after training: image embeddings are sums of one vector a bit (codes that share bits then share
meaning, which a few thousand faces could not teach a free table), and a linear head reads attributes off `<|eoi|>`.
"""

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PhiForCausalLM

from uniface_ray.model.configuration import UniFaceConfig
from uniface_ray.model.masks import additive
from uniface_ray.train.tiny.attributes import VALUES
from uniface_ray.train.tiny.checkpoint import load_progress, one_cycle, save_progress
from uniface_ray.train.tiny.image_tokenizer import attribute_loss
from uniface_ray.train.tiny.packing import IGNORED, Conversation, Packed, pack

log = logging.getLogger(__name__)

BACKBONE = {
    "hidden_size": 256,
    "intermediate_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "initializer_range": 0.04,
}


@dataclass(frozen=True)
class BackboneRecipe:
    """Steps and rates; `flipped_bits` is the share of code bits inverted at random, `dropout` falls on residuals."""

    steps: int = 2500
    batch: int = 24
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    dropout: float = 0.1
    flipped_bits: float = 0.02
    attribute_weight: float = 1.0
    seed: int = 0


class Reader(nn.Module):
    """The Phi backbone with the two training helps around it."""

    def __init__(self, config: UniFaceConfig, dropout: float) -> None:
        super().__init__()
        backbone = config.backbone_config
        backbone.resid_pdrop = backbone.embd_pdrop = dropout
        self.config = config
        self.phi = PhiForCausalLM(backbone)
        bits = config.magvit_config.latent_bits
        self.bit_vectors = nn.Parameter(torch.randn(bits, backbone.hidden_size) * 0.08 / bits**0.5)
        self.code_vectors = nn.Parameter(torch.zeros(config.codebook_size, backbone.hidden_size))
        powers = 2 ** torch.arange(bits - 1, -1, -1)
        signs = ((torch.arange(config.codebook_size)[:, None] & powers) > 0).float() * 2 - 1
        self.register_buffer("signs", signs, persistent=False)
        self.attributes = nn.ModuleDict(
            {name: nn.Linear(backbone.hidden_size, len(values)) for name, values in VALUES.items()}
        )
        self.age = nn.Linear(backbone.hidden_size, 1)

    def embedding_table(self) -> Tensor:
        """(vocabulary, hidden): the embeddings with image rows made of their bits."""
        free = self.phi.get_input_embeddings().weight
        first, end = self.config.image_token_offset, self.config.mask_token_id
        images = self.get_buffer("signs") @ self.bit_vectors + self.code_vectors
        return torch.cat([free[:first], images, free[end:]])

    def forward(self, packed: Packed) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Text logits at the targets (targets or more, text ids), attribute logits by name (B, values), age (B,)."""
        embedded = F.embedding(packed.input_ids, self.embedding_table())
        hidden = self.phi.model(
            inputs_embeds=embedded,
            attention_mask=additive(packed.rule, torch.bfloat16),
            position_ids=packed.positions,
            use_cache=False,
        ).last_hidden_state
        # Answers are text: the head over image ids is left alone, see `folded`.
        text = self.config.text_vocab_size
        logits = F.linear(_rounded(hidden[packed.targets != IGNORED]), self.phi.lm_head.weight[:text])
        logits = logits + self.phi.lm_head.bias[:text]
        end_of_image = hidden[:, self.config.num_image_tokens + 2]
        attributes = {name: layer(end_of_image) for name, layer in self.attributes.items()}
        return logits, attributes, self.age(end_of_image)[:, 0]

    @torch.no_grad()
    def folded(self) -> dict[str, Tensor]:
        """State of a plain Phi: the bit vectors become table rows, and no answer begins with an image token."""
        state = {name: value.detach().clone() for name, value in self.phi.state_dict().items()}
        state["model.embed_tokens.weight"] = self.embedding_table().clone()
        text = self.config.text_vocab_size
        state["lm_head.weight"][text:] = 0.0
        state["lm_head.bias"][text:] = -30.0
        return state


def model_config(text_vocab_size: int, end_of_text: int, magvit: dict[str, object]) -> UniFaceConfig:
    """Configuration of uniface-tiny."""
    return UniFaceConfig(
        backbone_config=dict(BACKBONE),
        magvit_config=magvit,
        text_vocab_size=text_vocab_size,
        max_text_length=64,
        bos_token_id=end_of_text,
        eos_token_id=end_of_text,
    )


def _rounded(rows: Tensor, step: int = 128) -> Tensor:
    """Rows (count, width) with zeros to a multiple of `step` rows, for the same reason as in `packing`."""
    return F.pad(rows, (0, 0, 0, -len(rows) % step))


def flip_bits(codes: Tensor, bits: int, share: float, generator: torch.Generator) -> Tensor:
    """Invert each bit of each code (B, N) with probability `share`."""
    flips = torch.rand((*codes.shape, bits), generator=generator) < share
    return codes ^ (flips.long() * 2 ** torch.arange(bits)).sum(-1)


def train_backbone(
    config: UniFaceConfig,
    views: Tensor,
    classes: Tensor,
    years: Tensor,
    weights: Tensor,
    converse: Callable[[int, random.Random], Sequence[Conversation]],
    recipe: BackboneRecipe,
    out: Path,
    stop_after: int | None = None,
) -> Reader:
    """Train, or go on training from the checkpoint in `out`.

    Args:
        config: of the model.
        views: (views, count, N) image codes of augmented views.
        classes: (count, attributes) int64, -1 where unsure.
        years: (count,) estimated ages.
        weights: (count,) how often to draw each face.
        converse: conversations about face `index`, worded at random.
        recipe: what to do.
        out: folder for `backbone.pt`.
        stop_after: stop, with a checkpoint, after this many steps of the recipe.
    """
    torch.manual_seed(recipe.seed)
    reader = Reader(config, recipe.dropout)
    matrices = [p for p in reader.parameters() if p.ndim >= 2]
    others = [p for p in reader.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98), fused=True)
    path = out / "backbone.pt"
    first = load_progress(path, reader, optimizer)
    reader.train()
    last = min(recipe.steps, stop_after or recipe.steps)
    for step in range(first, last):
        # Seeds a step (dropout too) make a resumed run go as an unbroken one would have.
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        torch.manual_seed(recipe.seed * 1_000_003 + step)
        rng = random.Random(recipe.seed * 1_000_003 + step)
        chosen = torch.multinomial(weights, recipe.batch, replacement=True, generator=generator)
        view = torch.randint(len(views), (recipe.batch,), generator=generator)
        codes = flip_bits(views[view, chosen].long(), config.magvit_config.latent_bits, recipe.flipped_bits, generator)
        packed = pack(config, codes, [converse(index, rng) for index in chosen.tolist()])
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * one_cycle(step, recipe.steps)
        with torch.autocast("cpu", torch.bfloat16):
            logits, attributes, age = reader(packed)
        targets = packed.targets[packed.targets != IGNORED]
        text = F.cross_entropy(logits[: len(targets)].float(), targets)
        reading = attribute_loss((attributes, age), classes[chosen], years[chosen])
        optimizer.zero_grad()
        (text + recipe.attribute_weight * reading).backward()
        nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0:
            log.info("backbone step %d: text %.3f attributes %.3f", step, text.item(), reading.item())
        if (step + 1) % 250 == 0 or step + 1 == last:
            save_progress(path, reader, optimizer, step + 1)
    return reader.eval()
