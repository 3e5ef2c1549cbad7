"""Generators whose verdict is known, judged on few digits, and what is kept and said of that."""

import numpy as np
import pytest
from benchmarks import proof_generators, proof_judges, proofs
from benchmarks.calibration import bundled
from benchmarks.proof_generators import Images, Kind, kinds, told_apart
from benchmarks.proof_judges import Split, copy_judge
from benchmarks.verdicts import Journal, Requirement, code_digest

from latentmill.data.batches import as_float

SIZES = {
    "TRAIN": 700,
    "RESERVED": 300,
    "POOL": 400,
    "JUDGED": 200,
    "HELD_OUT": 300,
    "COMPARED": 300,
    "UNSEEN": 100,
    "CLASSIFIER_STEPS": 60,
}


@pytest.fixture
def images(monkeypatch):
    """All digits, in parts that are as small as these."""
    for module in (proof_generators, proof_judges):
        for name, size in SIZES.items():
            if hasattr(module, name):
                monkeypatch.setattr(module, name, size)
    source = bundled("digits")
    order = np.random.default_rng(0).permutation(len(source.images))
    return Images(source.images[order], source.labels[order])


def named(name):
    return next(kind for kind in kinds() if kind.name == name)


def test_a_copier_fails_and_the_search_finds_its_copies(images):
    kind = named("20 % copies, unchanged")
    pool = kind.pool(images, seed=0).samples
    assert np.isin(rows(pool), rows(images.train)).mean() == pytest.approx(0.2, abs=0.02)
    found = Split(images, images.seen_by(None), 0, {2}).verdicts(kind, pool, 0)
    assert found["2"][0] == "fail"
    assert found["exact"] == pytest.approx(0.2 * 200, abs=20)
    assert found["rate"] == 1
    assert found["exact"] / 200 < found["highest_share"] < 0.4


@pytest.mark.slow
def test_new_images_do_not_fail_and_both_judges_of_rule_2_agree(images):
    split = Split(images, images.seen_by(None), 0, {1, 2})
    found = split.verdicts(Kind("new", lambda *of: None), images.reserved, 0)
    assert found["2"][0] != "fail"
    assert {"1", "2", "exact", "near"} == found.keys()
    samples = as_float(images.reserved[:200])
    alone, both = (judge.judge(samples, [2]).verdicts[2] for judge in (copy_judge(split.data, 0), split.judge))
    assert alone == both


def test_a_perfect_generator_may_lack_two_classes(images):
    known = dict(zip(rows(images.every), images.labels, strict=True))
    classes = [
        {known[row] for row in rows(named("new images without two classes").pool(images, seed).samples)}
        for seed in (0, 1)
    ]
    assert [len(each) for each in classes] == [8, 8]
    assert classes[0] != classes[1]
    assert {known[row] for row in rows(named("new images").pool(images, 0).samples)} == set(range(10))


def test_splits_hold_out_other_images_that_no_generator_has_seen(images):
    first, second = (Split(images, images.seen_by(None), seed, {2}).data for seed in (0, 1))
    assert not np.array_equal(first.test, second.test)
    used = rows(np.concatenate([images.train, images.reserved]))
    assert not np.isin(rows(first.test), used).any()
    assert not np.isin(rows(first.val), rows(first.test)).any()


def test_a_trained_generator_is_trained_once(images, tmp_path, monkeypatch):
    monkeypatch.setattr(proof_generators, "POOLS", tmp_path / "pools")
    monkeypatch.setattr(proof_generators, "GAN_EPOCHS", 1)
    kind = named("GAN without two classes")
    first = kind.pool(images, seed=0)
    assert (first.samples.shape, first.samples.dtype) == ((400, 1, 8, 8), np.uint8)
    assert first.accuracy > 0.8  # after one epoch
    monkeypatch.setattr(proof_generators, "train", None)
    np.testing.assert_array_equal(kind.pool(images, seed=0).samples, first.samples)


def test_a_classifier_tells_noise_from_images_but_not_images_from_images(images):
    noise = np.random.default_rng(0).integers(0, 256, images.reserved.shape, np.uint8)
    assert told_apart(noise, images.reserved, seed=0) > 0.95
    assert told_apart(images.train, images.reserved, seed=0) < 0.62


def test_a_kind_that_lacks_a_package_is_left_out_with_a_line(monkeypatch, capsys):
    monkeypatch.setattr(proofs, "find_spec", lambda name: None)
    assert proofs.available(["diffusion", "GAN"]) == [named("GAN without two classes")]
    assert "needs pip install smalldiffusion" in capsys.readouterr().out


def test_results_count_what_each_kind_must_be(images):
    kind = named("100 % copies, unchanged")
    rows = [[{"2": [status, ""], "near": 1}] * 2 for status in ("fail", "pass", "fail")]
    (line,) = proofs.results(kind, {"accuracy": [None] * 3, "verdicts": rows})
    assert (line.figure, line.holds) == (66.667, False)
    assert "4 of 6" in line.note
    (_, __, row) = proofs.table({kind.name: proofs.summary({"accuracy": [None] * 3, "verdicts": rows})})
    assert "| 0.1 % | 2 | 0 / 2 / 0 (34 to 100 %) | 2 / 0 / 0 (0 to 66 %) |" in row


def test_the_lowest_bound_on_the_share_of_copies_is_kept():
    rows = [[{"2": ["fail", ""], "near": 1, "highest_share": share}] for share in (0.3, 0.2, 0.4)]
    assert proofs.summary({"accuracy": [], "verdicts": rows})["search"] == {"near": 1, "highest_share": 0.2}


def test_only_samples_that_are_told_apart_must_not_pass(images):
    kind = next(kind for kind in kinds() if kind.needs == "pythae")
    rows = [[{"1": ["pass", ""], "2": ["pass", ""]}]] * 3
    lines = {line.name: line for line in proofs.results(kind, {"accuracy": [0.9, 0.55, 0.58], "verdicts": rows})}
    (told,) = (line for name, line in lines.items() if "told apart" in name)
    assert (told.figure, told.holds) == (100, False)
    assert "1 of 1" in told.note


def test_a_journal_knows_what_the_same_code_has_found(tmp_path):
    journal = Journal(tmp_path / "new" / "journal.jsonl", "a")
    assert journal.known("digits") == {}
    journal.add("digits", 0, ["first"])
    journal.add("digits", 0, ["second"])
    journal.add("faces", 1, ["other"])
    assert journal.known("digits") == {0: ["second"]}
    assert Journal(journal.path, "b").known("digits") == {}


def test_the_digest_of_code_covers_the_file_and_what_it_imports(tmp_path):
    digests = []
    for text in (
        "from latentmill import errors\n",
        "from latentmill import errors  # ours\n",
        "from latentmill import draws\n",
    ):
        (tmp_path / "module.py").write_text(text)
        digests.append(code_digest(tmp_path / "module.py"))
    assert len(set(digests)) == 3


def test_a_requirement_counts_verdicts_with_their_interval(capsys):
    required = Requirement("copies found", "copier", (1, 2), "fail", at_least=99)
    verdicts = [{("copier", 1): ("fail", ""), ("copier", 2): (status, "C_T")} for status in ("fail", "fail", "pass")]
    found = required.result("digits", verdicts)
    assert (found.figure, found.holds, found.target) == (66.667, False, "≥ 99 %")
    assert found.note == "2 of 3, 95 % interval 20.8 to 93.9 %"
    assert required.statuses(verdicts) == {"fail and fail": 2, "fail and pass": 1}
    required.print_if_wrong(5, verdicts[0])
    assert not capsys.readouterr().out
    required.print_if_wrong(5, verdicts[2])
    assert "seed 5" in capsys.readouterr().out


def rows(images):
    """Each image as one string of bytes."""
    return np.array([image.tobytes() for image in images])
