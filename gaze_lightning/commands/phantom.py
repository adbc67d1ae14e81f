"""``gaze-lightning phantom``."""

from jsonargparse import ArgumentParser

from data_modules.phantom import PhantomKnobs, write_phantom


def phantom(args: list[str]) -> None:
    """Write the phantom data set to a folder of the user's choice.

    Args:
        args: command-line arguments: ``--root`` and the knobs.
    """
    parser = ArgumentParser(
        prog="gaze-lightning phantom",
        description="Write the synthetic data set (drawn chest films, simulated reading gaze) in the on-disk formats "
        "of MIMIC-CXR-JPG, EyeGaze (EGD-CXR) and REFLACX. A test bench, not clinical evidence.",
    )
    parser.add_argument("--root", type=str, required=True, help="folder to write; made if absent")
    parser.add_argument("--workers", type=int | None, default=None, help="processes (default: one per core)")
    parser.add_class_arguments(PhantomKnobs, "knobs")
    options = parser.instantiate_classes(parser.parse_args(args))
    write_phantom(options.root, options.knobs, workers=options.workers)
