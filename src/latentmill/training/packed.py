"""Several trials as one batched program.

Shapes: M members of a stack, B rows of a batch, C, H, W image.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from latentmill.contract import Batch
from latentmill.data.batches import Batches, Indices
from latentmill.draws import Noise, drawn
from latentmill.training.adam import PackedAdam
from latentmill.training.averages import Averages
from latentmill.training.noise import NoiseAhead
from latentmill.training.state import Progress
from latentmill.training.step import VALIDATION_SEED, Stack, compiled_function, precision


class Packed(Stack):
    """Several trials as one. The members' weights become views of the stacked ones."""

    def __init__(self, members: Sequence[Progress], compiled: bool) -> None:
        self.members = list(members)
        self._model = self.members[0].model  # whose code computes all
        parameters, buffers = stack_module_state([member.model for member in members])
        self._weights = {name: value.detach().requires_grad_() for name, value in parameters.items()}
        state = self._weights | buffers
        self._state = {f"model.{name}": value for name, value in state.items()}  # of a `_Method`
        for row, member in enumerate(members):
            for name, value in itertools.chain(member.model.named_parameters(), member.model.named_buffers()):
                value.data = state[name].data[row]
        self._optimiser = PackedAdam(list(self._weights.values()), self.members)
        self._is_clipped = any(member.config.clip for member in members)
        self._averages = self._averages_of() if any(member.config.ema for member in members) else None
        self._noise = NoiseAhead(self.members)
        self._step = _of_all(self._model, "forward", 0)
        if compiled:
            self._step = compiled_function(self._step, self._optimiser.device)

    def step(self, images: Batches, indices: Indices) -> dict[str, Tensor]:
        step, rates = self._next_step(images)
        batch = {"image": images[indices]}  # (M, B, C, H, W)
        noise = self._noise.next(indices.shape[1])
        whole = indices.shape[1] == self.members[0].config.batch_size
        with precision(self.members[0], images.device):
            terms = (self._step if whole else _of_all(self._model, "forward", 0))(self._state, batch, noise)
        self._optimiser.zero_grad()
        terms = {name: value.mean(1) for name, value in terms.items()}  # (M)
        terms["loss"].sum().backward()  # no member's weights are in another's loss
        if self._is_clipped:
            self._optimiser.clip()
        self._optimiser.step(rates)
        if self._averages:
            self._averages.update(step)
        return {name: value.detach().clone() for name, value in terms.items()}  # a CUDA graph overwrites its own

    @torch.no_grad()
    def criteria(self, val: Batches) -> list[float]:
        """As `validate` does for one: all members see the same images under the same noise."""
        generator = torch.Generator(val.device).manual_seed(VALIDATION_SEED)
        totals = torch.zeros(len(self.members), dtype=torch.float64, device=val.device)
        averages = self._averages.averages if self._averages else {}
        state = self._state | {f"model.{name}": average for name, average in averages.items()}
        criterion = _of_all(self._model, "criterion", None)
        for batch in val.chunks():
            noise = drawn(self._model.draws, len(batch), generator)
            totals += criterion(state, {"image": batch}, noise).sum(1)  # (M)
        return [total / len(val) for total in totals.tolist()]

    def end_epoch(self) -> None:
        for row, member in enumerate(self.members):
            member.moments = self._optimiser.moments(row)
            if self._averages and member.config.ema:
                member.averages = self._averages.of(row)
        self._noise.forget()

    def _averages_of(self) -> Averages:
        """Of all members; of one that asks for none they are its weights."""
        kept = [dict(member.model.named_parameters()) | member.averages for member in self.members]
        stacked = {name: torch.stack([each[name].detach() for each in kept]) for name in self._weights}
        decays = torch.tensor([member.config.ema or 0.0 for member in self.members])  # (M)
        return Averages(self._weights, stacked, decays)


def _of_all(model: nn.Module, method: str, of_each: int | None) -> Callable[..., Any]:
    """A method of all members' models, as a function of their state, batch and noise.

    `of_each` is the dimension of the members in the batch and noise; None where all see the same.
    """
    called = _Method(model, method)

    def one(state: dict[str, Tensor], batch: Batch, noise: Noise) -> Any:
        return functional_call(called, state, (batch, noise))

    return vmap(one, in_dims=(0, of_each, of_each))


class _Method(nn.Module):
    """A model whose `forward` is another of its methods, for `functional_call`."""

    def __init__(self, model: nn.Module, name: str) -> None:
        super().__init__()
        self.model, self.name = model, name

    def forward(self, *arguments: Any) -> Any:
        return getattr(self.model, self.name)(*arguments)
