"""evaluate: each entry's winner on the test images -> evaluation/{metrics.json,pictures/<entry>/,*.json,*.csv}."""

from pathlib import Path

from latentmill.config import load_params
from latentmill.data.dataset import read_classes, read_groups, read_labels, read_split
from latentmill.errors import InputError, one_line_errors
from latentmill.evaluation import results
from latentmill.evaluation.entry import Material
from latentmill.evaluation.run import Evaluation
from latentmill.files import replacing_folder
from latentmill.heartbeat import Heartbeat, tell
from latentmill.stage import steady
from latentmill.sweep.cluster import cluster
from latentmill.sweep.tasks import TooLittleMemoryError
from latentmill.training.checkpoint import Failure, failure, load

DATA, MODELS, EVALUATION = Path("data/prepared"), Path("models"), Path("evaluation")
SPLITS = ("train", "val", "test")
TRY_AGAIN = "to try again, run `dvc repro -f evaluate`"


def main() -> None:
    with steady("evaluate"):
        evaluate()


def evaluate() -> None:
    params = load_params()
    tell(f"evaluating {len(params.ladder)} entries")  # before all that takes time, starting Ray among it
    images, labels = (read_split(DATA, of) for of in SPLITS), (read_labels(DATA, of) for of in SPLITS)
    given = Material(*images, *labels, classes=read_classes(DATA), train_groups=read_groups(DATA))
    failed = {entry: found for entry in params.ladder if (found := failure(MODELS / entry))}
    models = {entry: load(MODELS / entry).model for entry in params.ladder if entry not in failed}
    judged = {}
    with replacing_folder(EVALUATION) as folder, Heartbeat("evaluating") as heartbeat, cluster(params.train.workers):
        evaluation = Evaluation(models, given, params.evaluation)
        heartbeat.doing = evaluation.status
        for entry, route, findings in evaluation.findings():
            if not isinstance(findings, InputError):
                judged[entry, route] = findings
                tell(results.line(entry, route, findings))
            elif entry not in failed:
                failed[entry] = failure_of(findings)
                tell(f"{entry}: failed: {failed[entry]}")
        results.write(folder, list(params.ladder), judged, evaluation.judge, evaluation.usual.test, failed)


def failure_of(error: InputError) -> Failure:
    """That an entry could not be evaluated, and what to do where that is not its own fault."""
    return Failure(str(error), TRY_AGAIN if isinstance(error, TooLittleMemoryError) else "")


if __name__ == "__main__":
    with one_line_errors():
        main()
