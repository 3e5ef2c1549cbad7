"""Faults in a sweep, drawn by a seed: whatever happens, running again loses nothing and ends with the same weights.

A few run with every `make test`; `make faults` runs all.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from ray.cluster_utils import Cluster
from ruamel.yaml import YAML
from test_pipeline import ROOT, Project, heed_interrupts

LONG = {"epochs": 160, "patience": 160, "max_steps": 100_000, "components": 2}  # some seconds on the digits
LADDER = {
    "naive_bayes": {},
    "autoencoder": {"latent": 2, **LONG},
    "vae": {"latent": [2, 3], **LONG},
}
PROGRESS = re.compile(r"progress-(\d+)-")
TRAINED = ("autoencoder", "vae")
every = pytest.mark.faults  # those that only `make faults` runs


class Site:
    """A folder with prepared data, in which the train stage runs."""

    def __init__(self, root: Path, prepared: Path, ladder=LADDER, **train) -> None:
        self.root, self.store = root, root / train.get("storage", ".latentmill/trials")
        root.mkdir(exist_ok=True)
        shutil.copytree(prepared, root / "data/prepared")
        self.write_params(ladder, **train)

    def write_params(self, ladder=LADDER, **train) -> None:
        sections = {"data": {"source": "digits"}, "trial": {}, "ladder": ladder, "evaluation": {}}
        YAML().dump(sections | {"train": {"workers": 2, **train}}, self.root / "params.yaml")

    def start(self, **environment) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, ROOT / "pipeline/train.py"],
            cwd=self.root,
            env=os.environ | {"PYTHONPATH": str(ROOT / "src")} | environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=heed_interrupts,
        )

    def run(self, status=0, **environment) -> str:
        """What the stage says; no unfinished trial may start again from an earlier epoch than the store has."""
        kept = self.epochs()
        running, lowest = self.start(**environment), dict(kept)
        while running.poll() is None:
            time.sleep(0.02)
            lowest |= {key: min(epoch, lowest.get(key, epoch)) for key, epoch in self.epochs().items()}
        said = running.communicate()[0]
        assert running.returncode == status, said
        assert {key: lowest[key] for key in kept} == kept, "epochs were trained again"
        return said

    def epochs(self) -> dict[str, int]:
        """How far the unfinished trials have come."""
        found = [path for path in self.store.glob("*/progress-*") if not (path.parent / "trial.json").exists()]
        return {path.parent.name: int(PROGRESS.match(path.name)[1]) for path in sorted(found)}

    def finished(self) -> dict[Path, tuple[int, int]]:
        """The files of the trials that have ended, and when they were written."""
        ended = [path.parent for path in self.store.glob("*/trial.json")]
        files = [path for folder in ended for path in folder.iterdir()]
        return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}

    def weights(self) -> dict[str, bytes]:
        return {path.parent.name: path.read_bytes() for path in self.store.glob("*/model.safetensors")}

    def wait_for(self, running: subprocess.Popen[str], epoch: int, seconds=60) -> dict[str, int]:
        """Until an unfinished trial has come so far; returns how far each has."""
        deadline = time.monotonic() + seconds
        while max((epochs := self.epochs()).values(), default=0) < epoch:
            assert running.poll() is None, running.communicate()[0]
            assert time.monotonic() < deadline, epochs
            time.sleep(0.01)
        return epochs


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The digits, prepared."""
    root = tmp_path_factory.mktemp("prepared")
    sections = {"data": {"source": "digits"}, "trial": {}, "ladder": LADDER, "train": {}, "evaluation": {}}
    YAML().dump(sections, root / "params.yaml")
    subprocess.run([sys.executable, ROOT / "pipeline/prepare.py"], cwd=root, check=True, stdout=subprocess.DEVNULL)
    return root / "data/prepared"


@pytest.fixture(scope="module")
def undisturbed(prepared, tmp_path_factory):
    """The weights of a sweep that nothing happens to, by fingerprint."""
    site = Site(tmp_path_factory.mktemp("undisturbed"), prepared)
    site.run()
    assert len(site.weights()) == 4
    return site.weights()


@pytest.fixture
def site(prepared, tmp_path):
    return Site(tmp_path / "site", prepared)


def processes_of(running: subprocess.Popen[str], mark: str) -> list[psutil.Process]:
    """The driver itself and all that it started, whose command line or title has the mark."""
    driver = psutil.Process(running.pid)
    found = []
    for process in [driver, *driver.children(recursive=True)]:
        try:
            command = " ".join(process.cmdline()) + process.name()
        except psutil.NoSuchProcess:
            continue
        if mark in command:
            found.append(process)
    return found


# Kills and signals


KILLS = [
    pytest.param("ray::ImplicitFunc", 1, id="worker-1"),
    pytest.param("ray::ImplicitFunc", 2, id="worker-2", marks=every),
    pytest.param("ray::ImplicitFunc", 3, id="worker-3", marks=every),
    pytest.param("raylet/raylet", 4, id="raylet-4", marks=every),
    pytest.param("raylet/raylet", 5, id="raylet-5", marks=every),
    pytest.param("gcs/gcs_server", 6, id="gcs-6", marks=every),
    pytest.param("pipeline/train.py", 7, id="driver-7"),
    pytest.param("pipeline/train.py", 8, id="driver-8", marks=every),
    pytest.param("pipeline/train.py", 9, id="driver-9", marks=every),
]


@pytest.mark.parametrize(("mark", "seed"), KILLS)
def test_after_kill_9_running_again_goes_on(site, undisturbed, mark, seed):
    draw = random.Random(seed)
    running = site.start()
    before_strike = site.wait_for(running, draw.randrange(2, 120))
    ours = processes_of(running, "")
    finished = site.finished()
    draw.choice(processes_of(running, mark)).kill()
    said, _ = running.communicate(timeout=120)
    if mark == "ray::ImplicitFunc":
        assert running.returncode == 0, said
        assert said.count("its worker died, and it is run again from its last epoch") == 1
    else:
        assert running.returncode != 0, said
    kept = site.epochs() | {path.parent.name: 10**6 for path in site.store.glob("*/trial.json")}
    assert all(kept[key] >= epoch for key, epoch in before_strike.items())
    trainers = [process for process in ours if "Agent" not in name_of(process)]  # Ray's agents take up to a minute
    assert psutil.wait_procs(trainers, timeout=40)[1] == [], "no process may be left behind"
    site.run()
    assert site.weights() == undisturbed
    assert {path: site.finished()[path] for path in finished} == finished, "a finished trial was trained again"
    assert "4 already trained, 0 to train" in site.run()


def name_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


@pytest.mark.parametrize(
    ("number", "status", "seed"),
    [
        pytest.param(signal.SIGTERM, 143, 10, id="SIGTERM-10"),
        pytest.param(signal.SIGTERM, 143, 11, id="SIGTERM-11", marks=every),
        pytest.param(signal.SIGTERM, 143, 12, id="SIGTERM-12", marks=every),
        pytest.param(signal.SIGINT, None, 13, id="SIGINT-13", marks=every),
    ],
)
def test_a_signal_ends_the_driver_in_order_within_ten_seconds(site, undisturbed, number, status, seed):
    running = site.start()
    site.wait_for(running, random.Random(seed).randrange(2, 120))
    ours, finished, struck = processes_of(running, ""), site.finished(), time.monotonic()
    running.send_signal(number)
    said, _ = running.communicate(timeout=30)
    assert time.monotonic() - struck < 10
    assert running.returncode != 0, said
    assert status in (running.returncode, None), said
    assert psutil.wait_procs(ours, timeout=10)[1] == [], "no process may be left behind"
    site.run()
    assert site.weights() == undisturbed
    assert {path: site.finished()[path] for path in finished} == finished


@every
@pytest.mark.parametrize("seed", [14, 15])
def test_after_kill_9_of_dvc_itself_the_driver_ends_too_and_running_again_goes_on(tmp_path, undisturbed, seed):
    project = Project(tmp_path)
    sections = {"data": {"source": "digits"}, "trial": {}, "train": {"workers": 2}, "evaluation": {}}
    project.write_params(sections | {"ladder": LADDER})
    site = Site.__new__(Site)
    site.root, site.store = tmp_path, tmp_path / ".latentmill/trials"
    running = project.start("dvc", "repro", "train")
    site.wait_for(running, random.Random(seed).randrange(2, 120), seconds=90)
    driver = processes_of(running, "pipeline/train.py")
    running.kill()
    running.communicate()
    assert psutil.wait_procs(driver, timeout=15)[1] == [], "the driver must end with its dvc"
    project.run("dvc", "repro", "train")
    assert site.weights() == undisturbed


# Damage on disk


@pytest.fixture(scope="module")
def half_done(prepared, tmp_path_factory):
    """A site whose sweep was killed with some trials finished and some on their way."""
    site = Site(tmp_path_factory.mktemp("half"), prepared)
    running = site.start()
    site.wait_for(running, 20)
    while len(list(site.store.glob("*/model.safetensors"))) < 2 or not site.epochs():
        assert running.poll() is None, running.communicate()[0]
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    assert site.epochs()
    return site


def damaged(path: Path, how: str, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    place = draw.randrange(len(content))
    content[place] ^= 1 << draw.randrange(8)
    path.write_bytes({"empty": b"", "truncated": bytes(content[:place]), "flipped": bytes(content)}[how])


DAMAGE = [
    (pattern, how, seed)
    for seed, (pattern, how) in enumerate(
        [(p, h) for p in ("progress-*", "model.safetensors", "trial.json") for h in ("empty", "truncated", "flipped")],
        start=20,
    )
]


@every
@pytest.mark.parametrize(("pattern", "how", "seed"), DAMAGE)
def test_what_is_damaged_on_disk_is_told_in_a_line_and_redone(half_done, tmp_path, undisturbed, pattern, how, seed):
    site = copied(half_done, tmp_path)
    draw = random.Random(seed)
    path = draw.choice(sorted(site.store.glob(f"*/{pattern}")))
    damaged(path, how, draw)
    finished = {file: when for file, when in site.finished().items() if file.parent != path.parent}
    lines = [line for line in unchecked_run(site).splitlines() if path.parent.name in line]
    assert len(lines) == 1
    assert "redone" in lines[0]
    assert site.weights() == undisturbed
    assert {file: site.finished()[file] for file in finished} == finished


@every
@pytest.mark.parametrize("seed", [30, 31])
def test_a_store_in_which_every_file_is_damaged_is_redone(half_done, tmp_path, undisturbed, seed):
    site, draw = copied(half_done, tmp_path), random.Random(seed)
    for path in sorted(site.store.glob("*/*")):
        damaged(path, draw.choice(["empty", "truncated", "flipped"]), draw)
    assert "Traceback" not in unchecked_run(site)
    assert site.weights() == undisturbed


def copied(site: Site, folder: Path) -> Site:
    shutil.copytree(site.root, folder, dirs_exist_ok=True, copy_function=shutil.copy2)
    copy = Site.__new__(Site)
    copy.root, copy.store = folder, folder / ".latentmill/trials"
    return copy


def unchecked_run(site: Site) -> str:
    """Where epochs must be trained again."""
    said, running = "", site.start()
    said, _ = running.communicate(timeout=120)
    assert running.returncode == 0, said
    return said


# The disk


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own: (folder, resize)."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root can mount a disk")
    yield folder, lambda *options: subprocess.run(["mount", "-o", ",".join(["remount", *options]), folder], check=True)
    subprocess.run(["umount", "--lazy", folder], check=True)


@every
def test_a_full_disk_ends_no_sweep_and_with_room_it_is_made_up(prepared, tmp_path, small_disk, undisturbed):
    disk, remount = small_disk
    site = Site(tmp_path / "site", prepared, storage=str(disk))
    site.store = disk
    running = site.start()
    said, _ = running.communicate(timeout=180)
    assert "No space left on device" in said
    assert "Traceback" not in said
    assert len(site.weights()) < 4, "the disk must have been too small for this test to show anything"
    remount("size=100m")
    unchecked_run(site)
    assert site.weights() == undisturbed


@every
def test_a_store_that_is_read_only_is_refused_in_a_line(prepared, tmp_path, small_disk, undisturbed):
    disk, remount = small_disk
    remount("size=100m", "ro")
    site = Site(tmp_path / "site", prepared, storage=str(disk))
    site.store = disk
    said = site.run(status=1)
    assert said.splitlines()[-1].startswith("error: train.storage must be writable")
    assert "Traceback" not in said
    remount("rw")
    site.run()
    assert site.weights() == undisturbed


@every
def test_a_store_that_becomes_read_only_in_mid_sweep_fails_in_lines_and_goes_on_later(
    prepared, tmp_path, small_disk, undisturbed
):
    disk, remount = small_disk
    remount("size=100m")
    site = Site(tmp_path / "site", prepared, storage=str(disk))
    site.store = disk
    running = site.start()
    site.wait_for(running, 30)
    remount("ro")
    said, _ = running.communicate(timeout=180)
    assert running.returncode != 0
    assert "Read-only file system" in said
    assert "Traceback" not in said
    remount("rw")
    site.run()
    assert site.weights() == undisturbed


# Trials that go wrong of themselves


@every
@pytest.mark.parametrize("rate", [1e25, 1e38])
def test_a_trial_that_diverges_is_kept_as_such_and_not_trained_again(prepared, tmp_path, undisturbed, rate):
    wild = {"variant": "vae", "latent": 2, "components": 2, "learning_rate": [rate, 1e-3], "epochs": 2}
    site = Site(tmp_path / "site", prepared, {"naive_bayes": {}, "wild": wild})
    said = site.run()
    assert "diverged: the loss must be finite, but got" in said
    assert "models/wild: wild learning_rate=0.001" in said
    assert ",diverged,," in (site.root / "trials.csv").read_text()
    assert "3 already trained, 0 to train" in site.run()


@every
@pytest.mark.parametrize("halve", [False, True])
def test_a_trial_too_large_for_the_memory_is_kept_as_such(prepared, tmp_path, halve):
    """Its weights alone are some terabytes, so half the batch does not help."""
    huge = {"variant": "vae", "latent": 2, "components": 2, "hidden": [10**10, 10], "epochs": 2}
    site = Site(tmp_path / "site", prepared, {"huge": huge}, halve_batch=halve)
    said = site.run()
    assert "out of memory" in said
    assert "models/huge: huge hidden=10," in said
    assert len(list(site.store.glob("*/trial.json"))) == 2 + halve


# Several nodes


@pytest.fixture
def cluster():
    """Three nodes of one core each on this machine."""
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes = [made.add_node(num_cpus=1) for _ in range(2)]
    yield made, nodes
    made.shutdown()


@every
@pytest.mark.parametrize("seed", [40, 41])
def test_a_node_that_is_killed_in_mid_sweep_costs_at_most_an_epoch(site, undisturbed, cluster, seed):
    made, nodes = cluster
    draw = random.Random(seed)
    running = site.start(RAY_ADDRESS=made.address)
    site.wait_for(running, draw.randrange(2, 100))
    made.remove_node(draw.choice(nodes), allow_graceful=False)
    said, _ = running.communicate(timeout=180)
    assert running.returncode == 0, said
    assert site.weights() == undisturbed


@every
def test_a_store_that_a_node_does_not_see_is_refused(site, cluster, monkeypatch):
    """All nodes are on this machine, so the driver looks elsewhere: it is given a store in a mount of its own."""
    made, _ = cluster
    store = site.root / "private"
    store.mkdir()
    site.write_params(storage=str(store))
    command = f"mount -t tmpfs tmpfs {store} && exec {sys.executable} {ROOT}/pipeline/train.py"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", command],
        cwd=site.root,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "RAY_ADDRESS": made.address},
        text=True,
        capture_output=True,
        timeout=120,
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip("only root can mount a disk")
    assert done.returncode == 1
    assert "train.storage must be seen by every node of the cluster" in done.stderr.splitlines()[-1]
