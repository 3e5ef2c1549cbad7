"""The codes of images, and images from codes that a prior draws."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from latentmill.contract import Decodes, Encodes, Generates, Guides, HasBound, HasPrior, Model
from latentmill.data.augmentation import augmentation_draws, augmented
from latentmill.data.batches import Batches, gathered
from latentmill.draws import drawn
from latentmill.errors import InputError


class Generator(nn.Module):
    """A model, and where it can't generate by itself the prior that draws its codes: noise in, images out."""

    def __init__(self, model: Model, prior: Model | None = None) -> None:
        """`prior` is None for a model that turns noise into images itself, or has a prior of its own."""
        super().__init__()
        self.model, self.prior = model, prior
        drawing = model if prior is None else prior
        assert isinstance(drawing, Generates)
        self.noise_width, self.categorical_noise = drawing.noise_width, drawing.categorical_noise
        self.has_codes = isinstance(model, Decodes)
        self.is_conditional = model.is_conditional or (prior is not None and prior.is_conditional)
        self.is_guided = isinstance(prior, Guides) and prior.is_guided

    def code(self, noise: Tensor, label: Tensor | None = None, guidance: Tensor | None = None) -> Tensor:
        """Standard normal noise (B, noise_width) -> codes (B, …)."""
        if isinstance(self.prior, Guides):
            return self.prior.generate(noise, label, guidance)
        if isinstance(self.prior, Generates):
            return self.prior.generate(noise, label)
        if isinstance(self.model, HasPrior):
            return self.model.draw_code(noise)
        return noise.clone()  # an output of a graph that is its input too would be without an operation for it

    def forward(self, noise: Tensor, label: Tensor | None = None, guidance: Tensor | None = None) -> tuple[Tensor, ...]:
        """Noise (B, noise_width) -> images (B, C, H, W), and their codes if there are any.

        Labels (B) are for a pair that is conditional, guidance (B) for one that is guided; without it, it is 1.
        """
        if isinstance(self.model, Decodes):
            z = self.code(noise, label, guidance)
            return self.model.decode(z, label), z
        assert isinstance(self.model, Generates)
        return (self.model.generate(noise, label),)


@torch.no_grad()
def codes_of(model: Encodes, images: Batches) -> np.ndarray:
    """The codes of all images without noise, float32 (N, …)."""
    parts = (float_array(model.encode(*_image_and_label(images, part))) for part in images.slices())
    return gathered(parts, len(images))


@torch.no_grad()
def drawn_codes(model: Encodes, images: Batches, generator: torch.Generator, augment: Sequence[str] = ()) -> np.ndarray:
    """The codes of all images, float32 (N, …); where there is a posterior, one draw from that of each observed image.

    Draws rather than means, because the decoder was trained on draws: together they follow the aggregate posterior. For
    the same reason, images are augmented as in the training of the model.

    Raises:
        InputError: a code is not finite.
    """
    draws = augmentation_draws(augment)

    def draw(part: slice) -> np.ndarray:
        image, label = _image_and_label(images, part)
        seen = augmented(image, drawn(draws, len(image), generator))
        return float_array(_drawn(model, seen, label, generator))

    codes = gathered(map(draw, images.slices()), len(images))
    require_finite("codes", codes)
    return codes


def _drawn(model: Encodes, images: Tensor, label: Tensor | None, generator: torch.Generator) -> Tensor:
    if not isinstance(model, HasBound):
        return model.encode(images, label)
    x = model.observation.observe(images, generator)
    return model.weighed_codes(x, model.code_draw.rows(len(x), generator)[None], label)[0][0]


def _image_and_label(images: Batches, part: slice) -> tuple[Tensor, Tensor | None]:
    batch = images.batch(part)
    return batch["image"], batch.get("label")


def frequent_labels(labels: np.ndarray, count: int, seed: int) -> Tensor:
    """int64 (count), drawn by their frequency among those of training images (N)."""
    return torch.from_numpy(np.random.default_rng(seed).choice(labels, count))


def require_finite(what: str, values: np.ndarray) -> None:
    """Raises: InputError: some are NaN or infinite."""
    bad = np.size(values) - np.count_nonzero(np.isfinite(values))
    if bad:
        raise InputError(f"{what} must be finite, but {bad} of {np.size(values)} values are NaN or infinite")


def float_array(tensor: Tensor) -> np.ndarray:
    """A detached tensor as a float32 array on the host."""
    return tensor.detach().to("cpu", torch.float32).numpy()
