"""How a prior learns its training images by heart: `python -m benchmarks.memorising FOLDER/data/prepared`.

A model of params.yaml is trained, then two priors of its codes: `DEFAULT` of params.yaml, and a large one without
dropout. Nothing stops them early. After 1, 2, 4, 8 … epochs the judge of the evaluation compares samples with the
training images (Rule 2) and with test images (C2ST). The epoch that early stopping would have kept is marked. It writes
memorising.json and memorising.png beside this file, or into `--out`.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from benchmarks.entries import changed, context_of, entry_trial, params_for, prepared_data, prior_trial, trained
from latentmill.cluster.process import use_one_core
from latentmill.codes import Generator
from latentmill.config import Params
from latentmill.contract import Model
from latentmill.data.batches import Batches
from latentmill.errors import one_line_errors
from latentmill.evaluation.assembly import make_judge
from latentmill.evaluation.judge import Judge
from latentmill.evaluation.sampling import sample
from latentmill.files import write_json
from latentmill.training.loop import Setup, train
from latentmill.training.member import Checkpoints
from latentmill.training.state import TrainingState
from latentmill.training.trainer import validate
from latentmill.trials.running import Context
from latentmill.trials.trial import Trial

ENTRY, DEFAULT, LARGE = "latent_flow", "regularised_flow", "large, without dropout"
UNITS, NEVER = 512, 10**9  # of the large prior; epochs that are never reached
STORE = Path(".latentmill/memorising")  # of the model, which a later run need not train again
METRICS = ("near copies", "exact copies", "C_T", "authenticity", "C2ST accuracy")
COLOURS, STYLES = {DEFAULT: "tab:blue", LARGE: "tab:red"}, ("-", "--")
PANELS = {  # title: the lines, each with its words in the legend
    "Loss of the flow on codes": {"val_loss": "validation images", "train_loss": "training images"},
    "C2ST accuracy (Rule 1)": {"C2ST accuracy (pixels)": "pixels", "C2ST accuracy (classifier)": "classifier"},
    "C_T (Rule 2): negative = nearer to training than test images": {"C_T (pixels)": ""},
    "Near copies (Rule 2), share of samples": {"near copies (pixels)": ""},
}
Found = dict[str, Any]  # JSON
Weights = dict[str, Tensor]


def main() -> int:
    options = chosen_options()
    use_one_core()
    params, context = params_for(options.data, options.params), context_of(options.data, STORE)
    judge = make_judge(prepared_data(options.data), None, params.evaluation.seed, options.samples)
    fingerprint, model = trained(entry_trial(params, options.entry), context)
    curves = {
        name: Curve(model.model, context, judge, options.samples).measure(trial, patience)
        for name, (trial, patience) in priors(params, fingerprint, options.steps).items()
    }
    found = {"training images": len(context.images), "limits": limits(judge), "curves": curves}
    write_json(options.out / "memorising.json", found)
    draw(found).savefig(options.out / "memorising.png", dpi=75)
    return 0


def chosen_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.memorising", description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="a folder of prepared data")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--entry", default=ENTRY, help="of its ladder, a model with codes")
    parser.add_argument("--steps", type=int, default=3_500, help="of the large prior")
    parser.add_argument("--samples", type=int, default=3_000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    return parser.parse_args()


def priors(params: Params, parent: str, steps: int) -> dict[str, tuple[Trial, int]]:
    """Both without early stopping, with the patience it would have; the large one at a constant rate."""
    default = prior_trial(params, DEFAULT, parent)
    patience = default.training_config.patience
    large = replace(default, config=default.config | {"hidden": UNITS, "dropout": 0.0})
    endless: Found = {"patience": NEVER, "epochs": NEVER, "max_steps": steps}
    return {
        DEFAULT: (changed(default, patience=NEVER), patience),
        LARGE: (changed(large, **endless, schedule="constant", weight_decay=0.0), patience),
    }


class Snapshots(Checkpoints):
    """The weights after 1, 2, 4, 8 … epochs and after the last, and those that early stopping would keep."""

    def __init__(self, patience: int) -> None:
        self.patience, self.is_stopped = patience, False
        self.weights: dict[int, Weights] = {}  # by epoch
        self.chosen, self.chosen_weights = 0, Weights()

    def restore(self, state: TrainingState) -> None:
        """There is no earlier run."""

    def after_epoch(self, state: TrainingState) -> None:
        if state.epoch.bit_count() == 1 or state.is_over:
            self.weights[state.epoch] = copied(state)
        if state.best_epoch == state.epoch and not self.is_stopped:
            self.chosen, self.chosen_weights = state.epoch, copied(state)
        self.is_stopped = self.is_stopped or state.epoch - state.best_epoch >= self.patience

    @property
    def by_epoch(self) -> dict[int, Weights]:
        found = self.weights | {self.chosen: self.chosen_weights}
        return {epoch: found[epoch] for epoch in sorted(found)}


def copied(state: TrainingState) -> Weights:
    """The weights that are validated: averages, where there are any."""
    return {name: value.clone() for name, value in (state.model.state_dict() | state.averages).items()}


class Curve:
    """What the judge says of a prior's samples along its training."""

    def __init__(self, model: Model, context: Context, judge: Judge, samples: int) -> None:
        self.model, self.context, self.judge, self.samples = model, context, judge, samples

    def measure(self, trial: Trial, patience: int) -> Found:
        """The points of `trial`, and the step that early stopping with that patience would have kept."""
        setup, snapshots = self.context.setup(trial), Snapshots(patience)
        prior = trial.build_model(setup.examples, self.context.classes)
        history = train(prior, setup, trial.training_config, trial.seed, snapshots).history
        steps, points = -(-len(setup.examples) // trial.training_config.batch_size), []  # of an epoch
        for epoch, weights in snapshots.by_epoch.items():
            prior.load_state_dict(weights)
            losses = {"val_loss": history[epoch - 1]["val_loss"], "train_loss": validate(prior, as_many_seen(setup))}
            points.append({"steps": epoch * steps, **losses, **self.judged(prior)})
            print(points[-1], flush=True)
        return {"chosen": snapshots.chosen * steps, "points": points}

    def judged(self, prior: Model) -> Found:
        """The values of `METRICS` by name and space, and the verdicts."""
        made = sample(Generator(self.model, prior), self.samples, 0, self.context.images.labels)
        found = self.judge.judge(made.images)
        values = {each.calibration.name: each.value for known in found.estimates.values() for each in known}
        verdicts = {f"rule {rule}": verdict.status for rule, verdict in found.verdicts.items()}
        return {name: value for name, value in values.items() if name.startswith(METRICS)} | verdicts


def as_many_seen(setup: Setup) -> Batches:
    """As many codes of training images as there are of validation images: the same criterion, on codes it has seen."""
    count, labels = len(setup.val), setup.examples.labels
    return Batches(np.asarray(setup.examples[slice(count)]), labels=None if labels is None else labels[:count])


def limits(judge: Judge) -> dict[str, float]:
    """Of the metrics that are informative on this data: the value from which a rule fails."""
    lines = {each.name: each.threshold for each in judge.calibrations if each.name.startswith(METRICS)}
    return {name: line for name, line in lines.items() if line is not None}


def draw(found: Found) -> Figure:
    """A panel for each of `PANELS`, over the steps."""
    figure, axes = plt.subplots(2, 2, figsize=(9, 6), sharex=True, layout="constrained")
    for axis, (title, lines) in zip(axes.flat, PANELS.items(), strict=True):
        for (key, words), style in zip(lines.items(), STYLES, strict=False):
            draw_lines(axis, found, key, style)
            axis.plot([], [], style, color="grey", label=words)
        axis.set_title(title, fontsize="medium")
        axis.set_xscale("log")
        if len(lines) > 1:
            axis.legend(fontsize="small")
    for axis in axes[-1]:
        axis.set_xlabel("training steps of the prior")
    shown = [Line2D([], [], color=COLOURS[name], label=name) for name in found["curves"]]
    shown.append(Line2D([], [], color="black", linewidth=1, label="limit of the rule"))
    shown.append(Line2D([], [], color="grey", linestyle=":", label="kept by early stopping"))
    figure.legend(handles=shown, loc="outside lower center", ncols=4, fontsize="small")
    return figure


def draw_lines(axis: Axes, found: Found, key: str, style: str) -> None:
    """One metric of both priors, where the judge has it, and its limit."""
    for name, curve in found["curves"].items():
        points = [(point["steps"], point[key]) for point in curve["points"] if key in point]
        axis.plot(*zip(*points, strict=True), style, color=COLOURS[name], marker=".")
        axis.axvline(curve["chosen"], color=COLOURS[name], linestyle=":")
    if key in found["limits"]:
        axis.axhline(found["limits"][key], color="black", linewidth=1, linestyle=style)


if __name__ == "__main__":
    with one_line_errors():
        sys.exit(main())
