"""Pictures of reconstructions, of the latent space and of the bound on the likelihood."""

import numpy as np
import pytest
from PIL import Image

from latentmill.evaluation import pictures
from latentmill.evaluation.neighbours import Neighbours
from latentmill.report.pictures import Picture, gallery
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


ODD = ["Animals & Nature", "_hidden", "$5 & $x^", "a/b\nc", '<b>"quoted"</b>', "👩\u200d🚀 漢字", "x" * 200]


def edges(image: np.ndarray) -> list[bool]:
    """Whether anything is drawn within two pixels of the top, bottom, left and right."""
    return [bool((part < 250).any()) for part in (image[:2], image[-2:], image[:, :2], image[:, -2:])]


@pytest.mark.parametrize(
    "classes", [ODD, [f"class {index}" for index in range(20)], [f"kind {index}" for index in range(300)]], ids=len
)
def test_a_legend_names_classes_whatever_they_are_called_and_is_no_higher_than_the_picture(tmp_path, classes):
    labels = np.arange(600) % len(classes)
    pictures.draw_codes(tmp_path / "codes.png", random_images(600, 2), labels, random_images(30, 2, seed=1), classes)
    image = pixels(tmp_path / "codes.png")
    assert image.shape == (374, 660, 3)
    assert edges(image) == [False] * 4


def test_names_are_written_beside_the_map(tmp_path):
    points, labels = random_images(50, 2), np.arange(50) % 2
    pictures.draw_codes(tmp_path / "a.png", points, labels, classes=["i", "i"])
    pictures.draw_codes(tmp_path / "b.png", points, labels, classes=["i", "a longer name"])
    first, second = (pixels(tmp_path / name) for name in ("a.png", "b.png"))
    assert (first != second).any(), "the name takes its room from the map"


def test_the_classes_beyond_twenty_are_the_rarest_and_share_a_colour(tmp_path):
    labels = np.concatenate([np.repeat(np.arange(19), 10), np.arange(19, 30)])
    found = list(pictures._coloured(labels, [f"kind {index}" for index in range(30)]))
    assert [name for _, name, _ in found] == ["11 other classes", *(f"kind {index}" for index in range(19))]
    assert [int(chosen.sum()) for chosen, _, _ in found] == [11] + [10] * 19
    assert len({colour for _, _, colour in found}) == 20


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_gallery_keeps_every_channel(tmp_path, channels):
    train = np.random.default_rng(0).integers(0, 256, (7, channels, 6, 5), dtype=np.uint8)
    nearest = Neighbours(np.ones((2, 5), np.float32), np.arange(10).reshape(2, 5) % 7)
    pictures.draw_gallery(tmp_path / "gallery.png", train[:2], nearest, train)
    with Image.open(tmp_path / "gallery.png") as picture:
        assert picture.mode == {1: "L", 3: "RGB", 4: "RGBA"}[channels]
        sheet = np.asarray(picture).reshape(12, 30, channels)
    np.testing.assert_array_equal(sheet[6:, 5:10], train[nearest.indices[1, 0]].transpose(1, 2, 0))


def test_large_images_are_reduced_so_that_the_report_can_read_their_pictures(tmp_path):
    train = np.random.default_rng(0).integers(0, 256, (6, 3, 1_024, 512), dtype=np.uint8)
    nearest = Neighbours(np.ones((3, 5), np.float32), np.arange(15).reshape(3, 5) % 6)
    pictures.draw_gallery(tmp_path / "gallery.png", train[:3], nearest, train)
    pictures.draw_samples(tmp_path / "samples.png", train[:2] / np.float32(255))
    pictures.draw_pairs(tmp_path / "pairs.png", *np.split(train[:4] / np.float32(255), 2))
    pictures.draw_interpolations(tmp_path / "interpolations.png", train[None, :2] / np.float32(255))
    shapes = {path.stem: pixels(path).shape[:2] for path in tmp_path.iterdir()}
    assert shapes == {
        "gallery": (3 * 256, 6 * 128),
        "samples": (260, 16 * 130 + 2),
        "pairs": (2 * 258 + 2, 2 * 130 + 2),
        "interpolations": (260, 2 * 130 + 2),
    }
    shown = Picture("", "", "gallery", "normal", "", False, (tmp_path / "gallery.png").read_bytes())
    found = gallery("sheet", shown, [], [3, 1_024, 512])
    assert (found.columns, found.width, found.height, len(found.distances)) == (6, 128, 256, 3)


def test_a_legend_has_every_name(tmp_path, monkeypatch):
    made, whole = [], pictures._legend
    monkeypatch.setattr(pictures, "_legend", lambda *given: made.append(whole(*given)))
    pictures.draw_codes(tmp_path / "codes.png", random_images(50, 2), np.arange(50) % len(ODD), classes=ODD)
    names = [text.get_text() for text in made[0].get_texts()]
    assert names == [*ODD[:3], "a/b c", *ODD[4:6], "x" * 23 + "…"]
