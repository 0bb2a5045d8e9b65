"""How near drawn faces come to the faces that the model was trained on, beside held-out ones: memorising shows so.

python -m benchmarks.uniface_tiny_nearest --faces FOLDER --model FOLDER [--extra FOLDER] [--sheet PNG]

The model knows faces as image codes only, so all are compared as it could draw them at best: encoded and decoded. Two
measures: Euclidean distance of pixels at 32 x 32 (0..1), and of the identity encoder's features, each face's to length
1. Held-out faces come from the same generator as the training faces.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from benchmarks.nearest import Floats, nearest, nearness
from benchmarks.record import about, save
from benchmarks.uniface_tiny_tables import drawn_people
from uniface_ray.model.drawing import DrawRequest, DrawSettings, draw
from uniface_ray.model.modeling import UniFaceForConditionalGeneration
from uniface_ray.model.processing import UniFaceProcessor
from uniface_ray.train.tiny.faces import read_faces, split_shards

BATCH = 64


class Model:
    """The model in float32, and its processor."""

    def __init__(self, folder: Path) -> None:
        self.network = UniFaceForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
        self.processor = UniFaceProcessor.from_pretrained(folder)

    @torch.inference_mode()
    def pictures(self, prompts: list[str], settings: DrawSettings) -> Tensor:
        """(count, 3, side, side) in -1..1; the i-th is drawn with seed i."""
        ids = [self.processor.text_ids(prompt) for prompt in prompts]
        requests = [DrawRequest(text, seed, settings) for seed, text in enumerate(ids)]
        return self.network.decode_images(draw(self.network, requests)).clamp(-1, 1)


@torch.inference_mode()
def as_drawn(model: Model, shards: list[Path]) -> Tensor:
    """The faces of `shards`, encoded and decoded: (N, 3, side, side) in -1..1."""
    faces = [face.pixels for shard in shards for face in read_faces(shard)]
    size = model.network.config.magvit_config.image_size
    pictures = []
    for start in range(0, len(faces), BATCH):
        pixels = torch.from_numpy(np.stack(faces[start : start + BATCH])).permute(0, 3, 1, 2).float() / 127.5 - 1
        small = F.interpolate(pixels, size=size, mode="bicubic", antialias=True).clamp(-1, 1)
        pictures.append(model.network.decode_images(model.network.encode_images(small)).clamp(-1, 1))
    return torch.cat(pictures)


@torch.inference_mode()
def measures(model: Model, pictures: Tensor) -> dict[str, Floats]:
    """Features (N, D) of pictures by the name of the measure."""
    encoders = model.network.encoders
    assert encoders is not None
    seen = torch.cat([encoders.identity(some).float().flatten(1) for some in pictures.split(BATCH)])
    pixels = F.interpolate(pictures, size=32, mode="bilinear", antialias=True).flatten(1) / 2
    return {"pixels": pixels.numpy(), "identity": F.normalize(seen, dim=1).numpy()}


def save_sheet(pictures: Tensor, path: Path, columns: int = 8) -> None:
    """A contact sheet of pictures (count, 3, side, side)."""
    tiles = ((pictures + 1) * 127.5).round().to(torch.uint8)
    tiles = torch.cat([tiles, tiles.new_zeros(-len(tiles) % columns, *tiles.shape[1:])])
    rows = tiles.unflatten(0, (-1, columns)).permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)
    Image.fromarray(rows.numpy()).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faces", type=Path, required=True, help="folder of parquet shards, the last fifth held out")
    parser.add_argument("--extra", type=Path, help="folder of more shards that the model was trained on")
    parser.add_argument("--model", type=Path, required=True, help="model folder")
    parser.add_argument("--sheet", type=Path, help="PNG of the drawn faces that are nearest, each above its neighbour")
    parser.add_argument("--each", type=int, default=12, help="drawn faces of each kind of prompt")
    parser.add_argument("--guidance", type=float, default=2.0)
    arguments = parser.parse_args()

    train, held_out = split_shards(arguments.faces)
    extra = sorted(arguments.extra.glob("*.parquet")) if arguments.extra else []
    model = Model(arguments.model)
    known, unseen = as_drawn(model, [*train, *extra]), as_drawn(model, held_out)
    _, prompts = drawn_people(arguments.each)
    drawn = model.pictures(prompts, DrawSettings(steps=18, guidance=arguments.guidance))
    of_known, of_unseen, of_drawn = (measures(model, pictures) for pictures in (known, unseen, drawn))
    result = {
        **about("benchmarks.uniface_tiny_nearest"),
        "model": arguments.model.name,
        "trained_on": len(known),
        "held_out": len(unseen),
        "drawn": len(drawn),
    }
    pairs = []
    for name, features in of_known.items():
        neighbours, distances = nearest(of_drawn[name], features)
        _, others = nearest(of_unseen[name], features)
        result |= {name: asdict(nearness(distances, others))}
        closest = distances.argsort()[:8]
        pairs += [drawn[closest], known[neighbours[closest]]]
    print(json.dumps(result, indent=1))
    print(save(result, "uniface-tiny-nearest"))
    if arguments.sheet:
        save_sheet(torch.cat(pairs), arguments.sheet)


if __name__ == "__main__":
    main()
