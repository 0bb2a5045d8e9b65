"""The model with its losses: what one forward pass of training computes."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uniface_ray.core.train_config import LossConfig
from uniface_ray.model.d3diff import D3DiffConfig, d3diff
from uniface_ray.model.features import ImageFeatures
from uniface_ray.model.modeling import UniFaceForConditionalGeneration
from uniface_ray.model.pixels import to_model_range
from uniface_ray.train.batches import Batch, Counts, DrawBatch, ReadBatch
from uniface_ray.train.samples import IGNORED

LOSSES = ("total", "text", "mask", "score", "balance")
"""What `Trainee` gives, in this order.

- total: what is minimised.
- text: next-token cross-entropy, mean over answer tokens.
- mask: cross-entropy of masked image tokens, mean over these.
- score: the score loss, mean over drawn images.
- balance: of token-level experts, mean over parts; 0 for a dense model.
"""


class Trainee(nn.Module):
    """The model, wrapped so that everything which training computes is one `forward`.

    Means are over the whole batch, whoever computes which part of it: a part's sums are divided by the counts of all.
    Rows that read and rows that draw go through the model apart, as they have different lengths and logits.
    """

    def __init__(self, model: UniFaceForConditionalGeneration, config: LossConfig) -> None:
        super().__init__()
        self.model, self.config = model, config
        self.drawing = D3DiffConfig(config.kind, config.alpha, config.scale, config.vocabulary, config.schedule)
        experts = model.config.token_experts
        weight = experts.balance_weight if experts is not None else 0.0
        self.balance_weight = weight if config.balance_weight is None else config.balance_weight

    def forward(
        self, batch: Batch | None, counts: Counts | None = None, call: Callable[[Any], Any] | None = None
    ) -> Any:
        """Losses of a part of a batch, (5,) in the order of `LOSSES`; gradients flow from the first.

        They are shares of means over the whole batch, so those of its parts add up.

        Args:
            batch: the part.
            counts: of the whole batch, over all parts and workers.
            call: instead, something else to do with the model; here, because a sharded model is whole in `forward`.
        """
        if call is not None:
            return call(self.model)
        assert batch is not None
        assert counts is not None
        zero = torch.zeros((), device=self.model.device)
        text = mask = score = balance = zero
        if batch.read is not None:
            sums, balance = self._read(batch.read)
            text = sums / max(1, counts.text)
        if batch.draw is not None:
            mask, score, more = self._draw(batch.draw)
            mask = mask * (batch.counts.masked / max(1, counts.masked))
            score = score * (batch.counts.images / max(1, counts.images))
            balance = balance + more
        balance = balance / counts.parts
        weighted = {"mask": mask, "score": self.config.alpha * score, "d3diff": mask + self.config.alpha * score}
        drawing = self.config.drawing_weight * weighted[self.config.kind]
        total = self.config.text_weight * text + drawing + self.balance_weight * balance
        details = [one.detach().float() for one in (text, mask, score, balance)]
        return torch.stack([total.float(), *details])

    def _read(self, batch: ReadBatch) -> tuple[Tensor, Tensor]:
        """The summed surprise of the answers, and the balance."""
        model = self.model
        states = model.hidden_states(batch.ids, features=features_from(model, batch.seen), use_cache=False)
        answered = batch.targets != IGNORED
        logits = model.text_logits(states.last_hidden_state[answered])
        return F.cross_entropy(logits, batch.targets[answered], reduction="sum"), _balance(states.balance_loss, logits)

    def _draw(self, batch: DrawBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Mask loss, score loss and balance, means of this part."""
        model, config = self.model, self.model.config
        states = model.hidden_states(batch.ids, mask_ratio=batch.share, use_cache=False)
        image = states.last_hidden_state[:, -config.num_image_tokens - 1 : -1]
        if self.drawing.vocabulary == "full":
            codebook = slice(config.image_token_offset, config.mask_token_id)
            loss = d3diff(model.showo.lm_head(image), batch.labels, batch.share, self.drawing, codebook)
        else:
            loss = d3diff(model.image_logits(image), batch.labels, batch.share, self.drawing)
        return loss.mask, loss.score, _balance(states.balance_loss, loss.mask)


def features_from(model: UniFaceForConditionalGeneration, seen: dict[str, Tensor]) -> ImageFeatures | None:
    """Of what `Reading.seen` holds, stacked to batches: what the experts see; None for a dense model."""
    if "pixels" in seen:
        return model.image_features(to_model_range(seen["pixels"]))
    return model.encoders.resampled(seen) if seen else None


def _balance(of_groups: Tensor | None, like: Tensor) -> Tensor:
    """Of both groups together: rows of one pass are all of one group, and the other's is 0."""
    return like.new_zeros(()) if of_groups is None else of_groups.sum()
