"""The command line, before anything heavy is imported."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import yaml

from gaze_lightning import __version__
from gaze_lightning.commands.user_errors import let_the_first_speak
from gaze_lightning.errors import ConfigurationError
from gaze_lightning.launch import is_first_process, slurm_run_name
from gaze_lightning.layers import ROOT, Layers, UnknownNameError, available, description, resolve
from gaze_lightning.run_folder import checkpoint_of, new_run_folder
from gaze_lightning.slurm import job_id, restarts

_USAGE = """\
usage: gaze-lightning COMMAND [options]

  train      fit, then test the best checkpoint and print the table of results
  fit        train                             (options of Lightning's CLI: fit --help)
  resume     go on with an interrupted run        (resume --run runs/<experiment>/<run id>)
  validate   evaluate on the validation split
  test       evaluate on the test split        (test --run runs/<experiment>/<run id>)
  predict    probabilities and CAM overlays    (predict --run runs/... --images folder/)
  compare    finished runs side by side        (compare 'plain=runs/baseline_resnet50/*' 'gaze=runs/ggcam_resnet50/*')
  maps       are the global maps of repeated runs the same?    (maps 'anchors=runs/global_attention_resnet18/*' ...)
  check-data read everything once and report what is wrong (check-data --config data/egd_cxr ...)
  cache      build the cache of resized films beforehand    (cache --config data/mimic_cxr ...)
  relations  find the pairs of films that were looked at alike   (relations --config mcgip_moco_resnet50 --tau 0.7)
  preview    draw some films of a source with fixations and maps (preview --config data/reflacx ...)
  phantom    write the synthetic data set      (phantom --help)
  sweep      create a W&B sweep of an experiment   (sweep ggcam_resnet50 --config data/reflacx; docs/sweeps.md)
  agent      run trials of a sweep on this machine (agent ENTITY/PROJECT/ID --count 10 --data.init_args.root=/data)
  slurm      print a batch script for SLURM       (slurm > train.sbatch, slurm agent > agent.sbatch)
  list       the experiments and the layers

  --config NAME        an experiment, a layer (data/reflacx, trainer/gpu, logger/wandb, setting/paper) or a file
  gaze-lightning train --config ggcam_resnet50
  gaze-lightning train --config ggcam_resnet50 --config data/reflacx --data.init_args.root /data
"""
LINKED = {
    "model.class_names": "the data tell it to the model; choose the classes there (data.init_args....)",
    "model.label_type": "the data tell it to the model",
    "data.seed": "one seed rules the run; set --seed_everything",
}


def _stop(message: str) -> NoReturn:
    if not is_first_process():
        let_the_first_speak()
    print(message, file=sys.stderr)  # noqa: T201
    raise SystemExit(2)


def _take(args: list[str], *flags: str) -> tuple[list[str], list[str]]:
    """Split ``args`` into the values of the given flags and everything else."""
    values, rest = [], []
    queue = iter(args)
    for arg in queue:
        flag, equals, value = arg.partition("=")
        if flag not in flags:
            rest.append(arg)
        elif equals:
            values.append(value)
        else:
            try:
                values.append(next(queue))
            except StopIteration:
                _stop(f"{flag} needs a value")
    return values, rest


def _announce(layers: Layers) -> None:
    if layers.experiment and is_first_process():
        choice = "  ".join(f"{group}={layers.choice[group]}" for group in ("setting", "data", "trainer", "logger"))
        print(f"{layers.experiment}: {description(layers.experiment)}\n{choice}")  # noqa: T201


def _of_run(command: str, run: Path, args: list[str]) -> list[str]:
    """Arguments for a command on a finished run: its configuration, its best checkpoint, a fresh folder below it."""
    if not (run / "config.yaml").is_file():
        _stop(f"{run} is not the folder of a run: it has no config.yaml (RUN=runs/<experiment>/<run id>)")
    names, args = _take(args, "--ckpt")
    layers, args = _take(args, "--config", "-c")
    more = [argument for file in _resolved(layers).files for argument in ("--config", str(file))]
    try:
        checkpoint = checkpoint_of(run, *names)
    except FileNotFoundError as error:
        if command == "resume":
            _stop(
                f"{run / 'checkpoints' / 'last.ckpt'} does not exist: the run ended before its first epoch was over, "
                "and there is nothing to go on from. Start it anew: "
                f"gaze-lightning train --config {run / 'config.yaml'}"
            )
        _stop(str(error))
    head = ["--config", str(run / "config.yaml"), "--ckpt_path", str(checkpoint)]
    if not any(arg.split("=")[0] == "--run_dir" for arg in args):
        try:
            head += ["--run_dir", str(new_run_folder(run / command))]
        except ConfigurationError as error:
            _stop(str(error))
    return head[:2] + more + head[2:] + args


def _resolved(names: list[str]) -> Layers:
    try:
        return resolve(names)
    except UnknownNameError as error:
        _stop(str(error))


def _fit_arguments(args: list[str]) -> list[str]:
    names, rest = _take(args, "--config", "-c")
    layers = _resolved(names)
    given = [arg.partition("=")[0].lstrip("-").replace(".init_args", "") for arg in rest if arg.startswith("--")]
    for file in layers.files:
        content = yaml.safe_load(file.read_text()) or {}
        for section in ("model", "data"):
            options = content.get(section) if isinstance(content, dict) else None
            given += [
                f"{section}.{key}" for key in (options.get("init_args") or {} if isinstance(options, dict) else {})
            ]
    for key in given:
        if key in LINKED:
            _stop(f"{key.replace('.', '.init_args.')} would be ignored: {LINKED[key]}")
    _announce(layers)
    head = [argument for file in layers.files for argument in ("--config", str(file))]
    if layers.experiment:
        head += ["--experiment", layers.experiment]
    return head + rest


def _batch_script(names: list[str]) -> None:
    scripts = {path.stem: path for path in sorted((ROOT / "slurm").glob("*.sbatch"))}
    name = " ".join(names) or "train"
    if name not in scripts:
        _stop(f"no batch script is called {name!r}; there are: {', '.join(scripts)} (gaze-lightning slurm train)")
    print(scripts[name].read_text(), end="")  # noqa: T201


def _requeued(args: list[str]) -> Path | None:
    """The folder of this command's run, if SLURM runs the command again after it has put its job back into the queue.

    The environment says so, for the command line is the same.
    """
    if not restarts():
        return None
    given, args = _take(args, "--run_dir")
    if given:
        folders = [Path(given[-1])]
    else:
        runs, _ = _take(args, "--runs")
        name = slurm_run_name()
        folders = sorted(Path(runs[-1] if runs else "runs").glob(f"*/{name}")) if name else []
    return next((folder for folder in folders if (folder / "config.yaml").is_file()), None)


def _where_it_was(run: Path) -> list[str]:
    """Arguments by which a requeued training goes on in its folder, and a word about it."""
    last = run / "checkpoints" / "last.ckpt"
    found = last.is_file()
    if is_first_process():
        rest = "goes on after its last complete epoch" if found else "starts anew, for no epoch of it was complete"
        print(f"Restart {restarts()} of job {job_id()}: the run in {run} {rest}")  # noqa: T201
    return ["--run_dir", str(run), *(["--ckpt_path", str(last)] if found else [])]


def _list() -> None:
    print("Experiments")  # noqa: T201
    for name in available():
        print(f"  {name:<45} {description(name)}")  # noqa: T201
    for group in ("data", "setting", "trainer", "logger"):
        print(f"{group:<9} {', '.join(available(group))}")  # noqa: T201


def main(args: Sequence[str] | None = None) -> None:
    """Run ``gaze-lightning``.

    Args:
        args: command-line arguments, ``sys.argv[1:]`` by default.

    Raises:
        SystemExit: status 2 for unknown names, misspelt keys and unusable values.
    """
    args = list(sys.argv[1:] if args is None else args)
    command, rest = (args[0], args[1:]) if args else ("--help", [])
    match command:
        case "--help" | "-h" | "help":
            print(_USAGE)  # noqa: T201
        case "--version":
            print(__version__)  # noqa: T201
        case "list":
            _list()
        case "slurm":
            _batch_script(rest)
        case "phantom":
            from gaze_lightning.commands.phantom import phantom

            phantom(rest)
        case "compare":
            from gaze_lightning.commands.compare import compare

            compare(rest)
        case "maps":
            from gaze_lightning.commands.maps import maps

            maps(rest)
        case "sweep":
            from gaze_lightning.commands.sweep import sweep

            sweep(rest)
        case "agent" | "trial":  # agents start trials
            from gaze_lightning.commands.agent import agent, trial

            agent(rest) if command == "agent" else trial(rest)
        case "preview" | "cache" | "relations" | "check-data":
            names, rest = _take(rest, "--config", "-c")
            files = [str(file) for file in _resolved(names).files]
            if command == "preview":
                from gaze_lightning.commands.preview import preview

                preview(files, rest)
            elif command == "cache":
                from gaze_lightning.commands.cache import cache

                cache(files, rest)
            elif command == "relations":
                from gaze_lightning.commands.relations import relations

                relations(files, rest)
            else:
                from gaze_lightning.commands.check_data import check_data

                check_data(files, rest)
        case "resume":
            runs, rest = _take(rest, "--run")
            if not runs:
                _stop("which run? gaze-lightning resume --run runs/<experiment>/<run id>")
            if fixed := [arg for arg in rest if arg.split("=")[0] in ("--run_dir", "--ckpt", "--ckpt_path")]:
                _stop(f"{fixed[0]} with resume: a run goes on in its own folder, from its last checkpoint")
            run_folder = Path(runs[-1])
            rest = _of_run(command, run_folder, [*rest, "--ckpt", "last", "--run_dir", str(run_folder)])
            from gaze_lightning.commands.run import run

            run("train", rest, resumed=run_folder)
        case "train" | "fit" | "validate" | "test" | "predict":
            runs, rest = _take(rest, "--run")
            if runs and command in ("train", "fit"):
                _stop("--run names a finished run: use it with validate, test or predict")
            images, rest = _take(rest, "--images") if command == "predict" else ([], rest)
            if images and not runs:
                _stop("predict --images needs the model of a run: --run runs/<experiment>/<run id>")
            rest = _of_run(command, Path(runs[-1]), rest) if runs else _fit_arguments(rest)
            requeued = _requeued(rest)
            if requeued and command in ("train", "fit"):
                rest += _where_it_was(requeued)
            from gaze_lightning.commands.run import run

            run(command, rest, images=images[-1] if images else None, resumed=requeued)
        case _:
            _stop(f"no command is called {command!r}\n\n{_USAGE}")
