"""pythae's variational family with our MLP, as peers of our models; settings are those of its repository for MNIST."""

from typing import Any

import numpy as np
import torch
from pythae.models import (
    INFOVAE_MMD,
    IWAE,
    RAE_L2,
    VAMP,
    Adversarial_AE,
    Adversarial_AE_Config,
    AEConfig,
    BetaTCVAE,
    BetaTCVAEConfig,
    FactorVAE,
    FactorVAEConfig,
    INFOVAE_MMD_Config,
    IWAEConfig,
    VAMPConfig,
)
from pythae.samplers import VAMPSampler
from pythae.trainers.trainer_utils import set_seed
from torch import Tensor

from benchmarks import pythae_models
from benchmarks.family import HIDDEN
from benchmarks.pythae_models import LATENT, Decoder, Encoder
from latentmill.evaluation.sampling import as_uint8
from latentmill.networks import NetworkConfig, Shape

FAMILY: dict[str, tuple[Any, Any, dict[str, Any]]] = pythae_models.FAMILY | {
    "IWAE": (IWAE, IWAEConfig, {"number_samples": 5, "beta": 1.0}),
    "InfoVAE": (INFOVAE_MMD, INFOVAE_MMD_Config, {"kernel_choice": "imq", "alpha": 0.5, "lbd": 1.0}),
    "β-TC": (BetaTCVAE, BetaTCVAEConfig, {"alpha": 1.0, "beta": 2.0, "gamma": 1.0}),
    "FactorVAE": (FactorVAE, FactorVAEConfig, {"gamma": 10.0}),
    "AAE": (Adversarial_AE, Adversarial_AE_Config, {"adversarial_loss_scale": 0.5}),
    "VAMP": (VAMP, VAMPConfig, {"number_components": 50}),
}


def build(name: str, shape: Shape) -> Any:
    """The model of `FAMILY` for images of a shape."""
    kind, config_class, settings = FAMILY[name]
    network, has_posterior = NetworkConfig(network="mlp", hidden=HIDDEN), not issubclass(config_class, AEConfig)
    config = config_class(input_dim=shape, latent_dim=LATENT, **settings)
    return kind(config, Encoder(network, shape, LATENT, has_posterior), Decoder(network, shape, LATENT))


@torch.no_grad()
def sampled(model: Any, images: Tensor, count: int, seed: int) -> np.ndarray:
    """Samples, uint8 (count, C, H, W), by pythae's sampler for the model; a mixture is fitted to `images`."""
    model.eval()
    if isinstance(model, VAMP):
        set_seed(seed)
        return as_uint8(VAMPSampler(model).sample(count).numpy())
    if isinstance(model, RAE_L2):
        return pythae_models.sampled(model, images, count, seed)[0]
    return pythae_models.sampled_from_normal(model, count, seed)
