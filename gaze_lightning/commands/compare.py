"""``gaze-lightning compare``."""

import argparse

from rich.console import Console

from gaze_lightning.commands.arms import folders_of_arms
from gaze_lightning.evaluation.compare import compare_runs
from gaze_lightning.evaluation.results import Results


def compare(args: list[str]) -> None:
    """Print several arms side by side.

    Args:
        args: ``name=pattern`` per arm; the pattern matches run folders.

    Raises:
        SystemExit: status 2 where an argument or a run cannot be used.
    """
    parser = argparse.ArgumentParser(
        prog="gaze-lightning compare",
        description="Compare finished runs: the mean over the runs of each arm, ± their standard deviation.",
        epilog="gaze-lightning compare 'plain=runs/baseline_resnet50/*' 'gaze=runs/ggcam_resnet50/*'",
    )
    parser.add_argument("arms", nargs="+", metavar="NAME=PATTERN", help="an arm and the folders of its runs")
    arms: dict[str, list[Results]] = {}
    try:
        for name, folders in folders_of_arms(parser.parse_args(args).arms, "plain=runs/baseline_resnet50/*").items():
            files = [folder / "results.json" for folder in folders]
            arms[name] = [Results.load(file) for file in files if file.is_file()]
        table = compare_runs(arms)
    except ValueError as error:
        parser.error(str(error))
    first = next(iter(arms.values()))[0]
    console = Console()
    console.print(f"{first.n} readings of {first.n_subjects} patients. {first.data}")
    console.print(table)
