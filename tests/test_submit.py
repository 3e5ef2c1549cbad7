"""The sweep as a job of a real Ray cluster with a dashboard and a token; and what is said where that can't be."""

import hashlib
import http.server
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import psutil
import pytest
from sites import Site
from test_pipeline import ROOT

from latentmill.cluster.submit import submit as send
from latentmill.errors import InputError

pytestmark = pytest.mark.slow

TOKEN = "0123456789abcdef" * 4
SMALL = {"latent": 2, "epochs": 2}
LADDER = {"naive_bayes": {}, "vae": SMALL, "cvae": {"model": "conditional_vae", **SMALL}}
ENDLESS = {"model": "vae", "latent": 2, "epochs": 10**6, "max_steps": 10**9, "patience": 10**6}


def python_of_clusters() -> Path:
    """A Python with ray[default]: this one, or the one that `make test` sets up on top of it."""
    if importlib.util.find_spec("aiohttp_cors"):
        return Path(sys.executable)
    found = Path(sys.prefix, "cluster/bin/python")
    if not found.exists():
        pytest.skip("needs the extra `cluster`, which `make test` sets up")
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory):
    """The address of the dashboard of a cluster of one node."""
    python = python_of_clusters()
    ports = {name: free_port() for name in ("port", "dashboard-port", "dashboard-agent-listen-port")}
    options = ["--head", "--block", "--num-cpus=2", *(f"--{name}={port}" for name, port in ports.items())]
    settings = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "RAY_USAGE_STATS_ENABLED": "0"}
    path = os.pathsep.join([str(python.parent), os.environ["PATH"]])
    log = tmp_path_factory.mktemp("ray") / "log"
    with log.open("w") as output:
        running = subprocess.Popen(
            [python, "-m", "ray.scripts.scripts", "start", *options],
            env=os.environ | settings | {"PATH": path},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{ports['dashboard-port']}"
    try:
        wait_for(address, running, log)
        yield address
    finally:
        ours = psutil.Process(running.pid).children(recursive=True)
        running.terminate()
        for process in psutil.wait_procs(ours, timeout=30)[1]:
            process.kill()
        running.wait(timeout=30)


def wait_for(address, running, log) -> None:
    for _ in range(300):
        assert running.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(f"{address}/api/gcs_healthz", timeout=1).close()
        except OSError as error:
            if getattr(error, "code", None) in (401, 403):
                return  # it asks for the token, so it is there
            time.sleep(0.2)
        else:
            return
    raise AssertionError(f"the dashboard did not answer: {log.read_text()}")


@pytest.fixture
def site(prepared, tmp_path):
    made = Site(tmp_path / "site", tmp_path / "shared").prepare(prepared, LADDER)
    made.store = tmp_path / "shared"
    shutil.copytree(ROOT / "pipeline", made.root / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    return made


@pytest.fixture
def submit(site):
    """Starts `latentmill submit` in the site; those that still run are ended with the test."""
    started = []

    def submit(address, package=ROOT / "src", **environment):
        command = "from latentmill.cli import main; main()"
        given = {"PYTHONPATH": str(package), "RAY_AUTH_TOKEN": TOKEN}
        running = subprocess.Popen(
            [sys.executable, "-c", command, "submit", "--address", address],
            cwd=site.root,
            env={name: value for name, value in os.environ.items() if name != "RAY_AUTH_MODE"} | given | environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        started.append(running)
        return running

    yield submit
    for running in started:
        running.kill()
        running.wait()
        running.stdout.close()


@pytest.fixture
def refused(submit):
    """The one line with which a submission fails."""

    def refused(address, **environment) -> str:
        running = submit(address, **environment)
        said, _ = running.communicate(timeout=90)
        assert running.returncode == 1, said
        assert "Traceback" not in said
        return said.splitlines()[-1]

    return refused


def test_the_job_runs_the_code_that_is_here_and_fills_the_store_from_which_the_stage_takes_the_winners(
    dashboard, site, submit, tmp_path
):
    package = tmp_path / "src"
    shutil.copytree(ROOT / "src", package, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    with (package / "latentmill/models/naive_bayes.py").open("a") as changed:
        changed.write("CHANGED = True\n")
    assert "3 trials: 0 already trained" in (running := submit(dashboard, package)).communicate(timeout=180)[0]
    assert running.returncode == 0
    assert "3 trials: 3 already trained, 0 to train" in site.run(PYTHONPATH=str(package))
    assert sorted(path.name for path in (site.root / "models").iterdir()) == ["cvae", "naive_bayes", "vae"]
    assert "3 trials: 2 already trained, 1 to train" in site.run()


def test_a_job_goes_on_from_the_models_of_an_earlier_run(dashboard, site, submit):
    site.run()
    (site.root / "models").rename(site.root / "earlier")
    before = (site.root / "earlier/vae/model.safetensors").read_bytes()
    site.write_params({"vae": SMALL | {"epochs": 3}}, storage=str(site.store), warm_start="earlier")
    assert "1 trial: 0 already trained, 1 to train; 1 start warm" in submit(dashboard).communicate(timeout=180)[0]
    assert "1 trial: 1 already trained, 0 to train" in site.run()
    record = json.loads((site.root / "models/vae/trial.json").read_bytes())
    assert record["trial"]["start"] == hashlib.sha256(before).hexdigest()


def test_a_job_is_followed_again_after_a_broken_connection_and_a_signal_stops_it(dashboard, site, submit):
    site.write_params({"endless": ENDLESS}, storage=str(site.store))
    lost = submit(dashboard)
    site.wait_for(lost, 3, seconds=90)
    lost.kill()
    (job,) = re.findall(r"^job (\w+) on ", lost.communicate()[0], re.MULTILINE)
    running = submit(dashboard, RAY_ADDRESS="127.0.0.1:1")  # the address that is given counts
    assert f"job {job} on " in running.stdout.readline()
    assert any("1 trial: 0 already trained" in line for line in running.stdout), "the log is shown from its start"
    running.send_signal(signal.SIGTERM)
    said, _ = running.communicate(timeout=60)
    assert running.returncode == 1, said
    assert "was stopped; what it has trained is kept" in said.splitlines()[-1]
    time.sleep(3)  # the workers end with their job
    epochs = site.epochs()
    time.sleep(2)
    assert site.epochs() == epochs != {}


def test_a_job_that_fails_fails_here_too(dashboard, site, refused):
    site.write_params({"impossible": {"model": "ppca", "latent": 64}}, storage=str(site.store))
    said = refused(dashboard)
    assert said.startswith("error: the job must succeed, but raysubmit_")
    assert said.endswith("has failed: Job entrypoint command failed with exit code 1")


def test_data_that_the_cluster_does_not_see_is_named(dashboard, site, submit):
    site.write_params(LADDER, storage="memory://trials")  # every process sees its own
    running = submit(dashboard)
    said, _ = running.communicate(timeout=120)
    assert running.returncode == 1
    assert "error: the data must be reachable from the cluster, but " in said
    assert "does not see it in memory://trials: train.storage must be a shared folder or a URL\n" in said
    assert "Traceback" not in said


def test_a_missing_token_is_named(dashboard, refused, tmp_path):
    said = refused(dashboard, RAY_AUTH_TOKEN="", HOME=str(tmp_path))
    assert said.endswith("must be given its token, as RAY_AUTH_TOKEN or in the file ~/.ray/auth_token, but got none")


def test_a_wrong_token_is_named(dashboard, refused):
    assert refused(dashboard, RAY_AUTH_TOKEN="wrong").endswith("~/.ray/auth_token, but got a wrong one")


def test_a_token_in_a_file_is_found(dashboard, site, refused, tmp_path):
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/auth_token").write_text(TOKEN)
    (site.root / "pipeline/large.bin").write_bytes(bytes(100 * 2**20))
    for command in ("init", "add"):
        subprocess.run(["git", command, "."], cwd=site.root, check=True, stdout=subprocess.DEVNULL)
    said = refused(dashboard, RAY_AUTH_TOKEN="", HOME=str(tmp_path))
    assert said.startswith("error: pipeline and params.yaml must have at most 104857600 bytes to be sent with a job")


def test_an_address_where_nothing_listens(refused):
    said = refused(f"http://127.0.0.1:{free_port()}")
    assert said.startswith("error: --address must be the dashboard of a Ray cluster, such as http://head:8265, but got")


def test_an_address_that_is_no_dashboard(refused):
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        said = refused(f"http://127.0.0.1:{server.server_port}")
        assert "--address must be the dashboard of a Ray cluster" in said
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("address", ["127.0.0.1:8265", "ray://127.0.0.1:10001", "nonsense://x", ""])
def test_an_address_that_is_none(address, site, monkeypatch):
    monkeypatch.setattr("latentmill.cluster.submit.JobSubmissionClient", None)  # Ray would take minutes for some
    with pytest.raises(InputError, match=r"--address must be the dashboard .* but got " + re.escape(address) + "$"):
        send(address, site.root)


def test_data_must_be_prepared_first(site, refused):
    shutil.rmtree(site.root / "data")
    assert "data/prepared" in refused("http://127.0.0.1:1")
