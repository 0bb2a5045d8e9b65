"""The playground at `/`: one page, its script and its style, which ask this server's own API."""

from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import Response

from uniface_ray.serve.errors import ApiError

_TYPES = {
    "index.html": "text/html; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "api.js": "text/javascript; charset=utf-8",
    "painter.js": "text/javascript; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_SAMPLES = ("barack-obama", "eileen-collins", "grace-hopper", "joe-biden")
# Only what this server itself serves is run or asked; data: and blob: are pictures that somebody chose or had drawn.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def page_router() -> APIRouter:
    """The page and what it needs."""
    router = APIRouter(include_in_schema=False)
    folder = files("uniface_ray.serve") / "playground"
    portraits = files("uniface_ray") / "assets" / "portraits"

    @router.get("/")
    async def page() -> Response:
        return _sent((folder / "index.html").read_bytes(), _TYPES["index.html"])

    @router.get("/playground/portraits/{name}")
    async def portrait(name: str) -> Response:
        if name not in _SAMPLES:
            raise ApiError(404, f"there is no portrait {name!r:.60}", code="not_found")
        return _sent((portraits / f"{name}.jpg").read_bytes(), "image/jpeg")

    @router.get("/playground/{name}")
    async def part(name: str) -> Response:
        if name not in _TYPES:
            raise ApiError(404, f"there is no {name!r:.60} here", code="not_found")
        return _sent((folder / name).read_bytes(), _TYPES[name])

    return router


def _sent(content: bytes, kind: str) -> Response:
    return Response(content, media_type=kind, headers=_HEADERS)


__all__ = ["page_router"]
