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
    "model": "vae",
    "image_shape": list(SHAPE),
    "latent": LATENT,
    "code_shape": [LATENT],
    "noise": {"width": LATENT, "categorical": 0},
    "prior": "normal over 3 dimensions",
    "codes": {"mean": [0.0] * LATENT, "deviation": [1.0] * LATENT},
    "directions": DIRECTIONS,
    "data": {"description": "tiny <pictures>"},
    "metrics": {"samples": {"normal": SAMPLES}, "exported_prior": "normal"},
    "files": {
        "generator.onnx": {"inputs": ["noise"], "outputs": ["image", "z"]},
        "decoder.onnx": {"inputs": ["z"], "outputs": ["image"]},
        "encoder.onnx": {"inputs": ["image"], "outputs": ["mean", "log_variance"]},
    },
}

# A conditional model, and one whose codes have three axes.
CLASSES, COUNTS = ["cat", "dog, wet", "\N{SNOWMAN}", "rare"], [10, 25, 1, 0]
CONDITIONAL = CARD | {
    "label": {"classes": CLASSES, "counts": COUNTS},
    "files": {name: each | {"inputs": [*each["inputs"], "label"]} for name, each in CARD["files"].items()},
}
# One of which only the prior is conditional, and guided: its decoder and encoder take no label.
GUIDED = CARD | {
    "label": {"classes": CLASSES, "counts": COUNTS},
    "files": CARD["files"] | {"generator.onnx": {"inputs": ["noise", "label", "guidance"], "outputs": ["image", "z"]}},
}
CODE_SHAPE = (2, 2, 2)
SHAPED = CARD | {
    "latent": 8,
    "code_shape": list(CODE_SHAPE),
    "noise": {"width": 8, "categorical": 0},
    "codes": {"mean": [0.0] * 8, "deviation": [1.0] * 8},
    "directions": [DIRECTIONS[0] | {"vector": [1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 2.0]}],
}

# The same card as earlier versions wrote it: in format 2 before there were conditional models, and in format 1.
EARLY = {key: value for key, value in CARD.items() if key not in ("model", "code_shape")} | {
    "variant": "vae",
    "files": {name: {"input": each["inputs"][0], "outputs": each["outputs"]} for name, each in CARD["files"].items()},
}
VERDICT_1 = {"status": "holds", "evidence": "near copies (pixels) 0 ± 0, broken above 0.025", "samples": 3000}
COPIER_1 = {"status": "broken", "evidence": "told apart (pixels) 0.9 ± 0.1, broken above 0.6", "samples": 3000}
SAMPLES_1 = {
    "rule_1": VERDICT_1 | {"status": "cannot tell"},
    "rule_2": COPIER_1,
    "hole": {"told_apart": 0.9, "test_told_apart": 0.5},
    "measures": {"pixels": {"told apart": {"value": 0.9, "standard_error": 0.01}}},
}
CARD_1 = EARLY | {
    "warning": "Breaks Rule 2: its samples are copies of training images. told apart (pixels) 0.9, broken above 0.6.",
    "config": {"choices": 1},
    "noise": {"width": LATENT, "choices": 1},
    "forms": {"fp16": {"published": True}},
    "metrics": {"samples": {"normal": SAMPLES_1, "mixture": {"rule_1": VERDICT_1}}, "exported_prior": "normal"},
}


def weights(latent: int = LATENT) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((latent, np.prod(SHAPE)), dtype=np.float32)


def label_weights() -> np.ndarray:
    """What each label adds to the pixels before they are squashed."""
    return np.random.default_rng(1).standard_normal((len(CLASSES), np.prod(SHAPE)), dtype=np.float32)


def label_codes() -> np.ndarray:
    """What each label adds to the mean of a code."""
    return np.random.default_rng(2).standard_normal((len(CLASSES), LATENT), dtype=np.float32)


def images_of(z: np.ndarray, labels: list[str] | None = None) -> np.ndarray:
    """What the decoder makes of codes (N, …), and of labels (N) if it is conditional."""
    flat = z.reshape(len(z), -1).astype(np.float64)
    rows = flat @ weights(flat.shape[1]) + (label_weights()[indices(labels)] if labels else 0)
    return (1 / (1 + np.exp(-rows))).reshape(-1, *SHAPE)


def codes_of(images: np.ndarray, labels: list[str] | None = None, latent: int = LATENT) -> np.ndarray:
    """The means, flat, that the encoder gives images (N, *SHAPE); the log-variances are their squares."""
    codes = images.reshape(len(images), -1).astype(np.float64) @ weights(latent).T
    return codes + (label_codes()[indices(labels)] if labels else 0)


def indices(labels: list[str]) -> list[int]:
    return [CLASSES.index(label) for label in labels]


def write(folder: Path, card: dict | None = None, **contents: bytes) -> Path:
    """An export; `contents` replace files, as `decoder=b"…"`."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {"generator": generator(), "decoder": decoder(), "encoder": encoder()} | contents
    for name, content in files.items():
        (folder / f"{name}.onnx").write_bytes(content)
    (folder / "card.json").write_text(json.dumps(CARD | (card or {})))
    (folder / "card.md").write_text("# tiny\n")
    return seal(folder)


def write_conditional(folder: Path, **contents: bytes) -> Path:
    """An export of a conditional model."""
    graphs = {"generator": generator(True), "decoder": decoder(True), "encoder": encoder(True)}
    return write(folder, CONDITIONAL, **graphs | contents)


def write_guided(folder: Path) -> Path:
    """An export of a model that draws codes by label and guidance, see `guided_codes`."""
    nodes = [
        helper.make_node("Gather", ["label_codes", "label"], ["toward"]),
        helper.make_node("Unsqueeze", ["guidance", "last"], ["factor"]),
        helper.make_node("Mul", ["toward", "factor"], ["step"]),
        helper.make_node("Add", ["noise", "step"], ["z"]),
        *_decoding("z"),
    ]
    return write(folder, GUIDED, generator=model(nodes, NOISE, (IMAGE, Z), labelled=True, guided=True))


def guided_codes(noise: np.ndarray, labels: list[str], guidance: object) -> np.ndarray:
    """What its generator makes of noise (N, LATENT), labels and guidance, a number or (N)."""
    return noise + np.broadcast_to(guidance, (len(noise),))[:, None] * label_codes()[indices(labels)]


def write_shaped(folder: Path) -> Path:
    """An export of a model whose codes have three axes."""
    z, latent = ("z", CODE_SHAPE), 8
    reshape = helper.make_node("Reshape", ["noise", "code_shape"], ["z"])
    generator = model([*_decoding("noise"), reshape], ("noise", (latent,)), (IMAGE, z), latent=latent)
    flat = helper.make_node("Flatten", ["z"], ["flat"])
    encoder = model(_encoding(shaped=True), IMAGE, (("mean", CODE_SHAPE), ("log_variance", CODE_SHAPE)), latent=latent)
    decoder = model([flat, *_decoding("flat")], z, (IMAGE,), latent=latent)
    return write(folder, SHAPED, generator=generator, decoder=decoder, encoder=encoder)


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


def generator(labelled: bool = False) -> bytes:
    nodes = [*_decoding("noise", labelled), helper.make_node("Identity", ["noise"], ["z"])]
    return model(nodes, NOISE, (IMAGE, Z), labelled=labelled)


def decoder(labelled: bool = False) -> bytes:
    return model(_decoding("z", labelled), Z, (IMAGE,), labelled=labelled)


def encoder(labelled: bool = False) -> bytes:
    return model(_encoding(labelled), IMAGE, (MEAN, LOG_VARIANCE), labelled=labelled)


def _encoding(labelled: bool = False, shaped: bool = False) -> list:
    flat = "codes" if labelled or shaped else "mean"
    nodes = [
        helper.make_node("Flatten", ["image"], ["pixels"]),
        helper.make_node("MatMul", ["pixels", "transposed"], [flat]),
    ]
    if labelled:
        nodes += _added("label_codes", "codes", "mean")
    if shaped:
        nodes += [helper.make_node("Reshape", ["codes", "code_shape"], ["mean"])]
    return [*nodes, helper.make_node("Mul", ["mean", "mean"], ["log_variance"])]


def _decoding(name: str, labelled: bool = False) -> list:
    return [
        helper.make_node("MatMul", [name, "weights"], ["rows"]),
        *(_added("label_weights", "rows", "sums") if labelled else []),
        helper.make_node("Sigmoid", ["sums" if labelled else "rows"], ["grey"]),
        helper.make_node("Reshape", ["grey", "image_shape"], ["image"]),
    ]


def _added(table: str, rows: str, sums: str) -> list:
    """To each row, what a table has for its label."""
    found = f"of_{table}"
    return [helper.make_node("Gather", [table, "label"], [found]), helper.make_node("Add", [rows, found], [sums])]


def model(
    nodes: list,
    taken: tuple,
    given: tuple,
    batch: object = "batch",
    domain: str = "",
    labelled: bool = False,
    latent: int = LATENT,
    guided: bool = False,
) -> bytes:
    """An ONNX file that maps `taken`, a name and a shape, to what is `given`."""
    constants = {
        "weights": weights(latent),
        "transposed": np.ascontiguousarray(weights(latent).T),
        "label_weights": label_weights(),
        "label_codes": label_codes(),
        "image_shape": np.array([-1, *SHAPE]),
        "code_shape": np.array([-1, *CODE_SHAPE]),
        "last": np.array([1]),
    }
    used = {name for node in nodes for name in node.input}
    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items() if name in used]
    inputs, outputs = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, (batch, *shape)) for name, shape in values]
        for values in ((taken,), given)
    )
    label = [helper.make_tensor_value_info("label", TensorProto.INT64, (batch,))] if labelled else []
    guidance = [helper.make_tensor_value_info("guidance", TensorProto.FLOAT, (batch,))] if guided else []
    graph = helper.make_graph(nodes, "tiny", [*inputs, *label, *guidance], outputs, tensors)
    opsets = [helper.make_opsetid("", 17)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
