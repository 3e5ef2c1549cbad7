"""A folder in which the train stage runs while something befalls it, and what must hold afterwards."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import psutil
from ruamel.yaml import YAML
from test_pipeline import ROOT, heed_interrupts

LONG = {"epochs": 100, "patience": 100}  # some seconds on the digits
LADDER = {
    "naive_bayes": {},
    "autoencoder": {"latent": 2, **LONG},
    "vae": {"latent": [2, 3], **LONG},
}
SECTIONS = {"data": {"source": "digits"}, "trial": {}, "priors": {"normal": {}}, "evaluation": {}, "export": {}}
CHECKPOINT = re.compile(r"checkpoint-(\d+)-")
ENDED = 10**9  # epochs: more than any trial under way can have
Stamps = dict[Path, tuple[int, int]]


class Site:
    """A folder with prepared data, in which a command, as a rule the train stage, runs with two workers."""

    command: tuple[str, ...] = (sys.executable, str(ROOT / "pipeline/train.py"))

    def __init__(self, root: Path, storage: str | Path = ".latentmill/trials") -> None:
        self.root, self.storage, self.store = root, str(storage), root / storage
        self.environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}

    def prepare(self, prepared: Path, ladder=LADDER, **train) -> Self:
        shutil.copytree(prepared, self.root / "data/prepared")
        self.write_params(ladder, **train)
        return self

    def write_params(self, ladder=LADDER, **train) -> None:
        sections = SECTIONS | {"ladder": ladder, "train": {"workers": 2, "storage": self.storage, **train}}
        YAML().dump(sections, self.root / "params.yaml")

    def copied(self, root: Path) -> "Site":
        shutil.copytree(self.root, root, dirs_exist_ok=True, copy_function=shutil.copy2)
        return Site(root)

    def start(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command or self.command,
            cwd=self.root,
            env=self.environment | environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=heed_interrupts,
        )

    def run(self, status: int = 0, **environment: str) -> str:
        """What the command says; it must end with `status`, and no trial may start from before what the store has."""
        kept = self.epochs()
        running, lowest = self.start(**environment), dict(kept)
        while running.poll() is None:
            time.sleep(0.005)  # an epoch takes longer
            lowest = {key: min(epoch, lowest.get(key, epoch)) for key, epoch in (lowest | self.epochs()).items()}
        said = running.communicate()[0]
        assert running.returncode == status, said
        assert {key: lowest[key] for key in kept} == kept, "epochs were trained again"
        return said

    def run_anew(self) -> str:
        """`run`, where what is damaged must be trained again."""
        running = self.start()
        said = running.communicate(timeout=120)[0]
        assert running.returncode == 0, said
        assert "Traceback" not in said
        return said

    def wait(self, running: subprocess.Popen[str], condition: Callable[[], object], seconds: float = 60) -> None:
        """Until the condition holds; the command must not have ended."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert running.poll() is None, running.communicate()[0]
            assert time.monotonic() < deadline, self.epochs()
            time.sleep(0.01)

    def wait_for(self, running: subprocess.Popen[str], epoch: int, seconds: float = 60) -> None:
        """Until an unfinished trial has come so far."""
        self.wait(running, lambda: max(self.epochs().values(), default=0) >= epoch, seconds)

    def epochs(self) -> dict[str, int]:
        """How far the unfinished trials have come."""
        found = [path for path in self.store.glob("*/checkpoint-*") if not (path.parent / "trial.json").exists()]
        return {path.parent.name: int(CHECKPOINT.match(path.name)[1]) for path in sorted(found)}

    def come_to(self) -> dict[str, int]:
        """How far all trials have come."""
        return self.epochs() | {path.parent.name: ENDED for path in self.store.glob("*/trial.json")}

    def finished(self) -> Stamps:
        """The files of the trials that have ended, and when they were written."""
        files = [path for record in self.store.glob("*/trial.json") for path in record.parent.glob("[!.]*")]
        return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files if "checkpoint" not in path.name}

    def weights(self) -> dict[str, bytes]:
        return {path.parent.name: path.read_bytes() for path in self.store.glob("*/model.safetensors")}

    def winners(self) -> dict[str, bytes]:
        return {path.parent.name: path.read_bytes() for path in self.root.glob("models/*/model.safetensors")}

    def processes(self, mark: str = "") -> list[psutil.Process]:
        """Those that run here, Ray's too, whose command line has the mark."""
        here = psutil.process_iter(["cwd", "cmdline"])
        return [
            process
            for process in here
            if process.info["cwd"] == str(self.root) and mark in " ".join(process.info["cmdline"] or [])
        ]

    def require_no_process(self, seconds: float, but: str = "nothing") -> None:
        """None may be left behind that nobody ends."""
        ours = [process for process in self.processes() if but not in str(process.info["cmdline"])]
        left = psutil.wait_procs(ours, timeout=seconds)[1]
        assert not left, [process.info["cmdline"][:3] for process in left]


def require_goes_on(site: Site, undisturbed: Site, finished: Stamps) -> None:
    """Running again trains what is missing, from where it was, and nothing else; `finished` is from before."""
    site.run()
    assert site.weights() == undisturbed.weights(), "these are not the weights of an undisturbed run"
    assert site.winners() == undisturbed.winners(), "these are not the winners of an undisturbed run"
    assert finished.items() <= site.finished().items(), "a finished trial was trained again"
    trained = {path.parent for path in site.finished() if path not in finished}
    left = [path for folder in trained for path in folder.iterdir() if path not in site.finished()]
    assert left == [], f"the store holds what nobody needs: {left}"
