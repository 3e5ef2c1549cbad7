"""Packed trials: one batched step for several trials (`torch.func.vmap`).

Trials that differ only by real numbers have weights of the same shapes, which are stacked along a first dimension, so
that packed trials share the overhead of a step. Each member keeps its own order of the examples, noise, learning rate
and moments: its result differs from that of a trial trained alone only by rounding.

Shapes: M members of a pack, B rows of a batch, C, H, W image.
"""

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from latentmill.contract import Batch, HasCriterion, Model, Phase, Terms
from latentmill.data.batches import Batches, Indices
from latentmill.draws import Noise
from latentmill.training.adam import PackedAdam
from latentmill.training.averages import Averages, Weights
from latentmill.training.state import TrainingState
from latentmill.training.trainer import (
    Trainer,
    augmented_batch,
    compiled_function,
    mean_over,
    phase_parameters,
    precision,
)

Method = Callable[[Any, Batch, Noise], Any]


class PackedTrainer(Trainer):
    """Trains a pack. The members' weights become views of the packed ones."""

    def __init__(self, members: Sequence[TrainingState], compiled: bool) -> None:
        super().__init__(members)
        self._model = self.members[0].model  # whose code computes every member
        parameters, self._buffers = stack_module_state([member.model for member in members])
        self._weights = {name: value.detach().requires_grad_() for name, value in parameters.items()}
        state = self._weights | self._buffers
        self._state = {f"model.{name}": value for name, value in state.items()}  # of a `_Method`
        for row, member in enumerate(members):
            for name, value in itertools.chain(member.model.named_parameters(), member.model.named_buffers()):
                value.data = state[name].data[row]
        self._adams: dict[str, PackedAdam] = {
            phase.name: PackedAdam(phase_parameters(phase, self._weights), phase, self.members) for phase in self.phases
        }
        self._objectives = {phase.name: _vmapped(self._model, phase.objective, 0) for phase in self.phases}
        self._compiled = self._objectives
        if compiled:
            device = members[0].noise.device
            self._compiled = {name: compiled_function(each, device) for name, each in self._objectives.items()}
        self._is_clipped = any(member.config.clip for member in members)
        self.averages = self._packed_averages() if any(member.config.ema for member in members) else None

    def _batch(self, examples: Batches, indices: Indices, noise: Noise) -> Batch:
        return augmented_batch(examples.batch(indices), noise)

    def _update(self, phase: Phase, batch: Batch, indices: Indices, noise: Noise, rates: Sequence[float]) -> Terms:
        adam, is_whole = self._adams[phase.name], indices.shape[1] == self.members[0].config.batch_size
        objective = (self._compiled if is_whole else self._objectives)[phase.name]
        with precision(self.members[0]):
            terms = dict(objective(self._state, batch, noise))  # (M, B)
        for name in phase.buffers:
            self._buffers[name].copy_(terms.pop(name).detach())
        means = {name: value.mean(1) for name, value in terms.items()}  # (M)
        adam.zero_grad()
        means["loss"].sum().backward(inputs=adam.weights)  # no member's loss depends on another's weights
        if self._is_clipped:
            adam.clip()
        adam.step(rates)
        return {name: value.detach().clone() for name, value in means.items()}  # a CUDA graph overwrites its own

    def criteria(self, val: Batches) -> list[float]:
        """All members see the same examples under the same noise."""
        assert isinstance(self._model, HasCriterion)
        averages = self.averages.averages if self.averages else {}
        state = self._state | {f"model.{name}": average for name, average in averages.items()}
        criterion = partial(_vmapped(self._model, type(self._model).criterion, None), state)  # (M, B)
        means: list[float] = mean_over(val, self._model.criterion_draws, criterion).tolist()
        return means

    def _member_averages(self, row: int) -> Weights:
        return self.averages.member(row) if self.averages and self.members[row].config.ema else {}

    def _packed_averages(self) -> Averages:
        """A member without `ema` has a decay of 0, which makes its averages equal to its weights."""
        initial = [dict(member.model.named_parameters()) | member.averages for member in self.members]
        stacked = {name: torch.stack([each[name].detach() for each in initial]) for name in self._weights}
        decays = torch.tensor([member.config.ema or 0.0 for member in self.members])  # (M)
        return Averages(self._weights, stacked, decays)


def _vmapped(model: Model, method: Method, member_dim: int | None) -> Callable[..., Any]:
    """A method of the members' models, as a function of their packed state, batch and noise.

    `member_dim` is the dimension of the members in the batch and noise; None where all members see the same.
    """
    called = _Method(model, method)

    def one(state: dict[str, Tensor], batch: Batch, noise: Noise) -> Any:
        return functional_call(called, state, (batch, noise))

    return vmap(one, in_dims=(0, member_dim, member_dim))


class _Method(nn.Module):
    """A module whose `forward` is a method of the model, for `functional_call`."""

    def __init__(self, model: Model, method: Method) -> None:
        super().__init__()
        self.model, self.method = model, method

    def forward(self, batch: Batch, noise: Noise) -> Any:
        return self.method(self.model, batch, noise)
