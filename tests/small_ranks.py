"""What several files of tests run on two processes: one start for all of it, for most of the time goes into imports."""

from pathlib import Path

import pytest

from tests.two_processes import Call, once, run_together

STAGED = {
    "freeze": "ddp_find_unused_parameters_true",
    "terms": "ddp",
    "init": "ddp_find_unused_parameters_true",
    "upstream": "ddp_find_unused_parameters_true",
}
"""Strategy of each kind of staged training."""
FAILS_ON = (-1, 0, 1)
"""Rank that finds no relations; -1: none."""


def small_ranks(factory: pytest.TempPathFactory) -> Path:
    """Folders ``relations <rank>``, ``staged <kind>``, ``contrastive``, ``multi_task``, ``report`` ...; ``out.txt``."""

    def make(folder: Path) -> None:
        calls: list[Call] = []
        for rank in FAILS_ON:
            calls.append(
                ("tests.relation_ranks:relate", {"folder": str(folder / f"relations {rank}"), "fails_on": rank})
            )
        for kind, strategy in STAGED.items():
            options = {"folder": str(folder / f"staged {kind}"), "kind": kind, "strategy": strategy}
            calls.append(("tests.staged_ranks:train", options))
        steps = {"folder": str(folder / "contrastive")}
        calls += [("tests.contrastive_steps:steps", steps | {"devices": 2}), ("tests.contrastive_steps:keys", steps)]
        for contrastive in ("triplet", "supcon"):
            options = {"folder": str(folder / "multi_task"), "devices": 2, "contrastive": contrastive}
            calls.append(("tests.multi_task_step:step", options))
        calls.append(("tests.report_ranks:report", {"folder": str(folder / "report")}))
        calls.append(("tests.pretrained_ranks:read", {"folder": str(folder / "pretrained")}))
        for _, options in calls:
            Path(options["folder"]).mkdir(exist_ok=True)
        out, error = run_together(folder, calls)
        (folder / "out.txt").write_text(out)
        (folder / "err.txt").write_text(error)

    return once(factory, "small_ranks", make)
