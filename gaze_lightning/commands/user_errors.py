"""How the commands end when data or configuration cannot be used."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from data_modules.errors import DataError
from gaze_lightning.errors import ConfigurationError


@contextmanager
def user_errors_end_the_command() -> Iterator[None]:
    """Print a `DataError` or `ConfigurationError` without a traceback and exit with status 2; other errors pass.

    An object that refuses its arguments on construction is found inside jsonargparse's error about its type.

    Raises:
        SystemExit: status 2.
    """
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, DataError | ConfigurationError):
            cause = cause.__cause__
        if cause is None:
            raise
        print(f"\n{cause}", file=sys.stderr)  # noqa: T201
        raise SystemExit(2) from None
