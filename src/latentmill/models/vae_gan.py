"""VAE-GAN: a variational autoencoder that compares images by what a critic sees in them, not pixel by pixel.

    critic   softplus(-D(x)) + softplus(D(g(z))) + softplus(D(g(n))) + gamma/2 |grad D(x)|^2,  z ~ q(z | x), n ~ N(0, I)
    encoder  1/2 |h(x) - h(g(z))|^2 + beta KL(q(z | x) || N(0, I))
    decoder  similarity 1/2 |h(x) - h(g(z))|^2 + softplus(-D(g(z))) + softplus(-D(g(n)))

h is the last hidden layer of the critic D, around which features of x are taken to be Gaussian (Larsen et al. 2016).
Trials are ranked by their samples: the unit of that error is each critic's own, and an error of pixels prefers blur.

Adds: a critic in one of whose layers images are compared, in place of pixel by pixel, so that samples are sharper.
Lacks: a likelihood, and stable training: the critic works against the decoder.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import softplus

from latentmill.contract import Batch, Phase, Terms
from latentmill.densities import half_squared_error, kl_from_standard_normal, reparameterised
from latentmill.draws import Draw, Noise
from latentmill.networks import Shape
from latentmill.networks.critics import BETAS, image_critic, mean_score, slope_penalty
from latentmill.networks.encoder_decoder import PlainConfig, PlainNetworks


class VaeGan(PlainNetworks):
    """Codes of images are the means of q(z | x)."""

    class Config(PlainConfig):
        beta: Annotated[float, Field(gt=0)] = 0.05  # weight of the KL; small, because features are, too
        similarity: Annotated[float, Field(ge=0)] = 0.3  # weight of the features' error in the loss of the decoder
        gamma: Annotated[float, Field(ge=0)] = 1.0  # weight of the gradient penalty

    weights: Tensor  # (3), beta, similarity and gamma

    def __init__(self, config: Config, shape: Shape, classes: int = 0) -> None:
        super().__init__(config, shape, classes, outputs=2)
        self.critic, self.score = image_critic(config, shape)
        self.register_buffer("weights", torch.tensor([config.beta, config.similarity, config.gamma]))

    def phases(self) -> Sequence[Phase]:
        z = Draw("normal", self.code_shape)
        return (
            Phase(VaeGan.critic_loss, {"z": z, "prior": z}, "critic", moves=("critic.", "score."), betas=BETAS),
            Phase(VaeGan.encoder_loss, {"z": z}, "encoder", moves="encoder."),
            Phase(VaeGan.decoder_loss, {"z": z, "prior": z}, "decoder", moves="decoder.", betas=BETAS),
        )

    def critic_loss(self, batch: Batch, noise: Noise) -> Terms:
        images, (made, _) = batch["image"], self._reconstructed(batch["image"], noise)
        penalty = slope_penalty(self._scores, images)
        real, reconstructed, fake = map(self._scores, (images, made, self.decode(noise["prior"])))
        loss = softplus(-real) + softplus(reconstructed) + softplus(fake) + self.weights[2] * penalty
        return {"loss": loss, "real": real, "reconstructed": reconstructed, "fake": fake, "penalty": penalty}

    def encoder_loss(self, batch: Batch, noise: Noise) -> Terms:
        made, kl = self._reconstructed(batch["image"], noise)
        error = half_squared_error(self.critic(batch["image"]), self.critic(made))
        return {"loss": error + self.weights[0] * kl, "error": error, "kl": kl}

    def decoder_loss(self, batch: Batch, noise: Noise) -> Terms:
        h = self.critic(self._reconstructed(batch["image"], noise)[0])
        misleading = softplus(-mean_score(self.score(h))) + softplus(-self._scores(self.decode(noise["prior"])))
        return {"loss": self.weights[1] * half_squared_error(self.critic(batch["image"]), h) + misleading}

    def encode(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        return self.encoder(images).chunk(2, dim=1)[0]

    def _reconstructed(self, images: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """Images from codes drawn from q(z | x), (B, C, H, W), and the KL (B)."""
        mean, log_variance = self.encoder(images).chunk(2, dim=1)
        kl = kl_from_standard_normal(mean, log_variance).flatten(1).sum(1)
        return self.decode(reparameterised(mean, log_variance, noise["z"])), kl

    def _scores(self, images: Tensor) -> Tensor:
        return mean_score(self.score(self.critic(images)))
