"""The subcommands of `latentmill` that make a project, describe its settings, and plan, run and check its stages."""

import argparse
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentmill.errors import InputError

if TYPE_CHECKING:
    from latentmill.trials.plan import Plan

DATA = Path("data/prepared")
QUICK = "without measuring the time of steps where it is not known; train.budget needs it, and has it measured once"
MEASURING = "measuring the pace of trials, once"
Commands = Any  # what argparse's add_subparsers returns, a class that it does not publish


def add_commands(commands: Commands) -> None:
    """Add them to a parser; each imports what it needs when it runs."""
    init = commands.add_parser("init", help="make a folder with params.yaml and dvc.yaml, in which `dvc repro` runs")
    init.set_defaults(run=_init)
    init.add_argument("folder", type=Path, help="new or empty")
    init.add_argument("--data", help="a folder, archive, table or array of images; or digits, mnist-5k, sprites …")
    init.add_argument("--ladder", help="budget (ten minutes), colour (64 pixels), lecture, quick or factors")
    _add_reference(commands)
    check = commands.add_parser(
        "check",
        help="print for each entry what was exported, or why not; fails if nothing was, or if it is out of date",
    )
    check.set_defaults(run=_check)
    plan = commands.add_parser(
        "plan", help="list the trials of params.yaml and which are trained already; forecast time, memory and disk"
    )
    plan.set_defaults(run=_plan)
    plan.add_argument("--quick", action="store_true", help=QUICK)
    gc = commands.add_parser("gc", help="say what params.yaml does not need of the trial store; with --free, delete it")
    gc.set_defaults(run=_gc)
    gc.add_argument("--free", action="store_true", help="delete the trials that are not needed")
    submit = commands.add_parser("submit", help="run the train stage as a job of a Ray cluster")
    submit.add_argument("--address", required=True, help="of the cluster's dashboard, such as http://head:8265")
    submit.set_defaults(run=_submit)
    _add_stages(commands)


def _add_reference(commands: Commands) -> None:
    params = commands.add_parser("params", help="describe the keys of params.yaml, also those of models and priors")
    params.set_defaults(run=_params)
    params.add_argument("names", nargs="*", metavar="NAME", help="such as vae, train.asha or learning_rate (all)")
    models = commands.add_parser("models", help="list models, networks and priors, and what each can do")
    models.set_defaults(run=_models)


def _add_stages(commands: Commands) -> None:
    """What dvc.yaml of a project without a clone runs."""
    stage = commands.add_parser("stage", help="run a stage of dvc.yaml")
    stage.set_defaults(run=_stage)
    stage.add_argument("name")
    stage.add_argument("key", nargs="*", help="the entry, of a stage that has one run for each")
    pipeline = commands.add_parser("pipeline", help="print dvc.yaml of this version, for a project made by `init`")
    pipeline.set_defaults(run=_pipeline)
    version = commands.add_parser("version", help="print the versions of latentmill and of the libraries that it uses")
    version.set_defaults(run=_version)
    version.add_argument("--out", type=Path, help="write them to this file instead")


def _init(chosen: argparse.Namespace) -> None:
    from latentmill.project.init import has_git, init

    init(chosen.folder, chosen.data, chosen.ladder)
    print(f"{chosen.folder}: params.yaml has the settings, which `latentmill params` explains; `dvc repro` runs all")
    if has_git():
        print("before `dvc exp run`, which tries others, commit them once: `git add . && git commit -m start`")


def _params(chosen: argparse.Namespace) -> None:
    from latentmill.project.keys import described

    print(*described(chosen.names), sep="\n")


def _models(chosen: argparse.Namespace) -> None:
    from latentmill.project.catalogue import described

    print(*described(), sep="\n")


def _stage(chosen: argparse.Namespace) -> None:
    from latentmill.installation import stage_file

    path = str(stage_file(chosen.name))
    sys.argv = [path, *chosen.key]
    runpy.run_path(path, run_name="__main__")


def _pipeline(chosen: argparse.Namespace) -> None:
    from latentmill.project.pipeline import pipeline_text

    print(pipeline_text(), end="")


def _version(chosen: argparse.Namespace) -> None:
    from latentmill.installation import installed
    from latentmill.project.pipeline import record_installed

    if chosen.out is None:
        print(installed(), end="")
    elif note := record_installed(chosen.out):
        print(note)


def _plan(chosen: argparse.Namespace) -> None:
    notes = list[str]()
    plan, forecast = _planned(notes.append, measure=not chosen.quick)
    notes += _warnings(plan)
    for fingerprint, status, label in plan.rows():
        print(f"{fingerprint}  {status:<13}  {label}")
    print(*notes, plan.summary(), *([forecast] if plan.missing else []), sep="\n")


def _planned(note: Callable[[str], None], measure: bool) -> tuple["Plan", str]:
    """The plan of params.yaml on the prepared data, and what it takes as far as that is known, or measured."""
    from latentmill.cluster.costs import plan_and_forecast
    from latentmill.cluster.images import prepared_images
    from latentmill.config import load_params
    from latentmill.data.dataset import TRAINING, intact_digest, read_split
    from latentmill.heartbeat import Heartbeat
    from latentmill.trials.auto import with_values_for
    from latentmill.trials.ranking import features_for
    from latentmill.trials.store import TrialStore

    given = load_params()  # first params.yaml, which tells whether this is a project
    params = with_values_for(read_split(DATA, "train"), given, note)
    store = TrialStore(params.train.storage, note=print)
    digest = intact_digest(DATA, TRAINING)
    features = features_for(params, DATA, store.storage)
    with Heartbeat(MEASURING, lambda line: print(line, file=sys.stderr)):  # stdout is the list
        return plan_and_forecast(params, digest, prepared_images(DATA), store, features, measure)


def _warnings(plan: "Plan") -> Iterator[str]:
    """Why the trials of a plan will fail, or are not those that `dvc repro` would train."""
    from latentmill.cluster.images import prepared_images
    from latentmill.stage import has_changed_since
    from latentmill.trials.misfits import misfits

    if has_changed_since("prepare", "data"):
        yield f"data in params.yaml has changed since {DATA} was made: run `dvc repro prepare`"
    images = prepared_images(DATA)
    for entry, reason in misfits(plan, images.train.shape[1:], images.classes).items():
        yield f"{entry} will fail: {reason}"


def _gc(chosen: argparse.Namespace) -> None:
    from latentmill.cluster.lifetime import exclusive
    from latentmill.config import load_params
    from latentmill.trials.store import TrialStore
    from latentmill.trials.unneeded import free, unneeded

    with exclusive(TrialStore(load_params().train.storage)):
        plan, _ = _planned(lambda note: None, measure=False)
        found = unneeded(plan)
        print(f"{plan.store.storage}: {found.summary}")
        if chosen.free:
            free(plan.store, found)
            print("they are deleted")
        elif found.names:
            print("`latentmill gc --free` deletes them; their params, images or code would train them again")


def _check(chosen: argparse.Namespace) -> None:
    from latentmill import installation
    from latentmill.config import load_params
    from latentmill.data.listing import has_changed
    from latentmill.export.outcome import check
    from latentmill.runtime.text import one_line
    from latentmill.stage import stale_stages

    params = load_params()
    if params.note:
        print(f"note: {one_line(params.note)}")
    if not check(list(params.ladder), Path("exports")):
        raise InputError("at least one entry must be exported, but none is")
    rule = "what is exported must be of the present images, params and code"
    if has_changed(params.data):
        raise InputError(f"{rule}, but the images have changed: run `dvc repro`")
    if installation.is_another():
        raise InputError(f"{rule}, but latentmill or a library that it uses has another version: run `dvc repro`")
    if stale := stale_stages():
        raise InputError(f"{rule}, but inputs or outputs of {', '.join(stale)} have changed: run `dvc repro`")


def _submit(chosen: argparse.Namespace) -> None:
    from latentmill.cluster.submit import submit

    submit(chosen.address, Path.cwd())
    print("trained: `dvc repro` fetches the winners, and does not train them again")
