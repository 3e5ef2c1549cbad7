"""The evaluation of one entry of the ladder: of the model itself, and of its samples under each prior.

Each is a pure function, so that all can run at the same time.
"""

from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np

from latentmill.config import EvaluationConfig
from latentmill.contract import Decodes, Encodes, HasPosterior, Model, PriorName, float_array
from latentmill.data.batches import Batches, as_float
from latentmill.evaluation import pictures, sampling
from latentmill.evaluation.baseline import Baseline
from latentmill.evaluation.copies import near_copy_metrics
from latentmill.evaluation.features import Features
from latentmill.evaluation.fidelity import TooFew
from latentmill.evaluation.finite import require_finite_metrics
from latentmill.evaluation.holes import decoded_c2st_accuracy, prior_metrics
from latentmill.evaluation.judge import Judge, Judgement
from latentmill.evaluation.latent import (
    active_units,
    codes,
    interpolate,
    kl_metrics,
    kl_per_dimension,
    map_to_plane,
    path_longest_step,
    posterior_draws,
    traversals,
)
from latentmill.evaluation.likelihood import affordable_subset, evaluate_likelihood
from latentmill.evaluation.neighbours import Neighbours, TrainingSet, nearest_metrics
from latentmill.evaluation.prepared import PreparedData
from latentmill.evaluation.reconstruction import compare_all, reconstruct, reconstruction_metrics
from latentmill.evaluation.selection import selection_metrics
from latentmill.evaluation.spaces import random_indices
from latentmill.priors import Mixture

PAIRS, WORST = 32, 16  # reconstructions shown
COMPARED = 5_000  # test images that are reconstructed; codes of images, and draws from a prior
SAMPLES_SHOWN, SHOWN = 64, 48  # samples in a picture; those that the report shows beside their neighbours
MAPPED = 3_000  # codes on the map, at most
INTERPOLATIONS, STEPS = 6, 16

Metrics = dict[str, Any]


@dataclass(frozen=True)
class EvaluationResult:
    """Of a model, or of its samples under one prior."""

    metrics: Metrics
    pictures: dict[str, bytes]  # file name -> PNG
    kl: np.ndarray | None = None  # (d,), nats of each latent dimension
    distances: np.ndarray | None = None  # (N,), of samples to the nearest training image, in pixels
    shown: list[list[float]] = field(default_factory=list)  # of the samples shown, the distances to the K nearest


def judge_model(model: Model, data: PreparedData, config: EvaluationConfig) -> EvaluationResult:
    """Everything that needs no samples. What a model cannot do is left out.

    Raises:
        InputError: an output of the model is not finite.
    """
    metrics: Metrics = {"exported_prior": sampling.exported_prior(model)}
    some = Batches(affordable_subset(data.test, config.likelihood_images, config.importance_samples, config.seed))
    kl = None
    with TemporaryDirectory() as name:
        folder = Path(name)
        if isinstance(model, HasPosterior):
            kl = kl_per_dimension(model, Batches(data.test), config.seed)
            pictures.draw_kl(folder / "kl.png", kl)
        if isinstance(model, Encodes) and isinstance(model, Decodes):
            metrics["reconstruction"] = _reconstruction(model, data, config.seed, folder)
            metrics["latent"] = _latent_space(model, data, kl, config.seed, folder)
        likelihood = evaluate_likelihood(model, some, config.importance_samples, config.seed)
        if likelihood:
            metrics["likelihood"] = likelihood.metrics()
        if likelihood and likelihood.curve and likelihood.elbo:
            pictures.draw_likelihood(folder / "likelihood.png", likelihood.curve, likelihood.elbo.nats)
        require_finite_metrics(metrics)
        return EvaluationResult(metrics, _read(folder), kl=kl)


def _reconstruction(model: Encodes, data: PreparedData, seed: int, folder: Path) -> Metrics:
    images = Batches(np.asarray(data.test)[random_indices(data.test, COMPARED, seed)])
    found = compare_all(model, images)
    for name, shown in (("reconstructions", np.arange(len(images))[:PAIRS]), ("worst", found.worst(WORST))):
        some = images[shown]
        pictures.draw_pairs(folder / f"{name}.png", float_array(some), reconstruct(model, some))
    return reconstruction_metrics(found)


def _latent_space(model: Encodes, data: PreparedData, kl: np.ndarray | None, seed: int, folder: Path) -> Metrics:
    """Straight lines between codes of test images, single dimensions, and the map of the codes."""
    assert isinstance(model, Decodes)
    z = codes(model, Batches(data.test))[random_indices(data.test, len(data.test), seed)]
    lines = min(INTERPOLATIONS, len(z) // 2)
    pictures.draw_interpolations(
        folder / "interpolations.png", interpolate(model, z[:lines], z[lines : 2 * lines], STEPS)
    )
    pictures.draw_traversals(folder / "traversals.png", traversals(model, z, z.var(0) if kl is None else kl))
    mapped = random_indices(data.test, MAPPED, seed)
    points, prior = map_to_plane(
        _posterior_draws(model, data.test, mapped, seed), sampling.sample_codes(model, model.prior_name, MAPPED, seed)
    )
    labels = None if data.test_labels is None else data.test_labels[mapped]
    pictures.draw_codes(folder / "codes.png", points, labels, prior, data.classes)
    found = {"dimensions": model.latent, "active_units": active_units(z)}
    return found | {"path_longest_step": path_longest_step(model, z, seed)} | (kl_metrics(kl) if kl is not None else {})


def judge_samples(
    model: Model, prior: str, data: PreparedData, baseline: Baseline, judge: Judge, config: EvaluationConfig
) -> EvaluationResult:
    """Both rules, on the samples drawn under one prior.

    Raises:
        InputError: a sample, or a metric of the samples, is not finite.
    """
    samples = sampling.sample(model, prior, config.samples, config.seed)
    nearest = TrainingSet(data.train, baseline.reduced).nearest(samples)
    metrics = _rule_metrics(judge.judge(samples)) | {
        "near_copies": near_copy_metrics(nearest, baseline.test, baseline.near),
        "nearest": nearest_metrics(nearest, baseline.test),
        "validation": selection_metrics(samples, data.val, judge.fidelity_spaces, config.seed),
    }
    if isinstance(model, Encodes) and isinstance(model, Decodes):
        metrics |= _prior_metrics(model, prior, data, baseline.pixels, config.seed)
    require_finite_metrics(metrics)
    with TemporaryDirectory() as folder:
        _draw_samples(Path(folder), prior, samples, nearest, data, baseline)
        made = _read(Path(folder))
    return EvaluationResult(metrics, made, distances=nearest.distances[:, 0], shown=nearest.distances[:SHOWN].tolist())


def _prior_metrics(model: Encodes, prior: str, data: PreparedData, features: Features, seed: int) -> Metrics:
    """How near draws from the prior are to the codes of images, for which the decoder was trained."""
    assert isinstance(model, Decodes)
    seen, unseen = (
        _posterior_draws(model, images, random_indices(images, COMPARED, seed), seed)
        for images in (data.train, data.test)
    )
    draws = sampling.sample_codes(model, prior, COMPARED, seed)
    found: Metrics = {"prior": prior_metrics(draws, unseen)}
    with suppress(TooFew):
        found["hole"] = {
            "c2st_accuracy": decoded_c2st_accuracy(model, draws, unseen, features, seed),
            "baseline_c2st_accuracy": decoded_c2st_accuracy(model, seen, unseen, features, seed),
        }
    fitted = model.prior(cast(PriorName, prior))
    if prior == "mixture" and isinstance(fitted, Mixture):
        found["mixture_components"] = fitted.components
    return found


def _posterior_draws(model: Encodes, images: np.ndarray, chosen: np.ndarray, seed: int) -> np.ndarray:
    """From the posteriors of the images `chosen` (n): (n, d)."""
    return posterior_draws(model, Batches(np.asarray(images)[chosen]), seed)


def _rule_metrics(judgement: Judgement) -> Metrics:
    by_space: Metrics = {}
    for each in (found for estimates in judgement.estimates.values() for found in estimates):
        in_space = by_space.setdefault(each.calibration.space, {})
        in_space[each.calibration.metric] = {"value": each.value, "standard_error": each.standard_error}
    return {f"rule_{rule}": asdict(verdict) for rule, verdict in judgement.verdicts.items()} | {"metrics": by_space}


def _draw_samples(
    folder: Path, prior: str, samples: np.ndarray, nearest: Neighbours, data: PreparedData, baseline: Baseline
) -> None:
    pictures.draw_samples(folder / f"samples_{prior}.png", as_float(samples[:SAMPLES_SHOWN]))
    pictures.draw_closest(folder / f"closest_{prior}.png", samples, nearest, data.train)
    pictures.draw_distances(folder / f"distances_{prior}.png", nearest, baseline.test)
    pictures.draw_gallery(folder / f"gallery_{prior}.png", samples[:SHOWN], nearest[:SHOWN], data.train)


def _read(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
