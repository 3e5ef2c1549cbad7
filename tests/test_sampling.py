"""Samples of a trained model, by each way of drawing its codes."""

import numpy as np
import pytest
import torch
from conftest import IMAGE_SHAPE, each_variant

from latentmill.contract import Decodes
from latentmill.errors import InputError
from latentmill.evaluation import sampling

PRIORS = ("normal", "gaussian", "mixture")


@pytest.mark.parametrize(
    ("name", "config", "priors", "default"),
    [
        ("naive_bayes", {}, ("pixels",), "pixels"),
        ("vae", {"latent": 3}, PRIORS, "normal"),
        ("ppca", {"latent": 5, "components": 3, "prior": "mixture"}, PRIORS, "mixture"),
    ],
)
def test_each_prior_of_a_model_with_codes_can_be_sampled(trained, name, config, priors, default):
    model, _ = trained(name, config)
    assert sampling.priors(model) == priors
    assert sampling.exported_prior(model) == default


@each_variant
@pytest.mark.parametrize("count", [1, 10, 23])
def test_sampling_draws_exactly_the_count_whatever_the_chunk(name, config, trained, monkeypatch, count):
    monkeypatch.setattr(sampling, "CHUNK", 10)
    model, _ = trained(name, config)
    for prior in sampling.priors(model):
        images = sampling.sample(model, prior, count, seed=0)
        assert images.shape == (count, *IMAGE_SHAPE)
        assert images.dtype == np.uint8
        assert len(np.unique(images.reshape(count, -1), axis=0)) == count, "no chunk repeats another"


@each_variant
def test_samples_follow_from_the_seed(name, config, trained):
    model, _ = trained(name, config)
    for prior in sampling.priors(model):
        first, again, other = (sampling.sample(model, prior, 20, seed) for seed in (0, 0, 1))
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()


@each_variant
def test_codes_are_drawn_from_the_prior(name, config, trained):
    model, _ = trained(name, config)
    for prior in sampling.priors(model):
        fitted = model.prior(prior) if isinstance(model, Decodes) else None
        width = fitted.noise_width if fitted else model.noise_width
        noise = torch.randn(30, width, generator=torch.Generator().manual_seed(5))
        with torch.no_grad():
            expected = model.decode(fitted(noise)) if fitted else model.generate(noise)
        np.testing.assert_allclose(sampling.sample(model, prior, 30, seed=5), 255 * expected, atol=0.501)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_not_finite_are_refused(trained, monkeypatch, value):
    model, _ = trained("vae", {"latent": 3})
    monkeypatch.setattr(model, "decode", lambda z: torch.full((len(z), *IMAGE_SHAPE), value))
    with pytest.raises(InputError, match="samples must be finite, but 640 of 640 values are NaN or infinite"):
        sampling.sample(model, "normal", 10, seed=0)
