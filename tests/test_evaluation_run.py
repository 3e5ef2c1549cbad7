"""Which tasks the evaluation of a whole ladder starts; test_pipeline.py runs them, on Ray."""

from dataclasses import dataclass
from typing import Any

import pytest
from pairs import untrained_prior

from latentmill.config import EvaluationConfig
from latentmill.evaluation import run
from latentmill.evaluation.assembly import assemble, assemble_ceiling, calibrate
from latentmill.evaluation.ceiling import judge_reconstructions
from latentmill.evaluation.entry import judge_samples
from latentmill.evaluation.prepared import PreparedData

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
