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
        return (self.kl.phase(ConditionalVae.loss, self.criterion_draws, "kl"),)

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        x, z, kl = self.observed_and_encoded(batch, noise)
        reconstruction = -self.log_p_x_given_z(x, z[None], batch["label"])[0]
        terms = {"reconstruction": reconstruction, "kl": kl.flatten(1).sum(1)}
        return {"loss": reconstruction + self.kl(kl)} | terms | self.kl.counted("kl")

    def posterior(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.encoder(torch.cat([x, self.planes[label]], dim=1)).chunk(2, dim=1)
        return mean, log_variance

    def log_p_x_given_z(self, x: Tensor, z: Tensor, label: Tensor | None = None) -> Tensor:
        assert label is not None
        pixels = self._pixels(z.flatten(0, 1), label.repeat(len(z))).unflatten(0, z.shape[:2])  # (K, B, C, H, W)
        return self.observation.log_prob(x, pixels)

    def encode(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        return self.posterior(images, label)[0]

    def decode(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        return self.observation.mean(self._pixels(z, label))

    def _pixels(self, z: Tensor, label: Tensor | None) -> Tensor:
        spread = self.one_hot[label].unflatten(1, (-1, *[1] * (z.dim() - 2))).expand(-1, -1, *z.shape[2:])
        return self.decoder(torch.cat([z, spread], dim=1))
