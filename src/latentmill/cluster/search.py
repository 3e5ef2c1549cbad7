"""The plan of a sweep as a search algorithm and a scheduler of Ray Tune."""

import itertools
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from latentmill.cluster.pack_sizes import PackSizes
from latentmill.tracking.observers import Observer
from latentmill.trials.plan import Plan
from latentmill.trials.study import Planned


class PlanSearch(Searcher):
    """Gives the plan's trials to Tune's free workers, and their results to the plan.

    A Tune trial is a request to one worker: a trial of the plan, or a pack of several.
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
        self.running: dict[str, list[Planned]] = {}  # by Tune trial; some may still wait for a worker
        self.single: set[str] = set()  # Tune trials that are no packs
        self.starved: set[str] = set()  # Tune trials whose workers Ray has killed because memory ran low

    def suggest(self, trial_id: str) -> Any:
        """The next request; None while no trial waits, FINISHED at the end of the plan."""
        self._replay()
        if self.search_ends is not None and self.clock() >= self.search_ends:
            self.plan.end_search()
        pack = self.plan.pop_pack(self.sizes)
        if not pack:
            return Searcher.FINISHED if self.plan.is_over else None
        self.running[trial_id] = pack
        trials = [
            {"trial": asdict(planned.trial), "study": planned.study, "fingerprint": planned.fingerprint}
            for planned in pack
        ]
        if len(trials) == 1:
            self.single.add(trial_id)
        return {"trials": trials, "seconds": self._seconds(pack[0])}

    def _seconds(self, planned: Planned) -> float | None:
        """The time left for a trial of a model; None without a limit, and for priors."""
        if self.search_ends is None or planned.prior is not None:
            return None
        return max(0.0, self.search_ends - self.clock())

    def _replay(self) -> None:
        """Report settled trials to ASHA, which compares those still to run with them."""
        for planned in self.plan.replays:
            history = self.plan.records[planned.fingerprint].get("history", [])
            losses = [row["val_loss"] for row in history]
            self.halving.replay.remote(planned.study, planned.fingerprint, losses)
        self.plan.replays.clear()

    def on_trial_start(self, trial_id: str) -> None:
        for planned in self.running[trial_id]:
            self.observer.started(planned)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Handles epochs, and members of a pack that have ended while others train on."""
        by_fingerprint = {planned.fingerprint: planned for planned in self.running[trial_id]}
        for row in result.get("trials", [result] if "epoch" in result else []):
            planned = by_fingerprint[row["fingerprint"]]
            if "epoch" in row:
                self.observer.progressed(planned, row)
            elif self.plan.store.find(planned.fingerprint):  # else the worker may still train it alone
                self.running[trial_id].remove(planned)
                self._ended(planned)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        for sentence in (result or {}).get("notes", []):
            self.observer.noted(sentence)
        for planned in self.running.pop(trial_id):
            self._ended(planned, error, trial_id in self.starved & self.single)

    def _ended(self, planned: Planned, died: bool = False, starved: bool = False) -> None:
        record = self.plan.ended(planned.fingerprint, starved)
        if record is None:
            reason = "its worker died" if died else "its result could not be kept"
            self.observer.noted(f"{planned.label}: {reason}, and it is run again from its last epoch")
        else:
            self.observer.ended(planned, record)

    def out_of_time(self) -> None:
        """Record the members of running packs that have ended."""
        for planned in itertools.chain(*self.running.values()):
            if self.plan.store.find(planned.fingerprint):
                self.observer.ended(planned, self.plan.ended(planned.fingerprint) or {})

    def save(self, checkpoint_path: str) -> None:
        """Saves nothing: a sweep resumes from the trial store, never from Ray's experiment state."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # as above


class PlanOrder(FIFOScheduler):
    """Runs trials in the order of the search, and marks starved ones before the search hears that they failed."""

    def __init__(self, search: PlanSearch) -> None:
        super().__init__()
        self.search = search

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        error = Path(trial.error_file).read_text("utf-8", "replace") if trial.error_file else ""
        if "node running low on memory" in error:  # Tune keeps only the text
            self.search.starved.add(trial.trial_id)
