"""The whole pipeline in a fresh clone of HEAD, with a DVC cache and a trial store of its own."""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import processes
from benchmarks.processes import Run
from benchmarks.target import Result, Target
from latentmill.data.sources.fashion_mnist import FOLDER

FIRST = Target("dvc repro: first, default data", "s", at_most=240)
FIRST_MEMORY = Target("dvc repro: memory, default data", "GiB", at_most=4)
SECOND = Target("dvc repro: second, nothing changed", "s", at_most=5)
SECOND_STAGES = Target("dvc repro: stages that a second one runs", "stages", at_most=0)
TEMPLATE = Target("dvc repro: stages but report run by its template", "stages", at_most=0)
FULL = Target("dvc repro: first, Fashion-MNIST", "min", at_most=20)
FULL_MEMORY = Target("dvc repro: memory, Fashion-MNIST", "GiB", at_most=4)
MEASURES = Target("evaluate: five models of Fashion-MNIST, 10 000 samples each", "min", at_most=10)
MEASURES_MEMORY = Target("evaluate: memory, Fashion-MNIST", "GiB", at_most=3)
PAGE = Path("src/latentmill/report/page.html.j2")


def measure_default() -> Iterator[Result]:
    """The default pipeline, then with nothing changed, then with a change of the report's template."""
    with fresh_clone() as clone:
        first, second = repro(clone), repro(clone)
        yield FIRST.result(first.seconds)
        yield FIRST_MEMORY.result(first.peak_bytes / 2**30)
        yield SECOND.result(second.seconds)
        yield SECOND_STAGES.result(len(stages_run(second)))
        yield stages_after_template(clone)


def stages_after_template(clone: Path) -> Result:
    """A template that does not even run `report` counts as one stage too many."""
    if not (clone / PAGE).exists():
        return TEMPLATE.not_measured(f"{PAGE}")
    with (clone / PAGE).open("a") as page:
        page.write("<!-- changed -->\n")
    return TEMPLATE.result(len(stages_run(repro(clone)) ^ {"report"}))


def measure_full() -> Iterator[Result]:
    """The same ladder on all of Fashion-MNIST."""
    if not FOLDER.exists():
        yield FULL.not_measured("dataset-fashion-mnist")
        for target in (FULL_MEMORY, MEASURES, MEASURES_MEMORY):
            yield target.not_measured("dataset-fashion-mnist")
        return
    with fresh_clone() as clone:
        set_source(clone / "params.yaml", "fashion-mnist")
        trained, evaluated, rest = repro(clone, "train"), repro(clone, "evaluate"), repro(clone)
    runs = (trained, evaluated, rest)
    yield FULL.result(sum(run.seconds for run in runs) / 60)
    yield FULL_MEMORY.result(max(run.peak_bytes for run in runs) / 2**30)
    yield MEASURES.result(evaluated.seconds / 60)  # of six entries
    yield MEASURES_MEMORY.result(evaluated.peak_bytes / 2**30)


@contextmanager
def fresh_clone() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["git", "clone", "--quiet", ".", folder], check=True)
        yield Path(folder)


def repro(clone: Path, *stages: str) -> Run:
    """`dvc repro`, up to a stage if one is named, with the programs of this environment and the source of the clone."""
    environment = processes.environment_of(clone / "src")
    programs = Path(sys.executable).parent
    environment["PATH"] = f"{programs}:{environment['PATH']}"
    return processes.run([str(programs / "dvc"), "repro", *stages], clone, environment)


def stages_run(run: Run) -> set[str]:
    return set(re.findall(r"^Running stage '([^']+)'", run.output, re.MULTILINE))


def set_source(params: Path, source: str) -> None:
    text, changes = re.subn(r"(?m)^  source: \S+", f"  source: {source}", params.read_text())
    assert changes == 1, changes
    params.write_text(text)
