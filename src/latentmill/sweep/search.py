"""The plan of a sweep, as Ray Tune wants to be told of it."""

from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from latentmill.config import AshaConfig
from latentmill.training.checkpoint import Record
from latentmill.training.plan import Plan, Planned, Scores
from latentmill.training.space import Point, Space

ROUND = 8  # configurations that a search which learns asks for at a time
LONGEST = 10**9  # epochs: successive halving goes on to any length
CRITERION = "criterion"


class Observer(Protocol):
    """Is told how the sweep goes."""

    def started(self, planned: Planned) -> None: ...
    def progressed(self, planned: Planned, result: dict[str, Any]) -> None: ...
    def ended(self, planned: Planned, record: Record) -> None: ...
    def noted(self, sentence: str) -> None: ...


class PlanSearch(Searcher):
    """Hands out the plan's trials when Tune has a worker free, and tells the plan what they came to."""

    def __init__(self, plan: Plan, observer: Observer) -> None:
        super().__init__()
        self.plan, self.observer = plan, observer
        self.running: dict[str, Planned] = {}  # by Tune's name of the trial; some may still wait for a worker
        self.replays: set[str] = set()
        self.starved: set[str] = set()  # Tune's names of trials whose workers Ray ended for want of memory

    def suggest(self, trial_id: str) -> Any:
        """The next trial; None where there is none yet, and FINISHED where there will be none."""
        replay = bool(self.plan.replays)
        planned = self.plan.take()
        if planned is None:
            return Searcher.FINISHED if self.plan.is_over() else None
        self.running[trial_id] = planned
        if replay:
            self.replays.add(trial_id)
        asked = {"trial": asdict(planned.trial), "entry": planned.entry, "fingerprint": planned.fingerprint}
        return asked | {"replay": replay}

    def on_trial_start(self, trial_id: str) -> None:
        if trial_id not in self.replays:
            self.observer.started(self.running[trial_id])

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if "epoch" in result and trial_id not in self.replays:
            self.observer.progressed(self.running[trial_id], result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        planned, last = self.running.pop(trial_id), result or {}
        for sentence in last.get("notes", []):
            self.observer.noted(sentence)
        if trial_id in self.replays:
            return
        stopped = None if error or CRITERION not in last else {name: last[name] for name in ("epoch", CRITERION)}
        record = self.plan.ended(planned.fingerprint, stopped, trial_id in self.starved)
        if record is None:
            what = "its worker died" if error else "its result could not be kept"
            self.observer.noted(f"{planned.label}: {what}, and it is run again from its last epoch")
        else:
            self.observer.ended(planned, record)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: a sweep goes on from the trial store, never from Ray's experiment state."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # for Ray's experiment state likewise


class InOrder(FIFOScheduler):
    """Runs trials as the search yields them, and tells it why a worker died before the search is told that it did."""

    def __init__(self, search: PlanSearch) -> None:
        super().__init__()
        self.search = search

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        told = Path(trial.error_file).read_text() if trial.error_file else ""
        if "node running low on memory" in told:  # Tune keeps other errors than those of actors as text only
            self.search.starved.add(trial.trial_id)


class EntryAsha(InOrder):
    """Asynchronous successive halving among the trials of each ladder entry: criteria of two entries do not compare."""

    def __init__(self, config: AshaConfig, search: PlanSearch) -> None:
        super().__init__(search)
        self.config, self.schedulers = config, dict[str, AsyncHyperBandScheduler]()

    def _of(self, trial: Any) -> AsyncHyperBandScheduler:
        entry = trial.config["entry"]
        if entry not in self.schedulers:
            self.schedulers[entry] = AsyncHyperBandScheduler(
                time_attr="epoch",
                metric=CRITERION,
                mode="min",
                max_t=LONGEST,
                grace_period=self.config.grace,
                reduction_factor=self.config.reduction,
            )
        return self.schedulers[entry]

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        self._of(trial).on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        action = self._of(trial).on_trial_result(tune_controller, trial, result)
        return TrialScheduler.CONTINUE if trial.config["replay"] else action

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        self._of(trial).on_trial_complete(tune_controller, trial, {})

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        self._of(trial).on_trial_remove(tune_controller, trial)


def optuna_rounds(space: Space, count: int, seed: int) -> Generator[list[Point], Scores, None]:
    """Configurations by Optuna's tree-structured Parzen estimator, over every searched key of `space`.

    They are asked for in rounds, and a round's scores are told in its order, so that neither the number of workers
    nor the order in which trials end has a say in what is tried next.
    """
    from optuna.logging import WARNING, set_verbosity
    from optuna.samplers import TPESampler

    set_verbosity(WARNING)  # the display tells of trials
    sampler = TPESampler(seed=seed, constant_liar=True)  # a round's own members count as poor, so that they spread
    domains = {key: _domain(space.keys[key]) for key in space.searched}
    search = OptunaSearch(OptunaSearch.convert_search_space(domains), CRITERION, "min", sampler=sampler)
    asked = 0
    while asked < count:
        names = [str(asked + index) for index in range(min(ROUND, count - asked))]
        asked += len(names)
        scores = yield [space.keys | (search.suggest(name) or {}) for name in names]
        for name, score in zip(names, scores, strict=True):
            search.on_trial_complete(name, None if score is None else {CRITERION: score}, error=score is None)


def _domain(value: Any) -> Any:
    if isinstance(value, list):
        return tune.choice(value)
    ((sampler, bounds),) = value.items()
    return tune.choice(bounds) if sampler == "choice" else getattr(tune, sampler)(*bounds)
