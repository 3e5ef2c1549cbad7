"""Autoencoder, and with corruption > 0 the denoising autoencoder: reconstruction, and nothing else.

    loss = 1/2 |x - g(f(x * m))|^2,  m_i ~ Bernoulli(1 - corruption)

This is -log N(x; g, I) up to a constant. The masking noise m is that of Vincent et al. 2010. Nothing shapes the
codes f(x), so N(0, I) misses them; a mixture fitted to them does not (Ghosh et al. 2020).

Adds: an encoder and a decoder that are neural networks, so that a small code holds most of an image.
Lacks: a distribution of codes: draws from N(0, I) fall into holes between them, which the decoder has never seen.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from latentmill.contract import Batch, Phase, Terms
from latentmill.draws import Draw, Noise
from latentmill.networks import Shape
from latentmill.networks.encoder_decoder import PlainAutoencoder, PlainConfig


class Autoencoder(PlainAutoencoder):
    """Encoder f and decoder g trained on the squared error."""

    class Config(PlainConfig):
        corruption: Annotated[float, Field(ge=0, lt=1)] = 0.0  # share of pixels set to 0 before encoding

    kept: Tensor  # (), the share of pixels that the encoder sees in training

    def __init__(self, config: Config, shape: Shape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        self.register_buffer("kept", torch.tensor(1 - config.corruption))

    def phases(self) -> Sequence[Phase]:
        return (Phase(Autoencoder.loss, {"mask": Draw("uniform", self.shape)}),)

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        images = batch["image"]
        return {"loss": self.error(images, self.encode(images * (noise["mask"] < self.kept)))}
