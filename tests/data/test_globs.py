from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.rows import PICTURES, rows_of, source_of
from uniface_ray.core.config import StorageConfig
from uniface_ray.core.errors import UserError
from uniface_ray.core.records import row_id_of
from uniface_ray.core.storage import Folder
from uniface_ray.data.globs import pattern_of, split_pattern

NAMES = ["a/portrait_1.jpg", "a/b/portrait_2.png", "portrait_3.jpg", "a/other.jpg", "a/portrait_x/4.jpg", "[a]/5.jpg"]


@pytest.mark.parametrize(
    ("glob", "found"),
    [
        ("**/portrait_*", [0, 1, 2]),
        ("**/portrait_*.jpg", [0, 2]),
        ("a/*.jpg", [0, 3]),
        ("*/*.jpg", [0, 3, 5]),
        ("a/**", [0, 1, 3, 4]),
        ("a/", [0, 1, 3, 4]),
        ("a/**/*.jpg", [0, 3, 4]),
        ("portrait_?.jpg", [2]),
        ("**/portrait_[12].*", [0, 1]),
        ("**/portrait_[!12].*", [2]),
        ("**", [0, 1, 2, 3, 4, 5]),
        ("[[]a]/*", [5]),
        ("**/portrait_[3", []),
        ("none*", []),
    ],
)
def test_patterns(glob: str, found: list[int]) -> None:
    pattern = pattern_of(glob)
    assert [i for i, name in enumerate(NAMES) if pattern.fullmatch(name)] == found


@pytest.mark.parametrize(
    ("address", "base", "glob"),
    [
        ("s3://bucket/**/x_*.jpg", "s3://bucket", "**/x_*.jpg"),
        ("/a/b?/c", "/a", "b?/c"),
        ("/*", "/", "*"),
        ("/a/b", "/a/b", ""),
    ],
)
def test_where_a_pattern_begins(address: str, base: str, glob: str) -> None:
    assert split_pattern(address) == (base, glob)


@given(st.text("ab*?[]!/\\^&.", min_size=1, max_size=12), st.text("ab[]-!^/.", max_size=8))
def test_any_text_is_some_pattern(glob: str, name: str) -> None:
    pattern_of(glob.strip("/") or "a").fullmatch(name)


def test_a_range_that_goes_backwards() -> None:
    assert pattern_of("[a-c]").fullmatch("b")
    with pytest.raises(UserError, match=r"the pattern '\[c-a\]', which makes no sense: bad character range"):
        pattern_of("[c-a]")


def test_a_pattern_as_source(place: Folder) -> None:
    for name in NAMES:
        place.write(name, PICTURES[0])
    place.write("a/portrait_notes.txt", b"no data")
    rows = rows_of(source_of(place, "**/portrait_*"))
    assert {row.ref.row_id for row in rows} == {row_id_of(NAMES[i], 0) for i in (0, 1, 2)}
    rows = rows_of(source_of(place, "a/**/*.jpg"))
    assert {row.ref.row_id for row in rows} == {
        row_id_of(name, 0) for name in ("portrait_1.jpg", "other.jpg", "portrait_x/4.jpg")
    }


def test_a_path_that_is_there_is_no_pattern(place: Folder) -> None:
    for name in NAMES:
        place.write(name, PICTURES[0])
    assert [row.ref.row_id for row in rows_of(source_of(place, "[a]"))] == [row_id_of("5.jpg", 0)]
    assert len(rows_of(source_of(place, "[a]/5.jpg"))) == 1


def test_patterns_that_match_nothing(tmp_path: Path) -> None:
    place = Folder(str(tmp_path), StorageConfig())
    place.write("a.jpg", b"x")
    for path, words in (
        ("*.png", r"source.path is '.*\*.png', but no file there ends in .*; it matches nothing"),
        ("none/*.png", r"there is nothing at .*/none for its pattern"),
    ):
        with pytest.raises(UserError, match=words):
            source_of(place, path)
