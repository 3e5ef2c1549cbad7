"""The two rules: controls are as they are called, metrics are informative where they separate them, verdicts right."""

import json
import pickle
import re
from dataclasses import replace

import numpy as np
import pytest

from latentmill.data.augmentation import mirrored
from latentmill.data.batches import as_float
from latentmill.evaluation import confirmation, controls, corruptions
from latentmill.evaluation.assembly import choose_pool, chosen_features, fit, make_judge
from latentmill.evaluation.calibration import (
    MARGIN,
    Calibration,
    Control,
    ControlValues,
    factors_with_replacement,
    factors_without_replacement,
)
from latentmill.evaluation.calibration_record import calibration_record
from latentmill.evaluation.calibrator import Calibrator
from latentmill.evaluation.confirmation import confirm
from latentmill.evaluation.copy_space import CopySpace
from latentmill.evaluation.graded_controls import is_dropped_mode
from latentmill.evaluation.groups import Classes, Clusters
from latentmill.evaluation.judge import FEWEST, Judge
from latentmill.evaluation.metrics import HIGHER_IS_BETTER, RULES, all_metrics, least_deviation
from latentmill.evaluation.near_duplicates import have_near_duplicates
from latentmill.evaluation.pool import Pool
from latentmill.evaluation.prepared import PreparedData
from latentmill.evaluation.spaces import FidelitySpace, random_subset
from latentmill.evaluation.verdict import Draws, Estimate, verdict
from latentmill.features.spaces import feature_space

pytestmark = pytest.mark.usefixtures("without_curves")
SPOILT = ("strongly blurred", "held-out images with noise", "independent pixels", "mean images", "blends of two")
NAMES = [name for metrics in RULES.values() for names in metrics for name in names.split(", ")]


@pytest.fixture(scope="module")
def data(shuffled_digits):
    return shuffled_digits


def digits_judge(images, labels, names, seed=0, flip=False):
    """Of 1 000 training, 200 validation and 250 test images."""
    parts = (slice(1000), slice(1000, 1200), slice(1200, 1450))
    known = [None if labels is None else labels[part] for part in parts]
    return make_judge(PreparedData(*(images[part] for part in parts), *known, flip=flip), names, seed, samples=270)


@pytest.fixture(scope="module")
def judge(data):
    return digits_judge(*data, ["pixels", "classifier"])


@pytest.fixture(scope="module")
def held_out(data):
    return as_float(data[0][1450:])  # 347 images that nothing above has seen


# Controls


def calibrator_of(train, val, labels, seed, samples=10_000):
    return Calibrator(Pool.chosen(train, val, labels, seed), train, val, labels, seed, samples)


def rows_of(images):
    return {row.tobytes() for row in images}


def drawn(made, name, count=100, seed=0):
    """Images of one draw."""
    return made.images(name, np.random.default_rng(seed), count)


def test_controls_are_what_they_are_called(data):
    images, train = data[0][:300], data[0][300:600]
    made = controls.rule_2_controls(images, data[1][:300], train, seed=0)
    new, copied = rows_of(as_float(images)), rows_of(as_float(train))
    found = {each.name: drawn(made, each.name) for each in made.controls}
    assert {name: sum(row.tobytes() in new for row in rows) for name, rows in found.items()} == {
        "held-out images": 100,
        "held-out images, blurred": 0,
        "strongly blurred": 0,
        "held-out images with noise": 0,
        "independent pixels": 0,
        "mean images": 0,
        "blends of two": 0,
        "training images": 0,
        "training images with noise": 0,
        "5 % training images": 95,
        "20 % training images with noise": 80,
    }
    copies = {name: sum(row.tobytes() in copied for row in rows) for name, rows in found.items()}
    assert {name: count for name, count in copies.items() if count} == {
        "training images": 100,
        "5 % training images": 5,
    }
    assert all(rows.min() >= 0 and rows.max() <= 1 and rows.dtype == np.float32 for rows in found.values())
    assert [each.name for each in made.controls if not each.positive] == [
        "training images",
        "training images with noise",
        "5 % training images",
        "20 % training images with noise",
    ]


def test_a_lost_mode_is_missing_and_the_others_are_not(data):
    images, labels = data[0][:600], data[1][:600]
    made = controls.rule_1_controls(images, labels, "class", seed=0)
    (lost,) = (each for each in made.controls if each.name == "one class dropped")
    choose = controls.with_replacement(np.random.default_rng(0))
    missing = []
    for turn in range(lost.repeats):
        ((population, indices),) = lost.draw(choose, 400, turn)
        assert population == "real images"
        missing.append(set(range(10)) - set(labels[indices]))
    assert all(len(each) == 1 for each in missing)
    assert sorted(label for each in missing for label in each) == sorted([*range(10)] * 2), "each in its turn"


def test_one_group_alone_can_not_be_lost(data):
    names = [each.name for each in controls.rule_1_controls(data[0][:50], np.zeros(50), "class", seed=0).controls]
    assert names == ["real images", "blurred", "independent pixels", "blurred by 0.375 px"]


def test_independent_pixels_keep_each_pixels_values_and_lose_what_joins_them(data):
    images = data[0][:600]
    found = corruptions.independent_pixels(images, np.random.default_rng(0), 2_000)
    np.testing.assert_allclose(found.mean(0), as_float(images).mean(0), atol=0.05)
    joined, lost = (np.corrcoef(each[:, 0, 3, 3], each[:, 0, 3, 4])[0, 1] for each in (as_float(images), found))
    assert abs(joined) > 0.3
    assert abs(lost) < 0.1


def test_means_are_of_one_group_and_blends_of_two_different_images():
    images = np.repeat([0, 100, 200], 20).astype(np.uint8)[:, None, None, None] * np.ones((1, 1, 4, 4), np.uint8)
    groups = np.repeat([0, 1, 2], 20)
    means = corruptions.means(images, groups, np.random.default_rng(0), 50)
    assert set(np.rint(means[:, 0, 0, 0] * 255)) == {0, 100, 200}
    different = np.arange(6, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 4, 4), np.uint8)
    blends = corruptions.blends(different, np.arange(6), np.random.default_rng(0)) * 255
    assert all(blend[0, 0, 0] != index for index, blend in enumerate(blends))


def test_images_of_a_population_are_the_same_at_each_look(data):
    made = controls.spoilt_images(data[0][:60], data[1][:60], seed=3)
    for name, population in made.items():
        first, again = (population.make(np.arange(60)) for _ in range(2))
        np.testing.assert_array_equal(first, again, err_msg=name)


@pytest.mark.parametrize("most", [40, 1_000])
def test_images_are_taken_in_a_random_order_for_on_disk_they_may_be_sorted(most):
    found = random_subset(np.arange(400), most, seed=0)
    assert len(set(found)) == min(most, 400)
    assert abs(found[:40].mean() - 200) < 60


def test_a_space_sees_all_classes_of_test_images_that_are_sorted(data):
    images, labels = data
    order = np.argsort(labels, kind="stable")
    pixels = feature_space("pixels", images[:500], None, seed=0)
    space = FidelitySpace(pixels, images[order], seed=0)
    near = pixels(images)[:, None] - space.some_test[None, :500]
    assert len(set(labels[np.abs(near).sum(2).argmin(0)])) == 10


# Calibration


def calibration(positive, negative, higher=False):
    """A calibration whose controls have these (mean, deviation)."""
    controls = [ControlValues(f"good {i}", True, *each) for i, each in enumerate(positive)]
    controls += [ControlValues(f"bad {i}", False, *each) for i, each in enumerate(negative)]
    return Calibration(1, "metric", "pixels", higher, tuple(controls))


def test_a_control_is_separated_where_the_margins_do_not_overlap():
    worst, best = 1 + MARGIN * 0.1, 3 - MARGIN * 0.2
    found = calibration([(1, 0.1), (0.5, 0.1)], [(3, 0.2), (1.5, 0.1)])
    assert found.separated() == {"bad 0": pytest.approx((worst + best) / 2)}
    assert found.threshold == pytest.approx((worst + best) / 2)


def test_where_higher_is_better_signs_are_reversed():
    lower = calibration([(1, 0.1)], [(3, 0.2), (9, 0.1)])
    higher = calibration([(-1, 0.1)], [(-3, 0.2), (-9, 0.1)], higher=True)
    assert higher.separated() == {name: pytest.approx(-threshold) for name, threshold in lower.separated().items()}
    assert higher.threshold == pytest.approx(-lower.threshold), "the one that is crossed first"


def test_an_uninformative_metric_has_no_threshold():
    assert calibration([(1, 0.1)], [(1.2, 0.1), (0, 0.1)]).threshold is None


NUMBERS = Control("numbers", True, 20, 1, lambda choose, count, turn: [("numbers", choose(100, count))])


@pytest.mark.parametrize("replace", [False, True])
def test_draws_from_a_pool_vary_less_than_the_world(replace):
    """The deviation makes up for it, as simulated: between a fresh mean and the mean of many draws from one pool."""
    rng, pool_size, size = np.random.default_rng(0), 100, 40
    factors = (factors_with_replacement if replace else factors_without_replacement)(size / pool_size)
    errors, deviations, within = [], [], []
    for _ in range(400):
        pool = rng.normal(size=pool_size)
        draws = [rng.choice(pool, size, replace=replace).mean() for _ in range(20)]
        made = ControlValues.from_draws(NUMBERS, draws, False, factors)
        deviations.append(made.deviation)
        within.append(made.draw_deviation)
        errors.append(rng.normal(size=size).mean() - np.mean(draws))
    assert np.sqrt(np.mean(np.square(deviations))) == pytest.approx(np.std(errors), rel=0.1)
    assert np.sqrt(np.mean(np.square(within))) == pytest.approx(1 / np.sqrt(size), rel=0.1), "of draws alone"


def test_of_kinds_that_take_turns_the_hardest_counts_with_the_deviation_within_kinds():
    control = Control("lost", False, 4, 2, NUMBERS.draw)
    values = [0.0, 5.0, 2.0, 5.0]  # kinds of mean 1 and 5
    easy_and_hard = {higher: ControlValues.from_draws(control, values, higher) for higher in (False, True)}
    assert (easy_and_hard[False].mean, easy_and_hard[True].mean) == (1.0, 5.0)
    assert easy_and_hard[True].deviation == pytest.approx(1.0)  # of squares 1, 1, 0 and 0, two degrees of freedom


def test_a_control_that_a_metric_may_only_exclude_is_not_detected():
    plain = calibration([(1, 0.1)], [(3, 0.1), (9, 0.1)])
    modest = replace(plain, only_excludes=frozenset({"bad 0"}))
    assert set(modest.separated()) == {"bad 0", "bad 1"}
    assert modest.threshold == plain.separated()["bad 1"] > plain.threshold


def test_how_many_times_the_images_would_separate_a_control():
    """Ten times as far apart as the margins is a hundredth of the images; what looks no worse is never separated."""
    apart = calibration([(0, 0.1)], [(2 * MARGIN, 0.1)])
    assert apart.images_factor("bad 0") == pytest.approx(0.01)
    assert calibration([(0, 1.0)], [(MARGIN, 1.0)]).images_factor("bad 0") == pytest.approx(4)
    assert calibration([(1, 0.1)], [(1, 0.1)]).images_factor("bad 0") is None
    assert replace(calibration([(0, 1.0)], [(MARGIN, 1.0)]), size=500, max_size=500).images_factor("bad 0") is None


def test_a_metric_whose_value_moves_between_two_fits_becomes_uninformative():
    before = calibration([(1, 0.1), (0.5, 0.1)], [(3, 0.1)])
    names = ["new", "new, blurred"]
    nearer = before.confirmed({"new": ("good 0", 1.2), "new, blurred": ("good 1", 0.4)}, 2, steady=names)
    assert nearer.threshold == pytest.approx(((1.2 + MARGIN * 0.2) + (3 - MARGIN * 0.1)) / 2)
    assert nearer.threshold > before.threshold
    assert before.confirmed({"new": ("good 0", 2.5), "new, blurred": ("good 1", 0.4)}, 2).threshold is None
    assert [each.name for each in nearer.positive] == ["good 0", "good 1", *names]


def test_a_value_that_moves_far_may_move_as_far_again():
    """The nearest training image of all noise is the same one, so another training set gives it another value."""
    before = calibration([(1, 0.01), (0, 0.01)], [(3, 0.01)])
    assert before.threshold == pytest.approx(2, abs=0.1)
    assert before.confirmed({"noise": ("good 1", 1.0)}, 1).threshold is not None
    found = before.confirmed({"noise": ("good 1", 2.0)}, 1)
    assert found.controls[-1].deviation == 1.0
    assert found.threshold is None


@pytest.mark.parametrize("noise", [0, 1])
def test_no_image_is_held_out_that_has_a_near_duplicate_among_those_that_are_copied(data, noise):
    """A tenth of the training images are doubles, at most one grey value of one pixel off."""
    images = data[0][:900]
    doubles = images[:100].copy()
    doubles[:, 0, 0, 0] += np.uint8(noise)
    train = np.concatenate([images, doubles])
    pool = Pool.chosen(train, data[0][900:1100], None, seed=0)
    copied = rows_of(train[pool.copied]) | rows_of(images[pool.copied[pool.copied >= 900] - 900])
    held_out = np.setdiff1d(np.arange(1000), pool.copied)
    assert not rows_of(train[held_out]) & copied
    assert len(pool) == pool.draws(300).held_out == len(held_out) + 200
    assert 20 < pool.near_duplicates == 334 - len(held_out) < 80


def test_mirrored_near_duplicates_count_where_copies_may_be_mirrored(data):
    train = np.concatenate([data[0][:100], mirrored(data[0][:50])])
    taken = np.arange(100, 150)
    assert have_near_duplicates(train, taken, flip=True).all()
    assert have_near_duplicates(train, taken).mean() < 0.1, "the symmetric ones"


def test_no_group_is_both_new_and_copied(data):
    """Ten images of each, one of which has a near-duplicate among those that are copied: all of its group is copied."""
    train, groups = data[0][:900].copy(), np.random.default_rng(0).permutation(900) // 10
    new = Pool.chosen(train, data[0][900:1000], None, 0, groups).new_train
    train[np.flatnonzero(groups != groups[new[0]])[0]] = train[new[0]]
    pool = Pool.chosen(train, data[0][900:1000], None, 0, groups)
    assert not set(groups[pool.new_train]) & set(groups[pool.copied])
    assert (len(pool.new_train), pool.near_duplicates) == (290, 10)


@pytest.mark.parametrize("groups", [np.zeros(60, int), np.arange(60) // 50])
def test_what_can_not_be_parted_is_copied(groups):
    pool = Pool.chosen(np.arange(60, dtype=np.uint8).reshape(60, 1, 1, 1), np.zeros((5, 1, 1, 1)), None, 0, groups)
    assert len(pool.copied) >= 50


@pytest.mark.parametrize("seed", range(5))
def test_no_class_is_lost_where_groups_are_of_uneven_size(seed):
    """Nor are all new training images, where the first group is too large."""
    rng = np.random.default_rng(seed)
    groups = rng.choice(60, 3000, p=rng.dirichlet(np.full(60, 2.0)))
    labels = np.concatenate([groups % 6, np.zeros(100, np.int64)])
    images = rng.integers(0, 256, (3100, 1, 4, 4), np.uint8)
    pool = Pool.chosen(images[:3000], images[3000:], labels, seed, groups)
    assert 500 < len(pool.new_train) <= 1000
    assert set(labels[pool.new_train]) == set(range(6))
    assert pool.random == 1, "the shares of the classes are not exact"
    assert Pool.chosen(images[:3000], images[3000:], labels, seed).random == 100 / 1100


def test_a_group_that_is_too_large_leaves_room_for_others():
    images = np.random.default_rng(0).integers(0, 256, (300, 1, 4, 4), np.uint8)
    groups = np.concatenate([np.zeros(150, np.int64), np.arange(1, 151)])
    pools = [Pool.chosen(images, images[:10], None, seed, groups) for seed in range(10)]
    assert min(len(pool.new_train) for pool in pools) > 40


@pytest.mark.parametrize("count", [6, 8, 9])
def test_of_few_training_images_enough_are_left_to_be_copied(data, count):
    train, val = data[0][:count], data[0][100:200]
    pool = Pool.chosen(train, val, None, seed=0)
    assert (len(pool.new_train), len(pool.copied)) == ((0, count) if count < 9 else (3, 6))
    calibrator = Calibrator(pool, train, val, None, seed=0, samples=100)
    calibrated = calibrator.calibrate(2, feature_space("pixels", train, None, seed=0), data[0][200:300])
    assert "near copies" in {each.metric for each in calibrated.calibrations}


def test_where_all_images_are_near_duplicates_they_are_copied():
    train = np.zeros((60, 1, 4, 4), np.uint8)
    assert have_near_duplicates(train, np.arange(20)).all()
    assert not have_near_duplicates(train, np.arange(0)).size


def test_the_pool_is_not_copied_before_it_is_looked_at(data):
    calibrator = calibrator_of(data[0][:300], data[0][300:400], None, seed=0)
    assert "new" not in vars(calibrator)
    assert len(calibrator.new) == calibrator.draws.held_out


def test_a_share_is_known_to_one_image_of_the_pool_at_best():
    """Of 60 images none may be what 3 % of the world are, however many draws are taken of them."""
    assert least_deviation("near copies", size=5_000, pool=60) == 1 / 60
    assert least_deviation("near copies", size=500, pool=6_000) == 1 / 500
    assert least_deviation("C_T", size=5_000, pool=60) == 0
    found = ControlValues.from_draws(NUMBERS, [0.0, 0.0], False, least=(1 / 60, 1 / 5_000))
    assert (found.deviation, found.draw_deviation) == (1 / 60, 1 / 5_000), "samples are not so few"
    assert (
        calibration([(0, 0.0)], [(1, 0.1)]).confirmed({"new": ("good 0", 0.0)}, 2.0, least=0.01).controls[-1].deviation
        == 0.01
    )


# Verdicts

DRAWS = Draws(few=100, many=100, held_out=300, max_held_out=6_000)
FEW = "no metric separates bad 0 from real images, .* 3,700 images for controls .* 1,300 samples"  # 12.25 times as many
TOO_FEW = ", and however many there were, the metrics that separate it would read too few"
HOPELESS = "no metric separates bad 1 from real images, .* no number of images"


def estimates(*values, error=0.01, negative=((3, 0.1), (5, 0.1))):
    return [Estimate(value, error, calibration([(1, 0.1)], negative)) for value in values]


def test_a_value_beyond_the_threshold_fails():
    found = verdict(estimates(1.0, 2.5), ["bad 0", "bad 1"], 100, DRAWS)
    assert (found.status, found.samples) == ("fail", 100)
    assert found.evidence.startswith("metric (pixels) 2.5 ± 0.02, fails above ")


def test_a_rule_passes_where_each_control_is_surely_excluded():
    found = verdict(estimates(1.0), ["bad 0", "bad 1"], 100, DRAWS)
    assert (found.status, found.evidence) == ("pass", "metric (pixels) 1 ± 0.02, passes below 2")


def test_a_pass_names_the_better_side_where_higher_is_better():
    higher = Estimate(-1.0, 0.01, calibration([(-1, 0.1)], [(-3, 0.1)], higher=True))
    assert verdict([higher], ["bad 0"], 100, DRAWS).evidence == "metric (pixels) -1 ± 0.02, passes above -2"
    lower = replace(higher, value=-2.5)
    assert verdict([lower], ["bad 0"], 100, DRAWS).evidence == "metric (pixels) -2.5 ± 0.02, fails below -2"


@pytest.mark.parametrize(
    ("value", "error", "negative", "evidence"),
    [
        (1.0, 0.01, ((1.2, 0.1), (5, 0.1)), FEW),
        (1.5, 0.5, ((3, 0.1), (5, 0.1)), "no metric excludes bad 0 with 100 samples, .* 400"),
        (1.0, 0.01, ((1.2, 0.1), (0.9, 0.1)), f"{FEW}.*; {HOPELESS}"),
    ],
    ids=["too few images", "the interval reaches the threshold", "no number would do"],
)
def test_else_it_is_inconclusive_and_says_how_many_images_would_be_enough(value, error, negative, evidence):
    found = verdict(estimates(value, error=error, negative=negative), ["bad 0", "bad 1"], 100, DRAWS)
    assert found.status == "inconclusive"
    assert re.match(evidence, found.evidence)


@pytest.mark.parametrize(("given", "needed"), [(120, 6_869), (121, 6_871)])
def test_half_of_the_images_that_the_judge_is_given_are_drawn_from(given, needed):
    """3,675 instead of 300 to draw from are 3,375 more."""
    found = verdict(estimates(1.0, negative=((1.2, 0.1), (5, 0.1))), ["bad 0"], 100, replace(DRAWS, given=given))
    assert f"about 6,900 held-out images (there are {given})" in found.evidence
    assert replace(DRAWS, given=given).needed(3_675) == needed


@pytest.mark.parametrize(
    ("size", "max_size", "error", "subsets", "advice"),
    [
        (300, 300, 0.75, 6, f"{TOO_FEW}: metric (pixels) 1 ± 1.5, passes below 2"),
        (300, 300, 0.75, 2, ", but about 4,500 would be enough"),
        (300, 300, 0.75, 3, f"{TOO_FEW}: metric (pixels) 1 ± 1.5, passes below 2"),
        (150, 500, 0.75, 6, ", but about 680 images for controls (there are 300) and 2,100 samples (instead of 2000)"),
        (150, 500, 2.0, 6, f"{TOO_FEW}: metric (pixels) 1 ± 4, passes below 2"),
        (2_000, None, 0.75, 1, ", but about 4,500 would be enough"),
    ],
)
def test_only_samples_are_advised_that_would_be_read(size, max_size, error, subsets, advice):
    """At most six subsets are, whose size the held-out images may limit; 2.25 or 16 times as many are needed."""
    known = replace(calibration([(1, 0.1)], [(3, 0.1)]), size=size, max_size=max_size)
    found = verdict([Estimate(1.0, error, known, subsets)], ["bad 0"], 2_000, replace(DRAWS, held_out=2 * size))
    assert found.evidence.startswith(f"no metric excludes bad 0 with 2000 samples{advice}")


@pytest.mark.parametrize("value", [3.0, 3.5], ids=["at the line", "beyond it"])
def test_samples_that_look_like_a_control_stay_inconclusive_with_any_number(value):
    """A metric that may only exclude the control does not detect it either."""
    plain = calibration([(1, 0.1)], [(5, 0.1), (9, 0.1)])
    modest = replace(plain, only_excludes=frozenset({"bad 0"}))
    assert plain.separated()["bad 0"] == pytest.approx(3.0)
    found = verdict([Estimate(max(value, plain.separated()["bad 0"]), 0.1, modest)], ["bad 0"], 100, DRAWS)
    assert found.status == "inconclusive"
    assert "separates the control bad 0, the samples look like it: metric (pixels) " in found.evidence


def test_metrics_that_find_samples_like_a_control_are_one_reason():
    modest = replace(calibration([(1, 0.1)], [(5, 0.1)]), only_excludes=frozenset({"bad 0"}))
    alike = [Estimate(4.0, 0.1, modest), Estimate(3.5, 0.1, replace(modest, metric="other"))]
    evidence = verdict(alike, ["bad 0"], 100, DRAWS).evidence
    assert re.search(r"it: metric \(pixels\) [^;]*, other \(pixels\) [^;]*$", evidence)


def test_an_uninformative_metric_does_not_count():
    """Whatever its value: another excludes all."""
    uninformative = Estimate(1e6, 0.01, calibration([(1, 0.1)], [(1.2, 0.1), (0, 0.1)]))
    assert verdict([uninformative, *estimates(1.0)], ["bad 0", "bad 1"], 100, DRAWS).status == "pass"
    assert verdict([uninformative], ["bad 0", "bad 1"], 100, DRAWS).status == "inconclusive"


def test_without_controls_the_verdict_is_inconclusive():
    assert verdict(estimates(1.0), [], 100, DRAWS).status == "inconclusive"


def test_an_estimate_of_several_subsets_by_hand():
    known = calibration([(1, 0.1), (1, 0.3)], [(3, 0.1)])
    found = Estimate.from_subsets([1.0, 2.0, 3.0, 4.0, 5.0], known)
    assert (found.value, found.standard_error) == (3.0, pytest.approx(np.sqrt(2.5 / 5)))
    assert Estimate.from_subsets([1.0], known).standard_error == pytest.approx(0.1), "as real images vary"
    drawn = replace(known, controls=(ControlValues("real", True, 1.0, 0.1, 0.04), *known.controls))
    assert Estimate.from_subsets([1.0], drawn).standard_error == pytest.approx(0.04), (
        "the error of the pool is no error of samples"
    )
    assert Estimate.from_subsets([1.0, 1.0], known).standard_error == pytest.approx(0.1 / np.sqrt(2)), (
        "of few, at least"
    )


def test_equal_values_have_no_error():
    same = Estimate.from_subsets([0.1 + 0.2, 0.3, 0.3, 0.1 + 0.2, 0.3], calibration([(1, 0.1)], [(3, 0.1)]))
    assert same.standard_error == 0.0, "their deviation is that of rounding"
    assert "0.3 ± 0, fails" in same.describe("fails", 0.9)


# The judge


def copier(held_out, train, share, noise, seed=0):
    rng = np.random.default_rng(seed)
    copies = train[rng.integers(len(train), size=len(held_out))]
    mixed = corruptions.mixed(held_out, corruptions.noisy(copies, rng) if noise else copies, share)
    return mixed[rng.permutation(len(mixed))]


def test_held_out_images_pass_both_rules(judge, held_out):
    found = judge.judge(held_out).verdicts
    assert (found[1].status, found[2].status) == ("pass", "pass")
    assert found[1].samples == len(held_out) // judge.size * judge.size


def test_blur_fails_rule_1_and_is_no_copying(judge, held_out):
    found = judge.judge(corruptions.blurred(held_out)).verdicts
    assert (found[1].status, found[2].status) == ("fail", "pass")


def test_a_missing_class_fails_rule_1(judge, data, held_out):
    kept = held_out[data[1][1450:] != 3]
    assert judge.judge(np.concatenate([kept, kept])).verdicts[1].status == "fail"


@pytest.mark.parametrize(("share", "noise"), [(0.05, False), (0.2, True), (1.0, False), (1.0, True)])
def test_copies_fail_rule_2(judge, data, held_out, share, noise):
    found = judge.judge(copier(held_out, as_float(data[0][:1000]), share, noise)).verdicts[2]
    assert found.status == "fail"
    assert "near copies" in found.evidence


@pytest.fixture(scope="module")
def flipped_judge(data):
    return digits_judge(*data, ["pixels"], flip=True)


@pytest.mark.parametrize(("share", "noise"), [(0.05, False), (0.2, True), (1.0, False)])
@pytest.mark.parametrize("turn", [mirrored, np.asarray], ids=["mirrored", "as they are"])
def test_mirrored_copies_fail_rule_2_where_models_are_trained_with_flip(
    flipped_judge, data, held_out, share, noise, turn
):
    copies = copier(held_out, turn(as_float(data[0][:1000])), share, noise)
    found = flipped_judge.judge(copies, [2]).verdicts[2]
    assert found.status == "fail"
    assert "near copies" in found.evidence or "exact copies" in found.evidence


def test_new_images_are_no_mirrored_copies(flipped_judge, judge, data, held_out):
    assert flipped_judge.judge(held_out, [2]).verdicts[2].status == "pass"
    copies = copier(held_out, mirrored(as_float(data[0][:1000])), 1.0, noise=False)
    assert judge.judge(copies, [2]).verdicts[2].status == "pass", "without flip none is looked for"


def test_validation_images_are_positive_controls_of_rule_2_alone(judge):
    names = {"validation images", "validation images, blurred", *(f"validation images: {name}" for name in SPOILT)}
    for each in judge.calibrations:
        found = {control.name for control in each.controls if control.name.startswith("validation")}
        assert found == (names if each.rule == 2 else set())


def test_without_validation_images_rule_2_has_its_other_controls(data):
    none = data[0][:0]
    pixels = feature_space("pixels", data[0][:1000], None, seed=0)
    space = CopySpace(pixels, data[0][:1000], data[0][1000:1200], seed=0)
    found = [Calibration(2, "near copies", "pixels", False, ())]
    assert confirm(found, space, none, Draws(100, 100, 300, 6_000), seed=0) == found


def test_the_fewer_validation_images_are_spoilt_the_more_another_draw_deviates(data, monkeypatch):
    monkeypatch.setattr(confirmation, "SPOILT", 50)
    pixels = feature_space("pixels", data[0][:100], None, seed=0)
    space = CopySpace(pixels, data[0][:100], data[0][1000:1100], seed=0)
    known = [ControlValues(name, True, 0.0, 1e6) for name in ("held-out images", "held-out images, blurred", *SPOILT)]
    (found,) = confirm(
        [Calibration(2, "C_T", "pixels", True, tuple(known), 100)], space, data[0][:200], Draws(20, 100, 300, 6_000), 0
    )
    deviations = {each.name: each.deviation / 1e6 for each in found.controls[len(known) :]}
    factors = {count: np.sqrt((2 / 100 + 1 / count) / (1 / 100 + 1 / 300)) for count in (200, 50)}
    assert deviations == {
        name: pytest.approx(factors[50 if ":" in name else 200])
        for name in (
            "validation images",
            "validation images, blurred",
            *(f"validation images: {each}" for each in SPOILT),
        )
    }


@pytest.mark.parametrize("name", [*SPOILT])
def test_what_is_bad_without_copying_is_no_copying(judge, data, name):
    population = controls.spoilt_images(data[0][1450:], data[1][1450:], seed=0)[name]
    found = judge.judge(population.make(np.arange(population.count))).verdicts
    assert found[2].status == "pass"


def test_a_metric_that_takes_bad_images_for_copies_is_uninformative(data):
    """Means of clusters are nearer to the training images than digits are: to C_T they are copies."""
    pixels = feature_space("pixels", data[0][:1000], None, seed=0)
    calibrator = calibrator_of(data[0][:1000], data[0][1000:1200], data[1][:1200], seed=0, samples=300)
    found = {each.metric: each for each in calibrator.calibrate(2, pixels, data[0][1200:1450]).calibrations}
    values = {each.name: each for each in found["C_T"].controls}
    assert values["mean images"].mean < values["5 % training images"].mean < values["held-out images"].mean
    assert "5 % training images" not in found["C_T"].separated()
    alone = [each for each in found["C_T"].controls if each.name != "mean images"]
    assert replace(found["C_T"], controls=tuple(alone)).separated().keys() >= {"training images"}


def generators(held_out, train):
    return {
        "held out": held_out,
        "blurred": corruptions.blurred(held_out),
        "noisy copies": copier(held_out, as_float(train), 0.2, noise=True),
    }


def test_noise_fails_rule_1_and_is_no_copying(judge):
    found = judge.judge(np.random.default_rng(0).random((400, 1, 8, 8), dtype=np.float32)).verdicts
    assert (found[1].status, found[2].status != "fail") == ("fail", True)


def test_the_same_samples_get_the_same_verdict_whatever_came_before(judge, held_out):
    assert judge.judge(held_out) == judge.judge(held_out)


def test_a_judge_in_memory_that_may_not_be_written_to_judges_the_same(judge, held_out):
    """As Ray hands it to all entries."""
    buffers = []
    packed = pickle.dumps(judge, protocol=5, buffer_callback=buffers.append)
    shared = pickle.loads(packed, buffers=[bytes(buffer) for buffer in buffers])
    assert not shared.fidelity_spaces[0].some_test.flags.writeable
    assert shared.judge(held_out).verdicts == judge.judge(held_out).verdicts


def test_many_samples_are_judged_in_subsets(judge, held_out):
    found = judge.judge(np.concatenate([held_out] * 20))
    assert found.verdicts[1].samples == 20 * len(held_out) // judge.size * judge.size
    assert {each.calibration.metric for each in found.estimates[1] + found.estimates[2]} == set(NAMES)


def test_one_rule_alone_can_be_judged(judge, held_out):
    both, one = judge.judge(held_out), judge.judge(held_out, [2])
    assert (one.estimates, one.verdicts) == ({2: both.estimates[2]}, {2: both.verdicts[2]})


def test_too_few_samples_are_not_judged(judge, held_out):
    for count in (1, judge.size - 1):
        found = judge.judge(held_out[:count])
        assert {each.status for each in found.verdicts.values()} == {"inconclusive"}
        assert f"at least {judge.size} samples" in found.verdicts[2].evidence
        assert found.estimates == {1: [], 2: []}


def test_too_few_images_make_no_controls(data):
    images = data[0]
    calibrator = calibrator_of(images[:20], images[20:30], None, seed=0)
    assert calibrator.draws.few < FEWEST
    pixels = feature_space("pixels", images[:20], None, seed=0)
    assert calibrator.calibrate(1, pixels, images[30:60]).calibrations == []
    few = Judge([], [], [], calibrator.draws)
    found = few.judge(as_float(images[60:200]))
    assert {each.status for each in found.verdicts.values()} == {"inconclusive"}
    held_out = calibrator.draws.held_out
    assert found.verdicts[1].evidence == f"a verdict needs at least 40 images for controls, but there are {held_out}"


def test_where_no_mode_could_be_missed_rule_1_can_not_pass(data):
    images = data[0]
    few = make_judge(
        PreparedData(images[:60], images[60:80], images[80:140], None, None, None), ["pixels"], 0, samples=200
    )
    assert not any(is_dropped_mode(control.name) for each in few.calibrations for control in each.controls)
    found = few.judge(as_float(images[200:400])).verdicts[1]
    assert found.status == "inconclusive"
    assert "40 images for controls and 200 samples are too few" in found.evidence


def test_images_that_are_all_the_same_have_defined_results():
    images = np.full((150, 1, 8, 8), 7, np.uint8)
    given = PreparedData(images[:90], images[90:120], images[120:], None, None, None)
    same = make_judge(given, ["pixels"], seed=0, samples=50)
    judged = same.judge(as_float(images))
    assert {each.status for each in judged.verdicts.values()} <= {"inconclusive", "fail"}
    json.dumps(calibration_record(same), allow_nan=False)
    assert all(np.isfinite(each.value) for each in judged.estimates[1] + judged.estimates[2])


# Modes


def test_of_few_groups_each_is_dropped_more_often(data):
    (lost,) = (
        each
        for each in controls.rule_1_controls(data[0][:50], np.arange(50) % 3, "class", 0).controls
        if each.kinds > 1
    )
    assert (lost.repeats, lost.kinds) == (24, 3)


def test_what_is_dropped_in_another_space_is_another_control(judge):
    """So no metric of pixels excludes a loss that only the classes show."""
    found = {each.space: {control.name for control in each.controls} for each in judge.calibrations if each.rule == 1}
    lost = {space: {name for name in names if is_dropped_mode(name)} for space, names in found.items()}
    assert lost == {"pixels": {"one cluster of pixels dropped"}, "classifier": {"one class dropped"}}


def test_a_dropped_class_is_detected_where_classes_are_separable(judge, data, held_out):
    assert isinstance(judge.fidelity_spaces[1].groups, Classes)
    for label in range(10):
        kept = held_out[data[1][1450:] != label]
        assert judge.judge(kept, [1]).verdicts[1].status == "fail", label


@pytest.mark.slow
def test_where_classes_overlap_a_dropped_cluster_is_detected(data, held_out):
    """Random labels: the absence of a class of them cannot be detected."""
    found = digits_judge(data[0], np.random.default_rng(0).integers(3, size=len(data[0])), ["classifier"])
    (space,) = found.fidelity_spaces
    assert isinstance(space.groups, Clusters)
    groups = space.view(held_out).groups
    for group in np.unique(groups):
        kept = held_out[groups != group]
        judged = found.judge(np.concatenate([kept, kept]), [1]).verdicts[1]
        assert (judged.status, "rarest group" in judged.evidence) == ("fail", True)


@pytest.mark.slow
def test_without_labels_an_encoder_that_teaches_itself_finds_what_is_wrong(data, held_out):
    found = digits_judge(data[0], None, None)
    assert [space.name for space in found.fidelity_spaces] == ["pixels", "self-supervised"]
    judged = {name: found.judge(made).verdicts for name, made in generators(held_out, data[0][:1000]).items()}
    assert (judged["held out"][1].status, judged["held out"][2].status) == ("pass", "pass")
    assert (judged["blurred"][1].status, judged["blurred"][2].status) == ("fail", "pass")
    assert judged["noisy copies"][2].status == "fail"
    clusters = found.fidelity_spaces[1].view(held_out).groups
    kept = held_out[clusters != 0]
    assert found.judge(np.concatenate([kept, kept]), [1]).verdicts[1].status == "fail"


@pytest.mark.slow
def test_images_mapped_from_disk_are_judged_as_those_in_memory(data, held_out, tmp_path):
    def mapped(name, images):
        np.save(tmp_path / f"{name}.npy", images)
        return np.load(tmp_path / f"{name}.npy", mmap_mode="r")

    parts = {"train": slice(400), "val": slice(400, 500), "test": slice(500, 650)}
    there = [data[0][part] for part in parts.values()]
    here = [mapped(name, data[0][part]) for name, part in parts.items()]
    found = [make_judge(PreparedData(*images, None, None, None), ["pixels"], 0, 200) for images in (there, here)]
    assert found[0].calibrations == found[1].calibrations
    assert found[0].judge(held_out) == found[1].judge(held_out)


def test_the_automatic_choice_of_features():
    images = np.zeros((10, 1, 4, 4), np.uint8)
    labelled = PreparedData(images, images, images, *[np.zeros(10)] * 3)
    bare = PreparedData(images, images, images, None, None, None)
    assert chosen_features(None, labelled) == {1: ["pixels", "learnt"], 2: ["pixels"]}
    assert chosen_features(None, bare) == {1: ["pixels", "self-supervised"], 2: ["pixels"]}
    assert chosen_features(["classifier"], labelled) == {1: ["classifier"], 2: ["classifier"]}


@pytest.mark.parametrize("learnable", [True, False])
def test_labels_that_can_not_be_learnt_are_left_alone(data, learnable):
    images, labels = data
    known = labels if learnable else np.random.default_rng(0).integers(10, size=len(labels))
    parts = (slice(700), slice(700, 900), slice(900, 1000))
    given = PreparedData(*(images[part] for part in parts), *(known[part] for part in parts))
    assert fit("learnt", True, given, choose_pool(given, 0), seed=0).name == (
        "classifier" if learnable else "self-supervised"
    )


def test_a_metric_that_needs_more_images_is_unavailable_with_the_reason(judge, held_out):
    space, few = judge.fidelity_spaces[0], judge.fidelity_spaces[0].view(held_out[:3])
    found = all_metrics(1, few, few, space)
    assert "precision" not in found.values
    assert any(
        each.startswith("precision, recall, density, coverage: the metric needs at least") for each in found.unavailable
    )


def test_every_metric_has_a_direction_and_a_name_of_its_own():
    assert set(NAMES) >= HIGHER_IS_BETTER
    assert len(set(NAMES)) == len(NAMES)


def test_the_calibration_is_written_completely(judge):
    written = calibration_record(judge)
    assert json.loads(json.dumps(written, allow_nan=False)) == written
    assert set(written["spaces"]) == {"pixels", "classifier"}
    assert all(len(each["digest"]) == 64 for each in written["spaces"].values())
    for rule, names in RULES.items():
        rows = written["rules"][str(rule)]["metrics"]
        assert all(set(row["separates"]) >= set(row["detects"]) for row in rows)
        assert len(rows) == 2 * len(", ".join(names).split(", "))
        named = {each["name"] for each in written["rules"][str(rule)]["controls"]}
        assert all(named >= set(row["values"]) >= set(row["detects"]) for row in rows)
        assert named == {control for row in rows for control in row["values"]}
