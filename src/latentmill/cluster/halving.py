"""Pruning by asynchronous successive halving (ASHA), in an actor that all workers call."""

from types import SimpleNamespace
from typing import Any

import ray
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from latentmill.config import AshaConfig

LONGEST = 10**9  # epochs: the number of rungs is not limited


class StudyHalving:
    """Successive halving within each study: criteria of different studies do not compare."""

    def __init__(self, config: AshaConfig) -> None:
        self.config, self.schedulers = config, dict[str, AsyncHyperBandScheduler]()
        self.known: set[tuple[str, str]] = set()

    def report(self, study: str, fingerprint: str, epoch: int, criterion: float) -> bool:
        """Record the criterion of a trial after an epoch; returns whether the trial is pruned. Only rungs count."""
        scheduler: Any = self._scheduler(study)  # which needs only the name of a Tune trial
        trial = SimpleNamespace(trial_id=fingerprint)
        if (study, fingerprint) not in self.known:
            self.known.add((study, fingerprint))
            scheduler.on_trial_add(None, trial)
        action = scheduler.on_trial_result(None, trial, {"epoch": epoch, "criterion": criterion})
        return bool(action == TrialScheduler.STOP)

    def replay(self, study: str, fingerprint: str, criteria: list[float]) -> None:
        """Report the criteria of a trial of an earlier sweep, one per epoch."""
        for epoch, criterion in enumerate(criteria, start=1):
            self.report(study, fingerprint, epoch, criterion)

    def _scheduler(self, study: str) -> AsyncHyperBandScheduler:
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


Halving = ray.remote(num_cpus=0)(StudyHalving)
