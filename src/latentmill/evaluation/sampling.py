"""Draw samples from a trained model, by each way of drawing its codes."""

from collections.abc import Callable
from typing import cast, get_args

import numpy as np
import torch
from torch import Tensor

from latentmill.draws import standard_normal
from latentmill.variant import Decodes, PriorName, Variant, float_array

CHUNK = 1_000


def routes(model: Variant) -> tuple[str, ...]:
    """The ways to sample: each prior of a model with codes; `pixels` for one without."""
    return get_args(PriorName) if isinstance(model, Decodes) else ("pixels",)


def default_route(model: Variant) -> str:
    """The way that `generate`, and so the exported generator, samples."""
    return model.prior_name if isinstance(model, Decodes) else "pixels"


@torch.no_grad()
def sample(model: Variant, route: str, count: int, seed: int) -> np.ndarray:
    """`count` images (count, C, H, W) in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    width, draw = _route(model, route)
    sizes = [min(CHUNK, count - start) for start in range(0, count, CHUNK)]
    return np.concatenate([float_array(draw(standard_normal((size, width), generator))) for size in sizes])


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
