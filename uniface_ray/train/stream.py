"""Rows of one kind in an order that depends on the seed alone, for ever.

Each epoch has its own order of files; the rows of `shuffle_files` files are shuffled together. Where a stream is, is
four numbers, so that it goes on exactly where it stopped, with any number of workers. The price: each worker reads all
files, of which it uses its share of the rows, and every kind of row reads them for itself. Codes and texts are some
2 kB a row; features of large encoders can be a megabyte, and then a `data.path` for each worker's node pays.
"""

import random
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from uniface_ray.core.errors import UserError
from uniface_ray.core.stages_config import Stage
from uniface_ray.train.shards import Shards

Kind = Literal["draw", "caption", "vqa"]
KINDS: tuple[Kind, ...] = ("draw", "caption", "vqa")
_TEXT = {"draw": "captions", "caption": "captions", "vqa": "questions"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a stream is.

    Attributes:
        epoch: times that all files were gone through.
        window: files are gone through in windows; the number of this one.
        offset: rows of it that are behind.
        number: rows of all epochs that are behind.
    """

    epoch: int = 0
    window: int = 0
    offset: int = 0
    number: int = 0

    def to_dict(self) -> dict[str, int]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Window:
    """Rows of some files, in the order in which they come."""

    table: pa.Table
    order: list[int]


class Stream:
    """An endless sequence of row numbers of one kind, read only where they are used.

    Args:
        shards: the files.
        kind: of its rows: those with captions, or with questions.
        seed: of the order.
        files: shuffled together.
        place: where to begin.
    """

    def __init__(self, shards: Shards, kind: Kind, seed: int, files: int, place: Place = Place()) -> None:
        self._shards, self._kind, self._seed, self._files = shards, kind, seed, files
        self.place = place
        self._window: tuple[int, int] | None = None
        self._rows = Window(pa.table({}), [])

    def take(self, count: int) -> list[tuple[int, pa.Table]]:
        """The next `count` rows: the number of each in the stream, and a table of that row alone.

        Raises:
            UserError: no row is of this kind; wrong files, see `Shards.table`.
        """
        taken: list[tuple[int, pa.Table]] = []
        idle = 0
        while count:
            place = self.place
            if self._window != (place.epoch, place.window):
                self._rows, self._window = self._read(place), (place.epoch, place.window)
            left = self._rows.order[place.offset : place.offset + count]
            taken += [(place.number + i, self._rows.table.slice(row, 1)) for i, row in enumerate(left)]
            count -= len(left)
            idle = 0 if left else idle + 1
            self._go_on(len(left))
            if idle > self.windows:
                raise _none_of(self._kind, self._shards)
        return taken

    @property
    def windows(self) -> int:
        """Of an epoch."""
        return -(-len(self._shards.names) // self._files)

    def _go_on(self, rows: int) -> None:
        place = self.place
        offset, number = place.offset + rows, place.number + rows
        if offset < len(self._rows.order):
            self.place = Place(place.epoch, place.window, offset, number)
        elif place.window + 1 < self.windows:
            self.place = Place(place.epoch, place.window + 1, 0, number)
        else:
            self.place = Place(place.epoch + 1, 0, 0, number)

    def _read(self, place: Place) -> Window:
        rng = random.Random(f"{self._seed}/{self._kind}/{place.epoch}")
        names = list(self._shards.names)
        rng.shuffle(names)
        names = names[place.window * self._files :][: self._files]
        tables = [self._shards.table(name, columns="codes" if self._kind == "draw" else "features") for name in names]
        table = pa.concat_tables(tables, promote_options="default")
        order = rows_of_kind(table, self._kind)
        random.Random(f"{self._seed}/{self._kind}/{place.epoch}/{place.window}").shuffle(order)
        return Window(table, order)


def kinds_of(stages: Iterable[Stage]) -> list[Kind]:
    """Those that any of the stages trains."""
    shares = [stage.shares for stage in stages]
    return [kind for kind in KINDS if any(share[kind] for share in shares)]


def check_kinds(shards: Shards, kinds: Iterable[Kind]) -> None:
    """Look for a row of each kind; the first file will mostly do.

    Raises:
        UserError: there is none of a kind; wrong files, see `Shards.table`.
    """
    missing = {*kinds}
    for name in shards.names:
        table = shards.table(name, held_out=False, columns="texts")
        missing = {kind for kind in missing if not rows_of_kind(table, kind)}
        if not missing:
            return
    raise _none_of(min(missing), shards)


def _none_of(kind: Kind, shards: Shards) -> UserError:
    return UserError(
        f"data.path is {shards.path!r}, where no row to train on has {_TEXT[kind]}, but stages.{kind} is not 0: set it "
        "to 0, or tokenize data that has them"
    )


def rows_of_kind(table: pa.Table, kind: Kind) -> list[int]:
    """Which rows of a table have the texts of a kind."""
    lengths = pc.list_value_length(table[_TEXT[kind]]).fill_null(0)
    return [row for row, length in enumerate(lengths.to_pylist()) if length]


def held_out_rows(shards: Shards, kind: Kind, count: int) -> list[pa.Table]:
    """Up to `count` held-out rows of a kind, the first of all files, as tables of one row.

    Where there are few, many files are looked through: their texts, which are little beside the features.
    """
    rows: list[pa.Table] = []
    if not shards.held_out:
        return rows
    for name in shards.names:
        if len(rows) >= count:
            break
        if not rows_of_kind(shards.table(name, held_out=True, columns="texts"), kind):
            continue
        table = shards.table(name, held_out=True)
        rows += [table.slice(row, 1) for row in rows_of_kind(table, kind)]
    return rows[:count]
