"""Text through transformers' own `generate`: sampling, beams, streaming.

`decoding.greedy_text` gives the same greedy answers faster, and leaves finished rows out.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Cache, GenerationMixin, LogitsProcessor, LogitsProcessorList

from uniface_ray.model.features import ImageFeatures


class TextOnly(LogitsProcessor):
    """Leaves text ids to choose from, the end token among them."""

    def __init__(self, text_vocab_size: int) -> None:
        self.text_vocab_size = text_vocab_size

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        return F.pad(scores[:, : self.text_vocab_size], (0, scores.shape[1] - self.text_vocab_size), value=-torch.inf)


class TextGeneration(GenerationMixin):
    """`generate` for prompts of `UniFaceProcessor`; the rules of attention and experts are those of `greedy_text`."""

    def generate(
        self,
        input_ids: Tensor,
        pixel_values: Tensor | None = None,
        features: ImageFeatures | None = None,
        logits_processor: LogitsProcessorList | None = None,
        **kwargs: Any,
    ) -> Any:
        """Continue prompts with text.

        Args:
            input_ids: (B, L), padded at the left, as `UniFaceProcessor` gives them.
            pixel_values: (B, 3, H, W) in -1..1, images to place over the mask tokens.
            features: of images whose codes are in `input_ids` already, from `image_features`.
            logits_processor: yours; one that keeps to text ids is added.
            kwargs: as for any model of transformers: `max_new_tokens`, `do_sample`, `num_beams`, `streamer`, ...

        Returns:
            (B, L + new) prompts and answers, or what `return_dict_in_generate` asks for.
        """
        if pixel_values is not None:
            input_ids = self.place_images(input_ids, pixel_values)
            features = self.image_features(pixel_values)
        kwargs.pop("attention_mask", None)  # padding is known by its id
        kwargs.setdefault("pad_token_id", self.config.pad_id)
        processors = [*(logits_processor or []), TextOnly(self.config.text_vocab_size)]
        return super().generate(
            input_ids, features=features, logits_processor=LogitsProcessorList(processors), **kwargs
        )

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        past_key_values: Cache | None = None,
        features: ImageFeatures | None = None,
        logits_to_keep: int | None = None,
        **_: Any,
    ) -> dict[str, Any]:
        """What `forward` is given: the prompt first, then one position at a time."""
        generation = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
        inputs = {"past_key_values": past_key_values, "use_cache": True, "logits_to_keep": 1, "generation": generation}
        if past_key_values is None or past_key_values.get_seq_length() == 0:
            return inputs | {"input_ids": input_ids, "features": features}
        visible = (input_ids != self.config.pad_id)[:, None, None]
        return inputs | {"input_ids": input_ids[:, -1:], "attention_mask": visible}

    def _expand_inputs_for_generation(
        self, expand_size: int = 1, features: ImageFeatures | None = None, **kwargs: Any
    ) -> tuple[Tensor, dict[str, Any]]:
        if features is not None:
            rows = torch.arange(len(kwargs["input_ids"])).repeat_interleave(expand_size)
            features = features.index_select(rows)
        input_ids, others = super()._expand_inputs_for_generation(expand_size=expand_size, **kwargs)
        return input_ids, others | {"features": features}


__all__ = ["TextGeneration"]
