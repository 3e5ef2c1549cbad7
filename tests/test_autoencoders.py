"""What the objectives of the variational family and its relatives compute, against their formulas and known answers."""

import math
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
import torch
from conftest import SMALL_IMAGES, build
from torch import Tensor, nn
from torch.distributions import Independent, Normal, kl_divergence
from torch.nn.functional import softplus

from latentmill.contract import Model
from latentmill.data.batches import Batches
from latentmill.densities import log_mean_exp
from latentmill.draws import Noise, drawn
from latentmill.models.info_vae import _mmd

LATENT = 3
SMALL = {"latent": LATENT, "hidden": 20}


@pytest.fixture
def batch(digits) -> dict[str, Tensor]:
    return {"image": Batches(digits)[:30]}


def noise_of(model: Model, name: str = "", rows: int = 30, seed: int = 0) -> dict[str, Tensor]:
    """Of the phase with that name."""
    (phase,) = (each for each in model.phases() if each.name == name)
    return drawn(phase.draws, rows, torch.Generator().manual_seed(seed))


def with_posterior(model: Model, mean: Tensor, log_variance: Tensor) -> Model:
    """The model, whose encoder says the same whatever it sees: (B, d), (B, d)."""
    model.encoder = Constant(torch.cat([mean, log_variance], 1))
    return model


class Constant(nn.Module):
    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = nn.Parameter(value)

    def forward(self, x: Tensor) -> Tensor:
        return self.value


class Recorder(nn.Module):
    """A critic that keeps what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, z: Tensor) -> Tensor:
        self.seen.append(z)
        return z.sum(1)


def log_weight(model: Model, x: Tensor, noise: Tensor) -> Tensor:
    """log p(x | z) + log p(z) - log q(z | x) for one z of each row, from torch's own distributions: (B)."""
    mean, log_variance = model.posterior(x)
    q = Independent(Normal(mean, torch.exp(0.5 * log_variance)), 1)
    z = mean + torch.exp(0.5 * log_variance) * noise
    prior = Independent(Normal(torch.zeros_like(z), torch.ones_like(z)), 1)
    return model.log_p_x_given_z(x, z[None])[0] + prior.log_prob(z) - q.log_prob(z)


def learn(parameters: list[nn.Parameter], loss: Callable[[int], Tensor], steps: int = 200) -> None:
    """Adam on a loss of the step."""
    optimiser = torch.optim.Adam(parameters, lr=5e-3)
    for step in range(steps):
        optimiser.zero_grad()
        loss(step).backward(inputs=parameters)
        optimiser.step()


# Importance-weighted autoencoders


def iwae(objective: str = "iwae", groups: int = 2, codes: int = 3, **config: object) -> Model:
    return build("iwae", SMALL | {"objective": objective, "groups": groups, "codes": codes} | config)


def as_one_group(noise: Noise) -> dict[str, Tensor]:
    """The same codes, of which M groups of K become one of M K."""
    return {**noise, "z": noise["z"].flatten(1, 2)[:, None]}


@torch.no_grad()
def test_with_one_code_the_bound_is_the_elbo(batch):
    model = iwae(groups=1, codes=1)
    noise = noise_of(model)
    x = model.observation.observed(batch["image"], noise["x"])
    torch.testing.assert_close(model.loss(batch, noise)["loss"], -log_weight(model, x, noise["z"][:, 0, 0]))


@torch.no_grad()
def test_the_bound_is_the_log_of_the_mean_of_weights(batch):
    model = iwae(groups=1, codes=4)
    noise = noise_of(model)
    x = model.observation.observed(batch["image"], noise["x"])
    weights = torch.stack([log_weight(model, x, noise["z"][:, 0, k]) for k in range(4)]).double().exp()
    torch.testing.assert_close(model.loss(batch, noise)["loss"].double(), -weights.mean(0).log(), rtol=1e-4, atol=1e-3)


@torch.no_grad()
def test_more_codes_tighten_the_bound(batch):
    """On average over draws; here q(z | x) lies 1 beside where it belongs."""
    losses = []
    for codes in (1, 5, 50):
        model = iwae(groups=1, codes=codes)
        model.encoder[-2].bias += 1
        found = [model.loss(batch, noise_of(model, seed=seed))["loss"].mean() for seed in range(10)]
        losses.append(float(torch.stack(found).mean()))
    assert losses[0] > losses[1] + 0.2
    assert losses[1] > losses[2] + 0.2


@torch.no_grad()
def test_the_kin_of_iwae_are_means_of_its_bounds(batch):
    """Of M K codes: `iwae` is L_MK, `miwae` the mean of M bounds L_K, `ciwae` between L_MK and the mean of all L_1."""
    model = iwae()
    noise = noise_of(model)
    x = model.observation.observed(batch["image"], noise["x"])
    log_w = torch.stack([log_weight(model, x, noise["z"][:, m, k]) for m in range(2) for k in range(3)])  # (6, B)
    whole, single = -log_mean_exp(log_w, 0), -log_w.mean(0)
    grouped = -(log_mean_exp(log_w[:3], 0) + log_mean_exp(log_w[3:], 0)) / 2
    found = {kind: iwae(kind).loss(batch, noise)["loss"] for kind in ("iwae", "miwae")}
    close = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(found["iwae"], whole, **close)
    torch.testing.assert_close(found["miwae"], grouped, **close)
    for share in (0.0, 0.25, 1.0):
        mixed = iwae("ciwae", share=share).loss(batch, noise)["loss"]
        torch.testing.assert_close(mixed, share * single + (1 - share) * whole, **close)
    torch.testing.assert_close(iwae("miwae", 1, 6).loss(batch, as_one_group(noise))["loss"], whole, **close)


@torch.no_grad()
def test_piwae_moves_the_encoder_by_the_looser_bound_and_the_decoder_by_the_tighter(batch):
    model = iwae("piwae")
    encoder, decoder = model.phases()
    noise = noise_of(model, "encoder")
    assert (encoder.moves, decoder.moves) == ("encoder.", ("decoder.", "observation."))
    looser, tighter = (phase.objective(model, batch, noise)["loss"] for phase in (encoder, decoder))
    torch.testing.assert_close(looser, iwae("miwae").loss(batch, noise)["loss"])
    torch.testing.assert_close(tighter, iwae("iwae").loss(batch, noise)["loss"])
    assert (looser >= tighter).all()
    assert (looser > tighter).any()


def test_trials_compare_by_the_same_number_of_codes(batch):
    few, many = iwae(groups=1, codes=1), iwae(groups=2, codes=5)
    noise = drawn(few.criterion_draws, 30, torch.Generator().manual_seed(0))
    assert few.criterion_draws == many.criterion_draws
    assert torch.equal(few.criterion(batch, noise), many.criterion(batch, noise))


# beta-TCVAE


def beta_tc(mean: Tensor, deviation: float, images: int, **config: object) -> Model:
    """Of images with posteriors of those means (B, d)."""
    model = build("beta_tc", {"hidden": 20, "latent": mean.shape[1]} | config)
    model.images.fill_(images)
    return with_posterior(model, mean, torch.full_like(mean, 2 * math.log(deviation)))


@torch.no_grad()
def test_the_parts_of_the_kl_add_up_and_with_beta_1_the_loss_is_the_elbo(batch):
    mean = torch.randn(30, 1, generator=torch.Generator().manual_seed(1)) * torch.tensor([2.0, 2.0, 1.0])
    model, weighed = (beta_tc(mean, 0.3, 500, beta=beta) for beta in (1.0, 6.0))
    noise = noise_of(model)
    terms = model.loss(batch, noise)
    x = model.observation.observed(batch["image"], noise["x"])
    torch.testing.assert_close(terms["loss"], -log_weight(model, x, noise["z"]), rtol=1e-5, atol=1e-3)
    kl = terms["information"] + terms["total_correlation"] + terms["dimensions"]
    torch.testing.assert_close(terms["reconstruction"] + kl, terms["loss"], rtol=1e-5, atol=1e-3)
    difference = weighed.loss(batch, noise)["loss"] - terms["loss"]
    assert terms["total_correlation"].mean() > 1
    torch.testing.assert_close(difference, 5 * terms["total_correlation"], rtol=1e-4, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("share", [1, 4], ids=["whole", "batch"])
def test_the_total_correlation_is_that_of_the_codes(rho, share, generator):
    """Codes are N(0, I) but for a correlation: -1/2 log(1 - rho^2) nats, estimated from all images or a part."""
    rows, deviation = 1_000, math.sqrt(1 - 0.9)  # so that the means may have it all
    covariance = torch.tensor([[1 - deviation**2, rho], [rho, 1 - deviation**2 + 1e-6]])
    mean = torch.randn(rows, 2, generator=generator) @ torch.linalg.cholesky(covariance).T
    model = beta_tc(mean, deviation, rows * share)
    found = model.loss({"image": torch.zeros(rows, 1, 8, 8)}, noise_of(model, rows=rows))
    assert float(found["total_correlation"].mean()) == pytest.approx(-0.5 * math.log(1 - rho**2), abs=0.08)
    assert float(found["dimensions"].mean()) == pytest.approx(0, abs=0.05)
    assert float(found["information"].mean()) == pytest.approx(exact_information(rho, deviation), abs=0.1)


def exact_information(rho: float, deviation: float) -> float:
    """I(x; z) of Gaussian codes: half the log of the ratio of determinants."""
    return 0.5 * math.log((1 - rho**2) / deviation**4)


@torch.no_grad()
def test_the_density_of_codes_is_estimated_without_bias(generator):
    """The mean over all batches of 3 of 5 images that contain the first is what all 5 give."""
    mean = torch.randn(5, 2, generator=generator)
    noise = {name: value[:1].expand(5, *value.shape[1:]) for name, value in noise_of(beta_tc(mean, 1, 5)).items()}

    def q_of_first(rows: list[int]) -> float:
        """q(z) of the first row's z: q(z | x) less the information of x."""
        terms = beta_tc(mean[rows], 0.7, 5).loss({"image": torch.zeros(len(rows), 1, 8, 8)}, rows_of(noise, len(rows)))
        z = 0.7 * noise["z"][0]
        log_q_given_x = Normal(torch.zeros(2), 0.7).log_prob(z).sum()
        return float((log_q_given_x - terms["information"][0]).exp())

    batches = [q_of_first([0, *others]) for others in combinations(range(1, 5), 2)]
    assert float(np.mean(batches)) == pytest.approx(q_of_first([0, 1, 2, 3, 4]), rel=1e-4)
    assert np.std(batches) > 0


def rows_of(noise: Noise, rows: int) -> dict[str, Tensor]:
    return {name: value[:rows] for name, value in noise.items()}


# DIP-VAE


def dip_vae(kind: str, mean: Tensor, variance: Tensor, **weights: float) -> Tensor:
    """The penalty of posteriors (B, d)."""
    config = {"hidden": 20, "latent": mean.shape[1], "covariance": kind, "off_diagonal": 3.0, "diagonal": 7.0} | weights
    model = with_posterior(build("dip_vae", config), mean, variance.log())
    rows = len(mean)
    terms = model.loss({"image": torch.zeros(rows, 1, 8, 8)}, noise_of(model, rows=rows))
    torch.testing.assert_close(terms["loss"], terms["reconstruction"] + terms["kl"] + terms["covariance"])
    exact = kl_divergence(Normal(mean, variance.sqrt()), Normal(torch.zeros_like(mean), 1.0)).sum(1)
    torch.testing.assert_close(terms["kl"], exact, rtol=1e-4, atol=1e-4)
    assert len(set(terms["covariance"].tolist())) == 1
    return terms["covariance"][0]


@torch.no_grad()
@pytest.mark.parametrize(("kind", "of_means"), [("means", 1.0), ("codes", 0.4)])
def test_codes_whose_covariance_is_the_identity_cost_nothing(kind, of_means, generator):
    centred = torch.randn(50, 3, generator=generator, dtype=torch.float64)
    centred -= centred.mean(0)
    white = centred @ torch.linalg.inv(torch.linalg.cholesky(centred.T @ centred / 50)).T
    mean = (math.sqrt(of_means) * white + 2).float()
    assert float(dip_vae(kind, mean, torch.full((50, 3), 1 - of_means + 1e-6))) == pytest.approx(0, abs=1e-4)
    assert float(dip_vae(kind, 2 * mean, torch.full((50, 3), 1 - of_means + 1e-6))) > 1


@torch.no_grad()
@pytest.mark.parametrize("kind", ["means", "codes"])
def test_the_penalty_of_any_covariance_is_numpys(kind, generator):
    mean = torch.randn(40, 3, generator=generator) @ torch.tensor([[1.0, 0.5, 0], [0, 1, 0], [0.2, 0, 2]])
    variance = torch.rand(40, 3, generator=generator) + 0.1
    c = np.cov(mean.numpy(), rowvar=False, bias=True)
    c += np.diag(variance.numpy().mean(0)) if kind == "codes" else 0
    off = (c**2).sum() - (np.diag(c) ** 2).sum()
    expected = 3 * off + 7 * ((np.diag(c) - 1) ** 2).sum()
    assert float(dip_vae(kind, mean, variance)) == pytest.approx(expected, rel=1e-4)


# InfoVAE and Wasserstein autoencoder


def slow_mmd(a: np.ndarray, b: np.ndarray) -> float:
    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        scales = [2 * a.shape[1] * scale for scale in (0.1, 0.2, 0.5, 1, 2, 5, 10)]
        return sum(scale / (scale + ((x - y) ** 2).sum()) for scale in scales)

    rows = range(len(a))
    within = sum(kernel(x[i], x[j]) for x in (a, b) for i in rows for j in rows if i != j) / (len(a) * (len(a) - 1))
    return within - 2 * float(np.mean([[kernel(x, y) for y in b] for x in a]))


def test_the_discrepancy_is_that_of_a_double_loop(generator):
    a, b = torch.randn(12, 3, generator=generator), 2 * torch.randn(12, 3, generator=generator) + 1
    assert float(_mmd(a, b)) == pytest.approx(slow_mmd(a.double().numpy(), b.double().numpy()), abs=1e-4)


def test_the_discrepancy_of_draws_from_the_prior_is_0_on_average_and_larger_of_others(generator):
    def found(scale: float, shift: float) -> Tensor:
        pairs = (torch.randn(2, 20, 3, generator=generator) for _ in range(300))
        return torch.stack([_mmd(scale * a + shift, b) for a, b in pairs])

    same = found(1, 0)
    assert abs(float(same.mean())) < 3 * float(same.std()) / math.sqrt(300)
    assert (same < 0).any(), "an estimate without bias"
    assert 0.05 < float(found(1, 0.5).mean()) < float(found(1, 2).mean())
    assert float(found(0.3, 0).mean()) > 0.05


@torch.no_grad()
@pytest.mark.parametrize("draws", [True, False])
def test_info_vae_weighs_its_parts_and_a_wasserstein_autoencoder_draws_no_codes(draws, batch):
    model = build("info_vae", SMALL | {"kl": 0.5, "mmd": 20.0, "draws": draws})
    noise = noise_of(model)
    terms = model.loss(batch, noise)
    x = model.observation.observed(batch["image"], noise["x"])
    mean, log_variance = model.posterior(x)
    z = mean + torch.exp(0.5 * log_variance) * noise["z"] if draws else mean
    torch.testing.assert_close(terms["reconstruction"], -model.log_p_x_given_z(x, z[None])[0])
    torch.testing.assert_close(terms["mmd"], _mmd(z, noise["prior"]).expand(30))
    torch.testing.assert_close(terms["loss"], terms["reconstruction"] + 0.5 * terms["kl"] + 20 * terms["mmd"])


# FactorVAE


def correlated(rho: float, rows: int = 500) -> Model:
    """Codes N(0, 1) of two dimensions with that correlation, almost without noise."""
    normal = torch.randn(rows, 2, generator=torch.Generator().manual_seed(1))
    mean = torch.stack([normal[:, 0], rho * normal[:, 0] + math.sqrt(1 - rho**2) * normal[:, 1]], 1)
    model = build("factor_vae", {"latent": 2, "hidden": 20, "critic": 50, "gamma": 4.0})
    return with_posterior(model, mean, torch.full((rows, 2), -8.0))


def test_the_critic_sees_codes_and_the_same_with_each_dimension_in_another_order():
    model = correlated(0.9)
    model.critic = Recorder()
    loss = model.critic_loss({"image": torch.zeros(500, 1, 8, 8)}, noise_of(model, "critic", 500))["loss"]
    code, independent = model.critic.seen
    assert not torch.equal(code, independent)
    assert torch.equal(code.sort(0).values, independent.sort(0).values)
    assert float(torch.corrcoef(code.T)[0, 1]) > 0.85
    assert abs(float(torch.corrcoef(independent.T)[0, 1])) < 0.15
    torch.testing.assert_close(loss, softplus(-code.sum(1)) + softplus(independent.sum(1)))
    assert not loss.requires_grad, "codes are given to the critic, which does not move them"


@pytest.mark.parametrize("rho", [0.0, 0.9])
def test_the_critic_learns_the_total_correlation(rho):
    model, images = correlated(rho), {"image": torch.zeros(500, 1, 8, 8)}
    learn(
        [*model.critic.parameters()],
        lambda step: model.critic_loss(images, noise_of(model, "critic", 500, step))["loss"].mean(),
    )
    with torch.no_grad():
        terms = model.loss(images, noise_of(model, rows=500))
    assert float(terms["total_correlation"].mean()) == pytest.approx(-0.5 * math.log(1 - rho**2), abs=0.25)
    parts = terms["reconstruction"] + terms["kl"] + 4 * terms["total_correlation"]
    torch.testing.assert_close(terms["loss"], parts)


# Adversarial autoencoder


def test_the_critic_of_codes_leads_the_encoder_to_the_prior(batch):
    """It learns which codes are the encoder's, here 3 too high, and the encoder then moves them down."""
    model = build("aae", SMALL | {"critic": 20, "gamma": 0.3})
    shift = model.encoder[-2].bias
    shift.data += 3
    noise = noise_of(model, "critic")
    expected = softplus(-model.critic(noise["z"])) + softplus(model.critic(model.encode(batch["image"])))
    torch.testing.assert_close(model.critic_loss(batch, noise)["loss"], expected)
    critic = [*model.critic.parameters()]
    learn(critic, lambda step: model.critic_loss(batch, noise_of(model, "critic", seed=step))["loss"].mean(), 100)
    with torch.no_grad():
        assert float(model.critic(noise["z"]).mean()) > 1
        assert float(model.critic(model.encode(batch["image"])).mean()) < -1
    terms = model.loss(batch, {})
    torch.testing.assert_close(terms["deception"], softplus(-model.critic(model.encode(batch["image"]))))
    torch.testing.assert_close(terms["reconstruction"], model.criterion(batch, {}))
    torch.testing.assert_close(terms["loss"], terms["reconstruction"] + 0.3 * terms["deception"])
    assert float(torch.autograd.grad(terms["deception"].mean(), shift)[0].sum()) > 0
    moved = torch.autograd.grad(model.critic_loss(batch, noise)["loss"].mean(), [shift, *critic], allow_unused=True)
    assert moved[0] is None, "codes are given to the critic, which does not move them"
    assert all(gradient is not None for gradient in moved[1:])


# Regularised autoencoder


@torch.no_grad()
def test_a_regularised_autoencoder_weighs_codes_and_weights(batch):
    model = build("rae", SMALL | {"beta": 0.3, "smoothness": 0.2})
    z = model.encode(batch["image"])
    terms = model.loss(batch, {})
    error = 0.5 * ((batch["image"] - model.decode(z)).numpy() ** 2).sum((1, 2, 3))
    weights = sum(float((weight**2).sum()) for weight in model.decoder.parameters())
    np.testing.assert_allclose(terms["reconstruction"], error, rtol=1e-5)
    np.testing.assert_allclose(terms["size"], (z.numpy() ** 2).sum(1), rtol=1e-5)
    np.testing.assert_allclose(terms["loss"], error + 0.15 * (z.numpy() ** 2).sum(1) + 0.2 * weights, rtol=1e-5)


# VAE-GAN


def test_vae_gan_compares_images_in_the_last_hidden_layer_of_its_critic(batch):
    model = build("vae_gan", SMALL | {"beta": 0.3, "similarity": 2.0, "gamma": 5.0})
    images, noise = batch["image"], noise_of(model, "critic")
    mean, log_variance = model.encoder(images).chunk(2, dim=1)
    made = model.decode(mean + torch.exp(0.5 * log_variance) * noise["z"]), model.decode(noise["prior"])
    first, _ = (
        each for each in model.modules() if isinstance(each, nn.Linear) and each in (*model.critic, *model.score)
    )

    def features(x: Tensor) -> Tensor:
        return torch.relu(first(x.flatten(1)))

    def scores(x: Tensor) -> Tensor:
        return model.score(features(x))[:, 0]

    error = 0.5 * (features(images) - features(made[0])).square().sum(1)
    kl = kl_divergence(Normal(mean, torch.exp(0.5 * log_variance)), Normal(torch.zeros_like(mean), 1.0)).sum(1)
    torch.testing.assert_close(model.encoder_loss(batch, noise)["loss"], error + 0.3 * kl)
    misleading = softplus(-scores(made[0])) + softplus(-scores(made[1]))
    torch.testing.assert_close(model.decoder_loss(batch, noise)["loss"], 2 * error + misleading)
    x = images.clone().requires_grad_()
    slopes = torch.autograd.grad(scores(x).sum(), x)[0].square().sum((1, 2, 3))
    told = softplus(-scores(images)) + softplus(scores(made[0])) + softplus(scores(made[1]))
    torch.testing.assert_close(model.critic_loss(batch, noise)["loss"], told + 5 / 2 * slopes)


def test_the_phases_of_vae_gan_move_what_they_name(batch):
    model = build("vae_gan", SMALL)
    moves = {phase.name: phase.moves for phase in model.phases()}
    assert moves == {"critic": ("critic.", "score."), "encoder": "encoder.", "decoder": "decoder."}
    for phase in model.phases():
        loss = phase.objective(model, batch, noise_of(model, phase.name))["loss"].mean()
        own = [value for name, value in model.named_parameters() if name.startswith(phase.moves)]
        found = torch.autograd.grad(loss, own, allow_unused=True)
        assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in found)


# GAN


def test_the_slope_penalty_is_that_of_the_score_though_a_critic_of_codes_that_are_images_has_one_for_each_place(batch):
    model = build("gan", SMALL_IMAGES | {"gamma": 5.0})
    x = batch["image"].clone().requires_grad_()
    scores = model.critic(x)
    assert scores.shape[2:] == (4, 4)
    slopes = torch.autograd.grad(scores.mean((1, 2, 3)).sum(), x)[0].square().sum((1, 2, 3))
    terms = model.critic_loss(batch, noise_of(model, "critic"))
    torch.testing.assert_close(terms["penalty"], slopes / 2)
    torch.testing.assert_close(terms["loss"], softplus(-terms["real"]) + softplus(terms["fake"]) + 5 / 2 * slopes)
