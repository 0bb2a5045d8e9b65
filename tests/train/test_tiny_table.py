"""The table to go on training on: what a view shows is said, what it hides is not, and only plain views are drawn."""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from uniface_ray.train.tiny.attributes import VALUES
from uniface_ray.train.tiny.make_table import rows, write
from uniface_ray.train.tiny.prepare import Prepared


@pytest.fixture
def prepared() -> Prepared:
    """Eight women, of whom the last four are painted."""
    classes = torch.full((8, len(VALUES)), -1)
    classes[:, list(VALUES).index("gender")] = VALUES["gender"].index("female")
    classes[:, list(VALUES).index("smile")] = VALUES["smile"].index("yes")
    pixels = torch.randint(256, (8, 3, 160, 160), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    pixels[4:] = 0
    return Prepared(pixels, classes, torch.full((8,), 30.0), torch.arange(8) >= 4)


def test_only_plain_views_of_real_faces_are_drawn_and_caps_hide_the_gender(prepared: Prepared) -> None:
    made = list(rows(prepared, torch.ones(8), 144))
    assert len(made) == 144
    drawn = [row for row in made if row["captions"]]
    assert len(drawn) == 48
    for row in drawn:
        assert all("wom" in text for text in row["captions"])
        picture = Image.open(io.BytesIO(row["image"]))
        assert picture.size == (128, 128)
        assert max(high for _, high in picture.getextrema()) > 100  # a painted face is black here
    assert {row["face"] for row in made} == {*range(8)}
    copies = replace(prepared, origin=torch.arange(8) % 4)
    assert [row["face"] for row in rows(copies, torch.ones(8), 48)] == [row["face"] % 4 for row in made[:48]]
    silent = [row for row in made if not any("wom" in text for text in [*row["answers"], *row["questions"]])]
    assert 2 < len(silent) < 16  # three in twenty of the wild views, which are a third
    assert all(len(row["questions"]) == len(row["answers"]) > 0 for row in made)


def test_a_table_is_the_same_each_time_and_whole_in_its_files(prepared: Prepared, tmp_path: Path) -> None:
    def some() -> Iterator[dict[str, object]]:
        return rows(prepared, torch.ones(8), 50, seed=1)

    write(some(), tmp_path / "table", rows_a_file=20)
    files = sorted((tmp_path / "table").iterdir())
    assert [pq.read_metadata(file).num_rows for file in files] == [20, 20, 10]
    assert pq.read_table(tmp_path / "table").to_pylist() == list(some())
