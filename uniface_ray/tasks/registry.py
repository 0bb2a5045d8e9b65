"""Tasks by name."""

from uniface_ray.core.config import TaskConfig
from uniface_ray.tasks.base import Task
from uniface_ray.tasks.caption import Caption

TASKS: dict[str, type[Caption]] = {"caption": Caption}


def build_task(config: TaskConfig) -> Task:
    """The task that `task.name` says."""
    return TASKS[config.name](config)
