"""The docstring of a model's module: what it is, what it adds to simpler models, and what it still lacks.

So a new model brings its own. It is read, because to import it takes torch. Docstrings are no part of a trial's
fingerprint, so a better sentence trains nothing anew.
"""

import ast
import inspect
import re
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from latentmill import models

Blocks = list[tuple[str, str]]  # "formula" or "text", and the block itself
SENTENCES = re.compile(r"^Adds: (?P<adds>.+?)^Lacks: (?P<lacks>.+)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Introduction:
    """Of a model to its reader."""

    blocks: Blocks  # its idea, formulas and references
    adds: str  # a sentence, or empty
    lacks: str


def introduction(model: str) -> Introduction:
    """The docstring of `models/<model>.py`, whose last paragraph has the two sentences, `Adds: …` and `Lacks: …`."""
    source = Path(models.__path__[0], f"{model}.py").read_text(encoding="utf-8")
    text = ast.get_docstring(ast.parse(source)) or ""
    found = SENTENCES.search(text)
    sentences = {name: " ".join(each.split()) for name, each in found.groupdict().items()} if found else {}
    about = text[: found.start()] if found else text
    return Introduction(_blocks(about), sentences.get("adds", ""), sentences.get("lacks", ""))


def _blocks(text: str) -> Blocks:
    blocks = [(style, list(block)) for style, block in groupby(text.splitlines(), key=_style)]
    return [(style, inspect.cleandoc("\n".join(["", *block]))) for style, block in blocks if style != "blank"]


def _style(line: str) -> str:
    return "blank" if not line.strip() else "formula" if line.startswith(" ") else "text"
