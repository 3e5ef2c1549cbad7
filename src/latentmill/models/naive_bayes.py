"""Naive Bayes: every pixel an independent coin.

    log p(x) = sum_i x_i log p_i + (1 - x_i) log(1 - p_i),  p_i = (sum_n x_ni + s) / (N + 2 s)

Maximum likelihood is the mean image; the pseudocount s keeps a pixel that never varied from having probability 0.
Bishop 2006, section 8.2.2. Its samples show what a model without correlations between pixels can do: noise around
the mean.
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from latentmill.config import Settings
from latentmill.contract import Batch, HasLikelihood, Model
from latentmill.data.batches import Batches
from latentmill.draws import Noise
from latentmill.networks import ImageShape
from latentmill.observations import Bernoulli


class NaiveBayes(Model, HasLikelihood):
    """p(x) = prod_i Bernoulli(x_i; p_i), fitted to the expected counts of randomly binarised pixels."""

    closed_form = True
    logits: Tensor  # (C, H, W), of p
    thresholds: Tensor  # (C, H, W), the normal quantiles of p

    class Config(Settings):
        pseudocount: Annotated[float, Field(gt=0)] = 1.0  # s: imagined black and white images, each

    def __init__(self, config: Config, image_shape: ImageShape) -> None:
        super().__init__(config, image_shape)
        self.pseudocount = config.pseudocount
        self.observation = Bernoulli()
        self.draws = {"x": self.observation.draw(image_shape)}
        self.noise_width = image_shape[0] * image_shape[1] * image_shape[2]
        self.register_buffer("logits", torch.zeros(image_shape))
        self.register_buffer("thresholds", torch.zeros(image_shape))

    def before_training(self, images: Batches, generator: torch.Generator) -> None:
        total = torch.zeros(images.image_shape, dtype=torch.float64, device=images.device)
        for chunk in images.chunks():
            total += chunk.sum(0, dtype=torch.float64)
        p = (total + self.pseudocount) / (len(images) + 2 * self.pseudocount)
        self.logits.copy_(torch.logit(p))
        self.thresholds.copy_(torch.special.ndtri(p))

    def forward(self, batch: Batch, noise: Noise) -> dict[str, Tensor]:
        return {"loss": -self.log_p_x(self.observation.observed(batch["image"], noise["x"]))}

    def log_p_x(self, x: Tensor) -> Tensor:
        return self.observation.log_prob(x, self.logits)

    def generate(self, noise: Tensor) -> Tensor:
        """Pixel i is white where the noise lies below the p_i-quantile of the standard normal."""
        return (noise.unflatten(1, self.logits.shape) < self.thresholds).float()
