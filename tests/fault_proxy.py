"""A proxy in front of an S3 server that fails as networks and busy servers do, by a seed.

    with FaultProxy(server.endpoint, {"slow_down": 0.05, "reset": 0.05}, seed=7) as proxy:
        ... StorageConfig(endpoint=proxy.endpoint, ...)

Signatures stay valid: what a client signs is the proxy's own address, which the server takes from the request.
"""

import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Self

FAULTS = ("slow_down", "reset", "hang", "cut")
_METHODS = (b"GET ", b"PUT ", b"POST ", b"HEAD ", b"DELETE ")
_REASON = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
_SLOW_DOWN = b"HTTP/1.1 503 Slow Down\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(_REASON), _REASON)


class FaultProxy:
    """Passes connections on. A context; faults may be changed while it runs.

    Args:
        endpoint: URL of the server.
        faults: share of requests that end in `slow_down` (an answer 503), `reset` (of the connection), `hang` (no
            answer for `hang_s`, then none at all) or `cut` (an answer whose end is missing).
        seed: which requests they are.
        hang_s: see `hang`.

    Attributes:
        endpoint: to use instead of the server's.
        seen: how often each fault, and `passed`, came.
    """

    def __init__(self, endpoint: str, faults: Mapping[str, float], seed: int = 0, hang_s: float = 30.0) -> None:
        host, _, port = endpoint.removeprefix("http://").partition(":")
        self._server = (host, int(port))
        self.faults = dict(faults)
        self._draw = random.Random(seed)
        self._hang_s = hang_s
        self.seen: Counter[str] = Counter()
        self._cut: set[socket.socket] = set()
        self._ended = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._ended.set()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client, socket.create_connection(self._server) as server:
            answers = threading.Thread(target=self._answer, args=(server, client), daemon=True)
            answers.start()
            while data := client.recv(65536):
                fault = self._fault() if data.startswith(_METHODS) else None
                if fault == "cut":
                    self._cut.add(server)  # first: the answer may come at once
                    server.sendall(data)
                    continue
                if fault:
                    self._fail(client, fault)
                    return
                server.sendall(data)
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                if server in self._cut:
                    client.sendall(data[: len(data) // 2])  # of a short answer, not even its head is whole
                    break
                client.sendall(data)
        for end in (server, client):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _fault(self) -> str | None:
        drawn, kind = self._draw.random(), None
        for name, share in self.faults.items():
            drawn -= share
            if drawn < 0:
                kind = name
                break
        self.seen[kind or "passed"] += 1
        return kind

    def _fail(self, client: socket.socket, fault: str) -> None:
        if fault == "slow_down":
            client.sendall(_SLOW_DOWN)
        elif fault == "hang":
            self._ended.wait(self._hang_s)
        else:  # closed with unsent time zero: the peer gets RST
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
