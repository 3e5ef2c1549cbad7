"""How similar two images look: as thumbnails that are quick to search, and as pixels, whatever was done to one of them.

Each view of an image is linear in its pixels, rows and columns apart: left @ image @ right.T.
"""

import numpy as np
from PIL import Image

from latentmill.data.collection import Bytes

Shift = tuple[int, int]  # pixels down and right

THUMBNAIL = 8  # pixels a side
BLUR = 0.6  # of a thumbnail's pixel: the standard deviation of the blur before
SIDE = 16  # pixels at which images are compared; smaller ones as they are
MOVED_FROM = 16  # pixels a side; below that a pixel is a large part of the image, and so is half the resolution
LOCAL = 40.0  # levels of 255
FAINT = 0.2
UNMOVED: Shift = (0, 0)
SHIFTS: list[Shift] = [UNMOVED, *((down, right) for down in (-1, 0, 1) for right in (-1, 0, 1) if down or right)]
BLOCK_BYTES = 1 << 26  # of images at a time, as floats


class Looks:
    """The views of images of one size."""

    def __init__(self, channels: int, height: int, width: int) -> None:
        self.block = max(1, min(1_000, BLOCK_BYTES // (4 * channels * height * width)))  # images at a time
        self.may_move = min(height, width) >= MOVED_FROM
        self._thumbnails = [_shifted(_parts(n, min(THUMBNAIL, n)) @ _blur(n)) for n in (height, width)]
        self._plain = [_shifted(_parts(n, min(SIDE, n))) for n in (height, width)]
        self._soft = [_shifted(_parts(n, min(SIDE, n)) @ _halved(n)) for n in (height, width)]
        self.thumbnail_size = min(THUMBNAIL, height) * min(THUMBNAIL, width)

    def thumbnails(self, images: Bytes, shift: Shift = UNMOVED) -> np.ndarray:
        """float32 N×64 of N×C×H×W: grey, blurred, and moved by `shift` before."""
        grey = images.mean(1, dtype=np.float32)
        return np.ascontiguousarray(_seen(grey, self._thumbnails, shift).reshape(len(images), -1))

    def pixels(self, images: Bytes, shift: Shift = UNMOVED) -> tuple[np.ndarray, np.ndarray]:
        """Two of N×C×16×16: as they are, and as if they had been at half their resolution."""
        floats = images.astype(np.float32)
        return _seen(floats, self._plain, shift), _seen(floats, self._soft, shift)


def differences(
    looks: Looks, ours: Bytes, queries: np.ndarray, images: Bytes, rows: np.ndarray, shift: Shift
) -> np.ndarray:
    """Of each pair `ours[query]`, moved by `shift`, and `images[row]`: the root mean square difference of pixels.

    Of the images that lie between one of the two and its own half resolution, the one that is nearest to the other
    counts: whoever resizes an image does something of the kind. The edge that a shift brings in does not count.
    Infinite where the two differ by more than `LOCAL` at one place, or by more than `FAINT` of their contrast: that is
    other content, as the mouth of another face, or a pale shape that is another.
    """
    found = [np.zeros(0, np.float32)]
    inner = slice(None) if shift == UNMOVED else slice(1, -1)
    for start in range(0, len(queries), looks.block):
        of = slice(start, start + looks.block)
        unique, place = np.unique(queries[of], return_inverse=True)
        a, soft_a = (view[place][..., inner, inner] for view in looks.pixels(ours[unique], shift))
        b, soft_b = (view[..., inner, inner] for view in looks.pixels(images[rows[of]]))
        nearest = _to_segment(a, b, soft_b), _to_segment(b, a, soft_a)
        least = np.minimum(*nearest) if looks.may_move else _to_segment(a, b, b)
        contrast = b.std((1, 2, 3))
        found.append(np.where(least <= np.maximum(FAINT * contrast, 1), least, np.inf))
    return np.concatenate(found)


def _to_segment(point: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Root mean square distance of N points to the segments from `start` to `end`; infinite above `LOCAL` somewhere."""
    size = int(np.prod(point.shape[1:]))
    to_point, along = ((each - start).reshape(len(point), size) for each in (point, end))
    length = np.einsum("ij,ij->i", along, along)
    share = np.clip(np.einsum("ij,ij->i", to_point, along) / np.maximum(length, 1e-6), 0, 1)
    between = to_point - share[:, None] * along
    return np.where(np.abs(between).max(1) <= LOCAL, np.sqrt(np.square(between).mean(1)), np.inf)


def _seen(images: np.ndarray, views: list[dict[int, np.ndarray]], shift: Shift) -> np.ndarray:
    down, right = shift
    return np.asarray(views[0][down] @ images @ views[1][right].T)


def _shifted(view: np.ndarray) -> dict[int, np.ndarray]:
    """A view of a line of pixels, and the same after the line moved by a pixel; the edge is repeated."""
    length = view.shape[1]
    unmoved = np.eye(length, dtype=np.float32)
    return {by: view @ unmoved[np.clip(np.arange(length) - by, 0, length - 1)] for by in (-1, 0, 1)}


def _parts(length: int, parts: int) -> np.ndarray:
    """(parts, length): the share of each pixel in each part, rows of sum 1."""
    edges = np.linspace(0, length, parts + 1)
    pixels = np.arange(length)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    shares = overlap.clip(0)
    return np.asarray(shares / shares.sum(1, keepdims=True), dtype=np.float32)


def _blur(length: int) -> np.ndarray:
    """(length, length): a Gaussian blur of a line."""
    deviation = BLUR * length / min(THUMBNAIL, length)
    distances = np.subtract.outer(np.arange(length), np.arange(length)) / deviation
    weights = np.exp(-np.square(distances) / 2)
    return np.asarray(weights / weights.sum(1, keepdims=True), dtype=np.float32)


def _halved(length: int) -> np.ndarray:
    """(length, length): a line made half as long, and then as long as it was."""
    unit = Image.fromarray(np.eye(length, dtype=np.float32))
    half = unit.resize((max(1, length // 2), length), Image.Resampling.LANCZOS)
    return np.asarray(half.resize((length, length), Image.Resampling.BICUBIC)).T
