"""Images of a later split that an earlier one has, exactly or nearly: resized, encoded anew, or shifted by a pixel.

Such twins let a model be rewarded for memory, and a copier pass for one that generalises. Candidates are found by
thumbnails of 8x8 grey values, then pixels decide.
"""

import hashlib
from dataclasses import dataclass

import faiss
import numpy as np

from latentmill.data.collection import Bytes
from latentmill.data.dataset import SPLITS
from latentmill.data.preparation.splits import Rows

THUMBNAIL = 8  # pixels a side
CANDIDATES = 8  # nearest thumbnails whose pixels are looked at
CLOSE_THUMBNAIL = 10.0  # root mean square difference of two thumbnails, of 255, above which pixels cannot agree
# Root mean square difference of two images at `SIDE` pixels, of 255, up to which they are one. Encoded anew as JPEG of
# quality 75, images of MNIST, Fashion-MNIST and 64-pixel emoji differ by 2.2 to 3.5 (99 % by less than 5.6) from what
# they were; no two different images of MNIST by less than 6.9, one in a thousand of Fashion-MNIST by less than 8.
SAME = 6.0
SIDE = 16  # pixels at which images are compared; smaller ones as they are
SHIFTS = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
SHIFTED_FROM = 16  # pixels a side; below that a pixel is a large part of the image
BLOCK = 2_000  # images at a time


@dataclass(frozen=True)
class Twins:
    """Images that are left out of a split, and the earlier images that they are copies of; indices of images."""

    rows: np.ndarray  # int64 (n)
    originals: np.ndarray  # int64 (n)


def without_copies(images: Bytes, rows: Rows, near: bool) -> tuple[Rows, dict[str, Twins]]:
    """The rows of each split without what an earlier split has, and what was left out; copies within a split stay.

    `images` are uint8 M×C×H×W; with `near`, near-duplicates are left out too.
    """
    digests = {row: hashlib.sha256(images[row].tobytes()).digest() for name in SPLITS for row in rows[name].tolist()}
    first: dict[bytes, int] = {}
    kept: Rows = {}
    left_out = {}
    for name in SPLITS:
        exact = {row: first[digests[row]] for row in rows[name].tolist() if digests[row] in first}
        fresh = np.array([row for row in rows[name].tolist() if row not in exact], np.int64)
        twins = _near(images, fresh, np.concatenate([*kept.values()])) if near and kept else {}
        found = exact | twins
        left_out[name] = Twins(np.array([*found], np.int64), np.array([*found.values()], np.int64))
        kept[name] = np.array([row for row in fresh.tolist() if row not in twins], np.int64)
        for row in kept[name].tolist():
            first.setdefault(digests[row], row)
    return kept, left_out


def _near(images: Bytes, later: np.ndarray, earlier: np.ndarray) -> dict[int, int]:
    """Of each of `later` that is nearly one of `earlier`: that one."""
    if not len(later) or not len(earlier):
        return {}
    index = faiss.IndexFlatL2(THUMBNAIL**2)
    for start in range(0, len(earlier), BLOCK):
        index.add(_thumbnails(images[earlier[start : start + BLOCK]].astype(np.float32)))
    found: dict[int, int] = {}
    for start in range(0, len(later), BLOCK):
        chosen = later[start : start + BLOCK]
        block = images[chosen].astype(np.float32)
        for shift in SHIFTS if min(images.shape[2:]) >= SHIFTED_FROM else [(0, 0)]:
            shifted = _shifted(block, *shift)
            squared, places = index.search(_thumbnails(shifted), min(CANDIDATES, len(earlier)))
            close = squared < CLOSE_THUMBNAIL**2 * THUMBNAIL**2
            for query, rank in zip(*np.nonzero(close), strict=True):
                original = int(earlier[places[query, rank]])
                if int(chosen[query]) not in found and _same(shifted[query], images[original], *shift):
                    found[int(chosen[query])] = original
    return found


def _thumbnails(images: np.ndarray) -> np.ndarray:
    """float32 N×C×H×W -> N×64."""
    return np.ascontiguousarray(_pooled(_colour(images).mean(1), THUMBNAIL).reshape(len(images), -1))


def _same(shifted: np.ndarray, original: Bytes, down: int, right: int) -> bool:
    """Whether an image, moved by a shift, agrees with the original, but for the edge that the shift brought in."""
    both = np.stack([shifted, original.astype(np.float32)])
    height, width = both.shape[2:]
    both = both[..., max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)]
    ours, theirs = _pooled(both, SIDE) if max(both.shape[2:]) > SIDE else both
    return float(np.sqrt(np.square(ours - theirs).mean())) <= SAME


def _shifted(images: np.ndarray, down: int, right: int) -> np.ndarray:
    return np.roll(images, (down, right), axis=(2, 3)) if down or right else images


def _colour(images: np.ndarray) -> np.ndarray:
    return images[:, :3] if images.shape[1] == 4 else images


def _pooled(images: np.ndarray, side: int) -> np.ndarray:
    """(..., H, W) -> (..., at most side, at most side), by means over equal parts."""
    down, across = (_parts(length, min(side, length)) for length in images.shape[-2:])
    return np.asarray(down @ images @ across.T, dtype=np.float32)


def _parts(length: int, parts: int) -> np.ndarray:
    """(parts, length): the share of each pixel in each part, rows of sum 1."""
    edges = np.linspace(0, length, parts + 1)
    pixels = np.arange(length)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    shares = overlap.clip(0)
    return np.asarray(shares / shares.sum(1, keepdims=True), dtype=np.float32)
