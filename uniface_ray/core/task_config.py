"""The settings of each task; `task.name`, which the command gives, says which of them holds."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from uniface_ray.core.settings import Settings

Text = Annotated[str, Field(min_length=1)]


class AnswerConfig(Settings):
    """How the model's words are chosen.

    Attributes:
        max_new_tokens: an answer is cut here.
        temperature: 0 takes the likeliest token each time; the higher, the more the row's seed decides.
        top_p: where it is above 0, draw from the likeliest tokens that together reach this probability only.
    """

    max_new_tokens: int = Field(default=100, ge=1)
    temperature: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    top_p: float = Field(default=1.0, gt=0, le=1)


class CaptionConfig(AnswerConfig):
    """What is asked of every image.

    Attributes:
        question: as the model reads it.
    """

    name: Literal["caption"] = "caption"
    question: Text = "Please describe this face in detail."


class VqaConfig(AnswerConfig):
    """Questions about images; they come from here or from `source.question_column`.

    Attributes:
        question: one, asked of every image.
        questions: several, likewise.
        choices: every answer is one of these, word for word (extra `guided`, as for the next).
        json_schema: every answer is JSON of this schema, which is JSON itself; one that is cut is rejected.
    """

    name: Literal["vqa"] = "vqa"
    question: Text | None = None
    questions: tuple[Text, ...] = ()
    choices: tuple[Text, ...] = ()
    json_schema: Text | None = None


_SCHEDULES = r"cosine|linear|log-linear|sigmoid|pow(?=[\d.]*[1-9])\d+(\.\d+)?"


_LONGEST_SCHEDULE = 20


def _known_schedule(value: str) -> str:
    if len(value) > _LONGEST_SCHEDULE or not re.fullmatch(_SCHEDULES, value):
        raise ValueError(
            "must be cosine, linear, log-linear, sigmoid, or pow<k> such as pow2 or pow0.5, of at most "
            f"{_LONGEST_SCHEDULE} characters"
        )
    return value


Schedule = Annotated[str, AfterValidator(_known_schedule)]
"""Of masked tokens, by name (`model.schedules`)."""


def _interval(value: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= value[0] < value[1] <= 1:
        raise ValueError("must be [begin,end], shares of the steps with 0 <= begin < end <= 1")
    return value


class DrawingConfig(Settings):
    """How images are drawn; defaults are Show-o's, as none are stated by the paper.

    Attributes:
        steps: of denoising.
        guidance: classifier-free guidance in Show-o's convention; 0 is none, and takes half the time.
        guidance_interval: shares of the steps between which there is guidance; a step outside takes half the time.
        temperature: of the noise on the confidence by which tokens stay.
        schedule: share of the tokens that is still masked after each step.
        top_k: draw from this many likeliest codes only; null for all.
        top_p: draw from the likeliest codes that together reach this probability only; null for all.
        format: of the images in the output.
        files: also write each image as a file under `files/` in the sink.
    """

    steps: int = Field(default=18, ge=1)
    guidance: float = Field(default=5.0, ge=0, allow_inf_nan=False)
    guidance_interval: Annotated[tuple[float, float], AfterValidator(_interval)] = (0.0, 1.0)
    temperature: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    schedule: Schedule = "cosine"
    top_k: int | None = Field(default=None, ge=1)
    top_p: float | None = Field(default=None, gt=0, le=1)
    format: Literal["png", "jpeg"] = "png"
    files: bool = False


class GenerateConfig(DrawingConfig):
    """Images of prompts, which come from `source.prompt_column`.

    Attributes:
        images_per_prompt: output rows of each prompt.
        best_of: draw this many for each of them, and keep the one that the model itself finds to fit best.
    """

    name: Literal["generate"] = "generate"
    images_per_prompt: int = Field(default=1, ge=1, le=1000)
    best_of: int = Field(default=1, ge=1, le=1000)


def _box(value: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = value
    if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
        raise ValueError("must be [x0,y0,x1,y1], fractions of the image with 0 <= x0 < x1 <= 1 and likewise y")
    return value


Box = Annotated[tuple[float, float, float, float], AfterValidator(_box)]
"""A part of an image: left, top, right and bottom as fractions of its width and height."""


class EditConfig(DrawingConfig):
    """A region of every image, drawn anew from a prompt.

    Attributes:
        prompt: for every image; or `source.prompt_column`.
        box: the region in every image; or `source.mask_column` or `source.box_column`.
    """

    name: Literal["edit"] = "edit"
    prompt: Text | None = None
    box: Box | None = None


class ScoreConfig(Settings):
    """How well images and texts fit.

    Attributes:
        text: what every image is said to show; or `source.text_column`.
    """

    name: Literal["score"] = "score"
    text: Text | None = None


ENCODERS = ("semantic", "identity")
"""Names of the model's encoders that look at images."""


class TokenizeConfig(Settings):
    """Images as the model sees them, with the texts about them: what training reads.

    Attributes:
        keep: of an image, beside its codes: `features`, what the model's encoders see of it (float16; nothing where it
            has none); `pixels`, for training the encoders too; `nothing`.
    """

    name: Literal["tokenize"] = "tokenize"
    keep: Literal["features", "pixels", "nothing"] = "features"


class MeasureConfig(Settings):
    """Output rows of another run, each held against what is known of it: a step of `uniface evaluate`.

    Attributes:
        of: kind of the rows; `faces` are real ones, of which only features are taken.
        labels: column of each attribute that is known.
        text_column: of the caption, the answer or the prompt.
        right_column: of the reference captions or the right answers.
        judges: see `EvaluateConfig`, as the next two.
        own_score: likewise.
        features: null where none are wanted.
    """

    name: Literal["measure"] = "measure"
    of: Literal["captions", "answers", "drawings", "faces"]
    labels: dict[str, str] = Field(default_factory=dict)
    text_column: Text | None = None
    right_column: Text | None = None
    judges: tuple[Text, ...] = ()
    own_score: bool = False
    features: Text | None = None


TaskConfig = Annotated[
    CaptionConfig | VqaConfig | GenerateConfig | EditConfig | ScoreConfig | TokenizeConfig | MeasureConfig,
    Field(discriminator="name"),
]
TASK_CONFIGS: dict[str, type[Settings]] = {
    "caption": CaptionConfig,
    "vqa": VqaConfig,
    "generate": GenerateConfig,
    "edit": EditConfig,
    "score": ScoreConfig,
    "tokenize": TokenizeConfig,
}
