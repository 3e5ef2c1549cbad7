"""train: every trial of the ladder, in parallel -> models/<entry>/, trials.csv, curves.csv."""

import shutil
from pathlib import Path

from latentmill import sweep
from latentmill.config import load_params
from latentmill.data.dataset import read_manifest, read_split
from latentmill.errors import one_line_errors
from latentmill.files import replacing_folder, write_text
from latentmill.training.plan import Planned, plan
from latentmill.training.results import Outcome, curves_csv, outcome_of, require_winners, trials_csv, winners
from latentmill.training.trials import TrialStore

DATA, MODELS, STORE = Path("data/prepared"), Path("models"), Path(".latentmill/trials")


def main() -> None:
    params = load_params()
    data_digest, store = read_manifest(DATA)["digest"], TrialStore(STORE)
    planned = [(item, item.trial.fingerprint(data_digest)) for item in plan(params)]
    missing = {key: item for item, key in planned if store.find(key) is None}
    total = len({key for _, key in planned})
    print(f"{total} trials: {total - len(missing)} already trained, {len(missing)} to train", flush=True)
    errors: dict[str, str] = {}
    if missing:
        trials = {key: item.trial for key, item in missing.items()}
        splits = read_split(DATA, "train"), read_split(DATA, "val")
        errors = sweep.run(trials, *splits, data_digest, store, params.sweep, Progress(missing, store))
    write([outcome_of(item, key, store, errors) for item, key in planned], store)


class Progress:
    """Prints a line for each trial that ends."""

    def __init__(self, missing: dict[str, Planned], store: TrialStore) -> None:
        self.missing, self.store, self.ended = missing, store, 0

    def __call__(self, fingerprint: str) -> None:
        self.ended += 1
        record = self.store.find(fingerprint)
        result = f"{record['criterion']:.2f} nats on val, {record['seconds']:.1f} s" if record else "failed"
        print(f"[{self.ended}/{len(self.missing)}] {self.missing[fingerprint].label}: {result}", flush=True)


def write(outcomes: list[Outcome], store: TrialStore) -> None:
    """Tell what failed, write the tables, even where an entry has no winner, then copy the winners out of the store."""
    for outcome in outcomes:
        if outcome.error:
            print(f"{outcome.planned.label} failed: {outcome.error}", flush=True)
    best = winners(outcomes)
    write_text(Path("trials.csv"), trials_csv(outcomes, best))
    write_text(Path("curves.csv"), curves_csv(best.values()))
    require_winners(outcomes, best)
    with replacing_folder(MODELS) as folder:
        for entry, outcome in best.items():
            shutil.copytree(store.folder(outcome.fingerprint), folder / entry)
            assert outcome.record is not None
            print(f"models/{entry}: {outcome.planned.label}, {outcome.record['criterion']:.2f} nats on val")


if __name__ == "__main__":
    with one_line_errors():
        main()
