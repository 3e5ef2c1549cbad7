"""The ceiling of every prior: Rule 1 on reconstructions of images, which say how good the decoder is by itself.

The images are held out from the model, and aren't the reference that the judge compares with: reconstructions of the
reference itself are paired with it, so that a C2ST accuracy falls below 0.5 however bad they are.
"""

import numpy as np

from latentmill.contract import Encodes
from latentmill.evaluation.entry import EvaluationResult
from latentmill.evaluation.finite import require_finite_metrics
from latentmill.evaluation.judge import Judge
from latentmill.evaluation.prepared import PreparedData
from latentmill.evaluation.reconstruction import reconstruct
from latentmill.evaluation.sampling import as_uint8
from latentmill.evaluation.spaces import random_indices


def judge_reconstructions(model: Encodes, data: PreparedData, judge: Judge, seed: int) -> EvaluationResult:
    """Rule 1 on the `reconstructions` of a model that has codes; the judge is one of `assemble_ceiling`.

    Raises:
        InputError: a reconstruction, or a metric of them, is not finite.
    """
    metrics = {"reconstructions": judge.judge(reconstructions(model, data, judge.size, seed), rules=(1,)).metrics()}
    require_finite_metrics(metrics)
    return EvaluationResult(metrics, {})


def reconstructions(model: Encodes, data: PreparedData, most: int, seed: int) -> np.ndarray:
    """Of at most `most` validation images, uint8 (N, C, H, W), each with its own label, as exports make them."""
    images = data.val_batches(random_indices(data.val, most, seed))
    made = np.empty((len(images), *images.shape), np.uint8)
    for part in images.slices():
        batch = images.batch(part)
        made[part] = as_uint8(reconstruct(model, batch["image"], batch.get("label")))
    return made
