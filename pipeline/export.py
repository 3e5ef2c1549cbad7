"""export ENTRY: one entry's model as verified ONNX graphs -> exports/<entry>/."""

import json
import sys
from pathlib import Path

from latentmill.config import load_params
from latentmill.errors import one_line_errors
from latentmill.export.bundle import Given, told, write_bundle
from latentmill.export.card import require_kept
from latentmill.files import replacing_folder
from latentmill.training.checkpoint import load

DATA, MODELS, METRICS, EXPORTS = Path("data/prepared"), Path("models"), Path("evaluation/metrics.json"), Path("exports")


def main(entry: str) -> None:
    params, metrics = load_params(), json.loads(METRICS.read_text())[entry]
    require_kept(entry, metrics, params.export.allow_broken)
    with replacing_folder(EXPORTS / entry) as folder:
        card = write_bundle(load(MODELS / entry), entry, metrics, Given.read(DATA), folder, params.export.forms)
    for line in told(card):
        print(f"exports/{entry}/{line}")


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1])
