"""How often captions agree with what is known of the faces: claims are read out of the words and counted.

A second count, written apart from that of `uniface evaluate`, which is held against it.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from uniface_ray.evaluate.claims import ATTRIBUTES, read_claims
from uniface_ray.evaluate.intervals import wilson


@dataclass(frozen=True)
class Agreement:
    """Counts over faces whose truth is known: all of them, with a claim in the caption, with the right one."""

    known: int
    claimed: int
    agreed: int

    @property
    def rate(self) -> float:
        """Share of all known faces; a caption that claims nothing counts as wrong."""
        return self.agreed / self.known if self.known else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of `rate`."""
        return wilson(self.agreed, self.known)


def agreement(captions: Iterable[str], truths: Iterable[Mapping[str, str | None]]) -> dict[str, Agreement]:
    """Agreement of captions with truths, by attribute.

    Args:
        captions: one a face.
        truths: what is known of the same faces, by the names of `claims.VALUES`; None or absent where unknown.
    """
    counts = {name: [0, 0, 0] for name in ATTRIBUTES}
    for caption, truth in zip(captions, truths, strict=True):
        claims = read_claims(caption)
        for name, count in counts.items():
            known, claimed = truth.get(name), claims.value(name)
            if known is not None:
                count[0] += 1
                count[1] += claimed is not None
                count[2] += claimed == known
    return {name: Agreement(*count) for name, count in counts.items()}


__all__ = ["Agreement", "agreement"]
