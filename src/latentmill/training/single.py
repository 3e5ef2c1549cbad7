"""Training steps of a single trial, which a data-parallel group may share; without the overhead of a pack."""

import itertools
from collections.abc import Callable, Sequence
from functools import partial

from latentmill.contract import Batch, Phase, Terms
from latentmill.data.batches import Batches, Indices
from latentmill.draws import Noise
from latentmill.training.adam import Adam, copied, gradients, phase_moments
from latentmill.training.averages import Averages, Weights
from latentmill.training.ranks import Ranks
from latentmill.training.state import TrainingState
from latentmill.training.trainer import (
    Trainer,
    augmented_batch,
    compiled_function,
    phase_parameters,
    precision,
)

Objective = Callable[[Batch, Noise], Terms]


class SingleTrainer(Trainer):
    """A pack of one."""

    def __init__(self, member: TrainingState, ranks: Ranks, compiled: bool) -> None:
        super().__init__([member])
        self.member, self.ranks, model, config = member, ranks, member.model, member.config
        for value in itertools.chain(model.parameters(), model.buffers()):
            if value.untyped_storage().nbytes() > value.nbytes:  # a view of a former pack
                value.data = value.data.clone()
        weights = dict(model.named_parameters())
        self._adams: dict[str, Adam] = {
            phase.name: Adam(
                phase_parameters(phase, weights),
                config.weight_decay,
                phase.betas,
                copied(phase_moments(phase, member.moments)),
            )
            for phase in self.phases
        }
        objectives: dict[str, Objective] = {phase.name: partial(phase.objective, model) for phase in self.phases}
        self._objectives = self._compiled = objectives
        if compiled and ranks.size == 1:
            self._compiled = {name: compiled_function(each, member.noise.device) for name, each in objectives.items()}
        self.averages = None if config.ema is None else Averages(weights, member.averages, config.ema)

    def _batch(self, examples: Batches, indices: Indices, noise: Noise) -> Batch:
        part = self.ranks.part(indices[0])
        own = {name: value[0][part.rows] for name, value in noise.items()}
        return augmented_batch(examples.batch(part.indices), own)

    def _update(self, phase: Phase, batch: Batch, indices: Indices, noise: Noise, rates: Sequence[float]) -> Terms:
        part, adam, config = self.ranks.part(indices[0]), self._adams[phase.name], self.member.config
        own = {name: value[0][part.rows] for name, value in noise.items()}
        is_whole = len(indices[0]) == config.batch_size  # the last batch may be smaller, and is not compiled
        objective = (self._compiled if is_whole else self._objectives)[phase.name]
        with precision(self.member):
            terms = dict(objective(batch, own))
        for name, reduction in phase.buffers.items():
            self.member.model.get_buffer(name).copy_(self.ranks.reduce(terms.pop(name), part, reduction))
        means = {name: value.mean() for name, value in terms.items()}
        adam.zero_grad()
        loss = means["loss"] * part.weight if self.ranks.size > 1 else means["loss"]
        loss.backward(inputs=adam.weights)
        self.ranks.sum(gradients(adam.weights))
        if config.clip is not None:
            adam.clip(config.clip)
        adam.step(rates[0])
        whole = {name: self.ranks.reduce(value, part, "mean") for name, value in means.items()}
        return {name: value.clone()[None] for name, value in whole.items()}  # a CUDA graph overwrites its own

    def _member_averages(self, row: int) -> Weights:
        return self.averages.averages if self.averages else {}
