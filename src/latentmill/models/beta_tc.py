"""beta-TCVAE: a variational autoencoder whose dimensions are independent of one another, but may know of the image.

    KL(q(z | x) || p(z)) = I(x; z) + KL(q(z) || prod_j q(z_j)) + sum_j KL(q(z_j) || p(z_j)),  on average over images
    loss = -E_q log p(x | z) + I(x; z) + beta KL(q(z) || prod_j q(z_j)) + sum_j KL(q(z_j) || p(z_j))

The second term is the total correlation. A beta-VAE weighs all three, and loses what codes know (Chen et al. 2018).
q(z), the mean of q(z | x) over all N images, is estimated without bias as 1/N of the image's own and (N - 1)/N of the
mean over the others of the batch.

Adds: a penalty on the dependence between dimensions of the code alone, so that each tends towards one factor of
variation.
Lacks: any guarantee that its dimensions are the factors one has in mind; samples stay blurred.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from latentmill.contract import Batch, Phase, Terms
from latentmill.data.batches import Batches
from latentmill.densities import gaussian_log_prob, reparameterised, standard_normal_log_prob
from latentmill.draws import Noise
from latentmill.networks import Shape
from latentmill.networks.encoder_decoder import EncoderDecoder, EncoderDecoderConfig


class BetaTc(EncoderDecoder):
    """Rows of a batch share the estimate of q(z)."""

    class Config(EncoderDecoderConfig):
        beta: Annotated[float, Field(gt=0)] = 6.0  # weight of the total correlation

    beta: Tensor  # ()
    images: Tensor  # (), N

    def __init__(self, config: Config, shape: Shape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        self.register_buffer("beta", torch.tensor(config.beta))
        self.register_buffer("images", torch.ones(()), persistent=False)  # of the data, and not learned

    def fit(self, examples: Batches, val: Batches, generator: torch.Generator) -> None:
        self.images.fill_(len(examples))

    def phases(self) -> Sequence[Phase]:
        return (Phase(BetaTc.loss, self.criterion_draws, couples_rows=True),)

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        x = self.observation.observed(batch["image"], noise["x"])
        mean, log_variance = (each.flatten(1) for each in self.posterior(x))  # (B, d)
        z = reparameterised(mean, log_variance, noise["z"].flatten(1))
        each = gaussian_log_prob(z[:, None], mean, log_variance)  # (B, B, d), of row i's z by row j's posterior
        log_shares = self._shares(len(z)).log()  # (B, B)
        log_q = torch.logsumexp(each.sum(2) + log_shares, 1)  # (B)
        log_q_by_dimension = torch.logsumexp(each + log_shares[:, :, None], 1).sum(1)  # (B)
        log_q_given_x, log_p = gaussian_log_prob(z, mean, log_variance).sum(1), standard_normal_log_prob(z).sum(1)
        pixels = self.decoder(z.unflatten(1, self.code_shape))
        terms = {
            "reconstruction": -self.observation.log_prob(x, pixels),
            "information": log_q_given_x - log_q,
            "total_correlation": log_q - log_q_by_dimension,
            "dimensions": log_q_by_dimension - log_p,
        }
        total = terms["reconstruction"] + terms["information"] + terms["dimensions"]
        return {"loss": total + self.beta * terms["total_correlation"]} | terms

    def _shares(self, rows: int) -> Tensor:
        """Of row j's posterior in the estimate of q(z) for row i: (B, B)."""
        own = torch.eye(rows, device=self.images.device)
        return (own + (1 - own) * (self.images - 1) / max(1, rows - 1)) / self.images
