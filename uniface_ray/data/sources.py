"""Open what `source.path` names."""

from uniface_ray.core.config import HUB, DecodeConfig, SourceConfig, StorageConfig
from uniface_ray.data.huggingface_source import HuggingFaceSource, is_saved
from uniface_ray.data.images_source import ImagesSource
from uniface_ray.data.listing import DataFiles
from uniface_ray.data.parquet_source import ParquetSource
from uniface_ray.data.shard import Shard
from uniface_ray.data.slices import Source
from uniface_ray.data.text_source import TextSource
from uniface_ray.data.wanted import IMAGES, Wanted
from uniface_ray.data.webdataset_source import WebDatasetSource


def open_source(source: SourceConfig, storage: StorageConfig, decode: DecodeConfig, wanted: Wanted = IMAGES) -> Source:
    """The source of a run. Open it once and send it to workers by pickle: opening asks the storage.

    Args:
        source: what to read.
        storage: how to reach S3.
        decode: its `max_bytes` bounds what is read.
        wanted: of each row, by the task.

    Raises:
        UserError: nothing at the path, no rights, no answer, or files that leave `format=auto` open.
    """
    opened = _open(source, storage, decode, wanted)
    return Shard(opened, source.shard) if source.shard else opened


def _open(source: SourceConfig, storage: StorageConfig, decode: DecodeConfig, wanted: Wanted) -> Source:
    if source.format == "huggingface" or (source.format == "auto" and _is_dataset(source.path)):
        return HuggingFaceSource(source, storage, decode, wanted)
    files = DataFiles(source, storage)
    match files.format:
        case "images":
            return ImagesSource(files, source, decode, wanted)
        case "parquet":
            return ParquetSource(files, source, decode, wanted)
        case "webdataset":
            return WebDatasetSource(files, source, decode, wanted)
        case _:
            return TextSource(files, source, decode, wanted)


def _is_dataset(path: str) -> bool:
    return path.startswith(HUB) or is_saved(path)
