"""The other ladders that come with the project."""

from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from latentmill.config import load_params
from latentmill.trials.auto import with_values_for
from latentmill.trials.ladder import Ladder

ROOT = Path(__file__).parents[1]
LADDERS = sorted((ROOT / "ladders").glob("*.yaml"))


@pytest.mark.parametrize("path", [ROOT / "params.yaml", *LADDERS], ids=lambda path: path.stem)
def test_every_entry_keeps_the_rules_of_its_model_and_of_its_priors(path):
    params = with_values_for(np.zeros((2, 1, 28, 28), dtype=np.uint8), load_params(path), print)
    studies = Ladder(params, lambda *_: iter([]), features="f").entry_studies()
    assert [study.name for study in studies] == list(params.ladder)
    for study in studies:
        for points in study.rounds:
            assert all(study.space.configuration(point, params.trial) for point in points)


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("lecture", {"ladder"}),
        ("quick", {"ladder", "priors", "evaluation", "note"}),
        ("colour", {"ladder", "priors"}),
        ("budget", {"ladder", "priors", "train.asha", "train.budget"}),
        ("factors", {"data.source", "trial.epochs", "trial.learning_rate", "ladder", "priors"}),
    ],
)
def test_only_the_ladder_and_its_search_differ_from_params_yaml(name, own):
    ours, its = (flat(YAML(typ="safe").load(each)) for each in (ROOT / "params.yaml", ROOT / f"ladders/{name}.yaml"))
    assert {key for key in ours | its if ours.get(key) != its.get(key)} == own


def flat(params):
    sections = {key: params.pop(key) for key in ("data", "trial", "train")}
    return params | {f"{name}.{key}": value for name, section in sections.items() for key, value in section.items()}
