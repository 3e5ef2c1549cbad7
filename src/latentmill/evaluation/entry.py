"""All that is asked of one entry of the ladder: of the model itself, and of its samples under each prior.

Each question is a pure function of its arguments, so that all may be asked at a time, wherever there is a core.
"""

from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np

from latentmill.config import EvaluationConfig
from latentmill.data.batches import Batches, as_float, chunk_size
from latentmill.errors import InputError
from latentmill.evaluation import pictures, sampling
from latentmill.evaluation.candidates import Reduced
from latentmill.evaluation.copies import near_copy_metrics, near_copy_threshold
from latentmill.evaluation.corruptions import noisy
from latentmill.evaluation.features import Features, PixelFeatures
from latentmill.evaluation.fidelity import TooFew
from latentmill.evaluation.finite import require_finite_metrics
from latentmill.evaluation.holes import prior_metrics, told_apart
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
from latentmill.evaluation.likelihood import affordable, evaluate_likelihood
from latentmill.evaluation.neighbours import K, Neighbours, TrainingSet, joined_neighbours, nearest_metrics
from latentmill.evaluation.reconstruction import compare_all, reconstruct, reconstruction_metrics
from latentmill.evaluation.selection import selection_metrics
from latentmill.priors import Mixture
from latentmill.variant import Decodes, Encodes, HasPosterior, PriorName, Variant, float_array

PAIRS, WORST = 32, 16  # reconstructions shown
USUAL = 2_000  # training images, for what is usual among them
COMPARED = 5_000  # test images, for what is usual of them and for reconstructions; codes, beside draws from a prior
SAMPLES_SHOWN, SHOWN = 64, 48  # samples in a picture; those that the report shows beside their neighbours
MAPPED = 3_000  # codes on the map; more are only ink
INTERPOLATIONS, STEPS = 6, 16

Metrics = dict[str, Any]


@dataclass(frozen=True)
class Material:
    """The prepared images, uint8 (N, C, H, W), and their labels (N), indices into `classes`, if any.

    Training images of one of `train_groups` (N), if there are groups, belong together.
    """

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    train_labels: np.ndarray | None
    val_labels: np.ndarray | None
    test_labels: np.ndarray | None
    classes: list[str] | None = field(default=None, kw_only=True)
    train_groups: np.ndarray | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Raises: InputError: there are fewer images than any evaluation needs."""
        for split, fewest in (("train", K + 1), ("test", 2)):
            if len(getattr(self, split)) < fewest:
                count = len(getattr(self, split))
                raise InputError(f"an evaluation needs at least {fewest} images in {split}, but there are {count}")

    @property
    def known_labels(self) -> np.ndarray | None:
        """Of train, then of val."""
        if self.train_labels is None or self.val_labels is None:
            return None
        return np.concatenate([self.train_labels, self.val_labels])


@dataclass(frozen=True)
class Findings:
    """What one question came to."""

    metrics: Metrics
    pictures: dict[str, bytes]  # file name -> PNG
    kl: np.ndarray | None = None  # (d,), nats of each latent dimension
    distances: np.ndarray | None = None  # (N,), of samples to the nearest training image, in pixels
    shown: list[list[float]] = field(default_factory=list)  # of the samples shown, the distances to the K nearest


@dataclass(frozen=True)
class Usual:
    """What is usual of the pixel distances to the nearest training images, and what all entries need of these."""

    test: Neighbours  # of the test images
    near: float  # the relative distance below which an image is a near copy
    reduced: Reduced | None  # of the training images, where these are large
    pixels: Features  # fitted to the training images


def usual(given: Material, seed: int) -> Usual:
    """From the test images, and from some training images among the others; of many test images, from some too."""
    index, rng = TrainingSet(given.train), np.random.default_rng(seed)
    chosen = rng.permutation(len(given.train))[:USUAL]
    near = near_copy_threshold(index.others(chosen), _noisy_copies(index, given.train, chosen, seed))
    some = np.sort(rng.permutation(len(given.test))[:COMPARED])
    return Usual(index.nearest(given.test[some]), near, index.reduced, PixelFeatures.fit(given.train))


def _noisy_copies(index: TrainingSet, train: np.ndarray, chosen: np.ndarray, seed: int) -> Neighbours:
    """The neighbours of those `chosen` (n) with noise; a chunk of them are floats at a time."""
    rng, size = np.random.default_rng(seed), chunk_size(train.shape[1:])
    parts = [chosen[start : start + size] for start in range(0, len(chosen), size)]
    return joined_neighbours([index.nearest(noisy(as_float(train[part]), rng)) for part in parts])


def judge_model(model: Variant, given: Material, config: EvaluationConfig) -> Findings:
    """The questions that need no samples. What a model cannot do is left out.

    Raises:
        InputError: what the model yields is not finite.
    """
    metrics: Metrics = {"exported_prior": sampling.default_route(model)}
    some = Batches(affordable(given.test, config.likelihood_images, config.importance_samples, config.seed))
    kl = None
    with TemporaryDirectory() as name:
        folder = Path(name)
        if isinstance(model, HasPosterior):
            kl = kl_per_dimension(model, Batches(given.test), config.seed)
            pictures.draw_kl(folder / "kl.png", kl)
        if isinstance(model, Encodes) and isinstance(model, Decodes):
            metrics["reconstruction"] = _reconstructions(model, given, config.seed, folder)
            metrics["latent"] = _codes(model, given, kl, config.seed, folder)
        likelihood = evaluate_likelihood(model, some, config.importance_samples, config.seed)
        if likelihood:
            metrics["likelihood"] = likelihood.metrics()
        if likelihood and likelihood.curve and likelihood.elbo:
            pictures.draw_likelihood(folder / "likelihood.png", likelihood.curve, likelihood.elbo.nats)
        require_finite_metrics(metrics)
        return Findings(metrics, _read(folder), kl=kl)


def _reconstructions(model: Encodes, given: Material, seed: int, folder: Path) -> Metrics:
    images = Batches(np.asarray(given.test)[drawn(given.test, COMPARED, seed)])
    found = compare_all(model, images)
    for name, shown in (("reconstructions", np.arange(len(images))[:PAIRS]), ("worst", found.worst(WORST))):
        some = images[shown]
        pictures.draw_pairs(folder / f"{name}.png", float_array(some), reconstruct(model, some))
    return reconstruction_metrics(found)


def _codes(model: Encodes, given: Material, kl: np.ndarray | None, seed: int, folder: Path) -> Metrics:
    """Straight lines between test images in the codes' space, single dimensions, and the map of the codes."""
    assert isinstance(model, Decodes)
    z = codes(model, Batches(given.test))[drawn(given.test, len(given.test), seed)]
    lines = min(INTERPOLATIONS, len(z) // 2)
    pictures.draw_interpolations(
        folder / "interpolations.png", interpolate(model, z[:lines], z[lines : 2 * lines], STEPS)
    )
    pictures.draw_traversals(folder / "traversals.png", traversals(model, z, z.var(0) if kl is None else kl))
    mapped = drawn(given.test, MAPPED, seed)
    points, prior = map_to_plane(
        _draws_of(model, given.test, mapped, seed), sampling.sample_codes(model, model.prior_name, MAPPED, seed)
    )
    labels = None if given.test_labels is None else given.test_labels[mapped]
    pictures.draw_codes(folder / "codes.png", points, labels, prior, given.classes)
    found = {"dimensions": model.latent, "active_units": active_units(z)}
    return found | {"path_longest_step": path_longest_step(model, z, seed)} | (kl_metrics(kl) if kl is not None else {})


def judge_samples(
    model: Variant, route: str, given: Material, usual: Usual, judge: Judge, config: EvaluationConfig
) -> Findings:
    """Both rules, of the samples drawn under one prior.

    Raises:
        InputError: a sample, or what follows from it, is not finite.
    """
    samples = sampling.sample(model, route, config.samples, config.seed)
    nearest = TrainingSet(given.train, usual.reduced).nearest(samples)
    metrics = _told(judge.judge(samples)) | {
        "near_copies": near_copy_metrics(nearest, usual.test, usual.near),
        "nearest": nearest_metrics(nearest, usual.test),
        "validation": selection_metrics(samples, given.val, judge.fidelity_spaces, config.seed),
    }
    if isinstance(model, Encodes) and isinstance(model, Decodes):
        metrics |= _prior(model, route, given, usual.pixels, config.seed)
    require_finite_metrics(metrics)
    with TemporaryDirectory() as folder:
        _draw_samples(Path(folder), route, samples, nearest, given, usual)
        made = _read(Path(folder))
    return Findings(metrics, made, distances=nearest.distances[:, 0], shown=nearest.distances[:SHOWN].tolist())


def _prior(model: Encodes, route: str, given: Material, features: Features, seed: int) -> Metrics:
    """How the prior meets the codes of images, which is what the decoder was made for."""
    assert isinstance(model, Decodes)
    seen, unseen = (
        _draws_of(model, images, drawn(images, COMPARED, seed), seed) for images in (given.train, given.test)
    )
    draws = sampling.sample_codes(model, route, COMPARED, seed)
    found: Metrics = {"prior": prior_metrics(draws, unseen)}
    with suppress(TooFew):
        found["hole"] = {
            "told_apart": told_apart(model, draws, unseen, features, seed),
            "test_told_apart": told_apart(model, seen, unseen, features, seed),
        }
    prior = model.prior(cast(PriorName, route))
    if route == "mixture" and isinstance(prior, Mixture):
        found["mixture_components"] = prior.components
    return found


def drawn(images: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Indices of as many, or all, in a random order: as they lie on disk images may be sorted by class."""
    return np.random.default_rng(seed).permutation(len(images))[:most]


def _draws_of(model: Encodes, images: np.ndarray, chosen: np.ndarray, seed: int) -> np.ndarray:
    """From the posteriors of those `chosen` (n): (n, d)."""
    return posterior_draws(model, Batches(np.asarray(images)[chosen]), seed)


def _told(judgement: Judgement) -> Metrics:
    measures: Metrics = {}
    for each in (found for estimates in judgement.estimates.values() for found in estimates):
        of_space = measures.setdefault(each.calibration.space, {})
        of_space[each.calibration.measure] = {"value": each.value, "standard_error": each.standard_error}
    return {f"rule_{rule}": asdict(verdict) for rule, verdict in judgement.verdicts.items()} | {"measures": measures}


def _draw_samples(
    folder: Path, route: str, samples: np.ndarray, nearest: Neighbours, given: Material, usual: Usual
) -> None:
    pictures.draw_samples(folder / f"samples_{route}.png", as_float(samples[:SAMPLES_SHOWN]))
    pictures.draw_closest(folder / f"closest_{route}.png", samples, nearest, given.train)
    pictures.draw_distances(folder / f"distances_{route}.png", nearest, usual.test)
    pictures.draw_gallery(folder / f"gallery_{route}.png", samples[:SHOWN], nearest[:SHOWN], given.train)


def _read(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
