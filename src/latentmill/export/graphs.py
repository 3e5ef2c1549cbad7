"""Which graphs a model is exported as, and how torch writes them.

    generator.onnx  noise (batch, noise_width) -> image (batch, C, H, W), and the code z (batch, …) if there is one
    decoder.onnx    z (batch, …)               -> image (batch, C, H, W)    for a model with codes
    encoder.onnx    image (batch, C, H, W)     -> mean (batch, …)           with codes; log_variance for a posterior

Those of a conditional model also take label (batch), int64; if only its prior is conditional, the generator alone does.
A generator whose prior is guided takes guidance (batch) after it. All else is float32, with images in [0, 1]. The batch
is dynamic, and no graph draws anything at random. Where codes are indices into a codebook, z and mean are whole
numbers.
"""

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from latentmill.codes import Generator
from latentmill.contract import Decodes, Encodes, Generates, HasCodebook, HasPosterior
from latentmill.export.refusal import Refused
from latentmill.networks import Shape

OPSET = 20  # the newest that onnxruntime-web runs too
IR_VERSION = 9  # the oldest with that opset; torch writes 10, which onnxruntime 1.17 refuses
EXAMPLE_BATCH = 2  # a batch of 1 would be frozen into the graph


@dataclass(frozen=True)
class Graph:
    """One function of a model, to be exported."""

    name: str
    function: Callable[..., tuple[Tensor, ...]]
    model: nn.Module  # holds the weights of `function`
    inputs: dict[str, Shape]  # name -> shape of one example; in the order of the function's arguments
    output_names: tuple[str, ...]
    classes: int = 0  # of `label`, if that is an input
    entries: int = 0  # of the codebook, if codes are indices
    chooses: bool = False  # as `Generates.chooses`

    def example(self, batch: int, seed: int) -> tuple[Tensor, ...]:
        """Inputs such as an application would give."""
        generator = torch.Generator().manual_seed(seed)
        return tuple(self._example(name, (batch, *shape), generator) for name, shape in self.inputs.items())

    def feeds(self, batch: int, seed: int) -> dict[str, np.ndarray]:
        """The same by name."""
        return {name: each.numpy() for name, each in zip(self.inputs, self.example(batch, seed), strict=True)}

    @torch.no_grad()
    def outputs(self, batch: int) -> dict[str, Tensor]:
        """What torch makes of an example, by name."""
        return dict(zip(self.output_names, self.function(*self.example(batch, seed=0)), strict=True))

    def _example(self, name: str, shape: Shape, generator: torch.Generator) -> Tensor:
        if name == "label":
            return torch.randint(self.classes, shape, generator=generator)
        if name == "z" and self.entries:
            return torch.randint(self.entries, shape, generator=generator).float()
        return (torch.randn if name in ("noise", "z") else torch.rand)(shape, generator=generator)


def graphs(generator: Generator, classes: int = 0) -> list[Graph]:
    """The graphs that a model, with the prior of its codes, can be exported as; `classes` of its label, if any."""
    model, outputs = generator.model, ("image", "z") if generator.has_codes else ("image",)
    noise: dict[str, Shape] = {"noise": (generator.noise_width,)}
    noise |= {"label": ()} if generator.is_conditional else {}
    noise |= {"guidance": ()} if generator.is_guided else {}
    sizes = classes, model.entries if isinstance(model, HasCodebook) else 0
    chooses = isinstance(model, Generates) and model.chooses
    found = [Graph("generator", generator.forward, generator, noise, outputs, *sizes, chooses)]
    label: dict[str, Shape] = {"label": ()} if model.is_conditional else {}
    if isinstance(model, Decodes):
        decode, z = model.decode, {"z": model.code_shape} | label
        found.append(Graph("decoder", lambda *given: (decode(*given),), model, z, ("image",), *sizes))
    if isinstance(model, HasPosterior):
        image = {"image": model.shape} | label
        found.append(Graph("encoder", model.posterior, model, image, ("mean", "log_variance"), *sizes))
    elif isinstance(model, Encodes):
        encode, image = model.encode, {"image": model.shape} | label
        found.append(Graph("encoder", lambda *given: (encode(*given),), model, image, ("mean",), *sizes))
    return found


def export(graph: Graph, path: Path, metadata: dict[str, str]) -> None:
    """Write one self-contained .onnx file with `metadata` inside.

    Raises:
        Refused: torch can't translate the model, the graph's inputs or outputs have other names, or the
            values of the input go nowhere.
    """
    try:
        proto = published(_translate(graph), metadata)
    except torch.onnx.OnnxExporterError as error:
        raise Refused(f"{path.name} must be a graph that torch can translate to ONNX", _reason(error)) from None
    found = [value.name for value in [*proto.graph.input, *proto.graph.output]]
    if found != [*graph.inputs, *graph.output_names]:
        taken, given = ", ".join(graph.inputs), ", ".join(graph.output_names)
        raise Refused(f"{path.name} must map {taken} to {given}, but has {found}")
    used = {name for node in proto.graph.node if node.op_type != "Shape" for name in node.input}
    for name in graph.inputs:
        if name not in used:
            raise Refused(f"{path.name} must use its inputs, but no operation takes the values of {name}")
    onnx.checker.check_model(proto, full_check=True)
    onnx.save_model(proto, path)


@torch.no_grad()  # with gradients torch translates no `Scan`
def _translate(graph: Graph) -> onnx.ModelProto:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns that torchvision is not installed
    with warnings.catch_warnings():
        # torch warns of a deprecated call of its own
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
        warnings.filterwarnings(
            "ignore", "# The axis name: batch will not be used", UserWarning
        )  # but by the first input
        batch = torch.export.Dim("batch")
        program = torch.onnx.export(
            _Function(graph).eval(),
            graph.example(EXAMPLE_BATCH, seed=0),
            input_names=list(graph.inputs),
            output_names=list(graph.output_names),
            dynamic_shapes=((*({0: batch} for _ in graph.inputs),),),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def _reason(error: BaseException) -> str:
    """The first line of what was wrong to begin with: torch wraps it in reports of many lines."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


class _Function(nn.Module):
    """A model whose `forward` is the function to export."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.model, self.function = graph.model, graph.function

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return self.function(*inputs)


def published(proto: onnx.ModelProto, metadata: dict[str, str]) -> onnx.ModelProto:
    """As it goes out: without the exporter's stack traces, which name paths of this machine; with our metadata."""
    _strip(proto.graph)
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, metadata)
    proto.producer_name, proto.ir_version = "latentmill", IR_VERSION
    return proto


def _strip(graph: onnx.GraphProto) -> None:
    """Remove what the exporter says beside the graph, in the graphs of its nodes too."""
    for item in [graph, *graph.node, *graph.value_info, *graph.input, *graph.output]:
        del item.metadata_props[:]
        item.doc_string = ""
    for initializer in graph.initializer:
        del initializer.metadata_props[:]
    for attribute in [each for node in graph.node for each in node.attribute if each.HasField("g")]:
        _strip(attribute.g)
