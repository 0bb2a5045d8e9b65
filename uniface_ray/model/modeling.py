"""The unified face model: one Phi transformer over text and image tokens, with MAGVIT-v2 at its side."""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GenerationMixin, PhiForCausalLM, PreTrainedModel

from uniface_ray.model.configuration import UniFaceConfig
from uniface_ray.model.encoders import Encoders, SemanticEncoder
from uniface_ray.model.expert_config import CLIP_MEAN, CLIP_STD
from uniface_ray.model.expert_layer import ExpertLayer
from uniface_ray.model.features import ImageFeatures
from uniface_ray.model.fitting import check_loading
from uniface_ray.model.generation import TextGeneration
from uniface_ray.model.magvit import MagvitV2
from uniface_ray.model.masks import additive, attention_rule
from uniface_ray.model.outputs import UniFaceOutput, UniFaceStates
from uniface_ray.model.routing import (
    Images,
    Layout,
    Routing,
    given_features,
    image_positions,
    masked_share,
    placed_images,
    rows_that_draw,
)


class UniFaceForConditionalGeneration(PreTrainedModel, TextGeneration, GenerationMixin):
    """Understands faces (next text token) and draws them (masked image tokens).

    Transformers' own Phi with QK-norm under the name `showo`, so that Show-o's keys load as they are, and the image
    tokenizer under `magvit`. The config says whether the layers are dense, as Show-o's, or have experts, as UniF²ace's;
    what the experts see of an image comes from `encoders`. Letters in shapes: B rows, L positions, D hidden width,
    N image tokens, V vocabulary.
    """

    config_class = UniFaceConfig
    config: UniFaceConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_attention_backend = True
    _no_split_modules = ["PhiDecoderLayer", "ExpertLayer"]  # noqa: RUF012 (transformers reads it off the class)

    def __init__(self, config: UniFaceConfig) -> None:
        super().__init__(config)
        self.showo = PhiForCausalLM(config.backbone_config)
        self.magvit = MagvitV2(config.magvit_config)
        self.has_experts = config.token_experts is not None or config.sequence_experts is not None
        if self.has_experts:
            layers = self.showo.model.layers
            for index in range(len(layers)):
                layers[index] = ExpertLayer(config, index)
        if config.sequence_experts is not None:
            self.encoders = Encoders(config)
        if config.projected_config is not None:
            width, hidden = config.projected_config.hidden_size, config.backbone_config.hidden_size
            self.mm_projector = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden))
            self.clip = SemanticEncoder(config.projected_config, -2, CLIP_MEAN, CLIP_STD)
        self.post_init()

    @classmethod
    def from_pretrained(cls, path: str | Path, *args: Any, output_loading_info: bool = False, **kwargs: Any) -> Any:
        """As every model of transformers, but weights must fit.

        Raises:
            UserError: tensors that are missing, surplus or of another shape, by name.
        """
        kwargs["ignore_mismatched_sizes"] = True  # so that they are told here, by name, with all others
        model, info = super().from_pretrained(path, *args, output_loading_info=True, **kwargs)
        check_loading(info, str(path))
        return (model, info) if output_loading_info else model

    def get_input_embeddings(self) -> nn.Module:
        return self.showo.get_input_embeddings()

    def get_output_embeddings(self) -> nn.Module:
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

    def image_features(self, pixel_values: Tensor) -> ImageFeatures | None:
        """What the experts see of images: computed once, given to every call about them. None for a dense model.

        Args:
            pixel_values: (B, 3, H, W) in -1..1.
        """
        if self.config.projected_config is not None:
            return ImageFeatures(projected=self.mm_projector(self.clip(pixel_values)))
        return self.encoders(pixel_values) if self.config.sequence_experts is not None else None

    def hidden_states(
        self,
        input_ids: Tensor,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool | None = None,
        generation: Tensor | None = None,
        features: ImageFeatures | None = None,
        mask_ratio: Tensor | None = None,
        layout: Layout | None = None,
        **kwargs: Any,
    ) -> UniFaceStates:
        """The last layer's states after the final norm; for errors and other arguments see `forward`.

        Args:
            layout: in place of `generation`, where the caller knows it of all rows: then nothing waits for the device.

        Returns:
            last_hidden_state (B, L, D), the cache, and the balance loss while gradients are on.
        """
        if pixel_values is not None:
            input_ids = self.place_images(input_ids, pixel_values)
            features = self.image_features(pixel_values) if features is None else features
        continues = past_key_values is not None and past_key_values.get_seq_length() > 0
        if attention_mask is None:
            if continues:
                raise ValueError("a call that continues a cache must say what its queries see: give `attention_mask`")
            attention_mask = attention_rule(self.config, input_ids)
        if attention_mask.dtype == torch.bool:
            attention_mask = additive(attention_mask, self.dtype)
        if self.has_experts:
            if generation is None and layout is None and continues:
                raise ValueError("a call that continues a cache must say whose experts it uses: give `generation`")
            kwargs["routing"] = self._route(input_ids, generation, features, mask_ratio, layout)
        outputs = self.showo.model(
            **self._embed(input_ids, features),
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
            **kwargs,
        )
        balance = kwargs["routing"].balance if self.has_experts else None
        return UniFaceStates(**outputs, balance_loss=torch.stack(balance).mean(0) if balance else None)

    def _embed(self, input_ids: Tensor, features: ImageFeatures | None) -> dict[str, Tensor]:
        """The ids, or their embeddings (B, L, D) with projected features over the mask tokens."""
        if features is None or features.projected is None:
            return {"input_ids": input_ids}
        places = input_ids == self.config.mask_token_id
        counts, given = places.sum(1).tolist(), features.projected.shape
        if counts != [given[1]] * given[0]:
            raise ValueError(
                f"rows of input_ids have {counts} places for projected features, but the features are {tuple(given)}: "
                "build rows with `prompts.projected_ids`"
            )
        embedded = self.showo.model.embed_tokens(input_ids)
        projected = features.projected.to(embedded.dtype)
        return {"inputs_embeds": embedded.masked_scatter(places[..., None], projected)}

    def _route(
        self,
        input_ids: Tensor,
        generation: Tensor | None,
        features: ImageFeatures | None,
        mask_ratio: Tensor | None,
        layout: Layout | None,
    ) -> Routing:
        if layout is not None:
            generation = torch.full(input_ids.shape[:1], layout.generation, device=input_ids.device)
        elif generation is None:
            generation = rows_that_draw(self.config, input_ids)
        group = None if layout is None else int(layout.generation)
        counted = input_ids != self.config.pad_id
        routing = Routing(generation, counted, group, balance=[] if torch.is_grad_enabled() else None)
        if self.config.sequence_experts is not None:
            if layout is None:
                found = image_positions(self.config, input_ids, generation, features)
            else:
                found = placed_images(self.config, input_ids, layout, features)
            if found is not None:
                ratio = masked_share(self.config, input_ids) if mask_ratio is None else mask_ratio
                seen = given_features(features, self.encoders.of_mask_ratio(ratio))
                routing.images = Images(*found, features=seen)
        return routing

    def image_logits(self, hidden: Tensor) -> Tensor:
        """States (..., D) -> float32 logits of the image codes (..., codebook_size); no other logit is computed."""
        return self._logits(hidden, self.config.image_token_offset, self.config.mask_token_id)

    def text_logits(self, hidden: Tensor) -> Tensor:
        """States (..., D) -> float32 logits of the text ids (..., text_vocab_size); no other logit is computed."""
        return self._logits(hidden, 0, self.config.text_vocab_size)

    def _logits(self, hidden: Tensor, first: int, end: int) -> Tensor:
        head = self.showo.lm_head
        if type(head) is not nn.Linear:  # wrapped, by LoRA for one: its weight alone is not what it computes
            return head(hidden)[..., first:end].float()
        return F.linear(hidden, head.weight[first:end], head.bias[first:end]).float()

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
        generation: Tensor | None = None,
        features: ImageFeatures | None = None,
        mask_ratio: Tensor | None = None,
        **kwargs: Any,
    ) -> UniFaceOutput:
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
            generation: (B,) bool, True for rows that draw: which group of experts a row uses. By default the task
                token tells; a call that continues a cache must say. A dense model ignores it and the next two.
            features: of the rows' images, from `image_features`; by default computed from `pixel_values`.
            mask_ratio: (B,) floats 0..1, the share of image tokens that are masked, for rows that draw; by default
                counted.

        Returns:
            logits (B, L or fewer, V), the cache, the balance loss while gradients are on, and, where labels are given,
            the loss, to which the balance loss of both groups is added with its weight.

        Raises:
            ValueError: a filled cache without an attention mask or, with experts, without `generation`; images without
                features.
        """
        outputs = self.hidden_states(
            input_ids,
            pixel_values=pixel_values,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
            generation=generation,
            features=features,
            mask_ratio=mask_ratio,
            **kwargs,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.showo.lm_head(outputs.last_hidden_state[:, kept])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size)
            if outputs.balance_loss is not None:
                loss = loss + self.config.token_experts.balance_weight * outputs.balance_loss.sum()
        return UniFaceOutput(
            loss=loss,
            logits=logits,
            balance_loss=outputs.balance_loss,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


__all__ = ["UniFaceForConditionalGeneration"]
