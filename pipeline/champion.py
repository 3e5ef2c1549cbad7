"""champion: the best entry's model, exported once more under a name that stays -> exports/champion/."""

import json
from pathlib import Path

from latentmill.config import RESERVED, load_params
from latentmill.errors import one_line_errors
from latentmill.export.bundle import Given, write_bundle
from latentmill.export.champion import champion
from latentmill.files import replacing_folder
from latentmill.training.checkpoint import load

DATA, MODELS, METRICS, EXPORTS = Path("data/prepared"), Path("models"), Path("evaluation/metrics.json"), Path("exports")


def main() -> None:
    params, metrics = load_params(), json.loads(METRICS.read_text())
    ladder = {entry: metrics[entry] for entry in params.ladder}
    won = champion(ladder, params.export.champion, params.export.allow_broken)
    with replacing_folder(EXPORTS / RESERVED) as folder:
        write_bundle(
            load(MODELS / won.entry), won.entry, ladder[won.entry], Given.read(DATA), folder, params.export.forms
        )
    print(f"exports/champion: {won}")


if __name__ == "__main__":
    with one_line_errors():
        main()
