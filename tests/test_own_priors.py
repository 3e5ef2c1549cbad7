"""Priors that a model learns together with the rest: densities, draws, and how an entry asks for them."""

import math

import pytest
import torch
from test_plan import params_of

from latentmill import registry
from latentmill.data.batches import Batches
from latentmill.draws import standard_normal
from latentmill.errors import InputError
from latentmill.evaluation.likelihood import importance_bound
from latentmill.networks.coupling import Coupling
from latentmill.trials.ladder import Ladder

SHAPE = (1, 4, 4)
CONFIGS = {"vamp_vae": {"components": 5}, "coupling_vae": {"layers": 4, "units": 16}}
each = pytest.mark.parametrize("name", CONFIGS)


def model_of(name: str, latent: int):
    """With weights far from those at the start, so that its prior is far from N(0, I)."""
    torch.manual_seed(3)
    model = registry.build("models", name, {"latent": latent, "hidden": 20} | CONFIGS[name], SHAPE)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


@each
@torch.no_grad()
def test_the_prior_is_a_density(name):
    grid = torch.linspace(-12, 12, 4_001)[:, None, None]  # (K, B, d)
    p = model_of(name, 1).log_p_z(grid)[:, 0].double().exp()
    assert float(torch.trapezoid(p, grid[:, 0, 0].double())) == pytest.approx(1, abs=1e-3)
    assert (p - torch.exp(-0.5 * grid[:, 0, 0] ** 2) / math.sqrt(2 * math.pi)).abs().max() > 0.05, "it is not N(0, 1)"


@each
@torch.no_grad()
def test_codes_are_drawn_from_that_density(name):
    model = model_of(name, 1)
    drawn = model.draw_code(standard_normal((40_000, model.noise_width), torch.Generator().manual_seed(0)))[:, 0]
    edges = torch.linspace(-12, 12, 4_001)
    p = model.log_p_z(edges[:, None, None])[:, 0].double().exp()
    cumulative = torch.cumulative_trapezoid(p, edges.double())
    places = torch.quantile(drawn, torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9]))
    found = cumulative[torch.searchsorted(edges, places) - 1]
    torch.testing.assert_close(found.float(), torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9]), atol=0.012, rtol=0)


@torch.no_grad()
def test_a_coupling_layer_is_inverted_and_its_volume_is_that_of_its_jacobian():
    torch.manual_seed(0)
    layer = Coupling(5, 16, is_odd=True)
    z = torch.randn(3, 5)
    torch.testing.assert_close(layer(z)[0], z)  # as it begins
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    y, log_volume = layer(z)
    torch.testing.assert_close(layer.inverse(y), z)
    assert (y[:, layer.kept.bool()] == z[:, layer.kept.bool()]).all()
    for row, volume in zip(z, log_volume, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda each: layer(each)[0], row)
        torch.testing.assert_close(torch.linalg.slogdet(jacobian).logabsdet, volume)


@each
@torch.no_grad()
def test_the_bound_with_many_codes_is_the_likelihood_that_the_prior_gives(name):
    """Which a sum over a grid of codes finds."""
    model, grid = model_of(name, 1), torch.linspace(-12, 12, 4_001)
    x = (torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(1)) > 0.5).float()
    z = grid[:, None, None].expand(-1, len(x), -1)
    log_joint = (model.log_p_x_given_z(x, z) + model.log_p_z(z)).double()
    exact = torch.logsumexp(log_joint, 0) + math.log(float(grid[1] - grid[0]))
    bound = importance_bound(model, x, 20_000, torch.Generator().manual_seed(0)).curve[20_000]
    torch.testing.assert_close(bound, exact, atol=0.1, rtol=0)


def test_pseudo_inputs_begin_as_training_images(digits):
    model = registry.build("models", "vamp_vae", {"components": 9}, (1, 8, 8))
    model.fit(Batches(digits[:50]), Batches(digits[50:60]), torch.Generator().manual_seed(0))
    images = Batches(digits[:50])[:]
    assert all(any(torch.equal(own, image) for image in images) for own in model.pseudo_inputs.detach())


def priors_of(entry: dict[str, object]) -> list[str]:
    """Of an entry's studies of priors, those that are planned."""
    params = params_of({"entry": entry}, priors={"normal": {}, "mixture": {}})
    return list(Ladder(params, lambda *given: iter(()), None).prior_trials("entry"))


def test_further_priors_may_be_fitted_beside_a_models_own():
    assert priors_of({"model": "vamp_vae"}) == []
    assert priors_of({"model": "vamp_vae", "priors": ["mixture"], "prior": "own"}) == ["entry/mixture"]
    with pytest.raises(InputError, match=r"prior must be auto or one of its priors, but got 'own'"):
        priors_of({"model": "vae", "priors": ["mixture"], "prior": "own"})


def test_no_prior_may_be_called_as_a_models_own():
    with pytest.raises(ValueError, match="a prior must not be called own"):
        params_of({"vae": {}}, priors={"own": {"model": "mixture"}})
