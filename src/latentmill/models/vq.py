"""Autoencoder with vector quantisation: a code is a small image of indices, each of the nearest entry of a codebook.

    loss = 1/2 |x - g(e)|^2 + |sg(y) - e|^2 + commitment |y - sg(e)|^2,  y = f(x),  e the entries nearest to y

sg stops the gradient; that of choosing the nearest entry is taken to be 1 (van den Oord et al. 2017). The entries are a
learned linear map of fixed vectors (Zhu et al. 2024), so that all move together: where each moves by itself, those that
no image chooses never move again. The vectors are outputs of the untrained encoder.

Adds: a codebook that is learned, so that its entries lie where the codes of images are.
Lacks: any guarantee that all entries are used, a likelihood of images, and samples without a learned prior.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from latentmill.config import PositiveInt
from latentmill.contract import Batch, LatentConfig, Phase, Terms
from latentmill.data.batches import Batches
from latentmill.draws import Noise
from latentmill.networks import Shape
from latentmill.networks.quantised import QuantisedAutoencoder, QuantisedConfig

IMAGES = 500  # from which the vectors are taken, at most


class Vq(QuantisedAutoencoder):
    """Encoder f, decoder g and the codebook between them; a prior draws the indices of codes."""

    class Config(QuantisedConfig, LatentConfig):
        latent: PositiveInt = 4  # dimensions of an entry; of more, fewer entries are in use
        entries: Annotated[int, Field(ge=2)] = 256  # of the codebook
        commitment: Annotated[float, Field(ge=0)] = 0.25  # weight of the last term

    commitment: Tensor  # ()
    vectors: Tensor  # (entries, d), which the map makes the entries of

    def __init__(self, config: Config, shape: Shape, classes: int = 0) -> None:
        super().__init__(config, shape, classes, config.latent)
        self.entries, self.map = config.entries, nn.Parameter(torch.eye(config.latent))
        self.register_buffer("vectors", torch.randn(config.entries, config.latent))
        self.register_buffer("commitment", torch.tensor(config.commitment))

    @property
    def codebook(self) -> Tensor:
        """(entries, d)."""
        return self.vectors @ self.map

    @torch.no_grad()
    def fit(self, examples: Batches, val: Batches, generator: torch.Generator) -> None:
        y = self.encoder(examples[:IMAGES]).movedim(1, -1).flatten(0, 2)
        chosen = torch.randint(len(y), (self.entries,), generator=generator, device=y.device)
        self.vectors.copy_(y[chosen])

    def phases(self) -> Sequence[Phase]:
        return (Phase(Vq.loss),)

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        y = self.encoder(batch["image"])
        e = self.quantised(y)
        codebook, committed = ((a - b).square().flatten(1).sum(1) for a, b in ((y.detach(), e), (y, e.detach())))
        reconstruction = self.error(batch["image"], y + (e - y).detach())
        loss = reconstruction + codebook + self.commitment * committed
        return {"loss": loss, "reconstruction": reconstruction, "codebook": codebook}

    def nearest(self, y: Tensor) -> Tensor:
        codebook = self.codebook
        return (codebook.square().sum(1) - 2 * y.movedim(1, -1) @ codebook.T).argmin(-1)

    def entries_at(self, indices: Tensor) -> Tensor:
        return self.codebook[indices.long()].movedim(-1, 1)
