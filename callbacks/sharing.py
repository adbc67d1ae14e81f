"""How callbacks hand their pictures to online loggers."""

from collections.abc import Sequence
from pathlib import Path

from pytorch_lightning import Trainer

from gaze_lightning.protocols import SharesPictures


def share_pictures(trainer: Trainer, key: str, pages: Sequence[Path], what: str) -> None:
    """Offer pictures to the loggers that may send them elsewhere; those decide whether the source allows it.

    Args:
        trainer: whose loggers are asked.
        key: name of the pictures there.
        pages: PNG files.
        what: what they are called, in the plural, with a capital letter.
    """
    for logger in trainer.loggers:
        if isinstance(logger, SharesPictures):
            logger.share_pictures(key, pages, what)
