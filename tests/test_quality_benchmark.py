"""What the benchmark of samples does, on few digits and for few steps."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from benchmarks import quality
from benchmarks.independent_judge import Judge
from ruamel.yaml import YAML
from sites import SECTIONS
from test_pipeline import ROOT

from latentmill.evaluation.fidelity import prdc
from latentmill.evaluation.prepared import PreparedData

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
TRIAL = {"epochs": 1, "batch_size": 256}
PARAMS = SECTIONS | {
    "priors": {"flow": TRIAL | {"hidden": 16}},
    "ladder": {"latent_flow": TRIAL | {"model": "vae", "latent": 3, "priors": ["flow"]}},
    "train": {},
}


def row(seconds, frechet, coverage=0.9):
    return {"seconds": seconds, "frechet": frechet, "coverage": coverage}


@pytest.fixture(scope="module")
def data(digits, labels):
    parts = slice(0, 300), slice(300, 450), slice(450, 600)
    return PreparedData(*(digits[part] for part in parts), *(labels[part] for part in parts))


@pytest.fixture(scope="module")
def judge(data):
    return Judge(data, 1_000)


def test_coverage_is_that_of_naeem(judge, data):
    samples = np.concatenate([data.val[:75], np.zeros_like(data.val[:75])])
    expected = prdc(judge.features(samples), judge.real).coverage
    assert judge(samples)["coverage"] == pytest.approx(expected, abs=1e-4)


def test_real_images_are_judged_better_than_spoilt_ones(judge, data):
    noise = np.random.default_rng(0).integers(0, 256, data.val.shape, np.uint8)
    real, spoilt = judge(data.val), judge(noise)
    assert real["frechet"] < 0.3 * spoilt["frechet"]
    assert real["coverage"] > 0.5 > spoilt["coverage"]


def test_as_many_images_are_compared_as_there_are_in_each_split(judge):
    assert judge.count == len(judge.real) == 150


def test_targets_compare_with_the_best_of_all_peers():
    ours = [row(10, 9.0), row(30, 4.0), row(90, 0.5, 0.96)]
    peers = {"AE": [row(20, 6.0), row(100, 7.0)], "VAE": [row(50, 5.0), row(80, 4.0)]}
    sixth, coverage, sooner = quality.targets({quality.OURS: ours} | peers)
    assert (sixth.figure, coverage.figure, sooner.figure) == (0.125, 0.96, 0.375)
    assert sixth.holds
    assert coverage.holds
    assert sooner.holds


def test_targets_fall_short_where_ours_never_gets_as_good():
    sixth, coverage, sooner = quality.targets({quality.OURS: [row(10, 9.0)], "AE": [row(20, 6.0)]})
    assert (sixth.holds, coverage.holds, sooner.holds) == (False, False, False)
    assert (sixth.figure, sooner.figure) == (1.5, None)


@pytest.mark.slow
def test_a_small_run_trains_judges_and_draws(prepared, tmp_path):
    YAML().dump(PARAMS, tmp_path / "params.yaml")
    command = [sys.executable, "-m", "benchmarks.quality", f"digits={prepared}", "--shares", "0.0001", "1", "--peers"]
    command += ["--samples", "100", "--params", str(tmp_path / "params.yaml"), "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr  # no peer, no target
    found = json.loads((tmp_path / "quality.json").read_text())["digits"]
    rows = found["samples"][quality.OURS]
    assert [row["share"] for row in rows] == [0.0001, 1]
    assert all(row["seconds"] >= row["of which the sampler"] for row in rows)
    assert found["real"]["frechet"] < found["reconstructions"][quality.OURS]["frechet"]
    assert "falls short" in done.stdout
    assert (tmp_path / "quality.png").stat().st_size > 1_000


@pytest.mark.filterwarnings("ignore")  # of pythae and what it imports
def test_each_model_of_pythae_is_trained_copied_and_sampled(data):
    pytest.importorskip("pythae", reason="the extra `bench`")
    from benchmarks import peers, pythae_models

    images = peers.as_pythae(data.train)
    for name in pythae_models.FAMILY:
        torch.manual_seed(0)
        model = pythae_models.build(name, "conv", data.train.shape[1:])
        copies = pythae_models.trained(model, images, [0, 0])  # after the first step, and after the second
        assert [each.training for _, each in copies] == [False, False]
        weights = [torch.cat([weight.flatten() for weight in each.parameters()]) for _, each in copies]
        assert not torch.equal(*weights)
        samples, seconds = pythae_models.sampled(copies[-1][1], images.data, 7, seed=0)
        assert (samples.shape, samples.dtype) == ((7, 1, 8, 8), np.uint8)
        assert seconds > 0
        made = pythae_models.reconstructed(copies[-1][1], images.data[:5])
        assert (made.shape, made.dtype) == ((5, 1, 8, 8), np.uint8)


@pytest.mark.filterwarnings("ignore")
def test_pythaes_own_networks_are_for_28_pixels():
    pytest.importorskip("pythae", reason="the extra `bench`")
    from benchmarks import pythae_models

    for name in ("AE", "VAE"):
        model = pythae_models.build(name, "resnet", (1, 28, 28)).eval()
        assert pythae_models.reconstructed(model, torch.zeros(2, 1, 28, 28)).shape == (2, 1, 28, 28)
