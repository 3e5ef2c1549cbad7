"""Each number of the evaluation against its definition, and that every variant can be judged."""

import csv
import io
import json
import math

import numpy as np
import pytest
import torch
from conftest import IMAGE_SHAPE, each_variant
from PIL import Image
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity
from torch.distributions import Normal, kl_divergence

from latentmill.config import EvaluationConfig
from latentmill.data.batches import Batches
from latentmill.evaluation import fidelity as fidelity_module
from latentmill.evaluation import pictures, sampling
from latentmill.evaluation.entry import Evaluation, as_float, evaluate, material
from latentmill.evaluation.fidelity import fidelity
from latentmill.evaluation.latent import codes, interpolate, kl_metrics, kl_per_dimension, map_to_plane
from latentmill.evaluation.likelihood import evaluate_likelihood
from latentmill.evaluation.neighbours import Neighbours, TrainingImages, neighbour_metrics
from latentmill.evaluation.plots import BINS, distances_csv, kl_csv
from latentmill.evaluation.reconstruction import reconstruct, reconstruction_metrics
from latentmill.observations import binarised
from latentmill.runtime.images import grid
from latentmill.variant import Decodes, Encodes, HasLikelihood, HasPosterior

VAE, GAUSSIAN_VAE = ({"latent": 3}, {"latent": 3, "network": "conv", "observation": "gaussian", "beta": 2.0})
PPCA = {"latent": 5, "components": 3}
AUTOENCODER = {"latent": 3, "network": "conv"}


@pytest.fixture(scope="module")
def train(digits) -> np.ndarray:
    """What the models were fitted to."""
    return as_float(digits[:500])


@pytest.fixture(scope="module")
def unseen(digits) -> np.ndarray:
    """What they have never seen."""
    return as_float(digits[500:])


def random_images(count: int, shape=IMAGE_SHAPE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, *shape), dtype=np.float32)


# Reconstruction


def test_reconstruction_by_hand():
    """The ratio is averaged over images, not computed of the average error."""
    images = np.zeros((2, *IMAGE_SHAPE), np.float32)
    others = np.stack([np.full(IMAGE_SHAPE, 0.1), np.full(IMAGE_SHAPE, 0.01)]).astype(np.float32)
    found = reconstruction_metrics(images, others)
    assert found["mse"] == pytest.approx((0.01 + 0.0001) / 2, rel=1e-5)
    assert found["psnr_db"] == pytest.approx((20 + 40) / 2, rel=1e-5)


def test_a_perfect_reconstruction_has_a_finite_ratio(unseen):
    assert reconstruction_metrics(unseen, unseen) == pytest.approx({"mse": 0.0, "psnr_db": 100.0, "ssim": 1.0})


@pytest.mark.parametrize(("shape", "window"), [((1, 28, 28), 7), ((3, 9, 12), 7), ((1, 6, 8), 5), ((1, 4, 4), 3)])
def test_reconstruction_metrics_are_those_of_scikit_image(shape, window):
    images, others = random_images(4, shape), random_images(4, shape, seed=1)
    pairs = list(zip(images, others, strict=True))
    ssim = [structural_similarity(*pair, win_size=window, data_range=1.0, channel_axis=0) for pair in pairs]
    found = reconstruction_metrics(images, others)
    assert found["mse"] == pytest.approx(np.mean([mean_squared_error(*pair) for pair in pairs]), rel=1e-5)
    assert found["psnr_db"] == pytest.approx(
        np.mean([peak_signal_noise_ratio(*pair, data_range=1.0) for pair in pairs]), rel=1e-5
    )
    assert found["ssim"] == pytest.approx(np.mean(ssim), rel=1e-5)


def test_reconstructions_are_decoded_codes_in_order(trained, digits):
    model, _ = trained("vae", VAE)
    images = Batches(digits)  # more than one chunk
    with torch.no_grad():
        expected = model.decode(model.encode(images[:])).numpy()
    np.testing.assert_allclose(reconstruct(model, images), expected, atol=1e-6)


# Neighbours


def brute_force_neighbours(queries: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    differences = queries[:, None].astype(np.float64) - train[None]
    distances = np.sqrt(np.square(differences).sum((2, 3, 4)))
    return distances.min(1), distances.argmin(1)


def test_neighbours_are_those_of_brute_force(train, unseen):
    found = TrainingImages(train).nearest(unseen)
    distances, indices = brute_force_neighbours(unseen, train)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-5)
    np.testing.assert_array_equal(found.indices, indices)


def test_copies_are_at_distance_zero_from_themselves(train):
    chosen = np.random.default_rng(0).permutation(len(train))[:100]
    found = TrainingImages(train).nearest(train[chosen])
    np.testing.assert_array_equal(found.indices, chosen)
    np.testing.assert_array_equal(found.distances, 0)


@pytest.mark.parametrize(
    ("make", "closer", "ratio"),
    [
        (lambda train, held_out: train, (1, 1), (0, 0)),
        (lambda train, held_out: (train + 0.01 * random_images(len(train))).clip(0, 1), (1, 1), (0.01, 0.05)),
        (lambda train, held_out: held_out, (0, 0.1), (0.8, 1.2)),
        (lambda train, held_out: random_images(50), (0, 0), (2, 5)),
    ],
    ids=["copies", "copies plus noise", "held-out data", "noise"],
)
def test_neighbour_metrics_tell_copies_from_new_images_from_noise(train, unseen, make, closer, ratio):
    index = TrainingImages(train)
    found = neighbour_metrics(index.nearest(make(train, unseen[50:])), index.nearest(unseen[:50]))
    assert closer[0] <= found["closer_than_1pct_of_test"] <= closer[1]
    assert ratio[0] <= found["nearest_train_ratio_to_test"] <= ratio[1]


def test_neighbour_metrics_by_hand():
    samples, test = (
        Neighbours(np.array(distances, np.float32), np.zeros(len(distances), int))
        for distances in ([0.5, 1.0, 4.0, 6.0], np.arange(1, 102))
    )
    found = neighbour_metrics(samples, test)  # the first percentile of 1..101 is 2, its median 51
    assert found["nearest_train_median"] == 2.5
    assert found["closer_than_1pct_of_test"] == 0.5
    assert found["nearest_train_ratio_to_test"] == pytest.approx(2.5 / 51)


# Fidelity


@pytest.mark.parametrize(
    ("make", "precision", "coverage"),
    [
        (lambda test: test.clone(), (1, 1), (1, 1)),
        (lambda test: test[:1].expand_as(test), (1, 1), (0.005, 0.3)),
        (lambda test: test[:50].repeat(2, 1, 1, 1), (1, 1), (0.3, 0.99)),
        (lambda test: torch.rand(test.shape, generator=torch.Generator().manual_seed(0)), (0, 0), (0, 0)),
        (lambda test: test + 100, (0, 0), (0, 0)),
    ],
    ids=["the data", "one image", "half of the data", "noise", "far away"],
)
def test_fidelity_at_the_extremes(unseen, make, precision, coverage):
    images = torch.from_numpy(unseen)
    found = fidelity(make(images), images)
    assert precision[0] <= found["precision"] <= precision[1]
    assert coverage[0] <= found["coverage"] <= coverage[1]


@pytest.mark.parametrize("chunk", [7, 1_000])
@pytest.mark.parametrize(("samples", "tests"), [(60, 60), (45, 60), (60, 33), (4, 3)])
def test_fidelity_is_its_formula(monkeypatch, samples, tests, chunk):
    """Precision: some ball of a test image holds the sample. Coverage: the ball holds some sample."""
    monkeypatch.setattr(fidelity_module, "CHUNK", chunk)
    draws = np.random.default_rng(samples)
    given, held_out = draws.normal(scale=2, size=(samples, 1, 2, 1)), draws.normal(size=(tests, 1, 2, 1))
    count = min(samples, tests)
    a, b = given[:count].reshape(count, 2), held_out[:count].reshape(count, 2)
    others = [sorted(math.dist(b[i], b[j]) for j in range(count) if j != i) for i in range(count)]
    radii = [distances[min(5, count - 1) - 1] for distances in others]
    inside = np.array([[math.dist(x, b[i]) < radii[i] for i in range(count)] for x in a])
    found = fidelity(torch.from_numpy(given), torch.from_numpy(held_out))
    assert found["precision"] == pytest.approx(inside.any(1).mean())
    assert found["coverage"] == pytest.approx(inside.any(0).mean())


# Sampling


@pytest.mark.parametrize(
    ("name", "config", "routes", "default"),
    [
        ("naive_bayes", {}, ("pixels",), "pixels"),
        ("vae", VAE, ("normal", "mixture"), "normal"),
        ("ppca", PPCA | {"prior": "mixture"}, ("normal", "mixture"), "mixture"),
    ],
)
def test_each_prior_of_a_model_with_codes_is_a_way_to_sample(trained, name, config, routes, default):
    model, _ = trained(name, config)
    assert sampling.routes(model) == routes
    assert sampling.default_route(model) == default


@each_variant
@pytest.mark.parametrize("count", [1, 10, 23])
def test_sampling_draws_exactly_the_count_whatever_the_chunk(name, config, trained, monkeypatch, count):
    monkeypatch.setattr(sampling, "CHUNK", 10)
    model, _ = trained(name, config)
    for route in sampling.routes(model):
        images = sampling.sample(model, route, count, seed=0)
        assert images.shape == (count, *IMAGE_SHAPE)
        assert images.dtype == np.float32
        assert images.min() >= 0
        assert images.max() <= 1
        assert len(np.unique(images.reshape(count, -1), axis=0)) == count, "no chunk repeats another"


@each_variant
def test_samples_follow_from_the_seed(name, config, trained):
    model, _ = trained(name, config)
    for route in sampling.routes(model):
        first, again, other = (sampling.sample(model, route, 20, seed) for seed in (0, 0, 1))
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()


@each_variant
def test_a_route_draws_its_codes_from_its_prior(name, config, trained):
    model, _ = trained(name, config)
    for route in sampling.routes(model):
        prior = model.prior(route) if isinstance(model, Decodes) else None
        width = prior.noise_width if prior else model.noise_width
        noise = torch.randn(30, width, generator=torch.Generator().manual_seed(5))
        with torch.no_grad():
            expected = model.decode(prior(noise)) if prior else model.generate(noise)
        np.testing.assert_allclose(sampling.sample(model, route, 30, seed=5), expected, atol=1e-6)


# The latent space


@pytest.mark.parametrize(("name", "config"), [("vae", VAE), ("vae", GAUSSIAN_VAE), ("ppca", PPCA)], ids=str)
def test_kl_per_dimension_is_that_of_torch(trained, digits, name, config):
    model, _ = trained(name, config)
    images = Batches(digits[:500])  # one chunk, so that one draw of the observed x is all of them
    with torch.no_grad():
        x = model.observation.observe(images[:], torch.Generator().manual_seed(3))
        mean, log_variance = model.posterior(x)
        expected = kl_divergence(Normal(mean, torch.exp(0.5 * log_variance)), Normal(0.0, 1.0)).mean(0)
    np.testing.assert_allclose(kl_per_dimension(model, images, seed=3), expected, rtol=1e-3, atol=1e-5)


def test_kl_is_a_mean_over_images_and_not_over_chunks(trained, digits):
    """600 images come as 500 and 100."""
    model, _ = trained("ppca", PPCA)
    images = Batches(np.concatenate([np.repeat(digits[:1], 500, axis=0), np.repeat(digits[1:2], 100, axis=0)]))
    first, second = (kl_per_dimension(model, Batches(digits[i : i + 1]), seed=0) for i in (0, 1))
    expected = (5 * first + second) / 6
    np.testing.assert_allclose(kl_per_dimension(model, images, seed=0), expected, rtol=0.05, atol=0.02)


def test_kl_metrics_by_hand():
    assert kl_metrics(np.array([2.0, 0.005, 0.5, 0.0])) == {"nats": pytest.approx(2.505), "active_dimensions": 2}


def test_codes_are_those_of_the_encoder_in_order(trained, digits):
    model, _ = trained("autoencoder", AUTOENCODER)
    with torch.no_grad():
        expected = model.encode(Batches(digits)[:]).numpy()
    np.testing.assert_allclose(codes(model, Batches(digits)), expected, atol=1e-5)


def test_interpolation_is_a_straight_line_between_the_codes(trained, digits):
    model, _ = trained("vae", VAE)
    z = codes(model, Batches(digits[:8]))
    starts, ends = z[:4], z[4:]
    lines = interpolate(model, starts, ends, steps=5)
    assert lines.shape == (4, 5, *IMAGE_SHAPE)
    for step, points in ((0, starts), (1, 0.75 * starts + 0.25 * ends), (2, (starts + ends) / 2), (4, ends)):
        with torch.no_grad():
            expected = model.decode(torch.from_numpy(points)).numpy()
        np.testing.assert_allclose(lines[:, step], expected, atol=1e-5)


@pytest.mark.parametrize("latent", [1, 2, 7])
def test_the_map_has_two_coordinates_whatever_the_latent(latent):
    points = np.random.default_rng(0).normal(size=(50, latent)) * np.arange(latent, 0, -1)
    plane = map_to_plane(points)
    assert plane.shape == (50, 2)
    assert plane[:, 0].std() > plane[:, 1].std()
    if latent <= 2:  # nothing is lost
        distances = [np.linalg.norm(each[:, None] - each[None], axis=2) for each in (points, plane)]
        np.testing.assert_allclose(distances[0], distances[1], atol=1e-9)


# Likelihood


def test_an_autoencoder_has_no_likelihood(trained, digits):
    model, _ = trained("autoencoder", AUTOENCODER)
    assert evaluate_likelihood(model, Batches(digits[:10]), samples=2, seed=0) is None


def test_the_likelihood_of_naive_bayes_by_hand(trained, digits):
    model, _ = trained("naive_bayes", {})
    found = evaluate_likelihood(model, Batches(digits[500:541]), samples=2, seed=7)
    p = (as_float(digits[:500]).astype(np.float64).sum(0) + 1) / (500 + 2)
    x = binarised(torch.tensor(as_float(digits[500:541])), torch.Generator().manual_seed(7)).numpy() > 0
    log_p = np.where(x, np.log(p), np.log(1 - p)).sum((1, 2, 3))
    assert (found.kind, found.images) == ("exact", 41)
    assert found.nats == pytest.approx(-log_p.mean(), rel=1e-5)
    assert found.standard_error == pytest.approx(log_p.std(ddof=1) / math.sqrt(41), rel=1e-4)
    assert found.bits_per_dimension == pytest.approx(-log_p.mean() / 64 / math.log(2), rel=1e-5)
    assert "binarised" in found.sample_space


@pytest.mark.parametrize(
    ("name", "config", "kind"),
    [("ppca", PPCA, "exact"), ("vae", GAUSSIAN_VAE, "bound (3 samples)"), ("vae", VAE, "bound (3 samples)")],
    ids=str,
)
def test_bits_per_dimension_are_of_eight_bit_values_for_densities(trained, digits, name, config, kind):
    """A density over [0, 1] spreads a value's probability over a cell of 1/256: 8 bits more."""
    model, _ = trained(name, config)
    found = evaluate_likelihood(model, Batches(digits[500:520]), samples=3, seed=0)
    density = config is not VAE
    assert found.kind == kind
    assert found.bits_per_dimension == pytest.approx(found.nats / 64 / math.log(2) + (8 if density else 0), rel=1e-6)
    assert ("dequantised" in found.sample_space) == density


@pytest.mark.parametrize(("name", "config"), [("naive_bayes", {}), ("ppca", PPCA), ("vae", VAE)], ids=str)
def test_likelihoods_follow_from_the_seed(trained, digits, name, config):
    model, _ = trained(name, config)
    first, again, other = (evaluate_likelihood(model, Batches(digits[500:520]), 3, seed) for seed in (0, 0, 1))
    assert first == again
    assert first.nats != other.nats


# One entry, judged


@pytest.fixture(scope="module")
def judged(trained, digits, tmp_path_factory):
    """Each case, evaluated once when first asked for: (model, evaluation, folder of pictures)."""
    given = material(digits[:500], digits[500:], np.arange(100) % 10)
    config = EvaluationConfig(samples=30, importance_samples=3, likelihood_images=12)
    made = {}

    def judged(name, model_config):
        key = str((name, model_config))
        if key not in made:
            model, _ = trained(name, model_config)
            folder = tmp_path_factory.mktemp(name)
            made[key] = model, evaluate(model, given, config, folder), folder
        return made[key]

    return judged


@each_variant
def test_an_entry_is_drawn_as_far_as_it_can_be(name, config, judged):
    model, _, folder = judged(name, config)
    kinds = ("samples", "neighbours", "distances")
    expected = {f"{kind}_{route}.png" for kind in kinds for route in sampling.routes(model)}
    if isinstance(model, Encodes):
        expected |= {"reconstructions.png", "interpolations.png", "codes.png"}
    if isinstance(model, HasPosterior):
        expected |= {"kl.png"}
    assert {path.name for path in folder.iterdir()} == expected
    for path in folder.iterdir():
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            assert np.ptp(np.asarray(picture.convert("L"))) > 50, "not one colour"


def leaves(content: dict) -> list:
    return [leaf for value in content.values() for leaf in (leaves(value) if isinstance(value, dict) else [value])]


@each_variant
def test_the_metrics_of_an_entry_are_finite_numbers_and_text(name, config, judged):
    """DVC drops lists and null without a word."""
    model, evaluation, _ = judged(name, config)
    metrics = evaluation.metrics
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    assert {type(leaf) for leaf in leaves(metrics)} <= {int, float, str}
    expected = {"samples", "exported_prior"}
    expected |= {"reconstruction"} if isinstance(model, Encodes) else set()
    expected |= {"kl"} if isinstance(model, HasPosterior) else set()
    expected |= {"likelihood"} if isinstance(model, HasPosterior | HasLikelihood) else set()
    assert set(metrics) == expected
    assert set(metrics["samples"]) == set(evaluation.distances) == set(sampling.routes(model))
    assert metrics["exported_prior"] in metrics["samples"]
    assert metrics.get("likelihood", {}).get("images", 12) == 12


@each_variant
def test_the_samples_of_an_entry_are_judged_as_they_were_drawn(name, config, judged, train, unseen):
    """Samples, neighbours and fidelity of each way to sample, put together again."""
    model, evaluation, folder = judged(name, config)
    index = TrainingImages(train)
    for route, metrics in evaluation.metrics["samples"].items():
        samples = sampling.sample(model, route, 30, EvaluationConfig().seed)
        nearest = index.nearest(samples)
        np.testing.assert_allclose(evaluation.distances[route], nearest.distances, atol=1e-5)
        expected = neighbour_metrics(nearest, index.nearest(unseen))
        expected |= fidelity(torch.from_numpy(samples), torch.from_numpy(unseen))
        assert metrics == pytest.approx(expected, abs=1e-5)
        with Image.open(folder / f"samples_{route}.png") as picture:
            np.testing.assert_array_equal(np.asarray(picture), grid(samples, columns=16)[..., 0])


@pytest.mark.parametrize("labels", [None, np.array([3, 3])], ids=["without labels", "with one label"])
def test_two_test_images_are_enough(trained, digits, tmp_path, labels):
    model, _ = trained("vae", VAE)
    config = EvaluationConfig(samples=1, importance_samples=1)
    found = evaluate(model, material(digits[:2], digits[500:502], labels), config, tmp_path)
    json.dumps(found.metrics, allow_nan=False)
    assert (tmp_path / "codes.png").stat().st_size > 0


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


def test_neighbours_are_drawn_as_they_came_then_by_distance(tmp_path):
    train = np.arange(40, dtype=np.uint8).repeat(64).reshape(40, *IMAGE_SHAPE)
    samples = np.full((40, *IMAGE_SHAPE), 1.0, np.float32)
    nearest = Neighbours(np.arange(40, 0, -1).astype(np.float32), np.arange(40))
    pictures.draw_neighbours(tmp_path / "neighbours.png", samples, nearest, train)
    with Image.open(tmp_path / "neighbours.png") as picture:
        shown = np.asarray(picture)[2::58, 2::58]
    assert shown[1].tolist() == list(range(16))
    assert shown[3].tolist() == list(range(39, 23, -1)), "the closest first"


# Tables


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_table_of_distances_is_a_histogram_of_each_set():
    distances = {"normal": np.array([1.0, 1.0, 3.0]), "mixture": np.array([6.0])}
    table = rows(distances_csv({"vae": Evaluation({}, None, distances)}, np.array([0.0, 3.0])))
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
    evaluations = {"naive_bayes": Evaluation({}, None, {}), "vae": Evaluation({}, np.array([0.1, 2.0, 0.5]), {})}
    table = [(row["entry"], row["rank"], float(row["nats"])) for row in rows(kl_csv(evaluations))]
    assert table == [("vae", "1", 2.0), ("vae", "2", 0.5), ("vae", "3", 0.1)]
    assert rows(kl_csv({"naive_bayes": Evaluation({}, None, {})})) == []
