"""The small nets that estimate age, gender and expression of a made face, in torch.

The weights are those of the package `@vladmandic/face-api` (MIT), in the format of TensorFlow.js: a manifest that names
tensors, some of them quantised to bytes, and a file of their bytes. The nets are its `AgeGenderNet` and
`FaceExpressionNet` (tiny Xception and a densely connected net of separable convolutions).
"""

import json
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from uniface_ray.train.tiny.faces import EXPRESSIONS, Estimates

INPUT_SIZE = 112
_MEAN = torch.tensor([122.782, 117.001, 104.298])[None, :, None, None]


class Estimators:
    """Both nets.

    Args:
        folder: holds age_gender_model and face_expression_model, each with its -weights_manifest.json and .bin.

    Raises:
        FileNotFoundError: one of the four files is not there.
        ValueError: a file of weights has not the size that its manifest says.
    """

    def __init__(self, folder: Path) -> None:
        self._age_gender = _Net(_read_weights(folder, "age_gender_model"))
        self._expression = _Net(_read_weights(folder, "face_expression_model"))

    @torch.inference_mode()
    def __call__(self, pixels: Tensor) -> Estimates:
        """The middle of a face (3, 112, 112), 0..255, to its estimates."""
        inputs = (pixels.float()[None] - _MEAN) / 255
        age, p_male = self._read_age_and_gender(inputs)
        chances = self._read_expression(inputs)
        return Estimates(age, p_male, dict(zip(EXPRESSIONS, chances.tolist(), strict=True)))

    def _read_age_and_gender(self, inputs: Tensor) -> tuple[float, float]:
        net = self._age_gender
        seen = net.conv("entry_flow/conv_in", inputs, 2).relu()
        seen = net.reduced("entry_flow/reduction_block_0", seen, activated=False)
        seen = net.reduced("entry_flow/reduction_block_1", seen)
        for block in range(2):
            added = seen
            for layer in range(3):
                added = net.separable(f"middle_flow/main_block_{block}/separable_conv{layer}", added.relu())
            seen = seen + added
        seen = net.reduced("exit_flow/reduction_block", seen)
        seen = net.pooled(net.separable("exit_flow/separable_conv", seen).relu())
        return float(net.linear("fc/age", seen)[0, 0]), float(net.linear("fc/gender", seen).softmax(1)[0, 0])

    def _read_expression(self, inputs: Tensor) -> Tensor:
        net, seen = self._expression, inputs
        for block in range(4):
            name = f"dense{block}/conv"
            first = net.conv(f"{name}0", seen, 2) if block == 0 else net.separable(f"{name}0", seen, 2)
            total = seen = first.relu()
            for layer in (1, 2, 3):
                total = total + net.separable(f"{name}{layer}", seen)
                seen = total.relu()
        return net.linear("fc", net.pooled(seen)).softmax(1)[0]


class _Net:
    """Layers by the names of their weights."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        self.weights = weights

    def conv(self, name: str, inputs: Tensor, stride: int) -> Tensor:
        filters = self.weights[f"{name}/filters"].permute(3, 2, 0, 1)
        return F.conv2d(_padded(inputs, filters.shape[-1], stride), filters, self.weights[f"{name}/bias"], stride)

    def separable(self, name: str, inputs: Tensor, stride: int = 1) -> Tensor:
        deep = self.weights[f"{name}/depthwise_filter"].permute(2, 3, 0, 1)
        point = self.weights[f"{name}/pointwise_filter"].permute(3, 2, 0, 1)
        each = F.conv2d(_padded(inputs, 3, stride), deep, stride=stride, groups=len(deep))
        return F.conv2d(each, point, self.weights[f"{name}/bias"])

    def reduced(self, name: str, inputs: Tensor, activated: bool = True) -> Tensor:
        """Half the side: two separable convolutions and a pooling, beside a strided convolution."""
        deep = self.separable(f"{name}/separable_conv0", inputs.relu() if activated else inputs)
        deep = self.separable(f"{name}/separable_conv1", deep.relu())
        pooled = F.max_pool2d(_padded(deep, 3, 2, -math.inf), 3, 2)
        return pooled + self.conv(f"{name}/expansion_conv", inputs, 2)

    def pooled(self, inputs: Tensor) -> Tensor:
        return F.avg_pool2d(inputs, 7, 2).permute(0, 2, 3, 1).flatten(1)

    def linear(self, name: str, inputs: Tensor) -> Tensor:
        return inputs @ self.weights[f"{name}/weights"] + self.weights[f"{name}/bias"]


def _padded(inputs: Tensor, kernel: int, stride: int, value: float = 0.0) -> Tensor:
    """TensorFlow's padding "same": what is odd goes to the right and the bottom."""
    (top, bottom), (left, right) = (
        (missing // 2, missing - missing // 2)
        for missing in (max((math.ceil(side / stride) - 1) * stride + kernel - side, 0) for side in inputs.shape[-2:])
    )
    return F.pad(inputs, (left, right, top, bottom), value=value)


def _read_weights(folder: Path, name: str) -> dict[str, Tensor]:
    """Tensors of one net by their names, as float32."""
    content = (folder / f"{name}.bin").read_bytes()
    manifest = json.loads((folder / f"{name}-weights_manifest.json").read_text(encoding="utf-8"))
    weights, start = {}, 0
    for entry in (entry for group in manifest for entry in group["weights"]):
        quantised = entry.get("quantization")
        kind = np.dtype((quantised or entry)["dtype"])
        count = math.prod(entry["shape"])
        values = np.frombuffer(content, kind, count, start).astype(np.float32)
        if quantised:
            values = values * np.float32(quantised["scale"]) + np.float32(quantised["min"])
        weights[entry["name"]] = torch.from_numpy(values.reshape(entry["shape"]))
        start += count * kind.itemsize
    if start != len(content):
        raise ValueError(f"{folder / name}.bin has {len(content)} bytes, but its manifest names {start}")
    return weights
