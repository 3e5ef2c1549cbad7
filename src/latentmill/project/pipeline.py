"""dvc.yaml of a project without a clone: that of the repository, in which stages depend on what is installed."""

import re
from pathlib import Path

from latentmill.files import write_text
from latentmill.installation import VERSION, installed
from latentmill.stage import PIPELINE, REPOSITORY

STAGE = f"""stages:
  version:
    cmd: latentmill version --out {VERSION}
    always_changed: true # an update of latentmill is no change that DVC knows
    outs: [{VERSION}: {{cache: false, persist: true}}]

"""
DEPS = re.compile(r"deps:([^\[]*)\[([^\]]*)\]")
CODE = ("src/", "pipeline/", "constraints.txt")  # what only a clone has


def pipeline_text() -> str:
    """The content of dvc.yaml; its comments are kept."""
    text = (REPOSITORY / PIPELINE).read_text(encoding="utf-8")
    text = re.sub(r"python pipeline/(\w+)\.py", r"latentmill stage \1", text)
    return DEPS.sub(_deps, text).replace("stages:\n", STAGE, 1)


def _deps(found: re.Match[str]) -> str:
    kept = [dep for dep in found[2].replace("\n", " ").split(",") if not dep.strip().startswith(CODE)]
    return f"deps:{found[1]}[{', '.join([*(dep.strip() for dep in kept), str(VERSION)])}]"


def record_installed(out: Path) -> str | None:
    """Write what is installed into `out`; returns what is to be said where dvc.yaml is that of another version."""
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, installed())
    if PIPELINE.exists() and PIPELINE.read_text(encoding="utf-8") != pipeline_text():
        return f"{PIPELINE} is not that of this version: `latentmill pipeline > {PIPELINE}` replaces it"
    return None
