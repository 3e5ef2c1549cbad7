"""The pictures of an entry on the page. Each is embedded once."""

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from latentmill.data.tiles import tile_size
from latentmill.report.captions import KINDS, OTHER, Kind, Subject, kind_of_picture
from latentmill.report.inputs import Entry, Json
from latentmill.runtime.images import SMALLEST_CELL, grid, png

LARGE = 1 << 16  # bytes of a picture
WEBP_SIDE = 16_383  # pixels, the most that the format has
QUALITY = 80


@dataclass(frozen=True)
class Picture:
    """A picture of an entry, with its caption."""

    title: str
    caption: str
    kind: str
    prior: str  # empty: not of samples
    group: str
    chart: bool
    png: bytes

    @property
    def uri(self) -> str:
        return uri(self.png)

    @cached_property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        with Image.open(io.BytesIO(self.png)) as image:
            return image.size


@dataclass(frozen=True)
class Gallery:
    """A sheet of tiles without gaps: each row is a sample and its nearest training images, nearest first."""

    sheet: str  # its name as a CSS class
    picture: Picture
    columns: int
    width: int  # of a tile on screen, in CSS pixels: a whole multiple of its own
    height: int
    distances: list[list[float]]  # of each row; empty where unknown


def uri(png: bytes) -> str:
    """A data: URI. As lossless WebP a chart has a third of the bytes; a large picture in colour loses a little, too.

    evaluation/ has the exact ones.
    """
    kind, content = min((("png", png), *_compressed(png)), key=lambda found: len(found[1]))
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _compressed(png: bytes) -> Iterator[tuple[str, bytes]]:
    """As WebP without loss, and if that is large and in colour, of high quality; grey pictures have sharp edges."""
    with Image.open(io.BytesIO(png)) as image:
        if max(image.size) > WEBP_SIDE:
            return
        yield "webp", (exact := _webp(image, lossless=True, exact=True))
        if len(exact) > LARGE and image.mode in ("RGB", "RGBA"):
            yield "webp", _webp(image, quality=QUALITY)


def _webp(image: Image.Image, **how: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "WEBP", **how)
    return file.getvalue()


def pictures(entry: Entry, manifest: Json) -> list[Picture]:
    """In the order of the page: by kind, unknown kinds last, then by prior."""
    kinds, priors = list(KINDS), list(entry.metrics["samples"])

    def place(path: Path) -> tuple[int, int]:
        kind, prior = kind_of_picture(path.stem)
        return _index(kinds, kind), _index(priors, prior)

    return [_picture(path, entry, manifest) for path in sorted(entry.pictures, key=place)]


def gallery(sheet: str, picture: Picture, distances: list[list[float]], shape: list[int]) -> Gallery:
    """`shape` is that of an image, (C, H, W), and determines how many tiles the picture has."""
    (wide, high), (height, width) = picture.size, tile_size(*shape[1:])
    scale = ceil(SMALLEST_CELL / max(height, width))
    rows = range(max(1, high // height))
    known = [list(row) for row, _ in zip_longest(distances[: len(rows)], rows, fillvalue=())]
    return Gallery(sheet, picture, max(2, wide // width), width * scale, height * scale, known)


def strip(images: np.ndarray, columns: int) -> bytes:
    """uint8 images (N, C, H, W) side by side, as a PNG."""
    return png(grid(images.astype(np.float32) / 255, columns))


def shown_distances(galleries: Json, prior: str) -> list[list[float]]:
    """The distances in galleries.json of the samples under one prior."""
    found: list[list[float]] = galleries.get(prior, {}).get("distances", [])
    return found


def _index(known: list[str], name: str) -> int:
    return known.index(name) if name in known else len(known)


def _picture(path: Path, entry: Entry, manifest: Json) -> Picture:
    name, prior = kind_of_picture(path.stem)
    kind = KINDS.get(name, Kind(name, OTHER, chart=True, caption=lambda subject: ""))
    caption = kind.caption(Subject(entry.metrics, prior, manifest))
    return Picture(kind.title, caption, name, prior, kind.group, kind.chart, path.read_bytes())
