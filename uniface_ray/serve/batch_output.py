"""What our pipeline wrote for a batch, as lines of OpenAI's output and error files."""

import base64
import json
import secrets
import time
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from uniface_ray.core.records import RejectKind
from uniface_ray.core.storage import Folder
from uniface_ray.serve.batch_lines import Endpoint, Wrong
from uniface_ray.serve.errors import ApiError
from uniface_ray.serve.growth import Growth
from uniface_ray.serve.store import PIECE_BYTES

_OK, _REJECTED = "data/status=ok", "data/status=rejected"
# Whose fault it is, and so how online would have answered; the rest are the request's own.
_OURS = (RejectKind.CRASHED, RejectKind.MODEL_ERROR, RejectKind.OUT_OF_MEMORY, RejectKind.TIMEOUT)


def output_lines(endpoint: Endpoint, folder: Folder, sink: str, model: str) -> Iterator[bytes]:
    """The answers of one run.

    Args:
        endpoint: of its lines.
        folder: of all owners.
        sink: of the run, inside it.
        model: by its name.
    """
    for rows in _tables(folder, f"{sink}/{_OK}"):
        for custom_id, those in groupby(rows, lambda row: row["custom_id"]):
            found = list(those)
            body = _chat(found[0], model) if endpoint == "/v1/chat/completions" else _images(found)
            yield _line(custom_id, 200, body)


def error_lines(folder: Folder, sink: str) -> Iterator[bytes]:
    """The requests of one run that failed."""
    for rows in _tables(folder, f"{sink}/{_REJECTED}"):
        for row in rows:
            kind = RejectKind(row["error_kind"])
            status = 500 if kind in _OURS else 413 if kind == RejectKind.TOO_LARGE else 400
            yield wrong_line(Wrong(row["custom_id"], ApiError(status, row["error_message"], code=str(kind))))


def wrong_line(wrong: Wrong) -> bytes:
    """A request that failed."""
    return _line(wrong.custom_id, wrong.error.status, wrong.error.body)


def undone_line(custom_id: str, end: str) -> bytes:
    """A request that was not come to before the batch was `expired` or `cancelled`, or `completed` without it."""
    code, message = f"batch_{end}", f"this request was not done before the batch was {end}"
    if end == "completed":
        code, message = "run_failed", "the run of this request failed; the log of the batch says why"
    return _encoded({**_head(custom_id), "response": None, "error": {"code": code, "message": message}})


def undone_ids(folder: Folder, home: str) -> Iterator[str]:
    """`custom_id` of the rows of a run's source that its sink has no row for."""
    done = {row["custom_id"] for status in (_OK, _REJECTED) for row in _ids(folder, f"{home}/sink/{status}")}
    yield from (row["custom_id"] for row in _ids(folder, f"{home}/source") if row["custom_id"] not in done)


def in_pieces(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Lines as pieces of a file."""
    held = bytearray()
    for line in lines:
        held += line
        while len(held) >= PIECE_BYTES:
            yield bytes(held[:PIECE_BYTES])
            del held[:PIECE_BYTES]
    if held:
        yield bytes(held)


def _ids(folder: Folder, name: str) -> Iterator[dict[str, Any]]:
    for rows in _tables(folder, name, ["custom_id"]):
        yield from rows


def _tables(folder: Folder, name: str, columns: list[str] | None = None) -> Iterator[Iterator[dict[str, Any]]]:
    """Rows of each parquet file of a folder, a few at a time."""
    for entry in folder.list(name):
        with folder.open_input(entry.name) as handle:
            file = pq.ParquetFile(handle)
            yield (row for batch in file.iter_batches(64, columns=columns) for row in _rows(batch))


def _rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = batch.to_pylist()
    return rows


def _chat(row: dict[str, Any], model: str) -> dict[str, Any]:
    """As online, but for what a run does not write down: tokens, and whether an answer was cut."""
    text = Growth(json.loads(row["stops"] or "[]")).more(row["answer"], True)
    message = {"role": "assistant", "content": text, "refusal": None}
    return {
        "id": f"chatcmpl-{secrets.token_hex(12)}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
    }


def _images(rows: list[dict[str, Any]]) -> dict[str, Any]:
    data = [
        {
            "b64_json": base64.b64encode(row["image"]).decode(),
            "revised_prompt": row["prompt"].strip().removesuffix(row["prompt_cut"] or "").strip(),
        }
        for row in sorted(rows, key=lambda row: row.get("index", 0))
    ]
    return {"created": int(time.time()), "data": data}


def _head(custom_id: str) -> dict[str, Any]:
    return {"id": f"batch_req_{secrets.token_hex(12)}", "custom_id": custom_id}


def _line(custom_id: str, status: int, body: dict[str, Any]) -> bytes:
    response = {"status_code": status, "request_id": secrets.token_hex(16), "body": body}
    return _encoded({**_head(custom_id), "response": response, "error": None})


def _encoded(line: dict[str, Any]) -> bytes:
    return json.dumps(line, ensure_ascii=False).encode() + b"\n"


__all__ = ["error_lines", "in_pieces", "output_lines", "undone_ids", "undone_line", "wrong_line"]
