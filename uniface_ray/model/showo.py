"""Load Show-o checkpoints by their own key names."""

import json
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from uniface_ray.core.errors import UserError
from uniface_ray.model.configuration import UniFaceConfig
from uniface_ray.model.fitting import check_weights
from uniface_ray.model.modeling import UniFaceForConditionalGeneration

# What was released: pixels of a side, T of its training, and whether a row reads CLIP's patches in place of codes.
_VARIANTS = {
    "show-o": (256, 128, False),
    "show-o-512x512": (512, 128, False),
    "show-o-512x512-wo-llava-tuning": (512, 128, False),
    "show-o-w-clip-vit": (256, 512, True),
    "show-o-w-clip-vit-512x512": (512, 576, True),
}


def variant(name: str) -> UniFaceConfig:
    """The config of a released checkpoint, by the second half of its name (`show-o-512x512`).

    Raises:
        UserError: another name.
    """
    if name not in _VARIANTS:
        raise UserError(f"there is no Show-o checkpoint {name!r}: the released ones are {', '.join(_VARIANTS)}")
    size, length, with_clip = _VARIANTS[name]
    return UniFaceConfig(
        magvit_config={"image_size": size},
        max_text_length=length,
        projected_config={} if with_clip else None,
    )


def load(
    path: str | Path,
    config: UniFaceConfig,
    magvit: str | Path,
    clip: str | Path | None = None,
    dtype: torch.dtype = torch.float32,
) -> UniFaceForConditionalGeneration:
    """A model with the weights of a released Show-o transformer and MAGVIT-v2 tokenizer.

    Args:
        path: safetensors of the transformer (keys `showo.*`): a file, a sharded checkpoint's index file, or a folder
            that holds either. float32 and bfloat16 both load.
        config: sizes that the weights must fit; see `variant`.
        magvit: safetensors of the tokenizer (keys `encoder.*`, `decoder.*`, `quantize.*`), likewise.
        clip: folder of a CLIP vision model of transformers, for the variants with CLIP, whose files hold the projector
            alone.
        dtype: of the model that comes back.

    Returns:
        The model in eval mode, on the CPU.

    Raises:
        UserError: a path without weights; a tensor that is missing, surplus or of another shape; a CLIP that is not
            given, or not needed.
    """
    if (clip is None) == (config.projected_config is not None):
        raise UserError("give `clip`, the folder of a CLIP, with a config that has projected_config, and only then")
    with torch.device("meta"):
        model = UniFaceForConditionalGeneration(config)
    weights = {key: tensor.to(dtype) for key, tensor in read_weights(path).items()}
    for key, tensor in read_weights(magvit).items():
        weights[f"magvit.{key}"] = tensor.to(dtype) if tensor.is_floating_point() else tensor
    if clip is not None:
        vision = model.clip.model.__class__.from_pretrained(clip, dtype=dtype)
        weights |= {f"clip.model.{key}": tensor for key, tensor in vision.state_dict().items()}
    check_weights(model, {key: tuple(tensor.shape) for key, tensor in weights.items()}, f"{path} and {magvit}")
    # Rotary tables are not in a checkpoint: they are made again from the config, off the meta device.
    model.load_state_dict(weights, assign=True)
    rotary = model.showo.model.rotary_emb
    model.showo.model.rotary_emb = type(rotary)(config.backbone_config)
    if clip is not None:
        model.clip.model = vision  # likewise, for the positions it counts
    return model.eval()


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """All tensors of a safetensors checkpoint: a file, an index file of shards, or a folder with either.

    Raises:
        UserError: nothing to read there.
    """
    weights: dict[str, Tensor] = {}
    for file in _files(Path(path)):
        try:
            with safe_open(file, framework="pt") as tensors:
                weights.update({key: tensors.get_tensor(key) for key in tensors.keys()})  # noqa: SIM118 (not a dict)
        except Exception as error:
            raise UserError(
                f"weights file {file} cannot be read as safetensors ({error}): give a .safetensors file, "
                "or convert the checkpoint with safetensors.torch.save_file"
            ) from error
    return weights


def _files(path: Path) -> list[Path]:
    if path.name.endswith(".index.json"):
        shards = sorted(set(json.loads(path.read_text())["weight_map"].values()))
        return [path.parent / shard for shard in shards]
    if path.is_dir():
        indexes = sorted(path.glob("*.safetensors.index.json"))
        files = _files(indexes[0]) if indexes else sorted(path.glob("*.safetensors"))
    else:
        files = [path] if path.exists() else []
    if not files:
        raise UserError(
            f"no weights at {path}: give a .safetensors file, a .safetensors.index.json, or a folder that holds one"
        )
    return files


__all__ = ["load", "read_weights", "variant"]
