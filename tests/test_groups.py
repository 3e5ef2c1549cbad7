"""The groups that a model may lose: none too small to be missed, found again in new images."""

import numpy as np
import pytest

from latentmill.evaluation.groups import CLUSTERS, Cells, Clusters, balanced_recall, joined_classes


def blobs(counts, seed=0):
    """So many points around each of as many corners, and which one."""
    rng = np.random.default_rng(seed)
    of = np.repeat(np.arange(len(counts)), counts)
    return (rng.normal(size=(len(of), 3)) + 40 * np.eye(max(3, len(counts)))[of][:, :3]).astype(np.float32), of


def test_clusters_are_those_of_the_data_where_they_are_large_enough():
    rows, of = blobs([100, 100, 100])
    found = Clusters.fit(rows, least=0.2, seed=0).assign(rows)
    pairs = {(int(a), int(b)) for a, b in zip(of, found, strict=True)}
    assert len(pairs) == len(np.unique(found)) == 3


@pytest.mark.parametrize("least", [0.05, 0.12, 0.3])
@pytest.mark.parametrize("counts", [[900, 20, 20, 20, 20, 20], [200] * 5], ids=["uneven", "even"])
def test_no_cluster_is_too_small_to_be_missed(counts, least):
    rows, _ = blobs(counts)
    found = Clusters.fit(rows, least, seed=0).assign(rows)
    shares = np.bincount(found) / len(found)
    assert shares.min() >= least - 2 / len(rows)
    assert 2 <= len(shares) <= CLUSTERS


@pytest.mark.parametrize(("equal", "clusters"), [(90, 1), (60, 2)])
def test_a_cluster_is_not_cut_where_equal_rows_leave_too_few_others(equal, clusters):
    rows = np.concatenate([np.zeros((equal, 3)), np.random.default_rng(0).normal(9, size=(100 - equal, 3))])
    found = Clusters.fit(rows.astype(np.float32), least=0.3, seed=0).assign(rows.astype(np.float32))
    assert len(np.unique(found)) == clusters
    assert np.bincount(found).min() >= 30


def test_new_images_fall_into_the_clusters_of_their_like():
    clusters = Clusters.fit(blobs([100, 100, 100])[0], least=0.2, seed=0)
    rows, of = blobs([30, 30, 30], seed=1)
    assert len(set(zip(of, clusters.assign(rows), strict=True))) == 3


def test_rows_that_are_all_the_same_are_one_cluster():
    rows = np.ones((50, 3), np.float32)
    clusters = Clusters.fit(rows, least=0.1, seed=0)
    assert set(clusters.assign(rows)) == {0}
    assert set(Cells(rows, 10, seed=0).assign(np.zeros((4, 3), np.float32))) == {0}


def test_classes_stay_separate_where_each_is_recognised_and_large_enough():
    labels = np.repeat([0, 1], [80, 20])
    mistaken = labels.copy()
    mistaken[80:90] = 0  # half of the smaller class
    assert joined_classes(labels, labels, size=100, classes=2).tolist() == [0, 1]
    assert joined_classes(mistaken, labels, size=100, classes=2) is None, "its absence would leave no gap"
    assert joined_classes(labels, labels, size=40, classes=2) is None, "8 images may be missing by chance"


def test_a_class_that_many_others_are_taken_for_is_not_missed():
    """A third of what is found to be of the last is not: of few images that is little less than with it."""
    labels = np.repeat([0, 1, 2], [300, 300, 20])
    found = labels.copy()
    found[:10] = 2
    assert joined_classes(found, labels, size=3_000, classes=3).tolist() == [0, 1, 2]
    assert joined_classes(found, labels, size=300, classes=3).tolist() == [0, 1, 0]


def test_a_rare_class_does_not_hide_the_others():
    labels = np.append(np.repeat(np.arange(10), 300), np.full(8, 10))
    found = labels.copy()
    found[-5:] = 3
    assert joined_classes(found, labels, size=1154, classes=11).tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 3]


def test_rare_classes_that_are_mistaken_for_none_are_joined():
    labels = np.append(np.repeat(np.arange(4), 300), np.repeat([4, 5], 8))
    assert joined_classes(labels, labels, size=1_000, classes=6).tolist() == [0, 1, 2, 3, 4, 4]


def test_a_class_that_is_taken_for_another_is_joined_to_it():
    labels = np.repeat(np.arange(6), 100)
    found = labels.copy()
    found[200:270] = 5
    assert joined_classes(found, labels, size=500, classes=6).tolist() == [0, 1, 4, 2, 3, 4], "the third and the last"


def test_where_most_classes_are_joined_they_are_no_groups():
    labels = np.repeat(np.arange(6), 100)
    found = np.where(labels < 2, labels, 2 + np.arange(600) % 4)
    assert joined_classes(found, labels, size=500, classes=6) is None
    assert balanced_recall(found, labels) == pytest.approx(0.5)
