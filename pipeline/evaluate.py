"""evaluate: each entry's winner on the test images -> evaluation/{metrics.json,pictures/<entry>/,*.json,*.csv}."""

from pathlib import Path

from latentmill.config import load_params
from latentmill.data.dataset import read_classes, read_labels, read_split
from latentmill.errors import InputError, one_line_errors
from latentmill.evaluation import results
from latentmill.evaluation.entry import Material
from latentmill.evaluation.run import Evaluation
from latentmill.files import replacing_folder
from latentmill.heartbeat import Heartbeat, tell
from latentmill.sweep.cluster import cluster
from latentmill.training.checkpoint import failure, load

DATA, MODELS, EVALUATION = Path("data/prepared"), Path("models"), Path("evaluation")
SPLITS = ("train", "val", "test")


def main() -> None:
    params = load_params()
    images, labels = (read_split(DATA, of) for of in SPLITS), (read_labels(DATA, of) for of in SPLITS)
    given = Material(*images, *labels, classes=read_classes(DATA))
    failed = {entry: reason for entry in params.ladder if (reason := failure(MODELS / entry))}
    models = {entry: load(MODELS / entry).model for entry in params.ladder if entry not in failed}
    found = {}
    with replacing_folder(EVALUATION) as folder, Heartbeat("evaluating") as heartbeat, cluster(params.train.workers):
        evaluation = Evaluation(models, given, params.evaluation)
        heartbeat.doing = evaluation.status
        for entry, route, findings in evaluation.findings():
            if not isinstance(findings, InputError):
                found[entry, route] = findings
                tell(results.line(entry, route, findings))
            elif entry not in failed:
                failed[entry] = str(findings)
                tell(f"{entry}: failed: {findings}")
        results.write(folder, list(params.ladder), found, evaluation.judge, evaluation.usual.test, failed)


if __name__ == "__main__":
    with one_line_errors():
        main()
