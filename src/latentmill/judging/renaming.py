"""Errors about an argument of `judge`, called by its name in Python, or by the command's option."""

from collections.abc import Iterator
from contextlib import contextmanager

from latentmill.errors import InputError

OPTIONS = {  # of the command, by the argument
    "labels": "--labels",
    "size": "--size",
    "count": "--count",
    "limits": "--limit",
    "seed": "--seed",
}


class ArgumentError(InputError):
    """An argument breaks a rule; in `message` it is called `key`, as by the part of the program that has the rule."""

    def __init__(self, message: str, argument: str, key: str) -> None:
        self.message, self.argument, self.key = message, argument, key
        super().__init__(self._called(argument, f"{argument}="))

    @property
    def of_option(self) -> InputError:
        """The same for the command line."""
        option = OPTIONS[self.argument]
        return InputError(self._called(option, f"{option} "))

    def _called(self, name: str, before_value: str) -> str:
        """With the argument's `name`; params.yaml has a colon between a key and its value."""
        text = self.message
        if self.key.startswith("data"):
            text = text.replace(f"{self.key}: ", before_value).replace("or null for none", "or none")
            text = text.replace("or null", "or none")
        return text.replace(self.key, name)


@contextmanager
def argument_errors(argument: str, key: str, prefix: str = "") -> Iterator[None]:
    """Errors begin with `prefix`, and those that call the argument `key` are about it."""
    try:
        yield
    except InputError as error:
        text = f"{prefix}{error}"
        raise (ArgumentError(text, argument, key) if key in text else InputError(text)) from None


@contextmanager
def option_errors() -> Iterator[None]:
    """Errors about arguments name the options of the command."""
    try:
        yield
    except ArgumentError as error:
        raise error.of_option from None
