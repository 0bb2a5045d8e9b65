"""The workers of a training, as one of them sees them: alone, with DDP, or with FSDP2."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from uniface_ray.core.train_config import ParallelConfig
from uniface_ray.train.losses import Trainee
from uniface_ray.train.trained import is_trained


class World:
    """All workers: who I am, and what we agree on.

    Small numbers are agreed on through the CPUs, so that no GPU waits for them.

    Args:
        config: settings.
        device: of this worker.
        dtype: of the computation.
    """

    def __init__(self, config: ParallelConfig, device: torch.device, dtype: torch.dtype) -> None:
        self.config, self.device, self.dtype = config, device, dtype
        self.is_many = dist.is_initialized() and dist.get_world_size() > 1
        self.rank = dist.get_rank() if self.is_many else 0
        self.size = dist.get_world_size() if self.is_many else 1
        self._control: Any = None
        if self.is_many and device.type != "cpu":
            self._control = dist.new_group(backend="gloo")

    @property
    def is_first(self) -> bool:
        """This worker writes what there is to write."""
        return self.rank == 0

    def sums(self, numbers: Sequence[float]) -> list[float]:
        """Each number summed over all workers."""
        if not self.is_many:
            return list(numbers)
        tensor = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(tensor, group=self._control)
        total: list[float] = tensor.tolist()
        return total

    def told(self, value: Any) -> Any:
        """What the first worker has for `value`: small, and picklable."""
        if not self.is_many:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self._control)
        return values[0]

    def gathered(self, value: Any) -> list[Any]:
        """What each worker has for `value`, small and picklable; by rank."""
        if not self.is_many:
            return [value]
        values = [None] * self.size
        dist.all_gather_object(values, value, group=self._control)
        return values

    def wrap(self, trainee: Trainee) -> nn.Module:
        """The trainee as this world computes it; parameters of what is sharded change in place."""
        if not self.is_many or self.config.kind == "ddp":
            trainee.to(self.device)
        if not self.is_many:
            return trainee
        if self.config.kind == "ddp":
            # Experts of a kind of row that a batch has none of have no gradient.
            devices = None if self.device.type == "cpu" else [self.device]
            return DistributedDataParallel(
                trainee, device_ids=devices, broadcast_buffers=False, find_unused_parameters=trainee.model.has_experts
            )
        mesh = dist.init_device_mesh(self.device.type, (self.size,))
        policy = MixedPrecisionPolicy(param_dtype=self.dtype, reduce_dtype=torch.float32)
        # What looks at pixels is small beside the rest; while it is frozen, it stays whole.
        named = trainee.model.named_parameters()
        kept = {one for name, one in named if not one.requires_grad and not is_trained(name, "all")}
        for layer in trainee.model.showo.model.layers:
            fully_shard(layer, mesh=mesh, mp_policy=policy, ignored_params=kept)
        fully_shard(trainee, mesh=mesh, mp_policy=policy, ignored_params=kept)
        # What is sharded has gone to the device a layer at a time, so that no GPU ever held all of it.
        for tensor in chain(kept, trainee.buffers()):
            tensor.data = tensor.data.to(self.device)
        return trainee

    def autocast(self) -> AbstractContextManager[Any]:
        """Compute in `dtype`; FSDP does so by itself."""
        if self.dtype == torch.float32 or (self.is_many and self.config.kind == "fsdp"):
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def part(self, module: nn.Module, is_last: bool) -> AbstractContextManager[Any]:
        """Around one part of a worker's share: only the last one passes gradients on."""
        if isinstance(module, FSDPModule):
            module.set_requires_gradient_sync(is_last)
        elif isinstance(module, DistributedDataParallel) and not is_last:
            return module.no_sync()
        return nullcontext()

    def let_go(self, module: nn.Module) -> None:
        """After forward passes without a backward: the next one gathers the weights as they are then.

        FSDP frees those of its root in a backward alone, and would go on with what a look at averages has left there.
        """
        if isinstance(module, FSDPModule):
            module.reshard()

    def whole(self, named: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
        """Tensors, put together from all workers and copied to the CPU of the first; nothing on the others."""
        found = {}
        for name, tensor in named:
            full = tensor.detach()
            full = full.full_tensor() if isinstance(full, DTensor) else full
            if self.is_first:
                found[name] = full.to("cpu", copy=True).contiguous()
        return found

    def fill(self, named: Iterable[tuple[str, Tensor]], values: dict[str, Tensor]) -> None:
        """Write what the first worker has, by name, into the tensors of all."""
        with torch.no_grad():
            for name, tensor in named:
                tensor.copy_(self._own(tensor, values.get(name)))

    def _own(self, tensor: Tensor, value: Tensor | None) -> Tensor:
        """The value that the first worker has, laid out as `tensor` is."""
        if self.is_many:
            value = torch.empty(tensor.shape, dtype=tensor.dtype) if value is None else value.to(tensor.dtype)
            dist.broadcast(value, src=0, group=self._control)
        assert value is not None
        value = value.to(self.device)
        if isinstance(tensor, DTensor):
            return distribute_tensor(value, tensor.device_mesh, tensor.placements, src_data_rank=None)
        return value


def norm_of(parameters: Iterable[nn.Parameter], most: float | None) -> float:
    """The norm of all gradients, which are scaled down to `most`; NaN or infinite where one of them is."""
    norm = nn.utils.clip_grad_norm_(parameters, float("inf") if most is None else most)
    return float((norm.full_tensor() if isinstance(norm, DTensor) else norm).item())


__all__ = ["World", "norm_of"]
