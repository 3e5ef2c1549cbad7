"""How a trial is run and kept."""

import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from latentmill.data.batches import Batches
from latentmill.errors import InputError
from latentmill.memory import is_out_of_memory
from latentmill.training.endings import EndedError
from latentmill.training.loop import Fitted, Member, begin, complete, fitted, optimise, train
from latentmill.training.ranks import Alone, Team
from latentmill.training.state import Progress
from latentmill.trials import trained_model
from latentmill.trials.store import TrialStore
from latentmill.trials.trained_model import Record, weights_bytes
from latentmill.trials.trial import Trial, config_of, identity, model_of


@dataclass(frozen=True)
class Context:
    """What all trials of a worker share."""

    images: Batches  # for training
    val: Batches
    data_digest: str
    store: TrialStore
    compiled: bool = False  # whether steps are compiled


@dataclass(frozen=True)
class Watch:
    """How others follow a trial: early stopping across trials, and whoever shows its progress."""

    after_epoch: Callable[[Progress], None] = lambda progress: None  # once the epoch is safe; may raise EndedError
    rungs: Collection[int] = ()  # epochs after which it may be stopped
    ended: Callable[[], None] = lambda: None  # its result is kept, while those of its stack are still trained


UNWATCHED = Watch()
Save = Callable[[int, Callable[[], None]], None]


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


def run(trial: Trial, context: Context, watch: Watch = UNWATCHED, team: Team | None = None) -> None:
    """Train one trial from where the store has it, and keep there how it ended.

    One that diverges or runs out of memory is kept as such; whatever else is raised is kept as a failure, and raised.
    """
    team, store, record = team or Alone(), context.store, record_of(trial, context)
    fingerprint = record["fingerprint"]
    try:
        ended, weights = _train(trial, context, StoredProgress(store, fingerprint, watch, team), team)
    except EndedError as error:
        ended, weights = error.record, None
    except Exception as error:
        status = "out of memory" if is_out_of_memory(error) else "failed"
        store.end(fingerprint, record | {"status": status, "error": sentence(error)})
        if status == "failed":
            raise
        return
    if team.leads:
        keep(store, record | ended, weights)


class UnfitError(InputError):
    """A trained model can't be made ready for use with this data."""


def bring_home(store: TrialStore, fingerprint: str, folder: Path, images: Batches, val: Batches) -> None:
    """Make a finished trial a model that is ready for use, in `folder`, which must exist.

    Priors are fitted here and not in the trial, because they take longer than a small model trains, and only the
    winners' are used.

    Raises:
        UnfitError: a prior can't be fitted; the folder is left empty.
        InputError: what is kept of the trial is damaged; the next sweep redoes it.
    """
    store.fetch(fingerprint, folder)
    trained = trained_model.load(folder)
    try:
        complete(trained.model, images, val, trained.record["trial"]["seed"])
    except InputError as error:
        for path in folder.iterdir():
            path.unlink()
        raise UnfitError(str(error)) from None
    trained_model.save(folder, trained.model, trained.record)


def record_of(trial: Trial, context: Context) -> Record:
    """What is known before a trial has ended."""
    digest, images = context.data_digest, context.images
    record = identity(trial, trial.fingerprint(digest), digest)
    return record | {"image_shape": images.image_shape, "device": str(images.device)}


def keep(store: TrialStore, record: Record, weights: bytes | None) -> None:
    """A result that can't be written is told of, in the worker's notes, and counts as none."""
    try:
        store.end(record["fingerprint"], record, weights)
    except OSError as error:
        store.note(f"{record['fingerprint']}: its result can't be kept: {error}")


def _train(trial: Trial, context: Context, checkpoints: StoredProgress, team: Team) -> tuple[Record, bytes | None]:
    """How the trial ended, and its weights if it finished.

    Raises:
        DivergedError: a closed form has no finite criterion.
    """
    images, val = context.images, context.val
    model = model_of(trial, images)
    if trial.training is None:
        started = time.perf_counter()
        found = train(model, images, val, None, trial.seed)
        return _finished(found, time.perf_counter() - started), weights_bytes(model)
    member = begin(model, images, config_of(trial), trial.seed, checkpoints)
    for _ in optimise([member], images, val, team, context.compiled):
        pass
    return result_of(member)


def result_of(member: Member) -> tuple[Record, bytes | None]:
    """How a trial whose epochs are over has ended, and its weights if it finished."""
    started, progress = time.perf_counter(), member.progress
    try:
        found = fitted(member)
    except EndedError as error:
        return error.record, None
    return _finished(found, progress.seconds + time.perf_counter() - started), weights_bytes(progress.model)


def _finished(found: Fitted, seconds: float) -> Record:
    return {"status": "finished", "seconds": round(seconds, 2), **asdict(found)}


def sentence(error: BaseException) -> str:
    """An error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
