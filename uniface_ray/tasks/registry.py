"""From settings to a task."""

from uniface_ray.core.config import JobConfig
from uniface_ray.core.task_config import (
    CaptionConfig,
    EditConfig,
    GenerateConfig,
    MeasureConfig,
    ScoreConfig,
    TokenizeConfig,
    VqaConfig,
)
from uniface_ray.tasks.base import Task
from uniface_ray.tasks.caption import Caption
from uniface_ray.tasks.edit import Edit
from uniface_ray.tasks.generate import Generate
from uniface_ray.tasks.measure import Measure
from uniface_ray.tasks.score import Score
from uniface_ray.tasks.tokenize import Tokenize
from uniface_ray.tasks.vqa import Vqa


def build_task(config: JobConfig) -> Task:
    """The task that `task.name` says.

    Raises:
        UserError: settings of the task that do not go together.
    """
    match config.task:
        case CaptionConfig() as task:
            return Caption(task)
        case VqaConfig() as task:
            return Vqa(task, config.source)
        case GenerateConfig() as task:
            return Generate(task, config.source, config.model.name)
        case EditConfig() as task:
            return Edit(task, config.source, config.model.name)
        case ScoreConfig() as task:
            return Score(task, config.source)
        case TokenizeConfig() as task:
            return Tokenize(task, config.source)
        case MeasureConfig() as task:
            return Measure(task)
