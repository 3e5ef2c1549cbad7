"""The evaluation of a whole ladder on Ray: a task for each model and for its samples under each prior."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from latentmill.cluster.mapped import ChangedDataError, placed
from latentmill.cluster.tasks import in_order_of_end, result, result_or_reason, share, start
from latentmill.cluster.versions import OtherLibrariesError
from latentmill.config import EvaluationConfig
from latentmill.contract import Decodes, Encodes, Model
from latentmill.errors import InputError
from latentmill.evaluation.assembly import assemble, assemble_ceiling, calibrate, choose_pool, chosen_features, fit
from latentmill.evaluation.baseline import Baseline, compute_baseline
from latentmill.evaluation.ceiling import judge_reconstructions
from latentmill.evaluation.entry import EvaluationResult, judge_model, judge_samples
from latentmill.evaluation.judge import Judge
from latentmill.evaluation.metrics import RULES
from latentmill.evaluation.prepared import PreparedData
from latentmill.evaluation.results import MODEL, RECONSTRUCTIONS
from latentmill.evaluation.sampling import generators
from latentmill.heartbeat import TimeLeft, duration
from latentmill.storage import Storage

SHOWN, SURE = 2, 0.3  # running tasks in a status line; the share of tasks after which the time left is guessed


class Evaluation:
    """Starts all tasks when it is made, within a `cluster`. Results are available while other tasks run."""

    def __init__(
        self,
        models: dict[str, tuple[Model, dict[str, Model]]],
        data: PreparedData,
        config: EvaluationConfig,
        storage: Storage,
        samples: Mapping[str, int] | None = None,
    ) -> None:
        """`models` has of each entry its model and, by name, the priors of its codes.

        Large images reach other nodes through `storage`. Of an entry in `samples` so many are judged, in place of those
        of `config`: by a judge of its own, because controls are as large as what they are compared with.
        """
        train, val, test = (placed(images, storage) for images in (data.train, data.val, data.test))
        shared = share(replace(data, train=train, val=val, test=test))
        self._names: dict[Any, str] = {}  # of each task, in the order in which they start
        configs = {entry: _with_samples(config, (samples or {}).get(entry)) for entry in models}
        self._compared = min((each.samples for each in configs.values()), default=config.samples)
        numbers = dict.fromkeys([config.samples, *(each.samples for each in configs.values())])
        self._start_judges(shared, chosen_features(config.features, data), config, list(numbers))
        self._shared_tasks = list(self._names)
        self._entry_tasks: dict[Any, tuple[str, str]] = {}  # entry, and prior, `MODEL` or `RECONSTRUCTIONS`
        for entry, (model, priors) in models.items():
            self._start_entry(entry, model, priors, shared, configs[entry])
        self._ended, self._started, self._left = set[Any](), time.monotonic(), TimeLeft()

    def _start_judges(
        self, shared: Any, chosen: dict[int, list[str]], config: EvaluationConfig, numbers: list[int]
    ) -> None:
        """A judge for each number of samples, one of them that of `config`; they share features."""
        seed, limits = config.seed, config.limits
        pool = start(choose_pool, shared, seed)
        every = dict.fromkeys([*chosen[1], *chosen[2]])
        copied = {name: start(fit, name, True, shared, pool, seed) for name in every}
        whole = [start(fit, name, False, shared, pool, seed) for name in chosen[2]]
        self._baseline = start(compute_baseline, shared, seed)
        self._names |= {pool: "the choice of control images"} | dict.fromkeys([*copied.values(), *whole], "features")
        self._names |= {self._baseline: "the baseline of distances"}
        self._judges: dict[int, Any] = {}
        for samples in numbers:
            calibrated = [
                start(calibrate, rule, copied[name], shared, pool, seed, samples, limits)
                for rule in RULES
                for name in chosen[rule]
            ]
            fidelity = len(chosen[1])
            self._judges[samples] = start(assemble, shared, pool, seed, samples, limits, fidelity, *calibrated, *whole)
            self._names |= dict.fromkeys(calibrated, "controls") | {self._judges[samples]: "the judge"}
            if samples == config.samples:
                self._judge = self._judges[samples]
                self._ceiling = start(assemble_ceiling, shared, pool, seed, samples, *calibrated[:fidelity])
                self._names[self._ceiling] = "the judge"

    def _start_entry(
        self, entry: str, model: Model, priors: dict[str, Model], shared: Any, config: EvaluationConfig
    ) -> None:
        shared_model = share(model)
        task = start(judge_model, shared_model, shared, config)
        self._entry_tasks[task], self._names[task] = (entry, MODEL), f"{entry}, the model"
        if isinstance(model, Encodes) and isinstance(model, Decodes):
            task = start(judge_reconstructions, shared_model, shared, self._ceiling, config.seed)
            self._entry_tasks[task], self._names[task] = (entry, RECONSTRUCTIONS), f"{entry}, {RECONSTRUCTIONS}"
        for prior, generator in generators(model, priors).items():
            judge = self._judges[config.samples]
            task = start(judge_samples, share(generator), prior, shared, self._baseline, judge, config, self._compared)
            self._entry_tasks[task], self._names[task] = (entry, prior), f"{entry}, samples under {prior}"

    @property
    def baseline(self) -> Baseline:
        found: Baseline = result(self._baseline)
        return found

    @property
    def judge(self) -> Judge:
        """That of entries without a number of samples of their own."""
        found: Judge = result(self._judge)
        return found

    def results(self) -> Iterator[tuple[str, str, EvaluationResult | InputError]]:
        """Entry, prior, `MODEL` or `RECONSTRUCTIONS`, and the result or why there is none, each as soon as it is there.

        Raises:
            InputError: what all entries depend on has failed. Other errors there are Ray's, with their traceback.
            ChangedDataError: the prepared data have changed in the meantime.
            OtherLibrariesError: a node of the cluster has other versions of libraries.
        """
        for ended in in_order_of_end([*self._shared_tasks, *self._entry_tasks]):
            self._ended.add(ended)
            if ended not in self._entry_tasks:
                result(ended)
                continue
            try:
                found = result_or_reason(ended)
            except (ChangedDataError, OtherLibrariesError):
                raise
            except InputError as error:
                found = error
            yield *self._entry_tasks[ended], found

    def status(self) -> str:
        """The progress, and what runs: the first tasks that have not ended, because they start in order."""
        so_far, done, all_tasks = time.monotonic() - self._started, len(self._ended), len(self._names)
        running = [name for task, name in list(self._names.items()) if task not in self._ended][:SHOWN]
        left = self._left.shown(so_far * (all_tasks - done) / done if done >= SURE * all_tasks else None)
        about = "" if left is None else f", about {duration(left)} left"
        return f"[{done}/{all_tasks}] evaluating for {duration(so_far)}{about}: {'; '.join(running)}"


def _with_samples(config: EvaluationConfig, samples: int | None) -> EvaluationConfig:
    return config if samples is None else config.model_copy(update={"samples": samples})
