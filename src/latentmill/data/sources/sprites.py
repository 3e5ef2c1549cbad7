"""Sprites drawn by code, one for each combination of their factors: shape, scale, rotation, place and colour.

They are like dSprites (Matthey et al. 2017), but in colour, and rotations end before a square looks the same again: no
two combinations are one picture.
"""

import math
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from latentmill.config import DataConfig
from latentmill.data.collection import Bytes, Collection, Item, Pixels
from latentmill.data.sources.paths import require_no_path

Plane = npt.NDArray[np.float32]

SIDE = 32  # pixels, unless data.size says otherwise
RADIUS = 0.27  # of a sprite of scale 1, as a share of the shorter side
SUBPIXELS = 4  # along each side of a pixel, of which the share within the shape is the pixel's coverage
SHAPES = ("square", "ellipse", "heart")
SCALES = (0.55, 0.7, 0.85, 1.0)
ROTATIONS = (0, 18, 36, 54, 72)  # degrees, clockwise
PLACES = (0.3, 0.38, 0.46, 0.54, 0.62, 0.7)  # of the middle, as shares of the width and height
# Of brightnesses that differ too, for `data.channels: grey`.
COLOURS = {"blue": (50, 80, 235), "red": (255, 85, 85), "green": (90, 230, 110), "yellow": (255, 240, 100)}


class Sprite(NamedTuple):
    """A value of each factor."""

    shape: str
    scale: float
    rotation: int
    x: float
    y: float
    colour: str


SPRITES = [Sprite(*each) for each in product(SHAPES, SCALES, ROTATIONS, PLACES, PLACES, COLOURS)]


@dataclass
class Drawn(Pixels):
    """All sprites, each drawn when it is read."""

    height: int = field(kw_only=True)
    width: int = field(kw_only=True)

    @property
    def shape(self) -> tuple[int, int, int]:
        return 3, self.height, self.width

    def block(self, rows: npt.NDArray[np.int64]) -> Bytes:
        return np.stack([draw(SPRITES[row], self.height, self.width) for row in rows.tolist()])


def files(config: DataConfig) -> list[Path]:
    """What the images depend on: this code.

    Raises:
        InputError: there is a data.path, which would be ignored.
    """
    require_no_path(config)
    return [Path(__file__)]


def load(config: DataConfig) -> Collection:
    """All sprites in the size of `config`, with their shapes as labels.

    Raises:
        InputError: there is a data.path, which would be ignored.
    """
    require_no_path(config)
    height, width = config.size or (SIDE, SIDE)
    named = [{name: str(value) for name, value in each._asdict().items()} for each in SPRITES]
    items = [Item(f"sprite {row}", each["shape"], factors=each) for row, each in enumerate(named)]
    description = f"{len(items):,} sprites, one for each shape, scale, rotation, place and colour"
    return Drawn(description, items, height=height, width=width)


def draw(sprite: Sprite, height: int, width: int) -> Bytes:
    """A sprite on black, with antialiased edges: uint8 3×H×W."""
    rgb = np.array(COLOURS[sprite.colour])[:, None, None]
    return np.rint(rgb * _coverage(*sprite[:5], height, width)).astype(np.uint8)


@lru_cache(maxsize=1)  # successive sprites differ in colour alone
def _coverage(shape: str, scale: float, rotation: int, x: float, y: float, height: int, width: int) -> Plane:
    """The share of each pixel that is within a shape, H×W."""
    unit = scale * RADIUS * min(height, width)
    right = (_subpixels(width) - x * width) / unit  #            (W * SUBPIXELS)
    down = (_subpixels(height)[:, None] - y * height) / unit  # (H * SUBPIXELS, 1)
    angle = math.radians(rotation)
    cos, sin = math.cos(angle), math.sin(angle)
    inside = _within(shape, cos * right + sin * down, cos * down - sin * right)
    return inside.reshape(height, SUBPIXELS, width, SUBPIXELS).mean((1, 3)).astype(np.float32)


def _subpixels(side: int) -> Plane:
    """Where the middles of subpixels are, in pixels."""
    return (np.arange(side * SUBPIXELS, dtype=np.float32) + np.float32(0.5)) / np.float32(SUBPIXELS)


def _within(shape: str, u: Plane, v: Plane) -> npt.NDArray[np.bool_]:
    """Which points are within a shape of radius 1 around the origin; u points to the right, v down."""
    if shape == "square":
        return np.maximum(np.abs(u), np.abs(v)) <= 0.75
    if shape == "ellipse":
        return np.square(u) + np.square(1.8 * v) <= 1
    u, v = 1.2 * u, 0.1 - 1.2 * v
    beyond = u * u + v * v - 1
    return beyond * beyond * beyond <= u * u * v * v * v  # a heart; powers would take ten times as long
