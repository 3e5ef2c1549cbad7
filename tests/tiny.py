"""An export made by hand, of a model small enough to be computed beside it: no torch, no training."""

import hashlib
import json
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

LATENT, SHAPE = 3, (2, 4, 5)  # of a code; of an image
NOISE, Z = ("noise", (LATENT,)), ("z", (LATENT,))
IMAGE, MEAN, LOG_VARIANCE = ("image", SHAPE), ("mean", (LATENT,)), ("log_variance", (LATENT,))
DIRECTIONS = [
    {"name": "toward 7", "vector": [1.0, 0.0, -1.0], "low": -1.5, "high": 1.5, "explains": None},
    {"name": "component 1", "vector": [0.0, 2.0, 0.0], "low": -3.0, "high": 3.0, "explains": 0.5},
]
VERDICT = {"status": "pass", "evidence": "near copies (pixels) 0 ± 0, fails above 0.025", "samples": 3000}
SAMPLES = {
    "rule_1": VERDICT,
    "rule_2": VERDICT,
    "near_copies": {"share": 0.001, "low": 0.0, "high": 0.002, "held_out": 0.001},
    "metrics": {"pixels": {"precision": {"value": 0.9, "standard_error": 0.01}}},
}
CARD = {
    "warning": "",
    "entry": "tiny",
    "variant": "vae",
    "image_shape": list(SHAPE),
    "latent": LATENT,
    "noise": {"width": LATENT, "categorical": 0},
    "prior": "normal over 3 dimensions",
    "codes": {"mean": [0.0] * LATENT, "deviation": [1.0] * LATENT},
    "directions": DIRECTIONS,
    "data": {"description": "tiny <pictures>"},
    "metrics": {"samples": {"normal": SAMPLES}, "exported_prior": "normal"},
    "files": {
        "generator.onnx": {"input": "noise", "outputs": ["image", "z"]},
        "decoder.onnx": {"input": "z", "outputs": ["image"]},
        "encoder.onnx": {"input": "image", "outputs": ["mean", "log_variance"]},
    },
}

# The same card as an earlier version wrote it, in format 1.
VERDICT_1 = {"status": "holds", "evidence": "near copies (pixels) 0 ± 0, broken above 0.025", "samples": 3000}
COPIER_1 = {"status": "broken", "evidence": "told apart (pixels) 0.9 ± 0.1, broken above 0.6", "samples": 3000}
SAMPLES_1 = {
    "rule_1": VERDICT_1 | {"status": "cannot tell"},
    "rule_2": COPIER_1,
    "hole": {"told_apart": 0.9, "test_told_apart": 0.5},
    "measures": {"pixels": {"told apart": {"value": 0.9, "standard_error": 0.01}}},
}
CARD_1 = CARD | {
    "warning": "Breaks Rule 2: its samples are copies of training images. told apart (pixels) 0.9, broken above 0.6.",
    "config": {"choices": 1},
    "noise": {"width": LATENT, "choices": 1},
    "forms": {"fp16": {"published": True}},
    "metrics": {"samples": {"normal": SAMPLES_1, "mixture": {"rule_1": VERDICT_1}}, "exported_prior": "normal"},
}


def weights() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((LATENT, np.prod(SHAPE)), dtype=np.float32)


def images_of(z: np.ndarray) -> np.ndarray:
    """What the decoder makes of codes (N, LATENT)."""
    return (1 / (1 + np.exp(-z.astype(np.float64) @ weights()))).reshape(-1, *SHAPE)


def codes_of(images: np.ndarray) -> np.ndarray:
    """The means that the encoder gives images (N, *SHAPE); the log-variances are their squares."""
    return images.reshape(len(images), -1).astype(np.float64) @ weights().T


def write(folder: Path, card: dict | None = None, **contents: bytes) -> Path:
    """An export; `contents` replace files, as `decoder=b"…"`."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {"generator": generator(), "decoder": decoder(), "encoder": encoder()} | contents
    for name, content in files.items():
        (folder / f"{name}.onnx").write_bytes(content)
    (folder / "card.json").write_text(json.dumps(CARD | (card or {})))
    (folder / "card.md").write_text("# tiny\n")
    return seal(folder)


def write_format_1(folder: Path) -> Path:
    """An export as an earlier version wrote it."""
    return seal(write(folder, CARD_1), format=1)


def seal(folder: Path, format: int = 2) -> Path:
    """Write the manifest of what is in the folder now."""
    found = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "manifest.json"}
    files = {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)} for name, content in found.items()
    }
    (folder / "manifest.json").write_text(json.dumps({"format": format, "files": files}))
    return folder


def generator() -> bytes:
    return model([*_decoding("noise"), helper.make_node("Identity", ["noise"], ["z"])], NOISE, (IMAGE, Z))


def decoder() -> bytes:
    return model(_decoding("z"), Z, (IMAGE,))


def encoder() -> bytes:
    nodes = [
        helper.make_node("Flatten", ["image"], ["pixels"]),
        helper.make_node("MatMul", ["pixels", "transposed"], ["mean"]),
        helper.make_node("Mul", ["mean", "mean"], ["log_variance"]),
    ]
    return model(nodes, IMAGE, (MEAN, LOG_VARIANCE))


def _decoding(name: str) -> list:
    return [
        helper.make_node("MatMul", [name, "weights"], ["rows"]),
        helper.make_node("Sigmoid", ["rows"], ["grey"]),
        helper.make_node("Reshape", ["grey", "image_shape"], ["image"]),
    ]


def model(nodes: list, taken: tuple, given: tuple, batch: object = "batch", domain: str = "") -> bytes:
    """An ONNX file that maps `taken`, a name and a shape, to what is `given`."""
    constants = {
        "weights": weights(),
        "transposed": np.ascontiguousarray(weights().T),
        "image_shape": np.array([-1, *SHAPE]),
    }
    used = {name for node in nodes for name in node.input}
    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items() if name in used]
    inputs, outputs = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, (batch, *shape)) for name, shape in values]
        for values in ((taken,), given)
    )
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, tensors)
    opsets = [helper.make_opsetid("", 17)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
