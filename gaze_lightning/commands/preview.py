"""``gaze-lightning preview``."""

from pathlib import Path
from typing import Literal

import torch
from jsonargparse import ArgumentParser
from pytorch_lightning import LightningDataModule

import data_modules
from callbacks.cam_cases import cases_of, choose_cases
from callbacks.gaze_panels import draw_gaze_page
from callbacks.panel_parts import save_png
from gaze_lightning.privacy import opaque_id


def preview(files: list[str], args: list[str]) -> None:
    """Draw some films of a source with their fixations and saliency maps, exactly as a task would receive them.

    Args:
        files: configuration files with a ``data`` section.
        args: ``--data.init_args...``, ``--cases``, ``--part``, ``--output``.
    """
    for name in data_modules.__all__:  # short names are found among the classes imported so far
        getattr(data_modules, name)
    parser = ArgumentParser(prog="gaze-lightning preview", description=preview.__doc__)
    parser.add_argument("--config", action="config")
    parser.add_subclass_arguments(LightningDataModule, "data", required=True)
    parser.add_argument("--cases", type=int, default=4, help="number of films")
    part = Literal["train", "validate", "test", "predict"]
    parser.add_argument("--part", type=part, default="test", help="of the split; predict takes unlabelled films too")
    parser.add_argument("--output", type=str, default="preview.png", help="the picture; it stays on this machine")
    head = [argument for file in files for argument in ("--config", file)]
    options = parser.instantiate_classes(parser.parse_args([*head, *args]))
    data: data_modules.GazeDataModule = options.data
    data.prepare_data()
    data.setup("fit" if options.part in ("train", "validate") else options.part)
    loader = getattr(data, {"train": "train", "validate": "val"}.get(options.part, options.part) + "_dataloader")()
    dataset = loader.dataset
    rows = choose_cases(dataset, options.cases, len(data.class_names), data.label_type)
    batch = data.on_after_batch_transfer(loader.collate_fn([dataset[row] for row in rows]), 0)
    empty = {
        "probability": torch.zeros(len(rows), max(1, len(data.class_names))),
        "cam": torch.zeros(len(rows), max(1, len(data.class_names)), 1, 1),
    }
    names = [f"case {row + 1}  {opaque_id(batch['sample_id'][i])}" for i, row in enumerate(rows)]
    cases = cases_of(batch, empty, data.label_type, names)
    size = f"{data.image_size[0]} x {data.image_size[1]}, map {data.saliency_size[0]} x {data.saliency_size[1]}"
    figure = draw_gaze_page(
        cases, data.class_names, note=f"{data.data_note}   ·   {options.part}   ·   network image {size}"
    )
    save_png(figure, Path(options.output))
    print(f"{len(rows)} films in {options.output}")  # noqa: T201
