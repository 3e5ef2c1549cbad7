"""All that is asked of one entry of the ladder: its numbers, its pictures, its rows in the plots."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latentmill.config import EvaluationConfig
from latentmill.data.batches import Batches
from latentmill.evaluation import pictures, sampling
from latentmill.evaluation.fidelity import fidelity
from latentmill.evaluation.latent import codes, interpolate, kl_metrics, kl_per_dimension, map_to_plane
from latentmill.evaluation.likelihood import evaluate_likelihood
from latentmill.evaluation.neighbours import Neighbours, TrainingImages, neighbour_metrics
from latentmill.evaluation.reconstruction import reconstruct, reconstruction_metrics
from latentmill.variant import Decodes, Encodes, HasPosterior, Variant

INTERPOLATIONS, STEPS = 6, 16
MAPPED = 3_000  # codes on the map; more are only ink

Metrics = dict[str, Any]


@dataclass(frozen=True)
class Material:
    """The images that every entry is judged on."""

    train: np.ndarray  # uint8 (N, C, H, W)
    test: np.ndarray  # uint8 (N, C, H, W)
    test_labels: np.ndarray | None  # (N)
    index: TrainingImages
    test_neighbours: Neighbours  # of the test images


@dataclass(frozen=True)
class Evaluation:
    """What one model came to."""

    metrics: Metrics
    kl: np.ndarray | None  # (d,), nats of each latent dimension
    distances: dict[str, np.ndarray]  # way to sample -> (N,), to the nearest training image


def material(train: np.ndarray, test: np.ndarray, test_labels: np.ndarray | None) -> Material:
    """Index the training images, and find the nearest of each test image, once for all entries."""
    index = TrainingImages(as_float(train))
    return Material(train, test, test_labels, index, index.nearest(as_float(test)))


def evaluate(model: Variant, given: Material, config: EvaluationConfig, folder: Path) -> Evaluation:
    """Judge one model; its pictures go into `folder`. What a model cannot do is left out."""
    metrics: Metrics = {}
    kl = None
    if isinstance(model, Encodes) and isinstance(model, Decodes):
        metrics["reconstruction"] = _codes_and_back(model, given, folder)
    if isinstance(model, HasPosterior):
        kl = kl_per_dimension(model, Batches(given.test), config.seed)
        pictures.draw_kl(folder / "kl.png", kl)
        metrics["kl"] = kl_metrics(kl)
    some = Batches(given.test[: config.likelihood_images])
    likelihood = evaluate_likelihood(model, some, config.importance_samples, config.seed)
    if likelihood:
        metrics["likelihood"] = asdict(likelihood)
    judged = {route: _judge_samples(model, route, given, config, folder) for route in sampling.routes(model)}
    metrics["samples"] = {route: numbers for route, (numbers, _) in judged.items()}
    metrics["exported_prior"] = sampling.default_route(model)
    return Evaluation(metrics, kl, {route: nearest.distances for route, (_, nearest) in judged.items()})


def _codes_and_back(model: Encodes, given: Material, folder: Path) -> Metrics:
    """Reconstructions, interpolations between test images of the codes' space, and the map of the codes."""
    assert isinstance(model, Decodes)
    images, batches = as_float(given.test), Batches(given.test)
    reconstructions = reconstruct(model, batches)
    pictures.draw_pairs(folder / "reconstructions.png", images[:32], reconstructions[:32])
    z = codes(model, batches)
    lines = min(INTERPOLATIONS, len(z) // 2)
    pictures.draw_interpolations(
        folder / "interpolations.png", interpolate(model, z[:lines], z[lines : 2 * lines], STEPS)
    )
    labels = None if given.test_labels is None else given.test_labels[:MAPPED]
    pictures.draw_codes(folder / "codes.png", map_to_plane(z[:MAPPED]), labels)
    return reconstruction_metrics(images, reconstructions)


def _judge_samples(
    model: Variant, route: str, given: Material, config: EvaluationConfig, folder: Path
) -> tuple[Metrics, Neighbours]:
    samples = sampling.sample(model, route, config.samples, config.seed)
    nearest = given.index.nearest(samples)
    pictures.draw_samples(folder / f"samples_{route}.png", samples)
    pictures.draw_neighbours(folder / f"neighbours_{route}.png", samples, nearest, given.train)
    pictures.draw_distances(folder / f"distances_{route}.png", nearest, given.test_neighbours)
    looks_drawn = fidelity(torch.from_numpy(samples), torch.from_numpy(as_float(given.test)))
    return looks_drawn | neighbour_metrics(nearest, given.test_neighbours), nearest


def as_float(images: np.ndarray) -> np.ndarray:
    """uint8 images as float32 in [0, 1]."""
    return images.astype(np.float32) / 255
