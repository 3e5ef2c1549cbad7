"""An entry's search: rounds of configurations, each a trial for every seed."""

import statistics
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from functools import cached_property

from latentmill.errors import InputError
from latentmill.trials.space import Point, Space
from latentmill.trials.trained_model import Record
from latentmill.trials.trial import Trial

Scores = list[float | None]  # of a round's configurations, lower is better; None where a trial failed
Rounds = Generator[list[Point], Scores, None]
Suggest = Callable[[Space, int, int], Rounds]  # (space, configurations, seed) -> rounds


@dataclass(frozen=True)
class Planned:
    """A trial, by the study and the configuration that ask for it."""

    study: str  # of an entry, or of a prior of an entry as entry/prior
    configuration: str  # the fingerprint of its first trial, which those of its other seeds share
    trial: Trial
    fingerprint: str
    label: str  # to be read in a log

    @property
    def entry(self) -> str:
        return self.study.partition("/")[0]

    @property
    def prior(self) -> str | None:
        """The name of the prior, if it is one."""
        return self.study.partition("/")[2] or None

    @cached_property
    def shape(self) -> str | None:
        """The trial's, found once: a plan compares those of all that wait."""
        return self.trial.shape


@dataclass
class Study:
    """A search in the space of an entry, or of a prior for its winner: its rounds, and the round that is open."""

    name: str  # as that of `Planned`
    space: Space
    rounds: Rounds
    left: int  # configurations not yet asked for
    seeds: list[int]
    features: str | None = None  # the digest of those that its trials are ranked in
    parent: str | None = None  # the fingerprint of the winner, for a prior
    configurations: list[list[Planned]] = field(default_factory=list)  # of the open round, a trial for each seed
    open: set[str] = field(default_factory=set)  # fingerprints of the round's trials that are not settled


def length(planned: Planned) -> int:
    """In epochs allowed; 0 for a closed form."""
    return (planned.trial.training or {"epochs": 0})["epochs"]


def score(records: list[Record]) -> float | None:
    """The mean criterion over the seeds; None unless all finished."""
    if any(record["status"] != "finished" for record in records):
        return None
    return statistics.fmean(record["criterion"] for record in records)


def quotas(sizes: list[int], limit: int | None) -> list[int]:
    """How many of each entry's configurations fit into `limit`, taken in turn so that no entry is left out.

    Raises:
        InputError: there are more entries than `limit`.
    """
    if limit is None or sum(sizes) <= limit:
        return sizes
    if limit < len(sizes):
        raise InputError(
            f"params.yaml: train.max_trials must leave each of the {len(sizes)} entries a configuration with every "
            f"seed, but leaves {limit} configurations"
        )
    taken = [0] * len(sizes)
    while limit:
        for index, size in enumerate(sizes):
            if taken[index] < size and limit:
                taken[index] += 1
                limit -= 1
    return taken
