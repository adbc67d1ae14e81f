"""A run of W&B that takes only scalars, with permission pictures, and the filtered configuration."""

import os
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any, NoReturn

from torch import Tensor

from gaze_lightning.errors import ConfigurationError
from gaze_lightning.shareable_configuration import looks_like_id, shareable_configuration
from gaze_lightning.wandb_package import import_wandb

PERMISSION = (
    "log_images_to_cloud: true and acknowledgement: '<who allows it, and why>' (options of GuardedWandbLogger, both "
    "needed)"
)
"""What allows pictures of a source that is not open."""

# what W&B would otherwise take along: the console, code, git, command line, host, user, hardware and its load, packages
_PRIVATE = {
    "console": "off",
    "save_code": False,
    "disable_code": True,
    "disable_git": True,
    "disable_job_creation": True,
    "label_disable": True,
    "program": "gaze-lightning",
    "host": "",
    "docker": "",
    "x_disable_meta": True,
    "x_disable_machine_info": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
    "x_transaction_log_flush_interval": 1.0,  # seconds; a killed run goes on after its last checkpoint, not before
    "reinit": "create_new",  # leaves no global run, through which the guard could be walked around
    # what the environment or a settings file of W&B's could add
    "run_notes": "",
    "run_tags": (),  # those of the logger replace it
    "sagemaker_disable": True,
    "launch": False,
}
_DEFAULTS = Path("config-defaults.yaml")
_PATHS = "WANDB_CONFIG_PATHS"


class GuardedRun:
    """What may be used of a run of W&B; anything else of it, to read or to set, raises `ConfigurationError`.

    Args:
        run: of W&B.
        pictures_allowed: whether `log` takes pictures.
    """

    def __init__(self, run: Any, pictures_allowed: bool) -> None:
        self._run, self._pictures_allowed = run, pictures_allowed

    @property
    def id(self) -> str:
        """Id of the run."""
        return str(self._run.id)

    @property
    def name(self) -> str | None:
        """Name under which W&B shows the run."""
        return self._run.name  # type: ignore[no-any-return]

    @property
    def project(self) -> str | None:
        """Project of the run."""
        return self._run.project  # type: ignore[no-any-return]

    @property
    def entity(self) -> str | None:
        """User or team of the run."""
        return self._run.entity  # type: ignore[no-any-return]

    def log(self, data: Mapping[str, Any], step: int | None = None, commit: bool | None = None) -> None:
        """Send scalars and, with permission, pictures.

        Raises:
            ConfigurationError: something else, or a name that looks like an id.
        """
        allowed = {key: _allowed(key, value, self._pictures_allowed) for key, value in data.items()}
        self._run.log(allowed, step=step, commit=commit)

    def update_config(self, configuration: Mapping[str, Any]) -> None:
        """Send what of a configuration may leave; values that a sweep has set stay as they are."""
        values = shareable_configuration(configuration)
        if "WANDB_SWEEP_ID" in os.environ:
            values = {name: value for name, value in values.items() if name not in self._run.config}
        self._run.config.update(values, allow_val_change=True)

    def finish(self, exit_code: int | None = None) -> None:
        """End the run."""
        self._run.finish(exit_code)

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):  # copy and pickle ask for such
            raise AttributeError(name)
        refuse(f"what {name} would send")

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_"):
            refuse(f"{name} of the run")
        super().__setattr__(name, value)


def guarded_run(options: Mapping[str, Any], pictures_allowed: bool) -> GuardedRun:
    """Open a run of W&B.

    Args:
        options: of ``wandb.init``.
        pictures_allowed: whether ``log`` takes pictures.

    Raises:
        ConfigurationError: there is no account, W&B cannot be reached, or it would add settings of its own.
    """
    refuse_defaults()
    wandb = import_wandb()
    try:
        run = wandb.init(**options, settings=wandb.Settings(**_PRIVATE))
    except wandb.errors.Error as error:
        raise ConfigurationError(
            f"W&B cannot be used: {error}\nWithout an account or a network: WANDB_MODE=offline, and later wandb sync; "
            "or LOGGER=csv. With an account: wandb login, once per machine."
        ) from error
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    return GuardedRun(run, pictures_allowed)


def refuse_defaults() -> None:
    """Refuse files of which W&B would send the content, unfiltered, as configuration; it has no setting against them.

    Raises:
        ConfigurationError: there is one, or the variable that names one is set.
    """
    if _DEFAULTS.exists():
        raise ConfigurationError(
            f"W&B would send the content of {_DEFAULTS.absolute()} with every run: rename it, or start the command in "
            "another folder."
        )
    if os.environ.get(_PATHS):
        raise ConfigurationError(f"W&B would send the content of the files that {_PATHS} names: unset it.")


def refuse(what: str, why: str = "only scalars and, with permission, pictures leave this machine") -> NoReturn:
    """Raise the error of something that must not leave."""
    raise ConfigurationError(f"Not sent to W&B: {what}; {why}.")


def refuse_pictures(key: str) -> NoReturn:
    """Raise the error of pictures without permission."""
    refuse(f"the pictures {key}", f"the images of this source are not declared open. What allows it: {PERMISSION}")


def _allowed(key: str, value: Any, pictures_allowed: bool) -> Any:
    """The value as W&B gets it."""
    import wandb

    if looks_like_id(key):
        refuse(f"{key}, a name that looks like an id")
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, Real):
        return value
    if not all(isinstance(one, wandb.Image) for one in (value if isinstance(value, list) and value else [value])):
        refuse(f"{key}, a {type(value).__name__}")
    if not pictures_allowed:
        refuse_pictures(key)
    return value
