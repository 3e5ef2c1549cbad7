"""The contract, for every variant there is: a new file in variants/ is covered without a line here."""

from typing import get_args

import pytest
import torch
from conftest import IMAGE_SHAPE, build, each_variant

from latentmill import models
from latentmill.config import TrainingConfig
from latentmill.contract import Decodes, Encodes, HasLikelihood, HasPosterior, PriorName, drawn_codes
from latentmill.data.batches import Batches
from latentmill.draws import drawn
from latentmill.training.step import validate
from latentmill.trials import trained_model


def batch_and_noise(model, images):
    batch = {"image": Batches(images)[:]}
    return batch, drawn(model.draws, len(images), torch.Generator().manual_seed(1))


def test_there_are_the_variants_of_the_ladder():
    assert {"naive_bayes", "ppca", "autoencoder", "vae"} <= set(models.names())


@each_variant
def test_hyperparameters_do_not_shadow_those_of_training_or_planning(name, config):
    assert not set(models.find(name).Config.model_fields) & {*TrainingConfig.model_fields, "variant", "samples"}


@each_variant
def test_forward_is_the_objective_in_named_terms_of_each_image(name, config, digits, trained):
    model, _ = trained(name, config)
    batch, noise = batch_and_noise(model, digits[:20])
    terms, again = model(batch, noise), model(batch, noise)
    assert "loss" in terms
    assert all(term.shape == (20,) and term.isfinite().all() for term in terms.values())
    assert all(torch.equal(term, again[name]) for name, term in terms.items()), "it must draw nothing itself"


@each_variant
def test_terms_and_criterion_of_an_image_are_its_own(name, config, digits, trained):
    """Whatever else is in the batch."""
    model, _ = trained(name, config)
    batch, noise = batch_and_noise(model, digits[:20])
    fewer = [{key: value[5:9] for key, value in each.items()} for each in (batch, noise)]
    with torch.no_grad():
        for method in (lambda *given: model(*given)["loss"], model.criterion):
            torch.testing.assert_close(method(*fewer), method(batch, noise)[5:9], rtol=1e-4, atol=1e-4)


@each_variant
def test_training_lowers_the_criterion(name, config, digits, trained):
    val = Batches(digits[500:])
    untrained = validate(build(name, config), val)
    _, fitted = trained(name, config)
    assert fitted.criterion < untrained
    assert len(fitted.history) == (0 if models.find(name).closed_form else 3)


@each_variant
def test_generate_turns_noise_into_images_row_by_row(name, config, trained, generator):
    model, _ = trained(name, config)
    noise = torch.randn(7, model.noise_width, generator=generator)
    with torch.no_grad():
        images = model.generate(noise)
        assert images.shape == (7, *IMAGE_SHAPE)
        assert images.min() >= 0
        assert images.max() <= 1
        assert images.std(0).max() > 0, "different noise must give different images"
        torch.testing.assert_close(model.generate(noise[3:4]), images[3:4])
        assert torch.equal(model.generate(noise), images), "generate must draw nothing itself"


@each_variant
def test_capabilities_keep_their_shapes(name, config, digits, trained, generator):
    model, _ = trained(name, config)
    images = Batches(digits)[:6]
    with torch.no_grad():
        if isinstance(model, Encodes):
            assert model.encode(images).shape == (6, model.latent)
        if isinstance(model, Decodes):
            for prior in get_args(PriorName):
                noise = torch.randn(6, model.prior(prior).noise_width, generator=generator)
                decoded = model.decode(model.prior(prior)(noise))
                assert decoded.shape == (6, *IMAGE_SHAPE)
                assert 0 <= decoded.min() <= decoded.max() <= 1
            assert model.noise_width == model.prior(model.prior_name).noise_width
        if isinstance(model, HasLikelihood):
            assert model.log_p_x(model.observation.observe(images, generator)).shape == (6,)
        if isinstance(model, HasPosterior):
            mean, log_variance = model.posterior(model.observation.observe(images, generator))
            assert mean.shape == log_variance.shape == (6, model.latent)
            z = torch.randn(4, 6, model.latent, generator=generator)
            assert model.log_p_x_given_z(images.round(), z).shape == (4, 6)


@each_variant
@pytest.mark.parametrize("prior", ["gaussian", "mixture"])
def test_priors_are_fitted_to_the_training_codes(name, config, prior, digits, trained, generator):
    model, _ = trained(name, config)
    if not isinstance(model, Encodes):
        pytest.skip("has no codes")
    codes = drawn_codes(model, Batches(digits[:500]), generator)
    with torch.no_grad():
        drawn = model.prior(prior)(torch.randn(5_000, model.latent + 1, generator=generator))
    torch.testing.assert_close(drawn.mean(0), codes.mean(0), atol=0.25 * float(codes.std()) + 0.1, rtol=0)
    torch.testing.assert_close(drawn.std(0), codes.std(0), atol=0, rtol=0.25)


@each_variant
def test_a_saved_model_comes_back_the_same(name, config, trained, tmp_path, generator):
    model, _ = trained(name, config)
    full = models.find(name).Config.model_validate(config).model_dump()
    record = {"trial": {"variant": name, "model": full}, "image_shape": IMAGE_SHAPE}
    trained_model.save(tmp_path, model, record)
    loaded = trained_model.load(tmp_path)
    noise = torch.randn(5, model.noise_width, generator=generator)
    with torch.no_grad():
        assert torch.equal(loaded.model.generate(noise), model.generate(noise))
    assert loaded.image_shape == IMAGE_SHAPE


@each_variant
@pytest.mark.parametrize("shape", [(3, 9, 12), (1, 5, 7)], ids=str)
def test_colour_and_odd_sizes_work(name, config, shape):
    model = models.build(name, config, shape)
    with torch.no_grad():
        images = model.generate(torch.zeros(2, model.noise_width))
        assert images.shape == (2, *shape)
        if isinstance(model, Encodes):
            assert model.encode(images).shape == (2, model.latent)


def test_the_criterion_does_not_depend_on_beta_or_corruption(digits):
    """The same weights under another weight of the KL, or other corruption, rank the same."""
    for name, key, values in (("vae", "beta", (0.5, 4.0)), ("autoencoder", "corruption", (0.0, 0.9))):
        models = [build(name, {"latent": 3, key: value}) for value in values]
        given = batch_and_noise(models[0], digits[:50])
        with torch.no_grad():
            losses = {float(model(*given)["loss"].mean()) for model in models}
            criteria = {float(model.criterion(*given).mean()) for model in models}
        assert len(losses) == 2
        assert len(criteria) == 1
