"""How well does a model give back an image it is shown?"""

import numpy as np
import torch
from skimage.metrics import structural_similarity

from latentmill.data.batches import Batches
from latentmill.variant import Decodes, Encodes, float_array

SMALLEST_MSE = 1e-10  # 100 dB: an image given back perfectly would have an infinite ratio


@torch.no_grad()
def reconstruct(model: Encodes, images: Batches) -> np.ndarray:
    """Decode the codes of the images, without noise."""
    assert isinstance(model, Decodes)
    return np.concatenate([float_array(model.decode(model.encode(chunk))) for chunk in images.chunks()])


def reconstruction_metrics(images: np.ndarray, reconstructions: np.ndarray) -> dict[str, float]:
    """Mean over images of the squared error a pixel, of the peak signal-to-noise ratio, and of SSIM."""
    mse = np.square(images - reconstructions).mean((1, 2, 3))
    psnr = -10 * np.log10(np.maximum(mse, SMALLEST_MSE))
    ssim = [_ssim(image, other) for image, other in zip(images, reconstructions, strict=True)]
    return {"mse": float(mse.mean()), "psnr_db": float(psnr.mean()), "ssim": float(np.mean(ssim))}


def _ssim(image: np.ndarray, other: np.ndarray) -> float:
    """Structural similarity (Wang et al. 2004) of two images (C, H, W); 7x7 windows, smaller ones on tiny images."""
    smallest = min(image.shape[1:])
    window = min(7, smallest - 1 + smallest % 2)
    return float(structural_similarity(image, other, win_size=window, data_range=1.0, channel_axis=0))
