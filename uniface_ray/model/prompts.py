"""Token sequences of the tasks, as Show-o lays them out (training/prompting_utils.py, inference_mmu.py:104-130).

Every function takes and gives one row; `left_pad` makes a batch of them. N = image tokens, T = max_text_length.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from uniface_ray.model.configuration import UniFaceConfig

CAPTION_QUESTION = "Please describe this face in detail."


# Of Show-o's variants with CLIP (inference_mmu.py:32).
SYSTEM_PROMPT = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


def projected_question_text(question: str) -> str:
    """The text part of a prompt in the layout with CLIP, before tokenisation."""
    return f"USER: {question} ASSISTANT:"


def question_text(question: str) -> str:
    """The text part of a caption or VQA prompt, before tokenisation."""
    return f"USER: \n{question} ASSISTANT:"


def understanding_ids(config: UniFaceConfig, text_ids: Sequence[int], codes: Tensor | None = None) -> Tensor:
    """`<|mmu|> <|soi|> image <|eoi|> <bos> text` -> int64 (N + 4 + text,).

    Args:
        config: of the model.
        text_ids: the tokens of `question_text(...)`.
        codes: image codes (N,), or None to leave N mask tokens as places for them.

    Raises:
        ValueError: another number of codes than N.
    """
    head = [config.special_id("<|mmu|>"), config.special_id("<|soi|>")]
    tail = [config.special_id("<|eoi|>"), config.bos_token_id, *text_ids]
    return torch.cat([torch.tensor(head), _image_ids(config, codes), torch.tensor(tail)])


def projected_ids(config: UniFaceConfig, system_ids: Sequence[int], text_ids: Sequence[int]) -> Tensor:
    """`<|mmu|> system <|soi|> features <|eoi|> text` -> int64 (M + 3 + system + text,): the layout with CLIP.

    Args:
        config: with `projected_config`.
        system_ids: the tokens of `SYSTEM_PROMPT`, 28 with Phi-1.5's tokenizer.
        text_ids: the tokens of `projected_question_text(...)`.
    """
    vision = config.projected_config
    places = torch.full(((vision.image_size // vision.patch_size) ** 2,), config.mask_token_id)
    head = torch.tensor([config.special_id("<|mmu|>"), *system_ids, config.special_id("<|soi|>")])
    return torch.cat([head, places, torch.tensor([config.special_id("<|eoi|>"), *text_ids])])


def generation_ids(config: UniFaceConfig, text_ids: Sequence[int], codes: Tensor | None = None) -> Tensor:
    """`[PAD]* <|t2i|> <bos> text <eos> <|soi|> image <|eoi|>` -> int64 (T + N + 3,).

    A text that is too long is cut so that `<eos>` still fits; no text at all is the prompt of unconditional guidance.

    Args:
        config: of the model.
        text_ids: tokens of the prompt.
        codes: image codes (N,), or None for an image that is all mask tokens.

    Raises:
        ValueError: another number of codes than N.
    """
    text = prompt_ids(config, text_ids)
    padding = [config.pad_id] * (config.max_text_length + 1 - len(text))
    head = torch.tensor([*padding, *text, config.special_id("<|soi|>")])
    return torch.cat([head, _image_ids(config, codes), torch.tensor([config.special_id("<|eoi|>")])])


def prompt_ids(config: UniFaceConfig, text_ids: Sequence[int]) -> list[int]:
    """`<|t2i|> <bos> text <eos>`: what stands before the image, without padding; see `generation_ids`."""
    text = [config.special_id("<|t2i|>"), config.bos_token_id, *text_ids]
    return [*text[: config.max_text_length], config.eos_token_id]


def tokens_cut(config: UniFaceConfig, text_ids: Sequence[int]) -> int:
    """How many tokens at the end of a text `prompt_ids` leaves out; 0 for one that fits."""
    return max(0, len(text_ids) + 2 - config.max_text_length)


def left_pad(rows: Sequence[Tensor], pad_id: int) -> Tensor:
    """Rows of different lengths -> (B, L) int64, padded at the left so that all end at the same position."""
    length = max(len(row) for row in rows)
    batch = torch.full((len(rows), length), pad_id, dtype=torch.int64)
    for target, row in zip(batch, rows, strict=True):
        target[length - len(row) :] = row
    return batch


def _image_ids(config: UniFaceConfig, codes: Tensor | None) -> Tensor:
    if codes is None:
        return torch.full((config.num_image_tokens,), config.mask_token_id)
    if len(codes) != config.num_image_tokens:
        raise ValueError(f"an image has {len(codes)} codes, but this model takes {config.num_image_tokens}")
    return codes.cpu() + config.image_token_offset


__all__ = [
    "CAPTION_QUESTION",
    "SYSTEM_PROMPT",
    "generation_ids",
    "left_pad",
    "projected_ids",
    "projected_question_text",
    "prompt_ids",
    "question_text",
    "tokens_cut",
    "understanding_ids",
]
