"""The lines of a batch as tables that our pipeline reads: image bytes and questions, or prompts, and seeds.

Pictures are in the tables as bytes. A line never makes the pipeline open a path or an address with the server's rights.
"""

import asyncio
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from uniface_ray.core.records import Pixels
from uniface_ray.core.storage import Folder
from uniface_ray.serve.batch_lines import Line, Settings, Wrong
from uniface_ray.serve.errors import ApiError
from uniface_ray.serve.pictures import Pictures
from uniface_ray.serve.threads import WORK, run_in

_PART_BYTES = 32 * 2**20  # what is held in memory of each run's table
_PART_ROWS = 1000
_AT_A_TIME = 16  # lines, whose pictures may have to be fetched
_SCHEMA = pa.schema(
    [
        ("custom_id", pa.string()),
        ("image", pa.binary()),
        ("question", pa.string()),
        ("prompt", pa.string()),
        ("seed", pa.int64()),
        ("stops", pa.string()),
        ("mask", pa.binary()),
        ("box", pa.list_(pa.float64())),
    ]
)


@dataclass(slots=True)
class Table:
    """The rows of one run, written part by part.

    Attributes:
        folder: of all owners.
        home: of the run, inside it.
        settings: of the run.
        rows: so far.
    """

    folder: Folder
    home: str
    settings: Settings
    rows: int = 0
    _waiting: list[dict[str, Any]] = field(default_factory=list)
    _bytes: int = 0
    _parts: int = 0

    def add(self, row: dict[str, Any]) -> None:
        """One row more."""
        self._waiting.append(row)
        self._bytes += len(row["image"] or b"") + len(row.get("mask") or b"")
        self.rows += 1
        if self._bytes >= _PART_BYTES or len(self._waiting) >= _PART_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write what is held."""
        if not self._waiting:
            return
        buffer = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(self._waiting, _SCHEMA), buffer, compression="zstd")
        self.folder.write(f"{self.home}/source/part-{self._parts:05d}.parquet", buffer.getvalue().to_pybytes())
        self._waiting, self._bytes = [], 0
        self._parts += 1


@dataclass(slots=True)
class Prepared:
    """What a batch comes to.

    Attributes:
        tables: one for each run.
        wrong: lines that fail before any run.
    """

    tables: list[Table] = field(default_factory=list)
    wrong: list[Wrong] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Lines."""
        return len(self.wrong) + sum(table.rows for table in self.tables)


async def prepare(lines: Iterable[Line | Wrong], folder: Folder, home: str, pictures: Pictures, most: int) -> Prepared:
    """Write the tables of a batch's runs under `home`/runs/.

    Args:
        lines: of the input.
        folder: of all owners.
        home: of the batch.
        pictures: reads them.
        most: runs: lines with yet other settings are wrong.
    """
    found = Prepared()
    tables: dict[Settings, Table] = {}
    rest = iter(lines)
    while some := list(islice(rest, _AT_A_TIME)):
        for one in await asyncio.gather(*(_row(line, pictures) for line in some)):
            if isinstance(one, Wrong):
                found.wrong.append(one)
                continue
            line, row = one
            if line.settings not in tables:
                if len(tables) == most:
                    what = f"the lines of a batch have at most {most} different settings (files.batch_settings)"
                    found.wrong.append(Wrong(line.custom_id, ApiError(400, what, code="too_many_settings")))
                    continue
                tables[line.settings] = Table(folder, f"{home}/runs/{len(tables):03d}", line.settings)
            tables[line.settings].add(row)
    for table in tables.values():
        table.flush()
    found.tables = list(tables.values())
    return found


async def _row(line: Line | Wrong, pictures: Pictures) -> Wrong | tuple[Line, dict[str, Any]]:
    if isinstance(line, Wrong):
        return line
    row: dict[str, Any] = {"custom_id": line.custom_id, "seed": line.seed, "image": None}
    row |= {"prompt": line.text, "question": line.text, "stops": json.dumps(line.stops), "box": line.box}
    try:
        if line.url:
            row["image"] = await pictures.bytes_of_url(line.url, "image_url")
        if line.mask:
            mask = await pictures.mask(await pictures.bytes_of_url(line.mask, "mask"), "mask")
            row["mask"] = await run_in(WORK, _as_png, mask)
    except ApiError as error:
        return Wrong(line.custom_id, error)
    return line, row


def _as_png(mask: Pixels) -> bytes:
    """White where to draw, which is what a run understands."""
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG", compress_level=1)
    return file.getvalue()


__all__ = ["Prepared", "Table", "prepare"]
