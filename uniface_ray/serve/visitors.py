"""Who asks, and whether they may."""

from urllib.parse import urlsplit

from starlette.datastructures import Headers

from uniface_ray.core.guard_config import GuardSettings
from uniface_ray.serve.errors import ApiError
from uniface_ray.serve.keys import NOBODY, Key, Keys, is_loopback

# The right that a path needs; where none is named, any key will do.
_RIGHTS = {
    "/v1/chat": "chat",
    "/v1/images": "images",
    "/v1/files": "batch",
    "/v1/batches": "batch",
    "/metrics": "metrics",
}
# What shows nothing of anybody: health, the playground's own files, and what the API is.
_FREE = ("/", "/healthz", "/readyz", "/openapi.json")
_FREE_BELOW = "/playground/"


class Visitors:
    """Lets requests in, or not.

    Args:
        settings: with all keys.
    """

    def __init__(self, settings: GuardSettings) -> None:
        self._keys = Keys(settings.keys)
        self._open = settings.open

    def admit(self, method: str, path: str, headers: Headers) -> Key:
        """The key of a request; `NOBODY` where it needs none.

        Raises:
            ApiError: 401 for no key or a wrong one, 403 for what it may not do.
        """
        if not self._keys:
            self._check_origin(headers)
            return NOBODY
        if method in ("GET", "HEAD") and (path in _FREE or path.startswith(_FREE_BELOW)):
            return NOBODY
        scheme, _, presented = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not presented.strip():
            raise _unknown("this server needs an API key: send it as `Authorization: Bearer KEY`")
        key = self._keys.find(presented.strip())
        if key is None:
            raise _unknown("this API key is not known here, or no longer")
        needed = next((right for prefix, right in _RIGHTS.items() if _below(path, prefix)), None)
        if needed and needed not in key.rights:
            may = ", ".join(sorted(key.rights))
            raise ApiError(403, f"the key {key.name} may not do this ({needed}), only {may}", code="not_allowed")
        return key

    def _check_origin(self, headers: Headers) -> None:
        """Refuse web pages of others: any page that somebody opens could ask a server on their own machine.

        A page's script cannot choose `Origin`; and one whose host's name was made to lead here (DNS rebinding) still
        sends that name.
        """
        host = headers.get("host", "")
        origin = headers.get("origin")
        if origin is not None and _netloc(origin) != host.lower():
            raise ApiError(403, f"pages of {origin:.200} may not ask this server", code="foreign_origin")
        if not self._open and not is_loopback(_hostname(host)):
            what = f"this server has no API keys and answers to this machine's own names, not to {host!r:.200}"
            raise ApiError(403, f"{what}; give it keys (guard.keys) or guard.open=true", code="foreign_host")


def _below(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(f"{prefix}/")


def _netloc(url: str) -> str:
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return ""


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _unknown(message: str) -> ApiError:
    return ApiError(
        401, message, "authentication_error", code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"}
    )


__all__ = ["Visitors"]
