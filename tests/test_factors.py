"""Factor analysers against the normal distribution that they are, and mixtures against their sums."""

import itertools

import pytest
import torch
from torch.distributions import MultivariateNormal

from latentmill import registry
from latentmill.data.batches import Batches
from latentmill.networks.factors import Factors, improved, log_joint, rotated


def random_factors(values, width, generator):
    loadings = torch.randn(values, width, generator=generator)
    return rotated(torch.randn(values, generator=generator), loadings, 0.1 + torch.rand(values, generator=generator))


def normal(factors):
    covariance = factors.loadings @ factors.loadings.T + torch.diag(factors.noise)
    return MultivariateNormal(factors.mean.double(), covariance.double())


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """torch's distributions draw from its global generator."""
    torch.manual_seed(0)


def test_the_density_and_the_posterior_are_those_of_the_normal_distribution(generator):
    factors = random_factors(7, 3, generator)
    x = torch.randn(20, 7, generator=generator)
    torch.testing.assert_close(factors.log_p(x).double(), normal(factors).log_prob(x.double()), rtol=1e-4, atol=1e-4)
    covariance = factors.loadings @ factors.loadings.T + torch.diag(factors.noise)
    expected = (x - factors.mean) @ torch.linalg.inv(covariance) @ factors.loadings
    torch.testing.assert_close(factors.posterior(x), expected, rtol=1e-3, atol=1e-3)
    inverse = torch.linalg.inv(torch.eye(3) + factors.loadings.T @ (factors.loadings / factors.noise[:, None]))
    torch.testing.assert_close(torch.diag(1 / factors.precision), inverse, rtol=1e-3, atol=1e-4)


def test_every_step_raises_the_likelihood_up_to_that_of_the_source(generator):
    source = random_factors(6, 2, generator)
    x = normal(source).sample((4_000,)).float()
    found, weight, likelihoods = (
        rotated(torch.zeros(6), 0.1 * torch.randn(6, 2, generator=generator), torch.ones(6)),
        torch.zeros(1),
        [],
    )
    for _ in range(200):
        (found,), weight = improved([found], weight, lambda: x.split(1_000), floor=1e-6)
        likelihoods.append(float(found.log_p(x).mean()))
    assert all(after > before - 1e-4 for before, after in itertools.pairwise(likelihoods))
    assert likelihoods[-1] == pytest.approx(float(source.log_p(x).mean()), abs=0.02)
    torch.testing.assert_close(found.noise, source.noise, rtol=0, atol=0.1)


def test_a_mixture_finds_the_planes_that_examples_lie_on(generator):
    source = [random_factors(5, 1, generator), random_factors(5, 1, generator)]
    source[1] = Factors(source[1].mean + 6, source[1].loadings, source[1].noise)
    x = torch.cat([normal(source[0]).sample((3_000,)), normal(source[1]).sample((1_000,))]).float()
    found = [rotated(x[row], 0.1 * torch.randn(5, 1, generator=generator), torch.ones(5)) for row in (0, -1)]
    weights = torch.zeros(2)
    for _ in range(60):
        found, weights = improved(found, weights, lambda: [x], floor=1e-6)
    assert sorted(weights.exp().tolist()) == pytest.approx([0.25, 0.75], abs=0.02)
    truth = log_joint(source, torch.tensor([0.75, 0.25]).log(), x).logsumexp(1).mean()
    assert float(log_joint(found, weights, x).logsumexp(1).mean()) == pytest.approx(float(truth), abs=0.02)


def test_values_that_never_vary_keep_the_least_noise(generator):
    x = torch.cat([torch.randn(500, 2, generator=generator), torch.zeros(500, 1)], 1)
    found, weight = rotated(torch.zeros(3), 0.1 * torch.randn(3, 1, generator=generator), torch.ones(3)), torch.zeros(1)
    for _ in range(20):
        (found,), weight = improved([found], weight, lambda: [x], floor=0.01)
    assert float(found.noise[2]) == pytest.approx(0.01)


def test_a_mixture_of_bernoullis_finds_kinds_of_images(generator):
    """Two kinds: white above, or white on the left. The likelihood is that of the kind, but for its share of a half."""
    above, left = torch.zeros(1, 8, 8), torch.zeros(1, 8, 8)
    above[:, :4], left[:, :, :4] = 255, 255
    images = Batches(torch.stack([above, left] * 100).byte().numpy())
    model = registry.build("models", "bernoulli_mixture", {}, (1, 8, 8))
    model.fit(images, images, generator)
    with torch.no_grad():
        nats = -float(model.log_p_x(images[:]).mean())
        made = model.generate(torch.randn(400, model.noise_width, generator=generator))
    assert nats < 3
    for kind in (above, left):
        shares = ((made - kind / 255).abs().mean((1, 2, 3)) < 0.1).float().mean()
        assert 0.35 < float(shares) < 0.65


def test_the_number_of_kinds_stops_where_validation_images_become_less_likely(setup, generator):
    model = registry.build("models", "bernoulli_mixture", {}, (1, 8, 8))
    model.fit(setup.examples, setup.val, generator)
    naive = registry.build("models", "naive_bayes", {}, (1, 8, 8))
    naive.fit(setup.examples, setup.val, generator)
    x = naive.observation.observe(setup.val[:], generator)
    assert 5 <= len(model.logits) <= 50
    with torch.no_grad():
        assert model.log_p_x(x).mean() > naive.log_p_x(x).mean() + 2
