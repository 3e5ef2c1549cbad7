"""`latentmill judge`: prints the verdicts, writes a record and a page, and ends with a status for programs."""

from contextlib import suppress
from pathlib import Path

from latentmill.errors import InputError
from latentmill.judging.arguments import REQUIRED
from latentmill.judging.judge import PAGE, RECORD, JudgedSamples, judge
from latentmill.judging.output import require_usable
from latentmill.judging.renaming import option_errors
from latentmill.progress import Progress
from latentmill.report.judgement import copies_found, outcomes
from latentmill.runtime.cores import cores
from latentmill.runtime.text import one_line

STATUS = {"pass": 0, "fail": 1, "inconclusive": 2}  # of the process


def run(
    samples: str,
    train: str,
    held_out: str | None,
    labels: str,
    size: int | None,
    count: int | None,
    flip: bool,
    require: str,
    limit: list[str],
    seed: int,
    out: str | Path,
) -> int:
    """Judge, write into the folder `out`, and print; the exit status.

    Raises:
        InputError: as `judge`, or the output folder can't be used.
    """
    folder = require_usable(out, (samples, train, held_out))
    label: str | int | None = None if labels == "none" else int(labels) if labels.isdecimal() else labels
    with option_errors(), Progress("images listed, samples drawn") as progress:
        found = judge(
            samples,
            train,
            held_out,
            labels=label,
            size=size,
            count=count,
            flip=flip,
            require=REQUIRED[require],
            limits=dict(map(_limit, limit)),
            seed=seed,
            processes=cores(),
            progress=progress.update,
        )
    found.write(folder)
    _say(found, folder)
    return STATUS[found.status]


def _limit(text: str) -> tuple[str, float]:
    """The name and the number in "blur=0.5"."""
    name, _, number = text.partition("=")
    with suppress(ValueError):
        return name, float(number)
    raise InputError(f"a limit must be a name and a number, such as blur=0.5, but got {text!r}")


def _say(found: JudgedSamples, out: Path) -> None:
    for each in outcomes(found.record):
        print(f"Rule {each.verdict.rule}, {each.title}: {each.verdict.status}")
        for reason in each.verdict.reasons:
            print(f"  {one_line(reason)}")
        if each.verdict.damage:
            print(f"  The samples score like {each.verdict.damage}.")
    print(f"Copies: {one_line(copies_found(found.record['copies']))}")
    for note in found.record["notes"]:
        print(f"Note: {one_line(note)}")
    print(f"{out / PAGE}, {out / RECORD}")
