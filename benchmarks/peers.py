"""Peers in training: pythae's BaseTrainer, and Ray Tune with a process a trial; the plain loop stands in loops.py.

Each is measured in a process of its own. Shapes: B batch, d latent dimensions.
"""

import logging
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, ParamSpec, TypeVar

import numpy as np
import ray
import torch
from ray import tune
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.loops import BATCH, HIDDEN, LATENT, RATE, TutorialVae, tutorial_step
from latentmill.networks import NetworkConfig, Shape

P = ParamSpec("P")
R = TypeVar("R")
Network = Literal["mlp", "conv"]
EVALUATION_BATCH = 500  # images, as `Batches.chunks` has them


@dataclass(frozen=True, eq=False)
class Task:
    """What a trial is, whoever runs it: our `vae` of that network, Bernoulli pixels, Adam, batches of `BATCH`."""

    network: Network
    images: np.ndarray  # uint8 (N, C, H, W)
    val: np.ndarray | None  # likewise, evaluated after each epoch; None: no evaluation
    epochs: int
    hidden: int = HIDDEN  # units of the mlp

    @property
    def image_shape(self) -> Shape:
        return self.images.shape[1], self.images.shape[2], self.images.shape[3]


def apart(work: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
    """What `work` returns, from a fresh process: no earlier measurement has set its threads or filled its memory."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(work, *arguments, **named).result()


def settle(threads: int | None) -> None:
    """Set torch's threads, None for as many as it takes by itself, and flush denormals, as our workers do.

    A peer's user would not know to; that the peers get it too makes their figures better, never ours. It comes
    first, because the threads of torch's pool take it over when they start.
    """
    torch.set_flush_denormal(True)
    if threads is not None:
        torch.set_num_threads(threads)


def pythae_trial(task: Task, threads: int | None) -> float:
    """Seconds that pythae takes to train one model, without imports and the conversion of the images."""
    return pythae_trials(task, [RATE], threads)


def pythae_trials(task: Task, rates: Sequence[float], threads: int | None) -> float:
    """Seconds that pythae takes to train a model a learning rate, in turn, in one process that converts once."""
    return apart(_in_turn, task, rates, threads)


def _in_turn(task: Task, rates: Sequence[float], threads: int | None) -> float:
    settle(threads)
    logging.disable(logging.INFO)  # settings at the start, losses after each epoch
    images, val = as_pythae(task.images), None if task.val is None else as_pythae(task.val)
    _train(task, as_pythae(task.images[:BATCH]), None, epochs=1, rate=RATE)  # to warm up
    started = time.perf_counter()
    for rate in rates:
        _train(task, images, val, task.epochs, rate)
    return time.perf_counter() - started


def as_pythae(images: np.ndarray) -> Any:
    """The data set that pythae's own pipeline makes of an array: float32 in [0, 1]."""
    from pythae.data.preprocessors import DataProcessor

    return DataProcessor.to_dataset(torch.tensor(images) / 255)


def _train(task: Task, images: Any, val: Any, epochs: int, rate: float) -> None:
    """Build a model and train it; like our trials, it ends as a file of the best epoch's weights."""
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from pythae.trainers.training_callbacks import CallbackHandler

    class QuietTrainer(BaseTrainer):  # type: ignore[misc]  # pythae has no types
        """Without the progress bar and the printer that pythae adds to every run: it does less, never more."""

        def _setup_callbacks(self) -> None:
            self.callback_handler = CallbackHandler([], self.model)

    with tempfile.TemporaryDirectory() as folder:
        config = BaseTrainerConfig(
            output_dir=folder,
            num_epochs=epochs,
            learning_rate=rate,
            per_device_train_batch_size=BATCH,
            per_device_eval_batch_size=EVALUATION_BATCH,
            no_cuda=True,
        )
        QuietTrainer(pythae_vae(task), images, val, config).train()


def pythae_vae(task: Task) -> Any:
    """Our two networks in pythae's VAE, whose "bce" is the cross-entropy of pixels in [0, 1], hence their sigmoid."""
    from pythae.models import VAE, VAEConfig

    from benchmarks.pythae_models import Decoder, Encoder

    network, shape = NetworkConfig(network=task.network, hidden=task.hidden), task.image_shape
    config = VAEConfig(input_dim=shape, latent_dim=LATENT, reconstruction_loss="bce")
    made = VAE(config, Encoder(network, shape, LATENT, has_posterior=True), Decoder(network, shape, LATENT))
    plain(made.decoder.layers)
    return made


def plain(decoder: nn.Module) -> None:
    """Make torch compute the layers as it does by itself."""
    for layer in decoder.children():
        if isinstance(layer, nn.ConvTranspose2d):
            layer.forward = partial(nn.ConvTranspose2d.forward, layer)  # type: ignore[method-assign]


def tune_trials(images: np.ndarray, epochs: int, rates: Sequence[float], cores: int) -> float:
    """Seconds that Ray Tune takes for a trial a learning rate, one process and one core each, Ray's start left out.

    A trial is the tutorial's loop, of `mlp` on images of 28x28. It evaluates nothing and keeps no weights, so it has
    less to do than the others.
    """
    return apart(_tune, images, epochs, rates, cores)


def _tune(images: np.ndarray, epochs: int, rates: Sequence[float], cores: int) -> float:
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # whose table of the settings `verbose=0` would leave
    ray.init(address="local", num_cpus=cores, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    try:
        with tempfile.TemporaryDirectory() as folder:
            trainable = tune.with_parameters(_tutorial_trial, images=images, epochs=epochs)
            tuner = tune.Tuner(
                tune.with_resources(trainable, {"cpu": 1}),
                param_space={"learning_rate": tune.grid_search(list(rates))},
                tune_config=tune.TuneConfig(max_concurrent_trials=cores, reuse_actors=False),
                run_config=tune.RunConfig(storage_path=folder, verbose=0),
            )
            started = time.perf_counter()
            results = tuner.fit()
            seconds = time.perf_counter() - started
    finally:
        ray.shutdown()
    assert (len(results), results.num_errors) == (len(rates), 0), results.errors
    return seconds


def _tutorial_trial(config: dict[str, Any], images: np.ndarray, epochs: int) -> None:
    settle(threads=1)
    loader = DataLoader(TensorDataset(torch.tensor(images) / 255), batch_size=BATCH, shuffle=True)
    model = TutorialVae()
    optimiser = torch.optim.Adam(model.parameters(), config["learning_rate"])
    for _ in range(epochs):
        loss = sum(tutorial_step(model, optimiser, batch) for (batch,) in loader) / len(images)
        tune.report({"train_loss": loss})
