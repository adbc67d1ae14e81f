"""``gaze-lightning cache``."""

import sys
from pathlib import Path

import pandas as pd
import yaml

import data_modules
from data_modules.errors import DataError
from data_modules.films.cache import FilmCache
from data_modules.films.cache_files import CacheFiles, free_bytes, size_text
from data_modules.films.cache_journal import read_journal
from data_modules.films.cache_refusals import refuse_small_disk
from gaze_lightning.commands.data_options import data_parser, data_sections
from gaze_lightning.commands.user_errors import user_errors_end_the_command


def cache(files: list[str], args: list[str]) -> None:
    """Build the cache of resized films of a source beforehand: training then starts at once, also on a read-only copy.

    What was built before a kill is kept. Training finds the cache by the same film paths, image_size, intensity and
    cache_dir.

    Args:
        files: configuration files; their ``data`` sections count.
        args: ``--data.init_args...``, ``--dry_run``.

    Raises:
        SystemExit: status 2 if the data, the folder or the disk do not allow it.
    """
    given = _states_size(files, args)
    parser = data_parser("cache", cache.__doc__)
    parser.add_argument("--dry_run", type=bool, default=False, help="only say what would be built")
    options = parser.parse_args([*data_sections(files), *args])
    with user_errors_end_the_command():
        if options.data.init_args.get("cache_dir") is None:
            raise DataError(
                "cache_dir is null: the cache would lie in a temporary folder and be gone with this command. Name a "
                "folder with --data.init_args.cache_dir."
            )
        data: data_modules.GazeDataModule = parser.instantiate_classes(options).data
        height, width = data.image_size
        if not given:
            print(  # noqa: T201
                f"Neither a configuration nor --data.init_args.image_size names the size: it is {height} x {width}, "
                "the default of the data module. An experiment that trains at another size will not use this cache; "
                "name yours (make cache EXP=... SETTING=..., or --data.init_args.image_size=[height,width]).",
                file=sys.stderr,
            )
        if options.dry_run:
            print(_plan(_files(data)))  # noqa: T201
            return
        data.prepare_data()
        found = _files(data)
        built = FilmCache(found.pixels)
        size = f"{found.n:,} films of {height} x {width} pixels, {size_text(found.total_bytes)}"
        print(f"{size}: {found.pixels}")  # noqa: T201
        if built.unreadable:
            names = _films(data)["source_row"].tolist()
            rows = [f"{names[film]}: {reason}" for film, reason in built.unreadable.items()]
            error = DataError(f"{len(rows)} of {found.n} films cannot be read; training leaves them out:", rows)
            print(error, file=sys.stderr)  # noqa: T201


def _states_size(files: list[str], args: list[str]) -> bool:
    """Whether the options say which experiment or which size the films are for."""
    if any(argument.startswith(("--data.init_args.image_size", "--data.image_size")) for argument in args):
        return True
    for file in files:
        content = yaml.safe_load(Path(file).read_text()) or {}
        data = content.get("data")
        if "model" in content or (isinstance(data, dict) and "image_size" in (data.get("init_args") or {})):
            return True
    return False


def _films(data: data_modules.GazeDataModule) -> pd.DataFrame:
    return data.table().frame.drop_duplicates("image_path")


def _files(data: data_modules.GazeDataModule) -> CacheFiles:
    """The files of the cache that `GazeDataModule.prepare_data` builds."""
    films = _films(data)
    sizes = films[["height", "width"]].to_numpy()
    paths = films["image_path"].tolist()
    return CacheFiles.of(paths, sizes, data.image_size, data.cache_dir, data.intensity, data.film_fits())


def _plan(files: CacheFiles) -> str:
    """What is there and what is missing.

    Raises:
        DataError: if the disk is too small for the rest.
    """
    what = f"{files.n:,} films of {files.canvas[0]} x {files.canvas[1]} pixels, {size_text(files.total_bytes)}"
    if files.is_complete():
        return f"{what}: built already, {files.pixels}"
    done = len({record.film for record in read_journal(files.journal) if not record.reason})
    refuse_small_disk(files, files.n - done)
    return (
        f"{what}: {done:,} films are finished, the rest needs {size_text(files.needed_bytes(files.n - done))} in "
        f"{files.folder}, where {size_text(free_bytes(files.folder))} are free."
    )
