"""The settings of `uniface serve` that keep people out and the service up."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from uniface_ray.core.settings import Settings

KEY_LINE = re.compile(r"(?P<name>[\w-]{1,64})=(?P<digest>[0-9a-f]{64})(:(?P<rights>[a-z]+(\+[a-z]+)*))?", re.ASCII)
RIGHTS = ("chat", "images", "batch", "metrics")


def _key_line(value: str) -> str:
    found = KEY_LINE.fullmatch(value)
    if not found:
        raise ValueError(
            "must be name=digest or name=digest:right+right, the digest being a key's SHA-256 as 64 lower-case hex "
            "digits; `python -m uniface_ray.serve.keys NAME` makes a key and its line"
        )
    unknown = set((found["rights"] or RIGHTS[0]).split("+")) - set(RIGHTS)
    if unknown:
        raise ValueError(f"names the right {', '.join(sorted(unknown))}; there is {', '.join(RIGHTS)}")
    return value


def _host_name(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", value):
        raise ValueError("must be a host's name in lower case, such as images.example.com")
    return value


class GuardSettings(Settings):
    """Who may ask, how much, and what requests may bring along.

    Attributes:
        keys: `name=digest` each, as `python -m uniface_ray.serve.keys` makes them, with `:chat+images+batch+metrics`
            where a key may do only some of that; more may stand in UNIFACE_API_KEYS, separated by commas. None at all
            lets everybody in, which is allowed on a loopback address only.
        open: let everybody in, on a public address too.
        requests_per_min: of one key, over all replicas: a bucket of so many that fills up within a minute; null for no
            limit.
        concurrency: requests of one key at a time, likewise.
        max_body_bytes: of one request, files apart.
        max_bodies_bytes: of all requests under way at a door, of all uploads, and of all pictures it has fetched, each
            apart; the next one is told 503 at once. Of bodies and of uploads one key may hold half.
        body_timeout_s: seconds for a request's body to come, and one more for each 64 KiB that have come.
        decoders: processes of a door that decode pictures.
        image_hosts: hosts that https:// pictures may come from, with those below them; none is any public one.
        fetch_timeout_s: seconds to fetch a picture, redirects included.
        redirects: that are followed.
        access_log: a line of JSON for each request on standard output; never with what was asked or answered.
    """

    keys: tuple[Annotated[str, AfterValidator(_key_line)], ...] = Field(default=(), repr=False)
    open: bool = False
    requests_per_min: float | None = Field(default=None, gt=0)
    concurrency: int | None = Field(default=None, ge=1)
    max_body_bytes: int = Field(default=32 * 2**20, ge=1024)
    max_bodies_bytes: int = Field(default=512 * 2**20, ge=1024)
    body_timeout_s: float = Field(default=20.0, gt=0)
    decoders: int = Field(default=2, ge=1)
    image_hosts: tuple[Annotated[str, AfterValidator(_host_name)], ...] = ()
    fetch_timeout_s: float = Field(default=10.0, gt=0)
    redirects: int = Field(default=3, ge=0)
    access_log: bool = True
