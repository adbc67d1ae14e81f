"""How a benchmark ends: on which machine, what was checked, the numbers in a file, and the exit status."""

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch
from rich.console import Console


def machine() -> dict[str, Any]:
    """Return what the numbers depend on."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].split(":", 1)[1].strip() if names else cpu
    versions = {m.__name__: m.__version__ for m in (np, scipy, torch)}
    return {"cpu": cpu, "cores": os.cpu_count(), "threads": 1, "python": platform.python_version(), **versions}


def finish(
    console: Console,
    checks: Mapping[str, bool],
    result: Mapping[str, Any],
    path: Path | None,
    facts: Mapping[str, Any] | None = None,
) -> int:
    """Print machine and checks, write the numbers.

    Args:
        console: to print on.
        checks: what was checked, in words -> whether it is so.
        result: numbers for the file, beside ``machine``.
        path: of the JSON file; None: none is written.
        facts: what the numbers depend on; None: `machine`.

    Returns:
        0, or 1 if a check has failed.
    """
    facts = machine() if facts is None else facts
    console.print(", ".join(f"{key} {value}" for key, value in facts.items()), style="dim")
    for what, right in checks.items():
        console.print(f"{'ok  ' if right else 'FAIL'} {what}")
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"machine": facts, **result}, indent=2) + "\n")
    return 0 if all(checks.values()) else 1
