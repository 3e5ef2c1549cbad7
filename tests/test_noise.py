"""The noise behind samples: normal, and the same everywhere."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import ndtri

from latentmill.errors import InputError
from latentmill.runtime import noise as module
from latentmill.runtime.noise import NoiseStream, quantile


def test_quantiles_are_those_of_the_normal_distribution():
    uniform = np.concatenate([np.logspace(-300, -1, 2000), np.linspace(1e-9, 1 - 1e-9, 20_001)])
    np.testing.assert_allclose(quantile(uniform), ndtri(uniform), rtol=2e-7, atol=1e-9)


def test_these_are_the_numbers_of_seed_0_on_every_platform():
    expected = [[-1.1001979, -2.1954119, 1.5360131], [-0.28858709, -0.07133548, 0.29820043]]
    np.testing.assert_allclose(NoiseStream(3, seed=0).rows(2), expected, rtol=1e-6)


def test_noise_is_standard_normal_and_independent():
    rows = NoiseStream(4, seed=1).rows(50_000)
    assert rows.dtype == np.float32
    assert stats.kstest(rows.ravel(), "norm").pvalue > 1e-3
    np.testing.assert_allclose(np.corrcoef(rows.T), np.eye(4), atol=0.02)
    assert abs(np.corrcoef(rows[:-1, 0], rows[1:, 0])[0, 1]) < 0.02


@pytest.mark.parametrize("width", [1, 2, 5, 20])
def test_rows_are_the_same_however_many_are_asked_for_at_a_time(width, monkeypatch):
    whole = NoiseStream(width, seed=3).rows(50)
    parts = NoiseStream(width, seed=3)
    np.testing.assert_array_equal(np.concatenate([parts.rows(count) for count in (1, 30, 7, 12)]), whole)
    monkeypatch.setattr(module, "BLOCK", 8)
    np.testing.assert_array_equal(NoiseStream(width, seed=3).rows(50), whole)


def test_seeds_differ():
    rows = [NoiseStream(10, seed).rows(100) for seed in (0, 1, 2**70)]
    assert all(abs(np.corrcoef(rows[a].ravel(), rows[b].ravel())[0, 1]) < 0.1 for a, b in ((0, 1), (0, 2), (1, 2)))


def test_temperature_scales_and_truncation_bounds_all_but_the_columns_that_choose():
    plain, cooled = NoiseStream(3, seed=0).rows(1000), NoiseStream(3, seed=0, temperature=0.5, categorical=1).rows(1000)
    np.testing.assert_array_equal(cooled[:, 0], plain[:, 0])
    np.testing.assert_allclose(cooled[:, 1:], plain[:, 1:] / 2, rtol=1e-6)
    bounded = NoiseStream(3, seed=0, truncation=0.7, categorical=1).rows(20_000)
    assert np.abs(bounded[:, 0]).max() > 3
    assert np.abs(bounded[:, 1:]).max() <= 0.7
    assert stats.kstest(bounded[:, 1], stats.truncnorm(-0.7, 0.7).cdf).pvalue > 1e-3


def test_the_largest_and_the_smallest_bits_are_finite():
    ends = np.array([0.5, 2**32 - 0.5]) / 2**32
    np.testing.assert_allclose(quantile(ends), [-6.338, 6.338], atol=1e-3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"seed": -1}, "seed must be at least 0, but got -1"),
        ({"temperature": -0.5}, "temperature must be from 0 to 1000, but got -0.5"),
        ({"temperature": float("nan")}, "temperature must be from 0 to 1000, but got nan"),
        ({"truncation": 0.0}, "truncation must be above 0, but got 0.0"),
    ],
)
def test_a_wrong_argument_is_an_error(given, message):
    with pytest.raises(InputError, match=message):
        NoiseStream(2, **{"seed": 0} | given)
