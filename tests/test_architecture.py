"""The layers, and that DVC knows every file that a stage depends on."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from latentmill.trials.code import SOURCE, digest, imported_files

ROOT = Path(__file__).parents[1]
PACKAGE = SOURCE / "latentmill"
STAGES = ("scan", "prepare", "train", "evaluate", "export", "publish", "champion", "report")
# Each layer may import from those to its left, and from within itself.
LAYERS = (
    (
        *("errors", "files", "progress", "stage", "storage", "config", "densities", "draws"),
        *("heartbeat", "installation", "memory", "proportion", "runtime", "browser", "threads", "yaml_file"),
    ),
    ("networks", "observations", "components", "data", "contract", "codes", "features"),
    ("models", "priors"),
    ("registry",),
    ("training",),
    ("trials",),
    ("cluster", "evaluation", "export", "tracking"),
    ("report",),
    ("judging", "project"),
    ("cli",),
)
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
ONLY_HERE = {"ray": {"cluster"}, "onnx": {"export", "tracking"}}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py" or path.parent != PACKAGE)


def part(path: Path) -> str:
    """The name below the package: `files` of files.py, `data` of data/sources.py."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    absolute = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    found = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert all(node.level == 0 for node in found), f"{path} must import absolutely"
    return absolute | {f"{node.module}.{alias.name}" for node in found for alias in node.names}


def test_every_part_has_a_layer():
    assert {part(path) for path in modules()} == set(RANK)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    inner = [name.split(".")[1] for name in imports(path) if name.startswith("latentmill.")]
    assert [name for name in inner if RANK[name] > RANK[part(path)]] == []
    outer = {name.split(".")[0] for name in imports(path)}
    assert [name for name, places in ONLY_HERE.items() if name in outer and part(path) not in places] == []


def test_models_and_priors_do_not_import_one_another():
    for path in (*(PACKAGE / "models").glob("*.py"), *(PACKAGE / "priors").glob("*.py")):
        assert [name for name in imports(path) if name.startswith(("latentmill.models", "latentmill.priors"))] == []


def test_a_model_is_a_file_of_at_most_80_lines():
    lines = {path.stem: path.read_text(encoding="utf-8").count("\n") for path in (PACKAGE / "models").glob("*.py")}
    assert [f"{name}: {count}" for name, count in lines.items() if count > 80] == []


@pytest.mark.parametrize(("name", "more"), [("runtime", ()), ("browser", ("latentmill.runtime",))])
def test_what_an_application_uses_needs_nothing_else_of_the_package(name, more):
    allowed = (f"latentmill.{name}", "latentmill.errors", *more)
    for path in (PACKAGE / name).glob("*.py"):
        inner = [name for name in imports(path) if name.startswith("latentmill")]
        assert [name for name in inner if not name.startswith(allowed)] == []


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_all_that_it_imports_and_on_nothing_of_which_it_imports_nothing(stage):
    imported, listed = stage_files(stage), code_deps(stage)
    covered = {dep: {path for path in imported if path.is_relative_to(dep)} for dep in listed}
    missing = imported - set().union(*covered.values())
    assert sorted(str(path.relative_to(ROOT)) for path in missing) == [], "missing from deps"
    assert [str(dep.relative_to(ROOT)) for dep, files in covered.items() if not files] == [], "but nothing is imported"


@pytest.mark.parametrize("part", ["evaluation", "export", "report", "runtime", "browser"])
def test_nothing_that_comes_after_training_trains_anew(part):
    assert PACKAGE / part not in code_deps("train")


@pytest.mark.parametrize("stage", ["scan", "prepare", "publish", "champion", "report"])
def test_what_trains_and_exports_nothing_does_not_wait_for_torch(stage):
    files = imported_files(ROOT / "pipeline" / f"{stage}.py")
    assert [str(path) for path in files if any(name.split(".")[0] == "torch" for name in imports(path))] == []


def test_preparing_without_a_cluster_does_not_wait_for_ray():
    program = (
        f"import runpy, sys; runpy.run_path('{ROOT}/pipeline/prepare.py')['_cluster'](); print('ray' in sys.modules)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    assert subprocess.check_output([sys.executable, "-c", program], env=environment, text=True) == "False\n"


def test_only_guards_against_edits_read_the_time_of_day_which_may_jump():
    """They compare it with the times of files; docs/reliability.md says what a clock that is set back costs."""
    files = [*PACKAGE.rglob("*.py"), *(ROOT / "pipeline").glob("*.py")]
    reads = re.compile(r"\btime\.time(_ns)?\(|\bfrom time import|\bdatetime\.now\(|\butcnow\(|\bdate\.today\(")
    assert {path for path in files if reads.search(path.read_text(encoding="utf-8"))} == {
        PACKAGE / "__init__.py",  # when this process began to import source files
        PACKAGE / "stage.py",  # whether one was changed since: a time that is yet to come does not count
        PACKAGE / "data/listing.py",  # whether a file is so recent that its digest is not cached
    }


def test_text_is_read_as_utf_8_whatever_the_locale_is():
    files = [*modules(), *(ROOT / "pipeline").glob("*.py")]
    assert [str(path) for path in files if "read_text()" in path.read_text(encoding="utf-8")] == []


def test_dvc_yaml_reads_in_one_screen():
    lines = (ROOT / "dvc.yaml").read_text().splitlines()
    assert len(lines) <= 110
    assert max(map(len, lines)) <= 120


def code_deps(stage: str) -> list[Path]:
    """The files and folders of code that DVC knows the stage to depend on."""
    definition = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"][stage]
    deps = definition.get("do", definition)["deps"]
    return [ROOT / dep for dep in deps if dep.startswith(("src/", "pipeline/"))]


def stage_files(stage: str) -> set[Path]:
    """What the stage imports, and the models whose docstrings the report reads.

    The models and priors, which are found by name, are all counted with their finder.
    """
    files = imported_files(ROOT / "pipeline" / f"{stage}.py")
    files |= set((PACKAGE / "models").glob("*.py")) if stage == "report" else set()
    if PACKAGE / "registry.py" in files:
        files |= imported_files(
            *(
                PACKAGE / family / path.name
                for family in ("models", "priors")
                for path in (PACKAGE / family).glob("*.py")
            )
        )
    return files


def test_the_code_digest_ignores_comments_and_docstrings_but_not_code(tmp_path, monkeypatch):
    monkeypatch.setattr("latentmill.trials.code.SOURCE", tmp_path)
    path = tmp_path / "module.py"
    digests = []
    for text in ('"""One."""\nx = 1\n', '"""Two."""\nx = 1  # a comment\n', '"""One."""\nx = 2\n'):
        path.write_text(text)
        digests.append(digest([path]))
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.stem)
def test_the_tests_that_a_page_names_exist(page):
    for path, name in re.findall(r"\b((?:faults/)?test_\w+\.py)(?:::(test_\w+))?", page.read_text(encoding="utf-8")):
        assert (ROOT / "tests" / path).exists(), path
        assert not name or f"def {name}(" in (ROOT / "tests" / path).read_text(encoding="utf-8"), f"{path}::{name}"


def test_what_installing_leaves_here_is_ignored_by_git():
    left = ["build/lib/latentmill/cli.py", "src/latentmill.egg-info/PKG-INFO"]
    assert subprocess.check_output(["git", "check-ignore", *left], cwd=ROOT, text=True).split() == left
