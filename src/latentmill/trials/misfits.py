"""Entries whose model can't be made for the prepared data, such as a conditional one for images without labels.

Each model knows its own rule, so one is built as its trial would.
"""

from latentmill import registry
from latentmill.errors import InputError, error_line
from latentmill.networks import Shape
from latentmill.trials.packs import FAULTS
from latentmill.trials.plan import Plan


def misfits(plan: Plan, shape: Shape, classes: int) -> dict[str, str]:
    """Why the first trial to train of an entry will fail at once, by entry; its priors are left out.

    `shape` is that of the images, with so many `classes`.
    """
    found, looked, missing = dict[str, str](), set[str](), plan.open
    for planned in plan.planned:
        if planned.prior is None and planned.fingerprint in missing and planned.entry not in looked:
            looked.add(planned.entry)  # one of each: a large model takes a second
            try:
                registry.build("models", planned.trial.model, planned.trial.config, shape, classes)
            except FAULTS as error:  # the rule of the model, or what its code raises
                found[planned.entry] = str(error) if isinstance(error, InputError) else error_line(error)
    return found
