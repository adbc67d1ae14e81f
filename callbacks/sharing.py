"""Which pictures may go to W&B, and how it is remembered that somebody allowed it."""

from datetime import UTC, datetime
from pathlib import Path

from pytorch_lightning import Trainer
from pytorch_lightning.loggers import WandbLogger

from callbacks.gathering import data_note


def share_pictures(
    trainer: Trainer, key: str, pages: list[Path], *, what: str, owner: str, acknowledged: bool
) -> str | None:
    """Send pictures to the W&B loggers of a trainer, if there are any and the pictures may be shown there.

    They may where the data module declares its images open (``open_data``), or where the user acknowledges it, which
    is recorded in the run folder (``cloud_upload_acknowledged.txt``).

    Args:
        trainer: whose loggers and data module are asked.
        key: name of the pictures in W&B.
        pages: PNG files.
        what: what they are called, in the plural, with a capital letter.
        owner: the callback whose option ``upload_to_cloud`` it is.
        acknowledged: that option.

    Returns:
        For the user: why the pictures stay in the run folder; None where they were sent, or nobody would get them.
    """
    loggers = [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]
    if not loggers:
        return None
    if getattr(getattr(trainer, "datamodule", None), "open_data", False) is not True:
        if not acknowledged:
            return (
                f"{what} stay in the run folder and are not sent to W&B: the images of this source are not"
                f" declared open. {owner}'s upload_to_cloud: true acknowledges that they may be uploaded."
            )
        _record_acknowledgement(Path(trainer.default_root_dir), owner, what, data_note(trainer))
    for logger in loggers:
        logger.log_image(key=key, images=[str(page) for page in pages])
    return None


def _record_acknowledgement(root: Path, owner: str, what: str, source: str) -> None:
    """Add a line, once for each callback."""
    path = root / "cloud_upload_acknowledged.txt"
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    statement = f"{owner}(upload_to_cloud=True) acknowledged"
    if statement not in before:
        when = datetime.now(UTC).isoformat(timespec="seconds")
        path.write_text(f"{before}{when}: {statement} that {what} of {source} are sent to W&B.\n", encoding="utf-8")
