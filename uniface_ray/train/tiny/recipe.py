"""The steps of the recipe, in order, from prepared faces to a model folder."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from uniface_ray.model.presets import preset
from uniface_ray.model.processing import UniFaceProcessor
from uniface_ray.train.tiny.backbone import GO_ON, BackboneRecipe, train_backbone
from uniface_ray.train.tiny.decoder import DecoderRecipe, train_decoder
from uniface_ray.train.tiny.encoders import EncodersRecipe, train_encoders
from uniface_ray.train.tiny.export import export
from uniface_ray.train.tiny.image_tokenizer import TokenizerRecipe, train_image_tokenizer
from uniface_ray.train.tiny.judge import JudgeRecipe, train_judge
from uniface_ray.train.tiny.network import new_model, trained_model
from uniface_ray.train.tiny.prepare import Prepared
from uniface_ray.train.tiny.repaint import with_repainted
from uniface_ray.train.tiny.settle import settle
from uniface_ray.train.tiny.talk import Talk, example_texts, rarity
from uniface_ray.train.tiny.text_tokenizer import load_or_train


@dataclass(frozen=True)
class Recipe:
    """What to do in the five trainings, in their order."""

    tokenizer: TokenizerRecipe = field(default_factory=TokenizerRecipe)
    encoders: EncodersRecipe = field(default_factory=EncodersRecipe)
    judge: JudgeRecipe = field(default_factory=JudgeRecipe)
    backbone: BackboneRecipe = field(default_factory=BackboneRecipe)
    decoder: DecoderRecipe = field(default_factory=DecoderRecipe)


def make(prepared: Prepared, out: Path, recipe: Recipe) -> Path:
    """Train all parts, or take up what `out` already holds, and return the folder of the model."""
    weights, more = rarity(prepared.classes), with_repainted(prepared)
    magvit, _ = train_image_tokenizer(prepared.faces, prepared.classes, prepared.years, recipe.tokenizer, out)
    pupils = train_encoders(more, rarity(more.classes), recipe.encoders, out)
    train_judge(prepared, recipe.judge, weights, out / "judge.pt").save(out / "judge")
    settled = settle(more, pupils)
    tokenizer = load_or_train(example_texts(settled), out / "text_tokenizer")
    config = preset("tiny", text_vocab_size=len(tokenizer))
    model = new_model(config, magvit, pupils.identity, pupils.semantic)
    train_backbone(model, Talk(settled, tokenizer), rarity(settled.classes), recipe.backbone, out)
    train_decoder(model.magvit, pupils.identity, prepared.faces, recipe.decoder, out)
    export(model, tokenizer, out / "uniface-tiny")
    return out / "uniface-tiny"


def go_on(prepared: Prepared, out: Path, start: Path, recipe: BackboneRecipe = GO_ON) -> Path:
    """Train the language model of a model further, to read what the encoders in `out` see.

    Encoders that are not there are trained first; the image tokenizer stays as it is.

    Args:
        prepared: the faces.
        out: the recipe's folder; each start and recipe has a folder of its own in it.
        start: folder of the model, which is not changed.
        recipe: what to do.

    Returns:
        The folder of the new model.

    Raises:
        OSError: there is no model in `start`.
    """
    tokenizer = UniFaceProcessor.from_pretrained(start).tokenizer
    weights = (start / "model.safetensors").read_bytes()
    folder = out / f"from-{hashlib.blake2b(weights + repr(recipe).encode(), digest_size=4).hexdigest()}"
    folder.mkdir(parents=True, exist_ok=True)
    more = with_repainted(prepared)
    pupils = train_encoders(more, rarity(more.classes), EncodersRecipe(), out)
    settled = settle(more, pupils)
    model = trained_model(start, pupils.identity, pupils.semantic)
    train_backbone(model, Talk(settled, tokenizer), rarity(settled.classes), recipe, folder)
    export(model, tokenizer, folder / "uniface-tiny")
    return folder / "uniface-tiny"
