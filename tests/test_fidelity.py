"""Each metric of fidelity against its formula or another implementation, and what it must not depend on."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from prdc import compute_prdc
from scipy.linalg import sqrtm
from scipy.ndimage import gaussian_filter
from torchmetrics.image.kid import poly_mmd

from latentmill.evaluation import fidelity
from latentmill.evaluation.fidelity import Prdc, bandwidth, c2st_accuracy, class_distance, prdc, vendi_score
from latentmill.features.distances import TooFew, frechet_distance, kernel_distance

some = settings(max_examples=25, deadline=None, derandomize=True)
TWO_SETS = {
    "prdc": lambda x, y: prdc(x, y, k=2),
    "frechet_distance": frechet_distance,
    "kernel_distance": kernel_distance,
    "c2st_accuracy": lambda x, y: c2st_accuracy(x, y, seed=0),
}
SIZES = [(60, 60, 3), (45, 70, 8), (70, 33, 8), (9, 8, 20)]


def normal(count: int, width: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=scale, size=(count, width)).astype(np.float32)


def values(found: object) -> list[float]:
    """The numbers of a metric."""
    return list(vars(found).values()) if isinstance(found, Prdc) else [found]


@st.composite
def sets(draw, fewest: int = 6):
    """Two sets of points on a coarse grid, so that copies, ties and constant features are common."""
    width = draw(st.integers(1, 4))
    counts = draw(st.tuples(*[st.integers(fewest, 15)] * 2))
    grid = st.integers(-3, 3).map(lambda value: np.float32(value / 2))
    return tuple(draw(arrays(np.float32, (count, width), elements=grid)) for count in counts)


# What every metric of two sets has in common


@some
@given(both=sets(), seed=st.integers(0, 9))
@pytest.mark.parametrize("name", ["prdc", "frechet_distance", "kernel_distance"])
def test_the_order_of_the_images_does_not_matter(name, both, seed):
    draws, metric = np.random.default_rng(seed), TWO_SETS[name]
    shuffled = [draws.permutation(points) for points in both]
    assert values(metric(*shuffled)) == pytest.approx(values(metric(*both)), rel=1e-9, abs=1e-9)


@some
@given(both=sets())
@pytest.mark.parametrize("name", TWO_SETS)
def test_every_value_is_finite(name, both):
    assert np.isfinite(values(TWO_SETS[name](*both))).all()


@pytest.mark.parametrize("value", [0.0, 0.1, 1e4])
@pytest.mark.parametrize("counts", [(6, 6), (9, 12)])
def test_sets_of_one_point(counts, value):
    """Data of a single image: no ball holds anything, no distance is above 0, and the C2ST is at chance."""
    x, y = (np.full((count, 3), value, np.float32) for count in counts)
    assert values(prdc(x, y)) == [0, 0, 0, 0]
    assert frechet_distance(x, y) == 0
    assert kernel_distance(x, y) == pytest.approx(0, abs=1e-9 * (value**2 + 1) ** 3)
    assert c2st_accuracy(x, y, seed=0) == pytest.approx(0.5, abs=0.15), "folds of few are uneven"
    assert vendi_score(x, bandwidth(y)) == pytest.approx(1)


@pytest.mark.parametrize(
    ("metric", "fewest"),
    [
        (lambda x, y: prdc(x, y, k=3), 4),
        (frechet_distance, 2),
        (kernel_distance, 2),
        (lambda x, y: c2st_accuracy(x, y, seed=0), 5),
        (lambda x, y: class_distance(np.zeros(len(x), int), np.zeros(len(y), int), 1), 1),
        (lambda x, y: vendi_score(x, 1.0) + vendi_score(y, 1.0), 1),
        (lambda x, y: bandwidth(x) + bandwidth(y), 2),
    ],
    ids=["prdc", "frechet", "kernel", "classifier", "classes", "vendi", "bandwidth"],
)
def test_too_few_images_are_refused_and_just_enough_are_not(metric, fewest):
    enough, short = normal(fewest, 3), normal(fewest - 1, 3)
    for sets_ in ((short, enough), (enough, short)):
        with pytest.raises(TooFew, match=f"needs at least {fewest} images of each set, but got .*{fewest - 1}"):
            metric(*sets_)
    assert np.isfinite(values(metric(enough, enough + 1))).all()


# Precision, recall, density, coverage


@pytest.mark.parametrize("chunk", [7, 1_000])
@pytest.mark.parametrize(("samples", "real", "width"), SIZES)
def test_prdc_is_that_of_its_authors(monkeypatch, samples, real, width, chunk):
    monkeypatch.setattr(fidelity, "CHUNK", chunk)
    x, y = normal(samples, width, scale=1.2), normal(real, width, seed=1)
    assert vars(prdc(x, y)) == pytest.approx(compute_prdc(y, x, nearest_k=5))


@some
@given(both=sets(fewest=5), k=st.integers(1, 4))
def test_prdc_is_its_formula_where_points_coincide(both, k):
    """Distances between points of a grid are exact enough to tell the inside of a ball from its surface."""
    x, y = ([tuple(point) for point in points.tolist()] for points in both)

    def radii(points):
        return [sorted(math.dist(p, q) for q in points)[k] for p in points]

    in_real = [[math.dist(p, q) < radius - 1e-6 for q, radius in zip(y, radii(y), strict=True)] for p in x]
    in_samples = [[math.dist(p, q) < radius - 1e-6 for q in y] for p, radius in zip(x, radii(x), strict=True)]
    expected = [np.any(in_real, 1), np.any(in_samples, 0), np.sum(in_real, 1) / k, np.any(in_real, 0)]
    assert values(prdc(*both, k=k)) == pytest.approx([part.mean() for part in expected])


@some
@given(both=sets(), power=st.integers(-6, 6), shift=st.integers(-2, 2))
def test_prdc_changes_with_neither_scale_nor_place(both, power, shift):
    moved = [points * np.float32(2.0**power) + np.float32(shift * 2.0**power) for points in both]
    assert prdc(*moved) == prdc(*both)


def test_samples_and_data_change_roles():
    x, y = normal(50, 4), normal(60, 4, seed=1, scale=1.5)
    assert prdc(x, y).precision == prdc(y, x).recall


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda data, others: data, {"precision": (1, 1), "recall": (1, 1), "coverage": (1, 1)}),
        (lambda data, others: others, {"precision": (0.8, 1), "recall": (0.8, 1), "density": (0.8, 1.2)}),
        (lambda data, others: others * 0.1, {"precision": (1, 1), "recall": (0, 0.1), "coverage": (0, 0.5)}),
        (lambda data, others: others + 100, {"precision": (0, 0), "density": (0, 0), "coverage": (0, 0)}),
        (lambda data, others: np.repeat(others[:20], 20, 0), {"recall": (0, 0), "coverage": (0.01, 0.5)}),
    ],
    ids=["the data", "more of the data", "all near the mean", "far away", "twenty points"],
)
def test_prdc_tells_fidelity_from_diversity(make, expected):
    data = normal(400, 5)
    found = vars(prdc(make(data, normal(400, 5, seed=1)), data))
    for name, (low, high) in expected.items():
        assert low <= found[name] <= high, name


# Fréchet distance


@pytest.mark.parametrize(("samples", "real", "width"), SIZES[:3])
def test_the_frechet_distance_is_that_by_a_matrix_square_root(samples, real, width):
    x, y = normal(samples, width, scale=1.2).astype(np.float64), normal(real, width, seed=1) + 0.3
    first, second = np.cov(x.T), np.cov(y.T)
    expected = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(first + second - 2 * sqrtm(first @ second).real)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("count", [2, 5, 40])
def test_the_frechet_distance_of_features_on_their_own_axes(count):
    """Where covariances commute, it is the squared distance of the means and of the standard deviations."""
    x, scales, shift = normal(count, 1), np.array([1.0, 2.0, 0.0]), np.array([3.0, 0.0, 4.0])
    deviation = x.std(ddof=1, dtype=np.float64)
    mean_difference = (scales - 1) * x.mean(dtype=np.float64) + shift
    # one factor times (1, 1, 1) and times (1, 2, 0): both covariances have rank one, at an angle
    expected = np.square(mean_difference).sum() + deviation**2 * (3 + 5 - 2 * 3)
    assert frechet_distance((x * scales + shift).astype(np.float32), np.repeat(x, 3, 1)) == pytest.approx(expected)
    apart = frechet_distance(normal(40, 3) * np.float32(2) + 1, normal(40, 3))
    spread = np.trace(np.cov(normal(40, 3).T))
    moved = np.square(normal(40, 3).mean(0) + 1).sum()
    assert apart == pytest.approx(moved + spread, rel=1e-5)


@some
@given(both=sets(), scale=st.sampled_from([0.25, 3.0, 1e3]))
def test_the_frechet_distance_is_symmetric_and_scales_with_the_square(both, scale):
    found = frechet_distance(*both)
    assert found >= 0
    assert frechet_distance(*both[::-1]) == pytest.approx(found, abs=1e-9)
    scaled = [points * np.float32(scale) for points in both]
    assert frechet_distance(*scaled) == pytest.approx(found * scale**2, rel=1e-5, abs=1e-9 * scale**2)


@some
@given(both=sets(fewest=2))
def test_the_frechet_distance_of_a_set_to_itself_is_zero(both):
    assert frechet_distance(both[0], both[0]) == pytest.approx(0, abs=1e-12)


def test_constant_features_add_nothing_to_the_frechet_distance():
    x, y = normal(40, 4), normal(30, 4, seed=1)
    wider = [np.column_stack([points, np.full((len(points), 2), 7, np.float32)]) for points in (x, y)]
    assert frechet_distance(*wider) == pytest.approx(frechet_distance(x, y))


# Kernel distance


@pytest.mark.parametrize("chunk", [7, 1_000])
@pytest.mark.parametrize(("samples", "width"), [(60, 3), (33, 20), (2, 4)])
def test_the_kernel_distance_is_that_of_torchmetrics(monkeypatch, samples, width, chunk):
    """Which knows only sets of one size."""
    monkeypatch.setattr(fidelity, "CHUNK", chunk)
    x, y = normal(samples, width, scale=1.2), normal(samples, width, seed=1)
    expected = poly_mmd(torch.from_numpy(x).double(), torch.from_numpy(y).double())
    assert kernel_distance(x, y) == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize(("samples", "real", "width"), SIZES)
def test_the_kernel_distance_by_hand(samples, real, width):
    x, y = normal(samples, width), normal(real, width, seed=1)

    def mean(a, b, pairs):
        return np.mean([(float(np.dot(a[i], b[j])) / width + 1) ** 3 for i, j in pairs])

    within = [mean(a, a, [(i, j) for i in range(len(a)) for j in range(len(a)) if i != j]) for a in (x, y)]
    across = mean(x, y, [(i, j) for i in range(samples) for j in range(real)])
    assert kernel_distance(x, y) == pytest.approx(sum(within) - 2 * across, rel=1e-4, abs=1e-5)
    assert kernel_distance(y, x) == pytest.approx(kernel_distance(x, y), rel=1e-9)


def test_the_kernel_distance_is_zero_on_average_for_samples_of_the_data():
    found = [kernel_distance(normal(50, 4, seed), normal(50, 4, seed + 100)) for seed in range(100)]
    assert abs(np.mean(found)) < 3 * np.std(found) / math.sqrt(len(found))
    assert min(found) < 0
    assert kernel_distance(normal(50, 4) + 1, normal(50, 4, seed=1)) > max(found)


# The classifier


@pytest.fixture(scope="module")
def rows(digits) -> np.ndarray:
    """In no order: the first digits are of other writers than the last, which a classifier sees at once."""
    return np.random.default_rng(0).permutation(digits.reshape(len(digits), -1).astype(np.float32) / 255)


@pytest.mark.parametrize("counts", [(300, 300), (100, 500)])
def test_data_are_not_separated_from_data(rows, counts):
    found = np.mean([c2st_accuracy(rows[: counts[0]], rows[-counts[1] :], seed) for seed in range(3)])
    assert found == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("counts", [(300, 300), (100, 500)])
def test_blurred_images_are_separated_from_the_data(digits, rows, counts):
    blurred = gaussian_filter(digits.astype(np.float32) / 255, (0, 0, 0.5, 0.5)).reshape(len(digits), -1)
    assert c2st_accuracy(blurred[: counts[0]], rows[-counts[1] :], seed=0) > 0.85


def test_a_sampler_stuck_at_one_image_is_found_out(rows):
    assert c2st_accuracy(np.repeat(rows[:1], 300, 0), rows[300:], seed=0) > 0.95


def test_samples_that_are_the_real_images_look_less_than_chance(rows):
    assert c2st_accuracy(rows, rows, seed=0) < 0.5


def test_the_classifier_follows_from_its_seed_and_takes_no_more_than_it_can(monkeypatch, rows):
    monkeypatch.setattr(fidelity, "LARGEST", 50)
    first, again, other = (c2st_accuracy(rows[:300], rows[300:], seed) for seed in (0, 0, 1))
    assert first == again != other
    assert (first * 100).is_integer(), "a share of 50 and 50 images"


# Vendi score


@pytest.mark.parametrize(("count", "width", "scale"), [(30, 3, 1.0), (10, 20, 0.1), (40, 2, 5.0), (1, 3, 1.0)])
def test_the_vendi_score_by_hand(count, width, scale):
    """As in the package vendi-score 0.0.3 (`score_K`), which uses what scipy deprecates, so it is not run here."""
    x = normal(count, width, scale=scale).astype(np.float64)
    kernel = np.exp([[-(math.dist(p, q) ** 2) / (2 * 0.7**2) for q in x] for p in x])
    shares = np.linalg.eigvalsh(kernel / count)
    entropy = -sum(share * math.log(share) for share in shares if share > 0)
    assert vendi_score(x.astype(np.float32), 0.7) == pytest.approx(math.exp(entropy), rel=1e-5)


@some
@given(points=sets().map(lambda both: both[0]), width=st.sampled_from([0.0, 0.1, 1.0, 10.0]), seed=st.integers(0, 9))
def test_the_vendi_score_counts_different_images(points, width, seed):
    found = vendi_score(points, width)
    assert 1 - 1e-9 <= found <= len(np.unique(points, axis=0)) + 1e-9
    shuffled = np.random.default_rng(seed).permutation(points)
    assert vendi_score(shuffled, width) == pytest.approx(found)
    assert vendi_score(np.repeat(points, 3, axis=0), width) == pytest.approx(found), "copies are not new"
    assert vendi_score(points * 4, width * 4) == pytest.approx(found)


def test_the_vendi_score_at_its_extremes():
    points = np.arange(12, dtype=np.float32)[:, None]
    assert vendi_score(points, 1e-3) == pytest.approx(12)
    assert vendi_score(points, 0.0) == pytest.approx(12)
    assert vendi_score(points, 1e6) == pytest.approx(1)
    assert vendi_score(np.repeat(points[[0, 11]], 6, axis=0), 0.5) == pytest.approx(2)
    assert vendi_score(np.repeat(points[[0, 11]], [10, 2], axis=0), 0.5) == pytest.approx(
        math.exp(-sum(share * math.log(share) for share in (10 / 12, 2 / 12)))
    )


def test_the_vendi_score_takes_the_first_images(monkeypatch):
    monkeypatch.setattr(fidelity, "LARGEST", 8)
    points = normal(20, 3)
    assert vendi_score(points, 1.0) == vendi_score(points[:8], 1.0)


def test_the_vendi_score_falls_where_diversity_does(rows):
    width = bandwidth(rows[:300])
    others = rows[300:]
    whole = vendi_score(others, width)
    assert whole == pytest.approx(vendi_score(rows[:300], width), rel=0.1)
    assert vendi_score(np.repeat(others[:150], 2, axis=0), width) < 0.85 * whole
    assert vendi_score((others + others.mean(0)) / 2, width) < 0.5 * whole


def test_the_bandwidth_by_hand():
    assert bandwidth(np.array([[0.0], [1.0], [4.0]], np.float32)) == 1.5  # the median of 1, 3, 4, halved


# Classes


@pytest.mark.parametrize(
    ("samples", "real", "expected"),
    [
        ([0, 1, 2], [2, 1, 0, 0, 1, 2], 0.0),
        ([0, 0], [1], 1.0),
        ([0], [0], 0.0),
        ([0, 0, 1, 1], [0, 1, 2, 2], 0.5),
    ],
)
def test_the_class_distance_by_hand(samples, real, expected):
    assert class_distance(np.array(samples), np.array(real), 3) == pytest.approx(expected)


@some
@given(
    samples=st.lists(st.integers(0, 4), min_size=1, max_size=30),
    real=st.lists(st.integers(0, 4), min_size=1, max_size=30),
)
def test_the_class_distance_is_the_largest_difference_of_a_set_of_classes(samples, real):
    subsets = [[c for c in range(5) if mask >> c & 1] for mask in range(32)]
    expected = max(np.isin(samples, chosen).mean() - np.isin(real, chosen).mean() for chosen in subsets)
    found = class_distance(np.array(samples), np.array(real), 5)
    assert found == pytest.approx(expected, abs=1e-12)
    assert found == pytest.approx(class_distance(np.array(real * 2), np.array(samples * 3), 5), abs=1e-12)
    assert 0 <= found <= 1
