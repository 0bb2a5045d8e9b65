"""Web addresses against a server on loopback that misbehaves."""

import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.data.rows import PICTURES, kinds_of, put_lines, rows_of, source_of
from uniface_ray.core.config import StorageConfig
from uniface_ray.core.records import RejectError, RejectKind
from uniface_ray.core.storage import Folder
from uniface_ray.data import hosts, http
from uniface_ray.data.hosts import Hosts
from uniface_ray.data.http import Http

LIMIT = 100_000
SETTINGS = StorageConfig(private_hosts=True, attempts=3, request_timeout_s=0.5, connect_timeout_s=1, redirects=3)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Server"

    def do_GET(self) -> None:
        with self.server.lock:
            self.server.seen[self.path] += 1
            self.server.agents.add(self.headers["User-Agent"])
            self.server.now += 1
            self.server.most = max(self.server.most, self.server.now)
        try:
            self.respond(*self.path.partition("?")[0].strip("/").split("/"))
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            with self.server.lock:
                self.server.now -= 1

    def respond(self, kind: str, *rest: str) -> None:
        first = self.server.seen[self.path] == 1
        match kind:
            case "ok":
                time.sleep(float(rest[1]) if len(rest) > 1 else 0)
                self.answer(200, PICTURES[int(rest[0])])
            case "status":
                self.answer(int(rest[0]), b"no")
            case "once":  # fails the first time: with a status, with a wait, by hanging up, by cutting short
                if not first:
                    self.answer(200, PICTURES[0])
                elif rest[0] == "hang-up":
                    self.close_connection = True
                elif rest[0] == "cut":
                    self.answer(200, PICTURES[0][:-5], length=len(PICTURES[0]))
                    self.close_connection = True
                elif rest[0] == "slow":
                    time.sleep(1)
                else:
                    self.answer(int(rest[0]), b"", *([("Retry-After", rest[1])] if len(rest) > 1 else []))
            case "later":
                self.answer(429, b"", ("Retry-After", format_datetime(datetime.now(UTC) + timedelta(hours=1))))
            case "to":
                left = int(rest[0])
                self.answer(302, b"moved", ("Location", f"/to/{left - 1}" if left else "/ok/1"))
            case "loop":
                self.answer(301, b"", ("Location", "/loop"))
            case "nowhere":
                self.answer(302, b"", ("Location", "http://[::1/"))
            case "elsewhere":
                self.answer(302, b"", ("Location", "file:///etc/passwd"))
            case "endless" | "drip":
                self.send_response(200)
                self.end_headers()
                self.close_connection = True
                while True:
                    self.wfile.write(b"x" * (10_000 if kind == "endless" else 1))
                    time.sleep(0 if kind == "endless" else 0.05)
            case "drip-headers":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
                self.close_connection = True
                while True:
                    self.wfile.write(b"x")
                    time.sleep(0.05)
            case "huge":
                self.answer(200, b"x", length=10**12)
                self.close_connection = True

    def answer(self, status: int, body: bytes, *headers: tuple[str, str], length: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.seen: Counter[str] = Counter()
        self.agents: set[str] = set()
        self.now = self.most = 0
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(http, "_FIRST_WAIT_S", 0.01)
    server = Server()
    yield server
    server.shutdown()
    server.server_close()


def get(url: str, **settings: Any) -> bytes:
    return Http(SETTINGS.model_copy(update=settings)).get(url, LIMIT)


def refused(url: str, **settings: Any) -> RejectError:
    with pytest.raises(RejectError) as caught:
        get(url, **settings)
    return caught.value


@pytest.mark.parametrize(
    "path",
    [
        "ok/0",
        "ok/0?a b=ü&c#x",
        "once/503",
        "once/429/1",
        "once/500",
        "once/408",
        "once/hang-up",
        "once/cut",
        "once/slow",
        "to/0",
        "to/2",
    ],
)
def test_what_works_in_the_end(server: Server, path: str) -> None:
    assert get(f"{server.url}/{path}") == PICTURES[1 if path.startswith("to") else 0]
    assert all(agent.startswith("uniface_ray/") for agent in server.agents)


@pytest.mark.parametrize(
    ("path", "kind", "words", "requests"),
    [
        ("status/404", RejectKind.NOT_FOUND, "the server answers 404", 1),
        ("status/410", RejectKind.NOT_FOUND, "the server answers 410", 1),
        ("status/403", RejectKind.FETCH_FAILED, "the server answers 403", 1),
        ("status/204", RejectKind.FETCH_FAILED, "the server answers 204", 1),
        ("status/503", RejectKind.FETCH_FAILED, r"the server answers 503 \(3 tries\)", 3),
        ("once/429/500", RejectKind.FETCH_FAILED, "429, to be tried after 500 s, but storage.retry_wait_s is 60", 1),
        ("later", RejectKind.FETCH_FAILED, r"to be tried after 3[56]\d\d s", 1),
        ("loop", RejectKind.FETCH_FAILED, "more than storage.redirects=3", 4),
        ("to/3", RejectKind.FETCH_FAILED, "more than storage.redirects=3", 1),
        ("elsewhere", RejectKind.FETCH_FAILED, "it redirects to 'file:///etc/passwd'", 1),
        ("nowhere", RejectKind.BAD_REQUEST, "is no URL", 1),
        ("endless", RejectKind.TOO_LARGE, "has more bytes, but decode.max_bytes allows 100,000", 1),
        ("huge", RejectKind.TOO_LARGE, "has 1,000,000,000,000 bytes", 1),
        ("drip", RejectKind.FETCH_FAILED, "not all of it came within storage.request_timeout_s", 3),
        ("drip-headers", RejectKind.FETCH_FAILED, r"Read timed out\. .* \(3 tries\)", 3),
    ],
)
def test_what_does_not(server: Server, path: str, kind: RejectKind, words: str, requests: int) -> None:
    error = refused(f"{server.url}/{path}")
    assert error.kind == kind
    assert server.url in error.message
    assert re.search(words, error.message), error.message
    assert server.seen[f"/{path}"] == requests


def test_nobody_there(server: Server) -> None:
    server.shutdown()
    server.server_close()
    assert refused(f"{server.url}/ok/0").kind == RejectKind.FETCH_FAILED
    assert refused("http://no-such-host.invalid/a.jpg").kind == RejectKind.FETCH_FAILED
    assert refused("https://127.0.0.1:1/a.jpg", attempts=1).kind == RejectKind.FETCH_FAILED


@pytest.mark.parametrize("url", ["http://", "http:///a.jpg", "http://[::1/a", "http://host:port/a", "https://a:99999/"])
def test_what_is_no_url(url: str) -> None:
    assert refused(url).kind == RejectKind.BAD_REQUEST


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]"])
def test_private_addresses_are_refused_however_they_are_named(server: Server, host: str) -> None:
    error = refused(f"http://{host}:{server.server_port}/ok/0", private_hosts=False)
    assert error.kind == RejectKind.BAD_REQUEST
    assert "set storage.private_hosts=true" in error.message
    assert not server.seen


def test_one_host_gets_no_more_requests_at_a_time_than_allowed(server: Server, tmp_path: Path) -> None:
    place = Folder(str(tmp_path), SETTINGS.model_copy(update={"host_connections": 2, "request_timeout_s": 10}))
    put_lines(place, "t.jsonl", [{"uri": f"{server.url}/ok/{i % 5}/0.02?{i}"} for i in range(30)])
    rows = rows_of(source_of(place, "t.jsonl"))
    assert [row.data for row in rows] == PICTURES * 6
    assert server.most == 2


def test_a_rate_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    now, slept = 100.0, []
    monkeypatch.setattr(hosts.time, "monotonic", lambda: now)
    monkeypatch.setattr(hosts.time, "sleep", slept.append)
    limits = Hosts(connections=8, rate=50)
    for name in ("host", "host", "host", "another"):
        with limits.turn(name):
            pass
    assert slept == pytest.approx([0, 0.02, 0.04, 0])
    limits.pause("host", 7)
    with limits.turn("host"), limits.turn("another"):
        pass
    assert slept[4:] == pytest.approx([7, 0.02])


def test_a_table_of_web_and_other_addresses(server: Server, tmp_path: Path) -> None:
    place = Folder(str(tmp_path), SETTINGS)
    place.write("1.jpg", PICTURES[1])
    uris = [f"{server.url}/ok/0", "1.jpg", f"{server.url}/status/404", f"{server.url}/to/1", "HTTP://"]
    put_lines(place, "t.jsonl", [{"uri": uri} for uri in uris])
    rows = rows_of(source_of(place, "t.jsonl"))
    assert kinds_of(rows) == [None, None, RejectKind.NOT_FOUND, None, RejectKind.BAD_REQUEST]
    assert [row.data for row in rows if row.data] == [PICTURES[0], PICTURES[1], PICTURES[1]]
    assert rows[0].ref.uri == uris[0]
