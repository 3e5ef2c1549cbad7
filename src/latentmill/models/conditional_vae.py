"""Conditional variational autoencoder: images of a class that is asked for.

    loss = -E_q(z|x,y) log p(x | z, y) + beta KL(q(z | x, y) || N(0, I))

The label y is one more channel of the encoder's image, learned for each class, and stands beside the code of the
decoder. With beta = 1 the loss is the negative evidence lower bound on log p(x | y) (Sohn et al. 2015).

Adds: the label as an input, so that a class can be asked for, and the code holds only what the label doesn't tell.
Lacks: sharpness, like any variational autoencoder; and it needs a label for every training image.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from latentmill.contract import Batch, Phase, Terms
from latentmill.draws import Noise
from latentmill.errors import InputError
from latentmill.networks import Shape
from latentmill.networks.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from latentmill.networks.weighted_kl import WeightedKl, WeightedKlConfig


class ConditionalVae(EncoderDecoder):
    """q(z | x, y) is a Gaussian with diagonal covariance; codes say what labels do not."""

    class Config(WeightedKlConfig, EncoderDecoderConfig):
        pass

    is_conditional = True
    one_hot: Tensor  # (classes, classes)

    def __init__(self, config: Config, shape: Shape, classes: int = 0) -> None:
        if classes < 2:
            raise InputError(f"a conditional model needs labels of 2 classes or more, but the data has {classes}")
        super().__init__(config, shape, classes, planes=1, beside=classes)
        self.planes = nn.Parameter(torch.zeros(classes, 1, *shape[1:]))
        self.register_buffer("one_hot", torch.eye(classes))
        self.kl = WeightedKl(config)

    def phases(self) -> Sequence[Phase]:
        return (self.kl.phase(ConditionalVae.loss, self.criterion_draws),)

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        x, z, kl = self.observed_and_encoded(batch, noise)
        return self.kl.terms(-self.log_p_x_given_z(x, z[None], batch["label"])[0], kl)

    def posterior(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.encoder(torch.cat([x, self.planes[label]], dim=1)).chunk(2, dim=1)
        return mean, log_variance

    def pixel_parameters(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        spread = self.one_hot[label].unflatten(1, (-1, *[1] * (z.dim() - 2))).expand(-1, -1, *z.shape[2:])
        return self.decoder(torch.cat([z, spread], dim=1))
