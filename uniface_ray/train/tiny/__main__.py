"""Makes uniface-tiny from a folder of face shards: `python -m uniface_ray.train.tiny --faces FOLDER --out FOLDER`.

Every step keeps its result in the out folder and is skipped, or taken up where it stopped, when the command is run
again: prepare the faces, train the image tokenizer, encode the faces, train the text tokenizer, train the language
model, sharpen the image decoder, export.
"""

import argparse
import logging
from pathlib import Path

import torch

from uniface_ray.train.tiny.backbone import BackboneRecipe
from uniface_ray.train.tiny.decoder import DecoderRecipe
from uniface_ray.train.tiny.faces import split_shards
from uniface_ray.train.tiny.image_tokenizer import TokenizerRecipe
from uniface_ray.train.tiny.prepare import prepare
from uniface_ray.train.tiny.recipe import Recipe, make


def main() -> None:
    """Parse the command line and make the model."""
    parser = argparse.ArgumentParser(prog="python -m uniface_ray.train.tiny", description=__doc__)
    parser.add_argument("--faces", type=Path, required=True, help="folder of parquet shards of aligned faces")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and the model")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--tokenizer-steps", type=int, default=TokenizerRecipe.steps)
    parser.add_argument("--backbone-steps", type=int, default=BackboneRecipe.steps)
    parser.add_argument("--decoder-steps", type=int, default=DecoderRecipe.steps)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    arguments.out.mkdir(parents=True, exist_ok=True)
    train_shards, _ = split_shards(arguments.faces)
    recipe = Recipe(
        tokenizer=TokenizerRecipe(steps=arguments.tokenizer_steps),
        backbone=BackboneRecipe(steps=arguments.backbone_steps),
        decoder=DecoderRecipe(steps=arguments.decoder_steps),
    )
    model = make(prepare(train_shards, arguments.out / "train.pt"), arguments.out, recipe)
    logging.info("the model is in %s", model)


if __name__ == "__main__":
    main()
