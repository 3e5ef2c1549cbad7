"""Importance-weighted autoencoder: a tighter bound on the likelihood, from several codes of each image.

    L_K = E log 1/K sum_k w_k,  w_k = p(x | z_k) p(z_k) / q(z_k | x),  z_k ~ q(z | x)

With K = 1 it is a variational autoencoder (Burda et al. 2016). A larger K lets q be less exact, but leaves its encoder
less to learn from. So of M K codes (Rainforth et al. 2018) `miwae` takes the mean of M bounds L_K; `piwae` that for the
encoder, and L_MK for the decoder; `ciwae` a part `share` of L_1 and the rest of L_MK. `iwae` is L_MK.

Adds: several codes for each image, weighted by how well they explain it: a tighter bound on the likelihood.
Lacks: sharper samples, for pixels are still independent given the code; and the more codes, the less its encoder
learns.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from latentmill.config import NOT_SEARCHABLE, OnlyWith, PositiveInt
from latentmill.contract import Batch, Phase, Terms
from latentmill.densities import log_mean_exp
from latentmill.draws import Draw, Noise
from latentmill.networks import Shape
from latentmill.networks.encoder_decoder import EncoderDecoder, EncoderDecoderConfig

CRITERION_SAMPLES = 10  # codes of an image by which trials compare, whatever they were trained with


class Iwae(EncoderDecoder):
    """Trials compare by a bound of the same K."""

    class Config(EncoderDecoderConfig):
        objective: Annotated[Literal["iwae", "miwae", "piwae", "ciwae"], NOT_SEARCHABLE] = "iwae"  # what is maximised
        codes: PositiveInt = 5  # of each image, K
        groups: PositiveInt = 1  # of so many codes, M
        # ciwae: of the bound with one code
        share: Annotated[float, Field(ge=0, le=1), OnlyWith("objective", ("ciwae",), "ciwae")] = 0.5

    share: Tensor  # ()

    def __init__(self, config: Config, shape: Shape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        self.objective = config.objective
        x = {"x": self.observation.draw(shape)}
        self.draws = x | {"z": Draw("normal", (config.groups, config.codes, *self.code_shape))}
        self.criterion_draws = x | {"z": Draw("normal", (1, CRITERION_SAMPLES, *self.code_shape))}
        self.register_buffer("share", torch.tensor(config.share))

    def phases(self) -> Sequence[Phase]:
        if self.objective != "piwae":
            return (Phase(Iwae.loss, self.draws),)
        encoder = Phase(Iwae.grouped_loss, self.draws, "encoder", moves="encoder.")
        return (encoder, Phase(Iwae.loss, self.draws, "decoder", moves=("decoder.", "observation.")))

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        if self.objective == "miwae":
            return self.grouped_loss(batch, noise)
        log_w = self._log_weights(batch, noise).flatten(0, 1)  # (M K, B)
        loss = -log_mean_exp(log_w, 0)
        return {"loss": torch.lerp(loss, -log_w.mean(0), self.share) if self.objective == "ciwae" else loss}

    def grouped_loss(self, batch: Batch, noise: Noise) -> Terms:
        return {"loss": -log_mean_exp(self._log_weights(batch, noise), 1).mean(0)}

    def criterion(self, batch: Batch, noise: Noise) -> Tensor:
        """The bound with `CRITERION_SAMPLES` codes."""
        return self.grouped_loss(batch, noise)["loss"]

    def _log_weights(self, batch: Batch, noise: Noise) -> Tensor:
        """log w_k of the codes that the noise z (B, M, K, …) makes: (M, K, B)."""
        x = self.observation.observed(batch["image"], noise["x"])
        z, log_p_z_over_q = self.weighed_codes(x, noise["z"].flatten(1, 2).transpose(0, 1))  # (M K, B, …), (M K, B)
        return (self.log_p_x_given_z(x, z) + log_p_z_over_q).unflatten(0, noise["z"].shape[1:3])
