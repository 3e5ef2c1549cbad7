"""train: every trial of the ladder, in parallel -> models/<entry>/, {trials,curves,parallel}.csv."""

from pathlib import Path

from latentmill.cluster.display import Display
from latentmill.cluster.lifetime import alone, ending_in_order
from latentmill.cluster.search import optuna_rounds
from latentmill.cluster.sweep import run
from latentmill.config import Params, load_params
from latentmill.data.batches import Batches
from latentmill.data.dataset import read_manifest, read_split
from latentmill.errors import one_line_errors
from latentmill.files import replacing_folder, write_text
from latentmill.heartbeat import Heartbeat, tell
from latentmill.stage import steady
from latentmill.trials.parallel_coordinates import parallel_csv
from latentmill.trials.plan import Plan
from latentmill.trials.results import (
    Outcome,
    Ranked,
    curves_csv,
    losers,
    outcomes,
    ranking,
    require_a_model,
    summary,
    trials_csv,
    why_none,
)
from latentmill.trials.running import UnfitError, bring_home
from latentmill.trials.store import TrialStore
from latentmill.trials.trained_model import Failure, save_failure

DATA, MODELS = Path("data/prepared"), Path("models")


def main() -> None:
    params = load_params()
    store = TrialStore(params.train.storage, note=tell)
    with ending_in_order(), alone(store), steady("train"):
        write(sweep(params, store), store)


def sweep(params: Params, store: TrialStore) -> list[Outcome]:
    """Train what is missing in the store; what became of every trial."""
    with Heartbeat("planning"):
        plan = Plan(params, read_manifest(DATA)["digest"], store, optuna_rounds)
    tell(plan.summary())
    if plan.missing:
        with Display(plan) as display:
            run(plan, read_split(DATA, "train"), read_split(DATA, "val"), display)
    if plan.missing:
        tell(f"train.max_seconds is over with {plan.missing} trials to train: `dvc repro -f train` goes on from here")
    return outcomes(plan.planned, plan.records)


def write(tried: list[Outcome], store: TrialStore) -> None:
    """Write a folder for each entry, its winner or why it has none, and the tables, even where no entry has a winner.

    Raises:
        InputError: no entry has a model, or what is kept of one is damaged.
    """
    ranked = ranking(tried)
    lost = losers(tried, ranked)
    failed = {entry: why_none(trials) for entry, trials in lost.items()}
    winners: list[Outcome] = []
    with replacing_folder(MODELS) as folder, Heartbeat("fitting priors"):
        for entry in ranked.keys() | lost.keys():
            (folder / entry).mkdir()
        for entry, found in ranked.items():
            try:
                winners.append(write_winner(folder / entry, found, store))
            except UnfitError as error:
                failed[entry] = Failure(str(error))
                lost[entry] = [outcome for each in found for outcome in each.trials]
        for entry, trials in lost.items():
            save_failure(folder / entry, entry, failed[entry], [summary(outcome) for outcome in trials])
            tell(f"models/{entry}: failed: {failed[entry]}")
        write_tables(tried, ranked, winners)
        require_a_model(failed, ranked.keys() | lost.keys())


def write_winner(folder: Path, found: list[Ranked], store: TrialStore) -> Outcome:
    """The model of an entry's winner, ready for use: the first of the ranked configurations whose priors can be fitted.

    Raises:
        UnfitError: there is none; why, of each.
    """
    images, val = (Batches(read_split(DATA, split)) for split in ("train", "val"))
    unfit = dict[str, None]()
    for each in found:
        label = each.best.planned.label
        try:
            bring_home(store, each.best.record["fingerprint"], folder, images, val)
        except UnfitError as error:
            tell(f"models/{folder.name}: {label} is passed over: {error}")
            unfit[str(error)] = None
        else:
            tell(f"models/{folder.name}: {label}, {result(each)}")
            return each.best
    raise UnfitError("; ".join(unfit))


def write_tables(tried: list[Outcome], ranked: dict[str, list[Ranked]], winners: list[Outcome]) -> None:
    write_text(Path("trials.csv"), trials_csv(tried, ranked, winners))
    write_text(Path("curves.csv"), curves_csv(winners))
    write_text(Path("parallel.csv"), parallel_csv(tried, winners))


def result(winner: Ranked) -> str:
    if winner.standard_error is None:
        return f"{winner.mean:.2f} nats on val"
    return f"{winner.mean:.2f} ± {winner.standard_error:.2f} nats on val over {len(winner.trials)} seeds"


if __name__ == "__main__":
    with one_line_errors():
        main()
