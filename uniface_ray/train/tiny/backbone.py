"""Trains the language model on image codes, features and text: to caption, to answer and to draw, in every step.

Helps that are gone after training: tables of image tokens are sums of one vector a bit (see `bits`), and linear heads
read attributes off `<|eoi|>` and, in `GO_ON`, off what the resamplers make of the encoders' features: taught through
the language model alone, these lose colours of hair that the encoders tell apart.
"""

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from uniface_ray.model.corruption import corrupt
from uniface_ray.model.d3diff import D3DiffConfig, d3diff
from uniface_ray.model.features import ImageFeatures
from uniface_ray.model.modeling import UniFaceForConditionalGeneration
from uniface_ray.model.prompts import generation_ids
from uniface_ray.train.tiny.attributes import VALUES
from uniface_ray.train.tiny.bits import BitRows, flip_bits
from uniface_ray.train.tiny.checkpoint import load_progress, one_cycle, save_progress
from uniface_ray.train.tiny.encode import Seen, codes_to_draw, see
from uniface_ray.train.tiny.encoders import Telling
from uniface_ray.train.tiny.image_tokenizer import attribute_loss
from uniface_ray.train.tiny.packing import IGNORED, Conversation, pack
from uniface_ray.train.tiny.talk import Talk

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BackboneRecipe:
    """Steps, rates and weights.

    `read` faces are captioned and asked about in a step, and `drawn` ones masked; of the former, `wild` is the share
    seen in wild views, `caps` that of these with a cap, and `flipped_bits` that of the code bits inverted at random;
    `dropout` falls on residuals. `attribute_weight` and `resampler_weight` are of the heads on `<|eoi|>` and on the
    resamplers; at 0 the latter are not there. A colour counts `color_weight` times in the loss of the text: it is one
    word of twenty in a caption. (Backgrounds have some of the colours that hair has.) `trained` says that the model is
    to go on: its image tokens keep what they know.
    """

    steps: int = 1600
    read: int = 16
    drawn: int = 16
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    dropout: float = 0.1
    wild: float = 0.5
    caps: float = 0.4
    flipped_bits: float = 0.02
    attribute_weight: float = 0.5
    resampler_weight: float = 0.0
    color_weight: float = 1.0
    drawing_weight: float = 0.5
    drawing: D3DiffConfig = field(default_factory=D3DiffConfig)
    trained: bool = False
    seed: int = 0


# Reading takes longest to learn, and a reader that sees many caps says "person" of bare heads too.
GO_ON = BackboneRecipe(
    steps=600,
    read=64,
    drawn=16,
    learning_rate=6e-4,
    dropout=0.0,
    wild=0.25,
    caps=0.25,
    attribute_weight=1.0,
    resampler_weight=0.3,
    color_weight=3.0,
    trained=True,
)


@dataclass(frozen=True)
class Losses:
    """Scalars of one step, each before its weight."""

    text: Tensor
    mask: Tensor
    score: Tensor
    balance: Tensor
    attributes: Tensor
    resampled: Tensor


class Trainee(nn.Module):
    """The model with the training helps around it; `fold` takes them away again.

    Args:
        model: is changed in place.
        recipe: what to do.
        color_ids: tokens that count `color_weight` times.
    """

    def __init__(
        self, model: UniFaceForConditionalGeneration, recipe: BackboneRecipe, color_ids: Sequence[int]
    ) -> None:
        super().__init__()
        self.model, self.recipe = model, recipe
        config, width = model.config, model.config.backbone_config.hidden_size
        for layer in model.showo.model.layers:
            layer.resid_dropout.p = recipe.dropout
        table, head = model.get_input_embeddings(), model.get_output_embeddings()
        start = 0.0 if recipe.trained else 1.0
        if not recipe.trained:
            with torch.no_grad():
                for weight in (table.weight, head.weight):
                    weight[config.image_token_offset : config.mask_token_id] = 0.0
        self.head_bits = BitRows(config, 0.04 * start)
        parametrize.register_parametrization(table, "weight", BitRows(config, 0.08 * start))
        self.attributes = nn.ModuleDict({name: nn.Linear(width, len(values)) for name, values in VALUES.items()})
        self.age = nn.Linear(width, 1)
        number, features = config.num_image_tokens, config.sequence_experts.resampler_width
        names = ("semantic", "identity") if recipe.resampler_weight else ()
        self.resampler_heads = nn.ModuleDict({name: Telling(number, features) for name in names})
        token_weights = torch.ones(config.vocab_size)
        token_weights[list(color_ids)] = recipe.color_weight
        self.register_buffer("token_weights", token_weights, persistent=False)

    def forward(self, batch: "Batch") -> Losses:
        """Losses of one mixed batch."""
        config, model = self.model.config, self.model
        resamplers, seen = model.encoders.resamplers, batch.seen
        flips = torch.Generator().manual_seed(batch.seeds[0])
        codes = flip_bits(seen.codes, config.magvit_config.latent_bits, self.recipe.flipped_bits, flips)
        packed = pack(config, codes, batch.conversations)
        features = ImageFeatures(resamplers["semantic"](seen.semantic), resamplers["identity"](seen.identity))
        read = model.hidden_states(
            packed.input_ids,
            attention_mask=packed.rule,
            position_ids=packed.positions,
            features=features,
            use_cache=False,
        )
        states, targets = read.last_hidden_state, packed.targets
        answered = targets != IGNORED
        surprise = F.cross_entropy(model.text_logits(states[answered]), targets[answered], reduction="none")
        weights = packed.weights[answered] * self.token_weights[targets[answered]]
        text = (surprise * weights).sum() / weights.sum()
        end_of_image = states[:, config.num_image_tokens + 2]
        told = {name: layer(end_of_image) for name, layer in self.attributes.items()}
        reading = attribute_loss((told, self.age(end_of_image)[:, 0]), batch.classes, batch.years)
        resampled = text.new_zeros(())
        for name, teller in self.resampler_heads.items():
            resampled = resampled + attribute_loss(teller(getattr(features, name)), batch.classes, batch.years)

        masked = corrupt(config, batch.drawn, self.recipe.drawing.schedule, batch.seeds)
        rows = torch.stack([generation_ids(config, prompt) for prompt in batch.prompts])
        image = slice(-config.num_image_tokens - 1, -1)
        rows[:, image] = masked.image_ids
        drawn = model.hidden_states(rows, mask_ratio=masked.share, use_cache=False)
        head = model.get_output_embeddings()
        logits = F.linear(drawn.last_hidden_state[:, image], self.head_bits(head.weight)[self.head_bits.rows])
        loss = d3diff(logits + head.bias[self.head_bits.rows], masked.labels, masked.share, self.recipe.drawing)
        assert read.balance_loss is not None  # gradients are on
        assert drawn.balance_loss is not None
        balance = (read.balance_loss + drawn.balance_loss).sum()
        return Losses(text, loss.mask, loss.score, balance, reading, resampled)

    def total(self, losses: Losses) -> Tensor:
        """The weighted sum of the losses."""
        drawing = losses.mask + self.recipe.drawing.alpha * losses.score
        experts = self.model.config.token_experts.balance_weight * losses.balance
        reading = self.recipe.attribute_weight * losses.attributes + self.recipe.resampler_weight * losses.resampled
        return losses.text + self.recipe.drawing_weight * drawing + experts + reading

    @torch.no_grad()
    def fold(self) -> UniFaceForConditionalGeneration:
        """The model alone: sums of bits become rows of its tables, dropout is off. The trainee is of no use then."""
        parametrize.remove_parametrizations(self.model.get_input_embeddings(), "weight")
        head = self.model.get_output_embeddings()
        head.weight.copy_(self.head_bits(head.weight))
        for layer in self.model.showo.model.layers:
            layer.resid_dropout.p = 0.0
        return self.model.eval()


@dataclass(frozen=True)
class Batch:
    """Faces to read, with what is said about them, and faces to draw: codes (B, N), prompts, and seeds of the masks."""

    seen: Seen
    conversations: list[list[Conversation]]
    classes: Tensor
    years: Tensor
    drawn: Tensor
    prompts: list[list[int]]
    seeds: list[int]


def make_batch(
    model: UniFaceForConditionalGeneration, talk: Talk, weights: Tensor, recipe: BackboneRecipe, step: int
) -> Batch:
    """The batch of one step, the same whenever it is made."""
    seed = recipe.seed * 1_000_003 + step
    generator, rng = torch.Generator().manual_seed(seed), random.Random(seed)
    read = torch.multinomial(weights, recipe.read, replacement=True, generator=generator)
    if talk.prepared.painted is not None:
        weights = weights.masked_fill(talk.prepared.painted, 0.0)
    drawn = torch.multinomial(weights, recipe.drawn, replacement=True, generator=generator)
    seen = see(model, talk.prepared.faces[read], generator, recipe.wild, recipe.caps)
    return Batch(
        seen=seen,
        conversations=[
            talk.conversations(face, told, rng) for face, told in zip(read.tolist(), seen.told.tolist(), strict=True)
        ],
        classes=talk.prepared.classes[read].masked_fill(~seen.told, -1),
        years=talk.prepared.years[read],
        drawn=codes_to_draw(model, talk.prepared.faces[drawn], generator),
        prompts=[talk.prompt(face, rng) for face in drawn.tolist()],
        seeds=[rng.getrandbits(62) for _ in range(recipe.drawn)],
    )


def train_backbone(
    model: UniFaceForConditionalGeneration,
    talk: Talk,
    weights: Tensor,
    recipe: BackboneRecipe,
    out: Path,
    stop_after: int | None = None,
) -> UniFaceForConditionalGeneration:
    """Train `model` in place, or go on training from the checkpoint in `out`.

    Args:
        model: see `network.new_model` and `network.trained_model`.
        talk: the faces and what is said about them.
        weights: (faces,) how often to show each face.
        recipe: what to do.
        out: folder for `backbone.pt`.
        stop_after: stop, with a checkpoint, after this many steps of the recipe.
    """
    torch.manual_seed(recipe.seed)
    trainee = Trainee(model, recipe, talk.color_ids)
    trained = [p for p in trainee.parameters() if p.requires_grad]
    decayed, others = [p for p in trained if p.ndim >= 2], [p for p in trained if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98), fused=True)
    path = out / "backbone.pt"
    first = load_progress(path, trainee, optimizer)
    trainee.train()
    last = min(recipe.steps, stop_after or recipe.steps)
    for step in range(first, last):
        # Seeds a step (dropout too) make a resumed run go as an unbroken one would have.
        torch.manual_seed(recipe.seed * 1_000_003 + step)
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * one_cycle(step, recipe.steps)
        with torch.autocast("cpu", torch.bfloat16):
            losses = trainee(make_batch(model, talk, weights, recipe, step))
        optimizer.zero_grad()
        trainee.total(losses).backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        if step % 50 == 0:
            log.info("backbone step %d: %s", step, ", ".join(f"{k} {v.item():.3f}" for k, v in vars(losses).items()))
        if (step + 1) % 25 == 0 or step + 1 == last:
            save_progress(path, trainee, optimizer, step + 1)
    return trainee.fold()
