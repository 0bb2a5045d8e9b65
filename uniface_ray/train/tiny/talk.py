"""What is said about the prepared faces, as token ids: conversations to learn reading from, prompts for drawing."""

import random
from collections.abc import Iterator, Sequence

from torch import Tensor
from transformers import PreTrainedTokenizerFast

from uniface_ray.model.prompts import question_text
from uniface_ray.train.tiny.appearance import HAIR_COLORS
from uniface_ray.train.tiny.attributes import VALUES, Attributes
from uniface_ray.train.tiny.packing import Conversation
from uniface_ray.train.tiny.prepare import Prepared
from uniface_ray.train.tiny.questions import caption_pair, question_answers
from uniface_ray.train.tiny.text_tokenizer import text_ids
from uniface_ray.train.tiny.wording import caption, short_prompt
from uniface_ray.train.tiny.yes_no import shows_pair, yes_no_pairs

# A caption and this many open and yes-or-no questions about a face in one training row.
_OPEN, _YES_NO = 1, 2
# Share of prompts that are left out, for guidance; of the rest, share that are short ones.
_NO_PROMPT, _SHORT = 0.1, 0.6


class Talk:
    """Words about the prepared faces, chosen at random; texts recur, so their ids are kept."""

    def __init__(self, prepared: Prepared, tokenizer: PreTrainedTokenizerFast) -> None:
        self.prepared = prepared
        self.people = [prepared.attributes(index) for index in range(len(prepared.faces))]
        self.tokenizer = tokenizer
        self.known: dict[str, list[int]] = {}
        colors = [text_ids(tokenizer, f" {color}") for color in HAIR_COLORS]
        self.color_ids = [ids[0] for ids in colors if len(ids) == 1]  # parts of words are parts of others too

    def _ids(self, text: str) -> list[int]:
        if text not in self.known:
            self.known[text] = text_ids(self.tokenizer, text)
        return self.known[text]

    def conversations(self, index: int, told: Sequence[bool], rng: random.Random) -> list[Conversation]:
        """A caption and a few questions about what can be told of a view of face `index`; `told` is as VALUES."""
        person = self.people[index].only(name for name, is_told in zip(VALUES, told, strict=True) if is_told)
        # The space separates the answer from "ASSISTANT:".
        return [Conversation(self._ids(question_text(q)), self._ids(f" {a}")) for q, a in _pairs(person, rng)]

    def prompt(self, index: int, rng: random.Random) -> list[int]:
        """A prompt to draw face `index` by; empty now and then."""
        if rng.random() < _NO_PROMPT:
            return []
        person = self.people[index]
        return self._ids(short_prompt(person, rng) if rng.random() < _SHORT else caption(person, rng))


def _pairs(person: Attributes, rng: random.Random) -> list[tuple[str, str]]:
    opened, yes_no = question_answers(person, rng), yes_no_pairs(person, rng)
    shows = shows_pair(person, rng)
    chosen = rng.sample(yes_no, min(_YES_NO, len(yes_no)))
    if shows and chosen and rng.random() < 0.4:
        chosen[-1] = shows
    return [caption_pair(person, rng), *rng.sample(opened, min(_OPEN, len(opened))), *chosen]


def example_texts(prepared: Prepared) -> Iterator[str]:
    """Prompts and answers to train the text tokenizer on."""
    rng = random.Random(0)
    for index in range(len(prepared.faces)):
        person = prepared.attributes(index)
        for question, answer in _pairs(person, rng):
            yield f"{question_text(question)} {answer}"
        yield short_prompt(person, rng)


def rarity(classes: Tensor) -> Tensor:
    """(count,) drawing weights that show rare values, such as grey hair or no smile, more often than they occur.

    The square root of what would make all values equally common: a reader of everyday faces should also know that most
    of them smile.
    """
    weights = classes.new_zeros(len(classes)).float()
    for column in [list(VALUES).index(name) for name in ("gender", "age_group", "smile", "hair_color")]:
        sure = classes[:, column] >= 0
        counts = classes[sure, column].bincount(minlength=1).float()
        commonness = counts / counts.sum()
        weights[sure] += 1.0 / commonness[classes[sure, column]]
    return weights.clamp(max=float(weights.median()) * 4).sqrt()
