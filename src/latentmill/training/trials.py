"""Trials: what there is to train, and how one is run and kept."""

import hashlib
import json
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from latentmill import variants
from latentmill.config import TrainingConfig
from latentmill.data.batches import Batches
from latentmill.training import checkpoint, code
from latentmill.training.checkpoint import Record, weights_bytes
from latentmill.training.loop import EndedError, Fitted, Member, begin, complete, fitted, optimise, train
from latentmill.training.progress import Progress
from latentmill.training.store import TrialStore
from latentmill.training.team import Alone, Team
from latentmill.variant import Variant


@dataclass(frozen=True)
class Watch:
    """How others follow a trial: early stopping across trials, and whoever shows its progress."""

    after_epoch: Callable[[Progress], None] = lambda progress: None  # once the epoch is safe; may raise EndedError
    rungs: Collection[int] = ()  # epochs after which the row gets the criterion too, as `val_criterion`


@dataclass(frozen=True)
class Trial:
    """One model to train: a variant, its hyperparameters, how to optimise them, and the seed of all randomness."""

    variant: str
    model: dict[str, Any]  # complete, as the variant's `Config` dumps it
    training: dict[str, Any] | None  # complete, as `TrainingConfig` dumps it; None for a closed-form variant
    seed: int

    @property
    def shape(self) -> str | None:
        """Equal for trials that can be one program: those that differ in real numbers, the seed and when to end.

        By the contract of a variant such numbers are tensors. None for a closed-form variant, which has no steps.
        """
        if self.training is None:
            return None
        fixed = {key: value for key, value in self.model.items() if not isinstance(value, float)}
        fixed |= {key: self.training[key] for key in ("batch_size", "precision")}
        return json.dumps([self.variant, fixed], sort_keys=True)

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
Save = Callable[[int, Callable[[], None]], None]
SAID_WITHOUT_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "STATUS_ALLOC_FAILED")


class StoredProgress:
    """The loop's checkpoints, in the trial store."""

    def __init__(
        self, store: TrialStore, fingerprint: str, watch: Watch, team: Team, save: "Save" = lambda epoch, save: save()
    ) -> None:
        """`save` is given each epoch and what keeps it, to do so or not; an epoch that is a rung is always kept."""
        self.store, self.fingerprint, self.watch, self.team, self.save = store, fingerprint, watch, team, save
        self.rungs = watch.rungs

    def restore(self, progress: Progress) -> None:
        self.store.load_progress(self.fingerprint, progress)

    def after_epoch(self, progress: Progress) -> None:
        if self.team.leads:
            keep_it = partial(self.store.save_progress, self.fingerprint, progress)
            if progress.epoch in self.rungs:  # a trial that is stopped there goes on from there
                keep_it()
            else:
                self.save(progress.epoch, keep_it)
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
    compiled: bool = False,
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
    fits = _attempt(trial, images, val, data_digest, store, watch, team, compiled, twin_named)
    if twin and not fits:
        _attempt(twin, images, val, data_digest, store, watch, team, compiled, {})


def bring_home(store: TrialStore, fingerprint: str, folder: Path, images: Batches, val: Batches) -> None:
    """Make a finished trial a model that is ready for use, in `folder`, which must exist.

    Priors are fitted here and not in the trial, because they take longer than a small model trains, and only the
    winners' are used.

    Raises:
        InputError: what is kept of the trial is damaged; the next sweep redoes it. Or a prior can't be fitted.
    """
    store.fetch(fingerprint, folder)
    trained = checkpoint.load(folder)
    complete(trained.model, images, val, trained.record["trial"]["seed"])
    checkpoint.save(folder, trained.model, trained.record)


def _attempt(
    trial: Trial,
    images: Batches,
    val: Batches,
    data_digest: str,
    store: TrialStore,
    watch: Watch,
    team: Team,
    compiled: bool,
    if_out_of_memory: Record,
) -> bool:
    """Whether the trial fitted into memory."""
    fingerprint = trial.fingerprint(data_digest)
    record = record_of(trial, fingerprint, data_digest, images)
    try:
        ended, weights = _train(trial, images, val, StoredProgress(store, fingerprint, watch, team), team, compiled)
    except EndedError as error:
        ended, weights = error.record, None
    except Exception as error:
        if not is_out_of_memory(error):
            store.end(fingerprint, record | {"status": "failed", "error": sentence(error)})
            raise
        store.end(fingerprint, record | {"status": "out of memory", "error": sentence(error)} | if_out_of_memory)
        return False
    if team.leads:
        keep(store, fingerprint, record | ended, weights)
    return True


def record_of(trial: Trial, fingerprint: str, data_digest: str, images: Batches) -> Record:
    """What is known before a trial has ended."""
    record = {"fingerprint": fingerprint, "trial": asdict(trial), "data_digest": data_digest}
    return record | {"image_shape": images.image_shape, "device": str(images.device)}


def keep(store: TrialStore, fingerprint: str, record: Record, weights: bytes | None) -> None:
    """A result that can't be written is told of, in the worker's notes, and counts as none."""
    try:
        store.end(fingerprint, record, weights)
    except OSError as error:
        store.note(f"{fingerprint}: its result can't be kept: {error}")


def _train(
    trial: Trial, images: Batches, val: Batches, checkpoints: StoredProgress, team: Team, compiled: bool
) -> tuple[Record, bytes | None]:
    """How the trial ended, and its weights if it finished.

    Raises:
        DivergedError: a closed form has no finite criterion.
    """
    model = model_of(trial, images)
    if trial.training is None:
        started = time.perf_counter()
        found = train(model, images, val, None, trial.seed)
        return _finished(found, time.perf_counter() - started), weights_bytes(model)
    member = begin(model, images, config_of(trial), trial.seed, checkpoints)
    for _ in optimise([member], images, val, team, compiled):
        pass
    return result_of(member, images, val)


def result_of(member: Member, images: Batches, val: Batches) -> tuple[Record, bytes | None]:
    """How a trial whose epochs are over has ended, and its weights if it finished."""
    started, progress = time.perf_counter(), member.progress
    try:
        found = fitted(member, images, val)
    except EndedError as error:
        return error.record, None
    return _finished(found, progress.seconds + time.perf_counter() - started), weights_bytes(progress.model)


def _finished(found: Fitted, seconds: float) -> Record:
    return {"status": "finished", "seconds": round(seconds, 2), **asdict(found)}


def model_of(trial: Trial, images: Batches) -> Variant:
    """The weights that the trial starts with."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(trial.seed)
        return variants.build(trial.variant, trial.model, images.image_shape).to(images.device)


def config_of(trial: Trial) -> TrainingConfig:
    return TrainingConfig.model_validate(trial.training)


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
