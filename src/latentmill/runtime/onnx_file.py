"""What an ONNX file that stands alone holds, read strictly and without the package onnx.

onnxruntime would read weights from other files that a model names, and run operators of its own beyond the standard. A
file that `latentmill` exports has neither, nor a graph within a node, as `Loop` and `If` have: only that runs without
end. `Scan` may have one, without another in that: it takes a step for each element of a tensor that is there. So each
message may have only the fields of onnx.proto that an export may have, and what two readers might understand
differently is refused, too long a tag above all. Time and memory are bounded: messages are nested seven levels deep at
most, and both the fields and the bytes beside the weights are counted.
"""

from latentmill.errors import InputError

STANDARD = (b"", b"ai.onnx")
# Of onnx.proto: the fields of each message that are read as messages in their turn.
NESTED = {
    "model": {7: "graph", 8: "operator set"},
    "graph": {1: "node", 5: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "body", 10: "tensor"},
    "body": {1: "node of a body", 5: "tensor"},
    "node of a body": {5: "attribute of a body"},
    "attribute of a body": {5: "tensor", 10: "tensor"},
}
# The others that a message may have: names, numbers, texts and types, which are not looked into.
PLAIN = {
    "model": {1, 2, 3, 4, 5, 6, 14},
    "operator set": {1, 2},
    "graph": {2, 10, 11, 12, 13, 16},
    "node": {1, 2, 3, 4, 6, 7, 9},
    "attribute": {1, 2, 3, 4, 7, 8, 9, 13, 20},
    "tensor": {1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16},
}
PLAIN |= {f"{kind} of a body": PLAIN[kind] for kind in ("node", "attribute")} | {"body": PLAIN["graph"]}
WEIGHTS = {("tensor", field) for field in (4, 5, 7, 9, 10, 11)}
DOMAIN = {("operator set", 1), ("node", 7), ("node of a body", 7)}
OPERATOR, BODY, NODE = ("node", 4), ("attribute", 6), ("graph", 1)
DATA_LOCATION, EXTERNAL_DATA = ("tensor", 14), ("tensor", 13)
# The last is a function.
INNER_GRAPH = {("attribute", 11), ("attribute of a body", 6), ("attribute of a body", 11), ("model", 25)}
VARINT, FIXED_64, BYTES, FIXED_32 = 0, 1, 2, 5
LONGEST_TAG, LONGEST_SIZE, LONGEST_NUMBER = 4, 5, 10  # bytes; protobuf cuts a longer tag to 32 bits
MOST_FIELDS, MOST_BYTES = 500_000, 16 << 20  # of one file; the bytes of weights are not counted


def require_standalone(content: bytes, where: str) -> None:
    """Refuse a model that is not as an export is: with data in other files, say, or with operators beyond the standard.

    Raises:
        InputError: so it is, or `content` is no ONNX model, or one of too many parts.
    """
    _Reader(content, where).read("model", 0, len(content))


class _Reader:
    """Goes through the protocol buffer of one file, once."""

    def __init__(self, content: bytes, where: str) -> None:
        self.content, self.where = content, where
        self.fields, self.bytes = MOST_FIELDS, MOST_BYTES  # that may still come
        self.operators, self.has_body = list[bytes](), False  # of the node that is read

    def read(self, kind: str, at: int, end: int) -> None:
        """A message of that kind, which lies from `at` to `end`."""
        nested, plain = NESTED.get(kind, {}), PLAIN[kind]
        while at < end:
            number, wire, value, start, at = self._field(kind, at, end)
            self._require_allowed(kind, number, value, start, at)
            if number in nested:
                if wire != BYTES:
                    raise self._cut_off(kind)
                self.read(nested[number], start, at)
                self._after(kind, number)
            elif number not in plain:
                raise InputError(f"{self.where} must be as exports are, but a {kind} in it has the field {number}")
            elif (kind, number) not in WEIGHTS:
                self._count_bytes(at - start)

    def _field(self, kind: str, at: int, end: int) -> tuple[int, int, int, int, int]:
        """The field at `at`: its number and type, its value if that is a varint, and where its content lies."""
        self.fields -= 1
        if self.fields < 0:
            raise InputError(f"{self.where} must have at most {MOST_FIELDS:,} fields, but has more")
        tag, at = self._varint(kind, at, end, LONGEST_TAG)
        number, wire, size, value, start = tag >> 3, tag & 7, 0, 0, at
        if wire == BYTES:
            size, start = self._varint(kind, at, end, LONGEST_SIZE)
        elif wire == VARINT:
            value, start = self._varint(kind, at, end, LONGEST_NUMBER)
        elif wire in (FIXED_32, FIXED_64):
            size = 4 if wire == FIXED_32 else 8
        else:
            raise self._cut_off(kind)
        if start + size > end:
            raise self._cut_off(kind)
        return number, wire, value, start, start + size

    def _varint(self, kind: str, at: int, end: int, longest: int) -> tuple[int, int]:
        """A number of seven bits a byte, the lowest first, and where it ends."""
        value = 0
        for index, byte in enumerate(self.content[at : min(end, at + longest)]):
            value |= (byte & 0x7F) << 7 * index
            if byte < 0x80:
                return value, at + index + 1
        raise self._cut_off(kind)

    def _require_allowed(self, kind: str, number: int, value: int, start: int, end: int) -> None:
        field = (kind, number)
        if field in DOMAIN and self.content[start:end] not in STANDARD:
            domain = self.content[start : min(end, start + 40)].decode(errors="replace")
            raise InputError(f"{self.where} must use standard operators alone, but has some of {domain!r}")
        if field == EXTERNAL_DATA or (field == DATA_LOCATION and value):
            raise InputError(f"{self.where} must hold all its data, but has some in another file")
        if field == OPERATOR:
            self.operators.append(self.content[start:end])
        if field in INNER_GRAPH:
            raise self._inner_graph(kind)

    def _after(self, kind: str, number: int) -> None:
        """After the message in that field of a kind was read."""
        if (kind, number) == BODY:
            self.has_body = True
        elif (kind, number) == NODE:
            if self.has_body and set(self.operators) != {b"Scan"}:
                raise self._inner_graph("node")
            self.operators, self.has_body = [], False

    def _count_bytes(self, size: int) -> None:
        self.bytes -= size
        if self.bytes < 0:
            raise InputError(f"{self.where} must have at most {MOST_BYTES >> 20} MiB beside its weights, but has more")

    def _inner_graph(self, kind: str) -> InputError:
        rule = "must have no graph within a graph, such as a loop, except in a Scan"
        return InputError(f"{self.where} {rule}, but a {kind} has one")

    def _cut_off(self, kind: str) -> InputError:
        return InputError(f"{self.where} must be an intact ONNX file, but a {kind} in it is cut off")
