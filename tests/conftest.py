"""What all tests share: one thread per process, and one small phantom per session."""

from __future__ import annotations

import logging
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two threads on shared cores were seen 8 to 50 times slower than one
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytorch_lightning
from hypothesis import settings

settings.register_profile("tests", deadline=None)  # a shared core is slow at times, which is no failure
settings.load_profile("tests")

# Lightning keeps its log lines from the root logger when it is imported before pytest has set up its own handlers
logging.getLogger(pytorch_lightning.__name__).propagate = True

if TYPE_CHECKING:
    from data_modules.phantom import PhantomKnobs


@pytest.fixture(scope="session")
def phantom_knobs() -> PhantomKnobs:
    """Knobs of the shared phantom: small films, few patients, every quirk."""
    from data_modules.phantom import PhantomKnobs

    return PhantomKnobs(n_train=24, n_validate=9, n_test=18, height=120, width=100, seed=3, missing_gaze=0.05)


@pytest.fixture(scope="session")
def phantom_root(tmp_path_factory: pytest.TempPathFactory, phantom_knobs: PhantomKnobs) -> Path:
    """Folder that holds ``physionet.org`` and ``phantom_truth``; shared by all processes of the session, read only."""
    from data_modules.phantom import write_phantom

    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # common to all workers; write_phantom has a lock of its own
    root = base / "phantom"
    write_phantom(root, phantom_knobs, workers=1, progress=False)
    return root


@pytest.fixture(scope="session")
def phantom_arguments(phantom_root: Path, phantom_knobs: PhantomKnobs) -> list[str]:
    """Arguments of the command line that select the session's phantom."""
    knobs = vars(phantom_knobs) | {"phantom_seed": phantom_knobs.seed, "root": phantom_root}
    extras = ("seed", "raw_gaze", "reflacx_gaze", "dicom", "report_labels")
    return [f"--data.init_args.{key}={value}" for key, value in knobs.items() if key not in extras]


@pytest.fixture
def installed(tmp_path: Path) -> str:
    """Argument of make: an environment whose Python says what it was asked for."""
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    python.chmod(0o755)
    (tmp_path / "venv" / ".runtime-installed").touch()
    return f"VENV={tmp_path / 'venv'}"


@pytest.fixture
def decoded(tmp_path, monkeypatch):
    """Names of the films that were decoded so far, by any process."""
    from data_modules.films import reading as film_reading

    log = tmp_path / "decoded films"
    log.touch()
    real = film_reading.read_film

    def read_film(path, *rest):
        with log.open("a") as file:
            file.write(f"{path.name}\n")
        return real(path, *rest)

    monkeypatch.setattr(film_reading, "read_film", read_film)
    return lambda: sorted(log.read_text().splitlines())
