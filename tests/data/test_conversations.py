"""Conversations of datasets, and the optional cells that hold them."""

import json
from typing import Any

import pytest

from tests.data.rows import put_lines, rows_of, source_of
from uniface_ray.core.storage import Folder
from uniface_ray.data.conversations import pairs_of
from uniface_ray.data.wanted import Field, FieldKind, Wanted

LLAVA = [
    {"from": "human", "value": "<image>\nIs she smiling?"},
    {"from": "gpt", "value": "Yes."},
    {"from": "human", "value": "What color is her hair?"},
    {"from": "gpt", "value": "Brown."},
]
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Is she smiling?\n<image>"},
    {"role": "assistant", "content": "Yes."},
]


def test_each_round_becomes_a_pair_without_the_image_mark() -> None:
    first = {"question": "Is she smiling?", "answer": "Yes."}
    both = [first, {"question": "What color is her hair?", "answer": "Brown."}]
    assert pairs_of(LLAVA) == pairs_of(json.dumps(LLAVA)) == both
    assert pairs_of(CHAT) == [first]


@pytest.mark.parametrize(
    "bad",
    [
        LLAVA[:3],
        LLAVA[1:3],
        [],
        [{"from": "human", "value": "<image>"}, LLAVA[1]],
        "no json",
        "7",
        {"from": "human"},
        [{"role": "user"}],
        [None],
        [{"from": 1, "value": "x"}],
        None,
    ],
)
def test_what_is_no_conversation_is_none(bad: Any) -> None:
    assert pairs_of(bad) is None


def test_an_optional_cell_may_be_empty_but_not_wrong(place: Folder) -> None:
    fields = (
        Field("captions", FieldKind.TEXTS, "c", "source.caption_column", optional=True),
        Field("conversation", FieldKind.CONVERSATION, "q", "source.conversation_column", optional=True),
    )
    lines = [{"c": "x", "q": None}, {"c": "", "q": LLAVA[:2]}, {"c": None, "q": []}, {"c": 7}, {"c": "x", "q": "?"}]
    put_lines(place, "t.jsonl", lines)
    rows = rows_of(source_of(place, wanted=Wanted(image=False, fields=fields)))
    pair = {"question": "Is she smiling?", "answer": "Yes."}
    assert [row.fields for row in rows[:3]] == [
        {"captions": ["x"], "conversation": None},
        {"captions": None, "conversation": [pair]},
        {"captions": None, "conversation": None},
    ]
    assert [row.reject and row.reject.message.partition(" has ")[2] for row in rows[3:]] == [
        "c=7, but needs a text or a list of texts there",
        "q='?', but needs a list of turns of human and gpt, or of user and assistant, each with its answer there",
    ]
