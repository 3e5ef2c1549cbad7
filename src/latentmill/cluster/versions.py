"""The versions of libraries that compute results, which all processes of a cluster must have alike."""

import platform
from functools import cache
from importlib.metadata import version

from latentmill.errors import InputError

Versions = dict[str, str]


class OtherLibrariesError(InputError):
    """A node of the cluster would compute other results."""


@cache
def versions(*libraries: str) -> Versions:
    """Of Python and of `libraries`, without local suffixes."""
    return {"python": platform.python_version()} | {name: version(name).partition("+")[0] for name in libraries}


def require_versions(wanted: Versions) -> None:
    """Raises OtherLibrariesError where this process has others."""
    here = versions(*(name for name in wanted if name != "python"))
    others = [f"{name} {here[name]} for {each}" for name, each in wanted.items() if here[name] != each]
    if others:
        rule = "a worker must have the driver's libraries"
        raise OtherLibrariesError(f"{rule}, but {platform.node()} has {', '.join(others)}")
