"""The unified face model: one Phi transformer over text and image tokens, with MAGVIT-v2 at its side."""

from typing import Any

import torch
from torch import Tensor
from transformers import PhiForCausalLM, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from uniface_ray.model.configuration import UniFaceConfig
from uniface_ray.model.magvit import MagvitV2
from uniface_ray.model.masks import additive, attention_rule


class UniFaceForConditionalGeneration(PreTrainedModel):
    """Understands faces (next text token) and draws them (masked image tokens).

    This is the dense, Show-o-compatible network: transformers' own Phi with QK-norm under the name `showo`, so that
    Show-o's keys load as they are, and the image tokenizer under `magvit`. Letters in shapes: B rows, L positions,
    N image tokens, V vocabulary.
    """

    config_class = UniFaceConfig
    config: UniFaceConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_attention_backend = True
    _no_split_modules = ["PhiDecoderLayer"]  # noqa: RUF012 (transformers reads it off the class)

    def __init__(self, config: UniFaceConfig) -> None:
        super().__init__(config)
        self.showo = PhiForCausalLM(config.backbone_config)
        self.magvit = MagvitV2(config.magvit_config)
        self.post_init()

    def get_input_embeddings(self) -> torch.nn.Module:
        return self.showo.get_input_embeddings()

    def get_output_embeddings(self) -> torch.nn.Module:
        return self.showo.get_output_embeddings()

    @torch.no_grad()
    def encode_images(self, pixel_values: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) in -1..1 -> image codes (B, N) int64, 0 .. codebook_size - 1."""
        return self.magvit.encode(pixel_values.to(self.magvit.dtype))

    @torch.no_grad()
    def decode_images(self, codes: Tensor, shape: tuple[int, int] | None = None) -> Tensor:
        """Image codes (B, h * w) -> pixels (B, 3, H, W), clamped to -1..1."""
        return self.magvit.decode(codes, shape).clamp(-1, 1)

    def place_images(self, input_ids: Tensor, pixel_values: Tensor) -> Tensor:
        """Put the codes of one image a row over the mask tokens of that row.

        Args:
            input_ids: (B, L); a row has N mask tokens where its image goes.
            pixel_values: (B, 3, H, W) in -1..1.

        Raises:
            ValueError: a row does not have exactly N places.
        """
        places = input_ids == self.config.mask_token_id
        counts = places.sum(1)
        if not bool((counts == self.config.num_image_tokens).all()):
            raise ValueError(
                f"rows of input_ids have {counts.tolist()} image places, but every row must have "
                f"{self.config.num_image_tokens}: build them with UniFaceProcessor or `prompts.understanding_ids`"
            )
        codes = self.encode_images(pixel_values).to(input_ids.device) + self.config.image_token_offset
        return input_ids.masked_scatter(places, codes)

    def forward(
        self,
        input_ids: Tensor,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits of text and image tokens.

        Args:
            input_ids: (B, L) int64.
            pixel_values: (B, 3, H, W) in -1..1: images to place over the mask tokens (see `place_images`).
            attention_mask: bool rule (B, 1, L, S), True where a query may see a key. By default Show-o's rule of each
                row's task; the default needs whole rows, so a call that continues a cache must give its own.
            position_ids: (B, L); rotary positions are relative, so left padding needs none.
            past_key_values: a transformers `Cache`.
            labels: (B, L) next-token targets, -100 where there is none.
            use_cache: keep keys and values.
            logits_to_keep: logits of this many last positions only; 0 for all.

        Returns:
            logits (B, L or fewer, V), the loss where labels are given, and the cache.

        Raises:
            ValueError: a filled cache without an attention mask.
        """
        if pixel_values is not None:
            input_ids = self.place_images(input_ids, pixel_values)
        if attention_mask is None:
            if past_key_values is not None and past_key_values.get_seq_length():
                raise ValueError("a call that continues a cache must say what its queries see: give `attention_mask`")
            attention_mask = attention_rule(self.config, input_ids)
        if attention_mask.dtype == torch.bool:
            attention_mask = additive(attention_mask, self.dtype)
        return self.showo(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            labels=labels,
            use_cache=use_cache,
            logits_to_keep=logits_to_keep,
            **kwargs,
        )


__all__ = ["UniFaceForConditionalGeneration"]
