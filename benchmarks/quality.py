"""Samples against those of pythae's models, by one judge: `python -m benchmarks.quality fashion=FOLDER/data/prepared`.

On each prepared data set, which must have labels, pythae's AE, VAE, β-VAE, RAE and WAE are trained for a time, and
sampled with its Gaussian mixture. Ours is an entry of params.yaml under its first prior, trained for shares of the
steps that params.yaml allows. All run on one core, and seconds are of that core: training, and what the sampler needs,
a mixture or our prior; neither sampling nor judging. The judge belongs to neither side. Validation images are the
floor, their reconstructions the ceiling of every sampler. It writes quality.json and quality.png beside this file, and
exits with 1 where a target is missed.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits

from benchmarks.entries import changed, context_of, entry_trial, prepared_data, prior_trial, trained
from benchmarks.peers import as_pythae
from benchmarks.target import Result, Target
from latentmill.cluster.process import use_one_core
from latentmill.codes import Generator
from latentmill.config import load_params
from latentmill.contract import Encodes
from latentmill.data.batches import as_float
from latentmill.errors import one_line_errors
from latentmill.evaluation.ceiling import reconstructions
from latentmill.evaluation.neighbours import TrainingSet
from latentmill.evaluation.prepared import PreparedData
from latentmill.evaluation.sampling import sample
from latentmill.evaluation.spaces import random_subset
from latentmill.features.distances import frechet_distance
from latentmill.features.spaces import feature_space
from latentmill.files import write_json

SIXTH = Target("quality: Fréchet distance of ours against pythae's best", "x", at_most=round(1 / 6, 3))
COVERED = Target("quality: coverage of ours", "", at_least=0.95)
SOONER = Target("quality: time to pythae's best, against pythae's", "x", at_most=0.5)
ENTRY, OURS = "latent_flow", "latentmill"
PEERS = ["AE,conv", "VAE,conv", "β-VAE,conv", "RAE,conv", "WAE,conv", "AE,resnet"]
JUDGE_SEED = 1  # of the classifier; that of the evaluation has another
Row = dict[str, Any]  # JSON


def main() -> int:
    options = chosen_options()
    use_one_core()
    threadpool_limits(1)  # of scikit-learn's mixture
    found, results = dict[str, Row](), list[Result]()
    for name, folder in (item.split("=", 1) for item in options.data):
        for found[name] in compared(Path(folder), options):
            write_json(options.out / "quality.json", found)  # an interrupted run keeps what it measured
        results += targets(found[name]["samples"])
    draw(found).savefig(options.out / "quality.png", dpi=90)
    print(*results, sep="\n")
    return 0 if all(result.holds for result in results) else 1


def chosen_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.quality", description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="+", help="a name and a folder of prepared data: fashion=data/prepared")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--entry", default=ENTRY, help="of its ladder")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.05, 0.2, 0.6], help="of the steps, rising")
    parser.add_argument("--peers", nargs="*", default=PEERS, help="a model of pythae and its network, conv or resnet")
    parser.add_argument("--seconds", type=float, nargs="+", default=[50, 100], help="of training a peer, rising")
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    if options.peers and not find_spec("pythae"):
        parser.error("pythae must be installed, by pip install '.[bench]', unless --peers has no model")
    return options


class Judge:
    """The Fréchet distance and the coverage, in the features of a classifier of the training images, from test images.

    The classifier is of this run alone: no model has seen it, and it has seen no model.
    """

    def __init__(self, data: PreparedData, most: int) -> None:
        """Sets of equal size are compared: `most`, or as many images as there are in `val` and in `test`.

        Raises:
            InputError: the images have no labels.
        """
        self.count = min(most, len(data.val), len(data.test))
        self.features = feature_space("classifier", data.train, data.train_labels, JUDGE_SEED)
        self.real = self.features(random_subset(data.test, self.count, seed=0))  # (N, D)
        self.radii = TrainingSet(self.real).others(np.arange(self.count)).distances[:, -1]  # (N), to the fifth other

    def __call__(self, images: np.ndarray) -> Row:
        """Of images uint8 (N, C, H, W)."""
        rows = self.features(images)
        coverage = float((TrainingSet(rows).nearest(self.real).distances[:, 0] < self.radii).mean())
        return {"frechet": round(frechet_distance(rows, self.real), 3), "coverage": round(coverage, 4)}


def compared(folder: Path, options: argparse.Namespace) -> Iterator[Row]:
    """Of each model its rows in the order of time, the judgement of its reconstructions, and that of real images.

    All so far are yielded after each row.
    """
    data = prepared_data(folder)
    judge = Judge(data, options.samples)
    found: Row = {"images": judge.count, "real": judge(random_subset(data.val, judge.count, seed=0))}
    print(f"{'real images':<12} {found['real']}", flush=True)
    measures = {OURS: partial(ours, folder, data, options, judge)}
    measures |= {model: partial(peer, model, data, options, judge) for model in options.peers}
    found |= {"samples": {}, "reconstructions": {}}
    for name, measure in measures.items():
        for row, reconstructed in measure():
            found["samples"].setdefault(name, []).append(row)
            found["reconstructions"][name] = reconstructed  # of the longest training, which comes last
            print(f"{name:<12} {row} reconstructions {reconstructed}", flush=True)
            yield found


Rows = Iterator[tuple[Row, Row]]  # of samples, and of reconstructions


def ours(folder: Path, data: PreparedData, options: argparse.Namespace, judge: Judge) -> Rows:
    """The entry and its prior, trained anew for each share of the steps, because their rates depend on the last."""
    params = load_params(options.params)
    prior_name = (params.entry(options.entry).priors or ["normal"])[0]
    for share in options.shares:
        with tempfile.TemporaryDirectory() as store:
            context, started = context_of(folder, Path(store)), time.process_time()
            fingerprint, model = trained(shortened(entry_trial(params, options.entry), share), context)
            between = time.process_time()
            prior = trained(shortened(prior_trial(params, prior_name, fingerprint), share), context)[1]
            ended = time.process_time()
        assert isinstance(model.model, Encodes)
        made = sample(Generator(model.model, prior.model), judge.count, 0, data.train_labels)
        row = {"seconds": seconds(started, ended), "of which the sampler": seconds(between, ended), "share": share}
        yield row | judge(made), judge(reconstructions(model.model, data, judge.count, seed=0))


def shortened(trial: Any, share: float) -> Any:
    return changed(trial, max_steps=max(1, round(share * trial.training["max_steps"])))


def seconds(started: float, ended: float) -> float:
    return round(ended - started, 1)


def peer(model: str, data: PreparedData, options: argparse.Namespace, judge: Judge) -> Rows:
    """A model of pythae, trained once and copied after each of the times."""
    from benchmarks import pythae_models  # which needs the extra `bench`

    name, network = model.split(",")
    images = as_pythae(data.train)
    held_out = torch.from_numpy(as_float(random_subset(data.val, judge.count, seed=0)))
    built = pythae_models.build(name, network, data.train.shape[1:])
    for training, copy in pythae_models.trained(built, images, options.seconds):
        made, fitting = pythae_models.sampled(copy, images.data, judge.count, seed=0)
        row = {"seconds": seconds(0, training + fitting), "of which the sampler": seconds(0, fitting)}
        yield row | judge(made), judge(pythae_models.reconstructed(copy, held_out))


def targets(samples: dict[str, list[Row]]) -> list[Result]:
    """Of pythae the best of all models and times; of ours the longest training, and the first that is as good."""
    others = [row for name, rows in samples.items() if name != OURS for row in rows]
    last = samples[OURS][-1]
    coverage = COVERED.result(last["coverage"])
    if not others:
        return [SIXTH.not_measured("a peer"), coverage, SOONER.not_measured("a peer")]
    best = min(others, key=lambda row: row["frechet"])
    as_good = [row["seconds"] for row in samples[OURS] if row["frechet"] <= best["frechet"]]
    sooner = SOONER.result(min(as_good) / best["seconds"]) if as_good else SOONER.not_measured("a sample as good")
    return [SIXTH.result(last["frechet"] / best["frechet"]), coverage, sooner]


def draw(found: dict[str, Row]) -> Figure:
    figure, axes = plt.subplots(1, len(found), figsize=(7 * len(found), 4.5), layout="constrained", squeeze=False)
    for axis, (name, each) in zip(axes[0], found.items(), strict=True):
        draw_panel(axis, each)
        axis.set(title=f"{name}: {each['images']:,} samples", xlabel="seconds of one core", ylabel="Fréchet distance")
    return figure


def draw_panel(axis: Axes, found: Row) -> None:
    for name, rows in found["samples"].items():
        ceiling = found["reconstructions"][name]["frechet"]
        label, width = f"{name} (reconstructions {ceiling:.2g})", 2.5 if name == OURS else 1.2
        line = [row["seconds"] for row in rows], [row["frechet"] for row in rows]
        axis.loglog(*line, marker="o", markersize=4, linewidth=width, label=label)
    axis.axhline(found["real"]["frechet"], color="black", linestyle=":", label="real images")
    axis.legend(fontsize="small")


if __name__ == "__main__":
    with one_line_errors():
        sys.exit(main())
