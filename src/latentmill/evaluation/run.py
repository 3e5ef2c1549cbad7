"""The evaluation of a whole ladder: every question of every entry a task of its own, on all cores at a time."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from latentmill.config import EvaluationConfig
from latentmill.errors import InputError
from latentmill.evaluation.assembly import assemble, calibrate, chosen_features, fit, pool_of
from latentmill.evaluation.entry import Findings, Material, Usual, judge_model, judge_samples, usual
from latentmill.evaluation.judge import Judge
from latentmill.evaluation.measures import RULES
from latentmill.evaluation.results import MODEL
from latentmill.evaluation.sampling import routes
from latentmill.heartbeat import duration
from latentmill.sweep.mapped import ChangedDataError, placed
from latentmill.sweep.tasks import in_order_of_end, result, share, start
from latentmill.variant import Variant

SHOWN = 2  # of what runs, in a line


class Evaluation:
    """Starts all tasks when made; within a `cluster`. What has ended can be had while the others run."""

    def __init__(self, models: dict[str, Variant], given: Material, config: EvaluationConfig) -> None:
        train, val, test = (placed(images) for images in (given.train, given.val, given.test))
        shared, seed = share(replace(given, train=train, val=val, test=test)), config.seed
        chosen = chosen_features(config.features, given)
        pool = start(pool_of, shared, seed)
        copied = {name: start(fit, name, True, shared, pool, seed) for name in chosen[1]}
        calibrated = [
            start(calibrate, rule, copied[name], shared, pool, seed, config.samples)
            for rule in RULES
            for name in chosen[rule]
        ]
        whole = [start(fit, name, False, shared, pool, seed) for name in chosen[2]]
        self._usual = start(usual, shared, seed)
        self._judge = start(assemble, shared, pool, seed, config.samples, len(chosen[1]), *calibrated, *whole)
        self._of_data = [pool, *copied.values(), *calibrated, *whole, self._usual, self._judge]
        self._names = dict.fromkeys([*copied.values(), *whole], "features") | dict.fromkeys(calibrated, "controls")
        self._names = {pool: "the images of the controls"} | self._names
        self._names |= {self._usual: "neighbours of real images", self._judge: "the judge"}
        self._asked = {}
        for entry, model in models.items():
            of = share(model)
            self._asked[start(judge_model, of, shared, config)] = entry, MODEL
            for route in routes(model):
                asked = start(judge_samples, of, route, shared, self._usual, self._judge, config)
                self._asked[asked] = entry, route
        told = {
            asked: f"{entry} as a model" if route == MODEL else f"{entry}, samples by {route}"
            for asked, (entry, route) in self._asked.items()
        }
        self._names |= told
        self._ended, self._started = set[Any](), time.monotonic()

    @property
    def usual(self) -> Usual:
        found: Usual = result(self._usual)
        return found

    @property
    def judge(self) -> Judge:
        found: Judge = result(self._judge)
        return found

    def findings(self) -> Iterator[tuple[str, str, Findings | InputError]]:
        """Entry, route or `MODEL`, and what was found or why nothing was, each as soon as it is there.

        Raises:
            InputError: what all entries rest on can't be had.
            ChangedDataError: the prepared data are others by now.
        """
        for ended in in_order_of_end([*self._of_data, *self._asked]):
            self._ended.add(ended)
            if ended not in self._asked:
                result(ended)
                continue
            try:
                found = result(ended)
            except ChangedDataError:
                raise
            except InputError as error:
                found = error
            yield *self._asked[ended], found

    def status(self) -> str:
        """How far it has come, and what runs: of the questions, which begin in order, the first that have not ended."""
        so_far = duration(time.monotonic() - self._started)
        running = [name for asked, name in list(self._names.items()) if asked not in self._ended][:SHOWN]
        return f"[{len(self._ended)}/{len(self._names)}] evaluating, {so_far} so far: {'; '.join(running)}"
