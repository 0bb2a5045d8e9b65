"""Makes a table of faces to go on training on: `python -m uniface_ray.train.tiny.make_table --faces DIR --out DIR`.

The out folder is the recipe's, whose encoders settle what the estimates left open. Each row is a view of a face as in
the recipe, and what is said of it. The commands that take the table are printed.
"""

import argparse
import io
import logging
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor

from uniface_ray.model.presets import preset
from uniface_ray.train.tiny.attributes import VALUES, Attributes
from uniface_ray.train.tiny.augment import random_views, wild_views
from uniface_ray.train.tiny.encoders import Pupils
from uniface_ray.train.tiny.faces import split_shards
from uniface_ray.train.tiny.prepare import Prepared, prepare
from uniface_ray.train.tiny.questions import caption_pair, question_answers
from uniface_ray.train.tiny.repaint import with_repainted
from uniface_ray.train.tiny.settle import settle
from uniface_ray.train.tiny.talk import rarity
from uniface_ray.train.tiny.wording import caption, short_prompt
from uniface_ray.train.tiny.yes_no import shows_pair, yes_no_pairs

COMMANDS = """\
uniface tokenize source.path={out}/table source.caption_column=captions source.question_column=questions \
source.answer_column=answers source.keep_columns=[face] model.path={out}/uniface-tiny sink.path={out}/tokens
uniface train stages=uniface-tiny model.path={out}/uniface-tiny data.path={out}/tokens data.batch_size=64 \
data.held_out_by=face parallel.dtype=bfloat16 optimizer.beta2=0.98 optimizer.ema=0.985 optimizer.floor=0.03 \
sink.path={out}/run"""

_VIEWS = 48
# Of every such number of views: as they are, to be drawn too; slightly changed; and wild.
_PLAIN, _MILD = 16, 16
# How often each kind of question is worded for one view; training takes one of them at a time.
_CAPTIONS, _OPEN, _YES_NO, _SHOWS = 6, 4, 3, 2
_PROMPTS, _LONG_PROMPTS = 5, 3
# Share of the wild views with a cap, under which nothing is said of the gender: of many, a reader learns to be silent.
_CAPS = 0.15


def rows(prepared: Prepared, weights: Tensor, count: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """`count` views of faces that are drawn by `weights`: number of the face, image (JPEG), captions to draw it by,
    questions, answers."""
    generator, rng = torch.Generator().manual_seed(seed), random.Random(seed)
    size = preset("tiny").magvit_config.image_size
    real = weights if prepared.painted is None else weights.masked_fill(prepared.painted, 0.0)
    people = [prepared.attributes(index) for index in range(len(prepared.faces))]
    for start in range(0, count, _VIEWS):
        plain = torch.multinomial(real, _PLAIN, replacement=True, generator=generator)
        others = torch.multinomial(weights, _VIEWS - _PLAIN, replacement=True, generator=generator)
        drawn = random_views(prepared.faces[plain], size, generator, strength=0.2)
        mild = random_views(prepared.faces[others[:_MILD]], size, generator, strength=0.5)
        wild, told = wild_views(prepared.faces[others[_MILD:]], size, generator, _CAPS)
        told = torch.cat([told.new_ones(_PLAIN + _MILD, told.shape[1]), told])
        views = ((torch.cat([drawn, mild, wild]) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        for place, index in enumerate([*plain.tolist(), *others.tolist()][: count - start]):
            seen = people[index].only(
                name for name, is_told in zip(VALUES, told[place].tolist(), strict=True) if is_told
            )
            buffer = io.BytesIO()
            Image.fromarray(views[place]).save(buffer, "JPEG", quality=97, subsampling=0)
            yield {
                "face": index if prepared.origin is None else int(prepared.origin[index]),
                "image": buffer.getvalue(),
                "captions": _prompts(seen, rng) if place < _PLAIN else [],
                **_asked(seen, rng),
            }


def _prompts(person: Attributes, rng: random.Random) -> list[str]:
    return [short_prompt(person, rng) for _ in range(_PROMPTS)] + [caption(person, rng) for _ in range(_LONG_PROMPTS)]


def _asked(person: Attributes, rng: random.Random) -> dict[str, list[str]]:
    pairs = [caption_pair(person, rng) for _ in range(_CAPTIONS)]
    opened = question_answers(person, rng)
    pairs += rng.sample(opened, min(_OPEN, len(opened)))
    for _ in range(_YES_NO):
        yes_no = yes_no_pairs(person, rng)
        pairs += rng.sample(yes_no, min(1, len(yes_no)))
    pairs += [pair for pair in (shows_pair(person, rng) for _ in range(_SHOWS)) if pair]
    return {"questions": [question for question, _ in pairs], "answers": [answer for _, answer in pairs]}


def write(made: Iterator[dict[str, Any]], folder: Path, rows_a_file: int = 2000) -> None:
    """Rows as parquet files in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    part: list[dict[str, Any]] = []
    number = 0
    for row in made:
        part.append(row)
        if len(part) == rows_a_file:
            number = _write(part, folder, number)
    if part:
        _write(part, folder, number)


def _write(part: list[dict[str, Any]], folder: Path, number: int) -> int:
    pq.write_table(pa.Table.from_pylist(part), folder / f"{number:04d}.parquet")
    part.clear()
    return number + 1


def main() -> None:
    """Parse the command line, settle what is said about the faces, and write the table."""
    parser = argparse.ArgumentParser(prog="python -m uniface_ray.train.tiny.make_table", description=__doc__)
    parser.add_argument("--faces", type=Path, required=True, help="folder of parquet shards of aligned faces")
    parser.add_argument("--extra", type=Path, help="folder of more shards, all of them to train on")
    parser.add_argument("--out", type=Path, required=True, help="the recipe's out folder, with encoders.pt")
    parser.add_argument("--rows", type=int, default=24_000, help="views to make")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    shards, _ = split_shards(arguments.faces)
    extra = sorted(arguments.extra.glob("*.parquet")) if arguments.extra else []
    prepared = with_repainted(prepare([*shards, *extra], arguments.out / "train.pt"))
    pupils = Pupils()
    pupils.load_state_dict(torch.load(arguments.out / "encoders.pt", weights_only=True)["model"])
    settled = settle(prepared, pupils.eval())
    write(rows(settled, rarity(settled.classes), arguments.rows), arguments.out / "table")
    print(COMMANDS.format(out=arguments.out))


if __name__ == "__main__":
    main()
