"""MobileStyleGAN (Belousov 2021, arXiv 2104.04767): random numbers to styles, and styles to faces.

The weights are those of the package `random-face` (Apache-2.0), distilled from StyleGAN2 trained on FFHQ (CC BY-NC-SA
4.0). The last wavelet step, from 512 to 1024 pixels, is left out: its low band is the face at 512.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from uniface_ray.train.synthetic.graph import Graph

STYLE_SIZE = 512
_SLOPE = 0.2


@dataclass(frozen=True)
class _Linear:
    """Weight (out, in) and bias (out,)."""

    weight: Tensor
    bias: Tensor

    def __call__(self, style: Tensor) -> Tensor:
        return self.weight @ style + self.bias


@dataclass(frozen=True)
class _Separable:
    """A depthwise 3 x 3 convolution whose weight is scaled by the style, then a pointwise one with noise."""

    style: _Linear
    depthwise: Tensor
    pointwise: Tensor
    bias: Tensor
    noise: Tensor


class FaceGenerator:
    """Both networks in torch, for a CPU: features are (H, W, C), one face at a time, which is the fastest.

    Args:
        folder: holds MappingNetwork.xml and SynthesisNetwork.xml, and their .bin files.
        dtype: of the features; bfloat16 changes a pixel by 0.4 of 255 on average.
    """

    def __init__(self, folder: Path, dtype: torch.dtype = torch.bfloat16) -> None:
        self.dtype = dtype
        self._mapping = _mapping(Graph(folder / "MappingNetwork.xml"))
        self._read_synthesis(Graph(folder / "SynthesisNetwork.xml"))
        rng = np.random.default_rng(123)
        some = [rng.standard_normal((256, STYLE_SIZE)).astype(np.float32) for _ in range(8)]
        self.mean_style = torch.stack([self.styles(torch.from_numpy(one)).mean(0) for one in some]).mean(0)

    @torch.inference_mode()
    def styles(self, numbers: Tensor) -> Tensor:
        """Normal random numbers (B, 512) to styles (B, 512)."""
        styles = numbers / (numbers.square().mean(1, keepdim=True) + 1e-8).sqrt()
        for layer, gain in self._mapping:
            styles = F.leaky_relu(F.linear(styles, layer.weight, layer.bias), _SLOPE) * gain
        return styles

    def truncated(self, styles: Tensor, truncation: float) -> Tensor:
        """Styles (B, 512) drawn nearer to the mean: more ordinary faces, with fewer faults."""
        return self.mean_style + truncation * (styles - self.mean_style)

    @torch.inference_mode()
    def face(self, style: Tensor) -> Tensor:
        """A style (512,) to a face (3, 512, 512) float32 in -1..1."""
        start = self._start * self._first.style(style)[None, :, None, None]
        cells = F.conv2d(start, self._first.depthwise, self._first.bias, padding=1) + self._first.noise
        features = F.leaky_relu(cells, _SLOPE)[0].permute(1, 2, 0)[..., _wavelet_order(STYLE_SIZE)].to(self.dtype)
        for up, pair in zip(self._ups, self._pairs, strict=True):
            features = _inverse_haar(features * up(style).to(self.dtype))
            for layer in pair:
                features = self._separable(features, layer, style)
        colors = (self._colors * self._colors_style(style)).to(self.dtype)
        bands = F.linear(features, colors).float() + self._colors_bias
        return (bands / 2).permute(2, 0, 1).clamp(-1, 1)

    def _separable(self, features: Tensor, layer: _Separable, style: Tensor) -> Tensor:
        height, width, channels = features.shape
        depthwise = (layer.depthwise * layer.style(style)[:, None, None, None]).to(self.dtype)
        # (1, C, H, W) in channels-last layout, as the features lie in memory.
        image = features.view(1, height, width, channels).permute(0, 3, 1, 2)
        image = F.conv2d(image, depthwise, padding=1, groups=channels)
        rows = image.permute(0, 2, 3, 1).reshape(height * width, channels)
        made = F.linear(rows, layer.pointwise, layer.bias).view(height, width, -1)
        made += layer.noise
        return F.leaky_relu_(made, _SLOPE)

    def _read_synthesis(self, graph: Graph) -> None:
        first, *rest, colors = graph.of_type("Convolution", "GroupConvolution")
        self._start = graph.constants(graph.of_type("Broadcast")[-1])[0]
        noise, bias = _noise_and_bias(graph, first)
        self._first = _Separable(_style_of(graph, first), graph.constants(first)[0], torch.empty(0), bias, noise)
        layers = []
        for number, (deep, point) in enumerate(zip(rest[::2], rest[1::2], strict=True)):
            noise, bias = _noise_and_bias(graph, point)
            # The second of each pair but the last is followed by a wavelet step.
            order = _wavelet_order(len(bias)) if number % 2 and number + 1 < len(rest) // 2 else torch.arange(len(bias))
            layers.append(
                _Separable(
                    _style_of(graph, deep),
                    graph.constants(deep)[0][:, 0],
                    graph.constants(point)[0][order, :, 0, 0].to(self.dtype).contiguous(),
                    bias[order].to(self.dtype),
                    noise[0, 0, :, :, None].to(self.dtype),
                )
            )
        self._pairs = list(zip(layers[::2], layers[1::2], strict=True))
        splits = [name for name in graph.of_type("VariadicSplit") if graph.type(graph.inputs(name)[0]) == "Multiply"]
        self._ups = [_up(_linear(graph, graph.inputs(name)[0])) for name in splits]
        self._colors = graph.constants(colors)[0][:3, :, 0, 0]  # of the low band
        self._colors_style = _style_of(graph, colors)
        self._colors_bias = graph.constants(graph.users(colors)[0])[0].flatten()[:3]


def _mapping(graph: Graph) -> list[tuple[_Linear, float]]:
    layers = []
    for name in graph.of_type("MatMul"):
        plus = next(user for user in graph.users(name) if graph.type(user) == "Add")
        bias = next(source for source in graph.inputs(plus) if graph.type(source) == "Reshape")
        gain = graph.users(graph.users(plus)[0])[0]
        linear = _Linear(graph.constants(name)[0], graph.constants(bias)[0])
        layers.append((linear, float(graph.constants(gain)[0])))
    return layers


def _style_of(graph: Graph, convolution: str) -> _Linear:
    return _linear(graph, graph.inputs(convolution)[0])


def _linear(graph: Graph, product: str) -> _Linear:
    """The layer that gives the scales of a product of scales and features, its constant factor multiplied in."""
    factor = 1.0
    for name in graph.inputs(product):
        while graph.type(name) in ("Reshape", "Multiply"):
            if graph.type(name) == "Multiply" and graph.constants(name):
                factor = float(graph.constants(name)[0].flatten()[0])
            name = graph.inputs(name)[0]
        products = [source for source in graph.inputs(name) if graph.type(source) == "MatMul"]
        if graph.type(name) == "Add" and products:
            weight, bias = graph.constants(products[0])[0], graph.constants(name)[0].flatten()
            return _Linear(weight * factor, bias * factor)
    raise ValueError(
        f"layer {product} of the generator is not scaled by the style: these are not MobileStyleGAN's files"
    )


def _noise_and_bias(graph: Graph, convolution: str) -> tuple[Tensor, Tensor]:
    noisy = graph.users(convolution)[0]
    return graph.constants(noisy)[0], graph.constants(graph.users(noisy)[0])[0].flatten()


def _up(linear: _Linear) -> _Linear:
    order = _wavelet_order(len(linear.bias))
    return _Linear(linear.weight[order] * 0.5, linear.bias[order] * 0.5)


def _wavelet_order(channels: int) -> Tensor:
    """Channels in the order of bands: the low one first, then the three high ones, which lie interleaved."""
    band = channels // 4
    high = band + torch.arange(3 * band).view(band, 3).T.flatten()
    return torch.cat([torch.arange(band), high])


def _inverse_haar(bands: Tensor) -> Tensor:
    """One step of the inverse Haar transform: twice the bands (H, W, 4 C) -> (2 H, 2 W, C)."""
    height, width, channels = bands.shape
    low, down, across, both = bands.view(height, width, 4, channels // 4).unbind(2)
    upper, lower = low + down, low - down
    upper_step, lower_step = across + both, across - both
    made = bands.new_empty(height, 2, width, 2, channels // 4)
    torch.add(upper, upper_step, out=made[:, 0, :, 0])
    torch.sub(upper, upper_step, out=made[:, 0, :, 1])
    torch.add(lower, lower_step, out=made[:, 1, :, 0])
    torch.sub(lower, lower_step, out=made[:, 1, :, 1])
    return made.view(2 * height, 2 * width, channels // 4)
