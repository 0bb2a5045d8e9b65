"""What a model says of held-out faces and draws by prompts, against estimates and pixel readings, where those are sure.

python -m benchmarks.uniface_tiny_agreement --faces FOLDER --model FOLDER --judge FILE [--out FILE.json] [--sheet PNG]

FILE of the judge is `judge.pt` in the folder of the recipe's checkpoints: a classifier apart from the model, which says
whether a drawn face is what its prompt asked for.
"""

import argparse
import itertools
import json
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.agreement import agreement
from uniface_ray.evaluate.intervals import wilson
from uniface_ray.model.decoding import greedy_text
from uniface_ray.model.drawing import DrawRequest, DrawSettings, draw
from uniface_ray.model.modeling import UniFaceForConditionalGeneration
from uniface_ray.model.processing import UniFaceProcessor
from uniface_ray.model.prompts import CAPTION_QUESTION
from uniface_ray.train.tiny.appearance import read_appearance
from uniface_ray.train.tiny.attributes import VALUES, Attributes, decide
from uniface_ray.train.tiny.faces import Face, read_faces, split_shards
from uniface_ray.train.tiny.judge import Judge, judge_faces
from uniface_ray.train.tiny.wording import short_prompt
from uniface_ray.train.tiny.yes_no import shows_pair, yes_no_pairs

ATTRIBUTES = ("gender", "age_group", "smile", "hair_color")
DRAWN_ATTRIBUTES = ("gender", "smile", "hair_color")


class Model:
    """The model in float32, and its processor."""

    def __init__(self, folder: Path) -> None:
        self.network = UniFaceForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
        self.processor = UniFaceProcessor.from_pretrained(folder)

    @torch.inference_mode()
    def answers(self, faces: list[Face], questions: list[str], most: int, batch: int = 64) -> list[str]:
        """One greedy answer a face."""
        answers = []
        for first in range(0, len(faces), batch):
            pixels = [face.pixels for face in faces[first : first + batch]]
            inputs = self.processor(pixels, questions[first : first + batch])
            rows = self.network.place_images(inputs["input_ids"], inputs["pixel_values"])
            features = self.network.image_features(inputs["pixel_values"])
            ids = greedy_text(self.network, list(rows), most, self.network.config.eos_token_id, features)
            answers += [self.processor.answer_text(answer) for answer in ids]
        return answers

    @torch.inference_mode()
    def pictures(self, prompts: list[str], settings: DrawSettings) -> Tensor:
        """(count, 3, side, side) in -1..1; the i-th is drawn with seed i."""
        ids = [self.processor.text_ids(prompt) for prompt in prompts]
        requests = [DrawRequest(text, seed, settings) for seed, text in enumerate(ids)]
        return self.network.decode_images(draw(self.network, requests)).clamp(-1, 1)


def share(hits: int, trials: int) -> dict[str, Any]:
    """A rate with its interval."""
    bounds = [round(bound, 4) for bound in wilson(hits, trials)]
    return {"known": trials, "agreed": hits, "rate": round(hits / max(1, trials), 4), "wilson_95": bounds}


def captions_result(model: Model, faces: list[Face], people: list[Attributes]) -> dict[str, Any]:
    """Agreement of captions."""
    truths = [{name: person.value(name) for name in ATTRIBUTES} for person in people]
    start = time.perf_counter()
    captions = model.answers(faces, [CAPTION_QUESTION] * len(faces), most=64)
    seconds = time.perf_counter() - start
    found = agreement(captions, truths)
    pairs = list(zip(captions, truths, strict=True))
    return {
        "captions_per_second": round(len(faces) / seconds, 1),
        "agreement": {name: share(one.agreed, one.known) | {"claimed": one.claimed} for name, one in found.items()},
        "smile_words_on_faces_sure_not_to_smile": sum(
            "smil" in said for said, truth in pairs if truth["smile"] == "no"
        ),
        "examples": captions[:12],
    }


def answers_result(model: Model, faces: list[Face], people: list[Attributes]) -> dict[str, Any]:
    """Agreement of answers to yes-or-no questions: one of an attribute, and one whether a description fits."""
    rng = random.Random(0)
    results = {}
    for kind in ("attribute", "description"):
        asked = []
        for face, person in zip(faces, people, strict=True):
            pairs = yes_no_pairs(person, rng)
            pair = shows_pair(person, rng) if kind == "description" else rng.choice(pairs) if pairs else None
            if pair:
                asked.append((face, *pair))
        said = model.answers([face for face, _, _ in asked], [question for _, question, _ in asked], most=8)
        right = sum(one.startswith(answer[:-1]) for one, (_, _, answer) in zip(said, asked, strict=True))
        results[kind] = share(right, len(asked))
    return results


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


def drawn_result(model: Model, judge: Judge, each: int, settings: DrawSettings, sheet: Path | None) -> dict[str, Any]:
    """How often the judge sees in a drawn face what its prompt asked for."""
    wanted, prompts = drawn_people(each)
    pictures = model.pictures(prompts, settings)
    seen = judge_faces(judge, pictures)
    hits = {}
    for name in (*DRAWN_ATTRIBUTES, "age_group"):
        told = seen[name].argmax(-1).tolist()
        right = sum(VALUES[name][one] == person.value(name) for one, person in zip(told, wanted, strict=True))
        hits[name] = share(right, len(wanted))
    if sheet:
        save_sheet(pictures[:: max(1, each // 4)], sheet)
    return {"settings": vars(settings), "agreement": hits, "prompts": prompts[::each]}


def save_sheet(pictures: Tensor, path: Path, columns: int = 8) -> None:
    """A contact sheet of pictures (count, 3, side, side)."""
    tiles = ((pictures + 1) * 127.5).round().to(torch.uint8)
    tiles = torch.cat([tiles, tiles.new_zeros(-len(tiles) % columns, *tiles.shape[1:])])
    rows = tiles.unflatten(0, (-1, columns)).permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)
    Image.fromarray(rows.numpy()).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faces", type=Path, required=True, help="folder of parquet shards; the last fifth is used")
    parser.add_argument("--model", type=Path, required=True, help="model folder")
    parser.add_argument("--judge", type=Path, required=True, help="checkpoint of the judge")
    parser.add_argument("--out", type=Path, help="JSON file for the result")
    parser.add_argument("--sheet", type=Path, help="PNG file for a contact sheet of drawn faces")
    parser.add_argument("--each", type=int, default=24, help="drawn faces of each kind")
    parser.add_argument("--guidance", type=float, default=2.0)
    parser.add_argument("--steps", type=int, default=18)
    arguments = parser.parse_args()

    _, shards = split_shards(arguments.faces)
    faces = [face for shard in shards for face in read_faces(shard)]
    appearances = read_appearance(np.stack([face.pixels for face in faces]))
    people = [decide(face.estimates, appearance) for face, appearance in zip(faces, appearances, strict=True)]
    model, judge = Model(arguments.model), Judge()
    judge.load_state_dict(torch.load(arguments.judge, weights_only=True)["model"])
    settings = DrawSettings(steps=arguments.steps, guidance=arguments.guidance)
    result = {
        "model": arguments.model.name,
        "shards": [shard.name for shard in shards],
        "faces": len(faces),
        "threads": torch.get_num_threads(),
        "captions": captions_result(model, faces, people),
        "yes_or_no": answers_result(model, faces, people),
        "drawn": drawn_result(model, judge.eval(), arguments.each, settings, arguments.sheet),
    }
    text = json.dumps(result, indent=2, ensure_ascii=False)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
