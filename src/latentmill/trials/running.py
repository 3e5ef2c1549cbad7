"""How a trial is trained and its result stored."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import torch

from latentmill.codes import drawn_codes
from latentmill.contract import Encodes, HasBound, HasCodebook, IndexPrior, Model
from latentmill.data.batches import Batches
from latentmill.errors import error_line
from latentmill.memory import is_out_of_memory
from latentmill.training.endings import EndedError
from latentmill.training.loop import Fitted, Setup, train
from latentmill.training.member import Checkpoints
from latentmill.training.ranks import Ranks, SingleRank
from latentmill.training.state import TrainingState
from latentmill.trials.ranking import PinnedFeatures
from latentmill.trials.record import Record
from latentmill.trials.store import TrialStore
from latentmill.trials.trained_model import TrainedModel, weights_bytes
from latentmill.trials.trial import Trial, identity
from latentmill.trials.warm_start import Start, WarmStart

CODES, MOST_DRAWS = 50_000, 8  # to train a prior: codes in all, and draws of each image, at most


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
    warm_start: WarmStart | None = None

    def parent(self, trial: Trial) -> TrainedModel | None:
        """The model whose codes a prior learns; None for a model.

        Raises:
            InputError: it is damaged.
        """
        return None if trial.parent is None else self.store.load(trial.parent)

    def setup(self, trial: Trial, ranks: Ranks | None = None, parent: TrainedModel | None = None) -> Setup:
        """The examples of `trial`, and how it is ranked; its `parent` is loaded unless given.

        Raises:
            InputError: its codes are not finite, or its parent is damaged.
        """
        parent = parent or self.parent(trial)
        examples, val = self._codes(parent, trial.seed) if parent else (self.images, self.val)
        distance = self.features.distance(self.images, self.val) if trial.features and self.features else None
        return Setup(examples, val, distance, ranks or SingleRank(), self.compiled)

    def start(self, trial: Trial, model: Model) -> Start | None:
        """The earlier weights with which `trial` begins; None where its model, here as it was built, has its own.

        Raises:
            InputError: they are not there any more, or damaged.
        """
        if trial.start is None:
            return None
        assert self.warm_start
        return Start.of(self.warm_start.weights(trial.start), trial, model)

    def _codes(self, parent: TrainedModel, seed: int) -> tuple[Batches, Batches]:
        """Codes of the training and validation images, several draws of each where there are few images.

        The training images are augmented as in the training of the model, but not those for validation.
        """
        model, augment = parent.model.to(self.images.device), parent.augment
        assert isinstance(model, Encodes)
        generator = torch.Generator(self.images.device).manual_seed(seed)
        draws, held_out = (code_draws(type(model), each, len(self.images)) for each in (augment, ()))
        codes = _codes(model, self.images, draws, generator, augment)
        return codes, _codes(model, self.val, held_out, generator)


def code_draws(model: type[Model], augment: Sequence[str], images: int) -> int:
    """How many codes of each of so many images a prior learns: one where all would be equal, else as many as fit."""
    return max(1, min(MOST_DRAWS, CODES // images)) if augment or issubclass(model, HasBound) else 1


def _codes(
    model: Encodes, images: Batches, draws: int, generator: torch.Generator, augment: Sequence[str] = ()
) -> Batches:
    codes = np.concatenate([drawn_codes(model, images, generator, augment) for _ in range(draws)])
    labels = None if images.labels is None else np.tile(images.labels, draws)
    return Batches(codes, images.device, labels, model.entries if isinstance(model, HasCodebook) else 0)


@dataclass(frozen=True)
class Watch:
    """Callbacks of a trial, for pruning and for the display."""

    after_epoch: Callable[[TrainingState], None] = lambda state: None  # after its checkpoint; may raise EndedError
    rungs: Collection[int] = ()  # epochs after which it may be pruned
    ended: Callable[[], None] = lambda: None  # after its result is stored, while others of its pack may train on


UNWATCHED = Watch()
Throttle = Callable[[int, Callable[[], None]], None]  # (epoch, save): saves the epoch's checkpoint, or not


class StoredCheckpoints(Checkpoints):
    """Checkpoints in the trial store."""

    def __init__(
        self,
        store: TrialStore,
        record: Record,
        watch: Watch,
        ranks: Ranks,
        throttle: Throttle = lambda epoch, save: save(),
        start: Start | None = None,
    ) -> None:
        """`record` is what is known of the trial before it is trained; `start` is of use where nothing is stored."""
        self.store, self.watch, self.ranks, self.throttle, self.start = store, watch, ranks, throttle, start
        self.fingerprint: str = record["fingerprint"]
        # A prior's fingerprint names the trial of its parent, which may have been redone and have other weights.
        self.owner = f"{self.fingerprint} {record.get('parent_weights_sha256', '')}".rstrip()

    def restore(self, state: TrainingState) -> None:
        if self.start:
            self.start.load_into(state.model)
        self.store.load_checkpoint(self.fingerprint, state, self.owner)

    def after_epoch(self, state: TrainingState) -> None:
        if self.ranks.is_rank_zero:
            save = partial(self.store.save_checkpoint, self.fingerprint, state, self.owner)
            if state.epoch in self.watch.rungs:  # a pruned trial may be resumed from its rung
                save()
            else:
                self.throttle(state.epoch, save)
        self.watch.after_epoch(state)


def run(trial: Trial, context: Context, watch: Watch = UNWATCHED, ranks: Ranks | None = None) -> None:
    """Train one trial from its last checkpoint, and store its result.

    A trial that diverges or runs out of memory is stored as such; any other error is stored as a failure, and raised.
    """
    ranks, store, record = ranks or SingleRank(), context.store, new_record(trial, context)
    try:
        parent = context.parent(trial)
        record |= parent_weights(parent)
        setup = context.setup(trial, ranks, parent)
        model = trial.build_model(setup.examples, context.classes)
        checkpoints = StoredCheckpoints(store, record, watch, ranks, start=context.start(trial, model))
        config = trial.training_config if trial.training else None
        found = train(model, setup, config, trial.seed, checkpoints)
        result, weights = finished_record(model, found), weights_bytes(model)
    except EndedError as error:
        result, weights = error.record, None
    except Exception as error:
        status = "out of memory" if is_out_of_memory(error) else "failed"
        store.save_result(record["fingerprint"], record | {"status": status, "error": error_line(error)})
        if status == "failed":
            raise
        return
    if ranks.is_rank_zero:
        save_result(store, record | result, weights)


def new_record(trial: Trial, context: Context) -> Record:
    """What is known before the trial is trained."""
    record = identity(trial, trial.fingerprint(context.data_digest), context.data_digest)
    return record | {"device": str(context.images.device), "classes": context.classes}


def parent_weights(parent: TrainedModel | None) -> Record:
    """Which weights a prior's codes are of: those that were loaded, not those that are stored by now."""
    return {} if parent is None else {"parent_weights_sha256": parent.record["weights_sha256"]}


def save_result(store: TrialStore, record: Record, weights: bytes | None) -> None:
    """A result that can't be written is noted, and lost."""
    try:
        store.save_result(record["fingerprint"], record, weights)
    except OSError as error:
        store.note(f"{record['fingerprint']}: its result can't be kept: {error}")


def finished_record(model: Model, found: Fitted) -> Record:
    entries = {"entries": model.entries} if isinstance(model, IndexPrior) else {}
    return {"status": "finished", "shape": list(model.shape), **entries, **asdict(found)}
