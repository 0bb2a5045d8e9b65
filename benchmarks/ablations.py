"""Which experts and which loss help: small models trained from nothing on the codes of real or made faces.

python -m benchmarks.ablations --faces FOLDER [--steps 300 --seeds 3 --out FILE.json]

Every variant reads and draws the same faces in the same order: it learns to say the shipped model's caption of a face
from its codes, and to draw the codes from the caption. Held-out faces measure it. The models have about a thousandth of
the paper's size and see some thousand faces: the table shows that every switch works, not the quality of the paper.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import uniface_ray
from uniface_ray.core.records import Pixels
from uniface_ray.data.pixels import fit_square
from uniface_ray.model import UniFaceConfig, UniFaceForConditionalGeneration, UniFaceProcessor
from uniface_ray.model.corruption import IGNORED, corrupt
from uniface_ray.model.d3diff import D3DiffConfig, D3DiffLoss, d3diff
from uniface_ray.model.decoding import greedy_text
from uniface_ray.model.pixels import to_model_range
from uniface_ray.model.prompts import CAPTION_QUESTION, generation_ids, left_pad, understanding_ids
from uniface_ray.train.tiny.checkpoint import one_cycle
from uniface_ray.train.tiny.faces import read_faces, split_shards

SHIPPED = Path(uniface_ray.__file__).parent / "model" / "weights" / "uniface-tiny"
WIDTH = 64
CAPTION_TOKENS = 30
# As many units of a feed-forward network are active with experts as without.
TOKEN_EXPERTS = {"routed": 8, "active": 4, "width": 32, "shared_width": 128}
SEQUENCE_EXPERTS = {"resampler_width": 32, "resampler_heads": 2}
EXPERTS: dict[str, dict[str, Any]] = {
    "dense": {},
    "token experts": {"token_experts": TOKEN_EXPERTS},
    "sequence experts": {"sequence_experts": SEQUENCE_EXPERTS},
    "both": {"token_experts": TOKEN_EXPERTS, "sequence_experts": SEQUENCE_EXPERTS},
}
LOSSES: tuple[Any, ...] = ("mask", "score", "d3diff")
GUIDANCE_DROPOUT = 0.1  # prompts left out in training, as in Show-o


@dataclass(frozen=True)
class Faces:
    """F faces: pixels (F, 3, S, S) uint8, codes (F, N) int64, and token ids of the question and of each caption."""

    pixels: Tensor
    codes: Tensor
    question: list[int]
    captions: list[list[int]]

    def __getitem__(self, chosen: Tensor) -> "Faces":
        captions = [self.captions[face] for face in chosen.tolist()]
        return Faces(self.pixels[chosen], self.codes[chosen], self.question, captions)


class Losses(NamedTuple):
    """Of one batch; `balance` is before its weight."""

    text: Tensor
    drawing: D3DiffLoss
    balance: Tensor


def losses(
    model: UniFaceForConditionalGeneration,
    faces: Faces,
    prompts: Sequence[list[int]],
    seeds: list[int],
    loss: D3DiffConfig,
) -> Losses:
    """All losses of a batch of faces, each read once and drawn once from its prompt."""
    config = model.config
    answers = [[*caption, config.eos_token_id] for caption in faces.captions]
    asked = [understanding_ids(config, faces.question, codes) for codes in faces.codes]
    rows = left_pad(
        [torch.cat([row, torch.tensor(answer)]) for row, answer in zip(asked, answers, strict=True)], config.pad_id
    )
    # The logit before a token is the one that foretells it.
    targets = torch.full_like(rows, IGNORED)
    for target, answer in zip(targets, answers, strict=True):
        target[-len(answer) - 1 : -1] = torch.tensor(answer)
    read = model.hidden_states(rows, features=model.image_features(to_model_range(faces.pixels)), use_cache=False)
    said = targets != IGNORED
    text = F.cross_entropy(model.text_logits(read.last_hidden_state[said]), targets[said])

    masked = corrupt(config, faces.codes, loss.schedule, seeds)
    rows = torch.stack([generation_ids(config, prompt) for prompt in prompts])
    image = slice(-config.num_image_tokens - 1, -1)
    rows[:, image] = masked.image_ids
    drawn = model.hidden_states(rows, use_cache=False)
    drawing = d3diff(model.image_logits(drawn.last_hidden_state[:, image]), masked.labels, masked.share, loss)
    both = [one.balance_loss.sum() for one in (read, drawn) if one.balance_loss is not None]
    return Losses(text, drawing, sum(both, torch.zeros(())))


def train(
    model: UniFaceForConditionalGeneration,
    faces: Faces,
    loss: D3DiffConfig,
    steps: int,
    seed: int,
    batch: int = 16,
    learning_rate: float = 2e-3,
    balance_weight: float = 0.01,
) -> list[Losses]:
    """Train in place, and give the losses of every step."""
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    generator = torch.Generator().manual_seed(seed)
    history = []
    model.train()
    for step in range(steps):
        chosen = torch.randint(len(faces.captions), (batch,), generator=generator)
        some = faces[chosen]
        dropped = torch.rand(batch, generator=generator) < GUIDANCE_DROPOUT
        prompts = [[] if drop else caption for drop, caption in zip(dropped, some.captions, strict=True)]
        seeds = torch.randint(2**62, (batch,), generator=generator).tolist()
        found = losses(model, some, prompts, seeds, loss)
        optimizer.zero_grad()
        (found.text + found.drawing.total + balance_weight * found.balance).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * one_cycle(step, steps)
        optimizer.step()
        drawing = D3DiffLoss(*(value.detach() for value in found.drawing))
        history.append(Losses(found.text.detach(), drawing, found.balance.detach()))
    model.eval()
    return history


@torch.no_grad()
def measure(model: UniFaceForConditionalGeneration, faces: Faces, batch: int = 64) -> dict[str, float]:
    """Held-out losses in nats a token; masks are the same for every model."""
    plain = D3DiffConfig(scale="radd")  # without the constant its mean over N tokens bounds -log p(image)
    sums = dict.fromkeys(("caption", "masked_token", "image_bound"), 0.0)
    for start in range(0, len(faces.captions), batch):
        chosen = torch.arange(start, min(start + batch, len(faces.captions)))
        some = faces[chosen]
        found = losses(model, some, some.captions, chosen.tolist(), plain)
        share = len(chosen) / len(faces.captions)
        sums["caption"] += share * found.text.item()
        sums["masked_token"] += share * found.drawing.mask.item()
        sums["image_bound"] += share * found.drawing.score.item() / faces.codes.shape[1]
    return sums


def toy_config(shipped: UniFaceConfig, experts: dict[str, Any]) -> UniFaceConfig:
    """A small backbone over the shipped vocabulary and image tokens."""
    return UniFaceConfig(
        backbone_config={
            "hidden_size": WIDTH,
            "intermediate_size": 4 * WIDTH,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "initializer_range": 0.04,
        },
        magvit_config=shipped.magvit_config.to_dict(),
        text_vocab_size=shipped.text_vocab_size,
        max_text_length=CAPTION_TOKENS + 2,  # as long as the captions to learn
        bos_token_id=shipped.bos_token_id,
        eos_token_id=shipped.eos_token_id,
        semantic_config={
            "model_type": "clip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 64,
            "patch_size": 16,
        },
        identity_config={"image_size": 32, "widths": [8, 8, 16], "blocks": [1, 1]},
        **experts,
    )


@torch.inference_mode()
def prepare(pictures: Sequence[Pixels], folder: Path) -> tuple[UniFaceConfig, Faces]:
    """Codes and captions of pictures (H, W, 3) by the model of `folder`."""
    model = UniFaceForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    processor = UniFaceProcessor.from_pretrained(folder)
    config = model.config
    question = processor.question_ids(CAPTION_QUESTION)
    side = config.magvit_config.image_size
    pixels = torch.from_numpy(np.stack([fit_square(picture.copy(), side) for picture in pictures]))
    codes, captions = [], []
    for some in pixels.split(64):
        scaled = to_model_range(some)
        codes.append(model.encode_images(scaled))
        rows = [understanding_ids(config, question, row) for row in codes[-1]]
        captions += greedy_text(model, rows, CAPTION_TOKENS, config.eos_token_id, features=model.image_features(scaled))
    return config, Faces(pixels, torch.cat(codes), question, captions)


def summary(values: Sequence[float]) -> dict[str, float]:
    """Mean and sample standard deviation over seeds."""
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": round(statistics.mean(values), 4), "sd": round(spread, 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--faces", type=Path, required=True, help="folder of parquet shards; the last fifth is held out"
    )
    parser.add_argument("--model", type=Path, default=SHIPPED, help="whose codes and captions to learn")
    parser.add_argument("--count", type=int, default=2048, help="faces to train on")
    parser.add_argument("--held-out", type=int, default=256, help="faces to measure on")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    halves = []
    for shards, count in zip(split_shards(arguments.faces), (arguments.count, arguments.held_out), strict=True):
        read = (face.pixels for shard in shards for face in read_faces(shard))
        halves.append([pixels for pixels, _ in zip(read, range(count), strict=False)])
    config, faces = prepare([*halves[0], *halves[1]], arguments.model)
    split = torch.arange(len(faces.captions)).split([len(half) for half in halves])
    seen, held_out = faces[split[0]], faces[split[1]]

    rows = []
    for experts, fields in EXPERTS.items():
        for kind in LOSSES:
            found = []
            for seed in range(arguments.seeds):
                torch.manual_seed(seed)
                model = UniFaceForConditionalGeneration(toy_config(config, fields))
                train(model, seen, D3DiffConfig(kind=kind), arguments.steps, seed, arguments.batch)
                found.append(measure(model, held_out))
            table = {name: summary([one[name] for one in found]) for name in found[0]}
            parameters = sum(parameter.numel() for parameter in model.showo.parameters())
            row = {
                "experts": experts,
                "loss": kind,
                "parameters": parameters,
                **table,
            }
            rows.append(row)
            print(json.dumps(row), flush=True)
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "what": "held-out losses in nats a token, mean and standard deviation over seeds; lower is better",
        "note": "toy scale: no number compares with the paper's, and what is better here need not be better there",
        "uniform_guess_of_an_image_token": round(math.log(config.codebook_size), 4),
        "model": arguments.model.name,
        "faces": len(seen.captions),
        "held_out": len(held_out.captions),
        "steps": arguments.steps,
        "batch": arguments.batch,
        "seeds": arguments.seeds,
        "threads": arguments.threads,
        "rows": rows,
    }
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
