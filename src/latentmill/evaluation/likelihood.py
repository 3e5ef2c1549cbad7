"""The likelihood of images that a model has not been trained on.

`exact` is log p(x) itself. `AIS` has an estimate of the partition function by annealed importance sampling. That is a
little low, so the likelihood is a little too good. `bound` is the importance-weighted lower bound on it,
    L_K = E log 1/K sum_k w_k,  w_k = p(x | z_k) p(z_k) / q(z_k | x),  z_k ~ q(z | x),
which rises from the evidence lower bound L_1 to log p(x) as K grows (Burda et al. 2016). How far it still rises shows
how inexact the posterior is, and whether K is large enough. Shapes: N images, B of them at a time, K codes per image,
d dimensions.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentmill.contract import HasBound, HasEnergy, HasLikelihood, Model
from latentmill.data.batches import Batches, chunk_size
from latentmill.densities import log_mean_exp
from latentmill.evaluation.annealing import Partition, estimate_partition
from latentmill.observations import Observation

CODES_AT_A_TIME = 250  # that the decoder takes: a core's cache holds most of what it then computes
VALUES = 2**22  # that it returns at a time, at most
IMAGES_AT_A_TIME = 500  # where the likelihood is exact
AFFORDED, FEWEST = 2**29, 20  # pixel values that are decoded for a bound, about; images in its mean, at least
CURVE = (1, 10, 100, 1_000)  # numbers of samples at which the bound is reported on its way to K


@dataclass(frozen=True)
class Elbo:
    """The negative evidence lower bound and its parts, nats per image."""

    nats: float  # the sum of the two parts
    reconstruction: float  # -E_q log p(x | z), from K samples
    kl: float  # KL(q(z | x) || p(z)), from the same
    gap: float  # how much tighter the bound with K samples is: about 0 where the posterior is exact


@dataclass(frozen=True)
class Likelihood:
    """Negative log-likelihood of test images, lower is better."""

    kind: str  # "exact", "AIS", "bound (K samples)" or "bound (AIS)"
    nats: float  # mean negative log-likelihood, nats per image
    standard_error: float  # of that mean over the images, and of the partition function
    bits_per_dimension: float  # of 8-bit pixel values for densities, of binary pixels otherwise
    images: int
    sample_space: str  # numbers compare only within one
    curve: dict[str, float] | None = None  # of a bound: number of samples -> nats with that many, falling
    elbo: Elbo | None = None  # of a bound

    def metrics(self) -> dict[str, Any]:
        """The fields by name, without those that are None."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, eq=False)
class Bound:
    """What importance sampling found for each image; float64 tensors (N), in nats."""

    curve: dict[int, Tensor]  # number of samples k -> unbiased estimate of L_k; the last is that with all K
    log_p_x_given_z: Tensor  # mean over the samples
    kl: Tensor  # KL(q(z | x) || p(z)), mean over the samples


def affordable_subset(images: np.ndarray, most: int, samples: int, seed: int) -> np.ndarray:
    """Indices of at most `most` of the images (N, C, H, W), fewer if they are large, because bounds take long.

    They are drawn by `seed`, because images may be sorted by class. They are the same for every model, also if its
    likelihood is exact, so that the numbers of models compare.
    """
    count = min(most, max(FEWEST, AFFORDED // (samples * math.prod(images.shape[1:]))))
    return np.random.default_rng(seed).permutation(len(images))[:count]


@torch.no_grad()
def evaluate_likelihood(
    model: Model, images: Batches, samples: int, seed: int, temperatures: int = 1_000
) -> Likelihood | None:
    """The exact likelihood if a model has one, else with an estimated partition function, else the bound, else None.

    The bound has K = `samples`, the estimate so many `temperatures`. The observed x is drawn from the grey values by
    `seed`: the same draw for every model with the same observation model.
    """
    if not isinstance(model, HasLikelihood | HasEnergy | HasBound):
        return None
    observing, sampling = (torch.Generator(images.device).manual_seed(seed + offset) for offset in (0, 1))
    x = torch.cat([model.observation.observe(chunk, observing) for chunk in images.chunks()])
    if isinstance(model, HasLikelihood):
        log_p = torch.cat([model.log_p_x(chunk) for chunk in x.split(IMAGES_AT_A_TIME)])
        return Likelihood("exact", *_summary(log_p.double(), model.observation, images))
    if isinstance(model, HasEnergy):
        partition = estimate_partition(model.machine, temperatures, sampling)
        return _annealed(model, x, images, partition, sampling)
    labels = images.batch(slice(None)).get("label") if model.is_conditional else None
    found = importance_bound(model, x, samples, sampling, labels)
    summary = _summary(found.curve[samples], model.observation, images)
    curve = {str(number): -float(log_p.mean()) for number, log_p in found.curve.items()}
    bound = Likelihood(f"bound ({samples} samples)", *summary, curve, _elbo(found, curve[str(samples)]))
    return replace(bound, sample_space=f"{bound.sample_space}, given the label") if model.is_conditional else bound


def _annealed(
    model: HasEnergy, x: Tensor, images: Batches, partition: Partition, generator: torch.Generator
) -> Likelihood:
    """From the observed x (N, C, H, W) of the images and the partition function, whose errors add up."""
    log_p = torch.cat([model.log_p_unnormalised(chunk, generator) for chunk in x.split(IMAGES_AT_A_TIME)]).double()
    kind = "bound (AIS)" if model.is_bounded else "AIS"
    found = Likelihood(kind, *_summary(log_p - partition.log_z, model.observation, images))
    return replace(found, standard_error=math.hypot(found.standard_error, partition.standard_error))


@torch.no_grad()
def importance_bound(
    model: HasBound, x: Tensor, samples: int, generator: torch.Generator, labels: Tensor | None = None
) -> Bound:
    """The bound on log p(x) of observed x (N, C, H, W), with exactly K = `samples` codes per image.

    With `labels` (N) it is that of log p(x | label), which a conditional model has.
    """
    some = max(1, _codes_at_a_time(x) // samples)
    chosen = [slice(start, start + some) for start in range(0, len(x), some)]
    parts = [_bound(model, x[each], samples, generator, None if labels is None else labels[each]) for each in chosen]
    curve = {number: torch.cat([part.curve[number] for part in parts]) for number in parts[0].curve}
    return Bound(curve, torch.cat([part.log_p_x_given_z for part in parts]), torch.cat([part.kl for part in parts]))


def _bound(model: HasBound, x: Tensor, samples: int, generator: torch.Generator, label: Tensor | None) -> Bound:
    # One image at a time, so that its draws do not depend on how many images are computed together.
    noise = torch.stack([model.code_draw.rows(samples, generator) for _ in x], 1)  # (K, B, …)
    parts = _parts(model, x, noise, label)
    log_p_x_given_z, log_p_z_over_q = map(torch.cat, zip(*parts, strict=True))
    log_weights = (log_p_x_given_z + log_p_z_over_q).double()  # (K, B)
    curve = {number: _grouped_bound(log_weights, number) for number in (*(k for k in CURVE if k < samples), samples)}
    return Bound(curve, log_p_x_given_z.double().mean(0), -log_p_z_over_q.double().mean(0))


def _parts(model: HasBound, x: Tensor, noise: Tensor, label: Tensor | None) -> Iterator[tuple[Tensor, Tensor]]:
    """log p(x | z) and log p(z) - log q(z | x), each (k, B), for as many codes per image as fit at a time."""
    for some in noise.split(max(1, _codes_at_a_time(x) // len(x))):  # (k, B, …)
        z, log_p_z_over_q = model.weighed_codes(x, some, label)
        yield model.log_p_x_given_z(x, z, label), log_p_z_over_q


def _codes_at_a_time(x: Tensor) -> int:
    return chunk_size(x.shape[1:], CODES_AT_A_TIME, VALUES)


def _grouped_bound(log_weights: Tensor, number: int) -> Tensor:
    """L_k for k = `number`: the mean over disjoint groups of k of the K log-weights (K, B), hence unbiased -> (B)."""
    whole = log_weights[: len(log_weights) // number * number]
    return log_mean_exp(whole.unflatten(0, (-1, number)), dim=1).mean(0)


def _summary(log_p: Tensor, observation: Observation, images: Batches) -> tuple[float, float, float, int, str]:
    """The fields of a likelihood after its kind, from log p(x) of each image (N)."""
    nats = -float(log_p.mean())
    standard_error = float(log_p.std() / math.sqrt(len(log_p)))
    bits = (nats / math.prod(images.shape) - observation.log_volume) / math.log(2)
    return nats, standard_error, bits, len(log_p), observation.sample_space


def _elbo(found: Bound, nats: float) -> Elbo:
    """`nats` are those of the bound with K samples."""
    reconstruction, kl = -float(found.log_p_x_given_z.mean()), float(found.kl.mean())
    return Elbo(reconstruction + kl, reconstruction, kl, reconstruction + kl - nats)
