"""A small LLaVA with random weights: a real model of transformers, saved as its users save theirs."""

from pathlib import Path

import torch
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from tests.tiny import tokenizer

TEMPLATE = (
    "{% for turn in messages %}USER: {% for part in turn['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)


def save_llava(folder: Path) -> Path:
    """Of 32-px images and 320 ids."""
    words = tokenizer(300)
    words.add_special_tokens({"additional_special_tokens": ["<image>"]})
    image = words.convert_tokens_to_ids("<image>")
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        tokenizer=words,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = LlamaConfig(**small, vocab_size=320, num_key_value_heads=2, bos_token_id=0, eos_token_id=0, pad_token_id=0)
    vision = CLIPVisionConfig(**small, image_size=32, patch_size=8)
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(LlavaConfig(vision_config=vision, text_config=text, image_token_index=image))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
