"""Trials: what there is to train, and how one is run and kept."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

import torch

from latentmill import variants
from latentmill.config import TrainingConfig
from latentmill.data.batches import Batches
from latentmill.training import code
from latentmill.training.checkpoint import Record, weights_bytes
from latentmill.training.loop import DivergedError, Progress, steps_an_epoch, train, validate
from latentmill.training.store import TrialStore
from latentmill.training.team import Alone, Team


@dataclass(frozen=True)
class Watch:
    """How others follow a trial: early stopping across trials, and whoever shows its progress."""

    after_epoch: Callable[[Progress], None] = lambda progress: None  # called once the epoch is safe in the store
    rungs: Collection[int] = ()  # epochs after which the row gets the criterion too, as `val_criterion`


@dataclass(frozen=True)
class Trial:
    """One model to train: a variant, its hyperparameters, how to optimise them, and the seed of all randomness."""

    variant: str
    model: dict[str, Any]  # complete, as the variant's `Config` dumps it
    training: dict[str, Any] | None  # complete, as `TrainingConfig` dumps it; None for a closed-form variant
    seed: int

    def fingerprint(self, data_digest: str) -> str:
        """16 hexadecimal digits that name this trial on this data under the present code."""
        content = {"trial": self.__dict__, "data": data_digest, "code": code_digest(self.variant)}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


@cache
def code_digest(variant: str) -> str:
    """The digest of the code that trains `variant`.

    config.py is left out: what it declares enters the fingerprint by value, and its other sections train nothing.
    """
    package = code.SOURCE / "latentmill"
    files = code.imported_files(package / "variants" / f"{variant}.py", package / "training" / "loop.py")
    return code.digest(files - {package / "config.py"})


UNWATCHED = Watch()
SAID_WITHOUT_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "STATUS_ALLOC_FAILED")


class StoredProgress:
    """The loop's checkpoints, in the trial store."""

    def __init__(self, store: TrialStore, fingerprint: str, val: Batches, watch: Watch, team: Team) -> None:
        self.store, self.fingerprint, self.val, self.watch, self.team = store, fingerprint, val, watch, team
        self.started, self.seconds_before = time.perf_counter(), 0.0

    @property
    def seconds(self) -> float:
        """Spent on the trial, in earlier runs too."""
        return self.seconds_before + time.perf_counter() - self.started

    def restore(self, progress: Progress) -> None:
        self.store.load_progress(self.fingerprint, progress)
        self.seconds_before = progress.seconds

    def after_epoch(self, progress: Progress) -> None:
        if progress.epoch in self.watch.rungs:
            progress.history[-1]["val_criterion"] = validate(progress.model.criterion, self.val)
        progress.seconds = self.seconds
        if self.team.leads:
            self.store.save_progress(self.fingerprint, progress)
        self.watch.after_epoch(progress)


def run(
    trial: Trial,
    images: Batches,
    val: Batches,
    data_digest: str,
    store: TrialStore,
    watch: Watch = UNWATCHED,
    halve_batch: bool = False,
    team: Team | None = None,
) -> None:
    """Train one trial from where the store has it, and keep there how it ended.

    One that diverges or runs out of memory is kept as such; with `halve_batch` the latter is run once more, as the
    trial with half its batch size, which stands in for it. Whatever else is raised is kept as a failure, and raised.
    """
    team = team or Alone()
    twin = with_half_the_batch(trial) if halve_batch else None
    if twin and stand_in(store.find(trial.fingerprint(data_digest))):  # an earlier run came so far
        trial, twin = twin, None
    twin_named = {"retried_as": twin.fingerprint(data_digest)} if twin else {}
    fits = _attempt(trial, images, val, data_digest, store, watch, team, twin_named)
    if twin and not fits:
        _attempt(twin, images, val, data_digest, store, watch, team, {})


def _attempt(
    trial: Trial,
    images: Batches,
    val: Batches,
    data_digest: str,
    store: TrialStore,
    watch: Watch,
    team: Team,
    if_out_of_memory: Record,
) -> bool:
    """Whether the trial fitted into memory."""
    fingerprint = trial.fingerprint(data_digest)
    record = {"fingerprint": fingerprint, "trial": asdict(trial), "data_digest": data_digest}
    record |= {"image_shape": images.image_shape, "device": str(images.device)}
    try:
        ended, weights = _train(trial, images, val, StoredProgress(store, fingerprint, val, watch, team), team)
    except DivergedError as error:
        numbers = {"step": error.step, "last_finite_loss": error.last_finite_loss}
        ended, weights = {"status": "diverged", "error": str(error)} | numbers, None
    except Exception as error:
        if not is_out_of_memory(error):
            store.end(fingerprint, record | {"status": "failed", "error": sentence(error)})
            raise
        store.end(fingerprint, record | {"status": "out of memory", "error": sentence(error)} | if_out_of_memory)
        return False
    if team.leads:
        _keep(store, fingerprint, record | ended, weights)
    return True


def _keep(store: TrialStore, fingerprint: str, record: Record, weights: bytes | None) -> None:
    """A result that can't be written is told of, in the worker's notes, and counts as none."""
    try:
        store.end(fingerprint, record, weights)
    except OSError as error:
        store.note(f"{fingerprint}: its result can't be kept: {error}")


def _train(
    trial: Trial, images: Batches, val: Batches, checkpoints: StoredProgress, team: Team
) -> tuple[Record, bytes]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(trial.seed)
        model = variants.build(trial.variant, trial.model, images.image_shape).to(images.device)
    config = TrainingConfig.model_validate(trial.training) if trial.training else None
    fitted = train(model, images, val, config, trial.seed, checkpoints, team)
    if not math.isfinite(fitted.criterion):
        steps = len(fitted.history) * steps_an_epoch(len(images), config) if config else 0
        raise DivergedError(fitted.criterion, steps, fitted.history[-1]["train_loss"] if fitted.history else None)
    return {"status": "finished", "seconds": round(checkpoints.seconds, 2), **asdict(fitted)}, weights_bytes(model)


def with_half_the_batch(trial: Trial) -> Trial | None:
    """None where there is no batch to halve."""
    if trial.training is None or trial.training["batch_size"] == 1:
        return None
    return replace(trial, training=trial.training | {"batch_size": trial.training["batch_size"] // 2})


def stand_in(record: Record | None) -> str | None:
    """The fingerprint of the trial that was run in place of this one, if one was."""
    return record.get("retried_as") if record else None


def is_out_of_memory(error: BaseException) -> bool:
    """torch has a class for it; its CPU allocator and the libraries below it raise a RuntimeError, Python its own."""
    said = any(words in str(error) for words in SAID_WITHOUT_MEMORY)
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (isinstance(error, RuntimeError) and said)


def sentence(error: BaseException) -> str:
    """An error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
