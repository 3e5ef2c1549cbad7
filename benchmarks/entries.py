"""Entries of params.yaml and their priors, trained in this process by the same code as the stage train."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from latentmill.config import Params, load_params
from latentmill.data.batches import Batches
from latentmill.data.dataset import SPLITS, read_classes, read_labels, read_manifest, read_split
from latentmill.errors import InputError
from latentmill.evaluation.prepared import PreparedData
from latentmill.trials.auto import with_values_for
from latentmill.trials.running import Context, run
from latentmill.trials.space import Space, space
from latentmill.trials.store import TrialStore
from latentmill.trials.trained_model import TrainedModel
from latentmill.trials.trial import Trial

LECTURE = Path(__file__).parents[1] / "ladders/lecture.yaml"


def context_of(folder: Path, store: Path) -> Context:
    """What the trials on a prepared data set share; their results go to a trial store below `store`.

    Raises:
        InputError: `folder` does not hold a prepared data set.
    """
    images, val = (Batches(read_split(folder, name), labels=read_labels(folder, name)) for name in ("train", "val"))
    return Context(images, val, read_manifest(folder)["digest"], TrialStore(store), len(read_classes(folder) or []))


def prepared_data(folder: Path) -> PreparedData:
    """A prepared data set, as the evaluation needs it.

    Raises:
        InputError: `folder` does not hold one, or one that is too small.
    """
    images, labels = (read_split(folder, split) for split in SPLITS), (read_labels(folder, split) for split in SPLITS)
    return PreparedData(*images, *labels, classes=read_classes(folder))


def params_for(folder: Path, path: Path) -> Params:
    """params.yaml, in which what is `auto` suits the prepared images.

    Raises:
        InputError: either is not what it should be.
    """
    return with_values_for(read_split(folder, "train"), load_params(path), print)


def entry_trial(params: Params, entry: str) -> Trial:
    """The trial of an entry of the ladder; of a grid, its first point."""
    return _first(params, space(entry, params.ladder[entry]), parent=None)


def lecture_trial(folder: Path, entry: str, epochs: int) -> Trial:
    """That of an entry of ladders/lecture.yaml, for the prepared images in `folder`, with so many epochs."""
    return changed(entry_trial(params_for(folder, LECTURE), entry), epochs=epochs)


def prior_trial(params: Params, prior: str, parent: str) -> Trial:
    """The trial of a prior, on the codes of the trial with the fingerprint `parent`."""
    return _first(params, space(prior, params.priors[prior], "priors"), parent)


def _first(params: Params, searched: Space, parent: str | None) -> Trial:
    point = next(searched.points(params.train.sampling_seed))
    return searched.configuration(point, params.trial).trial(params.train.seeds[0], None, parent)


def changed(trial: Trial, **training: Any) -> Trial:
    """The same trial with other settings of its training."""
    assert trial.training is not None
    return replace(trial, training=trial.training | training)


def trained(trial: Trial, context: Context) -> tuple[str, TrainedModel]:
    """The fingerprint and the result of a trial, which is trained unless the store has it.

    Raises:
        InputError: it did not finish.
    """
    fingerprint = trial.fingerprint(context.data_digest)
    record = context.store.find(fingerprint)
    if record is None or record["status"] != "finished":
        run(trial, context)
    record = context.store.find(fingerprint) or {}
    if record.get("status") != "finished":
        raise InputError(f"{trial.model} must finish its training, but {record.get('error', 'left no result')}")
    return fingerprint, context.store.load(fingerprint)
