"""The arms of a comparison, as the command line names them."""

from collections.abc import Sequence
from glob import glob
from pathlib import Path


def folders_of_arms(arms: Sequence[str], example: str) -> dict[str, list[Path]]:
    """Find the run folders of each arm.

    Args:
        arms: ``name=pattern`` each; the pattern matches run folders.
        example: what an arm looks like, for the message.

    Returns:
        Name -> matching folders in alphabetical order; a pattern may match none.

    Raises:
        ValueError: an arm without a name, or two of the same name.
    """
    folders: dict[str, list[Path]] = {}
    for arm in arms:
        name, equals, pattern = arm.partition("=")
        if not equals or not name:
            raise ValueError(f"{arm!r}: write NAME=PATTERN, e.g. {example!r}")
        if name in folders:
            raise ValueError(f"two arms are called {name!r}: give each its own name")
        folders[name] = [folder for folder in map(Path, sorted(glob(pattern))) if folder.is_dir()]
    return folders
