"""Lines of a batch's input: good, wrong on their own, and such as spoil the whole."""

import base64
import json
from typing import Any

import pytest

from tests.pictures import encoded, picture
from uniface_ray.core.compose import compose
from uniface_ray.core.task_config import VqaConfig
from uniface_ray.serve.batch_lines import Endpoint, Line, MalformedError, Offer, Wrong, read_lines

OFFER = Offer({"random": "/weights", "other": "/others"}, {"random": 32, "other": 64}, 100)
URL = f"data:image/jpeg;base64,{base64.b64encode(encoded(picture())).decode()}"
CHAT: Endpoint = "/v1/chat/completions"
IMAGES: Endpoint = "/v1/images/generations"
EDITS: Endpoint = "/v1/images/edits"


def chat_body(url: str = URL, **settings: Any) -> dict[str, Any]:
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "who?"}]
    return {"messages": [{"role": "user", "content": parts}], **settings}


def line(custom_id: object, body: object, url: str = CHAT, method: str = "POST") -> bytes:
    return json.dumps({"custom_id": custom_id, "method": method, "url": url, "body": body}).encode()


def read(*lines: bytes, endpoint: Endpoint = CHAT, most: int = 10, most_bytes: int = 10_000) -> list[Line | Wrong]:
    return list(read_lines(lines, endpoint, OFFER, most, most_bytes))


def test_lines_become_requests_of_runs() -> None:
    first, second, third = read(
        line("a", chat_body(model="random", max_tokens=7, stop="x")),
        b"",
        line("b", chat_body(max_tokens=7, temperature=0, n=1, stream=False, user="u")),
        line("c", chat_body(model="other")),
    )
    assert isinstance(first, Line)
    assert isinstance(second, Line)
    assert isinstance(third, Line)
    assert first.settings == second.settings
    assert (first.settings.model, first.settings.typed) == ("random", ("task.max_new_tokens=7",))
    assert (first.text, first.url, first.stops) == ("who?", URL, ("x",))
    assert third.settings.typed == ("task.max_new_tokens=100",)


def test_the_form_of_an_answer_is_the_run_s() -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "boolean"}}}
    bad = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "surprise"}}}
    first, second, third = read(
        line("a", chat_body(guided_choice=["yes, she is", "no"])),
        line("b", chat_body(response_format=schema)),
        line("c", chat_body(response_format=bad)),
    )
    assert isinstance(first, Line)
    assert isinstance(second, Line)
    assert first.settings.typed[1:] == ('task.choices=["yes, she is", "no"]',)
    assert second.settings.typed[1:] == ('task.json_schema={"type": "boolean"}',)
    assert isinstance(third, Wrong)
    assert third.error.param == "response_format"
    config = compose("vqa", ["source.path=x", "sink.path=y", *first.settings.typed])
    assert isinstance(config.task, VqaConfig)
    assert config.task.choices == ("yes, she is", "no")


def test_prompts_become_drawings_as_online() -> None:
    first, second = read(
        line("a", {"prompt": "a face", "seed": -1, "steps": 5, "n": 2, "top_k": 9, "output_format": "jpeg"}, IMAGES),
        line("b", {"prompt": "a face", "size": "32x32"}, IMAGES),
        endpoint=IMAGES,
    )
    assert isinstance(first, Line)
    assert isinstance(second, Line)
    assert first.seed == 2**63 - 1
    assert {"task.steps=5", "task.top_k=9", "task.format=jpeg", "task.images_per_prompt=2"} <= {*first.settings.typed}
    assert 0 <= second.seed < 2**63


def test_answers_drawn_by_chance_have_a_seed() -> None:
    first, second, third = read(
        line("a", chat_body(temperature=0.5, top_p=0.9, seed=-1)),
        line("b", chat_body(temperature=0.5, top_p=0.9)),
        line("c", chat_body(temperature=0, top_p=0.9)),
    )
    assert isinstance(first, Line)
    assert isinstance(second, Line)
    assert isinstance(third, Line)
    assert first.settings == second.settings
    assert first.settings.typed[1:] == ("task.temperature=0.5", "task.top_p=0.9")
    assert first.seed == 2**63 - 1
    assert 0 <= second.seed < 2**63
    assert third.settings.typed == ("task.max_new_tokens=100",), "the likeliest ones need neither"


def test_edits_have_a_mask_or_a_box() -> None:
    image = {"images": [{"image_url": URL}], "prompt": "a hat"}
    found = read(
        line("a", image | {"mask": {"image_url": URL}, "seed": 3, "steps": 5}, EDITS),
        line("b", image | {"box": [0, 0.5, 1, 1]}, EDITS),
        line("c", image, EDITS),
        line("d", image | {"box": [0, 0, 1, 1], "mask": {"image_url": URL}}, EDITS),
        line("e", image | {"box": [0, 0, 1, 1], "images": []}, EDITS),
        line("f", image | {"mask": {"image_url": "file:///etc/passwd"}}, EDITS),
        line("g", image | {"box": [0, 0, 1, 1], "n": 2}, EDITS),
        endpoint=EDITS,
    )
    masked, boxed, *wrong = found
    assert isinstance(masked, Line)
    assert isinstance(boxed, Line)
    assert (masked.text, masked.url, masked.mask, masked.box, masked.seed) == ("a hat", URL, URL, None, 3)
    assert (boxed.mask, boxed.box) == ("", (0, 0.5, 1, 1))
    assert {"task.steps=5", "source.mask_column=mask"} <= {*masked.settings.typed}
    assert "source.box_column=box" in boxed.settings.typed
    assert [one.error.code for one in wrong if isinstance(one, Wrong)] == [
        "mask_required",
        "mask_required",
        "invalid_value",
        "invalid_image_url",
        "unsupported_parameter",
    ]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (chat_body(temperature=3), "invalid_value"),
        (chat_body(stream=True), "unsupported_parameter"),
        (chat_body(n=2), "unsupported_parameter"),
        (chat_body(model="gpt"), "model_not_found"),
        (chat_body(max_tokens=0), "invalid_value"),
        (chat_body(surprise=1), "unknown_parameter"),
        (chat_body("file:///etc/passwd"), "invalid_image_url"),
        (chat_body("s3://bucket/face.jpg"), "invalid_image_url"),
        (chat_body("http://faces.example.com/face.jpg"), "invalid_image_url"),
        (chat_body("/etc/passwd"), "invalid_image_url"),
        (chat_body(guided_choice=[f"{n}{'é' * 900}" for n in range(20)]), "setting_too_long"),
        ({"messages": []}, "invalid_value"),
        ({"messages": [{"role": "user", "content": "who?"}]}, "image_required"),
        ({}, "missing_required_parameter"),
    ],
)
def test_a_wrong_line_fails_alone(body: dict[str, Any], code: str) -> None:
    wrong, good = read(line("a", body), line("b", chat_body()), most_bytes=10**6)
    assert isinstance(wrong, Wrong)
    assert (wrong.custom_id, wrong.error.code) == ("a", code)
    assert isinstance(good, Line)


def test_a_schedule_is_no_book() -> None:
    body = {"prompt": "a face", "schedule": f"pow{'0' * 140_000}1"}
    wrong, good = read(
        line("a", body, IMAGES), line("b", {**body, "schedule": "pow0.25"}, IMAGES), endpoint=IMAGES, most_bytes=10**6
    )
    assert isinstance(wrong, Wrong)
    assert wrong.error.code == "invalid_value"
    assert isinstance(good, Line)


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ([b"{"], "invalid_json_line"),
        ([b"[" * 100_000], "invalid_json_line"),
        ([b"null"], "invalid_json_line"),
        ([b"\xff\xfe"], "invalid_json_line"),
        ([line("", {})], "invalid_custom_id"),
        ([line(7, {})], "invalid_custom_id"),
        ([line("x" * 513, {})], "invalid_custom_id"),
        ([b'{"custom_id": "\\ud800", "method": "POST"}'], "invalid_custom_id"),
        ([line("a", {}, method="GET")], "invalid_method"),
        ([line("a", {}, url=IMAGES)], "mismatched_endpoint"),
        ([line("a", [0] * 30_000)], "line_too_large"),
        ([line("a", None)], "invalid_body"),
        ([line("a", chat_body()), line("a", chat_body())], "duplicate_custom_id"),
        ([line(f"{number}", chat_body()) for number in range(11)], "too_many_lines"),
        ([], "empty_file"),
        ([b"  ", b""], "empty_file"),
    ],
)
def test_what_is_no_request_fails_the_batch(lines: list[bytes], code: str) -> None:
    with pytest.raises(MalformedError) as error:
        read(*lines, most_bytes=1_000_000)
    assert error.value.errors[-1]["code"] == code
    assert error.value.errors[-1]["line"] == (len(lines) if lines and code != "empty_file" else None)


def test_a_line_has_a_size() -> None:
    with pytest.raises(MalformedError) as error:
        read(line("a", chat_body(surprise="x" * 5000)), most_bytes=4000)
    assert error.value.errors[0]["code"] == "line_too_large"


def test_no_more_errors_than_anybody_reads() -> None:
    with pytest.raises(MalformedError) as error:
        read(*[b"{"] * 1000, most=10_000)
    assert len(error.value.errors) == 100
