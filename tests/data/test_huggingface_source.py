from pathlib import Path
from typing import Any

import datasets
import pytest

from tests.data.rows import PICTURES, kinds_of, plan, put_parquet, rows_of
from uniface_ray.batch.manifest import identity_of
from uniface_ray.core.compose import compose
from uniface_ray.core.config import DecodeConfig, SourceConfig, StorageConfig
from uniface_ray.core.errors import UserError
from uniface_ray.core.records import RejectKind, row_id_of
from uniface_ray.core.storage import Folder
from uniface_ray.data import huggingface_source
from uniface_ray.data.huggingface_source import HuggingFaceSource
from uniface_ray.data.slices import Source
from uniface_ray.data.sources import open_source


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def faces(count: int = 5) -> datasets.Dataset:
    features = datasets.Features({"image": datasets.Image(), "age": datasets.Value("int32")})
    cells = [{"bytes": PICTURES[i % 5], "path": None} for i in range(count)]
    return datasets.Dataset.from_dict({"image": cells, "age": list(range(count))}, features=features)


def source_of(path: Path | str, **settings: Any) -> Source:
    source = open_source(SourceConfig(path=str(path), **settings), StorageConfig(), DecodeConfig())
    source.check()
    return source


@pytest.mark.parametrize("rows", [1, 7, 100])
@pytest.mark.parametrize("shards", [1, 3])
def test_a_dataset_saved_to_disk(tmp_path: Path, shards: int, rows: int) -> None:
    faces(40).save_to_disk(str(tmp_path / "d"), num_shards=shards)
    source = source_of(tmp_path / "d", keep_columns=("age",))
    assert isinstance(source, HuggingFaceSource)  # its format is seen
    found = rows_of(source, rows)
    assert [row.data for row in found] == PICTURES * 8
    assert [row.kept for row in found] == [{"age": i} for i in range(40)]
    assert [row.ref.row_id for row in found] == [row_id_of("train", i) for i in range(40)]  # whatever the shards
    assert found[0].ref.uri == f"{tmp_path}/d/train"
    last = plan(source, 3)[-1]
    assert [row.kept["age"] for row in source.read([last])] == [39]


def test_splits(tmp_path: Path) -> None:
    splits = datasets.DatasetDict({"train": faces(3), "test": faces(2)})
    splits.save_to_disk(str(tmp_path / "d"))
    assert len(rows_of(source_of(tmp_path / "d", split="test"))) == 2
    with pytest.raises(UserError, match=r"source.split is 'dev', but .* has: train, test"):
        source_of(tmp_path / "d", split="dev")


def test_a_folder_that_the_library_loads(tmp_path: Path) -> None:
    put_parquet(Folder(str(tmp_path / "repo"), StorageConfig()), "data/train-0.parquet", {"image": PICTURES[:3]})
    found = rows_of(source_of(tmp_path / "repo", format="huggingface"))
    assert [row.data for row in found] == PICTURES[:3]


def test_rows_without_image_and_images_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(PICTURES[1])
    cells = [{"bytes": None, "path": str(tmp_path / "1.jpg")}, None]
    features = datasets.Features({"image": datasets.Image(decode=False)})
    datasets.Dataset.from_dict({"image": cells}, features=features).save_to_disk(str(tmp_path / "d"))
    found = rows_of(source_of(tmp_path / "d"))
    assert kinds_of(found) == [None, RejectKind.BAD_REQUEST]
    assert found[0].data == PICTURES[1]


def test_a_dataset_that_changes_after_the_plan(tmp_path: Path) -> None:
    faces(4).save_to_disk(str(tmp_path / "d"))
    source = source_of(tmp_path / "d")
    pieces = plan(source)
    huggingface_source._load.cache_clear()  # as in another process
    faces(5).save_to_disk(str(tmp_path / "d"))
    assert kinds_of(list(source.read(pieces))) == [RejectKind.NOT_FOUND] * 4


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"image_column": "photo"}, r"Its columns are: image \(struct.*\), age \(int32\)"),
        ({"keep_columns": ("name",)}, "source.keep_columns names 'name', but the columns of .* are: image"),
    ],
)
def test_mistakes(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    faces().save_to_disk(str(tmp_path / "d"))
    with pytest.raises(UserError, match=words):
        source_of(tmp_path / "d", **settings)


def test_what_the_library_cannot_load(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path, words in ((tmp_path / "empty", "cannot load"), ("s3://bucket/d", "copy the dataset to a disk")):
        with pytest.raises(UserError, match=words):
            source_of(path, format="huggingface")


def test_a_name_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def load_dataset(path: str) -> datasets.DatasetDict:
        asked.append(path)
        return datasets.DatasetDict({"train": faces(3)})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    config = compose("caption", ["source.path=hf://owner/name", f"sink.path={tmp_path}/out"])
    source = open_source(config.source, config.storage, config.decode)
    source.check()
    assert (source.format, source.address, asked) == ("huggingface", "", ["owner/name"])
    assert [row.ref.uri for row in rows_of(source)] == ["hf://owner/name/train"] * 3
    assert identity_of(config, "", "float32")["source"]["path"] == "hf://owner/name"
