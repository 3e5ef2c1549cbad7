"""Draws samples from a trained model, under each of its priors."""

from collections.abc import Callable
from typing import cast, get_args

import numpy as np
import torch
from torch import Tensor

from latentmill.contract import Decodes, Model, PriorName, float_array
from latentmill.data.batches import chunk_size
from latentmill.draws import standard_normal
from latentmill.evaluation.finite import require_finite

CHUNK = 1_000  # rows of noise drawn at a time
NO_CODES = "pixels"  # stands for the prior of a model without codes, which draws pixels


def priors(model: Model) -> tuple[str, ...]:
    """The priors of a model with codes; `NO_CODES` for one without."""
    return get_args(PriorName) if isinstance(model, Decodes) else (NO_CODES,)


def exported_prior(model: Model) -> str:
    """The prior of `generate`, and so of the exported generator."""
    return model.prior_name if isinstance(model, Decodes) else NO_CODES


@torch.no_grad()
def sample(model: Model, prior: str, count: int, seed: int) -> np.ndarray:
    """`count` images, uint8 (count, C, H, W): with 8 bits, as training images and pictures of exports have.

    Raises:
        InputError: one is not finite.
    """
    generator = torch.Generator().manual_seed(seed)
    width, draw = _sampler(model, prior)
    shape = draw(torch.zeros(1, width)).shape[1:]
    samples, at_a_time = np.empty((count, *shape), np.uint8), chunk_size(shape)
    for start in range(0, count, CHUNK):
        noise = standard_normal((min(CHUNK, count - start), width), generator)
        images = map(draw, noise.split(at_a_time))
        samples[start : start + len(noise)] = np.concatenate([_bytes(float_array(some)) for some in images])
    return samples


@torch.no_grad()
def sample_codes(model: Decodes, prior: str, count: int, seed: int) -> np.ndarray:
    """`count` codes (count, d) from one prior."""
    fitted = model.prior(cast(PriorName, prior))
    generator = torch.Generator().manual_seed(seed)
    return float_array(fitted(standard_normal((count, fitted.noise_width), generator)))


def _sampler(model: Model, prior: str) -> tuple[int, Callable[[Tensor], Tensor]]:
    """The width of the noise, and the map from noise to images."""
    if not isinstance(model, Decodes):
        return model.noise_width, model.generate
    fitted = model.prior(cast(PriorName, prior))
    return fitted.noise_width, lambda noise: model.decode(fitted(noise))


def _bytes(images: np.ndarray) -> np.ndarray:
    require_finite("samples", images)
    return np.rint(images.clip(0, 1) * 255).astype(np.uint8)
