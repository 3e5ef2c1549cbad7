"""Samples of a trained model, under each prior of its codes."""

import numpy as np
import pytest
import torch
from conftest import IMAGE_SHAPE, each_model
from pairs import Pairs

from latentmill.codes import Generator, frequent_labels
from latentmill.errors import InputError
from latentmill.evaluation import sampling
from latentmill.priors.normal import StandardNormal


@pytest.fixture(scope="module")
def generators(trained, digits, labels):
    """Of each case: by prior, what draws its samples."""
    pairs = Pairs(digits, labels)
    return lambda name, config: pairs.generators(trained(name, config)[0])


def drawn(generator: Generator, noise: torch.Tensor, label: torch.Tensor | None) -> np.ndarray:
    """Images of noise, by the two halves of a pair."""
    with torch.no_grad():
        if generator.prior is None:
            return generator.model.generate(noise, label).numpy()
        return generator.model.decode(generator.prior.generate(noise, label), label).numpy()


@pytest.mark.parametrize(
    ("name", "config", "expected"),
    [
        ("naive_bayes", {}, ["own"]),
        ("gan", {"latent": 3, "hidden": 50}, ["own"]),
        ("vamp_vae", {"latent": 3, "components": 7}, ["own", "normal", "mixture", "flow", "guided_flow"]),
        ("vae", {"latent": 3}, ["normal", "mixture", "flow", "guided_flow"]),
    ],
    ids=str,
)
def test_a_model_is_sampled_under_each_of_its_priors_or_by_itself(generators, name, config, expected):
    assert list(generators(name, config)) == expected


@each_model
def test_sampling_draws_exactly_the_count_whatever_the_chunk(name, config, generators, labels, monkeypatch):
    monkeypatch.setattr(sampling, "CHUNK", 10)
    for generator in generators(name, config).values():
        for count in (1, 10, 23):
            images = sampling.sample(generator, count, seed=0, labels=labels).images
            assert (images.shape, images.dtype) == ((count, *IMAGE_SHAPE), np.uint8)
        assert len({image.tobytes() for image in images}) > 20, "no chunk repeats another"


@each_model
def test_samples_follow_from_the_seed(name, config, generators, labels):
    for generator in generators(name, config).values():
        first, again, other = (sampling.sample(generator, 20, seed, labels).images for seed in (0, 0, 1))
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()


@each_model
def test_samples_are_decoded_draws_from_the_prior(name, config, generators, labels):
    for generator in generators(name, config).values():
        noise = torch.randn(30, generator.noise_width, generator=torch.Generator().manual_seed(5))
        label = frequent_labels(labels, 30, seed=5) if generator.is_conditional else None
        samples = sampling.sample(generator, 30, seed=5, labels=labels)
        np.testing.assert_allclose(samples.images, 255 * drawn(generator, noise, label), atol=0.501)
        assert (samples.labels is None) == (label is None)
        assert label is None or (samples.labels == label.numpy()).all()
        assert (samples.codes is None) == (not generator.has_codes)
        if generator.prior is not None:
            codes = generator.prior.generate(noise, label).flatten(1).detach()
            np.testing.assert_allclose(samples.codes, codes, atol=1e-6)


def test_labels_of_samples_are_as_frequent_as_in_training():
    training = np.repeat([0, 3, 7], [100, 300, 600])
    drawn = frequent_labels(training, 20_000, seed=0).numpy()
    np.testing.assert_allclose(np.bincount(drawn) / 20_000, np.bincount(training) / 1_000, atol=0.01)
    assert drawn.dtype == np.int64


def test_a_conditional_model_shows_the_label_that_it_is_given(trained, digits, labels):
    """Samples of each class are nearer to its own mean image than those of other classes are."""
    model, _ = trained("conditional_vae", {"latent": 3, "hidden": 50})
    generator = Generator(model, StandardNormal(StandardNormal.Config(), (3,)))
    noise = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        zeros, ones = (generator(noise, torch.full((200,), label))[0].mean(0) for label in (0, 1))
    means = [digits[:500][labels[:500] == label].mean(0) / 255 for label in (0, 1)]
    between = torch.from_numpy(means[0] - means[1])
    assert float((zeros * between).sum()) > float((ones * between).sum())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_not_finite_are_refused(generators, monkeypatch, value):
    generator = generators("vae", {"latent": 3})["normal"]
    monkeypatch.setattr(generator.model, "decode", lambda z, label: torch.full((len(z), *IMAGE_SHAPE), value))
    with pytest.raises(InputError, match="samples must be finite, but 640 of 640 values are NaN or infinite"):
        sampling.sample(generator, 10, seed=0)
