"""InfoVAE, and Wasserstein autoencoder: codes of all images together follow the prior, not those of each image.

    loss = -E_q log p(x | z) + kl KL(q(z | x) || N(0, I)) + mmd MMD(q(z), N(0, I))

The maximum mean discrepancy compares the codes of a batch with as many draws from the prior, by inverse multiquadratic
kernels. With both weights it is an InfoVAE (Zhao et al. 2019); with `kl: 0` and `draws: false` a Wasserstein
autoencoder (Tolstikhin et al. 2018), whose codes are the means.

Adds: a penalty on the distance of all codes together from the prior, in place of most of each image's KL: codes keep
detail.
Lacks: a tight bound on the likelihood; and in many dimensions its kernels miss differences between codes and prior.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from latentmill.config import NOT_SEARCHABLE
from latentmill.contract import Batch, Phase, Terms
from latentmill.densities import kl_from_standard_normal, reparameterised
from latentmill.draws import Draw, Noise
from latentmill.networks import Shape
from latentmill.networks.encoder_decoder import EncoderDecoder, EncoderDecoderConfig

SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # of the kernels


class InfoVae(EncoderDecoder):
    """Rows of a batch share the discrepancy."""

    class Config(EncoderDecoderConfig):
        kl: Annotated[float, Field(ge=0)] = 0.1  # weight of the KL
        mmd: Annotated[float, Field(ge=0)] = 100.0  # weight of the discrepancy, which is at most 14 for seven kernels
        draws: Annotated[bool, NOT_SEARCHABLE] = True  # whether z is drawn from q(z | x); else it is its mean

    weights: Tensor  # (2), of the KL and the discrepancy

    def __init__(self, config: Config, shape: Shape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        self.is_drawn = config.draws
        self.register_buffer("weights", torch.tensor([config.kl, config.mmd]))

    def phases(self) -> Sequence[Phase]:
        draws = {**self.criterion_draws, "prior": Draw("normal", self.code_shape)}
        return (Phase(InfoVae.loss, draws, couples_rows=True),)

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        x = self.observation.observed(batch["image"], noise["x"])
        mean, log_variance = self.posterior(x)
        z = reparameterised(mean, log_variance, noise["z"]) if self.is_drawn else mean
        kl = kl_from_standard_normal(mean, log_variance).flatten(1).sum(1)
        discrepancy = _mmd(z.flatten(1), noise["prior"].flatten(1)).expand(len(kl))
        reconstruction = -self.observation.log_prob(x, self.decoder(z))
        loss = reconstruction + self.weights[0] * kl + self.weights[1] * discrepancy
        return {"loss": loss, "reconstruction": reconstruction, "kl": kl, "mmd": discrepancy}


def _mmd(a: Tensor, b: Tensor) -> Tensor:
    """The squared discrepancy of codes (B, d), without bias, so that it may be a little below 0."""
    rows, width = a.shape
    both = torch.cat([a, b])
    squares = (both[:, None] - both).square().sum(2)  # (2B, 2B)
    kernel = sum(2 * width * scale / (2 * width * scale + squares) for scale in SCALES)
    assert isinstance(kernel, Tensor)
    within = [part.sum() - part.diagonal().sum() for part in (kernel[:rows, :rows], kernel[rows:, rows:])]
    return sum(within) / max(1, rows * (rows - 1)) - 2 * kernel[:rows, rows:].mean()
