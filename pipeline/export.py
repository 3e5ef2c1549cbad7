"""export: every entry's model as verified ONNX graphs, or a refusal -> graphs/<entry>/.

Exports from the same inputs stay as they are, and torch is imported only if something is left to write.
"""

import shutil
from pathlib import Path
from typing import Any

from latentmill.config import RESERVED, Params, load_params
from latentmill.errors import InputError
from latentmill.export.inputs import inputs_digest
from latentmill.export.manifest import is_up_to_date, remove_others
from latentmill.files import clear_leftovers
from latentmill.heartbeat import Heartbeat, print_line
from latentmill.runtime.json_file import read_object
from latentmill.stage import stage_process, steady

DATA, MODELS, METRICS = Path("data/prepared"), Path("models"), Path("evaluation/entries")
GRAPHS, EXPORTS = Path("graphs"), Path("exports")


def main() -> None:
    with steady("export"):
        export()


def export() -> None:
    params = load_params()
    metrics = {path.stem: read_object(path, "evaluate") for path in sorted(METRICS.glob("*.json"))}
    GRAPHS.mkdir(exist_ok=True)
    clear_leftovers(GRAPHS)
    for folder in (*remove_others(GRAPHS, params.ladder), *remove_others(EXPORTS, {*params.ladder, RESERVED})):
        print_line(f"{folder}: removed, because it belongs to no entry of the ladder")
    inputs = {entry: digest_of(entry, params, metrics) for entry in params.ladder}
    stale = {entry: digest for entry, digest in inputs.items() if not is_up_to_date(GRAPHS / entry, digest)}
    print_line(f"{len(inputs) - len(stale)} of {len(inputs)} exports are up to date")
    if stale:
        write(stale, params, metrics)


def digest_of(entry: str, params: Params, metrics: dict[str, Any]) -> str:
    return inputs_digest(entry, MODELS / entry, DATA, metrics, params.export)


def write(stale: dict[str, str], params: Params, metrics: dict[str, Any]) -> None:
    """Export these entries, each with the digest of its inputs.

    Raises:
        InputError: inputs of some entries are damaged or missing; the others are written nevertheless.
    """
    errors = []
    with Heartbeat("importing torch") as heartbeat:
        from latentmill.export.entry import Exporter
        from latentmill.export.writer import TrainingData

        exporter = Exporter(MODELS, metrics, TrainingData.read(DATA), params.export, print_line)
        for number, (entry, inputs) in enumerate(stale.items(), start=1):
            heartbeat.doing = f"exporting {entry}, {number} of {len(stale)}"
            try:
                exporter.write(entry, GRAPHS / entry, inputs)
                require_same(entry, inputs, digest_of(entry, params, metrics))
            except InputError as error:
                errors.append(str(error))
    if errors:
        raise InputError("; ".join(errors))


def require_same(entry: str, before: str, after: str) -> None:
    """Raises InputError where the inputs of an export have changed; then it is removed, or it would be up to date."""
    if before != after:
        shutil.rmtree(GRAPHS / entry)
        raise InputError(f"what {GRAPHS / entry} is made of must stay the same meanwhile, but changed: run again")


if __name__ == "__main__":
    with stage_process():
        main()
