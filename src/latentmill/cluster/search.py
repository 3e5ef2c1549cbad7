"""The plan of a sweep, as Ray Tune wants to be told of it."""

import itertools
import time
from collections.abc import Callable, Generator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from ray import tune
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from latentmill.cluster.pack_sizes import PackSizes
from latentmill.trials.plan import Plan
from latentmill.trials.space import Point, Space
from latentmill.trials.study import Planned, Scores
from latentmill.trials.trained_model import Record

ROUND = 8  # configurations that a search which learns asks for at a time
CRITERION = "criterion"


class Observer(Protocol):
    """Is told how the sweep goes."""

    def started(self, planned: Planned) -> None: ...
    def progressed(self, planned: Planned, result: dict[str, Any]) -> None: ...
    def ended(self, planned: Planned, record: Record) -> None: ...
    def noted(self, sentence: str) -> None: ...


class PlanSearch(Searcher):
    """Hands out the plan's trials when Tune has a worker free, and tells the plan what they came to.

    A trial of Tune's is what one worker is given: a trial of the plan, or several that it packs.
    """

    def __init__(
        self,
        plan: Plan,
        observer: Observer,
        sizes: PackSizes | None,
        halving: Any = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`sizes` is None where no trials are packed, `halving` where none is pruned."""
        super().__init__()
        self.clock, self.search_ends = clock, None if plan.search_seconds is None else clock() + plan.search_seconds
        self.plan, self.observer, self.sizes, self.halving = plan, observer, sizes, halving
        self.running: dict[str, list[Planned]] = {}  # by Tune's name; some may still wait for a worker
        self.alone: set[str] = set()  # Tune's names of those that began as one trial
        self.starved: set[str] = set()  # Tune's names of trials whose workers Ray ended for want of memory

    def suggest(self, trial_id: str) -> Any:
        """The next trials; None where there are none yet, and FINISHED where there will be none."""
        self._replay()
        if self.search_ends is not None and self.clock() >= self.search_ends:
            self.plan.end_search()
        taken = self.plan.take(self.sizes)
        if not taken:
            return Searcher.FINISHED if self.plan.is_over() else None
        self.running[trial_id] = taken
        if len(taken) == 1:
            self.alone.add(trial_id)
        requested = [
            {"trial": asdict(planned.trial), "study": planned.study, "fingerprint": planned.fingerprint}
            for planned in taken
        ]
        flat = requested[0] if len(requested) == 1 else {}  # where loggers look for keys
        return {"trials": requested, "seconds": self._seconds(taken[0])} | flat

    def _seconds(self, planned: Planned) -> float | None:
        """What is left for trials of models, where some time is reserved for priors."""
        if self.search_ends is None or planned.prior is not None:
            return None
        return max(0.0, self.search_ends - self.clock())

    def _replay(self) -> None:
        """What settled trials came to, so that those still to run are compared with it."""
        for planned in self.plan.replays:
            history = self.plan.records[planned.fingerprint].get("history", [])
            losses = [row["val_loss"] for row in history]
            self.halving.replay.remote(planned.study, planned.fingerprint, losses)
        self.plan.replays.clear()

    def on_trial_start(self, trial_id: str) -> None:
        for planned in self.running[trial_id]:
            self.observer.started(planned)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Tells of epochs, and of those trials of a stack that have ended while others go on."""
        by_fingerprint = {planned.fingerprint: planned for planned in self.running[trial_id]}
        for row in result.get("trials", [result] if "epoch" in result else []):
            planned = by_fingerprint[row["fingerprint"]]
            if "epoch" in row:
                self.observer.progressed(planned, row)
            elif self.plan.store.find(planned.fingerprint):  # else the worker may yet train it again
                self.running[trial_id].remove(planned)
                self._ended(planned)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        taken = self.running.pop(trial_id)
        for sentence in (result or {}).get("notes", []):
            self.observer.noted(sentence)
        for planned in taken:
            self._ended(planned, error, trial_id in self.starved & self.alone)

    def _ended(self, planned: Planned, died: bool = False, starved: bool = False) -> None:
        record = self.plan.ended(planned.fingerprint, starved)
        if record is None:
            what = "its worker died" if died else "its result could not be kept"
            self.observer.noted(f"{planned.label}: {what}, and it is run again from its last epoch")
        else:
            self.observer.ended(planned, record)

    def cut(self) -> None:
        """The sweep is out of time: of packs that were under way, some members may have ended before."""
        for planned in itertools.chain(*self.running.values()):
            if self.plan.store.find(planned.fingerprint):
                self.observer.ended(planned, self.plan.ended(planned.fingerprint) or {})

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
