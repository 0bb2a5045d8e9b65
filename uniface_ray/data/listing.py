"""Which data files a source's path holds."""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import chain, islice
from posixpath import splitext

from uniface_ray.core.config import SourceConfig, StorageConfig
from uniface_ray.core.errors import StoppedError, UserError
from uniface_ray.core.storage import FileEntry, Folder, absolute, join, open_path
from uniface_ray.core.storage_errors import explain
from uniface_ray.data.globs import pattern_of, split_pattern

_TABLES = {"jsonl": (".jsonl", ".ndjson"), "csv": (".csv", ".tsv")}
SUFFIXES = {
    "images": (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    "parquet": (".parquet",),
    "webdataset": (".tar",),
    **{kind: (*plain, *(f"{suffix}.gz" for suffix in plain)) for kind, plain in _TABLES.items()},
}
# Different endings that are told apart among the files that are passed over.
_ENDINGS = 20
# Names that `format=auto` looks at.
_LOOKED_AT = 10_000


class DataFiles:
    """The files of `source.path`: one file, a folder with all below it, or what a pattern matches.

    They are listed as they are asked for, and not held: a source may have millions.

    Args:
        source: its `path` and `format`.
        storage: how to reach S3.

    Attributes:
        folder: that names are relative to: the one given, that of the single file, or the one above the pattern.
        format: `images`, `parquet`, `webdataset`, `jsonl` or `csv`.
        address: what is read: the file or the folder.
        passed_over: how many other files, by ending, the last `entries` has come by; hidden ones do not count.

    Raises:
        UserError: nothing there, no rights, or files that leave the format open.
    """

    def __init__(self, source: SourceConfig, storage: StorageConfig) -> None:
        self.folder, self._name, self._pattern = _locate(source.path, storage)
        self.address = self.uri(self._name)
        self.passed_over: Counter[str] = Counter()
        self._told = repr(absolute(source.path))
        self.format = self._guess() if source.format == "auto" else source.format

    def uri(self, name: str) -> str:
        return join(self.folder.uri, name)

    def check(self) -> None:
        """Raise the UserError of a source without data files."""
        if next(self.entries(), None) is None:
            suffixes = SUFFIXES[self.format]
            raise UserError(
                f"source.path is {self._told} and source.format is {self.format}, but no file there "
                f"ends in {', '.join(suffixes)}{self._others()}: correct the path or the format"
            )

    def entries(self) -> Iterator[FileEntry]:
        """The data files in the storage's order, by name on a disk; a single file counts whatever its name is.

        Raises:
            UserError: the storage refuses.
            StoppedError: it failed later, when it had given some.
        """
        suffixes = SUFFIXES[self.format]
        self.passed_over.clear()
        for entry in self._all():
            if self._name or entry.name.lower().endswith(suffixes):
                yield entry
                continue
            if entry.name.lower().endswith(".md"):
                continue  # what somebody wrote about the files is no row that anybody misses
            ending = splitext(entry.name)[1].lower() or "without ending"
            known = ending in self.passed_over or len(self.passed_over) < _ENDINGS
            self.passed_over[ending if known else "others"] += 1

    def _all(self) -> Iterator[FileEntry]:
        count = 0
        try:
            # A file alone is asked for in its folder: a listing tells its time, too.
            for entry in self.folder.walk(self._name.rpartition("/")[0], recursive=not self._name):
                if self._matches(entry.name):
                    yield entry
                    count += 1
        except OSError as error:
            if count:
                raise StoppedError(
                    f"source.path is {self._told}, whose listing failed after {count:,} files ({error}): the same "
                    "command lists it again once the storage answers"
                ) from error
            raise explain(error, "source.path", self.folder.uri) from error

    def _matches(self, name: str) -> bool:
        if self._name:
            return name == self._name
        hidden = any(part.startswith(".") for part in name.split("/"))
        return not hidden and (self._pattern is None or self._pattern.fullmatch(name) is not None)

    def _guess(self) -> str:
        names = [entry.name.lower() for entry in islice(self._all(), _LOOKED_AT)]
        found = {
            kind: example
            for kind, suffixes in SUFFIXES.items()
            if (example := next((name for name in names if name.endswith(suffixes)), None))
        }
        if len(found) == 1:
            return next(iter(found))
        if found:
            kinds = ", ".join(f"{kind} ({example})" for kind, example in found.items())
            raise UserError(
                f"source.path is {self._told}, which holds files of several formats: {kinds}. "
                "Say which to read with source.format"
            )
        known = ", ".join(chain.from_iterable(SUFFIXES.values()))
        raise UserError(
            f"source.path is {self._told}, but no file there ends in any of {known}"
            f"{self._others()}: correct the path, or set source.format for a single file of another name"
        )

    def _others(self) -> str:
        names = [entry.name for entry in islice(self._all(), _LOOKED_AT)]
        if not names:
            return "; it matches nothing" if self._pattern else "; it is empty"
        return f"; it holds {len(names)}{'+' * (len(names) == _LOOKED_AT)} other files such as {names[0]!r}"


def _locate(path: str, storage: StorageConfig) -> tuple[Folder, str, re.Pattern[str] | None]:
    """The folder, the name in it where the path is a single file, and what names must match where it is a pattern."""
    folder = Folder(path, storage)
    folder.check("source.path")
    base, pattern = split_pattern(absolute(path))
    try:
        if not folder.is_bucket_root and not path.endswith("/"):
            parent, name = open_path(path, storage)
            if parent.exists(name):
                return parent, name, None
        if folder.is_folder():
            return folder, "", None
        if pattern and (above := Folder(base, storage)).is_folder():
            return above, "", pattern_of(pattern + "/" * path.endswith("/"))
    except OSError as error:
        raise explain(error, "source.path", folder.uri) from error
    missing = f"{base} for its pattern" if pattern else folder.uri
    raise UserError(f"source.path is {path!r}, but there is nothing at {missing}: correct the path")
