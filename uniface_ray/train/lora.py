"""Low-rank adapters of peft, put into the model's layers and merged into their weights again."""

import re
from importlib.util import find_spec
from typing import Any

import torch

from uniface_ray.core.errors import UserError
from uniface_ray.core.stages_config import StagesConfig
from uniface_ray.core.train_config import LoraConfig
from uniface_ray.model.modeling import UniFaceForConditionalGeneration
from uniface_ray.train.trained import FROZEN

_EXPERTS = ("routed.up_proj", "routed.down_proj")


def check_lora(config: LoraConfig, stages: StagesConfig) -> None:
    """Mistakes that can be told without a model.

    Raises:
        UserError: peft is not installed; adapters, and stages that train something else.
    """
    if not config.rank:
        return
    if find_spec("peft") is None:
        raise UserError(
            f'lora.rank is {config.rank}, but adapters need peft: pip install "uniface-ray[peft]", or use lora.rank=0'
        )
    if {*stages.trained} != {"all"}:
        raise UserError(
            f"stages.trained is {list(stages.trained)}, but with lora.rank={config.rank} the adapters alone learn: "
            "leave stages.trained at all, or use lora.rank=0"
        )


def adapt(model: UniFaceForConditionalGeneration, config: LoraConfig, seed: int) -> Any:
    """Put adapters into `model`, in place.

    Args:
        model: whose layers get them; those of its image tokenizer and encoders do not.
        config: of the adapters.
        seed: of their first weights.

    Returns:
        peft's handle on the model, whose `merge_and_unload` ends it; the model itself where `lora.rank` is 0.

    Raises:
        UserError: no layer has such a name.
    """
    if not config.rank:
        return model
    import peft

    settings = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        # An expression: names in a list also mean the layers so called in the encoders.
        target_modules=rf"(?!{FROZEN})(.*\.)?({'|'.join(map(re.escape, config.targets))})",
        target_parameters=[*_EXPERTS] if config.experts else None,
    )
    torch.manual_seed(seed)
    try:
        return peft.get_peft_model(model, settings)
    except ValueError as error:
        raise UserError(f"lora.targets is {list(config.targets)}, which peft refuses: {error}") from error


def merged(adapted: Any) -> UniFaceForConditionalGeneration:
    """The model of `adapt`, with what its adapters have learnt in its own weights."""
    return adapted if isinstance(adapted, UniFaceForConditionalGeneration) else adapted.merge_and_unload()
