"""DIP-VAE: a variational autoencoder whose codes have the covariance of the prior, over all images.

    loss = -E_q log p(x | z) + KL(q(z | x) || N(0, I)) + off_diagonal sum_{i != j} C_ij^2 + diagonal sum_i (C_ii - 1)^2

C is the covariance of the means of q(z | x) with `covariance: means`, DIP-VAE-I, of z itself with `codes`, DIP-VAE-II
(Kumar et al. 2018), estimated from the batch.

Adds: a penalty on the covariance of codes, which makes their dimensions uncorrelated without a critic.
Lacks: independence: uncorrelated dimensions may still depend on one another; samples stay blurred.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from latentmill.config import NOT_SEARCHABLE
from latentmill.contract import Batch, Phase, Terms
from latentmill.densities import kl_from_standard_normal, reparameterised
from latentmill.draws import Noise
from latentmill.networks import Shape
from latentmill.networks.encoder_decoder import EncoderDecoder, EncoderDecoderConfig


class DipVae(EncoderDecoder):
    """Rows of a batch share the covariance."""

    class Config(EncoderDecoderConfig):
        covariance: Annotated[Literal["means", "codes"], NOT_SEARCHABLE] = "codes"  # of what
        off_diagonal: Annotated[float, Field(ge=0)] = 10.0  # weight of squared covariances
        diagonal: Annotated[float, Field(ge=0)] = 10.0  # weight of squared differences of variances from 1

    weights: Tensor  # (2), off and on the diagonal

    def __init__(self, config: Config, shape: Shape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        self.of_means = config.covariance == "means"
        self.register_buffer("weights", torch.tensor([config.off_diagonal, config.diagonal]))

    def phases(self) -> Sequence[Phase]:
        return (Phase(DipVae.loss, self.criterion_draws, couples_rows=True),)

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        x = self.observation.observed(batch["image"], noise["x"])
        mean, log_variance = (each.flatten(1) for each in self.posterior(x))  # (B, d)
        z = reparameterised(mean, log_variance, noise["z"].flatten(1)).unflatten(1, self.code_shape)
        reconstruction = -self.observation.log_prob(x, self.decoder(z))
        kl = kl_from_standard_normal(mean, log_variance).sum(1)
        centred = mean - mean.mean(0)
        covariance = centred.T @ centred / len(mean)  # (d, d)
        if not self.of_means:
            covariance = covariance + torch.diag(log_variance.exp().mean(0))
        diagonal = covariance.diagonal()
        off = covariance.square().sum() - diagonal.square().sum()
        penalty = (self.weights * torch.stack([off, (diagonal - 1).square().sum()])).sum().expand(len(mean))
        loss = reconstruction + kl + penalty
        return {"loss": loss, "reconstruction": reconstruction, "kl": kl, "covariance": penalty}
