"""Densities and observation models against closed forms and torch.distributions."""

import math
from typing import get_args

import numpy as np
import pytest
import torch
from torch.distributions import Bernoulli, Normal, kl_divergence

from latentmill import densities
from latentmill.observations import ObservationName, binary_share, observation, suited

OBSERVATIONS = get_args(ObservationName)


def test_bernoulli_log_prob_is_that_of_torch(generator):
    x = torch.bernoulli(torch.full((3, 7), 0.4), generator=generator)
    logits = torch.randn(5, 3, 7, generator=generator) * 5
    expected = Bernoulli(logits=logits).log_prob(x.expand_as(logits)).sum(-1)
    torch.testing.assert_close(densities.bernoulli_log_prob(x, logits), expected)


def test_gaussian_log_prob_is_that_of_torch(generator):
    x, mean, log_variance = torch.randn(3, 4, 5, generator=generator)
    expected = Normal(mean, torch.exp(0.5 * log_variance)).log_prob(x)
    torch.testing.assert_close(densities.gaussian_log_prob(x, mean, log_variance), expected)


def test_kl_from_standard_normal_is_that_of_torch_and_0_at_the_prior(generator):
    mean, log_variance = torch.randn(2, 4, 5, generator=generator)
    expected = kl_divergence(Normal(mean, torch.exp(0.5 * log_variance)), Normal(0.0, 1.0))
    torch.testing.assert_close(densities.kl_from_standard_normal(mean, log_variance), expected)
    assert densities.kl_from_standard_normal(torch.zeros(3), torch.zeros(3)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("log_scale", [-5.0, -1.0])
def test_a_discretized_logistic_is_a_distribution_over_the_values(log_scale):
    values, means = torch.arange(256, dtype=torch.float64) / 255, torch.tensor([[-0.2], [0.3], [1.0]]).double()
    log_p = densities.discretized_logistic_log_prob(values, means, torch.tensor(log_scale).double())
    torch.testing.assert_close(log_p.exp().sum(1), torch.ones(3).double())
    scale = math.exp(log_scale)
    cell = [1 / (1 + math.exp(-(value - 0.3) / scale)) for value in (99.5 / 255, 100.5 / 255)]
    assert log_p[1, 100].item() == pytest.approx(math.log(cell[1] - cell[0]))


def test_log_mean_exp_does_not_overflow():
    log_weights = torch.tensor([[0.0, 1e4], [np.log(3.0), 1e4]]).float()
    torch.testing.assert_close(densities.log_mean_exp(log_weights, 0), torch.tensor([np.log(2.0), 1e4]).float())


def test_bernoulli_observes_binary_pixels_with_the_grey_value_as_probability(generator):
    images = torch.tensor([0.0, 0.25, 1.0]).repeat(20_000, 1)[:, None, None]
    x = observation("bernoulli").observe(images, generator)
    assert set(x.unique().tolist()) == {0.0, 1.0}
    np.testing.assert_allclose(x.mean((0, 1, 2)), [0.0, 0.25, 1.0], atol=0.01)


def test_gaussian_observes_each_8_bit_value_within_its_cell(generator):
    values = torch.arange(256).float()[None, None, None]
    x = observation("gaussian").observe(values / 255, generator)
    assert (x * 256).floor().flatten().tolist() == list(range(256))


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_log_prob_sums_over_pixels_and_keeps_the_samples(name, generator):
    x = observation(name).observe(torch.rand(3, 2, 4, 5, generator=generator), generator)
    parameters = torch.randn(6, 3, 2, 4, 5, generator=generator)
    log_p = observation(name).log_prob(x, parameters)
    assert log_p.shape == (6, 3)
    one_pixel_less = observation(name).log_prob(x[..., :1, :], parameters[..., :1, :])
    rest = observation(name).log_prob(x[..., 1:, :], parameters[..., 1:, :])
    torch.testing.assert_close(log_p, one_pixel_less + rest)


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_means_are_images(name):
    mean = observation(name).mean(torch.linspace(-30, 30, 100))
    assert mean.min() >= 0
    assert mean.max() <= 1


@pytest.mark.parametrize(("binary", "name"), [(0.9, "bernoulli"), (0.6, "gaussian")])
def test_images_of_black_and_white_suit_binary_pixels(binary, name):
    images = np.random.default_rng(0).integers(20, 230, (50, 1, 10, 10), dtype=np.uint8)
    images.reshape(-1)[: int(binary * images.size)] = 250
    share = binary_share(images)
    assert share == pytest.approx(binary)
    assert suited(share) == name
