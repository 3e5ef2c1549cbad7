"""The latent space: the use of its dimensions or of its codebook, straight lines through it, a map of it.

Codes are float32 (N, d), each as a row, whatever its shape: N images, d dimensions. Images are float32 (…, C, H, W) in
[0, 1]. `labels` (N) are those of the images, for a conditional model.
"""

from typing import Any

import numpy as np
import torch

from latentmill.codes import codes_of, drawn_codes, float_array, require_finite
from latentmill.contract import Decodes, Encodes, HasPosterior
from latentmill.data.batches import Batches
from latentmill.densities import kl_from_standard_normal
from latentmill.features.distances import TooFew

LEAST_NATS = 0.01  # a dimension whose KL is below this has collapsed: it carries no information
LEAST_VARIANCE = 0.01  # of the codes of different images, in a dimension that is active (Burda et al. 2016)
LINES, STEPS = 200, 16  # lines whose steps are measured, and steps of each
CHUNK = 500  # codes decoded at a time, at most


@torch.no_grad()
def kl_per_dimension(model: HasPosterior, images: Batches, seed: int) -> np.ndarray:
    """Mean KL(q(z_j | x) || N(0, 1)) over the images, in nats: (d,)."""
    generator, kls = torch.Generator(images.device).manual_seed(seed), []
    for part in images.slices():
        batch = images.batch(part)
        x = model.observation.observe(batch["image"], generator)
        kls.append(kl_from_standard_normal(*model.posterior(x, batch.get("label"))).flatten(1))
    return float_array(torch.cat(kls).mean(0))


def kl_metrics(kl: np.ndarray) -> dict[str, Any]:
    """The total KL, from that of each dimension (d,) in nats, and the number of dimensions that have collapsed.

    The collapse is `complete` if no dimension is in use: then the decoder ignores the code.
    """
    collapsed = int((kl < LEAST_NATS).sum())
    degree = "none" if collapsed == 0 else "partial" if collapsed < len(kl) else "complete"
    return {"kl": float(kl.sum()), "collapse": degree, "collapsed_dimensions": collapsed}


def active_units(z: np.ndarray) -> int:
    """How many dimensions differ between images, from their codes without noise (N, d) (Burda et al. 2016)."""
    return int((z.var(0, dtype=np.float64) > LEAST_VARIANCE).sum())


def codebook_use(indices: np.ndarray, entries: int) -> dict[str, Any]:
    """Of codes that are indices (N, d) into a codebook: its entries, the share of them in use, and their perplexity.

    The perplexity is exp of the entropy of their frequencies: as many entries as that, if all were equally frequent.
    """
    counts = np.bincount(indices.astype(np.int64).ravel(), minlength=entries)
    shares = counts[counts > 0] / counts.sum()
    perplexity = float(np.exp(-(shares * np.log(shares)).sum()))
    return {"entries": entries, "entries_used": float((counts > 0).mean()), "perplexity": perplexity}


@torch.no_grad()
def codes(model: Encodes, images: Batches) -> np.ndarray:
    """The code of each image, without noise: (N, d).

    Raises:
        InputError: a code is not finite.
    """
    z = codes_of(model, images)
    require_finite("codes", z)
    return z.reshape(len(z), -1)


def posterior_draws(model: Encodes, images: Batches, seed: int) -> np.ndarray:
    """The code of each image, (N, d): a draw from its posterior, if it has one, to compare with draws from a prior.

    Raises:
        InputError: a code is not finite.
    """
    z = drawn_codes(model, images, torch.Generator(images.device).manual_seed(seed))
    return z.reshape(len(z), -1)


@torch.no_grad()
def decode(model: Decodes, z: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
    """Codes (N, d) -> images (N, C, H, W), a chunk at a time."""
    codes = torch.tensor(z, dtype=torch.float32).unflatten(1, model.code_shape)
    own = None if labels is None else torch.from_numpy(np.asarray(labels))
    parts = [slice(start, start + CHUNK) for start in range(0, len(codes), CHUNK)]
    return np.concatenate(
        [float_array(model.decode(codes[part], None if own is None else own[part])) for part in parts]
    )


def interpolate(
    model: Decodes, starts: np.ndarray, ends: np.ndarray, steps: int, labels: np.ndarray | None = None
) -> np.ndarray:
    """Decode `steps` points on the straight line between codes (N, d): (N, steps, C, H, W); with the starts' labels."""
    weights = np.linspace(0, 1, steps, dtype=np.float32)[:, None]
    points = starts[:, None] * (1 - weights) + ends[:, None] * weights  # (N, steps, d)
    return _decoded_lines(model, points, labels)


def path_longest_step(model: Decodes, z: np.ndarray, seed: int, labels: np.ndarray | None = None) -> float:
    """How evenly images change along straight lines between codes (N, d), at least 1: the median over the lines.

    A line's value is the longest distance in pixels between two successive images over the mean one: 1 if all steps
    are equally long, and up to the number of steps if the image jumps. It is 1 for lines along which nothing changes.

    Raises:
        TooFew: there are not the 2 images that a line needs.
    """
    if len(z) < 2:
        raise TooFew(f"a line through the latent space needs 2 images, but got {len(z)}")
    order, lines, some = np.random.default_rng(seed).permutation(len(z)), min(LINES, len(z) // 2), CHUNK // STEPS
    starts, ends = order[:lines], order[lines : 2 * lines]
    parts = [slice(first, first + some) for first in range(0, lines, some)]
    own = [None if labels is None else labels[starts[part]] for part in parts]
    pairs = zip(parts, own, strict=True)
    drawn = (interpolate(model, z[starts[part]], z[ends[part]], STEPS, label) for part, label in pairs)
    return float(np.median(np.concatenate([_longest_steps(images) for images in drawn])))


def _longest_steps(images: np.ndarray) -> np.ndarray:
    """(N, steps, C, H, W) -> (N): the longest step over the mean step."""
    steps = np.sqrt(np.square(np.diff(images, axis=1), dtype=np.float64).sum((2, 3, 4)))  # (N, steps - 1)
    mean, longest = steps.mean(1), steps.max(1)
    return np.divide(longest, mean, out=np.ones_like(mean), where=mean > 0)


def traversals(
    model: Decodes,
    z: np.ndarray,
    activity: np.ndarray,
    labels: np.ndarray | None = None,
    rows: int = 10,
    steps: int = 11,
) -> np.ndarray:
    """The effect of single dimensions: images (R, steps, C, H, W) for the R = min(`rows`, d) most active ones.

    Each dimension goes from -3 to 3 standard deviations of the codes `z` (N, d) around their mean, while the others
    stay at theirs. `activity` (d) ranks the dimensions, highest first: their KL, or else the variance of their codes.
    A conditional model is given the most frequent label.
    """
    chosen = np.argsort(-activity, kind="stable")[:rows]
    points = np.tile(z.mean(0), (len(chosen), steps, 1))  # (R, steps, d)
    for row, dimension in enumerate(chosen):
        points[row, :, dimension] += np.linspace(-3, 3, steps) * z[:, dimension].std()
    return _decoded_lines(model, points, None if labels is None else np.full(len(chosen), np.bincount(labels).argmax()))


def map_to_plane(z: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes (N, d) and others (M, d) on the plane of the first two principal components of `z`: (N, 2), (M, 2).

    If codes have one dimension, or there is one code, the second coordinate is 0.
    """
    centre = z.mean(0)
    components = np.linalg.svd(z - centre, full_matrices=False)[2][:2]
    axes = np.zeros((2, z.shape[1]), z.dtype)
    axes[: len(components)] = components
    return (z - centre) @ axes.T, (others - centre) @ axes.T


def _decoded_lines(model: Decodes, points: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    """(N, steps, d) -> (N, steps, C, H, W)."""
    own = None if labels is None else np.repeat(labels, points.shape[1])
    images = decode(model, points.reshape(-1, points.shape[2]), own)
    return images.reshape(*points.shape[:2], *images.shape[1:])
