"""Drawing faces: masked image tokens made known step by step (MaskGIT; Show-o modeling_showo.py:104-181).

Many images are drawn together, each with its own prompt, seed, settings and step. `draw` does it from beginning to end;
`begin`, `step`, `Drawing.take` and `Drawing.join` let rows leave and enter between steps. In float32 an image
depends on its own request only: all its random numbers come from its own generator, in a fixed order.
Letters in shapes: R rows (images), N image tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from uniface_ray.model.configuration import UniFaceConfig
from uniface_ray.model.denoising import Advance, Dials, Places, advance
from uniface_ray.model.modeling import UniFaceForConditionalGeneration
from uniface_ray.model.prefix import Prefix, read_prompts
from uniface_ray.model.prompts import prompt_ids
from uniface_ray.model.transfer import sent
from uniface_ray.model.unmasking import DrawSettings, Plan, plan


@dataclass(frozen=True, eq=False)
class DrawRequest:
    """One image to draw.

    Attributes:
        text_ids: tokens of the prompt; cut to what fits, see `prompts.tokens_cut`.
        seed: of the image, any int64.
        settings: of the image.
        codes: (N,) int64 codes of an image to draw into, or None for a new one.
        unknown: (N,) bool, the tokens of `codes` to draw; None for all.
    """

    text_ids: Sequence[int]
    seed: int
    settings: DrawSettings = field(default_factory=DrawSettings)
    codes: Tensor | None = None
    unknown: Tensor | None = None


@dataclass(eq=False)
class Row:
    """What one row does next; `generator` is on the CPU, so that no device has its own idea of a seed."""

    settings: DrawSettings
    plan: Plan
    generator: torch.Generator
    tokens: int
    step: int = 0

    @property
    def done(self) -> bool:
        """All tokens are known."""
        return self.step >= len(self.plan.unknown)

    @property
    def left(self) -> int:
        """Tokens that are unknown before the next step; `tokens` were at first."""
        return self.plan.unknown[self.step - 1] if self.step else self.tokens

    @property
    def guidance(self) -> float:
        """Of the next step: 0 outside the settings' interval."""
        begin, end = self.settings.guidance_interval
        inside = not self.done and begin <= self.step / len(self.plan.unknown) < end
        return self.settings.guidance if inside else 0.0


@dataclass(eq=False)
class Drawing:
    """Images in progress.

    Attributes:
        rows: settings and progress of each image.
        codes: (R, N) int64; of no meaning where unknown.
        unknown: (R, N) bool.
        prompts: keys and values of the rows' prompts, and of the empty prompt after them.
    """

    rows: list[Row]
    codes: Tensor
    unknown: Tensor
    prompts: Prefix

    @property
    def null(self) -> Prefix:
        """Keys and values of the empty prompt, one row."""
        return self.prompts.take([len(self.rows)])

    @property
    def done(self) -> list[bool]:
        """Which rows are finished."""
        return [row.done for row in self.rows]

    def take(self, rows: Sequence[int]) -> "Drawing":
        """Some of the rows, which go on where they are."""
        index = sent(torch.tensor(rows, dtype=torch.int64), self.codes.device)
        picked = [self.rows[row] for row in rows]
        return Drawing(picked, self.codes[index], self.unknown[index], self.prompts.take([*rows, len(self.rows)]))

    def join(self, other: "Drawing") -> "Drawing":
        """The rows of both, whatever step they are at."""
        return Drawing(
            self.rows + other.rows,
            torch.cat([self.codes, other.codes]),
            torch.cat([self.unknown, other.unknown]),
            self.prompts.take(range(len(self.rows))).join(other.prompts),
        )


@torch.inference_mode()
def draw(model: UniFaceForConditionalGeneration, requests: Sequence[DrawRequest]) -> Tensor:
    """Draw images from beginning to end, as one batch.

    Args:
        model: in eval mode.
        requests: at least one; memory bounds how many.

    Returns:
        Codes (R, N) int64, for `model.decode_images`, in the order of `requests`.

    Raises:
        ValueError: codes or places of another number than N.
    """
    drawing = begin(model, requests)
    finished = drawing.codes.clone()
    left = list(range(len(requests)))
    while True:
        done = drawing.done
        for row, image in enumerate(left):
            if done[row]:
                finished[image] = drawing.codes[row]
        going = [row for row in range(len(left)) if not done[row]]
        if not going:
            return finished
        if len(going) < len(left):
            drawing, left = drawing.take(going), [left[row] for row in going]
        step(model, drawing)


@torch.inference_mode()
def begin(
    model: UniFaceForConditionalGeneration, requests: Sequence[DrawRequest], null: Prefix | None = None
) -> Drawing:
    """Put the prompts through the model and plan the steps.

    Args:
        model: see `draw`, also for errors.
        requests: likewise.
        null: `Drawing.null` of an earlier call with this model, which then need not be computed again.
    """
    config = model.config
    codes, unknown = zip(*(_to_draw(config, request, model.device) for request in requests), strict=True)
    rows = [
        Row(
            request.settings,
            plan(int(places.sum()), config.num_image_tokens, request.settings),
            torch.Generator().manual_seed(request.seed),
            int(places.sum()),
        )
        for request, places in zip(requests, unknown, strict=True)
    ]
    return Drawing(
        rows,
        torch.stack(codes),
        sent(torch.stack(unknown), model.device),
        read_prompts(model, [prompt_ids(config, request.text_ids) for request in requests]).join(
            null or read_prompts(model, [prompt_ids(config, [])])
        ),
    )


def _to_draw(config: UniFaceConfig, request: DrawRequest, device: torch.device) -> tuple[Tensor, Tensor]:
    """Codes, on the device, and unknown places of a request, on the CPU; (N,) each."""
    count = config.num_image_tokens
    codes = torch.zeros(count, dtype=torch.int64) if request.codes is None else request.codes
    codes = codes.to(device)
    unknown = torch.ones(count, dtype=torch.bool) if request.unknown is None else request.unknown.cpu()
    if codes.shape != (count,) or unknown.shape != (count,):
        raise ValueError(
            f"codes are {tuple(codes.shape)} and the unknown places {tuple(unknown.shape)}, but an image of this model "
            f"has ({count},)"
        )
    if request.codes is None and not unknown.all():
        raise ValueError("some places are known, but no codes are given to stand there: give `codes`")
    return codes, unknown


def _places(drawing: Drawing) -> Places:
    """How many there are is known from the plans, so that nobody has to wait for the device to count them."""
    guided, places, start = [], [torch.arange(0)], 0
    for number, row in enumerate(drawing.rows):
        if row.guidance > 0:
            guided.append(number)
            places.append(torch.arange(start, start + row.left))
        start += row.left
    every = drawing.unknown.flatten().nonzero_static(size=start)[:, 0]
    rows = torch.tensor(guided, dtype=torch.int64)
    return Places(every, sent(torch.cat(places), every.device), sent(rows, every.device))


def _dials(drawing: Drawing, bits: int) -> Dials:
    rows, device = drawing.rows, drawing.codes.device
    settings = [row.settings for row in rows]
    tokens = drawing.codes.shape[1]
    idle = torch.zeros(tokens, bits + 1)
    noise = [idle if row.done else torch.rand(tokens, bits + 1, generator=row.generator) for row in rows]
    narrowed = any(one.top_k or one.top_p < 1 for one in settings)
    # 2, not 1: a sum of probabilities may round to 1 before its end.
    top_p = [one.top_p if one.top_p < 1 else 2.0 for one in settings]
    return Dials(
        sent(torch.tensor([row.guidance for row in rows]), device),
        sent(torch.tensor([0 if row.done else row.plan.unknown[row.step] for row in rows]), device),
        sent(torch.tensor([0.0 if row.done else row.plan.temperature[row.step] for row in rows]), device),
        sent(torch.tensor([one.top_k or 2**bits for one in settings]), device) if narrowed else None,
        sent(torch.tensor(top_p), device) if narrowed else None,
        sent(torch.stack(noise), device),
    )


@torch.inference_mode()
def step(model: UniFaceForConditionalGeneration, drawing: Drawing, compute: Advance = advance) -> None:
    """Bring every row of `drawing` one step of its own plan further; finished rows stay as they are.

    Args:
        model: in eval mode.
        drawing: is changed.
        compute: `advance`, or that compiled.
    """
    dials = _dials(drawing, model.config.magvit_config.latent_bits)
    drawing.codes, drawing.unknown = compute(
        model, drawing.codes, drawing.unknown, drawing.prompts, drawing.prompts.visible(), _places(drawing), dials
    )
    for row in drawing.rows:
        row.step += not row.done


__all__ = ["DrawRequest", "DrawSettings", "Drawing", "Row", "begin", "draw", "step"]
