"""One process builds, the others wait."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from gaze_lightning.errors import ConfigurationError

_SECONDS = 60.0  # between two lines that say what is waited for


@contextmanager
def building(path: Path) -> Iterator[None]:
    """Hold the lock of a folder in which relations are built; it ends with the process, however that ends.

    Args:
        path: the lock's file; its folder is made. It stays, but for builds that are refused.

    Raises:
        ConfigurationError: the folder cannot be written, or its file system has no locks.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock: BaseFileLock = FileLock(path)
        with warnings.catch_warnings():  # of the lock's other kind, which is refused
            warnings.simplefilter("ignore", UserWarning)
            _acquire(lock, path)
    except (PermissionError, OSError) as error:
        raise ConfigurationError(
            f"There are no relations of exactly this gaze, measure and threshold in {path.parent}, and that folder "
            f"cannot be used ({error.strerror or error}). Choose another with folder, or build them where it is "
            "writable (gaze-lightning relations)."
        ) from error
    try:
        if isinstance(lock, SoftFileLock):  # a file that a killed process leaves behind: one would wait in vain
            raise ConfigurationError(
                f"The file system of {path.parent} has no locks (flock), without which two processes may build the "
                "same relations at once. Choose a folder on another disk, e.g. a local one."
            )
        yield
    except ConfigurationError:
        path.unlink(missing_ok=True)  # nothing is built here: the next one that tries is refused as well
        raise
    finally:
        lock.release()


def _acquire(lock: BaseFileLock, path: Path) -> None:
    waited, patience = 0.0, 0.0
    while True:
        try:
            lock.acquire(timeout=patience)
        except Timeout:
            print(  # noqa: T201
                f"Relations: another process builds them; waiting ({waited / 60:.0f} minutes so far). If none runs on "
                f"any machine, delete {path}.",
                file=sys.stderr,
            )
            waited, patience = waited + patience, _SECONDS
        else:
            return
