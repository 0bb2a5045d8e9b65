"""Chooses styles of faces that the generator seldom makes: older people, children, serious women, middle-aged women.

Age, gender and smile are nearly linear in the style (correlations of 0.91, 0.83 and 0.74 with the estimates), so that a
ridge regression on faces that are made already tells which of many styles are worth making.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Candidates for each face that is made, and the ridge relative to the mean variance of a style's numbers.
CANDIDATES = 16
_RIDGE = 1e-2
# Shares of the made faces: older people (women rather than men), older men, children, serious women and middle-aged
# women.
_SHARES = (64, 48, 56, 48, 40)
_MIDDLE_AGE = 47.0


@dataclass(frozen=True)
class StyleReader:
    """Predicts (age in years, p_male, p_happy) from styles: weight (512, 3) and bias (3,)."""

    weight: Tensor
    bias: Tensor

    @classmethod
    def fitted(cls, styles: Tensor, estimates: Tensor) -> "StyleReader":
        """From styles (N, 512) that faces were made of and their estimates (N, 3)."""
        mean = styles.mean(0)
        inputs = torch.cat([styles - mean, torch.ones(len(styles), 1)], dim=1).double()
        square = inputs.T @ inputs
        square += torch.eye(len(square), dtype=torch.double) * _RIDGE * square.trace() / len(square)
        solved = torch.linalg.solve(square, inputs.T @ estimates.double())
        weight, bias = solved[:-1], solved[-1] - mean.double() @ solved[:-1]
        return cls(weight.float(), bias.float())

    def rare(self, styles: Tensor, count: int) -> Tensor:
        """`count` of the styles (N, 512) that promise rare faces, none of them twice."""
        age, male, happy = (styles @ self.weight + self.bias).unbind(1)
        old, man = (age - age.mean()) / age.std(), (male > 0.5).float()
        wishes = (
            old + 0.5 * (1 - man),
            old + 3 * man,
            -old,
            -happy - 3 * man,
            -(age - _MIDDLE_AGE).abs() - 20 * man,
        )
        chosen = torch.zeros(0, dtype=torch.long)
        for wish, share in zip(wishes, _shares(count), strict=True):
            wish[chosen] = -torch.inf
            chosen = torch.cat([chosen, wish.topk(share).indices])
        return styles[chosen]


def _shares(count: int) -> Sequence[int]:
    whole = sum(_SHARES)
    ends = [round(sum(_SHARES[: place + 1]) * count / whole) for place in range(len(_SHARES))]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]
