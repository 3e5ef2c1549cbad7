"""Layers of codes, in units of their priors: the same densities as those of z itself."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from latentmill import registry
from latentmill.densities import log_mean_exp
from latentmill.draws import drawn, standard_normal
from latentmill.networks.ladder import Layers, times_standard_normal

SHAPE = (1, 4, 4)
WIDTHS = [2, 3, 4]  # from the uppermost


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def model_of(layers: list[int], **config: object):
    """With weights far from those at the start, so that no prior below the uppermost is near N(0, I)."""
    torch.manual_seed(3)
    model = registry.build("models", "ladder_vae", {"layers": layers, "units": 16, "hidden": 20} | config, SHAPE)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def binary(count: int) -> Tensor:
    return (torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(1)) > 0.5).float()


def test_the_product_with_n_0_1_is_that_of_the_densities():
    grid = torch.linspace(-15, 15, 30_001, dtype=torch.float64)
    for mean, deviation in ((0.5, 0.3), (-2.0, 1.0), (4.0, 3.0)):
        p = (Normal(0.0, 1.0).log_prob(grid) + Normal(mean, deviation).log_prob(grid)).exp()
        p /= p.sum()
        exact = float((p * grid).sum())
        variance = float((p * (grid - exact) ** 2).sum())
        found = times_standard_normal(torch.tensor(mean), torch.tensor(2 * math.log(deviation)))
        assert (float(found[0]), float(found[1])) == pytest.approx((exact, math.log(variance)), abs=1e-4)


def by_hand(ladder: Layers, features: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """z_1, and log p(z) - log q(z | x), from the same noise in terms of z: q by precisions, densities by torch."""
    (mu, s), z = (torch.zeros(()), torch.ones(())), Tensor()
    log_ratio, deterministic = torch.zeros(noise.shape[:-1]), [features]
    for up in ladder.up:
        deterministic.append(up(deterministic[-1]))
    for layer, each in enumerate(noise.split(ladder.widths, -1)):
        if layer:
            mu, log_s = ladder.expected[layer - 1](z).chunk(2, -1)
            s = log_s.exp()
        m, log_v = ladder.seen[layer](deterministic[-1 - layer]).chunk(2, -1)
        variance = 1 / (1 / s + 1 / log_v.exp())
        q = Normal(variance * (m / log_v.exp() + mu / s), variance.sqrt())
        z = q.mean + q.stddev * each
        log_ratio = log_ratio + (Normal(mu, s.sqrt()).log_prob(z) - q.log_prob(z)).sum(-1)
    return z, log_ratio


def test_codes_are_those_of_the_formula_in_units_of_their_priors():
    model, x = model_of(WIDTHS[::-1]), binary(5)
    noise = standard_normal((6, 5, sum(WIDTHS)), torch.Generator().manual_seed(0))
    epsilon, log_ratio = model.weighed_codes(x, noise)
    z, expected = by_hand(model.ladder, model.encoder(x), noise)
    torch.testing.assert_close(log_ratio, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.ladder.lowest(epsilon.flatten(0, 1)), z.flatten(0, 1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.encode(x), model.weighed_codes(x, torch.zeros(1, 5, sum(WIDTHS)))[0][0])


def test_the_loss_is_the_elbo_whose_kl_is_the_mean_of_the_log_ratios():
    model = model_of(WIDTHS[::-1], beta_steps=0)
    images = {"image": binary(3)}
    noise = drawn(model.criterion_draws, 3, torch.Generator().manual_seed(0))
    terms = model.loss(images, noise)
    torch.testing.assert_close(terms["loss"], terms["reconstruction"] + terms["kl"])
    torch.testing.assert_close(terms["loss"], model.criterion(images, noise))
    kl = [
        model.loss(images, drawn(model.criterion_draws, 3, torch.Generator().manual_seed(seed)))["kl"]
        for seed in range(400)
    ]
    many = standard_normal((20_000, 3, sum(WIDTHS)), torch.Generator().manual_seed(1))
    expected = -model.weighed_codes(images["image"], many)[1].mean(0)
    torch.testing.assert_close(torch.stack(kl).mean(0), expected, atol=0.1, rtol=0)


def test_the_bound_with_many_codes_is_the_likelihood():
    """Which a sum over a grid of codes of two layers finds."""
    model, x, axis = model_of([1, 1]), binary(4), torch.linspace(-7, 7, 281)
    grid = torch.cartesian_prod(axis, axis)[:, None].expand(-1, len(x), -1)  # (K, B, 2)
    log_joint = (model.log_p_x_given_z(x, grid) + Normal(0.0, 1.0).log_prob(grid).sum(2)).double()
    exact = torch.logsumexp(log_joint, 0) + 2 * math.log(float(axis[1] - axis[0]))
    epsilon, log_ratio = model.weighed_codes(x, standard_normal((100_000, 4, 2), torch.Generator().manual_seed(0)))
    bound = log_mean_exp((model.log_p_x_given_z(x, epsilon) + log_ratio).double(), 0)
    torch.testing.assert_close(bound, exact, atol=0.05, rtol=0)
    assert (model.log_p_x_given_z(x, grid).std(0) > 0.3).all(), "codes matter"
