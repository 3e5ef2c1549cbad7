"""How probable does a model find images it has never seen?

`exact` is log p(x) itself. `bound` is the importance-weighted lower bound on it,
    log 1/K sum_k p(x | z_k) p(z_k) / q(z_k | x),  z_k ~ q(z | x),
which rises to log p(x) as K grows (Burda et al. 2016).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from latentmill.data.batches import Batches
from latentmill.densities import gaussian_log_prob, log_mean_exp
from latentmill.draws import standard_normal
from latentmill.variant import HasLikelihood, HasPosterior, Variant

IMAGES_AT_A_TIME = 8  # times K codes: the batch the decoder sees


@dataclass(frozen=True)
class Likelihood:
    """Negative log-likelihood of test images, lower is better."""

    kind: str  # "exact", or "bound (K samples)"
    nats: float  # mean negative log-likelihood, nats per image
    standard_error: float  # of that mean over the images
    bits_per_dimension: float  # of 8-bit pixel values for densities, of binary pixels otherwise
    images: int
    sample_space: str  # numbers compare only within one


@torch.no_grad()
def evaluate_likelihood(model: Variant, images: Batches, samples: int, seed: int) -> Likelihood | None:
    """The exact likelihood where a model has one, else the bound with K = `samples`; None where it has neither.

    The observed x is drawn from the grey values under `seed`, the same draw for every model with the same
    observation model.
    """
    if not isinstance(model, HasLikelihood | HasPosterior):
        return None
    observing, sampling = (torch.Generator(images.device).manual_seed(seed + offset) for offset in (0, 1))
    observed = torch.cat([model.observation.observe(chunk, observing) for chunk in images.chunks()])
    exact = isinstance(model, HasLikelihood)
    log_p = torch.cat(
        [
            model.log_p_x(x) if isinstance(model, HasLikelihood) else importance_bound(model, x, samples, sampling)
            for x in observed.split(IMAGES_AT_A_TIME)
        ]
    ).double()
    nats = -float(log_p.mean())
    return Likelihood(
        kind="exact" if exact else f"bound ({samples} samples)",
        nats=nats,
        standard_error=float(log_p.std() / math.sqrt(len(log_p))),
        bits_per_dimension=(nats / math.prod(images.image_shape) - model.observation.log_volume) / math.log(2),
        images=len(log_p),
        sample_space=model.observation.sample_space,
    )


def importance_bound(model: HasPosterior, x: Tensor, samples: int, generator: torch.Generator) -> Tensor:
    """The bound on log p(x) with exactly K = `samples` codes an image, in nats: (B, C, H, W) -> (B)."""
    mean, log_variance = model.posterior(x)  # (B, d)
    noise = standard_normal((samples, *mean.shape), generator)  # (K, B, d)
    z = mean + torch.exp(0.5 * log_variance) * noise
    log_p_z = gaussian_log_prob(z, torch.zeros_like(z), torch.zeros_like(z)).sum(-1)
    log_q_z = gaussian_log_prob(z, mean, log_variance).sum(-1)
    return log_mean_exp(model.log_p_x_given_z(x, z) + log_p_z - log_q_z, dim=0)
