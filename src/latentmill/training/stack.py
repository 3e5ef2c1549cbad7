"""The trials that a worker trains as one program; as a rule there is but one.

Trials that differ by numbers alone have weights of the same shapes. Stacked along a first dimension, one batched
program computes the step of all (`torch.func`), so that they share what a step costs beside its arithmetic. Each
member keeps its own order of the images, its own noise, learning rate and moments: it ends as it would alone, but for
the rounding of its sums.

Shapes: M members of a stack, B rows of a batch, C, H, W image.
"""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from latentmill.config import TrainingConfig
from latentmill.data.batches import Batches, Indices
from latentmill.draws import Noise, drawn
from latentmill.training.adam import Adam, PackedAdam, owned
from latentmill.training.averages import Averages
from latentmill.training.noise import NoiseAhead
from latentmill.training.progress import Progress, epochs_allowed, steps_an_epoch
from latentmill.training.schedule import factor
from latentmill.training.team import Alone, Forward, Team
from latentmill.variant import Batch, Variant

VALIDATION_SEED = 0  # the same noise at every validation, so that epochs and trials are compared like with like


class Stack(ABC):
    """Trials whose weights have the same shapes, all after the same number of epochs."""

    members: list[Progress]
    _steps: Iterator[tuple[int, list[float]]] | None = None

    def _next_step(self, images: Batches) -> tuple[int, list[float]]:
        """Its number, from 0 over all epochs, and the learning rate of each member."""
        if self._steps is None:
            self._steps = _steps([member.config for member in self.members], self.members[0].epoch, len(images))
        return next(self._steps)

    @abstractmethod
    def step(self, images: Batches, indices: Indices) -> dict[str, Tensor]:
        """A step of Adam on the images at `indices` (M, B); the terms of each member's objective, (M), detached."""

    @abstractmethod
    def losses(self, val: Batches) -> list[float]:
        """Of each member, the mean loss over the validation images."""

    @abstractmethod
    def criteria(self, val: Batches) -> list[float]:
        """Likewise the criterion."""

    @abstractmethod
    def end_epoch(self) -> None:
        """Leave the optimiser's state with the members, to be kept with their weights; noise is left for no other."""


def stack(members: Sequence[Progress], team: Team | None = None, compiled: bool = False) -> Stack:
    """Of one member, which a team may share, or of several; `compiled` by torch.compile, but for a team."""
    return Single(members[0], team or Alone(), compiled) if len(members) == 1 else Packed(members, compiled)


class Single(Stack):
    """One trial: nothing is batched, nothing costs more than it has to."""

    def __init__(self, member: Progress, team: Team, compiled: bool) -> None:
        self.members, self.team = [member], team
        config = member.config
        for value in itertools.chain(member.model.parameters(), member.model.buffers()):
            if value.untyped_storage().nbytes() > value.nbytes:  # a view of a stack that is no more
                value.data = value.data.clone()
        weights = dict(member.model.named_parameters())
        self._optimiser = Adam(list(weights.values()), config.weight_decay, owned(member.moments))
        self._averages = None if config.ema is None else Averages(weights, member.averages, config.ema)
        self._forward: Forward = team.forward_of(member.model)
        self._noise = NoiseAhead(self.members)
        compiled = compiled and isinstance(team, Alone)
        self._compiled = _compile(member.model, member.noise.device) if compiled else None

    def step(self, images: Batches, indices: Indices) -> dict[str, Tensor]:
        (member,) = self.members
        step, rates = self._next_step(images)
        part = self.team.part(indices[0])
        noise = {name: each[0][part.rows] for name, each in self._noise.next(indices.shape[1]).items()}
        with _precision(member, images.device):
            terms = self._terms({"image": images[part.indices]}, noise)
        self._optimiser.zero_grad()
        self.team.scaled(terms["loss"], part).backward()
        if member.config.clip is not None:
            self._optimiser.clip(member.config.clip)
        self._optimiser.step(rates[0])
        if self._averages:
            self._averages.update(step)
        means = {name: self.team.mean(value, part) for name, value in terms.items()}
        return {name: value.clone()[None] for name, value in means.items()}  # a CUDA graph overwrites its own

    def _terms(self, batch: Batch, noise: Noise) -> dict[str, Tensor]:
        """Means over the batch, (), whose last may be smaller."""
        is_whole = len(batch["image"]) == self.members[0].config.batch_size
        forward = self._compiled if self._compiled is not None and is_whole else self._forward
        return {name: value.mean() for name, value in forward(batch, noise).items()}

    def losses(self, val: Batches) -> list[float]:
        model = self.members[0].model
        with self._averaged():
            return [validate(model, lambda batch, noise: model(batch, noise)["loss"], val)]

    def criteria(self, val: Batches) -> list[float]:
        model = self.members[0].model
        with self._averaged():
            return [validate(model, model.criterion, val)]

    def end_epoch(self) -> None:
        self.members[0].moments = self._optimiser.moments
        self.members[0].averages = self._averages.averages if self._averages else {}
        self._noise.forget()

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Within the block the model has the averages of its weights, if there are any."""
        averages = self._averages.averages if self._averages else {}
        own = {name: weight.data for name, weight in self.members[0].model.named_parameters() if name in averages}
        self._give(averages)
        try:
            yield
        finally:
            self._give(own)

    def _give(self, weights: Mapping[str, Tensor]) -> None:
        parameters = dict(self.members[0].model.named_parameters())
        for name, value in weights.items():
            parameters[name].data = value


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
            self._step = _compile(self._step, self._optimiser.device)

    def step(self, images: Batches, indices: Indices) -> dict[str, Tensor]:
        step, rates = self._next_step(images)
        batch = {"image": images[indices]}  # (M, B, C, H, W)
        noise = self._noise.next(indices.shape[1])
        whole = indices.shape[1] == self.members[0].config.batch_size
        with _precision(self.members[0], images.device):
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

    def losses(self, val: Batches) -> list[float]:
        return self._validated("forward", val)

    def criteria(self, val: Batches) -> list[float]:
        return self._validated("criterion", val)

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

    @torch.no_grad()
    def _validated(self, method: str, val: Batches) -> list[float]:
        """As `validate` does for one: all members see the same images under the same noise."""
        generator = torch.Generator(val.device).manual_seed(VALIDATION_SEED)
        totals = torch.zeros(len(self.members), dtype=torch.float64, device=val.device)
        of_all = _of_all(self._model, method, None)
        averages = self._averages.averages if self._averages else {}
        state = self._state | {f"model.{name}": average for name, average in averages.items()}
        for batch in val.chunks():
            found = of_all(state, {"image": batch}, drawn(self._model.draws, len(batch), generator))
            totals += (found["loss"] if isinstance(found, dict) else found).sum(1)
        return [total / len(val) for total in totals.tolist()]


def _steps(configs: Sequence[TrainingConfig], epoch: int, images: int) -> Iterator[tuple[int, list[float]]]:
    """The numbers of the steps after `epoch` epochs, and the learning rate of each of the trials in them."""
    an_epoch = steps_an_epoch(images, configs[0])
    allowed = [epochs_allowed(images, config) * an_epoch for config in configs]
    constant = all(config.schedule == "constant" and not config.warmup for config in configs)
    rates = [config.learning_rate for config in configs]
    for step in itertools.count(epoch * an_epoch):
        if not constant:
            factors = (factor(config, step, steps) for config, steps in zip(configs, allowed, strict=True))
            rates = [config.learning_rate * each for config, each in zip(configs, factors, strict=True)]
        yield step, rates


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


def _compile(function: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """On a GPU as CUDA graphs, which cost one launch a step."""
    torch.compiler.reset()  # a worker has one stack at a time, and of many shapes torch compiles only the first eight
    compiled: Callable[..., Any] = torch.compile(
        function, dynamic=False, mode="reduce-overhead" if device.type == "cuda" else None
    )
    return compiled


def _precision(member: Progress, device: torch.device) -> torch.autocast:
    """Networks compute in the precision that the trial asks for."""
    return torch.autocast(device.type, torch.bfloat16, enabled=member.config.precision == "bfloat16")


@torch.no_grad()
def validate(model: Variant, method: Callable[[Batch, Noise], Tensor], val: Batches) -> float:
    """The mean of a method of `model` over the validation images, under noise that is the same at every call."""
    generator = torch.Generator(val.device).manual_seed(VALIDATION_SEED)
    totals = (
        float(method({"image": batch}, drawn(model.draws, len(batch), generator)).sum()) for batch in val.chunks()
    )
    return sum(totals) / len(val)
