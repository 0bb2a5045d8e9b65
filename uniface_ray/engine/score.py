"""Statements to score: prompts are computed as those of answers are, and probabilities of yes and no read off."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from uniface_ray.engine.text import TextRunner, TextSequence
from uniface_ray.model import UniFaceForConditionalGeneration
from uniface_ray.model.scoring import AnswerScores, check_spellings


@dataclass(slots=True, eq=False)
class ScoreSequence(TextSequence):
    """A question whose answer is yes or no; of its answer, no token is chosen.

    Attributes:
        log_yes: log probability of yes, once it is done.
        log_no: likewise.
        score: P(yes) / (P(yes) + P(no)).
    """

    log_yes: float = 0.0
    log_no: float = 0.0
    score: float = 0.0


class ScoreRunner:
    """Slots of questions, computed as those of answers; each takes one step."""

    def __init__(
        self,
        model: UniFaceForConditionalGeneration,
        slots: int,
        yes: Sequence[Sequence[int]],
        no: Sequence[Sequence[int]],
    ) -> None:
        """Make empty slots.

        Args:
            model: in eval mode.
            slots: how many.
            yes: token ids of each spelling of yes, such as those of "Yes" and " yes"; their probabilities are added.
            no: likewise.

        Raises:
            ValueError: spellings that cannot be told apart.
        """
        self.texts = TextRunner(model, slots)
        self.spellings = check_spellings(yes, no)
        self.yes = len(yes)
        # In this order a beginning comes right after its own beginning, whose tokens then stand in the cache.
        self.beginnings = sorted({one[:end] for one in self.spellings for end in range(1, len(one))})
        self._scored: list[tuple[Sequence[ScoreSequence], AnswerScores]] = []

    @staticmethod
    def order(one: ScoreSequence) -> int:
        """As of answers."""
        return TextRunner.order(one)

    def enter(self, entering: Sequence[ScoreSequence], first: int) -> None:
        """Compute the prompts of new questions but for their last token."""
        self.texts.enter(entering, first)

    def advance(self, running: Sequence[ScoreSequence], first: int) -> None:
        """Score the questions in the slots from `first` on: a token of each spelling at a time."""
        lengths = [self.texts.prefix + len(one.prompt) for one in running]
        likely: dict[tuple[int, ...], Tensor] = {}
        likely[()] = self._likely([one.prompt[-1] for one in running], lengths, first)
        for begin in self.beginnings:
            tokens = [begin[-1]] * len(running)
            likely[begin] = self._likely(tokens, [length + len(begin) for length in lengths], first)
        every = torch.stack([_of_spelling(likely, one) for one in self.spellings], dim=1)
        scores = AnswerScores(every[:, : self.yes].logsumexp(1), every[:, self.yes :].logsumexp(1))
        self._scored.append((running, scores))

    def collect(self) -> None:
        """Tell the questions their scores."""
        scored, self._scored = self._scored, []
        for questions, scores in scored:
            found = torch.stack([scores.log_yes, scores.log_no, scores.normalised], dim=1).tolist()
            for one, (log_yes, log_no, score) in zip(questions, found, strict=True):
                one.log_yes, one.log_no, one.score, one.done = log_yes, log_no, score, True

    def keep(self, slots: Sequence[int]) -> None:
        """Only these slots stay, in this order."""
        self.texts.keep(slots)

    def _likely(self, tokens: Sequence[int], lengths: Sequence[int], first: int) -> Tensor:
        return self.texts.logits_after(tokens, lengths, first).log_softmax(-1)


def _of_spelling(likely: dict[tuple[int, ...], Tensor], spelling: tuple[int, ...]) -> Tensor:
    return torch.stack([likely[spelling[:place]][:, token] for place, token in enumerate(spelling)]).sum(0)


__all__ = ["ScoreRunner", "ScoreSequence"]
