"""pythae's variational family with our MLP, as peers of our models; settings are those of its repository for MNIST."""

from typing import Any

import numpy as np
import torch
from pythae.models import (
    INFOVAE_MMD,
    IWAE,
    RAE_L2,
    VAE,
    VAMP,
    WAE_MMD,
    Adversarial_AE,
    Adversarial_AE_Config,
    AEConfig,
    BetaTCVAE,
    BetaTCVAEConfig,
    BetaVAE,
    BetaVAEConfig,
    FactorVAE,
    FactorVAEConfig,
    INFOVAE_MMD_Config,
    IWAEConfig,
    RAE_L2_Config,
    VAEConfig,
    VAMPConfig,
    WAE_MMD_Config,
)
from pythae.samplers import GaussianMixtureSampler, GaussianMixtureSamplerConfig, NormalSampler, VAMPSampler
from pythae.trainers import (
    AdversarialTrainer,
    AdversarialTrainerConfig,
    BaseTrainer,
    BaseTrainerConfig,
    CoupledOptimizerTrainer,
    CoupledOptimizerTrainerConfig,
)
from pythae.trainers.trainer_utils import set_seed
from pythae.trainers.training_callbacks import CallbackHandler
from torch import Tensor

from benchmarks.family import BATCH, COMPONENTS, HIDDEN, LATENT, RATE
from benchmarks.pythae_models import Decoder, Encoder
from latentmill.evaluation.sampling import as_bytes
from latentmill.networks import NetworkConfig, Shape

FAMILY: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "VAE": (VAE, VAEConfig, {}),
    "β-VAE": (BetaVAE, BetaVAEConfig, {"beta": 2.0}),
    "IWAE": (IWAE, IWAEConfig, {"number_samples": 5, "beta": 1.0}),
    "WAE": (WAE_MMD, WAE_MMD_Config, {"kernel_choice": "imq", "reg_weight": 1.0, "kernel_bandwidth": 2.0}),
    "InfoVAE": (INFOVAE_MMD, INFOVAE_MMD_Config, {"kernel_choice": "imq", "alpha": 0.5, "lbd": 1.0}),
    "RAE": (RAE_L2, RAE_L2_Config, {"embedding_weight": 1e-2, "reg_weight": 1e-4}),
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


def trainer(model: Any, images: Any, epochs: int, folder: str) -> Any:
    """The trainer that pythae's pipeline would take, without the progress bar and the printer that it adds."""
    config: Any = {"output_dir": folder, "num_epochs": epochs, "per_device_train_batch_size": BATCH, "no_cuda": True}
    if isinstance(model, RAE_L2):
        decay = {"weight_decay": model.model_config.reg_weight}
        rates = {"encoder_learning_rate": RATE, "decoder_learning_rate": RATE, "decoder_optimizer_params": decay}
        kind, config = CoupledOptimizerTrainer, CoupledOptimizerTrainerConfig(**config, **rates)
    elif isinstance(model, FactorVAE | Adversarial_AE):
        rates = {"autoencoder_learning_rate": RATE, "discriminator_learning_rate": RATE}
        kind, config = AdversarialTrainer, AdversarialTrainerConfig(**config, **rates)
    else:
        kind, config = BaseTrainer, BaseTrainerConfig(**config, learning_rate=RATE)

    class QuietTrainer(kind):  # type: ignore[misc, valid-type]  # pythae has no types
        def _setup_callbacks(self) -> None:
            self.callback_handler = CallbackHandler([], self.model)

    return QuietTrainer(model, images, None, config)


@torch.no_grad()
def sampled(model: Any, images: Tensor, count: int, seed: int) -> np.ndarray:
    """Samples, uint8 (count, C, H, W), by pythae's sampler for the model; a mixture is fitted to `images`."""
    set_seed(seed)
    model.eval()
    if isinstance(model, VAMP):
        return as_bytes(VAMPSampler(model).sample(count).numpy())
    if isinstance(model, RAE_L2):
        mixture = GaussianMixtureSampler(model, GaussianMixtureSamplerConfig(n_components=COMPONENTS))
        mixture.fit(images)
        return as_bytes(mixture.sample(count).numpy())
    return as_bytes(NormalSampler(model).sample(count).numpy())
