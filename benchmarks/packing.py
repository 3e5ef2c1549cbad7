"""Training throughput against its peers: the same data, network, batch and epochs, on the same machine.

A single trial runs on one thread on either side, in turn, round after round; its figure is the median of the rounds'
ratios. A sweep runs once: ours whole, with Ray's start and end and the priors that every trial fits to its codes;
pythae's models one after the other in one process, with the threads that torch takes by itself, from the first
model's building to the last one's file. Beside the targets it prints, of everyone, images a second, trials an hour
and the share of the speed at which the matrix products (and convolutions) alone would run, on as many cores.
"""

import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from math import ceil

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.loops import BATCH, HIDDEN, LATENT, RATE, Products, loader_epoch, multiply, our_epoch, products_epoch
from benchmarks.peers import Network, Task, apart, pythae_trial, pythae_trials, settle, tune_trials
from benchmarks.sweep import EQUAL, TRIALS, swept
from benchmarks.target import Result, Target
from benchmarks.training import seconds
from latentmill.config import DataConfig, TrainingConfig
from latentmill.data import sources
from latentmill.data.batches import Batches
from latentmill.data.fashion_mnist import FOLDER, load
from latentmill.nets import ImageShape, NetworkConfig, decoder, encoder
from latentmill.training.loop import NoCheckpoints, Progress, train
from latentmill.variants.vae import Vae

MLP = Target("training: mlp, one thread, speed against pythae", "x", at_least=1.5)
MLP_PRODUCTS = Target("training: mlp, one thread, speed against products alone", "x", at_least=0.75)
CONV = Target("training: conv, one thread, speed against pythae", "x", at_least=1.5)
SWEEP = Target("training: 16 trials, trials/hour against pythae", "x", at_least=4)
DIGITS = Target("training: 16 trials of 8x8 digits, against pythae", "x", at_least=5)

ROUNDS = 3  # of a single trial
CORES = len(os.sched_getaffinity(0))
RATES: list[float] = EQUAL["vae"]["learning_rate"]
VALIDATION = 500  # images, as `swept` has them
MLP_EPOCHS = 1  # of all 60 000 images
CONV_EPOCHS, CONV_IMAGES = 2, 10_000
SWEEP_EPOCHS, SWEEP_IMAGES = 10, 10_000
DIGITS_EPOCHS = 120  # of all 1 797 images, as many as params.yaml allows
FASHION, PYTHAE = "dataset-fashion-mnist", "pythae"


def measure() -> Iterator[Result]:
    """Some 12 minutes on two cores."""
    images = load(FOLDER)[0] if FOLDER.exists() else None
    yield from measure_mlp(images)
    yield measure_conv(images)
    yield measure_sweep(images)
    yield measure_digits(sources.load(DataConfig(source="digits")).images)
