"""Damaged and hostile files at every door: python tests/fuzz.py DOOR COUNT SEED

Each of COUNT contents is one that a door takes, changed at random. The door may take it too, or refuse it by an
InputError of one short line; any other error ends the process, and so does one content that takes more than SECONDS, or
more memory than MEMORY for all.
"""

import json
import random
import resource
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import tiny
from google.protobuf import json_format
from google.protobuf.message import DecodeError
from onnx import ModelProto, load_from_string
from PIL import Image

from latentmill import Decoder
from latentmill.config import DataConfig, load_params
from latentmill.data.numpy_files import read_npy, read_npz
from latentmill.data.preparation.fitting import Target
from latentmill.data.preparation.intake import decode_all
from latentmill.data.sources.folder import load
from latentmill.errors import InputError
from latentmill.export.outcome import read_outcome
from latentmill.runtime import commands
from latentmill.runtime.folder import Folder
from latentmill.runtime.image_file import read_images
from latentmill.runtime.onnx_file import require_standalone

SECONDS, MEMORY, LONGEST = 5.0, 4 << 30, 3000  # of one content; of the process, in bytes; letters of a message
ROOT = Path(__file__).parents[1]
TOKENS = [b"\xff" * 9, b"\0" * 8, b"\x80" * 5, b"[" * 300, b"{" * 300, b'"', b"\x1b[2J", b"\n", b"9" * 400, b"-1"]
TOKENS += [b"1e999", b"null", b"NaN", b"Infinity", b"\xed\xa0\x80", b"../", b"&a ", b"*a", b"<<: ", b": ", b"- ", b"? "]
VALUES: list[Any] = [None, True, 0, -1, 1.5, 2**31, 2**70, 1e308, "", "x\x1b[2J\n", "\ud800", "../../x", [], {}, [[]]]
VALUES += [[{}], {"a": []}, ["x"] * 50, [1, 2, 3], "NaN", [[[[[[]]]]]], {"": None}]
Draw = Callable[[random.Random], bytes]
Door = tuple[Draw, Callable[[bytes], object]]


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Changed in one to eight places: bits, bytes, pieces that go, come twice or move, and texts with a meaning."""
    found = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        at, size = rng.randrange(len(found) + 1), rng.choice([1, 1, 2, 4, 16, 100])
        kind = rng.randrange(7)
        if kind == 0 and at < len(found):
            found[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(found):
            found[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
        elif kind == 2:
            del found[at : at + size]
        elif kind == 3:
            found[at:at] = found[at : at + size]
        elif kind == 4:
            found[at:at] = rng.choice(TOKENS)
        elif kind == 5:
            source = rng.randrange(len(found) + 1)
            found[at : at + size] = found[source : source + size]
        elif rng.random() < 0.2:
            del found[at:]
    return bytes(found)


def changed(content: Any, rng: random.Random) -> Any:
    """A copy of JSON in which a value or a key, somewhere, is another."""
    if isinstance(content, dict) and content and rng.random() < 0.85:
        key = rng.choice(list(content))
        if rng.random() < 0.15:
            return {each: value for each, value in content.items() if each != key}
        return content | {key: changed(content[key], rng)}
    if isinstance(content, list) and content and rng.random() < 0.7:
        at = rng.randrange(len(content))
        return [*content[:at], changed(content[at], rng), *content[at + rng.randint(0, 1) :]]
    return rng.choice(VALUES)


def either(content: Any) -> Draw:
    """JSON that is changed as JSON, or as bytes."""

    def draw(rng: random.Random) -> bytes:
        if rng.random() < 0.3:
            return mutated(json.dumps(content).encode(), rng)
        found = content
        for _ in range(rng.randint(1, 3)):
            found = changed(found, rng)
        return json.dumps(found).encode()

    return draw


def damaged(*contents: bytes) -> Draw:
    return lambda rng: mutated(rng.choice(contents), rng)


def card(folder: Path) -> Door:
    def door(content: bytes) -> None:
        (folder / "card.json").write_bytes(content)
        tiny.seal(folder)
        print(read_outcome(folder.parent, folder.name))
        commands.inspect(folder)
        Decoder(folder).sample(1, seed=0)

    return either(tiny.CONDITIONAL | {"codebook": None}), door


def manifest(folder: Path) -> Door:
    def door(content: bytes) -> None:
        (folder / "manifest.json").write_bytes(content)
        found = Folder(folder)
        for name in found.names:
            found.read(name)

    return either(json.loads((folder / "manifest.json").read_bytes())), door


def refusal(folder: Path) -> Door:
    def door(content: bytes) -> None:
        (folder / "refused.json").write_bytes(content)
        print(read_outcome(folder.parent, folder.name))
        Folder(folder)

    rules = {"status": "failed", "reason": "a", "evidence": "b", "advice": "c", "rules": {"1": "pass", "2": "fail"}}
    return either({"entry": "tiny", **rules, "inputs": "d"}), door


def onnx(folder: Path) -> Door:
    def door(content: bytes) -> None:
        require_standalone(content, "generator.onnx")
        _require_that_protobuf_agrees(content)
        (folder / "generator.onnx").write_bytes(content)
        Decoder(tiny.seal(folder)).sample(1, seed=0)

    return _changed_graph, door


def _changed_graph(rng: random.Random) -> bytes:
    """Changed as bytes, or in the terms of onnx.proto."""
    content = tiny.generator()
    if rng.random() < 0.5:
        return mutated(content, rng)
    fields = json_format.MessageToDict(load_from_string(content), preserving_proto_field_name=True)
    try:
        return json_format.ParseDict(changed(fields, rng), ModelProto()).SerializeToString()
    except (json_format.ParseError, AttributeError, TypeError, ValueError, OverflowError, SystemError):  # no such value
        return mutated(content, rng)


def _require_that_protobuf_agrees(content: bytes) -> None:
    """By the reader of the package onnx, which reads as onnxruntime does."""
    try:
        proto = load_from_string(content)
    except DecodeError:
        return  # which onnxruntime refuses
    attributes = [each for node in proto.graph.node for each in node.attribute]
    tensors = [
        *proto.graph.initializer,
        *(each.t for each in attributes),
        *(t for each in attributes for t in each.tensors),
    ]
    assert not any(each.external_data or each.data_location for each in tensors)
    assert not any(each.HasField("g") or each.graphs for each in attributes)
    assert {each.domain for each in (*proto.graph.node, *proto.opset_import)} <= {"", "ai.onnx"}


def params(folder: Path) -> Door:
    path = folder / "params.yaml"

    def door(content: bytes) -> None:
        path.write_bytes(content)
        load_params(path)

    texts = [(ROOT / name).read_bytes() for name in ("params.yaml", "ladders/lecture.yaml")]
    return damaged(*texts), door


def arrays(folder: Path) -> Door:
    images, plain = np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8), BytesIO()
    np.save(plain, images)
    contents = [plain.getvalue()]
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2):
        with zipfile.ZipFile(packed := BytesIO(), "w", method) as archive:
            archive.writestr("images.npy", plain.getvalue())
        contents.append(packed.getvalue())

    def door(content: bytes) -> None:
        errors = []
        for reader in (lambda path: read_images(path, (1, 8, 8)), read_npy, read_npz):
            path = folder / "a"
            path.write_bytes(content)
            try:
                reader(path)
            except InputError as error:
                errors.append(error)
        if len(errors) == 3:
            raise errors[0]

    return damaged(*contents), door


def picture(folder: Path) -> Door:

    target, place = Target(3, 8, 8, "crop", (255, 255, 255)), folder / "images"
    place.mkdir()
    contents = []
    for mode in ("L", "RGB", "RGBA", "P", "I;16"):
        Image.new(mode, (9, 8)).save(found := BytesIO(), "PNG")
        contents.append(found.getvalue())

    def door(content: bytes) -> None:
        (place / "a.png").write_bytes(content)
        config = DataConfig(source="folder", path=str(place), label=None, max_dropped=1)
        intake = decode_all(load(config), target, folder / "all.npy", processes=0, progress=lambda *told: None)
        if intake.dropped:
            raise InputError(intake.dropped[0].reason)

    return damaged(*contents), door


DOORS = {each.__name__: each for each in (card, manifest, refusal, onnx, params, arrays, picture)}


def main(name: str, count: int, seed: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", "Reading `.npy`")  # of Python 2, says NumPy, which is not so
    outcomes, slowest = Counter[str](), 0.0
    with tempfile.TemporaryDirectory() as root:
        write = tiny.write_conditional if name == "card" else tiny.write
        draw, door = DOORS[name](write(Path(root) / "tiny"))
        for number in range(count):
            content, started = draw(random.Random(f"{name}/{seed}/{number}")), time.perf_counter()
            try:
                outcomes["refused" if _refusal(door, content) else "taken"] += 1
            except Exception:
                print(f"{name}, seed {seed}, number {number}: {content!r}"[:4000], file=sys.stderr)
                raise
            slowest = max(slowest, time.perf_counter() - started)
            assert slowest < SECONDS, f"{name}, seed {seed}, number {number} took {slowest:.1f} s"
    print(f"{name}: {outcomes['refused']} refused, {outcomes['taken']} taken, at most {slowest:.2f} s", file=sys.stderr)


def _refusal(door: Callable[[bytes], object], content: bytes) -> str:
    """What the door says; empty if it takes the content."""
    try:
        door(content)
    except InputError as error:
        said = str(error)
        if not said.isprintable() or len(said) > LONGEST:
            raise ValueError(f"a refusal must be one short line, but is {said[:LONGEST]!r}") from error
        return said
    return ""


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
