"""More formats of the decoder, on request: in lower precision, or with bytes for images.

    decoder.fp16.onnx   weights and sums in half precision, for GPUs; codes and images stay float32
    decoder.int8.onnx   weights and activations as 8-bit integers, calibrated on the validation images' codes, or
                        without an encoder on codes of the prior
    decoder.uint8.onnx  images as bytes 0 … 255: scaled, rounded and clipped in the graph

A format is not published if it differs from the float32 decoder by more than its tolerance.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.transformers.float16 import convert_float_to_float16

from latentmill.config import FormatName
from latentmill.data.batches import as_float
from latentmill.export.graphs import Graph, published
from latentmill.export.latency import milliseconds
from latentmill.features.distances import frechet_distance
from latentmill.features.spaces import PixelFeatures
from latentmill.runtime import graph as runtime

LEVELS = 255  # steps from black to white
COMPARED = 2_000  # images, at most
CALIBRATED = 100  # codes at a time

Json = dict[str, Any]
Feeds = dict[str, np.ndarray]  # by input


@dataclass(frozen=True)
class Reference:
    """The codes and images on which every format is measured."""

    prior_codes: Feeds  # what the decoder takes: codes drawn from the prior, (N, …), and labels
    calibration: Feeds  # the same of the validation images, (M, …), or of the prior for a model without an encoder
    images: np.ndarray  # the validation images, uint8 (M, C, H, W)


def write_formats(
    tolerances: dict[FormatName, float], graph: Graph, folder: Path, reference: Reference, tell: Callable[[str], None]
) -> Json:
    """Write decoder.onnx in each format that is within its tolerance, and return the measurements of all of them.

    A tolerance is the mean difference of pixels, in levels of 255.
    """
    whole = folder / "decoder.onnx"
    features = PixelFeatures.fit(reference.images)
    found: Json = {}
    plain = _measured(whole, "float32", graph, reference, features)
    for format, tolerance in tolerances.items():
        tell(f"decoder.{format}.onnx: converting and measuring")
        path = folder / f"decoder.{format}.onnx"
        onnx.save_model(published(_CONVERTERS[format](whole, reference), _metadata(whole)), path)
        made = _measured(path, format, graph, reference, features)
        difference = np.abs(made.images - plain.images) * LEVELS
        mean = float(difference.mean())
        if not mean <= tolerance:
            path.unlink()
        found[format] = {
            "published": mean <= tolerance,
            "tolerance": tolerance,
            "mean_difference": mean,
            "largest_difference": float(difference.max()),
            "frechet_distance": {"float32": plain.frechet_distance, format: made.frechet_distance},
            "milliseconds": made.milliseconds,
            "bytes": made.bytes,
        }
    return found


@dataclass(frozen=True)
class _Measured:
    images: np.ndarray  # float32 (N, C, H, W) in [0, 1]
    frechet_distance: float  # from the validation images, in principal components of pixels
    milliseconds: dict[str, float]
    bytes: int


def _measured(path: Path, format: str, graph: Graph, reference: Reference, features: PixelFeatures) -> _Measured:
    dtype = np.uint8 if format == "uint8" else np.float32
    outputs, content = {"image": reference.images.shape[1:]}, path.read_bytes()
    opened = runtime.OnnxGraph(content, str(path), graph.inputs, outputs, dtype=dtype)
    some = {name: each[:COMPARED] for name, each in reference.prior_codes.items()}
    images = opened.run(some, "image")[0]
    images = as_float(images) if dtype == np.uint8 else images
    distance = frechet_distance(features(images), features(as_float(reference.images[:COMPARED])))
    return _Measured(images, distance, milliseconds(opened, graph), len(content))


def _fp16(whole: Path, reference: Reference) -> onnx.ModelProto:
    made: onnx.ModelProto = convert_float_to_float16(onnx.load(whole), keep_io_types=True)
    return made


def _int8(whole: Path, reference: Reference) -> onnx.ModelProto:
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # it recommends a preparation that the graph has had
    try:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "int8.onnx"
            quantize_static(
                whole,
                path,
                _Codes(reference.calibration),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
            return onnx.load(path)
    finally:
        logger.setLevel(level)


def _uint8(whole: Path, reference: Reference) -> onnx.ModelProto:
    proto = onnx.load(whole)
    (image,) = proto.graph.output
    for node in proto.graph.node:
        node.output[:] = ["unit" if name == image.name else name for name in node.output]
        node.input[:] = ["unit" if name == image.name else name for name in node.input]
    constants = {"levels": LEVELS, "black": 0.0, "white": LEVELS}
    proto.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.array(value, np.float32), name) for name, value in constants.items()
    )
    steps = [("Mul", ["unit", "levels"]), ("Round", ["scaled"]), ("Clip", ["rounded", "black", "white"])]
    for (operator, inputs), output in zip(steps, ("scaled", "rounded", "clipped"), strict=True):
        proto.graph.node.append(onnx.helper.make_node(operator, inputs, [output]))
    proto.graph.node.append(onnx.helper.make_node("Cast", ["clipped"], [image.name], to=onnx.TensorProto.UINT8))
    image.type.tensor_type.elem_type = onnx.TensorProto.UINT8
    return proto


class _Codes(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """Yields what the decoder takes, N rows, for calibration."""

    def __init__(self, feeds: Feeds) -> None:
        rows = range(0, len(feeds["z"]), CALIBRATED)
        self.parts: Iterator[Feeds] = (
            {name: each[start : start + CALIBRATED] for name, each in feeds.items()} for start in rows
        )

    def get_next(self) -> Feeds | None:
        return next(self.parts, None)


def _metadata(path: Path) -> dict[str, str]:
    return {each.key: each.value for each in onnx.load(path, load_external_data=False).metadata_props}


_CONVERTERS: dict[FormatName, Callable[[Path, Reference], onnx.ModelProto]] = {
    "fp16": _fp16,
    "int8": _int8,
    "uint8": _uint8,
}
