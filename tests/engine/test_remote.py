"""The remote engine against a small server that is in bad moods."""

import base64
import io
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from PIL import Image

from uniface_ray.core.config import JobConfig
from uniface_ray.core.engine_config import RemoteConfig
from uniface_ray.core.errors import StoppedError, UserError
from uniface_ray.core.records import Reject, RejectKind
from uniface_ray.engine.check import check_engine
from uniface_ray.engine.protocol import Ask, Draw, Text
from uniface_ray.engine.remote import RemoteEngine

Mood = Callable[[int], tuple[int, dict[str, str]] | None]
"""From the number of a question's try, counted from 0: the status and headers of a refusal, or None to answer."""


class Server(ThreadingHTTPServer):
    """Answers a question with itself, unless its mood says otherwise."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.moods: dict[str, Mood] = {}
        self.replies: dict[str, str] = {}
        self.tries: Counter[str] = Counter()
        self.seen: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.delay_s = 0.0
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        question = body["messages"][0]["content"][1]["text"]
        server = self.server
        with server.lock:
            number = server.tries[question]
            server.tries[question] += 1
            server.times.append(time.monotonic())
            server.seen.append(body)
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
        time.sleep(server.delay_s)
        with server.lock:
            server.at_once -= 1
        refusal = server.moods.get(question, lambda _: None)(number)
        status, headers = refusal or (200, {})
        message = {"role": "assistant", "content": server.replies.get(question, f" {question}! ")}
        answer = {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"]}
        answer["choices"] = [{"index": 0, "finish_reason": "stop", "message": message}]
        answer["usage"] = {"prompt_tokens": 1, "completion_tokens": 7, "total_tokens": 8}
        data = json.dumps(answer if status == 200 else {"error": {"message": f"mood {status}"}}).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def engine(server: Server, **settings: Any) -> RemoteEngine:
    url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    return RemoteEngine(RemoteConfig(url=url, model="faces", **({"attempts": 3} | settings)), 8)


PIXELS = np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)


def asks(*questions: str) -> list[Ask]:
    return [Ask(PIXELS, question, 20, seed=3) for question in questions]


def test_what_is_sent_and_what_comes_back(server: Server) -> None:
    outcome, drawn = engine(server).run([*asks("who?"), Draw("p", 0, 1, 0, 1, "cosine")])
    assert outcome == Text("who?!", 7)
    assert isinstance(drawn, Reject)
    assert (drawn.kind, drawn.message) == (RejectKind.BAD_REQUEST, "a chat server answers questions, and cannot draw")
    body = server.seen[0]
    assert (body["model"], body["max_tokens"], body["seed"], body["temperature"]) == ("faces", 20, 3, 0)
    url = body["messages"][0]["content"][0]["image_url"]["url"]
    sent = Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/png;base64,"))))
    np.testing.assert_array_equal(np.asarray(sent).transpose(2, 0, 1), PIXELS)


def test_a_form_is_asked_for_and_read_back(server: Server) -> None:
    server.replies = {"smiling?": '{"answer": "yes"}', "mood?": '{"mood": "glad"}', "odd?": "Yes, indeed"}
    asked = [
        Ask(PIXELS, "smiling?", 9, choices=("yes", "no")),
        Ask(PIXELS, "mood?", 9, json_schema='{"type": "object"}'),
        Ask(PIXELS, "odd?", 9, choices=("yes", "no")),
    ]
    outcomes = engine(server, concurrency=1).run(asked)
    assert [one.text for one in outcomes if isinstance(one, Text)] == ["yes", '{"mood": "glad"}', "Yes, indeed"]
    choice, schema = (body["response_format"]["json_schema"]["schema"] for body in server.seen[:2])
    assert choice["properties"]["answer"]["enum"] == ["yes", "no"]
    assert schema == {"type": "object"}


def test_passing_failures_are_tried_again_and_lasting_ones_cost_their_row(server: Server) -> None:
    server.moods = {
        "busy": lambda number: (429, {"Retry-After": "1"}) if number == 0 else None,
        "shaky": lambda number: (500, {}) if number < 2 else None,
        "broken": lambda number: (503, {"Retry-After": "0.01"}),
        "silly": lambda number: (400, {}),
    }
    names = [*server.moods, "good"]
    outcomes: dict[str, Any] = dict(zip(names, engine(server).run(asks(*names)), strict=True))
    assert {name: outcomes[name].text for name in ("busy", "shaky", "good")} == {
        "busy": "busy!",
        "shaky": "shaky!",
        "good": "good!",
    }
    assert server.tries == {"busy": 2, "shaky": 3, "broken": 3, "silly": 1, "good": 1}
    broken, silly = outcomes["broken"], outcomes["silly"]
    assert (broken.kind, broken.attempts) == (RejectKind.FETCH_FAILED, 3)
    assert "mood 503" in broken.message
    assert (silly.kind, silly.attempts) == (RejectKind.BAD_REQUEST, 1)
    assert max(server.times) - min(server.times) >= 0.99  # it waited as long as it was told to


def test_no_more_requests_at_once_than_allowed(server: Server) -> None:
    server.delay_s = 0.05
    outcomes = engine(server, concurrency=3).run(asks(*map(str, range(12))))
    assert [one.text for one in outcomes if isinstance(one, Text)] == [f"{number}!" for number in range(12)]
    assert server.most_at_once == 3


def test_a_slow_answer_is_a_timeout(server: Server) -> None:
    server.delay_s = 3.0
    remote = engine(server, attempts=1)
    (outcome,) = remote.run([Ask(PIXELS, "slow", 5, time_limit_s=0.2)])
    assert isinstance(outcome, Reject)
    assert outcome.kind == RejectKind.TIMEOUT


def test_steps_go_on_while_the_server_thinks(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uniface_ray.engine.remote._STEP_S", 0.01)
    answering = threading.Event()
    server.moods = {"slow": lambda _: None if answering.wait(20) else (500, {})}
    remote = engine(server)
    number = remote.submit(*asks("slow"))
    assert [remote.step() for _ in range(5)] == [[]] * 5
    answering.set()
    outcomes: list[tuple[int, Any]] = []
    while not outcomes:
        outcomes = remote.step()
    assert outcomes == [(number, Text("slow!", 7))]


def test_a_cancelled_request_gives_no_outcome(server: Server) -> None:
    server.delay_s = 0.1
    remote = engine(server, concurrency=1)
    numbers = [remote.submit(ask) for ask in asks("a", "b", "c")]
    remote.cancel(numbers[1])
    remote.cancel(10**6)
    outcomes: dict[int, Any] = {}
    while len(outcomes) < 2:
        outcomes |= remote.step()
    assert outcomes.keys() == {numbers[0], numbers[2]}
    assert server.tries["b"] == 0


def test_a_server_that_answers_nothing_stops_the_run(server: Server) -> None:
    questions = [str(number) for number in range(20)]
    server.moods = {question: lambda _: (500, {}) for question in questions}
    with pytest.raises(StoppedError, match="answers nothing any more"):
        engine(server, attempts=1).run(asks(*questions))


def test_a_key_that_is_refused_stops_the_run(server: Server) -> None:
    server.moods = {"who?": lambda _: (401, {})}
    with pytest.raises(StoppedError, match="the server refuses"):
        engine(server).run(asks("who?"))


def config(**remote: Any) -> JobConfig:
    return JobConfig.model_validate(
        {
            "source": {"path": "."},
            "sink": {"path": "out"},
            "task": {"name": "caption"},
            "model": {"name": "m", "path": "."},
            "engine": {"kind": "openai"},
            "remote": remote,
        }
    )


def test_mistakes_are_told_before_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(UserError, match=r"remote\.url and remote\.model is not set"):
        check_engine(config())
    with pytest.raises(UserError, match="OPENAI_API_KEY is not set"):
        check_engine(config(url="http://x/v1", model="m"))
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    checked = check_engine(config(url="http://x/v1", model="m", image_size=256))
    assert checked.image_size == 256
    assert checked.fingerprint != check_engine(config(url="http://x/v1", model="n")).fingerprint
