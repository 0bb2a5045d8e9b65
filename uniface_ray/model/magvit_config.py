"""Configuration of the MAGVIT-v2 image tokenizer."""

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig


@strict
class MagvitV2Config(PreTrainedConfig):
    r"""Sizes of the tokenizer; the defaults are Show-o's `showlab/magvitv2` (95.4 M parameters, 16x down, 8,192 codes).

    Args:
        image_size: height and width in pixels that the processor makes of an image.
        base_channels: channels of the first level; a level has `base_channels * multiplier`.
        encoder_multipliers: channel multiplier of each encoder level, from full resolution down.
        encoder_blocks: residual blocks of each encoder level.
        decoder_multipliers: the same for the decoder (index 0 is full resolution; it runs from the last to the first).
        decoder_blocks: residual blocks of each decoder level.
        latent_bits: bits of a code; the codebook has `2 ** latent_bits` entries.
        norm_groups: groups of every GroupNorm.
    """

    model_type = "uniface_magvit_v2"
    base_config_key = "magvit_config"

    image_size: int = 256
    base_channels: int = 128
    encoder_multipliers: list[int] | tuple[int, ...] = (1, 2, 2, 4, 4)
    encoder_blocks: list[int] | tuple[int, ...] = (4, 3, 4, 3, 4)
    decoder_multipliers: list[int] | tuple[int, ...] = (1, 1, 2, 2, 4)
    decoder_blocks: list[int] | tuple[int, ...] = (4, 4, 3, 4, 3)
    latent_bits: int = 13
    norm_groups: int = 32

    def __post_init__(self, **kwargs: object) -> None:
        super().__post_init__(**kwargs)
        levels = {
            len(self.encoder_multipliers),
            len(self.encoder_blocks),
            len(self.decoder_multipliers),
            len(self.decoder_blocks),
        }
        if len(levels) != 1:
            raise ValueError(
                "encoder_multipliers, encoder_blocks, decoder_multipliers and decoder_blocks must have one entry a "
                f"level, but have {sorted(levels)} entries: give all four the same length"
            )
        if self.image_size % self.downsampling:
            raise ValueError(
                f"image_size is {self.image_size}, but must be a multiple of {self.downsampling} "
                f"(2 ** (levels - 1)): round it"
            )

    @property
    def downsampling(self) -> int:
        """Pixels of an image's side that one token covers."""
        return 2 ** (len(self.encoder_multipliers) - 1)

    @property
    def grid_size(self) -> int:
        """Tokens along an image's side at `image_size`."""
        return self.image_size // self.downsampling

    @property
    def codebook_size(self) -> int:
        """Number of different image codes."""
        return 2**self.latent_bits


__all__ = ["MagvitV2Config"]
