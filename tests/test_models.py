"""The contract, for every model and prior there is: a new file in models/ or priors/ is covered without a line here."""

import numpy as np
import pytest
import torch
from conftest import CLASSES, IMAGE_SHAPE, build, each_model, random_codes, setup_for

from latentmill import registry
from latentmill.codes import drawn_codes
from latentmill.config import EntryConfig, TrainingConfig
from latentmill.contract import (
    Decodes,
    Encodes,
    Generates,
    HasCriterion,
    HasEnergy,
    HasLikelihood,
    HasPosterior,
    IndexPrior,
)
from latentmill.data.batches import Batches
from latentmill.draws import drawn
from latentmill.errors import InputError
from latentmill.training.loop import Setup, train
from latentmill.trials import trained_model

CODES = np.random.default_rng(0).standard_normal((400, 2, 3), dtype=np.float32) * [1, 2, 3] + 5
LABELS = np.arange(len(CODES)) % 3
ENTRIES = 9  # of the codebook that the codes of priors of indices are below: about 0 to 8, each a feature of its own
INDICES = (CODES.round().clip(0, ENTRIES - 1)).astype(np.float32)
FLOW = {"hidden": 16, "depth": 2, "steps": 4}
PRIORS = {"mixture": [{"components": 2}, {}], "flow": [FLOW, FLOW | {"labels": "guided"}, FLOW | {"labels": "learned"}]}
PRIORS |= {"autoregressive": [{"hidden": 32}, {"hidden": 32, "labels": "learned"}]}
PRIOR_CASES = [(name, config) for name in registry.names("priors") for config in PRIORS.get(name, [{}])]
each_prior = pytest.mark.parametrize(("name", "config"), PRIOR_CASES, ids=str)


def batch_of(images, labels):
    return Batches(images, labels=labels).batch(slice(None))


def noise_of(draws, rows):
    return drawn(draws, rows, torch.Generator().manual_seed(1))


def rows(mapping, part):
    return {name: value[part] for name, value in mapping.items()}


def test_there_are_the_models_of_the_ladder_and_the_priors():
    expected = {"naive_bayes", "ppca", "autoencoder", "vae", "conditional_vae", "gan", "fsq", "vq"}
    assert expected <= set(registry.names("models"))
    assert {"normal", "mixture", "flow", "autoregressive"} <= set(registry.names("priors"))


@pytest.mark.parametrize("family", ["models", "priors"])
def test_hyperparameters_do_not_shadow_those_of_training_or_of_an_entry(family):
    for name in registry.names(family):
        keys = set(registry.find(family, name).Config.model_fields)
        assert not keys & {*TrainingConfig.model_fields, *EntryConfig.model_fields}


@pytest.mark.parametrize("family", ["models", "priors"])
def test_what_is_no_closed_form_has_phases_of_its_own_parameters(family):
    for name in registry.names(family):
        model = registry.build(family, name, {}, IMAGE_SHAPE, CLASSES, ENTRIES)
        phases, names = model.phases(), [name for name, _ in model.named_parameters()]
        assert bool(phases) != model.closed_form
        assert len({phase.name for phase in phases}) == len(phases)
        moved = {name for phase in phases for name in names if name.startswith(phase.moves)}
        assert model.closed_form or moved >= set(names) - {"observation.exponent"}


@each_model
def test_an_objective_is_named_terms_of_each_image_and_its_own(name, config, digits, labels, trained):
    """Whatever else is in the batch; and it draws nothing itself."""
    model, _ = trained(name, config)
    batch = batch_of(digits[:20], labels[:20])
    for phase in model.phases():
        noise = noise_of(phase.draws, 20)
        terms, again = (phase.objective(model, batch, noise) for _ in range(2))
        fewer = phase.objective(model, rows(batch, slice(5, 9)), rows(noise, slice(5, 9)))
        assert "loss" in terms
        assert all(torch.equal(term, again[name]) for name, term in terms.items())
        new = {name: terms.pop(name) for name in phase.buffers}
        assert all(value.shape == model.get_buffer(name).shape for name, value in new.items())
        assert all(term.shape == (20,) and term.isfinite().all() for term in terms.values())
        if not phase.couples_rows:
            torch.testing.assert_close(fewer["loss"], terms["loss"][5:9], rtol=1e-4, atol=1e-4)


@each_model
def test_a_criterion_is_of_each_image_and_its_own(name, config, digits, labels, trained):
    model, _ = trained(name, config)
    if not isinstance(model, HasCriterion):
        pytest.skip("is ranked by its samples")
    batch, noise = batch_of(digits[:20], labels[:20]), noise_of(model.criterion_draws, 20)
    with torch.no_grad():
        found = model.criterion(batch, noise)
        fewer = model.criterion(rows(batch, slice(5, 9)), rows(noise, slice(5, 9)))
    assert found.shape == (20,)
    torch.testing.assert_close(fewer, found[5:9], rtol=1e-4, atol=1e-4)


@each_model
def test_training_lowers_what_trials_are_ranked_by(name, config, setup, trained):
    untrained = build(name, config)
    before = setup_for(untrained, setup).evaluate(untrained)
    _, fitted = trained(name, config)
    assert fitted.criterion < before
    assert len(fitted.history) == (0 if untrained.closed_form else 3)


@each_model
def test_capabilities_keep_their_shapes_and_draw_nothing(name, config, digits, labels, trained, generator):
    model, _ = trained(name, config)
    images, label = Batches(digits)[:6], torch.from_numpy(labels[:6])
    with torch.no_grad():
        if isinstance(model, Generates):
            noise = torch.randn(7, model.noise_width, generator=generator)
            made = model.generate(noise)
            assert_images(made, 7)
            torch.testing.assert_close(model.generate(noise[3:4]), made[3:4])
            assert torch.equal(model.generate(noise), made)
        if isinstance(model, Encodes):
            assert model.encode(images, label).shape == (6, *model.code_shape)
        if isinstance(model, Decodes):
            assert_images(model.decode(random_codes(model, 6, generator), label), 6)
        if isinstance(model, HasLikelihood):
            assert model.log_p_x(model.observation.observe(images, generator)).shape == (6,)
        if isinstance(model, HasEnergy):
            x = model.observation.observe(images, generator)
            assert model.log_p_unnormalised(x, generator).shape == (6,)
        if isinstance(model, HasPosterior):
            mean, log_variance = model.posterior(model.observation.observe(images, generator), label)
            assert mean.shape == log_variance.shape == (6, *model.code_shape)
            z = torch.randn(4, 6, *model.code_shape, generator=generator)
            assert model.log_p_x_given_z(images.round(), z, label).shape == (4, 6)


def assert_images(images, count):
    assert images.shape == (count, *IMAGE_SHAPE)
    assert 0 <= images.min() <= images.max() <= 1
    assert images.std(0).max() > 0, "different noise must give different images"


@each_model
def test_a_saved_model_comes_back_the_same(name, config, trained, tmp_path):
    model, _ = trained(name, config)
    full = registry.find("models", name).Config.model_validate(config).model_dump()
    trial = {"model": name, "config": full, "parent": None}
    trained_model.save(tmp_path, model, {"trial": trial, "shape": IMAGE_SHAPE, "classes": CLASSES})
    loaded = trained_model.load(tmp_path)
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in loaded.model.state_dict().items())
    assert loaded.model.shape == IMAGE_SHAPE


@each_model
@pytest.mark.parametrize("shape", [(3, 9, 12), (1, 5, 7)], ids=str)
def test_colour_and_odd_sizes_work(name, config, shape):
    model, label = registry.build("models", name, config, shape, 3), torch.tensor([0, 2])
    with torch.no_grad():
        if isinstance(model, Generates):
            assert model.generate(torch.zeros(2, model.noise_width)).shape == (2, *shape)
        if isinstance(model, Decodes):
            assert model.decode(random_codes(model, 2), label).shape == (2, *shape)
        if isinstance(model, Encodes):
            assert model.encode(torch.zeros(2, *shape), label).shape == (2, *model.code_shape)


def test_the_criterion_does_not_depend_on_beta_or_corruption(digits, labels):
    """The same weights under another weight of the KL, or other corruption, rank the same."""
    for name, key, values in (("vae", "beta", (0.5, 4.0)), ("autoencoder", "corruption", (0.0, 0.9))):
        models = [build(name, {"latent": 3, key: value}) for value in values]
        batch = batch_of(digits[:50], labels[:50])
        phase = models[0].phases()[0]
        given, noise = noise_of(phase.draws, 50), noise_of(models[0].criterion_draws, 50)
        with torch.no_grad():
            losses = {float(phase.objective(model, batch, given)["loss"].mean()) for model in models}
            criteria = {float(model.criterion(batch, noise).mean()) for model in models}
        assert len(losses) == 2
        assert len(criteria) == 1


def test_a_conditional_model_needs_labels():
    with pytest.raises(InputError, match="needs labels of 2 classes or more, but the data has 0"):
        build("conditional_vae", {}, classes=0)


def test_a_conditional_model_makes_what_it_is_asked_for(setup):
    """Digits of a class are nearer to the mean of that class than to that of any other."""
    model = build("conditional_vae", {"latent": 3, "hidden": 100})
    train(model, setup, TrainingConfig(epochs=25, batch_size=50, learning_rate=5e-3), seed=0)
    images, labels = setup.examples[:], setup.examples.labels
    means = torch.stack([images[labels == each].mean(0) for each in range(CLASSES)]).flatten(1)
    wanted = torch.arange(CLASSES).repeat(20)
    with torch.no_grad():
        made = model.decode(torch.randn(200, 3, generator=torch.Generator().manual_seed(0)), wanted).flatten(1)
    assert (torch.cdist(made, means).argmin(1) == wanted).float().mean() > 0.8


# Priors: models whose examples are codes, here of the shape (2, 3)


def prior_and_codes(name, config):
    """An untrained prior, and codes of its kind, float32 (400, 2, 3)."""
    entries = ENTRIES if issubclass(registry.find("priors", name), IndexPrior) else 0
    codes = INDICES if entries else CODES.astype(np.float32)
    return registry.build("priors", name, config, (2, 3), 3, entries), codes


@each_prior
def test_a_prior_learns_codes_of_any_shape_and_draws_them(name, config, generator):
    model, examples = prior_and_codes(name, config)
    codes = Batches(examples, labels=LABELS)
    training = None if model.closed_form else TrainingConfig(epochs=30, batch_size=50, learning_rate=5e-3)
    fitted = train(model, Setup(codes, codes), training, seed=0)
    noise, label = torch.randn(2_000, model.noise_width, generator=generator), torch.arange(2_000) % 3
    with torch.no_grad():
        made = model.generate(noise, label)
        torch.testing.assert_close(model.generate(noise[3:4], label[3:4]), made[3:4], rtol=1e-4, atol=1e-4)
    assert made.shape == (2_000, 2, 3)
    assert np.isfinite(fitted.criterion)
    if name != "normal":  # which learns nothing
        torch.testing.assert_close(made.mean(0), torch.from_numpy(examples.mean(0)), rtol=0, atol=0.6)
        torch.testing.assert_close(made.std(0), torch.from_numpy(examples.std(0)), rtol=0.25, atol=0)


@each_prior
def test_a_saved_prior_comes_back_the_same(name, config, tmp_path):
    model, examples = prior_and_codes(name, config)
    codes = Batches(examples)
    model.fit(codes, codes, torch.Generator().manual_seed(0))
    full = registry.find("priors", name).Config.model_validate(config).model_dump()
    trial = {"model": name, "config": full, "parent": "0" * 16}
    entries = {"entries": model.entries} if isinstance(model, IndexPrior) else {}
    trained_model.save(tmp_path, model, {"trial": trial, "shape": (2, 3), "classes": 3} | entries)
    noise, label = torch.randn(5, model.noise_width, generator=torch.Generator().manual_seed(0)), torch.arange(5) % 3
    with torch.no_grad():
        assert torch.equal(trained_model.load(tmp_path).model.generate(noise, label), model.generate(noise, label))


@each_prior
def test_an_objective_of_a_prior_is_of_each_code_and_its_own(name, config):
    model, examples = prior_and_codes(name, config)
    batch = batch_of(examples, LABELS)
    for phase in model.phases():
        noise = noise_of(phase.draws, len(CODES))
        whole = phase.objective(model, batch, noise)
        fewer = phase.objective(model, rows(batch, slice(5, 9)), rows(noise, slice(5, 9)))
        assert whole["loss"].shape == (len(CODES),)
        torch.testing.assert_close(fewer["loss"], whole["loss"][5:9], rtol=1e-4, atol=1e-4)


def test_codes_are_draws_from_posteriors_and_finite(trained, digits, labels):
    model, _ = trained("vae", {"latent": 3})
    images = Batches(digits[:50], labels=labels[:50])
    codes, again = (drawn_codes(model, images, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert codes.shape == (50, 3)
    assert (codes != again).any()
    broken = build("vae", {"latent": 3})
    broken.encoder[-2].bias.data.fill_(float("nan"))
    with pytest.raises(InputError, match="codes must be finite"):
        drawn_codes(broken, images, torch.Generator())
