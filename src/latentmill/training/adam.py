"""AdamW (Loshchilov & Hutter 2019), of one trial or of a stack whose members have learning rates of their own.

The arithmetic is torch's. Its class is left out: it imports torch.compile, which takes a worker 1.4 s, and takes as
long again as the arithmetic of a small model.

Shapes: M members.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from latentmill.config import TrainingConfig
from latentmill.training.state import Moments, Progress

BETAS, EPSILON = (0.9, 0.999), 1e-8  # as in the paper, and by default in torch


class Adam:
    """Moves `weights` against their gradients, and with them `moments`; of a weight that has none, from zero."""

    def __init__(self, weights: Sequence[Tensor], decay: float, moments: Moments) -> None:
        self.weights, self.decay = weights, decay
        self.moments: Moments = {
            index: {name: value.to(weight.device) for name, value in moments[index].items()}
            if index in moments
            else _zeros(weight)
            for index, weight in enumerate(weights)
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
        moved = [index for index, weight in enumerate(self.weights) if weight.grad is not None]
        averages, squares, steps = (
            [self.moments[index][name] for index in moved] for name in ("exp_avg", "exp_avg_sq", "step")
        )
        adamw(
            [self.weights[index] for index in moved],
            [gradient for weight in self.weights if (gradient := weight.grad) is not None],
            averages,
            squares,
            [],
            steps,
            fused=True,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
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

    def __init__(self, weights: Sequence[Tensor], members: Sequence[Progress]) -> None:
        configs = [member.config for member in members]
        self._weights, self.device = weights, weights[0].device
        self._decays = torch.tensor([config.weight_decay for config in configs], device=self.device)  # (M)
        self._decaying = any(config.weight_decay for config in configs)
        self._norms = torch.tensor([config.clip or math.inf for config in configs], device=self.device)  # (M)
        self._alike = len({_rate_and_decay(config) for config in configs}) == 1
        self._moved = list(weights) if self._alike else [torch.zeros_like(weight) for weight in weights]
        decay = configs[0].weight_decay if self._alike else 0.0
        self._adam = Adam(self._moved, decay, _stacked([member.moments for member in members]))
        self._rates: tuple[Sequence[float], Tensor] = ((), self._decays)  # the last ones, as numbers and (M)

    def zero_grad(self) -> None:
        self._adam.zero_grad()  # where rates differ, it holds on to the gradients of the last step
        for weight in self._weights:
            weight.grad = None

    @torch.no_grad()
    def clip(self) -> None:
        """Scale each member's gradients down to the norm that it may have."""
        gradients = [gradient for weight in self._weights if (gradient := weight.grad) is not None]
        squares = sum(gradient.reshape(len(gradient), -1).square().sum(1) for gradient in gradients)  # (M)
        shares = (self._norms / torch.as_tensor(squares).sqrt().add(1e-6)).clamp(max=1)
        for gradient in gradients:
            gradient.mul_(_over(shares, gradient))

    @torch.no_grad()
    def step(self, rates: Sequence[float]) -> None:
        """At the members' `rates` (M)."""
        if self._alike:
            self._adam.step(rates[0])
            return
        for weight, moved in zip(self._weights, self._moved, strict=True):
            moved.grad = weight.grad
        self._adam.step(1.0)
        if rates is not self._rates[0]:
            self._rates = rates, torch.tensor(rates, device=self.device)
        for weight, moved in zip(self._weights, self._moved, strict=True):
            if weight.grad is None:
                continue
            over = _over(self._rates[1], weight)
            if self._decaying:
                weight.mul_(1 - over * _over(self._decays, weight))
            weight.addcmul_(moved, over)
        torch._foreach_zero_(self._moved)

    def moments(self, row: int) -> Moments:
        """Those of one member, as views."""
        return {
            index: {name: value[row] if value.dim() else value for name, value in of.items()}
            for index, of in self._adam.moments.items()
        }


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
        index: {
            name: value.clone() if name == "step" else torch.stack([each[index][name] for each in moments])
            for name, value in of.items()
        }
        for index, of in moments[0].items()
    }


def owned(moments: Moments) -> Moments:
    """Copies of what may be views of a stack that is no more."""
    return {index: {name: value.clone() for name, value in of.items()} for index, of in moments.items()}
