"""Does an importance-weighted autoencoder have the better likelihood? `python -m benchmarks.importance FOLDER`.

FOLDER is a prepared data set. `iwae` of ladders/lecture.yaml and a `vae` of the same networks and training learn from
the same images, seed by seed, and their bounds on the likelihood of test images are compared. With many codes that of
`iwae` must be the better one (Burda et al. 2016). With one code it need not: its encoder learns for several.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.entries import context_of, lecture_trial, trained
from benchmarks.target import Target
from latentmill.contract import HasBound, Model
from latentmill.data.batches import as_float
from latentmill.data.dataset import read_split
from latentmill.evaluation.likelihood import importance_bound
from latentmill.models.vae import Vae
from latentmill.trials.trial import Trial

IMAGES, CODES = 250, 1_000  # test images; codes of each


def main() -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.importance", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="a prepared data set")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=25)
    options = parser.parse_args()
    iwae = lecture_trial(options.folder, "iwae", options.epochs)
    trials = {"vae": as_vae(iwae), "iwae": iwae}
    context = context_of(options.folder, options.folder.parent / "importance")
    test = torch.from_numpy(as_float(read_split(options.folder, "test")[:IMAGES]))
    results = []
    for seed in options.seeds:
        curves = {name: bound(trained(replace(of, seed=seed), context)[1].model, test) for name, of in trials.items()}
        words = "; ".join(f"{name} {-curve[CODES]:.1f}, by one code {-curve[1]:.1f}" for name, curve in curves.items())
        target = Target(f"seed {seed}: what iwae gains over vae", "nats", at_least=0)
        results.append(target.result(curves["iwae"][CODES] - curves["vae"][CODES]))
        print(results[-1], words, flush=True)
    return 0 if all(each.holds for each in results) else 1


def as_vae(iwae: Trial) -> Trial:
    """A trial of `vae` with the networks, the code and the training of one of `iwae`."""
    shared = {key: value for key, value in iwae.config.items() if key in Vae.Config.model_fields}
    return replace(iwae, model="vae", config=Vae.Config.model_validate(shared).model_dump())


def bound(model: Model, images: Tensor) -> dict[int, float]:
    """By the number of codes, the mean of the bound on log p(x) of images (N, C, H, W)."""
    assert isinstance(model, HasBound)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        x = model.observation.observe(images, generator)
        return {count: float(each.mean()) for count, each in importance_bound(model, x, CODES, generator).curve.items()}


if __name__ == "__main__":
    sys.exit(main())
