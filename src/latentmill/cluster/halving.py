"""Pruning: successive halving, which every worker asks about its own."""

from types import SimpleNamespace
from typing import Any

import ray
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from latentmill.config import AshaConfig

LONGEST = 10**9  # epochs: successive halving goes on to any length


class EntryHalving:
    """Asynchronous successive halving among the trials of each study: criteria of two do not compare."""

    def __init__(self, config: AshaConfig) -> None:
        self.config, self.schedulers = config, dict[str, AsyncHyperBandScheduler]()
        self.known: set[tuple[str, str]] = set()

    def is_behind(self, study: str, fingerprint: str, epoch: int, criterion: float) -> bool:
        """Whether a trial that has come to `criterion` after a rung's `epoch` should end; it is counted either way."""
        scheduler: Any = self._of(study)  # of whose Tune it needs no more than a trial's name
        trial = SimpleNamespace(trial_id=fingerprint)
        if (study, fingerprint) not in self.known:
            self.known.add((study, fingerprint))
            scheduler.on_trial_add(None, trial)
        action = scheduler.on_trial_result(None, trial, {"epoch": epoch, "criterion": criterion})
        return bool(action == TrialScheduler.STOP)

    def replay(self, study: str, fingerprint: str, criteria: list[float]) -> None:
        """What a trial of an earlier sweep came to after each of its epochs; only rungs count."""
        for epoch, criterion in enumerate(criteria, start=1):
            self.is_behind(study, fingerprint, epoch, criterion)

    def _of(self, study: str) -> AsyncHyperBandScheduler:
        if study not in self.schedulers:
            self.schedulers[study] = AsyncHyperBandScheduler(
                time_attr="epoch",
                metric="criterion",
                mode="min",
                max_t=LONGEST,
                grace_period=self.config.grace,
                reduction_factor=self.config.reduction,
            )
        return self.schedulers[study]


Halving = ray.remote(num_cpus=0)(EntryHalving)
