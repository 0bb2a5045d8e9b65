"""What learns, as whole tensors and back: weights, the optimizer's averages, and the average of the weights."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from uniface_ray.train.checkpoint import State
from uniface_ray.train.ema import Average
from uniface_ray.train.parallel import World


class Snapshot:
    """Reads and writes all that learns of one model.

    Args:
        world: all workers; every method is called by each of them.
        model: wrapped by `World.wrap` already, so that its parameters are what they will be.
        optimizer: of the model.
        average: of its weights.
        names: of the parameters that a checkpoint holds.
    """

    def __init__(
        self, world: World, model: nn.Module, optimizer: torch.optim.Optimizer, average: Average, names: Sequence[str]
    ) -> None:
        self._world, self._optimizer, self._average = world, optimizer, average
        parameters = dict(model.named_parameters())
        self._parameters = {name: parameters[name] for name in names}

    def take(self) -> dict[str, dict[str, Tensor]]:
        """Copies on the CPU of the first worker; nothing on the others."""
        whole = self._world.whole
        return {
            "weights": whole(self._parameters.items()),
            "optimizer": whole(self._moments()),
            "ema": whole(self._average.values.items()),
        }

    def fill(self, state: State, moments: bool) -> None:
        """Put in what the first worker has in `state`.

        Args:
            state: after some step.
            moments: the optimizer's averages too; False begins with new ones.
        """
        tensors = state.tensors
        self._world.fill(self._parameters.items(), tensors.get("weights", {}))
        averages = self._average.values
        kept = [name for name in self._world.told([*tensors.get("ema", {})]) if name in averages]
        self._world.fill([(name, averages[name]) for name in kept], tensors.get("ema", {}))
        for name in averages.keys() - set(kept):
            averages[name].copy_(self._parameters[name].detach())
        if moments:
            self._fill_moments(tensors.get("optimizer", {}))

    def _moments(self) -> list[tuple[str, Tensor]]:
        """By `<parameter>/<which>`."""
        named = {id(parameter): name for name, parameter in self._parameters.items()}
        found = [
            (f"{named[id(parameter)]}/{which}", value)
            for parameter, values in self._optimizer.state.items()
            for which, value in values.items()
        ]
        return sorted(found, key=lambda one: one[0])

    def _fill_moments(self, values: dict[str, Tensor]) -> None:
        targets = []
        for key in self._world.told([*values]):
            name, _, which = key.rpartition("/")
            parameter = self._parameters[name]
            moment = torch.zeros(()) if which == "step" else torch.zeros_like(parameter.detach())
            self._optimizer.state[parameter][which] = moment
            targets.append((key, moment))
        self._world.fill(targets, values)
