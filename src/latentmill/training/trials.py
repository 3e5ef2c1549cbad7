"""Trials: what there is to train, and how one is run and kept."""

import hashlib
import json
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
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
from latentmill.training.store import SETTLED, TrialStore
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
SAID_WITHOUT_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "STATUS_ALLOC_FAILED")


class StoredProgress:
    """The loop's checkpoints, in the trial store."""

    def __init__(
        self, store: TrialStore, fingerprint: str, watch: Watch, team: Team, pace: "Pace | None" = None
    ) -> None:
        """With a `pace`, which a stack shares, an epoch is kept when it says so and at rungs, else each is."""
        self.store, self.fingerprint, self.watch, self.team, self.pace = store, fingerprint, watch, team, pace
        self.rungs = watch.rungs

    def restore(self, progress: Progress) -> None:
        self.store.load_progress(self.fingerprint, progress)

    def after_epoch(self, progress: Progress) -> None:
        if self.pace and progress.epoch not in self.rungs:  # a trial that is stopped there goes on from there
            self.pace.keep(progress.epoch, lambda: self.store.save_progress(self.fingerprint, progress))
        elif self.team.leads:
            self.store.save_progress(self.fingerprint, progress)
        self.watch.after_epoch(progress)


class Pace:
    """Lets a stack keep its progress after the first epoch, and then as often as takes a tenth of its time.

    A stack of small models ends an epoch of all sooner than their files are written.
    """

    def __init__(self) -> None:
        self.epoch, self.spent, self.next = 0, 0.0, 0.0

    def keep(self, epoch: int, save: Callable[[], None]) -> None:
        """Save a member's progress after `epoch`, if that is an epoch to keep; all members are asked in turn."""
        started = time.perf_counter()
        if epoch != self.epoch and started < self.next:
            return
        self.spent = 0.0 if epoch != self.epoch else self.spent
        save()
        ended = time.perf_counter()
        self.spent += ended - started
        self.epoch, self.next = epoch, ended + 9 * self.spent


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


def run_together(
    asked: Sequence[Trial],
    images: Batches,
    val: Batches,
    data_digest: str,
    store: TrialStore,
    watches: Sequence[Watch],
    halve_batch: bool = False,
    compiled: bool = False,
) -> None:
    """Likewise train several trials whose weights have the same shapes, as one program.

    Where that takes too much memory, two halves follow one another; where it can't be done at all, each trial is run.
    """
    if len(asked) == 1:
        run(asked[0], images, val, data_digest, store, watches[0], halve_batch, compiled=compiled)
        return
    try:
        _train_together(asked, images, val, data_digest, store, watches, compiled)
        return
    except (RuntimeError, MemoryError) as error:  # torch's; what else is raised is no matter of the stack
        store.note(f"{len(asked)} trials can't be one program, so they are fewer at a time: {sentence(error)}")
        half = (len(asked) + 1) // 2 if is_out_of_memory(error) else 1
    pairs = zip(asked, watches, strict=True)
    left = [(trial, watch) for trial, watch in pairs if not _is_over(trial, data_digest, store)]
    for start in range(0, len(left), half):
        fewer, theirs = zip(*left[start : start + half], strict=True)
        run_together(fewer, images, val, data_digest, store, theirs, halve_batch, compiled)


def _train_together(
    asked: Sequence[Trial],
    images: Batches,
    val: Batches,
    data_digest: str,
    store: TrialStore,
    watches: Sequence[Watch],
    compiled: bool,
) -> None:
    fingerprints = [trial.fingerprint(data_digest) for trial in asked]
    members, pace = [], Pace()
    for trial, fingerprint, watch in zip(asked, fingerprints, watches, strict=True):
        checkpoints = StoredProgress(store, fingerprint, watch, Alone(), pace)
        members.append(begin(model_of(trial, images), images, config_of(trial), trial.seed, checkpoints))
    for member in optimise(members, images, val, compiled=compiled):
        row = members.index(member)
        fingerprint = fingerprints[row]
        record = _record(asked[row], fingerprint, data_digest, images)
        try:
            ended, weights = _result(member, images, val)
        except EndedError as error:
            ended, weights = error.record, None
        _keep(store, fingerprint, record | ended, weights)


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


def _is_over(trial: Trial, data_digest: str, store: TrialStore) -> bool:
    record = store.find(trial.fingerprint(data_digest))
    return record is not None and record["status"] in (*SETTLED, "stopped")


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
    record = _record(trial, fingerprint, data_digest, images)
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
        _keep(store, fingerprint, record | ended, weights)
    return True


def _record(trial: Trial, fingerprint: str, data_digest: str, images: Batches) -> Record:
    """What is known before a trial has ended."""
    record = {"fingerprint": fingerprint, "trial": asdict(trial), "data_digest": data_digest}
    return record | {"image_shape": images.image_shape, "device": str(images.device)}


def _keep(store: TrialStore, fingerprint: str, record: Record, weights: bytes | None) -> None:
    """A result that can't be written is told of, in the worker's notes, and counts as none."""
    try:
        store.end(fingerprint, record, weights)
    except OSError as error:
        store.note(f"{fingerprint}: its result can't be kept: {error}")


def _train(
    trial: Trial, images: Batches, val: Batches, checkpoints: StoredProgress, team: Team, compiled: bool
) -> tuple[Record, bytes]:
    """How the trial ended, and its weights.

    Raises:
        EndedError: it was over before its time.
    """
    model = model_of(trial, images)
    if trial.training is None:
        started = time.perf_counter()
        found = train(model, images, val, None, trial.seed)
        return _finished(found, time.perf_counter() - started), weights_bytes(model)
    member = begin(model, images, config_of(trial), trial.seed, checkpoints)
    for _ in optimise([member], images, val, team, compiled):
        pass
    return _result(member, images, val)


def _result(member: Member, images: Batches, val: Batches) -> tuple[Record, bytes]:
    """Likewise, of a trial whose epochs are over."""
    started, progress = time.perf_counter(), member.progress
    found = fitted(member, images, val)
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
