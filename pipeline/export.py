"""export ENTRY: one entry's model as verified ONNX graphs, or why there are none -> exports/<entry>/."""

import json
import sys
from pathlib import Path
from typing import Any

from latentmill.config import ExportConfig, load_params
from latentmill.errors import one_line_errors
from latentmill.export.bundle import Given, told, write_bundle
from latentmill.export.permission import evaluated, require_kept
from latentmill.export.refusal import Refused
from latentmill.files import replacing_folder
from latentmill.heartbeat import Heartbeat, tell
from latentmill.training.checkpoint import load

DATA, MODELS, METRICS, EXPORTS = Path("data/prepared"), Path("models"), Path("evaluation/metrics.json"), Path("exports")


def main(entry: str) -> None:
    config, metrics = load_params().export, json.loads(METRICS.read_text())
    try:
        card = write(entry, metrics, config)
    except Refused as refused:
        with replacing_folder(EXPORTS / entry) as folder:
            refused.write(folder, entry, metrics.get(entry))
        tell(f"exports/{entry}: {refused.status}: {refused}")
    else:
        for line in told(card):
            tell(f"exports/{entry}/{line}")


def write(entry: str, metrics: dict[str, Any], config: ExportConfig) -> dict[str, Any]:
    found = evaluated(entry, metrics, MODELS)
    require_kept(entry, found, config.allow_broken)
    with replacing_folder(EXPORTS / entry) as folder, Heartbeat(f"exporting {entry}"):
        return write_bundle(
            load(MODELS / entry),
            entry,
            found,
            Given.read(DATA),
            folder,
            config.forms,
            tell=lambda step: tell(f"exports/{entry}/{step}"),
        )


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1])
