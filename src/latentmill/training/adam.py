"""AdamW (Loshchilov & Hutter 2019), for one trial or for a pack whose members have their own learning rates.

The arithmetic is torch's. Its class is not used: it imports torch.compile, which takes a worker 1.4 s, and its overhead
is as large as the arithmetic of a small model.

Shapes: M members.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from latentmill.config import TrainingConfig
from latentmill.contract import Phase
from latentmill.training.state import Moments, TrainingState

_adamw = partial(adamw, fused=True, amsgrad=False, maximize=False, eps=1e-8)  # as in the paper, and by default in torch


class Adam:
    """Updates `weights` and their `moments`, which are zero at first for a weight that has none."""

    def __init__(
        self, weights: Mapping[str, Tensor], decay: float, betas: tuple[float, float], moments: Moments
    ) -> None:
        self.weights, self.decay, self.betas = list(weights.values()), decay, betas
        self.moments: Moments = {
            name: {key: value.to(weight.device) for key, value in (moments.get(name) or _zeros(weight)).items()}
            for name, weight in weights.items()
        }

    def zero_grad(self) -> None:
        for weight in self.weights:
            weight.grad = None

    def clip(self, norm: float) -> None:
        """Scale the gradients down to a global norm of at most `norm`."""
        torch.nn.utils.clip_grad_norm_(self.weights, norm)

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """A weight without a gradient keeps its value."""
        pairs = zip(self.weights, self.moments.values(), strict=True)
        updated = [(weight, moments) for weight, moments in pairs if weight.grad is not None]
        weights = [weight for weight, _ in updated]
        averages, squares, steps = ([each[key] for _, each in updated] for key in ("exp_avg", "exp_avg_sq", "step"))
        numbers: dict[str, Any] = {
            "lr": rate,
            "weight_decay": self.decay,
            "beta1": self.betas[0],
            "beta2": self.betas[1],
        }
        _adamw(weights, gradients(weights), averages, squares, [], steps, **numbers)

    def member_moments(self, row: int) -> Moments:
        return self.moments


class PackedAdam:
    """For packed weights (M, …), with a learning rate and a weight decay for each member.

    torch's `adamw` takes one rate for a tensor. Where rates differ, it is applied to zeros at a rate of 1, which gives
    the direction of each step; this class then adds the direction to the weights, at each member's rate.
    """

    def __init__(self, weights: Mapping[str, Tensor], phase: Phase, states: Sequence[TrainingState]) -> None:
        configs = [state.config for state in states]
        self.weights = list(weights.values())
        self._decays = torch.tensor([config.weight_decay for config in configs], device=self.weights[0].device)  # (M)
        self._decaying = any(config.weight_decay for config in configs)
        self._norms = self._decays.new_tensor([config.clip or math.inf for config in configs])  # (M)
        self._has_one_rate = len({_rates_over_time(config) for config in configs}) == 1
        if not self._has_one_rate:
            weights = {name: torch.zeros_like(weight) for name, weight in weights.items()}  # the directions
        decay = configs[0].weight_decay if self._has_one_rate else 0.0
        moments = _stack([phase_moments(phase, state.moments) for state in states])
        self._adam = Adam(weights, decay, phase.betas, moments)
        self._rates: tuple[Sequence[float], Tensor] = ((), self._decays)  # of the last step, as numbers and (M)

    def zero_grad(self) -> None:
        self._adam.zero_grad()  # where rates differ, its directions refer to the gradients of the last step
        for weight in self.weights:
            weight.grad = None

    @torch.no_grad()
    def clip(self) -> None:
        """Scale each member's gradients down to its largest norm."""
        found = gradients(self.weights)
        squares = sum(gradient.reshape(len(gradient), -1).square().sum(1) for gradient in found)  # (M)
        shares = (self._norms / torch.as_tensor(squares).sqrt().add(1e-6)).clamp(max=1)
        for gradient in found:
            gradient.mul_(_expand(shares, gradient))

    @torch.no_grad()
    def step(self, rates: Sequence[float]) -> None:
        """At the members' `rates` (M)."""
        if self._has_one_rate:
            self._adam.step(rates[0])
            return
        directions = self._adam.weights
        for weight, direction in zip(self.weights, directions, strict=True):
            direction.grad = weight.grad
        self._adam.step(1.0)
        if rates != self._rates[0]:
            self._rates = rates, self._decays.new_tensor(rates)
        for weight, direction in zip(self.weights, directions, strict=True):
            if weight.grad is None:
                continue
            rate = _expand(self._rates[1], weight)
            if self._decaying:
                weight.mul_(1 - rate * _expand(self._decays, weight))
            weight.addcmul_(direction, rate)
        torch._foreach_zero_(directions)

    def member_moments(self, row: int) -> Moments:
        """The moments of one member, as views."""
        return {
            name: {key: value[row] if value.dim() else value for key, value in moments.items()}
            for name, moments in self._adam.moments.items()
        }


def gradients(weights: Sequence[Tensor]) -> list[Tensor]:
    """The gradients of those weights that have one."""
    return [gradient for weight in weights if (gradient := weight.grad) is not None]


def phase_moments(phase: Phase, moments: Moments) -> Moments:
    """The moments of one phase, by parameter; a trial's are named `<phase>/<parameter>`."""
    prefix = f"{phase.name}/"
    return {name.removeprefix(prefix): each for name, each in moments.items() if name.startswith(prefix)}


def _rates_over_time(config: TrainingConfig) -> tuple[Any, ...]:
    """Equal for configs whose learning rates and decays are equal at every step."""
    length = (config.epochs, config.max_steps) if config.schedule != "constant" or config.warmup else ()
    return config.learning_rate, config.weight_decay, config.schedule, config.warmup, *length


def _zeros(weight: Tensor) -> dict[str, Tensor]:
    return {
        "exp_avg": torch.zeros_like(weight),
        "exp_avg_sq": torch.zeros_like(weight),
        "step": torch.zeros((), device=weight.device),
    }


def _expand(values: Tensor, weight: Tensor) -> Tensor:
    """(M) -> (M, 1, …), with as many dimensions as a packed weight."""
    return values.view(-1, *[1] * (weight.dim() - 1))


def _stack(members: Sequence[Moments]) -> Moments:
    """The moments of a pack; the step, a scalar, is the same for all members."""
    return {
        name: {
            key: value.clone() if key == "step" else torch.stack([each[name][key] for each in members])
            for key, value in moments.items()
        }
        for name, moments in members[0].items()
    }


def copied(moments: Moments) -> Moments:
    """Copies of moments that may be views of a former pack."""
    return {name: {key: value.clone() for key, value in each.items()} for name, each in moments.items()}
