"""Held-out faces as the labelled tables that `uniface evaluate` takes: the numbers of uniface-tiny by that command.

python -m benchmarks.uniface_tiny_tables --faces FOLDER --out FOLDER [--each 12]

writes captions.parquet, answers.parquet, descriptions.parquet and prompts.parquet, and prints the commands that
evaluate a model on them; with --collect instead, when these have run, writes what they found to benchmarks/results/.
"""

import argparse
import io
import itertools
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.record import about, save
from uniface_ray.train.tiny.appearance import read_appearance
from uniface_ray.train.tiny.attributes import VALUES, Attributes, decide
from uniface_ray.train.tiny.faces import Face, read_faces, split_shards
from uniface_ray.train.tiny.wording import short_prompt
from uniface_ray.train.tiny.yes_no import shows_pair, yes_no_pairs

ATTRIBUTES = ("gender", "age_group", "smile", "hair_color")
COMMANDS = """\
uniface evaluate source.path={out}/captions.parquet 'evaluate.labels=[{labels}]' \
task.max_new_tokens=64 sink.path={out}/captions
uniface evaluate task=vqa source.path={out}/answers.parquet source.question_column=question \
evaluate.answer_column=right sink.path={out}/answers
uniface evaluate task=vqa source.path={out}/descriptions.parquet source.question_column=question \
evaluate.answer_column=right sink.path={out}/descriptions
uniface evaluate task=generate run=images task.guidance=2 source.path={out}/prompts.parquet \
'evaluate.labels=[{labels}]' 'evaluate.judges=[JUDGE]' evaluate.real={out}/captions.parquet sink.path={out}/drawings"""


def _jpeg(face: Face) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(face.pixels).save(buffer, "JPEG", quality=98, subsampling=0)
    return buffer.getvalue()


def _row(face: Face, pair: tuple[str, str]) -> dict[str, Any]:
    question, right = pair
    return {"image": _jpeg(face), "question": question, "right": right}


def _labels(person: Attributes) -> dict[str, str | None]:
    return {name: person.value(name) for name in ATTRIBUTES}


def _asked(person: Attributes, rng: random.Random) -> tuple[tuple[str, str] | None, tuple[str, str] | None]:
    """A question about one attribute, one whether a description fits, and their answers; None if nothing is sure."""
    pairs = yes_no_pairs(person, rng)
    return rng.choice(pairs) if pairs else None, shows_pair(person, rng)


def drawn_people(each: int) -> tuple[list[Attributes], list[str]]:
    """Kinds of people to draw, `each` of every kind, and a prompt for each one; the same whenever it is called."""
    rng = random.Random(0)
    wanted = [
        Attributes(gender=gender, age_group="young adult", smile=smile, hair_color=hair)
        for gender, smile, hair in itertools.product(VALUES["gender"], VALUES["smile"], ("black", "brown", "blond"))
        for _ in range(each)
    ]
    wanted += [
        Attributes(gender=gender, age_group="older", smile=smile, hair_color="grey")
        for gender, smile in itertools.product(VALUES["gender"], VALUES["smile"])
        for _ in range(each)
    ]
    return wanted, [short_prompt(person, rng, always=ATTRIBUTES) for person in wanted]


def collect(out: Path) -> None:
    """The metrics of all commands in one result file."""
    result = about("benchmarks.uniface_tiny_tables")
    for name in ("captions", "answers", "descriptions", "drawings"):
        result[name] = json.loads((out / name / "metrics.json").read_text())["metrics"]
    print(save(result, "uniface-tiny"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faces", type=Path, required=True, help="folder of parquet shards; the last fifth is used")
    parser.add_argument("--out", type=Path, required=True, help="folder for the tables")
    parser.add_argument("--each", type=int, default=12, help="faces to draw of each kind")
    parser.add_argument("--collect", action="store_true", help="what the commands found, into a result file")
    arguments = parser.parse_args()
    if arguments.collect:
        collect(arguments.out)
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    faces = [face for shard in split_shards(arguments.faces)[1] for face in read_faces(shard)]
    seen = read_appearance(np.stack([face.pixels for face in faces]))
    known = [(face, decide(face.estimates, appearance)) for face, appearance in zip(faces, seen, strict=True)]
    rng = random.Random(0)
    asked = [(face, _asked(person, rng)) for face, person in known]
    tables: dict[str, list[dict[str, Any]]] = {
        "captions": [{"image": _jpeg(face), **_labels(person)} for face, person in known],
        "answers": [_row(face, pair) for face, (pair, _) in asked if pair],
        "descriptions": [_row(face, pair) for face, (_, pair) in asked if pair],
        "prompts": [
            {"prompt": prompt, **_labels(person)} for person, prompt in zip(*drawn_people(arguments.each), strict=True)
        ],
    }
    for name, rows in tables.items():
        pq.write_table(pa.Table.from_pylist(rows), arguments.out / f"{name}.parquet")
    print(COMMANDS.format(out=arguments.out, labels=",".join(ATTRIBUTES)))


if __name__ == "__main__":
    main()
