"""Draws samples from a model, under each of its priors."""

import numpy as np
import torch
from torch import Tensor

from latentmill.codes import Generator, float_array, frequent_labels, require_finite
from latentmill.contract import Model
from latentmill.data.batches import chunk_size
from latentmill.draws import standard_normal

CHUNK = 1_000  # rows of noise drawn at a time
OWN = "own"  # stands for the prior of a model that turns noise into images itself


def generators(model: Model, priors: dict[str, Model]) -> dict[str, Generator]:
    """What samples are drawn with: the model under each of its `priors`, or under its own."""
    return {name: Generator(model, prior) for name, prior in priors.items()} or {OWN: Generator(model)}


@torch.no_grad()
def sample(generator: Generator, count: int, seed: int, labels: np.ndarray | None = None) -> np.ndarray:
    """`count` images, uint8 (count, C, H, W): with 8 bits, as training images and pictures of exports have.

    Those of a conditional model have labels that are drawn by their frequency among `labels` (N), of training images.

    Raises:
        InputError: one is not finite.
    """
    shape = generator.model.shape
    samples, at_a_time = np.empty((count, *shape), np.uint8), chunk_size(shape)
    drawing = torch.Generator().manual_seed(seed)
    chosen = _chosen_labels(generator, count, seed, labels)
    for start in range(0, count, CHUNK):
        noise = standard_normal((min(CHUNK, count - start), generator.noise_width), drawing)
        parts = [slice(first, first + at_a_time) for first in range(0, len(noise), at_a_time)]
        own = None if chosen is None else chosen[start : start + CHUNK]
        images = [generator(noise[part], None if own is None else own[part])[0] for part in parts]
        samples[start : start + len(noise)] = np.concatenate([_finite_bytes(float_array(some)) for some in images])
    return samples


@torch.no_grad()
def sample_codes(
    generator: Generator, count: int, seed: int, labels: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """`count` codes (count, d), each as a row, and their labels (count), drawn as in `sample` if it is conditional."""
    noise = standard_normal((count, generator.noise_width), torch.Generator().manual_seed(seed))
    chosen = _chosen_labels(generator, count, seed, labels)
    return float_array(generator.code(noise, chosen).flatten(1)), None if chosen is None else chosen.numpy()


def _chosen_labels(generator: Generator, count: int, seed: int, labels: np.ndarray | None) -> Tensor | None:
    if not generator.is_conditional:
        return None
    assert labels is not None  # else the model could not have been trained
    return frequent_labels(labels, count, seed)


def as_bytes(images: np.ndarray) -> np.ndarray:
    """Images that a model made, floats in about [0, 1], as uint8: what the evaluation judges."""
    return np.rint(images.clip(0, 1) * 255).astype(np.uint8)


def _finite_bytes(images: np.ndarray) -> np.ndarray:
    require_finite("samples", images)
    return as_bytes(images)
