"""How far off are estimated likelihoods? Two estimates enclose the truth: `python -m benchmarks.bidirectional FOLDER`.

FOLDER is a prepared data set. Of `rbm`, chains that go forward from independent pixels give a low log Z, and chains
that go back from draws of the machine a high one. Of `vae`, images are drawn from the model itself, so that the code of
each is known (bidirectional Monte Carlo, Grosse et al. 2015): forward from the prior to the posterior by Hamiltonian
Monte Carlo (Wu et al. 2017), and back from that code. The bound of the evaluation lies below both.
"""

import argparse
import itertools
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.entries import context_of, lecture_trial, trained
from benchmarks.target import Target
from latentmill.contract import HasEnergy, HasPosterior, Model
from latentmill.densities import log_mean_exp, standard_normal_log_prob
from latentmill.evaluation.annealing import estimate_partition, estimate_partition_backward
from latentmill.evaluation.likelihood import importance_bound
from latentmill.models.vae import Vae

IMAGES, CHAINS, LEAPS = 20, 8, 5  # drawn from the vae; of each image; of a Hamiltonian trajectory
BURN_IN, DRAWS = 2_000, 100  # steps of Gibbs sampling from the chains of training; draws of the machine
TARGET = 1.0  # nats


def main() -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.bidirectional", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="a prepared data set")
    parser.add_argument("--temperatures", type=int, nargs="+", default=[100, 1_000, 5_000])
    parser.add_argument("--epochs", type=int, default=60)
    options = parser.parse_args()
    results = []
    for name, gap in (("rbm", partition_gap), ("vae", posterior_gap)):
        model = model_of(options.folder, name, options.epochs)
        for temperatures in options.temperatures:
            started = time.perf_counter()
            found, words = gap(model, temperatures)
            target = Target(f"{name}, {temperatures} temperatures: gap", "nats", at_most=TARGET)
            results.append(target.result(found, f"{words}, {time.perf_counter() - started:.0f} s"))
            print(results[-1], words, flush=True)
    return 0 if results[-1].holds else 1


def model_of(folder: Path, name: str, epochs: int) -> Model:
    """The entry of ladders/lecture.yaml, `vae` with a network of one layer, trained for so many epochs."""
    return trained(lecture_trial(folder, name, epochs), context_of(folder, folder.parent / "bidirectional"))[1].model


@torch.no_grad()
def partition_gap(model: Model, temperatures: int) -> tuple[float, str]:
    """The estimate of log Z from above less that from below."""
    assert isinstance(model, HasEnergy)
    machine, generator = model.machine, torch.Generator().manual_seed(0)
    v = machine.chains[:DRAWS]
    for _ in range(BURN_IN):
        v = machine.gibbs(v, torch.rand((len(v), *machine.steps(1).shape), generator=generator))
    low = estimate_partition(machine, temperatures, generator)
    high = estimate_partition_backward(machine, v, temperatures, generator)
    words = f"log Z from {low.log_z:.2f} ± {low.standard_error:.2f} to {high.log_z:.2f} ± {high.standard_error:.2f}"
    return high.log_z - low.log_z, words


def posterior_gap(model: Model, temperatures: int) -> tuple[float, str]:
    """The mean of log p(x) from above less that from below, of images drawn from the model."""
    assert isinstance(model, Vae)
    generator = torch.Generator().manual_seed(0)
    z = torch.randn((IMAGES, *model.code_shape), generator=generator)
    with torch.no_grad():
        x = model.observation.observe(model.decode(z), generator)
        bound = importance_bound(model, x, 1_000, generator).curve[1_000].mean()
    starts = torch.randn((CHAINS, *z.shape), generator=generator), z.expand(CHAINS, *z.shape).clone()
    steps = torch.linspace(0, 1, temperatures + 1).tolist()
    low = log_mean_exp(annealed(model, x, starts[0], steps, generator), 0).mean()
    high = -log_mean_exp(annealed(model, x, starts[1], steps[::-1], generator), 0).mean()
    return float(high - low), f"log p(x) from {low:.2f} to {high:.2f}, the bound with 1,000 codes {bound:.2f}"


def annealed(model: HasPosterior, x: Tensor, z: Tensor, steps: list[float], generator: torch.Generator) -> Tensor:
    """The log-weights of chains z (C, N, …) between N(0, I), at t = 0, and p(z | x), at 1: float64 (C, N)."""
    log_w, size = torch.zeros(z.shape[:2], dtype=torch.float64), torch.full(z.shape[:2], 0.1)
    for before, t in itertools.pairwise(steps):
        with torch.no_grad():
            log_w += (t - before) * model.log_p_x_given_z(x, z).double()
        z, accepted = hamiltonian(model, x, z, t, size, generator)
        size *= torch.where(accepted, 1.02, 0.95)  # about 70 % are accepted
    return log_w


def hamiltonian(
    model: HasPosterior, x: Tensor, z: Tensor, t: float, size: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A step of Hamiltonian Monte Carlo for p(z) p(x | z)^t, and which chains (C, N) have moved."""
    momentum, width = torch.randn(z.shape, generator=generator), size[..., None]
    start, slope = energy(model, x, z, t)
    q, p = z, momentum
    for _ in range(LEAPS):
        p = p - 0.5 * width * slope
        q = q + width * p
        value, slope = energy(model, x, q, t)
        p = p - 0.5 * width * slope
    change = start + 0.5 * momentum.square().sum(-1) - value - 0.5 * p.square().sum(-1)
    accepted = torch.rand(change.shape, generator=generator).log() < change
    return torch.where(accepted[..., None], q, z), accepted


def energy(model: HasPosterior, x: Tensor, z: Tensor, t: float) -> tuple[Tensor, Tensor]:
    """-log p(z) p(x | z)^t (C, N), and its slope in z (C, N, d)."""
    z = z.detach().requires_grad_()
    found = -standard_normal_log_prob(z).sum(-1) - t * model.log_p_x_given_z(x, z)
    (slope,) = torch.autograd.grad(found.sum(), z)
    return found.detach(), slope


if __name__ == "__main__":
    sys.exit(main())
