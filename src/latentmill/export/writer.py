"""Writes the export of one model: its graphs, a card that describes them, and a manifest of their digests."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latentmill.codes import Generator, codes_of, float_array, frequent_labels
from latentmill.config import FormatName
from latentmill.contract import Decodes, Encodes, HasCodebook, HasPrior, Model
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
    val_labels: np.ndarray | None = None  # (M)

    @staticmethod
    def read(folder: Path) -> "TrainingData":
        """From the prepared data set in `folder`."""
        train, val = read_split(folder, "train"), read_split(folder, "val")
        labels, val_labels = read_labels(folder, "train"), read_labels(folder, "val")
        return TrainingData(train, labels, val, read_manifest(folder), read_classes(folder), val_labels)


@dataclass(frozen=True)
class TrainedPair:
    """A trained model and the prior that draws its codes; `prior` is None for a model that needs none."""

    model: TrainedModel
    prior: TrainedModel | None = None

    @property
    def generator(self) -> Generator:
        return Generator(self.model.model, self.prior.model if self.prior else None)


def write_export(
    trained: TrainedPair,
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
        trained: the model and its prior.
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
    files, generator = {}, trained.generator
    for graph in graphs(generator, len(data.classes or [])):
        path = folder / f"{graph.name}.onnx"
        files[path.name] = _write_graph(graph, path, metadata, tell)
    if _has_directions(generator):
        tell(f"encoding {len(data.train):,} training images to find directions")
    card = identity | latent_space(generator, data) | {"classes": _classes(data), "label": _label(generator, data)}
    card |= {"formats": formats(generator, data, folder, tolerances, tell), "data": _data(data.manifest)}
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
        "inputs": list(graph.inputs),
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


def identify(trained: TrainedPair, entry: str, metrics: Json) -> Json:
    """The identity of the model, which every graph has in its metadata: the same for the same weights."""
    record, generator = trained.model.record, trained.generator
    shape = generator.model.code_shape if isinstance(generator.model, Decodes) else None
    return {
        "warning": warning(metrics),
        "entry": entry,
        "model": record["trial"]["model"],
        "config": record["trial"]["config"],
        "image_shape": list(generator.model.shape),
        "value_range": [0, 1],
        "latent": None if shape is None else prod(shape),
        "code_shape": None if shape is None else list(shape),
        "codebook": generator.model.entries if isinstance(generator.model, HasCodebook) else None,
        "noise": {"width": generator.noise_width, "categorical": generator.categorical_noise},
        "prior": f"{metrics['exported_prior']} over {_described_codes(generator.model)}"
        if trained.prior or isinstance(generator.model, HasPrior)
        else "none",
        "prior_trial": _prior(trained),
        "fingerprint": record["fingerprint"],
        "data_digest": record["data_digest"],
        "weights_sha256": record["weights_sha256"],
    }


def _described_codes(model: Model) -> str:
    assert isinstance(model, Decodes)
    if isinstance(model, HasCodebook):
        return f"{' x '.join(map(str, model.code_shape))} indices below {model.entries}"
    return f"{prod(model.code_shape)} dimensions"


def _prior(trained: TrainedPair) -> Json | None:
    """The trial of what draws the codes; None for a model that turns noise into images itself."""
    if trained.prior is None:
        return None
    record = trained.prior.record
    kept = {key: record["trial"][key] for key in ("model", "config")}
    return kept | {key: record[key] for key in ("fingerprint", "weights_sha256")}


def latent_space(generator: Generator, data: TrainingData) -> Json:
    """Mean and deviation of the training images' codes, and directions among them; empty where codes have none."""
    if not _has_directions(generator):
        return {"codes": None, "directions": []}
    assert isinstance(generator.model, Encodes)
    codes = codes_of(generator.model, Batches(data.train, labels=data.labels))
    rows = codes.reshape(len(codes), -1)
    return {"codes": spread(rows), "directions": directions(rows, data.labels, data.classes)}


def _has_directions(generator: Generator) -> bool:
    """Whether there are codes of images, and codes between them."""
    return isinstance(generator.model, Encodes) and not isinstance(generator.model, HasCodebook)


def _label(generator: Generator, data: TrainingData) -> Json | None:
    """The classes of a conditional model or prior, in the order of their indices, and their training images."""
    if not generator.is_conditional or data.labels is None or data.classes is None:
        return None
    return {"classes": data.classes, "counts": [count for _, count in class_counts(data.labels, data.classes)]}


def _classes(data: TrainingData) -> list[Json]:
    """Each class with its number of training images; empty without labels."""
    if data.labels is None or data.classes is None:
        return []
    return [{"name": name, "images": count} for name, count in class_counts(data.labels, data.classes)]


@torch.no_grad()
def formats(
    generator: Generator,
    data: TrainingData,
    folder: Path,
    tolerances: dict[FormatName, float],
    tell: Callable[[str], None],
) -> Json:
    """Write the decoder in each of these formats; the measurements by format, empty for a model without codes."""
    model = generator.model
    if not tolerances or not isinstance(model, Decodes):
        return {}
    from latentmill.export.formats import Reference, write_formats  # here, because it loads slowly and few need it

    decoder = next(each for each in graphs(generator, len(data.classes or [])) if each.name == "decoder")
    if not isinstance(model, Encodes):
        calibration = _drawn(generator, decoder, data, seed=1)
    else:
        own = None if data.val_labels is None else torch.from_numpy(data.val_labels)
        calibration = {"z": codes_of(model, Batches(data.val, labels=data.val_labels))} | _label_feed(decoder, own)
    reference = Reference(_drawn(generator, decoder, data, seed=0), calibration, data.val)
    return write_formats(tolerances, decoder, folder, reference, tell)


def _drawn(generator: Generator, decoder: Graph, data: TrainingData, seed: int) -> dict[str, np.ndarray]:
    """What the decoder takes: codes drawn from the prior, as many as validation images, and labels."""
    noise = standard_normal((len(data.val), generator.noise_width), torch.Generator().manual_seed(seed))
    labels = None if data.labels is None else frequent_labels(data.labels, len(noise), seed)
    return {"z": float_array(generator.code(noise, labels))} | _label_feed(decoder, labels)


def _label_feed(graph: Graph, labels: torch.Tensor | None) -> dict[str, np.ndarray]:
    return {"label": labels.numpy()} if "label" in graph.inputs and labels is not None else {}


def _data(manifest: Json) -> Json:
    return {key: manifest[key] for key in ("source", "description", "counts", "digest")}
