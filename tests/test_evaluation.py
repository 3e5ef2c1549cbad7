"""The evaluation of an entry, and its output on disk. test_pipeline.py has a whole ladder, judged on Ray."""

import csv
import io
import json

import numpy as np
import pytest
import torch
from conftest import IMAGE_SHAPE, each_after_training
from pairs import Pairs, fitted, untrained_prior
from PIL import Image

from latentmill import registry
from latentmill.codes import Generator, drawn_codes
from latentmill.config import EvaluationConfig, Settings, TrainingConfig
from latentmill.contract import (
    Decodes,
    Encodes,
    HasBound,
    HasCodebook,
    HasCriterion,
    HasEnergy,
    HasLikelihood,
    HasPosterior,
    HasPrior,
    Model,
)
from latentmill.data.batches import Batches, as_float
from latentmill.errors import InputError
from latentmill.evaluation import pictures, results, sampling
from latentmill.evaluation.assembly import make_judge
from latentmill.evaluation.baseline import compute_baseline
from latentmill.evaluation.calibration_record import calibration_record
from latentmill.evaluation.copies import near_copy_metrics
from latentmill.evaluation.entry import SHOWN, EvaluationResult, judge_model, judge_samples
from latentmill.evaluation.neighbours import Neighbours, TrainingSet, nearest_metrics
from latentmill.evaluation.plots import BINS, distances_csv, kl_csv
from latentmill.evaluation.prepared import PreparedData
from latentmill.evaluation.results import MODEL
from latentmill.evaluation.selection import exported_prior
from latentmill.runtime.images import grid
from latentmill.training.loop import Setup, train
from latentmill.trials.trained_model import Failure

CONFIG = EvaluationConfig(
    samples=150, importance_samples=11, likelihood_images=12, temperatures=50, features=["pixels"]
)
VAE = {"latent": 3}


def random_images(count: int, shape=IMAGE_SHAPE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, *shape), dtype=np.float32)


# One entry, judged


@pytest.fixture(scope="module")
def prepared(digits, labels) -> PreparedData:
    """The models were fitted to the first 500."""
    parts = (slice(440), slice(440, 500), slice(500, 600))
    return PreparedData(*(digits[part] for part in parts), *(labels[part] for part in parts))


@pytest.fixture(scope="module")
def judge(prepared):
    return make_judge(prepared, ["pixels"], seed=0, samples=CONFIG.samples)


@pytest.fixture(scope="module")
def baseline(prepared):
    return compute_baseline(prepared, seed=0)


@pytest.fixture(scope="module")
def judged(trained, prepared, judge, baseline, digits, labels):
    """Each case, evaluated once when first asked for: (its generators by prior, results by prior or MODEL)."""
    made, pairs = {}, Pairs(digits, labels)

    def judged(name, model_config):
        key = str((name, model_config))
        if key not in made:
            model, _ = trained(name, model_config)
            generators = pairs.generators(model)
            found = {
                prior: judge_samples(generator, prior, prepared, baseline, judge, CONFIG)
                for prior, generator in generators.items()
            }
            made[key] = generators, found | {MODEL: judge_model(model, prepared, CONFIG)}
        return made[key]

    return judged


def model_of(generators: dict[str, Generator]):
    return next(iter(generators.values())).model


def has_kl_of_dimensions(model: Model) -> bool:
    """Under N(0, I) alone each dimension has its own."""
    return isinstance(model, HasPosterior) and not isinstance(model, HasPrior)


@each_after_training
def test_an_entry_is_drawn_as_far_as_it_can_be(name, config, judged):
    generators, found = judged(name, config)
    model, kinds = model_of(generators), ["samples", "closest", "distances", "gallery"]
    has_numbers = isinstance(model, Encodes) and not isinstance(model, HasCodebook)
    kinds += ["codes"] if has_numbers else []
    expected = {f"{kind}_{prior}.png" for kind in kinds for prior in generators}
    if isinstance(model, Encodes):
        expected |= {"reconstructions.png", "worst.png"}
    if has_numbers:
        expected |= {"interpolations.png", "traversals.png"}
    if has_kl_of_dimensions(model):
        expected |= {"kl.png"}
    if isinstance(model, HasBound) and not isinstance(model, HasLikelihood):
        expected |= {"likelihood.png"}
    drawn = {name: content for each in found.values() for name, content in each.pictures.items()}
    assert set(drawn) == expected
    for content in drawn.values():
        with Image.open(io.BytesIO(content)) as picture:
            assert picture.format == "PNG"
            assert np.ptp(np.asarray(picture.convert("L"))) > 50, "not one colour"


def leaves(content: dict) -> list:
    return [leaf for value in content.values() for leaf in (leaves(value) if isinstance(value, dict) else [value])]


@each_after_training
def test_the_metrics_of_an_entry_are_finite_numbers_and_text(name, config, judged, judge, baseline, tmp_path):
    """DVC drops lists and null without a word."""
    generators, found = judged(name, config)
    model = model_of(generators)
    write(tmp_path, {"entry": "auto"}, {("entry", of): each for of, each in found.items()}, judge, baseline)
    metrics = json.loads((tmp_path / "metrics.json").read_text())["entry"]
    assert {type(leaf) for leaf in leaves(metrics)} <= {int, float, str}
    expected = {"samples", "exported_prior"}
    expected |= {"reconstruction", "latent"} if isinstance(model, Encodes) else set()
    expected |= {"likelihood"} if isinstance(model, HasBound | HasLikelihood | HasEnergy) else set()
    assert set(metrics) == expected
    assert set(metrics["samples"]) == set(generators)
    assert metrics["exported_prior"] in metrics["samples"]
    assert metrics.get("likelihood", {}).get("images", 12) == 12
    assert ("kl" in metrics.get("latent", {})) == has_kl_of_dimensions(model)
    galleries = json.loads((tmp_path / "galleries.json").read_text())["entry"]
    assert {prior: len(each["distances"]) for prior, each in galleries.items()} == dict.fromkeys(generators, SHOWN)


def write(folder, entries, found, judge, baseline, failed=None) -> None:
    results.write(folder, entries, found, judge, baseline.test, failed)


@each_after_training
def test_the_samples_of_an_entry_are_judged_as_they_were_drawn(name, config, judged, prepared, judge, baseline):
    """Samples, neighbours and verdicts of each prior, put together again."""
    generators, found = judged(name, config)
    index = TrainingSet(prepared.train)
    for prior, generator in generators.items():
        samples = sampling.sample(generator, CONFIG.samples, CONFIG.seed, prepared.train_labels).images
        nearest, metrics = index.nearest(samples), found[prior].metrics
        np.testing.assert_allclose(found[prior].distances, nearest.distances[:, 0], atol=1e-5)
        assert metrics["nearest"] == pytest.approx(nearest_metrics(nearest, baseline.test), abs=1e-5)
        assert metrics["near_copies"] == pytest.approx(near_copy_metrics(nearest, baseline.test, baseline.near))
        judgement = judge.judge(samples)
        assert metrics["rule_2"]["status"] == judgement.verdicts[2].status
        precision = next(each for each in judgement.estimates[1] if each.calibration.metric == "precision")
        assert metrics["metrics"]["pixels"]["precision"]["value"] == pytest.approx(precision.value)
        assert ("hole" in metrics) == isinstance(generator.model, Encodes)
        assert ("prior" in metrics) == ("hole" in metrics and not isinstance(generator.model, HasCodebook))
        with Image.open(io.BytesIO(found[prior].pictures[f"samples_{prior}.png"])) as picture:
            np.testing.assert_array_equal(np.asarray(picture), grid(as_float(samples[:64]), columns=16)[..., 0])


def test_a_gan_is_judged_by_its_samples_alone(judged):
    generators, found = judged("gan", {"latent": 3, "hidden": 50})
    assert list(generators) == [sampling.OWN]
    assert found[MODEL].metrics == {}
    assert found[sampling.OWN].metrics["validation"]["frechet_distance"] > 0


def test_a_prior_that_meets_the_codes_leaves_fewer_holes(judged):
    """What separates an autoencoder from a variational one."""
    _, found = judged("autoencoder", {"latent": 3, "network": "conv"})
    accuracies = {prior: each.metrics["hole"]["c2st_accuracy"] for prior, each in found.items() if prior != MODEL}
    assert accuracies["mixture"] < accuracies["normal"]
    assert found["mixture"].metrics["mixture_components"] == 2


class Grid(Model, Encodes, Decodes):
    """Its codes are the halves of an image of 8x8, a grid of shape (2, 4, 8)."""

    Config = Settings
    code_shape = (2, 4, 8)

    def encode(self, images, label=None):
        return images.unflatten(2, (2, 4))[:, 0]

    def decode(self, z, label=None):
        return z.clamp(0, 1).flatten(1, 2)[:, None]


def test_codes_of_another_shape_than_a_vector_are_judged(prepared, judge, baseline):
    model = Grid(Settings(), IMAGE_SHAPE)
    train, val = (drawn_codes(model, Batches(images), torch.Generator()) for images in (prepared.train, prepared.val))
    assert train.shape == (440, 2, 4, 8)
    found = judge_model(model, prepared, CONFIG).metrics
    assert found["reconstruction"]["mse"] == pytest.approx(0, abs=1e-9)
    assert found["latent"]["dimensions"] == 64
    metrics = {
        name: judge_samples(
            Generator(model, fitted(name, train, val, **config)), name, prepared, baseline, judge, CONFIG
        ).metrics
        for name, config in (("normal", {}), ("mixture", {"components": 1}))
    }
    assert metrics["mixture"]["prior"]["mmd"] < metrics["normal"]["prior"]["mmd"]


# What is chosen, and what fails


def under(distance: float | None = None, rule_2: str = "pass") -> dict:
    """The numbers of samples at this distance to the validation images."""
    return {"rule_2": {"status": rule_2}, "validation": {} if distance is None else {"frechet_distance": distance}}


@pytest.mark.parametrize(
    ("wanted", "samples", "expected"),
    [
        ("auto", {"flow": under(3.0), "mixture": under(2.0), "normal": under(4.0)}, "mixture"),
        ("auto", {"flow": under(1.0, "fail"), "mixture": under(3.0), "normal": under(2.0, "inconclusive")}, "normal"),
        ("auto", {"flow": under(2.0, "fail"), "mixture": under(1.0, "fail")}, "mixture"),
        ("auto", {"flow": under(), "mixture": under(), "normal": under()}, "normal"),
        ("auto", {"flow": under(rule_2="inconclusive"), "mixture": under(9.0)}, "mixture"),
        ("normal", {"flow": under(1.0), "normal": under(2.0, "fail")}, "normal"),
    ],
    ids=["nearest", "no copier", "all copy", "too few images", "one without a distance", "as wanted"],
)
def test_the_exported_prior_is_the_nearest_that_does_not_copy(wanted, samples, expected):
    assert exported_prior(wanted, samples) == expected


def result(**measured) -> EvaluationResult:
    """Of samples whose numbers are made up."""
    return EvaluationResult(under(**measured), {}, distances=np.ones(4))


def entry(name: str, **priors: EvaluationResult) -> dict:
    return {(name, MODEL): EvaluationResult({}, {})} | {(name, prior): each for prior, each in priors.items()}


def test_each_entry_has_a_file_that_those_of_others_do_not_change(judge, baseline, tmp_path):
    kept = entry("kept", normal=result(distance=2.0), flow=result(distance=1.0))
    contents = []
    for folder, other in ((tmp_path / "a", result(distance=5.0)), (tmp_path / "b", result(distance=0.5))):
        folder.mkdir()
        found = kept | entry("other", own=other)
        write(folder, {"kept": "auto", "other": "auto"}, found, judge, baseline)
        contents.append({path.stem: path.read_text() for path in (folder / "entries").iterdir()})
        metrics = json.loads((folder / "metrics.json").read_text())
        assert {name: json.loads(text) for name, text in contents[-1].items()} == metrics
    assert contents[0]["kept"] == contents[1]["kept"]
    assert contents[0]["other"] != contents[1]["other"]
    chosen = {name: json.loads(text)["exported_prior"] for name, text in contents[0].items()}
    assert chosen == {"kept": "flow", "other": "own"}


def test_a_prior_that_is_named_is_exported_and_one_that_has_failed_is_not(judge, baseline, tmp_path):
    found = entry("named", normal=result(distance=2.0), flow=result(distance=1.0))
    found |= entry("lost", mixture=result(distance=2.0), flow=result(distance=1.0))
    write(tmp_path, {"named": "normal", "lost": "normal"}, found, judge, baseline)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["named"]["exported_prior"] == "normal"
    assert metrics["lost"]["exported_prior"] == "flow"


def test_the_order_in_which_tasks_ended_does_not_matter(judge, baseline, tmp_path):
    found = entry("a", normal=result(), flow=result(), mixture=result()) | entry("b", own=result(distance=1.0))
    contents = []
    for folder, keys in ((tmp_path / "a", list(found)), (tmp_path / "b", list(found)[::-1])):
        folder.mkdir()
        write(folder, {"a": "auto", "b": "auto"}, {key: found[key] for key in keys}, judge, baseline)
        contents.append({path: path.read_text() for path in map(folder.joinpath, ("metrics.json", "distances.csv"))})
    assert list(contents[0].values()) == list(contents[1].values())


def test_of_an_entry_that_failed_there_is_the_reason_alone(judge, baseline, tmp_path):
    found = entry("whole", own=result(distance=1.0)) | {("broken", MODEL): EvaluationResult({}, {})}
    failed = {"broken": Failure("samples must be finite", "try again")}
    write(tmp_path, {"broken": "auto", "whole": "auto"}, found, judge, baseline, failed)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert list(metrics) == ["broken", "whole"]
    assert metrics["broken"] == {"failed": "samples must be finite", "advice": "try again"}
    assert json.loads((tmp_path / "entries/broken.json").read_text()) == metrics["broken"]
    assert not (tmp_path / "pictures/broken").exists()


@pytest.mark.parametrize("known", [None, np.full(14, 3)], ids=["without labels", "with one label"])
def test_a_few_images_are_enough_to_be_drawn_and_too_few_to_be_judged(judged, digits, known):
    generator = judged("vae", VAE)[0]["normal"]
    parts = (slice(8), slice(8, 10), slice(10, 14))
    few = PreparedData(*(digits[part] for part in parts), *(None if known is None else known[part] for part in parts))
    config = EvaluationConfig(samples=7, importance_samples=1)
    judge = make_judge(few, ["pixels"] if known is None else ["pixels", "classifier"], seed=0)
    found = judge_samples(generator, "normal", few, compute_baseline(few, 0), judge, config).metrics
    json.dumps([found, judge_model(generator.model, few, config).metrics, calibration_record(judge)], allow_nan=False)
    assert found["rule_2"]["status"] == "inconclusive"
    assert found["metrics"] == {}


@pytest.mark.parametrize(
    ("train", "test", "expected"), [(5, 2, "6 images in train.* 5"), (6, 1, "2 images in test.* 1")]
)
def test_fewer_images_are_refused(digits, train, test, expected):
    with pytest.raises(InputError, match=f"an evaluation needs at least {expected}"):
        PreparedData(digits[:train], digits[:2], digits[:test], None, None, None)


@pytest.mark.parametrize("shape", [(1, 40, 24), (3, 12, 30), (4, 17, 9)], ids=str)
@each_after_training
def test_images_of_any_shape_are_modelled_drawn_and_compared(name, config, shape):
    """test_setbacks.py has their verdicts."""
    parts = [
        np.rint(255 * random_images(count, shape, seed)).astype(np.uint8) for seed, count in enumerate((60, 20, 20))
    ]
    labels = [np.arange(len(part)) % 2 for part in parts]
    prepared = PreparedData(*parts, *labels)
    model = registry.build("models", name, config, shape, classes=2)
    epochs = 1 + max((phase.epochs[0] for phase in model.phases()), default=0)
    training = None if model.closed_form else TrainingConfig(epochs=epochs, batch_size=50)
    setup = Setup(
        Batches(parts[0], labels=labels[0]),
        Batches(parts[1], labels=labels[1]),
        distance=None if isinstance(model, HasCriterion) else lambda model: 0.0,
    )
    train(model, setup, training, seed=0)
    found = judge_model(
        model.eval(), prepared, EvaluationConfig(importance_samples=3, likelihood_images=5, temperatures=10)
    )
    assert ("reconstruction" in found.metrics) == isinstance(model, Encodes)
    for generator in sampling.generators(model, untrained_prior(model)).values():
        samples = sampling.sample(generator, 12, seed=0, labels=prepared.train_labels).images
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
