"""Texts against reference texts: BLEU and chrF by sacrebleu, ROUGE-L by rouge-score (the extra `evaluate`)."""

import importlib.util
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from uniface_ray.core.errors import UserError
from uniface_ray.evaluate.intervals import Estimate, Floats, Resampled

_ORDER = 4  # of BLEU's n-grams
_BLEU = [f"bleu_{part}_{n}" for part in ("right", "all") for n in range(1, _ORDER + 1)] + ["bleu_said", "bleu_wanted"]
COLUMNS = (*_BLEU, "chrf", "rouge_l", "compared")
"""What each compared text adds to the sums: BLEU's counts, and its own chrF and ROUGE-L."""


def check_installed(setting: str) -> None:
    """Raise UserError where the extra is not there; `setting` is what asks for it."""
    missing = [name for name in ("sacrebleu", "rouge_score") if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"{setting} asks for BLEU, chrF and ROUGE, but {' and '.join(missing)} is not installed: "
            "pip install 'uniface-ray[evaluate]'"
        )


def compare(text: str, references: Sequence[str]) -> list[float]:
    """The columns of one text against one or several references.

    chrF and ROUGE-L, both 0..1, are of the reference that is nearest.
    """
    bleu, chrf, rouge = _metrics()
    counted = bleu.sentence_score(text, list(references))
    letters = chrf.sentence_score(text, list(references)).score / 100
    longest = max(rouge.score(one, text)["rougeL"].fmeasure for one in references)
    return [*counted.counts, *counted.totals, counted.sys_len, counted.ref_len, letters, longest, 1.0]


def bleu_of(sums: Floats) -> float:
    """Corpus BLEU, 0..1, of the sums of BLEU's columns, as sacrebleu smooths it."""
    from sacrebleu.metrics.bleu import BLEU

    counts = [round(count) for count in sums]
    score = BLEU.compute_bleu(counts[:_ORDER], counts[_ORDER:-2], sys_len=counts[-2], ref_len=counts[-1])
    return float(score.score) / 100


def estimates(sums: Resampled, known: int) -> dict[str, Estimate]:
    """BLEU, chrF and ROUGE-L of all compared texts."""

    def bleu(*columns: Floats) -> Floats:
        stacked = np.stack([np.asarray(column) for column in columns], axis=-1)
        return np.apply_along_axis(bleu_of, -1, stacked)

    return {
        "bleu": sums.estimate(bleu, _BLEU, known),
        "chrf": sums.mean("chrf", "compared", known),
        "rouge_l": sums.mean("rouge_l", "compared", known),
    }


@lru_cache(maxsize=1)
def _metrics() -> tuple[Any, Any, Any]:
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    # The counts are those of a corpus all the same; without it sacrebleu warns at every sentence.
    return BLEU(effective_order=True), CHRF(), RougeScorer(["rougeL"], use_stemmer=True)


__all__ = ["COLUMNS", "bleu_of", "check_installed", "compare", "estimates"]
