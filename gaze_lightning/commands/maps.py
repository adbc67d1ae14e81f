"""``gaze-lightning maps``."""

import argparse
import os
from pathlib import Path

from rich.console import Console
from rich.text import Text

from callbacks.map_stability_page import draw_stability_page
from callbacks.panel_parts import save_png
from gaze_lightning.commands.arms import folders_of_arms
from gaze_lightning.evaluation.map_run import MapRun
from gaze_lightning.evaluation.map_stability import MapStability, stability_table


def maps(args: list[str]) -> None:
    """Print how stable the global maps of several arms are, and draw them.

    Args:
        args: ``name=pattern`` per arm; the pattern matches run folders; ``--out`` names the picture.

    Raises:
        SystemExit: status 2 where an argument or a run cannot be used.
    """
    parser = argparse.ArgumentParser(
        prog="gaze-lightning maps",
        description="Compare the global maps of finished runs: how much those of repeated trainings agree.",
        epilog="gaze-lightning maps 'anchors=runs/global_attention_resnet18/*' 'free=runs/*free_mask_resnet18/*'",
    )
    parser.add_argument("arms", nargs="+", metavar="NAME=PATTERN", help="an arm and the folders of its runs")
    parser.add_argument(
        "--out", type=Path, default=None, help="the picture, PNG (default: maps.png in the folder that holds the runs)"
    )
    options = parser.parse_args(args)
    arms: dict[str, MapStability] = {}
    folders: list[Path] = []
    without = 0
    try:
        example = "anchors=runs/global_attention_resnet18/*"
        for name, matched in folders_of_arms(options.arms, example).items():
            finished = [folder for folder in matched if (folder / "attention" / "map.npy").is_file()]
            if not finished:
                raise ValueError(f"no tested run with a global map in: {name}")
            without += len(matched) - len(finished)
            folders += finished
            arms[name] = _stability(name, finished)
    except ValueError as error:
        parser.error(str(error))
    out = options.out or Path(os.path.commonpath([folder.absolute().parent for folder in folders])) / "maps.png"
    data = "; ".join(sorted({run.data for arm in arms.values() for run in arm.runs}))
    save_png(draw_stability_page(arms, note=data), out)
    console = Console()
    console.print(Text(data, style="yellow"))
    console.print(stability_table(arms))
    for note in _notes(without):
        console.print(Text(note, style="dim"))
    console.print(Text(f"Picture: {os.path.relpath(out)}"))


def _stability(name: str, folders: list[Path]) -> MapStability:
    try:
        return MapStability.of([MapRun.load(folder) for folder in folders])
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _notes(without: int) -> list[str]:
    notes = [
        "Run to run: mean Pearson correlation of pairs of runs, over the pixels that at least half of the training"
        " films cover. A map that changes from seed to seed explains nothing, whatever the accuracy.",
    ]
    if without:
        notes.append(f"Left out: {without} folder{'s' if without > 1 else ''} without a tested global map.")
    return notes
