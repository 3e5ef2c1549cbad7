"""Feature spaces: what they keep of images, that they repeat themselves, the errors where something is missing."""

import os
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from latentmill.errors import InputError
from latentmill.evaluation import corruptions, fidelity
from latentmill.features import encoder, self_supervised, spaces
from latentmill.features.encoder import map_chunks
from latentmill.features.self_supervised import SelfSupervisedFeatures
from latentmill.features.spaces import ClassifierFeatures, PixelFeatures, TimmFeatures, feature_space

SHAPES = [(1, 8, 8), (3, 11, 9), (1, 28, 28), (3, 20, 24), (1, 2, 3)]


def random_bytes(count: int, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)


def as_float(images: np.ndarray) -> np.ndarray:
    return images.astype(np.float32) / 255


@pytest.fixture(scope="module")
def labelled(digits) -> tuple[np.ndarray, np.ndarray]:
    """600 digits in no order, with labels that are no indices."""
    order = np.random.default_rng(0).permutation(len(digits))
    return digits[order], load_digits().target[: len(digits)][order] * 10 + 5


@pytest.fixture(scope="module")
def classifier(labelled) -> ClassifierFeatures:
    images, labels = labelled
    return ClassifierFeatures.fit(images[:450], labels[:450], seed=0)


@pytest.fixture
def brief(monkeypatch):
    """Training that is soon over."""
    monkeypatch.setattr(spaces, "STEPS", 50)
    monkeypatch.setattr(self_supervised, "STEPS", 50)


# What all have in common


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ["pixels", "classifier", "self-supervised"])
def test_any_images_become_rows_of_finite_numbers(brief, name, shape):
    train, labels = random_bytes(20, shape), np.arange(20) % 3
    space = feature_space(name, train, labels, seed=0)
    found = space(as_float(random_bytes(7, shape, seed=1)))
    assert space.name == name
    assert found.shape == (7, min(19, np.prod(shape)) if name == "pixels" else 64)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert len(np.unique(found, axis=0)) == 7


@pytest.mark.parametrize("name", ["pixels", "classifier", "self-supervised"])
def test_the_digest_tells_the_spaces_apart_and_is_repeated(brief, labelled, name):
    images, labels = labelled
    first, again = (feature_space(name, images, labels, seed=0) for _ in range(2))
    other = feature_space(name, images[1:], labels[1:], seed=0)
    assert first.digest == again.digest != other.digest
    assert len(bytes.fromhex(first.digest)) == 32
    np.testing.assert_array_equal(first(as_float(images)), again(as_float(images)))


@pytest.mark.parametrize("name", ["pixels", "classifier", "self-supervised"])
def test_features_of_an_image_are_its_own(monkeypatch, brief, labelled, name):
    """Neither the other images nor the chunk matter; images may be read-only; nothing is drawn from global state."""
    images, labels = labelled
    state = torch.random.get_rng_state()
    space = feature_space(name, images, labels, seed=0)
    asked = as_float(images[:50])
    asked.setflags(write=False)
    whole = space(asked)
    monkeypatch.setattr(encoder, "CHUNK", 7)
    np.testing.assert_allclose(space(asked[20:]), whole[20:], atol=1e-5)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("name", ["pixel", "timm:", "timm", "classifier:2", ""])
def test_other_names_are_refused(name):
    with pytest.raises(
        InputError, match=f"must be pixels, classifier, self-supervised or timm:<model>, but got '{name}'"
    ):
        feature_space(name, random_bytes(3, (1, 8, 8)), None, seed=0)


# Pixels


def test_all_components_keep_the_distances_of_the_pixels(digits):
    """64 pixels have 64 components: a turn, no more."""
    found, rows = PixelFeatures.fit(digits)(as_float(digits)), as_float(digits).reshape(len(digits), -1)
    for i, j in ((0, 1), (5, 300), (17, 599)):
        assert np.linalg.norm(found[i] - found[j]) == pytest.approx(np.linalg.norm(rows[i] - rows[j]), rel=1e-4)
    assert (np.diff(found.var(0)) <= 1e-5).all(), "not whitened"


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 20, 20)], ids=["exact", "randomised"])
def test_the_components_are_those_of_the_singular_value_decomposition(shape):
    count = int(np.prod(shape))
    factors = np.random.default_rng(0).normal(size=(90, 5)) * [10, 8, 6, 4, 2]
    directions = np.linalg.qr(np.random.default_rng(1).normal(size=(count, 5)))[0]
    images = np.rint(128 + 20 * factors @ directions.T * np.sqrt(count) / 28).clip(0, 255).astype(np.uint8)
    rows = as_float(images) - as_float(images).mean(0)
    expected = np.linalg.svd(rows, full_matrices=False)
    found = PixelFeatures.fit(images.reshape(-1, *shape))(as_float(images).reshape(-1, *shape))
    np.testing.assert_allclose(np.abs(found[:, :5]), np.abs(expected[0] * expected[1])[:, :5], atol=2e-3)


def test_images_that_are_all_the_same_have_features_of_zero():
    images = np.full((10, 1, 8, 8), 77, np.uint8)
    np.testing.assert_allclose(PixelFeatures.fit(images)(as_float(images)), 0, atol=1e-6)


# The classifier


def test_the_classifier_knows_digits_that_it_has_not_seen(classifier, labelled):
    images, labels = labelled
    found = classifier.classes(classifier(as_float(images[450:])))
    assert found.dtype == np.int64
    assert classifier.class_names.tolist() == list(range(5, 100, 10))
    assert (classifier.class_names[found] == labels[450:]).mean() > 0.95


def test_features_of_a_class_lie_together(classifier, labelled):
    images, labels = labelled
    found = classifier(as_float(images))
    nearest = [np.argsort(np.square(found[:450] - point).sum(1))[0] for point in found[450:]]
    assert (labels[:450][nearest] == labels[450:]).mean() > 0.95
    assert (found.std(0) > 0.01).all(), "no unit is dead"


def test_the_seed_decides_the_weights(brief, labelled):
    images, labels = labelled
    digests = {ClassifierFeatures.fit(images, labels, seed).digest for seed in (0, 1)}
    assert len(digests) == 2


def test_labels_may_be_words_or_all_the_same(brief):
    images = random_bytes(10, (1, 8, 8))
    words = ClassifierFeatures.fit(images, np.array(["shoe", "hat"] * 5), seed=0)
    assert words.class_names.tolist() == ["hat", "shoe"]
    alike = ClassifierFeatures.fit(images, np.full(10, 3), seed=0)
    assert alike.classes(alike(as_float(images))).tolist() == [0] * 10
    assert np.isfinite(alike(as_float(images))).all()


def test_a_classifier_needs_labels():
    with pytest.raises(InputError, match="need labels, but the images have none"):
        feature_space("classifier", random_bytes(3, (1, 8, 8)), None, seed=0)


# Features that teach themselves


@pytest.fixture(scope="module")
def taught(labelled) -> SelfSupervisedFeatures:
    images, _ = labelled
    return SelfSupervisedFeatures.fit(images[:450], seed=0)


def test_what_teaches_itself_brings_classes_together_without_labels(taught, labelled):
    images, labels = labelled
    found = taught(images)
    nearest = [np.argsort(np.square(found[:450] - point).sum(1))[0] for point in found[450:]]
    assert (labels[:450][nearest] == labels[450:]).mean() > 0.9
    assert (found.std(0) > 0.01).mean() > 0.9, "hardly a unit is dead"


def test_it_goes_on_to_see_blur(taught, labelled):
    """Which no view has, else it would be trained to overlook it."""
    images = as_float(labelled[0][300:])
    real, blurred = taught(images), taught(corruptions.blurred(images))
    assert fidelity.c2st_accuracy(blurred[::2], real[1::2], seed=0) > 0.7
    assert fidelity.c2st_accuracy(real[::2], real[1::2], seed=0) < 0.6


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 20, 24), (4, 5, 9)], ids=str)
def test_views_have_the_shape_of_images_and_are_repeated(shape):
    images = torch.rand(6, *shape, generator=torch.Generator().manual_seed(0))
    first, again, other = (self_supervised.view(images, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert first.shape == images.shape
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_an_image_drawn_twice_is_no_other_image():
    """Its rows are all the same, so that any part of the loss that pushed them apart would be large."""
    rows = torch.nn.functional.normalize(torch.tensor([[1.0, 0], [1, 0], [1, 0], [1, 0]]), dim=1)
    assert self_supervised._contrastive_loss(rows, torch.tensor([7, 7])) == pytest.approx(0, abs=1e-4)
    assert self_supervised._contrastive_loss(rows, torch.tensor([7, 8])) == pytest.approx(np.log(3), abs=1e-4)


@pytest.mark.slow
def test_large_images_are_averaged_down_before_the_network(brief):
    large = random_bytes(12, (3, 64, 64))
    space = SelfSupervisedFeatures.fit(large, seed=0)
    by_hand = torch.nn.functional.avg_pool2d(torch.tensor(as_float(large)), 3, ceil_mode=True)
    with torch.no_grad():
        np.testing.assert_allclose(space(large), space.body[1:](by_hand), atol=1e-5)


# timm, which stands in for itself: its weights are not to be had without a network


def stand_in(monkeypatch, create_model) -> None:
    config = {"input_size": (3, 12, 10), "mean": (0.5, 0.4, 0.3), "std": (0.5, 0.2, 0.1)}
    data = ModuleType("timm.data")
    data.resolve_model_data_config = lambda network: config
    timm = ModuleType("timm")
    timm.create_model = create_model
    monkeypatch.setitem(sys.modules, "timm", timm)
    monkeypatch.setitem(sys.modules, "timm.data", data)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")  # so that it is put back


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_shown_to_a_network_of_timm_as_it_is_used_to(monkeypatch, channels):
    asked = []

    def create_model(name, **options):
        asked.append((name, options, os.environ.get("HF_HUB_OFFLINE")))
        torch.manual_seed(0)
        return nn.Sequential(nn.Dropout(0.5), nn.Flatten(), nn.Linear(360, 5))

    stand_in(monkeypatch, create_model)
    space = feature_space("timm:some_net", random_bytes(3, (channels, 8, 8)), None, seed=0)
    assert asked == [("some_net", {"pretrained": True, "num_classes": 0}, "1")]
    assert space.name == "timm:some_net"
    grey = np.full((60, channels, 8, 8), 0.6, np.float32)  # more than one chunk
    shown = torch.tensor([0.2, 1.0, 3.0])[None, :, None, None].expand(60, 3, 12, 10)
    with torch.no_grad():
        expected = create_model("")[1:](shown)
    np.testing.assert_allclose(space(grey), expected, atol=1e-5)
    assert space.digest == TimmFeatures("some_net").digest


@pytest.mark.parametrize(
    "error", [FileNotFoundError("no file in the cache"), ConnectionError("offline"), RuntimeError("Unknown model")]
)
def test_missing_weights_are_an_error_that_says_how_to_get_them(monkeypatch, error):
    def create_model(name, **options):
        raise error

    stand_in(monkeypatch, create_model)
    with pytest.raises(InputError, match=r"timm:some_net must be on disk: .*create_model") as caught:
        TimmFeatures("some_net")
    assert str(error) in str(caught.value)


def test_transparent_images_lie_on_white_before_a_network_of_timm():
    images = torch.zeros(2, 4, 8, 8)
    images[1, 3] = 1  # opaque black
    space = TimmFeatures.__new__(TimmFeatures)
    space._size, space._mean, space._std = (8, 8), torch.zeros(3, 1, 1), torch.ones(3, 1, 1)
    seen = space._prepared(images)
    assert seen.shape == (2, 3, 8, 8)
    assert (seen[0].unique().tolist(), seen[1].unique().tolist()) == ([1.0], [0.0])


def test_components_are_of_all_classes_though_images_are_sorted(monkeypatch):
    monkeypatch.setattr(spaces, "FITTED_VALUES", 0)  # as few images as may be
    images = np.repeat(random_bytes(2, (1, 4, 4)), 200, axis=0)
    assert np.ptp(PixelFeatures.fit(images)(as_float(images)), axis=0).max() > 0.1


def test_missing_timm_is_an_error_that_says_how_to_install_it(monkeypatch):
    stand_in(monkeypatch, SimpleNamespace())
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match="need timm and a torchvision"):
        TimmFeatures("some_net")


@pytest.mark.parametrize("count", [1, 7, 12])
def test_parts_are_gathered_in_order(count):
    rows = np.arange(2 * count, dtype=np.int64).reshape(count, 2)
    np.testing.assert_array_equal(map_chunks(lambda some: rows[some], count, 5), rows)
    assert map_chunks(lambda some: rows[some], count, 5).dtype == rows.dtype
