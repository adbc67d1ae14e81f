"""``gaze-lightning preview``."""

from pathlib import Path
from typing import Literal

import torch

import data_modules
from callbacks.cam_cases import cases_of, choose_cases
from callbacks.gaze_panels import draw_gaze_page
from callbacks.panel_parts import save_png
from gaze_lightning.commands.data_options import data_parser, data_sections
from gaze_lightning.commands.user_errors import user_errors_end_the_command
from gaze_lightning.privacy import opaque_id


def preview(files: list[str], args: list[str]) -> None:
    """Draw some films of a source with their fixations and saliency maps, exactly as a task would receive them.

    Args:
        files: configuration files; their ``data`` sections count.
        args: ``--data.init_args...``, ``--cases``, ``--part``, ``--output``.
    """
    parser = data_parser("preview", preview.__doc__)
    parser.add_argument("--cases", type=int, default=4, help="number of films")
    part = Literal["train", "validate", "test", "predict"]
    parser.add_argument("--part", type=part, default="test", help="of the split; predict takes unlabelled films too")
    parser.add_argument("--output", type=str, default="preview.png", help="the picture; it stays on this machine")
    options = parser.parse_args([*data_sections(files), *args])
    if options.cases < 1:
        parser.error(f"--cases must be 1 or more, got {options.cases}")
    with user_errors_end_the_command():
        _draw(parser.instantiate_classes(options).data, options.cases, options.part, Path(options.output))


def _draw(data: data_modules.GazeDataModule, cases: int, part: str, output: Path) -> None:
    data.prepare_data()
    data.setup("fit" if part in ("train", "validate") else part)
    loader = getattr(data, {"train": "train", "validate": "val"}.get(part, part) + "_dataloader")()
    dataset = loader.dataset
    rows = choose_cases(dataset, cases, len(data.class_names), data.label_type)
    batch = data.on_after_batch_transfer(loader.collate_fn([dataset[row] for row in rows]), 0)
    empty = {
        "probability": torch.zeros(len(rows), max(1, len(data.class_names))),
        "cam": torch.zeros(len(rows), max(1, len(data.class_names)), 1, 1),
    }
    names = [f"case {row + 1}  {opaque_id(batch['sample_id'][i])}" for i, row in enumerate(rows)]
    pages = cases_of(batch, empty, data.label_type, names)
    size = f"{data.image_size[0]} x {data.image_size[1]}, map {data.saliency_size[0]} x {data.saliency_size[1]}"
    figure = draw_gaze_page(pages, data.class_names, note=f"{data.data_note}   ·   {part}   ·   network image {size}")
    save_png(figure, output)
    print(f"{len(rows)} films in {output}")  # noqa: T201
