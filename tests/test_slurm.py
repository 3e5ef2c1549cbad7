"""A sweep on a Slurm of two nodes, of which first the one and then the other loses power while trials train."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from sites import Site
from slurm_cluster import SlurmCluster
from test_pipeline import SMALL, Project

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "setpriv", "unshare", "nsenter", "ip")
LONG = {"epochs": 120, "patience": 120, "batch_size": 20}
LADDER = {"naive_bayes": {}, "autoencoder": {"latent": 2, **LONG}, "vae": {"latent": [2, 3], **LONG}}


@pytest.fixture
def slurm(tmp_path_factory):
    if missing := [name for name in NEEDED if not shutil.which(name)]:
        pytest.skip(f"needs {', '.join(missing)}: Debian's packages slurm-wlm, munge, util-linux and iproute2")
    cables = "ip link add bridge0 type bridge && ip link add cable0 type veth"
    apart = ["unshare", "--pid", "--fork", "--mount", "--uts", "--net", "sh", "-c", cables]
    if os.getuid() or subprocess.run(apart, capture_output=True).returncode:
        pytest.skip("only root can make machines with a network of their own")
    with closing(SlurmCluster(tmp_path_factory.mktemp("slurm"), nodes=2)) as made:
        made.start_all()
        yield made


class Job:
    """deploy/slurm.sh in a project; from when it is submitted on, no trial may fall behind what was stored of it."""

    def __init__(self, slurm: SlurmCluster, project: Project) -> None:
        self.slurm, self.site, self.reached = slurm, Site(project.root), {}
        submit = ("sbatch", "--parsable", "--nodes=2", "--cpus-per-task=1", "deploy/slurm.sh")
        self.number = slurm.run(*submit, cwd=project.root, env=project.environment).strip()

    def __getitem__(self, field: str) -> str:
        return re.search(rf"\b{field}=(\S+)", self.slurm.run("scontrol", "show", "job", self.number))[1]

    @property
    def log(self) -> str:
        return "\n".join(path.read_text() for path in self.site.root.glob(f"slurm-{self.number}.out"))

    def wait(self, condition: Callable[[], object], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            stored = self.site.come_to()
            behind = {key for key, epoch in self.reached.items() if stored.get(key, 0) < epoch}
            assert not behind, "epochs were trained again"
            self.reached |= stored
            assert self["JobState"] != "FAILED", self.log
            assert time.monotonic() < deadline, self.log + self.slurm.logs()
            time.sleep(0.1)

    def wait_for_epochs(self, more: int) -> None:
        """Until an unfinished trial has so many more than any has now."""
        wanted = max(self.site.epochs().values(), default=0) + more
        self.wait(lambda: max(self.site.epochs().values(), default=0) >= wanted, 300)


def sweep(root: Path) -> Project:
    """The stages up to the sweep."""
    project = Project(root)
    project.write_params(SMALL | {"ladder": LADDER})
    stages = YAML().load(root / "dvc.yaml")["stages"]
    YAML().dump({"stages": {name: stages[name] for name in ("scan", "prepare", "train")}}, root / "dvc.yaml")
    return project


def lose(job: Job, node: str, restarts: int) -> None:
    """Cut the power of a node. Someone tells Slurm, which would find out in five minutes, and switches it on again."""
    job.slurm.kill(node)
    job.slurm.run("scontrol", "update", f"nodename={node}", "state=down", "reason=power")
    job.slurm.start(node)
    job.wait(lambda: job["Restarts"] == str(restarts), 120)


def take_over_number(job: Job) -> None:
    """What DVC reserved for the process that died is now in the name of one that lives, as by chance."""
    lock = job.site.root / ".dvc/tmp/rwlock"
    (taken, count) = re.subn(r'"pid": \d+', '"pid": 1', lock.read_text())
    assert count, "nothing was reserved"
    lock.write_text(taken)


@pytest.mark.slow
def test_a_job_whose_nodes_die_is_requeued_and_goes_on_from_what_is_stored(slurm, tmp_path):
    job = Job(slurm, sweep(tmp_path))
    job.wait_for_epochs(5)
    lose(job, "node2", restarts=1)
    job.wait(job.site.finished, 300)
    finished = job.site.finished()
    lose(job, "node1", restarts=2)
    take_over_number(job)
    job.wait(lambda: job["JobState"] == "COMPLETED", 400)
    assert (job["ExitCode"], job["Restarts"]) == ("0:0", "2"), job.log
    assert finished.items() <= job.site.finished().items(), "a finished trial was trained again"
    assert re.search("4 trials: [1-3] already trained", job.log)
    assert job.site.winners().keys() == LADDER.keys()
    assert "Failed to start Ray" not in job.log, "what the other node says belongs into its own file"
    job.wait(lambda: slurm.processes() == ["slurmd", "slurmd"], 30)
