"""What is held out: which rows, and who looks at them."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.train.test_loop import curve
from tests.train.test_mixture import shards_of
from tests.train.tokens import run_alone, settings
from uniface_ray.core.errors import UserError
from uniface_ray.train.stream import held_out_rows
from uniface_ray.train.validation import dealt


def test_all_rows_of_an_image_are_held_out_or_none(tokens: Path, toy: Path, tmp_path: Path) -> None:
    good = pq.read_table(tokens / "data/status=ok/part-00000000.parquet").slice(0, 1)
    table = pa.concat_tables([good] * 600)
    asked = {
        "row_id": pa.array(range(600)),
        "uri": pa.array([f"/faces/{number // 3}.jpg" for number in range(600)]),
        "person": pa.array([number // 6 for number in range(600)]),
    }

    def groups(held_out: bool, by: str | None, column: str) -> set[int]:
        shards = replace(shards_of(tmp_path, toy), held_out_by=by)
        rows = shards.table("one.parquet", held_out=held_out)
        ids = {index.as_py() for index in rows["row_id"]}
        assert rows.column_names == shards.table("one.parquet", held_out=None).column_names
        return {asked[column][number].as_py() for number in ids}

    for by, column in ((None, "uri"), ("person", "person"), ("row_id", "row_id")):
        pq.write_table(
            pa.table({**{name: table[name] for name in table.column_names}, **asked}), tmp_path / "one.parquet"
        )
        apart, trained = groups(True, by, column), groups(False, by, column)
        count = len({*asked[column].to_pylist()})
        assert not apart & trained
        assert len(apart) + len(trained) == count
        assert 0.1 * count < len(apart) < 0.3 * count, by  # 0.2, and that of rows in a line too
    asked["uri"] = pa.array(["/faces.parquet"] * 600)
    pq.write_table(pa.table({**{name: table[name] for name in table.column_names}, **asked}), tmp_path / "one.parquet")
    assert groups(True, None, "row_id") == groups(True, "row_id", "row_id")
    with pytest.raises(
        UserError, match=r"data.held_out_by is 'who', but data.path has .*one.parquet, whose columns are"
    ):
        groups(True, "who", "row_id")


def test_held_out_rows_are_found_by_their_texts(tokens: Path, toy: Path, tmp_path: Path) -> None:
    good = pq.read_table(tokens / "data/status=ok/part-00000000.parquet")
    pq.write_table(good, tmp_path / "b.parquet")
    place = {name: number for number, name in enumerate(good.column_names)}
    none = pa.array([[]] * len(good), pa.list_(pa.string()))
    bad = good.set_column(place["questions"], "questions", none)
    bad = bad.set_column(place["answers"], "answers", none)
    bad = bad.set_column(place["semantic"], "semantic", pa.array([b"x"] * len(good)))  # refused where it is read
    pq.write_table(bad, tmp_path / "a.parquet")
    shards = replace(shards_of(tmp_path, toy), held_out=0.9)
    assert held_out_rows(shards, "vqa", 3)
    with pytest.raises(UserError, match="semantic features"):
        held_out_rows(shards, "caption", 3)
    assert held_out_rows(replace(shards, held_out=0), "caption", 3) == []


def test_held_out_rows_are_the_same_for_any_number_of_workers() -> None:
    for rows, workers in [(0, 2), (1, 3), (4, 3), (40, 1), (40, 3), (128, 7)]:
        shares = [dealt(rows, rank, workers) for rank in range(workers)]
        assert len({len(share) for share in shares}) == 1, (rows, workers)
        assert sorted(number for share in shares for part in share for number in part) == [*range(rows)]


def test_what_no_stage_trains_is_not_looked_at(tokens: Path, toy: Path, tmp_path: Path) -> None:
    run_alone(settings(tokens, toy, tmp_path, "stages.steps=1", "stages.draw=0"))
    (held_out,) = [dict(one) for one in curve(tmp_path) if "held_out/total" in dict(one)]
    assert held_out["held_out/text"] > 0
    assert held_out["held_out/mask"] == 0
