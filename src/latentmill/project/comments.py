"""Descriptions of settings: the comments beside the fields of a `Config`.

Comments, because a trial's fingerprint covers code and leaves them out: a description in the code itself, as pydantic's
`Field(description=…)`, would train everything anew whenever it is worded better.
"""

import ast
import inspect
import io
import re
import textwrap
import tokenize
from functools import cache

from latentmill.config import Settings


@cache
def descriptions(config: type[Settings]) -> dict[str, str]:
    """By field: the comment on its lines, or else on those before them; that of a base class where there is none."""
    found: dict[str, str] = {}
    for each in reversed(config.__mro__):
        if issubclass(each, Settings) and each is not Settings:
            found |= {name: comment for name, comment in _own(each).items() if comment or name not in found}
    return found


def _own(config: type[Settings]) -> dict[str, str]:
    source = textwrap.dedent(inspect.getsource(config))
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = [each for each in tokens if each.type == tokenize.COMMENT]
    (definition,) = ast.parse(source).body
    fields = [each for each in ast.walk(definition) if isinstance(each, ast.AnnAssign)]
    return {each.target.id: _beside(each, comments) for each in fields if isinstance(each.target, ast.Name)}


def _beside(field: ast.AnnAssign, comments: list[tokenize.TokenInfo]) -> str:
    end, before = field.end_lineno or field.lineno, field.lineno - 1
    beside = [each for each in comments if field.lineno <= each.start[0] <= end]
    above = [each for each in comments if each.start[0] == before and each.line.lstrip().startswith("#")]
    return " ".join(each.string.lstrip("# ") for each in beside or above)


def first_sentence(docstring: str | None) -> str:
    """On one line, without the full stop at its end."""
    text = " ".join((docstring or "").split("\n\n")[0].split())
    return re.split(r"[.;](?= |$)", text)[0]
