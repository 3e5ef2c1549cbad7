"""Which graphs a model is exported as, and how torch writes them.

    generator.onnx  noise (batch, noise_width) -> image (batch, C, H, W), and the code z (batch, latent) if there is one
    decoder.onnx    z (batch, latent)          -> image (batch, C, H, W)     for a model with a latent
    encoder.onnx    image (batch, C, H, W)     -> mean (batch, latent)       likewise; and log_variance for a posterior

All are float32 with images in [0, 1], have a dynamic batch and draw nothing at random.
"""

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from latentmill.contract import Decodes, Encodes, HasPosterior, Model
from latentmill.export.refusal import Refused
from latentmill.networks import ImageShape

OPSET = 20  # the newest that onnxruntime-web runs too
EXAMPLE_BATCH = 2  # a batch of 1 would be frozen into the graph


@dataclass(frozen=True)
class Graph:
    """One function of a model, to be exported."""

    name: str
    function: Callable[[Tensor], tuple[Tensor, ...]]
    model: nn.Module  # holds the weights of `function`
    input_name: str
    output_names: tuple[str, ...]
    input_shape: tuple[int, ...]  # of one example

    def example(self, batch: int, seed: int) -> Tensor:
        """Inputs such as an application would give."""
        generator = torch.Generator().manual_seed(seed)
        draw = torch.rand if self.input_name == "image" else torch.randn
        return draw((batch, *self.input_shape), generator=generator)

    @torch.no_grad()
    def outputs(self, batch: int) -> dict[str, Tensor]:
        """What torch makes of an example, by name."""
        return dict(zip(self.output_names, self.function(self.example(batch, seed=0)), strict=True))


def graphs(model: Model, image_shape: ImageShape) -> list[Graph]:
    """The graphs that `model` can be exported as."""
    noise = (model.noise_width,)
    if isinstance(model, Decodes):
        prior, decode = model.prior(model.prior_name), model.decode
        found = [
            Graph("generator", lambda noise: _with_code(prior(noise), decode), model, "noise", ("image", "z"), noise),
            Graph("decoder", lambda z: (decode(z),), model, "z", ("image",), (model.latent,)),
        ]
    else:
        found = [Graph("generator", lambda noise: (model.generate(noise),), model, "noise", ("image",), noise)]
    if isinstance(model, HasPosterior):
        found.append(Graph("encoder", model.posterior, model, "image", ("mean", "log_variance"), image_shape))
    elif isinstance(model, Encodes):
        encode = model.encode
        found.append(Graph("encoder", lambda image: (encode(image),), model, "image", ("mean",), image_shape))
    return found


def _with_code(z: Tensor, decode: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    return decode(z), z.clone()  # an output that is the input too would be a graph without an operation for it


def export(graph: Graph, path: Path, metadata: dict[str, str]) -> None:
    """Write one self-contained .onnx file with `metadata` inside.

    Raises:
        Refused: torch can't translate the model, the graph's input or output is not what was asked for, or the
            values of the input go nowhere.
    """
    try:
        proto = published(_translate(graph), metadata)
    except torch.onnx.OnnxExporterError as error:
        raise Refused(f"{path.name} must be a graph that torch can translate to ONNX", _reason(error)) from None
    found = [value.name for value in [*proto.graph.input, *proto.graph.output]]
    if found != [graph.input_name, *graph.output_names]:
        given = ", ".join(graph.output_names)
        raise Refused(f"{path.name} must map {graph.input_name} to {given}, but has {found}")
    if not any(graph.input_name in node.input for node in proto.graph.node if node.op_type != "Shape"):
        raise Refused(f"{path.name} must use its input, but no operation takes the values of {graph.input_name}")
    onnx.checker.check_model(proto, full_check=True)
    onnx.save_model(proto, path)


def _translate(graph: Graph) -> onnx.ModelProto:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns that torchvision is not installed
    with warnings.catch_warnings():
        # torch warns of a deprecated call of its own
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
        program = torch.onnx.export(
            _Function(graph).eval(),
            (graph.example(EXAMPLE_BATCH, seed=0),),
            input_names=[graph.input_name],
            output_names=list(graph.output_names),
            dynamic_shapes=({0: torch.export.Dim("batch")},),
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

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        return self.function(inputs)


def published(proto: onnx.ModelProto, metadata: dict[str, str]) -> onnx.ModelProto:
    """As it goes out: without the exporter's stack traces, which name paths of this machine; with our metadata."""
    for item in [proto.graph, *proto.graph.node, *proto.graph.value_info, *proto.graph.input, *proto.graph.output]:
        del item.metadata_props[:]
        item.doc_string = ""
    for initializer in proto.graph.initializer:
        del initializer.metadata_props[:]
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, metadata)
    proto.producer_name = "latentmill"
    return proto
