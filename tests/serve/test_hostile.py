"""A server in a process of its own against three hundred requests that mean it no good, and slow ones all the while."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx2
import psutil
import pytest

from tests.jobs.test_submit import CLEAN, free_port
from tests.serve.hostile import BATCHES, FILES, FORM, JSON, SETTINGS, Attack, attacks, chat
from tests.serve.test_batch_lines import CHAT, EDITS, IMAGES

pytestmark = pytest.mark.slow
# What the processes may have more of when it is over: no body, no picture, and no thing made of one.
MORE_BYTES = 64 * 2**20
WAYS = ((CHAT, JSON), (IMAGES, JSON), (EDITS, JSON), (EDITS, FORM), (FILES, FORM), (BATCHES, JSON))


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, psutil.Process]]:
    """Address and process."""
    port, files = free_port(), tmp_path_factory.mktemp("files")
    settings = ["model.name=random", f"model.path={folder}", f"files.path={files}", "guard.access_log=false", *SETTINGS]
    command = [sys.executable, "-m", "tests.serve.lone_server", str(port), *settings]
    process = subprocess.Popen(command, env=CLEAN)
    address = f"http://127.0.0.1:{port}"
    try:
        while True:
            with suppress(httpx2.TransportError):
                if httpx2.get(f"{address}/readyz").status_code == 200:
                    break
            assert process.poll() is None
            time.sleep(0.05)
        yield address, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(60)


def memory(server: psutil.Process) -> int:
    """Bytes that the server and its decoders hold."""
    return sum(one.memory_info().rss for one in [server, *server.children(recursive=True)])


def wrong_with(attack: Attack, response: httpx2.Response) -> str | None:
    """What should be otherwise about the answer."""
    what = f"{attack.name} at {attack.path[:40]}: {response.status_code} {response.text[:300]}"
    if not 400 <= response.status_code < 500:
        return what
    try:
        error = response.json()["error"]
    except (ValueError, LookupError):
        return what
    told = isinstance(error.get("message"), str) and 15 < len(error["message"]) < 1000
    named = isinstance(error.get("code"), str) and "Traceback" not in response.text and len(response.content) < 3000
    return None if told and named and [*error] == ["message", "type", "param", "code"] else what


async def attacked(address: str, requests: list[Attack], at_a_time: int = 8, key: str = "none") -> list[str]:
    """Send them; what went wrong."""
    turns = asyncio.Semaphore(at_a_time)
    shown = {"Authorization": f"Bearer {key}"}
    async with httpx2.AsyncClient(base_url=address, timeout=60, headers=shown) as client:

        async def one(attack: Attack) -> str | None:
            headers = {"Content-Type": attack.kind.encode("latin-1"), **attack.headers}
            async with turns:
                try:
                    response = await client.post(attack.path, content=attack.body, headers=headers)
                except (httpx2.WriteError, httpx2.ReadError, httpx2.RemoteProtocolError) as error:
                    # The server hung up while we were still sending: right for what is too large.
                    return None if len(attack.body) > 100_000 else f"{attack.name}: {error!r}"
                except httpx2.TimeoutException:
                    return f"{attack.name} at {attack.path}: no answer"
                return wrong_with(attack, response)

        return [what for what in await asyncio.gather(*map(one, requests)) if what]


async def trickled(address: str, path: str, kind: str, pieces: int) -> httpx2.Response:
    """The answer to a body that never ends: so many bytes, ten a second. The server hangs up."""
    host, _, port = address.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\nContent-Length: 9000\r\n\r\n"
    writer.write(head.encode())
    answer = asyncio.create_task(reader.read())
    if pieces and kind == FORM:
        writer.write(b'--edge\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n')
    while pieces and not answer.done():
        writer.write(b"{")
        await asyncio.sleep(0.1)
        pieces -= 1
    told, _, body = (await answer).partition(b"\r\n\r\n")
    writer.close()
    return httpx2.Response(int(told.split()[1]), content=body)


def test_hostile_requests_are_told_what_is_wrong_and_change_nothing(server: tuple[str, psutil.Process]) -> None:
    address, process = server
    requests = attacks()
    assert len(requests) >= 200
    slow = [(path, kind, pieces) for path, kind in WAYS for pieces in (0, 1, 1000)]

    async def attack() -> list[str]:
        hanging = [asyncio.create_task(trickled(address, *one)) for one in slow]
        async with httpx2.AsyncClient(base_url=address, timeout=60) as client:
            await asyncio.sleep(0.1)
            good = await client.post(CHAT, json=chat())
            assert good.status_code == 200, good.text
            assert not any(one.done() for one in hanging)
        wrong = await attacked(address, requests)
        for (path, kind, pieces), response in zip(slow, await asyncio.gather(*hanging), strict=True):
            assert response.status_code == 408, response.text
            wrong += filter(None, [wrong_with(Attack(f"{pieces} slow bytes", path, b"", kind), response)])
        return wrong

    # Once, for what grows when it is first used.
    assert httpx2.post(f"{address}{CHAT}", json=chat(), timeout=60).status_code == 200
    asyncio.run(attacked(address, requests))
    before, health = memory(process), httpx2.get(f"{address}/healthz").json()
    wrong = asyncio.run(attack())
    assert wrong == [], "\n".join(wrong)
    grown = memory(process) - before
    assert grown < MORE_BYTES, grown
    assert httpx2.get(f"{address}/healthz").json() == health == {"status": "ok"}
    assert httpx2.post(f"{address}{CHAT}", json=chat(), timeout=60).status_code == 200
