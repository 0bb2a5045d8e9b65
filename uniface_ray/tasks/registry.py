"""From settings to a task."""

from uniface_ray.core.config import JobConfig
from uniface_ray.core.task_config import CaptionConfig, VqaConfig
from uniface_ray.tasks.base import Task
from uniface_ray.tasks.caption import Caption
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
