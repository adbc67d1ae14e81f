"""Weights & Biases, behind a guard: what leaves the machine is decided here and nowhere else."""

import json
import math
import os
import re
import secrets
from argparse import Namespace
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NoReturn

from lightning_fabric.loggers.logger import rank_zero_experiment
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_info, rank_zero_only

from gaze_lightning.errors import ConfigurationError
from gaze_lightning.evaluation.files import replacing
from gaze_lightning.guarded_wandb_run import PERMISSION, guarded_run, refuse, refuse_defaults, refuse_pictures

_STATE = "wandb_run.json"
_RECORD = "cloud_upload_acknowledged.txt"
_STAMP = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}")


class GuardedWandbLogger(WandbLogger):
    """Sends scalars and the filtered configuration to W&B, pictures only with permission, and nothing else.

    A run folder has one W&B run, also after ``resume`` and a requeue: its id is that of the sweep agent
    (``WANDB_RUN_ID``) or else made of experiment and run folder, and is kept in ``wandb_run.json`` there. Before the
    first use `prepare` tells what the run is; without it the images of the source count as not open.

    Pictures are sent where the source is declared open, or where ``log_images_to_cloud`` and ``acknowledgement`` are
    both given; the statement is then added to ``cloud_upload_acknowledged.txt`` in the run folder. Tables, texts,
    files, artifacts, code and histograms are refused for every source, also through ``logger.experiment``.

    ``best/<monitor>`` is the best value so far of what selects the run's checkpoint; its last value stands in W&B's
    summary. Only the process of rank zero talks to W&B.

    Args:
        project: W&B project; None: ``WANDB_PROJECT``, or else ``gaze_lightning``.
        entity: user or team; None: ``WANDB_ENTITY``, or else W&B's default.
        save_dir: folder of the run; W&B's own files lie in ``wandb`` below it.
        tags: shown beside the run.
        best_of: further values whose best so far is sent as ``best/<name>``, and which end of theirs is the better
            one: for trainings whose checkpoint is not selected by a value.
        log_images_to_cloud: send pictures of a source that is not declared open.
        acknowledgement: who allows that, and why; kept on this machine, beside the run.

    Raises:
        ConfigurationError: one of the last two without the other, W&B is not installed, or it would send files of
            settings (`refuse_defaults`).
    """

    def __init__(
        self,
        project: str | None = None,
        entity: str | None = None,
        save_dir: str = ".",
        tags: list[str] | None = None,
        best_of: dict[str, Literal["min", "max"]] | None = None,
        log_images_to_cloud: bool = False,
        acknowledgement: str | None = None,
    ) -> None:
        self.refuse_unusable(log_images_to_cloud, acknowledgement)
        project = project or os.environ.get("WANDB_PROJECT") or "gaze_lightning"
        super().__init__(project=project, save_dir=save_dir, entity=entity, tags=tags)
        self._wandb_init.pop("anonymous", None)  # W&B no longer has it, and warns of it in every run
        self.acknowledgement = (acknowledgement or "").strip()
        self.best_of = dict(best_of or {})
        self.log_images_to_cloud = log_images_to_cloud
        self._experiment_name = "unnamed"
        self._open, self._source = False, "data of an unknown source"
        self._step = 0
        self._sent: dict[str, tuple[int, float]] = {}
        self._told: set[str] = set()

    @staticmethod
    def refuse_unusable(log_images_to_cloud: bool, acknowledgement: str | None) -> None:
        """What the constructor refuses; by itself for the command line, whose parser hides the errors of constructors.

        Raises:
            ConfigurationError: one without the other, W&B is not installed, or it would send files of settings.
        """
        if log_images_to_cloud != bool((acknowledgement or "").strip()):
            raise ConfigurationError(
                f"Sending pictures to W&B needs {PERMISSION}; "
                + ("acknowledgement is missing." if log_images_to_cloud else "log_images_to_cloud is not true.")
            )
        if find_spec("wandb") is None:
            raise ConfigurationError(
                "LOGGER=wandb needs the package wandb: pip install 'gaze-lightning[wandb]', or choose LOGGER=csv."
            )
        refuse_defaults()

    def prepare(self, *, experiment: str, job_type: str, open_data: bool, source: str) -> None:
        """Say what the run is.

        Args:
            experiment: name of the experiment, under which W&B groups its runs.
            job_type: what is done: ``train``, ``test``, ...
            open_data: the images of the source may leave the machine.
            source: what the data are, for the record of an acknowledgement.
        """
        self._experiment_name = experiment
        self._wandb_init |= {"group": experiment, "job_type": job_type, "name": self._folder.name}
        self._name = self._folder.name
        self._open, self._source = open_data, source

    @property
    def pictures_allowed(self) -> bool:
        """Whether pictures are sent."""
        return self._open or self.log_images_to_cloud

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The `guarded_wandb_run.GuardedRun`, which is opened here.

        Raises:
            ConfigurationError: there is no account, W&B cannot be reached, or the folder belongs to another W&B run.
        """
        if self._experiment is None:
            self._experiment = self._opened()
        return self._experiment

    @rank_zero_only
    def log_configuration(self, configuration: Mapping[str, Any]) -> None:
        """Send what of a resolved configuration may leave, under the names of the command line.

        Values that a sweep has set stay as they are.
        """
        self.experiment.update_config(configuration)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """Called by Lightning with what a task has saved as hyper-parameters; filtered like the configuration."""
        self.experiment.update_config(vars(params) if isinstance(params, Namespace) else params)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Send scalars, and the best so far of those in ``best_of``.

        Raises:
            ConfigurationError: something is not a scalar.
        """
        self._step = self._step if step is None else step
        row = {**metrics}
        for name, mode in self.best_of.items():
            if name in metrics:
                row |= self._best_so_far(name, float(metrics[name]), mode)
        self.experiment.log({**row, "trainer/global_step": self._step})

    @rank_zero_only
    def after_save_checkpoint(self, checkpoint_callback: ModelCheckpoint) -> None:
        """Called by Lightning after every save: send the best value so far, once per step."""
        monitor, score = checkpoint_callback.monitor, checkpoint_callback.best_model_score
        counts = getattr(checkpoint_callback, "selects_result", True) and monitor not in self.best_of
        if monitor is None or score is None or not counts or not math.isfinite(score):
            return
        if self._sent.get(monitor) != (said := (self._step, float(score))):
            self._sent[monitor] = said
            self.experiment.log({f"best/{monitor}": float(score), "trainer/global_step": self._step})

    @rank_zero_only
    def share_pictures(self, key: str, pages: Sequence[Path], what: str) -> None:
        """Send pictures if they are allowed, or else say once that they stay.

        Args:
            key: their name in W&B.
            pages: image files.
            what: what they are called, in the plural, with a capital letter.
        """
        if self.pictures_allowed:
            self.log_image(key, [str(page) for page in pages])
        elif what not in self._told:
            self._told.add(what)
            rank_zero_info(
                f"{what} stay in the run folder and are not sent to W&B: the images of this source are not declared "
                f"open. To send them all the same: {PERMISSION}."
            )

    @rank_zero_only
    def log_image(self, key: str, images: list[Any], step: int | None = None, **kwargs: Any) -> None:
        """Send pictures.

        Raises:
            ConfigurationError: they are not allowed.
        """
        if not self.pictures_allowed:
            refuse_pictures(key)
        super().log_image(key, images, step, **kwargs)

    @rank_zero_only
    def log_table(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused; so are the next ones."""
        refuse("a table or text")

    log_text = log_table

    @rank_zero_only
    def log_audio(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused."""
        refuse("audio or video")

    log_video = log_audio

    @rank_zero_only
    def watch(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: histograms of weights and gradients are not scalars."""
        refuse("histograms")

    def use_artifact(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused."""
        refuse("artifacts")

    @property
    def _folder(self) -> Path:
        return Path(self.save_dir or ".")

    def _opened(self) -> Any:
        state, run_id = self._state(), self._run_id()
        if "WANDB_SWEEP_ID" in os.environ:  # the agent has set these, and W&B warns of any other
            self._wandb_init |= {"project": None, "entity": None, "id": None}
        else:
            where = {name: state[name] for name in ("project", "entity") if state.get(name)}  # a resumed trial's
            self._wandb_init |= {"id": run_id, **where}
        run = guarded_run(self._wandb_init, self.pictures_allowed)
        self._id = run.id
        self._save_state(state | {"id": run.id, "project": run.project, "entity": run.entity})
        self._record_acknowledgement()
        return run

    def _best_so_far(self, name: str, value: float, mode: str) -> dict[str, float]:
        state = self._state()
        best = state.get("best", {}).get(name)
        if math.isfinite(value) and (best is None or (value > best if mode == "max" else value < best)):
            best = value
            self._save_state(state | {"best": state.get("best", {}) | {name: best}})
        return {} if best is None else {f"best/{name}": best}

    def _run_id(self) -> str:
        """The id that the folder has, or gets now."""
        kept, given = self._state().get("id"), os.environ.get("WANDB_RUN_ID")
        if kept and given and kept != given:
            raise ConfigurationError(
                f"This run folder belongs to the W&B run {kept}, but WANDB_RUN_ID is {given}: unset it to go on with "
                "the run, or start a run in a fresh folder."
            )
        name = self._folder.name
        own = name if _STAMP.fullmatch(name) else f"{name}-{secrets.token_hex(2)}"  # others may have the same name
        return kept or given or re.sub(r"[^\w-]", "-", f"{self._experiment_name[:43]}-{own[-20:]}", flags=re.ASCII)

    def _state(self) -> dict[str, Any]:
        path = self._folder / _STATE
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}

    def _save_state(self, state: dict[str, Any]) -> None:
        with replacing(self._folder / _STATE) as temporary:
            temporary.write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")

    def _record_acknowledgement(self) -> None:
        """Add a line, once for each statement and source."""
        if self._open or not self.log_images_to_cloud:
            return
        path = self._folder / _RECORD
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        statement = f"pictures of {self._source} are sent to W&B. Acknowledgement: {self.acknowledgement}"
        if statement not in before:
            when = datetime.now(UTC).isoformat(timespec="seconds")
            path.write_text(f"{before}{when}: {statement}\n", encoding="utf-8")
