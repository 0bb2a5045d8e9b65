"""The settings of `uniface evaluate`."""

from pydantic import Field

from uniface_ray.core.config import JobConfig
from uniface_ray.core.settings import Settings
from uniface_ray.core.task_config import Text


class EvaluateConfig(Settings):
    """What `uniface evaluate` holds the outputs of a model against, and how.

    Attributes:
        run: sink of a finished run of caption, vqa, generate or edit; null runs the model first, as `task` says.
        labels: columns of what is known of each face, by the attribute: `gender`, or `gender:sex` where the column has
            another name. Of drawn faces, it is what was wished for; without labels it is read out of the prompts.
        reference_column: column of reference captions, a text or a list of texts (caption).
        answer_column: column of the right answers: a text, a list as long as that of the questions, or a list for a
            single question, any of which is right (vqa).
        judges: folders, s3:// URIs or hub names of classifiers of faces' attributes (generate, edit); of two that
            know the same attribute, the last one counts.
        own_score: ask the model itself how well each drawn face fits its prompt (generate, edit).
        real: folder, table or pattern of real faces that the drawn ones are compared with as a set (generate, edit).
        features: what the sets are compared in: `semantic` or `identity`, what the model's own encoders see; or folder,
            s3:// URI or hub name of a vision model of transformers.
        resamples: of the bootstrap.
        kernel_images: most images of each set that the kernel distance is made of.
        samples: faces on each contact sheet, best and worst.
    """

    run: Text | None = None
    labels: tuple[str, ...] = ()
    reference_column: str | None = None
    answer_column: str | None = None
    judges: tuple[Text, ...] = ()
    own_score: bool = True
    real: Text | None = None
    features: Text = "semantic"
    resamples: int = Field(default=1000, ge=100, le=100_000)
    kernel_images: int = Field(default=5000, ge=20)
    samples: int = Field(default=10, ge=0)


class EvaluateJobConfig(JobConfig):
    """All settings of `uniface evaluate`: those of the run whose outputs it measures, and what it measures."""

    evaluate: EvaluateConfig = EvaluateConfig()
