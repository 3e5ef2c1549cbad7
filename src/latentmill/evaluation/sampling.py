"""Draw samples from a trained model, by each way of drawing its codes."""

from collections.abc import Callable
from typing import cast, get_args

import numpy as np
import torch
from torch import Tensor

from latentmill.data.batches import chunk_size
from latentmill.draws import standard_normal
from latentmill.evaluation.finite import require_finite
from latentmill.variant import Decodes, PriorName, Variant, float_array

CHUNK = 1_000  # rows of noise drawn at a time


def routes(model: Variant) -> tuple[str, ...]:
    """The ways to sample: each prior of a model with codes; `pixels` for one without."""
    return get_args(PriorName) if isinstance(model, Decodes) else ("pixels",)


def default_route(model: Variant) -> str:
    """The way that `generate`, and so the exported generator, samples."""
    return model.prior_name if isinstance(model, Decodes) else "pixels"


@torch.no_grad()
def sample(model: Variant, route: str, count: int, seed: int) -> np.ndarray:
    """`count` images, uint8 (count, C, H, W): with the 8 bits that training images have, and exports as pictures.

    Raises:
        InputError: one is not finite.
    """
    generator = torch.Generator().manual_seed(seed)
    width, draw = _route(model, route)
    shape = draw(torch.zeros(1, width)).shape[1:]
    samples, at_a_time = np.empty((count, *shape), np.uint8), chunk_size(shape)
    for start in range(0, count, CHUNK):
        noise = standard_normal((min(CHUNK, count - start), width), generator)
        images = map(draw, noise.split(at_a_time))
        samples[start : start + len(noise)] = np.concatenate([_bytes(float_array(some)) for some in images])
    return samples


@torch.no_grad()
def sample_codes(model: Decodes, route: str, count: int, seed: int) -> np.ndarray:
    """`count` codes (count, d) from the prior of a route."""
    prior = model.prior(cast(PriorName, route))
    generator = torch.Generator().manual_seed(seed)
    return float_array(prior(standard_normal((count, prior.noise_width), generator)))


def _route(model: Variant, route: str) -> tuple[int, Callable[[Tensor], Tensor]]:
    if not isinstance(model, Decodes):
        return model.noise_width, model.generate
    prior = model.prior(cast(PriorName, route))
    return prior.noise_width, lambda noise: model.decode(prior(noise))


def _bytes(images: np.ndarray) -> np.ndarray:
    require_finite("samples", images)
    return np.rint(images.clip(0, 1) * 255).astype(np.uint8)
