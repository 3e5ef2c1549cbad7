"""Slurm on one machine: a controller and nodes that share its disk, each with processes and a network of its own."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil

NETWORK = "10.77.0"
CONFIGURATION = """
ClusterName=test
SlurmUser=root
SlurmctldHost=controller({network}.1)
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=10
SchedulerParameters=sched_interval=1
NodeName={nodes} CPUs=1
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE
"""
# A machine's first process, which collects what others leave. Ray keeps its sockets and its memory where each has a
# disk of its own.
MACHINE = """
set -e
mkdir -p /tmp/ray
hostname $name
mount --bind {folder}/hosts /etc/hosts
mount --bind /dev/null /etc/resolv.conf
for place in /tmp/ray /dev/shm; do mount -t tmpfs tmpfs $place; done
ip link set lo up
{command} &
wait
"""
CONTROLLER = """
ip link add eth0 type bridge && ip address add {network}.1/24 dev eth0 && ip link set eth0 up
munged --force --foreground --socket={folder}/munge.socket --key-file={folder}/munge.key \
    --pid-file={folder}/munged.pid --log-file={folder}/munged.log --seed-file={folder}/munge.seed &
until test -S {folder}/munge.socket; do sleep 0.1; done
slurmctld -D"""
NODE = """
until ip link set eth0 up; do sleep 0.1; done 2> /dev/null
ip address add {network}.$number/24 dev eth0 && ip route add default via {network}.1
slurmd -D -N $name"""


class SlurmCluster:
    """Nodes of one core each, `node1` and so on. All files are in `folder`, whose path must be short."""

    def __init__(self, folder: Path, nodes: int = 2) -> None:
        self.folder, self.machines = folder, {}
        self.addresses = {"controller": 1} | {f"node{index}": 10 + index for index in range(1, nodes + 1)}
        hosts = [f"{NETWORK}.{number} {name}" for name, number in self.addresses.items()]
        (folder / "hosts").write_text("\n".join(["127.0.0.1 localhost", *hosts, ""]))
        names = ",".join(list(self.addresses)[1:])
        (folder / "slurm.conf").write_text(CONFIGURATION.format(folder=folder, network=NETWORK, nodes=names))
        (folder / "munge.key").write_bytes(os.urandom(128))
        (folder / "munge.key").chmod(0o600)

    def start_all(self) -> None:
        self.start("controller")
        self.wait((self.folder / "munge.socket").exists, 10)
        for name in list(self.addresses)[1:]:
            self.start(name)

    def start(self, name: str) -> None:
        """Switch the machine on; its cable is a pair of interfaces, of which the other end is in the controller."""
        command = (CONTROLLER if name == "controller" else NODE).format(folder=self.folder, network=NETWORK)
        script = MACHINE.format(folder=self.folder, command=f"({command})")
        environment = os.environ | {"SLURM_CONF": str(self.folder / "slurm.conf"), "name": name}
        apart = [
            "setpriv",
            "--pdeathsig",
            "KILL",
            "unshare",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount",
            "--mount-proc",
            "--net",
            "--uts",
        ]
        with (self.folder / f"{name}.log").open("a") as log:
            self.machines[name] = subprocess.Popen(
                [*apart, "sh", "-c", script],
                env=environment | {"number": str(self.addresses[name])},
                stdout=log,
                stderr=log,
            )
        if name != "controller":
            cable = f"cable-{name}"
            self.wait(lambda: psutil.Process(self.machines[name].pid).children(), 10)
            self.run("ip", "link", "add", cable, "type", "veth", "peer", "eth0", "netns", str(self._first(name).pid))
            self.run("ip", "link", "set", cable, "master", "eth0", "up")

    def _first(self, name: str) -> psutil.Process:
        (first,) = psutil.Process(self.machines[name].pid).children()
        return first

    def run(self, *command: str, **place) -> str:
        """What a command says in the network of the controller."""
        inside = ["nsenter", "--target", str(self._first("controller").pid), "--net", *command]
        environment = place.pop("env", os.environ) | {"SLURM_CONF": str(self.folder / "slurm.conf")}
        done = subprocess.run(inside, env=environment, text=True, capture_output=True, **place)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def wait(self, condition: Callable[[], object], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.1)

    def logs(self) -> str:
        """The ends of all logs."""
        return "\n".join(f"{path.name}: {path.read_text()[-2000:]}" for path in sorted(self.folder.glob("*.log")))

    def kill(self, name: str) -> None:
        """As a power cut does: the kernel ends all that its first process has started, and so every process there."""
        there = [self._first(name), *self._first(name).children(recursive=True)]
        self.machines[name].kill()
        self.machines.pop(name).wait()
        left = psutil.wait_procs(there, timeout=30)[1]
        assert not left, left

    def processes(self) -> list[str]:
        """The names of those that run on the nodes, but for the shells that wait for `slurmd`."""
        nodes = [self._first(name) for name in self.machines if name != "controller"]
        return sorted(each.name() for first in nodes for each in first.children(recursive=True) if each.name() != "sh")

    def close(self) -> None:
        for name in list(self.machines):
            self.kill(name)
