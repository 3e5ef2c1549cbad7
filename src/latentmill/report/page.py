"""The page, rendered from the inputs.

It opens from disk and loads nothing: pictures are data: URIs, and a content security policy forbids everything else.
The policy names the only script by its hash, so that no text from outside can run.
"""

import base64
import hashlib
from pathlib import Path

import jinja2

from latentmill.report import numbers
from latentmill.report.answer import answer
from latentmill.report.calibration import entries, limits, rules
from latentmill.report.curves import HEIGHT, WIDTH, charts
from latentmill.report.data import data
from latentmill.report.inputs import Inputs
from latentmill.report.leaderboard import groups, other_samples, rows, sample_spaces
from latentmill.report.sections import sections
from latentmill.report.standing import axis, strips
from latentmill.report.verdicts import RULES, headline, setbacks, shortfall
from latentmill.trials.record import FAILED


def render(inputs: Inputs) -> str:
    """The page as HTML."""
    environment = templates()
    trials = {trial["fingerprint"]: trial for trial in inputs.trials}.values()  # two entries may share one
    script = environment.get_template("script.js.j2").render()
    columns, calibrated = groups(inputs), rules(inputs.calibration, entries(inputs))
    axes = [axis(rule) for rule in calibrated]
    return environment.get_template("page.html.j2").render(
        manifest=inputs.manifest,
        note=inputs.note,
        samples=inputs.samples,
        other_samples=other_samples(inputs),
        data=data(inputs),
        answer=answer(inputs),
        setbacks=setbacks(inputs),
        failed_entries=inputs.failed,
        shortfall=shortfall(inputs),
        winner=inputs.champion,
        sections=sections(inputs),
        trials=len(trials),
        seconds_in_all=sum(float(trial["seconds"] or 0) for trial in trials),
        failed=[_failure(trial) for trial in trials if trial["status"] in FAILED],
        charts=charts(inputs.curves),
        chart_size=(WIDTH, HEIGHT),
        rule_titles=RULES,
        limits=limits(inputs.calibration),
        headline=headline(inputs.entries),
        groups=columns,
        rows=rows(inputs, columns),
        has_likelihoods=bool(sample_spaces(inputs.entries)),
        calibration=inputs.calibration,
        calibrated=[(rule, along, strips(rule, along)) for rule, along in zip(calibrated, axes, strict=True)],
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def templates() -> jinja2.Environment:
    """The templates beside this file. All text is escaped, and a misspelt name in a template is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    formats = (numbers.count, numbers.minus, numbers.plain, numbers.plural, numbers.size, numbers.seconds)
    environment.filters |= {each.__name__: each for each in formats}
    return environment


def _failure(trial: dict[str, str]) -> tuple[str, str, str]:
    """Entry, configuration and error of a failed trial."""
    config = {key.partition(".")[2]: value for key, value in trial.items() if "." in key and value}
    study = f"{trial['entry']}/{trial['prior']}" if trial["prior"] else trial["entry"]
    return study, ", ".join(f"{key} {value}" for key, value in config.items()), trial["error"]
