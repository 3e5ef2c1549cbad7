"""What is refused of an ONNX file before onnxruntime sees it: data elsewhere, foreign operators, graphs without end."""

import time
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import tiny
from onnx import ModelProto, NodeProto, TensorProto, external_data_helper, helper, load_from_string, numpy_helper

from latentmill import Decoder
from latentmill.errors import InputError
from latentmill.runtime import graph, onnx_file
from latentmill.runtime.onnx_file import require_standalone

ELSEWHERE = "must hold all its data, but has some in another file"
FOREIGN = r"must use standard operators alone, but has some of '(com.microsoft|my.company)'"
INNER = "must have no graph within a graph"
CUT_OFF = "must be an intact ONNX file, but a .* in it is cut off"


def varint(value: int) -> bytes:
    found = b""
    while value > 127:
        found, value = found + bytes([value & 127 | 128]), value >> 7
    return found + bytes([value])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def disguised(number: int, content: bytes) -> bytes:
    """As protobuf reads it, the same field: it cuts a tag to 32 bits, and a reader that does not finds another."""
    return varint(number << 3 | 2 | 1 << 32) + varint(len(content)) + content


def outside(name: str, location: str) -> TensorProto:
    tensor = numpy_helper.from_array(tiny.weights(), name)
    external_data_helper.set_external_data(tensor, location)
    tensor.ClearField("raw_data")
    return tensor


def with_weights_elsewhere(place: str, location: str) -> bytes:
    """A decoder with weights in another file: of the graph, of a node's attribute, in a disguise, or named alone."""
    proto = load_from_string(tiny.decoder())
    tensor = outside("weights", location)
    if place == "attribute":
        proto.graph.node.append(helper.make_node("Constant", [], ["unused"], value=tensor))
        return proto.SerializeToString()
    kept = [each for each in proto.graph.initializer if each.name != "weights"]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    if place == "graph":
        proto.graph.initializer.append(tensor)
        return proto.SerializeToString()
    if place == "location alone":
        tensor.ClearField("external_data")
        proto.graph.initializer.append(tensor)
        return proto.SerializeToString()
    entry = field(1, b"location") + field(2, location.encode())
    bare = bytes([8, 3, 8, 40, 16, 1]) + field(8, b"weights") + disguised(13, entry) + b"\x70\x01"
    content = proto.graph.SerializeToString() + field(5, bare)
    proto.ClearField("graph")
    return proto.SerializeToString() + field(7, content)


@pytest.mark.parametrize("place", ["graph", "attribute", "location alone", "disguise"])
def test_weights_in_another_file_are_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("weights.bin").write_bytes(tiny.weights().tobytes())
    folder = tiny.write(tmp_path / "a", decoder=with_weights_elsewhere(place, "weights.bin"))
    with pytest.raises(InputError, match=CUT_OFF if place == "disguise" else ELSEWHERE):
        Decoder(folder).decode(np.ones((1, tiny.LATENT)))


@pytest.mark.parametrize("place", ["operator set", "node", "disguise"])
def test_operators_that_are_not_standard_are_refused(place: str) -> None:
    content = tiny.model(tiny._decoding("z"), tiny.Z, (tiny.IMAGE,), domain="com.microsoft")
    if place == "node":
        proto = load_from_string(tiny.decoder())
        proto.graph.node[1].domain = "my.company"
        content = proto.SerializeToString()
    if place == "disguise":
        content = tiny.decoder() + disguised(8, field(1, b"com.microsoft") + b"\x10\x01")
    with pytest.raises(InputError, match=CUT_OFF if place == "disguise" else FOREIGN):
        require_standalone(content, "a")


def with_body(operator: str, *nodes: NodeProto) -> ModelProto:
    """A model with a node that has a graph of these nodes."""
    proto = load_from_string(tiny.decoder())
    inner = helper.make_graph([helper.make_node("Identity", ["more"], ["on"]), *nodes], "body", [], [])
    proto.graph.node.append(helper.make_node(operator, ["trips", "more"], ["unused"], body=inner))
    return proto


@pytest.mark.parametrize("operator", ["Loop", "If"])
def test_a_graph_within_a_node_is_refused(operator: str) -> None:
    with pytest.raises(InputError, match=INNER):
        require_standalone(with_body(operator).SerializeToString(), "a")


def test_a_scan_may_have_a_graph_without_another_in_it() -> None:
    require_standalone(with_body("Scan").SerializeToString(), "a")
    inner = with_body("Loop").graph.node[-1]
    for operator in ("Loop", "Scan"):
        inner.op_type = operator
        with pytest.raises(InputError, match=INNER):
            require_standalone(with_body("Scan", inner).SerializeToString(), "a")


@pytest.mark.parametrize("added", [("Scan", "Loop"), ("Loop", "Scan")], ids=str)
def test_a_node_that_is_a_scan_and_something_else_is_refused(added: tuple[str, str]) -> None:
    """Of a field that is there twice, readers may take the first or the last."""
    first, last = added
    node = with_body(first).graph.node[-1].SerializeToString() + field(4, last.encode())
    with pytest.raises(InputError, match=INNER):
        require_standalone(tiny.decoder() + field(7, field(1, node)), "a")


def test_a_function_is_refused() -> None:
    proto = load_from_string(tiny.decoder())
    nodes, opset = [helper.make_node("Identity", ["a"], ["b"])], [helper.make_opsetid("", 17)]
    proto.functions.append(helper.make_function("", "Sigmoid", ["a"], ["b"], nodes, opset))
    with pytest.raises(InputError, match=INNER):
        require_standalone(proto.SerializeToString(), "a")


def test_a_model_in_onnxruntimes_own_format_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else one that is also an ONNX file, which alone was checked, would be read as the other."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "a.ort"), 4
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(tiny.decoder(), options, providers=["CPUExecutionProvider"])
    monkeypatch.setattr(graph, "require_standalone", lambda content, where: None)
    shapes = {"z": (tiny.LATENT,)}, {"image": tiny.SHAPE}
    assert graph.OnnxGraph(tiny.decoder(), "a", *shapes)
    with pytest.raises(InputError, match="a must be an intact ONNX file"):
        graph.OnnxGraph((tmp_path / "a.ort").read_bytes(), "a", *shapes)


MALFORMED = {
    "an endless varint": b"\x08" + b"\xff" * 400_000 + b"\x01",
    "an endless tag": b"\xff" * 400_000,
    "an endless size": b"\x3a" + b"\xff" * 400_000,
    "a size beyond the end": b"\x3a\xff\xff\xff\x7f",
    "a graph that is a number": b"\x38\x01",
    "a group": b"\x3b\x3c",
    "a field without a type": b"\x3f",
    "text": b"<!doctype html>",
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_what_is_no_protocol_buffer_is_refused_at_once(kind: str) -> None:
    started = time.perf_counter()
    with pytest.raises(InputError, match="a must be"):
        require_standalone(MALFORMED[kind], "a")
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (field(20, b""), "model in it has the field 20"),  # training
        (field(7, field(15, b"")), "graph in it has the field 15"),  # a sparse tensor
        (field(7, field(1, field(10, b""))), "node in it has the field 10"),  # devices
        (b"\x02\x00", "model in it has the field 0"),
    ],
)
def test_a_field_that_no_export_has_is_refused(content: bytes, name: str) -> None:
    with pytest.raises(InputError, match=name):
        require_standalone(tiny.decoder() + content, "a")


def test_the_number_of_fields_and_the_bytes_beside_weights_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "MOST_FIELDS", 1000)
    with pytest.raises(InputError, match="must have at most 1,000 fields, but has more"):
        require_standalone(b"\x0a\x00" * 2_000_000, "a")
    monkeypatch.setattr(onnx_file, "MOST_BYTES", 1 << 20)
    with pytest.raises(InputError, match="must have at most 1 MiB beside its weights, but has more"):
        require_standalone(field(6, bytes(2 << 20)), "a")
    require_standalone(field(7, field(5, field(9, bytes(2 << 20)))), "a")  # weights
