"""A real S3 server (SeaweedFS) on loopback, and ways to make it fail."""

import os
import random
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from pyarrow import fs

from uniface_ray.core.config import StorageConfig

BINARY = Path(sys.executable).parent / "weed"


class S3Server:
    """Runs until `stop`; every `bucket()` is a new one."""

    access_key = "test-access-key"
    secret_key = "test-secret-key"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for attempt in range(3):  # a port that looked free may be taken by the time the server asks for it
            self._start(folder / str(attempt))
            if self._is_up():
                return
            self.stop()
        raise RuntimeError(f"the S3 server does not start: {(folder / '2' / 'log').read_text()[-2000:]}")

    @property
    def storage(self) -> StorageConfig:
        return StorageConfig(endpoint=self.endpoint, access_key=self.access_key, secret_key=self.secret_key)

    def bucket(self, name: str | None = None) -> str:
        """The name of a new, empty bucket."""
        name = name or f"test-{uuid4().hex[:12]}"
        client = fs.S3FileSystem(
            access_key=self.access_key,
            secret_key=self.secret_key,
            scheme="http",
            endpoint_override=self.endpoint.removeprefix("http://"),
            allow_bucket_creation=True,
        )
        client.create_dir(name)
        return name

    def stop(self) -> None:
        self.kill()  # it takes many seconds to end when asked to

    @property
    def pid(self) -> int:
        """Number of its process."""
        return self._process.pid

    def kill(self) -> None:
        """As a crash does; what it has stored is there when it has started again."""
        self._process.kill()
        self._process.wait()

    def start_again(self) -> None:
        """The same server, at the same address."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, env=self._environment)

    def _start(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        s3, master, volume, filer, admin = _free_ports(5)
        self.endpoint = f"http://127.0.0.1:{s3}"
        command = [str(BINARY), "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.port={s3}"]
        command += [f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}"]
        command += [f"-admin.port={admin}", "-admin.ui=false", "-webdav=false"]
        command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
        # Every bucket takes seven volumes; by default there are as many as free disk for full ones, which runs out.
        command += ["-volume.max=100000"]
        keys = {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}
        self._command, self._log = command, folder / "log"
        self._environment = {**os.environ, **keys, "GOMEMLIMIT": "400MiB"}
        self.start_again()

    def _is_up(self) -> bool:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                urllib.request.urlopen(self.endpoint, timeout=2).close()
            except urllib.error.HTTPError:  # it refuses who does not sign: so it is there
                with suppress(OSError):
                    self.bucket()  # it answers before its volumes can be written to
                    return True
            except OSError:
                pass
            time.sleep(0.1)
        return False


def _free_ports(count: int) -> list[int]:
    """Ports that are free, as are those 10,000 above them, which the server takes too."""
    ports: list[int] = []
    while len(ports) < count:
        port = random.SystemRandom().randrange(11_000, 20_000)  # both below what the system hands to clients
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            with socket.create_server(("127.0.0.1", port + 10_000)):
                pass
            if port not in ports:
                ports.append(port)
    return ports


class Proxy:
    """Passes connections on to a server, and cuts those that send `cut_at` in a request's head."""

    def __init__(self, endpoint: str, cut_at: bytes) -> None:
        host, _, port = endpoint.removeprefix("http://").partition(":")
        self._server, self._cut_at = (host, int(port)), cut_at
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                threading.Thread(target=self._pass, args=(client, server, self._cut_at), daemon=True).start()
                threading.Thread(target=self._pass, args=(server, client, None), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, cut_at: bytes | None) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if cut_at is not None and cut_at in data[:1000]:
                    break
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        source.close()  # the target is the other thread's source
