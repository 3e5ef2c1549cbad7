"""A run that is logged to a server of MLflow, as a team has it; and what happens where there is none."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from test_pipeline import ROOT
from test_submit import free_port

SMALL = """
data: {source: digits}
trial: {epochs: 3}
priors: {normal: {}, mixture: {components: 3}}
ladder:
  naive_bayes: {}
  vae: {latent: [2, 3], priors: [normal, mixture]}
train: {loggers: [mlflow]}
evaluation: {samples: 400, importance_samples: 10, likelihood_images: 50, features: [pixels]}
export: {}
"""
STAGES = (
    *("scan", "prepare", "train", "evaluate", "export"),
    *(f"publish {entry}" for entry in ("naive_bayes", "vae")),
    *("champion", "report"),
)
# What a colleague does with the registered model, and what there is of the runs, as JSON.
COLLEAGUE = """
import json, mlflow, numpy as np
client = mlflow.MlflowClient()
experiment = client.get_experiment_by_name("latentmill").experiment_id
runs = {run.info.run_name: run for run in client.search_runs([experiment])}
model = mlflow.pyfunc.load_model("models:/latentmill/1")
shape = [-1 if size == -1 else size for size in model.metadata.signature.inputs.inputs[0].shape]
noise = np.random.default_rng(0).standard_normal((5, shape[1]), dtype=np.float32)
made = model.predict({"noise": noise})
project = runs["project"]
print(json.dumps({
    "names": sorted(runs),
    "status": {name: run.info.status for name, run in runs.items()},
    "curve": len(client.get_metric_history(runs["vae latent=2"].info.run_id, "val_loss")),
    "params": runs["vae latent=2"].data.params,
    "project params": project.data.params,
    "metrics": len(project.data.metrics),
    "tags": project.data.tags,
    "artifacts": sorted(each.path for each in client.list_artifacts(project.info.run_id)),
    "pictures": len(client.list_artifacts(runs["samples"].info.run_id, "images")),
    "flavours": sorted(model.metadata.flavors),
    "shape": list(np.shape(made["image"])),
}))
"""


@pytest.fixture(scope="module")
def python():
    """A Python with mlflow, which `make test-all` sets up on top of this one."""
    found = Path(sys.prefix, "servers/bin/python")
    if not found.exists():
        pytest.skip("needs mlflow, which `make test-all` sets up")
    return found


@pytest.fixture(scope="module")
def server(python, tmp_path_factory):
    """The address of a server with a database and a place for files."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    command = [python, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/runs.db", "--artifacts-destination", folder / "files"]
    with (folder / "log").open("w") as log:
        running = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{port}"
    await_answer(f"{address}/health")
    yield address
    running.terminate()
    running.wait(30)


def await_answer(address: str) -> None:
    """Until a server answers."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
    raise AssertionError(f"{address} must answer")


def run(python, folder: Path, *command: str, status: int = 0, **environment: str) -> str:
    """What a command says, both its outputs; it must end with `status`."""
    done = subprocess.run(
        [python, *command],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "MLFLOW_DISABLE_TELEMETRY": "true"} | environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == status, done.stdout
    return done.stdout


@pytest.mark.slow
def test_a_team_finds_params_curves_verdicts_pictures_and_the_model(python, server, tmp_path):
    (tmp_path / "params.yaml").write_text(SMALL)
    for stage in STAGES:
        script, *more = stage.split()
        said = run(python, tmp_path, str(ROOT / f"pipeline/{script}.py"), *more, MLFLOW_TRACKING_URI=server)
        assert "Traceback" not in said
    found = json.loads(run(python, tmp_path, "-c", COLLEAGUE, MLFLOW_TRACKING_URI=server).splitlines()[-1])
    assert {"naive_bayes", "vae latent=2", "vae latent=3", "vae/mixture", "samples", "project"} == set(found["names"])
    assert set(found["status"].values()) == {"FINISHED"}
    assert found["curve"] == 3, "a point an epoch"
    assert found["params"]["latent"] == "2"
    assert found["project params"]["evaluation.samples"] == "400"
    assert found["metrics"] > 50
    assert found["tags"]["naive_bayes.own.rule_1"] == "fail"
    assert found["tags"]["export.champion"].startswith("champion: ")
    assert found["artifacts"] == ["export", "params.yaml", "pictures", "report"]
    assert found["pictures"] > 0
    assert found["flavours"] == ["onnx", "python_function"]
    assert found["shape"] == [5, 1, 8, 8]


@pytest.mark.slow
def test_a_server_that_does_not_answer_is_named_before_anything_trains(python, tmp_path):
    (tmp_path / "params.yaml").write_text(SMALL)
    for stage in ("scan", "prepare"):
        run(python, tmp_path, str(ROOT / f"pipeline/{stage}.py"))
    nowhere = f"http://127.0.0.1:{free_port()}"
    said = run(python, tmp_path, str(ROOT / "pipeline/train.py"), status=1, MLFLOW_TRACKING_URI=nowhere)
    assert f"error: MLflow must answer at {nowhere}, but" in said.splitlines()[-1]
    assert "Traceback" not in said
    assert not (tmp_path / ".latentmill/trials").exists() or not any((tmp_path / ".latentmill/trials").glob("*/*"))
