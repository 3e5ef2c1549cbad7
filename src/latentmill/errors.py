"""The one error that a user can mend; commands print it as one line and exit with a status other than 0."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)  # full, or not to be written


class InputError(ValueError):
    """A file, parameter or argument breaks a rule. The message states the rule, then the value."""


@contextmanager
def one_line_errors(status: int = 1) -> Iterator[None]:
    """Around a command's `main()`: an `InputError` ends the process with one line on stderr and this status.

    So does a disk that is full or can't be written, and Ctrl-C, but for the status: to its parent the process died of
    it. Every other error keeps its traceback, because it is a fault of the program.
    """
    try:
        yield
    except InputError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(status)
    except OSError as error:
        if error.errno not in DISK:
            raise
        where = repr(str(error.filename)) if error.filename else "the disk"
        print(f"error: there must be room and permission for files, but {where}: {error.strerror}", file=sys.stderr)
        sys.exit(status)
    except KeyboardInterrupt:
        sys.excepthook = lambda *raised: print("error: interrupted", file=sys.stderr)
        raise
