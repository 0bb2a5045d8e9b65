"""What tests of files and batches share: a server with two keys, and clients."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
from fastapi import FastAPI

from tests.pictures import encoded, picture
from tests.serve.conftest import Configure
from tests.serve.test_batch_lines import CHAT, EDITS, IMAGES, chat_body, line
from tests.serve.test_chat import url
from tests.serve.test_images import FACE, upper_half
from uniface_ray.serve.app import build_app
from uniface_ray.serve.keys import make_key
from uniface_ray.serve.loop import EngineLoop

(ANN, ANN_LINE), (BOB, BOB_LINE) = make_key("ann"), make_key("bob")


def batch_app(configure: Configure, loop: EngineLoop, home: Path, *more: str) -> FastAPI:
    """A server that keeps files under `home`; `tuned` is served by the same loop."""
    settings = [f"guard.keys=[{ANN_LINE},{BOB_LINE}]", f"files.path={home}", "files.running=2", *more]
    return build_app(configure(*settings), {"random": loop} | ({"tuned": loop} if more else {}))


def client_of(address: str, key: str = ANN) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0)


def upload(client: openai.OpenAI, *lines: bytes) -> str:
    return client.files.create(file=("in.jsonl", b"\n".join(lines)), purpose="batch").id


def begin(client: openai.OpenAI, *lines: bytes, endpoint: Any = CHAT) -> Any:
    return client.batches.create(
        input_file_id=upload(client, *lines), endpoint=endpoint, completion_window="24h", metadata={"for": "tests"}
    )


def lines_of(client: openai.OpenAI, number: str | None) -> dict[str, Any]:
    """The lines of a file by their `custom_id`."""
    if number is None:
        return {}
    found = [json.loads(one) for one in client.files.content(number).text.splitlines()]
    return {one["custom_id"]: one for one in found}


def wait(client: openai.OpenAI, number: str, *states: str, seconds: float = 800) -> Any:
    deadline = time.monotonic() + seconds
    while (found := client.batches.retrieve(number)).status not in states:
        assert found.status not in ("failed", "completed", "expired", "cancelled"), found
        assert time.monotonic() < deadline, found
        time.sleep(0.3)
    return found


def check(ann: openai.OpenAI, work: Callable[[str], None], several: bool = True) -> None:
    """Three batches: their output is what online answers.

    Args:
        ann: a client.
        work: does a batch, or leaves that to the server.
        several: settings in a batch, each of which is a run.
    """
    faces = [encoded(picture(number)) for number in range(5)]
    bodies = {f"face {n}": chat_body(url(data), model="random", max_tokens=8) for n, data in enumerate(faces)}
    if several:
        bodies["short"] = chat_body(url(faces[0]), max_tokens=3)
        bodies["hot"] = chat_body(url(faces[0]), max_tokens=8, temperature=1, top_p=0.9, seed=-7)
    wrong = {
        "broken": chat_body(url(faces[0][:100]), model="random", max_tokens=8),
        "twice": chat_body(url(faces[0]), n=2),
        "passwd": chat_body("file:///etc/passwd"),
    }
    prompts = {f"drawing {n}": {"prompt": "a face", "seed": n, "steps": 3, "n": 2, "guidance": 2} for n in range(2)}
    chats = begin(ann, *(line(name, body) for name, body in {**bodies, **wrong}.items()))
    hole = {"mask": {"image_url": url(upper_half("hole"))}}
    edits = {
        f"edit {n}": {"images": [{"image_url": url(FACE)}], "prompt": "a hat", "seed": n, "steps": 3, **region}
        for n, region in enumerate([hole, {"box": [0, 0.5, 1, 1]}][: 1 + several])
    }
    drawings = begin(ann, *(line(name, body, IMAGES) for name, body in prompts.items()), endpoint=IMAGES)
    edited = begin(ann, *(line(name, body, EDITS) for name, body in edits.items()), endpoint=EDITS)
    online = {name: ann.chat.completions.create(**{"model": "random", **body}) for name, body in bodies.items()}
    drawn = {name: ann.post(IMAGES.removeprefix("/v1"), body=body, cast_to=object) for name, body in prompts.items()}
    drawn |= {name: ann.post(EDITS.removeprefix("/v1"), body=body, cast_to=object) for name, body in edits.items()}
    for number in (chats.id, drawings.id, edited.id):
        work(number)
    done = wait(ann, chats.id, "completed")
    assert done.request_counts
    assert done.request_counts.to_dict() == {
        "total": len(bodies) + 3,
        "completed": len(bodies),
        "failed": 3,
    }
    answers = lines_of(ann, done.output_file_id)
    assert {name: one["response"]["body"]["choices"][0]["message"]["content"] for name, one in answers.items()} == {
        name: one.choices[0].message.content for name, one in online.items()
    }
    errors = lines_of(ann, done.error_file_id)
    codes = {name: one["response"]["body"]["error"]["code"] for name, one in errors.items()}
    assert codes == {"broken": "unreadable_image", "twice": "unsupported_parameter", "passwd": "invalid_image_url"}
    images = lines_of(ann, wait(ann, drawings.id, "completed").output_file_id)
    images |= lines_of(ann, wait(ann, edited.id, "completed").output_file_id)
    assert images.keys() == prompts.keys() | edits.keys()
    for name, one in images.items():
        assert one["response"]["body"]["data"] == drawn[name]["data"]  # type: ignore[index]  # parsed JSON
    assert ann.files.retrieve(done.output_file_id or "").purpose == "batch_output"
