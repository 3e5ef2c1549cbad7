"""Priors against the codes that they were fitted to: samples, criterion, saving and loading."""

import math

import numpy as np
import pytest
import torch
from pairs import fitted
from scipy.stats import multivariate_normal
from sklearn.datasets import make_moons

from latentmill import registry
from latentmill.config import TrainingConfig
from latentmill.contract import HasCriterion, IndexPrior, Model
from latentmill.data.batches import Batches
from latentmill.draws import drawn
from latentmill.errors import InputError
from latentmill.evaluation.holes import discrepancy
from latentmill.networks.velocity import field
from latentmill.priors.flow import LEFT_OUT
from latentmill.priors.mixture import COMPONENTS, Mixture
from latentmill.training.loop import Setup, train

CENTRES = torch.tensor([[-9.0, 0.0], [-4.0, 6.0], [0.0, -6.0], [4.0, 5.0], [9.0, 1.0]])
SMALL = {"normal": {}, "mixture": {"components": 3}, "flow": {"hidden": 16, "channels": 8, "depth": 1, "steps": 3}}
SMALL |= {"autoregressive": {"hidden": 16, "entries": 9}}
LABELS = ("ignored", "learned", "guided")
each_prior = pytest.mark.parametrize("name", registry.names("priors"))


def of_its_kind(name: str, codes: np.ndarray) -> np.ndarray:
    """Codes for a prior: of numbers as they are, of indices rounded, from -4 to 4 or beyond to 0 to 8."""
    is_of_indices = issubclass(registry.find("priors", name), IndexPrior)
    return (codes.round().clip(-4, 4) + 4).astype(np.float32) if is_of_indices else codes


def clusters(count: int, seed: int, centres: torch.Tensor = CENTRES) -> np.ndarray:
    """Codes (count, d) around the centres, with a deviation of 1."""
    generator = torch.Generator().manual_seed(seed)
    chosen = centres[torch.randint(len(centres), (count,), generator=generator)]
    return (chosen + torch.randn(chosen.shape, generator=generator)).numpy()


def mixed(codes: np.ndarray, held_out: np.ndarray, components: int | None = None) -> Mixture:
    return fitted("mixture", codes, held_out, components=components)


def noise(made: Model, count: int) -> torch.Tensor:
    return torch.randn(count, made.noise_width, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def draws(made: Model, count: int) -> np.ndarray:
    """Codes (count, …)."""
    return made.generate(noise(made, count)).numpy()


# All priors


@each_prior
@pytest.mark.parametrize("shape", [(2,), (3, 2, 2)], ids=str)
def test_draws_have_the_shape_of_the_codes_and_follow_from_their_noise(name, shape):
    codes = of_its_kind(name, np.random.default_rng(0).normal(size=(300, *shape)).astype(np.float32))
    made = fitted(name, codes, codes, TrainingConfig(epochs=1), **SMALL[name])
    first, again = draws(made, 20), draws(made, 20)
    assert first.shape == (20, *shape)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_allclose(draws(made, 20)[:7], made.generate(noise(made, 20)[:7]).detach(), atol=1e-5)


@each_prior
def test_weights_come_back(name):
    codes = of_its_kind(name, clusters(300, seed=0))
    saved = fitted(name, codes, codes, TrainingConfig(epochs=1), **SMALL[name])
    loaded = fitted(name, codes[:50], codes, TrainingConfig(epochs=1), **SMALL[name])
    loaded.load_state_dict(saved.state_dict())
    np.testing.assert_array_equal(draws(loaded.eval(), 50), draws(saved, 50))


@each_prior
def test_the_criterion_prefers_codes_like_those_of_training(name):
    codes = np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32)
    own = of_its_kind(name, codes)
    made = fitted(name, own, own, TrainingConfig(epochs=20, learning_rate=1e-2), **SMALL[name])
    assert isinstance(made, HasCriterion)
    near, far = (torch.from_numpy(of_its_kind(name, codes[:200] + offset)) for offset in (np.float32(0), np.float32(6)))
    given = drawn(made.criterion_draws, 200, torch.Generator().manual_seed(0))
    with torch.no_grad():
        criteria = [made.criterion({"code": each}, given) for each in (near, far)]
    assert criteria[0].shape == (200,)
    assert float(criteria[0].mean()) < float(criteria[1].mean())


# The standard normal


def test_the_standard_normal_is_its_noise():
    made = registry.build("priors", "normal", {}, (3,))
    given = torch.randn(4, 3)
    assert torch.equal(made.generate(given), given)
    expected = multivariate_normal(np.zeros(3)).logpdf(given.numpy())
    np.testing.assert_allclose(made.criterion({"code": given}, {}), -expected, rtol=1e-4)


# The mixture


def test_a_fitted_mixture_samples_what_it_was_fitted_to(generator):
    centres, weights = torch.tensor([[-5.0, 0.0], [5.0, 2.0]]), torch.tensor([0.25, 0.75])
    spread = torch.tensor([[1.0, 0.0], [0.8, 0.3]])
    component = torch.multinomial(weights, 6_000, replacement=True, generator=generator)
    codes = centres[component] + torch.randn(6_000, 2, generator=generator) @ spread.T
    drawn = torch.from_numpy(draws(mixed(codes.numpy(), codes.numpy(), components=2), 20_000))
    right = drawn[:, 0] > 0
    assert float(right.float().mean()) == pytest.approx(0.75, abs=0.02)
    np.testing.assert_allclose(drawn[right].mean(0), centres[1], atol=0.05)
    np.testing.assert_allclose(torch.cov(drawn[~right].T), spread @ spread.T, atol=0.08)


def test_the_criterion_of_a_mixture_is_its_log_likelihood():
    codes = clusters(1_000, seed=0)
    made = mixed(codes, codes, components=3)
    parts = zip(made.log_weights, made.means.double(), made.scales.double(), strict=True)
    densities = [
        math.exp(weight) * multivariate_normal(mean.numpy(), (scale @ scale.T).numpy()).pdf(codes[:50])
        for weight, mean, scale in parts
    ]
    found = made.criterion({"code": torch.from_numpy(codes[:50])}, {})
    np.testing.assert_allclose(found, -np.log(np.sum(densities, 0)), rtol=1e-3)


def test_the_criterion_of_a_mixture_copies_no_factor_for_each_code(monkeypatch):
    solve, factors = torch.linalg.solve_triangular, []

    def seen(scales, right, *, upper):
        factors.append(torch.broadcast_shapes(scales.shape[:-2], right.shape[:-2]))
        return solve(scales, right, upper=upper)

    monkeypatch.setattr(torch.linalg, "solve_triangular", seen)
    made = registry.build("priors", "mixture", {"components": 4}, (5,))
    assert made.criterion({"code": torch.zeros(20, 5)}, {}).shape == (20,)
    assert factors == [(4,)]


def test_the_first_noise_column_of_a_mixture_selects_the_component():
    made = mixed(clusters(2_000, seed=0), clusters(500, seed=1), components=5)
    assert (made.noise_width, made.categorical_noise) == (3, 1)
    given = torch.zeros(1_000, 3)
    given[:, 0] = noise(made, 1_000)[:, 0]
    centres = made.generate(given)
    assert {tuple(row) for row in centres.tolist()} == {tuple(row) for row in made.means.tolist()}


def test_one_component_is_the_gaussian_with_the_mean_and_covariance_of_the_codes():
    codes = clusters(3_000, seed=0)
    mixture = mixed(codes, codes, components=1)
    np.testing.assert_allclose(mixture.means[0], codes.mean(0), atol=1e-5)
    covariance = (mixture.scales[0] @ mixture.scales[0].T).numpy()
    np.testing.assert_allclose(covariance, np.cov(codes.T, bias=True), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(np.cov(draws(mixture, 20_000).T), np.cov(codes.T), rtol=0.05, atol=0.5)


def test_as_many_components_are_chosen_as_there_are_clusters():
    assert mixed(clusters(2_000, seed=0), clusters(500, seed=1)).components == 5


def test_the_choice_is_that_of_the_held_out_codes():
    """Five clusters in the codes that it is fitted to, one broad cloud in those held out: few components win."""
    codes = clusters(2_000, seed=0)
    broad = np.random.default_rng(0).multivariate_normal(codes.mean(0), np.cov(codes.T), 500).astype(np.float32)
    assert mixed(codes, broad).components < 5


@pytest.mark.parametrize(("count", "most"), [(30, 1), (39, 1), (40, 2), (120, 5), (2_000, 50)])
def test_each_component_has_at_least_twenty_codes(count, most):
    """With a cluster a candidate the largest number allowed wins."""
    centres = 30.0 * torch.eye(50)[:, :40]
    codes = clusters(count, seed=0, centres=centres[:most])
    assert mixed(codes, clusters(400, seed=1, centres=centres[:most])).components <= most


def test_copies_of_a_code_are_no_cluster():
    codes = np.repeat(clusters(10, seed=0), 1_000, axis=0)
    assert mixed(codes, codes).components == 1


@pytest.mark.parametrize("count", [200, 2])
def test_constant_codes_give_themselves(count):
    codes = np.full((count, 3), 4, np.float32)
    mixture = mixed(codes, codes)
    assert mixture.components == 1
    np.testing.assert_allclose(draws(mixture, 100), 4, atol=0.05)


def test_a_given_number_of_components_is_kept():
    assert mixed(clusters(500, seed=0), clusters(100, seed=1), components=3).components == 3


def test_a_chosen_number_of_components_comes_back_with_the_weights():
    saved = mixed(clusters(2_000, seed=0), clusters(500, seed=1))
    loaded = registry.build("priors", "mixture", {}, (2,))
    loaded.load_state_dict(saved.state_dict())
    assert loaded.components == saved.components == 5
    np.testing.assert_array_equal(draws(loaded, 50), draws(saved, 50))


def test_weights_of_another_dimension_are_refused():
    other = registry.build("priors", "mixture", {"components": 4}, (2,)).state_dict()
    with pytest.raises(RuntimeError, match="size mismatch"):
        registry.build("priors", "mixture", {}, (3,)).load_state_dict(other)


@pytest.mark.parametrize(("count", "components"), [(3, 4), (1, None)])
def test_a_mixture_needs_as_many_codes_as_components_and_two(count, components):
    codes = np.zeros((count, 2), np.float32)
    with pytest.raises(InputError, match=f"as many components as codes.* components={components} for {count} codes"):
        mixed(codes, codes, components)


def test_the_candidates_rise():
    assert list(COMPONENTS) == sorted(set(COMPONENTS))


# The flow


def moons(count: int, seed: int) -> np.ndarray:
    """Codes (count, 2) on two half circles: no Gaussian, and far from the origin."""
    return (4 * make_moons(count, noise=0.05, random_state=seed)[0] + 20).astype(np.float32)


@pytest.fixture(scope="module")
def flow() -> tuple[Model, list[dict[str, float]]]:
    """A flow of moons, and its history."""
    torch.manual_seed(0)
    made = registry.build("priors", "flow", {"hidden": 64, "depth": 2, "dropout": 0.0, "steps": 12}, (2,))
    training = TrainingConfig(epochs=40, patience=40, batch_size=200, learning_rate=3e-3, schedule="one-cycle")
    found = train(made, Setup(Batches(moons(2_000, 0)), Batches(moons(500, 1))), training, seed=0)
    return made.eval(), found.history


def test_the_loss_of_a_flow_falls(flow):
    _, history = flow
    assert history[-1]["train_loss"] < 0.9 * history[0]["train_loss"]
    assert history[-1]["val_loss"] < 0.9 * history[0]["val_loss"]


def test_a_flow_is_nearer_to_codes_on_two_moons_than_a_gaussian_is(flow):
    made, _ = flow
    codes, new = moons(2_000, 0), moons(1_000, 2)
    gaussian = draws(mixed(codes, codes, components=1), 1_000)
    assert discrepancy(draws(made, 1_000), new) < 0.3 * discrepancy(gaussian, new)


def test_dropout_of_a_flow_is_of_training_alone(flow):
    codes = moons(300, 0)
    made = registry.build("priors", "flow", SMALL["flow"] | {"dropout": 0.5}, (2,))
    made.fit(Batches(codes), Batches(codes), torch.Generator())
    (phase,) = made.phases()
    batch, rows = {"code": torch.from_numpy(codes)}, torch.Generator().manual_seed(0)
    given = drawn(phase.draws, 300, rows)
    kept = given | {"units": torch.full_like(given["units"], -(2**15))}
    assert not torch.allclose(made.loss(batch, given)["loss"], made.loss(batch, kept)["loss"])
    assert "units" not in made.criterion_draws
    np.testing.assert_array_equal(draws(made, 5), draws(made, 5))


def test_codes_that_hardly_vary_in_a_dimension_are_finite():
    codes = np.stack([np.random.default_rng(0).normal(size=300), np.full(300, 7.0)], 1).astype(np.float32)
    made = fitted("flow", codes, codes, TrainingConfig(epochs=1), **SMALL["flow"])
    drawn_codes = draws(made, 200)
    assert np.isfinite(drawn_codes).all()
    np.testing.assert_allclose(drawn_codes[:, 1], 7, atol=0.05)


# The flow of codes with labels: two classes, far from one another

SIDES = torch.tensor([[-6.0, 2.0], [6.0, -2.0]])


def sides(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes (count, 2) around one of two centres, with a deviation of 1, and which it is."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(2, (count,), generator=generator)
    return (SIDES[label] + torch.randn(count, 2, generator=generator)).numpy(), label.numpy()


@pytest.fixture(scope="module", params=["learned", "guided"])
def labelled_flow(request) -> Model:
    (codes, own), (val, others) = sides(1_500, seed=0), sides(300, seed=1)
    training = TrainingConfig(epochs=25, patience=25, batch_size=150, learning_rate=5e-3, schedule="one-cycle")
    config = {"hidden": 48, "depth": 2, "dropout": 0.0, "steps": 8, "labels": request.param}
    return fitted("flow", codes, val, training, (own, others), **config)


@torch.no_grad()
def drawn_with(made: Model, label: int, guidance: float | None = None, count: int = 1_000) -> np.ndarray:
    given = None if guidance is None else torch.full((count,), guidance)
    return made.generate(noise(made, count), torch.full((count,), label), given).numpy()


def on_side(codes: np.ndarray, label: int) -> float:
    """The share of codes that are nearer to the centre of a class than to the other."""
    distances = np.linalg.norm(codes[:, None] - SIDES.numpy(), axis=2)
    return float((distances.argmin(1) == label).mean())


@pytest.mark.parametrize("label", [0, 1])
def test_codes_drawn_with_a_label_are_those_of_its_class(labelled_flow, label):
    found = drawn_with(labelled_flow, label)
    assert on_side(found, label) > 0.99
    np.testing.assert_allclose(found.mean(0), SIDES[label], atol=0.3)
    np.testing.assert_allclose(found.std(0), 1, atol=0.25)


def test_a_label_lowers_the_criterion(labelled_flow):
    codes, own = sides(500, seed=2)
    given = drawn(labelled_flow.criterion_draws, 500, torch.Generator().manual_seed(0))
    batches = [{"code": torch.from_numpy(codes), "label": torch.from_numpy(label)} for label in (own, 1 - own)]
    with torch.no_grad():
        right, wrong = (float(labelled_flow.criterion(batch, given).mean()) for batch in batches)
    assert right < 0.7 * wrong


def test_guidance_1_is_none_and_0_ignores_the_label(labelled_flow):
    if not labelled_flow.is_guided:
        pytest.skip("takes no guidance")
    np.testing.assert_allclose(drawn_with(labelled_flow, 1, 1.0), drawn_with(labelled_flow, 1), atol=1e-5)
    without = drawn_with(labelled_flow, 0, 0.0)
    np.testing.assert_allclose(drawn_with(labelled_flow, 1, 0.0), without, atol=1e-4)
    assert 0.4 < on_side(without, 0) < 0.6


def test_the_field_under_guidance_is_that_of_the_formula(labelled_flow):
    if not labelled_flow.is_guided:
        pytest.skip("takes no guidance")
    z, time, label = torch.randn(6, 2), torch.rand(6), torch.tensor([0, 1] * 3)
    weight = torch.tensor([0.0, 0.5, 1.0, 2.0, 3.0, 1.0])
    with torch.no_grad():
        found = field(labelled_flow.velocity, label, weight, 2)(z, time)
        with_label, without = (labelled_flow.velocity(z, time, each) for each in (label, torch.full((6,), 2)))
    torch.testing.assert_close(found, without + weight[:, None] * (with_label - without))


def test_labels_are_left_out_by_noise_that_is_declared():
    codes, label = sides(4_000, seed=0)
    flows = {each: registry.build("priors", "flow", SMALL["flow"] | {"labels": each}, (2,), 2) for each in LABELS}
    draws_of = {each: made.phases()[0].draws for each, made in flows.items()}
    assert ["label" in draws_of[each] for each in LABELS] == [False, False, True]
    made = flows["guided"]
    torch.nn.init.normal_(made.velocity.labels, generator=torch.Generator().manual_seed(0))
    given = drawn(draws_of["guided"], 4_000, torch.Generator().manual_seed(0))
    batches = [{"code": torch.from_numpy(codes), "label": torch.from_numpy(each)} for each in (label, 1 - label)]
    with torch.no_grad():
        losses = [made.loss(batch, given)["loss"] for batch in batches]
    unmoved = losses[0] == losses[1]
    assert torch.equal(unmoved, given["label"] < LEFT_OUT)
    assert float(unmoved.float().mean()) == pytest.approx(LEFT_OUT, abs=0.02)


@pytest.mark.parametrize("classes", [0, 1])
def test_a_flow_of_data_without_classes_is_not_conditional(classes):
    for each in LABELS:
        made = registry.build("priors", "flow", SMALL["flow"] | {"labels": each}, (2,), classes)
        assert not made.is_conditional
        assert not made.is_guided
        assert made.velocity.labels is None


def test_a_flow_that_ignores_labels_does(flow):
    made, _ = flow
    given = noise(made, 5)
    with torch.no_grad():
        assert torch.equal(made.generate(given, torch.zeros(5, dtype=torch.int64)), made.generate(given))
