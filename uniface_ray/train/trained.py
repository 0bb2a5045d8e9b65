"""Which parameters a stage trains."""

import re
from collections.abc import Sequence

import torch
from torch import nn

from uniface_ray.core.errors import UserError
from uniface_ray.core.stages_config import Stage
from uniface_ray.model import UniFaceConfig, UniFaceForConditionalGeneration

# The image tokenizer never learns: its codes are made already.
_TOKENIZER = re.compile(r"^magvit\.")
_ENCODERS = re.compile(r"^encoders\.(semantic|identity)\.|^clip\.")
FROZEN = f"{_TOKENIZER.pattern}|{_ENCODERS.pattern}"
"""What the names of weights begin with that stay as they are where `all` is trained."""
_EXPERTS = re.compile(r"\.mlp\.(router|shared|routed)|\.sequence_experts\.|^encoders\.(resamplers|noise)\.")
_ADAPTER = "lora_"


def is_trained(name: str, what: str) -> bool:
    """Whether a parameter learns in a stage that trains `what` (see `StagesConfig.trained`)."""
    if _TOKENIZER.search(name):
        return False
    if what == "everything":
        return True
    if what == "all":
        return not _ENCODERS.search(name)
    if what == "experts":
        return bool(_EXPERTS.search(name))
    return bool(re.search(what, name))


def check_trained(config: UniFaceConfig, stages: Sequence[Stage], has_pixels: bool) -> None:
    """Mistakes of every stage, told before the first of them begins; not for runs with adapters.

    Args:
        config: of the model.
        stages: of the run.
        has_pixels: the rows keep them; else what encoders see of an image is in the data, and they cannot learn.

    Raises:
        UserError: a stage trains nothing, or encoders of which there are only features.
    """
    with torch.device("meta"):
        names = [name for name, _ in UniFaceForConditionalGeneration(config).named_parameters()]
    for stage in stages:
        learns = _learns(names, stage)
        encoders = [name for name in learns if _ENCODERS.search(name)]
        if encoders and not has_pixels:
            raise UserError(
                f"stages.trained is {stage.trained!r} in stage {stage.number}, which trains the image encoders "
                f"({encoders[0]}, ...), but the rows of data.path hold what these see, and no pixels: make them with "
                "`uniface tokenize task.keep=pixels`, or use all, which leaves the encoders as they are"
            )


def _learns(names: Sequence[str], stage: Stage) -> list[str]:
    """Which of a model's parameters learn in a stage without adapters."""
    learns = [name for name in names if is_trained(name, stage.trained)]
    if not learns:
        raise UserError(
            f"stages.trained is {stage.trained!r} in stage {stage.number}, but this model has no such parameter: use "
            "all, experts (of a model with experts), everything, or an expression that fits names such as "
            f"{names[0]}"
        )
    return learns


def saved_names(model: nn.Module, stages: Sequence[Stage]) -> list[str]:
    """Parameters that learn in any of the stages: a checkpoint holds these, the others are the model's own."""
    names = [name for name, _ in model.named_parameters()]
    adapters = [name for name in names if _ADAPTER in name]
    return adapters or [name for name in names if any(is_trained(name, stage.trained) for stage in stages)]


def freeze(model: nn.Module, stage: Stage) -> None:
    """Let learn what the stage trains, or the adapters where there are some, and nothing else."""
    learns = {*saved_names(model, [stage])}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in learns)


def learning(model: nn.Module) -> None:
    """Training mode. Batch norms of encoders keep their statistics in any case: those of a few faces are worse."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eval()
