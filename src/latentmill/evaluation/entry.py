"""The evaluation of one entry of the ladder: of the model itself, and of its samples under each prior.

Each is a pure function, so that all can run at the same time.
"""

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from latentmill.codes import Generator, float_array
from latentmill.config import EvaluationConfig
from latentmill.contract import Decodes, Encodes, HasCodebook, HasComponents, HasPosterior, HasPrior, Model
from latentmill.data.batches import as_float
from latentmill.evaluation import pictures, sampling
from latentmill.evaluation.baseline import Baseline
from latentmill.evaluation.copies import are_near_copies, near_copy_metrics
from latentmill.evaluation.copy_space import AlignedSpace
from latentmill.evaluation.disentanglement import compare_with_factors
from latentmill.evaluation.factor_pictures import draw_importance
from latentmill.evaluation.finite import require_finite_metrics
from latentmill.evaluation.holes import decoded_c2st_accuracy, prior_metrics
from latentmill.evaluation.judge import Judge, Judgement
from latentmill.evaluation.latent import (
    active_units,
    codebook_use,
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
from latentmill.evaluation.selection import COMPARED, selection_metrics
from latentmill.evaluation.spaces import random_indices
from latentmill.features.distances import TooFew
from latentmill.features.spaces import Features

PAIRS, WORST = 32, 16  # reconstructions shown
TESTED = 5_000  # test images that are reconstructed; codes of images, and draws from a prior
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
    metrics: Metrics = {}
    chosen = affordable_subset(data.test, config.likelihood_images, config.importance_samples, config.seed)
    some, kl = data.test_batches(chosen), None
    with TemporaryDirectory() as name:
        folder = Path(name)
        if isinstance(model, HasPosterior) and not isinstance(model, HasPrior):
            kl = kl_per_dimension(model, data.test_batches(), config.seed)
            pictures.draw_kl(folder / "kl.png", kl)
        if isinstance(model, Encodes) and isinstance(model, Decodes):
            metrics["reconstruction"] = _reconstruction(model, data, config.seed, folder)
            metrics["latent"] = _latent_space(model, data, kl, config.seed, folder)
        if compared := compare_with_factors(model, data, config.seed):
            metrics["factors"] = compared.metrics()
            draw_importance(folder / "factors.png", compared.importance, compared.names)
        likelihood = evaluate_likelihood(model, some, config.importance_samples, config.seed, config.temperatures)
        if likelihood:
            metrics["likelihood"] = likelihood.metrics()
        if likelihood and likelihood.curve and likelihood.elbo:
            pictures.draw_likelihood(folder / "likelihood.png", likelihood.curve, likelihood.elbo.nats)
        require_finite_metrics(metrics)
        return EvaluationResult(metrics, _read(folder), kl=kl)


def _reconstruction(model: Encodes, data: PreparedData, seed: int, folder: Path) -> Metrics:
    images = data.test_batches(random_indices(data.test, TESTED, seed))
    found = compare_all(model, images)
    for name, shown in (("reconstructions", np.arange(len(images))[:PAIRS]), ("worst", found.worst(WORST))):
        some = images.batch(shown)
        made = reconstruct(model, some["image"], some.get("label"))
        pictures.draw_pairs(folder / f"{name}.png", float_array(some["image"]), made)
    return reconstruction_metrics(found)


def _latent_space(model: Encodes, data: PreparedData, kl: np.ndarray | None, seed: int, folder: Path) -> Metrics:
    """Straight lines between codes of test images, and single dimensions; code indices have neither."""
    assert isinstance(model, Decodes)
    order = random_indices(data.test, len(data.test), seed)
    z = codes(model, data.test_batches())[order]
    if isinstance(model, HasCodebook):
        return codebook_use(z, model.entries)
    labels = None if data.test_labels is None else data.test_labels[order]
    lines = min(INTERPOLATIONS, len(z) // 2)
    drawn = interpolate(model, z[:lines], z[lines : 2 * lines], STEPS, None if labels is None else labels[:lines])
    pictures.draw_interpolations(folder / "interpolations.png", drawn)
    activity = z.var(0) if kl is None else kl
    pictures.draw_traversals(folder / "traversals.png", traversals(model, z, activity, labels))
    found = {"dimensions": z.shape[1], "active_units": active_units(z)}
    found |= {"path_longest_step": path_longest_step(model, z, seed, labels)}
    return found | (kl_metrics(kl) if kl is not None else {})


def judge_samples(
    generator: Generator,
    prior: str,
    data: PreparedData,
    baseline: Baseline,
    judge: Judge,
    config: EvaluationConfig,
    compared: int = COMPARED,
) -> EvaluationResult:
    """Both rules, on the samples drawn under the prior of that name.

    At most so many are `compared` with the validation images, to choose a prior and a champion.

    Raises:
        InputError: a sample, or a metric of the samples, is not finite.
    """
    drawn = sampling.sample(generator, config.samples, config.seed, data.train_labels)
    samples = drawn.images
    nearest = TrainingSet(data.train, baseline.reduced).nearest(samples, data.mirrored(samples))
    judgement = judge.judge(samples)
    metrics = judgement.metrics() | {
        "near_copies": near_copy_metrics(nearest, baseline.test, baseline.near) | _after_changes(judge, judgement),
        "nearest": nearest_metrics(nearest, baseline.test),
        "validation": selection_metrics(samples, data.val, judge.fidelity_spaces, config.seed, compared),
    }
    has_codes = isinstance(generator.model, Encodes) and isinstance(generator.model, Decodes)
    has_numbers = has_codes and not isinstance(generator.model, HasCodebook)
    if has_codes:
        metrics |= _prior_metrics(generator, drawn, data, baseline.pixels, config.seed)
    require_finite_metrics(metrics)
    with TemporaryDirectory() as folder:
        if has_numbers:
            _draw_codes(Path(folder) / f"codes_{prior}.png", generator.model, drawn, data, config.seed)
        _draw_samples(Path(folder), prior, samples, nearest, data, baseline)
        made = _read(Path(folder))
    return EvaluationResult(metrics, made, distances=nearest.distances[:, 0], shown=nearest.distances[:SHOWN].tolist())


def _after_changes(judge: Judge, judgement: Judgement) -> Metrics:
    """The shares of samples and of test images that are near copies after small changes, where these are looked for."""
    space = next((each for each in judge.spaces[2] if isinstance(each, AlignedSpace)), None)
    found = [each.value for each in judgement.estimates[2] if space and each.calibration.space == space.name]
    if space is None or not found:
        return {}
    held_out = float(are_near_copies(space.test.nearest, space.near).mean())
    return {"after_changes": {"share": found[0], "held_out": held_out}}


def _prior_metrics(
    generator: Generator, drawn: sampling.Samples, data: PreparedData, features: Features, seed: int
) -> Metrics:
    """How near draws from the prior are to the codes of images, for which the decoder was trained."""
    model, prior = generator.model, generator.prior
    assert isinstance(model, Encodes)
    assert isinstance(model, Decodes)
    assert drawn.codes is not None
    train = data.train_batches(random_indices(data.train, TESTED, seed))
    test = data.test_batches(random_indices(data.test, TESTED, seed))
    seen, unseen = (posterior_draws(model, images, seed) for images in (train, test))
    draws, labels = drawn.codes[:TESTED], None if drawn.labels is None else drawn.labels[:TESTED]
    found: Metrics = {}
    with suppress(TooFew):
        if not isinstance(model, HasCodebook):
            found["prior"] = prior_metrics(draws, unseen)
        found["hole"] = {
            "c2st_accuracy": decoded_c2st_accuracy(model, draws, unseen, features, seed, labels, test.labels),
            "baseline_c2st_accuracy": decoded_c2st_accuracy(
                model, seen, unseen, features, seed, train.labels, test.labels
            ),
        }
    return found | ({"mixture_components": prior.components} if isinstance(prior, HasComponents) else {})


def _draw_codes(path: Path, model: Model, drawn: sampling.Samples, data: PreparedData, seed: int) -> None:
    """The map of the codes of test images over draws from the prior."""
    assert isinstance(model, Encodes)
    assert drawn.codes is not None
    mapped = random_indices(data.test, MAPPED, seed)
    z = posterior_draws(model, data.test_batches(mapped), seed)
    points, draws = map_to_plane(z, drawn.codes[:MAPPED])
    labels = None if data.test_labels is None else data.test_labels[mapped]
    pictures.draw_codes(path, points, labels, draws, data.classes)


def _draw_samples(
    folder: Path, prior: str, samples: np.ndarray, nearest: Neighbours, data: PreparedData, baseline: Baseline
) -> None:
    pictures.draw_samples(folder / f"samples_{prior}.png", as_float(samples[:SAMPLES_SHOWN]))
    pictures.draw_closest(folder / f"closest_{prior}.png", samples, nearest, data.train)
    pictures.draw_distances(folder / f"distances_{prior}.png", nearest, baseline.test)
    pictures.draw_gallery(folder / f"gallery_{prior}.png", samples[:SHOWN], nearest[:SHOWN], data.train)


def _read(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
