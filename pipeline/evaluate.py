"""evaluate: each entry's winner on the test images -> evaluation/{metrics.json,pictures/<entry>/,*.json,*.csv}."""

from pathlib import Path

from latentmill.cluster.connection import cluster
from latentmill.cluster.tasks import TooLittleMemoryError
from latentmill.config import load_params
from latentmill.contract import Generates, Model
from latentmill.data.dataset import SPLITS, intact_digest, read_classes, read_groups, read_labels, read_split
from latentmill.data.factors import read_factors
from latentmill.errors import InputError
from latentmill.evaluation import results
from latentmill.evaluation.prepared import PreparedData
from latentmill.evaluation.run import Evaluation
from latentmill.files import replacing_folder
from latentmill.heartbeat import Heartbeat, print_line
from latentmill.runtime.text import plural
from latentmill.stage import stage_process, steady
from latentmill.storage import Storage
from latentmill.trials.record import PRIORS
from latentmill.trials.trained_model import Failure, failure, load, load_priors, require_trained_on, weights_digest

DATA, MODELS, EVALUATION = Path("data/prepared"), Path("models"), Path("evaluation")
TRY_AGAIN = "to try again, run `dvc repro -f evaluate`"


def main() -> None:
    with steady("evaluate"):
        evaluate()


def evaluate() -> None:
    params = load_params()
    # before anything that takes time, such as starting Ray
    print_line(f"evaluating {plural(len(params.ladder), 'entry', 'entries')}")
    digest = intact_digest(DATA)
    images, labels = (read_split(DATA, split) for split in SPLITS), (read_labels(DATA, split) for split in SPLITS)
    failed = {entry: found for entry in params.ladder if (found := failure(MODELS / entry))}
    models: dict[str, tuple[Model, dict[str, Model]]] = {}
    flip = False  # of any: one judge knows the copies of all
    for entry in [entry for entry in params.ladder if entry not in failed]:
        try:
            trained = load(MODELS / entry)
            require_trained_on(digest, trained, MODELS / entry)
            models[entry] = trained.model, priors_of(entry, trained.model)
            flip = flip or "flip" in trained.augment
        except NoPriorError as error:
            failed[entry] = Failure(str(error))
    classes, groups, factors = read_classes(DATA), read_groups(DATA), read_factors(DATA, "test")
    data = PreparedData(*images, *labels, classes=classes, train_groups=groups, test_factors=factors, flip=flip)
    judged = {}
    with replacing_folder(EVALUATION) as folder, Heartbeat("evaluating") as heartbeat, cluster(params.train.workers):
        samples = {entry: params.samples_of(entry) for entry in models}
        evaluation = Evaluation(models, data, params.evaluation, Storage(params.train.storage), samples)
        heartbeat.doing = evaluation.status
        for entry, prior, result in evaluation.results():
            if not isinstance(result, InputError):
                judged[entry, prior] = result
                print_line(results.line(entry, prior, result))
            elif entry not in failed:
                failed[entry] = evaluation_failure(result)
                print_line(f"{entry}: failed: {failed[entry]}")
        wanted = {entry: params.entry(entry).prior for entry in params.ladder}
        weights = {entry: weights_digest(MODELS / entry) for entry in models}
        results.write(folder, wanted, judged, evaluation.judge, evaluation.baseline.test, failed, weights)


class NoPriorError(InputError):
    """None of the priors of an entry could be trained, and its model draws no samples by itself."""


def priors_of(entry: str, model: Model) -> dict[str, Model]:
    """The trained priors of an entry with that model, in the order of their names.

    Raises:
        NoPriorError: it needs a prior, and has only ones that failed.
    """
    folders = sorted((MODELS / entry / PRIORS).glob("*"))
    reasons = {folder.name: found for folder in folders if (found := failure(folder))}
    for name, reason in reasons.items():
        print_line(f"{entry}: the prior {name} failed: {reason}")
    if folders and len(reasons) == len(folders) and not isinstance(model, Generates):
        raise NoPriorError("; ".join(f"prior {name}: {reason}" for name, reason in reasons.items()))
    return {name: prior.model for name, prior in load_priors(MODELS / entry).items()}


def evaluation_failure(error: InputError) -> Failure:
    """The failure of an entry's evaluation, with advice if it was not the entry's own fault."""
    return Failure(str(error), TRY_AGAIN if isinstance(error, TooLittleMemoryError) else "")


if __name__ == "__main__":
    with stage_process():
        main()
