"""AdamW (Loshchilov & Hutter 2019), of one trial or of a pack whose members have learning rates of their own.

The arithmetic is torch's. Its class is left out: it imports torch.compile, which takes a worker 1.4 s, and takes as
long again as the arithmetic of a small model.

Shapes: M members.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from latentmill.config import TrainingConfig
from latentmill.contract import Phase
from latentmill.training.state import Moments, TrainingState

EPSILON = 1e-8  # as in the paper, and by default in torch


class Adam:
    """Moves `weights` against their gradients, and with them `moments`; of a weight that has none, from zero."""

    def __init__(
        self, weights: Mapping[str, Tensor], decay: float, betas: tuple[float, float], moments: Moments
    ) -> None:
        self.weights, self.decay, self.betas = list(weights.values()), decay, betas
        self.moments: Moments = {
            name: {key: value.to(weight.device) for key, value in moments[name].items()}
            if name in moments
            else _zeros(weight)
            for name, weight in weights.items()
        }

    def zero_grad(self) -> None:
        for weight in self.weights:
            weight.grad = None

    def clip(self, norm: float) -> None:
        """Scale the gradients down to that norm of all together."""
        torch.nn.utils.clip_grad_norm_(self.weights, norm)

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """A weight that has no gradient stays where it is."""
        moved = [weight for weight in self.weights if weight.grad is not None]
        moments = [
            of for weight, of in zip(self.weights, self.moments.values(), strict=True) if weight.grad is not None
        ]
        averages, squares, steps = ([of[name] for of in moments] for name in ("exp_avg", "exp_avg_sq", "step"))
        adamw(
            moved,
            gradients(moved),
            averages,
            squares,
            [],
            steps,
            fused=True,
            amsgrad=False,
            beta1=self.betas[0],
            beta2=self.betas[1],
            lr=rate,
            weight_decay=self.decay,
            eps=EPSILON,
            maximize=False,
        )


class PackedAdam:
    """On stacked weights (M, …), with a learning rate and a weight decay for each member.

    torch's takes one rate for a tensor. So where rates differ it moves zeros at a rate of 1, which gives the direction
    of each step, and what is left to do here is to go there, each member at its own rate.
    """

    def __init__(self, weights: Mapping[str, Tensor], phase: Phase, states: Sequence[TrainingState]) -> None:
        configs = [state.config for state in states]
        self.weights = list(weights.values())
        self._decays = torch.tensor([config.weight_decay for config in configs], device=self.weights[0].device)  # (M)
        self._decaying = any(config.weight_decay for config in configs)
        self._norms = self._decays.new_tensor([config.clip or math.inf for config in configs])  # (M)
        self._alike = len({_rate_and_decay(config) for config in configs}) == 1
        moved = weights if self._alike else {name: torch.zeros_like(weight) for name, weight in weights.items()}
        decay = configs[0].weight_decay if self._alike else 0.0
        self._adam = Adam(moved, decay, phase.betas, _stacked([of_phase(phase, state.moments) for state in states]))
        self._rates: tuple[Sequence[float], Tensor] = ((), self._decays)  # the last ones, as numbers and (M)

    def zero_grad(self) -> None:
        self._adam.zero_grad()  # where rates differ, it holds on to the gradients of the last step
        for weight in self.weights:
            weight.grad = None

    @torch.no_grad()
    def clip(self) -> None:
        """Scale each member's gradients down to the norm that it may have."""
        found = gradients(self.weights)
        squares = sum(gradient.reshape(len(gradient), -1).square().sum(1) for gradient in found)  # (M)
        shares = (self._norms / torch.as_tensor(squares).sqrt().add(1e-6)).clamp(max=1)
        for gradient in found:
            gradient.mul_(_over(shares, gradient))

    @torch.no_grad()
    def step(self, rates: Sequence[float]) -> None:
        """At the members' `rates` (M)."""
        if self._alike:
            self._adam.step(rates[0])
            return
        moved = self._adam.weights
        for weight, move in zip(self.weights, moved, strict=True):
            move.grad = weight.grad
        self._adam.step(1.0)
        if rates != self._rates[0]:
            self._rates = rates, self._decays.new_tensor(rates)
        for weight, move in zip(self.weights, moved, strict=True):
            if weight.grad is None:
                continue
            over = _over(self._rates[1], weight)
            if self._decaying:
                weight.mul_(1 - over * _over(self._decays, weight))
            weight.addcmul_(move, over)
        torch._foreach_zero_(moved)

    def moments(self, row: int) -> Moments:
        """Those of one member, as views."""
        return {
            name: {key: value[row] if value.dim() else value for key, value in of.items()}
            for name, of in self._adam.moments.items()
        }


def gradients(weights: Sequence[Tensor]) -> list[Tensor]:
    """Of those weights that have one."""
    return [gradient for weight in weights if (gradient := weight.grad) is not None]


def of_phase(phase: Phase, moments: Moments) -> Moments:
    """The moments of a phase, by the names of parameters; a trial keeps them with the phase's name before."""
    before = f"{phase.name}/"
    return {name.removeprefix(before): of for name, of in moments.items() if name.startswith(before)}


def named(phase: Phase, moments: Moments) -> Moments:
    """The inverse of `of_phase`."""
    return {f"{phase.name}/{name}": of for name, of in moments.items()}


def _rate_and_decay(config: TrainingConfig) -> tuple[Any, ...]:
    """Equal where learning rates and decays are, at every step."""
    length = (config.epochs, config.max_steps) if config.schedule != "constant" or config.warmup else ()
    return config.learning_rate, config.weight_decay, config.schedule, config.warmup, *length


def _zeros(weight: Tensor) -> dict[str, Tensor]:
    return {
        "exp_avg": torch.zeros_like(weight),
        "exp_avg_sq": torch.zeros_like(weight),
        "step": torch.zeros((), device=weight.device),
    }


def _over(values: Tensor, weight: Tensor) -> Tensor:
    """(M) -> (M, 1, …), with as many dimensions as a stacked weight."""
    return values.view(-1, *[1] * (weight.dim() - 1))


def _stacked(moments: Sequence[Moments]) -> Moments:
    """Of all members; the step, a scalar, is the same of all."""
    return {
        name: {
            key: value.clone() if key == "step" else torch.stack([each[name][key] for each in moments])
            for key, value in of.items()
        }
        for name, of in moments[0].items()
    }


def owned(moments: Moments) -> Moments:
    """Copies of what may be views of a pack that is no more."""
    return {name: {key: value.clone() for key, value in of.items()} for name, of in moments.items()}
