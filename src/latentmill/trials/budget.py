"""How long a sweep takes, and the steps of its trials that fit `train.budget`.

Where the time is too short for all steps, each study gets less than it may use: its share of the steps falls with the
square root of its work. So what is quick keeps all of its steps, and what is slow still has most of the time. That is
the best division where the loss falls with 1 / steps: the sum over studies i of W_i / t_i, for times t_i with a given
total, is least where t_i grows with sqrt(W_i), with W_i the time of all its steps.

Everything follows from the settings and from measured costs that are stored, never from results or the clock.
"""

import heapq
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import ceil, sqrt

from latentmill import registry
from latentmill.config import AshaConfig, TrainingConfig
from latentmill.heartbeat import duration
from latentmill.runtime.text import plural
from latentmill.trials.cost import Cost
from latentmill.trials.ladder import Ladder
from latentmill.trials.running import code_draws
from latentmill.trials.study import Allowance, Planned, Study
from latentmill.trials.trial import Trial

OUTSIDE, MEASURED, BESIDE = 15.0, 2.0, 0.3  # seconds: of the start and end, of each measurement, of a trial's start
PLANNED = 0.92  # of the time that a budget leaves
FEWEST = 0.4  # of its steps: before a trial has less, fewer configurations are sampled
GAIN = 1.2  # in its steps, for which half of the configurations are left out
HALVINGS = 30  # of an interval of shares
STAND_FOR_ALL = 64  # configurations of a study, whose costs are those of all
Lengths = Mapping[str, Sequence[float]]  # by study, the seconds of its trials


@dataclass(frozen=True)
class Expected:
    """A study before anything is trained."""

    name: str
    trials: list[Trial]  # of its first configurations, which stand for all
    configurations: int
    seeds: int
    is_sampled: bool
    examples: int  # for training
    parent: Trial | None = None  # for a prior: a trial that stands for the winner of its entry

    @property
    def entry(self) -> str:
        return self.name.partition("/")[0]

    @property
    def all(self) -> Allowance:
        """All that params.yaml allows."""
        return Allowance(self.configurations, 1.0, self.examples)


def expected_studies(ladder: Ladder, images: int) -> list[Expected]:
    """The studies of a ladder on so many training images, each entry before its priors."""
    found = []
    for study in ladder.entry_studies():
        entry = _expected(study, ladder.defaults, images, None)
        parent = entry.trials[0]
        augment = (parent.training or {}).get("augment", [])
        codes = images * code_draws(registry.find("models", parent.model), augment, images)
        winner = Planned(study.name, "", parent, "not known yet", "")
        priors = [_expected(each, ladder.defaults, codes, parent) for each in ladder.prior_studies(winner)]
        found += [entry, *priors]
    return found


def _expected(study: Study, defaults: TrainingConfig, examples: int, parent: Trial | None) -> Expected:
    points = study.next_points([]) or []
    made = [study.space.configuration(point, defaults) for point in points[:STAND_FOR_ALL]]
    trials = [each.trial(study.seeds[0], study.features, study.parent) for each in made]
    count = len(points) + study.left
    return Expected(study.name, trials, count, len(study.seeds), bool(study.space.sampled), examples, parent)


@dataclass(frozen=True)
class Forecast:
    """The time, memory and disk of a sweep."""

    studies: Sequence[Expected]
    costs: Mapping[str, Sequence[Cost | None]]  # of the trials of each study; None where one could not be measured
    asha: AshaConfig | None
    workers: int

    def allowances(self, budget: float) -> dict[str, Allowance]:
        """What each study may use, so that all trials are over after `budget` seconds, where that can be."""
        allowed = {each.name: replace(each.all, least=self._least(each.name)) for each in self.studies}
        found = self._fitting(allowed, budget)
        while short := [each.name for each in self.studies if each.is_sampled and _is_short(found[each.name])]:
            for name in short:
                allowed[name] = replace(allowed[name], configurations=ceil(allowed[name].configurations / 2))
            others = self._fitting(allowed, budget)
            if all(others[name].share < GAIN * found[name].share for name in short):
                break  # workers would only have less to do side by side
            found = others
        return found

    def _least(self, study: str) -> int:
        """The epochs that each of its trials must have."""
        return 1 + max((cost.untrained for cost in self.costs[study] if cost), default=0)

    @property
    def outside(self) -> float:
        """Seconds beside all trials."""
        return OUTSIDE + MEASURED * len({cost for costs in self.costs.values() for cost in costs}) / self.workers

    def seconds(self, allowed: Mapping[str, Allowance], missing: Mapping[str, int] | None = None) -> float:
        """Until all trials, or so many of each study, are over."""
        lengths = {each.name: self.lengths(each, allowed[each.name]) for each in self.studies}
        if missing is not None:
            lengths = {name: trials[: missing.get(name, 0)] for name, trials in lengths.items()}
        follows = {each.name: each.entry for each in self.studies if each.parent}
        return self.outside + makespan(lengths, follows, self.workers)

    def lengths(self, each: Expected, allowed: Allowance) -> list[float]:
        """The seconds of the trials of a study, the longest first."""
        return [seconds for seconds, _ in self._trials(each, allowed)]

    def _trials(self, each: Expected, allowed: Allowance) -> list[tuple[float, int]]:
        """The seconds and bytes on disk of the trials of a study, the longest first; 0 where a cost is not known."""
        count, found = allowed.configurations * each.seeds, list[tuple[float, int]]()
        known = itertools.cycle(zip(each.trials, self.costs[each.name], strict=True))
        for row, (trial, cost) in zip(range(count), known, strict=False):
            epochs, steps = allowed.length(trial)
            ended = _unpruned(epochs, row, count, self.asha, cost.untrained if cost else 0) if self.asha else epochs
            disk = (cost.weights if ended == epochs else cost.checkpoint) if cost else 0  # a pruned one may be resumed
            found.append((cost.seconds(ended, steps) + BESIDE if cost else 0.0, disk))
        return sorted(found, reverse=True)

    def summary(self, missing: Mapping[str, int], allowed: Mapping[str, Allowance], budget: float | None = None) -> str:
        """`about 9:12 on 2 workers, 1.2 GiB a worker, 85 MB of disk`, for so many trials of each study."""
        allowed = {each.name: each.all for each in self.studies} | dict(allowed)
        costs = {name: [cost for cost in self.costs[name] if cost] for name, count in missing.items() if count}
        known, unknown = list(itertools.chain(*costs.values())), [name for name, found in costs.items() if not found]
        if not known:
            return "time, memory and disk are not known yet: `latentmill plan` measures them" if unknown else ""
        seconds, memory = self.seconds(allowed, missing), max(cost.memory for cost in known) / 2**30
        trials = [self._trials(each, allowed[each.name])[: missing.get(each.name, 0)] for each in self.studies]
        disk = sum(kept for _, kept in itertools.chain(*trials))
        disk += self.workers * max(cost.checkpoint for cost in known)  # of those in training
        line = f"about {duration(seconds)} on {plural(self.workers, 'worker')}, or less where trials end early, "
        line += f"{memory:.1f} GiB a worker, {disk / 1e6:.0f} MB of disk"
        if budget and seconds > budget:
            line += f"; train.budget, {duration(budget)}, is too short for an epoch of each trial"
        return line + (f"; not known: {', '.join(unknown)}" if unknown else "")

    def _fitting(self, allowed: Mapping[str, Allowance], budget: float) -> dict[str, Allowance]:
        """The largest shares of the steps with which all trials are over in time."""
        work = {each.name: sum(self.lengths(each, allowed[each.name])) for each in self.studies}
        low, high, limit = 0.0, sqrt(max(work.values())), self.outside + PLANNED * (budget - self.outside)

        def shared(level: float) -> dict[str, Allowance]:
            shares = {name: min(1.0, level / sqrt(whole)) if whole else 1.0 for name, whole in work.items()}
            return {name: replace(each, share=shares[name]) for name, each in allowed.items()}

        if self.seconds(allowed) <= limit:
            return dict(allowed)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if self.seconds(shared(middle)) <= limit else (low, middle)
        return shared(low)


def _is_short(allowed: Allowance) -> bool:
    return allowed.share < FEWEST and allowed.configurations > 1


def _unpruned(epochs: int, row: int, trials: int, asha: AshaConfig, untrained: int) -> int:
    """After how many of its epochs ASHA is expected to prune a trial, where `row` of so many in a study are better.

    It prunes none in the first `untrained` ones.
    """
    rung = asha.grace
    while rung <= untrained:
        rung *= asha.reduction
    while rung < epochs:
        trials = _survivors(trials, asha.reduction)
        if row >= trials:
            return rung
        rung *= asha.reduction
    return epochs


@cache
def _survivors(trials: int, reduction: int) -> int:
    """Of trials that reach a rung one after the other, each goes on if it is among the best so far."""
    return round(sum(max(1 / reduction, 1 / rank) for rank in range(1, trials + 1)))


def makespan(lengths: Lengths, follows: Mapping[str, str], workers: int) -> float:
    """Seconds until the trials of all studies are over: long ones first; `follows` says for which one a study waits."""
    left = {name: len(each) for name, each in lengths.items()}
    ready = [(-each, name) for name in lengths if not left.get(follows.get(name, ""), 0) for each in lengths[name]]
    heapq.heapify(ready)
    running, now = list[tuple[float, str]](), 0.0
    while ready or running:
        while ready and len(running) < workers:
            negative, name = heapq.heappop(ready)
            heapq.heappush(running, (now - negative, name))
        now, ended = heapq.heappop(running)
        left[ended] -= 1
        for name in [name for name, other in follows.items() if other == ended] if not left[ended] else ():
            for each in lengths[name]:
                heapq.heappush(ready, (-each, name))
    return now
