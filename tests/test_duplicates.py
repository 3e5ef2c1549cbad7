"""Near-duplicates across splits are found, whatever was done to them, and images that merely resemble are not."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from latentmill.config import DataConfig
from latentmill.data import sources
from latentmill.data.collection import Loaded
from latentmill.data.preparation.duplicates import without_copies
from latentmill.data.sources.fashion_mnist import FOLDER, read_pair

LANCZOS = Image.Resampling.LANCZOS


def quiet(*told: Any) -> None:
    pass


def mnist() -> Any:
    found = sources.load(DataConfig(source="mnist-5k"))
    assert isinstance(found, Loaded)
    return found.images


def fashion() -> Any:
    if not FOLDER.exists():
        pytest.skip("needs Debian's dataset-fashion-mnist")
    return read_pair(FOLDER, "t10k")[0][:5000]


def drawings() -> Any:
    """Flat shapes of some colours on white, 64 pixels a side."""
    rng, found = np.random.default_rng(0), []
    for _ in range(2000):
        image = Image.new("RGB", (64, 64), "white")
        draw = ImageDraw.Draw(image)
        for _ in range(rng.integers(3, 7)):
            left, top, width, height = rng.integers(2, 40, 4).tolist()
            shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
            shape((left, top, left + width, top + height), fill=tuple(rng.integers(0, 256, 3).tolist()))
        found.append(np.asarray(image.resize((64, 64), LANCZOS, box=(0.3, 0.3, 63.7, 63.7))).transpose(2, 0, 1))
    return np.stack(found)


def picture(image: Any) -> Image.Image:
    return Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))


def pixels(image: Image.Image) -> Any:
    array = np.asarray(image)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def resized(factor: float) -> Callable[[Any], Any]:
    def change(image: Any) -> Any:
        side = round(image.shape[-1] * factor)
        return pixels(picture(image).resize((side, side), LANCZOS).resize(image.shape[1:], LANCZOS))

    return change


def encoded(format: str, quality: int) -> Callable[[Any], Any]:
    def change(image: Any) -> Any:
        file = io.BytesIO()
        picture(image).save(file, format, quality=quality)
        return pixels(Image.open(file).convert("L" if len(image) == 1 else "RGB"))

    return change


def shifted(down: int, right: int) -> Callable[[Any], Any]:
    def change(image: Any) -> Any:
        height, width = image.shape[1:]
        padded = np.pad(image, ((0, 0), (1, 1), (1, 1)), mode="edge")
        return padded[:, 1 - down : 1 - down + height, 1 - right : 1 - right + width]

    return change


CHANGES = {
    "half": resized(0.5),
    "0.8": resized(0.8),
    "1.5": resized(1.5),
    "JPEG 75": encoded("JPEG", 75),
    "WebP 80": encoded("WEBP", 80),
    "right": shifted(0, 1),
    "up and left": shifted(-1, -1),
}


def found(train: Any, later: Any) -> tuple[set[int], dict[int, int]]:
    """Places in `later` that are left out of a split, each with its place in `train`."""
    images = np.concatenate([train, later])
    rows = {"train": np.arange(len(train)), "val": np.arange(len(train), len(images)), "test": np.arange(0)}
    kept, twins = without_copies(images, rows, near=True, progress=quiet)
    assert len(kept["train"]) == len(train)
    places = {row - len(train): original for row, original in zip(*map(np.ndarray.tolist, _pair(twins)), strict=True)}
    return set(places), places


def _pair(twins: Any) -> tuple[Any, Any]:
    return twins["val"].rows, twins["val"].originals


@pytest.mark.parametrize("images", [mnist, fashion, drawings])
def test_changed_copies_are_found(images: Callable[[], Any]) -> None:
    known = images()[:1500]
    for name, change in CHANGES.items():
        missed = set(range(150)) - found(known, np.stack([change(image) for image in known[:150]]))[0]
        assert len(missed) <= 7, f"{name}: {len(missed)} of 150 missed"


def test_a_copy_names_its_original() -> None:
    known = mnist()[:1000]
    _, places = found(known, np.stack([CHANGES["JPEG 75"](image) for image in known[100:200]]))
    assert places == {place: 100 + place for place in range(100)}


@pytest.mark.parametrize(("images", "most"), [(mnist, 0), (drawings, 0), (fashion, 10)])
def test_other_images_are_kept(images: Callable[[], Any], most: int) -> None:
    """Of Fashion-MNIST some are of one article, photographed twice."""
    every = images()
    half = len(every) * 3 // 4
    assert len(found(every[:half], every[half:])[0]) <= most


def test_digits_of_8_pixels_are_kept_and_their_copies_are_found() -> None:
    digits = sources.load(DataConfig(source="digits"))
    assert isinstance(digits, Loaded)
    known = digits.images[:1200]
    assert found(known, digits.images[1200:])[0] == set()
    assert found(known, known[:50])[0] == set(range(50))
    assert len(found(known, np.stack([encoded("WEBP", 90)(image) for image in known[:50]]))[0]) == 50


def _faces(mouth: str) -> Any:
    image = Image.new("RGB", (64, 64), "white")
    draw = ImageDraw.Draw(image)
    draw.ellipse((4, 4, 60, 60), fill="gold")
    for left in (20, 38):
        draw.ellipse((left, 22, left + 6, 32), fill="saddlebrown")
    if mouth == "line":
        draw.line((20, 46, 44, 46), fill="saddlebrown", width=3)
    else:
        draw.arc((20, 38, 44, 52), 20, 160, fill="saddlebrown", width=3)
    return pixels(image)


def test_what_differs_at_one_place_or_is_pale_is_another_image() -> None:
    others = drawings()[:100]
    smile, line = _faces("smile"), _faces("line")
    assert found(np.concatenate([others, line[None]]), smile[None])[0] == set()
    pale = np.full((2, 3, 64, 64), 255, np.uint8)
    pale[0, :, 10:54, 10:54] = 245
    pale[1, :, 20:60, 4:30] = 245
    assert found(np.concatenate([others, pale[:1]]), pale[1:])[0] == set()
    assert found(np.concatenate([others, pale[:1]]), pale[:1])[0] == {0}


def test_the_index_of_many_images_finds_what_the_exact_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    known = mnist()
    later = np.stack([change(image) for change in CHANGES.values() for image in known[:60]])
    exact = found(known, later)
    monkeypatch.setattr("latentmill.data.preparation.duplicates.INDEXED_FROM", 1000)
    monkeypatch.setattr("latentmill.data.preparation.duplicates.CELLS", 100)
    assert found(known, later)[0] >= exact[0] - set(list(exact[0])[:2])
