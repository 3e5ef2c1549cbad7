"""Codes of choices: Gumbel noise, the exact KL and likelihood, and priors that draw the choices."""

import itertools
import math

import numpy as np
import pytest
import torch
from conftest import IMAGE_SHAPE
from exported import export
from torch import Tensor
from torch.distributions import Categorical, kl_divergence

from latentmill import Decoder, registry
from latentmill.draws import drawn, gumbel
from latentmill.evaluation.likelihood import importance_bound

SHAPE = (1, 4, 4)
SMALL = {"variables": 5, "entries": 3, "hidden": 20}


def model_of(std: float = 0.3, **config: object):
    """With weights far from those at the start: the encoder's of `std`, by which it prefers some classes."""
    torch.manual_seed(3)
    model = registry.build("models", "categorical_vae", SMALL | config, SHAPE)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=0.5 if name.startswith("decoder") else std)
    return model.eval()


@pytest.fixture
def batch() -> dict[str, Tensor]:
    return {"image": (torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(1)) > 0.5).float()}


def noise_of(model, seed: int = 0) -> dict[str, Tensor]:
    return drawn(model.criterion_draws, 6, torch.Generator().manual_seed(seed))


def test_the_largest_of_log_p_and_gumbel_noise_is_a_draw_from_p(generator):
    p = torch.tensor([0.1, 0.6, 0.3])
    uniform = torch.rand(40_000, 3, generator=generator)
    uniform[0] = 0
    assert gumbel(uniform).isfinite().all()
    shares = torch.bincount((p.log() + gumbel(uniform)).argmax(1)) / 40_000
    torch.testing.assert_close(shares, p, atol=0.01, rtol=0)


@torch.no_grad()
def test_the_kl_is_that_of_torch(batch):
    model = model_of()
    q = Categorical(logits=model.encoder(batch["image"]).unflatten(1, (5, 3)))
    expected = kl_divergence(q, Categorical(torch.ones(6, 5, 3))).sum(1)
    assert expected.min() > 0.1
    terms = model.loss(batch, noise_of(model))
    torch.testing.assert_close(terms["kl"], expected)
    torch.testing.assert_close(terms["loss"], terms["reconstruction"] + expected)


@torch.no_grad()
def test_the_colder_the_harder_are_choices_in_training(batch):
    """Those of a temperature near 0 are those by which trials compare, whatever theirs was."""
    cold, soft = model_of(temperature=1e-4), model_of(temperature=2.0)
    noise = noise_of(cold)
    torch.testing.assert_close(cold.loss(batch, noise)["loss"], cold.criterion(batch, noise))
    torch.testing.assert_close(soft.criterion(batch, noise), cold.criterion(batch, noise))
    assert (soft.loss(batch, noise)["loss"] - soft.criterion(batch, noise)).abs().mean() > 0.5


def test_soft_choices_lead_the_encoder(batch):
    model = model_of()
    reconstruction = model.loss(batch, noise_of(model))["reconstruction"].sum()
    slopes = torch.autograd.grad(reconstruction, [*model.encoder.parameters()])
    assert all(slope.abs().sum() > 0 for slope in slopes)


@torch.no_grad()
def test_the_bound_with_many_codes_is_the_sum_over_all_codes(batch):
    model, x = model_of(0.1, variables=2), batch["image"]
    every = torch.tensor([*itertools.product(range(3), repeat=2)]).float()[:, None].expand(-1, 6, -1)  # (9, B, 2)
    log_p_x_given_z = model.log_p_x_given_z(x, every).double()
    exact = torch.logsumexp(log_p_x_given_z, 0) - 2 * math.log(3)
    bound = importance_bound(model, x, 20_000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(bound.curve[20_000], exact, atol=0.05, rtol=0)
    assert (log_p_x_given_z.std(0) > 1).all(), "codes matter"
    assert (bound.curve[1] < exact - 0.1).any(), "the posterior is not exact"


@torch.no_grad()
def test_codes_follow_the_posterior_and_are_weighed_by_it(batch):
    model = model_of(variables=2)
    noise = model.code_draw.rows(4_000 * 6, torch.Generator().manual_seed(0)).unflatten(0, (4_000, 6))
    z, log_ratio = model.weighed_codes(batch["image"], noise)
    q = Categorical(logits=model.encoder(batch["image"]).unflatten(1, (2, 3)))
    torch.testing.assert_close(log_ratio, -2 * math.log(3) - q.log_prob(z).sum(2), rtol=1e-4, atol=1e-4)
    shares = torch.nn.functional.one_hot(z.long(), 3).float().mean(0)
    torch.testing.assert_close(shares, q.probs, atol=0.03, rtol=0)
    assert torch.equal(model.encode(batch["image"]), q.probs.argmax(2).float())


def test_its_own_prior_draws_each_class_equally_often(generator):
    model = model_of()
    z = model.draw_code(torch.randn(20_000, 5, generator=generator))
    shares = torch.stack([(z == index).float().mean(0) for index in range(3)])
    torch.testing.assert_close(shares, torch.full((3, 5), 1 / 3), atol=0.015, rtol=0)
    assert set(model.draw_code(torch.tensor([[-9.0, 9, -40, 40, 0]])).flatten().tolist()) == {0, 1, 2}
    assert model.categorical_noise == 5, "no temperature scales the noise"


def test_an_application_draws_and_decodes_what_an_autoregressive_prior_has_learned(tmp_path):
    folder = export("categorical_vae", SMALL, IMAGE_SHAPE, tmp_path, "autoregressive", {"hidden": 8})
    decoder = Decoder(folder)
    assert (decoder.codebook, decoder.code_shape) == (3, (5,))
    z = decoder.draw(30, seed=0)
    assert np.isin(z, np.arange(3)).all()
    images = decoder.sample(30, seed=0)
    np.testing.assert_allclose(decoder.decode(z), images, atol=1e-5)
    assert np.isin(decoder.encode(images)[0], np.arange(3)).all()
