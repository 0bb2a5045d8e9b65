"""Several conversations about one image in one sequence, so that its image tokens are computed once.

`<|mmu|> <|soi|> image <|eoi|>` is followed by texts that each see the image and themselves, not one another. To every
text this is the sequence of `uniface_ray.model.prompts.understanding_ids`, with the same positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from uniface_ray.model.configuration import UniFaceConfig
from uniface_ray.model.prompts import understanding_ids

IGNORED = -100
# Lengths are rounded up to this: matrix kernels are prepared anew for every shape that they have not met.
_LENGTH_STEP = 32


@dataclass(frozen=True)
class Conversation:
    """Token ids of a prompt's text, as `prompts.question_text` words it, and of the answer, without boundary tokens."""

    question: Sequence[int]
    answer: Sequence[int]


@dataclass(frozen=True)
class Packed:
    """A batch of packed rows (B, L): ids, positions, next-token targets (IGNORED where none) and the attention rule.

    `rule` is (B, 1, L, L) bool, True where a query may see a key. `weights` (B, L) float32 are those of the targets:
    one over the square root of the answer's length, so that a yes is not drowned by the many words of a caption.
    """

    input_ids: Tensor
    positions: Tensor
    targets: Tensor
    rule: Tensor
    weights: Tensor


def pack(config: UniFaceConfig, codes: Tensor, conversations: Sequence[Sequence[Conversation]]) -> Packed:
    """Rows of one image and its conversations each; right-padded.

    Args:
        config: of the model.
        codes: (B, N) image codes.
        conversations: one list a row; loss falls on the answers and their `<eos>` only.
    """
    rows = [_pack_row(config, row_codes, row) for row_codes, row in zip(codes, conversations, strict=True)]
    longest = max(len(row[0]) for row in rows)
    length = -(-longest // _LENGTH_STEP) * _LENGTH_STEP

    def padded(column: int, fill: int) -> Tensor:
        batch = torch.full((len(rows), length), fill, dtype=rows[0][column].dtype)
        for target, row in zip(batch, rows, strict=True):
            target[: len(row[column])] = row[column]
        return batch

    part = padded(3, -1)
    order = torch.arange(length)
    same = part[:, :, None] == part[:, None, :]
    # Part 0 is the image prefix: seen by all, whole.
    rule = (same & (order[:, None] >= order[None, :])) | (part == 0)[:, None, :]
    return Packed(padded(0, config.pad_id), padded(1, 0), padded(2, IGNORED), rule[:, None], padded(4, 0))


def _pack_row(
    config: UniFaceConfig, codes: Tensor, conversations: Sequence[Conversation]
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    # The image prefix is the prompt up to <eoi>: all but the <bos> that begins a text.
    prefix = understanding_ids(config, [], codes)[:-1]
    ids, positions = [prefix], [torch.arange(len(prefix))]
    targets, parts = [torch.full_like(prefix, IGNORED)], [torch.zeros_like(prefix)]
    weights = [torch.zeros(len(prefix))]
    for number, conversation in enumerate(conversations, start=1):
        prompt = [config.bos_token_id, *conversation.question]
        text = torch.tensor([*prompt, *conversation.answer])
        target = torch.full_like(text, IGNORED)
        target[len(prompt) - 1 :] = torch.tensor([*conversation.answer, config.eos_token_id])
        ids.append(text)
        positions.append(torch.arange(len(text)) + len(prefix))
        targets.append(target)
        parts.append(torch.full_like(text, number))
        weights.append(torch.full((len(text),), (len(conversation.answer) + 1) ** -0.5))
    return torch.cat(ids), torch.cat(positions), torch.cat(targets), torch.cat(parts), torch.cat(weights)
