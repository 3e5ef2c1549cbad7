"""`latentmill init`: a project of the user's own, whose stages depend on what is installed."""

import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from ruamel.yaml import YAML
from sites import ROOT

from latentmill import installation
from latentmill.cli import main
from latentmill.config import Params, Settings, load_params
from latentmill.data.sources.recognition import recognised
from latentmill.errors import InputError
from latentmill.project.init import init, ladders, params_text
from latentmill.project.pipeline import pipeline_text, record_installed
from latentmill.stage import REPOSITORY


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Two images in a folder, named relative to where the user is; a name with what YAML and JSON must quote."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / 'ph"o: #ö'
    folder.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("L", (8, 8)).save(folder / name)
    return folder


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_a_project_has_settings_with_comments_stages_and_repositories(photos, capsys):
    main(["init", "mine", "--data", photos.name])
    settings, commit = capsys.readouterr().out.splitlines()
    assert "dvc repro" in settings
    assert commit.endswith("commit them once: `git add . && git commit -m start`")
    mine = photos.parent / "mine"
    files = {"params.yaml", "dvc.yaml", ".gitignore", ".dvcignore", ".dvc/config", ".dvc/plots/by_entry.json"}
    assert files | {".git"} <= tree(mine)
    assert "analytics = false" in (mine / ".dvc/config").read_text()
    data = load_params(mine / "params.yaml").data
    assert (data.source, data.path) == ("folder", str(photos))
    changed = zip(*(text.splitlines() for text in (params_text(), (mine / "params.yaml").read_text())), strict=True)
    assert [ours.split(" #")[0] for ours, its in changed if ours != its] == ["  source: mnist-5k", "  path: null"]
    outputs = [out if Path(out).suffix else f"{out}/a" for stage in stages().values() for out in outs(stage)]
    ignored = subprocess.run(["git", "check-ignore", *outputs], cwd=mine, text=True, capture_output=True).stdout
    assert ignored.split() == outputs
    status = ["git", "status", "--porcelain", "--untracked-files=all"]
    found = subprocess.run(status, cwd=mine, text=True, capture_output=True).stdout.splitlines()
    assert files <= {line[3:] for line in found}
    assert {line[:2] for line in found} == {"A "}, "all files are staged"


@pytest.mark.parametrize(
    ("given", "source"),
    [("some.npz", "arrays"), ("some.tar", "archive"), ("some.parquet", "table"), ("tables", "table")],
)
def test_what_lies_there_decides_the_source(photos, given, source):
    (photos.parent / "tables").mkdir()
    for name in ("some.parquet", "tables/a.parquet"):
        pq.write_table(pa.table({"image": [b""]}), photos.parent / name)
    np.savez(photos.parent / "some.npz", images=np.zeros((2, 8, 8), np.uint8))
    tarfile.open(photos.parent / "some.tar", "w").close()
    (photos.parent / "params.yaml").write_text(params_text(given, "budget"))
    params = load_params(photos.parent / "params.yaml")
    assert (params.data.source, params.data.path) == (source, str(photos.parent / given))
    assert params.train.budget == 600


@pytest.mark.parametrize(
    ("name", "column", "source"),
    [
        ("metadata.parquet", "file_name", "folder"),
        ("deep/vectors.parquet", "vector", "folder"),
        ("train.parquet", "image", "table"),
    ],
)
def test_a_folder_with_images_and_a_table_is_a_table_only_if_that_has_images(photos, name, column, source):
    (photos / "deep").mkdir()
    pq.write_table(pa.table({column: ["a.png"]}), photos / name)
    (photos / "deep/damaged.parquet").write_bytes(b"")
    assert recognised(str(photos)) == {"source": source, "path": str(photos)}


@pytest.mark.parametrize("source", ["digits", "sprites"])
def test_a_bundled_source_needs_no_path(tmp_path, source):
    (tmp_path / "params.yaml").write_text(params_text(source))
    data = load_params(tmp_path / "params.yaml").data
    assert (data.source, data.path) == (source, None)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["photos"], "a project must begin in a folder that is new or empty, but 'photos' is not"),
        (["photos/a.png"], "a project must begin in a folder that is new or empty"),
        (["none/mine"], "a project must be a folder that can be made in one that is there, but 'none/mine'"),
        (["mine", "--data", "nothing"], "--data nothing: there must be a folder, or a file that ends in"),
        (["mine", "--data", "photos/a.png"], "but there is a file of another kind"),
        (["mine", "--data", "data"], "it must lie apart from what is written"),
        (["mine", "--ladder", "short"], f"--ladder must be one of {', '.join(ladders())}, but got 'short'"),
    ],
)
def test_what_is_refused_leaves_nothing(photos, arguments, told, capsys):
    photos.rename(photos.with_name("photos"))
    (photos.parent / "data/prepared").mkdir(parents=True)
    before = tree(photos.parent)
    with pytest.raises(SystemExit):
        main(["init", *arguments])
    assert told in capsys.readouterr().err
    assert tree(photos.parent) == before


@pytest.mark.parametrize("is_there", [False, True])
def test_what_fails_half_way_leaves_nothing(tmp_path, monkeypatch, is_there):
    """A DVC that does not start, after git has made its folder."""
    folder = tmp_path / "mine"
    if is_there:
        folder.mkdir()
    monkeypatch.setenv("PYTHONHOME", str(tmp_path / "none"))  # of Python's own library
    with pytest.raises(InputError, match=r"init --quiet must succeed in .*mine"):
        init(folder)
    assert folder.exists() == is_there
    assert not is_there or not list(folder.iterdir())


def test_within_a_repository_of_git_it_makes_none_of_its_own(tmp_path, monkeypatch):
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "another"))  # as in a hook
    init(Path())
    assert not (tmp_path / "mine/.git").exists()
    assert "subdir = True" not in (tmp_path / "mine/.dvc/config").read_text(), "DVC keeps that elsewhere"
    done = subprocess.run([sys.executable, "-m", "dvc", "root"], cwd=tmp_path / "mine", text=True, capture_output=True)
    assert done.stdout.strip() == ".", done.stderr


def stages() -> dict[str, dict]:
    found = YAML(typ="safe").load(pipeline_text())["stages"]
    return {name: stage.get("do", stage) for name, stage in found.items()}


def outs(stage: dict) -> list[str]:
    return [next(iter(out)).replace("${key}", "vae") for out in [*stage["outs"], *stage.get("metrics", [])]]


def test_stages_depend_on_settings_outputs_and_what_is_installed(tmp_path):
    made = {"params.yaml", *(out for stage in stages().values() for out in outs(stage))}
    for name, stage in stages().items():
        deps = [dep.replace("${key}", "vae") for dep in stage.get("deps", [])]
        assert name == "version" or str(installation.VERSION) in deps
        assert [dep for dep in deps if not any(dep == each or under(dep, each) for each in made)] == []
        assert name == "version" or stage["cmd"].split()[2] == installation.stage_file(name).stem


def under(one: str, other: str) -> bool:
    """Whether one of them lies in the other."""
    return Path(one).is_relative_to(other) or Path(other).is_relative_to(one)


def test_what_is_installed_is_noticed_to_be_another(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not installation.is_another(), "as in a clone"
    Path("dvc.yaml").write_text(pipeline_text())
    assert record_installed(installation.VERSION) is None
    assert not installation.is_another()
    (tmp_path / "package").mkdir()
    monkeypatch.setattr(installation, "PACKAGE", tmp_path / "package")
    assert installation.is_another()
    before = installation.installed()
    (tmp_path / "package/a.py").write_text("x = 1")
    assert installation.installed() != before


def test_another_version_of_the_stages_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("dvc.yaml").write_text(pipeline_text().replace("[data]", "[data, ladder]"))
    main(["version", "--out", "version.txt"])
    told = "dvc.yaml is not that of this version: `latentmill pipeline > dvc.yaml` replaces it"
    assert told in capsys.readouterr().out
    main(["pipeline"])
    Path("dvc.yaml").write_text(capsys.readouterr().out)
    main(["version", "--out", "version.txt"])
    assert capsys.readouterr().out == ""
    main(["version"])
    assert capsys.readouterr().out == Path("version.txt").read_text()


def test_a_stage_runs_by_its_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", sys.argv)
    (tmp_path / "params.yaml").write_text(params_text("digits"))
    main(["stage", "scan"])
    assert "data/listing.txt: " in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["stage", "scann"])
    assert "a stage must be one of champion, evaluate, export" in capsys.readouterr().err


def test_a_new_key_has_a_default_so_that_settings_of_an_earlier_version_stay_valid():
    sections = [field.annotation for field in Params.model_fields.values()]
    configs = [each for each in sections if isinstance(each, type) and issubclass(each, Settings)]
    fields = [(each.__name__, name, field) for each in configs for name, field in each.model_fields.items()]
    assert [(config, name) for config, name, field in fields if field.is_required()] == [("DataConfig", "source")]
    assert {name for name, field in Params.model_fields.items() if field.is_required()} == {
        *("data", "trial", "ladder", "train", "evaluation", "export")
    }


def test_a_clone_has_what_a_wheel_carries():
    assert REPOSITORY == ROOT


def test_stages_name_only_keys_that_must_be_there():
    """DVC runs no stage of which one of its `params` is not in params.yaml."""
    needed = {name for name, field in Params.model_fields.items() if field.is_required()} | {"priors"}
    assert {name for stage in stages().values() for name in stage.get("params", [])} <= needed
