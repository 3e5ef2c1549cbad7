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
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits

from benchmarks.entries import changed, context_of, entry_trial, params_for, prepared_data, prior_trial, trained
from benchmarks.independent_judge import Judge
from benchmarks.peers import apart, as_pythae
from benchmarks.pipeline import fresh_clone, repro, set_source
from benchmarks.target import Result, Target
from latentmill.cluster.process import use_one_core
from latentmill.codes import Generator
from latentmill.contract import Encodes
from latentmill.data.batches import as_float
from latentmill.data.sources.fashion_mnist import FOLDER
from latentmill.errors import InputError, one_line_errors
from latentmill.evaluation.ceiling import reconstructions
from latentmill.evaluation.prepared import PreparedData
from latentmill.evaluation.sampling import sample
from latentmill.evaluation.spaces import random_subset
from latentmill.files import write_json

SIXTH = Target("quality: Fréchet distance of ours against pythae's best", "x", at_most=round(1 / 6, 3))
COVERED = Target("quality: coverage of ours", "", at_least=0.95)
SOONER = Target("quality: time to pythae's best, against pythae's", "x", at_most=0.5)
ENTRY, OURS = "latent_flow", "latentmill"
PEERS = ["AE,conv", "VAE,conv", "β-VAE,conv", "RAE,conv", "WAE,conv", "AE,resnet"]
Row = dict[str, Any]  # JSON


def main() -> int:
    options = parser().parse_args()
    if options.peers and not find_spec("pythae"):
        raise InputError("pythae must be installed, by pip install '.[bench]', unless --peers names no model")
    results = measured(options)
    print(*results, sep="\n")
    return 0 if all(result.holds for result in results) else 1


def measure() -> Iterator[Result]:
    """All targets on Fashion-MNIST, prepared as params.yaml says."""
    if not FOLDER.exists() or not find_spec("pythae"):
        needs = "pythae" if FOLDER.exists() else "dataset-fashion-mnist"
        yield from (target.not_measured(needs) for target in (SIXTH, COVERED, SOONER))
        return
    with fresh_clone() as clone:
        set_source(clone / "params.yaml", "fashion-mnist")
        repro(clone, "prepare")
        yield from apart(measured, parser().parse_args([f"fashion={clone / 'data/prepared'}"]))


def measured(options: argparse.Namespace) -> list[Result]:
    """The targets on each data set; the rows are written as soon as they are there."""
    use_one_core()
    threadpool_limits(1)  # of scikit-learn's mixture
    found, results = dict[str, Row](), list[Result]()
    for name, folder in (item.split("=", 1) for item in options.data):
        for found[name] in compared(Path(folder), options):
            write_json(options.out / "quality.json", found)
        results += targets(found[name]["samples"])
    draw(found).savefig(options.out / "quality.png", dpi=90)
    return results


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser("python -m benchmarks.quality", description=__doc__.splitlines()[0])
    made.add_argument("data", nargs="+", help="a name and a folder of prepared data: fashion=data/prepared")
    made.add_argument("--params", type=Path, default=Path("params.yaml"))
    made.add_argument("--entry", default=ENTRY, help="of its ladder")
    made.add_argument("--shares", type=float, nargs="+", default=[0.1, 0.25, 0.6], help="of the steps, rising")
    made.add_argument("--peers", nargs="*", default=PEERS, help="a model of pythae and its network, conv or resnet")
    made.add_argument("--seconds", type=float, nargs="+", default=[50, 100], help="of training a peer, rising")
    made.add_argument("--samples", type=int, default=10_000)
    made.add_argument("--out", type=Path, default=Path(__file__).parent)
    return made


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
    params = params_for(folder, options.params)
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
        yield row | judge(made.images), judge(reconstructions(model.model, data, judge.count, seed=0))


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
