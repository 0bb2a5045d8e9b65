"""Answers of a given form, on random weights that know nothing of it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from uniface_ray.core.errors import UserError
from uniface_ray.core.records import Reject, RejectKind
from uniface_ray.engine.guided import Guide, check_form, grammar_of, mask_logits
from uniface_ray.engine.protocol import Ask, Text
from uniface_ray.engine.uniface import UniFaceEngine

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)
CHOICES = ("yes", "no", "yes, and so", 'a "quoted" \\ one', "née 😀")
SCHEMA = {
    "type": "object",
    "properties": {"smiling": {"type": "boolean"}, "hair": {"enum": ["dark", "fair"]}},
    "required": ["smiling", "hair"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def engine(folder: Path) -> UniFaceEngine:
    return UniFaceEngine(folder, batch_size=4)


def answers(engine: UniFaceEngine, **form: Any) -> list[str]:
    asked = [
        Ask(one, "?", 60, seed=number, temperature=2.0 * (number % 2), **form) for number, one in enumerate(PIXELS)
    ]
    outcomes = engine.run(asked)
    assert all(isinstance(one, Text) for one in outcomes)
    return [one.text for one in outcomes if isinstance(one, Text)]


def test_an_answer_is_one_of_the_choices(engine: UniFaceEngine) -> None:
    found = answers(engine, choices=CHOICES)
    assert set(found) <= set(CHOICES)
    assert len(set(found)) > 1
    assert set(answers(engine, choices=("née 😀",))) == {"née 😀"}


def test_an_answer_is_json_of_its_schema(engine: UniFaceEngine) -> None:
    found = [json.loads(one) for one in answers(engine, json_schema=json.dumps(SCHEMA))]
    for one in found:
        assert one.keys() == {"smiling", "hair"}
        assert isinstance(one["smiling"], bool)
        assert one["hair"] in ("dark", "fair")


def test_a_form_does_not_touch_the_answers_beside_it(engine: UniFaceEngine) -> None:
    free = [Ask(one, "?", 9) for one in PIXELS]
    before = engine.run(free)
    mixed = engine.run([ask for one in free for ask in (one, Ask(one.pixels, "?", 9, choices=("no",)))])
    assert mixed[::2] == before
    assert [one.text for one in mixed[1::2] if isinstance(one, Text)] == ["no"] * 6


def test_a_form_that_cannot_be_costs_its_request_alone(engine: UniFaceEngine) -> None:
    bad, both, good = engine.run(
        [
            Ask(PIXELS[0], "?", 9, json_schema='{"type": "funny"}'),
            Ask(PIXELS[0], "?", 9, json_schema="{}", choices=("a",)),
            Ask(PIXELS[0], "?", 9),
        ]
    )
    assert isinstance(bad, Reject)
    assert isinstance(both, Reject)
    assert isinstance(good, Text)
    assert bad.kind == both.kind == RejectKind.BAD_REQUEST
    assert "Invalid type: funny" in bad.message
    assert "one form" in both.message


@pytest.mark.parametrize(
    ("choices", "schema", "told"),
    [
        ((), "{", "json_schema is not JSON"),
        ((), "[]", r"json_schema is \[\], but must be a JSON object"),
        ((), '{"type": "funny"}', "json_schema .* cannot be kept to: .*Invalid type: funny"),
        (("yes",), "{}", "leave one of the two out"),
    ],
)
def test_mistakes_are_told_before_a_run(choices: tuple[str, ...], schema: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        check_form(choices, schema)


def test_the_library_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "llguidance", None)
    check_form((), None)
    with pytest.raises(UserError, match=r"uniface-ray\[guided\]"):
        check_form(("yes",), None)
    assert "yes" in grammar_of(("yes",), None)


def test_only_guided_rows_are_masked() -> None:
    class Odd(Guide):
        def allowed(self) -> bytes:
            return bytes([0b10101010, 0b11111110, 0, 0])  # more bits than ids

    logits = torch.arange(22.0).reshape(2, 11)
    masked = mask_logits(logits, [None, Odd(None)])
    assert torch.equal(masked[0], logits[0])
    assert masked[1].isfinite().nonzero().flatten().tolist() == [1, 3, 5, 7, 9, 10]
    assert mask_logits(logits, [None, None]) is logits
