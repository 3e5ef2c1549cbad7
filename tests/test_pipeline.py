"""The pipeline as a user runs it: `dvc repro` in a git repository of its own, on the 8x8 digits."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from latentmill.project.plots import offline_plots

ROOT = Path(__file__).parents[1]
SMALL = {
    "data": {"source": "digits"},
    "trial": {"epochs": 2},
    "priors": {"normal": {}, "mixture": {"components": 3}},
    "ladder": {"naive_bayes": {"evaluation_samples": 300}, "vae": {"latent": [2, 3], "priors": ["normal", "mixture"]}},
    "train": {},
    "export": {},
    "evaluation": {"samples": 400, "importance_samples": 10, "likelihood_images": 50, "features": ["pixels"]},
}


class Project:
    """A copy of this repository, with small parameters, in which commands run with the copy's code."""

    def __init__(self, root: Path) -> None:
        self.root = root
        listed = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True)
        for name in listed.splitlines():
            if (ROOT / name).is_file() and not name.startswith("dvc.lock"):
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, root / name)
        self.write_params(SMALL)
        for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "start"]):
            self.run("git", "-c", "user.name=t", "-c", "user.email=t@example.com", *command)

    @property
    def environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        identity = {
            f"GIT_{who}_{what}": "t@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }
        return os.environ | identity | {"PATH": path, "PYTHONPATH": str(self.root / "src"), "DVC_NO_ANALYTICS": "1"}

    def write_params(self, content: dict[str, object]) -> None:
        YAML().dump(content, self.root / "params.yaml")

    def start(self, *command: str) -> subprocess.Popen[str]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        place = {"cwd": self.root, "env": self.environment, "start_new_session": True}
        return subprocess.Popen(command, text=True, preexec_fn=heed_interrupts, **place, **pipes)

    def run(self, *command: str, status: int = 0) -> str:
        """The output of a command, stdout and stderr, which must end with `status`."""
        done = subprocess.run(
            command, cwd=self.root, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert done.returncode == status, done.stdout
        return done.stdout

    def outputs(self) -> dict[str, bytes]:
        """Every file that the stages wrote."""
        folders = ("data", "models", "evaluation", "graphs", "exports", "report")
        return {
            str(path.relative_to(self.root)): path.read_bytes()
            for folder in folders
            for path in sorted((self.root / folder).rglob("*"))
            if path.is_file()
        }


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    made = Project(tmp_path_factory.mktemp("project"))
    made.run("dvc", "repro")
    return made


def trials(project) -> Counter[tuple[str, str]]:
    """By entry and prior, the number of trials."""
    with (project.root / "trials.csv").open() as file:
        return Counter((row["entry"], row["prior"]) for row in csv.DictReader(file))


def test_one_command_goes_from_images_to_decoders_and_a_report(project):
    metrics = json.loads((project.root / "evaluation/metrics.json").read_text())
    assert list(metrics) == ["naive_bayes", "vae"]
    assert metrics["vae"]["likelihood"]["kind"] == "bound (10 samples)"
    assert set(metrics["vae"]["samples"]) == {"normal", "mixture"}
    assert metrics["vae"]["reconstructions"]["rule_1"]["samples"] > 100
    assert "reconstructions" not in metrics["naive_bayes"], "it has no codes"
    assert metrics["vae"]["exported_prior"] in ("normal", "mixture")
    entries = {path.stem: json.loads(path.read_text()) for path in (project.root / "evaluation/entries").iterdir()}
    assert entries == metrics
    judged = {entry: found["samples"][found["exported_prior"]]["rule_1"] for entry, found in metrics.items()}
    assert {entry: verdict["samples"] for entry, verdict in judged.items()} == {"naive_bayes": 300, "vae": 400}
    assert judged["naive_bayes"]["status"] == "fail", "noise is not of the data"
    assert metrics["naive_bayes"]["samples"]["own"]["rule_2"]["status"] != "fail", "nor a copy of it"
    graphs = sorted(path.relative_to(project.root).as_posix() for path in (project.root / "exports").rglob("*.onnx"))
    assert [path for path in graphs if "champion" not in path] == ["exports/naive_bayes/generator.onnx"] + [
        f"exports/vae/{name}.onnx" for name in ("decoder", "encoder", "generator")
    ]
    assert trials(project) == {("naive_bayes", ""): 1, ("vae", ""): 2, ("vae", "mixture"): 1}
    assert (project.root / "report/index.html").stat().st_size > 10_000
    assert "prepare" not in project.run("dvc", "status"), "but for the scan, which runs always"
    assert project.run("git", "status", "--porcelain").split() == ["??", "dvc.lock"], "outputs must be ignored by git"


def test_a_second_run_only_looks_for_changes(project):
    before = project.outputs()
    said = project.run("dvc", "repro")
    assert [line for line in said.splitlines() if line.startswith("Running stage")] == ["Running stage 'scan':"]
    assert project.outputs() == before


def test_the_page_of_plots_loads_nothing_from_a_network(project):
    offline_plots(project.root)
    project.run("dvc", "plots", "show", "--out", "dvc_plots")
    page = (project.root / "dvc_plots/index.html").read_text()
    assert page.count("vegaEmbed('#") == 4, "a chart for each table"
    assert re.findall(r"<(?:script|link|img)[^>]+=.(https?:[^'\"]+)", page) == []


def test_the_champion_can_be_had_by_its_name(project):
    got = project.root.parent / "got"
    for command in (["add", "dvc.lock"], ["commit", "-qm", "run"], ["tag", "-am", "first", "champion@v1.0.0"]):
        project.run("git", *command)
    project.run("dvc", "artifacts", "get", ".", "champion", "-o", str(got))
    project.run("latentmill", "verify", str(got))
    entry = json.loads((got / "card.json").read_text())["entry"]
    for graph in (project.root / "exports" / entry).glob("*.onnx"):
        assert (got / graph.name).read_bytes() == graph.read_bytes(), "the same weights give the same bytes"
    shutil.rmtree(got)


def test_the_exported_model_samples(project):
    project.run("latentmill", "sample", "exports/vae", "--n", "5", "--seed", "1", "--out", "five.npy")
    images = np.load(project.root / "five.npy", allow_pickle=False)
    assert images.shape == (5, 1, 8, 8)
    project.run("latentmill", "sample", "exports/naive_bayes", "--n", "4", "--out", "four.png")
    with Image.open(project.root / "four.png") as picture:
        assert picture.width >= 100


def test_dvc_shows_metrics_and_plots(project):
    assert "vae.likelihood.nats" in project.run("dvc", "metrics", "show")
    assert "index.html" in project.run("dvc", "plots", "show")


def test_a_change_of_the_template_reruns_only_the_report(project):
    template = project.root / "src/latentmill/report/page.html.j2"
    text = template.read_text()
    try:
        template.write_text(text.replace("</body>", "<p>changed</p></body>"))
        said = project.run("dvc", "repro")
    finally:
        template.write_text(text)
    assert [line for line in said.splitlines() if line.startswith("Running stage")][1:] == ["Running stage 'report':"]
    assert "<p>changed</p>" in (project.root / "report/index.html").read_text()


@pytest.mark.slow
def test_one_more_value_in_a_grid_trains_only_what_is_missing(project):
    project.run("dvc", "exp", "run", "-S", "ladder.vae.latent=[2,3,4]", "--name", "wider", "train")
    assert trials(project) == {("naive_bayes", ""): 1, ("vae", ""): 3, ("vae", "mixture"): 1}
    records = (project.root / ".latentmill/trials").glob("*/trial.json")
    assert [json.loads(path.read_text())["trial"]["parent"] for path in records].count(None) == 4
    assert "wider" in project.run("dvc", "exp", "show", "--csv")


IN_SHORT = [  # one refused as a key, one as a model, one as a file; the others go the same way
    (
        {"modle": {}},
        "params.yaml: unknown key 'modle'; the keys here are note, data, trial, priors, ladder, train, evaluation",
    ),
    ({"ladder": {"gone": {}}}, "params.yaml: ladder.gone: a model must be one of"),
    ({"data": {"source": "arrays", "path": "gone.npy"}}, "gone.npy"),
]
OTHERS = [
    ({"trial": {"epoch": 3}}, "params.yaml: unknown key 'trial.epoch'"),
    ({"trial": {"epochs": -1}}, "trial.epochs must be greater than or equal to 1, but got -1"),
    ({"ladder": {}}, "params.yaml: ladder must have at least 1 item"),
    ({"ladder": {"vae": {"latent": []}}}, "params.yaml: ladder.vae.latent must have at least one value"),
    ({"ladder": {"vae": {"priors": ["gone"]}}}, "ladder.vae.priors must be of normal, mixture, but one is 'gone'"),
]


@pytest.mark.parametrize(
    ("change", "told"),
    [*IN_SHORT, *(pytest.param(*each, marks=pytest.mark.slow) for each in OTHERS)],
    ids=lambda value: str(value)[:40],
)
def test_bad_parameters_end_in_one_line_and_spoil_nothing(project, change, told):
    before = project.outputs()
    project.write_params(SMALL | change)
    try:
        said = project.run("dvc", "repro", status=255)
    finally:
        project.write_params(SMALL)
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert told in line
    assert "Traceback" not in said
    assert project.outputs() == before


@pytest.fixture
def with_failures(project):
    """The same with an entry that cannot be trained, and one that copies, which has graphs of an earlier run."""
    ladder = SMALL["ladder"] | {"ppca": {"latent": 64}, "copier": {}}
    (project.root / "src/latentmill/models/copier.py").write_text(COPIER)
    (project.root / "exports/copier").mkdir()
    (project.root / "exports/copier/generator.onnx").write_bytes(b"of an earlier run")
    project.write_params(SMALL | {"ladder": ladder})
    yield project
    (project.root / "src/latentmill/models/copier.py").unlink()
    project.write_params(SMALL)


@pytest.mark.slow
def test_what_fails_or_is_refused_costs_no_other_entry_nor_the_report(with_failures):
    project, root = with_failures, with_failures.root
    assert "2 of 4 exports are up to date" in project.run("dvc", "repro")
    rows = (root / "trials.csv").read_text().splitlines()
    assert [row for row in rows if ",failed," in row and "latent must be below" in row]
    told = "InputError: latent must be below the number of images and of pixels, 64, but got latent=64"
    failed = json.loads((root / "models/ppca/failed.json").read_text())
    assert {key: failed[key] for key in ("entry", "reason")} == {"entry": "ppca", "reason": told}
    assert [(trial["status"], trial["error"]) for trial in failed["trials"]] == [("failed", told)]
    metrics = json.loads((root / "evaluation/metrics.json").read_text())
    assert metrics["ppca"] == {"failed": told}
    assert all("samples" in metrics[entry] for entry in SMALL["ladder"])
    refusals = {name: json.loads((root / f"exports/{name}/refused.json").read_text()) for name in ("ppca", "copier")}
    assert refusals["ppca"]["status"] == "failed"
    assert "latent must be below" in refusals["ppca"]["evidence"]
    assert refusals["copier"]["status"] == "refused"
    assert refusals["copier"]["rules"]["2"] == "fail"
    for folder in ("graphs", "exports"):
        assert [path.name for path in (root / folder / "copier").iterdir()] == ["refused.json"]
    assert json.loads((root / "exports/champion/card.json").read_text())["entry"] in ("naive_bayes", "vae")
    page = (root / "report/index.html").read_text(encoding="utf-8")
    assert "2 of 4 models exported, 1 refused and 1 failed." in page
    assert "</b> was refused: its samples are too close to training images" in page
    lines = project.run("latentmill", "check").splitlines()
    assert [line.split(" ")[:2] for line in lines[:4]] == [
        ["naive_bayes:", "exported"],
        ["vae:", "exported"],
        ["ppca:", "failed:"],
        ["copier:", "refused:"],
    ]
    assert lines[4].startswith("champion: ")
    assert "was refused: its samples are too close" in project.run("latentmill", "verify", "exports/copier", status=1)
    again = [line for line in project.run("dvc", "repro").splitlines() if line.startswith("Running stage")]
    assert again == ["Running stage 'scan':"], "what was refused is not tried again"


COPIER = '''"""Hands out some of its training images."""

import torch

from latentmill.config import Settings
from latentmill.contract import Generates, HasCriterion, Model


class Copier(Model, Generates, HasCriterion):
    closed_form = True
    Config = Settings
    noise_width = 200
    criterion_draws = {}

    def __init__(self, config, shape, classes=0):
        super().__init__(config, shape, classes)
        self.register_buffer("images", torch.zeros(self.noise_width, *shape))

    def fit(self, examples, val, generator):
        self.images.copy_(torch.cat(list(examples.chunks()))[: self.noise_width])

    def criterion(self, batch, noise):
        return batch["image"].mean((1, 2, 3))

    def generate(self, noise, label=None):
        return self.images[noise.argmax(1)]
'''


def heed_interrupts() -> None:
    """What a terminal's shell does; what a script or nohup puts into the background inherits that they are ignored."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
