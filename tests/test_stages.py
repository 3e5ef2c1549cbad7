"""The stages' own code: who becomes a winner, what is tried again, and that none is silent for long."""

import time

import pytest
from test_results import outcome

from latentmill import heartbeat
from latentmill.cluster.tasks import TooLittleMemoryError
from latentmill.errors import InputError
from latentmill.trials.running import UnfitError
from latentmill.trials.trained_model import Failure, failure


@pytest.fixture
def train(stage, monkeypatch):
    """The stage train, in which of some trials, by fingerprint, priors can't be fitted."""
    module = stage("train")

    def bring_home(store, fingerprint, folder, images, val):
        if fingerprint in module.unfit:
            raise UnfitError(f"components must be fewer, but got {fingerprint}")
        (folder / "trial.json").write_text(fingerprint)

    def tried(*given):
        return [each for each in given if each.record.setdefault("fingerprint", each.planned.fingerprint)]

    monkeypatch.setattr(module, "bring_home", bring_home)
    monkeypatch.setattr(module, "read_split", lambda folder, split: None)
    monkeypatch.setattr(module, "Batches", lambda images: images)
    module.tried = tried
    return module


def test_where_the_winners_priors_cannot_be_fitted_the_next_in_rank_wins(train, tmp_path, capfd):
    train.unfit = {"1", "2"}
    tried = train.tried(*(outcome("a", str(number), float(number)) for number in (1, 2, 3, 4)))
    train.write(tried, store=None)
    assert (tmp_path / "models/a/trial.json").read_text() == "3"
    winners = [line.split(",")[1] for line in (tmp_path / "trials.csv").read_text().splitlines() if ",yes," in line]
    assert winners == ["3"]
    assert {line.split(",")[1] for line in (tmp_path / "curves.csv").read_text().splitlines()[1:]} == {"3"}
    assert "models/a: a is passed over: components must be fewer, but got 1" in capfd.readouterr().out


def test_an_entry_whose_priors_can_never_be_fitted_has_no_winner_in_any_table(train, tmp_path):
    train.unfit = {"1", "2"}
    train.write(train.tried(outcome("a", "1", 1.0), outcome("a", "2", 2.0), outcome("b", "9", 1.0)), store=None)
    why = "components must be fewer, but got 1; components must be fewer, but got 2"
    assert failure(tmp_path / "models/a") == Failure(why)
    assert failure(tmp_path / "models/b") is None
    winners = [line.split(",")[0] for line in (tmp_path / "trials.csv").read_text().splitlines() if ",yes," in line]
    assert winners == ["b"]
    assert "\na," not in (tmp_path / "curves.csv").read_text()


def test_an_entry_that_had_too_little_memory_says_how_to_try_again(train, tmp_path, capfd):
    starved = outcome("a", "1", error="little memory", status="out of memory")
    train.unfit = set()
    train.write(train.tried(starved, outcome("b", "9", 1.0)), store=None)
    assert failure(tmp_path / "models/a").advice == "to try again, run `dvc repro -f train`"
    assert "models/a: failed: little memory; to try again, run `dvc repro -f train`" in capfd.readouterr().out


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
    monkeypatch.setattr(report, "load_params", lambda: None)
    monkeypatch.setattr(report, "read_inputs", slow(None))
    monkeypatch.setattr(report, "render", slow("<p>"))
    report.main()
    lines = capfd.readouterr().out.splitlines()
    assert len([line for line in lines if line.startswith("making the report (0.")]) >= 2
    assert lines[-1] == "report/index.html: 0.0 MB"
    assert (tmp_path / "report/index.html").read_text() == "<p>"
