"""Captions for a handful of images, in this process, without Ray."""

from collections.abc import Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from uniface_ray.core.compose import compose
from uniface_ray.core.config import JobConfig
from uniface_ray.core.errors import UserError
from uniface_ray.core.records import Pixels, RejectError, Row, RowRef
from uniface_ray.data.images import decode_image
from uniface_ray.engine.build import build_engine
from uniface_ray.engine.device import local_gpus, resolve_device, resolve_dtype
from uniface_ray.engine.weights import check_model
from uniface_ray.model.pixels import fit_square
from uniface_ray.tasks.answer import answer_rows
from uniface_ray.tasks.registry import build_task

Picture = Image.Image | Pixels | bytes | str | PathLike[str]


def caption(images: Picture | Sequence[Picture], **settings: Any) -> list[str]:
    """Describe faces.

    Args:
        images: one or more pictures: PIL images, uint8 arrays (H, W, 3) in RGB, encoded bytes, or paths of files.
        settings: of `uniface caption`, with `__` for the dot: `task__question="..."`, `model__path="weights/"`,
            `engine__device="cuda"`.

    Returns:
        One caption for each picture, in order.

    Raises:
        UserError: a picture that cannot be read (the message says which and why), or a wrong setting.
    """
    pictures = [images] if isinstance(images, Image.Image | np.ndarray | bytes | str | PathLike) else list(images)
    # The run's own settings, so that a notebook and a job caption alike; nothing is read from the source or written.
    typed = [f"{name.replace('__', '.')}={value}" for name, value in settings.items()]
    config = compose("caption", ["source.path=.", "sink.path=.", *typed])
    size = check_model(config.model, config.storage).config.magvit_config.image_size
    rows = [
        Row(RowRef(index, f"images[{index}]"), pixels=fit_square(_decoded(picture, index, config), size))
        for index, picture in enumerate(pictures)
    ]
    device = resolve_device(config.engine, local_gpus())
    engine = build_engine(config, device, resolve_dtype(config.engine, device), config.engine.threads)
    answers = answer_rows(build_task(config), engine, rows, config.run.seed)
    for answer in answers:
        if answer.reject:
            raise UserError(f"{answer.row.ref.uri} has no caption: {answer.reject.message}")
    return [str(answer.rows[0]["caption"]) for answer in answers]


def _decoded(picture: Picture, index: int, config: JobConfig) -> Pixels:
    if isinstance(picture, np.ndarray):
        return np.ascontiguousarray(picture)
    if isinstance(picture, Image.Image):
        return np.asarray(picture.convert("RGB"))
    try:
        data = picture if isinstance(picture, bytes) else Path(fspath(picture)).read_bytes()
        return decode_image(data, config.decode.max_pixels)
    except (RejectError, OSError) as error:
        raise UserError(f"images[{index}] cannot be read: {error}") from error
