"""champion: the best entry's model, exported once more under a name that stays -> exports/champion/."""

import json
from pathlib import Path

from latentmill.config import RESERVED, FormName, load_params
from latentmill.errors import one_line_errors
from latentmill.export.bundle import Given, write_bundle
from latentmill.export.champion import Candidate, ranked
from latentmill.export.permission import nobody, permitted
from latentmill.export.refusal import Refused
from latentmill.files import replacing_folder
from latentmill.heartbeat import Heartbeat, tell
from latentmill.training.checkpoint import load

DATA, MODELS, METRICS, EXPORTS = Path("data/prepared"), Path("models"), Path("evaluation/metrics.json"), Path("exports")


def main() -> None:
    with Heartbeat("choosing the champion") as heartbeat:
        choose(heartbeat)


def choose(heartbeat: Heartbeat) -> None:
    params = load_params()
    metrics = json.loads(METRICS.read_text())
    found, refusals = permitted(list(params.ladder), metrics, MODELS, params.export.allow_broken)
    for candidate in ranked(found, params.export.champion):
        heartbeat.doing = f"exporting {candidate.entry}"
        try:
            write(candidate, params.export.forms)
        except Refused as refused:
            refusals[candidate.entry] = refused
        else:
            return
    refusal = nobody(refusals)
    with replacing_folder(EXPORTS / RESERVED) as folder:
        refusal.write(folder, RESERVED)
    tell(f"exports/champion: refused: {refusal}")


def write(candidate: Candidate, forms: dict[FormName, float]) -> None:
    with replacing_folder(EXPORTS / RESERVED) as folder:
        write_bundle(
            load(MODELS / candidate.entry),
            candidate.entry,
            candidate.metrics,
            Given.read(DATA),
            folder,
            forms,
            chosen=candidate.chosen,
            tell=lambda step: tell(f"exports/champion/{step}"),
        )
    tell(f"exports/champion: {candidate}")


if __name__ == "__main__":
    with one_line_errors():
        main()
