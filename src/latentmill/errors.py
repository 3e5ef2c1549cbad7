"""The one error that a user can mend; commands print it as one line and exit with a status other than 0."""

import atexit
import errno
import os
import reprlib
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

JOINER = "\N{ZERO WIDTH JOINER}"  # within an emoji of several parts

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)  # full, or not to be written


class InputError(ValueError):
    """A file, parameter or argument breaks a rule. The message states the rule, then the value."""


def error_line(error: BaseException) -> str:
    """The class and the message of an error, in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


@contextmanager
def one_line_errors(status: int = 1) -> Iterator[None]:
    """Around a command's `main()`: an `InputError` ends the process with one line on stderr and this status.

    So does a disk that is full or can't be written, and Ctrl-C, but for the status: to its parent the process died of
    it. Every other error keeps its traceback, because it is a fault of the program.
    """
    try:
        yield
    except InputError as error:
        print(f"error: {escaped(' '.join(str(error).split()))}", file=sys.stderr)
        sys.exit(status)
    except OSError as error:
        if error.errno not in DISK:
            raise
        where = repr(str(error.filename)) if error.filename else "the disk"
        print(f"error: there must be room and permission for files, but {where}: {error.strerror}", file=sys.stderr)
        sys.exit(status)
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        _die_of_interrupt()


def _die_of_interrupt() -> None:
    """As Python does where nothing catches Ctrl-C; but Python forgets why it ends, and returns 1, where a library runs
    source code in a function that is called at exit, and torch does.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)


def escaped(text: str) -> str:
    """On one line, with escapes in place of what moves a terminal's cursor or turns the direction of writing."""
    return "".join(
        each if each.isprintable() or each == JOINER else each.encode("unicode_escape").decode() for each in text
    )


def shown(value: Any) -> str:
    """A value from outside for a message, escaped; of one that is large or has many levels only a part."""
    return escaped(_SHOWN.repr(value))


class _Shown(reprlib.Repr):
    def repr_int(self, x: int, level: int) -> str:
        """Python refuses to write a number of more than 4,300 digits."""
        return repr(x) if x.bit_length() <= 128 else f"a number of {x.bit_length()} bits"


_SHOWN = _Shown()
_SHOWN.maxlevel, _SHOWN.maxstring, _SHOWN.maxother, _SHOWN.maxlist, _SHOWN.maxdict = 4, 100, 100, 12, 12
