"""One exported ONNX file, with its inputs and outputs of known names and shapes."""

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as onnxruntime_errors

from latentmill.errors import InputError, escaped
from latentmill.runtime.cores import cores
from latentmill.runtime.facts import LABEL
from latentmill.runtime.json_file import LONGEST_TEXT
from latentmill.runtime.onnx_file import require_standalone

BATCH = 256  # rows at a time: bounds what a large request takes within the network
LARGEST = 1 << 32  # bytes of one result
MOST_THREADS = 1024  # each is started, whatever the machine has
CPU = "CPUExecutionProvider"
DAMAGED = (  # what onnxruntime raises for a file that is not intact, when it loads or runs it
    onnxruntime_errors.Fail,
    onnxruntime_errors.InvalidArgument,
    onnxruntime_errors.InvalidGraph,
    onnxruntime_errors.InvalidProtobuf,
    onnxruntime_errors.NotImplemented,
    onnxruntime_errors.RuntimeException,
    UnicodeDecodeError,  # of a name
)
TOO_NEW = ("Unsupported model IR version", "is under development and support for this is limited")  # as it says itself
Shape = tuple[int, ...]  # of one row


class OnnxGraph:
    """Maps rows to rows, a bounded batch at a time. Several threads may run it at once."""

    def __init__(
        self,
        content: bytes,
        where: str,
        inputs: dict[str, Shape],
        outputs: dict[str, Shape],
        providers: Sequence[str] = (CPU,),
        threads: int | None = None,
        dtype: type[np.generic] = np.float32,
    ) -> None:
        """The graph in `content`, which must map the `inputs` to the `outputs`, in this order.

        `dtype` is that of the outputs: float32, or uint8. The input `label` is int64, others are float32.

        Raises:
            InputError: it is damaged, does not stand alone, or maps something else.
        """
        require_standalone(content, where)
        self.where, self.shape, self.outputs, self.dtype = where, next(iter(inputs.values())), outputs, dtype
        try:
            self.session = _session(content, providers, threads)
            found = [_described(values) for values in (self.session.get_inputs(), self.session.get_outputs())]
        except DAMAGED as error:
            if any(sign in str(error) for sign in TOO_NEW):
                rule = f"onnxruntime must be new enough for {where}, but is {onnxruntime.__version__}"
                raise InputError(f"{rule}: update it") from None
            raise InputError(f"{where} must be an intact ONNX file, but onnxruntime says: {_reason(error)}") from None
        taken = [_line({name: shape}, np.int64 if name == LABEL else np.float32) for name, shape in inputs.items()]
        expected = [", ".join(taken), _line(outputs, dtype)]
        if found != expected:
            raise InputError(f"{where} must map {expected[0]} to {expected[1]}, but maps {found[0]} to {found[1]}")

    def run(self, given: Mapping[str, np.ndarray], *names: str) -> list[np.ndarray]:
        """All inputs, each (N, …) -> the outputs of these names, each (N, …), written in place without a copy.

        Raises:
            InputError: an output would be larger than `LARGEST`, or the graph cannot be run.
        """
        rows = len(next(iter(given.values())))
        found: list[np.ndarray] = [np.empty(self.room(rows, name), self.dtype) for name in names]
        for start in range(0, rows, BATCH):
            part = slice(start, start + BATCH)
            inputs = {name: np.ascontiguousarray(each[part]) for name, each in given.items()}
            self._run_into(inputs, {name: each[part] for name, each in zip(names, found, strict=True)})
        return found

    def room(self, count: int, name: str) -> Shape:
        """The shape of an output of `count` rows.

        Raises:
            InputError: it would be larger than `LARGEST`.
        """
        shape = (count, *self.outputs[name])
        size = np.dtype(self.dtype).itemsize * prod(shape)
        if size > LARGEST:
            rule = f"a result must be at most {LARGEST >> 30} GiB, but {name} of {count} rows takes {size / 2**30:.1f}"
            raise InputError(f"{rule}: take fewer at a time, or a stream")
        return shape

    def _run_into(self, inputs: dict[str, np.ndarray], outputs: dict[str, np.ndarray]) -> None:
        binding = self.session.io_binding()
        for name, array in inputs.items():
            binding.bind_cpu_input(name, array)
        for name, array in outputs.items():
            binding.bind_output(name, "cpu", 0, self.dtype, array.shape, array.ctypes.data)
        try:
            self.session.run_with_iobinding(binding)
        except RuntimeError as error:  # all that onnxruntime raises in a run with bound memory
            raise InputError(
                f"{self.where} must be a graph that runs, but onnxruntime says: {_reason(error)}"
            ) from None


def _session(content: bytes, providers: Sequence[str], threads: int | None) -> onnxruntime.InferenceSession:
    known = onnxruntime.get_available_providers()
    if unknown := [name for name in providers if name not in known]:
        raise InputError(f"providers must be among {', '.join(known)}, but got {', '.join(unknown)}")
    if threads is not None and not 1 <= threads <= MOST_THREADS:
        raise InputError(f"threads must be from 1 to {MOST_THREADS}, but got {threads}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or cores()  # onnxruntime itself counts the host's, also in a container
    # Else bytes that begin as a model in onnxruntime's own format would be read as one, but were checked as ONNX.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.log_severity_level = 4  # errors are raised; the log would repeat them
    return onnxruntime.InferenceSession(content, options, providers=list(providers), enable_fallback=0)


def _described(values: list[onnxruntime.NodeArg]) -> str:
    found = ", ".join(f"{value.type} {value.name} {_sizes(value.shape)}" for value in values) or "nothing"
    return escaped(found[:LONGEST_TEXT])


def _line(values: dict[str, Shape], dtype: type[np.generic]) -> str:
    kind = "float" if dtype == np.float32 else np.dtype(dtype).name
    return ", ".join(f"tensor({kind}) {name} {_sizes(['batch', *shape])}" for name, shape in values.items())


def _sizes(shape: Sequence[int | str | None]) -> str:
    """A dimension of any size counts as the batch, whatever its name."""
    return f"({', '.join(str(size) if isinstance(size, int) else 'batch' for size in shape)})"


def _reason(error: Exception) -> str:
    return escaped((str(error).splitlines() or [type(error).__name__])[0][:LONGEST_TEXT])
