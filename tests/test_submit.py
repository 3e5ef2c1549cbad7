"""The sweep as a job of a real Ray cluster with a dashboard and a token; and what is said where that can't be."""

import http.server
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from test_faults import Site, prepared  # noqa: F401
from test_pipeline import ROOT

from latentmill.errors import InputError
from latentmill.storage import Storage
from latentmill.sweep.submit import pack

TOKEN = "0123456789abcdef" * 4
LADDER = {"naive_bayes": {}, "vae": {"latent": 2, "components": 2, "epochs": 2}}
DIGEST = "f" * 64


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory):
    """The address of the dashboard of a cluster of one node."""
    pytest.importorskip("aiohttp_cors", reason="needs the extra `cluster`")
    ports = {name: free_port() for name in ("port", "dashboard-port", "dashboard-agent-listen-port")}
    options = [f"--{name}={port}" for name, port in ports.items()]
    command = [Path(sys.executable).with_name("ray"), "start", "--head", "--block", "--num-cpus=2", *options]
    settings = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "RAY_USAGE_STATS_ENABLED": "0"}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    log = tmp_path_factory.mktemp("ray") / "log"
    with log.open("w") as output:
        running = subprocess.Popen(
            command, env=os.environ | settings | {"PATH": path}, stdout=output, stderr=output, start_new_session=True
        )
    address = f"http://127.0.0.1:{ports['dashboard-port']}"
    try:
        wait_for(address, running, log)
        yield address
    finally:
        running.terminate()
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
def site(prepared, tmp_path):  # noqa: F811
    made = Site(tmp_path / "site", prepared, LADDER, storage=str(tmp_path / "shared"))
    made.store = tmp_path / "shared"
    shutil.copytree(ROOT / "pipeline", made.root / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    return made


def submit(site, address, **environment):
    given = {"PYTHONPATH": str(ROOT / "src"), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    return subprocess.Popen(
        [Path(sys.executable).with_name("latentmill"), "submit", "--address", address],
        cwd=site.root,
        env=os.environ | given | environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def refused(site, address, **environment) -> str:
    """The one line with which a submission fails."""
    running = submit(site, address, **environment)
    said, _ = running.communicate(timeout=90)
    assert running.returncode == 1, said
    assert "Traceback" not in said
    return said.splitlines()[-1]


def test_the_job_fills_the_store_and_the_stage_brings_the_winners_home(dashboard, site):
    running = submit(site, dashboard)
    said, _ = running.communicate(timeout=120)
    assert running.returncode == 0, said
    assert "2 trials: 0 already trained, 2 to train" in said, "the job's log must be shown"
    assert "models/vae: vae, " in said
    assert "2 trials: 2 already trained, 0 to train" in site.run()
    assert sorted(path.name for path in (site.root / "models").iterdir()) == ["naive_bayes", "vae"]
    again = submit(site, dashboard)
    assert "2 trials: 2 already trained, 0 to train" in again.communicate(timeout=120)[0]


def test_a_signal_stops_the_job_and_keeps_what_it_has_trained(dashboard, site):
    endless = {"variant": "vae", "latent": 2, "components": 2, "epochs": 10**6, "max_steps": 10**9, "patience": 10**6}
    site.write_params({"endless": endless}, storage=str(site.store))
    running = submit(site, dashboard)
    site.wait_for(running, 3, seconds=90)
    running.send_signal(signal.SIGTERM)
    said, _ = running.communicate(timeout=60)
    assert running.returncode == 1, said
    assert "was stopped; what it has trained is kept" in said
    time.sleep(3)  # the workers end with their job
    epochs = site.epochs()
    time.sleep(2)
    assert site.epochs() == epochs != {}


def test_a_job_that_fails_fails_here_too(dashboard, site):
    site.write_params({"impossible": {"variant": "ppca", "latent": 64}}, storage=str(site.store))
    assert "the job must succeed, but" in refused(site, dashboard)


def test_a_missing_token_is_named(dashboard, site, tmp_path):
    without = {"RAY_AUTH_TOKEN": "", "RAY_AUTH_MODE": "disabled", "HOME": str(tmp_path)}
    assert "must be given its token, as RAY_AUTH_TOKEN" in refused(site, dashboard, **without)


def test_a_wrong_token_is_named(dashboard, site):
    assert "must be given its token, as RAY_AUTH_TOKEN" in refused(site, dashboard, RAY_AUTH_TOKEN="wrong")


def test_an_address_where_nothing_listens(site):
    said = refused(site, f"http://127.0.0.1:{free_port()}")
    assert said.startswith("error: --address must be the dashboard of a Ray cluster, such as http://head:8265, but got")


def test_an_address_that_is_no_dashboard(site):
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        assert "--address must be the dashboard of a Ray cluster" in refused(
            site, f"http://127.0.0.1:{server.server_port}"
        )
    finally:
        server.shutdown()
        server.server_close()


def test_an_address_that_is_none(site):
    assert "--address must be the dashboard of a Ray cluster" in refused(site, "nonsense://x")


def test_a_working_directory_that_is_too_large(site, tmp_path, monkeypatch):
    monkeypatch.setattr("latentmill.sweep.submit.LIMIT", 1000)
    with pytest.raises(InputError, match=r"pipeline and params\.yaml must have at most 1000 bytes for a job, but have"):
        pack(site.root, Storage(site.store), tmp_path)


def test_data_that_the_cluster_does_not_see_is_named(site):
    """What the job runs first, where the store is a folder of another machine."""
    command = [sys.executable, "-m", "latentmill.sweep.job", DIGEST]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, cwd=site.root, env=environment, text=True, capture_output=True)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: the data must be reachable from the cluster, but")
    assert line.endswith("train.storage must be a shared folder or a URL")


def test_data_must_be_prepared_first(site):
    shutil.rmtree(site.root / "data")
    assert "data/prepared" in refused(site, "http://127.0.0.1:1")
