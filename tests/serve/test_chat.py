"""Questions about pictures, with the official client."""

import base64
import json
import time
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

import uniface_ray
from tests.pictures import encoded, picture
from uniface_ray.serve.loop import EngineLoop

FACE = encoded(picture(0))


def url(data: bytes = FACE) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


def about(question: str, data: bytes = FACE) -> list[dict[str, Any]]:
    """A message list that asks one question about one picture."""
    image = {"type": "image_url", "image_url": {"url": url(data)}}
    return [{"role": "user", "content": [image, {"type": "text", "text": question}]}]


def ask(client: openai.OpenAI, question: str = "who?", **settings: Any) -> Any:
    return client.chat.completions.create(**{"model": "random", "messages": about(question), **settings})


def streamed(chunks: Any) -> tuple[str, str | None]:
    """Text and end of the first choice of a stream."""
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    return "".join(one.delta.content or "" for one in choices), choices[-1].finish_reason


def test_online_answers_are_those_of_a_batch(client: openai.OpenAI, folder: Path) -> None:
    questions = ["who?", "Is she smiling?"]
    ((first, second),) = uniface_ray.answer(
        FACE, questions, model__path=folder, task__max_new_tokens=12, engine__threads=1
    )
    online = [ask(client, question).choices[0].message.content for question in questions]
    assert online == [first, second]


def test_a_stream_says_the_same_token_by_token(client: openai.OpenAI) -> None:
    whole = ask(client, max_tokens=200)
    chunks = list(ask(client, max_tokens=200, stream=True, stream_options={"include_usage": True}))
    assert streamed(chunks) == (whole.choices[0].message.content, whole.choices[0].finish_reason)
    assert sum(bool(chunk.choices and chunk.choices[0].delta.content) for chunk in chunks) > 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].usage == whole.usage
    assert whole.usage.completion_tokens == 200
    assert whole.usage.prompt_tokens > 64
    assert {chunk.id for chunk in chunks} == {chunks[0].id}


def test_later_questions_are_about_the_picture_of_before(client: openai.OpenAI) -> None:
    later = [*about("who?"), {"role": "assistant", "content": "A."}, {"role": "user", "content": "Is she smiling?"}]
    assert (
        ask(client, messages=later).choices[0].message.content
        == ask(client, "Is she smiling?").choices[0].message.content
    )


def test_limits_of_an_answer(client: openai.OpenAI) -> None:
    full = ask(client).choices[0].message.content
    short = ask(client, max_tokens=3)
    assert (short.usage.completion_tokens, short.choices[0].finish_reason) == (3, "length")
    assert ask(client, max_completion_tokens=3).choices[0].message.content == short.choices[0].message.content
    stop = full[5:8]
    expected = full[: full.index(stop)]
    stopped = ask(client, stop=[stop, "never to be seen"])
    assert (stopped.choices[0].message.content, stopped.choices[0].finish_reason) == (expected, "stop")
    assert streamed(ask(client, stop=stop, stream=True)) == (expected, "stop")


def test_seeds_and_several_answers(client: openai.OpenAI) -> None:
    warm = {"temperature": 1.0, "top_p": 0.9, "n": 3}
    one, same, other = (
        [choice.message.content for choice in ask(client, seed=seed, **warm).choices] for seed in (7, 7, 8)
    )
    assert one == same != other
    assert len(set(one)) == 3
    first = ask(client, seed=7, temperature=1.0, top_p=0.9).choices[0].message.content
    assert first == one[0]
    told: dict[int, str] = {}
    for chunk in ask(client, seed=7, stream=True, **warm):
        for choice in chunk.choices:
            told[choice.index] = told.get(choice.index, "") + (choice.delta.content or "")
    assert [told[index] for index in range(3)] == one


def form(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "face", "strict": True, "schema": schema}}


def test_answers_of_a_given_form(client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"smiling": {"type": "boolean"}}, "required": ["smiling"]}
    schema["additionalProperties"] = False
    for stream in (False, True):
        answer = ask(client, response_format=form(schema), max_tokens=40, stream=stream)
        text = streamed(answer)[0] if stream else answer.choices[0].message.content
        assert json.loads(text) in ({"smiling": True}, {"smiling": False})
    chosen = ask(client, extra_body={"guided_choice": ["dark", "fair"]}, max_tokens=40).choices[0]
    assert chosen.message.content in ("dark", "fair")
    assert chosen.finish_reason == "stop"


@pytest.mark.parametrize(
    ("change", "status", "error"),
    [
        ({"model": "other"}, 404, {"param": "model", "code": "model_not_found"}),
        ({"messages": [{"role": "user", "content": "hi"}]}, 400, {"param": "messages", "code": "image_required"}),
        ({"messages": []}, 400, {"param": "messages"}),
        ({"messages": [*about("x"), {"role": "assistant", "content": "y"}]}, 400, {"param": "messages"}),
        ({"messages": about("  ")}, 400, {"param": "messages"}),
        ({"messages": about("x", b"no picture")}, 400, {"code": "unsupported_format"}),
        ({"messages": about("x" * 9000)}, 400, {"code": "bad_request"}),
        ({"messages": about("x" * 32_001)}, 400, {"code": "invalid_value"}),
        ({"messages": [{"role": "system", "content": "x" * 32_000}, *about("y")]}, 400, {"code": "invalid_value"}),
        ({"stop": ["x" * 201]}, 400, {"code": "invalid_value"}),
        ({"max_tokens": 0}, 400, {"param": "max_tokens"}),
        ({"max_tokens": 10**6}, 400, {"code": "bad_request"}),
        ({"temperature": 2.5}, 400, {"param": "temperature"}),
        ({"stop": [""]}, 400, {}),
        ({"tools": [{"type": "function"}]}, 400, {"param": "tools", "code": "unsupported_parameter"}),
        ({"response_format": {"type": "json_schema"}}, 400, {"param": "response_format"}),
        ({"response_format": form({"type": "no such type"})}, 400, {"param": "response_format"}),
        ({"response_format": form({"description": "x" * 20_000})}, 400, {"param": "response_format"}),
        ({"extra_body": {"top_q": 1}}, 400, {"param": "top_q", "code": "unknown_parameter"}),
    ],
)
def test_mistakes_are_told(client: openai.OpenAI, change: dict[str, Any], status: int, error: dict[str, str]) -> None:
    for stream in (False, True):
        with pytest.raises(openai.APIStatusError) as caught:
            ask(client, stream=stream, **change)
        assert caught.value.status_code == status
        assert isinstance(caught.value.body, dict)
        assert error.items() <= caught.value.body.items()


@pytest.mark.parametrize(
    "change",
    [
        {"messages": about("\ud800")},
        {"messages": [{"role": "system", "content": "\ud800"}, *about("who?")]},
        {"model": "\ud800"},
        {"stop": "\ud800"},
        {"guided_choice": ["\ud800"]},
        {"response_format": form({"const": "\ud800"})},
        {"\ud800": 1},
    ],
)
def test_half_a_character_is_a_mistake(address: str, change: dict[str, Any]) -> None:
    body = {"messages": about("who?"), **change}
    answer = httpx2.post(f"{address}/v1/chat/completions", content=json.dumps(body))
    assert answer.status_code in (400, 404), answer.text
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_what_changes_no_answer_is_accepted(client: openai.OpenAI) -> None:
    answer = ask(client, user="me", logprobs=False, presence_penalty=0, store=False, tools=[], seed=-1)
    assert answer.choices[0].message.content


def idle(loop: EngineLoop) -> None:
    """Wait until nothing is under way."""
    until = time.monotonic() + 20
    while any(loop.load.values()):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_client_that_goes_frees_its_slot(client: openai.OpenAI, loop: EngineLoop) -> None:
    stream = ask(client, max_tokens=1900, stream=True)
    next(stream)
    stream.close()
    idle(loop)
    with pytest.raises(openai.APITimeoutError):
        ask(client.with_options(timeout=0.2), max_tokens=1900)
    idle(loop)
    assert ask(client).choices[0].message.content


def test_where_there_is_no_room_no_picture_is_read(client: openai.OpenAI, loop: EngineLoop, monkeypatch: Any) -> None:
    monkeypatch.setattr(loop, "_max_waiting", -8)
    with pytest.raises(openai.RateLimitError):
        client.with_options(max_retries=0).chat.completions.create(
            model="random", messages=about("who?", b"no picture")
        )
