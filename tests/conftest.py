"""What several tests share: small real images, and small models of every variant."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from latentmill import variants
from latentmill.variant import Variant

IMAGE_SHAPE = (1, 8, 8)
# One small configuration of each kind of model that the tests loop over: variant -> configurations. A variant that is
# not named here is tested with its defaults.
CONFIGS = {
    "ppca": [{"latent": 5, "components": 3}, {"latent": 5, "components": 3, "prior": "mixture"}],
    "autoencoder": [{"latent": 3, "corruption": 0.25, "prior": "mixture"}, {"latent": 3, "network": "conv"}],
    "vae": [{"latent": 3}, {"latent": 3, "network": "conv", "observation": "gaussian", "beta": 2.0}],
}


@pytest.fixture(scope="session")
def digits() -> np.ndarray:
    """600 digits, uint8 (600, 1, 8, 8)."""
    images = load_digits().images[:600]
    return np.rint(images / 16 * 255).astype(np.uint8)[:, None]


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def build(name: str, config: dict[str, object], seed: int = 0) -> Variant:
    """An untrained model on 8x8 images."""
    torch.manual_seed(seed)
    return variants.build(name, config, IMAGE_SHAPE)
