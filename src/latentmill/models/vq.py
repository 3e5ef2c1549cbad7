"""Autoencoder with vector quantisation: a code is a small image of indices, each of the nearest entry of a codebook.

    loss = 1/2 |x - g(e)|^2 + |sg(y) - e|^2 + commitment |y - sg(e)|^2,  y = f(x),  e the entries nearest to y

sg stops the gradient; that of choosing the nearest entry is taken to be 1 (van den Oord et al. 2017). The entries are a
learned linear map of fixed vectors (Zhu et al. 2024), so that all move together: where each moves by itself, those that
no image chooses never move again. The vectors are outputs of the untrained encoder.

Adds: a codebook that is learned, so that its entries lie where the codes of images are.
Lacks: any guarantee that all entries are used, a likelihood of images, and samples without a learned prior.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from latentmill.config import PositiveInt
from latentmill.contract import Batch, HasCodebook, HasCriterion, LatentConfig, Model, Phase, Terms
from latentmill.data.batches import Batches
from latentmill.draws import Noise
from latentmill.networks import NetworkConfig, Shape, code_shape, decoder, encoder

IMAGES = 500  # from which the vectors are taken, at most


class Vq(Model, HasCodebook, HasCriterion):
    """Encoder f, decoder g and the codebook between them; a prior draws the indices of codes."""

    class Config(NetworkConfig, LatentConfig):
        network: Literal["residual"] = "residual"
        code: Literal["image"] = "image"
        latent: PositiveInt = 4  # dimensions of an entry; of more, fewer entries are in use
        entries: Annotated[int, Field(ge=2)] = 256  # of the codebook
        commitment: Annotated[float, Field(ge=0)] = 0.25  # weight of the last term

    commitment: Tensor  # ()
    vectors: Tensor  # (entries, d), which the map makes the entries of

    def __init__(self, config: Config, shape: Shape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        self.entries, self.code_shape = config.entries, code_shape(config, config.latent, shape)[1:]
        self.encoder, self.decoder = encoder(config, shape, config.latent), decoder(config, config.latent, shape)
        self.map = nn.Parameter(torch.eye(config.latent))
        self.criterion_draws = {}
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
        e = self._entries(self._nearest(y))
        codebook, committed = ((a - b).square().flatten(1).sum(1) for a, b in ((y.detach(), e), (y, e.detach())))
        reconstruction = self._error(batch["image"], y + (e - y).detach())
        loss = reconstruction + codebook + self.commitment * committed
        return {"loss": loss, "reconstruction": reconstruction, "codebook": codebook}

    def criterion(self, batch: Batch, noise: Noise) -> Tensor:
        """The error of reconstruction alone, which does not depend on the commitment."""
        return self._error(batch["image"], self._entries(self._nearest(self.encoder(batch["image"]))))

    def encode(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        return self._nearest(self.encoder(images)).float()

    def decode(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        return torch.sigmoid(self.decoder(self._entries(z.long())))

    def _nearest(self, y: Tensor) -> Tensor:
        """(B, d, h, w) -> the indices of the nearest entries, int64 (B, h, w)."""
        codebook = self.codebook
        return (codebook.square().sum(1) - 2 * y.movedim(1, -1) @ codebook.T).argmin(-1)

    def _entries(self, indices: Tensor) -> Tensor:
        return self.codebook[indices].movedim(-1, 1)

    def _error(self, images: Tensor, entries: Tensor) -> Tensor:
        return 0.5 * (images - torch.sigmoid(self.decoder(entries))).square().flatten(1).sum(1)
