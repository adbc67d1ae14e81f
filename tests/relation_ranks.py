"""Relations opened by two processes at once, of which one may fail; importable by processes that tests start."""

import os
from pathlib import Path
from unittest.mock import patch

from matplotlib.figure import Figure

from callbacks import gaze_relations


def relate(folder: str, fails_on: int) -> None:
    """Give a task its relations; writes what it got (``digest <rank>``) or the error (``error <rank>``)."""
    from tests.test_gaze_relations import callback, fit

    place, rank, opened = Path(folder), int(os.environ["RANK"]), gaze_relations.open_artefact

    def open_or_fail(*given):
        if rank == fails_on:
            raise OSError("no such disk")
        return opened(*given)

    with (
        patch.object(gaze_relations, "open_artefact", open_or_fail),
        patch.object(gaze_relations, "draw_relation_page", lambda *given, **options: Figure((1, 1))),
    ):
        try:
            task, _ = fit(place, callback(place, tau=0.5), devices=2, strategy="ddp")
        except Exception as error:
            (place / f"error {rank}").write_text(f"{type(error).__name__}: {error}")
        else:
            (place / f"digest {rank}").write_text(f"{task.relations.digest} {len(task.relations.indices)}")
