"""Training images are flipped and shifted, whatever trains on them, and nothing else is."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import CLASSES, build
from test_ranks import rank_of

from latentmill import registry
from latentmill.codes import codes_of
from latentmill.config import TrainingConfig
from latentmill.data.augmentation import augmentation_draws, augmented
from latentmill.data.batches import Batches
from latentmill.draws import drawn
from latentmill.training.loop import begin, trainer
from latentmill.training.ranks import SingleRank
from latentmill.trials import running
from latentmill.trials.running import Context
from latentmill.trials.store import TrialStore
from latentmill.trials.trial import Trial

BOTH = ["flip", "shift"]


def moved(image: np.ndarray, down: int, right: int) -> np.ndarray:
    """(C, H, W), the edge repeated."""
    height, width = image.shape[1:]
    rows, columns = (np.arange(height) - down).clip(0, height - 1), (np.arange(width) - right).clip(0, width - 1)
    return image[:, rows][:, :, columns]


# Images


def test_half_of_the_images_are_mirrored():
    images, noise = torch.rand(2, 3, 4, 5), {"flip": torch.tensor([0.49, 0.5])}
    torch.testing.assert_close(augmented(images, noise), torch.stack([images[0].flip(-1), images[1]]), rtol=0, atol=0)


@pytest.mark.parametrize(("side", "most"), [(8, 1), (28, 2), (64, 4)])
def test_images_are_moved_by_up_to_a_sixteenth_of_a_side(side, most):
    images = torch.rand(1, side, side).expand(500, 1, side, side)
    noise = drawn(augmentation_draws(["shift"]), 500, torch.Generator().manual_seed(0))
    found = {image.numpy().tobytes() for image in augmented(images, noise)}
    steps = range(-most, most + 1)
    assert found == {moved(images[0].numpy(), down, right).tobytes() for down in steps for right in steps}


def test_a_pack_is_augmented_as_each_of_its_members():
    images = torch.rand(3, 10, 2, 6, 4)
    noise = {name: torch.rand(3, 10, *draw.shape) for name, draw in augmentation_draws(BOTH).items()}
    packed = augmented(images, noise)
    alone = [augmented(images[row], {name: each[row] for name, each in noise.items()}) for row in range(3)]
    assert torch.equal(packed, torch.stack(alone))


def test_without_augmentation_images_are_left_alone():
    images = torch.rand(2, 1, 4, 4)
    assert augmented(images, drawn(augmentation_draws([]), 2, torch.Generator())) is images


# Batches


@pytest.fixture
def seen(monkeypatch):
    """The batches that the objective of a VAE is given."""
    batches, kind = [], registry.find("models", "vae")
    loss = kind.loss
    monkeypatch.setattr(kind, "loss", lambda self, batch, noise: batches.append(batch) or loss(self, batch, noise))
    return batches


def trained_step(setup, indices, ranks=None, **training):
    made = replace(setup, ranks=ranks or SingleRank())
    monitored = begin(build("vae", {"latent": 3}), setup, TrainingConfig(**training), seed=1)
    trainer([monitored.state], made).step(setup.examples, indices[None])


def test_a_batch_is_flipped_with_its_labels(setup, seen):
    trained_step(setup, np.arange(100), augment=["flip"])
    plain, (batch,) = setup.examples.batch(np.arange(100)), seen
    assert torch.equal(batch["label"], plain["label"])
    turned = (batch["image"] != plain["image"]).flatten(1).any(1)
    assert 30 < turned.sum() < 70
    expected = torch.where(turned[:, None, None, None], plain["image"].flip(-1), plain["image"])
    assert torch.equal(batch["image"], expected)


def test_ranks_see_their_rows_of_the_batch_that_one_would(setup, seen):
    for ranks in (None, *(QuietRank(rank, 2) for rank in range(2))):
        trained_step(setup, np.arange(101), ranks, augment=BOTH)
    whole, *parts = (batch["image"] for batch in seen)
    assert torch.equal(torch.cat(parts), whole)


class QuietRank(SingleRank):
    """A rank whose sums with others are left out."""

    def __init__(self, rank, size):
        self.part = rank_of(rank, size).part


def test_validation_images_are_left_alone(setup, monkeypatch):
    images, kind = [], registry.find("models", "vae")
    criterion = kind.criterion
    monkeypatch.setattr(
        kind, "criterion", lambda self, batch, noise: images.append(batch["image"]) or criterion(self, batch, noise)
    )
    state = begin(build("vae", {"latent": 3}), setup, TrainingConfig(augment=BOTH), seed=0).state
    trainer([state], setup).criteria(setup.val)
    assert torch.equal(torch.cat(images), setup.val[:])


# Trials


def trial(name="autoencoder", augment=(), parent=None, **training) -> Trial:
    config = registry.find("models" if parent is None else "priors", name).Config()
    chosen = TrainingConfig(epochs=1, augment=list(augment), **training)
    return Trial(name, config.model_dump(), chosen.model_dump(), 0, parent=parent)


def test_another_augmentation_is_another_trial_and_no_part_of_a_pack():
    trials = [trial(), trial(augment=["flip"]), trial(augment=BOTH)]
    assert len({each.fingerprint("a" * 64) for each in trials}) == len({each.shape for each in trials}) == 3
    assert trial(augment=["shift", "flip"]) == trial(augment=BOTH)


@pytest.fixture
def prior_setup(digits, labels, tmp_path):
    """The model of a trial of those augmentations, and the setup of a prior of it."""

    def prior_setup(augment):
        images, val = (Batches(digits[part], labels=labels[part]) for part in (slice(500), slice(500, 600)))
        context = Context(images, val, "a" * 64, TrialStore(tmp_path), CLASSES)
        parent = trial(augment=augment)
        running.run(parent, context)
        fingerprint = parent.fingerprint("a" * 64)
        return context.store.load(fingerprint).model, context.setup(trial("flow", parent=fingerprint))

    return prior_setup


def test_a_prior_learns_the_codes_of_augmented_images(prior_setup, digits):
    model, made = prior_setup(["flip"])
    codes, draws = made.examples[:].numpy().reshape(running.MOST_DRAWS, 500, -1), running.MOST_DRAWS
    plain, mirrored = (codes_of(model, Batches(images)) for images in (digits[:500], digits[:500, ..., ::-1].copy()))
    is_plain, is_mirrored = (np.isclose(codes, each, atol=1e-5).all(2) for each in (plain, mirrored))
    assert (is_plain | is_mirrored).all()
    assert is_plain.mean() == pytest.approx(0.5, abs=0.05)
    np.testing.assert_array_equal(made.examples.labels, np.tile(made.examples.labels[:500], draws))
    np.testing.assert_allclose(made.val[:], codes_of(model, Batches(digits[500:])), atol=1e-6)


def test_a_prior_of_a_model_without_augmentation_learns_each_code_once(prior_setup, digits):
    model, made = prior_setup([])
    np.testing.assert_array_equal(made.examples[:], codes_of(model, Batches(digits[:500])))
