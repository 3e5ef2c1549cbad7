"""Scores as damage to real images, read off curves of graded controls; the limits of passing are such damages."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import latentmill
from latentmill.config import LimitsConfig
from latentmill.data.batches import as_float
from latentmill.errors import InputError
from latentmill.evaluation import controls, corruptions
from latentmill.evaluation.assembly import calibrate, choose_pool, fit
from latentmill.evaluation.damage import BLENDED, BLUR, COPIED, LOST, NOISE, DamageCurve, EquivalentDamage, phrase
from latentmill.evaluation.judge import Judge
from latentmill.evaluation.metrics import RULES
from latentmill.evaluation.prepared import PreparedData
from latentmill.evaluation.verdict import INTERVAL, Estimate
from latentmill.judging.command import _limit, _say
from latentmill.report.calibration import limits

SAMPLES = 120
USUAL, STRICT = LimitsConfig(blur=0.5), LimitsConfig(blur=0.375, independent=0.3, lost=0.8)
METRICS = {  # of each rule: the others take longer
    1: ("precision, recall, density, coverage", "C2ST accuracy", "rarest group"),
    2: ("near copies", "exact copies"),
}


@pytest.fixture(scope="module")
def digits(shuffled_digits):
    return shuffled_digits


@pytest.fixture(scope="module")
def data(digits):
    parts = (slice(1000), slice(1000, 1300), slice(1300, 1500))
    return PreparedData(*(each[part] for each in digits for part in parts))


@pytest.fixture(scope="module")
def new(digits):
    return as_float(digits[0][1500:])


@pytest.fixture(scope="module")
def made(data):
    """Calibrations in pixels alone, by rule and limits."""
    pool = choose_pool(data, 0)
    pixels = fit("pixels", True, data, pool, 0)
    cases = ((1, USUAL), (1, STRICT), (2, USUAL))
    with pytest.MonkeyPatch.context() as patch:
        for rule, names in METRICS.items():
            patch.setitem(RULES, rule, {name: RULES[rule][name] for name in names})
        found = {(rule, limits): calibrate(rule, pixels, data, pool, 0, SAMPLES, limits) for rule, limits in cases}
    return SimpleNamespace(draws=pool.draws(SAMPLES), found=found)


def judge_of(made, limits):
    found = made.found[1, limits]
    return Judge([found.space], [], found.calibrations, made.draws, curves=found.curves)


# What a score is equivalent to


def curve(kind, metric, levels, values, rule=1):
    return DamageCurve(rule, kind, metric, "pixels", 120, levels, values, 0.01)


def test_damage_is_read_off_a_curve_that_rises_or_falls():
    rising = curve(BLUR, "C2ST accuracy", (0.0, 1.0, 2.0), (0.5, 0.5, 0.9))
    falling = curve(LOST, "rarest group", (0.0, 0.5, 1.0), (0.9, 0.5, 0.1))
    assert [falling.damage(value) for value in (1, 0.9, 0.7, 0.1, 0)] == pytest.approx([0, 0, 0.25, 1, 1])
    assert [rising.damage(value) for value in (0.4, 0.5, 0.7, 1)] == pytest.approx([0, 0, 1, 2])
    found = EquivalentDamage.read_off(falling, Estimate(0.7, 0.03, None))
    assert (found.damage, found.value) == (pytest.approx(0.25), 0.7)
    assert found.high - found.low == pytest.approx(2 * INTERVAL * np.hypot(0.03, 0.01) / 0.8)
    assert found.low < found.damage < found.high


def test_a_curve_is_informative_if_the_greatest_damage_is_surely_told():
    assert curve(BLUR, "C2ST accuracy", (0.0, 2.0), (0.5, 0.6)).is_informative
    assert not curve(BLUR, "C2ST accuracy", (0.0, 2.0), (0.5, 0.53)).is_informative


def damaged(kind, damage, low, high, rule=1, last=2.0):
    return EquivalentDamage(curve(kind, "", (0.0, last), (0.0, 1.0), rule), 0.5, damage, low, high)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (damaged(BLUR, 0.61, 0.4, 0.8), "blurred by 0.61 px (0.4 to 0.8)"),
        (damaged(BLUR, 0.0, 0.0, 0.3), "blurred by 0 to 0.3 px"),
        (damaged(BLUR, 2.0, 1.8, 2.0), "blurred by 2 px or more"),
        (damaged(NOISE, 0.125, 0.1, 0.2), "of which 12 % (10 to 20) are replaced by independent pixels"),
        (damaged(LOST, 1.0, 0.9, 1.0, last=1.0), "without 100 % of a class or cluster"),
        (damaged(COPIED, 0.0, 0.0, 0.0, 2, 1.0), "with 0 % copies"),
    ],
)
def test_damage_is_told_in_words(found, words):
    assert found.words == words


def test_the_phrase_tells_the_worst_of_each_kind_that_is_sure():
    blurs = [damaged(BLUR, 0.3, 0.2, 0.4), damaged(BLUR, 0.5, 0.4, 0.6)]
    lost = damaged(LOST, 0.3, 0.1, 0.4, last=1.0)
    blur = "real images blurred by 0.5 px (0.4 to 0.6)"
    assert phrase(1, [*blurs, damaged(NOISE, 0.9, 0.8, 1)]) == blur
    assert phrase(1, [lost, *blurs]) == f"{blur}, without 30 % (10 to 40) of a class or cluster"
    assert phrase(1, [damaged(BLUR, 0.3, 0.0, 0.4)]) == "undamaged real images"
    assert phrase(2, [damaged(COPIED, 0.03, 0.01, 0.05, 2, 1.0)]) == "new images with 3 % (1 to 5) copies"
    assert phrase(2, []) == ""


# Curves


def test_each_kind_of_damage_has_a_curve_from_real_images_to_the_whole(made):
    curves = {each.kind: each for each in made.found[1, USUAL].curves}
    assert set(curves) == {BLUR, NOISE, BLENDED, LOST}
    for kind, each in curves.items():
        assert each.levels[0] == 0
        rising = 1 if kind != LOST else -1
        assert (rising * np.diff(each.values) >= 0).all(), "damage is never better than less of it"
    assert curves[BLUR].levels[-1] == 1.0, "twice the usual blur of 0.5 px"
    assert curves[BLUR].values[0] == pytest.approx(0.5, abs=0.05)
    assert curves[BLUR].values[-1] > 0.95
    assert curves[LOST].values[-1] == 0


def test_controls_whose_values_are_known_are_levels_of_the_curves(made):
    found = made.found[1, USUAL]
    known = {each.metric: {control.name: control.mean for control in each.controls} for each in found.calibrations}
    (noise,) = (each for each in found.curves if each.kind == NOISE)
    assert noise.values[-1] == pytest.approx(known["C2ST accuracy"]["independent pixels"])


def test_the_share_of_near_copies_is_that_of_copies(made):
    (found,) = made.found[2, USUAL].curves
    assert (found.kind, found.metric) == (COPIED, "near copies")
    assert found.values == pytest.approx(found.levels, abs=0.03)


def test_blurred_samples_score_like_real_images_with_that_blur(made, new):
    judge = judge_of(made, USUAL)
    found = judge.judge(gaussian_filter(new, (0, 0, 0.4, 0.4)), rules=(1,)).metrics()
    blur = found["metrics"]["pixels"]["C2ST accuracy"]["damage"][BLUR]
    assert blur["low"] <= 0.4 <= blur["high"]
    assert 0.2 < blur["low"] < blur["high"] < 1
    assert found["rule_1"]["equivalent_damage"].startswith("real images blurred by 0.")
    assert judge.judge(new, rules=(1,)).metrics()["rule_1"]["equivalent_damage"] == "undamaged real images"


def test_estimates_of_other_sizes_have_no_equivalent_damage(made, new):
    found = made.found[1, USUAL]
    others = [DamageCurve(**{**vars(each), "size": 60}) for each in found.curves]
    judge = Judge([found.space], [], found.calibrations, made.draws, curves=others)
    assert judge.judge(new, rules=(1,)).damages == []


# Limits


def names(found):
    return [each.name for each in found.controls if not each.positive]


def test_a_stricter_limit_adds_controls_of_that_strength(digits):
    images, labels = digits[0][:300], digits[1][:300]
    usual = ["blurred", "independent pixels", "one class dropped"]
    assert names(controls.rule_1_controls(images, labels, "class", 0, USUAL)) == usual
    strict = controls.rule_1_controls(images, labels, "class", 0, STRICT)
    added = ["blurred by 0.375 px", "30 % independent pixels", "80 % of one class dropped"]
    assert names(strict) == usual + added
    real = {row.tobytes() for row in as_float(images)}
    mixed = strict.images("30 % independent pixels", np.random.default_rng(0), 100)
    assert sum(row.tobytes() in real for row in mixed) == 70
    rule_2 = controls.rule_2_controls(images, labels, images, 0, LimitsConfig(copies=0.02, noisy_copies=0.1))
    assert names(rule_2)[2:] == ["2 % training images", "10 % training images with noise"]


def test_a_class_loses_the_share_that_is_set(digits):
    images, labels = digits[0][:400], digits[1][:400]
    made = controls.rule_1_controls(images, labels, "class", 0, STRICT)
    (lost,) = (each for each in made.controls if each.name == "80 % of one class dropped")
    every = [lost.draw(lambda below, count: np.arange(below), 0, turn)[0][1] for turn in range(10)]
    for label, rows in enumerate(every):
        whole, left = np.bincount(labels, minlength=10), np.bincount(labels[rows], minlength=10)
        assert left[label] == round(0.2 * whole[label])
        assert (np.delete(left, label) == np.delete(whole, label)).all()


def test_a_laxer_blur_takes_the_place_of_the_usual_one(digits):
    made = controls.rule_1_controls(digits[0][:50], np.zeros(50), "class", 0, LimitsConfig(blur=2.0))
    assert names(made) == ["independent pixels", "blurred by 2 px"]


def test_a_stricter_limit_makes_no_threshold_laxer_and_some_stricter(made):
    calibrations = (made.found[1, limits].calibrations for limits in (USUAL, STRICT))
    usual, strict = ({each.metric: each for each in found} for found in calibrations)
    gained = set()
    for metric, each in usual.items():
        before, after = each.threshold, strict[metric].threshold
        if before is not None:
            assert each.badness(after) <= each.badness(before)
            gained |= {metric} if after != before else set()
    assert {"C2ST accuracy", "precision"} <= gained


def test_samples_between_two_limits_pass_the_one_and_fail_the_other(made, new):
    pixels = corruptions.independent_pixels(np.rint(new * 255).astype(np.uint8), np.random.default_rng(0), len(new))
    samples = np.random.default_rng(0).permutation(corruptions.mixed(new, pixels, 0.4))
    assert judge_of(made, USUAL).judge(samples, rules=(1,)).verdicts[1].status == "pass"
    found = judge_of(made, STRICT).judge(samples, rules=(1,)).verdicts[1]
    assert (found.status, "precision" in found.evidence) == ("fail", True)


def test_where_a_limit_can_not_be_told_from_real_images_the_verdict_says_how_many_would_be_enough(made, new):
    """Of 80 % of a cluster lost: the rarest cluster of so few images varies too much."""
    found = judge_of(made, STRICT).judge(new, rules=(1,)).verdicts[1]
    assert found.status == "inconclusive"
    assert "no metric separates 80 % of one cluster of pixels dropped from real images" in found.evidence
    assert "images for controls (there are" in found.evidence


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"blur": 0.0}, "limits: blur must be greater than 0, but got 0.0"),
        ({"lost": 1.5}, "limits: lost must be less than or equal to 1, but got 1.5"),
        (
            {"blurr": 1.0},
            "limits: unknown key 'blurr'; the keys here are blur, independent, lost, copies, noisy_copies",
        ),
    ],
)
def test_limits_are_checked(digits, limits, message):
    with pytest.raises(InputError) as raised:
        latentmill.judge(digits[0][:30], digits[0][30:90], digits[0][90:130], limits=limits)
    assert str(raised.value) == message


@pytest.mark.parametrize("text", ["blur", "blur=", "blur=much"])
def test_a_limit_on_the_command_line_is_a_name_and_a_number(text):
    assert _limit("blur=0.5") == ("blur", 0.5)
    with pytest.raises(InputError, match=r"a name and a number, such as blur=0\.5, but got"):
        _limit(text)


@pytest.fixture(scope="module")
def judged(digits):
    """Too few samples for a verdict."""
    return latentmill.judge(digits[0][:18], digits[0][30:230], digits[0][230:330], limits={"blur": 0.3, "lost": 0.8})


def test_the_command_says_what_the_scores_are_equivalent_to(judged, capsys):
    like = "real images blurred by 0.6 px (0.4 to 0.8)"
    rule_1 = judged.record["rule_1"] | {"equivalent_damage": like}
    _say(replace(judged, record=judged.record | {"rule_1": rule_1}), Path("out"))
    assert capsys.readouterr().out.count(f"  The samples score like {like}.\n") == 1


def test_a_judgement_records_its_limits_and_its_page_has_none_without_metrics(judged):
    assert judged.record["calibration"]["limits"] == {
        "blur": 0.3,
        "independent": 1.0,
        "lost": 0.8,
        "copies": 0.05,
        "noisy_copies": 0.2,
    }
    assert "fails for" not in judged.page
    assert "48 held-out images, unselected" in judged.page


@pytest.mark.parametrize("chosen", [USUAL, STRICT, LimitsConfig(blur=2.0, copies=0.125, noisy_copies=0.333)])
def test_the_page_tells_the_limits_whose_controls_are_detected(chosen, digits):
    images, labels = digits[0][:60], digits[1][:60]
    both = {
        "1": controls.rule_1_controls(images, labels, "class", 0, chosen),
        "2": controls.rule_2_controls(images, labels, images, 0, chosen),
    }
    detected = {rule: {each.name: 0.0 for each in found.controls if not each.positive} for rule, found in both.items()}

    rules = {
        rule: {"controls": [{"name": name} for name in names], "metrics": [{"detects": names}]}
        for rule, names in detected.items()
    }
    said = limits({"limits": chosen.model_dump(), "rules": rules})
    assert not any("no metric" in each for each in said.values())
    assert said["1"].startswith(f"fails for a blur of {chosen.blur:.2g} px, independent pixels in ")
    assert "or the loss of " in said["1"]
    assert said["2"].count("training images") == 2


@pytest.mark.slow
def test_blur_and_a_lost_class_are_told_by_their_size(digits):
    images, labels = digits
    train, held_out = ({"images": images[part], "labels": labels[part]} for part in (slice(800), slice(800, 1200)))
    new, kept = images[1200:], labels[1200:] != 3
    found = latentmill.judge(gaussian_filter(as_float(new), (0, 0, 0.75, 0.75))[:300], train, held_out)
    by_kind = {(each["kind"], each["space"]): each for each in found.record["damage"]}
    assert {kind for kind, _ in by_kind} == {BLUR, NOISE, BLENDED, LOST, COPIED}
    for space in ("pixels", "classifier"):
        blur = by_kind[BLUR, space]
        assert blur["low"] <= 0.75 <= blur["high"], blur
    assert "real images blurred by 0." in found.page
    some = new[kept | (np.arange(len(new)) % 5 == 0)][:300]
    lost = {(each["kind"], each["space"]): each for each in latentmill.judge(some, train, held_out).record["damage"]}
    assert lost[LOST, "classifier"]["low"] <= 0.8 <= lost[LOST, "classifier"]["high"]
    assert lost[LOST, "classifier"]["damage"] > 0.5
