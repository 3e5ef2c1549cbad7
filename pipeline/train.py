"""train: every trial of the ladder, in parallel -> models/<entry>/, {trials,curves,parallel}.csv."""

from pathlib import Path

from latentmill.config import Params, load_params
from latentmill.data.batches import Batches
from latentmill.data.dataset import read_manifest, read_split
from latentmill.errors import one_line_errors
from latentmill.files import replacing_folder, write_text
from latentmill.sweep.display import Display
from latentmill.sweep.lifetime import alone, ending_in_order
from latentmill.sweep.run import run
from latentmill.sweep.search import optuna_rounds
from latentmill.training.parallel import parallel_csv
from latentmill.training.plan import Plan
from latentmill.training.results import Outcome, Ranked, curves_csv, outcomes, ranking, require_winners, trials_csv
from latentmill.training.store import TrialStore
from latentmill.training.trials import bring_home

DATA, MODELS = Path("data/prepared"), Path("models")


def main() -> None:
    params = load_params()
    store = TrialStore(params.train.storage, note=tell)
    with ending_in_order(), alone(store):
        write(sweep(params, store), store)


def sweep(params: Params, store: TrialStore) -> list[Outcome]:
    """Train what is missing in the store; what became of every trial."""
    plan = Plan(params, read_manifest(DATA)["digest"], store, optuna_rounds)
    tell(plan.summary())
    if plan.missing:
        with Display(plan) as display:
            run(plan, read_split(DATA, "train"), read_split(DATA, "val"), display)
    if plan.missing:
        tell(f"train.max_seconds is over with {plan.missing} trials to train: `dvc repro -f train` goes on from here")
    return outcomes(plan.planned, plan.records)


def write(tried: list[Outcome], store: TrialStore) -> None:
    """Write the tables, even where an entry has no winner, then bring the winners home from the store."""
    ranked = ranking(tried)
    best = {entry: found[0].best for entry, found in ranked.items()}
    write_text(Path("trials.csv"), trials_csv(tried, ranked))
    write_text(Path("curves.csv"), curves_csv(best.values()))
    write_text(Path("parallel.csv"), parallel_csv(tried, best.values()))
    require_winners(tried, ranked)
    images, val = (Batches(read_split(DATA, split)) for split in ("train", "val"))
    with replacing_folder(MODELS) as folder:
        for entry, winner in best.items():
            (folder / entry).mkdir()
            bring_home(store, winner.record["fingerprint"], folder / entry, images, val)
            tell(f"models/{entry}: {winner.planned.label}, {result(ranked[entry][0])}")


def result(winner: Ranked) -> str:
    if winner.standard_error is None:
        return f"{winner.mean:.2f} nats on val"
    return f"{winner.mean:.2f} ± {winner.standard_error:.2f} nats on val over {len(winner.trials)} seeds"


def tell(sentence: str) -> None:
    print(sentence, flush=True)


if __name__ == "__main__":
    with one_line_errors():
        main()
