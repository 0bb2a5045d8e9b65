"""The requests of `/v1/images/generations` and `/v1/images/edits`; OpenAI knows no steps, guidance and the like."""

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from uniface_ray.core.task_config import Box, DrawingConfig, Schedule
from uniface_ray.serve.errors import ApiError

_WITHOUT_EFFECT = (
    "effort",
    "input_fidelity",
    "moderation",
    "output_compression",
    "quality",
    "safety_identifier",
    "style",
    "user",
)


class ImagesRequest(BaseModel):
    """What to draw, and how; the defaults are those of `uniface generate`.

    Attributes:
        prompt: what of it is too long for the model is cut; `revised_prompt` in the answer is what it saw.
        n: images, each with a seed of its own.
        size: `auto`, or the model's own.
        seed: of the first image; a random one where None.
        steps: of denoising.
        guidance: how strongly the prompt is followed; 0 is none, and takes half the time.
        temperature: of the noise by which the order of drawing varies.
        schedule: of masked tokens, as `task.schedule`.
        top_k: draw from so many likeliest codes only.
        top_p: draw from the likeliest codes that together reach this probability only.
        stream: events instead of one body.
        partial_images: unfinished ones in the stream.
    """

    model_config = ConfigDict(extra="forbid")
    prompt: str = Field(min_length=1, max_length=32_000)
    model: str | None = None
    n: int | None = Field(default=None, ge=1, le=16)
    size: str | None = None
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    steps: int | None = Field(default=None, ge=1, le=1000)
    guidance: float | None = Field(default=None, ge=0, le=100, allow_inf_nan=False)
    temperature: float | None = Field(default=None, ge=0, le=100, allow_inf_nan=False)
    schedule: Schedule | None = None
    top_k: int | None = Field(default=None, ge=1, le=2**31)
    top_p: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)
    response_format: Literal["b64_json"] | None = None
    output_format: Literal["png", "jpeg"] | None = None
    background: Literal["opaque", "auto"] | None = None
    stream: bool | None = None
    partial_images: int | None = Field(default=None, ge=0, le=50)

    @model_validator(mode="before")
    @classmethod
    def _without_effect(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {name: value for name, value in values.items() if name not in _WITHOUT_EFFECT}

    @property
    def drawing(self) -> DrawingConfig:
        """The settings of a batch run that draws the same."""
        names = ("steps", "guidance", "temperature", "schedule", "top_k", "top_p")
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        return DrawingConfig(**given, format=self.output_format or "png")


def _numbers(value: Any) -> Any:
    """A list, from a form's text."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


class EditRequest(ImagesRequest):
    """The fields of the form beside its files `image` and `mask`.

    Attributes:
        box: instead of a mask: [left, top, right, bottom] in fractions of the picture.
    """

    box: Annotated[Box | None, BeforeValidator(_numbers)] = None


def _url(value: Any) -> Any:
    """Of a picture's object in OpenAI's JSON."""
    if isinstance(value, dict) and [*value] == ["image_url"]:
        return value["image_url"]
    raise ValueError('must be {"image_url": "data:image/...;base64,..."}')


Url = Annotated[
    str,
    BeforeValidator(_url),
    WithJsonSchema({"type": "object", "properties": {"image_url": {"type": "string"}}, "required": ["image_url"]}),
]
"""Of a picture: a data: URL, or an https:// address where the server fetches such."""


class EditBody(EditRequest):
    """The same as JSON, which a line of a batch is too.

    Attributes:
        images: the one to edit.
        mask: of its size, transparent, or white, where to draw; or `box` says so.
    """

    images: Annotated[list[Url], Field(min_length=1, max_length=1)]
    mask: Url | None = None

    @model_validator(mode="after")
    def _one_region(self) -> "EditBody":
        check_region(int(self.mask is not None), self.box)
        return self


def check_region(masks: int, box: Box | None) -> None:
    """Look whether a request with so many masks says where to draw.

    Raises:
        ApiError: it does not, or more than once.
    """
    if masks + (box is not None) != 1:
        what = "mask: say where to draw: a picture, transparent or white there, or box=[left,top,right,bottom]"
        raise ApiError(400, what, param="mask", code="mask_required")


__all__ = ["EditBody", "EditRequest", "ImagesRequest", "check_region"]
