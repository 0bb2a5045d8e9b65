"""What generate and edit share: requests to draw, and the columns of drawn images."""

from typing import Any

import pyarrow as pa

from uniface_ray.core.records import Pixels
from uniface_ray.core.task_config import DrawingConfig
from uniface_ray.engine.protocol import Draw, Drawing
from uniface_ray.tasks.base import Values
from uniface_ray.tasks.pictures import DRAWN, EDITED, encode_picture, provenance

# Files of a sink lie in this many folders: one with millions of files is slow everywhere.
_FOLDERS = 1000


def drawing_columns(config: DrawingConfig) -> list[pa.Field]:
    """Columns of `drawn_values`."""
    file = [pa.field("file", pa.string())] if config.files else []
    return [pa.field("prompt", pa.string()), pa.field("image", pa.binary()), *file, pa.field("prompt_cut", pa.string())]


def draw(
    config: DrawingConfig, prompt: str, seed: int, pixels: Pixels | None = None, mask: Pixels | None = None
) -> Draw:
    """The request for one image."""
    return Draw(
        prompt=prompt,
        seed=seed,
        steps=config.steps,
        guidance=config.guidance,
        guidance_interval=config.guidance_interval,
        temperature=config.temperature,
        schedule=config.schedule,
        top_k=config.top_k,
        top_p=config.top_p,
        pixels=pixels,
        mask=mask,
    )


def drawn_values(config: DrawingConfig, model: str, request: Draw, drawing: Drawing, row_id: int, index: int) -> Values:
    """Output columns of one image: the file's bytes, its name where it is one, and what of the prompt was cut."""
    settings: dict[str, Any] = {
        name: getattr(request, name)
        for name in ("steps", "guidance", "guidance_interval", "temperature", "schedule", "top_k", "top_p")
    }
    facts = provenance(model, request.prompt, request.seed, {k: v for k, v in settings.items() if v is not None})
    kind = DRAWN if request.pixels is None else EDITED
    suffix = "jpg" if config.format == "jpeg" else "png"
    return {
        "prompt": request.prompt,
        "image": encode_picture(drawing.pixels, config.format, facts, kind),
        "file": f"files/{row_id % _FOLDERS:03d}/{row_id}-{index}.{suffix}",
        "prompt_cut": drawing.cut or None,
        "seed": request.seed,
    }
