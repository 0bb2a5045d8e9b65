"""Parts of a packed chunk (see `chunk`), and a chunk of its parts, whatever its columns are.

A part has whole units: rows of one parent (the faces of a photo) stay together, any other row is a unit of its own.
"""

import json
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import pyarrow as pa

from uniface_ray.core.records import Reject


def units_in(payload: Any) -> int:
    """Units of a packed chunk."""
    return len(_starts(_open(payload)))


def cut(payload: Any, units: Iterable[int]) -> list[bytes]:
    """The chunk in parts that begin at its first unit and at each of `units`.

    Only the first takes along the seconds and amounts so far, so that `join` counts them once.
    """
    table = _open(payload)
    starts = _starts(table)
    rest = _with_facts(table, {**_facts(table), "seconds": {}, "amounts": {}, "faceless": []})
    bounds = pairwise([0, *(starts[unit] for unit in units), table.num_rows])
    return [_pack((rest if start else table).slice(start, end - start)) for start, end in bounds]


def join(payloads: Sequence[bytes]) -> bytes:
    """One chunk of its parts; seconds and amounts add up."""
    tables = [_open(payload) for payload in payloads]
    facts = [_facts(table) for table in tables]
    sums = {name: _sum([one[name] for one in facts]) for name in ("seconds", "amounts")}
    faceless = [row_id for one in facts for row_id in one["faceless"]]
    joined = pa.concat_tables([table.replace_schema_metadata(None) for table in tables])
    return _pack(_with_facts(joined, {**facts[0], **sums, "faceless": faceless}))


def rejected(payload: Any, reject: Reject) -> bytes:
    """The chunk with all its rows rejected."""
    table = _open(payload)
    values = {
        "error_kind": reject.kind.value,
        "error_message": reject.message,
        "stage": reject.stage,
        "attempts": reject.attempts,
    }
    for name, value in values.items():
        index = table.schema.get_field_index(name)
        column = pa.array([value] * table.num_rows, table.schema.field(name).type)
        table = table.set_column(index, table.schema.field(name), column)
    return _pack(table)


def _sum(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: sum(part.get(name, 0) for part in parts) for name in names}


def _starts(table: pa.Table) -> list[int]:
    parents = table["parent_id"].to_pylist()
    return [row for row, parent in enumerate(parents) if row == 0 or parent is None or parent != parents[row - 1]]


def _facts(table: pa.Table) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(table.schema.metadata[b"chunk"])
    return facts


def _with_facts(table: pa.Table, facts: dict[str, Any]) -> pa.Table:
    return table.replace_schema_metadata({"chunk": json.dumps(facts)})


def _open(payload: Any) -> pa.Table:
    return pa.ipc.open_stream(payload).read_all()


def _pack(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()
