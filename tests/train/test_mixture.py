"""The order of rows: of the seed alone, whatever shares the work; and how rows become batches."""

import os
import shutil
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.train.tokens import settings
from uniface_ray.core.config import StorageConfig
from uniface_ray.core.errors import UserError
from uniface_ray.core.storage import Folder
from uniface_ray.model import UniFaceConfig, UniFaceProcessor
from uniface_ray.tasks.pictures import encode_png
from uniface_ray.train.batches import IGNORED, collate
from uniface_ray.train.mixture import Ahead, Mixture, Share, check_batch, rows_of_each
from uniface_ray.train.samples import Reading, SampleMaker
from uniface_ray.train.shards import Shards
from uniface_ray.train.stream import Place, Stream, held_out_rows


@pytest.fixture
def processor(toy: Path) -> UniFaceProcessor:
    return UniFaceProcessor.from_pretrained(toy)


def shards_of(path: Path | str, toy: Path, storage: StorageConfig | None = None) -> Shards:
    return Shards(
        str(path), storage or StorageConfig(), UniFaceConfig.from_pretrained(toy), held_out=0.2, held_out_by="row_id"
    )


def shares(
    tokens: Path, toy: Path, processor: UniFaceProcessor, steps: int, rank: int = 0, workers: int = 1, *words: str
) -> list[Share]:
    config = settings(tokens, toy, tokens, "data.batch_size=12", *words)
    mixture = Mixture(config, shards_of(tokens, toy), processor, rank, workers)
    return list(islice(mixture.shares(config.stages.each()[0], {}), steps))


def test_a_batch_is_the_same_whatever_shares_it(tokens: Path, toy: Path, processor: UniFaceProcessor) -> None:
    alone = shares(tokens, toy, processor, 9)
    of_two = [shares(tokens, toy, processor, 9, rank, 2, "parallel.accumulation=2") for rank in range(2)]
    for step, whole in enumerate(alone):
        parts = [part for worker in of_two for part in worker[step].parts]
        assert len(parts) == 4
        assert sorted(row for part in parts for row in part.row_ids) == sorted(whole.parts[0].row_ids)
        assert sum(part.counts.text for part in parts) == whole.parts[0].counts.text
        assert sum(part.counts.masked for part in parts) == whole.parts[0].counts.masked
        assert [one[step].places for one in of_two] == [whole.places] * 2
    assert alone[8].places["draw"].epoch == 0
    assert alone[0].parts[0].row_ids != shares(tokens, toy, processor, 1, 0, 1, "run.seed=1")[0].parts[0].row_ids


def test_an_epoch_has_every_row_once_and_no_held_out_one(tokens: Path, toy: Path) -> None:
    shards = shards_of(tokens, toy)
    stream = Stream(shards, "caption", seed=0, files=3)
    epochs = []
    for _ in range(2):
        begun, rows = stream.place.epoch, []
        while stream.place.epoch == begun:
            rows += [row["row_id"][0].as_py() for _, row in stream.take(1)]
        epochs.append(rows)
    apart = {row["row_id"][0].as_py() for row in held_out_rows(shards, "caption", 60)}
    assert sorted(epochs[0]) == sorted(epochs[1])
    assert epochs[0] != epochs[1]
    assert len({*epochs[0]}) + len(apart) == len(epochs[0]) + len(apart) == 60
    assert not apart & {*epochs[0]}
    assert 4 < len(apart) < 24


def test_a_stream_goes_on_from_any_place(tokens: Path, toy: Path) -> None:
    whole = Stream(shards_of(tokens, toy), "vqa", seed=3, files=2)
    rows = [(number, row["row_id"][0].as_py()) for number, row in whole.take(100)]
    assert [number for number, _ in rows] == list(range(100))
    for cut in (1, 7, 40, 99):
        first = Stream(shards_of(tokens, toy), "vqa", seed=3, files=2)
        first.take(cut)
        rest = Stream(shards_of(tokens, toy), "vqa", seed=3, files=2, place=Place(**first.place.to_dict()))
        assert [(number, row["row_id"][0].as_py()) for number, row in rest.take(100 - cut)] == rows[cut:]


def test_files_that_come_while_workers_start_are_those_of_none(tokens: Path, toy: Path, tmp_path: Path) -> None:
    for name in ("a", "c"):
        shutil.copy(tokens / "data/status=ok/part-00000000.parquet", tmp_path / f"{name}.parquet")
    first = shards_of(tmp_path, toy)
    assert first.names == ["a.parquet", "c.parquet"]
    shutil.copy(tmp_path / "a.parquet", tmp_path / "b.parquet")
    other = replace(shards_of(tmp_path, toy), listed=first.files)
    assert (other.names, other.fingerprint) == (first.names, first.fingerprint)
    assert shards_of(tmp_path, toy).fingerprint != first.fingerprint


def test_shards_are_read_from_a_bucket_too(tokens: Path, toy: Path, place: Folder) -> None:
    for file in (tokens / "data" / "status=ok").iterdir():
        place.write(f"data/status=ok/{file.name}", file.read_bytes())
    stream = Stream(shards_of(place.uri, toy, place.storage), "draw", seed=0, files=3)
    here = Stream(shards_of(tokens, toy), "draw", seed=0, files=3)
    assert [row.to_pylist() for _, row in stream.take(5)] == [row.to_pylist() for _, row in here.take(5)]


def test_losses_fall_on_answers_and_masked_tokens_alone(tokens: Path, toy: Path, processor: UniFaceProcessor) -> None:
    config = processor.config
    (share,) = shares(tokens, toy, processor, 1)
    (batch,) = share.parts
    assert batch.read is not None
    assert batch.draw is not None
    for ids, targets in zip(batch.read.ids, batch.read.targets, strict=True):
        answered = (targets != IGNORED).nonzero()[:, 0]
        assert answered.tolist() == list(range(int(answered[0]), len(ids)))
        assert targets[-1] == config.eos_token_id
        assert torch.equal(targets[answered[:-1]], ids[answered[1:]])
        words = processor.answer_text(targets[answered].tolist())
        asked = processor.answer_text(ids[: answered[0] + 1].tolist())
        assert words in ("a man smiles", "a woman smiles", "Yes.", "No.")
        assert asked.startswith("USER: \n")
        assert asked.endswith("ASSISTANT:")
    image = batch.draw.ids[:, -config.num_image_tokens - 1 : -1]
    assert torch.equal(image == config.mask_token_id, batch.draw.labels != IGNORED)
    assert batch.counts.masked == int((batch.draw.labels != IGNORED).sum())
    assert set(batch.read.seen) == {"semantic", "identity"}


def test_some_prompts_are_dropped_and_long_texts_are_cut(tokens: Path, toy: Path, processor: UniFaceProcessor) -> None:
    config, soi = processor.config, processor.config.special_id("<|soi|>")

    def dropped(*words: str) -> float:
        batches = [share.parts[0] for share in shares(tokens, toy, processor, 10, 0, 1, *words)]
        starts = [ids for batch in batches if batch.draw for ids in batch.draw.ids]
        return sum(
            int(ids[(ids == soi).nonzero()[0] - 1] == config.eos_token_id)
            and int((ids == config.bos_token_id).sum()) >= 1
            and int((ids == soi).nonzero()[0] - (ids == config.special_id("<|t2i|>")).nonzero()[0]) == 3
            for ids in starts
        ) / len(starts)

    assert dropped("data.drop_prompts=0") == 0
    assert dropped("data.drop_prompts=1") == 1
    assert 0.2 < dropped("data.drop_prompts=0.5") < 0.8
    (share,) = shares(tokens, toy, processor, 1, 0, 1, "data.text_tokens=8")
    assert share.parts[0].cut == 8
    assert share.parts[0].counts.text >= 8


def test_a_thread_that_makes_batches_has_no_threads_of_its_own(processor: UniFaceProcessor) -> None:
    ids, seen = torch.zeros(3000, dtype=torch.int64), {"semantic": torch.zeros(256, 1024, dtype=torch.float16)}
    samples = [Reading(number, ids, ids, seen) for number in range(16)]

    def mine() -> set[str]:
        before = {*os.listdir("/proc/self/task")}
        collate(processor.config, samples, "cosine")
        return {*os.listdir("/proc/self/task")} - before

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(mine).result() == set()
    finally:
        torch.set_num_threads(threads)


def test_a_batch_is_divided_by_shares_and_not_too_finely(tokens: Path, toy: Path) -> None:
    assert rows_of_each(32, {"draw": 1, "caption": 1, "vqa": 1}) == {"draw": 11, "caption": 11, "vqa": 10}
    assert rows_of_each(5, {"draw": 0, "caption": 1, "vqa": 1}) == {"draw": 0, "caption": 3, "vqa": 2}
    check_batch(settings(tokens, toy, tokens, "data.batch_size=6"), 2)
    with pytest.raises(UserError, match=r"data.batch_size is 6, .* 4 workers .* need at least 4 that draw"):
        check_batch(settings(tokens, toy, tokens, "data.batch_size=6"), 4)


def rewritten(tokens: Path, folder: Path, change: str) -> Path:
    """A copy of one file, with something wrong."""
    table = pq.read_table(tokens / "data" / "status=ok" / "part-00000000.parquet")
    match change:
        case "no captions":
            table = table.drop_columns("captions")
        case "texts":
            table = table.set_column(table.column_names.index("captions"), "captions", pa.array(["a"] * len(table)))
        case "codes":
            table = table.set_column(table.column_names.index("codes"), "codes", pa.array([[1, 2]] * len(table)))
        case "large codes":
            table = table.set_column(table.column_names.index("codes"), "codes", pa.array([[64] * 64] * len(table)))
        case "negative codes":
            table = table.set_column(table.column_names.index("codes"), "codes", pa.array([[-1] * 64] * len(table)))
        case "answers":
            fewer = pa.array([one[:1] for one in table["answers"].to_pylist()], pa.list_(pa.string()))
            table = table.set_column(table.column_names.index("answers"), "answers", fewer)
        case "null caption":
            texts = pa.array([["a", None]] * len(table))
            table = table.set_column(table.column_names.index("captions"), "captions", texts)
        case "null features":
            none = pa.nulls(len(table), pa.binary())
            table = table.set_column(table.column_names.index("semantic"), "semantic", none)
        case "features":
            table = table.set_column(table.column_names.index("semantic"), "semantic", pa.array([b"x"] * len(table)))
        case "no features":
            table = table.drop_columns(["semantic"])
    pq.write_table(table, folder / "one.parquet")
    if change == "no parquet":
        (folder / "one.parquet").write_bytes(b"x" * 100)
    return folder


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("no captions", r"one.parquet, which lacks captions \(list<.*its columns are: row_id \(int64\)"),
        ("texts", r"which lacks captions \(list<item: string>\); .*captions \(string\)"),
        ("codes", r"images of \[2\] codes from 1 to 2, but this model has 64 codes from 0 to 63: tokenize"),
        ("large codes", r"images of 64 codes from 64 to 64, but this model has 64 codes from 0 to 63: tokenize"),
        ("negative codes", r"images of 64 codes from -1 to -1, but this model has 64 codes from 0 to 63: tokenize"),
        ("answers", r"one.parquet, whose row \d+ has 2 questions and 1 answers: each needs the other"),
        ("null caption", r"one.parquet, with null among its captions: leave these rows out"),
        ("null features", r"one.parquet, with null among its semantic: leave these rows out"),
        ("features", r"whose semantic features are not of 1,024 bytes, as this model's are: tokenize"),
        ("no features", r"which lacks semantic \(binary\)"),
        ("no parquet", r"one.parquet, which cannot be read as parquet \(.*write it again"),
    ],
)
def test_wrong_files_are_told_with_what_is_there(
    tokens: Path, toy: Path, tmp_path: Path, change: str, told: str
) -> None:
    with pytest.raises(UserError, match=told):
        shards_of(rewritten(tokens, tmp_path, change), toy).check()


def test_a_wrong_file_among_others_stops_the_run_when_its_turn_comes(
    tokens: Path, toy: Path, tmp_path: Path, processor: UniFaceProcessor
) -> None:
    for file in (tokens / "data" / "status=ok").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    rewritten(tokens, tmp_path, "no captions")
    config = settings(tmp_path, toy, tmp_path)
    made = Ahead(Mixture(config, shards_of(tmp_path, toy), processor, 0, 1).shares(config.stages.each()[0], {}))
    with pytest.raises(UserError, match=r"one.parquet, which lacks captions"):
        deque(made, maxlen=0)
    made.close()


@pytest.mark.parametrize(
    ("pixels", "told"),
    [
        (b"no image", r"data.path has row 7, whose pixels cannot be read as an image"),
        (encode_png(np.zeros((3, 8, 16), np.uint8)), r"row 7, whose pixels are 16 x 8, not 32 x 32 as this model's"),
    ],
)
def test_pixels_that_are_none_are_told(
    tokens: Path, toy: Path, processor: UniFaceProcessor, pixels: bytes, told: str
) -> None:
    maker = SampleMaker(processor, settings(tokens, toy, tokens).data, seed=0)
    with pytest.raises(UserError, match=told):
        maker.seen({"row_id": 7, "pixels": pixels})


def test_nothing_to_train_on_is_told(tokens: Path, toy: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"data.path is .*, where there is no parquet file: give the sink of `uniface t"
    ):
        shards_of(tmp_path, toy).check()
    table = pq.read_table(tokens / "data" / "status=ok" / "part-00000000.parquet")
    empty = pa.array([[]] * len(table), pa.list_(pa.string()))
    for name in ("questions", "answers"):
        table = table.set_column(table.column_names.index(name), name, empty)
    pq.write_table(table, tmp_path / "one.parquet")
    with pytest.raises(UserError, match=r"no row to train on has questions, but stages.vqa is not 0: set it to 0"):
        Stream(shards_of(tmp_path, toy), "vqa", seed=0, files=2).take(1)
