"""The calibration of a judge as JSON, from which the report and others show what each control did."""

from typing import Any

from latentmill.evaluation.calibration import MARGIN, Calibration
from latentmill.evaluation.judge import Judge


def calibration_record(judge: Judge) -> dict[str, Any]:
    """The values of each metric on the controls, for the report."""
    return {
        "subset": judge.size,
        "margin": MARGIN,
        "limits": judge.limits.model_dump() if judge.limits else {},
        "spaces": {space.name: {"digest": space.digest, "features": space.dimensions} for space in judge.spaces[1]},
        "rules": {str(rule): _rule([each for each in judge.calibrations if each.rule == rule]) for rule in (1, 2)},
        "unavailable": judge.unavailable,
    }


def _rule(calibrations: list[Calibration]) -> dict[str, Any]:
    controls = {each.name: each.positive for calibration in calibrations for each in calibration.controls}
    return {
        "controls": [{"name": name, "positive": positive} for name, positive in controls.items()],
        "metrics": [
            {
                "metric": each.metric,
                "space": each.space,
                "better": "higher" if each.higher_is_better else "lower",
                "detects": each.detected(),
                "separates": each.separated(),
                "values": {found.name: {"mean": found.mean, "deviation": found.deviation} for found in each.controls},
            }
            for each in calibrations
        ],
    }
