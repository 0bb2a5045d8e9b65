"""Pictures fetched from a real TLS server on loopback, which a resolver of the tests' own calls by public names."""

import asyncio
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.serve.certificates import make_certificate
from uniface_ray.serve.errors import ApiError
from uniface_ray.serve.fetch import Fetcher, FetchRules

GOOD, OTHER = "faces.example.com", "other.example.com"
CONTENT = b"a picture" * 100


class Handler(BaseHTTPRequestHandler):
    """`/ok`, `/big`, `/endless`, `/slow`, `/status/404`, `/to?<url>`."""

    protocol_version = "HTTP/1.1"
    server: "Server"

    def do_GET(self) -> None:
        self.server.seen.append(f"{self.headers['Host'].partition(':')[0]}{self.path}")
        path, _, query = self.path.partition("?")
        try:
            match path.strip("/").split("/"):
                case ["ok"]:
                    self.answer(200, CONTENT)
                case ["big"]:
                    self.answer(200, bytes(100_000))
                case ["endless"]:
                    self.send_response(200)
                    self.end_headers()
                    for _ in range(1000):
                        self.wfile.write(bytes(1000))
                case ["slow"]:
                    self.send_response(200)
                    self.end_headers()
                    for _ in range(100):
                        self.wfile.write(b"x")
                        time.sleep(0.05)
                case ["status", code]:
                    self.answer(int(code), b"no")
                case ["to"]:
                    self.send_response(302)
                    self.send_header("Location", query)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                case _:
                    self.answer(404, b"")
        except OSError:
            self.close_connection = True

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    def __init__(self, certificate: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.seen: list[str] = []
        self.port = self.server_address[1]

    def handle_error(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    make_certificate(path, GOOD, OTHER)
    return path


@pytest.fixture
def server(certificate: Path) -> Iterator[Server]:
    server = Server(certificate)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


class Names:
    """A resolver: each look-up of a name gives the next of its answers, the last one for ever."""

    def __init__(self, **answers: Sequence[Sequence[str]]) -> None:
        self.answers = {name.replace("_", "."): list(those) for name, those in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        answers = self.answers[host]
        return answers.pop(0) if len(answers) > 1 else answers[0]


# Loopback stands for the internet here, so another private address is what must not be reached.
HERE = Names(faces_example_com=[["127.0.0.1"]], other_example_com=[["127.0.0.1"]], evil_example_com=[["10.0.0.1"]])


def fetch(server: Server, url: str, names: Names = HERE, certificate: Path | None = None, **rules: object) -> bytes:
    """Fetch `url`, in which PORT is the server's."""
    tls = ssl.create_default_context(cafile=certificate) if certificate else None
    settings = {"hosts": (), "max_bytes": 10_000, "redirects": 2, "timeout_s": 2.0, "port": server.port}
    fetcher = Fetcher(
        FetchRules(**{**settings, **rules}),  # type: ignore[arg-type]  # each test knows its rules' types
        names,
        lambda address: address == "127.0.0.1",
        tls,
    )

    async def run() -> bytes:
        try:
            async with fetcher.fetched(url.replace("PORT", str(server.port)), "image_url") as data:
                return data
        finally:
            await fetcher.close()

    return asyncio.run(run())


def refused(server: Server, url: str, **settings: object) -> ApiError:
    with pytest.raises(ApiError) as error:
        fetch(server, url, **settings)  # type: ignore[arg-type]  # as those of `fetch`
    assert error.value.param == "image_url"
    assert error.value.status in (400, 413)
    return error.value


def test_a_picture_comes(server: Server, certificate: Path) -> None:
    assert fetch(server, f"https://{GOOD}:PORT/ok", certificate=certificate) == CONTENT
    assert server.seen == [f"{GOOD}/ok"]


def test_redirects_are_followed_within_the_rules(server: Server, certificate: Path) -> None:
    url = f"https://{GOOD}:PORT/to?https://{OTHER}:{server.port}/to?/ok"
    assert fetch(server, url, certificate=certificate) == CONTENT
    error = refused(server, f"https://{GOOD}:PORT/to?/to?/to?/ok", certificate=certificate)
    assert "redirects more than guard.redirects=2 times" in error.message


@pytest.mark.parametrize(
    "url",
    [
        "http://faces.example.com:PORT/ok",
        "https://faces.example.com/ok",
        "https://faces.example.com:22/ok",
        "ftp://faces.example.com/ok",
        "file:///etc/passwd",
        "s3://bucket/face.jpg",
        "gopher://faces.example.com:PORT/_x",
        "https://",
        "https://:PORT/",
        "https://faces.example.com:99999/",
        "https://faces.example.com:x/",
        "https://[::1/",
        "https://user:secret@faces.example.com:PORT/ok",
        "//faces.example.com:PORT/ok",
        "faces.example.com",
        "",
        "https://faces.example.com\x00:PORT/",
        "https://\uff11\uff12\uff17.0.0.1:PORT/ok",
    ],
)
def test_other_addresses_are_refused_unasked(server: Server, url: str) -> None:
    names = Names()
    assert refused(server, url, names=names).code == "invalid_image_url"
    assert names.asked == []
    assert server.seen == []


@pytest.mark.parametrize(
    "host",
    ["10.0.0.1", "169.254.169.254", "[::1]", "[::ffff:10.0.0.1]", "127.1", "2130706433", "0x7f000001", "0x7f.1"],
)
def test_an_address_in_numbers_is_judged_as_it_stands(server: Server, host: str) -> None:
    error = refused(server, f"https://{host}:PORT/ok")
    assert error.code in ("private_address", "fetch_failed")
    assert server.seen == []


@pytest.mark.parametrize("answers", [["10.0.0.1"], ["127.0.0.1", "10.0.0.1"], ["::ffff:127.0.0.1"], []])
def test_a_name_that_leads_inside_is_refused(server: Server, certificate: Path, answers: list[str]) -> None:
    error = refused(
        server, f"https://{GOOD}:PORT/ok", names=Names(faces_example_com=[answers]), certificate=certificate
    )
    assert error.code == "private_address"
    assert not any(part in error.message for part in ("10.0", "127.")), "whoever asks does not learn where it leads"
    assert server.seen == []


def test_a_name_is_looked_up_once_and_the_connection_goes_there(server: Server, certificate: Path) -> None:
    """DNS rebinding: a second look-up would lead inside."""
    names = Names(faces_example_com=[["127.0.0.1"], ["10.0.0.1"]])
    assert fetch(server, f"https://{GOOD}:PORT/ok", names=names, certificate=certificate) == CONTENT
    assert names.asked == [GOOD]


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("https://evil.example.com:PORT/ok", "private_address"),
        ("https://10.0.0.1:PORT/ok", "private_address"),
        ("https://faces.example.com:1/ok", "invalid_image_url"),
        ("http://faces.example.com:PORT/ok", "invalid_image_url"),
        ("file:///etc/passwd", "invalid_image_url"),
    ],
)
def test_a_redirect_is_judged_like_the_first_address(server: Server, certificate: Path, target: str, code: str) -> None:
    error = refused(server, f"https://{GOOD}:PORT/to?{target}", certificate=certificate)
    assert error.code == code
    assert len(server.seen) == 1


def test_a_redirect_to_the_same_name_is_looked_up_again(server: Server, certificate: Path) -> None:
    names = Names(faces_example_com=[["127.0.0.1"], ["10.0.0.1"]])
    error = refused(server, f"https://{GOOD}:PORT/to?/ok", names=names, certificate=certificate)
    assert error.code == "private_address"


def test_only_hosts_of_the_list(server: Server, certificate: Path) -> None:
    rules = {"hosts": (OTHER,), "certificate": certificate}
    assert fetch(server, f"https://{OTHER}:PORT/ok", **rules) == CONTENT  # type: ignore[arg-type]  # of two types
    for host in (GOOD, f"x{OTHER}", "example.com", f"{OTHER}.evil.example.com"):
        assert refused(server, f"https://{host}:PORT/ok", **rules).code == "foreign_host"
    redirected = refused(server, f"https://{OTHER}:PORT/to?https://{GOOD}:{server.port}/ok", **rules)
    assert redirected.code == "foreign_host"


def test_a_certificate_that_is_not_trusted_is_refused(server: Server) -> None:
    assert refused(server, f"https://{GOOD}:PORT/ok").code == "fetch_failed"
    assert server.seen == []


@pytest.mark.parametrize("path", ["big", "endless"])
def test_too_many_bytes(server: Server, certificate: Path, path: str) -> None:
    assert refused(server, f"https://{GOOD}:PORT/{path}", certificate=certificate).status == 413


def test_too_slow(server: Server, certificate: Path) -> None:
    error = refused(server, f"https://{GOOD}:PORT/slow", certificate=certificate, timeout_s=0.3)
    assert "guard.fetch_timeout_s=0.3" in error.message


def test_another_answer_than_200(server: Server, certificate: Path) -> None:
    error = refused(server, f"https://{GOOD}:PORT/status/404", certificate=certificate)
    assert error.code == "fetch_failed"
    assert "answers 404" in error.message


def test_bodies_count_until_they_are_let_go_of(server: Server, certificate: Path) -> None:
    rules = FetchRules((), 10_000, 2, 10.0, most_held=2 * len(CONTENT), port=server.port)
    fetcher = Fetcher(rules, HERE, lambda address: True, ssl.create_default_context(cafile=certificate))
    url = f"https://{GOOD}:{server.port}/ok"

    async def run() -> None:
        try:
            async with fetcher.fetched(url, "image_url"), fetcher.fetched(url, "image_url"):
                for _ in range(3):
                    with pytest.raises(ApiError, match="as many bytes of fetched pictures") as caught:
                        async with fetcher.fetched(url, "image_url"):
                            pass
                    assert caught.value.status == 503
            async with fetcher.fetched(url, "image_url") as data:
                assert data == CONTENT
        finally:
            await fetcher.close()

    asyncio.run(run())
