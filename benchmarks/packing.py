"""Training throughput against peers on the same data, network, batch and epochs: pythae, a DataLoader, Ray Tune.

A trial alone has one thread on either side. Both sides take turns, each time in a fresh process, and a figure is the
median of the rounds' ratios. A sweep runs once a side, and all of it counts: of ours the start and end of Ray; of
pythae, in one process with the threads that torch takes by itself, what lies between the building of the first model
and the last one's file; of Ray Tune all but Ray's start.

Beside the targets this prints, for each side, images a second, trials an hour, and the share of its speed if it
computed nothing but the layers' products, on all the cores that it has.
"""

import os
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from math import ceil
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.loops import BATCH, HIDDEN, LATENT, Products, multiply, our_epoch
from benchmarks.peers import Task, apart, pythae_trial, pythae_trials, tune_trials
from benchmarks.sweep import EQUAL, swept
from benchmarks.target import Result, Target
from benchmarks.training import seconds, timed_rounds
from latentmill.cluster.process import use_one_core
from latentmill.config import DataConfig, TrainingConfig
from latentmill.data import sources
from latentmill.data.batches import Batches
from latentmill.data.collection import Loaded
from latentmill.data.sources import fashion_mnist
from latentmill.models.vae import Vae
from latentmill.networks import NetworkConfig, decoder, encoder
from latentmill.training.loop import Setup, train

PRODUCTS = Target("packing: mlp on one thread, against its products alone", "x", at_least=0.75)
MLP = Target("packing: mlp on one thread, against pythae", "x", at_least=1.5)
CONV = Target("packing: conv on one thread, against pythae", "x", at_least=1.5)
BFLOAT16 = Target("packing: conv in bfloat16, against float32", "x", at_least=1.4)
SWEEP = Target("packing: 16 trials, against pythae in turn", "x", at_least=4)
DIGITS = Target("packing: 16 trials of 64 units on 8x8 digits, against pythae in turn", "x", at_least=5)
DIGITS_USUAL = Target("likewise of 400 units", "x", at_least=5)

# Together some 12 minutes on two cores.
ROUNDS = 3
MLP_EPOCHS = 1  # of all 60 000 images
CONV_IMAGES, CONV_EPOCHS = 10_000, 2
SWEEP_IMAGES, SWEEP_EPOCHS = 10_000, 10
DIGITS_EPOCHS = 120  # of all 1 797 images; as many as params.yaml allows a trial

VALIDATION = 500  # images, the first, as in `swept`
LADDER = EQUAL  # one VAE a learning rate
RATES: list[float] = LADDER["vae"]["learning_rate"]
CORES = len(os.sched_getaffinity(0))


def measure() -> Iterator[Result]:
    """Fashion-MNIST at the usual size of a network, and small networks and images, where a step is mostly overhead."""
    if fashion_mnist.FOLDER.exists():
        images = fashion_mnist.read_pair(fashion_mnist.FOLDER, "train")[0]
        yield from measure_mlp(images)
        yield measure_conv(images[:CONV_IMAGES])
        yield measure_bfloat16(images[:CONV_IMAGES])
        yield measure_sweep(SWEEP, images[:SWEEP_IMAGES], SWEEP_EPOCHS)
    else:
        yield from (target.not_measured("dataset-fashion-mnist") for target in (PRODUCTS, MLP, CONV, BFLOAT16, SWEEP))
    collection = sources.load(DataConfig(source="digits"))
    assert isinstance(collection, Loaded)
    digits = collection.images
    yield measure_sweep(DIGITS, digits, DIGITS_EPOCHS, hidden=64)
    yield measure_sweep(DIGITS_USUAL, digits, DIGITS_EPOCHS)


def measure_mlp(images: np.ndarray) -> Iterator[Result]:
    """Nobody evaluates, because `train_steps` does not."""
    rounds = apart(own_rounds, images)
    yield PRODUCTS.result(statistics.median(products / ours for ours, _, products in rounds))
    _, loader, products = medians(rounds)
    task = Task("mlp", images, None, MLP_EPOCHS)
    yield against_pythae(MLP, task, our_mlp, products, {"DataLoader loop": loader * MLP_EPOCHS})


def measure_conv(images: np.ndarray) -> Result:
    task = Task("conv", images, images[:VALIDATION], CONV_EPOCHS)
    return against_pythae(CONV, task, our_conv, apart(products_seconds, task), {})


def measure_bfloat16(images: np.ndarray) -> Result:
    task = Task("conv", images, images[:VALIDATION], CONV_EPOCHS)
    rounds = [[apart(our_conv, task, precision) for precision in ("float32", "bfloat16")] for _ in range(ROUNDS)]
    return BFLOAT16.result(statistics.median(exact / rounded for exact, rounded in rounds))


def against_pythae(
    target: Target, task: Task, ours: Callable[[Task], float], products: float, others: Mapping[str, float]
) -> Result:
    """One trial on one thread; `products` are seconds an epoch, `others` those of the task."""
    if not find_spec("pythae"):
        return target.not_measured("pythae")
    rounds = [(apart(ours, task), pythae_trial(task, threads=1)) for _ in range(ROUNDS)]
    our_seconds, their_seconds = medians(rounds)
    took = {"latentmill": our_seconds, "pythae": their_seconds, **others}
    tell(target, task, took, products, trials=1, cores=1)
    return target.result(statistics.median(theirs / ours for ours, theirs in rounds))


def measure_sweep(target: Target, images: np.ndarray, epochs: int, hidden: int = HIDDEN) -> Result:
    """A trial a learning rate: ours on all cores, pythae's with torch's default threads."""
    if not find_spec("pythae"):
        return target.not_measured("pythae")
    task = Task("mlp", images, images[:VALIDATION], epochs, hidden)
    took = {"latentmill": our_sweep(task), "pythae in turn": pythae_trials(task, RATES, threads=None)}
    if task.image_shape == (1, 28, 28):  # which the tutorial's network is for
        took["latentmill, bfloat16"] = our_sweep(task, "bfloat16")
        took["Ray Tune, a process each"] = tune_trials(images, epochs, RATES, CORES)
    tell(target, task, took, apart(products_seconds, task), len(RATES), CORES)
    return target.result(took["pythae in turn"] / took["latentmill"])


def our_sweep(task: Task, precision: str = "float32") -> float:
    trial: dict[str, Any] = {"epochs": task.epochs, "patience": task.epochs, "max_steps": 10**9}
    trial |= {"batch_size": BATCH, "precision": precision}
    ladder = {"vae": LADDER["vae"] | {"hidden": task.hidden}}
    return apart(swept, ladder, trial, task.images, CORES).whole


def our_mlp(task: Task) -> float:
    use_one_core()
    our_epoch(task.images[:BATCH])()  # to warm up
    epoch = our_epoch(task.images)
    return sum(seconds(epoch) for _ in range(task.epochs))


def our_conv(task: Task, precision: str = "float32") -> float:
    use_one_core()
    trained(replace(task, images=task.images[:BATCH], epochs=1), precision)  # to warm up
    return trained(task, precision)


def trained(task: Task, precision: str) -> float:
    """Seconds of `train`: its epochs, each with its validation."""
    torch.manual_seed(0)
    model = Vae(Vae.Config(network=task.network, hidden=task.hidden, latent=LATENT), task.image_shape)
    asked = {"epochs": task.epochs, "patience": task.epochs, "batch_size": BATCH, "precision": precision}
    assert task.val is not None
    setup = Setup(Batches(task.images), Batches(task.val))
    return seconds(lambda: train(model, setup, TrainingConfig.model_validate(asked), seed=0))


def own_rounds(images: np.ndarray) -> list[tuple[float, float, float]]:
    use_one_core()
    return timed_rounds(images)


def products_seconds(task: Task) -> float:
    """One thread's, for the products of an epoch: each layer's output, and the gradients of its weights and input."""
    use_one_core()
    layers, steps = products(task), ceil(len(task.images) / BATCH)
    multiply(layers, steps=1)  # to warm up
    return statistics.median(seconds(lambda: multiply(layers, steps)) for _ in range(ROUNDS))


@torch.no_grad()
def products(task: Task) -> list[Products]:
    """Those of a step, in the order of the layers."""
    config, shape = NetworkConfig(network=task.network, hidden=task.hidden), task.image_shape
    encoding = (encoder(config, shape, 2 * LATENT), torch.rand(BATCH, *shape))
    decoding = (decoder(config, LATENT, shape), torch.rand(BATCH, LATENT))
    found: list[Products] = []
    for network, x in (encoding, decoding):
        for layer in network.children():
            y = layer(x)
            if isinstance(layer, nn.Linear):
                found.append(Products(layer.in_features, layer.out_features, is_first=not found))
            elif isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                found.append(Convolution(layer, x, y, is_first=not found))
            x = y
    return found


class Convolution(Products):
    """What a convolution computes in a step, its counterpart to a linear layer's products."""

    def __init__(self, layer: nn.Conv2d | nn.ConvTranspose2d, x: Tensor, y: Tensor, is_first: bool) -> None:
        self.x, self.weight, self.y_gradient = x, layer.weight.detach(), torch.randn_like(y)
        is_transposed = isinstance(layer, nn.ConvTranspose2d)
        self.how = (layer.stride, layer.padding, layer.dilation, is_transposed, layer.output_padding, layer.groups)
        self.wanted = (not is_first, True, False)  # gradients of input, weights and bias

    def forward(self) -> None:
        torch.ops.aten.convolution(self.x, self.weight, None, *self.how)

    def backward(self) -> None:
        torch.ops.aten.convolution_backward(self.y_gradient, self.x, self.weight, None, *self.how, self.wanted)


def medians(rounds: Sequence[Sequence[float]]) -> list[float]:
    """Of each column."""
    return [statistics.median(column) for column in zip(*rounds, strict=True)]


def tell(target: Target, task: Task, took: Mapping[str, float], products: float, trials: int, cores: int) -> None:
    """A line a side, of the seconds that it took; `products` are those of an epoch on one core."""
    print(f"  {target.name}: {trials} x {task.epochs} epochs of {len(task.images)} images")
    for side, spent in took.items():
        epochs = trials * task.epochs / spent  # a second
        speed = f"{epochs * len(task.images):8.0f} images/s, {epochs * len(task.images) / trials:7.0f} a trial"
        share = epochs * products / cores
        print(f"  {side:<26} {speed}, {3600 * trials / spent:7.1f} trials/h, {share:.2f} of the products", flush=True)
