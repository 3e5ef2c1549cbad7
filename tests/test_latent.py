"""The latent space: the use of its dimensions, lines through it, and priors against its codes."""

import math

import numpy as np
import pytest
import torch
from conftest import IMAGE_SHAPE, each_model
from pairs import batches
from scipy.stats import kstest, norm
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from latentmill.contract import Decodes, Encodes, HasBound
from latentmill.data.batches import Batches
from latentmill.evaluation import latent as latent_module
from latentmill.evaluation.holes import decoded_c2st_accuracy, discrepancy, prior_metrics
from latentmill.evaluation.latent import (
    active_units,
    codes,
    decode,
    interpolate,
    kl_metrics,
    kl_per_dimension,
    map_to_plane,
    path_longest_step,
    posterior_draws,
    traversals,
)
from latentmill.features.distances import TooFew
from latentmill.features.spaces import PixelFeatures

VAE, GAUSSIAN_VAE = ({"latent": 3}, {"latent": 3, "network": "conv", "observation": "gaussian", "beta": 2.0})
PPCA = {"latent": 5}
AUTOENCODER = {"latent": 3, "network": "conv"}


class Shown(Decodes):
    """The image of a code is a row of pixels: a function of each dimension."""

    def __init__(self, function=lambda z: z, code_shape=(-1,)) -> None:
        self.function, self.code_shape = function, code_shape

    def decode(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        return self.function(z).flatten(1)[:, None, None]


def normal(count: int, dimensions: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, dimensions)).astype(np.float32)


# The use of the dimensions


@pytest.mark.parametrize(("name", "config"), [("vae", VAE), ("vae", GAUSSIAN_VAE), ("ppca", PPCA)], ids=str)
def test_kl_per_dimension_is_that_of_torch(trained, digits, name, config):
    model, _ = trained(name, config)
    images = Batches(digits[:500])  # one chunk, so that one draw of the observed x is all of them
    with torch.no_grad():
        x = model.observation.observe(images[:], torch.Generator().manual_seed(3))
        mean, log_variance = model.posterior(x)
        expected = kl_divergence(Normal(mean, torch.exp(0.5 * log_variance)), Normal(0.0, 1.0)).mean(0)
    np.testing.assert_allclose(kl_per_dimension(model, images, seed=3), expected, rtol=1e-3, atol=1e-5)


def test_kl_is_a_mean_over_images_and_not_over_chunks(trained, digits):
    """600 images come as 500 and 100."""
    model, _ = trained("ppca", PPCA)
    images = Batches(np.concatenate([np.repeat(digits[:1], 500, axis=0), np.repeat(digits[1:2], 100, axis=0)]))
    first, second = (kl_per_dimension(model, Batches(digits[i : i + 1]), seed=0) for i in (0, 1))
    expected = (5 * first + second) / 6
    np.testing.assert_allclose(kl_per_dimension(model, images, seed=0), expected, rtol=0.05, atol=0.02)


@pytest.mark.parametrize(
    ("kl", "expected"),
    [
        ([2.0, 0.005, 0.5, 0.0], {"kl": 2.505, "collapse": "partial", "collapsed_dimensions": 2}),
        ([2.0, 0.01], {"kl": 2.01, "collapse": "none", "collapsed_dimensions": 0}),
        ([0.0, 0.0], {"kl": 0.0, "collapse": "complete", "collapsed_dimensions": 2}),
        ([0.001], {"kl": 0.001, "collapse": "complete", "collapsed_dimensions": 1}),
    ],
)
def test_kl_metrics_by_hand(kl, expected):
    found = kl_metrics(np.array(kl))
    assert found == expected | {"kl": pytest.approx(expected["kl"])}


def test_a_dimension_is_active_where_its_codes_vary_by_more_than_a_hundredth():
    z = normal(5_000, 4) * np.sqrt([1.0, 0.012, 0.008, 0.0])
    assert active_units(z + 1_000) == 2
    assert active_units(z[:1]) == 0


def test_codes_are_those_of_the_encoder_in_order(trained, digits):
    model, _ = trained("autoencoder", AUTOENCODER)
    with torch.no_grad():
        expected = model.encode(Batches(digits)[:]).numpy()
    np.testing.assert_allclose(codes(model, Batches(digits)), expected, atol=1e-5)


def test_interpolation_is_a_straight_line_between_the_codes(trained, digits):
    model, _ = trained("vae", VAE)
    z = codes(model, Batches(digits[:8]))
    starts, ends = z[:4], z[4:]
    lines = interpolate(model, starts, ends, steps=5)
    assert lines.shape == (4, 5, *IMAGE_SHAPE)
    for step, points in ((0, starts), (1, 0.75 * starts + 0.25 * ends), (2, (starts + ends) / 2), (4, ends)):
        with torch.no_grad():
            expected = model.decode(torch.from_numpy(points)).numpy()
        np.testing.assert_allclose(lines[:, step], expected, atol=1e-5)


@each_model
def test_posterior_draws_scatter_around_the_codes_where_there_is_a_posterior(name, config, trained, digits, labels):
    model, _ = trained(name, config)
    if not isinstance(model, Encodes):
        pytest.skip("has no codes")
    images = batches(model, digits, labels)
    first, again, other = (posterior_draws(model, images, seed) for seed in (0, 0, 1))
    assert first.shape == (600, math.prod(model.code_shape))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any() == isinstance(model, HasBound)
    if not isinstance(model, HasBound):
        np.testing.assert_allclose(first, codes(model, images), atol=1e-6)


# Lines and the map


def test_steps_of_equal_length_are_1_and_a_jump_is_their_number():
    z = np.linspace(-1, 1, 100, dtype=np.float32)[:, None]
    assert path_longest_step(Shown(), z, seed=0) == pytest.approx(1, abs=1e-4)
    assert path_longest_step(Shown(lambda z: (z > 0).float()), np.sign(z), seed=1) in (1, 15)
    assert path_longest_step(Shown(lambda z: torch.sigmoid(200 * z)), z[[0, -1]], seed=0) == pytest.approx(15, rel=0.3)


def test_lines_along_which_nothing_moves_are_1():
    assert path_longest_step(Shown(lambda z: 0 * z), normal(50), seed=0) == 1
    assert path_longest_step(Shown(), np.ones((50, 3), np.float32), seed=0) == 1


def test_steps_do_not_depend_on_what_is_decoded_at_a_time(trained, digits, monkeypatch):
    model, _ = trained("vae", VAE)
    z = codes(model, Batches(digits))
    whole = path_longest_step(model, z, seed=0)
    monkeypatch.setattr(latent_module, "CHUNK", 40)
    assert 1 < whole == pytest.approx(path_longest_step(model, z, seed=0), rel=1e-4)


def test_a_line_needs_two_images():
    with pytest.raises(TooFew, match="2 images, but got 1"):
        path_longest_step(Shown(), normal(1), seed=0)


def test_traversals_move_the_most_active_dimensions_and_hold_the_others():
    z = normal(1_000, 4) * np.float32([1, 2, 3, 0]) + np.float32([5, 6, 7, 8])
    images = traversals(Shown(), z, activity=np.array([0.5, 0.1, 2.0, 0.0]), rows=3, steps=5)
    assert images.shape == (3, 5, 1, 1, 4)
    mean, deviation = z.mean(0), z.std(0)
    for row, dimension in enumerate([2, 0, 1]):
        expected = np.tile(mean, (5, 1))
        expected[:, dimension] += np.array([-3, -1.5, 0, 1.5, 3]) * deviation[dimension]
        np.testing.assert_allclose(images[row, :, 0, 0], expected, rtol=1e-4)


def test_there_are_no_more_traversals_than_dimensions():
    assert traversals(Shown(), normal(20, 2), activity=np.ones(2)).shape == (2, 11, 1, 1, 2)


@pytest.mark.parametrize("latent", [1, 2, 7])
def test_the_map_has_two_coordinates_whatever_the_latent(latent):
    points = np.random.default_rng(0).normal(size=(50, latent)) * np.arange(latent, 0, -1)
    plane, others = map_to_plane(points, points[:20] + 1)
    assert plane.shape == (50, 2)
    assert others.shape == (20, 2)
    assert plane[:, 0].std() > plane[:, 1].std()
    np.testing.assert_allclose(map_to_plane(points, points)[1], plane)
    if latent <= 2:  # nothing is lost
        distances = [np.linalg.norm(each[:, None] - each[None], axis=2) for each in (points, plane)]
        np.testing.assert_allclose(distances[0], distances[1], atol=1e-9)


def test_the_map_of_one_code_or_of_constant_codes_is_a_point():
    for z in (normal(1), np.ones((10, 3), np.float32)):
        plane, others = map_to_plane(z, normal(5))
        np.testing.assert_array_equal(plane, 0)
        assert np.isfinite(others).all()


# Priors against codes


def test_equal_distributions_have_no_discrepancy_and_no_dimension_is_off():
    values = [prior_metrics(normal(1_000, 5, seed), normal(1_000, 5, seed + 100)) for seed in range(10)]
    assert np.mean([found["mmd"] for found in values]) == pytest.approx(0, abs=3e-4)
    assert max(found["largest_ks"] for found in values) < 0.1
    assert sum(found["dimensions_off"] for found in values) == 0


def test_dimensions_that_differ_are_counted():
    found = prior_metrics(
        normal(2_000, 4), normal(2_000, 4, seed=1) * np.float32([1, 1, 1.5, 1]) + np.float32([0, 5, 0, 0])
    )
    assert found["dimensions_off"] == 2
    assert found["largest_ks"] > 0.95
    assert found["mmd"] > 0.3


def test_the_statistic_is_that_of_scipy_for_one_dimension():
    """Against the distribution function itself, where there are many draws."""
    codes = normal(200, 1, seed=1) + np.float32(0.3)
    found = prior_metrics(norm.ppf(np.linspace(0.00025, 0.99975, 2_000))[:, None], codes)
    assert found["largest_ks"] == pytest.approx(kstest(codes[:, 0], "norm").statistic, abs=1e-3)


def test_the_discrepancy_is_its_formula():
    x, y = normal(7), normal(5, seed=1) + 1
    h = np.median([np.linalg.norm(y[i] - y[j]) for i in range(5) for j in range(i)])

    def mean(a, b):
        same = a is b
        return np.mean(
            [
                np.exp(-np.square(a[i] - b[j]).sum() / (2 * h * h))
                for i in range(len(a))
                for j in range(len(b))
                if not (same and i == j)
            ]
        )

    assert discrepancy(x, y) == pytest.approx(mean(x, x) + mean(y, y) - 2 * mean(x, y), rel=1e-5)


def test_the_discrepancy_does_not_depend_on_the_scale_of_the_codes():
    x, y = normal(300), 2 * normal(300, seed=1)
    assert discrepancy(50 * x, 50 * y) == pytest.approx(discrepancy(x, y), rel=1e-4)


def test_constant_codes_have_defined_values():
    constant = np.ones((40, 2), np.float32)
    assert prior_metrics(constant, constant) == {"mmd": 0.0, "largest_ks": 0.0, "dimensions_off": 0}
    far = prior_metrics(normal(40, 2) + 9, constant)
    assert far["largest_ks"] == 1
    assert far["dimensions_off"] == 2
    assert 0.5 < far["mmd"] <= 2


def test_one_code_is_too_few():
    with pytest.raises(TooFew, match="needs 2 codes of each set, but got 10 and 1"):
        prior_metrics(normal(10), normal(1))


def test_a_prior_with_holes_has_a_high_c2st_accuracy_and_one_without_has_not(trained, digits):
    """Codes of other images as a prior without holes, and N(0, 64 I), which the decoder has seen little of."""
    model, _ = trained("vae", VAE)
    features = PixelFeatures.fit(digits[:500])
    z, others = posterior_draws(model, Batches(digits[:300]), 0), posterior_draws(model, Batches(digits[300:]), 1)
    baseline, far = (decoded_c2st_accuracy(model, given, others, features, seed=0) for given in (z, 8 * normal(300)))
    assert baseline < 0.6
    assert far > 0.7


def test_as_many_of_both_sets_are_compared(digits):
    """A set without its own images apart, 5 are enough and 4 are not."""
    seen = []

    def features(images):
        seen.append(len(images))
        return images.reshape(len(images), -1)

    decoded_c2st_accuracy(Shown(), normal(2_000), normal(1_200, seed=1), features, seed=0)
    decoded_c2st_accuracy(Shown(), normal(50), normal(5, seed=1), features, seed=0)
    assert seen == [1_000, 1_000, 5, 5]
    with pytest.raises(TooFew):
        decoded_c2st_accuracy(Shown(), normal(50), normal(4), features, seed=0)


def test_codes_that_are_all_the_same_are_not_separated():
    constant = np.ones((30, 3), np.float32)
    assert (
        decoded_c2st_accuracy(Shown(), constant, constant, lambda images: images.reshape(len(images), -1), seed=0)
        <= 0.5
    )


def test_decoding_keeps_the_order(trained):
    model, _ = trained("vae", VAE)
    z = normal(1_100)
    with torch.no_grad():
        np.testing.assert_allclose(decode(model, z), model.decode(torch.from_numpy(z)), atol=1e-6)


def test_codes_of_any_shape_are_rows_until_they_are_decoded():
    rows = normal(6, 12)
    model = Shown(lambda z: z + 0.0 * z[:, :1, :1, :1], code_shape=(2, 3, 2))
    np.testing.assert_array_equal(decode(model, rows)[:, 0, 0], rows)
    np.testing.assert_allclose(interpolate(model, rows[:3], rows[3:], steps=3)[:, 2, 0, 0], rows[3:], atol=1e-6)
    assert traversals(model, rows, activity=np.ones(12)).shape == (10, 11, 1, 1, 12)


@pytest.fixture(scope="module")
def conditional(trained):
    return trained("conditional_vae", {"latent": 3, "hidden": 50})[0]


def test_a_conditional_model_decodes_each_code_with_its_own_label(conditional):
    z, labels = normal(20), np.arange(20) % 10
    with torch.no_grad():
        expected = conditional.decode(torch.from_numpy(z), torch.from_numpy(labels))
    np.testing.assert_allclose(decode(conditional, z, labels), expected, atol=1e-6)


def test_a_line_keeps_the_label_of_its_start(conditional):
    z, labels = normal(8), np.arange(8)
    lines = interpolate(conditional, z[:4], z[4:], 3, labels[:4])
    np.testing.assert_allclose(lines[:, 2], decode(conditional, z[4:], labels[:4]), atol=1e-6)
    assert path_longest_step(conditional, normal(60), seed=0, labels=np.arange(60) % 10) >= 1


def test_the_dimensions_of_a_conditional_model_move_under_the_commonest_label(conditional):
    z, labels = normal(30), np.repeat([2, 5, 7], [5, 20, 5])
    middle = decode(conditional, z.mean(0, keepdims=True), np.array([5]))[0]
    np.testing.assert_allclose(traversals(conditional, z, np.ones(3), labels)[0, 5], middle, atol=1e-5)


def test_kl_and_codes_of_a_conditional_model_are_those_under_each_images_label(conditional, digits, labels):
    images = batches(conditional, digits, labels, slice(0, 100))
    with torch.no_grad():
        mean, _ = conditional.posterior(images[:], torch.from_numpy(labels[:100]))
    np.testing.assert_allclose(codes(conditional, images), mean, atol=1e-5)
    moved = Batches(digits[:100], labels=(labels[:100] + 1) % 10)
    assert not np.allclose(kl_per_dimension(conditional, images, 0), kl_per_dimension(conditional, moved, 0), rtol=1e-4)
