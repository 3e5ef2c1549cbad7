"""What `make gpu` does, tried on the CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks import gpu

ROOT = Path(__file__).parents[1]
ALONE = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT / "src")}
COMMAND = [sys.executable, "-m", "benchmarks.gpu"]


@pytest.mark.slow
def test_a_small_run_measures_every_part(tmp_path):
    done = subprocess.run(
        [*COMMAND, "--small", "--out", str(tmp_path)], cwd=ROOT, env=ALONE, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["tests"]["status"] == 0
    assert "passed" in found["tests"]["said"][-1] or "[100%]" in found["tests"]["said"][-1]
    assert found["limit, float32"]["teraflops"] > 0
    assert found["packs, float32"]["by_size"]["2"]["times_alone"] > 0
    assert found["conv VAE of 28 px"]["plain"] > 0
    assert (tmp_path / "gpu.png").stat().st_size > 1000


def test_an_interrupted_run_keeps_what_it_measured(tmp_path, monkeypatch):
    def ended(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(gpu, "tests", lambda small: {"status": 0})
    monkeypatch.setattr(gpu, "packs", ended)
    monkeypatch.setattr(sys, "argv", ["gpu", "--small", "--out", str(tmp_path)])
    with pytest.raises(KeyboardInterrupt):
        gpu.main()
    assert json.loads((tmp_path / "gpu.json").read_text()).keys() >= {"device", "tests", "limit, float32"}


def test_without_a_gpu_it_says_so_in_a_line():
    done = subprocess.run(COMMAND, cwd=ROOT, env=ALONE, capture_output=True, text=True)
    assert done.returncode == 2
    assert "a GPU must be there, but torch sees none" in done.stderr.splitlines()[-1]


def test_it_needs_neither_ray_nor_dvc_nor_faiss():
    heavy = "import sys, benchmarks.gpu; print(sorted({'ray', 'dvc', 'faiss', 'matplotlib'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", heavy], cwd=ROOT, env=ALONE, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
