"""The stages' own code: who becomes a winner, what is tried again, and that none is silent for long."""

import time
from types import SimpleNamespace

import pytest
from test_results import outcome

from latentmill import heartbeat, registry
from latentmill.cluster.tasks import TooLittleMemoryError
from latentmill.errors import InputError
from latentmill.evaluation.run import Evaluation
from latentmill.heartbeat import TimeLeft
from latentmill.trials.record import record_bytes
from latentmill.trials.trained_model import Failure, failure, load, save_failure


class Plan:
    """What the stage train looks at of a plan whose trials have ended."""

    def __init__(self, *given):
        self.tried, self.planned = given, [each.planned for each in given]
        self.records = {each.planned.fingerprint: each.record for each in given}
        self.store, self.data_digest = self, "a" * 64

    def untrained_priors(self, winner):
        return []

    def fetch(self, record, folder):
        (found,) = (each.planned.fingerprint for each in self.tried if each.record is record)
        (folder / "trial.json").write_text(found)


def test_winners_stand_in_their_folders_and_their_priors_below_them(stage, tmp_path, capfd):
    tried = [outcome("a", "1", 2.0), outcome("a", "2", 1.0), outcome("a/flow", "3", 5.0), outcome("b", "4", 1.0)]
    stage("train").write(Plan(*tried, outcome("b/flow", "5", error="x")))
    found = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("trial.json")}
    assert found == {"models/a/trial.json": "2", "models/a/priors/flow/trial.json": "3", "models/b/trial.json": "4"}
    assert failure(tmp_path / "models/b") is None
    assert failure(tmp_path / "models/b/priors/flow").reason == "x"
    rows = [line.split(",") for line in (tmp_path / "trials.csv").read_text().splitlines()]
    assert [row[2] for row in rows if row[6] == "yes"] == ["2", "3", "4"]
    assert {line.split(",")[1] for line in (tmp_path / "curves.csv").read_text().splitlines()[1:]} == {"2", "3", "4"}
    assert "models/b/priors/flow: failed: x" in capfd.readouterr().out


def test_a_model_that_was_never_trained_says_what_to_run(tmp_path):
    said = r"models/a must hold .* but reading trial.json: No such file or directory; run `dvc repro train`$"
    with pytest.raises(InputError, match=said):
        load(tmp_path / "models/a")


def test_an_entry_that_had_too_little_memory_says_how_to_try_again(stage, tmp_path, capfd):
    starved = outcome("a", "1", error="little memory", status="out of memory")
    stage("train").write(Plan(starved, outcome("b", "9", 1.0)))
    assert failure(tmp_path / "models/a").advice == "to try again, run `dvc repro -f train`"
    assert "models/a: failed: little memory; to try again, run `dvc repro -f train`" in capfd.readouterr().out


def test_a_model_that_draws_by_itself_needs_no_prior_that_could_be_trained(stage, tmp_path, capfd):
    evaluate, folder = stage("evaluate"), tmp_path / "models/own/priors/flow"
    folder.mkdir(parents=True)
    save_failure(folder, "own/flow", Failure("diverged"), [])
    (tmp_path / "models/own/trial.json").write_bytes(record_bytes({"weights_sha256": "0"}))
    shape = (1, 8, 8)
    assert evaluate.priors_of("own", registry.build("models", "vamp_vae", {}, shape, 0)) == {}
    assert "own: the prior flow failed: diverged" in capfd.readouterr().out
    with pytest.raises(evaluate.NoPriorError, match="prior flow: diverged"):
        evaluate.priors_of("own", registry.build("models", "vae", {}, shape, 0))


def test_an_evaluation_that_had_too_little_memory_says_how_to_try_again(stage):
    evaluation_failure = stage("evaluate").evaluation_failure
    assert evaluation_failure(TooLittleMemoryError("x")) == Failure("x", "to try again, run `dvc repro -f evaluate`")
    assert evaluation_failure(InputError("latent values must be finite")) == Failure("latent values must be finite")


@pytest.fixture
def brief_silence(monkeypatch):
    monkeypatch.setattr(heartbeat, "SILENCE", 0.1)
    heartbeat.mark_printed()


def slow(answer):
    """Any function, but that it takes a while."""

    def function(*arguments, **named):
        time.sleep(0.3)
        return answer

    return function


def test_a_slow_report_says_that_it_goes_on(stage, monkeypatch, capfd, brief_silence, tmp_path):
    report = stage("report")
    monkeypatch.setattr(report, "load_params", lambda: SimpleNamespace(train=SimpleNamespace(loggers=[])))
    monkeypatch.setattr(report, "read_inputs", slow(None))
    monkeypatch.setattr(report, "render", slow("<p>"))
    report.main()
    lines = capfd.readouterr().out.splitlines()
    assert len([line for line in lines if line.startswith("making the report (0.")]) >= 2
    assert lines[-1] == "report/index.html: 0.0 MB"
    assert (tmp_path / "report/index.html").read_text() == "<p>"


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff\xfe", b"[" * 10_000])
def test_a_damaged_evaluation_ends_the_export_in_a_line(stage, monkeypatch, tmp_path, content):
    export = stage("export")
    monkeypatch.setattr(export, "load_params", lambda: None)
    (tmp_path / "evaluation/entries").mkdir(parents=True)
    (tmp_path / "evaluation/entries/vae.json").write_bytes(content)
    with pytest.raises(InputError, match=r"evaluation/entries/vae.json must .*; run `dvc repro evaluate`"):
        export.export()


def test_an_evaluation_tells_when_it_will_end_once_enough_is_done():
    running = Evaluation.__new__(Evaluation)
    running._started, running._left = time.monotonic() - 30, TimeLeft()
    running._names, running._ended = dict.fromkeys(range(10), "controls"), {0}
    assert "left" not in running.status()
    running._ended = set(range(5))
    assert running.status() == "[5/10] evaluating for 30 s, about 30 s left: controls; controls"
