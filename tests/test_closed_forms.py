"""Models whose answers are known: naive Bayes by hand, PPCA against scikit-learn, the bound against PPCA."""

import math

import numpy as np
import pytest
import torch
from conftest import build
from sklearn.decomposition import PCA
from torch.distributions import MultivariateNormal

from latentmill import registry
from latentmill.contract import HasPosterior
from latentmill.data.batches import Batches
from latentmill.errors import InputError
from latentmill.evaluation.likelihood import evaluate_likelihood, importance_bound
from latentmill.observations import Gaussian

LATENT = 4


def test_naive_bayes_by_hand(generator):
    images = np.array([0, 255, 0, 51], np.uint8).reshape(4, 1, 1, 1)  # grey values 0, 1, 0, 0.2
    model = registry.build("models", "naive_bayes", {"pseudocount": 0.5}, (1, 1, 1))
    model.fit(Batches(images), Batches(images), generator)
    p = (1.2 + 0.5) / (4 + 1)
    log_p = model.log_p_x(torch.tensor([1.0, 0.0]).reshape(2, 1, 1, 1))
    torch.testing.assert_close(log_p, torch.tensor([math.log(p), math.log(1 - p)]))
    drawn = model.generate(torch.randn(50_000, 1, generator=generator))
    assert float(drawn.mean()) == pytest.approx(p, abs=0.01)
    assert set(drawn.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize(
    ("name", "config"),
    [("naive_bayes", {"pseudocount": 1e-6}), ("bernoulli_mixture", {"components": 5})],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_pixels_that_are_the_same_in_all_of_many_images_have_a_finite_likelihood(name, config, generator):
    images = np.random.default_rng(0).choice(np.array([0, 255], np.uint8), (8000, 1, 4, 4))
    images[:, :, 0], images[:, :, 1] = 255, 0
    batches = Batches(images)
    model = registry.build("models", name, config, (1, 4, 4))
    model.fit(batches, batches, generator)
    assert all(value.isfinite().all() for value in model.buffers())
    nats = -model.log_p_x(batches[:]).mean()
    assert float(nats) == pytest.approx(8 * math.log(2), abs=0.05)
    drawn = model.generate(torch.randn(1000, model.noise_width, generator=generator))
    assert float(drawn[:, :, 0].mean()) > 0.999
    assert float(drawn[:, :, 1].mean()) < 0.001


@pytest.mark.parametrize("name", ["naive_bayes", "bernoulli_mixture"])
def test_a_pseudocount_that_rounding_would_lose_is_refused(name):
    with pytest.raises(ValueError, match=r"pseudocount\s.*greater than or equal to 0\.000001"):
        registry.find("models", name).Config(pseudocount=1e-13)


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def ppca(digits):
    model = build("ppca", {"latent": LATENT})
    model.fit(Batches(digits), Batches(digits), torch.Generator().manual_seed(0))
    return model.eval()


@pytest.fixture(scope="module")
def x(digits):
    """Dequantised digits that PPCA was fitted to: (600, 1, 8, 8)."""
    return Gaussian().observe(torch.from_numpy(digits) / 255, torch.Generator().manual_seed(0))


def marginal(model) -> MultivariateNormal:
    """N(mu, W W' + s I), as a dense Gaussian in double precision."""
    w = model.directions.double() * (model.variances - model.noise_variance).double().sqrt()
    return MultivariateNormal(model.mu.double(), w @ w.T + model.noise_variance.double() * torch.eye(64).double())


def test_ppca_likelihood_is_that_of_scikit_learn(ppca, x):
    rows = x.flatten(1).double().numpy()
    expected = PCA(LATENT, svd_solver="full").fit(rows).score_samples(rows)
    np.testing.assert_allclose(ppca.log_p_x(x), expected, atol=0.01, rtol=1e-4)


def test_ppca_likelihood_is_that_of_the_dense_gaussian(ppca, x):
    expected = marginal(ppca).log_prob(x[:50].flatten(1).double())
    torch.testing.assert_close(ppca.log_p_x(x[:50]).double(), expected, atol=0.01, rtol=1e-4)


def test_ppca_posterior_is_bayes_rule(ppca, x):
    """log p(x | z) + log p(z) - log p(z | x) is log p(x), whatever z."""
    mean, log_variance = ppca.posterior(x[:5])
    z = mean + torch.tensor([[0.5, -1.0, 0.0, 2.0]])
    posterior = torch.distributions.Normal(mean, torch.exp(0.5 * log_variance))
    joint = ppca.log_p_x_given_z(x[:5], z[None])[0] + torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1)
    torch.testing.assert_close(joint - posterior.log_prob(z).sum(1), ppca.log_p_x(x[:5]), atol=0.02, rtol=1e-4)


def test_ppca_samples_have_the_fitted_moments(ppca, digits, generator):
    images = ppca.pixel_parameters(torch.randn(40_000, LATENT, generator=generator)).flatten(1)
    np.testing.assert_allclose(images.mean(0), ppca.mu, atol=0.01)
    explained = torch.linalg.eigvalsh(torch.cov(images.T)).flip(0)[:LATENT]
    np.testing.assert_allclose(explained, ppca.variances - ppca.noise_variance, rtol=0.05)


def test_ppca_needs_fewer_factors_than_pixels(digits, generator):
    with pytest.raises(InputError, match="must be below the number of images and of pixels, 64, but got latent=64"):
        build("ppca", {"latent": 64}).fit(Batches(digits), Batches(digits), generator)


def test_the_bound_is_exact_when_the_posterior_is(ppca, x, generator):
    """All importance weights then equal p(x), so that even one sample gives it."""
    bound = importance_bound(ppca, x[:20], samples=1, generator=generator).curve[1].float()
    torch.testing.assert_close(bound, ppca.log_p_x(x[:20]), atol=0.02, rtol=1e-4)


class Widened(HasPosterior):
    """PPCA with q's standard deviations multiplied: a wrong posterior whose bound is known."""

    def __init__(self, model, factor):
        self.model, self.log_factor, self.samples_seen = model, math.log(factor), 0
        self.code_shape = model.code_shape

    def posterior(self, x, label):
        mean, log_variance = self.model.posterior(x)
        return mean, log_variance + 2 * self.log_factor

    def log_p_x_given_z(self, x, z, label):
        self.samples_seen += len(z)
        return self.model.log_p_x_given_z(x, z)


def test_one_sample_gives_the_evidence_lower_bound_and_many_the_likelihood(ppca, x, generator):
    """E[bound] at K = 1 is log p(x) - KL(q || p(z | x)); the gap closes as K grows, and never turns."""
    factor = 1.5
    gap = LATENT * (0.5 * (factor**2 - 1) - math.log(factor))
    some = x[:100]
    wide, exact = Widened(ppca, factor), ppca.log_p_x(some)
    gaps = {}
    for samples in (1, 10, 500):
        bounds = [importance_bound(wide, some, samples, generator).curve[samples] for _ in range(20)]
        gaps[samples] = float((exact - torch.stack(bounds)).mean())
    assert gaps[1] == pytest.approx(gap, rel=0.1)
    assert gap > gaps[10] > gaps[500] > -0.02
    assert gaps[500] < 0.02


@pytest.mark.parametrize("samples", [1, 7, 500])
def test_the_bound_uses_exactly_k_samples(ppca, x, samples, generator):
    wide = Widened(ppca, 1.0)
    importance_bound(wide, x[:3], samples, generator)
    assert wide.samples_seen in (samples, 3 * samples), "of three images together, or of one after the other"


def test_the_reported_bound_is_that_of_k_samples(digits):
    """The figure in the metrics, recomputed from its definition with the same draws."""
    model = build("vae", {"latent": 3}).eval()
    found = evaluate_likelihood(model, Batches(digits[:8]), samples=9, seed=5)
    x = model.observation.observe(Batches(digits[:8])[:], torch.Generator().manual_seed(5))
    expected = importance_bound(model, x, 9, torch.Generator().manual_seed(6)).curve[9]
    assert found.nats == pytest.approx(-float(expected.mean()), rel=1e-6)
    assert found.kind == "bound (9 samples)"
