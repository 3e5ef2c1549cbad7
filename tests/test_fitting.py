"""Images brought to one size and one number of channels."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile_files import picture
from PIL import Image

from latentmill.data.preparation.fitting import Target, fitted

ROOT = Path(__file__).parents[1]
BLACK, WHITE, ORANGE = (0, 0, 0), (255, 255, 255), (255, 136, 0)


def made(pixels: Any, *target: Any) -> Any:
    image = Image.fromarray(pixels)
    found, _ = fitted(image, Target(*target))
    assert found.dtype == np.uint8
    return found.transpose(1, 2, 0)


def test_fits() -> None:
    """Of a wide image whose thirds are red, green and blue."""
    wide = np.repeat(np.eye(3, dtype=np.uint8)[None] * 255, 40, axis=0).repeat(40, axis=1)  # 40×120
    cropped = made(wide, 3, 20, 20, "crop", WHITE)
    assert np.abs(cropped.astype(int) - (0, 255, 0)).max() <= 20, "but for Lanczos's overshoot at the edges"
    stretched = made(wide, 3, 12, 12, "stretch", WHITE)
    assert [stretched[5, x].argmax() for x in (1, 6, 10)] == [0, 1, 2]
    padded = made(wide, 3, 30, 30, "pad", ORANGE)
    assert (padded[:10] == ORANGE).all()
    assert (padded[20:] == ORANGE).all()
    assert [padded[15, x].argmax() for x in (4, 15, 26)] == [0, 1, 2]
    assert made(wide.swapaxes(0, 1), 3, 30, 30, "pad", ORANGE)[0, 0].tolist() == list(ORANGE)


@pytest.mark.parametrize("size", [(1, 1), (1, 1000), (1000, 1), (3, 7), (7, 64), (500, 333)])
@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_any_size_becomes_any_other(size: tuple[int, int], fit: str) -> None:
    for target in ((4, 4), (64, 64), (5, 37)):
        pixels = np.full((*size, 3), 200, np.uint8)
        found = made(pixels, 3, *target, fit, (200, 200, 200))
        assert found.shape == (*target, 3)
        assert (found == 200).all()


def test_no_rounding_leads_out_of_an_image() -> None:
    for side in range(1, 600, 7):
        for target in range(4, 300, 11):
            fitted(Image.new("L", (side, side + 1)), Target(1, target, target, "crop", WHITE))


def test_alpha_is_laid_on_the_background_before_it_is_resized() -> None:
    """Green that nobody sees must not shine through at the edge of a red square."""
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[..., 1] = 255
    pixels[16:48, 16:48] = (255, 0, 0, 255)
    found = made(pixels, 3, 20, 20, "crop", BLACK)
    assert found[..., 1].max() == 0
    kept = made(pixels, 4, 20, 20, "crop", ORANGE)
    assert (kept[kept[..., 3] > 0][:, 1] <= 1).all()
    clear = kept[kept[..., 3] == 0]
    assert len(clear)
    assert (clear == (*ORANGE, 0)).all(), "what nobody sees is the same in all files"
    assert (made(pixels, 4, 64, 64, "crop", ORANGE)[0, 0] == (*ORANGE, 0)).all(), "also where nothing is resized"


def test_pads_of_images_with_alpha_are_clear() -> None:
    pixels = np.full((10, 40, 4), 255, np.uint8)
    assert (made(pixels, 4, 40, 40, "pad", BLACK)[0] == (0, 0, 0, 0)).all()
    assert (made(pixels[..., :3], 4, 40, 40, "pad", BLACK)[0] == (0, 0, 0, 255)).all()


def test_grey_on_a_coloured_background_is_coloured() -> None:
    pixels = np.zeros((8, 8, 2), np.uint8)
    assert (made(pixels, 3, 8, 8, "crop", ORANGE) == ORANGE).all()
    assert (made(picture(0, 1)[..., 0], 3, 24, 24, "crop", ORANGE) == picture(0, 1)).all()


def test_each_row_of_the_comparison_names_a_test_that_exists() -> None:
    text = (ROOT / "docs/data.md").read_text(encoding="utf-8")
    rows = [row.strip("| ").split("|") for row in text.splitlines() if row.startswith("| ")][1:]
    assert len(rows) > 20
    for row in rows:
        named = re.fullmatch(r"(test_\w+\.py)::(test_\w+)", row[-1].strip())
        assert named or "**no**" in row[-1] + row[-2], row
        if named:
            assert f"def {named[2]}(" in (ROOT / "tests" / named[1]).read_text(encoding="utf-8"), row
