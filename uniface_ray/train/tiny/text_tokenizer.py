"""Trains the byte-level BPE text tokenizer on the recipe's own captions, questions and answers."""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

END_OF_TEXT = "<|endoftext|>"

# Words of other people's questions and prompts, so that they too come in few tokens.
_COMMON_WORDS = """
a photo of the face in front, please tell me about what you can see here; who, where, when, why, how many people?
does he or she wear glasses, sunglasses, earrings, a necklace, lipstick, makeup, a hat, a mask, a scarf or a tie?
has the person a beard, a mustache, sideburns, bangs, freckles, wrinkles, dimples, eyebrows, eyelashes, a pointed nose?
curly wavy straight blonde ginger white silver ponytail; eyes, mouth, lips, teeth, ears, cheeks, chin, neck
happy sad angry afraid surprised worried tired relaxed friendly emotion feeling looking left right up down away camera
is this image real, synthetic, sharp or blurred? describe it briefly, in one sentence, with a word, yes or no, maybe
""".strip().splitlines()


def train_text_tokenizer(texts: Iterable[str], vocab_size: int = 896) -> PreTrainedTokenizerFast:
    """A tokenizer for any text (256 bytes plus merges); `<|endoftext|>` begins and ends a text, as in Show-o.

    Its vocabulary is padded to `vocab_size` with unused tokens where the texts give fewer merges, so that the ids of
    image tokens stay put when the wording grows.
    """
    bpe = Tokenizer(BPE())
    bpe.pre_tokenizer = ByteLevel(add_prefix_space=False)
    bpe.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator((*texts, *_COMMON_WORDS * 2), trainer)
    missing = vocab_size - bpe.get_vocab_size()
    bpe.add_special_tokens([f"<|unused_{index}|>" for index in range(missing)])
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT)


def text_ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Token ids of a text as it stands."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def load_or_train(texts: Iterable[str], folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer in `folder`, trained and saved there first if it is not there yet."""
    if not (folder / "tokenizer.json").exists():
        train_text_tokenizer(texts).save_pretrained(folder)
    loaded: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(folder)
    return loaded
