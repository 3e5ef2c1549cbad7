"""One trial, which a team of workers may share: nothing is batched, nothing costs more than it has to."""

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor

from latentmill.contract import Batch
from latentmill.data.batches import Batches, Indices
from latentmill.draws import Noise
from latentmill.training.adam import Adam, owned
from latentmill.training.averages import Averages
from latentmill.training.noise import NoiseAhead
from latentmill.training.ranks import Alone, Forward, Team
from latentmill.training.state import Progress
from latentmill.training.step import Stack, compiled_function, precision, validate


class Single(Stack):
    """A stack of one."""

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
        self._compiled = compiled_function(member.model, member.noise.device) if compiled else None

    def step(self, images: Batches, indices: Indices) -> dict[str, Tensor]:
        (member,) = self.members
        step, rates = self._next_step(images)
        part = self.team.part(indices[0])
        noise = {name: each[0][part.rows] for name, each in self._noise.next(indices.shape[1]).items()}
        with precision(member, images.device):
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

    def criteria(self, val: Batches) -> list[float]:
        with self._averaged():
            return [validate(self.members[0].model, val)]

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
