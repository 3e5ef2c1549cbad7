"""latentmill as it is installed from a wheel, without a clone: a project from its first command to its report."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from PIL import Image
from ruamel.yaml import YAML
from sklearn.datasets import load_digits
from test_pipeline import ROOT, SMALL

pytestmark = pytest.mark.slow

LADDER = {"naive_bayes": {}, "vae": {"latent": 2, "epochs": 1, "priors": ["normal"]}}
PAGE = "src/latentmill/browser/ort"  # of `make page`; git ignores it


class Installed:
    """An environment with the wheel, which sees the packages of this one, but not its editable latentmill."""

    def __init__(self, root: Path) -> None:
        self.root, self.bin = root, root / "venv/bin"
        wheel = next(self.built(root / "clone").glob("*.whl"))
        venv.create(root / "venv", symlinks=True)
        shared = self.bin.parent / f"lib/python{sysconfig.get_python_version()}/site-packages/shared.pth"
        shared.write_text(sysconfig.get_path("purelib"))
        pip = [sys.executable, "-m", "pip", "--quiet", "--python", self.bin / "python"]
        self.run(*pip, "install", "--no-deps", "--no-index", "--ignore-installed", wheel)

    def built(self, clone: Path) -> Path:
        listed = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True)
        for name in filter(lambda name: (ROOT / name).is_file(), listed.splitlines()):
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, clone / name)
        if (ROOT / PAGE).is_dir():
            shutil.copytree(ROOT / PAGE, clone / PAGE)
        before = {path.relative_to(clone) for path in clone.iterdir()}
        pip = [sys.executable, "-m", "pip", "--quiet", "wheel", "--no-deps", "--no-build-isolation"]
        self.run(*pip, "--wheel-dir", "..", ".", at=clone)
        assert {path.relative_to(clone) for path in clone.iterdir()} == before, "nothing is left beside the sources"
        return clone.parent

    def run(self, *command: str | Path, at: Path | None = None, status: int = 0) -> str:
        """The output of a command, stdout and stderr, which must end with `status`."""
        path = os.pathsep.join([str(self.bin), str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"PATH": path}
        done = subprocess.run(
            command, cwd=at or self.root, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert done.returncode == status, done.stdout
        return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    return Installed(tmp_path_factory.mktemp("installed"))


@pytest.fixture(scope="module")
def project(installed):
    """A project of 300 small digits, run."""
    digits = load_digits()
    for index, (image, label) in enumerate(zip(digits.images[:300] / 16 * 255, digits.target, strict=False)):
        place = installed.root / f"images/{label}/{index}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.astype("uint8")).save(place)
    installed.run("latentmill", "init", "mine", "--data", "images")
    mine, yaml = installed.root / "mine", YAML()
    params = yaml.load(mine / "params.yaml")
    params |= {"ladder": LADDER, "evaluation": SMALL["evaluation"] | {"samples": 200}}
    yaml.dump(params, mine / "params.yaml")
    installed.run("dvc", "repro", at=mine)
    return mine


def stages(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith("Running stage")]


def test_the_project_goes_from_images_to_decoders_and_a_report(installed, project):
    where = installed.run("python", "-c", "import latentmill; print(latentmill.__file__)")
    assert where.startswith(str(installed.bin.parent)), "not that of the clone"
    assert "vae: exported" in installed.run("latentmill", "check", at=project)
    assert (project / "report/index.html").stat().st_size > 10_000
    installed.run("latentmill", "verify", "exports/champion", at=project)
    untracked = installed.run("git", "status", "--porcelain", at=project)
    assert {line[3:] for line in untracked.splitlines()} <= {
        *(".dvc/.gitignore", ".dvc/config", ".dvcignore", ".dvc/plots/", ".gitignore"),
        *("dvc.lock", "dvc.yaml", "params.yaml"),
    }


def test_a_second_run_only_looks_for_changes(installed, project):
    again = installed.run("dvc", "repro", at=project)
    assert stages(again) == ["Running stage 'version':", "Running stage 'scan':"]


def test_a_job_gets_the_stage_that_the_wheel_carries(installed, project):
    said = installed.run("latentmill", "submit", "--address", "http://127.0.0.1:1", at=project, status=1)
    assert "error: --address must be the dashboard of a Ray cluster" in said, "all else is there"
    told = installed.run("python", "-c", SENT, at=project)
    assert told.split() == ["params.yaml", "pipeline/train.py"]


SENT = """
import tempfile
from pathlib import Path
from latentmill.cluster.upload import Sent
from latentmill.config import load_params
from latentmill.storage import Storage
with tempfile.TemporaryDirectory() as folder:
    sent = Sent.of(Path.cwd(), load_params(), Storage(Path("trials")), Path(folder)).project
    print(*sorted(path.relative_to(sent) for path in sent.rglob("*") if path.is_file()))
"""


def test_the_page_is_in_the_wheel(installed, project):
    if not (ROOT / PAGE).is_dir():
        pytest.skip("`make page` has not run here")
    installed.run("latentmill", "serve", "exports/champion", "--to", str(installed.root / "page"), at=project)
    assert (installed.root / "page/ort/ort-wasm-simd-threaded.wasm").exists()


def test_an_update_of_latentmill_is_noticed(installed, project):
    module = next(installed.bin.parent.glob("lib/*/site-packages/latentmill/errors.py"))
    before = module.read_bytes()
    try:
        module.write_bytes(before + b"# changed\n")
        assert "has another version: run `dvc repro`" in installed.run("latentmill", "check", at=project, status=1)
        assert "Running stage 'prepare':" in stages(installed.run("dvc", "repro", "prepare", at=project))
    finally:
        module.write_bytes(before)
