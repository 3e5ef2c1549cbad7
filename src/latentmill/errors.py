"""The one error that a user can mend; commands print it as one line and exit with a status other than 0."""


class InputError(ValueError):
    """A file, parameter or argument breaks a rule. The message states the rule, then the value."""
