"""The steps of the recipe, in order, from prepared faces to a model folder."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from uniface_ray.model.prompts import question_text
from uniface_ray.train.tiny.attributes import VALUES
from uniface_ray.train.tiny.backbone import BackboneRecipe, model_config, train_backbone
from uniface_ray.train.tiny.decoder import DecoderRecipe, train_decoder
from uniface_ray.train.tiny.encode import encode_views
from uniface_ray.train.tiny.export import export
from uniface_ray.train.tiny.image_tokenizer import MAGVIT, TokenizerRecipe, train_image_tokenizer
from uniface_ray.train.tiny.packing import Conversation
from uniface_ray.train.tiny.prepare import Prepared
from uniface_ray.train.tiny.questions import caption_pair, question_answers
from uniface_ray.train.tiny.settle import settle
from uniface_ray.train.tiny.text_tokenizer import load_or_train, text_ids

VIEWS = 3
# A caption and this many questions about a face in one training row.
QUESTIONS = 2


@dataclass(frozen=True)
class Recipe:
    """What to do in the three trainings."""

    tokenizer: TokenizerRecipe = field(default_factory=TokenizerRecipe)
    backbone: BackboneRecipe = field(default_factory=BackboneRecipe)
    decoder: DecoderRecipe = field(default_factory=DecoderRecipe)


def make(prepared: Prepared, out: Path, recipe: Recipe) -> Path:
    """Train all parts, or take up what `out` already holds, and return the folder of the model."""
    magvit, head = train_image_tokenizer(prepared.faces, prepared.classes, prepared.years, recipe.tokenizer, out)
    views = encode_views(prepared.faces, magvit, VIEWS, out / "codes.pt")
    settled = settle(prepared, magvit, head)
    tokenizer = load_or_train(example_texts(settled), out / "text_tokenizer")
    config = model_config(len(tokenizer), tokenizer.eos_token_id, dict(MAGVIT))
    talk = Talk(settled, tokenizer)
    weights = rarity(settled.classes)
    reader = train_backbone(config, views, settled.classes, settled.years, weights, talk, recipe.backbone, out)
    train_decoder(magvit, prepared.faces, recipe.decoder, out)
    export(reader, magvit, tokenizer, out / "uniface-tiny")
    return out / "uniface-tiny"


class Talk:
    """Conversations about the prepared faces, as token ids; texts recur, so their ids are kept."""

    def __init__(self, prepared: Prepared, tokenizer: PreTrainedTokenizerFast) -> None:
        self.people = [prepared.attributes(index) for index in range(len(prepared.faces))]
        self.tokenizer = tokenizer
        self.known: dict[str, list[int]] = {}

    def _ids(self, text: str) -> list[int]:
        if text not in self.known:
            self.known[text] = text_ids(self.tokenizer, text)
        return self.known[text]

    def __call__(self, index: int, rng: random.Random) -> list[Conversation]:
        """A caption and a few questions about face `index`."""
        pairs = question_answers(self.people[index], rng)
        pairs = [caption_pair(self.people[index], rng), *rng.sample(pairs, min(QUESTIONS, len(pairs)))]
        # The space separates the answer from "ASSISTANT:".
        return [Conversation(self._ids(question_text(q)), self._ids(f" {a}")) for q, a in pairs]


def example_texts(prepared: Prepared) -> Iterator[str]:
    """Prompts and answers to train the text tokenizer on."""
    rng = random.Random(0)
    for index in range(len(prepared.faces)):
        person = prepared.attributes(index)
        for question, answer in (caption_pair(person, rng), *question_answers(person, rng)):
            yield f"{question_text(question)} {answer}"


def rarity(classes: Tensor) -> Tensor:
    """(count,) drawing weights that show rare values, such as grey hair or no smile, more often than they occur."""
    weights = torch.zeros(len(classes))
    for column in [list(VALUES).index(name) for name in ("gender", "age_group", "smile", "hair_color")]:
        sure = classes[:, column] >= 0
        counts = torch.bincount(classes[sure, column], minlength=1).float()
        commonness = counts / counts.sum()
        weights[sure] += 1.0 / commonness[classes[sure, column]]
    return weights.clamp(max=float(weights.median()) * 4)
