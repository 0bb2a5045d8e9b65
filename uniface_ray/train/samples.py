"""A row becomes a sample: what the model reads, and what it should say or draw. Its chance is its own."""

import io
import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor

from uniface_ray.core.errors import UserError
from uniface_ray.core.train_config import TrainDataConfig
from uniface_ray.model.configuration import UniFaceConfig
from uniface_ray.model.encoders import features_of
from uniface_ray.model.processing import UniFaceProcessor
from uniface_ray.model.prompts import CAPTION_QUESTION, understanding_ids
from uniface_ray.train.stream import Kind

IGNORED = -100


@dataclass(frozen=True, slots=True)
class Reading:
    """A question about an image, and its answer.

    Attributes:
        row_id: of the data.
        ids: (L,) the prompt and the answer, without the end.
        targets: (L,) the next token where it is part of the answer or its end, else `IGNORED`.
        seen: float16 (M, width) of each encoder; uint8 (3, size, size) `pixels` where the row has these.
        is_cut: the text was too long.
    """

    row_id: int
    ids: Tensor
    targets: Tensor
    seen: dict[str, Tensor] = field(default_factory=dict)
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class Drawn:
    """An image to draw from a prompt.

    Attributes:
        row_id: of the data.
        prompt: token ids; none where it is dropped.
        codes: (N,) int64.
        seed: of the mask.
    """

    row_id: int
    prompt: list[int]
    codes: Tensor
    seed: int


def values_of(row: pa.Table) -> dict[str, Any]:
    """The only row of a table."""
    return {name: row[name][0].as_py() for name in row.column_names}


class SampleMaker:
    """Knows a model's words and sizes.

    Args:
        processor: of the model.
        data: settings.
        seed: of the run; with a row's kind and its number in the stream it decides all chance.
    """

    def __init__(self, processor: UniFaceProcessor, data: TrainDataConfig, seed: int) -> None:
        self.processor, self.data, self.seed = processor, data, seed
        config: UniFaceConfig = processor.config
        self.config = config
        room = config.backbone_config.max_position_embeddings - config.num_image_tokens - 4
        self.text_tokens = min(data.text_tokens, room)
        self.sizes = features_of(config)

    def make(self, kind: Kind, number: int, row: pa.Table) -> Reading | Drawn:
        """The sample of a row, a table of one; `number` counts those of its kind."""
        values = values_of(row)
        rng = random.Random(f"{self.seed}/{kind}/{number}")
        codes = torch.tensor(values["codes"], dtype=torch.int64)
        if kind == "draw":
            prompt = self.processor.text_ids(rng.choice(values["captions"]))
            dropped = rng.random() < self.data.drop_prompts
            return Drawn(values["row_id"], [] if dropped else prompt, codes, rng.getrandbits(62))
        if kind == "caption":
            question, answer = CAPTION_QUESTION, rng.choice(values["captions"])
        else:
            question, answer = rng.choice(list(zip(values["questions"], values["answers"], strict=True)))
        return self._reading(values, codes, question, answer)

    def _reading(self, values: dict[str, Any], codes: Tensor, question: str, answer: str) -> Reading:
        # The space separates the answer from "ASSISTANT:", as the tokenizer of a running text would have it.
        asked, said = self.processor.question_ids(question), self.processor.text_ids(f" {answer}")
        whole = len(asked) + len(said) + 1
        asked = self.cut(asked)
        said = [*said, self.config.eos_token_id][: self.text_tokens - len(asked)]
        prompt = understanding_ids(self.config, asked, codes)
        ids = torch.cat([prompt, torch.tensor(said[:-1], dtype=torch.int64)])
        targets = torch.full_like(ids, IGNORED)
        targets[len(prompt) - 1 :] = torch.tensor(said)
        return Reading(values["row_id"], ids, targets, self.seen(values), whole > self.text_tokens)

    def cut(self, asked: list[int]) -> list[int]:
        """The end of a question's token ids, where they would leave no room for a word of the answer."""
        return asked[-(self.text_tokens - 1) :]

    def seen(self, values: dict[str, Any]) -> dict[str, Tensor]:
        """What the encoders see of a row's image, or the image itself; see `Reading.seen`."""
        if not self.sizes:
            return {}
        if values.get("pixels"):
            return {"pixels": self._pixels(values)}
        return {
            name: torch.from_numpy(np.frombuffer(values[name], np.float16).reshape(size).copy())
            for name, size in self.sizes.items()
        }

    def _pixels(self, values: dict[str, Any]) -> Tensor:
        size = self.config.magvit_config.image_size
        try:
            picture = np.asarray(Image.open(io.BytesIO(values["pixels"])).convert("RGB"))
        except OSError as error:
            told = f"cannot be read as an image ({error})"
        else:
            if picture.shape == (size, size, 3):
                return torch.from_numpy(picture.transpose(2, 0, 1).copy())
            told = f"are {picture.shape[1]} x {picture.shape[0]}, not {size} x {size} as this model's"
        raise UserError(
            f"data.path has row {values['row_id']}, whose pixels {told}: make it with `uniface tokenize` and the model "
            "that is to be trained"
        )
