"""champion: a copy of the best entry's export -> exports/champion/."""

from pathlib import Path

from latentmill.config import RESERVED, load_params
from latentmill.export.champion import appoint, no_champion, ranked
from latentmill.export.outcome import read_outcome
from latentmill.files import replacing_folder
from latentmill.heartbeat import print_line
from latentmill.stage import stage_process

GRAPHS, CHAMPION = Path("graphs"), Path("exports") / RESERVED


def main() -> None:
    params = load_params()
    outcomes = [read_outcome(GRAPHS, entry) for entry in params.ladder]
    found = {each.name: each.card["metrics"] for each in outcomes if each.exported}
    candidates = ranked(found, params.export.champion)
    with replacing_folder(CHAMPION) as folder:
        if candidates:
            appoint(candidates[0], GRAPHS, folder)
            outcome = str(candidates[0])
        else:
            refusal = no_champion(outcomes)
            refusal.write(folder, RESERVED)
            outcome = f"refused: {refusal}"
    print_line(f"{CHAMPION}: {outcome}")


if __name__ == "__main__":
    with stage_process():
        main()
