"""Sums of texts give what the libraries say of the whole corpus."""

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU

from uniface_ray.core.errors import UserError
from uniface_ray.evaluate import texts
from uniface_ray.evaluate.intervals import Resampled
from uniface_ray.evaluate.texts import COLUMNS, compare, estimates

SAID = ["A young woman with long brown hair is smiling.", "An older man looks serious.", "A boy."]
RIGHT = [
    ["A young woman with brown hair. She is smiling.", "A smiling woman."],
    ["A middle-aged man looks serious at the camera.", "He looks serious."],
    ["A little boy with blond hair.", "A child."],
]


def test_bleu_of_the_sums_is_that_of_the_corpus() -> None:
    sums = Resampled(COLUMNS, resamples=200)
    for number, (said, right) in enumerate(zip(SAID, RIGHT, strict=True)):
        sums.add(np.array([number]), np.array([compare(said, right)]))
    found = estimates(sums, 3)
    corpus = BLEU().corpus_score(SAID, [list(one) for one in zip(*RIGHT, strict=True)])
    assert found["bleu"].value == pytest.approx(corpus.score / 100)
    assert found["bleu"].low <= found["bleu"].value <= found["bleu"].high
    assert 0 < found["rouge_l"].value < 1
    assert 0 < found["chrf"].value < 1


def test_rouge_by_hand() -> None:
    # The longest common subsequence of 4 words ("a young man is") in 5 and 4: P = 4/5, R = 4/4.
    values = dict(zip(COLUMNS, compare("a young man is tall", ["a young man is"]), strict=True))
    assert values["rouge_l"] == pytest.approx(2 * 0.8 / 1.8)
    assert values["bleu_said"] == 5


def test_the_same_text_is_perfect() -> None:
    sums = Resampled(COLUMNS, resamples=10)
    sums.add(np.array([1]), np.array([compare(SAID[0], [SAID[0]])]))
    assert {round(one.value, 9) for one in estimates(sums, 1).values()} == {1.0}


def test_what_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    texts.check_installed("evaluate.reference_column=caption")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"reference_column.*sacrebleu and rouge_score is not installed.*\[evaluate\]"):
        texts.check_installed("evaluate.reference_column")
