"""Whether a checkpoint's tensors are those of a model."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from uniface_ray.core.errors import UserError

Shape = tuple[int, ...]


def check_weights(model: nn.Module, given: Mapping[str, Shape], origin: str) -> None:
    """Compare the shapes of a checkpoint's tensors with those of a model.

    Raises:
        UserError: tensors that are missing, surplus or of another shape, by name.
    """
    expected = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    refuse_faults(
        [
            *(f"missing {key} {expected[key]}" for key in sorted(expected.keys() - given.keys())),
            *(f"surplus {key} {given[key]}" for key in sorted(given.keys() - expected.keys())),
            *(
                f"{key} is {given[key]}, config says {expected[key]}"
                for key in sorted(expected.keys() & given.keys())
                if expected[key] != given[key]
            ),
        ],
        origin,
    )


def check_loading(info: Mapping[str, Any], origin: str) -> None:
    """Look at what transformers says of a load.

    Args:
        info: `from_pretrained(..., output_loading_info=True)`'s second half.
        origin: where the weights are.

    Raises:
        UserError: tensors that were missing, surplus or of another shape, by name.
    """
    refuse_faults(
        [
            *(f"missing {key}" for key in sorted(info["missing_keys"])),
            *(f"surplus {key}" for key in sorted(info["unexpected_keys"])),
            *(
                f"{key} is {tuple(given)}, config says {tuple(expected)}"
                for key, given, expected in sorted(info["mismatched_keys"])
            ),
        ],
        origin,
    )


def refuse_faults(faults: list[str], origin: str) -> None:
    """Raise a UserError that names the first of `faults`, if there are any."""
    if faults:
        shown = "; ".join(faults[:8]) + (f"; and {len(faults) - 8} more" if len(faults) > 8 else "")
        raise UserError(f"weights of {origin} do not fit the config: {shown}. Give the config these weights belong to")


__all__ = ["check_loading", "check_weights"]
