"""Rows of prompts, questions, masks and boxes: what a task wants of a table, beside images or instead of them."""

import json
from typing import Any

import pytest

from tests.data.rows import PICTURES, put_lines, put_parquet, rows_of, source_of
from uniface_ray.core.errors import UserError
from uniface_ray.core.records import RejectKind, row_id_of
from uniface_ray.core.storage import Folder, join
from uniface_ray.data.wanted import Field, FieldKind, Wanted

PROMPTS = Wanted(image=False, fields=(Field("prompt", FieldKind.TEXT, "prompt", "source.prompt_column"),))
EDITS = Wanted(
    fields=(
        Field("mask", FieldKind.IMAGE, "mask", "source.mask_column"),
        Field("prompt", FieldKind.TEXT, None, "source.prompt_column", "a smile"),
    )
)


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_rows_of_prompts_have_no_image_and_fetch_none(place: Folder, kind: str) -> None:
    prompts = ["a woman, smiling", 'it\'s "him"', "", None, "幸せ"]
    if kind == "jsonl":
        put_lines(place, "t.jsonl", [{"prompt": prompt, "n": i} for i, prompt in enumerate(prompts)])
    else:
        put_parquet(place, "t.parquet", {"prompt": prompts, "n": list(range(5))})
    rows = rows_of(source_of(place, wanted=PROMPTS, keep_columns=("n",)))
    assert [row.fields.get("prompt") for row in rows] == ["a woman, smiling", 'it\'s "him"', None, None, "幸せ"]
    assert [row.reject.kind if row.reject else None for row in rows] == [
        None,
        None,
        *[RejectKind.BAD_REQUEST] * 2,
        None,
    ]
    assert "prompt='', but needs text there" in rows[2].reject.message if rows[2].reject else False
    assert [str(row.kept["n"]) for row in rows] == list("01234")
    assert all(row.data is None and row.ref.uri == join(place.uri, f"t.{kind}") for row in rows)
    assert rows[4].ref.row_id == row_id_of(f"t.{kind}", 4)


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_mask_comes_as_bytes_or_by_its_address(place: Folder, kind: str) -> None:
    for i in range(3):
        place.write(f"pictures/{i}.jpg", PICTURES[i])
    links = [{"uri": f"pictures/{i}.jpg", "mask": f"pictures/{2 - i}.jpg"} for i in range(2)]
    links.append({"uri": "pictures/2.jpg", "mask": "none.png"})
    if kind == "jsonl":
        put_lines(place, "t.jsonl", links)
    else:
        put_parquet(place, "t.parquet", {name: [link[name] for link in links] for name in links[0]})
        put_parquet(place, "u.parquet", {"image": PICTURES[:1], "mask": PICTURES[4:]})
    rows = rows_of(source_of(place, format=kind, wanted=EDITS))
    assert [row.data for row in rows[:2]] == PICTURES[:2]
    assert [row.fields["mask"] for row in rows[:2]] == [PICTURES[2], PICTURES[1]]
    assert rows[2].reject is not None
    assert (rows[2].reject.kind, "none.png" in rows[2].reject.message) == (RejectKind.NOT_FOUND, True)
    assert [row.fields["mask"] for row in rows[3:]] == ([PICTURES[4]] if kind == "parquet" else [])
    assert EDITS.given == {"prompt": "a smile"}


@pytest.mark.parametrize(
    ("kind", "value", "taken"),
    [
        (FieldKind.TEXT, "x", "x"),
        (FieldKind.TEXT, " ", None),
        (FieldKind.TEXT, ["x"], None),
        (FieldKind.TEXTS, "x?", ["x?"]),
        (FieldKind.TEXTS, ["x?", "y?"], ["x?", "y?"]),
        (FieldKind.TEXTS, [], None),
        (FieldKind.TEXTS, ["x?", ""], None),
        (FieldKind.TEXTS, [1], None),
        (FieldKind.NUMBERS, [0, 0.5, 1, 1], [0, 0.5, 1, 1]),
        (FieldKind.NUMBERS, "[0, 0.5]", [0, 0.5]),
        (FieldKind.NUMBERS, "0", None),
        (FieldKind.NUMBERS, [float("nan")], None),
        (FieldKind.NUMBERS, None, None),
        (FieldKind.IMAGE, {"bytes": b"x", "path": None}, b"x"),
        (FieldKind.IMAGE, 7, None),
    ],
)
def test_kinds_of_cells(place: Folder, kind: FieldKind, value: Any, taken: Any) -> None:
    wanted = Wanted(image=False, fields=(Field("x", kind, "cell", "source.x_column"),))
    if isinstance(value, dict):
        put_parquet(place, "t.parquet", {"cell": [value]})
    else:
        put_lines(place, "t.jsonl", [json.dumps({"cell": value})])
    (row,) = rows_of(source_of(place, wanted=wanted))
    assert row.fields.get("x") == taken
    assert (row.reject is None) == (taken is not None)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("t.jsonl", "source.prompt_column names 'prompt', which no line has among the first 100; they have: text"),
        ("t.parquet", "source.prompt_column names 'prompt', but the columns of .* are: text \\(string\\)"),
        ("a.jpg", "source.prompt_column names 'prompt', .* whose image files have no columns"),
    ],
)
def test_a_column_that_is_missing_is_told_with_those_there_are(place: Folder, name: str, told: str) -> None:
    put_lines(place, "t.jsonl", [{"text": "x"}])
    put_parquet(place, "t.parquet", {"text": ["x"]})
    place.write("a.jpg", PICTURES[0])
    with pytest.raises(UserError, match=told):
        source_of(place, name, wanted=PROMPTS)
