"""All that is handed out of one model: its graphs, a card that says what they are, and a manifest of their digests."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latentmill.config import FormName
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
from latentmill.training.checkpoint import TrainedModel
from latentmill.variant import Decodes, Encodes, Variant, codes_of, float_array

Json = dict[str, Any]


@dataclass(frozen=True)
class Given:
    """The data that a model was trained on."""

    train: np.ndarray  # uint8 (N, C, H, W)
    labels: np.ndarray | None  # (N), indices into `classes`
    val: np.ndarray  # uint8 (M, C, H, W)
    manifest: Json  # as the stage prepare wrote it
    classes: list[str] | None = None  # names; with `labels` or not at all

    @staticmethod
    def read(folder: Path) -> "Given":
        """Of the prepared data set in `folder`."""
        train, labels = read_split(folder, "train"), read_labels(folder, "train")
        return Given(train, labels, read_split(folder, "val"), read_manifest(folder), read_classes(folder))


def write_bundle(
    trained: TrainedModel,
    entry: str,
    metrics: Json,
    given: Given,
    folder: Path,
    asked: dict[FormName, float],
    inputs: str = "",
    tell: Callable[[str], None] = lambda step: None,
) -> Json:
    """Export every graph of the model into `folder`, verified, with its card and last the manifest; return the card.

    Args:
        trained: the model.
        entry: its name on the ladder.
        metrics: what the evaluation found of it.
        given: what it was trained on.
        folder: empty.
        asked: the forms of the decoder, with their tolerances.
        inputs: the digest of all that the export is made from, for the manifest.
        tell: is called with each step before it, for some take long.

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
        tell(f"encoding {len(given.train):,} training images, for its directions")
    card = identity | latent_space(trained, given) | {"classes": _classes(given)}
    card |= {"forms": forms(trained.model, given, folder, asked, tell), "data": _data(given.manifest)}
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


def told(card: Json) -> list[str]:
    """What was written, a line a graph."""
    return [
        f"{name}: {file['bytes']:,} bytes, at most {file['largest_difference_from_torch']:.1e} from torch"
        for name, file in card["files"].items()
    ]


def identify(trained: TrainedModel, entry: str, metrics: Json) -> Json:
    """Which model it is, as it goes into the metadata of every graph: the same for the same weights."""
    record, model = trained.record, trained.model
    return {
        "warning": warning(metrics),
        "entry": entry,
        "variant": record["trial"]["variant"],
        "config": record["trial"]["model"],
        "image_shape": list(trained.image_shape),
        "value_range": [0, 1],
        "latent": model.latent if isinstance(model, Decodes) else None,
        "noise": {"width": model.noise_width, "choices": model.noise_choices},
        "prior": f"{model.prior_name} over {model.latent} dimensions" if isinstance(model, Decodes) else "none",
        "fingerprint": record["fingerprint"],
        "data_digest": record["data_digest"],
        "weights_sha256": record["weights_sha256"],
    }


def latent_space(trained: TrainedModel, given: Given) -> Json:
    """Where the training images' codes lie, and the directions among them; nothing for a model without codes."""
    if not isinstance(trained.model, Encodes):
        return {"codes": None, "directions": []}
    codes = codes_of(trained.model, Batches(given.train))
    return {"codes": spread(codes), "directions": directions(codes, given.labels, given.classes)}


def _classes(given: Given) -> list[Json]:
    """Each class with its number of training images; none without labels."""
    if given.labels is None or given.classes is None:
        return []
    return [{"name": name, "images": count} for name, count in class_counts(given.labels, given.classes)]


@torch.no_grad()
def forms(
    model: Variant, given: Given, folder: Path, asked: dict[FormName, float], tell: Callable[[str], None]
) -> Json:
    """What became of the forms of the decoder that were asked for, by name; a model without codes has none."""
    if not asked or not isinstance(model, Decodes) or not isinstance(model, Encodes):
        return {}
    from latentmill.export.forms import Reference, write_forms  # here, because it loads slowly and few ask for it

    prior, image_shape = model.prior(model.prior_name), given.train.shape[1:]
    decoder = next(each for each in graphs(model, image_shape) if each.name == "decoder")
    noise = standard_normal((len(given.val), prior.noise_width), torch.Generator().manual_seed(0))
    reference = Reference(float_array(prior(noise)), codes_of(model, Batches(given.val)), given.val)
    return write_forms(asked, decoder, folder, reference, tell)


def _data(manifest: Json) -> Json:
    return {key: manifest[key] for key in ("source", "description", "counts", "digest")}
