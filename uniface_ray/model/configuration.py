"""Configuration of the unified model and its vocabulary layout."""

from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import CONFIG_MAPPING, AutoConfig, CLIPVisionConfig, PhiConfig, PreTrainedConfig

from uniface_ray.model.expert_config import IdentityConfig, SequenceExpertsConfig, TokenExpertsConfig
from uniface_ray.model.magvit_config import MagvitV2Config

# Show-o adds these after [PAD], in this order (training/prompting_utils.py:20,27).
SPECIAL_TOKENS = (
    "[PAD]",
    "<|soi|>",
    "<|eoi|>",
    "<|sov|>",
    "<|eov|>",
    "<|t2i|>",
    "<|mmu|>",
    "<|t2v|>",
    "<|v2v|>",
    "<|lvg|>",
)


@strict
class UniFaceConfig(PreTrainedConfig):
    r"""One transformer over text and image tokens, with its image tokenizer.

    The vocabulary is laid out as Show-o's: text ids, `[PAD]`, nine task and boundary tokens, the image codes, and the
    image mask token last (58,498 ids at full size). The defaults are Show-o's 256-px model on Phi-1.5.

    Args:
        backbone_config: a `PhiConfig` or its dict; `vocab_size` and `qk_layernorm` are set here.
        magvit_config: a `MagvitV2Config` or its dict.
        text_vocab_size: ids of the text tokenizer, 0 .. text_vocab_size - 1.
        max_text_length: T of the sequence layouts: a text-to-image prompt is cut to T tokens.
        bos_token_id: begins a text; Show-o uses one id for begin, end and `<|sot|>`/`<|eot|>`.
        eos_token_id: ends a text and stops decoding.
        token_experts: a `TokenExpertsConfig` or its dict; None keeps the dense feed-forward network.
        sequence_experts: a `SequenceExpertsConfig` or its dict; None has none.
        semantic_config: of the semantic expert's encoder, any CLIP or SigLIP vision config of transformers, or its
            dict with `model_type`. The default is Show-o's, CLIP ViT-L/14-336.
        projected_config: of a CLIP whose projected patches, of its last layer but one, a row can hold in place of image
            codes, as in Show-o's variants with CLIP; see `prompts.projected_ids`. None has none.
        identity_config: an `IdentityConfig` or its dict, of the identity expert's encoder; the default is IR-50.
    """

    model_type = "uniface"
    sub_configs: ClassVar[dict[str, type[PreTrainedConfig]]] = {
        "backbone_config": PhiConfig,
        "magvit_config": MagvitV2Config,
        "token_experts": TokenExpertsConfig,
        "sequence_experts": SequenceExpertsConfig,
        "semantic_config": AutoConfig,
        "projected_config": AutoConfig,
        "identity_config": IdentityConfig,
    }

    # A config, its dict or None on the way in, as transformers passes them; a config once made.
    backbone_config: Any = None
    magvit_config: Any = None
    text_vocab_size: int = 50295
    max_text_length: int = 128
    bos_token_id: int = 50256
    eos_token_id: int = 50256
    token_experts: Any = None
    sequence_experts: Any = None
    semantic_config: Any = None
    projected_config: Any = None
    identity_config: Any = None
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs: object) -> None:
        if not isinstance(self.magvit_config, PreTrainedConfig):
            self.magvit_config = MagvitV2Config(**(self.magvit_config or {}))
        if not isinstance(self.backbone_config, PreTrainedConfig):
            self.backbone_config = PhiConfig(**(self.backbone_config or {}))
        # Show-o forces QK-norm on, and resizes Phi's embedding to the joint vocabulary.
        self.backbone_config.qk_layernorm = True
        if self.backbone_config.hidden_act == "gelu_new":  # Phi's: the same function, but in eight passes over memory
            self.backbone_config.hidden_act = "gelu_pytorch_tanh"
        self.backbone_config.vocab_size = self.vocab_size
        self.backbone_config.bos_token_id = self.bos_token_id
        self.backbone_config.eos_token_id = self.eos_token_id
        if isinstance(self.token_experts, dict):
            self.token_experts = TokenExpertsConfig(**self.token_experts)
        if isinstance(self.sequence_experts, dict):
            self.sequence_experts = SequenceExpertsConfig(**self.sequence_experts)
        used = () if self.sequence_experts is None else self.sequence_experts.feature_experts
        self.semantic_config = _vision_config(self.semantic_config) if "semantic" in used else None
        if self.projected_config is not None:
            self.projected_config = _vision_config(self.projected_config)
            if self.sequence_experts is not None:
                raise ValueError(
                    "sequence_experts work on image codes, which projected_config replaces: give one of them"
                )
        if "identity" not in used:
            self.identity_config = None
        elif not isinstance(self.identity_config, PreTrainedConfig):
            self.identity_config = IdentityConfig(**(self.identity_config or {}))
        super().__post_init__(**kwargs)

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> PreTrainedConfig:
        """The transformer's config, where transformers' caches and `generate` find its sizes."""
        return self.backbone_config

    @property
    def codebook_size(self) -> int:
        """Number of image codes."""
        return self.magvit_config.codebook_size

    @property
    def num_image_tokens(self) -> int:
        """N of the sequence layouts: tokens of one square image."""
        return self.magvit_config.grid_size**2

    @property
    def image_token_offset(self) -> int:
        """Id of image code 0."""
        return self.text_vocab_size + len(SPECIAL_TOKENS)

    @property
    def mask_token_id(self) -> int:
        """Id of the image mask token, the last of the vocabulary."""
        return self.image_token_offset + self.codebook_size

    @property
    def vocab_size(self) -> int:
        """Ids in all: text, special tokens, image codes and the mask token."""
        return self.mask_token_id + 1

    @property
    def pad_id(self) -> int:
        """Id of `[PAD]`."""
        return self.special_id("[PAD]")

    def special_id(self, token: str) -> int:
        """Id of one of `SPECIAL_TOKENS`, such as `<|mmu|>`."""
        return self.text_vocab_size + SPECIAL_TOKENS.index(token)


def _vision_config(given: Any) -> PreTrainedConfig:
    if isinstance(given, PreTrainedConfig):
        return given
    if not given:
        return CLIPVisionConfig(
            hidden_size=1024,
            intermediate_size=4096,
            num_hidden_layers=24,
            num_attention_heads=16,
            image_size=336,
            patch_size=14,
            projection_dim=768,
        )
    return CONFIG_MAPPING[given.get("model_type", CLIPVisionConfig.model_type)](**given)


__all__ = ["SPECIAL_TOKENS", "UniFaceConfig"]
