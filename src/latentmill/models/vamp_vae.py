"""Variational autoencoder with a VampPrior: codes are drawn as if of images that it has made up.

    p(z) = 1/M sum_m q(z | u_m),  u_m learned pseudo-inputs

The prior that maximises the evidence lower bound is the mean of all posteriors; that of M pseudo-inputs stands in for
it without a copy of every image (Tomczak & Welling 2018). Shapes: M pseudo-inputs, K codes of B images, d dimensions.

Adds: a prior made of the posteriors of learned pseudo-images, so that it takes the shape of the codes.
Lacks: sharpness, like any variational autoencoder; and pseudo-images may collapse onto a few.
"""

import torch
from torch import Tensor, nn

from latentmill.config import PositiveInt
from latentmill.data.batches import Batches
from latentmill.densities import gaussian_log_prob, log_mean_exp, reparameterised
from latentmill.draws import borders, selected
from latentmill.networks import Shape
from latentmill.networks.encoder_decoder import EncoderDecoderConfig
from latentmill.networks.own_prior import OwnPriorVae


class VampVae(OwnPriorVae):
    """Pseudo-inputs begin as training images. The first column of the noise selects one."""

    class Config(EncoderDecoderConfig):
        components: PositiveInt = 100  # pseudo-inputs, M

    categorical_noise = 1
    thresholds: Tensor  # (M - 1), between which the first column of the noise lies equally often

    def __init__(self, config: Config, shape: Shape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        self.noise_width += 1
        self.pseudo_inputs = nn.Parameter(torch.rand(config.components, *shape))
        self.register_buffer("thresholds", borders(torch.full((config.components,), 1 / config.components)))

    @torch.no_grad()
    def fit(self, examples: Batches, val: Batches, generator: torch.Generator) -> None:
        chosen = torch.randint(len(examples), (len(self.pseudo_inputs),), generator=generator, device=generator.device)
        self.pseudo_inputs.copy_(examples[chosen.cpu().numpy()])

    def log_p_z(self, z: Tensor) -> Tensor:
        mean, log_variance = (each.flatten(1) for each in self.posterior(self._images(self.pseudo_inputs)))  # (M, d)
        each = gaussian_log_prob(z.flatten(2).unsqueeze(2), mean, log_variance).sum(3)  #                     (K, B, M)
        return log_mean_exp(each, 2)

    def draw_code(self, noise: Tensor) -> Tensor:
        mean, log_variance = self.posterior(self._images(self.pseudo_inputs[selected(noise, self.thresholds)]))
        return reparameterised(mean, log_variance, noise[:, 1:].unflatten(1, self.code_shape))

    def _images(self, pseudo_inputs: Tensor) -> Tensor:
        return pseudo_inputs.clamp(0, 1)
