"""What the benchmark of memorising does, on few digits and for few steps."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from benchmarks import memorising
from ruamel.yaml import YAML
from test_pipeline import ROOT
from test_quality_benchmark import ENVIRONMENT, PARAMS, TRIAL

PRIOR = TRIAL | {"model": "flow", "hidden": 16, "epochs": 3, "patience": 1}


def snapshots(losses, patience):
    """After epochs with these validation losses; the weight of an epoch is its number."""
    kept, model, best = memorising.Snapshots(patience), torch.nn.Linear(1, 1, bias=False), 0
    for epoch, loss in enumerate(losses, 1):
        torch.nn.init.constant_(model.weight, epoch)
        best = epoch if loss < min(losses[: epoch - 1], default=torch.inf) else best
        over = epoch == len(losses)
        kept.after_epoch(SimpleNamespace(epoch=epoch, best_epoch=best, is_over=over, model=model, averages={}))
    return kept


def test_it_keeps_what_early_stopping_would_have_kept():
    kept = snapshots([5, 4, 3, 4, 4, 1, 2], patience=2)
    assert kept.chosen == 3  # the wait ends with epoch 5, so 6 is never seen
    assert list(kept.by_epoch) == [1, 2, 3, 4, 7]
    assert [float(weights["weight"]) for weights in kept.by_epoch.values()] == [1, 2, 3, 4, 7]


def test_it_keeps_the_best_epoch_where_nothing_stops():
    assert snapshots([5, 4, 3, 4, 4, 1, 2], patience=3).chosen == 6


@pytest.mark.slow
def test_a_small_run_measures_and_draws(prepared, tmp_path):
    priors = {"regularised_flow": PRIOR}
    ladder = {"latent_flow": PARAMS["ladder"]["latent_flow"] | {"priors": ["regularised_flow"]}}
    YAML().dump(PARAMS | {"priors": priors, "ladder": ladder}, tmp_path / "params.yaml")
    command = [sys.executable, "-m", "benchmarks.memorising", str(prepared), "--steps", "90", "--samples", "400"]
    command += ["--params", str(tmp_path / "params.yaml"), "--out", str(tmp_path)]
    environment = ENVIRONMENT | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "memorising.json").read_text())
    large, default = found["curves"][memorising.LARGE], found["curves"][memorising.DEFAULT]
    assert [point["steps"] for point in default["points"]] == sorted({point["steps"] for point in default["points"]})
    assert len(default["points"]) == 3
    assert large["chosen"] in [point["steps"] for point in large["points"]]
    assert large["points"][-1]["steps"] >= 90
    assert {"val_loss", "train_loss", "C_T (pixels)", "rule 2"} <= large["points"][0].keys()
    assert "near copies (pixels)" in found["limits"]
    assert (tmp_path / "memorising.png").stat().st_size > 1_000
