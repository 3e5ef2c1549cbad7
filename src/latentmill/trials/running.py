"""How a trial is run and kept."""

import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import torch

from latentmill.codes import drawn_codes
from latentmill.contract import Encodes, HasPosterior, Model
from latentmill.data.batches import Batches
from latentmill.memory import is_out_of_memory
from latentmill.training.endings import EndedError
from latentmill.training.loop import Fitted, Setup, begin, fitted, optimise, train
from latentmill.training.member import Checkpoints, Member
from latentmill.training.ranks import Ranks, SingleRank
from latentmill.training.state import TrainingState
from latentmill.trials.ranking import PinnedFeatures
from latentmill.trials.store import TrialStore
from latentmill.trials.trained_model import Record, weights_bytes
from latentmill.trials.trial import Trial, config_of, identity, model_of

CODES, MOST_DRAWS = 50_000, 8  # for a prior: so many codes are drawn, of each image at most so often


@dataclass(frozen=True)
class Context:
    """What all trials of a worker share."""

    images: Batches  # for training
    val: Batches
    data_digest: str
    store: TrialStore
    classes: int = 0  # of the labels
    features: PinnedFeatures | None = None  # where trials are ranked by the distance of their samples
    compiled: bool = False  # whether steps are compiled

    def setup(self, trial: Trial, ranks: Ranks | None = None) -> Setup:
        """What `trial` learns from.

        Raises:
            InputError: its codes are not finite, or its parent is damaged.
        """
        examples, val = (self.images, self.val) if trial.parent is None else self._codes(trial.parent, trial.seed)
        distance = self.features.distance(self.images, self.val) if trial.features and self.features else None
        return Setup(examples, val, distance, ranks or SingleRank(), self.compiled)

    def _codes(self, parent: str, seed: int) -> tuple[Batches, Batches]:
        """Codes of the training and validation images, several draws of each where these are few."""
        model = self.store.load(parent).model.to(self.images.device)
        assert isinstance(model, Encodes)
        generator = torch.Generator(self.images.device).manual_seed(seed)
        several = max(1, min(MOST_DRAWS, CODES // len(self.images)))
        times = several if isinstance(model, HasPosterior) else 1  # draws without a posterior are all the same
        return _codes(model, self.images, times, generator), _codes(model, self.val, times, generator)


def _codes(model: Encodes, images: Batches, times: int, generator: torch.Generator) -> Batches:
    codes = np.concatenate([drawn_codes(model, images, generator) for _ in range(times)])
    labels = images.labels
    return Batches(codes, images.device, None if labels is None else np.tile(labels, times))


@dataclass(frozen=True)
class Watch:
    """How others follow a trial: pruning, and whoever shows its progress."""

    after_epoch: Callable[[TrainingState], None] = lambda state: None  # once the epoch is safe; may raise EndedError
    rungs: Collection[int] = ()  # epochs after which it may be pruned
    ended: Callable[[], None] = lambda: None  # its result is kept, while others of its pack are still trained


UNWATCHED = Watch()
Save = Callable[[int, Callable[[], None]], None]


class StoredCheckpoints(Checkpoints):
    """The loop's checkpoints, in the trial store."""

    def __init__(
        self, store: TrialStore, fingerprint: str, watch: Watch, ranks: Ranks, save: "Save" = lambda epoch, save: save()
    ) -> None:
        """`save` is given each epoch and what keeps it, to do so or not; an epoch that is a rung is always kept."""
        self.store, self.fingerprint, self.watch, self.ranks, self.save = store, fingerprint, watch, ranks, save
        self.rungs = watch.rungs

    def restore(self, state: TrainingState) -> None:
        self.store.load_checkpoint(self.fingerprint, state)

    def after_epoch(self, state: TrainingState) -> None:
        if self.ranks.is_rank_zero:
            keep_it = partial(self.store.save_checkpoint, self.fingerprint, state)
            if state.epoch in self.rungs:  # a trial that is pruned there goes on from there, if it ever does
                keep_it()
            else:
                self.save(state.epoch, keep_it)
        self.watch.after_epoch(state)


def run(trial: Trial, context: Context, watch: Watch = UNWATCHED, ranks: Ranks | None = None) -> None:
    """Train one trial from where the store has it, and keep there how it ended.

    One that diverges or runs out of memory is kept as such; whatever else is raised is kept as a failure, and raised.
    """
    ranks, store, record = ranks or SingleRank(), context.store, record_of(trial, context)
    try:
        setup = context.setup(trial, ranks)
        ended, weights = _train(trial, setup, context, StoredCheckpoints(store, record["fingerprint"], watch, ranks))
    except EndedError as error:
        ended, weights = error.record, None
    except Exception as error:
        status = "out of memory" if is_out_of_memory(error) else "failed"
        store.end(record["fingerprint"], record | {"status": status, "error": sentence(error)})
        if status == "failed":
            raise
        return
    if ranks.is_rank_zero:
        keep(store, record | ended, weights)


def record_of(trial: Trial, context: Context) -> Record:
    """What is known before a trial has ended."""
    record = identity(trial, trial.fingerprint(context.data_digest), context.data_digest)
    if trial.parent is not None:
        record |= {"parent_weights_sha256": (context.store.find(trial.parent) or {}).get("weights_sha256")}
    return record | {"device": str(context.images.device), "classes": context.classes}


def keep(store: TrialStore, record: Record, weights: bytes | None) -> None:
    """A result that can't be written is told of, in the worker's notes, and counts as none."""
    try:
        store.end(record["fingerprint"], record, weights)
    except OSError as error:
        store.note(f"{record['fingerprint']}: its result can't be kept: {error}")


def _train(trial: Trial, setup: Setup, context: Context, checkpoints: StoredCheckpoints) -> tuple[Record, bytes | None]:
    """How the trial ended, and its weights if it finished.

    Raises:
        DivergedError: a closed form has no finite criterion.
    """
    model = model_of(trial, setup.examples, context.classes)
    if trial.training is None:
        started = time.perf_counter()
        found = train(model, setup, None, trial.seed)
        return _finished(model, found, time.perf_counter() - started), weights_bytes(model)
    member = begin(model, setup, config_of(trial), trial.seed, checkpoints)
    for _ in optimise([member], setup):
        pass
    return result_of(member)


def result_of(member: Member) -> tuple[Record, bytes | None]:
    """How a trial whose epochs are over has ended, and its weights if it finished."""
    started, state = time.perf_counter(), member.state
    try:
        found = fitted(member)
    except EndedError as error:
        return error.record, None
    seconds = state.seconds + time.perf_counter() - started
    return _finished(state.model, found, seconds), weights_bytes(state.model)


def _finished(model: Model, found: Fitted, seconds: float) -> Record:
    return {"status": "finished", "seconds": round(seconds, 2), "shape": list(model.shape), **asdict(found)}


def sentence(error: BaseException) -> str:
    """An error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
