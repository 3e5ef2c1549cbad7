"""A distance between images in the layers of a network, which sees the details that a squared error of pixels blurs.

    d(x, y) = sum_l |f_l(x) - f_l(y)|^2 / E|f_l|^2

f_l are the layers of an encoder that has learned from the user's own images, without labels, to recognise one among
others (Johnson et al. 2016 and, for variational autoencoders, Hou et al. 2017, with a network for photographs).
"""

import torch
from torch import Generator, Tensor, nn

from latentmill.data.batches import Batches
from latentmill.features.encoder import encoder
from latentmill.features.self_supervised import trained_encoder
from latentmill.networks import Shape

LOOKED_AT = 500  # images, for the size of each layer
SEEDS, STEPS = 2**31, 200  # of the training of the encoder


class PerceptualDistance(nn.Module):
    """Fitted to images once, then constant: all that it holds are buffers, which no optimiser moves."""

    sizes: Tensor  # (L), E|f_l|^2 a unit

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.encoder: nn.Sequential = encoder(shape).eval()
        for module in list(self.encoder.modules()):
            _parameters_as_buffers(module)
        self.register_buffer("sizes", torch.ones(sum(isinstance(each, nn.ReLU) for each in self.encoder)))

    def fit(self, images: Batches, generator: Generator) -> None:
        """Train the encoder, with a seed drawn from `generator`."""
        seed = int(torch.randint(SEEDS, (), generator=generator, device=generator.device))
        self.encoder.load_state_dict(trained_encoder(images, seed, steps=STEPS).state_dict())
        with torch.no_grad():
            self.sizes.copy_(torch.stack([layer.square().mean() for layer in self._layers(images[:LOOKED_AT])]))

    def train(self, mode: bool = True) -> "PerceptualDistance":
        """Stays in evaluation mode, or its normalisation would follow the batches."""
        return super().train(False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1], of both -> (B), the sum over the layers, each by its mean over units."""
        pairs = zip(self._layers(x), self._layers(y), self.sizes, strict=True)
        return torch.stack([(a - b).float().square().flatten(1).mean(1) / size for a, b, size in pairs]).sum(0)

    def _layers(self, images: Tensor) -> list[Tensor]:
        found = []
        for module in list(self.encoder)[1:]:  # all but that which makes images smaller, and would hide details
            normalises = isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
            images = module(images.float() if normalises else images)  # which has statistics in float32
            if isinstance(module, nn.ReLU):
                found.append(images)
        return found


def _parameters_as_buffers(module: nn.Module) -> None:
    for name, value in list(module.named_parameters(recurse=False)):
        delattr(module, name)
        module.register_buffer(name, value.detach())
