"""latentmill: train, judge and export a ladder of generative models of images.

An application needs one name: `from latentmill import Decoder`. To judge samples: `from latentmill import judge`.
"""

import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latentmill.judging.judge import judge
    from latentmill.runtime.decoder import Decoder

__all__ = ["Decoder", "judge"]
PLACES = {"Decoder": "latentmill.runtime.decoder", "judge": "latentmill.judging.judge"}
BEGAN = time.time_ns()  # when this process imported its first module of the package


def __getattr__(name: str) -> Any:
    """One of `PLACES`, imported when it is first needed: the pipeline's processes do without onnxruntime.

    By name, so that what it is made of is no part of what a trial is made of.
    """
    if name not in PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(PLACES[name]), name)
