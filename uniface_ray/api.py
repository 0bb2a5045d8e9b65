"""The commands for a handful of pictures or prompts, in this process, without Ray."""

import io
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
from uniface_ray.data.pixels import fit_square
from uniface_ray.engine.build import build_engine
from uniface_ray.engine.check import check_engine
from uniface_ray.engine.device import local_gpus, resolve_device, resolve_dtype
from uniface_ray.engine.protocol import Engine
from uniface_ray.tasks.answer import answer_rows
from uniface_ray.tasks.base import Values
from uniface_ray.tasks.regions import region_of
from uniface_ray.tasks.registry import build_task

Picture = Image.Image | Pixels | bytes | str | PathLike[str]
_ENGINES: dict[object, Engine] = {}
_PICTURE = (Image.Image, np.ndarray, bytes, str, PathLike)


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
    return [str(values["caption"]) for (values,) in _run("caption", images, {}, settings)]


def answer(images: Picture | Sequence[Picture], question: str | Sequence[str], **settings: Any) -> list[list[str]]:
    """Answer one or several questions about each picture; `settings` are those of `uniface vqa`, else as `caption`.

    Returns:
        For each picture the answers, in the order of the questions.
    """
    questions = [question] if isinstance(question, str) else list(question)
    found = _run("vqa", images, {"question": questions}, {"source.question_column": "question", **settings})
    return [[str(values["answer"]) for values in rows] for rows in found]


def generate(prompts: str | Sequence[str], **settings: Any) -> list[list[Image.Image]]:
    """Draw faces; `settings` are those of `uniface generate`, as in `task__best_of=4`, `run__seed=1`.

    Returns:
        For each prompt its images (`task__images_per_prompt`, one by default); `info` of each says how it came to be.
    """
    found = _run("generate", [prompts] if isinstance(prompts, str) else prompts, {}, settings)
    return [[Image.open(io.BytesIO(values["image"])) for values in rows] for rows in found]


def edit(
    images: Picture | Sequence[Picture],
    prompt: str,
    box: tuple[float, float, float, float] | None = None,
    mask: bytes | None = None,
    **settings: Any,
) -> list[Image.Image]:
    """Draw a region of each picture anew; `settings` are those of `uniface edit`, else as `caption`.

    Args:
        images: one or more pictures.
        prompt: what to draw there.
        box: left, top, right and bottom as fractions of the picture; or
        mask: an encoded image of the picture's size, white where to draw.

    Returns:
        One square image of the model's size for each picture.
    """
    if (box is None) == (mask is None):
        raise UserError("edit needs to know where to draw: give either box=(left, top, right, bottom) or mask=...")
    region = {"mask": mask} if box is None else {"box": list(box)}
    named = {f"source.{name}_column": name for name in ("prompt", *region)}
    found = _run("edit", images, {"prompt": prompt, **region}, {**named, **settings})
    return [Image.open(io.BytesIO(values["image"])) for (values,) in found]


def score(images: Picture | Sequence[Picture], text: str | Sequence[str], **settings: Any) -> list[list[float]]:
    """How well each picture and each text fit, 0..1; `settings` are those of `uniface score`, else as `caption`.

    Returns:
        For each picture the scores, in the order of the texts.
    """
    texts = [text] if isinstance(text, str) else list(text)
    found = _run("score", images, {"text": texts}, {"source.text_column": "text", **settings})
    return [[float(values["score"]) for values in rows] for rows in found]


def _run(
    command: str, given: Picture | Sequence[Any], fields: dict[str, Any], settings: dict[str, Any]
) -> list[list[Values]]:
    """Output rows of each picture or prompt, by the command's own road, so that a notebook and a job do the same."""
    typed = [f"{name.replace('__', '.')}={value}" for name, value in settings.items()]
    config = compose(command, ["source.path=.", "sink.path=.", *typed])  # nothing is read from there or written
    task = build_task(config)
    items = [given] if isinstance(given, _PICTURE) else list(given)
    if task.wanted.image:
        size = check_engine(config).image_size
        rows = [_row(picture, index, dict(fields), config, size) for index, picture in enumerate(items)]
    else:
        rows = [Row(RowRef(index, f"prompts[{index}]"), fields={"prompt": text}) for index, text in enumerate(items)]
    for row in rows:
        row.fields = task.wanted.given | row.fields
    answers = answer_rows(task, _engine(config), rows, config.run.seed)
    for one in answers:
        if one.reject:
            raise UserError(f"{one.row.ref.uri} has no result: {one.reject.message}")
    return [one.rows for one in answers]


def _engine(config: JobConfig) -> Engine:
    """The engine of the last call, where it had the same settings and the weights are as they were."""
    key = (config.model, config.storage, config.engine, config.remote, check_engine(config).fingerprint)
    if key not in _ENGINES:
        _ENGINES.clear()
        device = resolve_device(config.engine, local_gpus())
        _ENGINES[key] = build_engine(config, device, resolve_dtype(config.engine, device), config.engine.threads)
    return _ENGINES[key]


def _row(picture: Picture, index: int, fields: dict[str, Any], config: JobConfig, size: int) -> Row:
    row = Row(RowRef(index, f"images[{index}]"), fields=fields)
    try:
        pixels = _decoded(picture, config.decode.max_pixels)
        row.pixels = fit_square(pixels, size)
        row.mask = region_of(row, pixels.shape[:2], size, config.decode.max_pixels)
    except (RejectError, OSError, TypeError) as error:
        raise UserError(f"images[{index}] cannot be read: {error}") from error
    return row


def _decoded(picture: Picture, max_pixels: int) -> Pixels:
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
            raise TypeError(f"it is an array {picture.dtype} {picture.shape}: give uint8 (H, W, 3) in RGB")
        return np.ascontiguousarray(picture)
    if isinstance(picture, Image.Image):
        return np.asarray(picture.convert("RGB"))
    return decode_image(picture if isinstance(picture, bytes) else Path(fspath(picture)).read_bytes(), max_pixels)
