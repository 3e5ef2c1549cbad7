"""Several trials as one batched program.

Trials that differ by numbers alone have weights of the same shapes. Stacked along a first dimension, one batched
program computes the step of all (`torch.func`), so that they share what a step costs beside its arithmetic. Each
member keeps its own order of the examples, its own noise, learning rate and moments: it ends as it would alone, but for
the rounding of its sums.

Shapes: M members of a pack, B rows of a batch, C, H, W image.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from latentmill.contract import Batch, HasCriterion, Model, Phase, Terms
from latentmill.data.batches import Batches, Indices
from latentmill.draws import Noise, drawn
from latentmill.training.adam import PackedAdam, named
from latentmill.training.averages import Averages, Weights
from latentmill.training.state import TrainingState
from latentmill.training.trainer import VALIDATION_SEED, Trainer, compiled_function, moved_by, precision

Method = Callable[[Any, Batch, Noise], Any]


class PackedTrainer(Trainer):
    """Several trials as one. The members' weights become views of the stacked ones."""

    def __init__(self, members: Sequence[TrainingState], compiled: bool) -> None:
        super().__init__(members)
        self._model = self.members[0].model  # whose code computes all
        parameters, self._buffers = stack_module_state([member.model for member in members])
        self._weights = {name: value.detach().requires_grad_() for name, value in parameters.items()}
        state = self._weights | self._buffers
        self._state = {f"model.{name}": value for name, value in state.items()}  # of a `_Method`
        for row, member in enumerate(members):
            for name, value in itertools.chain(member.model.named_parameters(), member.model.named_buffers()):
                value.data = state[name].data[row]
        self._adams = {
            phase.name: PackedAdam(moved_by(phase, self._weights), phase, self.members) for phase in self.phases
        }
        self._objectives = {phase.name: _of_all(self._model, phase.objective, 0) for phase in self.phases}
        self._compiled = self._objectives
        if compiled:
            device = members[0].noise.device
            self._compiled = {name: compiled_function(each, device) for name, each in self._objectives.items()}
        self._is_clipped = any(member.config.clip for member in members)
        self.averages = self._averages_of_all() if any(member.config.ema for member in members) else None

    def _move(self, phase: Phase, examples: Batches, indices: Indices, noise: Noise, rates: Sequence[float]) -> Terms:
        adam, is_whole = self._adams[phase.name], indices.shape[1] == self.members[0].config.batch_size
        objective = (self._compiled if is_whole else self._objectives)[phase.name]
        with precision(self.members[0], examples.device):
            terms = dict(objective(self._state, examples.batch(indices), noise))  # (M, B)
        for name in phase.buffers:
            self._buffers[name].copy_(terms.pop(name).detach())
        means = {name: value.mean(1) for name, value in terms.items()}  # (M)
        adam.zero_grad()
        means["loss"].sum().backward(inputs=adam.weights)  # no member's weights are in another's loss
        if self._is_clipped:
            adam.clip()
        adam.step(rates)
        return {name: value.detach().clone() for name, value in means.items()}  # a CUDA graph overwrites its own

    @torch.no_grad()
    def criteria(self, val: Batches) -> list[float]:
        """As `validate` does for one: all members see the same examples under the same noise."""
        assert isinstance(self._model, HasCriterion)
        generator = torch.Generator(val.device).manual_seed(VALIDATION_SEED)
        totals = torch.zeros(len(self.members), dtype=torch.float64, device=val.device)
        averages = self.averages.averages if self.averages else {}
        state = self._state | {f"model.{name}": average for name, average in averages.items()}
        criterion = _of_all(self._model, type(self._model).criterion, None)
        for part in val.slices():
            batch = val.batch(part)
            noise = drawn(self._model.criterion_draws, len(batch[val.name]), generator)
            totals += criterion(state, batch, noise).sum(1)  # (M)
        return [total / len(val) for total in totals.tolist()]

    def end_epoch(self) -> None:
        for row, member in enumerate(self.members):
            moments = (named(phase, self._adams[phase.name].moments(row)) for phase in self.phases)
            member.moments = {name: of for each in moments for name, of in each.items()}
            member.averages = self._averages_of(row)
        self._noise.forget()

    def _averages_of(self, row: int) -> Weights:
        return self.averages.of(row) if self.averages and self.members[row].config.ema else {}

    def _averages_of_all(self) -> Averages:
        """Of all members; of one that asks for none they are its weights."""
        kept = [dict(member.model.named_parameters()) | member.averages for member in self.members]
        stacked = {name: torch.stack([each[name].detach() for each in kept]) for name in self._weights}
        decays = torch.tensor([member.config.ema or 0.0 for member in self.members])  # (M)
        return Averages(self._weights, stacked, decays)


def _of_all(model: Model, method: Method, of_each: int | None) -> Callable[..., Any]:
    """A method of all members' models, as a function of their state, batch and noise.

    `of_each` is the dimension of the members in the batch and noise; None where all see the same.
    """
    called = _Method(model, method)

    def one(state: dict[str, Tensor], batch: Batch, noise: Noise) -> Any:
        return functional_call(called, state, (batch, noise))

    return vmap(one, in_dims=(0, of_each, of_each))


class _Method(nn.Module):
    """A model whose `forward` is another of its methods, for `functional_call`."""

    def __init__(self, model: Model, method: Method) -> None:
        super().__init__()
        self.model, self.method = model, method

    def forward(self, batch: Batch, noise: Noise) -> Any:
        return self.method(self.model, batch, noise)
