"""Held-out faces as the labelled tables that `uniface evaluate` takes: the numbers of uniface-tiny by that command.

python -m benchmarks.uniface_tiny_tables --faces FOLDER --out FOLDER [--each 24]

writes captions.parquet, answers.parquet and prompts.parquet (see `uniface_tiny_agreement`, whose faces, questions and
prompts they are), and prints the commands that evaluate a model on them.
"""

import argparse
import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.uniface_tiny_agreement import ATTRIBUTES, drawn_people
from uniface_ray.train.tiny.appearance import read_appearance
from uniface_ray.train.tiny.attributes import Attributes, decide
from uniface_ray.train.tiny.faces import Face, read_faces, split_shards
from uniface_ray.train.tiny.yes_no import shows_pair, yes_no_pairs

COMMANDS = """\
uniface evaluate source.path={out}/captions.parquet 'evaluate.labels=[{labels}]' \
task.max_new_tokens=64 sink.path={out}/captions
uniface evaluate task=vqa source.path={out}/answers.parquet source.question_column=question \
evaluate.answer_column=right sink.path={out}/answers
uniface evaluate task=generate run=images task.guidance=2 source.path={out}/prompts.parquet \
'evaluate.labels=[{labels}]' 'evaluate.judges=[JUDGE]' evaluate.real={out}/captions.parquet sink.path={out}/drawings"""


def _jpeg(face: Face) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(face.pixels).save(buffer, "JPEG", quality=98, subsampling=0)
    return buffer.getvalue()


def _labels(person: Attributes) -> dict[str, str | None]:
    return {name: person.value(name) for name in ATTRIBUTES}


def _asked(person: Attributes, rng: random.Random) -> dict[str, Any] | None:
    """A question about an attribute, one whether a description fits, and their answers; None where nothing is sure."""
    pairs = yes_no_pairs(person, rng)
    chosen = [pair for pair in (rng.choice(pairs) if pairs else None, shows_pair(person, rng)) if pair]
    return {"question": [one for one, _ in chosen], "right": [one for _, one in chosen]} if chosen else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faces", type=Path, required=True, help="folder of parquet shards; the last fifth is used")
    parser.add_argument("--out", type=Path, required=True, help="folder for the tables")
    parser.add_argument("--each", type=int, default=24, help="faces to draw of each kind")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    faces = [face for shard in split_shards(arguments.faces)[1] for face in read_faces(shard)]
    seen = read_appearance(np.stack([face.pixels for face in faces]))
    known = [(face, decide(face.estimates, appearance)) for face, appearance in zip(faces, seen, strict=True)]
    rng = random.Random(0)
    asked = [(face, _asked(person, rng)) for face, person in known]
    tables: dict[str, list[dict[str, Any]]] = {
        "captions": [{"image": _jpeg(face), **_labels(person)} for face, person in known],
        "answers": [{"image": _jpeg(face), **pair} for face, pair in asked if pair],
        "prompts": [
            {"prompt": prompt, **_labels(person)} for person, prompt in zip(*drawn_people(arguments.each), strict=True)
        ],
    }
    for name, rows in tables.items():
        pq.write_table(pa.Table.from_pylist(rows), arguments.out / f"{name}.parquet")
    print(COMMANDS.format(out=arguments.out, labels=",".join(ATTRIBUTES)))


if __name__ == "__main__":
    main()
