"""Phi-1.5's tokenizer from GPT-2's two files, for Show-o's checkpoints, which come without one."""

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

END = "<|endoftext|>"


def phi_tokenizer(vocabulary: str | Path, merges: str | Path) -> PreTrainedTokenizerFast:
    """CodeGen's tokenizer, 50,295 ids: GPT-2's 50,257, then 31 to 2 spaces and 9 to 2 tabs.

    Args:
        vocabulary: GPT-2's `vocab.json` (also named encoder.json).
        merges: GPT-2's `merges.txt` (also named vocab.bpe).

    Returns:
        The tokenizer, to be given to `UniFaceProcessor`; begin and end are both `<|endoftext|>`, 50256.
    """
    ids = json.loads(Path(vocabulary).read_text(encoding="utf-8"))
    lines = Path(merges).read_text(encoding="utf-8").splitlines()
    pairs = [(first, second) for first, second in (line.split() for line in lines if line[:8] not in ("", "#version"))]
    bpe = Tokenizer(models.BPE(vocab=ids, merges=pairs))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.add_special_tokens([AddedToken(END, special=True)])
    spaces = [" " * count for count in range(31, 1, -1)] + ["\t" * count for count in range(9, 1, -1)]
    bpe.add_tokens([AddedToken(text, normalized=True) for text in spaces])
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=END, eos_token=END, unk_token=END)


__all__ = ["phi_tokenizer"]
