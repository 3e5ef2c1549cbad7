"""Five of pythae's models and two of its samplers, as peers of our samples.

Hyperparameters are those that pythae's repository has for MNIST (examples/scripts/configs/mnist); what these leave open
is pythae's default. Networks are pythae's own for 28-pixel images, `resnet`, or our `conv`, which is several times as
fast. (pythae's `convnets` take 1.6 s for a step on one core.) Shapes: B batch, d latent dimensions.
"""

import logging
import tempfile
import time
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from pythae.models import (
    AE,
    RAE_L2,
    VAE,
    WAE_MMD,
    Adversarial_AE,
    AEConfig,
    BetaVAE,
    BetaVAEConfig,
    FactorVAE,
    VAEConfig,
)
from pythae.models import RAE_L2_Config as RaeConfig
from pythae.models import WAE_MMD_Config as WaeConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.models.nn.benchmarks.mnist import Decoder_ResNet_AE_MNIST as ResNetDecoder
from pythae.models.nn.benchmarks.mnist import Encoder_ResNet_AE_MNIST as ResNetEncoder
from pythae.models.nn.benchmarks.mnist import Encoder_ResNet_VAE_MNIST as ResNetVaeEncoder
from pythae.samplers import GaussianMixtureSampler, NormalSampler
from pythae.trainers import (
    AdversarialTrainer,
    AdversarialTrainerConfig,
    BaseTrainer,
    BaseTrainerConfig,
    CoupledOptimizerTrainer,
    CoupledOptimizerTrainerConfig,
)
from pythae.trainers.trainer_utils import set_seed
from pythae.trainers.training_callbacks import CallbackHandler, TrainingCallback
from torch import Tensor

from latentmill.evaluation.sampling import as_uint8
from latentmill.networks import NetworkConfig, Shape, decoder, encoder

LATENT, RATE, BATCH, NEVER = 16, 1e-3, 100, 10**9
FAMILY: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "AE": (AE, AEConfig, {}),
    "VAE": (VAE, VAEConfig, {}),
    "β-VAE": (BetaVAE, BetaVAEConfig, {"beta": 2.0}),
    "RAE": (RAE_L2, RaeConfig, {"embedding_weight": 1e-2, "reg_weight": 1e-4}),
    "WAE": (WAE_MMD, WaeConfig, {"kernel_choice": "imq", "reg_weight": 1.0, "kernel_bandwidth": 2.0}),
}
NETWORKS = ("conv", "resnet")


class Encoder(BaseEncoder):  # type: ignore[misc]  # pythae has no types
    """One of our networks: (B, C, H, W) -> means (B, d), and log-variances where there is a posterior."""

    def __init__(self, network: NetworkConfig, shape: Shape, latent: int, has_posterior: bool) -> None:
        super().__init__()
        self.parts, self.latent_dim = 1 + has_posterior, latent
        self.layers = encoder(network, shape, self.parts * latent)

    def forward(self, x: Tensor) -> Any:
        found = self.layers(x).chunk(self.parts, dim=1)  # (B, d) each
        return ModelOutput(**dict(zip(("embedding", "log_covariance"), found, strict=False)))


class Decoder(BaseDecoder):  # type: ignore[misc]
    """One of our networks: (B, d) -> pixels in [0, 1], (B, C, H, W)."""

    def __init__(self, network: NetworkConfig, shape: Shape, latent: int) -> None:
        super().__init__()
        self.layers = decoder(network, latent, shape)

    def forward(self, z: Tensor) -> Any:
        return ModelOutput(reconstruction=torch.sigmoid(self.layers(z)))


def build(name: str, network: str, shape: Shape) -> Any:
    """The model of `FAMILY` with that network of `NETWORKS`."""
    kind, config_class, settings = FAMILY[name]
    config, has_posterior = config_class(input_dim=shape, latent_dim=LATENT, **settings), issubclass(kind, VAE)
    if network == "resnet":
        own = ResNetVaeEncoder if has_posterior else ResNetEncoder
        return kind(config, encoder=own(config), decoder=ResNetDecoder(config))
    ours = NetworkConfig(network="conv")
    return kind(config, Encoder(ours, shape, LATENT, has_posterior), Decoder(ours, shape, LATENT))


class EndedError(Exception):
    """The time of a model is over."""


class Clock(TrainingCallback):  # type: ignore[misc]
    """Copies the model after each of `budgets`, rising seconds of a core, and ends its training after the last."""

    def __init__(self, budgets: Sequence[float]) -> None:
        self.budgets, self.copies = budgets, list[tuple[float, Any]]()
        self.started = time.process_time()

    def on_train_step_end(self, training_config: Any, model: Any = None, **kwargs: Any) -> None:
        seconds = time.process_time() - self.started
        if seconds >= self.budgets[len(self.copies)]:
            self.copies.append((seconds, deepcopy(model).eval()))
        if len(self.copies) == len(self.budgets):
            raise EndedError


def trained(model: Any, images: Any, budgets: Sequence[float]) -> list[tuple[float, Any]]:
    """The model after each of `budgets`, with the seconds of a core that its training took.

    `images` are those of `peers.as_pythae`. Nothing is validated, printed or saved in between, which takes time.
    """
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as folder:
        clock = Clock(budgets)
        try:
            quiet_trainer(model, images, folder, callbacks=[clock]).train()
        except EndedError:
            return clock.copies
    raise AssertionError("its epochs never end")


def quiet_trainer(
    model: Any, images: Any, folder: str, epochs: int = NEVER, callbacks: Sequence[TrainingCallback] = ()
) -> Any:
    """The trainer that pythae's pipeline would take, without the progress bar and the printer that it adds."""
    common = {"output_dir": folder, "num_epochs": epochs, "per_device_train_batch_size": BATCH, "no_cuda": True}
    if isinstance(model, RAE_L2):
        decay = {"weight_decay": model.model_config.reg_weight}
        rates = {"encoder_learning_rate": RATE, "decoder_learning_rate": RATE, "decoder_optimizer_params": decay}
        config, kind = CoupledOptimizerTrainerConfig(**common, **rates), CoupledOptimizerTrainer
    elif isinstance(model, FactorVAE | Adversarial_AE):
        rates = {"autoencoder_learning_rate": RATE, "discriminator_learning_rate": RATE}
        config, kind = AdversarialTrainerConfig(**common, **rates), AdversarialTrainer
    else:
        config, kind = BaseTrainerConfig(**common, learning_rate=RATE), BaseTrainer

    class QuietTrainer(kind):  # type: ignore[misc, valid-type]
        def _setup_callbacks(self) -> None:
            self.callback_handler = CallbackHandler(list(callbacks), self.model)

    return QuietTrainer(model, images, None, config)


@torch.no_grad()
def sampled(model: Any, images: Tensor, count: int, seed: int) -> tuple[np.ndarray, float]:
    """Samples, uint8 (count, C, H, W), and the seconds of a core in which the mixture was fitted to all `images`."""
    set_seed(seed)
    sampler, started = GaussianMixtureSampler(model), time.process_time()
    sampler.fit(images)
    seconds = time.process_time() - started
    return as_uint8(sampler.sample(count).numpy()), seconds


@torch.no_grad()
def sampled_from_normal(model: Any, count: int, seed: int) -> np.ndarray:
    """Samples of codes from N(0, I), uint8 (count, C, H, W)."""
    set_seed(seed)
    return as_uint8(NormalSampler(model).sample(count).numpy())


@torch.no_grad()
def reconstructed(model: Any, images: Tensor) -> np.ndarray:
    """Reconstructions of images (N, C, H, W), uint8."""
    return np.concatenate([as_uint8(model.reconstruct(some).numpy()) for some in images.split(500)])
