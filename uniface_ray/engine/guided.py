"""Answers of a given form: which tokens may come next, by llguidance (extra `guided`)."""

import functools
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from uniface_ray.core.errors import UserError
from uniface_ray.core.records import RejectError, RejectKind
from uniface_ray.engine.protocol import Ask
from uniface_ray.model.transfer import sent

# Blanks in JSON are as `json.dumps` writes them: where any may stand, a weak model writes nothing else.
_AS_DUMPS = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_FORMS = 256  # that are kept ready
_EXAMPLE = '{"type":"object","properties":{"smiling":{"type":"boolean"}},"required":["smiling"]}'


def grammar_of(choices: Sequence[str], json_schema: str | None) -> str:
    """llguidance's grammar of an answer, which may begin with a blank, as answers after a prompt do.

    Raises:
        UserError: both, or a schema that is not a JSON object.
    """
    if json_schema is None:
        return 'start: " "? answer\nanswer: ' + " | ".join(json.dumps(one, ensure_ascii=False) for one in choices)
    if choices:
        raise UserError("choices and json_schema are both given, but an answer has one form: leave one of the two out")
    try:
        schema = json.loads(json_schema)
    except ValueError as error:
        raise UserError(f"json_schema is not JSON ({error}): give a JSON schema such as {_EXAMPLE}") from error
    if not isinstance(schema, dict):
        raise UserError(f"json_schema is {json_schema[:80]}, but must be a JSON object, such as {_EXAMPLE}")
    return f'start: " "? answer\nanswer: %json {json.dumps(schema | {"x-guidance": _AS_DUMPS})}'


def check_form(choices: Sequence[str], json_schema: str | None) -> None:
    """Look at a form before anybody asks for it.

    Raises:
        UserError: llguidance is not installed, or cannot make a grammar of it.
    """
    if choices or json_schema is not None:
        found = _llguidance().LLMatcher.validate_grammar(grammar_of(choices, json_schema))
        if found and not found.startswith("WARNING"):
            raise UserError(f"{_named(choices, json_schema)} cannot be kept to: {_reason(found)}")


class Guide:
    """What one answer may go on with."""

    def __init__(self, matcher: Any) -> None:
        self._matcher = matcher

    def allowed(self) -> bytes:
        """A bit for each token id that may come next, the lowest of the first byte for id 0."""
        bits: bytes = self._matcher.compute_bitmask()
        return bits

    def take(self, token: int) -> bool:
        """Hear of the next token; whether the answer is complete, and nothing can follow."""
        self._matcher.consume_token(token)
        return bool(self._matcher.is_stopped())


class Forms:
    """Guides over the tokens of one model."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, ids: int, ends: Sequence[int]) -> None:
        """Prepare nothing yet: most replicas are never asked for a form.

        Args:
            tokenizer: a fast one.
            ids: of the logits that are to be masked.
            ends: ids that end an answer.
        """
        self._tokenizer, self._ids, self._ends = tokenizer, ids, list(ends)
        self._first = functools.lru_cache(_FORMS)(self._made)

    def guide(self, request: Ask) -> Guide | None:
        """For an answer to `request`; None where its form is free.

        Raises:
            RejectError: a form that cannot be.
        """
        if not request.choices and request.json_schema is None:
            return None
        try:
            return Guide(self._first(tuple(request.choices), request.json_schema).deep_copy())
        except UserError as error:
            raise RejectError(RejectKind.BAD_REQUEST, str(error)) from error

    @functools.cached_property
    def _tokens(self) -> Any:
        _llguidance()
        import llguidance.hf

        return llguidance.hf.from_tokenizer(self._tokenizer, n_vocab=self._ids, eos_token=self._ends)

    def _made(self, choices: Sequence[str], json_schema: str | None) -> Any:
        grammar = grammar_of(choices, json_schema)
        matcher = _llguidance().LLMatcher(self._tokens, grammar, log_level=0)
        if matcher.is_error():
            raise UserError(f"{_named(choices, json_schema)} cannot be kept to: {_reason(matcher.get_error())}")
        return matcher


def mask_logits(logits: Tensor, guides: Sequence[Guide | None]) -> Tensor:
    """Minus infinity for what may not come next.

    Args:
        logits: (B, V).
        guides: of the rows.
    """
    guided = [row for row, guide in enumerate(guides) if guide]
    if not guided:
        return logits
    ids = logits.shape[1]
    bits = np.stack([np.frombuffer(guide.allowed(), np.uint8)[: -(-ids // 8)] for guide in guides if guide])
    packed = sent(torch.from_numpy(bits), logits.device)
    allowed = (packed[..., None] >> torch.arange(8, device=logits.device) & 1).flatten(1)[:, :ids].bool()
    rows = sent(torch.tensor(guided), logits.device)
    return logits.index_copy(0, rows, logits[rows].masked_fill(~allowed, -torch.inf))


def _llguidance() -> Any:
    try:
        import llguidance
    except ImportError as error:
        raise UserError(
            "choices or json_schema give answers a form, which needs llguidance: pip install 'uniface-ray[guided]'"
        ) from error
    return llguidance


def _named(choices: Sequence[str], json_schema: str | None) -> str:
    return f"choices {list(choices)}" if json_schema is None else f"json_schema {json_schema:.200}"


def _reason(message: str) -> str:
    """The first line of llguidance's message, without its place in our grammar."""
    line = message.strip().splitlines()[0]
    return line.partition("): ")[2] or line


__all__ = ["Forms", "Guide", "check_form", "grammar_of", "mask_logits"]
