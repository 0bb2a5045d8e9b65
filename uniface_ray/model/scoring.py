"""How well an image and a text fit: the model's own probability of answering "yes", in the style of VQAScore.

VQAScore (arXiv 2404.01291) asks `MATCH_QUESTION` and takes P("Yes" | image, question).
"""

from collections.abc import Sequence
from itertools import permutations
from typing import NamedTuple

import torch
from torch import Tensor

from uniface_ray.model.features import ImageFeatures
from uniface_ray.model.modeling import UniFaceForConditionalGeneration
from uniface_ray.model.prompts import left_pad

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


@torch.inference_mode()
def score_answers(
    model: UniFaceForConditionalGeneration,
    rows: Sequence[Tensor],
    yes: Sequence[Sequence[int]],
    no: Sequence[Sequence[int]],
    features: ImageFeatures | None = None,
) -> AnswerScores:
    """Probabilities of answering yes and no.

    Args:
        model: in eval mode.
        rows: questions of any lengths, see `prompts.understanding_ids`.
        yes: token ids of every spelling of yes, such as those of "Yes" and " yes"; their probabilities are added.
        no: likewise.
        features: of the rows' images, see `UniFaceForConditionalGeneration.image_features`.

    Raises:
        ValueError: an answer without a spelling; a spelling that is empty or begins as another does, so that it would
            count twice.
    """
    spellings = [tuple(one) for one in (*yes, *no)]
    begins = any(one == other[: len(one)] for one, other in permutations(spellings, 2))
    if not yes or not no or () in spellings or begins:
        raise ValueError(f"answers are {list(yes)} and {list(no)}: give each a spelling, none the beginning of another")
    likely = _log_probabilities(model, rows, spellings, features)
    return AnswerScores(likely[:, : len(yes)].logsumexp(1), likely[:, len(yes) :].logsumexp(1))


def _log_probabilities(
    model: UniFaceForConditionalGeneration,
    rows: Sequence[Tensor],
    spellings: Sequence[tuple[int, ...]],
    features: ImageFeatures | None,
) -> Tensor:
    """(R, spellings): one pass for all of one token, and one more for each different beginning of longer ones."""
    passes: dict[tuple[int, ...], Tensor] = {}
    sums = []
    for spelling in spellings:
        begin = spelling[:-1]
        if begin not in passes:
            whole = [torch.cat([row.cpu(), torch.tensor(begin, dtype=torch.int64)]) for row in rows]
            ids = left_pad(whole, model.config.pad_id).to(model.device)
            hidden = model.hidden_states(ids, features=features).last_hidden_state[:, -len(spelling) :]
            passes[begin] = model.text_logits(hidden).log_softmax(-1)
        target = torch.tensor(spelling, device=model.device).expand(len(rows), -1)
        sums.append(passes[begin].gather(-1, target[..., None])[..., 0].sum(1))
    return torch.stack(sums, dim=1)


__all__ = ["MATCH_QUESTION", "AnswerScores", "score_answers"]
