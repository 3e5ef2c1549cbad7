"""Errors about an argument of `judge`, called by its name in Python, or by the command's option.

Only words are renamed: a path or a quoted value that has the same letters stays as the user wrote it.
"""

import re
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


def renamed(text: str, key: str, name: str, before_value: str | None = None) -> str:
    """`text` with `name` in the place of `key`, or `before_value` in that of "key: "."""

    def called(found: re.Match[str]) -> str:
        return before_value if found[1] and before_value is not None else f"{name}{found[1] or ''}"

    return _word(key).sub(called, text)


def names(text: str, key: str) -> bool:
    """Whether `key` is a word of `text`."""
    return _word(key).search(text) is not None


def _word(key: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w./\\'\"-]){re.escape(key)}(?![\w/\\'\"-]|\.\w)(: )?")


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
        if not self.key.startswith("data"):
            return renamed(self.message, self.key, name)
        text = renamed(self.message, self.key, name, before_value)
        return re.sub("or null( for none)?", "or none", text, count=1)  # in the rule, which stands before the value


@contextmanager
def argument_errors(argument: str, key: str, prefix: str = "") -> Iterator[None]:
    """Errors begin with `prefix`, and those that call the argument `key` are about it."""
    try:
        yield
    except InputError as error:
        text = f"{prefix}{error}"
        raise (ArgumentError(text, argument, key) if names(text, key) else InputError(text)) from None


@contextmanager
def option_errors() -> Iterator[None]:
    """Errors about arguments name the options of the command."""
    try:
        yield
    except ArgumentError as error:
        raise error.of_option from None
