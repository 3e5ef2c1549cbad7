"""How well a model reconstructs images.

Images are float32 (N, C, H, W) in [0, 1]; N images, C channels, H, W pixels.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from latentmill.codes import float_array, require_finite
from latentmill.contract import Decodes, Encodes
from latentmill.data.batches import Batches, chunk_size

SMALLEST_MSE = 1e-10  # 100 dB: a perfect reconstruction would have an infinite ratio
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, finest first (Wang et al. 2003)
CHUNK_PIXELS = 100_000  # values of images compared at a time


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """How near each reconstruction is to its image; all arrays are (N)."""

    mse: np.ndarray  # mean squared error per pixel, at least 0
    psnr_db: np.ndarray  # peak signal-to-noise ratio, at most 100 dB
    ssim: np.ndarray  # structural similarity (Wang et al. 2004), in [-1, 1]
    ms_ssim: np.ndarray  # the same at several scales (Wang et al. 2003), in [0, 1]

    def worst(self, count: int) -> np.ndarray:
        """Indices of the `count` images with the largest squared errors, the worst first; fewer if there are fewer."""
        return np.argsort(-self.mse, kind="stable")[:count]


@torch.no_grad()
def reconstruct(model: Encodes, images: Tensor, label: Tensor | None = None) -> np.ndarray:
    """Decode the codes of images (B, C, H, W), without noise; `label` (B) are theirs, for a conditional model.

    Raises:
        InputError: the reconstructions are not finite.
    """
    assert isinstance(model, Decodes)
    made = float_array(model.decode(model.encode(images, label), label))
    require_finite("reconstructions", made)
    return made


def compare_all(model: Encodes, images: Batches) -> Reconstruction:
    """All images against their reconstructions, in chunks."""
    parts = []
    for part in images.slices():
        batch = images.batch(part)
        made = reconstruct(model, batch["image"], batch.get("label"))
        parts.append(compare(float_array(batch["image"]), made))
    return Reconstruction(
        *(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(Reconstruction))
    )


@torch.no_grad()
def compare(images: np.ndarray, reconstructions: np.ndarray) -> Reconstruction:
    """Each of the images against its reconstruction, both (N, C, H, W) of any size."""
    mse = np.square(images - reconstructions).mean((1, 2, 3), dtype=np.float64)
    return Reconstruction(
        mse=mse,
        psnr_db=-10 * np.log10(np.maximum(mse, SMALLEST_MSE)),
        ssim=np.concatenate([float_array(_ssim(*pair)) for pair in _pairs(images, reconstructions)]),
        ms_ssim=np.concatenate([float_array(_ms_ssim(*pair)) for pair in _pairs(images, reconstructions)]),
    )


def reconstruction_metrics(found: Reconstruction) -> dict[str, float]:
    """Means over the images; for the squared error also the median, the 95th percentile and the maximum."""
    return {
        "mse": float(found.mse.mean()),
        "mse_median": float(np.median(found.mse)),
        "mse_p95": float(np.quantile(found.mse, 0.95)),
        "mse_worst": float(found.mse.max()),
        "psnr_db": float(found.psnr_db.mean()),
        "ssim": float(found.ssim.mean()),
        "ms_ssim": float(found.ms_ssim.mean()),
    }


def window(height: int, width: int) -> int:
    """The side of the uniform windows in which images are compared, in pixels.

    The largest odd number up to a quarter of the shorter side, from 3 to 7: 7 for 28 pixels and more, 3 for up to 19.
    Images with a side below 3 have no neighbourhoods, so their windows are single pixels.
    """
    side = min(height, width)
    if side < 3:
        return 1
    quarter = side // 4
    return min(7, max(3, quarter - 1 + quarter % 2))


def scale_weights(height: int, width: int) -> tuple[float, ...]:
    """The first of `SCALE_WEIGHTS`, as many as fit, divided by their sum: 3 for 28 pixels, 2 for 8, 1 for up to 5.

    A scale has half the side of the one before, and fits if its shorter side is at least that of the window. The
    library requires more, that the shorter side over (scales - 1)² is.
    """
    side, window_side = min(height, width), window(height, width)
    fitting = [
        scales
        for scales in range(2, len(SCALE_WEIGHTS) + 1)
        if min(side >> (scales - 1), side // (scales - 1) ** 2) >= window_side and side >= 2**scales
    ]
    chosen = SCALE_WEIGHTS[: max(fitting, default=1)]
    return tuple(weight / sum(chosen) for weight in chosen)


def _pairs(images: np.ndarray, others: np.ndarray) -> Iterator[tuple[Tensor, Tensor]]:
    """Float32, in which similarities are up to 0.0003 off in flat white areas: float64 is ten times slower."""
    size = chunk_size(images.shape[1:], len(images), CHUNK_PIXELS)
    for start in range(0, len(images), size):
        rows = slice(start, start + size)
        yield torch.tensor(images[rows]), torch.tensor(others[rows])


def _ssim(images: Tensor, others: Tensor) -> Tensor:
    """(B, C, H, W), (B, C, H, W) -> (B)."""
    from torchmetrics.functional.image import structural_similarity_index_measure  # here, because it loads slowly

    side = window(*images.shape[2:])
    found = structural_similarity_index_measure(
        others, images, gaussian_kernel=False, kernel_size=side, data_range=1.0, reduction="none"
    )
    assert isinstance(found, Tensor)
    return found


def _ms_ssim(images: Tensor, others: Tensor) -> Tensor:
    """(B, C, H, W), (B, C, H, W) -> (B): 0 if a scale is not correlated, because products of roots need that."""
    weights = scale_weights(*images.shape[2:])
    if len(weights) == 1:
        return _ssim(images, others).relu()
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    side = window(*images.shape[2:])
    return multiscale_structural_similarity_index_measure(
        others,
        images,
        gaussian_kernel=False,
        kernel_size=side,
        data_range=1.0,
        betas=weights,
        normalize="relu",
        reduction="none",
    )
