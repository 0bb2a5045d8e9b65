"""Pictures that requests name by an https:// address, fetched without letting anybody ask our own network.

Every address, and every one that it redirects to, must be https on port 443 of a host that is allowed; the name is
looked up once, each answer is checked to be on the internet, and the connection goes to what was checked. So a name
that leads elsewhere a moment later (DNS rebinding) gains nothing.
"""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ssl import SSLContext
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from uniface_ray.core.serve_config import ServeConfig
from uniface_ray.core.version import __version__
from uniface_ray.data.addresses import is_public
from uniface_ray.serve.errors import ApiError
from uniface_ray.serve.threads import LOOKUPS, run_in

_HEADERS = {"User-Agent": f"uniface_ray/{__version__}", "Accept": "image/*", "Accept-Encoding": "identity"}
_MOVED = (301, 302, 303, 307, 308)
_PIECE = 2**16
# Other letters than ASCII's could become digits and dots on their way; names that have them are written in Punycode.
_HOST = re.compile(r"[a-z0-9_.:-]+")

Lookup = Callable[[str], Awaitable[Sequence[str]]]
"""A host's name -> its addresses."""


@dataclass(frozen=True, slots=True)
class FetchRules:
    """What may be fetched.

    Attributes:
        hosts: names, with those below them; none is any.
        port: the only one.
        max_bytes: of a body.
        redirects: that are followed.
        timeout_s: for all of it.
        most_held: bytes of all bodies that are not let go of yet.
    """

    hosts: tuple[str, ...]
    max_bytes: int
    redirects: int
    timeout_s: float
    most_held: int = 512 * 2**20
    port: int = 443


class Fetcher:
    """Fetches. One event loop; `close` ends its connections.

    Args:
        rules: for all requests.
        lookup: of names; the system's resolver where None.
        allowed: whether an address may be connected to.
        tls: other authorities than the system's.
    """

    def __init__(
        self,
        rules: FetchRules,
        lookup: Lookup | None = None,
        allowed: Callable[[str], bool] = is_public,
        tls: SSLContext | None = None,
    ) -> None:
        self._rules = rules
        self._resolver = _Checked(lookup or _look_up, allowed)
        self._allowed = allowed
        self._tls: SSLContext | bool = tls or True
        self._session: aiohttp.ClientSession | None = None
        self._held = 0

    @asynccontextmanager
    async def fetched(self, url: str, param: str) -> AsyncIterator[bytes]:
        """The body of what is at `url`, which counts as held until the end of the context.

        Args:
            url: as somebody gave it.
            param: the field of the request that gave it.

        Raises:
            ApiError: 400, it may not be fetched or cannot; 413, it is too large; 503, too many are held.
        """
        body = bytearray()
        try:
            await self._get(url, param, body)
            yield bytes(body)
        finally:
            self._held -= len(body)

    async def _get(self, url: str, param: str, body: bytearray) -> None:
        try:
            async with asyncio.timeout(self._rules.timeout_s):
                await self._follow(url, param, body)
        except TimeoutError as error:
            what = f"{url:.200} did not come within guard.fetch_timeout_s={self._rules.timeout_s:g}"
            raise _failed(param, what) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # Not what exactly went wrong: a stranger who reads it could map our network by it.
            raise _failed(param, f"{url:.200} cannot be fetched ({type(error).__name__})") from error

    async def close(self) -> None:
        """End all connections."""
        if self._session:
            await self._session.close()

    async def _follow(self, url: str, param: str, body: bytearray) -> None:
        here = url
        for _ in range(self._rules.redirects + 1):
            self._check(here, param)
            found = await self._once(here, param, body)
            if found is None:
                return
            here = urljoin(here, found)
        raise _failed(param, f"{url:.200} redirects more than guard.redirects={self._rules.redirects} times")

    def _check(self, url: str, param: str) -> None:
        parts = _split(url, param)
        host = parts.hostname
        if parts.scheme != "https" or not host or not _HOST.fullmatch(host) or (parts.port or 443) != self._rules.port:
            what = f"only https:// addresses on port {self._rules.port} are fetched, not {url!r:.200}"
            raise ApiError(400, what, param=param, code="invalid_image_url")
        if parts.username is not None or parts.password is not None:
            raise ApiError(400, "an address with a password is not fetched", param=param, code="invalid_image_url")
        names = self._rules.hosts
        if names and not any(host == name or host.endswith(f".{name}") for name in names):
            what = f"pictures are fetched from {', '.join(names)} only, not from {host:.200}"
            raise ApiError(400, what, param=param, code="foreign_host")
        if _is_address(host) and not self._allowed(host):
            raise _private(param)

    async def _once(self, url: str, param: str, body: bytearray) -> str | None:
        """One request: where to go for the body, or None, and `body` has it."""
        session = self._open()
        try:
            async with session.get(url, allow_redirects=False) as response:
                location = response.headers.get("Location")
                if response.status in _MOVED and location:
                    return location
                if response.status != 200:
                    raise _failed(param, f"the server of {url:.200} answers {response.status}")
                await self._read(response, param, body)
                return None
        except aiohttp.ClientConnectorDNSError as error:
            if isinstance(error.__cause__, _PrivateAddressError):
                raise _private(param) from error
            raise

    async def _read(self, response: aiohttp.ClientResponse, param: str, body: bytearray) -> None:
        most = self._rules.max_bytes
        if (response.content_length or 0) > most:
            raise _too_large(param, most)
        async for piece in response.content.iter_chunked(_PIECE):
            body += piece
            self._held += len(piece)
            if len(body) > most:
                raise _too_large(param, most)
            if self._held > self._rules.most_held:
                what = (
                    "the server holds as many bytes of fetched pictures as it may (guard.max_bodies_bytes); try again"
                )
                raise ApiError(503, what, code="overloaded", headers={"Retry-After": "1"})

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            # Connections are not kept: the next request shall be checked anew.
            connector = aiohttp.TCPConnector(
                resolver=self._resolver,
                use_dns_cache=False,
                force_close=True,
                ssl=self._tls,
                limit=32,
                limit_per_host=8,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                headers=_HEADERS,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=self._rules.timeout_s),
                auto_decompress=False,
                trust_env=False,  # a proxy would look names up for itself
            )
        return self._session


def fetcher_of(config: ServeConfig) -> Fetcher | None:
    """What fetches pictures by their https:// addresses, where the settings allow it."""
    guard, most = config.guard, config.decode.max_bytes
    rules = FetchRules(guard.image_hosts, most, guard.redirects, guard.fetch_timeout_s, guard.max_bodies_bytes)
    return Fetcher(rules) if config.serve.image_urls else None


class _PrivateAddressError(OSError):
    pass


class _Checked(AbstractResolver):
    """Addresses that were checked; aiohttp connects to exactly these."""

    def __init__(self, lookup: Lookup, allowed: Callable[[str], bool]) -> None:
        self._lookup = lookup
        self._allowed = allowed

    async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_UNSPEC) -> list[ResolveResult]:
        addresses = await self._lookup(host)
        # One private answer spoils all: who serves it is up to something.
        if not addresses or not all(self._allowed(address) for address in addresses):
            raise _PrivateAddressError(f"{host} leads to no public address")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        pass


async def _look_up(host: str) -> Sequence[str]:
    found = await run_in(LOOKUPS, socket.getaddrinfo, host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


def _is_address(host: str) -> bool:
    """Whether a name is an address already, in any spelling that a connection would take: 127.1 and 0x7f.1 too."""
    if ":" in host:
        return True
    last = host.rstrip(".").rpartition(".")[2]
    return last.isdigit() or last.lower().startswith("0x")


def _split(url: str, param: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is no number
    except ValueError as error:
        raise ApiError(400, f"{url!r:.200} is no address", param=param, code="invalid_image_url") from error
    return parts


def _private(param: str) -> ApiError:
    return ApiError(400, "the address leads to no public host", param=param, code="private_address")


def _failed(param: str, message: str) -> ApiError:
    return ApiError(400, message, param=param, code="fetch_failed")


def _too_large(param: str, most: int) -> ApiError:
    return ApiError(413, f"the picture has more than {most:,} bytes", param=param, code="too_large")


__all__ = ["FetchRules", "Fetcher", "fetcher_of"]
