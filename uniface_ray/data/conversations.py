"""Conversations about an image, as datasets write them, to pairs of a question and its answer."""

import json
from collections.abc import Iterator
from typing import Any

_ASKS = {"human", "user"}
_ANSWERS = {"gpt", "assistant"}
# Where LLaVA's loaders put the image; here its place is fixed (`model.prompts.understanding_ids`).
_PLACE = "<image>"


def pairs_of(value: Any) -> list[dict[str, str]] | None:
    """A conversation -> its pairs as {"question", "answer"}, or None for what is none.

    Every round becomes a pair of its own: what was said before is not part of it.

    Args:
        value: a list of turns, or JSON text of one. LLaVA's turns are {"from": "human" or "gpt", "value"}, those of
            chat APIs {"role": "user" or "assistant", "content"}; turns of a system are passed over.
    """
    try:
        turns = json.loads(value) if isinstance(value, str) else value
        said = [turn for turn in map(_turn, turns) if turn[0] != "system"]
    except (TypeError, ValueError, KeyError, AttributeError):
        return None
    pairs = list(_rounds(said))
    return pairs if pairs and 2 * len(pairs) == len(said) and all(all(pair.values()) for pair in pairs) else None


def _turn(turn: dict[str, Any]) -> tuple[str, str]:
    who, text = (turn["from"], turn["value"]) if "from" in turn else (turn["role"], turn["content"])
    return who.lower(), text.replace(_PLACE, "").strip()


def _rounds(said: list[tuple[str, str]]) -> Iterator[dict[str, str]]:
    for (asker, question), (answerer, answer) in zip(said[::2], said[1::2], strict=False):
        if asker in _ASKS and answerer in _ANSWERS:
            yield {"question": question, "answer": answer}


__all__ = ["pairs_of"]
