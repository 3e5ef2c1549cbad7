"""VAE-GAN: a variational autoencoder that compares images by what a critic sees in them, not pixel by pixel.

    critic   softplus(-D(x)) + softplus(D(g(z))) + softplus(D(g(n))) + gamma/2 |grad D(x)|^2,  z ~ q(z | x), n ~ N(0, I)
    encoder  1/2 |h(x) - h(g(z))|^2 + beta KL(q(z | x) || N(0, I))
    decoder  similarity 1/2 |h(x) - h(g(z))|^2 + softplus(-D(g(z))) + softplus(-D(g(n)))

h is the last hidden layer of the critic D, around which the features of x are taken to be Gaussian (Larsen et al. 2016,
with the gradient penalty R1). Trials are ranked by the distance of their samples: the critic, and with it the unit of
that error, is another in each trial, and the error of pixels would prefer the blur that this model is meant to avoid.
There is no p(x | z) of pixels, hence no bound on the likelihood.

Adds: a critic in one of whose layers images are compared, in place of pixel by pixel, so that samples are sharper.
Lacks: a likelihood, and stable training: the critic works against the decoder.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import softplus

from latentmill.contract import Batch, LatentConfig, LatentModel, Phase, Terms
from latentmill.densities import kl_from_standard_normal, reparameterised
from latentmill.draws import Draw, Noise
from latentmill.networks import NetworkConfig, Shape, code_shape, decoder, encoder

BETAS = (0.5, 0.99)  # momentum of a game of two is best low


class VaeGan(LatentModel):
    """Codes of images are the means of q(z | x)."""

    class Config(NetworkConfig, LatentConfig):
        beta: Annotated[float, Field(gt=0)] = 0.05  # weight of the KL; small, because features are, too
        similarity: Annotated[float, Field(ge=0)] = 0.3  # weight of the features' error in the loss of the decoder
        gamma: Annotated[float, Field(ge=0)] = 1.0  # weight of the gradient penalty

    weights: Tensor  # (3), beta, similarity and gamma

    def __init__(self, config: Config, shape: Shape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        self.code_shape = code_shape(config, config.latent, shape)
        self.encoder, self.decoder = encoder(config, shape, 2 * config.latent), decoder(config, config.latent, shape)
        network = encoder(config, shape, 1)
        self.critic, self.score = network[:-2], network[-2:]
        self.register_buffer("weights", torch.tensor([config.beta, config.similarity, config.gamma]))

    def phases(self) -> Sequence[Phase]:
        z = {"z": Draw("normal", self.code_shape)}
        both = {**z, "prior": Draw("normal", self.code_shape)}
        return (
            Phase(VaeGan.critic_loss, both, "critic", moves=("critic.", "score."), betas=BETAS),
            Phase(VaeGan.encoder_loss, z, "encoder", moves="encoder."),
            Phase(VaeGan.decoder_loss, both, "decoder", moves="decoder.", betas=BETAS),
        )

    def critic_loss(self, batch: Batch, noise: Noise) -> Terms:
        images = batch["image"]
        slopes = torch.func.grad(lambda x: self._scores(self.critic(x)).sum())(images)  # of each row's own score
        penalty = 0.5 * slopes.square().flatten(1).sum(1)
        made = self._reconstructed(images, noise)[0], self.decode(noise["prior"])
        real, *fake = (self._scores(self.critic(each)) for each in (images, *made))
        loss = softplus(-real) + softplus(fake[0]) + softplus(fake[1]) + self.weights[2] * penalty
        return {"loss": loss, "real": real, "reconstructed": fake[0], "fake": fake[1], "penalty": penalty}

    def encoder_loss(self, batch: Batch, noise: Noise) -> Terms:
        made, kl = self._reconstructed(batch["image"], noise)
        error = _error(self.critic(batch["image"]), self.critic(made))
        return {"loss": error + self.weights[0] * kl, "error": error, "kl": kl}

    def decoder_loss(self, batch: Batch, noise: Noise) -> Terms:
        h = self.critic(self._reconstructed(batch["image"], noise)[0])
        error = _error(self.critic(batch["image"]), h)
        misleading = softplus(-self._scores(h)) + softplus(-self._scores(self.critic(self.decode(noise["prior"]))))
        return {"loss": self.weights[1] * error + misleading}

    def encode(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        return self.encoder(images).chunk(2, dim=1)[0]

    def decode(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        return torch.sigmoid(self.decoder(z))

    def _reconstructed(self, images: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """Images from codes drawn from q(z | x), (B, C, H, W), and the KL (B)."""
        mean, log_variance = self.encoder(images).chunk(2, dim=1)
        kl = kl_from_standard_normal(mean, log_variance).flatten(1).sum(1)
        return self.decode(reparameterised(mean, log_variance, noise["z"])), kl

    def _scores(self, h: Tensor) -> Tensor:
        return self.score(h).flatten(1).mean(1)  # where codes are images, of places: a patch critic


def _error(h: Tensor, reconstructed: Tensor) -> Tensor:
    """-log N(h; reconstructed, I) up to a constant: (B)."""
    return 0.5 * (h - reconstructed).square().flatten(1).sum(1)
