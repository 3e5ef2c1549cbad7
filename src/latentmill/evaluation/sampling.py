"""Draws samples from a model, under each of its priors."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from latentmill.codes import Generator, float_array, frequent_labels, require_finite
from latentmill.config import OWN
from latentmill.contract import Generates, Model
from latentmill.data.batches import chunk_size
from latentmill.draws import standard_normal

CHUNK = 1_000  # rows of noise drawn at a time


def generators(model: Model, priors: dict[str, Model]) -> dict[str, Generator]:
    """What samples are drawn with: the model by itself, where it can, and under each of its `priors`."""
    own = {OWN: Generator(model)} if isinstance(model, Generates) else {}
    return own | {name: Generator(model, prior) for name, prior in priors.items()}


@dataclass(frozen=True, eq=False)
class Samples:
    """What was drawn from one generator."""

    images: np.ndarray  # uint8 (N, C, H, W): with 8 bits, as training images and pictures of exports have
    codes: np.ndarray | None  # float32 (N, d), each as a row, where the model has any
    labels: np.ndarray | None  # int64 (N), given to the model, where it is conditional

    def __len__(self) -> int:
        return len(self.images)


@torch.no_grad()
def sample(generator: Generator, count: int, seed: int, labels: np.ndarray | None = None) -> Samples:
    """`count` samples; a conditional model's labels are drawn by their frequency among those of training images (N).

    Raises:
        InputError: a value of an image is not finite.
    """
    shape, drawing = generator.model.shape, torch.Generator().manual_seed(seed)
    images, codes, at_a_time = np.empty((count, *shape), np.uint8), [], chunk_size(shape)
    chosen = _chosen_labels(generator, count, seed, labels)
    for start in range(0, count, CHUNK):
        noise = standard_normal((min(CHUNK, count - start), generator.noise_width), drawing)
        for first in range(0, len(noise), at_a_time):
            place = slice(start + first, start + min(first + at_a_time, len(noise)))
            made, *code = generator(noise[first : first + at_a_time], None if chosen is None else chosen[place])
            images[place] = _finite_bytes(float_array(made))
            codes += [float_array(each.flatten(1)) for each in code]
    return Samples(images, np.concatenate(codes) if codes else None, None if chosen is None else chosen.numpy())


def _chosen_labels(generator: Generator, count: int, seed: int, labels: np.ndarray | None) -> Tensor | None:
    if not generator.is_conditional:
        return None
    assert labels is not None  # else the model could not have been trained
    return frequent_labels(labels, count, seed)


def as_uint8(images: np.ndarray) -> np.ndarray:
    """Images that a model made, floats in about [0, 1], as uint8: what the evaluation judges."""
    return np.rint(images.clip(0, 1) * 255).astype(np.uint8)


def _finite_bytes(images: np.ndarray) -> np.ndarray:
    require_finite("samples", images)
    return as_uint8(images)
