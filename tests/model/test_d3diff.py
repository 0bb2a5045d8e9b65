"""The losses of masked diffusion against their textbook form, and at their extremes."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from uniface_ray.core.errors import UserError
from uniface_ray.model import UniFaceConfig
from uniface_ray.model.corruption import IGNORED, corrupt
from uniface_ray.model.d3diff import D3DiffConfig, d3diff
from uniface_ray.model.schedules import schedule

SCHEDULES = ["cosine", "linear", "log-linear", "sigmoid", "pow2"]
SCALES = ["paper", "radd"]
VOCABULARIES = ["codebook", "full"]
TEXT, CODES = 5, 11
BOOK = slice(TEXT, TEXT + CODES)


def batch(shares: list[float], tokens: int = 20, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Random float64 logits over text ids and codes, labels with so many masked, and the shares."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(len(shares), tokens, TEXT + CODES + 1, generator=generator, dtype=torch.float64) * 2
    labels = torch.randint(CODES, (len(shares), tokens), generator=generator)
    counts = (torch.tensor(shares, dtype=torch.float64) * tokens).round()
    labels[torch.arange(tokens) >= counts[:, None]] = IGNORED
    return logits, labels, counts / tokens


def score_entropy(log_score: Tensor, labels: Tensor, share: Tensor, name: str) -> Tensor:
    """SEDD as its authors wrote it: sigma' sum over masked positions of l; `log_score` (B, N, C)."""
    ratio = ((1 - share) / share)[:, None]
    chosen = log_score.gather(-1, labels.clamp_min(0)[..., None])[..., 0]
    entropy = log_score.exp().sum(-1) - ratio * chosen + ratio * (ratio.log() - 1)
    sigma_speed = schedule(name).speed(share) / (1 - share)
    return (sigma_speed * (entropy * (labels != IGNORED)).sum(-1)).mean()


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("vocabulary", VOCABULARIES)
@pytest.mark.parametrize("scale", SCALES)
def test_the_score_loss_is_score_entropy(scale: str, vocabulary: str, name: str) -> None:
    logits, labels, share = batch([0.05, 0.3, 0.75, 0.95])
    part = logits if vocabulary == "full" else logits[..., BOOK]
    log_p = logits[..., BOOK] - part.logsumexp(-1, keepdim=True)
    scaling = -share.log() if scale == "paper" else ((1 - share) / share).log()
    expected = score_entropy(log_p + scaling[:, None, None], labels, share, name)
    config = D3DiffConfig(scale=scale, vocabulary=vocabulary, schedule=name)
    torch.testing.assert_close(d3diff(logits, labels, share, config, BOOK).score, expected, rtol=1e-12, atol=0)


@settings(deadline=None, max_examples=30)
@given(
    shares=st.lists(st.integers(1, 20).map(lambda k: k / 20), min_size=1, max_size=4),
    seed=st.integers(0, 999),
    scale=st.sampled_from(SCALES),
    name=st.sampled_from(SCHEDULES),
)
def test_on_the_codebook_its_gradient_is_that_of_weighted_cross_entropy(
    shares: list[float], seed: int, scale: str, name: str
) -> None:
    logits, labels, share = batch(shares, seed=seed)
    logits.requires_grad_()
    ours = d3diff(logits, labels, share, D3DiffConfig("score", 1.0, scale, schedule=name), BOOK).total
    entropy = torch.nn.functional.cross_entropy(
        logits[..., BOOK].transpose(1, 2), labels, ignore_index=IGNORED, reduction="none"
    )
    weight = schedule(name).speed(share.clamp(max=1 - 0.5 / 20)) / share
    theirs = (weight * entropy.sum(1)).mean()
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)]
    assert (gradients[0] - gradients[1]).abs().max() < 1e-12


def test_with_the_linear_schedule_the_weight_is_one_over_gamma() -> None:
    logits, labels, share = batch([0.05, 0.4, 1.0])
    score = d3diff(logits, labels, share, D3DiffConfig(scale="radd", schedule="linear"), BOOK).score
    log_p = logits[..., BOOK].log_softmax(-1).gather(-1, labels.clamp_min(0)[..., None])[..., 0]
    torch.testing.assert_close(score, -(log_p * (labels != IGNORED)).sum(1).div(share).mean())


@pytest.mark.parametrize("gamma", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("name", SCHEDULES)
def test_the_two_scales_differ_by_a_constant(gamma: float, name: str) -> None:
    logits, labels, share = batch([gamma])
    paper, radd = (d3diff(logits, labels, share, D3DiffConfig(scale=s, schedule=name), BOOK).score for s in SCALES)
    ratio = (1 - gamma) / gamma
    sigma_speed = schedule(name).speed(share)[0] / (1 - gamma)
    constant = sigma_speed * 20 * gamma * (1 + ratio * math.log(1 - gamma))
    torch.testing.assert_close(paper - radd, constant, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", SCHEDULES)
def test_on_average_the_score_loss_is_n_times_the_mask_loss(config: UniFaceConfig, name: str) -> None:
    codes = torch.zeros(2000, 64, dtype=torch.int64)
    _, labels, share = corrupt(config, codes, name, range(2000))
    loss = d3diff(torch.zeros(2000, 64, CODES), labels, share, D3DiffConfig(scale="radd", schedule=name))
    assert loss.mask.item() == pytest.approx(math.log(CODES))
    assert loss.score.item() == pytest.approx(64 * loss.mask.item(), rel=0.05)


@pytest.mark.parametrize("name", [*SCHEDULES, "pow0.5"])
@pytest.mark.parametrize("vocabulary", VOCABULARIES)
@pytest.mark.parametrize("scale", SCALES)
def test_nothing_overflows_at_the_ends(scale: str, vocabulary: str, name: str) -> None:
    _, labels, share = batch([1 / 1024, 1.0], tokens=1024)
    logits = (torch.randn(2, 1024, TEXT + CODES + 1, generator=torch.Generator().manual_seed(0)) * 60).bfloat16()
    logits.requires_grad_()
    loss = d3diff(logits, labels, share.bfloat16(), D3DiffConfig("d3diff", 0.01, scale, vocabulary, name), BOOK)
    loss.total.backward()
    assert loss.total.dtype == torch.float32
    assert all(value.isfinite() for value in loss)
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize(
    ("kind", "alpha"), [("d3diff", 0.1), ("d3diff", 0.01), ("d3diff", 0.001), ("mask", 0.0), ("score", 0.01)]
)
def test_the_rows_of_the_papers_ablation(kind: str, alpha: float) -> None:
    logits, labels, share = batch([0.2, 0.8])
    loss = d3diff(logits, labels, share, D3DiffConfig(kind, alpha), BOOK)
    expected = (kind != "score") * loss.mask + (kind != "mask") * alpha * loss.score
    torch.testing.assert_close(loss.total, expected)


def test_the_mask_loss_is_show_os() -> None:
    logits, labels, share = batch([0.2, 0.8])
    full = d3diff(logits, labels, share, D3DiffConfig(vocabulary="full"), BOOK)
    ids = torch.where(labels == IGNORED, IGNORED, labels + TEXT)
    torch.testing.assert_close(full.mask, torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten()))


def test_codebook_logits_need_no_vocabulary() -> None:
    logits, labels, share = batch([0.2, 0.8])
    assert d3diff(logits, labels, share, D3DiffConfig(), BOOK) == d3diff(
        logits[..., BOOK], labels, share, D3DiffConfig()
    )
    with pytest.raises(ValueError, match="full vocabulary"):
        d3diff(logits, labels, share, D3DiffConfig(vocabulary="full"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kind": "both"}, "'both': give one of mask, score, d3diff"),
        ({"scale": "sedd"}, "'sedd': give one of paper, radd"),
        ({"vocabulary": "text"}, "'text': give one of codebook, full"),
        ({"alpha": -1.0}, "-1.0"),
        ({"alpha": math.nan}, "nan"),
        ({"schedule": "cubic"}, "'cubic'"),
    ],
)
def test_unknown_settings_are_named(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        D3DiffConfig(**wrong)  # type: ignore[arg-type]  # wrong on purpose
