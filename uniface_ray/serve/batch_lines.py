"""Lines of a batch's input: which are requests that our pipeline can do, as what, and what is wrong with the others."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from pydantic import ValidationError

from uniface_ray.core.records import row_id_of
from uniface_ray.serve.bodies import MOST_VALUES
from uniface_ray.serve.chat import check_answer_form, picture_of, question_of
from uniface_ray.serve.chat_schema import ChatRequest
from uniface_ray.serve.errors import ApiError, invalid
from uniface_ray.serve.images_schema import EditBody, ImagesRequest

Endpoint = Literal["/v1/chat/completions", "/v1/images/generations", "/v1/images/edits"]
_MOST_ERRORS = 100
_LONGEST_TYPED = 100_000  # bytes of a setting; Linux takes 131,071 in one argument of a command


@dataclass(frozen=True, slots=True)
class Offer:
    """What lines may ask for.

    Attributes:
        models: path of the weights, by name; the first is taken where a line names none.
        image_sizes: pixels of a side, by the same names.
        max_tokens: of an answer, where a line does not say.
    """

    models: dict[str, str]
    image_sizes: dict[str, int]
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Settings:
    """What the lines of one run share.

    Attributes:
        model: by its name.
        typed: settings of the command, as they are typed.
    """

    model: str
    typed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """A line that is a request.

    Attributes:
        custom_id: the client's own name for it.
        settings: of its run.
        text: the question, or the prompt.
        seed: of what is drawn by chance.
        url: of the picture; empty for a prompt.
        stops: texts that end the answer.
        mask: URL of the picture that says where to draw.
        box: says the same.
    """

    custom_id: str
    settings: Settings
    text: str
    seed: int
    url: str = ""
    stops: tuple[str, ...] = ()
    mask: str = ""
    box: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Wrong:
    """A line that is none, though it says what it is called: it fails alone."""

    custom_id: str
    error: ApiError


@dataclass(slots=True)
class MalformedError(Exception):
    """Lines that are no requests at all: the batch as a whole fails, and nothing of it is run.

    Attributes:
        errors: the first of them, as OpenAI's API lists them.
    """

    errors: list[dict[str, Any]] = field(default_factory=list)


def read_lines(
    lines: Iterable[bytes], endpoint: Endpoint, offer: Offer, most: int, most_bytes: int
) -> Iterator[Line | Wrong]:
    """The requests of an input file, one by one.

    Args:
        lines: of the file.
        endpoint: that all of them name.
        offer: what there is to ask for.
        most: lines.
        most_bytes: of one line.

    Raises:
        MalformedError: after the last line, where some were.
    """
    bad = MalformedError()
    seen: set[str] = set()
    count = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        count += 1
        try:
            if count > most:
                raise ApiError(400, f"has more than {most:,} lines (files.batch_lines)", code="too_many_lines")
            custom_id, body = _envelope(line, endpoint, most_bytes)
            if custom_id in seen:
                what = f"custom_id {custom_id!r:.80} is another line's"
                raise ApiError(400, what, code="duplicate_custom_id", param="custom_id")
            seen.add(custom_id)
        except ApiError as error:
            bad.errors.append({"code": error.code, "line": number, "message": error.message, "param": error.param})
            if len(bad.errors) == _MOST_ERRORS or count > most:
                raise bad from None
            continue
        try:
            yield _READERS[endpoint](custom_id, body, offer)
        except ValidationError as error:
            yield Wrong(custom_id, invalid(error.errors()[0], error.errors()[0]["loc"]))
        except ApiError as error:
            yield Wrong(custom_id, error)
    if not count and not bad.errors:
        bad.errors.append({"code": "empty_file", "line": None, "message": "the file has no lines", "param": None})
    if bad.errors:
        raise bad


def _envelope(line: bytes, endpoint: Endpoint, most: int) -> tuple[str, dict[str, Any]]:
    if len(line) > most:
        raise ApiError(400, f"has more than {most:,} bytes (guard.max_body_bytes)", code="line_too_large")
    if line.count(b",") > MOST_VALUES:
        raise ApiError(400, f"has more than {MOST_VALUES:,} values", code="line_too_large")
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"is no JSON: {type(error).__name__}", code="invalid_json_line") from error
    if not isinstance(values, dict):
        raise ApiError(400, "is no JSON object", code="invalid_json_line")
    custom_id, url, method = (values.get(name) for name in ("custom_id", "url", "method"))
    if not isinstance(custom_id, str) or not 1 <= len(custom_id) <= 512 or not custom_id.isprintable():
        raise ApiError(
            400, "needs a custom_id of 1 to 512 printable characters", code="invalid_custom_id", param="custom_id"
        )
    if method != "POST":
        raise ApiError(400, f"has the method {method!r:.40}, and needs POST", code="invalid_method", param="method")
    if url != endpoint:
        what = f"has the url {url!r:.80}, but the batch is for {endpoint}"
        raise ApiError(400, what, code="mismatched_endpoint", param="url")
    body = values.get("body")
    if not isinstance(body, dict):
        raise ApiError(400, "has no body", code="invalid_body", param="body")
    return custom_id, body


def _chat(custom_id: str, values: dict[str, Any], offer: Offer) -> Line:
    body = ChatRequest.model_validate(values)
    model = _model(body.model, offer)
    _refuse("stream", body.stream)
    _refuse("n", (body.n or 1) > 1)
    schema = body.response_format.schema_text if body.response_format else None
    _check_form(tuple(body.guided_choice), schema)
    url, place = picture_of(body.messages)
    _check_url(url, place)
    most = body.max_completion_tokens or body.max_tokens or offer.max_tokens
    asked: dict[str, Any] = {"max_new_tokens": most}
    if body.temperature:
        asked |= {"temperature": body.temperature, "top_p": body.top_p or 1.0}
    if body.guided_choice:
        asked["choices"] = body.guided_choice
    if schema is not None:
        asked["json_schema"] = schema
    seed, settings = _seed(custom_id, body.seed), Settings(model, _typed(asked))
    return Line(custom_id, settings, question_of(body.messages), seed, url, stops=tuple(body.stops))


def _images(custom_id: str, values: dict[str, Any], offer: Offer) -> Line:
    body = ImagesRequest.model_validate(values)
    model, asked = _drawing(body, offer)
    asked["images_per_prompt"] = body.n or 1
    return Line(custom_id, Settings(model, _typed(asked)), body.prompt, _seed(custom_id, body.seed))


def _edits(custom_id: str, values: dict[str, Any], offer: Offer) -> Line:
    body = EditBody.model_validate(values)
    model, asked = _drawing(body, offer)
    _refuse("n", (body.n or 1) > 1)
    url, mask = body.images[0], body.mask or ""
    _check_url(url, "images.0.image_url")
    if body.mask is not None:
        _check_url(mask, "mask.image_url")
    # A run takes its regions from one column.
    region = "source.mask_column=mask" if body.box is None else "source.box_column=box"
    settings = Settings(model, (*_typed(asked), region))
    return Line(custom_id, settings, body.prompt, _seed(custom_id, body.seed), url, mask=mask, box=body.box)


_READERS = {"/v1/chat/completions": _chat, "/v1/images/generations": _images, "/v1/images/edits": _edits}


def _drawing(body: ImagesRequest, offer: Offer) -> tuple[str, dict[str, Any]]:
    """The model, and settings of the task."""
    model = _model(body.model, offer)
    _refuse("stream", body.stream)
    size = offer.image_sizes[model]
    if body.size not in (None, "auto", f"{size}x{size}"):
        raise ApiError(400, f"size: {model} draws {size}x{size}", param="size", code="invalid_size")
    return model, body.drawing.model_dump(exclude_none=True, exclude={"files"})


def _seed(custom_id: str, given: int | None) -> int:
    """As online; where none is given it is the same at every attempt."""
    return row_id_of(custom_id, 0) if given is None else given & (2**63 - 1)


def _check_url(url: str, place: str) -> None:
    if url[:5].lower() != "data:" and url[:6].lower() != "https:":
        what = f"{place}: a picture is a data: URL, or an https:// address where the server allows those"
        raise ApiError(400, what, param=place, code="invalid_image_url")


def _typed(asked: dict[str, Any]) -> tuple[str, ...]:
    """Settings of a run, as they are typed.

    Raises:
        ApiError: 400, one is too long for that.
    """
    typed = tuple(f"task.{name}={as_typed(value)}" for name, value in asked.items())
    for setting in typed:
        if len(setting.encode()) > _LONGEST_TYPED:
            name = setting.partition("=")[0].removeprefix("task.")
            what = (
                f"{name} has more than the {_LONGEST_TYPED:,} bytes that a batch can do, as JSON in ASCII: shorten it"
            )
            raise ApiError(400, what, code="setting_too_long")
    return typed


@lru_cache(maxsize=64)
def _check_form(choices: tuple[str, ...], schema: str | None) -> None:
    """As online; the lines of a batch mostly have the same."""
    if choices or schema is not None:
        check_answer_form(choices, schema)


def as_typed(value: object) -> str:
    """A setting's value as it is typed."""
    if isinstance(value, list | tuple):
        return json.dumps(list(value))
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _model(name: str | None, offer: Offer) -> str:
    if name is None:
        return next(iter(offer.models))
    if name not in offer.models:
        known = ", ".join(offer.models)
        what = f"the model {name!r:.80} does not exist; this server has {known}"
        raise ApiError(404, what, param="model", code="model_not_found")
    return name


def _refuse(name: str, asked: object) -> None:
    if asked:
        what = f"{name} cannot be set in a batch; leave it out"
        raise ApiError(400, what, param=name, code="unsupported_parameter")


__all__ = ["Endpoint", "Line", "MalformedError", "Offer", "Settings", "Wrong", "as_typed", "read_lines"]
