"""Training on a GPU has the results of the CPU. Skipped where there is none; `make gpu` runs it.

Needs nothing of conftest.py, so that a machine with a GPU needs little beside torch. With LATENTMILL_GPU_TESTS=cpu the
CPU stands in for the GPU, to try the tests themselves.
"""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from latentmill import registry
from latentmill.codes import Generator
from latentmill.config import TrainingConfig
from latentmill.data.batches import Batches
from latentmill.draws import Draw
from latentmill.trials import packs, running, trained_model
from latentmill.trials.running import UNWATCHED, Context, Watch
from latentmill.trials.store import TrialStore
from latentmill.trials.trial import Trial

DEVICE = "cuda" if torch.cuda.is_available() else os.environ.get("LATENTMILL_GPU_TESTS", "")
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not DEVICE, reason="needs a GPU")]
DIGEST, SHAPE = "a" * 64, (1, 8, 8)
CASES = [
    ("vae", {"latent": 3}),
    ("vae", {"latent": 3, "network": "conv", "observation": "gaussian", "beta": 2.0}),
    ("autoencoder", {"latent": 3, "corruption": 0.25}),
    ("conditional_vae", {"latent": 3, "hidden": 50}),
]
each_case = pytest.mark.parametrize(("name", "config"), CASES, ids=str)


class Interruption(Exception):
    """What a kill looks like from within."""


def images(count=600):
    """Mixtures of a few patterns, uint8 (count, 1, 8, 8)."""
    rng = np.random.default_rng(0)
    patterns = rng.random((5, *SHAPE)) ** 3
    weights = rng.dirichlet(np.full(5, 0.4), count)
    return np.rint(255 * np.tensordot(weights, patterns, 1)).astype(np.uint8)


def halves(data, device):
    """For training and validation, with labels."""
    labels = np.arange(600) % 3
    return Batches(data[:500], device, labels[:500]), Batches(data[500:], device, labels[500:])


def trial(name, config, **training):
    given = registry.find("models", name).Config(**config).model_dump()
    return Trial(name, given, TrainingConfig(**{"epochs": 2, "batch_size": 50} | training).model_dump(), 0)


def run(folder, requested, device, compiled=False, watches=None):
    """The records of packed trials."""
    notes = []
    store = TrialStore(folder, notes.append)
    data = images()
    context = Context(*halves(data, device), DIGEST, store, classes=3, compiled=compiled)
    packs.run_pack(requested, context, watches or [UNWATCHED] * len(requested))
    assert notes == [], "they were one pack"
    return [store.find(each.fingerprint(DIGEST)) for each in requested]


@pytest.fixture
def same_noise(monkeypatch):
    """A GPU draws other numbers by the same seed, so all are drawn on the CPU and moved."""
    rows, generators = Draw.rows, {}

    def on_cpu(draw, count, generator):
        own = generators.setdefault(id(generator), torch.Generator().manual_seed(generator.initial_seed()))
        kept.append(generator)  # or another may get its id
        return rows(draw, count, own).to(generator.device)

    kept = []
    monkeypatch.setattr(Draw, "rows", on_cpu)
    return generators.clear


def same(mine, theirs, rel=2e-3):
    assert mine["status"] == theirs["status"] == "finished"
    assert mine["criterion"] == pytest.approx(theirs["criterion"], rel=rel)
    for one, other in zip(mine["history"], theirs["history"], strict=True):
        assert one == pytest.approx(other, rel=rel, abs=1e-3)


@each_case
@pytest.mark.parametrize("count", [1, 3], ids=["alone", "packed"])
def test_trials_end_as_on_the_cpu(name, config, count, tmp_path, same_noise):
    requested = [trial(name, config, learning_rate=rate) for rate in (1e-3, 2e-3, 4e-3)[:count]]
    there = run(tmp_path / "there", requested, DEVICE)
    same_noise()
    for mine, theirs in zip(there, run(tmp_path / "here", requested, "cpu"), strict=True):
        same(mine, theirs)


@each_case
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_packed_trials_end_as_each_does_alone(name, config, precision, tmp_path):
    requested = [trial(name, config, learning_rate=rate, precision=precision) for rate in (1e-3, 2e-3)]
    for each, packed in zip(requested, run(tmp_path / "packed", requested, DEVICE), strict=True):
        (alone,) = run(tmp_path / "alone", [each], DEVICE)
        same(packed, alone, rel=2e-3 if precision == "float32" else 2e-2)


@each_case
def test_an_interrupted_trial_goes_on(name, config, tmp_path):
    def interrupt(state):
        if state.epoch == 1:
            raise Interruption

    requested = trial(name, config, ema=0.9, schedule="cosine")
    (undisturbed,) = run(tmp_path / "undisturbed", [requested], DEVICE)
    with pytest.raises(Interruption):
        run(tmp_path / "resumed", [requested], DEVICE, watches=[Watch(interrupt)])
    (resumed,) = run(tmp_path / "resumed", [requested], DEVICE)
    same(resumed, undisturbed, rel=1e-5)


@each_case
@pytest.mark.parametrize("count", [1, 2], ids=["alone", "packed"])
def test_compiled_steps_come_to_the_same(name, config, count, tmp_path):
    requested = [trial(name, config, learning_rate=rate) for rate in (1e-3, 2e-3)[:count]]
    plain, compiled = (run(tmp_path / str(on), requested, DEVICE, compiled=on) for on in (False, True))
    for mine, theirs in zip(compiled, plain, strict=True):
        same(mine, theirs)


@each_case
def test_codes_and_samples_are_those_of_the_cpu(name, config, tmp_path):
    requested = trial(name, config)
    run(tmp_path, [requested], DEVICE)
    model = trained_model.load(tmp_path / requested.fingerprint(DIGEST)).model
    generator = Generator(model, registry.build("priors", "flow", {"hidden": 16, "depth": 2, "steps": 4}, (3,)))
    noise, some = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)), images(50)
    label = torch.arange(50) % 3
    with torch.no_grad():
        here = generator(noise, label)[0], model.encode(Batches(some)[:], label)
        generator.to(DEVICE)
        there = (
            generator(noise.to(DEVICE), label.to(DEVICE))[0],
            model.encode(Batches(some, DEVICE)[:], label.to(DEVICE)),
        )
    for mine, theirs in zip(there, here, strict=True):
        torch.testing.assert_close(mine.cpu(), theirs, atol=1e-4, rtol=1e-4)


def test_closed_forms_end_as_on_the_cpu(tmp_path, same_noise):
    for name, config in (("naive_bayes", {}), ("ppca", {"latent": 5})):
        requested = replace(trial("vae", {}), model=name, training=None)
        requested = replace(requested, config=registry.find("models", name).Config(**config).model_dump())
        criteria = []
        for device in (DEVICE, "cpu"):
            same_noise()
            data, store = images(), TrialStore(tmp_path / device / name)
            running.run(requested, Context(*halves(data, device), DIGEST, store))
            criteria.append(store.find(requested.fingerprint(DIGEST))["criterion"])
        assert criteria[0] == pytest.approx(criteria[1], rel=1e-3)
