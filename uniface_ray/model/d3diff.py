"""D3Diff: the mask loss and the score loss of discrete diffusion over image tokens (UniF²ace, arXiv 2503.08120).

L_D3Diff = E[-log p(x0 | xt)] + alpha L_score(s), with s = p(x0 | xt) / gamma as the paper has it. The score loss is
SEDD's score entropy for the absorbing state (arXiv 2310.16834, graph_lib.py:244-266): at a masked position

    l = sum_v s(v) - r log s(x0) + r (log r - 1),   r = (1 - gamma) / gamma,   L_score = sum over positions of sigma' l.

Put into it, s = p / gamma gives l = r (-log p(x0)) + 1 + r log(1 - gamma) while p is normalised over the codebook. So
the weight of -log p is sigma' r = gamma' / gamma, and that is what is computed: sigma' alone is infinite at gamma = 1.

Not stated by the paper: schedule, time weight, sum or mean over tokens, and the vocabulary p is normalised over.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from uniface_ray.core.errors import UserError
from uniface_ray.model.corruption import IGNORED
from uniface_ray.model.schedules import schedule

Kind = Literal["mask", "score", "d3diff"]
Scale = Literal["paper", "radd"]
Vocabulary = Literal["codebook", "full"]


@dataclass(frozen=True)
class D3DiffConfig:
    """Which loss.

    Attributes:
        kind: what is trained on: `mask`, alpha x `score`, or `d3diff` = mask + alpha x score (rows of the paper's
            ablation table).
        alpha: weight of the score loss; the paper's best is 0.01. The mask loss is a mean over tokens, the score loss
            a sum and so some N times as large.
        scale: what the score is made of. `paper`: s = p / gamma. `radd`: s = r p (arXiv 2406.03736), which has no
            constant. On the codebook both have the same gradient.
        vocabulary: what p is normalised over. `codebook`: image codes. `full`: the whole vocabulary, as in Show-o's
            mask loss (modeling_showo.py:83-86); the score loss then also draws mass onto the codebook. Not stated by
            the paper.
        schedule: of masking; gives gamma' (see `schedules.schedule`). Show-o's is cosine; not stated by the paper.
    """

    kind: Kind = "d3diff"
    alpha: float = 0.01
    scale: Scale = "paper"
    vocabulary: Vocabulary = "codebook"
    schedule: str = "cosine"

    def __post_init__(self) -> None:
        for name, choices in (("kind", Kind), ("scale", Scale), ("vocabulary", Vocabulary)):
            value = getattr(self, name)
            if value not in get_args(choices):
                raise UserError(f"{name} of the loss is {value!r}: give one of {', '.join(get_args(choices))}")
        if not self.alpha >= 0:
            raise UserError(
                f"alpha of the loss is {self.alpha}, but must be 0 or more: give the weight of the score loss"
            )
        schedule(self.schedule)


class D3DiffLoss(NamedTuple):
    """Scalars, float32 (or float64 for float64 logits).

    Attributes:
        total: what to train on.
        mask: cross-entropy, mean over the masked tokens of the batch.
        score: score loss, sum over an image's masked tokens, mean over images; without alpha.
    """

    total: Tensor
    mask: Tensor
    score: Tensor


def d3diff(
    logits: Tensor, labels: Tensor, share: Tensor, config: D3DiffConfig, codebook: slice | None = None
) -> D3DiffLoss:
    """The loss of a batch of masked images. B images, N tokens, C codes, V vocabulary.

    Args:
        logits: (B, N, V) with `codebook` saying where the codes are, or (B, N, C) without. Any float type; computed in
            float32 at least.
        labels: (B, N) codes at masked positions, `IGNORED` elsewhere (`corruption.corrupt`).
        share: (B,) gamma, the share of masked tokens, over 0 and up to 1.
        config: which loss.
        codebook: the columns of `logits` that are image codes.

    Raises:
        ValueError: the full vocabulary is to be normalised over, but only the codebook is there.
    """
    if config.vocabulary == "full" and codebook is None:
        raise ValueError(
            "the loss over the full vocabulary needs `codebook`, the columns of the image codes, and V logits"
        )
    masked = labels != IGNORED
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    codes = logits if codebook is None else logits[..., codebook]
    norm = (logits if config.vocabulary == "full" else codes).logsumexp(-1)
    target = codes.gather(-1, labels.clamp_min(0)[..., None])[..., 0]
    surprise = torch.where(masked, norm - target, 0.0)  # -log p(x0)
    mask_loss = surprise.sum() / masked.sum().clamp_min(1)

    gamma = share.to(logits.dtype)[:, None]
    # gamma' and sigma' can be infinite at gamma = 1: there a wholly masked image counts as masked but for half a token.
    inner = gamma.clamp(max=1 - 0.5 / labels.shape[1])
    speed = schedule(config.schedule).speed(inner)
    rate, gap = speed / gamma, 1 - inner
    per_token = rate * surprise
    if config.scale == "paper":
        per_token = per_token + speed / gap + rate * gap.log()
    if config.vocabulary == "full":
        # sum_v s is smaller than that of a normalised p, by the mass that lies outside the codebook.
        outside = torch.expm1(codes.logsumexp(-1) - norm)
        per_token = per_token + rate * outside / (gap if config.scale == "paper" else 1.0)
    score_loss = torch.where(masked, per_token, 0.0).sum(-1).mean()

    weighted = config.alpha * score_loss
    total = {"mask": mask_loss, "score": weighted, "d3diff": mask_loss + weighted}[config.kind]
    return D3DiffLoss(total, mask_loss, score_loss)


__all__ = ["D3DiffConfig", "D3DiffLoss", "Kind", "Scale", "Vocabulary", "d3diff"]
