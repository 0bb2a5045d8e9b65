"""The network, as transformers models. Importing this package registers them with the Auto classes."""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)

from uniface_ray.model.configuration import UniFaceConfig
from uniface_ray.model.magvit import MagvitV2
from uniface_ray.model.magvit_config import MagvitV2Config
from uniface_ray.model.modeling import UniFaceForConditionalGeneration
from uniface_ray.model.processing import UniFaceProcessor

AutoConfig.register(UniFaceConfig.model_type, UniFaceConfig)
AutoConfig.register(MagvitV2Config.model_type, MagvitV2Config)
AutoModel.register(MagvitV2Config, MagvitV2)
AutoModel.register(UniFaceConfig, UniFaceForConditionalGeneration)
AutoModelForImageTextToText.register(UniFaceConfig, UniFaceForConditionalGeneration)
AutoProcessor.register(UniFaceConfig, UniFaceProcessor)
AutoTokenizer.register(UniFaceConfig, fast_tokenizer_class=PreTrainedTokenizerFast)

__all__ = [
    "MagvitV2",
    "MagvitV2Config",
    "UniFaceConfig",
    "UniFaceForConditionalGeneration",
    "UniFaceProcessor",
]
