"""W&B's package, which is an optional one."""

import os
from types import ModuleType

from gaze_lightning.errors import ConfigurationError


def import_wandb() -> ModuleType:
    """The package, without its error reports: they hold paths, and go to W&B before anything is logged.

    ``WANDB_ERROR_REPORTING`` stays what it is if it is set.

    Raises:
        ConfigurationError: it is not installed.
    """
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    try:
        import wandb
    except ModuleNotFoundError as error:
        raise ConfigurationError("this needs the package wandb: pip install 'gaze-lightning[wandb]'") from error
    return wandb
