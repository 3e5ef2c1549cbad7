"""What is `auto` in params.yaml, decided by the training images and the processor before anything is planned."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from latentmill import registry
from latentmill.config import AUTO, Params
from latentmill.errors import InputError
from latentmill.observations import binary_share, suited
from latentmill.trials.space import Space, space

OBSERVATION, LATENT, PRECISION = "observation", "latent", "precision"  # p(x | z), the dimensions of a code, of training
LATENT_A_PIXEL = 2  # dimensions for each pixel of the longer side: 56 for 28, 128 for 64
MANY = 20_000  # images, from which a prior learns twice as many dimensions


def with_values_for(images: np.ndarray, params: Params, note: Callable[[str], None]) -> Params:
    """`params` in which what is `auto` suits the training images (N, C, H, W), uint8, and this machine.

    Raises:
        InputError: an entry names an unknown model or key, a search space breaks a rule, or `latent` is `auto` where
            codes may be images.
    """
    entries = {name: space(name, content) for name, content in params.ladder.items()}
    priors = {name: space(name, content, "priors") for name, content in params.priors.items()}
    for made in entries.values():
        if _is_auto(made, LATENT) and "image" in made.values("code"):
            rule = "must be a number where code is image, which has so many dimensions at each place"
            raise InputError(f"{made.where}.{LATENT} {rule}, but got {AUTO}")
    found: dict[str, Any] = {}
    if any(_is_auto(made, OBSERVATION) for made in entries.values()):
        share = binary_share(images)
        found[OBSERVATION] = suited(share)
        note(f"observation: auto is {suited(share)}, as {share:.0%} of values are nearly black or white")
    if any(_is_auto(made, LATENT) for made in entries.values()):
        times = LATENT_A_PIXEL * (2 if len(images) >= MANY else 1)
        found[LATENT] = times * max(images.shape[2:])
        note(f"latent: auto is {found[LATENT]}, {times} times the longer side of {len(images):,} images")
    if any(_is_auto(made, PRECISION) for made in (*entries.values(), *priors.values())):
        found[PRECISION], reason = native_precision(on_gpu=params.train.gpus_per_trial > 0)
        note(f"precision: auto is {found[PRECISION]}, as {reason}")
    ladder = {name: _decided(content, entries[name], found) for name, content in params.ladder.items()}
    decided = {name: _decided(content, priors[name], found) for name, content in params.priors.items()}
    return params.model_copy(update={"ladder": ladder, "priors": decided})


def native_precision(on_gpu: bool = True) -> tuple[str, str]:
    """bfloat16 where trials compute faster in it than in float32, else float32; and the reason."""
    if on_gpu and torch.cuda.is_available():
        what, has = "the GPU", torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # On Arm and on processors that emulate it, bfloat16 was not measured.
        what, has = "the processor", torch.cpu.get_capabilities().get("avx512_bf16", False)
    return ("bfloat16", f"{what} computes in it") if has else ("float32", f"{what} has no bfloat16")


def _decided(content: dict[str, Any], made: Space, found: dict[str, Any]) -> dict[str, Any]:
    return content | {key: value for key, value in found.items() if _is_auto(made, key)}


def _is_auto(made: Space, key: str) -> bool:
    """Whether it is `auto`, as an observation is by default."""
    config = registry.find(made.family, made.model).Config.model_fields
    default = AUTO if key == OBSERVATION else None
    return (key == PRECISION or key in config) and made.keys.get(key, default) == AUTO
