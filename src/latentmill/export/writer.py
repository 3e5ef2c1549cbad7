"""Writes the export of one model: its graphs, a card that describes them, and a manifest of their digests."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latentmill.config import FormatName
from latentmill.contract import Decodes, Encodes, Model, codes_of, float_array
from latentmill.data.batches import Batches
from latentmill.data.dataset import read_classes, read_labels, read_manifest, read_split
from latentmill.draws import standard_normal
from latentmill.export.card import as_text, warning
from latentmill.export.directions import class_counts, directions, spread
from latentmill.export.graphs import Graph, export, graphs
from latentmill.export.latency import latency, measured_on
from latentmill.export.manifest import manifest
from latentmill.export.verification import largest_difference
from latentmill.files import write_json, write_text
from latentmill.runtime.folder import CARD, MANIFEST
from latentmill.trials.trained_model import TrainedModel

Json = dict[str, Any]


@dataclass(frozen=True)
class TrainingData:
    """The data that a model was trained on."""

    train: np.ndarray  # uint8 (N, C, H, W)
    labels: np.ndarray | None  # (N), indices into `classes`
    val: np.ndarray  # uint8 (M, C, H, W)
    manifest: Json  # as the stage prepare wrote it
    classes: list[str] | None = None  # names; None without `labels`

    @staticmethod
    def read(folder: Path) -> "TrainingData":
        """From the prepared data set in `folder`."""
        train, labels = read_split(folder, "train"), read_labels(folder, "train")
        return TrainingData(train, labels, read_split(folder, "val"), read_manifest(folder), read_classes(folder))


def write_export(
    trained: TrainedModel,
    entry: str,
    metrics: Json,
    data: TrainingData,
    folder: Path,
    tolerances: dict[FormatName, float],
    inputs: str = "",
    tell: Callable[[str], None] = lambda step: None,
) -> Json:
    """Export every graph of the model into `folder`, verified, then its card and the manifest; return the card.

    Args:
        trained: the model.
        entry: its name on the ladder.
        metrics: its results in the evaluation.
        data: what it was trained on.
        folder: empty.
        tolerances: by decoder format, all that are wanted beside float32.
        inputs: the digest of all that the export is made from, for the manifest.
        tell: called with the name of each step before it starts, because some take long.

    Raises:
        Refused: a graph can't be exported, or differs from torch by more than the tolerance.
    """
    identity = identify(trained, entry, metrics)
    metadata = {key: value if isinstance(value, str) else json.dumps(value) for key, value in identity.items()}
    files = {}
    for graph in graphs(trained.model, trained.image_shape):
        path = folder / f"{graph.name}.onnx"
        files[path.name] = _write_graph(graph, path, metadata, tell)
    if isinstance(trained.model, Encodes):
        tell(f"encoding {len(data.train):,} training images to find directions")
    card = identity | latent_space(trained, data) | {"classes": _classes(data)}
    card |= {"formats": formats(trained.model, data, folder, tolerances, tell), "data": _data(data.manifest)}
    card |= {"metrics": metrics, "files": files, "measured_on": measured_on()}
    write_json(folder / CARD, card)
    write_text(folder / "card.md", as_text(card))
    write_json(folder / MANIFEST, manifest(folder, inputs))
    return card


def _write_graph(graph: Graph, path: Path, metadata: dict[str, str], tell: Callable[[str], None]) -> Json:
    tell(f"{path.name}: translating")
    export(graph, path, metadata)
    tell(f"{path.name}: comparing with torch")
    difference = largest_difference(graph, path)
    tell(f"{path.name}: timing")
    return {
        "input": graph.input_name,
        "outputs": list(graph.output_names),
        "bytes": path.stat().st_size,
        "largest_difference_from_torch": difference,
        "milliseconds": latency(graph, path),
    }


def summary(card: Json) -> list[str]:
    """A line for each graph that was written."""
    return [
        f"{name}: {file['bytes']:,} bytes, at most {file['largest_difference_from_torch']:.1e} from torch"
        for name, file in card["files"].items()
    ]


def identify(trained: TrainedModel, entry: str, metrics: Json) -> Json:
    """The identity of the model, which every graph has in its metadata: the same for the same weights."""
    record, model = trained.record, trained.model
    return {
        "warning": warning(metrics),
        "entry": entry,
        "variant": record["trial"]["variant"],
        "config": record["trial"]["model"],
        "image_shape": list(trained.image_shape),
        "value_range": [0, 1],
        "latent": model.latent if isinstance(model, Decodes) else None,
        "noise": {"width": model.noise_width, "categorical": model.noise_choices},
        "prior": f"{model.prior_name} over {model.latent} dimensions" if isinstance(model, Decodes) else "none",
        "fingerprint": record["fingerprint"],
        "data_digest": record["data_digest"],
        "weights_sha256": record["weights_sha256"],
    }


def latent_space(trained: TrainedModel, data: TrainingData) -> Json:
    """Mean and deviation of the training images' codes, and directions among them; empty for a model without codes."""
    if not isinstance(trained.model, Encodes):
        return {"codes": None, "directions": []}
    codes = codes_of(trained.model, Batches(data.train))
    return {"codes": spread(codes), "directions": directions(codes, data.labels, data.classes)}


def _classes(data: TrainingData) -> list[Json]:
    """Each class with its number of training images; empty without labels."""
    if data.labels is None or data.classes is None:
        return []
    return [{"name": name, "images": count} for name, count in class_counts(data.labels, data.classes)]


@torch.no_grad()
def formats(
    model: Model, data: TrainingData, folder: Path, tolerances: dict[FormatName, float], tell: Callable[[str], None]
) -> Json:
    """Write the decoder in each of these formats; the measurements by format, empty for a model without codes."""
    if not tolerances or not isinstance(model, Decodes) or not isinstance(model, Encodes):
        return {}
    from latentmill.export.formats import Reference, write_formats  # here, because it loads slowly and few need it

    prior, image_shape = model.prior(model.prior_name), data.train.shape[1:]
    decoder = next(each for each in graphs(model, image_shape) if each.name == "decoder")
    noise = standard_normal((len(data.val), prior.noise_width), torch.Generator().manual_seed(0))
    reference = Reference(float_array(prior(noise)), codes_of(model, Batches(data.val)), data.val)
    return write_formats(tolerances, decoder, folder, reference, tell)


def _data(manifest: Json) -> Json:
    return {key: manifest[key] for key in ("source", "description", "counts", "digest")}
