"""The graphs of an export: which there are, what each maps, and in which format the decoder is."""

from collections.abc import Sequence
from threading import Lock
from typing import Any

import numpy as np

from latentmill.errors import InputError, shown
from latentmill.runtime.facts import DECODER, ENCODER, GENERATOR, GUIDANCE, LABEL, Facts
from latentmill.runtime.folder import CARD, Folder
from latentmill.runtime.graph import OnnxGraph
from latentmill.runtime.json_file import at

OUTPUTS = {  # of each graph, the possible ones
    GENERATOR: (["image", "z"], ["image"]),
    DECODER: (["image"],),
    ENCODER: (["mean", "log_variance"], ["mean"]),
}
FORMATS = ("fp16", "int8", "uint8")


class LoadedGraphs:
    """Each is read, checked and loaded when it is first needed; several threads may share them."""

    def __init__(
        self,
        folder: Folder,
        card: dict[str, Any],
        facts: Facts,
        providers: Sequence[str],
        threads: int | None,
        format: str | None,
    ) -> None:
        """Of the export in `folder`, the decoder in `format`.

        Raises:
            InputError: the export does not hold that format.
        """
        self._folder, self._card, self._facts = folder, card, facts
        self._session, self._format, self._lock = (providers, threads), format, Lock()
        self._loaded: dict[str, OnnxGraph] = {}
        self.formats = tuple(each for each in FORMATS if _file(each) in folder.names)
        if format is not None and format not in self.formats:
            known = ", ".join(self.formats) or "none"
            raise InputError(f"a format must be one that {folder.path} holds, {known}, but got {format!r}")

    def __getitem__(self, name: str) -> OnnxGraph:
        """The graph of that file.

        Raises:
            InputError: the model has no such graph, or the file is not what manifest and card say.
        """
        if name != GENERATOR and self._facts.latent is None:
            raise InputError(f"the model must have codes, but {self._folder.path} makes images from noise alone")
        with self._lock:
            if name not in self._loaded:
                self._loaded[name] = self._opened(name)
            return self._loaded[name]

    def _opened(self, name: str) -> OnnxGraph:
        code = self._facts.code_shape or ()
        shapes = {"noise": (self._facts.noise_width,), LABEL: (), GUIDANCE: (), "image": self._facts.image_shape}
        shapes |= dict.fromkeys(("z", "mean", "log_variance"), code)
        inputs, outputs = (
            {each: shapes[each] for each in names} for names in (self._facts.inputs[name], self._outputs(name))
        )
        file = _file(self._format) if self._format and name == DECODER else name
        dtype = np.uint8 if self._format == "uint8" and name == DECODER else np.float32
        where = str(self._folder.path / file)
        return OnnxGraph(self._folder.read(file), where, inputs, outputs, *self._session, dtype)

    def _outputs(self, name: str) -> list[str]:
        known = OUTPUTS[name]
        outputs = at(self._card, "files", name, "outputs")
        if outputs not in known:
            where = self._folder.path / CARD
            raise InputError(
                f"{where} must say that {name} gives {' or '.join(map(str, known))}, but says {shown(outputs)}"
            )
        found: list[str] = outputs
        return found


def _file(format: str) -> str:
    return f"decoder.{format}.onnx"
