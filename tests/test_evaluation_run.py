"""Which tasks the evaluation of a whole ladder starts, and what one that fails costs; test_pipeline.py runs all."""

from dataclasses import dataclass
from typing import Any

import pytest
from conftest import IMAGE_SHAPE
from pairs import untrained_prior

from latentmill.cluster.connection import cluster
from latentmill.config import EvaluationConfig, Settings
from latentmill.contract import Decodes, Encodes, Model
from latentmill.errors import InputError
from latentmill.evaluation import run
from latentmill.evaluation.assembly import assemble, assemble_ceiling, calibrate
from latentmill.evaluation.ceiling import judge_reconstructions
from latentmill.evaluation.entry import EvaluationResult, judge_samples
from latentmill.evaluation.prepared import PreparedData
from latentmill.evaluation.results import MODEL, RECONSTRUCTIONS

USUAL, FEW = 200, 100
CONFIG = EvaluationConfig(samples=USUAL, features=["pixels"])


@dataclass(frozen=True, eq=False)
class Task:
    """What was started, and with what: other tasks among it."""

    function: Any
    arguments: tuple[Any, ...]

    def inner(self, function):
        return [each for each in self.arguments if isinstance(each, Task) and each.function is function]


@pytest.fixture
def started(monkeypatch, digits, labels, trained):
    """The tasks of two entries with the same model, the second of which has fewer samples."""
    tasks: list[Task] = []

    def start(function, *arguments):
        tasks.append(Task(function, arguments))
        return tasks[-1]

    monkeypatch.setattr(run, "start", start)
    monkeypatch.setattr(run, "share", lambda whole: whole)
    monkeypatch.setattr(run, "placed", lambda images, storage: images)
    parts = (slice(440), slice(440, 500), slice(500, 600))
    data = PreparedData(*(digits[part] for part in parts), *(labels[part] for part in parts))
    model, _ = trained("ppca", {"latent": 3})
    models = {name: (model, untrained_prior(model)) for name in ("usual", "few")}
    run.Evaluation(models, data, CONFIG, None, {"few": FEW})
    return tasks


def test_an_entry_with_fewer_samples_has_a_judge_with_controls_as_small(started):
    usual, few = [task for task in started if task.function is judge_samples]
    for task, samples in ((usual, USUAL), (few, FEW)):
        (judge,) = task.inner(assemble)
        config = CONFIG.model_copy(update={"samples": samples})
        assert task.arguments[-2:] == (config, FEW), "as many of both are compared with the validation images"
        assert samples in judge.arguments
        assert [each.arguments[-2] for each in judge.inner(calibrate)] == [samples, samples], "of both rules"
    assert sum(task.function is assemble for task in started) == 2


def test_reconstructions_have_one_judge_whatever_the_number_of_samples(started):
    judges = [task.inner(assemble_ceiling) for task in started if task.function is judge_reconstructions]
    assert len(judges) == 2
    assert judges[0] == judges[1]
    assert {each.arguments[-2] for each in judges[0][0].inner(calibrate)} == {USUAL}


def broken_model():
    """Of a class that is local, so that workers get it by value, because they do not see this file."""

    class Broken(Model, Encodes, Decodes):
        """Its codes are the images themselves, of which it decodes none."""

        code_shape = IMAGE_SHAPE

        def encode(self, images, label=None):
            return images

        def decode(self, z, label=None):
            raise IndexError("index 3 is out of bounds\nfor dimension 0")

    return Broken(Settings(), IMAGE_SHAPE)


@pytest.mark.slow
def test_an_error_of_one_entry_costs_no_other_entry(digits, trained, monkeypatch, capfd):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    parts = (slice(60), slice(60, 90), slice(90, 120))
    data = PreparedData(*(digits[part] for part in parts), None, None, None)
    models = {"broken": (broken_model(), {}), "naive_bayes": (trained("naive_bayes", {})[0], {})}
    with cluster(1):
        results = run.Evaluation(models, data, EvaluationConfig(samples=20, features=["pixels"]), None).results()
        found = {(entry, prior): each for entry, prior, each in results}
    failed = {key for key, each in found.items() if isinstance(each, InputError)}
    assert failed == {("broken", MODEL), ("broken", RECONSTRUCTIONS)}
    assert {str(found[key]) for key in failed} == {"IndexError: index 3 is out of bounds for dimension 0"}
    assert isinstance(found["naive_bayes", "own"], EvaluationResult)
    assert 'raise IndexError("index 3 is out of bounds' in capfd.readouterr().out, "the traceback"
