"""Every image brought to one size and one number of channels."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from latentmill.data.collection import Bytes

MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # by the number of channels
LANCZOS = Image.Resampling.LANCZOS  # widened by the factor of reduction, so antialiased


@dataclass(frozen=True)
class Target:
    """What every prepared image is."""

    channels: int  # 1, 3 or 4
    height: int
    width: int
    fit: Literal["crop", "pad", "stretch"]
    background: tuple[int, int, int]  # behind alpha, beside pads

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.height, self.width


def fitted(image: Image.Image, target: Target) -> tuple[Bytes, tuple[str, ...]]:
    """An image of mode L, LA, RGB or RGBA as uint8 C×H×W, and what was done to it."""
    conversions = list[str]()
    if image.mode in ("LA", "RGBA") and target.channels != 4:
        conversions.append("alpha laid on the background")
        image = _opaque(image, target.background)
    if image.size != (target.width, target.height):
        conversions.append(_change(image.size, target))
        image = _resized(image, target)
    if image.mode != MODES[target.channels]:
        image = image.convert(MODES[target.channels])
    pixels = np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)
    return without_hidden(pixels, target.background), tuple(conversions)


def without_hidden(pixels: Bytes, background: tuple[int, int, int]) -> Bytes:
    """C×H×W with the background's colour wherever alpha is 0: of what nobody sees, other files have another."""
    if len(pixels) != 4:
        return pixels
    return np.where(pixels[3:] == 0, np.array([*background, 0], np.uint8)[:, None, None], pixels)


def _opaque(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """Laid on the background: grey stays grey on a grey one."""
    is_grey = image.mode == "LA" and len(set(background)) == 1
    sheet = Image.new("RGBA", image.size, (*background, 255))
    sheet.alpha_composite(image.convert("RGBA"))
    return sheet.convert("L" if is_grey else "RGB")


def _change(size: tuple[int, int], target: Target) -> str:
    width, height = size
    verb = "enlarged" if width < target.width or height < target.height else "reduced"
    same = width * target.height == height * target.width
    return verb if same else f"{verb} and {_PAST[target.fit]}"


_PAST = {"crop": "cropped", "pad": "padded", "stretch": "stretched"}


def _resized(image: Image.Image, target: Target) -> Image.Image:
    width, height = image.size
    size = (target.width, target.height)
    if target.fit == "stretch":
        return image.resize(size, LANCZOS)
    if target.fit == "crop":
        scale = min(width / target.width, height / target.height)
        kept = (target.width * scale, target.height * scale)  # of the image, around its middle
        left, top = max(0.0, (width - kept[0]) / 2), max(0.0, (height - kept[1]) / 2)  # never less by a rounding error
        box = (left, top, min(width, left + kept[0]), min(height, top + kept[1]))
        return image.resize(size, LANCZOS, box=box)
    scale = min(target.width / width, target.height / height)
    inner = image.resize((max(1, round(width * scale)), max(1, round(height * scale))), LANCZOS)
    return _padded(inner, target)


def _padded(image: Image.Image, target: Target) -> Image.Image:
    """In the middle of the background, which is transparent where alpha is kept."""
    has_alpha = image.mode in ("LA", "RGBA")
    grey = image.mode == "L" and len(set(target.background)) == 1
    mode = "RGBA" if has_alpha else "L" if grey else "RGB"
    colour: tuple[int, ...] | int = target.background[0] if grey else target.background + (0,) * has_alpha
    sheet = Image.new(mode, (target.width, target.height), colour)
    sheet.paste(image.convert(mode), ((target.width - image.width) // 2, (target.height - image.height) // 2))
    return sheet
