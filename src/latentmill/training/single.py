"""One trial, which a data-parallel group may share: nothing is batched, nothing costs more than it has to."""

import itertools
from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor

from latentmill.contract import Batch, Phase, Terms
from latentmill.data.batches import Batches, Indices
from latentmill.draws import Noise
from latentmill.training.adam import Adam, gradients, named, of_phase, owned
from latentmill.training.averages import Averages, Weights, averaged
from latentmill.training.ranks import Part, Ranks
from latentmill.training.state import TrainingState
from latentmill.training.trainer import Trainer, compiled_function, moved_by, precision, validate

Objective = Callable[[Batch, Noise], Terms]


class SingleTrainer(Trainer):
    """A pack of one."""

    def __init__(self, member: TrainingState, ranks: Ranks, compiled: bool) -> None:
        super().__init__([member])
        self.member, self.ranks, model, config = member, ranks, member.model, member.config
        for value in itertools.chain(model.parameters(), model.buffers()):
            if value.untyped_storage().nbytes() > value.nbytes:  # a view of a pack that is no more
                value.data = value.data.clone()
        weights = dict(model.named_parameters())
        self._adams = {
            phase.name: Adam(
                moved_by(phase, weights), config.weight_decay, phase.betas, owned(of_phase(phase, member.moments))
            )
            for phase in self.phases
        }
        objectives: dict[str, Objective] = {phase.name: partial(phase.objective, model) for phase in self.phases}
        self._objectives = self._compiled = objectives
        if compiled and ranks.size == 1:
            self._compiled = {name: compiled_function(each, member.noise.device) for name, each in objectives.items()}
        self.averages = None if config.ema is None else Averages(weights, member.averages, config.ema)

    def _move(self, phase: Phase, examples: Batches, indices: Indices, noise: Noise, rates: Sequence[float]) -> Terms:
        part, adam, config = self.ranks.part(indices[0]), self._adams[phase.name], self.member.config
        own = {name: value[0][part.rows] for name, value in noise.items()}
        is_whole = len(indices[0]) == config.batch_size  # the last batch, which may be smaller, is not compiled
        objective = (self._compiled if is_whole else self._objectives)[phase.name]
        with precision(self.member, examples.device):
            terms = dict(objective(examples.batch(part.indices), own))
        for name, reduction in phase.buffers.items():
            self.member.model.get_buffer(name).copy_(self.ranks.combined(terms.pop(name), part, reduction))
        means = {name: value.mean() for name, value in terms.items()}
        adam.zero_grad()
        self._backward(means["loss"] * part.weight if self.ranks.size > 1 else means["loss"], adam)
        if config.clip is not None:
            adam.clip(config.clip)
        adam.step(rates[0])
        return {name: self._of_whole(value, part) for name, value in means.items()}

    def _backward(self, loss: Tensor, adam: Adam) -> None:
        """The gradients of a loss whose sum over the ranks is that of the whole batch."""
        loss.backward(inputs=adam.weights)
        self.ranks.sum(gradients(adam.weights))

    def _of_whole(self, mean: Tensor, part: Part) -> Tensor:
        """(1), of the whole batch; a copy, because a CUDA graph overwrites its own."""
        return self.ranks.mean(mean, part).clone()[None]

    def criteria(self, val: Batches) -> list[float]:
        with averaged(self.member.model, self._averages_of(0)):
            return [validate(self.member.model, val)]

    def end_epoch(self) -> None:
        moments = (named(phase, self._adams[phase.name].moments) for phase in self.phases)
        self.member.moments = {name: of for each in moments for name, of in each.items()}
        self.member.averages = self._averages_of(0)
        self._noise.forget()

    def _averages_of(self, row: int) -> Weights:
        return self.averages.averages if self.averages else {}
