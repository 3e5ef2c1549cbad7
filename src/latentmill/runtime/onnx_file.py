"""What an ONNX file that stands alone holds, read without the package onnx.

onnxruntime would read weights from other files that a model names, and run operators of its own beyond the standard.
An exported file has neither, so one that has is not to be trusted.
"""

from collections.abc import Iterator

from latentmill.errors import InputError

STANDARD = (b"", b"ai.onnx")
# Of onnx.proto: the fields of each message that hold messages, by number, and what is refused in it.
NESTED = {
    "model": {7: "graph", 8: "operator set", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "function": {7: "node", 9: "operator set"},
}
DOMAIN = {("operator set", 1), ("node", 7), ("function", 10)}
EXTERNAL_DATA = ("tensor", 13)
VARINT, FIXED_64, BYTES, FIXED_32 = 0, 1, 2, 5


def require_standalone(content: bytes, where: str) -> None:
    """Refuse a model whose data are in other files, or whose operators are not those of ONNX alone.

    Raises:
        InputError: so it is, or `content` is no ONNX model.
    """
    waiting = [("model", memoryview(content))]
    while waiting:
        kind, message = waiting.pop()
        try:
            found = list(_fields(message))
        except (IndexError, ValueError):
            raise InputError(f"{where} must be an intact ONNX file, but a {kind} in it is cut off") from None
        for number, value in found:
            if (kind, number) in DOMAIN and bytes(value) not in STANDARD:
                domain = bytes(value).decode(errors="replace")
                raise InputError(f"{where} must use standard operators alone, but has some of {domain!r}")
            if (kind, number) == EXTERNAL_DATA:
                raise InputError(f"{where} must hold all its data, but has some in another file")
            if number in NESTED.get(kind, {}):
                waiting.append((NESTED[kind][number], value))


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The fields of a protocol buffer: number, and content where it has a length (else nothing).

    Raises:
        IndexError: it ends within a field.
        ValueError: a field is of no known type.
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        size = {FIXED_64: 8, FIXED_32: 4}.get(key & 7, 0)
        if key & 7 == BYTES:
            size, at = _varint(message, at)
        elif key & 7 == VARINT:
            _, at = _varint(message, at)
        elif not size:
            raise ValueError(f"a field of type {key & 7}")
        if at + size > len(message):
            raise IndexError(at + size)
        yield key >> 3, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and where it ends."""
    value = shift = 0
    while message[at] & 0x80:
        value |= (message[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return value | message[at] << shift, at + 1
