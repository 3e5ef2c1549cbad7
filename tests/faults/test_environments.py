"""Whole runs where the environment is not that of a developer's machine; each ends with a report."""

import os
import shutil
from pathlib import Path

import pytest
from mounts import mounted
from sites import Site, require_goes_on
from test_pipeline import SMALL, Project

pytestmark = pytest.mark.faults
LADDER = {"naive_bayes": {}, "vae": {"latent": 2}}
EVALUATION = {"samples": 200, "importance_samples": 5, "likelihood_images": 20, "features": ["pixels"]}
SHORT = SMALL | {"ladder": LADDER, "trial": {"epochs": 1}, "evaluation": EVALUATION}
# May read all and write nothing of other users, as the interpreter may lie in the home folder of another.
READ_ALL = ("--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search")
UNLIKE_UTF_8 = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def as_user(number: int) -> tuple[str, ...]:
    """The beginning of a command that another user runs, whose number has no name."""
    command = ("setpriv", "--reuid", str(number), "--regid", str(number), "--clear-groups", *READ_ALL)
    if os.getuid() or not shutil.which("setpriv"):
        pytest.skip("only root can run as another user")
    return command


class Elsewhere(Project):
    """A project whose commands run in another environment, as another user."""

    prefix: tuple[str, ...] = ()
    changed: dict[str, str]

    def __init__(self, root: Path, **changed: str) -> None:
        self.changed = changed
        root.mkdir(parents=True)
        super().__init__(root)
        self.write_params(SHORT | {"train": {"seeds": [0, 1]}})  # several seeds print a "±"

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | self.changed

    def run(self, *command: str, status: int = 0) -> str:
        return super().run(*self.prefix, *command, status=status)

    def require_a_report(self) -> None:
        said = self.run("dvc", "repro")
        assert "Traceback" not in said
        assert (self.root / "report/index.html").stat().st_size > 10_000
        assert "exported" in self.run("latentmill", "check")


def test_a_path_with_spaces_and_umlauts_in_the_locale_c(tmp_path):
    Elsewhere(tmp_path / "Bilder für später/größe 8", LC_ALL="C").require_a_report()


def test_a_locale_that_has_only_ascii(tmp_path):
    project = Elsewhere(tmp_path / "project", **UNLIKE_UTF_8)
    project.require_a_report()
    assert "\\xb1" in project.run("dvc", "repro", "--force", "--single-item", "train"), "a ± that ASCII does not have"


def test_a_user_without_a_name_and_a_home_where_TMPDIR_is_as_long_as_those_of_slurm(tmp_path):
    project = Elsewhere(tmp_path / "project", HOME="/nonexistent", USER="", LOGNAME="54321")  # as the Makefile sets it
    long = tmp_path / "scratch/slurm/job.1234567.someone/tmp.t0016"
    long.mkdir(parents=True)
    for path in (tmp_path, *tmp_path.rglob("*")):
        os.chown(path, 54321, 54321)
    project.prefix, project.changed = as_user(54321), project.changed | {"TMPDIR": str(long)}
    project.require_a_report()


def test_a_home_folder_that_is_read_only(tmp_path):
    with mounted(tmp_path / "home", "ro") as home:
        Elsewhere(tmp_path / "project", HOME=str(home)).require_a_report()


def test_a_copy_without_git(tmp_path):
    project = Elsewhere(tmp_path / "project", GIT_CEILING_DIRECTORIES=str(tmp_path))
    shutil.rmtree(project.root / ".git")
    assert "not a git repository" in project.run("dvc", "repro", status=255)
    project.run("dvc", "config", "--local", "core.no_scm", "true")  # as `make setup` does there
    project.require_a_report()


@pytest.mark.parametrize("size", ["20m", "64m"])
def test_shared_memory_as_small_as_that_of_containers(tmp_path, size):
    project = Elsewhere(tmp_path / "project")
    if os.getuid():
        pytest.skip("only root can mount a disk")
    project.prefix = (
        "unshare",
        "--mount",
        "sh",
        "-c",
        f'mount -t tmpfs -o size={size} tmpfs /dev/shm && exec "$@"',
        "-",
    )
    project.require_a_report()


def test_two_users_train_on_one_machine_at_a_time(prepared, tmp_path, undisturbed):
    sites = []
    for number in (54321, 54322):
        root = tmp_path / str(number)
        root.mkdir()
        site = Site(root).prepare(prepared)
        site.environment |= {"HOME": str(root), "OMP_NUM_THREADS": "1"}
        site.command = (*as_user(number), *site.command)
        for path in (root, *root.rglob("*")):
            os.chown(path, number, number)
        sites.append(site)
    running = [site.start() for site in sites]
    for process in running:
        said = process.communicate(timeout=240)[0]
        assert process.returncode == 0, said
    for site in sites:
        require_goes_on(site, undisturbed, site.finished())


def test_a_trial_store_below_an_output_is_refused_before_anything_is_deleted(tmp_path):
    project = Elsewhere(tmp_path / "project")
    project.write_params(SHORT | {"train": {"storage": "models/trials"}})
    (project.root / "models/trials").mkdir(parents=True)
    (project.root / "models/trials/kept").touch()
    said = project.run("dvc", "repro", status=255)
    assert "train.storage must lie outside of models, which a stage replaces" in said
    assert (project.root / "models/trials/kept").exists()
