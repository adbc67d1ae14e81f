"""What keeps an image cache from being built or used."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from data_modules.errors import DataError, refuse
from data_modules.films.cache_files import CacheFiles, Stated, fingerprint, free_bytes, size_text
from data_modules.films.cache_state import FilmStates
from data_modules.films.images import MISSING
from data_modules.films.intensity import Intensity
from data_modules.geometry import FilmFit


def refuse_small_disk(files: CacheFiles, missing: int) -> None:
    """Refuse to begin what the disk cannot hold.

    Args:
        files: of the cache.
        missing: number of films that are still to be written.

    Raises:
        DataError: with the space that is needed, that is free, and that other caches in the folder take.
    """
    needed, free = files.needed_bytes(missing), free_bytes(files.folder)
    if needed > free:
        there = f" ({files.n - missing:,} are there already)" if missing < files.n else ""
        raise DataError(
            f"The image cache needs {size_text(needed)} in {files.folder}, where {size_text(free)} are free: "
            f"{files.n:,} films of {files.canvas[0]} x {files.canvas[1]} pixels{there}. Choose a folder on a larger "
            f"disk with cache_dir, or a smaller image_size.{_others(files)}"
        )


def _others(files: CacheFiles) -> str:
    """What other caches in the folder could be deleted."""
    unfinished = [path for path in files.folder.glob("films_*.partial") if path != files.partial]
    unfinished = [path for path in unfinished if path.suffixes != [".npz", ".partial"]]
    finished = [path for path in files.folder.glob("films_*.npy") if path != files.pixels]
    text = ""
    if unfinished:
        text += f" Other unfinished caches there (*.partial) hold up to {_size(unfinished)}."
    if finished:
        text += (
            f" Finished caches there (*.npy with *.npz): {len(finished)} of other films, sizes or intensities, "
            f"{_size(finished)}; delete those that no run needs any more."
        )
    return text


def _size(paths: Sequence[Path]) -> str:
    return size_text(sum(path.stat().st_size for path in paths))


def refuse_unreadable(reasons: dict[int, str], names: Sequence[str]) -> None:
    """Refuse films that cannot be read.

    Raises:
        DataError: naming all of them, if there are any.
    """
    if reasons:
        refuse(
            DataError(
                f"{len(reasons)} of {len(names)} films cannot be used. Repair them, or leave their readings out with "
                "missing: drop.",
                [f"{names[index]}: {reason}" for index, reason in reasons.items()],
            )
        )


def refuse_hopeless(
    files: CacheFiles,
    known: FilmStates,
    piece: Sequence[int],
    left: int,
    names: Sequence[str],
    unreadable: Literal["error", "drop"],
) -> None:
    """Refuse to go on where all films of a piece failed and the others will do so as well.

    That is where no film at all is usable so far; under the policy ``drop`` only if the files are there (of a part of
    a data set, the first thousand films may be missing). Or where none of the piece could be reached.

    Args:
        files: of the cache.
        known: of the films so far.
        piece: the films that were read last.
        left: number of films that come after them.
        names: what to call each film in messages.
        unreadable: the policy.

    Raises:
        DataError: with all films of the piece.
    """
    failed = known.failures(piece)
    if len(failed) < len(piece) or not (left or unreadable == "drop"):
        return
    if all(film in known.unreached for film in piece):
        refuse_unreached(known, names, unreadable, left)
    if known.usable == 0 and (unreadable == "error" or not left or set(failed.values()) != {MISSING}):
        which = f"the first {len(piece):,} of {files.n:,} films can be used; the others are not tried"
        if not left:
            which, failed = f"the {files.n:,} films can be used", known.failures(range(files.n))
        raise DataError(
            f"None of {which}.",
            [f"{names[film]}: {reason}" for film, reason in failed.items()],
        )


def refuse_unreached(
    known: FilmStates, names: Sequence[str], unreadable: Literal["error", "drop"], left: int = 0
) -> None:
    """Refuse to publish a cache without films that could not be read now: a cache lasts, the cause may not.

    Args:
        known: of the films.
        names: what to call each film in messages.
        unreadable: under the policy ``error``, films that cannot be used are named as well.
        left: number of films that were not tried.

    Raises:
        DataError: naming all of them, if there are any.
    """
    if known.unreached:
        named = known.unreached | (known.reasons if unreadable == "error" else {})
        rest = f", {left:,} others were not tried" if left else ""
        raise DataError(
            f"{len(known.unreached):,} of {known.n:,} films could not be read now{rest}. That says nothing about their "
            "content, so it is no case for missing: drop. Look after the cause (is a network share away, a right "
            "missing, something not installed?) and start again: what is finished is kept.",
            [f"{names[film]}: {named[film]}" for film in sorted(named)],
        )


def refuse_vanished(
    files: CacheFiles,
    known: FilmStates,
    films: Sequence[str | Path],
    stated: Stated,
    intensity: Intensity,
    names: Sequence[str],
    fits: Sequence[FilmFit | None] | None = None,
) -> None:
    """Refuse to publish a cache without films that were there before the build or are there after it.

    Args:
        files: of the cache, whose name tells which films were there.
        known: of the films.
        films: one path per film.
        stated: ``(height, width)`` of each film according to its table, pixels.
        intensity: how stored values become grey.
        names: what to call each film in messages.
        fits: where each film lies on the canvas, None for a whole film; None: all films whole.

    Raises:
        DataError: naming the films that were missing, if any of them was there before or is now.
    """
    missing = [film for film, reason in sorted(known.reasons.items()) if reason == MISSING]
    if missing and (
        any(os.path.exists(films[film]) for film in missing)
        or not files.name.endswith(fingerprint(films, stated, files.canvas, intensity, fits))
    ):
        raise DataError(
            f"{len(missing):,} films were missing when they were to be read, but not before or after that (or other "
            "films have changed meanwhile). Look whether a network share comes and goes, and start again: what is "
            "finished is kept.",
            [f"{names[film]}: {MISSING}" for film in missing],
        )


def refuse_changed(known: FilmStates) -> None:
    """Refuse to publish pixels that are not those that were written.

    Raises:
        DataError: with their number, if there are any.
    """
    changed = int(np.count_nonzero(~known.done))
    if changed:
        raise DataError(
            f"{changed:,} of {known.n:,} films in the unfinished image cache are not what was written: another process "
            "wrote there as well (on a disk whose locks do not reach other machines), or the disk is faulty. Start "
            "again in one process (gaze-lightning cache): what is sound is kept."
        )
