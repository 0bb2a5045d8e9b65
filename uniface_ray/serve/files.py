"""`/v1/files`: JSONL for batches is uploaded, and what became of it downloaded."""

import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from itertools import islice
from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Form, Query, Request, UploadFile
from fastapi.responses import StreamingResponse
from starlette.datastructures import Headers

from uniface_ray.core.serve_config import ServeConfig
from uniface_ray.core.storage import Folder
from uniface_ray.serve.errors import ApiError
from uniface_ray.serve.store import PIECE_BYTES, FileRecord, Store
from uniface_ray.serve.threads import STORAGE, run_in

Limit = Annotated[int, Query(ge=1, le=10_000)]
Order = Literal["asc", "desc"]


def store_of(request: Request) -> Store:
    """The files of whoever asks.

    Raises:
        ApiError: 404, this server keeps none.
    """
    config = request.app.state.config
    if config.files.path is None:
        what = "this server keeps no files and runs no batches: files.path is not set"
        raise ApiError(404, what, code="files_off")
    return store_in(config, request.state.visit.key.name)


def store_in(config: ServeConfig, owner: str) -> Store:
    """The files of a key, where `files.path` is set."""
    settings = config.files
    assert settings.path is not None
    return Store(Folder(settings.path, config.storage), owner, settings.owner_bytes, settings.keep_days)


def files_router() -> APIRouter:
    """The routes."""
    router = APIRouter()

    @router.post("/v1/files")
    async def upload(
        request: Request,
        file: Annotated[UploadFile, File()],
        purpose: Annotated[Literal["batch"], Form()],
    ) -> dict[str, Any]:
        store = store_of(request)
        most = request.app.state.config.files.max_bytes
        if (file.size or 0) > most:
            what = f"file: has {file.size:,} bytes, but files.max_bytes allows {most:,}"
            raise ApiError(413, what, param="file", code="file_too_large")
        record = await run_in(STORAGE, store.put, _pieces(file), file.filename or "file", purpose)
        return record.to_api()

    @router.get("/v1/files")
    async def list_files(
        request: Request,
        purpose: str | None = None,
        limit: Limit = 100,
        order: Order = "desc",
        after: str | None = None,
    ) -> dict[str, Any]:
        store = store_of(request)

        def read(number: str) -> dict[str, Any] | None:
            record = store.find(number)
            return record.to_api() if record and purpose in (None, record.purpose) else None

        def found() -> dict[str, Any]:
            ids = store.ids()
            return page(ids if order == "desc" else ids[::-1], read, limit, after)

        return await run_in(STORAGE, found)

    @router.get("/v1/files/{file_id}")
    async def get(request: Request, file_id: str) -> dict[str, Any]:
        return (await run_in(STORAGE, store_of(request).get, file_id)).to_api()

    @router.get("/v1/files/{file_id}/content", response_class=StreamingResponse)
    async def content(request: Request, file_id: str) -> StreamingResponse:
        store = store_of(request)
        record = await run_in(STORAGE, store.get, file_id)
        part = _part(request.headers, record)
        begin, end = part or (0, record.bytes)
        headers = {
            # Never shown as a page: what somebody uploaded must not run in a browser as this server's own.
            "Content-Disposition": "attachment",
            "Content-Length": str(end - begin),
            "Accept-Ranges": "bytes",
            "ETag": f'"{record.id}"',
        }
        if part:
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{record.bytes}"
        return StreamingResponse(
            _sent(store.content(file_id, begin, end)), 206 if part else 200, headers, "application/octet-stream"
        )

    @router.delete("/v1/files/{file_id}")
    async def delete(request: Request, file_id: str) -> dict[str, Any]:
        await run_in(STORAGE, store_of(request).delete, file_id)
        return {"id": file_id, "object": "file", "deleted": True}

    return router


def page(
    ids: Sequence[str], read: Callable[[str], dict[str, Any] | None], limit: int, after: str | None
) -> dict[str, Any]:
    """A list of objects as OpenAI's API gives it; only those that are shown are read, and one more.

    Args:
        ids: of all of them, in their order.
        read: gives one; None where it is not for this list.
        limit: objects.
        after: the list begins behind this one.

    Raises:
        ApiError: 400, there is no `after`.
    """
    if after is not None and after not in ids:
        raise ApiError(400, f"after: there is no {after!r:.80} in this list", param="after", code="invalid_value")
    start = 0 if after is None else ids.index(after) + 1
    found = list(islice(filter(None, map(read, ids[start:])), limit + 1))
    shown = found[:limit]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": len(found) > limit,
    }


def _part(headers: Headers, record: FileRecord) -> tuple[int, int] | None:
    """The part of a file that a request asks for, from a byte to before another; None for all of it.

    Raises:
        ApiError: 416, there is no such part.
    """
    asked = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", headers.get("range", "").strip(), re.ASCII)
    if not asked or asked[0] == "bytes=-" or headers.get("if-range", f'"{record.id}"') != f'"{record.id}"':
        return None  # several parts, or of another file: whoever asks for them takes all of it, too
    size = record.bytes
    begin = int(asked[1]) if asked[1] else max(0, size - int(asked[2]))
    end = min(size, int(asked[2]) + 1) if asked[1] and asked[2] else size
    if begin >= end:
        what = f"range: the file has {size:,} bytes, and none of them are asked for"
        raise ApiError(416, what, code="invalid_range", headers={"Content-Range": f"bytes */{size}"})
    return begin, end


async def _sent(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    while (piece := await run_in(STORAGE, next, pieces, None)) is not None:
        yield piece


def _pieces(file: UploadFile) -> Iterator[bytes]:
    while piece := file.file.read(PIECE_BYTES):
        yield piece


__all__ = ["files_router", "page", "store_in", "store_of"]
