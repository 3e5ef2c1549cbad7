"""The ceiling of every prior: Rule 1 on reconstructions of validation images."""

import json

import numpy as np
import pytest
import torch
from conftest import IMAGE_SHAPE

from latentmill.config import Settings
from latentmill.contract import Decodes, Encodes, Model
from latentmill.data.batches import as_float
from latentmill.errors import InputError
from latentmill.evaluation import results
from latentmill.evaluation.assembly import assemble_ceiling, calibrate, choose_pool, fit, make_judge
from latentmill.evaluation.baseline import compute_baseline
from latentmill.evaluation.ceiling import judge_reconstructions, reconstructions
from latentmill.evaluation.corruptions import blurred
from latentmill.evaluation.entry import EvaluationResult
from latentmill.evaluation.prepared import PreparedData

pytestmark = pytest.mark.usefixtures("without_curves")
SAMPLES, SPACES = 2_000, ["pixels", "classifier"]


class Copier(Model, Encodes, Decodes):
    """Its codes are the images themselves."""

    Config = Settings
    code_shape = IMAGE_SHAPE

    def encode(self, images, label=None):
        return images

    def decode(self, z, label=None):
        return z


class Blurrer(Copier):
    def decode(self, z, label=None):
        return torch.from_numpy(blurred(z.numpy()))


class Eraser(Copier):
    """Each nine becomes an empty image."""

    is_conditional = True

    def decode(self, z, label=None):
        return torch.where((label == 9)[:, None, None, None], 0.0, z)


class Labelled(Copier):
    """Shows in all pixels the label that it was given."""

    is_conditional = True

    def decode(self, z, label=None):
        return (label.float() / 255)[:, None, None, None].expand(len(z), *IMAGE_SHAPE)


def made(kind):
    return kind(Settings(), IMAGE_SHAPE)


@pytest.fixture(scope="module")
def data(shuffled_digits):
    """900 digits for training, 400 for validation, 497 for the reference."""
    images, labels = shuffled_digits
    parts = (slice(900), slice(900, 1300), slice(1300, None))
    return PreparedData(*(images[part] for part in parts), *(labels[part] for part in parts))


def ceiling_judge(data, names=("pixels",)):
    pool = choose_pool(data, 0)
    calibrated = [calibrate(1, fit(name, True, data, pool, 0), data, pool, 0, SAMPLES) for name in names]
    return assemble_ceiling(data, pool, 0, SAMPLES, *calibrated)


@pytest.fixture(scope="module")
def judge(data):
    return ceiling_judge(data, SPACES)


def ceiling(kind, data, judge):
    return judge_reconstructions(made(kind), data, judge, seed=0).metrics["reconstructions"]


def test_an_exact_copier_passes(data, judge):
    found = ceiling(Copier, data, judge)
    assert (found["rule_1"]["status"], found["rule_1"]["samples"]) == ("pass", 400)
    for space in SPACES:
        accuracy = found["metrics"][space]["C2ST accuracy"]
        assert accuracy["value"] == pytest.approx(0.5, abs=0.06)
        assert 0 < accuracy["standard_error"] < 0.05
        assert set(found["metrics"][space]) >= {"precision", "Fréchet distance", "Vendi ratio", "rarest group"}


@pytest.mark.parametrize("kind", [Blurrer, Eraser])
def test_a_decoder_that_blurs_or_loses_a_class_fails(kind, data, judge):
    assert ceiling(kind, data, judge)["rule_1"]["status"] == "fail"


def rows_of(images):
    return {row.tobytes() for row in images}


def test_reconstructions_are_of_validation_images_none_twice(data, judge):
    found = reconstructions(made(Copier), data, judge.size, seed=0)
    assert found.dtype == np.uint8
    assert len(found) == len(data.val) == judge.size
    assert sorted(row.tobytes() for row in found) == sorted(row.tobytes() for row in data.val)
    assert not np.array_equal(found, data.val), "on disk they may be sorted by class"
    assert not rows_of(found) & rows_of(data.test), "the reference"
    assert len(reconstructions(made(Copier), data, 60, seed=0)) == 60


def test_reconstructions_of_the_reference_would_be_paired(data, judge):
    """Why they are of other images: of the reference itself, even slightly changed copies score below 0.5."""
    found = judge.judge(as_float(data.test), rules=(1,)).metrics()["metrics"]
    assert all(found[space]["C2ST accuracy"]["value"] < 0.4 for space in SPACES)


def test_a_conditional_model_gets_the_label_of_each_image(data):
    found = reconstructions(made(Labelled), data, 400, seed=0)
    by_image = {row.tobytes(): label for row, label in zip(data.val, data.val_labels, strict=True)}
    images = reconstructions(made(Copier), data, 400, seed=0)
    assert [row.flat[0] for row in found] == [by_image[row.tobytes()] for row in images]


@pytest.mark.slow
def test_the_verdicts_on_samples_do_not_change(data, judge):
    """What a ceiling needs beside their calibrations has its own draws; the others are shared."""
    usual = make_judge(data, ["pixels"], 0, SAMPLES)
    known = {(each.metric, each.space): each for each in usual.calibrations if each.rule == 1}
    assert judge.draws.few == usual.draws.few == 350
    assert judge.draws.many == 400
    pixels = [each for each in judge.calibrations if each.space == "pixels"]
    assert {each.metric for each in pixels} == {metric for metric, _ in known}
    other = {each.metric for each in pixels if each != known[each.metric, each.space]}
    assert other == {"rarest group", "group distance"}
    assert {each.size for each in pixels if each.metric in other} == {400}


@pytest.mark.slow
def test_few_validation_images_are_judged_by_smaller_draws(data):
    few = PreparedData(data.train, data.val[:90], data.test, None, None, None)
    judge = ceiling_judge(few)
    assert judge.size == 90
    assert {each.size for each in judge.calibrations} == {90}
    found = ceiling(Blurrer, few, judge)
    assert found["rule_1"]["samples"] == 90
    assert found["rule_1"]["status"] == "fail"


@pytest.mark.parametrize("count", [0, 12])
def test_too_few_validation_images_leave_it_inconclusive(count, data):
    few = PreparedData(data.train, data.val[:count], data.test, None, None, None)
    found = ceiling(Copier, few, ceiling_judge(few))
    assert found["rule_1"]["status"] == "inconclusive"
    assert f"a verdict needs at least 20 samples, but there are {count}" in found["rule_1"]["evidence"]
    assert found["metrics"] == {}


class Broken(Copier):
    def decode(self, z, label=None):
        return z * torch.nan


def test_reconstructions_must_be_finite(data, judge):
    with pytest.raises(InputError, match="reconstructions must be finite"):
        ceiling(Broken, data, judge)


def test_it_is_a_part_of_an_entrys_numbers_and_no_prior(data, judge, tmp_path):
    verdicts = {f"rule_{rule}": {"status": "fail"} for rule in (1, 2)}
    drawn = EvaluationResult(verdicts | {"validation": {}}, {}, distances=np.ones(3), shown=[[1.0]])
    found = {
        ("coded", results.MODEL): EvaluationResult({}, {}),
        ("coded", results.RECONSTRUCTIONS): judge_reconstructions(made(Copier), data, judge, seed=0),
        ("coded", "normal"): drawn,
        ("plain", results.MODEL): EvaluationResult({}, {}),
        ("plain", "own"): drawn,
    }
    baseline = compute_baseline(data, 0)
    results.write(tmp_path, {"coded": "auto", "plain": "auto"}, found, judge, baseline.test)
    coded, plain = (json.loads((tmp_path / f"entries/{name}.json").read_text()) for name in ("coded", "plain"))
    assert set(coded) == {"exported_prior", "reconstructions", "samples"}
    assert list(coded["samples"]) == [coded["exported_prior"]] == ["normal"]
    assert "reconstructions" not in plain, "it has no codes"
    assert json.loads((tmp_path / "galleries.json").read_text())["coded"].keys() == {"normal"}
    line = results.line("coded", results.RECONSTRUCTIONS, found["coded", results.RECONSTRUCTIONS])
    assert line == "coded, reconstructions of validation images: rule 1 pass"
