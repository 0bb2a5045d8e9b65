"""Pictures and questions to model inputs, token ids to text."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoTokenizer, BatchFeature, PreTrainedTokenizerBase, ProcessorMixin

from uniface_ray.core.records import Pixels
from uniface_ray.data.pixels import fit_square
from uniface_ray.model.configuration import UniFaceConfig
from uniface_ray.model.pixels import to_model_range
from uniface_ray.model.prompts import CAPTION_QUESTION, left_pad, question_text, understanding_ids


class UniFaceProcessor(ProcessorMixin):
    """The tokenizer and the picture preparation of one model, with its sequence layouts."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, config: UniFaceConfig) -> None:
        super().__init__(tokenizer)
        self.config = config

    def __call__(
        self,
        images: Sequence[Image.Image | Pixels] | Image.Image | Pixels,
        text: Sequence[str] | str = CAPTION_QUESTION,
        **_: Any,
    ) -> BatchFeature:
        """Prompts that ask `text` of `images`.

        Args:
            images: one or more pictures: PIL, or uint8 (H, W, 3) RGB.
            text: one question for all pictures, or one for each.

        Returns:
            `pixel_values` float32 (B, 3, S, S) in -1..1 and left-padded `input_ids` int64 (B, L), whose image places
            the model fills (`UniFaceForConditionalGeneration.place_images`).

        Raises:
            ValueError: as many questions as pictures are needed, or one.
        """
        pictures = [images] if isinstance(images, Image.Image | np.ndarray) else list(images)
        questions = [text] * len(pictures) if isinstance(text, str) else list(text)
        if len(questions) != len(pictures):
            raise ValueError(f"{len(questions)} questions for {len(pictures)} images: give one question, or one each")
        square = [fit_square(_rgb(picture), self.config.magvit_config.image_size) for picture in pictures]
        rows = [understanding_ids(self.config, self.question_ids(question)) for question in questions]
        return BatchFeature(
            {
                "pixel_values": to_model_range(torch.from_numpy(np.stack(square))),
                "input_ids": left_pad(rows, self.config.pad_id),
            }
        )

    def question_ids(self, question: str) -> list[int]:
        """Token ids of a question in Show-o's wording, without `<bos>`."""
        return self.text_ids(question_text(question))

    def text_ids(self, text: str) -> list[int]:
        """Token ids of a text as it stands."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def answer_text(self, ids: Sequence[int]) -> str:
        """What the model answered; ids that are not text are left out."""
        text_ids = [i for i in ids if i < self.config.text_vocab_size and i != self.config.eos_token_id]
        return str(self.tokenizer.decode(text_ids)).strip()

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Write the tokenizer; the layouts come back from the model's own config.json."""
        self.tokenizer.save_pretrained(save_directory, **kwargs)

    @classmethod
    def from_pretrained(cls, path: str | Path, **kwargs: Any) -> "UniFaceProcessor":
        """The processor of the model in folder `path` (config.json and the tokenizer's files)."""
        return cls(AutoTokenizer.from_pretrained(path, **kwargs), UniFaceConfig.from_pretrained(path))


def _rgb(picture: Image.Image | Pixels) -> Pixels:
    if isinstance(picture, Image.Image):
        return np.asarray(picture.convert("RGB"))
    return picture


__all__ = ["UniFaceProcessor"]
