"""What the machine can do, and what a call of the model takes: floating-point operations and bytes."""

import time
from collections.abc import Callable

import torch

from uniface_ray.model import UniFaceConfig


def best_s(call: Callable[[], object], times: int = 5) -> float:
    """Seconds of the fastest of several calls."""
    call()
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def matmul_peak(dtype: torch.dtype, size: int = 2048) -> float:
    """FLOP/s of a product of square matrices."""
    left, right = torch.randn(size, size, dtype=dtype), torch.randn(size, size, dtype=dtype)
    return 2 * size**3 / best_s(lambda: left @ right)


def memory_peak(mib: int = 512) -> float:
    """Bytes read a second from memory that no cache holds."""
    numbers = torch.zeros(mib * 2**18)
    return numbers.nbytes / best_s(numbers.sum)


def layer_flops(config: UniFaceConfig, positions: int, keys: int) -> float:
    """Operations of all layers for `positions` queries that see `keys` keys each; a product and a sum are two."""
    backbone = config.backbone_config
    width, inner = backbone.hidden_size, backbone.intermediate_size
    per_position = 2 * (4 * width**2 + 2 * width * inner) + 4 * keys * width
    return float(backbone.num_hidden_layers * positions * per_position)


def head_flops(config: UniFaceConfig, positions: int, logits: int) -> float:
    """Operations of the head for so many logits at each position."""
    return float(2 * positions * logits * config.backbone_config.hidden_size)


def decode_bytes(config: UniFaceConfig, rows: int, keys: int, item: int = 4) -> float:
    """Bytes that one step of text must read: all weights once, and every row's keys and values."""
    backbone = config.backbone_config
    width = backbone.hidden_size
    weights = backbone.num_hidden_layers * (4 * width**2 + 2 * width * backbone.intermediate_size)
    head = config.text_vocab_size * width
    return float(item * (weights + head + rows * keys * 2 * backbone.num_hidden_layers * width))
