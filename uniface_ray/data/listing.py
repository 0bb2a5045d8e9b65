"""Which data files a source's path holds."""

from typing import Any

from uniface_ray.core.config import SourceConfig, StorageConfig
from uniface_ray.core.errors import UserError
from uniface_ray.core.storage import FileEntry, Folder, join, open_path
from uniface_ray.core.storage_errors import explain

SUFFIXES = {
    "images": (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    "parquet": (".parquet",),
    "jsonl": (".jsonl", ".ndjson"),
}


class DataFiles:
    """The files of `source.path`: one file, or a folder with all below it. Listed once; not pickled with it.

    Args:
        source: its `path` and `format`.
        storage: how to reach S3.

    Attributes:
        folder: that names are relative to.
        format: `images`, `parquet` or `jsonl`.

    Raises:
        UserError: nothing there, no rights, or files that leave the format open.
    """

    def __init__(self, source: SourceConfig, storage: StorageConfig) -> None:
        self.folder, self._name = _locate(source.path, storage)
        self._listing: list[FileEntry] | None = None
        self.format = self._guess() if source.format == "auto" else source.format

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_listing": None}

    def uri(self, name: str) -> str:
        return join(self.folder.uri, name)

    def entries(self) -> list[FileEntry]:
        """The data files, sorted by name; a single file counts whatever its name is.

        Raises:
            UserError: there are none.
        """
        if self._name:
            return self._all()
        found = [entry for entry in self._all() if entry.name.lower().endswith(SUFFIXES[self.format])]
        if not found:
            raise UserError(
                f"source.path is {self.folder.uri!r} and source.format is {self.format}, but no file there "
                f"ends in {', '.join(SUFFIXES[self.format])}{self._others()}: correct the path or the format"
            )
        return found

    def _all(self) -> list[FileEntry]:
        if self._listing is None:
            parent = self._name.rpartition("/")[0]
            try:
                found = self.folder.list(parent, recursive=not self._name)
            except OSError as error:
                raise explain(error, "source.path", self.folder.uri) from error
            if self._name:
                self._listing = [entry for entry in found if entry.name == self._name]
            else:
                self._listing = [entry for entry in found if not _is_hidden(entry.name)]
        return self._listing

    def _guess(self) -> str:
        names = [entry.name.lower() for entry in self._all()]
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
                f"source.path is {self.folder.uri!r}, which holds files of several formats: {kinds}. "
                "Say which to read with source.format"
            )
        known = ", ".join(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
        raise UserError(
            f"source.path is {self.uri(self._name)!r}, but no file there ends in any of {known}"
            f"{self._others()}: correct the path, or set source.format for a single file of another name"
        )

    def _others(self) -> str:
        names = [entry.name for entry in self._all()]
        return f"; it holds {len(names)} other files such as {names[0]!r}" if names else "; it is empty"


def _locate(path: str, storage: StorageConfig) -> tuple[Folder, str]:
    """The folder, and the name in it where the path is a single file."""
    folder = Folder(path, storage)
    folder.check("source.path")
    try:
        if not folder.is_bucket_root and not path.endswith("/"):
            parent, name = open_path(path, storage)
            if parent.exists(name):
                return parent, name
        if folder.is_folder():
            return folder, ""
    except OSError as error:
        raise explain(error, "source.path", folder.uri) from error
    raise UserError(f"source.path is {path!r}, but there is nothing at {folder.uri}: correct the path")


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))
