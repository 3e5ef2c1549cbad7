"""Feature spaces, in which samples are compared with real images.

Training images are uint8 (N, C, H, W), as prepared. Images to be judged are the same, or float32 (N, C, H, W) in
[0, 1]. Both may be mapped from disk: only one chunk at a time is held as floats.
"""

import os
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import numpy as np
import torch
from sklearn.decomposition import PCA
from torch import Tensor, nn
from torch.nn import functional as F

from latentmill.codes import float_array
from latentmill.data.batches import Batches, as_float
from latentmill.errors import InputError
from latentmill.features.aligned import NAME as ALIGNED
from latentmill.features.aligned import AlignedPixels
from latentmill.features.encoder import WIDTH, apply, digest, digest_of_weights, encoder
from latentmill.features.self_supervised import SelfSupervisedFeatures

COMPONENTS = 64  # at most, of the pixels
FITTED, FITTED_VALUES = 10_000, 20_000_000  # training images that the components are fitted to, and their pixels
EXACT_PIXELS = 1_024  # images of up to this many have exact components; the covariance of larger ones is too large

LEARNING_RATE, STEPS, BATCH = 3e-3, 400, 128  # of the classifier: the same work for any number of images
TIMM_CHUNK = 50  # images at a time


class Features(Protocol):
    """A map from images to vectors with meaningful distances."""

    @property
    def name(self) -> str:
        """As in `feature_space`."""

    @property
    def digest(self) -> str:
        """SHA-256 of what defines the map, in hexadecimal: values compare only if it is the same."""

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """uint8 (N, C, H, W), or float32 in [0, 1] -> float32 (N, D)."""


@dataclass(frozen=True, eq=False)
class PixelFeatures:
    """Principal components of the pixels, not whitened: distances are those of the pixels, without the noise."""

    digest: str
    pca: PCA
    name: str = "pixels"

    @classmethod
    def fit(cls, train: np.ndarray, chosen: np.ndarray | None = None) -> "PixelFeatures":
        """Fit the components to training images, at least 2, or to those `chosen`, indices.

        There are at most as many components as pixels, and as images minus 1.
        """
        chosen = np.arange(len(train)) if chosen is None else chosen
        some = min(FITTED, max(COMPONENTS + 1, FITTED_VALUES // train[0].size))
        drawn = np.sort(np.random.default_rng(0).permutation(chosen)[:some])  # they may be sorted by class
        rows = as_float(np.asarray(train)[drawn]).reshape(len(drawn), -1)
        exact = rows.shape[1] <= EXACT_PIXELS
        solver = "covariance_eigh" if exact else "randomized"
        pca = PCA(min(COMPONENTS, rows.shape[1], len(rows) - 1), svd_solver=solver, random_state=0).fit(rows)
        return cls(digest(pca.mean_, pca.components_), pca)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return apply(lambda chunk: torch.from_numpy(self.pca.transform(chunk.flatten(1).numpy())), images)


@dataclass(frozen=True, eq=False)
class ClassifierFeatures:
    """The last hidden layer of a small convolutional classifier of the training images.

    It is trained in 15 s on one thread for 28x28 grey images. Fitted to 70% of the images, its accuracy on the others
    is 99% for the 8x8 digits and 98% for 5 000 images of MNIST.
    """

    digest: str
    class_names: np.ndarray  # the labels, sorted: what an index of `classes` means
    body: nn.Module  # (B, C, H, W) -> (B, WIDTH)
    head: nn.Module  # (B, WIDTH) -> (B, classes)
    name: str = "classifier"

    @classmethod
    def fit(
        cls, train: np.ndarray, labels: np.ndarray, seed: int, chosen: np.ndarray | None = None
    ) -> "ClassifierFeatures":
        """Train the network on images and their labels (N), or on those `chosen`, indices.

        The result is determined by them, `seed` and the number of threads.
        """
        chosen = np.arange(len(train)) if chosen is None else chosen
        names, targets = np.unique(labels[chosen], return_inverse=True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            body, head = encoder((train.shape[1], train.shape[2], train.shape[3])), nn.Linear(WIDTH, len(names))
        network = nn.Sequential(body, head)
        _train(network, Batches(train), chosen, torch.from_numpy(targets), torch.Generator().manual_seed(seed))
        return cls(digest_of_weights(network), names, body, head)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return apply(self.body, images)

    def classes(self, features: np.ndarray) -> np.ndarray:
        """The most probable class of each row (N, D), as an index into `class_names`: int64 (N)."""
        with torch.no_grad():
            return float_array(self.head(torch.tensor(features))).argmax(1)


class TimmFeatures:
    """The pooled features of a pretrained network of timm, whose weights are on the user's disk."""

    def __init__(self, model_name: str) -> None:
        """Load the network.

        Raises:
            InputError: timm is not installed, knows no weights for the model, or they are not on disk.
        """
        self.name = f"timm:{model_name}"
        self._network, config = _load_timm(model_name)
        self.digest = digest_of_weights(self._network)
        self._size: tuple[int, int] = tuple(config["input_size"][1:])
        self._mean, self._std = (torch.tensor(config[key])[:, None, None] for key in ("mean", "std"))  # (3, 1, 1)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return apply(lambda chunk: self._network(self._prepared(chunk)), images, chunk=TIMM_CHUNK)

    def _prepared(self, images: Tensor) -> Tensor:
        """(B, 1, 3 or 4, H, W) in [0, 1] -> (B, 3, *size), normalised for the network; alpha on white."""
        if images.shape[1] == 4:
            images = images[:, :3] * images[:, 3:] + (1 - images[:, 3:])
        resized = F.interpolate(images, self._size, mode="bilinear", antialias=True)
        return (resized.expand(-1, 3, -1, -1) - self._mean) / self._std


def feature_space(
    name: str, train: np.ndarray, labels: np.ndarray | None, seed: int, chosen: np.ndarray | None = None
) -> Features:
    """The features of that name, fitted to training images where they need it, or to those `chosen`, indices.

    Raises:
        InputError: the name is unknown, or these images have no labels for a classifier.
    """
    kind, _, model_name = name.partition(":")
    if kind == "timm" and model_name:
        return TimmFeatures(model_name)
    if name == "pixels":
        return PixelFeatures.fit(train, chosen)
    if name == ALIGNED:
        return AlignedPixels(train.shape[1:])
    if name == "self-supervised":
        return SelfSupervisedFeatures.fit(train, seed, chosen)
    if name != "classifier":
        raise InputError(f"features must be pixels, classifier, self-supervised or timm:<model>, but got {name!r}")
    if labels is None:
        raise InputError("features from a classifier need labels, but the images have none")
    return ClassifierFeatures.fit(train, labels, seed, chosen)


def _train(
    network: nn.Module, images: Batches, chosen: np.ndarray, targets: Tensor, generator: torch.Generator
) -> None:
    """Minimise the cross-entropy, with a learning rate that falls to zero, and leave the network in evaluation mode.

    `targets` (n) are those of the images `chosen` (n).
    """
    optimiser = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, STEPS)
    for _ in range(STEPS):
        index = torch.randint(len(chosen), (BATCH,), generator=generator)
        optimiser.zero_grad()
        F.cross_entropy(network(images[chosen[index.numpy()]]), targets[index]).backward()
        optimiser.step()
        schedule.step()
    network.eval()


def _load_timm(model_name: str) -> tuple[nn.Module, dict[str, Any]]:
    """The network in evaluation mode, and the size, mean and standard deviation of the images it was trained on."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # before timm imports the hub's client, which reads it once
    try:
        timm, timm_data = import_module("timm"), import_module("timm.data")
    except (ImportError, RuntimeError) as error:  # the latter from a torchvision that was built for another torch
        rule = "need timm and a torchvision made for this torch"
        raise InputError(f"features timm:{model_name} {rule}, but got: {error}") from error
    try:
        network = timm.create_model(model_name, pretrained=True, num_classes=0).eval()
    except (OSError, RuntimeError) as error:  # what the hub's client and timm raise
        once = f"timm.create_model('{model_name}', pretrained=True) must have run once with a network"
        raise InputError(f"weights of timm:{model_name} must be on disk: {once}, but got: {error}") from error
    return network, timm_data.resolve_model_data_config(network)
