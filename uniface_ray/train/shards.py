"""The files that training reads: parquet as `uniface tokenize` writes it."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from uniface_ray.core.config import StorageConfig
from uniface_ray.core.errors import StoppedError, UserError
from uniface_ray.core.storage import Folder
from uniface_ray.core.storage_errors import explain, is_storage_failure
from uniface_ray.model.configuration import UniFaceConfig
from uniface_ray.model.encoders import features_of
from uniface_ray.train.held_out import are_held_out, column_of

_OK = "data/status=ok"
_TEXTS = pa.list_(pa.string())
_NEEDED = {
    "row_id": pa.int64(),
    "codes": pa.list_(pa.int32()),
    "captions": _TEXTS,
    "questions": _TEXTS,
    "answers": _TEXTS,
}

Columns = Literal["texts", "codes", "features"]
"""Of a table: `row_id` and texts; the codes too; and the features of the encoders, or pixels, which are the most."""


@dataclass(frozen=True)
class Shards:
    """The parquet files of one folder, for one model.

    Attributes:
        path: see `TrainDataConfig`.
        storage: how to reach S3.
        config: of the model that is trained.
        held_out: share of rows that is kept apart.
        held_out_by: see `TrainDataConfig`.
        listed: name and bytes of each file, as another worker has found them; None looks for them.
    """

    path: str
    storage: StorageConfig
    config: UniFaceConfig
    held_out: float
    held_out_by: str | None = None
    listed: tuple[tuple[str, int], ...] | None = None

    @cached_property
    def folder(self) -> Folder:
        """Where the files are: of a sink, its rows that worked."""
        folder = Folder(self.path, self.storage)
        sink = Folder(f"{folder.uri}/{_OK}", self.storage)
        return sink if any(entry.name.endswith(".parquet") for entry in sink.walk(recursive=False)) else folder

    @cached_property
    def names(self) -> list[str]:
        """The files, sorted; see `files`."""
        return [name for name, _ in self.files]

    @property
    def fingerprint(self) -> str:
        """Changes with the files' names and sizes, on which the order of rows depends."""
        return hashlib.sha256(json.dumps(self.files).encode()).hexdigest()[:16]

    @cached_property
    def files(self) -> tuple[tuple[str, int], ...]:
        """Name and bytes of each, sorted.

        Raises:
            UserError: there are none, or the storage gives no answer.
        """
        if self.listed is not None:
            return self.listed
        try:
            self.folder.check("data.path")
            files = tuple((one.name, one.size) for one in self.folder.list() if one.name.endswith(".parquet"))
        except OSError as error:
            raise explain(error, "data.path", self.folder.uri) from error
        if not files:
            raise UserError(
                f"data.path is {self.path!r}, where there is no parquet file: give the sink of `uniface tokenize`, or "
                "run it first"
            )
        return files

    def check(self) -> None:
        """Look at the first file.

        Raises:
            UserError: no files, wrong columns, codes or features of another model.
        """
        self.table(self.names[0], held_out=None).slice(0, 1)

    def table(self, name: str, held_out: bool | None = False, columns: Columns = "features") -> pa.Table:
        """Rows of a file with the columns that training knows.

        Args:
            name: of the file.
            held_out: the rows that are kept apart, or those that are not; None for all.
            columns: which to read.

        Raises:
            UserError: wrong columns, codes or features of another model, no parquet.
            StoppedError: the storage failed.
        """
        uri = f"{self.folder.uri}/{name}"
        try:
            with self.folder.open_input(name) as handle:
                file = pq.ParquetFile(handle)
                self._check_columns(file.schema_arrow, uri)
                known = [name for name in _NEEDED if name != "codes" or columns != "texts"]
                if columns == "features":
                    known += [one for one in self.extras if one in file.schema_arrow.names]
                told_by = {column_of(self.held_out_by)} & {*file.schema_arrow.names} - {*known}
                table = file.read([*known, *told_by])
        except (OSError, pa.ArrowException) as error:
            if is_storage_failure(error):
                raise StoppedError(f"{uri} cannot be read ({error}): the same command goes on once it can") from error
            raise UserError(
                f"data.path has {uri}, which cannot be read as parquet ({error}): write it again"
            ) from error
        if columns != "texts":
            self._check_values(table, uri)
        if held_out is None:
            return table.select(known)
        apart = pa.array(are_held_out(table, self.held_out_by, self.held_out), pa.bool_())
        return table.select(known).filter(apart if held_out else pc.invert(apart))

    @property
    def has_pixels(self) -> bool:
        """Whether the rows keep images beside their codes, by the first file."""
        with self.folder.open_input(self.names[0]) as handle:
            return "pixels" in pq.read_schema(handle).names

    @property
    def extras(self) -> dict[str, int]:
        """Columns beside the needed ones, with their bytes a row where these are known: features of each encoder."""
        sizes = {name: 2 * count * width for name, (count, width) in features_of(self.config).items()}
        return {**sizes, "pixels": 0} if sizes else {}

    def _check_columns(self, schema: pa.Schema, uri: str) -> None:
        wrong = [
            f"{name} ({kind})"
            for name, kind in _NEEDED.items()
            if name not in schema.names or not _alike(schema.field(name).type, kind)
        ]
        features = [name for name in self.extras if name != "pixels"]
        if features and "pixels" not in schema.names and not set(features) <= set(schema.names):
            wrong += [f"{name} (binary)" for name in features if name not in schema.names]
        there = ", ".join(f"{field.name} ({field.type})" for field in schema)
        if wrong:
            raise UserError(
                f"data.path has {uri}, which lacks {', '.join(wrong)}; its columns are: {there}. Make it with "
                "`uniface tokenize` and the model that is to be trained"
            )

        if self.held_out_by is not None and self.held_out_by not in schema.names:
            raise UserError(
                f"data.held_out_by is {self.held_out_by!r}, but data.path has {uri}, whose columns are: {there}. Name "
                "one of them, keep yours with source.keep_columns of `uniface tokenize`, or leave it null"
            )

    def _check_nulls(self, table: pa.Table, uri: str) -> None:
        """Texts may be missing as a whole; nothing else may, and nothing inside a list."""
        lists = {name: pc.list_flatten(table[name]) for name in _NEEDED if name != "row_id"}
        whole = {name: table[name] for name in table.column_names if name not in ("captions", "questions", "answers")}
        missing = [
            name for name in table.column_names if any(name in of and of[name].null_count for of in (lists, whole))
        ]
        if missing:
            raise UserError(
                f"data.path has {uri}, with null among its {', '.join(missing)}: leave these rows out, or make them "
                "with `uniface tokenize` and the model that is to be trained"
            )

    def _check_values(self, table: pa.Table, uri: str) -> None:
        """Whatever would end the training in the middle, or teach it nonsense."""
        self._check_nulls(table, uri)
        count, size = self.config.num_image_tokens, self.config.codebook_size
        lengths = set(pc.list_value_length(table["codes"]).to_pylist()) - {count}
        least, most = pc.min_max(pc.list_flatten(table["codes"])).as_py().values()
        if lengths or (most or 0) >= size or (least or 0) < 0:
            raise UserError(
                f"data.path has {uri}, with images of {sorted(lengths) or count} codes from {least} to {most}, but "
                f"this model has {count} codes from 0 to {size - 1}: tokenize the images with the model that is to be "
                "trained"
            )
        asked, said = (pc.list_value_length(table[name]).fill_null(0) for name in ("questions", "answers"))
        odd = table.filter(pc.not_equal(asked, said)).slice(0, 1)
        if odd.num_rows:
            raise UserError(
                f"data.path has {uri}, whose row {odd['row_id'][0]} has {len(odd['questions'][0].as_py() or [])} "
                f"questions and {len(odd['answers'][0].as_py() or [])} answers: each needs the other, write it again"
            )
        for name, bytes_of in self.extras.items():
            if bytes_of and name in table.column_names and set(pc.binary_length(table[name]).to_pylist()) - {bytes_of}:
                raise UserError(
                    f"data.path has {uri}, whose {name} features are not of {bytes_of:,} bytes, as this model's are: "
                    "tokenize the images with the model that is to be trained"
                )


def _alike(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Lists and texts of any width are alike."""
    if pa.types.is_list(wanted):
        is_list = pa.types.is_list(found) or pa.types.is_large_list(found) or pa.types.is_fixed_size_list(found)
        return is_list and _alike(found.value_type, wanted.value_type)
    if pa.types.is_string(wanted):
        return bool(pa.types.is_string(found) or pa.types.is_large_string(found))
    return bool(pa.types.is_integer(found))
