"""The composition root: the only place that knows tasks, data modules and callbacks together."""

import logging
import os
import warnings
from pathlib import Path
from pydoc import locate
from typing import Any

import cv2
import torch
import yaml
from jsonargparse import ActionConfigFile, Namespace  # type: ignore[attr-defined]
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from pytorch_lightning.callbacks import ProgressBar
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from pytorch_lightning.plugins import CheckpointIO
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn

import callbacks
import data_modules
import gaze_lightning.tasks as tasks
from data_modules.errors import DataError
from gaze_lightning import slurm
from gaze_lightning.checkpoint_io import AtomicCheckpointIO
from gaze_lightning.errors import ConfigurationError
from gaze_lightning.guarded_wandb import GuardedWandbLogger
from gaze_lightning.launch import launcher
from gaze_lightning.processes import note_of_other_number, refuse_other_number
from gaze_lightning.run_folder import new_run_folder, take
from gaze_lightning.sync_batch_norm import SyncBatchNorm

__all__ = ["GazeCLI", "SaveResolvedConfig", "callbacks", "data_modules", "tasks"]

_SIZES = "staged_training.sizes"
_FROM_DATA = ("class_names", "label_type")  # the data tell them to the model; nobody gives them
_LOCAL_OR_GUARDED = (CSVLogger, TensorBoardLogger, GuardedWandbLogger)
_LOGGERS = ("pytorch_lightning.loggers.", "lightning.pytorch.loggers.")
_ABSTRACT = ".logger"  # the module of the class that users make their own from
_UNWANTED = ("litlogger", "litmodels", "TPU available")


def _keep(record: logging.LogRecord) -> bool:
    """False for Lightning's advertisements and its lines about hardware that nobody asked for."""
    return not any(word in record.getMessage() for word in _UNWANTED)


for _name in data_modules.__all__:  # short names on the command line are found among the classes imported so far
    getattr(data_modules, _name)
for _name in ("pytorch_lightning.utilities.rank_zero", "lightning.pytorch.utilities.rank_zero"):
    logging.getLogger(_name).addFilter(_keep)
# Lightning 2.6.6 calls what torch 2.14 has deprecated; nothing a user can change
warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\).*")


class LayeredConfigFile(ActionConfigFile):
    """A later file changes the sizes of the stages that it names; upstream would drop those of the others."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: str | None = None) -> None:
        """Called by jsonargparse for every ``--config``."""
        before = cfg.get(_SIZES)
        super().__call__(parser, cfg, values, option_string)  # type: ignore[no-untyped-call]
        if before and cfg.get(_SIZES):
            cfg[_SIZES] = {**before, **cfg[_SIZES]}


def _asks_for_several_processes(config: Namespace) -> bool:
    """Whether Lightning would choose ``ddp`` by itself."""
    devices = config.trainer.devices
    if config.trainer.num_nodes > 1:
        return True
    if str(devices) in ("auto", "-1"):  # all there are, of CPUs one
        return config.trainer.accelerator != "cpu" and torch.cuda.device_count() > 1
    if isinstance(devices, str) and "," in devices:
        devices = [number for number in devices.split(",") if number.strip()]
    return len(devices) > 1 if isinstance(devices, list) else str(devices) != "1"


def _leaves_parameters_unused(config: Namespace) -> bool:
    """Whether DDP must look for parameters that get no gradient: those of frozen parts and of unused terms."""
    if any(stage.freeze or stage.train for stage in config.staged_training.stages or ()):
        return True
    return bool(getattr(locate(config.model.class_path), "has_unused_parameters", False))


def _shares_batch_statistics(config: Namespace, cuda: bool) -> bool:
    """Whether batch norm must see the batches of all processes: the originals do, and only CUDA devices can."""
    if not (cuda and config.trainer.accelerator != "cpu" and "ddp" in str(config.trainer.strategy)):
        return False
    return bool(getattr(locate(config.model.class_path), "shares_batch_statistics", False))


def _refuse_sender(class_path: str) -> None:
    """Refuse a logger of Lightning's that sends elsewhere, or one made from it; a user's own may do as it likes."""
    logger = locate(class_path)
    if not isinstance(logger, type) or issubclass(logger, _LOCAL_OR_GUARDED):
        return
    modules = [base.__module__ for base in logger.__mro__]
    if any(module.startswith(_LOGGERS) and not module.endswith(_ABSTRACT) for module in modules):
        raise ConfigurationError(
            f"{class_path} sends what it is given, be it paths, ids or pictures, to a service. There are CSVLogger, "
            "TensorBoardLogger, and for W&B gaze_lightning.guarded_wandb.GuardedWandbLogger (LOGGER=csv, tensorboard, "
            "wandb)."
        )


class SaveResolvedConfig(SaveConfigCallback):
    """Write the resolved configuration to ``config.yaml`` in the run folder (never over an existing one)."""

    def __init__(self, parser: LightningArgumentParser, config: Namespace, **kwargs: Any) -> None:
        super().__init__(parser, config, save_to_log_dir=False, **kwargs)

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Called by Lightning on rank zero before the first epoch."""
        # what a data module recognised in its folder: a test of this run must not look again and find something else
        for name, value in getattr(trainer.datamodule, "resolved", {}).items():  # type: ignore[attr-defined]
            self.config.data.init_args[name] = value
        for logger in trainer.loggers:
            if isinstance(logger, GuardedWandbLogger):
                logger.log_configuration(yaml.safe_load(self.parser.dump(self.config, skip_none=False)))
        path = Path(trainer.default_root_dir) / "config.yaml"
        if path.exists():  # a resumed run: it stays what it was
            return
        self.parser.save(self.config, path, skip_none=False, overwrite=False, multifile=False)


class GazeCLI(LightningCLI):
    """LightningCLI in subclass mode, with a folder per run and the callbacks that no experiment may lose.

    Callbacks in ``trainer.callbacks`` of a later configuration file replace those of an earlier one, therefore the ones
    below have sections of their own (``checkpoint``, ``staged_training``, ``cam_logger``, ``test_report``, ...).

    Args:
        args: command-line arguments that start with the subcommand.
        resumes: go on in the folder of an interrupted run, which ``--run_dir`` names.
    """

    def __init__(self, args: list[str], resumes: bool = False) -> None:
        self.resumes = resumes
        self._asked = args[0] if args else ""
        super().__init__(
            model_class=LightningModule,
            datamodule_class=LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=SaveResolvedConfig,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            parser_kwargs={"prog": "gaze-lightning", "allow_abbrev": False},
            args=args,
        )

    run_folder: Path
    _placement: dict[str, int]
    """Devices and nodes where SLURM says how many; not kept in the configuration, for another job may have others."""
    _learnt: list[str] | None = None
    """Classes of the checkpoint that was named."""

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """Like upstream, with configuration files that add up."""
        parser = LightningArgumentParser(**kwargs)
        parser.add_argument("-c", "--config", action=LayeredConfigFile, help="configuration file, may be repeated")
        return parser

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """The one that was asked for, if it is one: each takes a quarter of a second to describe."""
        every = LightningCLI.subcommands()
        return {self._asked: every[self._asked]} if self._asked in every else every

    def _add_subcommands(self, parser: LightningArgumentParser, **kwargs: Any) -> None:
        super()._add_subcommands(parser, **kwargs)
        # TestReport prints a table of its own, PredictionWriter writes as it goes
        for subcommand, default in (("test", {"verbose": False}), ("predict", {"return_predictions": False})):
            if subcommand in self._subcommand_parsers:
                self._subcommand_parsers[subcommand].set_defaults(default)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the sections of the forced callbacks and what the data tell the task."""
        parser.add_argument("--experiment", type=str, default="unnamed", help="name of the experiment")
        parser.add_argument("--runs", type=str, default="runs", help="folder that holds all runs")
        parser.add_argument(
            "--run_dir", type=str | None, default=None, help="folder of this run instead of a fresh one"
        )
        parser.add_argument("--threads", type=int, default=0, help="torch threads; 0 leaves torch's default")
        for section, callback in (
            ("checkpoint", callbacks.StagedCheckpoint),
            ("staged_training", callbacks.StagedTraining),
            ("epoch_seed", callbacks.EpochSeed),
            ("rescaled_schedule", callbacks.RescaledSchedule),
            ("acceleration", callbacks.Acceleration),
            ("relations", callbacks.GazeRelations),
            ("cam_logger", callbacks.CAMLogger),
            ("test_report", callbacks.TestReport),
            ("global_map_logger", callbacks.GlobalMapLogger),
            ("prediction_writer", callbacks.PredictionWriter),
            ("throughput", callbacks.Throughput),
            ("provenance", callbacks.Provenance),
            ("preemption", callbacks.Preemption),
        ):
            parser.add_lightning_class_args(callback, section)
        parser.link_arguments("data.class_names", "model.init_args.class_names", apply_on="instantiate")
        parser.link_arguments("data.label_type", "model.init_args.label_type", apply_on="instantiate")
        parser.link_arguments("seed_everything", "data.init_args.seed")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the given arguments; unlike upstream without a warning that there is a ``sys.argv`` as well."""
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        """Keep the command line's values: upstream lets those of the checkpoint win without a word."""
        config = self.config.get(self.config.get("subcommand"))
        path = config and config.get("ckpt_path")
        if not path or not Path(path).is_file():
            return
        stored = torch.load(path, weights_only=True, map_location="cpu").get("hyper_parameters", {})
        self._learnt = stored.get("class_names")
        given = config.model.init_args
        differences = [
            f"  {name}: {given[name]!r} here, {value!r} in the checkpoint"
            for name, value in sorted(stored.items())
            if name in given
            and name not in _FROM_DATA
            and not name.startswith("_")
            and given[name] is not None
            and given[name] != value
        ]
        if differences:
            rank_zero_warn(
                "configuration and checkpoint differ; the configuration (command line) wins:\n" + "\n".join(differences)
            )

    def before_instantiate_classes(self) -> None:
        """Choose the run folder and let everything write into it."""
        config = self.config[self.config.subcommand]
        if config.threads:
            torch.set_num_threads(config.threads)
            cv2.setNumThreads(config.threads)
        self._placement = {}
        if config.trainer.devices == slurm.DEVICES:
            gpus = None if config.trainer.accelerator == "cpu" else torch.cuda.device_count()
            self._placement = slurm.devices_and_nodes(gpus)
            if gpus is not None and gpus > self._placement["devices"]:
                rank_zero_warn(
                    f"this task sees {gpus} GPUs and SLURM runs {self._placement['devices']} task(s) per node: the "
                    f"other GPUs do nothing. One task per GPU: --ntasks-per-node={gpus}"
                )
        self.run_folder = self._choose_run_folder(config)
        if config.trainer.accelerator == "auto" and not torch.cuda.is_available():
            config.trainer.accelerator = "cpu"  # Apple's MPS has no float64, which maps and metrics are computed in
        if config.trainer.strategy == "auto" and _asks_for_several_processes(config):
            config.trainer.strategy = "ddp"
        strategy = config.trainer.strategy
        if _leaves_parameters_unused(config):
            # what a stage freezes gets no gradient; frozen before DDP wraps the model, ranks would drift apart (20340)
            if strategy == "ddp":
                config.trainer.strategy = "ddp_find_unused_parameters_true"
            elif isinstance(strategy, Namespace) and "find_unused_parameters" in (strategy.get("init_args") or {}):
                strategy.init_args.find_unused_parameters = True  # DDPStrategy with options, e.g. another time-out
        config.trainer.default_root_dir = str(self.run_folder)
        if self.config.subcommand == "fit":
            config.checkpoint.dirpath = str(self.run_folder / "checkpoints")
        loggers = config.trainer.logger if isinstance(config.trainer.logger, list) else [config.trainer.logger]
        for logger in (logger for logger in loggers if isinstance(logger, Namespace)):
            _refuse_sender(logger.class_path)
            if "save_dir" in logger.get("init_args", ()):
                logger.init_args.save_dir = str(self.run_folder)
            if locate(logger.class_path) is GuardedWandbLogger:
                given = logger.init_args
                GuardedWandbLogger.refuse_unusable(given.log_images_to_cloud, given.acknowledgement)

    def _choose_run_folder(self, config: Namespace) -> Path:
        """The same folder in all processes; that of another run is refused by all of them.

        None of them gets here late: rank zero writes ``config.yaml`` when all have found each other.
        """
        if config.run_dir is None:
            folder = new_run_folder(Path(config.runs) / config.experiment, config.trainer.num_nodes)
        else:
            folder = take(Path(config.run_dir))
            config.run_dir = None  # a run of its saved configuration gets a folder of its own
        if (folder / "config.yaml").exists() and not self.resumes:
            raise DataError(
                f"{folder} holds a run already, and runs are never overwritten: choose another --run_dir, or none for "
                f"a fresh folder; to go on with it: gaze-lightning resume --run {folder}"
            )
        return folder

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer, with a progress bar that knows stages unless there is to be none or another one."""
        config = self.config_init[self.config_init.subcommand].trainer
        own = any(isinstance(callback, ProgressBar) for callback in config.callbacks or ())
        if config.enable_progress_bar is not False and not config.barebones and not own:
            self.trainer_defaults = {**self.trainer_defaults, "callbacks": [callbacks.StageProgressBar()]}
        plugins = config.plugins if isinstance(config.plugins, list) else [config.plugins]
        plugins = [plugin for plugin in plugins if plugin is not None]
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            plugins.append(AtomicCheckpointIO())
        if _shares_batch_statistics(self.config[self.config.subcommand], torch.cuda.is_available()):
            plugins.append(SyncBatchNorm())
        if launcher() == "srun" and not any(isinstance(plugin, ClusterEnvironment) for plugin in plugins):
            # upstream's own requeue writes a checkpoint in mid-epoch, which every later start silently prefers
            plugins.append(SLURMEnvironment(auto_requeue=False))
        return super().instantiate_trainer(**kwargs, **self._placement, plugins=plugins)

    def after_instantiate_classes(self) -> None:
        """Refuse a checkpoint of other classes than those of the data; say where the run lives.

        Raises:
            ConfigurationError: if the launcher has started another number of processes than the trainer takes.
            DataError: if the classes differ: a number would be reported under another class's name.
        """
        refuse_other_number(self.trainer.num_devices, self.trainer.num_nodes)
        found = list(getattr(self.datamodule, "class_names", []))
        if self._learnt is not None and found != list(self._learnt):
            raise DataError(
                f"The checkpoint has learnt the classes {', '.join(self._learnt)}; these data have "
                f"{', '.join(found) or 'none'}. Choose the data, or the classes of the data, that it was trained on."
            )
        self._prepare_loggers()
        rank_zero_info(f"Run folder: {os.path.relpath(self.run_folder)}")
        if self.resumes and (
            note := note_of_other_number(self.run_folder, self.config[self.config.subcommand], self.trainer.world_size)
        ):
            rank_zero_info(note)

    def _prepare_loggers(self) -> None:
        """Tell W&B's guard what the run is, before anything is created there."""
        for logger in self.trainer.loggers:
            if isinstance(logger, GuardedWandbLogger):
                logger.prepare(
                    experiment=self.config[self.config.subcommand].experiment,
                    job_type="train" if self.config.subcommand == "fit" else self.config.subcommand,
                    open_data=getattr(self.datamodule, "open_data", False) is True,
                    source=str(getattr(self.datamodule, "data_note", type(self.datamodule).__name__)),
                )
