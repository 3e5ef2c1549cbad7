"""Adam for a stack of trials, each with a learning rate of its own. Shapes: M members."""

from collections.abc import Sequence

import torch
from torch import Tensor

from latentmill.training.progress import Moments, Progress


class PackedAdam:
    """AdamW on stacked weights, with a learning rate and a weight decay for each member.

    torch's takes one rate for a tensor. So where rates differ it moves zeros at a rate of 1, which gives the direction
    of each step, and what is left to do here is to go there, each member at its own rate.
    """

    def __init__(self, weights: list[Tensor], members: Sequence[Progress]) -> None:
        configs = [member.config for member in members]
        self._weights, self.device = weights, weights[0].device
        self._rates, self._decays = (
            torch.tensor([getattr(config, name) for config in configs], device=self.device)  # (M)
            for name in ("learning_rate", "weight_decay")
        )
        self._decaying = any(config.weight_decay for config in configs)
        self._alike = len({(config.learning_rate, config.weight_decay) for config in configs}) == 1
        moved = weights if self._alike else [torch.zeros_like(weight) for weight in weights]
        rate, decay = (configs[0].learning_rate, configs[0].weight_decay) if self._alike else (1.0, 0.0)
        self._adam = torch.optim.AdamW(moved, rate, weight_decay=decay, fused=True)
        self._moved = moved
        load(self._adam, _stacked([member.moments for member in members]))

    def zero_grad(self) -> None:
        for weight in self._weights:
            weight.grad = None

    @torch.no_grad()
    def step(self) -> None:
        if self._alike:
            self._adam.step()
            return
        for weight, moved in zip(self._weights, self._moved, strict=True):
            moved.grad = weight.grad
        self._adam.step()
        for weight, moved in zip(self._weights, self._moved, strict=True):
            if weight.grad is None:
                continue
            rates = _over(self._rates, weight)
            if self._decaying:
                weight.mul_(1 - rates * _over(self._decays, weight))
            weight.addcmul_(moved, rates)
            moved.zero_()

    def moments(self, row: int) -> Moments:
        """Those of one member, as views."""
        state = self._adam.state_dict()["state"]
        return {
            index: {name: value[row] if value.dim() else value for name, value in of.items()}
            for index, of in state.items()
        }


def _over(values: Tensor, weight: Tensor) -> Tensor:
    """(M) -> (M, 1, …), with as many dimensions as a stacked weight."""
    return values.view(-1, *[1] * (weight.dim() - 1))


def _stacked(moments: Sequence[Moments]) -> Moments:
    """Of all members; the step, a scalar, is the same of all."""
    return {
        index: {
            name: value if name == "step" else torch.stack([each[index][name] for each in moments])
            for name, value in of.items()
        }
        for index, of in moments[0].items()
    }


def load(optimiser: torch.optim.Optimizer, moments: Moments) -> None:
    optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})


def owned(moments: Moments) -> Moments:
    """Copies of what may be views of a stack that is no more."""
    return {index: {name: value.clone() for name, value in of.items()} for index, of in moments.items()}
