"""What a request to edit holds: the picture and where to draw, in a form or as JSON."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile

from uniface_ray.core.records import Pixels, RejectError
from uniface_ray.core.task_config import Box
from uniface_ray.serve.errors import ApiError, rejected
from uniface_ray.serve.images_schema import EditBody, EditRequest, check_region
from uniface_ray.serve.pictures import Pictures, fitted
from uniface_ray.tasks.regions import boxed, fit_region

_FILE = {"type": "string", "format": "binary"}
EDIT_BODIES = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image", "prompt"],
                    "properties": {"image": _FILE, "mask": _FILE, **EditRequest.model_json_schema()["properties"]},
                }
            },
            "application/json": {"schema": EditBody.model_json_schema()},
        },
    }
}
"""Of the OpenAPI document."""


async def edit_of(request: Request) -> tuple[EditRequest, bytes, bytes | None]:
    """What is asked for, and the files that came with it: the picture, and its mask where it has one.

    Raises:
        ApiError: no picture or no region, or one that cannot be fetched.
        RequestValidationError: other mistakes.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json":
        text = await request.body()
        with _as_fastapi_does():
            asked = EditBody.model_validate_json(text)
        pictures: Pictures = request.app.state.pictures
        image = await pictures.bytes_of_url(asked.images[0], "images.0.image_url")
        return asked, image, await pictures.bytes_of_url(asked.mask, "mask.image_url") if asked.mask else None
    async with request.form(max_files=4) as form:
        with _as_fastapi_does():
            body = EditRequest.model_validate({name: one for name, one in form.items() if isinstance(one, str)})
        images, masks = _files(form, "image", "image[]"), _files(form, "mask")
        if len(images) != 1:
            raise ApiError(
                400, f"image: give one file, and there are {len(images)}", param="image", code="invalid_image"
            )
        check_region(len(masks), body.box)
        return body, await images[0].read(), await masks[0].read() if masks else None


@contextmanager
def _as_fastapi_does() -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        raise RequestValidationError([{**one, "loc": ("body", *one["loc"])} for one in error.errors()]) from error


def _files(form: FormData, *names: str) -> list[UploadFile]:
    return [one for name in names for one in form.getlist(name) if isinstance(one, UploadFile)]


async def region_of(
    image: bytes, mask: bytes | None, box: Box | None, pictures: Pictures, size: int
) -> tuple[Pixels, Pixels]:
    """The picture (3, size, size) and what of it to draw anew (size, size), uint8.

    Raises:
        ApiError: one of them cannot be read, or nothing is left to draw.
    """
    picture = await pictures.from_bytes(image, "image")
    shape = picture.shape[:2]
    try:
        region = boxed(box or (), shape) if mask is None else await pictures.mask_from_bytes(mask, "mask")
        return await fitted(picture, size), await asyncio.to_thread(fit_region, region, shape, size)
    except RejectError as error:
        raise rejected(error.at("ask"), "box" if mask is None else "mask") from error


__all__ = ["EDIT_BODIES", "edit_of", "region_of"]
