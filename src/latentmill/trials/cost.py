"""What a trial costs in time, memory and disk, measured in a second or two before any is trained.

Its steps are those of the training loop on a few images; validation, codes and closed forms take as long as their
number of examples says. A prior is measured on the codes of an untrained model.
"""

import hashlib
import json
import resource
import secrets
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from math import ceil
from typing import Any

import numpy as np
import torch

from latentmill.codes import drawn_codes
from latentmill.contract import Encodes
from latentmill.data.batches import Batches
from latentmill.errors import InputError
from latentmill.storage import Storage
from latentmill.training.endings import DivergenceCheck, EndedError
from latentmill.training.loop import Setup, train, train_steps
from latentmill.training.state import to_bytes
from latentmill.training.trainer import Trainer
from latentmill.trials.pack_size import SLOW_STEP, best_size, copies
from latentmill.trials.packs import FAULTS
from latentmill.trials.ranking import PinnedFeatures
from latentmill.trials.record import parse_record, record_bytes
from latentmill.trials.running import code_draws
from latentmill.trials.trained_model import weights_bytes
from latentmill.trials.trial import Trial, code_digest, libraries

SAMPLE, FEW = 512, 256  # images to measure on: closed forms, steps; more where a batch is larger
SECONDS = 1.0  # to time steps
MOST = 2**16  # bytes of a stored cost
Numbers = dict[str, Any]  # fields of a `Cost`
MOST_CODES = 10_000  # to which a closed form is fitted that learns codes: a mixture takes no more


@dataclass(frozen=True)
class Cost:
    """Of one trial, which others of its shape share."""

    workers: int  # that were measured at a time
    memory: int  # bytes of a worker at its peak, code and libraries included
    start: float = 0.0  # seconds before its first step, to encode images; all those of a closed form
    epoch: float = 0.0  # seconds of an epoch beside its steps: validation, checkpoint
    step: float = 0.0  # seconds; of a pack, a member's share
    first_step: float = 0.0  # the same in the `untrained` epochs
    untrained: int = 0  # epochs, before the last phase of its model begins
    weights: int = 0  # bytes on disk
    checkpoint: int = 0  # bytes on disk while it is trained

    def seconds(self, epochs: int, steps: int) -> float:
        """Of a trial of so many epochs, each of so many steps; a closed form has none."""
        first = min(epochs, self.untrained)
        return self.start + epochs * self.epoch + steps * (first * self.first_step + (epochs - first) * self.step)


@dataclass(frozen=True)
class Sample:
    """Images to measure on, uint8 (n, C, H, W), with labels int64 (n), if any; and how many there are in all."""

    images: np.ndarray
    labels: np.ndarray | None
    classes: int
    train: int
    val: int
    features: PinnedFeatures | None = None  # where trials are ranked by distance

    def batches(self, device: str, trial: Trial) -> Batches:
        """All for a closed form; whole batches for a trial with steps, which may be slow."""
        size = SAMPLE if trial.training is None else trial.training_config.batch_size
        count = max(1, FEW // size) * size
        return Batches(self.images[:count], device, None if self.labels is None else self.labels[:count])


def key(trial: Trial, parent: Trial | None, data_digest: str, machine: str) -> str:
    """Equal for trials of the same cost: those that differ by real numbers, length and seed. 16 hexadecimal digits."""
    content = [data_digest, machine, json.dumps(libraries())]
    for each in (trial, parent):
        if each:
            content.append(json.dumps([each.model, each.features, each.fixed, code_digest(each.family, each.model)]))
    return hashlib.sha256("\n".join(content).encode()).hexdigest()[:16]


def load(name: str, storage: Storage) -> Cost | None:
    """The cost under a key; None where it was not measured, or is damaged or that of another key."""
    try:
        found = parse_record(storage.read(f".costs/{name}.json", MOST), name)
        cost = Cost(**{each.name: found[each.name] for each in fields(Cost)})
        return cost if found["key"] == name and _is_possible(cost) else None
    except (OSError, InputError, KeyError):
        return None


def _is_possible(cost: Cost) -> bool:
    return all(type(each) in (int, float) and each >= 0 for each in asdict(cost).values()) and cost.workers >= 1


def save(name: str, cost: Cost, storage: Storage) -> None:
    storage.write(f".costs/{name}.json", record_bytes(asdict(cost) | {"key": name}))


def measured(
    trial: Trial, parent: Trial | None, sample: Sample, device: str, most: int, workers: int, storage: Storage
) -> Cost:
    """The cost of a trial whose packs have at most `most` members, while so many `workers` are measured."""
    try:
        part = _codes(trial, parent, sample, device) if parent else _images(trial, sample, device)
        if trial.training is None:
            numbers = _closed_form(trial, part, sample.classes)
        else:
            numbers = _trained(trial, part, sample.classes, most, storage)
    except (*FAULTS, InputError, EndedError):
        numbers = {}  # the trial will fail at once with the same error, and report it
    return Cost(workers, _memory(), **numbers)


@dataclass(frozen=True)
class _Part:
    """Of the examples of a trial."""

    setup: Setup  # whose examples for validation are the same
    train: float  # how many times as many there are
    val: float
    seconds: float = 0.0  # until the trial has all of them


def _images(trial: Trial, sample: Sample, device: str) -> _Part:
    images = sample.batches(device, trial)
    distance = sample.features.distance(images, images) if trial.features and sample.features else None
    return _Part(Setup(images, images, distance), sample.train / len(images), sample.val / len(images))


def _codes(trial: Trial, parent: Trial, sample: Sample, device: str) -> _Part:
    images, augment = sample.batches(device, trial), (parent.training or {}).get("augment", [])
    model = parent.build_model(images, sample.classes).eval()
    assert isinstance(model, Encodes)
    draws, held_out = (code_draws(type(model), each, sample.train) for each in (augment, ()))
    started = time.perf_counter()
    codes = Batches(drawn_codes(model, images, _generator(device), augment), device, images.labels)
    shares = draws * sample.train / len(images), held_out * sample.val / len(images)
    return _Part(Setup(codes, codes), *shares, (time.perf_counter() - started) * sum(shares))


def _closed_form(trial: Trial, part: _Part, classes: int) -> Numbers:
    model = trial.build_model(part.setup.examples, classes)
    train(model, part.setup, None, trial.seed)  # imports what it needs
    seconds = _mean_seconds(lambda: train(model, part.setup, None, trial.seed))
    times = min(part.train, MOST_CODES / len(part.setup.examples)) if trial.parent else part.train
    return {"start": part.seconds + seconds * times, "weights": len(weights_bytes(model))}


def _trained(trial: Trial, part: _Part, classes: int, most: int, storage: Storage) -> Numbers:
    setup, size = part.setup, 1
    trained = copies(trial, size, setup, classes)
    step = _step_seconds(trained, setup.examples)
    if most > 1 and (step < SLOW_STEP or setup.examples.device.type != "cpu"):
        size = best_size(trial, setup, classes, most)
        trained = copies(trial, size, setup, classes)
        step = _step_seconds(trained, setup.examples) / size
    first, untrained = step, trained.members[0].untrained_epochs
    if untrained:
        for member in trained.members:
            member.history = [{"train_loss": 0.0}] * untrained  # so that its last phase is due
        step = _step_seconds(trained, setup.examples) / size
    ranked = _mean_seconds(lambda: trained.evaluate(setup.evaluate)) * part.val
    trained.end_epoch()
    state, probe = trained.members[0], f".costs/probe-{secrets.token_hex(8)}"
    written = _mean_seconds(lambda: storage.write(probe, to_bytes(state)))
    checkpoint = len(storage.read(probe))
    storage.delete(probe)
    return {
        "start": part.seconds,
        "epoch": ranked / size + written,
        "step": step,
        "first_step": first,
        "untrained": untrained,
        "weights": len(weights_bytes(state.model)),
        "checkpoint": checkpoint,
    }


def _step_seconds(trained: Trainer, examples: Batches) -> float:
    """Of a step of the pack, as the loop runs it; the first pass, which is slower, does not count."""
    check = DivergenceCheck(trained, examples.device)  # which waits for a GPU at the end of each pass
    train_steps(trained, examples, check)
    steps = ceil(len(examples) / trained.members[0].config.batch_size)
    return _mean_seconds(lambda: train_steps(trained, examples, check), SECONDS) / steps


def _generator(device: str) -> torch.Generator:
    return torch.Generator(device).manual_seed(0)


def _mean_seconds(call: Callable[[], object], least: float = 0.0) -> float:
    """Of calls for at least so many seconds."""
    started, calls = time.perf_counter(), 0
    while not calls or time.perf_counter() - started < least:
        call()
        calls += 1
    return (time.perf_counter() - started) / calls


def _memory() -> int:
    """Bytes of this process at its peak."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
