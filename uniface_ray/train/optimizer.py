"""AdamW, its groups, and the learning rate of each step."""

import math

import torch
from torch import nn

from uniface_ray.core.stages_config import Stage
from uniface_ray.core.train_config import OptimizerConfig

# Tables of vectors, each of which is looked up as it is: pulling them to zero is no regularisation.
_TABLES = ("queries", "places")


def build_optimizer(model: nn.Module, config: OptimizerConfig, stage: Stage) -> torch.optim.AdamW:
    """AdamW over what learns; matrices decay, norms, embeddings, biases and other vectors do not.

    (Show-o means the same, but its filter matches no name of Phi: training/train.py:211-224.)
    """
    tables = {id(one.weight) for one in model.modules() if isinstance(one, nn.Embedding)}
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_table = id(parameter) in tables or name.rpartition(".")[2] in _TABLES or name.endswith("_bias")
            (others if parameter.ndim < 2 or is_table else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=stage.learning_rate,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
    )


def learning_rate(config: OptimizerConfig, stage: Stage, step: int) -> float:
    """Of a step, counted over all stages: a function of nothing else, so that a restart changes nothing."""
    done = step - stage.first
    if done < stage.warmup_steps:
        return stage.learning_rate * (done + 1) / stage.warmup_steps
    along = (done - stage.warmup_steps) / max(1, stage.steps - stage.warmup_steps)
    fallen = {"cosine": 0.5 * (1 + math.cos(math.pi * along)), "linear": 1 - along, "constant": 1.0}[config.decay]
    return stage.learning_rate * (config.floor + (1 - config.floor) * fallen)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The learning rate of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = rate
