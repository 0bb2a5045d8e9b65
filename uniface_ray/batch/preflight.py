"""Mistakes found before Ray starts: what can be told from the settings, the storage and this machine."""

from dataclasses import dataclass

import pyarrow as pa

from uniface_ray.batch import photos
from uniface_ray.core.config import JobConfig
from uniface_ray.core.errors import UserError
from uniface_ray.core.storage import Folder
from uniface_ray.data.slices import Source
from uniface_ray.data.sources import open_source
from uniface_ray.engine.check import check_engine
from uniface_ray.engine.weights import CheckedModel
from uniface_ray.tasks.base import Task
from uniface_ray.tasks.registry import build_task

# Columns of every output, and of its rejects, that a kept column must not hide.
_OUR_COLUMNS = {
    "row_id",
    "parent_id",
    "uri",
    "task",
    "model",
    "seed",
    "status",
    "error_kind",
    "error_message",
    "stage",
    "attempts",
}


@dataclass(frozen=True, slots=True)
class Checked:
    """What the checks found out.

    Attributes:
        source: ready to be listed.
        sink: whose bucket is there.
        kept: types of `source.keep_columns`.
        model: there and whole.
    """

    source: Source
    sink: Folder
    kept: pa.Schema
    model: CheckedModel


def check(config: JobConfig) -> Checked:
    """Check source, model and sink; nothing is written yet, so that a mistake leaves no sink behind.

    Raises:
        UserError: the first mistake found.
    """
    task = build_task(config)
    _check_columns(config, task)
    source = open_source(config.source, config.storage, config.decode, task.wanted)
    source.check()
    kept = photos.kept_with_faces(source.kept(), config.faces)
    _check_kept(kept)
    model = check_engine(config)
    sink = Folder(config.sink.path, config.storage)
    _check_apart(source, sink)
    sink.check("sink.path")
    return Checked(source, sink, kept, model)


def _check_columns(config: JobConfig, task: Task) -> None:
    ours = _OUR_COLUMNS | set(task.columns.names) | set(photos.COLUMNS.names if config.faces.enabled else ())
    taken = {name for name, out in config.source.kept_names.items() if out in ours}
    if taken:
        raise UserError(
            f"source.keep_columns has {', '.join(sorted(taken))}, but the output has columns of that name itself: "
            "leave them out, or give source.keep_prefix, as in source.keep_prefix=given_"
        )


def _check_kept(kept: pa.Schema) -> None:
    for column in kept:
        try:
            pa.array([None], pa.struct([column]))
            pa.scalar(None, column.type)
        except pa.ArrowException as error:
            raise UserError(
                f"source.keep_columns has {column.name}, of type {column.type}, which cannot be carried through "
                f"({error}): leave it out, or store it as a plain type"
            ) from error


def _check_apart(source: Source, sink: Folder) -> None:
    if source.address and f"{sink.uri}/".startswith(f"{source.address}/"):
        raise UserError(
            f"sink.path is {sink.uri!r}, which lies inside source.path ({source.address!r}): a later run would take "
            "its output for input. Use a folder beside the source"
        )
