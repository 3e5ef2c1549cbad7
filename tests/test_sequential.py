"""Models that draw pixel after pixel: their samples follow the likelihood that one pass computes."""

import itertools
import math

import pytest
import torch

from latentmill import registry

MODELS = pytest.mark.parametrize(
    ("name", "config"), [("made", {"hidden": 40}), ("pixel_cnn", {"channels": 5, "depth": 3})], ids=str
)


def random_model(name, config, shape, generator):
    model = registry.build("models", name, config, shape).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.5, generator=generator)
    return model


@MODELS
@pytest.mark.parametrize("shape", [(1, 6, 7), (3, 5, 4)], ids=str)
def test_each_pixel_is_drawn_with_its_probability_given_those_before(name, config, shape, generator):
    """The likelihood of what was drawn, by one pass, is the product of the probabilities that the steps had."""
    model = random_model(name, config, shape, generator)
    noise = torch.randn(50, model.noise_width, generator=generator)
    with torch.no_grad():
        p = model.generate(noise).flatten(1)
        x = (torch.special.ndtr(noise) < p).float()
        log_p = torch.where(x > 0, p, 1 - p).log().sum(1)
        torch.testing.assert_close(model.log_p_x(x.unflatten(1, shape)), log_p, rtol=1e-4, atol=1e-3)
    assert p.std(0).mean() > 0.03, "pixels depend on those before them"


@MODELS
def test_samples_are_drawn_on_the_device_of_the_model(name, config):
    model = registry.build("models", name, config, (1, 3, 4)).to("meta")
    assert model.generate(torch.zeros(5, model.noise_width, device="meta")).shape == (5, 1, 3, 4)


@MODELS
def test_the_probabilities_of_all_images_are_one_together(name, config, generator):
    model = random_model(name, config, (1, 3, 4), generator)
    x = torch.tensor(list(itertools.product([0.0, 1.0], repeat=12))).unflatten(1, (1, 3, 4))
    with torch.no_grad():
        assert float(model.log_p_x(x).double().exp().sum()) == pytest.approx(1, abs=1e-4)


@MODELS
def test_independent_pixels_are_where_it_begins(name, config, setup):
    """So that no epoch is spent on what naive Bayes knows."""
    first, naive = (registry.build("models", each, {}, (1, 8, 8)) for each in (name, "naive_bayes"))
    for model in (first, naive):
        model.fit(setup.examples, setup.val, torch.Generator().manual_seed(0))
    x = naive.observation.observe(setup.val[:], torch.Generator().manual_seed(0))
    with torch.no_grad():
        difference = (first.log_p_x(x) - naive.log_p_x(x)).abs().max()
    assert float(difference) < math.log(1.01)
