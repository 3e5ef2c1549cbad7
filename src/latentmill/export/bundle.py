"""All that is handed out of one model: its graphs, and a card that says what they are."""

import json
from pathlib import Path
from typing import Any

from latentmill.export.card import as_text, warning
from latentmill.export.graphs import export, graphs
from latentmill.export.verification import largest_difference
from latentmill.files import write_json, write_text
from latentmill.training.checkpoint import TrainedModel
from latentmill.variant import Decodes

Card = dict[str, Any]


def write_bundle(trained: TrainedModel, entry: str, metrics: dict[str, Any], folder: Path) -> Card:
    """Export every graph of the model into `folder`, verified, with `card.json` and `card.md` beside them.

    Raises:
        InputError: a graph differs from torch by more than the tolerance.
    """
    card = describe(trained, entry, metrics)
    metadata = {key: value if isinstance(value, str) else json.dumps(value) for key, value in card.items()}
    files = {}
    for graph in graphs(trained.model, trained.image_shape):
        path = folder / f"{graph.name}.onnx"
        export(graph, path, metadata)
        files[path.name] = {
            "input": graph.input_name,
            "output": graph.output_name,
            "bytes": path.stat().st_size,
            "largest_difference_from_torch": largest_difference(graph, path),
        }
    card |= {"files": files}
    write_json(folder / "card.json", card)
    write_text(folder / "card.md", as_text(card))
    return card


def describe(trained: TrainedModel, entry: str, metrics: dict[str, Any]) -> Card:
    """What a user of the graphs needs to know, as it goes into their metadata."""
    record, model = trained.record, trained.model
    return {
        "warning": warning(metrics),
        "entry": entry,
        "variant": record["trial"]["variant"],
        "config": record["trial"]["model"],
        "image_shape": list(trained.image_shape),
        "value_range": [0, 1],
        "noise_width": model.noise_width,
        "prior": f"{model.prior_name} over {model.latent} dimensions" if isinstance(model, Decodes) else "none",
        "fingerprint": record["fingerprint"],
        "data_digest": record["data_digest"],
        "weights_sha256": record["weights_sha256"],
        "metrics": metrics,
    }
