"""Priors against what they were fitted to: their samples, the choice of their components, saving and loading."""

import numpy as np
import pytest
import torch

from latentmill.errors import InputError
from latentmill.priors import COMPONENTS, Mixture, StandardNormal

CENTRES = torch.tensor([[-9.0, 0.0], [-4.0, 6.0], [0.0, -6.0], [4.0, 5.0], [9.0, 1.0]])


def clusters(count: int, seed: int, centres: torch.Tensor = CENTRES) -> np.ndarray:
    """Codes (count, d) around the centres, with a deviation of 1."""
    generator = torch.Generator().manual_seed(seed)
    chosen = centres[torch.randint(len(centres), (count,), generator=generator)]
    return (chosen + torch.randn(chosen.shape, generator=generator)).numpy()


def fitted(codes: np.ndarray, held_out: np.ndarray, components: int | None = None) -> Mixture:
    mixture = Mixture(codes.shape[1], components)
    mixture.fit(codes, held_out, seed=0)
    return mixture


def test_the_standard_normal_is_its_noise():
    noise = torch.randn(4, 3)
    assert StandardNormal(3)(noise) is noise


def test_a_fitted_mixture_samples_what_it_was_fitted_to(generator):
    centres, weights = torch.tensor([[-5.0, 0.0], [5.0, 2.0]]), torch.tensor([0.25, 0.75])
    spread = torch.tensor([[1.0, 0.0], [0.8, 0.3]])
    component = torch.multinomial(weights, 6_000, replacement=True, generator=generator)
    codes = centres[component] + torch.randn(6_000, 2, generator=generator) @ spread.T
    mixture = fitted(codes.numpy(), codes.numpy(), components=2)
    drawn = mixture(torch.randn(20_000, mixture.noise_width, generator=generator))
    right = drawn[:, 0] > 0
    assert float(right.float().mean()) == pytest.approx(0.75, abs=0.02)
    np.testing.assert_allclose(drawn[right].mean(0), centres[1], atol=0.05)
    np.testing.assert_allclose(torch.cov(drawn[~right].T), spread @ spread.T, atol=0.08)


def test_one_component_is_the_gaussian_with_the_mean_and_covariance_of_the_codes(generator):
    codes = clusters(3_000, seed=0)
    mixture = fitted(codes, codes, components=1)
    np.testing.assert_allclose(mixture.means[0], codes.mean(0), atol=1e-5)
    covariance = (mixture.scales[0] @ mixture.scales[0].T).numpy()
    np.testing.assert_allclose(covariance, np.cov(codes.T, bias=True), rtol=1e-3, atol=1e-3)
    drawn = mixture(torch.randn(20_000, mixture.noise_width, generator=generator)).numpy()
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(codes.T), rtol=0.05, atol=0.5)


def test_as_many_components_are_chosen_as_there_are_clusters():
    assert fitted(clusters(2_000, seed=0), clusters(500, seed=1)).components == 5


def test_the_choice_is_that_of_the_held_out_codes():
    """Five clusters in the codes that it is fitted to, one broad cloud in those held out: few components win."""
    codes = clusters(2_000, seed=0)
    broad = np.random.default_rng(0).multivariate_normal(codes.mean(0), np.cov(codes.T), 500)
    assert fitted(codes, broad).components < 5


@pytest.mark.parametrize(("count", "most"), [(30, 1), (39, 1), (40, 2), (120, 5), (2_000, 50)])
def test_each_component_has_at_least_twenty_codes(count, most):
    """With a cluster a candidate the largest number allowed wins."""
    centres = 30.0 * torch.eye(50)[:, :40]
    codes = clusters(count, seed=0, centres=centres[:most])
    assert fitted(codes, clusters(400, seed=1, centres=centres[:most])).components <= most


def test_copies_of_a_code_are_no_cluster():
    codes = np.repeat(clusters(10, seed=0), 1_000, axis=0)
    assert fitted(codes, codes).components == 1


@pytest.mark.parametrize("codes", [np.zeros((200, 3), np.float32), np.zeros((2, 3), np.float32)], ids=len)
def test_constant_codes_give_themselves(codes, generator):
    mixture = fitted(codes + 4, codes + 4)
    drawn = mixture(torch.randn(100, mixture.noise_width, generator=generator))
    assert mixture.components == 1
    np.testing.assert_allclose(drawn, 4, atol=0.05)


def test_a_given_number_of_components_is_kept():
    assert fitted(clusters(500, seed=0), clusters(100, seed=1), components=3).components == 3


@pytest.mark.parametrize("wanted", [None, 7])
def test_a_chosen_number_of_components_comes_back_with_the_weights(wanted, generator):
    saved = fitted(clusters(2_000, seed=0), clusters(500, seed=1), wanted)
    loaded = Mixture(2, wanted)
    loaded.load_state_dict(saved.state_dict())
    noise = torch.randn(50, saved.noise_width, generator=generator)
    assert loaded.components == saved.components == (wanted or 5)
    assert torch.equal(loaded(noise), saved(noise))


def test_weights_of_another_dimension_are_refused():
    with pytest.raises(RuntimeError, match="size mismatch"):
        Mixture(3).load_state_dict(Mixture(2, components=4).state_dict())


def test_a_mixture_needs_as_many_codes_as_components():
    with pytest.raises(InputError, match="at most the number of training images, 3, but got components=4"):
        fitted(np.zeros((3, 2)), np.zeros((3, 2)), components=4)


def test_one_code_has_no_variance():
    with pytest.raises(InputError, match="at least 2 training images, but got 1"):
        fitted(np.zeros((1, 2)), np.zeros((3, 2)))


def test_the_candidates_rise():
    assert list(COMPONENTS) == sorted(set(COMPONENTS))
