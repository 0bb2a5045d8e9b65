"""Steps of decoding as CUDA graphs: a step's kernels are launched at once, where Python would take longer than they do.

A graph works on the memory it was recorded with, so there is one for each of a few sizes, as nano-vllm has them.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class RecordedSteps:
    """Decodes the first slots, their number rounded up to a power of two, over all positions that slots have room for.

    The slots in excess take part too: each writes to its last position, which no request is given. Letters in shapes:
    B rows, S slots, V vocabulary.
    """

    def __init__(self, step: Callable[[Tensor, Tensor, int, int], Tensor], slots: int, device: torch.device) -> None:
        """Record nothing yet.

        Args:
            step: token ids (B,), their positions (B,), first slot and end of the positions -> logits (B, V).
            slots: S.
            device: a GPU.
        """
        self._compute = step
        self._ids, self._positions = torch.zeros((2, slots), dtype=torch.int64, device=device)
        self._room = 0
        self._moves = 0
        self._graphs: dict[int, tuple[Callable[[], Any], Tensor]] = {}

    def __call__(self, ids: Tensor, positions: Tensor, room: int, moves: int) -> Tensor:
        """Logits (B, V) of the first B slots, which hold until the next call.

        Args:
            ids: (B,) int64.
            positions: (B,) int64, of `ids`.
            room: positions of a slot.
            moves: of slots to other memory so far; what was recorded before the last one writes where none are now.
        """
        if (room, moves) != (self._room, self._moves):
            self._room, self._moves = room, moves
            self._graphs.clear()
        count = len(ids)
        rows = min(1 << (count - 1).bit_length(), len(self._ids))
        self._ids[:count] = ids
        self._positions[:count] = positions
        self._positions[count:rows] = room - 1
        if rows not in self._graphs:
            self._graphs[rows] = self._record(rows)
        replay, logits = self._graphs[rows]
        replay()
        return logits[:count]

    def _record(self, rows: int) -> tuple[Callable[[], Any], Tensor]:
        """What repeats the step of so many rows, and the logits (rows, V) it writes."""
        self._step(rows)  # kernels and workspaces are made at first use, which no graph may hold
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            logits = self._step(rows)
        return graph.replay, logits

    def _step(self, rows: int) -> Tensor:
        return self._compute(self._ids[:rows], self._positions[:rows], 0, self._room)


__all__ = ["RecordedSteps"]
