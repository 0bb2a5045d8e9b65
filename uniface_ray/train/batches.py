"""Samples become the tensors of one forward pass.

What is large is stacked and counted by numpy: torch would do it on many threads, and the thread that makes batches
would get a pool of its own beside that of the thread which trains.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
import torch
from torch import Tensor

from uniface_ray.model.configuration import UniFaceConfig
from uniface_ray.model.corruption import corrupt
from uniface_ray.model.prompts import prompt_ids
from uniface_ray.train.samples import IGNORED, Drawn, Reading

# Lengths are rounded up to this: kernels are prepared anew for every shape that they have not met.
_LENGTH_STEP = 32


@dataclass(frozen=True, slots=True)
class ReadBatch:
    """Rows that read an image. B rows, L positions.

    Attributes:
        ids: (B, L), padded at the left.
        targets: (B, L), `IGNORED` where there is none.
        seen: (B, M, width) of each encoder, or `pixels` uint8 (B, 3, size, size); none for a dense model.
    """

    ids: Tensor
    targets: Tensor
    seen: dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class DrawBatch:
    """Rows that draw. B rows, L positions, N image tokens.

    Attributes:
        ids: (B, L), padded at the left, some of the image tokens masked.
        labels: (B, N) codes where masked, else `IGNORED`.
        share: (B,) of the image tokens that is masked.
    """

    ids: Tensor
    labels: Tensor
    share: Tensor


@dataclass(frozen=True, slots=True)
class Counts:
    """What losses are means of; of a part of a batch, or of the whole."""

    text: int = 0
    masked: int = 0
    images: int = 0
    parts: int = 1

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))


@dataclass(frozen=True, slots=True)
class Batch:
    """One forward pass.

    Attributes:
        read: rows that read; None where there are none.
        draw: rows that draw; likewise.
        counts: text targets, masked tokens, drawn images.
        tokens: positions that hold something, to tell the pace.
        row_ids: of the data, for messages.
        cut: texts that were too long.
    """

    read: ReadBatch | None
    draw: DrawBatch | None
    counts: Counts
    tokens: int
    row_ids: list[int] = field(default_factory=list)
    cut: int = 0

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        read, draw = self.read, self.draw
        if read is not None:
            seen = {name: tensor.to(device) for name, tensor in read.seen.items()}
            read = ReadBatch(read.ids.to(device), read.targets.to(device), seen)
        if draw is not None:
            draw = DrawBatch(draw.ids.to(device), draw.labels.to(device), draw.share.to(device))
        return replace(self, read=read, draw=draw)


def collate(config: UniFaceConfig, samples: Sequence[Reading | Drawn], schedule: str) -> Batch:
    """Samples of any kinds -> a batch.

    Args:
        config: of the model.
        samples: one or more.
        schedule: of masking, see `schedules.schedule`.
    """
    reading = [one for one in samples if isinstance(one, Reading)]
    drawn = [one for one in samples if isinstance(one, Drawn)]
    read = _read(config, reading) if reading else None
    draw = _draw(config, drawn, schedule) if drawn else None
    counts = Counts(
        text=0 if read is None else _count_others(read.targets, IGNORED),
        masked=0 if draw is None else _count_others(draw.labels, IGNORED),
        images=len(drawn),
    )
    ids = [one.ids for one in (read, draw) if one is not None]
    tokens = sum(_count_others(one, config.pad_id) for one in ids)
    row_ids = [one.row_id for one in samples]
    return Batch(read, draw, counts, tokens, row_ids, sum(one.is_cut for one in reading))


def _read(config: UniFaceConfig, samples: Sequence[Reading]) -> ReadBatch:
    ids = _padded([one.ids for one in samples], config.pad_id)
    targets = _padded([one.targets for one in samples], IGNORED)
    seen = {name: np.stack([one.seen[name].numpy() for one in samples]) for name in samples[0].seen}
    return ReadBatch(ids, targets, {name: torch.from_numpy(array) for name, array in seen.items()})


def _draw(config: UniFaceConfig, samples: Sequence[Drawn], schedule: str) -> DrawBatch:
    codes = torch.stack([one.codes for one in samples])
    masked = corrupt(config, codes, schedule, [one.seed for one in samples])
    start, end = torch.tensor([config.special_id("<|soi|>")]), torch.tensor([config.special_id("<|eoi|>")])
    rows = [
        torch.cat([torch.tensor(prompt_ids(config, one.prompt)), start, image, end])
        for one, image in zip(samples, masked.image_ids, strict=True)
    ]
    return DrawBatch(_padded(rows, config.pad_id), masked.labels, masked.share)


def _count_others(tensor: Tensor, value: int) -> int:
    """How many elements are not `value`."""
    return int((tensor.numpy() != value).sum())


def _padded(rows: Sequence[Tensor], fill: int) -> Tensor:
    """(B, L) int64, padded at the left."""
    length = -(-max(map(len, rows)) // _LENGTH_STEP) * _LENGTH_STEP
    batch = np.full((len(rows), length), fill)
    for target, row in zip(batch, rows, strict=True):
        target[length - len(row) :] = row.numpy()
    return torch.from_numpy(batch)
