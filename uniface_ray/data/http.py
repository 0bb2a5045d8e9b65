"""Fetch what http:// and https:// URIs name, from servers that are slow, busy, broken or hostile."""

import email.utils
import random
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError, LocationValueError, SSLError

from uniface_ray.core.config import StorageConfig
from uniface_ray.core.records import RejectError, RejectKind
from uniface_ray.core.version import __version__
from uniface_ray.data.addresses import is_public
from uniface_ray.data.hosts import Hosts

_HEADERS = {"User-Agent": f"uniface_ray/{__version__}", "Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"}
_PIECE = 2**16
_MOVED = (301, 302, 303, 307, 308)
_PASSING = (408, 425, 429, 500, 502, 503, 504)
_GONE = (404, 410)
_FIRST_WAIT_S = 0.5


class _PassingError(Exception):
    """Worth another try; `after` seconds, where the server says when."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class _PrivateAddressError(Exception):
    pass


class Http:
    """A client for the threads of one process; see `StorageConfig` for its limits. It uses no proxy."""

    def __init__(self, settings: StorageConfig) -> None:
        self._settings = settings
        self._hosts = Hosts(settings.host_connections, settings.host_rate)
        timeout = urllib3.Timeout(connect=settings.connect_timeout_s, read=settings.request_timeout_s)
        self._pools = urllib3.PoolManager(
            num_pools=64, maxsize=settings.host_connections, retries=False, timeout=timeout, headers=_HEADERS
        )
        pools = (_Pool, _TlsPool) if settings.private_hosts else (_PublicPool, _PublicTlsPool)
        self._pools.pool_classes_by_scheme = dict(zip(("http", "https"), pools, strict=True))

    def get(self, url: str, max_bytes: int) -> bytes:
        """The body of what is at `url`.

        Raises:
            RejectError: not_found (404, 410), too_large, bad_request (no URL, or a private host), or fetch_failed:
                refused, or failed after all tries.
        """
        attempts = self._settings.attempts
        for attempt in range(1, attempts + 1):
            try:
                return self._follow(url, max_bytes)
            except _PassingError as error:
                wait = random.uniform(0, _FIRST_WAIT_S * 2**attempt) if error.after is None else error.after
                longest = self._settings.retry_wait_s
                if wait > longest and error.after is not None:
                    reason = f"{error}, to be tried after {wait:.0f} s, but storage.retry_wait_s is {longest:g}"
                    raise RejectError(RejectKind.FETCH_FAILED, f"cannot fetch {url}: {reason}") from error
                if attempt == attempts:
                    reason = f"{error} ({attempts} tries)"
                    raise RejectError(RejectKind.FETCH_FAILED, f"cannot fetch {url}: {reason}") from error
                time.sleep(min(wait, longest))
        raise AssertionError("attempts >= 1")

    def _follow(self, url: str, max_bytes: int) -> bytes:
        here = url
        for _ in range(self._settings.redirects + 1):
            with self._hosts.turn(_split(here).netloc):
                found = self._once(here, max_bytes)
            if isinstance(found, bytes):
                return found
            here = _split(here, found).geturl()
            if _split(here).scheme not in ("http", "https"):
                raise RejectError(RejectKind.FETCH_FAILED, f"cannot fetch {url}: it redirects to {here!r:.200}")
        raise RejectError(
            RejectKind.FETCH_FAILED, f"cannot fetch {url}: more than storage.redirects={self._settings.redirects}"
        )

    def _once(self, url: str, max_bytes: int) -> bytes | str:
        """One request: the body, or where to go for it."""
        deadline = time.monotonic() + self._settings.request_timeout_s
        response = None
        try:
            response = self._pools.request("GET", url, redirect=False, preload_content=False)
            location = response.headers.get("Location")
            if response.status in _MOVED and location:
                return str(location)
            self._check_status(url, response)
            body = _body(url, response, max_bytes, deadline)
            response.release_conn()
            return body
        except _PrivateAddressError as error:
            raise RejectError(
                RejectKind.BAD_REQUEST,
                f"{url} is at the private address {error}: set storage.private_hosts=true if the source may name "
                "hosts of your own network",
            ) from error
        except LocationValueError as error:
            raise _no_url(url, error) from error
        except SSLError as error:
            raise RejectError(RejectKind.FETCH_FAILED, f"cannot fetch {url}: {error}") from error
        except (HTTPError, OSError) as error:
            raise _PassingError(f"{type(error).__name__}: {error}") from error
        finally:
            if response is not None:
                response.close()  # does nothing to a connection that was given back

    def _check_status(self, url: str, response: Any) -> None:
        status = response.status
        if status in _PASSING:
            after = _seconds(response.headers.get("Retry-After"))
            if after:
                self._hosts.pause(_split(url).netloc, min(after, self._settings.retry_wait_s))
            raise _PassingError(f"the server answers {status}", after)
        if status != 200:
            kind = RejectKind.NOT_FOUND if status in _GONE else RejectKind.FETCH_FAILED
            raise RejectError(kind, f"cannot fetch {url}: the server answers {status}")


def _split(url: str, location: str = "") -> SplitResult:
    """The parts of a URL, or of where it redirects to."""
    try:
        return urlsplit(urljoin(url, location))
    except ValueError as error:
        raise _no_url(url, error) from error


def _no_url(url: str, error: Exception) -> RejectError:
    return RejectError(RejectKind.BAD_REQUEST, f"{url!r} is no URL: {error}")


def _body(url: str, response: Any, max_bytes: int, deadline: float) -> bytes:
    data = bytearray()
    length = response.headers.get("Content-Length", "")
    if length.isdigit() and int(length) > max_bytes:
        raise _too_large(url, f"{int(length):,}", max_bytes)
    while piece := response.read1(_PIECE):
        data += piece
        if len(data) > max_bytes:
            raise _too_large(url, "more", max_bytes)
        if time.monotonic() > deadline:
            raise _PassingError(f"not all of it came within storage.request_timeout_s ({len(data):,} bytes did)")
    return bytes(data)


def _too_large(url: str, given: str, max_bytes: int) -> RejectError:
    return RejectError(RejectKind.TOO_LARGE, f"{url} has {given} bytes, but decode.max_bytes allows {max_bytes:,}")


def _seconds(retry_after: str | None) -> float | None:
    """A Retry-After header: seconds, or a date."""
    if not retry_after:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        date = email.utils.parsedate_to_datetime(retry_after)
        return max(0.0, (date - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def _check_public(connection: Any) -> None:
    """Refuse a peer that is not on the internet. Not names are judged, but where they lead at this moment."""
    address = connection.sock.getpeername()[0]
    if not is_public(address):
        connection.close()
        raise _PrivateAddressError(address.removeprefix("::ffff:"))


def _in_time(connection: Any, respond: Callable[[], Any]) -> Any:
    """Status and headers within the time that they may take to begin: a byte now and then buys a server no more."""
    late = threading.Event()

    def hang_up() -> None:
        late.set()
        with suppress(OSError):
            socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)

    timer = threading.Timer(connection.timeout, hang_up)
    timer.daemon = True
    timer.start()
    try:
        response = respond()
    finally:
        timer.cancel()
    if late.is_set():  # what has come by then may look whole
        raise TimeoutError(f"the headers did not come within {connection.timeout:g} s")
    return response


class _Connection(HTTPConnection):
    def getresponse(self) -> Any:
        return _in_time(self, super().getresponse)


class _TlsConnection(HTTPSConnection):
    def getresponse(self) -> Any:
        return _in_time(self, super().getresponse)


class _PublicConnection(_Connection):
    def connect(self) -> None:
        super().connect()
        _check_public(self)


class _PublicTlsConnection(_TlsConnection):
    def connect(self) -> None:
        super().connect()
        _check_public(self)


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class _PublicPool(HTTPConnectionPool):
    ConnectionCls = _PublicConnection


class _PublicTlsPool(HTTPSConnectionPool):
    ConnectionCls = _PublicTlsConnection


@lru_cache(maxsize=8)
def http_client(settings: StorageConfig) -> Http:
    """The process's client."""
    return Http(settings)
