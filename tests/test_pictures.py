"""Pictures of reconstructions, of the latent space and of the bound on the likelihood."""

import numpy as np
import pytest
from PIL import Image

from latentmill.evaluation import pictures
from latentmill.runtime.images import grid


def random_images(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def pixels(path) -> np.ndarray:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


def test_a_traversal_is_a_row(tmp_path):
    images = random_images(3, 11, 3, 8, 8)
    pictures.draw_traversals(tmp_path / "traversals.png", images)
    expected = grid(images.reshape(33, 3, 8, 8), columns=11)
    np.testing.assert_array_equal(pixels(tmp_path / "traversals.png"), expected)


@pytest.mark.parametrize(
    "curve",
    [{"1": 124.6, "10": 120.2, "100": 118.4, "1000": 117.5}, {"1": 99.0}, {"1": -300.0, "10": -300.0, "50": -301.0}],
    ids=len,
)
def test_the_bound_is_drawn_over_the_number_of_samples(tmp_path, curve):
    pictures.draw_likelihood(tmp_path / "likelihood.png", curve, elbo=curve["1"])
    assert np.ptp(pixels(tmp_path / "likelihood.png")) > 50


def count(image: np.ndarray, colour: str) -> int:
    """How many pixels have it."""
    return int((image == [int(colour[start : start + 2], 16) for start in (1, 3, 5)]).all(2).sum())


@pytest.mark.parametrize("labels", [None, np.arange(50) % 3], ids=["without labels", "with labels"])
@pytest.mark.parametrize("draws", [None, random_images(30, 2, seed=1)], ids=["alone", "with the prior"])
def test_the_map_of_codes_has_the_prior_behind_them(tmp_path, labels, draws):
    pictures.draw_codes(tmp_path / "codes.png", random_images(50, 2), labels, draws)
    image = pixels(tmp_path / "codes.png")
    letters = 100  # some of their pixels are of any grey
    assert (count(image, pictures.BACKGROUND_COLOUR) > letters) == (draws is not None)
    assert (count(image, pictures.REFERENCE_COLOUR) > 0) == (labels is None)
