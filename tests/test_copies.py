"""Each metric of copying against its definition, and the exact neighbours that all rest on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import gaussian_filter
from scipy.stats import beta
from sklearn.neighbors import NearestNeighbors

from latentmill.data.augmentation import mirrored
from latentmill.data.batches import as_float
from latentmill.evaluation import candidates
from latentmill.evaluation import neighbours as neighbours_module
from latentmill.evaluation.copies import (
    are_exact_copies,
    are_near_copies,
    authenticity,
    c_t,
    exact_copy_distance,
    likelihood_gap,
    near_copy_metrics,
    near_copy_threshold,
    relative_distances,
)
from latentmill.evaluation.copy_kinds import KINDS
from latentmill.evaluation.copy_search import CopyFinder, search_copies
from latentmill.evaluation.groups import Cells
from latentmill.evaluation.neighbours import K, Neighbours, TrainingSet, nearest_metrics
from latentmill.evaluation.prepared import PreparedData

some = settings(max_examples=25, deadline=None, derandomize=True)


def normal(count: int, width: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def nearest_at(*distances: float) -> Neighbours:
    """Queries whose nearest training image, number i for query i, is so far away."""
    count = len(distances)
    spread = np.array(distances, np.float32)[:, None] * np.linspace(1, 2, K, dtype=np.float32)
    return Neighbours(spread, np.repeat(np.arange(count)[:, None], K, axis=1))


points = st.integers(7, 20).flatmap(
    lambda count: arrays(np.float32, (count, 2), elements=st.integers(-3, 3).map(np.float32))
)


# Neighbours


@pytest.mark.parametrize("chunk", [3, 10_000])
@pytest.mark.parametrize(("queries", "train", "width"), [(50, 80, 3), (1, 6, 1), (20, 300, 64)])
def test_neighbours_are_those_of_scikit_learn(monkeypatch, chunk, queries, train, width):
    monkeypatch.setattr(neighbours_module, "CHUNK", chunk)
    known, asked = normal(train, width), normal(queries, width, seed=1)
    found = TrainingSet(known).nearest(asked)
    distances, indices = NearestNeighbors(n_neighbors=K, algorithm="brute").fit(known.astype(float)).kneighbors(asked)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found.indices, indices)


def smooth_images(count: int, seed: int = 0, shape=(3, 16, 12)) -> np.ndarray:
    """uint8 (count, C, H, W), of few factors and a little noise, as images are."""
    rng = np.random.default_rng(seed)
    factors = gaussian_filter(np.random.default_rng(9).normal(size=(200, *shape)), (0, 0, 2, 2))
    mixed = np.tensordot(rng.normal(size=(count, 200)) * 0.97 ** np.arange(200), factors, 1)
    return np.clip(128 + 300 * mixed + rng.normal(0, 3, mixed.shape), 0, 255).astype(np.uint8)


def far_images(count: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, 3, 16, 12), np.uint8)


@pytest.mark.parametrize("products", [10**12, 1], ids=["exact", "proposed"])
@pytest.mark.parametrize("make", [smooth_images, far_images])
def test_neighbours_of_large_images_are_the_nearest_in_pixels(monkeypatch, products, make):
    """Also of noise, of which components tell next to nothing."""
    monkeypatch.setattr(neighbours_module, "EXACT_PRODUCTS", products)
    monkeypatch.setattr(candidates, "VALUES", 20_000)  # 34 images at a time
    known, asked = smooth_images(900), make(60) if make is far_images else make(60, seed=1)
    found = TrainingSet(known).nearest(asked)
    rows = [images.reshape(len(images), -1) / 255 for images in (known, asked)]
    distances, indices = NearestNeighbors(n_neighbors=K, algorithm="brute").fit(rows[0]).kneighbors(rows[1])
    np.testing.assert_allclose(found.distances, distances, rtol=1e-5)
    np.testing.assert_array_equal(found.indices, indices)


@pytest.mark.parametrize("products", [10**12, 1], ids=["exact", "proposed"])
def test_of_copies_the_first_come_first_at_no_distance(monkeypatch, products):
    monkeypatch.setattr(neighbours_module, "EXACT_PRODUCTS", products)
    known = np.concatenate([smooth_images(300), far_images(4), far_images(4)])
    found = TrainingSet(known).nearest(known[300:304])
    np.testing.assert_array_equal(found.indices[:, :2], np.arange(300, 304)[:, None] + [0, 4])
    np.testing.assert_array_equal(found.distances[:, :2], 0)
    others = TrainingSet(known).others(np.array([301, 305]))
    assert others.indices[:, 0].tolist() == [305, 301]


@pytest.mark.parametrize(("samples", "products", "is_exact"), [(600, 550, False), (100, 550, True), (100, 450, False)])
def test_copies_of_training_images_are_searched_as_samples_are(monkeypatch, samples, products, is_exact):
    """500 are, of each kind, where a search of so many products is exact."""
    images = smooth_images(1_300)
    finder = CopyFinder(images[:600], PreparedData(images[:600], images[600:650], images[650:700], None, None, None), 0)
    searches, search_chunk = [], TrainingSet._search_chunk

    def noted(self, queries, k, is_exact):
        searches.append(is_exact)
        return search_chunk(self, queries, k, is_exact)

    monkeypatch.setattr(neighbours_module, "EXACT_PRODUCTS", products * images[:600].size)
    monkeypatch.setattr(TrainingSet, "_search_chunk", noted)
    search_copies(images[700 : 700 + samples], finder)
    assert len(searches) > len(KINDS)
    assert set(searches) == {is_exact}


def test_bytes_and_floats_have_the_same_neighbours():
    known, asked = smooth_images(300), smooth_images(20, seed=1)
    one, other = TrainingSet(known).nearest(asked), TrainingSet(as_float(known)).nearest(as_float(asked))
    np.testing.assert_array_equal(one.indices, other.indices)
    np.testing.assert_array_equal(one.distances, other.distances)


def test_an_index_takes_what_another_made_of_its_images():
    known, asked = smooth_images(300), smooth_images(20, seed=1)
    first = TrainingSet(known)
    second = TrainingSet(known, first.reduced)
    assert second.reduced is first.reduced
    np.testing.assert_array_equal(second.nearest(asked).indices, first.nearest(asked).indices)


@some
@given(points)
def test_the_others_are_the_nearest_but_the_image_itself(known):
    """Also where images stand in the data several times."""
    found = TrainingSet(known).among_themselves
    for i, (distances, indices) in enumerate(zip(found.distances, found.indices, strict=True)):
        others = np.delete(known, i, axis=0)
        np.testing.assert_allclose(distances, np.sort(np.linalg.norm(others - known[i], axis=1))[:K], atol=1e-6)
        assert i not in indices
        assert len(set(indices)) == K


def test_the_others_of_a_few_are_theirs():
    index, chosen = TrainingSet(normal(50)), np.array([7, 3, 40])
    few, all_ = index.others(chosen), index.among_themselves
    np.testing.assert_array_equal(few.indices, all_.indices[chosen])
    np.testing.assert_allclose(few.distances, all_.distances[chosen], atol=1e-6)


@some
@given(points)
def test_the_nearest_of_an_image_and_of_its_mirror_image_is_the_nearest_of_both(known):
    """As a search among all training images and their mirror images; a point is an image of two pixels."""
    index, images, queries = TrainingSet(known), known[:, None, None], normal(10, 2)
    found = index.nearest(queries[:, None, None], mirrored(queries[:, None, None]))
    both = np.concatenate([images, mirrored(images)]).reshape(-1, 2)
    distances = np.linalg.norm(queries[:, None] - both, axis=2)
    np.testing.assert_allclose(found.distances[:, 0], distances.min(1), atol=1e-6)
    shown = found.images(images)[:, 0].reshape(-1, 2)
    np.testing.assert_allclose(np.linalg.norm(shown - queries, axis=1), distances.min(1), atol=1e-6)
    np.testing.assert_array_equal(found[3:5].mirrored, found.mirrored[3:5])


def test_the_mirror_image_of_an_image_is_none_of_its_others():
    images = np.random.default_rng(0).integers(0, 256, (20, 1, 4, 4), dtype=np.uint8)
    images[1], images[2] = mirrored(images[2]), (images[2] + mirrored(images[2])) // 2  # the latter is its mirror image
    images[3] = mirrored(images[4])
    chosen = np.arange(5)
    found = TrainingSet(images).others(chosen, mirrored(images[chosen]))
    assert not (found.indices == chosen[:, None]).any()
    assert found.distances[2, 0] > 0, "which is itself"
    assert (found.indices[3:, 0].tolist(), found.distances[3:, 0].tolist()) == ([4, 3], [0, 0])


def test_copies_of_large_images_are_at_distance_zero():
    known = np.random.default_rng(0).random((200, 784), dtype=np.float32)
    found = TrainingSet(known).nearest(known[50:60])
    np.testing.assert_array_equal(found.distances[:, 0], 0)
    np.testing.assert_array_equal(found.indices[:, 0], np.arange(50, 60))


def test_neighbours_need_enough_training_images():
    with pytest.raises(ValueError, match="neighbours need at least 6 training images, but there are 5"):
        TrainingSet(normal(5))


def test_medians_and_their_ratio_by_hand():
    found = nearest_metrics(nearest_at(1, 2, 6), nearest_at(4, 8))
    assert found == {"median": 2.0, "test_median": 6.0, "ratio_to_test": pytest.approx(1 / 3)}
    assert "ratio_to_test" not in nearest_metrics(nearest_at(1), nearest_at(0, 0)), "0 divides nothing"


# Near copies


def test_relative_distances_by_hand():
    distances = np.array([[1, 1, 1, 1, 4], [0, 1, 1, 1, 2], [0, 0, 0, 0, 0]], np.float32)
    found = relative_distances(Neighbours(distances, np.zeros((3, K), int)))
    np.testing.assert_array_equal(found, [0.25, 0, 1])  # a fifth copy of the same stands out from no other


def relative(*shares: float) -> Neighbours:
    """Queries whose nearest training image is so far away, of the distance of the fifth."""
    distances = np.column_stack([np.array(shares, np.float32), *[np.ones(len(shares), np.float32)] * (K - 1)])
    return Neighbours(distances, np.zeros((len(shares), K), int))


def test_the_threshold_lies_between_copies_and_real_images_where_it_can():
    real, copies = np.linspace(0.5, 1, 200), np.linspace(0.1, 0.3, 100)
    assert 0.3 <= near_copy_threshold(relative(*real), relative(*copies)) <= 0.5


def test_near_twins_among_the_data_cost_no_more_than_they_are():
    """Of real images 2 % are twins, at next to no distance, which a quantile of these would make the threshold."""
    real = np.concatenate([np.full(4, 0.001), np.linspace(0.5, 1, 196)])
    threshold = near_copy_threshold(relative(*real), relative(*np.linspace(0.1, 0.3, 100)))
    assert 0.3 <= threshold <= 0.5
    assert are_near_copies(relative(*real), threshold).mean() == 0.02


def test_where_copies_and_real_images_overlap_the_threshold_tells_a_mixture_best():
    """As simulated: no other keeps shares of mixtures and of real images as far apart for their deviations."""
    rng = np.random.default_rng(0)
    real, copies = rng.beta(3, 2, 5_000), rng.beta(2, 5, 5_000)
    found = near_copy_threshold(relative(*real), relative(*copies))
    draws = rng.choice(real, (400, 500)), np.hstack([rng.choice(copies, (400, 100)), rng.choice(real, (400, 400))])

    def apart(threshold):
        alone, mixed = ((each < threshold).mean(1) for each in draws)
        return (mixed.mean() - alone.mean()) / (alone.std() + mixed.std())

    assert apart(found) > 0.9 * max(apart(each) for each in np.linspace(0.1, 0.9, 33))


def test_a_threshold_that_finds_few_copies_is_no_good_though_it_has_no_false_positives():
    """Three of ten copies lie where no real image is, the others where 1 % are."""
    copies = np.concatenate([np.full(30, 0.05), np.full(70, 0.15)])
    real = np.concatenate([np.full(10, 0.14), np.linspace(0.5, 1, 990)])
    assert near_copy_threshold(relative(*real), relative(*copies)) > 0.15


@some
@given(points, st.floats(0.1, 100))
def test_near_copies_do_not_depend_on_scale_or_order(known, scale):
    index, larger = TrainingSet(known), TrainingSet(known * np.float32(scale))
    threshold = near_copy_threshold(index.among_themselves, index.nearest(known))
    assert near_copy_threshold(larger.among_themselves, larger.nearest(known * np.float32(scale))) == threshold
    order = np.random.default_rng(0).permutation(len(known))
    ours, theirs = (relative_distances(TrainingSet(known[rows]).among_themselves) for rows in (slice(None), order))
    np.testing.assert_allclose(ours[order], theirs, atol=1e-5)


def test_an_exact_copy_is_one_but_for_rounding():
    known, new = normal(500, 8), normal(500, 8, seed=1)
    index = TrainingSet(known)
    distance = exact_copy_distance(index.among_themselves)
    rounded = known + np.float32(0.1 * distance / np.sqrt(8))
    assert are_exact_copies(index.nearest(rounded), distance).all()
    assert not are_exact_copies(index.nearest(new), distance).any()
    noisy = known + 0.05 * normal(500, 8, seed=2)
    assert not are_exact_copies(index.nearest(noisy), distance).any()


def test_the_interval_of_near_copies_is_that_of_wilson():
    threshold, count, copied = 0.5, 40, 3
    distances = np.ones((count, K), np.float32)
    distances[:copied, 0] = 0.1
    samples = Neighbours(distances, np.zeros((count, K), int))
    found = near_copy_metrics(samples, samples[np.arange(10)], threshold)
    z, share = 1.959964, copied / count
    middle, half = share + z**2 / (2 * count), z * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    expected = {"low": (middle - half) / (1 + z**2 / count), "high": (middle + half) / (1 + z**2 / count)}
    assert found == pytest.approx(expected | {"share": share, "held_out": 0.3})
    exact = beta.ppf(0.975, copied + 1, count - copied)
    assert found["high"] == pytest.approx(exact, abs=0.03), "near that of Clopper and Pearson"


def test_exact_copies_are_near_copies_and_new_images_are_not():
    known, new = normal(500, 8), normal(500, 8, seed=1)
    index = TrainingSet(known)
    threshold = near_copy_threshold(index.among_themselves, index.nearest(known + 0.05 * normal(500, 8, seed=2)))
    assert are_near_copies(index.nearest(known[:100]), threshold).all()
    assert are_near_copies(index.nearest(new), threshold).mean() < 0.01


# Authenticity


def own_distances(index, samples):
    return index.among_themselves.distances[index.nearest(samples).indices[:, 0], 0]


def test_authenticity_is_its_definition():
    known, samples = normal(60), normal(40, seed=1)
    expected = []
    for sample in samples:
        distances = np.linalg.norm(known - sample, axis=1)
        nearest = known[distances.argmin()]
        own = np.sort(np.linalg.norm(known - nearest, axis=1))[1]
        expected.append(distances.min() > own)
    index = TrainingSet(known)
    assert authenticity(index.nearest(samples), own_distances(index, samples)) == pytest.approx(np.mean(expected))


def test_no_copy_is_authentic():
    index = TrainingSet(normal(60))
    assert authenticity(index.nearest(normal(60)), own_distances(index, normal(60))) == 0


# C_T


def test_one_cell_is_the_standardised_rank_sum():
    ours, theirs = nearest_at(1, 2, 3, 10), nearest_at(4, 5, 6)
    wins = 3  # pairs in which the sample is farther: 10 beats all three
    expected = (wins - 4 * 3 / 2) / np.sqrt(4 * 3 * (4 + 3 + 1) / 12)
    assert c_t(ours, np.zeros(4, int), theirs, np.zeros(3, int)) == pytest.approx(expected)


def test_cells_are_weighted_by_their_test_images_and_sparse_ones_left_out():
    ours = nearest_at(*np.linspace(1, 2, 20), *np.linspace(5, 6, 20), *[0.0] * 5)
    theirs = nearest_at(*np.linspace(3, 4, 30), *np.linspace(3, 4, 10), *[9.0] * 50)
    our_cells, their_cells = np.repeat([0, 1, 2], [20, 20, 5]), np.repeat([0, 1, 2], [30, 10, 50])
    low = -20 * 30 / 2 / np.sqrt(20 * 30 * 51 / 12)
    high = 20 * 10 / 2 / np.sqrt(20 * 10 * 31 / 12)
    assert c_t(ours, our_cells, theirs, their_cells) == pytest.approx((30 * low + 10 * high) / 40)


@some
@given(st.lists(st.integers(0, 5), min_size=3, max_size=30), st.lists(st.integers(0, 5), min_size=3, max_size=30))
def test_c_t_changes_its_sign_with_the_sides_and_is_never_nan(ours, theirs):
    a, b = nearest_at(*ours), nearest_at(*theirs)
    none, other = np.zeros(len(ours), int), np.zeros(len(theirs), int)
    forth, back = c_t(a, none, b, other), c_t(b, other, a, none)
    assert np.isfinite(forth)
    assert forth == pytest.approx(-back, abs=1e-9)


def test_there_are_no_more_cells_than_different_images():
    cells = Cells(np.repeat(normal(3), 10, axis=0), cells=10, seed=0)
    assert len(np.unique(cells.assign(normal(100, seed=2)))) <= 3
    assert set(Cells(np.ones((10, 2), np.float32), 10, seed=0).assign(np.zeros((4, 2), np.float32))) == {0}


# Likelihood gap


def test_the_gap_of_one_sample_has_a_closed_form():
    """One Gaussian's maximum likelihood variance is the mean squared distance a dimension."""
    sample, train, test = normal(1), normal(50, seed=1), normal(30, seed=2)
    scale = train.std(0)
    squared = [np.square((points - sample) / scale).sum(1).mean() for points in (train, test)]
    expected = 0.5 * (squared[1] - squared[0]) / squared[0]
    assert likelihood_gap(sample, train, test) == pytest.approx(expected, rel=1e-4)


def test_copies_have_a_gap_and_new_samples_none():
    train, test, new = normal(400), normal(400, seed=1), normal(400, seed=2)
    assert abs(likelihood_gap(new, train, test)) < 0.2
    assert likelihood_gap(train, train, test) > 0.5


@some
@given(st.floats(0.01, 100), st.permutations(range(4)))
def test_the_gap_does_not_depend_on_the_scale_or_order_of_features(scale, order):
    samples, train, test = normal(30), normal(60, seed=1), normal(60, seed=2)
    expected = likelihood_gap(samples, train, test)
    moved = (points[:, order] * np.float32(scale) for points in (samples, train, test))
    assert likelihood_gap(*moved) == pytest.approx(expected, rel=1e-2, abs=1e-4)


def test_constant_features_and_identical_sets_have_a_defined_gap():
    same = np.ones((20, 3), np.float32)
    assert likelihood_gap(same, same, same) == 0
    half = np.column_stack([normal(20, 1), np.zeros(20)]).astype(np.float32)
    assert np.isfinite(likelihood_gap(half, half, half))
