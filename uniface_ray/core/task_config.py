"""The settings of each task; `task.name`, which the command gives, says which of them holds."""

from typing import Annotated, Literal

from pydantic import Field

from uniface_ray.core.settings import Settings

Text = Annotated[str, Field(min_length=1)]


class CaptionConfig(Settings):
    """What is asked of every image.

    Attributes:
        question: as the model reads it.
        max_new_tokens: a caption is cut here.
    """

    name: Literal["caption"] = "caption"
    question: Text = "Please describe this face in detail."
    max_new_tokens: int = Field(default=100, ge=1)


class VqaConfig(Settings):
    """Questions about images; they come from here or from `source.question_column`.

    Attributes:
        question: one, asked of every image.
        questions: several, likewise.
        max_new_tokens: an answer is cut here.
    """

    name: Literal["vqa"] = "vqa"
    question: Text | None = None
    questions: tuple[Text, ...] = ()
    max_new_tokens: int = Field(default=100, ge=1)


TaskConfig = Annotated[CaptionConfig | VqaConfig, Field(discriminator="name")]
TASK_CONFIGS: dict[str, type[Settings]] = {"caption": CaptionConfig, "vqa": VqaConfig}
