"""Generators whose verdict follows from how they are made, not from what the judge says of them.

Each makes a pool of samples, uint8 (POOL, C, H, W), from the training images and a seed, which also sets its weights.
Pools of trained generators are kept, because training takes minutes. Shapes: N images.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from latentmill.codes import Generator
from latentmill.config import TrainingConfig
from latentmill.data.batches import Batches
from latentmill.evaluation.copy_kinds import KINDS as COPIES
from latentmill.evaluation.sampling import as_uint8, sample
from latentmill.features.encoder import WIDTH, encoder
from latentmill.registry import build
from latentmill.training.loop import Setup, train

POOL, TRAIN, RESERVED = 2_000, 10_000, 4_000
FEW = 200  # images that a diffusion model learns by heart
SEEDS = (0, 1, 2)
MIXED = 0.2  # share of copies among new images
PYTHAE_SECONDS, DIFFUSION_STEPS, SAMPLER_STEPS, GAN_EPOCHS = 10, 2_000, 20, 10
COMPARED, UNSEEN = 2_000, 500  # samples, and as many images, that a classifier tells apart; those it has not seen
CLASSIFIER_STEPS, BATCH, RATE = 100, 128, 3e-3
POOLS = Path(".latentmill/proofs")
NEED_FLIP = ("mirrored",)  # kinds of copies that Rule 2 may miss where generators are not known to have seen them


@dataclass(frozen=True, eq=False)
class Images:
    """Real images, uint8 (N, C, H, W), and their labels (N), in one random order.

    The first `TRAIN` are those that generators are trained on, the next `RESERVED` are new ones for them to mix with
    copies and for a classifier to tell samples from; the judge sees only the rest.
    """

    every: np.ndarray
    labels: np.ndarray

    @cached_property
    def train(self) -> np.ndarray:
        return self.every[:TRAIN]

    @cached_property
    def reserved(self) -> np.ndarray:
        return self.every[TRAIN : TRAIN + RESERVED]

    def seen_by(self, seed: int | None) -> np.ndarray:
        """The indices of what a generator is trained on: all training images, or of that seed `FEW` of its own."""
        return np.arange(TRAIN) if seed is None else np.arange(FEW) + FEW * seed


Make = Callable[[Images, int], np.ndarray]


def pythae(name: str, images: Images, seed: int) -> np.ndarray:
    """A model of pythae with our convolutions, and codes from N(0, I)."""
    from pythae.trainers.trainer_utils import set_seed  # of the extra `bench`

    from benchmarks import pythae_models
    from benchmarks.peers import as_pythae

    set_seed(seed)
    data, model = as_pythae(images.train), pythae_models.build(name, "conv", images.train.shape[1:])
    ((_, found),) = pythae_models.trained(model, data, [PYTHAE_SECONDS])
    return pythae_models.sampled_from_normal(found, POOL, seed)


def diffusion(few: bool, images: Images, seed: int) -> np.ndarray:
    """A diffusion model of smalldiffusion, trained for the same number of steps on few images or on all."""
    from benchmarks import diffusion_models  # which needs smalldiffusion

    chosen = images.every[images.seen_by(seed if few else None)]
    model = diffusion_models.trained(chosen, DIFFUSION_STEPS, seed)
    return diffusion_models.sampled(model, chosen.shape[1:], POOL, SAMPLER_STEPS, seed)


def gan(images: Images, seed: int) -> np.ndarray:
    """The GAN of this project, which has never seen an image of two classes."""
    kept = Batches(images.train[keeps_classes(images.labels[:TRAIN], seed)])
    model = build("models", "gan", {"latent": 20, "network": "mlp"}, images.train.shape[1:])
    config = TrainingConfig(epochs=GAN_EPOCHS, ema=0.99, keep="last", patience=GAN_EPOCHS)
    train(model, Setup(kept, kept, distance=lambda model: 0.0), config, seed)
    return sample(Generator(model), POOL, seed).images


def keeps_classes(labels: np.ndarray, seed: int) -> np.ndarray:
    """Which labels (N) are of the classes that are left without two of them: bool (N)."""
    lost = np.random.default_rng(seed).choice(np.unique(labels), 2, replace=False)
    return ~np.isin(labels, lost)


def new_images(lacks_classes: bool, images: Images, seed: int) -> np.ndarray:
    """What a perfect generator makes, or one that is perfect but for two classes."""
    rows = np.random.default_rng([seed, 4]).permutation(RESERVED)
    if lacks_classes:
        rows = rows[keeps_classes(images.labels[TRAIN + rows], seed)]
    return images.reserved[rows[:POOL]]


def copies(kind: str, share: float, images: Images, seed: int) -> np.ndarray:
    """Copies of training images of a kind, and new images if `share` is below 1."""
    rng = np.random.default_rng([seed, 1])
    count = round(share * POOL)
    copied = COPIES[kind](images.train[rng.integers(TRAIN, size=count)], rng)
    made = copied if copied.dtype == np.uint8 else as_uint8(copied)
    return np.concatenate([made, images.reserved[rng.permutation(RESERVED)[: POOL - count]]])


@dataclass(frozen=True, eq=False)
class Pool:
    """Samples, uint8 (POOL, C, H, W), and the accuracy of a classifier that tells them from new images, if known."""

    samples: np.ndarray
    accuracy: float | None = None


@dataclass(frozen=True)
class Kind:
    """Generators of one kind, one of each of `SEEDS`."""

    name: str
    make: Make
    rules: tuple[int, ...] = (1, 2)  # by which they are judged
    few: bool = False  # whether trained on few images
    lacks_classes: bool = False
    is_trained: bool = True
    copied: str | None = None  # kind of copy that they make
    needs: str | None = None  # a package

    def generator(self, seed: int) -> str:
        return f"{self.name}, seed {seed}"

    def pool(self, images: Images, seed: int) -> Pool:
        """The pool of the generator of that seed, trained unless it is known."""
        if not self.is_trained:
            return Pool(self.make(images, seed))
        path = POOLS / f"{self.name} {seed}.npz"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            samples = self.make(images, seed)
            accuracies = [] if self.few else [told_apart(samples, images.reserved, seed)]
            np.savez(path, samples=samples, accuracies=accuracies)
        with np.load(path) as found:
            return Pool(found["samples"], *found["accuracies"].round(3).tolist())


def told_apart(samples: np.ndarray, real: np.ndarray, seed: int) -> float:
    """The accuracy, on unseen ones, of a convolutional network that was trained to tell samples from real images."""
    rng = np.random.default_rng(seed)
    parts = [Batches(each[rng.permutation(len(each))[:COMPARED]]) for each in (samples, real)]
    labels = torch.tensor([0, 1]).repeat_interleave(BATCH // 2)
    torch.manual_seed(seed)
    network = nn.Sequential(encoder(parts[0].shape), nn.Linear(WIDTH, 2))
    optimiser = torch.optim.Adam(network.parameters(), RATE)
    for _ in range(CLASSIFIER_STEPS):
        batch = torch.cat([part[rng.integers(UNSEEN, len(part), BATCH // 2)] for part in parts])
        optimiser.zero_grad()
        functional.cross_entropy(network(batch), labels).backward()
        optimiser.step()
    network.eval()
    with torch.no_grad():
        found = [float((network(part[:UNSEEN]).argmax(1) == label).float().mean()) for label, part in enumerate(parts)]
    return sum(found) / 2


def kinds() -> Iterator[Kind]:
    """All of them."""
    yield Kind("new images", partial(new_images, False), is_trained=False)
    yield Kind("new images without two classes", partial(new_images, True), lacks_classes=True, is_trained=False)
    for name in ("AE", "VAE"):
        yield Kind(f"pythae's {name}, codes from N(0, I)", partial(pythae, name), needs="pythae")
    yield Kind(f"diffusion, {TRAIN:,} images", partial(diffusion, False), needs="smalldiffusion")
    yield Kind(f"diffusion, {FEW} images", partial(diffusion, True), (2,), few=True, needs="smalldiffusion")
    yield Kind("GAN without two classes", gan, lacks_classes=True)
    for share in (1.0, MIXED):
        for kind in COPIES:
            name = f"{100 * share:.0f} % copies, {kind}"
            yield Kind(name, partial(copies, kind, share), (2,), is_trained=False, copied=kind)
