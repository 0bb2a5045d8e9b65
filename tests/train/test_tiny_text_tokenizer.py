"""Any text survives the round trip, and the texts of the recipe come in few tokens."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from uniface_ray.train.tiny.text_tokenizer import END_OF_TEXT, load_or_train, text_ids, train_text_tokenizer

TEXTS = ["USER: \nIs this person smiling? ASSISTANT: Yes, she is smiling.", "A young man with brown hair."] * 3


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_text_tokenizer(TEXTS, vocab_size=400)


@settings(max_examples=100)
@given(st.text())
def test_round_trip(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    if "<|" not in text:
        assert tokenizer.decode(text_ids(tokenizer, text), clean_up_tokenization_spaces=False) == text


def test_known_texts_are_short(tokenizer: PreTrainedTokenizerFast) -> None:
    assert len(text_ids(tokenizer, "A young man with brown hair.")) <= 8


def test_size_and_end_token(tokenizer: PreTrainedTokenizerFast) -> None:
    assert len(tokenizer) == 400
    assert tokenizer.bos_token_id == tokenizer.eos_token_id == tokenizer.convert_tokens_to_ids(END_OF_TEXT) == 0


def test_the_saved_one_is_taken_up(tmp_path: Path) -> None:
    first = load_or_train(TEXTS, tmp_path)
    second = load_or_train(["other words altogether"], tmp_path)
    assert first.get_vocab() == second.get_vocab()
