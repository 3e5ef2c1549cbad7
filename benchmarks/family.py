"""The variational family, ours beside pythae's: `python -m benchmarks.family FOLDER`, a prepared data set with labels.

Each model of both sides has the same MLP (one hidden layer), codes of as many dimensions, batches, learning rate and
epochs, and one core. Weights of losses are those that pythae's repository has for MNIST and our defaults, so that each
side is as its users get it; pythae has no DIP-VAE, and no VQ-VAE that a network of vectors would suit. Codes are drawn
from N(0, I), but from a mixture of ten Gaussians for an RAE, and from the VampPrior. Reconstructions are compared by
their squared error on test images, samples by the judge that belongs to neither side.
"""

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from benchmarks.entries import prepared_data
from benchmarks.independent_judge import Judge
from benchmarks.peers import apart, as_pythae
from benchmarks.pipeline import fresh_clone, repro, set_source
from benchmarks.target import Result, Target
from latentmill.cluster.process import use_one_core
from latentmill.codes import Generator, drawn_codes
from latentmill.config import TrainingConfig
from latentmill.contract import LatentModel, Model
from latentmill.data.batches import Batches, as_float
from latentmill.data.sources.fashion_mnist import FOLDER
from latentmill.errors import InputError, one_line_errors
from latentmill.evaluation.prepared import PreparedData
from latentmill.evaluation.reconstruction import reconstruct
from latentmill.evaluation.sampling import sample
from latentmill.evaluation.spaces import random_subset
from latentmill.registry import build
from latentmill.training.loop import Setup, train

LATENT, HIDDEN, EPOCHS, BATCH, RATE, COMPONENTS = 16, 400, 10, 100, 1e-3, 10
NETWORK = {"latent": LATENT, "network": "mlp", "hidden": HIDDEN}
RATIO = Target("family: the largest ratio of ours to pythae's", "x", at_most=1.0)
Row = dict[str, float]


@dataclass(frozen=True)
class Ours:
    """One of our models, its settings, and what draws its codes; None for a prior of its own."""

    model: str
    settings: dict[str, Any]
    prior: str | None = "normal"


GAUSSIAN = {"observation": "gaussian"}
MODELS = {  # by the name that it has among pythae's
    "VAE": Ours("vae", GAUSSIAN),
    "β-VAE": Ours("vae", GAUSSIAN | {"beta": 2.0}),
    "IWAE": Ours("iwae", GAUSSIAN | {"codes": 5}),
    "WAE": Ours("info_vae", GAUSSIAN | {"kl": 0, "draws": False}),
    "InfoVAE": Ours("info_vae", GAUSSIAN),
    "RAE": Ours("rae", {}, "mixture"),
    "β-TC": Ours("beta_tc", GAUSSIAN | {"beta": 2.0}),
    "FactorVAE": Ours("factor_vae", GAUSSIAN),
    "AAE": Ours("aae", {}),
    "VAMP": Ours("vamp_vae", GAUSSIAN | {"components": 50}, None),
}


def main() -> int:
    options = parser().parse_args()
    results = measured(options)
    print(*results, sep="\n")
    return 0 if all(result.holds for result in results) else 1


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser("python -m benchmarks.family", description=__doc__.splitlines()[0])
    made.add_argument("folder", type=Path, help="a prepared data set with labels")
    made.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS, metavar="NAME")
    made.add_argument("--seeds", type=int, nargs="+", default=[0])
    made.add_argument("--epochs", type=int, default=EPOCHS)
    return made


def measure() -> Iterator[Result]:
    """On Fashion-MNIST, prepared as params.yaml says."""
    if not FOLDER.exists() or not find_spec("pythae"):
        yield RATIO.not_measured("pythae" if FOLDER.exists() else "dataset-fashion-mnist")
        return
    with fresh_clone() as clone:
        set_source(clone / "params.yaml", "fashion-mnist")
        repro(clone, "prepare")
        yield from apart(measured, parser().parse_args([str(clone / "data/prepared")]))


def measured(options: argparse.Namespace) -> list[Result]:
    """Of each figure the ratio of ours to pythae's, for each model, mean over the seeds; the rows are printed."""
    if not find_spec("pythae"):
        raise InputError("pythae must be installed, by pip install '.[bench]'")
    use_one_core()
    threadpool_limits(1)  # of scikit-learn's mixture
    logging.disable(logging.INFO)
    data, results = prepared_data(options.folder), []
    judge = Judge(data, len(data.test))
    print(f"{'real images':<12} {'':<10} {judge(random_subset(data.val, judge.count, seed=0))}", flush=True)
    for name in options.models:
        sides = {"latentmill": ours, "pythae": pythaes}
        rows = {
            side: averaged([work(name, data, options.epochs, seed, judge) for seed in options.seeds])
            for side, work in sides.items()
        }
        for side, row in rows.items():
            print(f"{name:<12} {side:<10} {row}", flush=True)
        for figure in ("squared error", "frechet", "seconds"):
            target = Target(f"family: {name}, {figure} of ours against pythae's", "x", at_most=1.0)
            results.append(target.result(rows["latentmill"][figure] / rows["pythae"][figure]))
    return results


def averaged(rows: list[Row]) -> Row:
    return {key: round(float(np.mean([row[key] for row in rows])), 3) for key in rows[0]}


def ours(name: str, data: PreparedData, epochs: int, seed: int, judge: Judge) -> Row:
    spec, shape = MODELS[name], data.train.shape[1:]
    torch.manual_seed(seed)
    model = build("models", spec.model, NETWORK | spec.settings, shape)
    config = TrainingConfig(epochs=epochs, batch_size=BATCH, learning_rate=RATE, keep="last", max_steps=10**9)
    started = time.process_time()
    train(model, Setup(Batches(data.train), Batches(data.val)), config, seed)
    seconds = time.process_time() - started
    model.eval()
    assert isinstance(model, LatentModel)
    samples = sample(Generator(model, _prior(spec, model, data, seed)), judge.count, seed).images
    return _row(seconds, _error(partial(reconstruct, model), data), judge(samples))


def _prior(spec: Ours, model: LatentModel, data: PreparedData, seed: int) -> Model | None:
    if spec.prior is None:
        return None
    prior = build("priors", spec.prior, {"components": COMPONENTS} if spec.prior == "mixture" else {}, model.code_shape)
    generator = torch.Generator().manual_seed(seed)
    codes, held_out = (Batches(drawn_codes(model, Batches(images), generator)) for images in (data.train, data.val))
    prior.fit(codes, held_out, generator)
    return prior


def pythaes(name: str, data: PreparedData, epochs: int, seed: int, judge: Judge) -> Row:
    from pythae.trainers.trainer_utils import set_seed  # of the extra `bench`

    from benchmarks import pythae_family, pythae_models

    set_seed(seed)
    model, images = pythae_family.build(name, data.train.shape[1:]), as_pythae(data.train)
    with tempfile.TemporaryDirectory() as folder:
        trainer = pythae_models.quiet_trainer(model, images, folder, epochs)
        started = time.process_time()
        trainer.train()
        seconds = time.process_time() - started
    samples = pythae_family.sampled(model, images.data, judge.count, seed)
    return _row(seconds, _error(lambda some: model.reconstruct(some).numpy(), data), judge(samples))


def _error(reconstructed: Callable[[torch.Tensor], np.ndarray], data: PreparedData) -> float:
    """The squared error of test images, summed over pixels, mean over images."""
    chunks = (torch.from_numpy(as_float(data.test[start : start + 500])) for start in range(0, len(data.test), 500))
    with torch.no_grad():
        found = [np.square(reconstructed(some) - some.numpy()).sum((1, 2, 3)) for some in chunks]
    return float(np.concatenate(found).mean())


def _row(seconds: float, error: float, judged: Row) -> Row:
    return {"seconds": seconds, "squared error": error} | judged


if __name__ == "__main__":
    with one_line_errors():
        sys.exit(main())
