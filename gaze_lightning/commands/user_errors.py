"""How the commands end when data or configuration cannot be used."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from data_modules.errors import DataError
from gaze_lightning.errors import ConfigurationError
from gaze_lightning.launch import is_first_process

_GRACE_S = 10.0


@contextmanager
def user_errors_end_the_command() -> Iterator[None]:
    """Print a `DataError` or `ConfigurationError` without a traceback and exit with status 2; other errors pass.

    Of several processes the first one speaks, and the others only if they are not ended within ten seconds.

    An object that refuses its arguments on construction is found inside jsonargparse's error about its type.

    Raises:
        SystemExit: status 2.
    """
    try:
        yield
    except SystemExit as stop:  # of the parser
        if stop.code == 2 and not is_first_process():
            let_the_first_speak()
        raise
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, DataError | ConfigurationError):
            cause = cause.__cause__
        if cause is None:
            raise
        if not is_first_process():
            let_the_first_speak()
        print(f"\n{cause}", file=sys.stderr)  # noqa: T201
        raise SystemExit(2) from None


def let_the_first_speak() -> None:
    """Wait: most refusals are the same in all processes, and torchrun ends all of them when the first one has gone.

    If this process ended before, the first one could not remove its run folder any more.

    Raises:
        SystemExit: status 2, if the process that has started this one is gone.
    """
    parent, deadline = os.getppid(), time.monotonic() + _GRACE_S
    while time.monotonic() < deadline:
        if os.getppid() != parent:
            raise SystemExit(2)
        time.sleep(0.1)
