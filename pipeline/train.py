"""train: every trial of the ladder, then its winners' priors -> models/<entry>/, {trials,curves,parallel}.csv."""

from collections.abc import Iterable
from pathlib import Path

from latentmill.cluster.costs import plan_and_forecast
from latentmill.cluster.display import Display
from latentmill.cluster.images import prepared_images
from latentmill.cluster.lifetime import exclusive, graceful_shutdown
from latentmill.cluster.sweep import run
from latentmill.config import LoggerName, Params, load_params
from latentmill.data.dataset import TRAINING, intact_digest, read_split
from latentmill.files import replacing_folder, write_text
from latentmill.heartbeat import Heartbeat, print_line
from latentmill.runtime.text import plural
from latentmill.stage import stage_process, steady
from latentmill.tracking.live import LiveSamples
from latentmill.tracking.mlflow_trials import MLflowTrials
from latentmill.tracking.observers import Observers
from latentmill.tracking.tensorboard import TensorBoard
from latentmill.trials.auto import with_values_for
from latentmill.trials.earlier import require_as_listed
from latentmill.trials.parallel_coordinates import parallel_csv
from latentmill.trials.plan import Plan
from latentmill.trials.ranking import features_for
from latentmill.trials.results import (
    Outcome,
    Ranked,
    curves_csv,
    outcomes,
    ranking,
    require_a_model,
    study_failure,
    summary,
    trials_csv,
    without_winner,
)
from latentmill.trials.store import TrialStore
from latentmill.trials.study import folder as where
from latentmill.trials.trained_model import save_failure, save_untrained_prior
from latentmill.trials.trial import identity

DATA, MODELS = Path("data/prepared"), Path("models")


def main() -> None:
    with steady("train"):
        train()


def train() -> None:
    params = with_values_for(read_split(DATA, "train"), load_params(), print_line)
    store = TrialStore(params.train.storage, note=print_line)
    with graceful_shutdown(), exclusive(store):
        require_as_listed(params.train.warm_start)
        write(sweep(params, store))


def sweep(params: Params, store: TrialStore) -> Plan:
    """Train the missing trials; returns the plan with the results of all."""
    with Heartbeat("reading the prepared data"):
        digest = intact_digest(DATA, TRAINING)
    with Heartbeat("fitting the features that rank trials"):
        features = features_for(params, DATA, store.storage)
    with Heartbeat(
        "planning, and measuring the pace of trials for train.budget" if params.train.budget else "planning"
    ):
        plan, forecast = plan_and_forecast(params, digest, prepared_images(DATA), store, features)
    print_line(plan.summary())
    if plan.missing:
        print_line(forecast)
        with observers(plan, params.train.loggers) as watching:
            run(plan, prepared_images(DATA), watching, features)
    if plan.missing:
        left = plural(plan.missing, "trial")
        print_line(f"train.max_seconds is over with {left} to train: `dvc repro -f train` goes on from here")
    return plan


def observers(plan: Plan, loggers: Iterable[LoggerName]) -> Observers:
    """The display, what `train.loggers` names, and the live samples, which those get too."""
    display, images = Display(plan), prepared_images(DATA)
    logging = Observers([TensorBoard() if name == "tensorboard" else MLflowTrials(display.noted) for name in loggers])
    live = LiveSamples(plan, images.val, images.labels[0], images.classes, logging.pictured, display.noted)
    return Observers([display, logging, live])  # the last is closed first, so that its last picture is logged


def write(plan: Plan) -> None:
    """Write a folder for each entry with its winner, or the reason for its failure, and the tables.

    Raises:
        InputError: no entry has a winner, or a stored model is damaged.
    """
    tried = outcomes(plan.planned, plan.records)
    ranked, lost = ranking(tried), without_winner(tried, ranking(tried))
    failed = {study: study_failure(trials) for study, trials in lost.items()}
    with replacing_folder(MODELS) as folder:
        for study, found in ranked.items():  # an entry before its priors
            write_winner(folder / where(study), found, plan)
        for study, trials in lost.items():
            (folder / where(study)).mkdir(parents=True)
            save_failure(folder / where(study), study, failed[study], [summary(outcome) for outcome in trials])
            print_line(f"models/{where(study)}: failed: {failed[study]}")
        write_tables(tried, ranked)
        require_a_model(failed, {outcome.planned.entry for outcome in tried})


def write_winner(folder: Path, found: list[Ranked], plan: Plan) -> None:
    winner = found[0].best.planned
    folder.mkdir(parents=True)
    plan.store.fetch(plan.records[winner.fingerprint], folder)
    for each in plan.untrained_priors(winner) if winner.prior is None else []:
        save_untrained_prior(folder, str(each.prior), identity(each.trial, each.fingerprint, plan.data_digest))
    print_line(f"models/{where(winner.study)}: {winner.label}, {result(found[0])}")


def write_tables(tried: list[Outcome], ranked: dict[str, list[Ranked]]) -> None:
    winners = [found[0].best for found in ranked.values()]
    write_text(Path("trials.csv"), trials_csv(tried, ranked, winners))
    write_text(Path("curves.csv"), curves_csv(winners))
    write_text(Path("parallel.csv"), parallel_csv(tried, winners))


def result(winner: Ranked) -> str:
    if winner.standard_error is None:
        return f"{winner.mean:.4g} on val"
    return f"{winner.mean:.4g} ± {winner.standard_error:.2g} on val over {len(winner.trials)} seeds"


if __name__ == "__main__":
    with stage_process():
        main()
