"""The two rules: controls are as they are called, measures have a say only where they tell them, verdicts are right."""

import json

import numpy as np
import pytest
from sklearn.datasets import load_digits

from latentmill.data.batches import as_float
from latentmill.evaluation import controls, results
from latentmill.evaluation.calibration import MARGIN, Calibration, Control, Seen
from latentmill.evaluation.entry import Material
from latentmill.evaluation.features import feature_space
from latentmill.evaluation.judge import FEWEST, SUBSETS, Calibrator, Judge
from latentmill.evaluation.measures import HIGHER_IS_BETTER, RULES, measured
from latentmill.evaluation.run import judge_of
from latentmill.evaluation.spaces import Space
from latentmill.evaluation.verdict import Estimate, verdict

NAMES = [name for measures in RULES.values() for names in measures for name in names.split(", ")]


@pytest.fixture(scope="module")
def data():
    """All digits in a random order, as they stand in a file they are not exchangeable: (images, labels)."""
    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.images))
    return np.rint(found.images / 16 * 255).astype(np.uint8)[order, None], found.target[order]


def make_judge(images, labels, names, seed=0):
    """Of 1 000 training, 200 validation and 250 test images."""
    parts = (slice(1000), slice(1000, 1200), slice(1200, 1450))
    known = [None if labels is None else labels[part] for part in parts]
    return judge_of(Material(*(images[part] for part in parts), *known), names, seed)


@pytest.fixture(scope="module")
def judge(data):
    return make_judge(*data, ["pixels", "classifier"])


@pytest.fixture(scope="module")
def held_out(data):
    return as_float(data[0][1450:])  # 347 images that nothing above has seen


# Controls


def test_controls_are_what_they_are_called(data):
    images, rng = as_float(data[0][:300]), np.random.default_rng(0)
    train = as_float(data[0][300:600])
    rows = {row.tobytes() for row in images}
    copied = {row.tobytes() for row in train}
    made = {each.name: each.draw(rng, 100) for each in controls.for_rule_2(images, train)}
    assert {name: sum(image.tobytes() in rows for image in drawn) for name, drawn in made.items()} == {
        "held-out images": 100,
        "held-out images, blurred": 0,
        "training images": 0,
        "training images with noise": 0,
        "5 % training images": 95,
        "20 % with noise": 80,
    }
    copies = {name: sum(image.tobytes() in copied for image in drawn) for name, drawn in made.items()}
    assert (copies["training images"], copies["5 % training images"], copies["training images with noise"]) == (
        100,
        5,
        0,
    )
    assert all(drawn.min() >= 0 and drawn.max() <= 1 and drawn.dtype == np.float32 for drawn in made.values())


def test_a_dropped_class_is_missing_and_the_others_are_not(data):
    images, labels = as_float(data[0][:600]), data[1][:600]
    by_name = {each.name: each for each in controls.for_rule_1(images, labels)}
    of = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    for seed in range(5):
        drawn = by_name["one class dropped"].draw(np.random.default_rng(seed), 250)
        assert len({of[image.tobytes()] for image in drawn}) == 9
    assert len({of[image.tobytes()] for image in by_name["real images"].draw(np.random.default_rng(0), 250)}) == 10


def test_one_class_alone_can_not_be_dropped(data):
    names = [each.name for each in controls.for_rule_1(as_float(data[0][:50]), np.zeros(50))]
    assert names == ["real images", "blurred", "independent pixels"]


def test_independent_pixels_keep_each_pixels_values_and_lose_what_joins_them(data):
    images = as_float(data[0][:600])
    drawn = controls.for_rule_1(images, data[1][:600])[2].draw(np.random.default_rng(0), 2_000)
    np.testing.assert_allclose(drawn.mean(0), images.mean(0), atol=0.05)
    joined, lost = (np.corrcoef(each[:, 0, 3, 3], each[:, 0, 3, 4])[0, 1] for each in (images, drawn))
    assert abs(joined) > 0.3
    assert abs(lost) < 0.1


# Calibration


def seen(kept, broken, higher=False):
    """A calibration whose controls have these (mean, deviation)."""
    of = [Seen(f"kept {i}", True, *each) for i, each in enumerate(kept)]
    of += [Seen(f"broken {i}", False, *each) for i, each in enumerate(broken)]
    return Calibration(1, "measure", "pixels", higher, tuple(of))


def test_a_control_is_told_where_the_margins_do_not_overlap():
    kept, broken = 1 + MARGIN * 0.1, 3 - MARGIN * 0.2
    found = seen([(1, 0.1), (0.5, 0.1)], [(3, 0.2), (1.5, 0.1)])
    assert found.told() == {"broken 0": pytest.approx((kept + broken) / 2)}
    assert found.threshold == pytest.approx((kept + broken) / 2)


def test_where_higher_is_better_all_is_turned_round():
    lower = seen([(1, 0.1)], [(3, 0.2), (9, 0.1)])
    higher = seen([(-1, 0.1)], [(-3, 0.2), (-9, 0.1)], higher=True)
    assert higher.told() == {name: pytest.approx(-threshold) for name, threshold in lower.told().items()}
    assert higher.threshold == pytest.approx(-lower.threshold), "the one that blames the most"


def test_a_blind_measure_has_no_threshold():
    assert seen([(1, 0.1)], [(1.2, 0.1), (0, 0.1)]).threshold is None


def test_draws_from_a_pool_vary_less_than_the_world():
    """The deviation makes up for it, as simulated: between a fresh mean and the mean of many draws from one pool."""
    rng, pool_size, size = np.random.default_rng(0), 100, 40
    errors, deviations = [], []
    control = Control("numbers", True, lambda rng, count: rng.normal(size=count))
    for _ in range(400):
        pool = rng.normal(size=pool_size)
        draws = [rng.choice(pool, size, replace=False).mean() for _ in range(20)]
        deviations.append(Seen.of(control, draws, size / pool_size).deviation)
        errors.append(rng.normal(size=size).mean() - np.mean(draws))
    assert np.sqrt(np.mean(np.square(deviations))) == pytest.approx(np.std(errors), rel=0.1)


def test_draws_from_a_pool_with_the_shares_of_the_world_vary_less_than_the_world_alone():
    """As simulated, for the share of one of two classes, where the pool has the world's shares."""
    rng, pool, size = np.random.default_rng(0), np.repeat([0, 1], [70, 30]), 40
    errors, deviations = [], []
    control = Control("classes", True, lambda rng, count: rng.binomial(1, 0.3, size=count))
    for _ in range(400):
        draws = [rng.choice(pool, size, replace=False).mean() for _ in range(20)]
        deviations.append(Seen.of(control, draws, size / len(pool), stratified=True).deviation)
        errors.append(control.draw(rng, size).mean() - np.mean(draws))
    assert np.sqrt(np.mean(np.square(deviations))) == pytest.approx(np.std(errors), rel=0.1)


def test_what_a_value_moves_by_between_two_fits_takes_the_say_from_a_measure():
    before = seen([(1, 0.1), (0.5, 0.1)], [(3, 0.1)])
    nearer = before.confirmed({"new": 1.2, "new, blurred": 0.4}, factor=2)
    assert nearer.threshold == pytest.approx(((1.2 + MARGIN * 0.2) + (3 - MARGIN * 0.1)) / 2)
    assert nearer.threshold > before.threshold
    assert before.confirmed({"new": 2.5, "new, blurred": 0.4}, factor=2).threshold is None
    assert [each.control for each in nearer.seen if each.keeps] == ["kept 0", "kept 1", "new", "new, blurred"]


# Verdicts


def estimates(*values, error=0.01, told=((3, 0.1), (5, 0.1))):
    return [Estimate(value, error, seen([(1, 0.1)], told)) for value in values]


def test_a_value_beyond_the_threshold_breaks_the_rule():
    found = verdict(estimates(1.0, 2.5), ["broken 0", "broken 1"], 100)
    assert (found.status, found.samples) == ("broken", 100)
    assert found.evidence.startswith("measure (pixels) 2.5 ± 0.02, broken above ")


def test_a_rule_holds_where_each_control_is_surely_excluded():
    assert verdict(estimates(1.0), ["broken 0", "broken 1"], 100).status == "holds"


@pytest.mark.parametrize(
    ("value", "error", "told", "unsure"),
    [
        (1.0, 0.01, ((1.2, 0.1), (5, 0.1)), "broken 0"),  # which it is blind to
        (1.5, 0.5, ((3, 0.1), (5, 0.1)), "broken 0"),  # the interval reaches the threshold
        (1.0, 0.01, ((1.2, 0.1), (1.2, 0.1)), "broken 0 or broken 1"),
    ],
)
def test_else_it_can_not_tell(value, error, told, unsure):
    found = verdict(estimates(value, error=error, told=told), ["broken 0", "broken 1"], 100)
    assert (found.status, found.evidence) == ("cannot tell", f"no measure excludes {unsure} with 100 samples")


def test_a_blind_measure_has_no_say():
    """Whatever it says: another excludes all."""
    blind = Estimate(1e6, 0.01, seen([(1, 0.1)], [(1.2, 0.1), (0, 0.1)]))
    assert verdict([blind, *estimates(1.0)], ["broken 0", "broken 1"], 100).status == "holds"
    assert verdict([blind], ["broken 0", "broken 1"], 100).status == "cannot tell"


def test_without_controls_nothing_can_be_told():
    assert verdict(estimates(1.0), [], 100).status == "cannot tell"


def test_an_estimate_of_several_subsets_by_hand():
    calibration = seen([(1, 0.1), (1, 0.3)], [(3, 0.1)])
    found = Estimate.of([1.0, 2.0, 3.0], calibration)
    assert (found.value, found.standard_error) == (2.0, pytest.approx(1 / np.sqrt(3)))
    assert Estimate.of([1.0], calibration).standard_error == pytest.approx(0.3), "as real images vary"


# The judge


def copier(held_out, train, share, noise, seed=0):
    rng = np.random.default_rng(seed)
    copies = train[rng.integers(len(train), size=len(held_out))]
    mixed = controls.mixed(held_out, controls.noisy(copies, rng) if noise else copies, share)
    return mixed[rng.permutation(len(mixed))]


def test_held_out_images_keep_both_rules(judge, held_out):
    found = judge.judge(held_out).verdicts
    assert (found[1].status, found[2].status) == ("holds", "holds")
    assert found[1].samples == judge.size


def test_blur_breaks_rule_1_and_is_no_copying(judge, held_out):
    found = judge.judge(controls.blurred(held_out)).verdicts
    assert (found[1].status, found[2].status) == ("broken", "holds")


def test_a_missing_class_breaks_rule_1(judge, data, held_out):
    kept = held_out[data[1][1450:] != 3]
    assert judge.judge(np.concatenate([kept, kept])).verdicts[1].status == "broken"


@pytest.mark.parametrize(("share", "noise"), [(0.05, False), (0.2, True), (1.0, False), (1.0, True)])
def test_copies_break_rule_2(judge, data, held_out, share, noise):
    found = judge.judge(copier(held_out, as_float(data[0][:1000]), share, noise)).verdicts[2]
    assert found.status == "broken"
    assert "near copies" in found.evidence


def test_validation_images_are_among_what_keeps_rule_2_alone(judge):
    names = {"validation images", "validation images, blurred"}
    for each in judge.calibrations:
        found = {seen.control for seen in each.seen} & names
        assert found == (names if each.rule == 2 else set())


def test_without_validation_images_rule_2_has_its_other_controls(data):
    calibrator = Calibrator(data[0][:1000], data[0][:0], None, seed=0)
    pixels = feature_space("pixels", data[0][:1000], None, seed=0)
    space = Space(pixels, as_float(data[0][:1000]), as_float(data[0][1000:1200]), seed=0)
    found = [Calibration(2, "near copies", "pixels", False, ())]
    assert calibrator.confirm(found, space) == found


def test_noise_breaks_rule_1_and_is_no_copying(judge):
    found = judge.judge(np.random.default_rng(0).random((400, 1, 8, 8), dtype=np.float32)).verdicts
    assert (found[1].status, found[2].status != "broken") == ("broken", True)


def test_the_same_samples_get_the_same_verdict_whatever_came_before(judge, held_out):
    assert judge.judge(held_out) == judge.judge(held_out)


def test_many_samples_are_judged_in_subsets(judge, held_out):
    found = judge.judge(np.concatenate([held_out] * 20))
    assert found.verdicts[1].samples == SUBSETS * judge.size
    assert {each.calibration.measure for each in found.estimates[1] + found.estimates[2]} == set(NAMES)


def test_too_few_samples_are_not_judged(judge, held_out):
    for count in (1, judge.size - 1):
        found = judge.judge(held_out[:count])
        assert {each.status for each in found.verdicts.values()} == {"cannot tell"}
        assert found.verdicts[2].evidence == f"it takes at least {judge.size} samples"
        assert found.estimates == {1: [], 2: []}


def test_too_few_images_make_no_controls(data):
    images = data[0]
    calibrator = Calibrator(images[:20], images[20:30], None, seed=0)
    assert calibrator.size < FEWEST
    pixels = feature_space("pixels", images[:20], None, seed=0)
    assert calibrator.calibrate(1, pixels, images[30:60]) == []
    space = Space(pixels, as_float(images[:20]), as_float(images[30:60]), seed=0)
    few = Judge({1: [space], 2: [space]}, [], calibrator.size)
    found = few.judge(as_float(images[60:200]))
    assert {each.status for each in found.verdicts.values()} == {"cannot tell"}
    assert "too few images for controls of at least 20" in found.verdicts[1].evidence


def test_without_labels_clusters_stand_in_for_classes(data):
    found = make_judge(data[0], None, ["pixels"])
    assert "one class dropped" in {each.control for each in found.calibrations[0].seen}


def test_images_that_are_all_the_same_have_defined_results():
    images = np.full((150, 1, 8, 8), 7, np.uint8)
    calibrator = Calibrator(images[:90], images[90:120], None, seed=0)
    pixels = feature_space("pixels", images[calibrator.copied], None, seed=0)
    found = [each for rule in RULES for each in calibrator.calibrate(rule, pixels, images[120:])]
    space = Space(pixels, as_float(images[:90]), as_float(images[120:]), seed=0)
    same = Judge({1: [space], 2: [space]}, found, calibrator.size)
    judged = same.judge(as_float(images))
    assert {each.status for each in judged.verdicts.values()} <= {"cannot tell", "broken"}
    json.dumps(results.calibration(same), allow_nan=False)
    assert all(np.isfinite(each.value) for each in judged.estimates[1] + judged.estimates[2])


def test_a_measure_that_needs_more_images_says_so_and_gives_none(judge, held_out):
    space = judge.spaces[1][0]
    found = measured(1, space.view(held_out[:3]), space)
    assert "precision" not in found.values
    assert any(
        each.startswith("precision, recall, density, coverage: the measure needs at least") for each in found.silent
    )


def test_every_measure_is_oriented_and_none_is_of_another_name():
    assert set(NAMES) >= HIGHER_IS_BETTER
    assert len(set(NAMES)) == len(NAMES)


def test_the_calibration_is_told_whole(judge):
    told = results.calibration(judge)
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert set(told["spaces"]) == {"pixels", "classifier"}
    assert all(len(each["digest"]) == 64 for each in told["spaces"].values())
    for rule, names in RULES.items():
        rows = told["rules"][str(rule)]["measures"]
        assert len(rows) == 2 * len(", ".join(names).split(", "))
        named = {each["name"] for each in told["rules"][str(rule)]["controls"]}
        assert all(set(row["seen"]) == named >= set(row["tells"]) for row in rows)
