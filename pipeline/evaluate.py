"""evaluate: each entry's winner on the test images -> evaluation/{metrics.json,pictures/<entry>/,*.csv}."""

import time
from pathlib import Path

from latentmill.config import load_params
from latentmill.data.dataset import read_labels, read_split
from latentmill.errors import one_line_errors
from latentmill.evaluation.entry import Evaluation, evaluate, material
from latentmill.evaluation.plots import distances_csv, kl_csv
from latentmill.files import replacing_folder, write_json, write_text
from latentmill.training.checkpoint import load

DATA, MODELS, EVALUATION = Path("data/prepared"), Path("models"), Path("evaluation")


def main() -> None:
    params = load_params()
    given = material(read_split(DATA, "train"), read_split(DATA, "test"), read_labels(DATA, "test"))
    found: dict[str, Evaluation] = {}
    with replacing_folder(EVALUATION) as folder:
        for entry in params.ladder:
            started = time.perf_counter()
            pictures = folder / "pictures" / entry
            pictures.mkdir(parents=True)
            found[entry] = evaluate(load(MODELS / entry).model, given, params.evaluation, pictures)
            print(f"{entry}: evaluated in {time.perf_counter() - started:.1f} s", flush=True)
        write_json(folder / "metrics.json", {entry: evaluation.metrics for entry, evaluation in found.items()})
        write_text(folder / "distances.csv", distances_csv(found, given.test_neighbours.distances))
        write_text(folder / "kl.csv", kl_csv(found))


if __name__ == "__main__":
    with one_line_errors():
        main()
