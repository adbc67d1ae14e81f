"""A run of W&B in which only scalars and, with permission, pictures can be logged."""

from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any, NoReturn

from torch import Tensor

from gaze_lightning.errors import ConfigurationError
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
}
_REFUSED = (
    *("save", "alert", "watch", "log_code", "log_artifact", "upsert_artifact", "finish_artifact", "link_artifact"),
    *("use_artifact", "log_model", "use_model", "link_model", "write_logs"),
)


def guarded_run(options: Mapping[str, Any], pictures_allowed: bool) -> Any:
    """Open a run of W&B.

    Args:
        options: of ``wandb.init``.
        pictures_allowed: whether ``log`` takes pictures.

    Returns:
        The run. Its ``log`` and what would send files raise `ConfigurationError` where something must not leave.

    Raises:
        ConfigurationError: there is no account, or W&B cannot be reached.
    """
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
    send = run.log

    def log(data: Mapping[str, Any], *args: Any, **kwargs: Any) -> None:
        send({key: _allowed(key, value, pictures_allowed) for key, value in data.items()}, *args, **kwargs)

    run.log = log
    for name in _REFUSED:
        if hasattr(run, name):
            setattr(run, name, _refusal(name))
    return run


def refuse(what: str, why: str = "only scalars and, with permission, pictures leave this machine") -> NoReturn:
    """Raise the error of something that must not leave."""
    raise ConfigurationError(f"Not sent to W&B: {what}; {why}.")


def refuse_pictures(key: str) -> NoReturn:
    """Raise the error of pictures without permission."""
    refuse(f"the pictures {key}", f"the images of this source are not declared open. What allows it: {PERMISSION}")


def _allowed(key: str, value: Any, pictures_allowed: bool) -> Any:
    """The value as W&B gets it."""
    import wandb

    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, Real):
        return value
    if not all(isinstance(one, wandb.Image) for one in (value if isinstance(value, list) and value else [value])):
        refuse(f"{key}, a {type(value).__name__}")
    if not pictures_allowed:
        refuse_pictures(key)
    return value


def _refusal(name: str) -> Callable[..., NoReturn]:
    def refused(*args: Any, **kwargs: Any) -> NoReturn:
        refuse(f"what {name} would send")

    return refused
