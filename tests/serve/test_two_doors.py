"""`uniface serve` with two doors and two replicas: limits hold, places become free, nobody is refused for nothing."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx2
import openai
import psutil
import pytest

from tests.serve.conftest import Configure
from tests.serve.hostile import SETTINGS, attacks
from tests.serve.test_chat import ask
from tests.serve.test_hostile import attacked
from tests.serve.test_ray_serve import Server
from uniface_ray.serve.keys import make_key

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
KEY, LINE = make_key("ann")
BOBS_KEY, BOBS_LINE = make_key("bob")
LONG, SHORT = 1900, 2
AT_A_TIME = 4
MORE_BYTES = 80 * 2**20


@pytest.fixture(scope="module")
def server(configure: Configure, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Each replica answers two and draws one at a time, and lets nobody wait."""
    folder, home = configure().model.path, tmp_path_factory.mktemp("doors")
    settings = ["serve.doors=2", "engine.replicas=2", "engine.num_cpus=0.5", "engine.batch_size=2"]
    settings += ["serve.image_batch=1", "serve.max_waiting=0", f"files.path={home}/files"]
    settings += [f"guard.keys=[{LINE},{BOBS_LINE}]", f"guard.concurrency={AT_A_TIME}", *SETTINGS]
    running = Server(folder, home / "out.txt", *settings)
    running.client = running.client.with_options(api_key=KEY)
    try:
        running.said("Ctrl-C")
        yield running
    finally:
        if running.process.poll() is None:
            assert running.end() == 143, running.out.read_text()


class Reader:
    """Somebody who reads a long answer, or watches a long drawing, from its first event until told to go."""

    def __init__(self, client: openai.OpenAI, draws: bool = False) -> None:
        if draws:
            steps = {"extra_body": {"steps": 1000}}
            drawing: Any = client.images.generate(model="random", prompt="x", stream=True, partial_images=50, **steps)
            self.stream = drawing
        else:
            self.stream = ask(client, max_tokens=LONG, stream=True)
        next(self.stream)
        self.ended = False
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def _read(self) -> None:
        with suppress(Exception):  # of one who goes
            for _ in self.stream:
                pass
            self.ended = True

    def go(self) -> None:
        self.stream.response.close()
        self.thread.join()


@pytest.fixture
def bob(server: Server) -> openai.OpenAI:
    """Somebody else, who has a limit of his own."""
    return server.client.with_options(api_key=BOBS_KEY)


def let_in(client: openai.OpenAI) -> None:
    """Ask until there is a place."""
    until = time.monotonic() + 120
    while True:
        try:
            ask(client, max_tokens=SHORT)
            return
        except openai.RateLimitError:
            assert time.monotonic() < until
            time.sleep(0.02)


def test_whoever_leaves_makes_room_while_others_read_on(server: Server, bob: openai.OpenAI) -> None:
    readers = [Reader(server.client) for _ in range(4)]
    try:
        with pytest.raises(openai.RateLimitError, match="under way or waiting"):
            ask(bob, max_tokens=SHORT)
        readers[0].go()
        let_in(bob)
        assert not any(one.ended for one in readers[1:]), "it was let in only when answers of the same length ended"
    finally:
        for one in readers:
            one.go()


def test_a_full_replica_s_requests_go_to_the_other_one(server: Server, bob: openai.OpenAI) -> None:
    """Serve counts drawings and answers alike: of two replicas with as many requests, one may have no room to draw."""
    readers = [Reader(server.client, draws=True), *(Reader(server.client) for _ in range(3))]
    try:
        for _ in range(8):
            bob.images.generate(model="random", prompt="x", extra_body={"steps": 1})
        assert not any(one.ended for one in readers)
    finally:
        for one in readers:
            one.go()


def test_a_key_s_limit_holds_over_both_doors(server: Server) -> None:
    readers = [Reader(server.client) for _ in range(AT_A_TIME)]
    try:
        for _ in range(6):
            with pytest.raises(openai.RateLimitError, match=f"{AT_A_TIME} requests of this key are under way"):
                ask(server.client, max_tokens=SHORT)
        readers[0].go()
        let_in(server.client)
        assert not any(one.ended for one in readers[1:])
    finally:
        for one in readers:
            one.go()


def memory(server: Server) -> int:
    """Bytes that Serve's proxy, the doors and their decoders hold."""
    found: set[psutil.Process] = set()
    for one in psutil.Process(server.process.pid).children(recursive=True):
        with suppress(psutil.Error):
            if any(name in " ".join(one.cmdline()) for name in ("ProxyActor", "uniface:door")):
                found |= {one, *one.children(recursive=True)}
    assert len(found) > 3
    return sum(one.memory_info().rss for one in found)


def test_hostile_requests_change_nothing_behind_ray_s_proxy_either(server: Server) -> None:
    address = f"http://127.0.0.1:{server.port}"
    requests = attacks()
    asyncio.run(attacked(address, requests, AT_A_TIME, KEY))
    grown = []  # what grows when it is first used does so once, at each door and decoder
    while not grown or grown[-1] >= MORE_BYTES:
        assert len(grown) < 4, grown
        before = memory(server)
        wrong = asyncio.run(attacked(address, requests, AT_A_TIME, KEY))
        assert wrong == [], "\n".join(wrong)
        grown.append(memory(server) - before)
    assert httpx2.get(f"{address}/healthz").json() == {"status": "ok"}
    assert ask(server.client, max_tokens=SHORT).choices[0].message.content is not None
