"""How well an image and a text fit: the model's own probability of answering "yes", in the style of VQAScore.

VQAScore (arXiv 2404.01291) asks `MATCH_QUESTION` and takes P("Yes" | image, question).
"""

from collections.abc import Sequence
from itertools import permutations
from typing import NamedTuple

from torch import Tensor

MATCH_QUESTION = 'Does this figure show "{text}"? Please answer yes or no.'


class AnswerScores(NamedTuple):
    """Scores of R questions; a probability is among all text that could be the answer.

    Attributes:
        log_yes: (R,) float32 log probability that the answer begins with yes.
        log_no: (R,) float32, with no.
    """

    log_yes: Tensor
    log_no: Tensor

    @property
    def raw(self) -> Tensor:
        """(R,) P(yes), as VQAScore has it."""
        return self.log_yes.exp()

    @property
    def normalised(self) -> Tensor:
        """(R,) P(yes) / (P(yes) + P(no)): comparable where the model would rather say something else."""
        return (self.log_yes - self.log_no).sigmoid()


def check_spellings(yes: Sequence[Sequence[int]], no: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """Token ids of every spelling of yes, then of no.

    Raises:
        ValueError: an answer without a spelling; a spelling that is empty or begins as another does, so that it would
            count twice.
    """
    spellings = [tuple(one) for one in (*yes, *no)]
    begins = any(one == other[: len(one)] for one, other in permutations(spellings, 2))
    if not yes or not no or () in spellings or begins:
        raise ValueError(f"answers are {list(yes)} and {list(no)}: give each a spelling, none the beginning of another")
    return spellings


__all__ = ["MATCH_QUESTION", "AnswerScores", "check_spellings"]
