"""Variational autoencoder whose prior is a flow of coupling layers.

    p(z) = N(f(z); 0, I) |df/dz|

f is learned with the rest, so that the prior takes the shape of the codes and not the reverse (Chen et al. 2017); it is
inverted exactly to draw codes. Shapes: K codes of B images, d dimensions.

Adds: an invertible flow as prior, learned with the rest, so that the prior takes the shape of the codes.
Lacks: sharpness: pixels are still independent given the code.
"""

from torch import Tensor, nn

from latentmill.config import PositiveInt
from latentmill.densities import standard_normal_log_prob
from latentmill.networks import Shape
from latentmill.networks.coupling import Coupling
from latentmill.networks.encoder_decoder import EncoderDecoderConfig
from latentmill.networks.own_prior import OwnPriorVae


class CouplingVae(OwnPriorVae):
    """The prior begins as N(0, I)."""

    class Config(EncoderDecoderConfig):
        layers: PositiveInt = 6  # of the flow
        units: PositiveInt = 128  # of each of their two hidden layers

    def __init__(self, config: Config, shape: Shape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        self.flow = nn.ModuleList(
            Coupling(self.noise_width, config.units, bool(layer % 2)) for layer in range(config.layers)
        )

    def log_p_z(self, z: Tensor) -> Tensor:
        y = z.flatten(2)
        log_volume = y.new_zeros(y.shape[:2])
        for layer in self._layers():
            y, more = layer(y)
            log_volume = log_volume + more
        return standard_normal_log_prob(y).sum(2) + log_volume

    def draw_code(self, noise: Tensor) -> Tensor:
        for layer in reversed(self._layers()):
            noise = layer.inverse(noise)
        return noise.unflatten(1, self.code_shape)

    def _layers(self) -> list[Coupling]:
        return [layer for layer in self.flow if isinstance(layer, Coupling)]
