"""Which entry goes out as the champion, and what it is chosen by."""

import numpy as np
import pytest

from latentmill.config import Params, checked
from latentmill.data.batches import as_float
from latentmill.errors import InputError
from latentmill.evaluation.features import PixelFeatures
from latentmill.evaluation.fidelity import frechet_distance, prdc
from latentmill.evaluation.selection import selection_metrics
from latentmill.evaluation.spaces import Space
from latentmill.export.champion import champion


def judged(rule_1="holds", rule_2="holds", **measured):
    verdicts = {"rule_1": {"status": rule_1}, "rule_2": {"status": rule_2}}
    worse = {"normal": {"rule_1": {"status": "broken"}, "rule_2": {"status": "broken"}, "validation": {}}}
    return {"samples": worse | {"mixture": verdicts | {"validation": measured}}, "exported_prior": "mixture"}


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (judged(frechet_distance=2.0), judged(frechet_distance=3.0)),
        (judged(frechet_distance=9.0), judged("broken", frechet_distance=1.0)),
        (judged(frechet_distance=9.0), judged("cannot tell", frechet_distance=1.0)),
        (judged("broken", frechet_distance=9.0), judged("holds", "cannot tell", frechet_distance=1.0)),
        (judged("cannot tell", frechet_distance=9.0), judged("broken", frechet_distance=1.0)),
        (judged("broken", "cannot tell", frechet_distance=9.0), judged(rule_2="broken", frechet_distance=1.0)),
        (judged(frechet_distance=9.0), judged()),
    ],
)
def test_rules_come_before_the_metric_and_rule_2_before_rule_1(better, worse):
    for ladder in ({"a": better, "b": worse}, {"b": worse, "a": better}):
        assert champion(ladder, "frechet_distance", []).entry == "a"


def test_a_share_is_better_where_it_is_larger():
    ladder = {"a": judged(coverage=0.5), "b": judged(coverage=0.7)}
    won = champion(ladder, "coverage", [])
    assert (won.entry, won.value) == ("b", 0.7)
    assert str(won) == "b: rule 1 holds, rule 2 holds, coverage to validation images 0.7"


def test_what_is_equal_goes_by_name():
    assert champion({"b": judged(coverage=0.5), "a": judged(coverage=0.5)}, "coverage", []).entry == "a"


def test_a_copier_wins_only_where_it_may_be_exported():
    copier = {"copier": judged(rule_2="broken", coverage=1.0)}
    with pytest.raises(InputError, match=r"a champion must keep Rule 2 .*, but none of copier does"):
        champion(copier, "coverage", ["another"])
    assert champion(copier, "coverage", ["copier"]).rules == ("holds", "broken")


def test_no_entry_may_have_the_champions_name():
    with pytest.raises(InputError, match="an entry must not be called champion"):
        checked(Params, {"ladder": {"champion": {}}}, "params.yaml")


def test_it_is_chosen_by_validation_images(digits):
    train, val, test = digits[:300], as_float(digits[300:400]), as_float(digits[400:])
    space = Space(PixelFeatures.fit(train), as_float(train), test, seed=0)
    found = selection_metrics(test, val, [space])
    ours, theirs = space.features(test[:100]), space.features(val)
    assert found["space"] == "pixels"
    assert found["frechet_distance"] == pytest.approx(frechet_distance(ours, theirs))
    assert found["coverage"] == prdc(ours, theirs).coverage
    noise = np.random.default_rng(0).random(test.shape, dtype=np.float32)
    assert selection_metrics(noise, val, [space])["frechet_distance"] > 2 * found["frechet_distance"]
    assert selection_metrics(test, val[:3], [space]) == {}
    assert selection_metrics(test, val, []) == {}
