"""Makes a judge for `uniface evaluate`: `python -m uniface_ray.train.tiny.make_judge --faces FOLDER --out FOLDER`.

The classifier of the recipe of uniface-tiny, as a folder for `evaluate.judges`. Some minutes of training on a CPU; a
`judge.pt` that the recipe has left in the out folder is taken as it is.
"""

import argparse
import logging
from pathlib import Path

import torch

from uniface_ray.train.tiny.faces import split_shards
from uniface_ray.train.tiny.judge import JudgeRecipe, train_judge
from uniface_ray.train.tiny.prepare import prepare
from uniface_ray.train.tiny.talk import rarity


def main() -> None:
    """Parse the command line, train on all shards but the held-out ones, and save."""
    parser = argparse.ArgumentParser(prog="python -m uniface_ray.train.tiny.make_judge", description=__doc__)
    parser.add_argument("--faces", type=Path, required=True, help="folder of parquet shards of aligned faces")
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint, and for judge/")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--steps", type=int, default=JudgeRecipe().steps, help="of training")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    arguments.out.mkdir(parents=True, exist_ok=True)
    shards, _ = split_shards(arguments.faces)
    prepared = prepare(shards, arguments.out / "train.pt")
    recipe = JudgeRecipe(steps=arguments.steps)
    judge = train_judge(prepared, recipe, rarity(prepared.classes), arguments.out / "judge.pt")
    judge.save(arguments.out / "judge")
    logging.info("the judge is in %s", arguments.out / "judge")


if __name__ == "__main__":
    main()
