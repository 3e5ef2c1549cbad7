"""Ranking by the distance of samples to the validation images, in features that are fitted before any trial trains.

For models without a criterion, and where `rank_by` is `distance`. The features are those of a self-supervised encoder;
their digest is part of the trials' fingerprints.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load, save
from torch import nn

from latentmill.codes import Generator, float_array, frequent_labels, require_finite
from latentmill.config import EntryConfig, Params
from latentmill.contract import Decodes, Generates, HasCodebook, HasCriterion, Model
from latentmill.data.batches import Batches, chunk_size
from latentmill.data.dataset import read_manifest, read_split
from latentmill.draws import standard_normal
from latentmill.errors import InputError
from latentmill.features.distances import frechet_distance
from latentmill.features.encoder import apply, encoder
from latentmill.features.self_supervised import SelfSupervisedFeatures
from latentmill.registry import build, find
from latentmill.stage import require_as_imported
from latentmill.storage import Storage
from latentmill.threads import one_thread
from latentmill.trials import code
from latentmill.trials.record import digest
from latentmill.trials.trial import libraries

SEED = 0  # of the features, and of samples and labels: the same at every validation
MOST, DIGEST_BYTES = 2**28, 32  # bytes of stored features, and of the digest at their end
COMPARED = 2_000  # samples and validation images, at most


@dataclass(frozen=True, eq=False)
class PinnedFeatures:
    """An encoder of images, as bytes that are the same wherever it is used."""

    content: bytes  # safetensors
    image_shape: tuple[int, int, int]

    @cached_property
    def digest(self) -> str:
        return digest(self.content)[:16]

    @cached_property
    def body(self) -> nn.Module:
        """Images (B, C, H, W) -> features (B, D)."""
        body = encoder(self.image_shape)
        body.load_state_dict(load(self.content))
        return body.eval()

    def distance(self, images: Batches, val: Batches) -> Callable[[Model], float]:
        """The Fréchet distance between a model's samples and the validation images."""
        count = min(COMPARED, len(val))
        real = apply(self.body, float_array(val[np.linspace(0, len(val) - 1, count).astype(int)]))
        labels = None if images.labels is None else frequent_labels(images.labels, count, SEED)

        return lambda model: frechet_distance(apply(self.body, _samples(model, count, labels, images.device)), real)


def is_ranked_by_distance(name: str, entry: EntryConfig) -> bool:
    """Whether an entry's trials are ranked by the distance of their samples: by `rank_by`, or without a criterion.

    Raises:
        InputError: there is no such model, or `rank_by` is `criterion` and it has none, or `distance` and its codes
            are indices, which it does not draw itself.
    """
    where = f"params.yaml: ladder.{name}"
    try:
        model = find("models", entry.model)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    has_criterion = issubclass(model, HasCriterion)
    if entry.rank_by == "criterion" and not has_criterion:
        rule = "rank_by must be distance for a model without a criterion"
        raise InputError(f"{where}: {rule}, but got criterion for {entry.model}")
    if entry.rank_by == "distance" and issubclass(model, HasCodebook) and not issubclass(model, Generates):
        rule = "rank_by must be criterion where codes are indices, which N(0, I) does not draw"
        raise InputError(f"{where}: {rule}, but got distance for {entry.model}")
    return entry.rank_by == "distance" or not has_criterion


def features_for(params: Params, data: Path, storage: Storage) -> PinnedFeatures | None:
    """The features of a prepared data set; None where no entry is ranked by distance.

    Raises:
        InputError: an entry names an unknown model, or `rank_by` is `criterion` and its model has none.
    """
    needs = {name: is_ranked_by_distance(name, params.entry(name)) for name in params.ladder}  # checks all entries
    if not any(needs.values()):
        return None
    return pinned_features(read_split(data, "train"), read_manifest(data)["digest"], storage)


def pinned_features(train: np.ndarray, data_digest: str, storage: Storage) -> PinnedFeatures:
    """The stored features of this data and code; if there are none, they are fitted to `train` (N, C, H, W)."""
    shape = (train.shape[1], train.shape[2], train.shape[3])
    require_as_imported()  # or features that other code has fitted would be stored as those of the present code
    made_from = _made_from(data_digest)
    where = f".features/{made_from[:16]}.safetensors"
    try:
        return PinnedFeatures(_intact(storage.read(where, MOST), made_from), shape)
    except (OSError, InputError):  # it is not there, or damaged
        with one_thread():  # which the result depends on; several would wait for one another beside other work
            weights = SelfSupervisedFeatures.fit(train, SEED).body.state_dict()
        content = save({name: each.contiguous() for name, each in weights.items()}, {"made_from": made_from})
        storage.write(where, content + bytes.fromhex(digest(content)))
        return PinnedFeatures(content, shape)


def _made_from(data_digest: str) -> str:
    """The digest of the data, code and libraries that features are made from."""
    files = code.imported_files(code.SOURCE / "latentmill" / "features" / "self_supervised.py")
    return digest(json.dumps([data_digest, code.digest(files), libraries()]).encode())


def _intact(stored: bytes, made_from: str) -> bytes:
    """The features, without the digest at the end of their file.

    Raises:
        InputError: they have another digest, or are made from something else.
    """
    content, own = stored[:-DIGEST_BYTES], stored[-DIGEST_BYTES:]
    if digest(content) != own.hex() or f'"made_from":"{made_from}"'.encode() not in content:
        raise InputError("features must be as they were stored for this data, code and libraries, but are not")
    return content


@torch.no_grad()
def _samples(model: Model, count: int, labels: torch.Tensor | None, device: torch.device) -> np.ndarray:
    """float32 (count, C, H, W), of a model on `device`; of one with codes, under N(0, I).

    Raises:
        InputError: one is not finite.
    """
    prior = None
    if not isinstance(model, Generates):
        assert isinstance(model, Decodes)
        prior = build("priors", "normal", {}, model.code_shape)
    generator = Generator(model, prior)
    noise = standard_normal((count, generator.noise_width), torch.Generator().manual_seed(SEED)).to(device)
    size = chunk_size(model.shape)
    parts = [slice(start, start + size) for start in range(0, count, size)]
    chosen = [None if labels is None else labels[part].to(device) for part in parts]
    images = [float_array(generator(noise[part], label)[0]) for part, label in zip(parts, chosen, strict=True)]
    samples = np.concatenate(images)
    require_finite("samples", samples)
    return samples
