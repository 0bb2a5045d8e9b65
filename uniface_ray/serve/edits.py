"""What a request to edit holds: the picture and where to draw, in a form or as JSON."""

from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile

from uniface_ray.core.records import Pixels
from uniface_ray.core.task_config import Box
from uniface_ray.serve.errors import ApiError, wrong_kind
from uniface_ray.serve.images_schema import EditBody, EditRequest, check_region
from uniface_ray.serve.pictures import Pictures

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


async def edit_of(request: Request) -> tuple[EditRequest, str | bytes, str | bytes | Box]:
    """What is asked for, the picture, and the mask or box: encoded or by a URL.

    Raises:
        ApiError: no picture or no region, or neither a form nor JSON.
        RequestValidationError: other mistakes.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("application/json", "multipart/form-data", "application/x-www-form-urlencoded"):
        raise wrong_kind(kind, "a form (multipart/form-data) or JSON (application/json)")
    if kind == "application/json":
        text = await request.body()
        with _as_fastapi_does():
            asked = EditBody.model_validate_json(text)
        where = asked.mask if asked.mask is not None else asked.box
        assert where is not None  # `check_region`
        return asked, asked.images[0], where
    async with request.form(max_files=4) as form:
        with _as_fastapi_does():
            body = EditRequest.model_validate({name: one for name, one in form.items() if isinstance(one, str)})
        images, masks = _files(form, "image", "image[]"), _files(form, "mask")
        if len(images) != 1:
            raise ApiError(
                400, f"image: give one file, and there are {len(images)}", param="image", code="invalid_image"
            )
        check_region(len(masks), body.box)
        region = await masks[0].read() if masks else body.box
        assert region is not None
        return body, await images[0].read(), region


@contextmanager
def _as_fastapi_does() -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        raise RequestValidationError([{**one, "loc": ("body", *one["loc"])} for one in error.errors()]) from error


def _files(form: FormData, *names: str) -> list[UploadFile]:
    return [one for name in names for one in form.getlist(name) if isinstance(one, UploadFile)]


async def region_of(
    image: str | bytes, where: str | bytes | Box, pictures: Pictures, size: int
) -> tuple[Pixels, Pixels]:
    """The picture (3, size, size) and what of it to draw anew (size, size), uint8.

    Raises:
        ApiError: one of them cannot be read, or nothing is left to draw.
    """
    picture = await pictures.picture(image, "images.0.image_url" if isinstance(image, str) else "image", size)
    param = "mask.image_url" if isinstance(where, str) else "mask" if isinstance(where, bytes) else "box"
    return picture.pixels, await pictures.region(where, param, picture.shape, size)


__all__ = ["EDIT_BODIES", "edit_of", "region_of"]
