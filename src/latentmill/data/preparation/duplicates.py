"""Images of a later split that an earlier one has, exactly or nearly: resized, encoded anew, or shifted by a pixel.

Such duplicates reward a model for memorising, and hide copies from Rule 2. Candidates are found by
blurred thumbnails, then pixels decide. docs/decisions.md has what the limits rest on.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np

from latentmill.data.collection import Bytes, OnProgress
from latentmill.data.dataset import SPLITS
from latentmill.data.preparation.looks import SHIFTS, UNMOVED, Looks, differences
from latentmill.data.preparation.splits import Rows

CANDIDATES = 8  # nearest thumbnails whose pixels are looked at …
CANDIDATES_MOVED = 2  # … and of the image moved by a pixel
CLOSE = 10.0  # root mean square difference of two thumbnails, of 255, above which pixels can't agree
SAME = 6.0  # root mean square difference of two images, of 255, up to which they are one
SIMILAR = 9.0  # the same, where it is also less than …
MUCH_NEARER = 0.3  # … this times that to the farthest of the candidates
INDEXED_FROM = 20_000  # images, above which only the cells of the index that are nearest are searched
CELLS, PROBES = 1_000, 8


@dataclass(frozen=True)
class Duplicates:
    """Images that are dropped from a split, and their originals in earlier splits; indices of images."""

    rows: np.ndarray  # int64 (n)
    originals: np.ndarray  # int64 (n)


def without_copies(images: Bytes, rows: Rows, near: bool, progress: OnProgress) -> tuple[Rows, dict[str, Duplicates]]:
    """The rows of each split without what an earlier split has, and what was left out; copies within a split stay.

    `images` are uint8 M×C×H×W; with `near`, near-duplicates are left out too.
    """
    digests = _digests(images, np.concatenate([rows[name] for name in SPLITS]), progress)
    first: dict[bytes, int] = {}
    kept: Rows = {}
    left_out = {}
    for name in SPLITS:
        exact = {row: first[digests[row]] for row in rows[name].tolist() if digests[row] in first}
        fresh = np.array([row for row in rows[name].tolist() if row not in exact], np.int64)
        duplicates = _near(images, fresh, np.concatenate([*kept.values()]), progress) if near and kept else {}
        found = exact | duplicates
        left_out[name] = Duplicates(np.array([*found], np.int64), np.array([*found.values()], np.int64))
        kept[name] = np.array([row for row in fresh.tolist() if row not in duplicates], np.int64)
        for row in kept[name].tolist():
            first.setdefault(digests[row], row)
    return kept, left_out


def _digests(images: Bytes, rows: np.ndarray, progress: OnProgress) -> dict[int, bytes]:
    found = {}
    for done, row in enumerate(rows.tolist()):
        found[row] = hashlib.sha256(images[row].tobytes()).digest()
        if done % 100 == 0:
            progress("images compared", done, len(rows))
    return found


def _near(images: Bytes, later: np.ndarray, earlier: np.ndarray, progress: OnProgress) -> dict[int, int]:
    """The original among `earlier` of each near-duplicate in `later`."""
    if not len(later) or not len(earlier):
        return {}
    looks = Looks(*images.shape[1:])
    index = _index(images, earlier, looks, progress)
    found: dict[int, int] = {}
    for start in range(0, len(later), looks.block):
        block = later[start : start + looks.block]
        duplicates = _near_duplicates(images, block, earlier, index, looks)
        found |= {int(block[place]): original for place, original in duplicates.items()}
        progress("images looked for among earlier splits", start + len(block), len(later))
    return found


def _index(images: Bytes, rows: np.ndarray, looks: Looks, progress: OnProgress) -> Any:
    thumbnails = np.empty((len(rows), looks.thumbnail_size), np.float32)
    for start in range(0, len(rows), looks.block):
        block = rows[start : start + looks.block]
        thumbnails[start : start + len(block)] = looks.thumbnails(images[block])
        progress("thumbnails", start + len(block), len(rows))
    flat = faiss.IndexFlatL2(looks.thumbnail_size)
    if len(rows) <= INDEXED_FROM:
        flat.add(thumbnails)
        return flat
    index = faiss.IndexIVFFlat(flat, looks.thumbnail_size, CELLS)
    index.cp.min_points_per_centroid, index.cp.max_points_per_centroid = 1, 40
    index.train(thumbnails)
    index.add(thumbnails)
    index.nprobe = PROBES
    return index


def _near_duplicates(images: Bytes, block: np.ndarray, earlier: np.ndarray, index: Any, looks: Looks) -> dict[int, int]:
    """The row of the original of each near-duplicate, by place in the block."""
    ours = images[block]
    least = np.full(len(block), np.inf)
    originals = np.full(len(block), -1, np.int64)
    reference = np.zeros((len(block), 0), np.int64)
    for shift in SHIFTS if looks.may_move else [UNMOVED]:
        count = CANDIDATES if shift == UNMOVED else CANDIDATES_MOVED
        squared, places = index.search(looks.thumbnails(ours, shift), min(count, len(earlier)))
        if shift == UNMOVED:
            reference = places
        close = (places >= 0) & (squared < CLOSE**2 * looks.thumbnail_size)
        queries, ranks = np.nonzero(close)
        rows = earlier[places[queries, ranks]]
        found = differences(looks, ours, queries, images, rows, shift)
        for query, row, difference in zip(queries.tolist(), rows.tolist(), found.tolist(), strict=True):
            if difference < least[query]:
                least[query], originals[query] = difference, row
    for query in np.nonzero((least > SAME) & (least <= SIMILAR))[0].tolist():
        others = earlier[reference[query][reference[query] >= 0]]
        if least[query] > MUCH_NEARER * _farthest(looks, ours[query], images, others):
            least[query] = np.inf
    return {place: int(originals[place]) for place in np.nonzero(least <= SIMILAR)[0].tolist()}


def _farthest(looks: Looks, image: Bytes, images: Bytes, rows: np.ndarray) -> float:
    """The root mean square difference of an image to the farthest of `rows`."""
    ours, theirs = looks.pixels(image[None])[0], looks.pixels(images[rows])[0]
    return float(np.sqrt(np.square(ours - theirs).mean((1, 2, 3))).max(initial=0))
