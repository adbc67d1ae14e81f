"""``gaze-lightning check-data``."""

from datetime import datetime
from pathlib import Path

from jsonargparse.typing import PositiveInt
from rich.console import Console

import data_modules
from data_modules.doctor.examine import examine
from data_modules.doctor.terminal import show
from data_modules.phantom import write_phantom
from gaze_lightning.commands.data_options import data_parser, data_sections
from gaze_lightning.commands.user_errors import user_errors_end_the_command

_DESCRIPTION = """Read a source once, all of it, and report what is wrong with it before anything is trained.

Exit status: 0 if there is no error (also for data without labels, from which only gaze can be learnt: the verdict says
so, and methods that need labels refuse them); 1 if there is an error; 2 if the arguments cannot be used."""


def check_data(files: list[str], args: list[str]) -> None:
    """Read a source once, all of it, and report what is wrong with it before anything is trained.

    Data without labels are no fault: gaze can be learnt from them, and methods that need labels refuse them.

    Args:
        files: configuration files; their ``data`` sections count.
        args: ``--data.init_args...``, ``--output``, ``--films``.

    Raises:
        SystemExit: status 1 if there is an error and training must not start, 2 if the arguments cannot be used.
    """
    parser = data_parser("check-data", _DESCRIPTION)
    parser.add_argument(
        "--output",
        type=str | None,
        default=None,
        help="folder of the report (default: checks/<date>-<time>); it stays on this machine",
    )
    parser.add_argument(
        "--films",
        type=PositiveInt | None,
        default=None,
        help="read that many films only, a random sample that is the same every time (default: all)",
    )
    options = parser.parse_args([*data_sections(files), *args])
    with user_errors_end_the_command():
        data: data_modules.GazeDataModule = parser.instantiate_classes(options).data
    if isinstance(data, data_modules.PhantomDataModule) and not data.folder.exists():
        write_phantom(data.folder, data.knobs)
    report = examine(data, progress=True, films=options.films)
    folder = Path(options.output) if options.output else _fresh_folder(Path("checks"))
    page = report.write(folder)
    console = Console()
    show(report, console)
    console.print(f"Report with pictures: {page}", soft_wrap=True)
    if not report.may_predict:
        raise SystemExit(1)


def _fresh_folder(parent: Path) -> Path:
    """A folder that does not exist yet, named after the time."""
    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    names = [stamp, *(f"{stamp}-{n}" for n in range(2, 100))]
    return next(parent / name for name in names if not (parent / name).exists())
