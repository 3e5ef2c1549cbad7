"""What a cluster gets: the code and data that training reads, as they are here, and nothing that lies beside them."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import prepared_sets
import pytest
from ruamel.yaml import YAML
from sites import LADDER, ROOT, SECTIONS

from latentmill.cluster import connection, job, submit, upload
from latentmill.cluster.job import fetch_data
from latentmill.cluster.submit import send_data
from latentmill.cluster.upload import STAGE, Sent, copy_package, package_files, tracked_files
from latentmill.config import load_params
from latentmill.data.dataset import TRAINING, intact_digest, stored_as
from latentmill.errors import InputError
from latentmill.storage import Storage
from latentmill.trials import code
from latentmill.trials.auto import with_values_for

SECRETS = (".env", "key.pem", "id_rsa", ".netrc", "credentials.json", "inner/.env", "unused_secret.py")
GIT = ("git", "-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "init.defaultBranch=main")


def git(root: Path, *command: str) -> None:
    subprocess.run([*GIT, *command], cwd=root, check=True, stdout=subprocess.DEVNULL)


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A copy of the project with secrets below its code, not yet a repository."""
    root = tmp_path / "clone"
    ignored = shutil.ignore_patterns("__pycache__", "ort", "*.egg-info")
    for folder in ("pipeline", "src"):
        shutil.copytree(ROOT / folder, root / folder, ignore=ignored)
    (root / "pipeline/notes.txt").write_text("tracked")
    YAML().dump(SECTIONS | {"ladder": LADDER, "train": {}}, root / "params.yaml")
    monkeypatch.setattr(code, "SOURCE", root / "src")
    monkeypatch.setattr(upload, "PACKAGE", root / "src/latentmill")
    return root


def put_secrets(root: Path) -> None:
    for folder in ("pipeline", "src", "src/latentmill", "src/latentmill/models"):
        for name in SECRETS:
            (root / folder / name).parent.mkdir(exist_ok=True)
            (root / folder / name).write_text("secret = 'secret'\n")
        (root / folder / "linked.txt").symlink_to(root / folder / ".env")


def sent_files(root: Path, folder: Path) -> set[str]:
    sent = Sent.of(root, load_params(root / "params.yaml"), Storage(root / "store"), folder)
    return {str(path.relative_to(folder)) for path in (*sent.project.rglob("*"), *sent.package.rglob("*"))}


def is_secret(name: str) -> bool:
    return any(name.endswith(each) for each in (*SECRETS, "linked.txt"))


@pytest.mark.parametrize(
    "is_repository", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["repository", "none"]
)
def test_no_secret_is_sent_and_all_that_training_imports_is(clone, tmp_path, is_repository, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(ROOT / ".git"))  # as in a git hook of another repository
    if is_repository:
        monkeypatch.delenv("GIT_DIR")
        git(clone, "init")
        git(clone, "add", ".")
        monkeypatch.setenv("GIT_DIR", str(ROOT / ".git"))
    put_secrets(clone)
    (clone / "src/latentmill/models/mine.py").write_text((ROOT / "src/latentmill/models/vae.py").read_text())
    YAML().dump(SECTIONS | {"ladder": LADDER | {"mine": {}}, "train": {}}, clone / "params.yaml")
    found = sent_files(clone, tmp_path / "sent")
    assert not [name for name in found if is_secret(name)]
    assert {"project/pipeline/train.py", "project/params.yaml", "latentmill/cluster/job.py"} <= found
    assert {"latentmill/models/mine.py", "latentmill/models/vae.py", "latentmill/priors/flow.py"} <= found
    assert ("project/pipeline/notes.txt" in found) == is_repository
    imports = f"import sys; sys.path.insert(0, {str(tmp_path / 'sent')!r}); import latentmill.cluster.worker, "
    imports += "latentmill.cluster.job, latentmill.models.mine, latentmill; print(latentmill.__file__)"
    done = subprocess.run([sys.executable, "-c", imports], check=True, text=True, capture_output=True, env={})
    assert done.stdout.startswith(str(tmp_path / "sent"))


def test_what_git_tracks_is_listed_without_links_and_what_is_gone(tmp_path):
    git(tmp_path, "init")
    for name in ("a.py", "b b.py", "gone.py"):
        (tmp_path / name).write_text("")
    (tmp_path / "link.py").symlink_to("/etc/passwd")
    git(tmp_path, "add", ".")
    (tmp_path / "gone.py").unlink()
    (tmp_path / "untracked.py").write_text("")
    assert [path.name for path in tracked_files(tmp_path)] == ["a.py", "b b.py"]


def test_a_driver_elsewhere_sends_the_same(clone, tmp_path, monkeypatch):
    put_secrets(clone)
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    (sent,) = connection._shared(tmp_path / "sent")["runtime_env"]["py_modules"]
    assert Path(sent) == tmp_path / "sent/latentmill"
    assert not [path for path in Path(sent).rglob("*") if is_secret(path.name)]


def test_the_code_that_was_sent_has_the_digest_of_that_here(tmp_path, monkeypatch):
    files = package_files(ROOT / STAGE)
    before = code.digest(code.imported_files(code.SOURCE / "latentmill/cluster/worker.py"))
    copied = copy_package(files, tmp_path)
    monkeypatch.setattr(code, "SOURCE", tmp_path)
    assert code.digest(code.imported_files(copied / "cluster/worker.py")) == before


def test_what_is_auto_is_decided_here(clone, tmp_path, monkeypatch, digits):
    """A cluster with other processors would train other trials than those that `dvc repro` looks for."""
    ladder = {"vae": {"observation": "auto", "latent": "auto", "precision": "auto"}}
    sections = {"ladder": ladder, "priors": {"flow": {"precision": "auto"}}, "train": {"storage": str(tmp_path / "s")}}
    sections["train"]["warm_start"] = "earlier"
    YAML().dump(SECTIONS | sections, clone / "params.yaml")
    prepared_sets.write(clone / "data/prepared", {"train": digits[:40], "val": digits[40:60], "test": digits[60:]})
    sent = []
    monkeypatch.setattr(submit, "_client", lambda address: None)
    monkeypatch.setattr(submit, "_running", lambda client, mark: None)
    monkeypatch.setattr(submit, "follow", lambda client, job: None)

    def start(client, found, digest, mark):
        sent.append(load_params(found.project / "params.yaml"))
        return "job"

    monkeypatch.setattr(submit, "_start", start)
    submit.submit("http://head:8265", clone)
    here = with_values_for(digits[:40], load_params(clone / "params.yaml"), lambda note: None)
    assert (sent[0].ladder, sent[0].priors) == (here.ladder, here.priors)
    assert sent[0].ladder["vae"]["latent"] == 16
    assert "auto" not in str((sent[0].ladder, sent[0].priors))
    assert sent[0].train.warm_start == str(clone / "earlier"), "the job runs in another folder"


# The data


@pytest.fixture(params=["labelled", "unlabelled"])
def prepared_set(request, tmp_path, digits, labels):
    images = {"train": digits[:40], "val": digits[40:60], "test": digits[60:80]}
    known = {"train": labels[:40], "val": labels[40:60], "test": labels[60:80]}
    prepared_sets.write(tmp_path / "prepared", images, known if request.param == "labelled" else None)
    return tmp_path / "prepared"


@pytest.fixture
def there(tmp_path, monkeypatch):
    """The folder of a job."""
    (tmp_path / "job").mkdir()
    monkeypatch.chdir(tmp_path / "job")
    train = {"storage": str(tmp_path / "store")}
    YAML().dump(SECTIONS | {"ladder": LADDER, "train": train}, tmp_path / "job/params.yaml")
    return tmp_path / "job"


def overwritten(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [overwritten, cut, folder, Path.unlink], ids=lambda damage: damage.__name__)
def test_data_of_a_job_that_are_not_as_they_were_sent_are_found_and_sent_again(prepared_set, there, tmp_path, damage):
    storage, digest = Storage(tmp_path / "store"), intact_digest(prepared_set, TRAINING)
    send_data(prepared_set, digest, storage)
    fetch_data(digest)
    assert intact_digest(there / job.PREPARED, TRAINING) == digest
    for path in sorted((tmp_path / "store" / stored_as(digest)).iterdir()):
        damage(path)
        with pytest.raises(InputError, match=r"must be (as they were submitted|reachable from the cluster), but"):
            fetch_data(digest)
        assert intact_digest(there / job.PREPARED, TRAINING) == digest, "what was fetched before stays"
        send_data(prepared_set, digest, storage)
        fetch_data(digest)


def test_data_in_the_place_of_others_are_found(prepared_set, there, tmp_path, digits):
    storage, digest = Storage(tmp_path / "store"), intact_digest(prepared_set, TRAINING)
    prepared_sets.write(tmp_path / "others", dict.fromkeys(("train", "val", "test"), digits[100:140]))
    other = intact_digest(tmp_path / "others", TRAINING)
    send_data(tmp_path / "others", other, storage)
    (tmp_path / "store" / stored_as(other)).rename(tmp_path / "store" / stored_as(digest))
    with pytest.raises(InputError, match=r"must be as they were submitted, but are not: submit again"):
        fetch_data(digest)
    send_data(prepared_set, digest, storage)
    fetch_data(digest)


def test_what_is_sent_already_is_not_written_again(prepared_set, tmp_path):
    storage, digest = Storage(tmp_path / "store"), intact_digest(prepared_set, TRAINING)
    send_data(prepared_set, digest, storage)
    files = sorted((tmp_path / "store" / stored_as(digest)).iterdir())
    before = [path.stat().st_ino for path in files]
    send_data(prepared_set, digest, storage)
    assert [path.stat().st_ino for path in files] == before


@pytest.mark.parametrize("name", ["train.npy", "val_labels.npy", "manifest.json"])
def test_prepared_data_that_were_overwritten_are_neither_sent_nor_trained_on(tmp_path, digits, labels, name):
    prepared_sets.write(
        tmp_path, {"train": digits[:40], "val": digits[40:60]}, {"train": labels[:40], "val": labels[40:60]}
    )
    assert len(intact_digest(tmp_path, TRAINING)) == 64
    if name.endswith(".npy"):
        np.save(tmp_path / name, np.load(tmp_path / name)[::-1])
    else:
        (tmp_path / name).write_text((tmp_path / name).read_text().replace('"9"', '"9", "another"'))
    with pytest.raises(
        InputError, match=rf"{name} must have the digest .*, but has another: run `dvc repro -f prepare`"
    ):
        intact_digest(tmp_path, TRAINING)
