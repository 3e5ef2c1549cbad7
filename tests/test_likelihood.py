"""Likelihoods against closed forms: of naive Bayes, of a linear-Gaussian model with a right and a wrong posterior."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from latentmill.contract import HasPosterior
from latentmill.data.batches import Batches
from latentmill.densities import gaussian_log_prob
from latentmill.evaluation import likelihood
from latentmill.evaluation.likelihood import evaluate_likelihood, importance_bound
from latentmill.observations import Bernoulli, Gaussian

VAE, GAUSSIAN_VAE = ({"latent": 3}, {"latent": 3, "network": "conv", "observation": "gaussian", "beta": 2.0})
PPCA = {"latent": 5}


class Linear(HasPosterior):
    """x = z + e with z ~ N(0, 1), e ~ N(0, 1/4), so x ~ N(0, 5/4) and z | x ~ N(4x/5, 1/5), shifted by `error`."""

    def __init__(self, error: float) -> None:
        self.error, self.calls, self.observation, self.code_shape = error, [], Gaussian(), (1,)

    def posterior(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        mean = 0.8 * x.flatten(1) + self.error
        return mean, torch.full_like(mean, math.log(0.2))

    def log_p_x_given_z(self, x: Tensor, z: Tensor, label: Tensor | None = None) -> Tensor:
        self.calls.append(z.shape)
        return gaussian_log_prob(x.flatten(1), z, torch.full_like(z, math.log(0.25))).sum(-1)


def linear_x(count: int) -> tuple[Tensor, Tensor]:
    """x (count, 1, 1, 1) of the linear model, and log p(x)."""
    x = math.sqrt(1.25) * torch.randn(count, 1, 1, 1, generator=torch.Generator().manual_seed(3))
    return x, Normal(0.0, math.sqrt(1.25)).log_prob(x.double()).flatten()


def test_an_autoencoder_has_no_likelihood(trained, digits):
    model, _ = trained("autoencoder", {"latent": 3, "network": "conv"})
    assert evaluate_likelihood(model, Batches(digits[:10]), samples=2, seed=0) is None


def test_the_likelihood_of_naive_bayes_by_hand(trained, digits):
    model, _ = trained("naive_bayes", {})
    found = evaluate_likelihood(model, Batches(digits[500:541]), samples=2, seed=7)
    p = ((digits[:500] / 255).sum(0) + 1) / (500 + 2)
    x = Bernoulli().observe(Batches(digits[500:541])[:], torch.Generator().manual_seed(7)).numpy() > 0
    log_p = np.where(x, np.log(p), np.log(1 - p)).sum((1, 2, 3))
    assert (found.kind, found.images) == ("exact", 41)
    assert found.nats == pytest.approx(-log_p.mean(), rel=1e-5)
    assert found.standard_error == pytest.approx(log_p.std(ddof=1) / math.sqrt(41), rel=1e-4)
    assert found.bits_per_dimension == pytest.approx(-log_p.mean() / 64 / math.log(2), rel=1e-5)
    assert "binarised" in found.sample_space


@pytest.mark.parametrize(
    ("name", "config", "kind"),
    [("ppca", PPCA, "exact"), ("vae", GAUSSIAN_VAE, "bound (3 samples)"), ("vae", VAE, "bound (3 samples)")],
    ids=str,
)
def test_bits_per_dimension_are_of_eight_bit_values_for_densities(trained, digits, name, config, kind):
    """A density over [0, 1] spreads a value's probability over a cell of 1/256: 8 bits more."""
    model, _ = trained(name, config)
    found = evaluate_likelihood(model, Batches(digits[500:520]), samples=3, seed=0)
    density = config is not VAE
    assert found.kind == kind
    assert found.bits_per_dimension == pytest.approx(found.nats / 64 / math.log(2) + (8 if density else 0), rel=1e-6)
    assert ("dequantised" in found.sample_space) == density


@pytest.mark.parametrize(("name", "config"), [("naive_bayes", {}), ("ppca", PPCA), ("vae", VAE)], ids=str)
def test_likelihoods_follow_from_the_seed(trained, digits, name, config):
    model, _ = trained(name, config)
    first, again, other = (evaluate_likelihood(model, Batches(digits[500:520]), 3, seed) for seed in (0, 0, 1))
    assert first == again
    assert first.nats != other.nats


@pytest.mark.parametrize("samples", [1, 4, 60])
def test_with_the_exact_posterior_of_ppca_the_bound_is_log_p_for_any_number_of_samples(trained, digits, samples):
    model, _ = trained("ppca", PPCA)
    x = model.observation.observe(Batches(digits[500:530])[:], torch.Generator().manual_seed(0))
    found = importance_bound(model, x, samples, torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(found.curve[samples], model.log_p_x(x).double(), rtol=1e-4, atol=1e-2)


def test_the_exact_likelihood_of_ppca_is_that_of_torch(trained, digits):
    model, _ = trained("ppca", PPCA)
    images = Batches(digits[500:520])
    x = model.observation.observe(images[:], torch.Generator().manual_seed(2)).flatten(1).double()
    scales = (model.variances - model.noise_variance).double().sqrt()
    w = model.directions.double() * scales
    covariance = w @ w.T + model.noise_variance.double() * torch.eye(64)
    log_p = MultivariateNormal(model.mu.double(), covariance).log_prob(x)
    assert evaluate_likelihood(model, images, samples=1, seed=2).nats == pytest.approx(-float(log_p.mean()), rel=1e-4)


def test_a_wrong_posterior_gives_a_bound_that_rises_to_log_p():
    """The first is the ELBO: log p less KL(q || posterior), half the square of the error over the variance 1/5."""
    x, log_p = linear_x(400)
    found = importance_bound(Linear(error=0.6), x, 1_000, torch.Generator().manual_seed(0))
    means = {number: float((values - log_p).mean()) for number, values in found.curve.items()}
    assert list(means) == [1, 10, 100, 1_000]
    assert list(means.values()) == sorted(means.values())
    assert means[1] == pytest.approx(-0.5 * 0.6**2 / 0.2, abs=0.01)
    assert means[1_000] == pytest.approx(0, abs=0.02)


def test_each_point_of_the_curve_is_the_bound_with_so_many_samples():
    """Unbiased: the point at 10 of the curve with 200 samples, and the bound with 10, differ by chance alone."""
    x, _ = linear_x(2_000)
    many = importance_bound(Linear(error=0.6), x, 200, torch.Generator().manual_seed(0)).curve
    few = importance_bound(Linear(error=0.6), x, 10, torch.Generator().manual_seed(1)).curve
    assert list(many) == [1, 10, 100, 200]
    assert list(few) == [1, 10]
    assert float((many[10] - few[10]).mean()) == pytest.approx(0, abs=0.03)


def test_points_of_the_curve_are_means_over_groups_of_the_same_weights():
    log_weights = torch.log(torch.arange(1.0, 8.0, dtype=torch.float64))[:, None]
    expected = (math.log(2) + math.log(5)) / 2  # the means of 1, 2, 3 and of 4, 5, 6; 7 is left over
    assert float(likelihood._grouped_bound(log_weights, 3)) == pytest.approx(expected)


class OnGrid(Linear):
    """The same for each of four pixels, whose codes are a grid (2, 2)."""

    def __init__(self, error: float) -> None:
        super().__init__(error)
        self.code_shape = (2, 2)

    def posterior(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        mean = 0.8 * x[:, 0] + self.error
        return mean, torch.full_like(mean, math.log(0.2))

    def log_p_x_given_z(self, x: Tensor, z: Tensor, label: Tensor | None = None) -> Tensor:
        return gaussian_log_prob(x[:, 0], z, torch.full_like(z, math.log(0.25))).flatten(2).sum(-1)


def test_codes_may_have_any_shape():
    x = linear_x(120)[0].reshape(30, 1, 2, 2)
    exact = Normal(0.0, math.sqrt(1.25)).log_prob(x.double()).sum((1, 2, 3))
    found = importance_bound(OnGrid(error=0.0), x, 3, torch.Generator().manual_seed(0))
    torch.testing.assert_close(found.curve[3], exact, rtol=1e-4, atol=1e-3)
    wrong = importance_bound(OnGrid(error=0.1), x, 3_000, torch.Generator().manual_seed(0))
    assert float((wrong.curve[1] - exact).mean()) == pytest.approx(-4 * 0.5 * 0.1**2 / 0.2, abs=0.02)
    assert wrong.kl.shape == (30,)


def test_the_bound_of_a_conditional_model_is_that_of_each_image_given_its_label(trained, digits, labels):
    model, _ = trained("conditional_vae", {"latent": 3, "hidden": 50})
    x = model.observation.observe(Batches(digits[:20])[:], torch.Generator().manual_seed(4))
    found = evaluate_likelihood(model, Batches(digits[:20], labels=labels[:20]), samples=9, seed=4)
    own = torch.from_numpy(labels[:20])
    expected = importance_bound(model, x, 9, torch.Generator().manual_seed(5), own)
    assert found.nats == pytest.approx(-float(expected.curve[9].mean()), rel=1e-6)
    single = importance_bound(model, x[:1], 9, torch.Generator().manual_seed(5), own[:1])
    assert float(single.curve[9][0]) == pytest.approx(float(expected.curve[9][0]), rel=1e-4)
    other = importance_bound(model, x, 9, torch.Generator().manual_seed(5), (own + 1) % 10)
    assert not torch.allclose(other.curve[9], expected.curve[9], rtol=1e-3)


def test_a_gan_has_no_likelihood(trained, digits):
    model, _ = trained("gan", {"latent": 3, "hidden": 50})
    assert evaluate_likelihood(model, Batches(digits[:10]), samples=2, seed=0) is None


def test_the_elbo_is_its_two_parts(trained, digits):
    model, _ = trained("vae", VAE)
    images = Batches(digits[500:540])
    found = evaluate_likelihood(model, images, samples=300, seed=4)
    x = model.observation.observe(images[:], torch.Generator().manual_seed(4))
    with torch.no_grad():
        mean, log_variance = model.posterior(x)
    kl = kl_divergence(Normal(mean, torch.exp(0.5 * log_variance)), Normal(0.0, 1.0)).sum(1).mean()
    assert found.elbo.kl == pytest.approx(float(kl), rel=0.02), "it is estimated by the same draws"
    assert found.elbo.nats == pytest.approx(found.elbo.reconstruction + found.elbo.kl)
    assert found.elbo.nats == pytest.approx(found.curve["1"], rel=0.01), "the same, but for a KL that is sampled"
    assert found.elbo.gap == pytest.approx(found.elbo.nats - found.nats)
    assert found.elbo.gap > 0


@pytest.mark.parametrize(("images", "samples"), [(5, 1), (3, 7), (7, 30), (2, 101)])
def test_exactly_as_many_samples_are_used_and_never_too_many_at_a_time(monkeypatch, images, samples):
    monkeypatch.setattr(likelihood, "CODES_AT_A_TIME", 50)
    model = Linear(error=0.0)
    found = importance_bound(model, linear_x(images)[0], samples, torch.Generator().manual_seed(0))
    codes = [shape[0] * shape[1] for shape in model.calls]
    assert sum(codes) == images * samples
    assert max(codes) <= 50
    assert {len(values) for values in found.curve.values()} == {images}


@pytest.mark.parametrize("at_a_time", [1, 40, 333])
def test_the_bound_does_not_depend_on_what_is_taken_at_a_time(trained, digits, monkeypatch, at_a_time):
    model, _ = trained("vae", VAE)
    whole = evaluate_likelihood(model, Batches(digits[500:512]), samples=120, seed=0)
    monkeypatch.setattr(likelihood, "CODES_AT_A_TIME", at_a_time)
    found = evaluate_likelihood(model, Batches(digits[500:512]), samples=120, seed=0)
    assert found.curve == pytest.approx(whole.curve, rel=1e-5)
    assert found.metrics()["elbo"] == pytest.approx(whole.metrics()["elbo"], rel=1e-4, abs=1e-4)


def test_metrics_hold_what_the_kind_has(trained, digits):
    exact, bound = (
        evaluate_likelihood(trained(*case)[0], Batches(digits[500:510]), samples=20, seed=0).metrics()
        for case in (("naive_bayes", {}), ("vae", VAE))
    )
    fields = {"kind", "nats", "standard_error", "bits_per_dimension", "images", "sample_space"}
    assert set(exact) == fields
    assert set(bound) == fields | {"curve", "elbo"}
    assert set(bound["curve"]) == {"1", "10", "20"}
    assert bound["curve"]["20"] == bound["nats"]
    assert set(bound["elbo"]) == {"nats", "reconstruction", "kl", "gap"}
