"""The evaluation of an entry, and its output on disk. test_pipeline.py has a whole ladder, judged on Ray."""

import csv
import io
import json

import numpy as np
import pytest
from conftest import IMAGE_SHAPE, each_variant
from PIL import Image

from latentmill import models
from latentmill.config import EvaluationConfig, TrainingConfig
from latentmill.contract import Decodes, Encodes, HasLikelihood, HasPosterior
from latentmill.data.batches import Batches, as_float
from latentmill.errors import InputError
from latentmill.evaluation import pictures, results, sampling
from latentmill.evaluation.assembly import make_judge
from latentmill.evaluation.baseline import compute_baseline
from latentmill.evaluation.copies import near_copy_metrics
from latentmill.evaluation.entry import SHOWN, EvaluationResult, judge_model, judge_samples
from latentmill.evaluation.neighbours import Neighbours, TrainingSet, nearest_metrics
from latentmill.evaluation.plots import BINS, distances_csv, kl_csv
from latentmill.evaluation.prepared import PreparedData
from latentmill.evaluation.results import MODEL
from latentmill.runtime.images import grid
from latentmill.training.loop import complete, train

CONFIG = EvaluationConfig(samples=150, importance_samples=11, likelihood_images=12, features=["pixels"])
VAE = {"latent": 3}


def random_images(count: int, shape=IMAGE_SHAPE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, *shape), dtype=np.float32)


# One entry, judged


@pytest.fixture(scope="module")
def prepared(digits) -> PreparedData:
    """The models were fitted to the first 500."""
    labels = np.arange(600) % 10
    parts = (slice(440), slice(440, 500), slice(500, 600))
    return PreparedData(*(digits[part] for part in parts), *(labels[part] for part in parts))


@pytest.fixture(scope="module")
def judge(prepared):
    return make_judge(prepared, ["pixels"], seed=0, samples=CONFIG.samples)


@pytest.fixture(scope="module")
def judged(trained, prepared, judge):
    """Each case, evaluated once when first asked for: (model, results by prior or MODEL)."""
    made = {}

    def judged(name, model_config):
        key = str((name, model_config))
        if key not in made:
            model, _ = trained(name, model_config)
            baseline = compute_baseline(prepared, seed=0)
            found = {
                prior: judge_samples(model, prior, prepared, baseline, judge, CONFIG)
                for prior in sampling.priors(model)
            }
            made[key] = model, found | {MODEL: judge_model(model, prepared, CONFIG)}
        return made[key]

    return judged


@each_variant
def test_an_entry_is_drawn_as_far_as_it_can_be(name, config, judged):
    model, found = judged(name, config)
    kinds = ("samples", "closest", "distances", "gallery")
    expected = {f"{kind}_{prior}.png" for kind in kinds for prior in sampling.priors(model)}
    if isinstance(model, Encodes):
        expected |= {f"{name}.png" for name in ("reconstructions", "worst", "interpolations", "traversals", "codes")}
    if isinstance(model, HasPosterior):
        expected |= {"kl.png"}
    if isinstance(model, HasPosterior) and not isinstance(model, HasLikelihood):
        expected |= {"likelihood.png"}
    drawn = {name: content for each in found.values() for name, content in each.pictures.items()}
    assert set(drawn) == expected
    for content in drawn.values():
        with Image.open(io.BytesIO(content)) as picture:
            assert picture.format == "PNG"
            assert np.ptp(np.asarray(picture.convert("L"))) > 50, "not one colour"


def leaves(content: dict) -> list:
    return [leaf for value in content.values() for leaf in (leaves(value) if isinstance(value, dict) else [value])]


@each_variant
def test_the_metrics_of_an_entry_are_finite_numbers_and_text(name, config, judged, judge, tmp_path):
    """DVC drops lists and null without a word."""
    model, found = judged(name, config)
    results.write(tmp_path, ["entry"], {("entry", of): each for of, each in found.items()}, judge, judge_test(found))
    metrics = json.loads((tmp_path / "metrics.json").read_text())["entry"]
    assert {type(leaf) for leaf in leaves(metrics)} <= {int, float, str}
    expected = {"samples", "exported_prior"}
    expected |= {"reconstruction", "latent"} if isinstance(model, Encodes) else set()
    expected |= {"likelihood"} if isinstance(model, HasPosterior | HasLikelihood) else set()
    assert set(metrics) == expected
    assert set(metrics["samples"]) == set(sampling.priors(model))
    assert metrics["exported_prior"] in metrics["samples"]
    assert metrics.get("likelihood", {}).get("images", 12) == 12
    assert ("kl" in metrics.get("latent", {})) == isinstance(model, HasPosterior)
    galleries = json.loads((tmp_path / "galleries.json").read_text())["entry"]
    assert {prior: len(each["distances"]) for prior, each in galleries.items()} == dict.fromkeys(galleries, SHOWN)


def judge_test(found) -> Neighbours:
    """Distances that the tables can be drawn from."""
    return Neighbours(np.ones((3, 5), np.float32), np.zeros((3, 5), int))


@each_variant
def test_the_samples_of_an_entry_are_judged_as_they_were_drawn(name, config, judged, prepared, judge):
    """Samples, neighbours and verdicts of each prior, put together again."""
    model, found = judged(name, config)
    index, baseline = TrainingSet(prepared.train), compute_baseline(prepared, seed=0)
    for prior in sampling.priors(model):
        samples = sampling.sample(model, prior, CONFIG.samples, CONFIG.seed)
        nearest, metrics = index.nearest(samples), found[prior].metrics
        np.testing.assert_allclose(found[prior].distances, nearest.distances[:, 0], atol=1e-5)
        assert metrics["nearest"] == pytest.approx(nearest_metrics(nearest, baseline.test), abs=1e-5)
        assert metrics["near_copies"] == pytest.approx(near_copy_metrics(nearest, baseline.test, baseline.near))
        judgement = judge.judge(samples)
        assert metrics["rule_2"]["status"] == judgement.verdicts[2].status
        precision = next(each for each in judgement.estimates[1] if each.calibration.metric == "precision")
        assert metrics["metrics"]["pixels"]["precision"]["value"] == pytest.approx(precision.value)
        assert ("hole" in metrics) == isinstance(model, Decodes)
        with Image.open(io.BytesIO(found[prior].pictures[f"samples_{prior}.png"])) as picture:
            np.testing.assert_array_equal(np.asarray(picture), grid(as_float(samples[:64]), columns=16)[..., 0])


def test_a_prior_that_meets_the_codes_leaves_fewer_holes(judged):
    """What separates an autoencoder from a variational one."""
    _, found = judged("autoencoder", {"latent": 3, "network": "conv"})
    accuracies = {prior: each.metrics["hole"]["c2st_accuracy"] for prior, each in found.items() if prior != MODEL}
    assert accuracies["mixture"] < accuracies["normal"]


@pytest.mark.parametrize("labels", [None, np.full(14, 3)], ids=["without labels", "with one label"])
def test_a_few_images_are_enough_to_be_drawn_and_too_few_to_be_judged(trained, digits, labels):
    model, _ = trained("vae", VAE)
    parts = (slice(8), slice(8, 10), slice(10, 14))
    few = PreparedData(*(digits[part] for part in parts), *(None if labels is None else labels[part] for part in parts))
    config = EvaluationConfig(samples=7, importance_samples=1)
    judge = make_judge(few, ["pixels"] if labels is None else ["pixels", "classifier"], seed=0)
    found = judge_samples(model, "normal", few, compute_baseline(few, 0), judge, config).metrics
    json.dumps([found, judge_model(model, few, config).metrics, results.calibration(judge)], allow_nan=False)
    assert found["rule_2"]["status"] == "inconclusive"
    assert found["metrics"] == {}


@pytest.mark.parametrize(
    ("train", "test", "expected"), [(5, 2, "6 images in train.* 5"), (6, 1, "2 images in test.* 1")]
)
def test_fewer_images_are_refused(digits, train, test, expected):
    with pytest.raises(InputError, match=f"an evaluation needs at least {expected}"):
        PreparedData(digits[:train], digits[:2], digits[:test], None, None, None)


@pytest.mark.parametrize("shape", [(1, 40, 24), (3, 12, 30), (4, 17, 9)], ids=str)
@each_variant
def test_images_of_any_shape_are_modelled_drawn_and_compared(name, config, shape):
    """test_setbacks.py has their verdicts."""
    parts = [
        np.rint(255 * random_images(count, shape, seed)).astype(np.uint8) for seed, count in enumerate((60, 20, 20))
    ]
    prepared = PreparedData(*parts, None, None, None)
    model = models.build(name, config | ({"components": 2} if "latent" in config else {}), shape)
    training = None if model.closed_form else TrainingConfig(epochs=1, batch_size=50)
    images, val = Batches(prepared.train), Batches(prepared.val)
    train(model, images, val, training, seed=0)
    complete(model, images, val, seed=0)
    found = judge_model(model.eval(), prepared, EvaluationConfig(importance_samples=3, likelihood_images=5))
    assert ("reconstruction" in found.metrics) == isinstance(model, Encodes)
    for prior in sampling.priors(model):
        samples = sampling.sample(model, prior, 12, seed=0)
        assert samples.shape == (12, *shape)
        assert TrainingSet(prepared.train).nearest(samples).distances.shape == (12, 5)


# Pictures


@pytest.mark.parametrize("count", [1, 5, 16, 20, 32])
def test_each_image_of_a_pair_is_over_its_counterpart(tmp_path, count):
    above, below = random_images(count), random_images(count, seed=1)
    pictures.draw_pairs(tmp_path / "pairs.png", above, below)
    with Image.open(tmp_path / "pairs.png") as picture:
        sheet = np.asarray(picture)
    columns, step = min(count, 16), 8 * 7 + 2
    for pair in range(count):
        row, column = 2 * (pair // columns), pair % columns
        for image, top in ((above[pair], row), (below[pair], row + 1)):
            corner = sheet[2 + top * step :, 2 + column * step :][:56:7, :56:7]
            np.testing.assert_array_equal(corner, np.rint(image[0] * 255))


def test_the_closest_pairs_are_those_that_stand_out(tmp_path):
    train = np.arange(40, dtype=np.uint8).repeat(64).reshape(40, *IMAGE_SHAPE)
    distances = np.ones((40, 5), np.float32)
    distances[:, 0] = np.linspace(0.9, 0.1, 40)
    nearest = Neighbours(distances, np.arange(40)[:, None].repeat(5, 1))
    pictures.draw_closest(tmp_path / "closest.png", np.full((40, *IMAGE_SHAPE), 255, np.uint8), nearest, train)
    with Image.open(tmp_path / "closest.png") as picture:
        shown = np.asarray(picture)[2::58, 2::58]
    assert shown[1].tolist() == list(range(39, 29, -1)), "the closest first"


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_gallery_is_each_sample_and_its_neighbours_pixel_for_pixel(tmp_path, channels):
    shape = (channels, 4, 6)
    train = np.random.default_rng(0).integers(0, 256, (20, *shape), dtype=np.uint8)
    samples, indices = train[:3][::-1], np.arange(15).reshape(3, 5)
    pictures.draw_gallery(tmp_path / "gallery.png", samples, Neighbours(np.ones((3, 5)), indices), train)
    with Image.open(tmp_path / "gallery.png") as picture:
        sheet = np.asarray(picture).reshape(3, 4, 6, 6, channels).transpose(0, 2, 4, 1, 3)  # (N, K + 1, C, H, W)
    np.testing.assert_array_equal(sheet[:, 0], samples)
    np.testing.assert_array_equal(sheet[:, 1:], train[indices])


# Tables


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_table_of_distances_is_a_histogram_of_each_set():
    distances = {"normal": np.array([1.0, 1.0, 3.0]), "mixture": np.array([6.0])}
    found = {("vae", prior): EvaluationResult({}, {}, distances=each) for prior, each in distances.items()}
    table = rows(distances_csv(found, np.array([0.0, 3.0])))
    sets = {row["entry"] for row in table}
    assert sets == {"test images", "vae, normal", "vae, mixture"}
    for name in sets:
        chosen = [(float(row["distance"]), float(row["share"])) for row in table if row["entry"] == name]
        assert [distance for distance, _ in chosen] == pytest.approx(0.05 + 0.1 * np.arange(BINS), abs=1e-4)
        assert sum(share for _, share in chosen) == pytest.approx(1, abs=1e-4)
    filled = {
        row["distance"]: float(row["share"]) for row in table if row["entry"] == "vae, normal" and float(row["share"])
    }
    assert list(filled.values()) == pytest.approx([2 / 3, 1 / 3], abs=1e-5)


def test_the_table_of_kl_is_by_rank_and_leaves_out_who_has_none():
    none = {("naive_bayes", MODEL): EvaluationResult({}, {}), ("vae", "normal"): EvaluationResult({}, {})}
    found = none | {("vae", MODEL): EvaluationResult({}, {}, kl=np.array([0.1, 2.0, 0.5]))}
    table = [(row["entry"], row["rank"], float(row["nats"])) for row in rows(kl_csv(found))]
    assert table == [("vae", "1", 2.0), ("vae", "2", 0.5), ("vae", "3", 0.1)]
    assert rows(kl_csv(none)) == []


def test_copies_alone_have_a_table_of_distances():
    table = rows(distances_csv({("copier", "pixels"): EvaluationResult({}, {}, distances=np.zeros(4))}, np.zeros(3)))
    assert {row["share"] for row in table} == {"0.000000", "1.000000"}
