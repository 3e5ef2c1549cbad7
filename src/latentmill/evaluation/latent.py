"""What does the latent space look like? Its use of each dimension, straight lines through it, a map of it."""

import numpy as np
import torch
from sklearn.decomposition import PCA

from latentmill.data.batches import Batches
from latentmill.densities import kl_from_standard_normal
from latentmill.variant import Decodes, Encodes, HasPosterior, float_array

ACTIVE_NATS = 0.01  # a dimension whose KL is below this carries nothing


@torch.no_grad()
def kl_per_dimension(model: HasPosterior, images: Batches, seed: int) -> np.ndarray:
    """Mean KL(q(z_j | x) || N(0, 1)) over the images, in nats: (d,)."""
    generator = torch.Generator(images.device).manual_seed(seed)
    kls = [kl_from_standard_normal(*model.posterior(model.observation.observe(x, generator))) for x in images.chunks()]
    return float_array(torch.cat(kls).mean(0))


def kl_metrics(kl: np.ndarray) -> dict[str, float]:
    """KL in total, and how many dimensions are in use."""
    return {"nats": float(kl.sum()), "active_dimensions": int((kl > ACTIVE_NATS).sum())}


@torch.no_grad()
def codes(model: Encodes, images: Batches) -> np.ndarray:
    """The code of each image: (N, d)."""
    return np.concatenate([float_array(model.encode(chunk)) for chunk in images.chunks()])


@torch.no_grad()
def interpolate(model: Decodes, starts: np.ndarray, ends: np.ndarray, steps: int) -> np.ndarray:
    """Decode `steps` points on the straight line between codes (N, d): (N, steps, C, H, W)."""
    weights = torch.linspace(0, 1, steps)[:, None, None]
    points = torch.lerp(torch.from_numpy(starts), torch.from_numpy(ends), weights).transpose(0, 1)  # (N, steps, d)
    return float_array(model.decode(points.flatten(0, 1)).unflatten(0, points.shape[:2]))


def map_to_plane(points: np.ndarray) -> np.ndarray:
    """Codes (N, d) -> (N, 2): their first two principal components; codes of one dimension against zero."""
    if points.shape[1] == 1:
        return np.column_stack([points, np.zeros(len(points))])
    return np.asarray(PCA(2).fit_transform(points))
