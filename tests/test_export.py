"""Exported graphs: what a model is exported as, that it computes what torch does, and what the files say."""

import copy
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import IMAGE_SHAPE, build, each_variant

from latentmill.config import Model
from latentmill.errors import InputError
from latentmill.export import verification
from latentmill.export.bundle import write_bundle
from latentmill.export.card import require_kept
from latentmill.export.graphs import Graph, export, graphs
from latentmill.runtime.sampler import Decoder, Sampler
from latentmill.training.checkpoint import TrainedModel
from latentmill.variant import Decodes, Encodes, Variant

HOLDS = {"status": "holds", "evidence": "near copies (pixels) 0 ± 0, broken above 0.025", "samples": 3000}
METRICS = {
    "samples": {"normal": {"rule_1": HOLDS | {"status": "broken"}, "rule_2": HOLDS}},
    "exported_prior": "normal",
    "likelihood": {"kind": "bound (9 samples)"},
}
COPIER = METRICS | {"samples": {"normal": {"rule_1": HOLDS, "rule_2": HOLDS | {"status": "broken"}}}}
CARD = {
    "warning",
    "entry",
    "variant",
    "config",
    "image_shape",
    "value_range",
    "noise_width",
    "prior",
    "fingerprint",
    "data_digest",
    "weights_sha256",
    "metrics",
}
THIS_MACHINE = [str(Path(__file__).parents[1]), str(Path.home()), sys.prefix, "/src/latentmill", "site-packages", ".py"]


def as_trained(name: str, config: dict[str, object], model: Variant) -> TrainedModel:
    trial = {"variant": name, "model": model.Config.model_validate(config).model_dump()}
    digests = {"fingerprint": "12345e6", "data_digest": "b" * 64, "weights_sha256": "c" * 64}
    return TrainedModel(model, {"trial": trial, "image_shape": list(IMAGE_SHAPE), **digests})


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """Each case, exported once when first asked for: (model, folder, card)."""
    made = {}

    def exported(name, config):
        key = str((name, config))
        if key not in made:
            model, _ = trained(name, config)
            folder = tmp_path_factory.mktemp(name)
            made[key] = model, folder, write_bundle(as_trained(name, config, model), f"my_{name}", METRICS, folder)
        return made[key]

    return exported


def session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def run(path: Path, inputs: torch.Tensor) -> np.ndarray:
    opened = session(path)
    (taken,) = opened.get_inputs()
    (given,) = opened.run(None, {taken.name: inputs.numpy()})
    return given


def functions(model: Variant) -> dict[str, tuple]:
    """file -> (its function in torch, its input and output, a random input)."""
    found = {
        "generator.onnx": (model.generate, ("noise", "image"), lambda batch: torch.randn(batch, model.noise_width))
    }
    if isinstance(model, Decodes):
        found["decoder.onnx"] = model.decode, ("z", "image"), lambda batch: torch.randn(batch, model.latent)
    if isinstance(model, Encodes):
        found["encoder.onnx"] = model.encode, ("image", "z"), lambda batch: torch.rand(batch, *IMAGE_SHAPE)
    return found


@each_variant
def test_a_model_is_exported_as_what_it_can_do(name, config, exported):
    model, folder, card = exported(name, config)
    expected = set(functions(model))
    assert {path.name for path in folder.iterdir()} == expected | {"card.json", "card.md"}
    assert set(card["files"]) == expected
    for file, description in card["files"].items():
        assert description["bytes"] == (folder / file).stat().st_size


def test_naive_bayes_has_a_generator_alone_and_a_model_with_a_latent_all_three():
    assert [graph.name for graph in graphs(build("naive_bayes", {}), IMAGE_SHAPE)] == ["generator"]
    assert [graph.name for graph in graphs(build("vae", {}), IMAGE_SHAPE)] == ["generator", "decoder", "encoder"]


@each_variant
@pytest.mark.parametrize("batch", [1, 2, 7, 65])
def test_onnxruntime_computes_what_torch_does_at_any_batch(name, config, exported, batch):
    model, folder, _ = exported(name, config)
    torch.manual_seed(batch)
    for file, (function, _, draw) in functions(model).items():
        inputs = draw(batch)
        with torch.no_grad():
            expected = function(inputs).numpy()
        found = run(folder / file, inputs)
        assert found.dtype == np.float32
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 1e-5 * max(1, np.abs(expected).max())


@each_variant
def test_the_recorded_difference_from_torch_is_that_of_the_three_batches(name, config, exported):
    model, folder, card = exported(name, config)
    for graph in graphs(model, IMAGE_SHAPE):
        largest = 0.0
        for batch in (1, 2, 65):
            inputs = graph.example(batch, seed=batch)
            assert inputs.shape == (batch, *graph.input_shape)
            with torch.no_grad():
                expected = graph.function(inputs).numpy()
            difference = np.abs(run(folder / f"{graph.name}.onnx", inputs) - expected).max()
            largest = max(largest, difference / max(1, np.abs(expected).max()))
        recorded = card["files"][f"{graph.name}.onnx"]["largest_difference_from_torch"]
        assert recorded <= 1e-5
        assert recorded == pytest.approx(largest, abs=1e-6)


@each_variant
def test_inputs_and_outputs_have_their_names_and_a_dynamic_batch(name, config, exported):
    model, folder, card = exported(name, config)
    shapes = {"noise": [model.noise_width], "image": list(IMAGE_SHAPE), "z": [getattr(model, "latent", None)]}
    for file, (_, names, _) in functions(model).items():
        opened = session(folder / file)
        values = [*opened.get_inputs(), *opened.get_outputs()]
        assert (
            tuple(value.name for value in values)
            == names
            == (card["files"][file]["input"], card["files"][file]["output"])
        )
        for value in values:
            assert value.type == "tensor(float)"
            assert value.shape == ["batch", *shapes[value.name]]


@each_variant
def test_the_generator_is_the_decoder_after_the_prior(name, config, exported, generator):
    model, folder, _ = exported(name, config)
    if not isinstance(model, Decodes):
        pytest.skip("has no latent")
    noise = torch.randn(9, model.noise_width, generator=generator)
    with torch.no_grad():
        z = model.prior(model.prior_name)(noise)
    np.testing.assert_allclose(run(folder / "generator.onnx", noise), run(folder / "decoder.onnx", z), atol=1e-5)


@each_variant
def test_the_runtime_samples_and_decodes_as_torch_does(name, config, exported):
    model, folder, _ = exported(name, config)
    noise = np.random.default_rng(4).standard_normal((300, model.noise_width), dtype=np.float32)
    images = Sampler(folder).sample(300, seed=4)
    with torch.no_grad():
        np.testing.assert_allclose(images, model.generate(torch.from_numpy(noise)), atol=1e-5)
    assert images.shape == (300, *IMAGE_SHAPE)
    assert 0 <= images.min() < images.max() <= 1
    if isinstance(model, Decodes):
        decoded = Decoder(folder).decode(10 * noise[:, : model.latent])
        assert 0 <= decoded.min() < decoded.max() <= 1


@each_variant
def test_each_file_stands_alone(name, config, exported, tmp_path):
    model, folder, _ = exported(name, config)
    for file, (_, _, draw) in functions(model).items():
        proto = onnx.load(folder / file, load_external_data=False)
        assert not any(constant.external_data for constant in proto.graph.initializer)
        alone = tmp_path / file.removesuffix(".onnx")
        alone.mkdir()
        shutil.copy(folder / file, alone)
        inputs = draw(3)
        np.testing.assert_array_equal(run(alone / file, inputs), run(folder / file, inputs))


@each_variant
def test_graphs_use_standard_operators_that_browsers_know_and_nothing_random(name, config, exported):
    _, folder, _ = exported(name, config)
    for path in folder.glob("*.onnx"):
        proto = onnx.load(path)
        assert {(opset.domain, opset.version <= 20) for opset in proto.opset_import} == {("", True)}
        assert not proto.functions
        assert not [
            node.op_type for node in proto.graph.node if node.op_type.startswith(("Random", "Bernoulli", "Multi"))
        ]


@each_variant
def test_the_card_and_the_metadata_say_all_there_is_to_know(name, config, exported):
    model, folder, card = exported(name, config)
    assert json.loads((folder / "card.json").read_text()) == card
    assert set(card) == CARD | {"files"}
    full = model.Config.model_validate(config).model_dump()
    assert (card["entry"], card["variant"], card["config"]) == (f"my_{name}", name, full)
    assert (card["image_shape"], card["value_range"]) == ([1, 8, 8], [0, 1])
    assert (card["noise_width"], card["metrics"]) == (model.noise_width, METRICS)
    prior = f"{model.prior_name} over {model.latent} dimensions" if isinstance(model, Decodes) else "none"
    assert card["prior"] == prior
    for path in folder.glob("*.onnx"):
        metadata = session(path).get_modelmeta().custom_metadata_map
        read = {key: text if isinstance(card[key], str) else json.loads(text) for key, text in metadata.items()}
        assert read == {key: card[key] for key in CARD}
    assert Sampler(folder).metadata["fingerprint"] == "12345e6", "digits that look like a number stay text"


@each_variant
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


def test_the_same_model_gives_the_same_bytes(trained, tmp_path):
    """So that DVC sees no change where there is none."""
    model, _ = trained("naive_bayes", {})
    contents = []
    for folder in (tmp_path / "first", tmp_path / "second"):
        folder.mkdir()
        write_bundle(as_trained("naive_bayes", {}, model), "entry", METRICS, folder)
        contents.append((folder / "generator.onnx").read_bytes())
    assert contents[0] == contents[1]


class Deaf(Variant):
    """Generates images that do not depend on the noise."""

    Config = Model
    noise_width = 3

    def __init__(self, follows_the_batch: bool) -> None:
        super().__init__(Model(), IMAGE_SHAPE)
        self.follows_the_batch = follows_the_batch
        self.register_buffer("image", torch.full((1, *IMAGE_SHAPE), 0.5))

    def forward(self, images, generator):
        raise NotImplementedError

    def generate(self, noise):
        return self.image.expand(noise.shape[0] if self.follows_the_batch else 2, *IMAGE_SHAPE)


@pytest.mark.parametrize("follows_the_batch", [True, False])
def test_a_model_that_does_not_use_its_input_is_refused(tmp_path, follows_the_batch):
    (graph,) = graphs(Deaf(follows_the_batch), IMAGE_SHAPE)
    with pytest.raises(
        InputError, match=r"generator\.onnx must use its input, but no operation takes the values of noise"
    ):
        export(graph, tmp_path / "generator.onnx", {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [3.0, float("nan"), float("inf")])
def test_a_graph_that_differs_from_torch_is_refused(exported, value):
    """Also where torch, or onnxruntime, computes no number at all."""
    model, folder, _ = exported("vae", {"latent": 3})
    changed = copy.deepcopy(model)
    changed.decoder[0].bias.data[:] = value
    generator_graph, decoder_graph, encoder_graph = graphs(changed, IMAGE_SHAPE)
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
def test_a_difference_counts_relative_to_outputs_above_one_and_as_it_is_below(tmp_path, scale, error, fits):
    """ONNX multiplies by `scale` and errs by the share `error`; outputs are of the size of `scale`."""
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 4]) for name in ("image", "z")]
    factor = onnx.numpy_helper.from_array(np.array(scale * (1 + error), np.float32), "factor")
    nodes = [onnx.helper.make_node("Mul", ["image", "factor"], ["z"])]
    body = onnx.helper.make_graph(nodes, "scaled", values[:1], values[1:], [factor])
    path = tmp_path / "encoder.onnx"
    onnx.save(onnx.helper.make_model(body, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=8), path)
    graph = Graph("encoder", lambda images: images * scale, torch.nn.Identity(), "image", "z", (4,), is_image=True)
    if fits:
        assert 0 < verification.largest_difference(graph, path) <= 1e-5
    else:
        with pytest.raises(InputError, match=r"encoder\.onnx must differ from torch by at most 1e-05, but differs by"):
            verification.largest_difference(graph, path)


def test_a_bundle_with_a_graph_above_the_tolerance_is_refused(trained, tmp_path, monkeypatch):
    model, _ = trained("naive_bayes", {})
    monkeypatch.setattr(verification, "TOLERANCE", -1.0)
    with pytest.raises(InputError, match=r"generator\.onnx must differ from torch by at most -1\.0, but differs by 0"):
        write_bundle(as_trained("naive_bayes", {}, model), "entry", METRICS, tmp_path)
    assert not (tmp_path / "card.json").exists(), "a card vouches for what was verified"


def test_a_copier_is_refused_unless_its_entry_is_named():
    with pytest.raises(InputError, match=r"but copier breaks Rule 2: near copies.*name it in export\.allow_broken"):
        require_kept("copier", COPIER, ["other"])
    require_kept("copier", COPIER, ["other", "copier"])
    require_kept("honest", METRICS, [])


def test_the_first_line_of_a_copiers_card_says_so(trained, tmp_path):
    model, _ = trained("naive_bayes", {})
    for name, metrics in (("copier", COPIER), ("honest", METRICS)):
        (tmp_path / name).mkdir()
        write_bundle(as_trained("naive_bayes", {}, model), name, metrics, tmp_path / name)
    first = (tmp_path / "copier/card.md").read_text().splitlines()[0]
    assert first.startswith("**Breaks Rule 2: its samples are copies of training images.")
    assert (tmp_path / "copier/card.json").read_text().splitlines()[1].startswith('  "warning": "Breaks Rule 2')
    assert (tmp_path / "honest/card.md").read_text().splitlines()[0] == "# honest"
    assert json.loads((tmp_path / "honest/card.json").read_text())["warning"] == ""
