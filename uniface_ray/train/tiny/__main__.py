"""Makes uniface-tiny from a folder of face shards: `python -m uniface_ray.train.tiny --faces FOLDER --out FOLDER`.

Every step keeps its result in the out folder and is skipped, or taken up where it stopped, when the command is run
again: prepare the faces, train the image tokenizer, the encoders, a judge and the text tokenizer, train the language
model, sharpen the image decoder, export. With `--from MODEL` the language model of that folder goes on, with the
encoders of the out folder.
"""

import argparse
import logging
from pathlib import Path

import torch

from uniface_ray.train.tiny.faces import split_shards
from uniface_ray.train.tiny.prepare import prepare
from uniface_ray.train.tiny.recipe import Recipe, go_on, make


def main() -> None:
    """Parse the command line and make the model."""
    parser = argparse.ArgumentParser(prog="python -m uniface_ray.train.tiny", description=__doc__)
    parser.add_argument("--faces", type=Path, required=True, help="folder of parquet shards of aligned faces")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and the model")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--extra", type=Path, help="folder of more shards, all of them to train on")
    parser.add_argument("--from", dest="start", type=Path, help="folder of a model to go on with")
    arguments = parser.parse_args()
    if arguments.start is not None and not (arguments.start / "model.safetensors").exists():
        parser.error(f"--from is {arguments.start}, where there is no model.safetensors: give the folder of a model")
    torch.set_num_threads(arguments.threads)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    arguments.out.mkdir(parents=True, exist_ok=True)
    train_shards, _ = split_shards(arguments.faces)
    extra = sorted(arguments.extra.glob("*.parquet")) if arguments.extra else []
    prepared = prepare([*train_shards, *extra], arguments.out / "train.pt")
    if arguments.start is None:
        model = make(prepared, arguments.out, Recipe())
    else:
        model = go_on(prepared, arguments.out, arguments.start)
    logging.info("the model is in %s", model)


if __name__ == "__main__":
    main()
