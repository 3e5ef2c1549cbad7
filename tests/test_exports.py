"""The stages export, publish and champion: what is written anew, what stays as it is, and what goes."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import prepared_sets
import pytest
import torch
from exported import SAMPLES, VERDICT
from onnxruntime.capi.onnxruntime_pybind11_state import Fail
from ruamel.yaml import YAML
from sites import ROOT

from latentmill import Decoder, registry
from latentmill.errors import InputError
from latentmill.export import entry, inputs, latency
from latentmill.trials import trained_model
from latentmill.trials.code import imported_files

SHAPE = (1, 8, 8)
COPIER = SAMPLES | {"rule_2": VERDICT | {"status": "fail"}}
LADDER = {"naive_bayes": {}, "other": {"model": "naive_bayes", "pseudocount": 2.0}}
SECTIONS = {"data": {"source": "digits"}, "trial": {}, "priors": {}, "train": {}, "evaluation": {}, "export": {}}
Stamps = dict[str, tuple[int, int]]


class Project:
    """A folder that the stages before have left what they do, of models that learned nothing."""

    def __init__(self, root: Path, stage) -> None:
        self.root, self.stage = root, stage
        images = np.random.default_rng(0).integers(0, 256, (60, *SHAPE), dtype=np.uint8)
        splits = {"train": images[:40], "val": images[40:50], "test": images[50:]}
        prepared_sets.write(root / "data/prepared", splits, {"train": np.arange(40) % 2, "val": np.arange(10) % 2})
        self.metrics = {name: {"samples": {"own": SAMPLES}, "exported_prior": "own"} for name in LADDER}
        for name in LADDER:
            self.put_model(name)
        self.write_params()
        (root / "exports").mkdir()
        (root / "exports/README.md").write_text("read me")

    def put_model(self, name: str, seed: int = 0) -> None:
        config = {key: value for key, value in LADDER[name].items() if key != "model"}
        torch.manual_seed(seed)
        model = registry.build("models", "naive_bayes", config, SHAPE)
        model.thresholds.normal_()
        self.save("models", name, "naive_bayes", model, config)
        self.evaluate()

    def put_coded(self, name: str, *priors: str) -> None:
        """In place of an entry's model one with codes, and priors of these."""
        config, digest = {"latent": 2, "hidden": 8}, {}
        for prior in ("", *priors):
            family = "priors" if prior else "models"
            model = registry.build(family, prior or "vae", {} if prior else config, (2,) if prior else SHAPE)
            where = f"{name}/priors/{prior}" if prior else name
            self.save("models", where, prior or "vae", model, {} if prior else config, parent=prior and "f", **digest)
            digest = digest or {"parent_weights_sha256": self.record(name)["weights_sha256"]}
        self.evaluate()

    def save(self, root: str, where: str, name: str, model, config, parent="", **more) -> None:
        folder, full = self.root / root / where, model.Config.model_validate(config).model_dump()
        trial = {"model": name, "config": full, "parent": parent or None}
        record = {"trial": trial, "shape": list(model.shape), "classes": 0, "fingerprint": "f", "data_digest": "d"}
        folder.mkdir(parents=True, exist_ok=True)
        trained_model.save(folder, model, record | more)

    def record(self, where: str) -> dict:
        return json.loads((self.root / "models" / where / "trial.json").read_text())

    def write_metrics(self) -> None:
        folder = self.root / "evaluation/entries"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name, metrics in self.metrics.items():
            (folder / f"{name}.json").write_text(json.dumps(self.present_weights(name) | metrics))

    def present_weights(self, name: str) -> dict[str, str]:
        if not (self.root / "models" / name / "trial.json").exists():
            return {}
        return {"weights": trained_model.weights_digest(self.root / "models" / name)}

    def evaluate(self) -> None:
        """Have the metrics be of the present weights."""
        for name in self.metrics:
            self.metrics[name] |= self.present_weights(name)
        self.write_metrics()

    def write_params(self, ladder=LADDER, **export) -> None:
        YAML().dump(SECTIONS | {"ladder": ladder, "export": export}, self.root / "params.yaml")

    def export(self) -> None:
        self.stage("export").main()

    def stamps(self, name: str) -> Stamps:
        """The files of a folder of graphs, and when they were written."""
        files = sorted((self.root / "graphs" / name).iterdir())
        return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}

    def refusal(self, name: str) -> dict:
        return json.loads((self.root / "graphs" / name / "refused.json").read_text())


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Latencies are measured once."""
    monkeypatch.setattr(latency, "SECONDS", 0)
    monkeypatch.setattr(latency, "LEAST", 1)


@pytest.fixture
def project(stage, tmp_path):
    return Project(tmp_path, stage)


@pytest.fixture(scope="module")
def graphs(tmp_path_factory):
    """Where what is exported of the unchanged project is kept for all tests."""
    return tmp_path_factory.mktemp("kept") / "graphs"


@pytest.fixture
def exported(project, graphs):
    if not graphs.exists():
        project.export()
        shutil.copytree(project.root / "graphs", graphs)
    shutil.copytree(graphs, project.root / "graphs", dirs_exist_ok=True)
    return project


def test_what_is_unchanged_is_not_written_anew_and_does_not_wait_for_torch(exported):
    before = {name: exported.stamps(name) for name in LADDER}
    assert set(before["naive_bayes"]) == {"generator.onnx", "card.json", "card.md", "manifest.json"}
    run = f"import runpy, sys; runpy.run_path({str(ROOT / 'pipeline/export.py')!r}, run_name='__main__'); "
    done = subprocess.run(
        [sys.executable, "-c", run + "print({'torch', 'onnx', 'onnxscript'} & set(sys.modules))"],
        cwd=exported.root,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        text=True,
        stdout=subprocess.PIPE,
    )
    assert done.stdout.splitlines() == ["2 of 2 exports are up to date", "set()"]
    assert {name: exported.stamps(name) for name in LADDER} == before


def change_weights(project):
    project.put_model("naive_bayes", seed=1)


def change_metrics(project):
    project.metrics["naive_bayes"]["likelihood"] = None
    project.write_metrics()


def change_permission(project):
    project.write_params(allow_failing=["naive_bayes"])


def damage(project):
    (project.root / "graphs/naive_bayes/generator.onnx").write_bytes(b"other")


def add_file(project):
    (project.root / "graphs/naive_bayes/notes.txt").write_text("mine")


@pytest.mark.parametrize("change", [change_weights, change_metrics, change_permission, damage, add_file])
def test_what_changed_is_written_anew_and_nothing_else(exported, change):
    other, before = exported.stamps("other"), exported.stamps("naive_bayes")
    change(exported)
    exported.export()
    after = exported.stamps("naive_bayes")
    assert set(after) == set(before)
    assert not set(after.values()) & set(before.values())
    assert exported.stamps("other") == other
    Decoder(exported.root / "graphs/naive_bayes").sample(2, seed=0)


def change_labels(project, monkeypatch):
    np.save(project.root / "data/prepared/train_labels.npy", np.arange(40) % 3)


def change_formats(project, monkeypatch):
    project.write_params(formats={"fp16": 0.1})


def change_library(project, monkeypatch):
    monkeypatch.setattr(inputs, "version", lambda name: "9.9")


def change_code(project, monkeypatch):
    monkeypatch.setattr(inputs, "digest", lambda files: "of other code")


@pytest.mark.parametrize("change", [change_labels, change_formats, change_library, change_code])
def test_what_all_exports_are_made_from_changes_the_digest_of_each(project, monkeypatch, change):
    before = digests(project)
    change(project, monkeypatch)
    after = digests(project)
    assert all(before[name] != after[name] for name in LADDER)


def test_the_code_that_counts_is_all_that_writes_an_export():
    counted = imported_files(inputs.WRITER)
    left = {path.name for path in inputs.WRITER.parent.glob("*.py") if path not in counted}
    assert left == {"__init__.py", "champion.py", "inputs.py", "outcome.py"}


def change_champion(project):
    project.write_params(champion="coverage")


def change_another_entry(project):
    project.put_model("other", seed=1)
    project.metrics["other"]["likelihood"] = None


@pytest.mark.parametrize("change", [change_champion, change_another_entry])
def test_what_an_export_is_not_made_from_does_not_change_its_digest(project, change):
    before = digests(project)
    change(project)
    assert digests(project)["naive_bayes"] == before["naive_bayes"]


def digests(project) -> dict[str, str]:
    module = project.stage("export")
    params = module.load_params()
    return {name: module.digest_of(name, params, project.metrics) for name in LADDER}


def test_a_damaged_model_costs_no_other_entry_and_keeps_the_export_that_it_had(exported):
    kept, other = exported.stamps("naive_bayes"), exported.stamps("other")
    (exported.root / "models/naive_bayes/model.safetensors").write_bytes(b"damaged")
    exported.put_model("other", seed=1)
    with pytest.raises(InputError, match=r"^models/naive_bayes/model\.safetensors must have the digest that"):
        exported.export()
    assert exported.stamps("naive_bayes") == kept
    assert not set(exported.stamps("other").values()) & set(other.values())


def test_metrics_of_other_weights_do_not_go_into_a_card(exported):
    kept, found = exported.stamps("other"), dict(exported.metrics["other"])
    exported.put_model("other", seed=1)
    exported.metrics["other"] = found
    exported.write_metrics()
    rule = "of other must be of the weights in models/other, but are of others: run `dvc repro evaluate`"
    with pytest.raises(InputError, match=rule):
        exported.export()
    assert exported.stamps("other") == kept


def test_an_export_whose_inputs_change_while_it_is_written_is_not_up_to_date(exported, monkeypatch):
    module, kept = exported.stage("export"), exported.stamps("naive_bayes")
    exported.put_model("other", seed=1)
    first = inputs.digest(imported_files(inputs.WRITER))
    found = iter([first, first])  # of each entry before; later the code is another
    monkeypatch.setattr(inputs, "digest", lambda files: next(found, "of other code"))
    monkeypatch.setattr(module, "is_up_to_date", lambda folder, digest: folder.name == "naive_bayes")
    with pytest.raises(InputError, match="what graphs/other is made of must stay the same meanwhile, but changed"):
        module.export()
    assert not (exported.root / "graphs/other").exists()
    assert exported.stamps("naive_bayes") == kept


def test_an_entry_that_nobody_evaluated_is_an_error_and_no_refusal(project):
    del project.metrics["other"]
    project.write_metrics()
    with pytest.raises(InputError, match="must hold every trained entry, but lack 'other': run `dvc repro evaluate`"):
        project.export()
    assert [path.name for path in (project.root / "graphs").iterdir()] == ["naive_bayes"]


def test_a_refusal_is_an_output_that_stays_until_it_may_be_exported(exported):
    exported.metrics["other"] = exported.metrics["other"] | {"samples": {"own": COPIER}}
    exported.write_metrics()
    exported.export()
    refused = exported.stamps("other")
    assert set(refused) == {"refused.json"}
    assert exported.refusal("other")["rules"] == {"1": "pass", "2": "fail"}
    exported.export()
    assert exported.stamps("other") == refused
    exported.write_params(allow_failing=["other"])
    exported.export()
    assert Decoder(exported.root / "graphs/other").card["warning"].startswith("Fails Rule 2")


@pytest.mark.parametrize("why", ["untrained", "not evaluated"])
def test_an_entry_without_a_model_or_an_evaluation_says_why(project, why):
    if why == "untrained":
        trained_model.save_failure(project.root / "models/other", "other", trained_model.Failure("loss is nan"), [])
    else:
        project.metrics["other"] = {"failed": "loss is nan", "advice": "train it again"}
        project.write_metrics()
    project.export()
    refusal = project.refusal("other")
    assert (refusal["status"], refusal["evidence"]) == ("failed", "loss is nan")
    Decoder(project.root / "graphs/naive_bayes").sample(2, seed=0)


def test_an_export_that_had_too_little_memory_is_tried_again(project, monkeypatch):
    def starve(*given):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:114] . DefaultCPUAllocator: can't allocate memory")

    with monkeypatch.context() as patch:
        patch.setattr(entry, "write_export", starve)
        project.export()
    refusal = project.refusal("other")
    assert (refusal["status"], refusal["advice"]) == ("failed", "to try again, run `dvc repro -f export`")
    assert "can't allocate memory" in refusal["evidence"]
    project.export()
    Decoder(project.root / "graphs/other").sample(2, seed=0)


@pytest.mark.parametrize("raised", [RuntimeError("shapes\ndo not match"), Fail("shapes do not match")])
def test_an_error_in_the_export_of_an_entry_costs_no_other(project, monkeypatch, capfd, raised):
    write = entry.write_export

    def fail(trained, name, *given):
        if name == "naive_bayes":
            raise raised
        return write(trained, name, *given)

    monkeypatch.setattr(entry, "write_export", fail)
    project.export()
    refusal = project.refusal("naive_bayes")
    assert (refusal["status"], refusal["reason"]) == ("failed", "its export must end without an error")
    assert refusal["evidence"] == f"{type(raised).__name__}: shapes do not match"
    assert "Traceback" in capfd.readouterr().err
    Decoder(project.root / "graphs/other").sample(2, seed=0)


def test_a_graph_that_does_not_run_is_a_failure_of_its_entry(project, monkeypatch):
    def fail(*given):
        raise InputError("decoder.int8.onnx must be an intact ONNX file, but is not")

    monkeypatch.setattr(entry, "write_export", fail)
    project.export()
    assert project.refusal("other")["status"] == "failed"
    assert "must be an intact ONNX file" in project.refusal("other")["reason"]


def test_a_full_disk_ends_the_stage(project, monkeypatch):
    def fail(*given):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(entry, "write_export", fail)
    with pytest.raises(OSError, match="No space left"):
        project.export()


def test_folders_of_entries_that_left_the_ladder_go_and_nothing_that_is_the_users(exported, capfd):
    project, root = exported, exported.root
    for name in LADDER:
        project.stage("publish").main(name)
    project.stage("champion").main()
    theirs = {"mine": {"notes.txt": "mine"}, "other_of_may": files(root / "exports/other")}
    for folder, content in theirs.items():
        (root / "exports" / folder).mkdir()
        for name, text in content.items():
            (root / "exports" / folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    project.write_params(ladder={"naive_bayes": {}})
    project.export()
    left = {path.name for path in (root / "exports").iterdir()}
    assert left == {"README.md", "naive_bayes", "champion", *theirs}
    assert [path.name for path in (root / "graphs").iterdir()] == ["naive_bayes"]
    said = capfd.readouterr().out
    assert "exports/other: removed" in said


def test_a_removed_entrys_folder_with_a_file_of_the_users_stays(exported):
    exported.stage("publish").main("other")
    (exported.root / "exports/other/notes.txt").write_text("mine")
    exported.write_params(ladder={"naive_bayes": {}})
    exported.export()
    assert (exported.root / "exports/other/notes.txt").read_text() == "mine"
    assert not (exported.root / "graphs/other").exists()


def test_a_refusal_of_a_removed_entry_goes_too(project):
    project.metrics["other"] = {"failed": "loss is nan"}
    project.write_metrics()
    project.export()
    project.write_params(ladder={"naive_bayes": {}})
    project.export()
    assert [path.name for path in (project.root / "graphs").iterdir()] == ["naive_bayes"]


def under(*priors: str, exported: str) -> dict:
    return {"samples": dict.fromkeys(priors, SAMPLES), "exported_prior": exported}


@pytest.mark.parametrize("exported_prior", [pytest.param("normal", marks=pytest.mark.slow), "mixture"])
def test_the_prior_that_the_evaluation_chose_is_exported(project, exported_prior):
    project.put_coded("other", "normal", "mixture")
    project.metrics["other"] = under("normal", "mixture", exported=exported_prior)
    project.write_metrics()
    project.export()
    card = Decoder(project.root / "graphs/other").card
    assert card["prior_trial"]["model"] == exported_prior
    assert card["prior_trial"]["weights_sha256"] == project.record(f"other/priors/{exported_prior}")["weights_sha256"]
    assert card["noise"]["categorical"] == (exported_prior == "mixture")


def test_a_prior_that_could_not_be_trained_costs_the_others_nothing(project):
    project.put_coded("other", "normal")
    failed = project.root / "models/other/priors/flow"
    failed.mkdir()
    trained_model.save_failure(failed, "other/flow", trained_model.Failure("loss is nan"), [])
    project.metrics["other"] = under("normal", exported="normal")
    project.write_metrics()
    project.export()
    assert Decoder(project.root / "graphs/other").card["prior_trial"]["model"] == "normal"


def test_a_prior_of_other_weights_is_not_exported_with_a_model(project):
    project.put_coded("other", "normal")
    model = registry.build("models", "vae", {"latent": 2, "hidden": 8}, SHAPE)
    project.save("models", "other", "vae", model, {"latent": 2, "hidden": 8})
    project.metrics["other"] = under("normal", exported="normal")
    project.write_metrics()
    with pytest.raises(InputError, match="models/other/priors/normal must be of the weights beside it"):
        project.export()


def test_another_prior_or_the_choice_of_one_changes_the_digest(project):
    project.put_coded("other", "normal")
    project.metrics["other"] = under("normal", exported="normal")
    found = [digests(project)["other"]]
    project.put_coded("other", "normal", "mixture")
    project.metrics["other"] = under("normal", "mixture", exported="normal")
    found.append(digests(project)["other"])
    project.metrics["other"] = under("normal", "mixture", exported="mixture")
    found.append(digests(project)["other"])
    assert len(set(found)) == 3


HALF_WAY = """
import os, runpy, signal, sys
from latentmill.export import writer

steps = iter([writer.measured_on, lambda: os.kill(os.getpid(), signal.SIGKILL)])
writer.measured_on = lambda: next(steps)()  # once an entry, when its graphs are there and its card is not
runpy.run_path(sys.argv[1], run_name="__main__")
"""


@pytest.mark.slow
def test_after_a_kill_half_way_nothing_is_half_written_and_the_next_run_goes_on(exported):
    project = exported
    kept, before = files(project.root / "graphs/other"), project.stamps("naive_bayes")
    project.put_model("naive_bayes", seed=1)
    project.put_model("other", seed=1)
    done = subprocess.run(
        [sys.executable, "-c", HALF_WAY, ROOT / "pipeline/export.py"],
        cwd=project.root,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert files(project.root / "graphs/other") == kept
    written = project.stamps("naive_bayes")
    assert not set(written.values()) & set(before.values())
    assert list((project.root / "graphs").glob(".other.*.partial/generator.onnx"))
    project.export()
    assert {path.name for path in (project.root / "graphs").iterdir()} == set(LADDER)
    assert project.stamps("naive_bayes") == written
    assert files(project.root / "graphs/other") != kept


def test_what_is_published_is_what_was_exported_and_takes_the_place_of_what_was_there(exported):
    target = exported.root / "exports/other"
    target.mkdir()
    (target / "refused.json").write_text("{}")
    exported.stage("publish").main("other")
    assert files(target) == files(exported.root / "graphs/other")


@pytest.mark.parametrize("arguments", [[], ["other", "more"], ["../graphs"], [".."], [""]])
def test_publish_names_the_entries_that_there_are(exported, arguments):
    known = "naive_bayes, other"
    with pytest.raises(InputError, match=f"^publish must have the name of an entry, one of {known}$"):
        exported.stage("publish").chosen(arguments)


def test_publish_says_what_to_run_where_an_entry_is_not_exported(stage):
    publish = stage("publish")
    with pytest.raises(InputError, match=r"^graphs/nope must be there: run `dvc repro export`$"):
        publish.main(publish.chosen(["nope"]))
    with pytest.raises(InputError, match=r"name of an entry, but nothing is exported: run `dvc repro export`$"):
        publish.chosen([])


def test_the_champion_is_the_best_export_and_its_card_says_what_it_was_chosen_by(exported, capfd):
    exported.metrics["other"]["samples"] = {"own": SAMPLES | {"validation": {"frechet_distance": 2.0}}}
    exported.write_metrics()
    exported.export()
    exported.stage("champion").main()
    chosen = "rule 1 pass, rule 2 pass, frechet_distance to validation images 2"
    assert capfd.readouterr().out.splitlines()[-1] == f"exports/champion: other: {chosen}"
    folder, source = exported.root / "exports/champion", exported.root / "graphs/other"
    champion = Decoder(folder)
    assert champion.card == json.loads((source / "card.json").read_text()) | {"chosen": chosen}
    np.testing.assert_array_equal(champion.sample(3, seed=1), Decoder(source).sample(3, seed=1))
    assert f"It is the champion: {chosen}." in (folder / "card.md").read_text()
    assert set(files(folder)) == set(files(source))


def test_where_all_are_refused_the_champion_is_a_refusal(exported, capfd):
    for name in LADDER:
        exported.metrics[name] = {"failed": "loss is nan"}
    exported.write_metrics()
    exported.export()
    exported.stage("champion").main()
    refusal = json.loads((exported.root / "exports/champion/refused.json").read_text())
    assert refusal["evidence"].startswith("naive_bayes: its evaluation failed: loss is nan; other: its evaluation")
    assert capfd.readouterr().out.splitlines()[-1].startswith("exports/champion: refused: no entry could be exported")


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
