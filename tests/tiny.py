"""Small real parts for tests: a tokenizer, a model with random weights."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from uniface_ray.model import UniFaceConfig, UniFaceForConditionalGeneration, UniFaceProcessor

END = "<|endoftext|>"


def tokenizer(vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of at most `vocab_size` ids."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=[END], initial_alphabet=alphabet)
    bpe.train_from_iterator(["a young woman with dark hair smiles at us"] * 2, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=END, eos_token=END)


def save(model: UniFaceForConditionalGeneration, folder: Path) -> Path:
    """Write a model of 300 text ids, with a tokenizer."""
    model.save_pretrained(folder)
    UniFaceProcessor(tokenizer(300), model.config).save_pretrained(folder)
    return folder


def save_random_model(folder: Path) -> Path:
    """A model of 32-px images with random weights, fast enough for tests of everything around it."""
    config = UniFaceConfig(
        backbone_config={
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 64,
        },
        magvit_config={
            "image_size": 32,
            "base_channels": 8,
            "encoder_multipliers": [1, 1, 2],
            "encoder_blocks": [1, 1, 1],
            "decoder_multipliers": [1, 1, 2],
            "decoder_blocks": [1, 1, 1],
            "latent_bits": 6,
            "norm_groups": 4,
        },
        text_vocab_size=300,
        max_text_length=16,
        bos_token_id=0,
        eos_token_id=0,
    )
    torch.manual_seed(0)
    return save(UniFaceForConditionalGeneration(config), folder)
