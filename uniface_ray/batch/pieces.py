"""Parts of a packed chunk (see `chunk`), and a chunk of its parts, whatever its columns are."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import pyarrow as pa

from uniface_ray.core.records import Reject


def rows_in(payload: Any) -> int:
    """Rows of a packed chunk."""
    return int(_open(payload).num_rows)


def cut(payload: Any, positions: Iterable[int]) -> list[bytes]:
    """The chunk in parts that begin at its first row and at each of `positions`."""
    table = _open(payload)
    return [_pack(table.slice(start, end - start)) for start, end in pairwise([0, *positions, table.num_rows])]


def join(payloads: Sequence[bytes]) -> bytes:
    """One chunk of its parts; the seconds of their stages (metadata `s:...`, see `chunk`) add up."""
    tables = [_open(payload) for payload in payloads]
    facts = dict(tables[0].schema.metadata or {})
    for table in tables[1:]:
        for name, value in (table.schema.metadata or {}).items():
            if name.startswith(b"s:"):
                facts[name] = repr(float(facts.get(name, b"0")) + float(value)).encode()
    joined = pa.concat_tables([table.replace_schema_metadata(None) for table in tables])
    return _pack(joined.replace_schema_metadata(facts))


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


def _open(payload: Any) -> pa.Table:
    return pa.ipc.open_stream(payload).read_all()


def _pack(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()
