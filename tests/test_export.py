"""Exported graphs: what a model is exported as, that it computes what torch does, and what the files say."""

import copy
import hashlib
import json
import math
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import CLASSES as COUNT
from conftest import IMAGE_SHAPE, build, each_after_training, random_codes
from pairs import Pairs
from sklearn.decomposition import PCA

from latentmill import Decoder, registry
from latentmill.codes import Generator
from latentmill.config import Settings
from latentmill.contract import Decodes, Encodes, Generates, HasCodebook, HasPosterior, HasPrior, Model
from latentmill.errors import InputError
from latentmill.export import graphs as graphs_module
from latentmill.export import latency, verification
from latentmill.export.directions import directions
from latentmill.export.graphs import Graph, export, graphs
from latentmill.export.permission import require_rule_2
from latentmill.export.refusal import Refused
from latentmill.export.writer import TrainedPair, TrainingData, write_export
from latentmill.runtime.noise import NoiseStream
from latentmill.trials.trained_model import TrainedModel

PASS = {"status": "pass", "evidence": "near copies (pixels) 0 ± 0, fails above 0.025", "samples": 3000}
SAMPLES = {
    "rule_1": PASS | {"status": "fail"},
    "rule_2": PASS,
    "near_copies": {"share": 0.001, "low": 0.0, "high": 0.002, "held_out": 0.0015},
    "metrics": {"pixels": {"precision": {"value": 0.9, "standard_error": 0.01}}},
}
METRICS = {
    "samples": {"own": SAMPLES},
    "exported_prior": "own",
    "likelihood": {"kind": "bound (9 samples)", "nats": -20.5, "standard_error": 0.2, "sample_space": "pixels"},
    "reconstruction": {"mse": 0.0123, "psnr_db": 19.0, "worst": [1, 2]},
}
COPIER = METRICS | {"samples": {"own": SAMPLES | {"rule_2": PASS | {"status": "fail"}}}}
IDENTITY = {  # in the metadata of each graph too
    "warning",
    "entry",
    "model",
    "config",
    "image_shape",
    "value_range",
    "latent",
    "code_shape",
    "codebook",
    "noise",
    "prior",
    "prior_trial",
    "fingerprint",
    "data_digest",
    "weights_sha256",
}
CARD = IDENTITY | {"formats", "label", "codes", "directions", "classes", "data", "metrics", "files", "measured_on"}
CLASSES = [f"the {digit}" for digit in range(COUNT)]
PRIORS = {
    "ppca": "mixture",
    "fsq": "autoregressive",
    "vq": "autoregressive",
}  # of the cases of each model; of others normal
MANIFEST = {"source": "digits", "description": "tiny digits", "counts": {"train": 500}, "digest": "b" * 64}
THIS_MACHINE = [str(Path(__file__).parents[1]), str(Path.home()), sys.prefix, "/src/latentmill", "site-packages", ".py"]


def as_trained(name: str, model: Model, config: dict[str, object]) -> TrainedModel:
    trial = {"model": name, "config": model.Config.model_validate(config).model_dump()}
    digests = {"fingerprint": "12345e6", "data_digest": "b" * 64, "weights_sha256": "c" * 64}
    return TrainedModel(model.eval(), {"trial": trial, "shape": list(model.shape), **digests})


def alone(name: str, model: Model, config: dict[str, object]) -> TrainedPair:
    return TrainedPair(as_trained(name, model, config))


def measured(prior: str) -> dict[str, object]:
    """Numbers of an entry whose samples are drawn under one prior."""
    return METRICS | {"samples": {prior: SAMPLES}, "exported_prior": prior}


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Latencies are measured once, and a function is translated once, because each takes a second or two."""
    translate, kept = graphs_module._translate, {}

    def translated(graph):
        model = graph.model
        halves = (model.model, model.prior) if isinstance(model, Generator) else (model,)
        key = (graph.name, *halves)  # the models themselves, so that none goes while its address counts
        if key not in kept:
            kept[key] = translate(graph)
        return copy.deepcopy(kept[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency, "SECONDS", 0)
        patch.setattr(latency, "LEAST", 1)
        patch.setattr(graphs_module, "_translate", translated)
        yield


@pytest.fixture(scope="module")
def given(digits, labels):
    return TrainingData(digits[:500], labels[:500], digits[500:], MANIFEST, CLASSES, labels[500:])


@pytest.fixture(scope="module")
def paired(trained, digits, labels):
    """A case with a prior, if it takes one: (its name, the pair)."""
    pairs = Pairs(digits, labels)

    def paired(name, config, prior=None):
        model = trained(name, config)[0]
        if isinstance(model, Generates) and prior is None:
            return "own", alone(name, model, config)
        prior = prior or PRIORS.get(name, "normal")
        return prior, TrainedPair(as_trained(name, model, config), as_trained(prior, pairs.priors(model)[prior], {}))

    return paired


@pytest.fixture(scope="module")
def exported(paired, given, tmp_path_factory):
    """Each case, exported once when first asked for: (what generates, folder, card)."""
    made = {}

    def exported(name, config):
        key = str((name, config))
        if key not in made:
            prior, pair = paired(name, config)
            folder = tmp_path_factory.mktemp(name)
            card = write_export(pair, f"my_{name}", measured(prior), given, folder, {})
            made[key] = pair.generator, folder, card
        return made[key]

    return exported


def session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def run(path: Path, inputs: dict[str, torch.Tensor]) -> list[np.ndarray]:
    return session(path).run(None, {name: each.numpy() for name, each in inputs.items()})


def functions(generator: Generator) -> dict[str, tuple]:
    """file -> (what torch computes, the names of its inputs, and of its outputs)."""
    model, label = generator.model, ("label",) if generator.model.is_conditional else ()

    def generate(noise, *given):
        if not isinstance(model, Decodes):
            return [model.generate(noise, *given)]
        if isinstance(model, HasPrior):
            z = model.draw_code(noise)
        else:
            z = noise if generator.prior is None else generator.prior.generate(noise, *given)
        return [model.decode(z, *given), z]

    code = ("z",) if isinstance(model, Decodes) else ()
    found = {"generator.onnx": (generate, ("noise", *label), ("image", *code))}
    if isinstance(model, Decodes):
        found["decoder.onnx"] = (lambda *given: [model.decode(*given)], ("z", *label), ("image",))
    if isinstance(model, HasPosterior):
        found["encoder.onnx"] = (model.posterior, ("image", *label), ("mean", "log_variance"))
    elif isinstance(model, Encodes):
        found["encoder.onnx"] = (lambda *given: [model.encode(*given)], ("image", *label), ("mean",))
    return found


def inputs(generator: Generator, names: tuple[str, ...], batch: int) -> dict[str, torch.Tensor]:
    """Random ones."""
    draw = {
        "noise": lambda: torch.randn(batch, generator.noise_width),
        "z": lambda: random_codes(generator.model, batch),
        "image": lambda: torch.rand(batch, *generator.model.shape),
        "label": lambda: torch.randint(COUNT, (batch,)),
    }
    return {name: draw[name]() for name in names}


@each_after_training
def test_a_model_is_exported_as_what_it_can_do(name, config, exported):
    generator, folder, card = exported(name, config)
    expected = set(functions(generator))
    assert {path.name for path in folder.iterdir()} == expected | {"card.json", "card.md", "manifest.json"}
    assert set(card["files"]) == expected
    for file, description in card["files"].items():
        assert description["bytes"] == (folder / file).stat().st_size
        assert all(milliseconds > 0 for milliseconds in description["milliseconds"].values())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("naive_bayes", ["generator"]),
        ("gan", ["generator", "decoder"]),
        ("vae", ["generator", "decoder", "encoder"]),
        ("conditional_vae", ["generator", "decoder", "encoder"]),
    ],
)
def test_there_is_a_graph_for_all_that_a_model_can_do(name, expected):
    model = build(name, {})
    prior = None if isinstance(model, Generates) else registry.build("priors", "normal", {}, model.code_shape)
    assert [graph.name for graph in graphs(Generator(model, prior), COUNT)] == expected


@each_after_training
@pytest.mark.parametrize("batch", [1, 2, 7, 65])
def test_onnxruntime_computes_what_torch_does_at_any_batch(name, config, exported, batch):
    generator, folder, _ = exported(name, config)
    torch.manual_seed(batch)
    for file, (function, names, _) in functions(generator).items():
        given = inputs(generator, names, batch)
        with torch.no_grad():
            expected = [output.numpy() for output in function(*given.values())]
        for found, wanted in zip(run(folder / file, given), expected, strict=True):
            assert (found.dtype, found.shape) == (np.float32, wanted.shape)
            assert np.abs(found - wanted).max() <= 1e-5 * max(1, np.abs(wanted).max())


@each_after_training
def test_the_recorded_difference_from_torch_is_that_of_the_three_batches(name, config, exported):
    generator, folder, card = exported(name, config)
    for graph in graphs(generator, COUNT):
        largest = 0.0
        for batch in (1, 2, 65):
            given = graph.example(batch, seed=batch)
            assert [tuple(each.shape) for each in given] == [(batch, *shape) for shape in graph.inputs.values()]
            with torch.no_grad():
                expected = [output.numpy() for output in graph.function(*given)]
            outputs = run(folder / f"{graph.name}.onnx", dict(zip(graph.inputs, given, strict=True)))
            for found, wanted in zip(outputs, expected, strict=True):
                largest = max(largest, np.abs(found - wanted).max() / max(1, np.abs(wanted).max()))
        recorded = card["files"][f"{graph.name}.onnx"]["largest_difference_from_torch"]
        assert recorded <= 1e-5
        assert recorded == pytest.approx(largest, abs=1e-6)


@each_after_training
def test_inputs_and_outputs_have_their_names_and_a_dynamic_batch(name, config, exported):
    generator, folder, card = exported(name, config)
    code = list(getattr(generator.model, "code_shape", ()))
    shapes = {"noise": [generator.noise_width], "image": list(IMAGE_SHAPE), "label": []}
    shapes |= dict.fromkeys(("z", "mean", "log_variance"), code)
    for file, (_, taken, given) in functions(generator).items():
        opened, recorded = session(folder / file), card["files"][file]
        assert tuple(value.name for value in opened.get_inputs()) == taken == tuple(recorded["inputs"])
        assert tuple(value.name for value in opened.get_outputs()) == given == tuple(recorded["outputs"])
        for value in [*opened.get_inputs(), *opened.get_outputs()]:
            assert value.type == ("tensor(int64)" if value.name == "label" else "tensor(float)")
            assert value.shape == ["batch", *shapes[value.name]]


@each_after_training
def test_the_generator_is_the_decoder_after_the_prior(name, config, exported):
    generator, folder, _ = exported(name, config)
    if not isinstance(generator.model, Decodes):
        pytest.skip("has no codes")
    given = inputs(generator, functions(generator)["generator.onnx"][1], 9)
    images, z = run(folder / "generator.onnx", given)
    given.pop("noise")
    decoded = run(folder / "decoder.onnx", {"z": torch.from_numpy(z)} | given)[0]
    np.testing.assert_allclose(images, decoded, atol=1e-5)


@each_after_training
def test_an_application_samples_decodes_and_encodes_as_torch_does(name, config, exported):
    generator, folder, _ = exported(name, config)
    decoder = Decoder(folder)
    noise = torch.from_numpy(NoiseStream(generator.noise_width, seed=4).rows(300))
    images, label = decoder.sample(300, seed=4), decoder.labels(300, seed=4)
    own = None if label is None else torch.tensor([CLASSES.index(each) for each in label])
    with torch.no_grad():
        np.testing.assert_allclose(images, generator(noise, own)[0], atol=1e-5)
        if isinstance(generator.model, Encodes):
            encoded = generator.model.encode(torch.from_numpy(images), own)
            np.testing.assert_allclose(decoder.encode(images, label)[0], encoded, atol=1e-4)
        if isinstance(generator.model, Decodes):
            some = None if label is None else label[:9]
            np.testing.assert_allclose(decoder.decode(decoder.draw(9, seed=4), some), images[:9], atol=1e-5)
    assert images.shape == (300, *IMAGE_SHAPE)
    assert 0 <= images.min() < images.max() <= 1


@pytest.mark.parametrize("prior", ["normal", "mixture", "flow"])
def test_each_prior_is_exported_inside_the_generator(prior, paired, given, tmp_path):
    _, pair = paired("vae", {"latent": 3}, prior)
    made = pair.prior.model
    card = write_export(pair, "vae", measured(prior), given, tmp_path, {})
    assert card["noise"] == {"width": made.noise_width, "categorical": made.categorical_noise}
    assert card["prior_trial"]["model"] == prior
    rows = NoiseStream(made.noise_width, seed=1).rows(20)
    with torch.no_grad():
        np.testing.assert_allclose(Decoder(tmp_path).draw(20, seed=1), made.generate(torch.from_numpy(rows)), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "config"),
    [("vae", {"latent": 3}), pytest.param("conditional_vae", {"latent": 3, "hidden": 50}, marks=pytest.mark.slow)],
    ids=str,
)
def test_a_guided_prior_makes_a_pair_conditional(name, config, paired, given, tmp_path):
    """The generator takes label and guidance; the other graphs take a label if the model itself needs it."""
    _, pair = paired(name, config, "guided_flow")
    generator = pair.generator
    card = write_export(pair, name, measured("guided_flow"), given, tmp_path, {"fp16": 0.5})
    assert card["label"] == {"classes": CLASSES, "counts": np.bincount(given.labels).tolist()}
    more = ["label"] if name == "conditional_vae" else []
    taken = {"generator.onnx": ["noise", "label", "guidance"], "decoder.onnx": ["z", *more]}
    taken |= {"encoder.onnx": ["image", *more]}
    assert {file: each["inputs"] for file, each in card["files"].items()} == taken
    decoder, label, guidance = Decoder(tmp_path), torch.arange(20) % COUNT, torch.linspace(0, 4, 20)
    with torch.no_grad():
        images, z = generator(torch.from_numpy(decoder.noise(20, seed=1)), label, guidance)
    names = [CLASSES[index] for index in label]
    found = decoder.sample(20, seed=1, label=names, guidance=guidance.numpy())
    np.testing.assert_allclose(found, images, atol=1e-5)
    np.testing.assert_allclose(decoder.draw(20, 1, label=names, guidance=guidance.numpy()), z, atol=1e-4)
    np.testing.assert_allclose(decoder.decode(z.numpy(), names), images, atol=1e-5)
    plain = generator(torch.from_numpy(decoder.noise(20, seed=1)), label)[0].detach()
    np.testing.assert_allclose(decoder.sample(20, seed=1, label=names), plain, atol=1e-5)
    assert np.abs(Decoder(tmp_path, format="fp16").decode(z.numpy(), names) - images.numpy()).mean() < 0.01


class Grid(Model, Encodes, Decodes):
    """Its codes are a grid (2, 2, 3), of an image of 8x8."""

    Config = Settings
    code_shape = (2, 2, 3)

    def __init__(self) -> None:
        super().__init__(Settings(), IMAGE_SHAPE)
        self.layer = torch.nn.Conv2d(2, 1, 3, padding=1)

    def encode(self, images, label=None):
        return images[:, 0, :4, :3].unflatten(1, (2, 2))

    def decode(self, z, label=None):
        return torch.sigmoid(torch.nn.functional.interpolate(self.layer(z), size=(8, 8)))


@pytest.fixture(scope="module")
def gridded(digits, labels):
    model = Grid()
    return model, Pairs(digits, labels).priors(model)


@pytest.mark.parametrize(
    "prior", ["mixture", "guided_flow", *(pytest.param(name, marks=pytest.mark.slow) for name in ("normal", "flow"))]
)
def test_codes_may_have_any_shape(prior, gridded, digits, given, tmp_path):
    model, priors = gridded
    pair = TrainedPair(as_trained("grid", model, {}), as_trained(prior, priors[prior], {}))
    card = write_export(pair, "grid", measured(prior), given, tmp_path, {"fp16": 0.5})
    assert (card["code_shape"], card["latent"], card["formats"]["fp16"]["published"]) == ([2, 2, 3], 12, True)
    assert len(card["codes"]["mean"]) == len(card["directions"][0]["vector"]) == 12
    decoder = Decoder(tmp_path)
    z, images = decoder.draw(5, seed=0), digits[:5] / np.float32(255)
    assert z.shape == (5, 2, 2, 3)
    with torch.no_grad():
        np.testing.assert_allclose(decoder.decode(z), model.decode(torch.from_numpy(z)), atol=1e-5)
    np.testing.assert_allclose(decoder.encode(images)[0], images[:, 0, :4, :3].reshape(5, 2, 2, 3), atol=1e-6)


@each_after_training
def test_each_file_stands_alone(name, config, exported, tmp_path):
    generator, folder, _ = exported(name, config)
    for file, (_, names, _) in functions(generator).items():
        proto = onnx.load(folder / file, load_external_data=False)
        assert not any(constant.external_data for constant in proto.graph.initializer)
        alone = tmp_path / file.removesuffix(".onnx")
        alone.mkdir()
        shutil.copy(folder / file, alone)
        given = inputs(generator, names, 3)
        for found, expected in zip(run(alone / file, given), run(folder / file, given), strict=True):
            np.testing.assert_array_equal(found, expected)


@each_after_training
def test_graphs_use_standard_operators_that_browsers_know_and_nothing_random(name, config, exported):
    _, folder, _ = exported(name, config)
    for path in folder.glob("*.onnx"):
        proto = onnx.load(path)
        assert {(opset.domain, opset.version <= 20) for opset in proto.opset_import} == {("", True)}
        assert proto.ir_version <= 9, "onnxruntime 1.17, the oldest that pyproject.toml allows, must read it"
        assert not proto.functions
        assert not [
            node.op_type for node in proto.graph.node if node.op_type.startswith(("Random", "Bernoulli", "Multi"))
        ]


@each_after_training
def test_the_card_and_the_metadata_say_all_there_is_to_know(name, config, exported, given):
    generator, folder, card = exported(name, config)
    model, is_alone = generator.model, isinstance(generator.model, Generates)
    prior = None if is_alone else PRIORS.get(name, "normal")
    assert json.loads((folder / "card.json").read_text()) == card
    assert set(card) == CARD
    full = model.Config.model_validate(config).model_dump()
    assert (card["entry"], card["model"], card["config"]) == (f"my_{name}", name, full)
    assert (card["image_shape"], card["value_range"]) == ([1, 8, 8], [0, 1])
    assert (card["noise"]["width"], card["metrics"]) == (generator.noise_width, measured(prior or "own"))
    assert card["data"] == MANIFEST
    size = math.prod(model.code_shape) if isinstance(model, Decodes) else None
    indices = {"categorical_vae": "5 indices below 3"}.get(name, f"4 x 4 indices below {getattr(model, 'entries', 0)}")
    what = indices if isinstance(model, HasCodebook) else f"{size} dimensions"
    has_prior = not is_alone or isinstance(model, HasPrior)
    assert card["prior"] == (f"{prior or 'own'} over {what}" if has_prior else "none")
    assert card["codebook"] == (model.entries if isinstance(model, HasCodebook) else None)
    assert (card["prior_trial"] or {"model": None})["model"] == prior
    counts = {"classes": CLASSES, "counts": np.bincount(given.labels).tolist()}
    assert card["label"] == (counts if generator.is_conditional else None)
    for path in folder.glob("*.onnx"):
        metadata = session(path).get_modelmeta().custom_metadata_map
        read = {key: text if isinstance(card[key], str) else json.loads(text) for key, text in metadata.items()}
        assert read == {key: card[key] for key in IDENTITY}
        assert read["fingerprint"] == "12345e6", "digits that look like a number stay text"


@each_after_training
def test_the_manifest_names_every_file_by_its_digest(name, config, exported):
    _, folder, _ = exported(name, config)
    files = json.loads((folder / "manifest.json").read_text())["files"]
    assert set(files) == {path.name for path in folder.iterdir()} - {"manifest.json"}
    for file, said in files.items():
        content = (folder / file).read_bytes()
        assert said == {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


@each_after_training
def test_the_example_of_the_card_runs(name, config, exported, tmp_path, monkeypatch):
    _, folder, card = exported(name, config)
    text = (folder / "card.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    shutil.copytree(folder, tmp_path / "exports" / card["entry"])
    monkeypatch.chdir(tmp_path)
    made: dict = {}
    exec(code, made)
    shapes = dict(re.findall(r"^(\w+) = .*# \((.*?)\)", code, flags=re.MULTILINE))
    assert {key: ", ".join(map(str, made[key].shape)) for key in shapes} == shapes
    assert {"images"} | ({"path", "slider"} if card["directions"] else set()) <= set(shapes)


def test_the_card_has_the_data_and_the_numbers(exported):
    text = (exported("vae", {"latent": 3})[1] / "card.md").read_text()
    for said in (
        "tiny digits",
        "| 2: samples are suitably different from the training data | pass, 3000 samples | near copies",
        "| likelihood, bound (9 samples), pixels | -20.5 ± 0.4 nats",
        "| near copies among samples | 0.10%, 95 % interval 0.00% to 0.20%; 0.15% among test images |",
        "| precision (pixels) | 0.9 ± 0.02 |",
    ):
        assert said in text


# Directions


def test_directions_lead_to_the_classes_and_along_the_components():
    rng = np.random.default_rng(0)
    labels = np.repeat([3, 8], [60, 40])
    codes = rng.normal(size=(100, 4)) * [5, 1, 0.5, 0.1] + 10
    codes[labels == 8] += [0, 0, 7, 0]
    named = {each["name"]: each for each in directions(codes, labels, [*"abcdefgh", "component 1"])}
    names = ["toward d", "toward component 1", *(f"component {rank}" for rank in range(1, 5))]
    assert list(named) == names, "those of a class and of a component never meet"
    np.testing.assert_allclose(
        named["toward component 1"]["vector"], codes[labels == 8].mean(0) - codes.mean(0), rtol=1e-5
    )
    components = [named[f"component {rank}"] for rank in range(1, 5)]
    pca = PCA(4).fit(codes)
    for each, vector, share in zip(components, pca.components_, pca.explained_variance_ratio_, strict=True):
        found = np.array(each["vector"])
        assert abs(found @ vector) == pytest.approx(np.linalg.norm(found), rel=1e-4)
        assert each["explains"] == pytest.approx(share, rel=1e-4)
        assert np.std(codes @ vector) == pytest.approx(np.linalg.norm(found), rel=1e-4), "one standard deviation long"
    assert (components[0]["low"], components[0]["high"]) == (-3, 3)


@pytest.mark.parametrize(
    ("labels", "toward"),
    [
        (None, []),
        (np.zeros(50, int), []),
        (np.arange(50), []),
        (np.repeat([1, 2], [49, 1]), ["toward class 1"]),
        (np.repeat([1, 2], [40, 10]), ["toward class 1", "toward class 2"]),
    ],
    ids=str,
)
def test_without_classes_that_mean_something_there_are_components(labels, toward):
    codes = np.random.default_rng(0).normal(size=(50, 7))
    classes = None if labels is None else [f"class {index}" for index in range(labels.max() + 1)]
    names = [each["name"] for each in directions(codes, labels, classes)]
    assert names == [*toward, *(f"component {rank}" for rank in range(1, 6))]


def test_codes_that_are_all_the_same_have_directions_of_length_0():
    found = directions(np.ones((9, 2)), None)
    assert [each["vector"] for each in found] == [[0, 0], [0, 0]]


@each_after_training
def test_no_file_names_this_machine_or_its_sources(name, config, exported):
    _, folder, _ = exported(name, config)
    for path in folder.iterdir():
        content = path.read_bytes()
        assert [text for text in THIS_MACHINE if text.encode() in content] == []
    for path in folder.glob("*.onnx"):
        proto = onnx.load(path)
        items = [proto.graph, *proto.graph.node, *proto.graph.input, *proto.graph.output, *proto.graph.value_info]
        assert not [item for item in [*items, *proto.graph.initializer] if item.metadata_props or item.doc_string]
        assert proto.producer_name == "latentmill"


def test_the_same_model_gives_the_same_bytes_whatever_was_measured_of_it(trained, given, tmp_path):
    model, _ = trained("naive_bayes", {})
    contents = []
    for folder, metrics in ((tmp_path / "first", METRICS), (tmp_path / "second", METRICS | {"likelihood": None})):
        folder.mkdir()
        write_export(alone("naive_bayes", model, {}), "entry", metrics, given, folder, {})
        contents.append({path.name: path.read_bytes() for path in folder.glob("*.onnx")})
    assert contents[0] == contents[1]


class Deaf(Model, Generates):
    """Generates images that do not depend on the noise."""

    Config = Settings
    noise_width = 3

    def __init__(self, follows_the_batch: bool) -> None:
        super().__init__(Settings(), IMAGE_SHAPE)
        self.follows_the_batch = follows_the_batch
        self.register_buffer("image", torch.full((1, *IMAGE_SHAPE), 0.5))

    def generate(self, noise, label=None):
        return self.image.expand(noise.shape[0] if self.follows_the_batch else 2, *IMAGE_SHAPE)


@pytest.mark.parametrize("follows_the_batch", [True, False])
def test_a_model_that_does_not_use_its_input_is_refused(tmp_path, follows_the_batch):
    (graph,) = graphs(Generator(Deaf(follows_the_batch)))
    with pytest.raises(
        InputError, match=r"generator\.onnx must use its inputs, but no operation takes the values of noise"
    ):
        export(graph, tmp_path / "generator.onnx", {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [3.0, float("nan"), float("inf")])
def test_a_graph_that_differs_from_torch_is_refused(exported, value):
    """Also where torch, or onnxruntime, computes no number at all."""
    generator, folder, _ = exported("vae", {"latent": 3})
    changed = copy.deepcopy(generator)
    changed.model.decoder[0].bias.data[:] = value
    generator_graph, decoder_graph, encoder_graph = graphs(changed)
    for graph in (generator_graph, decoder_graph):
        with pytest.raises(
            InputError, match=rf"{graph.name}\.onnx must differ from torch by at most 1e-05, but differs"
        ):
            verification.largest_difference(graph, folder / f"{graph.name}.onnx")
    assert verification.largest_difference(encoder_graph, folder / "encoder.onnx") <= 1e-5


@pytest.mark.parametrize(
    ("scale", "error", "fits"),
    [(1.0, 1e-6, True), (1.0, 1e-4, False), (1e6, 1e-6, True), (1e6, 1e-4, False), (1e-3, 1e-3, True)],
)
@pytest.mark.parametrize(("output", "tolerance"), [("decoded", 1e-5), ("z", 1e-4)])
def test_a_difference_counts_relative_to_outputs_above_one_and_as_it_is_below(
    tmp_path, output, tolerance, scale, error, fits
):
    """ONNX multiplies by `scale` and errs by a share; outputs are of the size of `scale`. Codes may differ by more."""
    error *= tolerance / 1e-5
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 4]) for name in ("image", output)
    ]
    factor = onnx.numpy_helper.from_array(np.array(scale * (1 + error), np.float32), "factor")
    nodes = [onnx.helper.make_node("Mul", ["image", "factor"], [output])]
    body = onnx.helper.make_graph(nodes, "scaled", values[:1], values[1:], [factor])
    path = tmp_path / "encoder.onnx"
    onnx.save(onnx.helper.make_model(body, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=8), path)
    graph = Graph("encoder", lambda images: (images * scale,), torch.nn.Identity(), {"image": (4,)}, (output,))
    if fits:
        assert 0 < verification.largest_difference(graph, path) <= tolerance
    else:
        rule = rf"{output} of encoder\.onnx must differ from torch by at most {tolerance}, but differs by"
        with pytest.raises(InputError, match=rule):
            verification.largest_difference(graph, path)


def test_an_export_with_a_graph_above_the_tolerance_is_refused(trained, given, tmp_path, monkeypatch):
    model, _ = trained("naive_bayes", {})
    monkeypatch.setattr(verification, "TOLERANCE", -1.0)
    with pytest.raises(InputError, match=r"generator\.onnx must differ from torch by at most -1\.0, but differs by 0"):
        write_export(alone("naive_bayes", model, {}), "entry", METRICS, given, tmp_path, {})
    assert not (tmp_path / "card.json").exists(), "a card vouches for what was verified"


def test_a_copier_is_refused_unless_its_entry_is_named():
    with pytest.raises(Refused, match=r"and fail Rule 2: near copies.*; to .* copier .*export\.allow_failing"):
        require_rule_2("copier", COPIER, ["other"])
    require_rule_2("copier", COPIER, ["other", "copier"])
    require_rule_2("honest", METRICS, [])


def test_the_first_line_of_a_copiers_card_says_so(trained, given, tmp_path):
    model, _ = trained("naive_bayes", {})
    for name, metrics in (("copier", COPIER), ("honest", METRICS)):
        (tmp_path / name).mkdir()
        write_export(alone("naive_bayes", model, {}), name, metrics, given, tmp_path / name, {})
    first = (tmp_path / "copier/card.md").read_text().splitlines()[0]
    assert first.startswith("**Fails Rule 2: its samples are too close to training images.")
    assert (tmp_path / "copier/card.json").read_text().splitlines()[1].startswith('  "warning": "Fails Rule 2')
    assert (tmp_path / "honest/card.md").read_text().splitlines()[0] == "# honest"
    assert json.loads((tmp_path / "honest/card.json").read_text())["warning"] == ""


# Formats of the decoder


@pytest.fixture(scope="module")
def formatted(paired, given, tmp_path_factory):
    """A decoder in every format, except int8, whose tolerance is too small: (folder, card)."""
    config = {"latent": 3, "network": "conv", "observation": "gaussian", "beta": 2.0}
    folder, tolerances = tmp_path_factory.mktemp("formatted"), {"fp16": 0.5, "int8": 1e-9, "uint8": 0.6}
    prior, pair = paired("vae", config)
    return folder, write_export(pair, "vae", measured(prior), given, folder, tolerances)


def test_a_format_is_published_within_its_tolerance_and_else_the_card_says_why(formatted):
    folder, card = formatted
    assert {path.name for path in folder.glob("decoder.*")} == {
        f"decoder{format}.onnx" for format in ("", ".fp16", ".uint8")
    }
    for format, found in card["formats"].items():
        assert found["published"] == (format != "int8") == (found["mean_difference"] <= found["tolerance"])
        assert 0 <= found["mean_difference"] <= found["largest_difference"] < 255
        assert found["frechet_distance"][format] == pytest.approx(found["frechet_distance"]["float32"], rel=0.2)
        assert all(milliseconds > 0 for milliseconds in found["milliseconds"].values())
    assert card["formats"]["int8"]["mean_difference"] > 0, "quantisation that changes nothing is none"
    assert card["formats"]["int8"]["bytes"] < card["formats"]["fp16"]["bytes"] < card["files"]["decoder.onnx"]["bytes"]
    text = (folder / "card.md").read_text()
    assert "| `decoder.int8.onnx` | not published: " in text
    assert "| `decoder.fp16.onnx` | " in text


def test_the_recorded_difference_of_a_format_is_that_of_its_file(formatted):
    folder, card = formatted
    z = Decoder(folder).draw(100, seed=3)
    plain = Decoder(folder).decode(z)
    half, whole = Decoder(folder, format="fp16").decode(z), Decoder(folder, format="uint8").decode(z)
    assert np.abs(half - plain).max() * 255 < 2
    assert whole.dtype == np.uint8
    assert np.abs(whole - plain * 255).max() <= 0.5 + 1e-3
    assert card["formats"]["uint8"]["mean_difference"] == pytest.approx(0.25, abs=0.05), "of rounding"


def test_formats_differ_from_the_decoder_in_numbers_only(formatted):
    folder, _ = formatted
    whole = session(folder / "decoder.onnx")
    for path in folder.glob("decoder.*.onnx"):
        opened = session(path)
        assert opened.get_modelmeta().custom_metadata_map == whole.get_modelmeta().custom_metadata_map
        assert [value.shape for value in opened.get_outputs()] == [["batch", *IMAGE_SHAPE]]
        assert [text for text in THIS_MACHINE if text.encode() in path.read_bytes()] == []


def test_a_missing_format_is_an_error(formatted):
    for format in ("int8", "fp8"):
        with pytest.raises(InputError, match=f"a format must be one that .* holds, fp16, uint8, but got '{format}'"):
            Decoder(formatted[0], format=format)


ODD = [
    "Animals & Nature",
    "a/b \\ c",
    "\"quoted\" 'too'",
    "<img src=x onerror=alert(1)>",
    "`|*_#",
    "a\nb\x1b[31m",
    "☃ 漢字 👩‍🚀",
]


def test_names_of_classes_are_safe_in_the_card_and_those_too_rare_are_named(paired, digits, tmp_path):
    prior, pair = paired("vae", {"latent": 3})
    labels = np.arange(500) % 5
    labels[:9], labels[9:19] = 5, 6
    given = TrainingData(digits[:500], labels, digits[500:], MANIFEST, ODD)
    card = write_export(pair, "vae", measured(prior), given, tmp_path, {})
    assert [each["name"] for each in card["classes"]] == ODD
    assert [each["images"] for each in card["classes"]][5:] == [9, 10]
    expected = [f"toward {name}" for name in ODD[:5] + ODD[6:]]
    assert [each["name"] for each in Decoder(tmp_path).card["directions"]][:6] == expected
    for name in expected:
        assert Decoder(tmp_path).traverse(np.zeros(3, np.float32), name, steps=2).shape == (2, *IMAGE_SHAPE)
    text = (tmp_path / "card.md").read_text(encoding="utf-8")
    section = text[text.index("## Classes") : text.index("## Limits")]
    assert "Animals &amp; Nature (" in section
    assert "&lt;img src=x" in section
    assert "\\`\\|\\*\\_\\#" in section
    assert "👩‍🚀" in section
    assert "fewer than 10 images, and therefore no direction: a b \\[31m (9)." in section
    assert not set(text) & set("\x1b<")


def test_more_classes_than_sliders_are_listed_in_the_card_without_directions(paired, digits, tmp_path):
    prior, pair = paired("vae", {"latent": 3})
    given = TrainingData(
        digits[:500], np.arange(500) % 60, digits[500:], MANIFEST, [f"kind {index}" for index in range(60)]
    )
    card = write_export(pair, "vae", measured(prior), given, tmp_path, {})
    assert not [each for each in card["directions"] if each["name"].startswith("toward")]
    text = (tmp_path / "card.md").read_text()
    assert "kind 49 (8) and 10 more in card.json." in text
    assert "no directions toward classes, because there are more than 20" in text


def test_each_step_of_an_export_is_announced(paired, given, tmp_path):
    prior, pair = paired("vae", {"latent": 3})
    steps = []
    write_export(pair, "vae", measured(prior), given, tmp_path, {"fp16": 1.0}, tell=steps.append)
    graph_steps = [
        f"{name}.onnx: {step}"
        for name in ("generator", "decoder", "encoder")
        for step in ("translating", "comparing with torch", "timing")
    ]
    assert steps == [
        *graph_steps,
        "encoding 500 training images to find directions",
        "decoder.fp16.onnx: converting and measuring",
    ]


class Untranslatable(Deaf):
    """Does what no graph can."""

    def generate(self, noise, label=None):
        return self.image * len(noise) if noise.sum() > 0 else self.image


def test_a_model_that_torch_cannot_translate_is_refused_in_one_line(tmp_path):
    (graph,) = graphs(Generator(Untranslatable(True)))
    with pytest.raises(Refused, match=r"generator\.onnx must be a graph that torch can translate") as error:
        export(graph, tmp_path / "generator.onnx", {})
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_is_a_folder_that_says_why(tmp_path):
    with pytest.raises(Refused) as refused:
        require_rule_2("copier", COPIER, [])
    refused.value.write(tmp_path, "copier", COPIER)
    found = json.loads((tmp_path / "refused.json").read_text())
    assert found["entry"] == "copier"
    assert found["status"] == "refused"
    assert found["reason"] == "its samples are too close to training images and fail Rule 2"
    assert found["evidence"] == PASS["evidence"]
    assert found["rules"] == {"1": "fail", "2": "fail"}
    with pytest.raises(
        InputError, match="must hold a model, but its export was refused: its samples are too close"
    ) as said:
        Decoder(tmp_path)
    assert "\n" not in str(said.value)


def test_a_decoder_without_an_encoder_has_formats_too(paired, given, tmp_path):
    prior, pair = paired("gan", {"latent": 3})
    tolerances = {"fp16": 0.5, "int8": 255.0}
    card = write_export(pair, "gan", measured(prior), given, tmp_path, tolerances)
    assert [card["formats"][format]["published"] for format in tolerances] == [True, True]
    z = Decoder(tmp_path).draw(3, seed=0)
    for format in tolerances:
        assert np.abs(Decoder(tmp_path, format=format).decode(z) - Decoder(tmp_path).decode(z)).mean() < 0.1


def test_a_model_without_codes_has_no_formats(trained, given, tmp_path):
    model, _ = trained("naive_bayes", {})
    card = write_export(alone("naive_bayes", model, {}), "n", METRICS, given, tmp_path, {"fp16": 1.0})
    assert card["formats"] == {}
