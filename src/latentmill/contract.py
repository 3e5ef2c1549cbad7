"""The contract of a variant: learn from images; turn noise into images.

What only some variants can do is a capability, a class of its own here that they inherit and others ask for with
`isinstance`. Shapes: B batch, C, H, W image, d latent dimensions, K samples.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from latentmill.config import PositiveInt, Settings
from latentmill.data.batches import Batches
from latentmill.draws import Draws, Noise, standard_normal
from latentmill.networks import ImageShape
from latentmill.observations import Observation
from latentmill.priors import Mixture, Prior, StandardNormal

PriorName = Literal["normal", "gaussian", "mixture"]
Batch = Mapping[str, Tensor]  # `image` (B, C, H, W) in [0, 1]


class Model(nn.Module, ABC):
    """A generative model of images. A subclass is final, stands in `variants/<name>.py` and has a `Config`."""

    Config: ClassVar[type[Settings]]  # its hyperparameters: what a ladder entry may set or search
    closed_form: ClassVar[bool] = False  # fitted wholly by `before_training`, so it has no epochs
    noise_width: int
    draws: Draws  # the noise that `forward` and `criterion` are given, for each image of a batch
    noise_choices: int = 0  # the first columns of the noise that pick one of several, and no temperature should scale

    @abstractmethod
    def __init__(self, config: Settings, image_shape: ImageShape) -> None:
        super().__init__()
        self.draws = {}

    @abstractmethod
    def forward(self, batch: Batch, noise: Noise) -> dict[str, Tensor]:
        """The objective: named terms, `loss` among them, each (B) in nats, summed over pixels.

        A pure function of the weights, a batch and noise of `draws`.
        """

    @abstractmethod
    def generate(self, noise: Tensor) -> Tensor:
        """Standard normal noise (B, noise_width) -> images (B, C, H, W) in [0, 1]; draws nothing itself."""

    def criterion(self, batch: Batch, noise: Noise) -> Tensor:
        """What epochs and the trials of an entry are compared by, lower first: (B), in nats.

        The loss, unless hyperparameters enter the loss in a way that makes it incomparable between trials.
        """
        loss: Tensor = self(batch, noise)["loss"]
        return loss

    def before_training(self, images: Batches, generator: torch.Generator) -> None:
        """Fit what has a closed form."""

    def after_training(self, images: Batches, val: Batches, generator: torch.Generator) -> None:
        """Fit what needs the trained weights to the training images; `val` is for choices.

        Only models that are kept get so far, so the criterion must not depend on it.
        """


class Encodes(ABC):
    """Has a code for each image."""

    latent: int

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] -> codes (B, d), without noise."""


class Decodes(ABC):
    """Has an image for each code, and priors to draw codes from; `generate` decodes draws of the one it names."""

    latent: int
    prior_name: PriorName  # the prior behind `generate`

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """Codes (B, d) -> images (B, C, H, W) in [0, 1]."""

    @abstractmethod
    def prior(self, name: PriorName) -> Prior:
        """`normal` N(0, I); or, fitted to the training codes, a `gaussian` or a `mixture` of Gaussians."""


class HasLikelihood(ABC):
    """log p(x) is known in closed form."""

    observation: Observation

    @abstractmethod
    def log_p_x(self, x: Tensor) -> Tensor:
        """Exact log-likelihood of observed x (B, C, H, W) -> (B), in nats."""


class HasPosterior(ABC):
    """log p(x) can be bounded by sampling codes from a Gaussian q(z | x), under the prior N(0, I)."""

    observation: Observation

    @abstractmethod
    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z | x): (B, C, H, W) -> (B, d), (B, d)."""

    @abstractmethod
    def log_p_x_given_z(self, x: Tensor, z: Tensor) -> Tensor:
        """x (B, C, H, W), z (K, B, d) -> (K, B), in nats."""


class LatentConfig(Settings):
    """What every variant with a latent has."""

    latent: PositiveInt = 20  # dimensions of a code
    prior: PriorName = "normal"  # what `generate` draws codes from
    components: PositiveInt | None = None  # of the mixture; null: as many as make validation codes most likely


class LatentModel(Model, Encodes, Decodes):
    """A variant that generates by decoding a code drawn from a prior."""

    def __init__(self, config: LatentConfig, image_shape: ImageShape) -> None:
        super().__init__(config, image_shape)
        self.latent = config.latent
        self.prior_name = config.prior
        self.normal = StandardNormal(config.latent)
        self.gaussian = Mixture(config.latent, components=1)
        self.mixture = Mixture(config.latent, config.components)
        self.noise_width = self.prior(config.prior).noise_width
        self.noise_choices = self.prior(config.prior).choices

    def prior(self, name: PriorName) -> Prior:
        return {"normal": self.normal, "gaussian": self.gaussian, "mixture": self.mixture}[name]

    def generate(self, noise: Tensor) -> Tensor:
        return self.decode(self.prior(self.prior_name)(noise))

    def after_training(self, images: Batches, val: Batches, generator: torch.Generator) -> None:
        """Fit the priors, whatever `prior` says, so that all ways to sample can be compared."""
        codes, held_out = (float_array(drawn_codes(self, batches, generator)) for batches in (images, val))
        for prior in (self.gaussian, self.mixture):
            prior.fit(codes, held_out, seed=generator.initial_seed() % 2**32)


@torch.no_grad()
def drawn_codes(model: Encodes, images: Batches, generator: torch.Generator) -> Tensor:
    """The codes of all images, (N, d); where there is a posterior, one draw from that of each observed image.

    Draws rather than means, because the decoder was trained on draws: together they follow the aggregate posterior.
    """
    return torch.cat([_drawn_codes(model, chunk, generator) for chunk in images.chunks()])


def _drawn_codes(model: Encodes, images: Tensor, generator: torch.Generator) -> Tensor:
    if not isinstance(model, HasPosterior):
        return model.encode(images)
    mean, log_variance = model.posterior(model.observation.observe(images, generator))
    return mean + torch.exp(0.5 * log_variance) * standard_normal(mean.shape, generator)


@torch.no_grad()
def codes_of(model: Encodes, images: Batches) -> np.ndarray:
    """The codes of all images without noise, float32 (N, d)."""
    return float_array(torch.cat([model.encode(chunk) for chunk in images.chunks()]))


def float_array(tensor: Tensor) -> np.ndarray:
    """A detached tensor as a float32 array on the host."""
    return tensor.detach().to("cpu", torch.float32).numpy()
