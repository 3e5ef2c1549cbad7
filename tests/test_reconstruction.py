"""Reconstructions, and the distance to their images against its definition."""

import numpy as np
import pytest
import torch
from conftest import IMAGE_SHAPE
from scipy.ndimage import uniform_filter

from latentmill.data.batches import Batches
from latentmill.errors import InputError
from latentmill.evaluation import reconstruction
from latentmill.evaluation.reconstruction import (
    compare,
    compare_all,
    reconstruct,
    reconstruction_metrics,
    scale_weights,
    window,
)

SHAPES = [(1, 28, 28), (3, 9, 12), (1, 8, 8), (1, 6, 8), (1, 5, 7), (1, 4, 4), (3, 33, 64)]
TINY = [(1, 1, 1), (1, 2, 2), (3, 1, 9), (1, 3, 3)]


def random_images(count: int, shape=IMAGE_SHAPE, seed: int = 0) -> np.ndarray:
    """Smooth ones, whose structure shows at several scales."""
    noise = np.random.default_rng(seed).random((count, *shape))
    smooth = uniform_filter(noise, (1, 1, min(5, shape[1]), min(5, shape[2])), mode="mirror")
    return np.clip(0.5 + 3 * (smooth - 0.5) + 0.2 * (noise - 0.5), 0, 1).astype(np.float32)


def similar(count: int, shape=IMAGE_SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """Images, and others that resemble them."""
    images = random_images(count, shape)
    return images, np.float32(0.8) * images + np.float32(0.2) * random_images(count, shape, seed=1)


def luminance_and_contrast(x: np.ndarray, y: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """The two factors of SSIM at each pixel (Wang et al. 2004), of (C, H, W)."""

    def mean(values):
        return uniform_filter(values.astype(np.float64), (0, side, side), mode="mirror")

    x, y = x.astype(np.float64), y.astype(np.float64)
    variances = mean(x * x) - mean(x) ** 2 + mean(y * y) - mean(y) ** 2
    covariance = mean(x * y) - mean(x) * mean(y)
    luminance = (2 * mean(x) * mean(y) + 0.01**2) / (mean(x) ** 2 + mean(y) ** 2 + 0.01**2)
    return luminance, (2 * covariance + 0.03**2) / (variances + 0.03**2)


def halved(x: np.ndarray) -> np.ndarray:
    x = x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]
    return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4


def ssim_by_definition(x: np.ndarray, y: np.ndarray) -> float:
    luminance, contrast = luminance_and_contrast(x, y, window(*x.shape[1:]))
    return (luminance * contrast).mean()


def ms_ssim_by_definition(x: np.ndarray, y: np.ndarray) -> float:
    """Contrast and structure at all scales, without the borders, and luminance too at the last."""
    side, weights, product = window(*x.shape[1:]), scale_weights(*x.shape[1:]), 1.0
    for scale, weight in enumerate(weights, 1):
        luminance, contrast = luminance_and_contrast(x, y, side)
        inner = slice(side // 2, -(side // 2))
        term = (luminance * contrast).mean() if scale == len(weights) else contrast[:, inner, inner].mean()
        product *= max(term, 0) ** weight
        x, y = halved(x), halved(y)
    return product


def test_errors_by_hand():
    """The ratio is averaged over images, not computed of the average error."""
    images = np.zeros((2, *IMAGE_SHAPE), np.float32)
    others = np.stack([np.full(IMAGE_SHAPE, 0.1), np.full(IMAGE_SHAPE, 0.01)]).astype(np.float32)
    found = compare(images, others)
    np.testing.assert_allclose(found.mse, [0.01, 0.0001], rtol=1e-5)
    np.testing.assert_allclose(found.psnr_db, [20, 40], rtol=1e-5)
    metrics = reconstruction_metrics(found)
    assert metrics["mse"] == pytest.approx((0.01 + 0.0001) / 2, rel=1e-5)
    assert metrics["psnr_db"] == pytest.approx((20 + 40) / 2, rel=1e-5)


def test_quantiles_by_hand():
    """The error of image i is (i / 100)²: 0, 1, 4 … of 10 000."""
    images = np.zeros((101, *IMAGE_SHAPE), np.float32)
    metrics = reconstruction_metrics(compare(images, images + np.linspace(0, 1, 101, dtype="f4")[:, None, None, None]))
    expected = {"mse_median": 0.25, "mse_p95": 0.9025, "mse_worst": 1.0}
    assert {key: metrics[key] for key in expected} == pytest.approx(expected, rel=1e-5)


def test_the_worst_come_first():
    images = np.zeros((5, *IMAGE_SHAPE), np.float32)
    found = compare(images, images + np.array([0.1, 0.5, 0.0, 0.5, 0.9], np.float32)[:, None, None, None])
    assert found.worst(3).tolist() == [4, 1, 3]
    assert found.worst(99).tolist() == [4, 1, 3, 0, 2]


@pytest.mark.parametrize("shape", [*SHAPES, *TINY], ids=str)
@pytest.mark.parametrize("make", [random_images, lambda count, shape: np.zeros((count, *shape), np.float32)])
def test_a_perfect_reconstruction_has_finite_values(shape, make):
    images = make(2, shape)
    expected = dict.fromkeys(("mse", "mse_median", "mse_p95", "mse_worst"), 0.0)
    expected |= {"psnr_db": 100.0, "ssim": 1.0, "ms_ssim": 1.0}
    assert reconstruction_metrics(compare(images, images)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_similarity_is_its_definition(shape):
    images, others = similar(3, shape)
    found = compare(images, others)
    pairs = list(zip(images, others, strict=True))
    np.testing.assert_allclose(found.ssim, [ssim_by_definition(*pair) for pair in pairs], atol=2e-5)
    np.testing.assert_allclose(found.ms_ssim, [ms_ssim_by_definition(*pair) for pair in pairs], atol=2e-5)
    assert found.ms_ssim.min() > 0.2


@pytest.mark.parametrize("shape", [*SHAPES, *TINY], ids=str)
def test_values_stay_in_their_ranges_for_negatives_and_constants(shape):
    images = np.concatenate([random_images(2, shape), np.zeros((1, *shape), np.float32)])
    found = compare(images, 1 - images)
    assert np.isfinite(found.ssim).all()
    assert found.ssim.min() >= -1
    assert 0 <= found.ms_ssim.min() <= found.ms_ssim.max() <= 1


@pytest.mark.parametrize(
    ("sides", "expected"),
    [
        ((28, 28), (7, 3)),
        ((28, 64), (7, 3)),
        ((8, 8), (3, 2)),
        ((5, 7), (3, 1)),
        ((4, 4), (3, 1)),
        ((2, 9), (1, 1)),
        ((64, 64), (7, 4)),
        ((128, 128), (7, 5)),
    ],
)
def test_windows_and_scales_fit_the_image(sides, expected):
    assert (window(*sides), len(scale_weights(*sides))) == expected


@pytest.mark.parametrize("side", range(1, 140))
def test_any_size_has_a_window_and_scales_that_the_library_takes(side):
    images = np.ones((1, 1, side, side), np.float32)
    assert window(side, side) % 2 == 1
    assert sum(scale_weights(side, side)) == pytest.approx(1)
    assert compare(images, images).ms_ssim.tolist() == pytest.approx([1], abs=5e-4)


def test_the_parts_are_put_together_in_order(monkeypatch):
    images, others = similar(10)
    whole = compare(images, others)
    monkeypatch.setattr(reconstruction, "CHUNK_PIXELS", 200)  # 3 images
    found = compare(images, others)
    np.testing.assert_allclose(found.ssim, whole.ssim, atol=1e-6)
    np.testing.assert_allclose(found.ms_ssim, whole.ms_ssim, atol=1e-6)


def test_reconstructions_are_decoded_codes_in_order(trained, digits):
    model, _ = trained("vae", {"latent": 3})
    images = Batches(digits)[:]
    with torch.no_grad():
        expected = model.decode(model.encode(images)).numpy()
    np.testing.assert_allclose(reconstruct(model, images), expected, atol=1e-6)


def test_images_are_compared_with_their_reconstructions_some_at_a_time(trained, digits):
    model, _ = trained("vae", {"latent": 3})
    images = Batches(digits)  # more than one chunk
    found = compare_all(model, images)
    whole = compare(images[:].numpy(), reconstruct(model, images[:]))
    for name in ("mse", "psnr_db", "ssim", "ms_ssim"):
        np.testing.assert_allclose(getattr(found, name), getattr(whole, name), atol=1e-5)


def test_a_conditional_model_reconstructs_each_image_under_its_own_label(trained, digits, labels):
    model, _ = trained("conditional_vae", {"latent": 3, "hidden": 50})
    found = compare_all(model, Batches(digits, labels=labels))
    images, label = Batches(digits)[:], torch.from_numpy(labels)
    with torch.no_grad():
        expected = model.decode(model.encode(images, label), label).numpy()
    np.testing.assert_allclose(found.mse, np.square(images.numpy() - expected).mean((1, 2, 3)), rtol=1e-4)


def test_reconstructions_that_are_not_finite_are_refused(trained, digits, monkeypatch):
    model, _ = trained("vae", {"latent": 3})
    monkeypatch.setattr(model, "decode", lambda z, label: torch.full((len(z), *IMAGE_SHAPE), torch.nan))
    with pytest.raises(InputError, match="reconstructions must be finite, but 128 of 128"):
        reconstruct(model, Batches(digits)[:2])
