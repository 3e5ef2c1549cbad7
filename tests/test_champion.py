"""Which entry goes out as the champion, and what it is chosen by."""

import errno
import shutil

import numpy as np
import pytest
import tiny

from latentmill.config import Params, checked
from latentmill.data.batches import as_float
from latentmill.errors import InputError
from latentmill.evaluation.fidelity import prdc
from latentmill.evaluation.selection import selection_metrics
from latentmill.evaluation.spaces import FidelitySpace
from latentmill.export.champion import appoint, no_champion, ranked
from latentmill.export.outcome import ExportOutcome
from latentmill.features.distances import frechet_distance
from latentmill.features.spaces import PixelFeatures


def judged(rule_1="pass", rule_2="pass", **measured):
    verdicts = {f"rule_{rule}": {"status": status, "evidence": ""} for rule, status in ((1, rule_1), (2, rule_2))}
    worse = {"normal": {"rule_1": {"status": "fail"}, "rule_2": {"status": "fail"}, "validation": {}}}
    return {"samples": worse | {"mixture": verdicts | {"validation": measured}}, "exported_prior": "mixture"}


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (judged(frechet_distance=2.0), judged(frechet_distance=3.0)),
        (judged(frechet_distance=9.0), judged("fail", frechet_distance=1.0)),
        (judged(frechet_distance=9.0), judged("inconclusive", frechet_distance=1.0)),
        (judged("fail", frechet_distance=9.0), judged("pass", "inconclusive", frechet_distance=1.0)),
        (judged("inconclusive", frechet_distance=9.0), judged("fail", frechet_distance=1.0)),
        (judged("fail", "inconclusive", frechet_distance=9.0), judged(rule_2="fail", frechet_distance=1.0)),
        (judged(frechet_distance=9.0), judged()),
        (judged(), judged("inconclusive", frechet_distance=1.0)),
    ],
)
def test_rules_come_before_the_metric_and_rule_2_before_rule_1(better, worse):
    for ladder in ({"a": better, "b": worse}, {"b": worse, "a": better}):
        assert ranked(ladder, "frechet_distance")[0].entry == "a"


def test_a_share_is_better_where_it_is_larger():
    ladder = {"a": judged(coverage=0.5), "b": judged(coverage=0.7)}
    won, _ = ranked(ladder, "coverage")
    assert (won.entry, won.value) == ("b", 0.7)
    assert str(won) == "b: rule 1 pass, rule 2 pass, coverage to validation images 0.7"


def test_what_is_equal_goes_by_name():
    found = ranked({"b": judged(coverage=0.5), "a": judged(coverage=0.5)}, "coverage")
    assert [each.entry for each in found] == ["a", "b"]


def test_too_few_images_for_the_metric_are_no_reason_to_choose_none():
    unsure = judged("inconclusive", "inconclusive")
    won, *_ = ranked({"b": unsure, "a": unsure, "c": judged("fail", "inconclusive")}, "coverage")
    assert won.entry == "a"
    assert won.chosen.startswith("rule 1 inconclusive, rule 2 inconclusive, ")


def test_where_no_entry_is_exported_the_refusal_gives_the_reason_of_each():
    outcomes = [
        ExportOutcome("untrained", "failed", "no trial ended with a model: loss is nan", "train it again", {}, {}),
        ExportOutcome("copier", "refused", "its samples are copies of training images", "", {"2": "fail"}, {}),
    ]
    why = no_champion(outcomes)
    assert why.reason == "no entry could be exported"
    assert why.evidence == (
        "untrained: no trial ended with a model: loss is nan; train it again; "
        "copier: its samples are copies of training images"
    )


def test_no_entry_may_have_the_champions_name():
    with pytest.raises(InputError, match="an entry must not be called champion"):
        checked(Params, {"ladder": {"champion": {}}}, "params.yaml")


def test_it_is_chosen_by_validation_images(digits):
    train, val, test = digits[:300], as_float(digits[300:400]), as_float(digits[400:])
    space = FidelitySpace(PixelFeatures.fit(train), test, seed=0)
    found = selection_metrics(test, val, [space], seed=0)
    ours, theirs = space.features(test[:100]), space.features(val)
    assert found["space"] == "pixels"
    assert found["frechet_distance"] == pytest.approx(frechet_distance(ours, theirs))
    assert found["coverage"] == prdc(ours, theirs).coverage
    noise = np.random.default_rng(0).random(test.shape, dtype=np.float32)
    assert selection_metrics(noise, val, [space], seed=0)["frechet_distance"] > 2 * found["frechet_distance"]
    assert found["images"] == 100
    fewer = selection_metrics(test, val, [space], seed=0, most=60)
    assert (fewer["images"], fewer) == (60, selection_metrics(test[:60], val, [space], seed=0))
    assert selection_metrics(test, val[:3], [space], seed=0) == {}
    assert selection_metrics(test, val, [], seed=0) == {}


def test_a_full_disk_is_the_systems_error_which_a_command_says_in_a_line(tmp_path, monkeypatch):
    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    tiny.write(tmp_path / "exports" / "tiny")
    (tmp_path / "champion").mkdir()
    (candidate,) = ranked({"tiny": judged(frechet_distance=1.0)}, "frechet_distance")
    monkeypatch.setattr(shutil, "copy2", full)
    with pytest.raises(OSError, match="No space left") as raised:
        appoint(candidate, tmp_path / "exports", tmp_path / "champion")
    assert raised.value.errno == errno.ENOSPC
