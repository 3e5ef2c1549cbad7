"""A trial is redone after any change that can affect its result, and after no other."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
from conftest import CASES
from records import keep, record

from latentmill import registry
from latentmill.cluster import worker
from latentmill.config import TrainingConfig
from latentmill.contract import HasCriterion
from latentmill.errors import InputError
from latentmill.trials import code
from latentmill.trials import trial as trial_module
from latentmill.trials.code import SOURCE, imported_files
from latentmill.trials.store import TrialStore
from latentmill.trials.trial import ALWAYS, NO_EFFECT, SOME, Trial, code_digest, libraries

DIGEST = "a" * 64
FAMILIES = ("models", "priors")
PACKAGE = SOURCE / "latentmill"
TRAIN = """
import sys, json
from sklearn.datasets import load_digits
from safetensors.torch import save
from latentmill.cluster import worker
from latentmill.data.batches import Batches
from latentmill.features.encoder import encoder
from latentmill.trials import packs, ranking, running
from latentmill.trials.store import TrialStore
from latentmill.trials.trial import Trial
data, labels = load_digits().images[:60, None].astype('uint8'), load_digits().target[:60]
images, val = Batches(data[:50], labels=labels[:50]), Batches(data[50:], labels=labels[50:])
weights = {name: value.contiguous() for name, value in encoder((1, 8, 8)).state_dict().items()}
features = ranking.PinnedFeatures(save(weights), (1, 8, 8))
context = running.Context(images, val, "a" * 64, TrialStore(sys.argv[1]), 10, features)
requested = [Trial(**each) for each in json.loads(sys.argv[2])]
worker.use_one_core()
packs.run_pack(requested, context, [running.UNWATCHED] * len(requested))
running.run(requested[0], context)
print(json.dumps([name for name in sys.modules if name.startswith("latentmill")]))
"""


@pytest.mark.parametrize(("family", "name"), [(each, name) for each in FAMILIES for name in registry.names(each)])
def test_a_library_that_may_change_results_is_in_the_fingerprint(family, name):
    """Where a new model needs another one, it must be added to `SOME`."""
    others = {"latentmill", "pydantic", "ray", "safetensors", "threadpoolctl"}  # check, send, store, limit threads
    assert trial_module.imported_packages(family, name) - sys.stdlib_module_names - others <= {*ALWAYS, *SOME}


def trial(name="vae", **changes) -> Trial:
    found = registry.find("models", name)
    config = found.Config(**{key: 2 for key in ("latent",) if key in found.Config.model_fields})
    training = None if found.closed_form else TrainingConfig(epochs=1, batch_size=25, **changes).model_dump()
    features = None if issubclass(found, HasCriterion) else "0" * 16
    return Trial(name, config.model_dump(), training, 0, features)


def covered(name: str) -> set[str]:
    """The files of the package, relative to it, that are in the digest or said to be without effect."""
    return {str(path.relative_to(PACKAGE)) for path in trial_module.code_files("models", name)} | NO_EFFECT.keys()


IN_SHORT = ("gan", "vae")  # several phases and distances, the usual
NAMES = sorted({name for name, _ in CASES})


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in IN_SHORT else pytest.mark.slow) for name in NAMES]
)
def test_all_that_a_trial_imports_is_covered(name, tmp_path):
    requested = (
        [trial(name)] if trial(name).training is None else [trial(name, learning_rate=rate) for rate in (0.1, 0.2)]
    )
    command = [sys.executable, "-c", TRAIN, str(tmp_path), json.dumps([asdict(each) for each in requested])]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    loaded = {file for module in json.loads(done.stdout.splitlines()[-1]) for file in files_of(module)}
    assert "cluster/worker.py" in loaded
    assert loaded - covered(name) == set()


def files_of(module: str) -> set[str]:
    """The file behind a module's name; none for a package of a docstring alone."""
    path = SOURCE.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return {str(file.relative_to(PACKAGE))} & {str(found.relative_to(PACKAGE)) for found in imported_files(file)}


def test_what_has_no_effect_is_imported_and_stands_there_with_a_reason():
    files = {str(path.relative_to(PACKAGE)) for path in imported_files(PACKAGE / "cluster" / "worker.py")}
    assert NO_EFFECT.keys() <= files
    assert all(NO_EFFECT.values())


@pytest.mark.slow
def test_a_constant_changed_in_any_file_is_noticed_or_of_no_effect(tmp_path, monkeypatch):
    shutil.copytree(PACKAGE, tmp_path / "latentmill", ignore=shutil.ignore_patterns("ort", "__pycache__"))
    monkeypatch.setattr(code, "SOURCE", tmp_path)
    before, noticed = code_digest.__wrapped__("models", "vae"), set()
    for path in sorted(path for path in (tmp_path / "latentmill").rglob("*.py") if imported_files(path)):
        text = path.read_text()
        path.write_text(text + "\n_changed = 1\n")
        if code_digest.__wrapped__("models", "vae") != before:
            noticed.add(str(path.relative_to(tmp_path / "latentmill")))
        path.write_text(text)
    monkeypatch.undo()
    assert noticed == covered("vae") - NO_EFFECT.keys()
    assert {"trials/running.py", "trials/packs.py", "registry.py", "cluster/process.py"} <= noticed
    assert not {"models/ppca.py", "report/page.py", "evaluation/judge.py", "export/graphs.py"} & noticed


@pytest.mark.parametrize(
    "line",
    [
        "from ..helper import SCALE",
        "from .. import helper",
        "from latentmill.helper import SCALE",
        "import latentmill.helper as helper",
        "helper = __import__('importlib').import_module('latentmill.helper')",
        "def later():\n    from ..helper import SCALE",
    ],
)
def test_a_models_own_module_is_noticed_however_it_is_imported(line, tmp_path, monkeypatch):
    (tmp_path / "latentmill" / "models").mkdir(parents=True)
    own, helper = tmp_path / "latentmill" / "models" / "mine.py", tmp_path / "latentmill" / "helper.py"
    own.write_text(f"{line}\n")
    helper.write_text("SCALE = 1\n")
    monkeypatch.setattr(code, "SOURCE", tmp_path)
    assert imported_files(own, by_name=True) == {own, helper}


MIXTURE = Trial("mixture", {}, None, 0, parent="1" * 16)


@pytest.mark.parametrize("name", ["python", "numpy", "torch", "sklearn"])
def test_another_version_of_a_library_is_another_trial_where_it_is_imported(name, monkeypatch):
    before = trial().fingerprint(DIGEST), MIXTURE.fingerprint(DIGEST)
    monkeypatch.setattr(trial_module, "libraries", lambda: libraries() | {name: "0.0"})
    assert (trial().fingerprint(DIGEST) == before[0]) == (name == "sklearn")
    assert MIXTURE.fingerprint(DIGEST) != before[1]
    assert all(found and "+" not in found for found in libraries().values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"libraries": {"python": "1.0", "numpy": "1.0", "torch": "1.0"}}, "must have the driver's libraries"),
        ({"digest": "b" * 64}, "must have the driver's code"),
    ],
    ids=["libraries", "code"],
)
def test_a_worker_that_is_not_as_its_driver_refuses_and_says_so(change, message, tmp_path):
    each = {"trial": asdict(trial()), "study": "vae", "fingerprint": trial().fingerprint(DIGEST)}
    settings = SimpleNamespace(storage=str(tmp_path), loggers=[])
    given = SimpleNamespace(**{"libraries": libraries(), "digest": DIGEST, "settings": settings} | change)
    assert worker.run({"trials": [each], "seconds": None}, given, None, None, 0.0) == []
    record = TrialStore(tmp_path).find(each["fingerprint"])
    assert record["status"] == "failed"
    assert message in record["error"]


def test_a_worker_has_the_code_of_a_priors_parent_too(tmp_path):
    """Which encodes the images, though it is no part of the fingerprint of the prior."""
    parent, store = trial(), TrialStore(tmp_path)
    name = parent.fingerprint(DIGEST)
    prior = Trial("mixture", {}, None, 0, parent=name)
    given = [prior], [prior.fingerprint(DIGEST)], SimpleNamespace(libraries=libraries(), digest=DIGEST), store
    keep(store, name, trial=asdict(parent))
    assert worker.environment_error(*given) is None
    keep(store, name, trial=asdict(replace(parent, seed=1)))  # which has another fingerprint, as with other code
    assert "must have the driver's code" in worker.environment_error(*given)
    store.delete_result(name)
    assert worker.environment_error(*given) is None, "that its parent is lost is said where it is loaded"


IMPORT = """
import sys
from latentmill.trials.trial import code, code_files, import_code
import_code("priors", "flow")
files = {getattr(module, "__file__", None) for module in sys.modules.values()}
print([str(path) for path in code_files("priors", "flow") if str(path) not in files])
"""


def test_what_is_digested_is_imported_before_so_that_a_later_edit_has_no_effect():
    done = subprocess.run([sys.executable, "-c", IMPORT], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_a_record_in_another_trials_place_counts_as_none(tmp_path):
    notes = []
    store = TrialStore(tmp_path, notes.append)
    for name in ("1" * 16, "2" * 16):
        keep(store, name)
    (tmp_path / ("1" * 16)).rename(tmp_path / "kept")
    (tmp_path / ("2" * 16)).rename(tmp_path / ("1" * 16))
    assert store.find("1" * 16) is None
    assert "must be the record of that trial, but is that of 2222222222222222" in notes[0]
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="must be the record of that trial"):
        store.fetch(record("1" * 16), tmp_path / "out")
