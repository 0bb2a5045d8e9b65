"""Held-out agreement of a model's captions with estimates and pixel readings, where those are sure.

python benchmarks/uniface_tiny_agreement.py --faces FOLDER --model FOLDER [--out FILE.json]
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from uniface_ray.evaluate.agreement import agreement
from uniface_ray.model.decoding import greedy_text
from uniface_ray.model.modeling import UniFaceForConditionalGeneration
from uniface_ray.model.processing import UniFaceProcessor
from uniface_ray.train.tiny.appearance import read_appearance
from uniface_ray.train.tiny.attributes import decide
from uniface_ray.train.tiny.faces import Face, read_faces, split_shards

ATTRIBUTES = ("gender", "age_group", "smile", "hair_color")


def caption_faces(model_folder: Path, faces: list[Face], batch: int, max_new_tokens: int) -> tuple[list[str], float]:
    """Greedy captions in float32, and faces a second."""
    model = UniFaceForConditionalGeneration.from_pretrained(model_folder, dtype=torch.float32).eval()
    processor = UniFaceProcessor.from_pretrained(model_folder)
    captions = []
    start = time.perf_counter()
    for first in range(0, len(faces), batch):
        inputs = processor([face.pixels for face in faces[first : first + batch]])
        rows = model.place_images(inputs["input_ids"], inputs["pixel_values"])
        answers = greedy_text(model, list(rows), max_new_tokens, model.config.eos_token_id)
        captions += [processor.answer_text(answer) for answer in answers]
    return captions, len(faces) / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faces", type=Path, required=True, help="folder of parquet shards; the last fifth is used")
    parser.add_argument("--model", type=Path, required=True, help="model folder")
    parser.add_argument("--out", type=Path, help="JSON file for the result")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    arguments = parser.parse_args()

    _, shards = split_shards(arguments.faces)
    faces = [face for shard in shards for face in read_faces(shard)]
    appearances = read_appearance(np.stack([face.pixels for face in faces]))
    sure = [decide(face.estimates, appearance) for face, appearance in zip(faces, appearances, strict=True)]
    truths = [{name: item.value(name) for name in ATTRIBUTES} for item in sure]
    captions, rate = caption_faces(arguments.model, faces, arguments.batch, arguments.max_new_tokens)
    result = {
        "model": arguments.model.name,
        "shards": [shard.name for shard in shards],
        "faces": len(faces),
        "captions_per_second": round(rate, 1),
        "threads": torch.get_num_threads(),
        "agreement": {
            name: {
                "known": found.known,
                "claimed": found.claimed,
                "agreed": found.agreed,
                "rate": round(found.rate, 4),
                "wilson_95": [round(bound, 4) for bound in found.interval],
            }
            for name, found in agreement(captions, truths).items()
        },
        "smile_words_on_faces_sure_not_to_smile": sum(
            "smil" in caption for caption, truth in zip(captions, truths, strict=True) if truth["smile"] == "no"
        ),
        "examples": captions[:12],
    }
    text = json.dumps(result, indent=2, ensure_ascii=False)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
