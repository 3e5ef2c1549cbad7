"""What a task refuses, as the one line that it is."""

from ray.exceptions import RaySystemError, RayTaskError

from latentmill.errors import InputError


def refusal(error: RaySystemError | RayTaskError) -> InputError | None:
    """The `InputError` that a task, or unpickling its arguments, has raised; None where it was another error."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    found = cause.client_exc if isinstance(cause, RaySystemError) else cause
    return found if isinstance(found, InputError) else None
