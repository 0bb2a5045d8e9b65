"""BlazeFace (arXiv 1907.05047), MediaPipe's full-range face detector, in torch: it needs no runtime of its own.

The weights in `assets/blazeface/` are those of MediaPipe's TFLite file; the file's graph, a list of ten kinds of
operations, stands in their metadata and is run as it is.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor

SIDE = 192
_GRID = 48  # anchors a side, one a cell
_POINTS = 6  # after the box: eyes, nose tip, mouth, ears; the person's right before left
_WEIGHTS = Path(__file__).resolve().parents[1] / "assets" / "blazeface" / "full-range.safetensors"


@dataclass(frozen=True, slots=True)
class Detections:
    """What the network sees in each cell, as it is: not thresholded, overlapping.

    Attributes:
        scores: (N, cells) float32, 0..1.
        boxes: (N, cells, 4) float32, x0 y0 x1 y1 as fractions of the picture's side.
        points: (N, cells, 6, 2) float32, x y likewise: right eye, left eye, nose tip, mouth, right ear, left ear.
    """

    scores: Tensor
    boxes: Tensor
    points: Tensor


class BlazeFace:
    """The network. Runs on the CPU, some 10 ms a picture and core."""

    def __init__(self) -> None:
        with safe_open(_WEIGHTS, "pt") as file:
            graph = json.loads(file.metadata()["graph"])
            self._weights = {int(name): _laid_out(file.get_tensor(name).float()) for name in file.keys()}  # noqa: SIM118
        self._input, self._boxes, self._scores = graph["input"], graph["boxes"], graph["scores"]
        self._operations: list[dict[str, Any]] = graph["ops"]
        steps = (torch.arange(_GRID) + 0.5) / _GRID
        self._anchors = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1).reshape(1, -1, 1, 2)

    @torch.inference_mode()
    def __call__(self, pictures: Tensor) -> Detections:
        """Pictures, uint8 (N, 3, 192, 192) RGB -> detections."""
        values = {**self._weights, self._input: _laid_out(pictures.float() / 127.5 - 1)}
        for step in self._operations:
            values[step["out"]] = _run(step, [values[index] for index in step["in"]])
        # (N, cells, 16): centre, width and height, then the points, in pixels from the anchor.
        raw = values[self._boxes].reshape(len(pictures), -1, 2 + _POINTS, 2) / SIDE
        centre, size = raw[:, :, :1] + self._anchors, raw[:, :, 1:2]
        boxes = torch.cat([centre - size / 2, centre + size / 2], -1)[:, :, 0]
        scores = values[self._scores][..., 0].clamp(-100, 100).sigmoid()
        return Detections(scores, boxes, raw[:, :, 2:] + self._anchors)


@lru_cache(maxsize=1)
def blazeface() -> BlazeFace:
    """The process's network."""
    return BlazeFace()


def _laid_out(x: Tensor) -> Tensor:
    """Channels last, which halves the time."""
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def _run(step: dict[str, Any], inputs: list[Tensor]) -> Tensor:
    x = inputs[0]
    match step["op"]:
        case "conv_2d":
            return F.conv2d(_padded(x, inputs[1], step), inputs[1], inputs[2], step["stride"])
        case "depthwise_conv_2d":
            return F.conv2d(_padded(x, inputs[1], step), inputs[1], inputs[2], step["stride"], groups=x.shape[1])
        case "relu":
            return x.relu()
        case "add":
            return x + inputs[1]
        case "max_pool_2d":
            return F.max_pool2d(x, step["stride"])
        case "pad":  # channels
            return F.pad(x, (0, 0, 0, 0, 0, step["channels"]))
        case "resize_bilinear":
            return F.interpolate(x, step["size"], mode="bilinear")
        case "reshape":  # (N, C, H, W) -> (N, H * W * boxes of a cell, last)
            return x.permute(0, 2, 3, 1).reshape(len(x), -1, step["last"])
        case "concatenation":
            return torch.cat(inputs, 1)
    raise ValueError(f"no operation {step['op']!r}")


def _padded(x: Tensor, weight: Tensor, step: dict[str, Any]) -> Tensor:
    """TensorFlow's SAME padding: what is uneven goes to the right and below."""
    if not step["same"]:
        return x
    stride = step["stride"]
    (top, bottom), (left, right) = (
        (total // 2, total - total // 2)
        for size, kernel in zip(x.shape[2:], weight.shape[2:], strict=True)
        for total in [max(0, (-(-size // stride) - 1) * stride + kernel - size)]
    )
    return F.pad(x, (left, right, top, bottom))
