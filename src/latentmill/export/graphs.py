"""Which graphs a model is exported as, and how torch writes them.

    generator.onnx  noise (batch, noise_width) -> image (batch, C, H, W)
    decoder.onnx    z (batch, latent)          -> image (batch, C, H, W)     for a model with a latent
    encoder.onnx    image (batch, C, H, W)     -> z (batch, latent)          likewise

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

from latentmill.errors import InputError
from latentmill.nets import ImageShape
from latentmill.variant import Decodes, Encodes, Variant

OPSET = 20  # the newest that onnxruntime-web runs too
EXAMPLE_BATCH = 2  # a batch of 1 would be frozen into the graph


@dataclass(frozen=True)
class Graph:
    """One function of a model, to be exported."""

    name: str
    function: Callable[[Tensor], Tensor]
    model: nn.Module  # holds the weights of `function`
    input_name: str
    output_name: str
    input_shape: tuple[int, ...]  # of one example
    is_image: bool  # whether the input is an image, in [0, 1], and not normal

    def example(self, batch: int, seed: int) -> Tensor:
        """Inputs such as an application would give."""
        generator = torch.Generator().manual_seed(seed)
        draw = torch.rand if self.is_image else torch.randn
        return draw((batch, *self.input_shape), generator=generator)


def graphs(model: Variant, image_shape: ImageShape) -> list[Graph]:
    """The graphs that `model` can be exported as."""
    found = [Graph("generator", model.generate, model, "noise", "image", (model.noise_width,), is_image=False)]
    if isinstance(model, Decodes):
        found.append(Graph("decoder", model.decode, model, "z", "image", (model.latent,), is_image=False))
    if isinstance(model, Encodes):
        found.append(Graph("encoder", model.encode, model, "image", "z", image_shape, is_image=True))
    return found


def export(graph: Graph, path: Path, metadata: dict[str, str]) -> None:
    """Write one self-contained .onnx file with `metadata` inside.

    Raises:
        InputError: the graph's input or output is not what was asked for, or the values of the input go nowhere.
    """
    proto = _published(_translate(graph), metadata)
    found = [value.name for value in [*proto.graph.input, *proto.graph.output]]
    if found != [graph.input_name, graph.output_name]:
        raise InputError(f"{path.name} must map {graph.input_name} to {graph.output_name}, but has {found}")
    if not any(graph.input_name in node.input for node in proto.graph.node if node.op_type != "Shape"):
        raise InputError(f"{path.name} must use its input, but no operation takes the values of {graph.input_name}")
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
            output_names=[graph.output_name],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


class _Function(nn.Module):
    """A model whose `forward` is the function to export."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.model, self.function = graph.model, graph.function

    def forward(self, inputs: Tensor) -> Tensor:
        return self.function(inputs)


def _published(proto: onnx.ModelProto, metadata: dict[str, str]) -> onnx.ModelProto:
    """Without the exporter's stack traces, which name paths of this machine; with our metadata."""
    for item in [proto.graph, *proto.graph.node, *proto.graph.value_info, *proto.graph.input, *proto.graph.output]:
        del item.metadata_props[:]
        item.doc_string = ""
    for initializer in proto.graph.initializer:
        del initializer.metadata_props[:]
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, metadata)
    proto.producer_name = "latentmill"
    return proto
