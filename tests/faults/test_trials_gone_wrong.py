"""Trials that go wrong of themselves, in a sweep: recorded, never ranked, and the others go on."""

import json
import math

import numpy as np
import psutil
import pytest
from sites import Site

pytestmark = pytest.mark.faults
GIB = 2**30
SMALL = {"model": "vae", "latent": 2, "epochs": 2}


def records(site: Site) -> list[dict[str, object]]:
    return [json.loads(path.read_text()) for path in sorted(site.store.glob("*/trial.json"))]


@pytest.mark.parametrize("rate", [1e10, 1e25, 1e37, 1e38])
def test_a_trial_that_diverges_is_kept_as_such_never_ranked_and_not_trained_again(prepared, tmp_path, rate):
    ladder = {"naive_bayes": {}, "wild": SMALL | {"learning_rate": [rate, 1e-3]}}
    site = Site(tmp_path).prepare(prepared, ladder, seeds=[0, 1])
    said = site.run()
    diverged = [record for record in records(site) if record["status"] == "diverged"]
    assert len(diverged) == 2
    for record in diverged:
        assert record["step"] >= 2
        assert math.isfinite(record["last_finite_loss"])
    assert said.count("diverged: the loss must be finite, but got") == 2
    assert "models/wild: wild learning_rate=0.001" in said
    table = (site.root / "trials.csv").read_text().splitlines()
    assert sum(",diverged,,,,," in row for row in table) == 2, "it has no criterion, mean or rank"
    before = site.finished()
    assert "6 already trained, 0 to train" in site.run()
    assert site.finished() == before


def test_an_entry_of_which_all_trials_diverge_says_so_in_place_of_a_model(prepared, tmp_path):
    site = Site(tmp_path).prepare(prepared, {"naive_bayes": {}, "wild": SMALL | {"learning_rate": 1e30}})
    last = site.run().splitlines()[-1]
    assert last.startswith("models/wild: failed: the loss must be finite")
    assert [path.name for path in (site.root / "models/wild").iterdir()] == ["failed.json"]
    assert (site.root / "models/naive_bayes/model.safetensors").exists()


def test_a_sweep_in_which_all_trials_diverge_fails_in_a_line(prepared, tmp_path):
    site = Site(tmp_path).prepare(prepared, {"wild": SMALL | {"learning_rate": 1e30}})
    last = site.run(status=1).splitlines()[-1]
    assert last.startswith("error: some entry must have a trial that finishes, but none has: ladder.wild: the loss")


def test_a_trial_too_large_for_the_memory_is_kept_as_such(prepared, tmp_path):
    """Its weights alone are some terabytes."""
    site = Site(tmp_path).prepare(prepared, {"huge": SMALL | {"hidden": [10**10, 10]}})
    said = site.run()
    assert said.count("out of memory: RuntimeError") == 1
    assert "models/huge: huge hidden=10," in said
    assert [each["status"] for each in records(site)].count("out of memory") == 1


def test_a_worker_that_ray_ends_for_want_of_memory_is_out_of_memory_too(prepared, tmp_path):
    """The test itself takes the memory away."""
    memory = psutil.virtual_memory()
    if memory.available < 12 * GIB:
        pytest.skip("this takes some gigabytes")
    endless = SMALL | {"epochs": 10**5, "patience": 10**5, "max_steps": 10**7}
    site = Site(tmp_path).prepare(prepared, {"vae": endless})
    threshold = (memory.total - memory.available + 4 * GIB) / memory.total
    running = site.start(RAY_memory_usage_threshold=f"{threshold:.3f}", RAY_memory_monitor_refresh_ms="100")
    site.wait_for(running, 10)
    taken = np.ones(5 * GIB, dtype=np.uint8)
    said, _ = running.communicate(timeout=180)
    assert len(taken) == 5 * GIB
    assert running.returncode == 1
    assert "out of memory: its worker was ended because the machine ran low on memory" in said
    (record,) = records(site)
    assert record["status"] == "out of memory"
