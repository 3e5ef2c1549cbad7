"""The search of an entry or prior: rounds of configurations, each with a trial for every seed."""

import statistics
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import floor, prod

from latentmill.config import TrainingConfig
from latentmill.training.schedule import epochs_allowed, steps_an_epoch
from latentmill.trials.record import PRIORS, Record
from latentmill.trials.space import Point, Space
from latentmill.trials.trial import Trial

Scores = list[float | None]  # of a round's configurations, lower is better; None where a trial failed
Rounds = Generator[list[Point], Scores, None]
Suggest = Callable[[Space, int, int], Rounds]  # (space, configurations, seed) -> rounds
ChooseStart = Callable[[Trial], tuple[str | None, str]]  # trial -> its `start`, and a note why


def cold(trial: Trial) -> tuple[None, str]:
    """The start of every trial without train.warm_start."""
    return None, ""


@dataclass(frozen=True)
class Request:
    """A trial to measure."""

    trial: Trial
    parent: Trial | None
    same: int  # trials of its shape, which may be packed


@dataclass(frozen=True)
class Allowance:
    """How much of what params.yaml allows a study has within `train.budget`."""

    configurations: int  # at most
    share: float  # of the epochs of each trial
    examples: int  # of an epoch
    least: int = 1  # epochs of each trial, so that the last phase of its model begins

    def length(self, trial: Trial) -> tuple[int, int]:
        """The epochs of a trial, at most, and the steps of each; a closed form has none."""
        if trial.training is None:
            return 0, 0
        config = trial.training_config
        limit, steps = epochs_allowed(config, self.examples), steps_an_epoch(config, self.examples)
        return min(limit, max(self.least, floor(self.share * limit))), steps

    def limited(self, trial: Trial) -> Trial:
        """The trial with no more steps than the allowance has."""
        if trial.training is None or self.share == 1:
            return trial
        steps = min(trial.training["max_steps"], prod(self.length(trial)))
        return replace(trial, training=trial.training | {"max_steps": steps})


@dataclass(frozen=True)
class Planned:
    """A trial of a configuration in a study."""

    study: str  # the name of an entry, or `entry/prior`
    configuration: str  # the fingerprint of its first trial, shared by the trials of the other seeds
    trial: Trial
    fingerprint: str
    label: str  # for logs
    note: str = ""  # with train.warm_start: what it begins with, and why

    @property
    def entry(self) -> str:
        return self.study.partition("/")[0]

    @property
    def prior(self) -> str | None:
        """The name of the prior; None for a model."""
        return self.study.partition("/")[2] or None

    @cached_property
    def shape(self) -> str | None:
        """Cached, because a plan compares the shapes of all waiting trials."""
        return self.trial.shape

    @property
    def epochs(self) -> int:
        """At most; 0 for a closed form."""
        return self.trial.training["epochs"] if self.trial.training else 0


@dataclass
class Study:
    """A search in one space: its rounds, of which one is open."""

    name: str  # as in `Planned`
    space: Space
    rounds: Rounds
    left: int  # configurations of later rounds
    seeds: list[int]
    features: str | None = None  # the digest of those that rank its trials
    parent: str | None = None  # for a prior: the fingerprint of the winner
    allowance: Allowance | None = None  # None: all that params.yaml allows
    start: ChooseStart = cold
    configurations: list[list[Planned]] = field(default_factory=list)  # of the open round, a trial for each seed
    open: set[str] = field(default_factory=set)  # fingerprints of the round's trials that are not settled

    def trials(self, point: Point, defaults: TrainingConfig, data_digest: str) -> list[Planned]:
        """The trials of a configuration, one for each seed."""
        configuration = self.space.configuration(point, defaults)
        trials = [configuration.trial(seed, self.features, self.parent) for seed in self.seeds]
        trials = [self.allowance.limited(trial) for trial in trials] if self.allowance else trials
        starts, notes = zip(*map(self.start, trials), strict=True)
        trials = [replace(trial, start=start) for trial, start in zip(trials, starts, strict=True)]
        fingerprints = [trial.fingerprint(data_digest) for trial in trials]
        label = f"{self.name} {configuration.label}".rstrip()
        labels = [f"{label} seed={seed}" if len(trials) > 1 else label for seed in self.seeds]
        return [
            Planned(self.name, fingerprints[0], trial, fingerprint, each, note)
            for trial, fingerprint, each, note in zip(trials, fingerprints, labels, notes, strict=True)
        ]

    def next_points(self, scores: Scores) -> list[Point] | None:
        """The points of the next round, given the scores of the last one; None at the end of the search."""
        try:
            points = self.rounds.send(scores) if self.configurations else next(self.rounds)
        except StopIteration:
            return None
        self.left -= len(points)
        return points

    def stop(self) -> None:
        """Plan no more rounds."""
        self.left = 0
        self.rounds.close()

    def scores(self, records: dict[str, Record]) -> Scores:
        """The scores of the open round; `records` may still lack some."""
        return [_score([records.get(each.fingerprint) for each in trials]) for trials in self.configurations]


def folder(study: str) -> str:
    """The folder of an entry among trained models, or that of a prior of one."""
    entry, _, prior = study.partition("/")
    return f"{entry}/{PRIORS}/{prior}" if prior else entry


def _score(records: list[Record | None]) -> float | None:
    """The mean criterion over the seeds; None unless all have finished."""
    criteria = [record["criterion"] for record in records if record and record["status"] == "finished"]
    return statistics.fmean(criteria) if len(criteria) == len(records) else None
