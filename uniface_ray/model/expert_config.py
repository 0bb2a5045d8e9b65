"""Configurations of the experts and of the encoder that knows identities."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

FEATURE_EXPERTS = ("semantic", "identity", "noise")
SEQUENCE_EXPERTS = (*FEATURE_EXPERTS, "copy", "zero")

# OpenAI's statistics, those of CLIP's released weights.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@strict
class TokenExpertsConfig(PreTrainedConfig):
    r"""Experts in place of the feed-forward network: one set for understanding, one for generation (UniF²ace §3).

    The paper's figure says 8 routed experts a group, top 4, and one shared expert. Widths, gate normalisation and the
    weight of the balance loss are not stated by the paper; the default widths give its 1.8 billion parameters.

    Args:
        routed: routed experts of a group.
        active: routed experts that a token passes through, top-K.
        width: hidden units of a routed expert.
        shared_width: hidden units of a group's shared expert, which every token of the group passes through.
        normalize_gates: the gates of the chosen experts sum to 1. False keeps their softmax probabilities, as
            DeepSeekMoE does.
        balance_weight: λ of the balance loss in the model's own loss.
    """

    model_type = "uniface_token_experts"

    routed: int = 8
    active: int = 4
    width: int = 512
    shared_width: int = 2048
    normalize_gates: bool = False
    balance_weight: float = 0.01

    def __post_init__(self, **kwargs: object) -> None:
        if not 1 <= self.active <= self.routed:
            raise ValueError(f"token_experts.active is {self.active}, but it must be 1 to routed = {self.routed}")
        super().__post_init__(**kwargs)


@strict
class SequenceExpertsConfig(PreTrainedConfig):
    r"""Experts over the whole sequence of image tokens, after the token-level ones (UniF²ace §3).

    The slots and top 2 are the paper's. Pooling, gate normalisation, and the resampler's form and width are not stated
    by the paper, nor is the CLIP it used; Show-o's reads the last layer but one of ViT-L/14-336.

    Args:
        understanding: experts that rows which read an image choose from; see `SEQUENCE_EXPERTS`.
        generation: experts that rows which draw choose from, as many.
        active: experts a sequence is given, top-K.
        normalize_gates: the gates of the chosen experts sum to 1; False keeps their softmax probabilities.
        pooling: what the router sees of the image tokens: their `mean`, or the `first`.
        resampler_width: channels of the resampled features, before a layer projects them to its own width.
        resampler_heads: attention heads of a resampler.
        semantic_layer: which of the semantic encoder's `hidden_states` are its features.
        semantic_mean: what is subtracted from 0..1 pixels for the semantic encoder.
        semantic_std: what they are then divided by.
    """

    model_type = "uniface_sequence_experts"

    understanding: list[str] | tuple[str, ...] = ("semantic", "identity", "copy", "copy")
    generation: list[str] | tuple[str, ...] = ("copy", "zero", "noise", "copy")
    active: int = 2
    normalize_gates: bool = True
    pooling: str = "mean"
    resampler_width: int = 256
    resampler_heads: int = 4
    semantic_layer: int = -2
    semantic_mean: list[float] | tuple[float, ...] = CLIP_MEAN
    semantic_std: list[float] | tuple[float, ...] = CLIP_STD

    def __post_init__(self, **kwargs: object) -> None:
        slots = (*self.understanding, *self.generation)
        unknown = sorted({slot for slot in slots if slot not in SEQUENCE_EXPERTS})
        if unknown:
            raise ValueError(
                f"sequence_experts names {', '.join(unknown)}, but there are {', '.join(SEQUENCE_EXPERTS)}"
            )
        if len(self.understanding) != len(self.generation):
            raise ValueError("sequence_experts.understanding and .generation must have as many experts each")
        if not 1 <= self.active <= len(self.understanding):
            raise ValueError(
                f"sequence_experts.active is {self.active}, but it must be 1 to {len(self.understanding)}, the experts "
                "of a group"
            )
        if self.pooling not in ("mean", "first"):
            raise ValueError(f"sequence_experts.pooling is {self.pooling!r}, but it must be 'mean' or 'first'")
        super().__post_init__(**kwargs)

    @property
    def feature_experts(self) -> tuple[str, ...]:
        """The experts in use that mix features into the sequence."""
        return tuple(name for name in FEATURE_EXPERTS if name in (*self.understanding, *self.generation))


@strict
class IdentityConfig(PreTrainedConfig):
    r"""The encoder that knows identities: AdaFace's IR-ResNet, or any face recogniser in ONNX.

    The default is AdaFace's IR-50; `blocks=[3, 13, 30, 3]` is its IR-101. The published UniF²ace used AntelopeV2, whose
    `glintr100.onnx` runs with `onnx_path` and `bgr=False`.

    Args:
        image_size: pixels of the side of its square input.
        crop: share of the side of the model's image that is cut out of its middle for it. Recognisers are trained on
            faces aligned by landmarks; this is the nearest to it that needs none.
        bgr: channels in this order, else RGB.
        widths: channels of the stem and of the four stages.
        blocks: residual blocks of the stages, the first of each of stride 2.
        embedding_size: length of the embedding.
        output: `map` gives the cells of the last stage as features, `embedding` one vector of unit length.
        onnx_path: file of an ONNX model to run instead; its output is one embedding, and it is not trained.
    """

    model_type = "uniface_identity"

    image_size: int = 112
    crop: float = 1.0
    bgr: bool = True
    widths: list[int] | tuple[int, ...] = (64, 64, 128, 256, 512)
    blocks: list[int] | tuple[int, ...] = (3, 4, 14, 3)
    embedding_size: int = 512
    output: str = "map"
    onnx_path: str | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        if self.output not in ("map", "embedding"):
            raise ValueError(f"identity_config.output is {self.output!r}, but it must be 'map' or 'embedding'")
        if len(self.widths) != len(self.blocks) + 1:
            raise ValueError("identity_config.widths must have one entry for the stem and one for each of blocks")
        if not 0 < self.crop <= 1:
            raise ValueError(f"identity_config.crop is {self.crop}, but it must be more than 0 and at most 1")
        super().__post_init__(**kwargs)

    @property
    def grid(self) -> int:
        """Cells of the side of the last stage's map."""
        return -(-self.image_size // 2 ** len(self.blocks))

    @property
    def features(self) -> tuple[int, int]:
        """Number and width of the features of one image."""
        if self.onnx_path is not None or self.output == "embedding":
            return 1, self.embedding_size
        return self.grid**2, self.widths[-1]


__all__ = [
    "CLIP_MEAN",
    "CLIP_STD",
    "FEATURE_EXPERTS",
    "SEQUENCE_EXPERTS",
    "IdentityConfig",
    "SequenceExpertsConfig",
    "TokenExpertsConfig",
]
