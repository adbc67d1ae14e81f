"""Sweeps without an account: what W&B's own builder makes of the files, through the real command line to a trial."""

import json
import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import MagicMock, patch

import pytest
import yaml
from pytorch_lightning import Callback
from pytorch_lightning.utilities.exceptions import SIGTERMException

wandb = pytest.importorskip("wandb")
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args  # noqa: E402
from wandb.sdk.sweeps import SweepNotFoundError  # noqa: E402

from gaze_lightning.commands import agent as agent_module  # noqa: E402
from gaze_lightning.commands import sweep_check  # noqa: E402
from gaze_lightning.commands.agent import trial  # noqa: E402
from gaze_lightning.commands.sweep_check import ParsedOnly, value_at  # noqa: E402
from gaze_lightning.commands.sweep_file import FOLDER, read_sweep, samples, sweeps  # noqa: E402
from gaze_lightning.layers import available, resolve  # noqa: E402
from gaze_lightning.main import main  # noqa: E402
from tests.sweep_server import sweep_server  # noqa: E402
from tests.wandb_records import history, log_of, records_of  # noqa: E402

_STAGES = ("contrastive", "classify", "saliency", "fusion")
_SMALL = [
    "--model.init_args.backbone=test_resnet.r160_in1k",
    "--data.init_args.batch_size=4",
    "--data.init_args.image_size=[48,40]",
    "--data.init_args.saliency_size=[24,20]",
    "--trainer.limit_train_batches=1",
    "--trainer.limit_val_batches=2",
    "--trainer.enable_progress_bar=false",
    "--config=trainer/cpu",
]


@pytest.fixture(scope="module")
def parser():
    """The command line of a training; one for all tests, for it takes seconds to build."""
    files = [argument for file in resolve(["baseline_resnet18"]).files for argument in ("--config", str(file))]
    return ParsedOnly(["fit", *files])


@pytest.fixture
def one_parser(parser, monkeypatch):
    monkeypatch.setattr(sweep_check, "ParsedOnly", lambda args: parser)


@pytest.fixture
def local(phantom_arguments, tmp_path):
    """What an agent adds to make any trial small."""
    places = [f"--data.init_args.cache_dir={tmp_path / 'cache'}", f"--relations.folder={tmp_path / 'relations'}"]
    return [*phantom_arguments, *_SMALL, *places, f"--runs={tmp_path / 'runs'}"]


@pytest.mark.parametrize("name", sweeps())
def test_all_values_of_a_committed_sweep_arrive_through_wandbs_builder(name, parser):
    text = (FOLDER / f"{name}.yaml").read_text().splitlines()
    assert text[0].startswith("# ")
    assert len(text) <= 40
    assert name in available()
    sweep = yaml.safe_load("\n".join(text))
    files = resolve([name, "setting/paper", "logger/wandb"]).files
    head = [argument for file in files for argument in ("--config", str(file))]
    seen = {key: set() for key in sweep["parameters"]}
    for sample in samples(sweep["parameters"]):
        built = create_sweep_command_args({"args": {key: {"value": value} for key, value in sample.items()}})
        config = parser.parse([*head, *built["args"]])
        assert {key: value_at(config, key) for key in sample} == sample
        for key, value in sample.items():
            seen[key].add(value)
    for key, parameter in sweep["parameters"].items():
        bounds = {parameter["min"], parameter["max"]} if "min" in parameter else set(parameter["values"])
        assert seen[key] == bounds


def test_both_arms_of_a_comparison_try_the_same_values_of_what_they_share():
    for method, control in (
        ("ggcam_resnet50", "baseline_resnet50"),
        ("global_attention_resnet18", "baseline_resnet18"),
        ("mcgip_moco_resnet18", "ssl_moco_resnet18"),
    ):
        tuned, plain = read_sweep(method), read_sweep(control)
        assert plain["parameters"].items() <= tuned["parameters"].items()
        for section in ("method", "metric", "early_terminate"):
            assert plain[section] == tuned[section]


_COARSE = "--model.init_args.output_stride=32"
_QUEUE = "--model.init_args.queue_size=16"
_TINY = {  # arguments, and the number of epochs that can be selected
    "baseline_densenet201": ([_COARSE, "--trainer.max_epochs=1"], 1),
    "baseline_resnet18": ([_COARSE, "--trainer.max_epochs=1"], 1),
    "baseline_resnet50": ([_COARSE, "--trainer.max_epochs=1"], 1),
    "cooperative_densenet201": ([f"--staged_training.sizes.{stage}.epochs=1" for stage in _STAGES], 1),
    "ggcam_resnet50": ([_COARSE, "--trainer.max_epochs=3"], 2),  # the stage before the joint one selects nothing
    "global_attention_resnet18": ([_COARSE, "--trainer.max_epochs=2"], 2),
    "mcgip_moco_resnet18": ([_QUEUE, "--trainer.max_epochs=2"], 2),
    "mtunet": (["--model.init_args.width=0.0625", "--trainer.max_epochs=1"], 1),
    "ssl_moco_resnet18": ([_QUEUE, "--trainer.max_epochs=1"], 1),
}


@pytest.mark.parametrize("name", sweeps())
@pytest.mark.slow
def test_a_trial_trains_with_its_values_and_logs_the_metric_of_the_sweep(name, local, tmp_path, monkeypatch):
    more, epochs = _TINY[name]
    backbone = _SMALL[0]
    given = [*(argument for argument in local if argument != backbone or name != "mtunet"), *more]
    sweep = read_sweep(name)
    sample = samples(sweep["parameters"])[1]
    run, logged = MagicMock(id="trial1", project="project", entity="entity"), []
    run.log = lambda values, *args, **kwargs: logged.append(dict(values))
    monkeypatch.setattr(wandb, "init", lambda **kwargs: run)
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep1")
    monkeypatch.setenv("WANDB_RUN_ID", "trial1")
    monkeypatch.setenv("GAZE_LIGHTNING_TRIAL_ARGUMENTS", json.dumps(given))
    arguments = create_sweep_command_args({"args": {key: {"value": value} for key, value in sample.items()}})["args"]
    main(["trial", f"--config={name}", "--config=logger/wandb", *arguments])
    folder = tmp_path / "runs" / "sweeps" / "sweep1" / "trial1"
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert {key: value_at(config, key) for key in sample} == sample
    rows = [values for values in logged if sweep["metric"]["name"] in values]
    assert len(rows) == epochs  # hyperband counts rows: one for each epoch that can be selected
    assert not (folder / "results.json").exists()  # the test part is not looked at


class Interrupted(Callback):
    """As wandb does it in the process of a trial that is online."""

    def on_train_batch_end(self, *args):
        raise KeyboardInterrupt


class Terminated(Callback):
    """As the agent does it."""

    def on_train_batch_end(self, *args):
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("how", ["Interrupted", "Terminated"])
def test_a_trial_that_the_sweep_stops_has_not_failed(how, local, tmp_path, monkeypatch):
    monkeypatch.setattr(wandb, "init", lambda **kwargs: MagicMock(id="trial1", project="project", entity="entity"))
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep1")
    monkeypatch.setenv("WANDB_RUN_ID", "trial1")
    monkeypatch.setenv("GAZE_LIGHTNING_TRIAL_NOTES", str(tmp_path))
    stopped = f"--trainer.callbacks=[{__name__}.{how}]"
    monkeypatch.setenv("GAZE_LIGHTNING_TRIAL_ARGUMENTS", json.dumps([*local, stopped]))
    main(["trial", "--config=baseline_resnet18", "--config=logger/wandb", "--model.init_args.output_stride=32"])
    assert (tmp_path / "trial1.trial").read_text() == "stopped"
    assert (tmp_path / "runs" / "sweeps" / "sweep1" / "trial1" / "config.yaml").is_file()


@pytest.mark.parametrize("end", [KeyboardInterrupt, SIGTERMException])
@pytest.mark.parametrize(
    ("started", "status"),
    [
        ({}, None),  # or the others were started by Lightning, which ends them
        ({"SLURM_NTASKS": "1"}, None),
        ({"SLURM_NTASKS": "2", "SLURM_PROCID": "0"}, 1),
        ({"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2", "RANK": "0"}, 1),
    ],
)
def test_a_launcher_is_told_to_end_the_other_processes_of_a_stopped_trial(started, status, end, tmp_path, monkeypatch):
    def interrupted(args):
        raise end

    given = started | {"WANDB_SWEEP_ID": "s", "WANDB_RUN_ID": "trial1", "GAZE_LIGHTNING_TRIAL_NOTES": str(tmp_path)}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("gaze_lightning.main.main", interrupted)
    with pytest.raises(SystemExit) if status else nullcontext() as stop:
        trial([])
    assert status is None or stop.value.code == status
    assert (tmp_path / "trial1.trial").read_text() == "stopped"


def test_a_dry_run_prints_the_whole_sweep_without_a_place_of_this_machine(one_parser, capsys, monkeypatch):
    monkeypatch.setattr(wandb, "sweep", lambda *args, **kwargs: pytest.fail("created"))
    main(["sweep", "ggcam_resnet50", "--config", "data/reflacx", "--seed_everything=3", "--dry-run"])
    text = capsys.readouterr().out
    sweep = json.loads(text[: text.rindex("}") + 1])
    assert sweep["command"] == [
        *("${env}", "${interpreter}", "-m", "gaze_lightning", "trial", "--config", "ggcam_resnet50"),
        *("--config", "logger/wandb", "--config", "data/reflacx", "--seed_everything=3", "${args}"),
    ]
    assert str(Path.cwd()) not in text
    assert sys.prefix not in text


_GOOD = {
    "method": "random",
    "metric": {"name": "best/val/auroc_macro", "goal": "maximize"},
    "parameters": {"model.init_args.lr": {"values": [0.001, 0.01]}},
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parameters": {"model.init_args.learning_rate": {"value": 1.0}}}, "learning_rate"),
        ({"parameters": {"model.init_args.lr": {"value": "fast"}}}, "fast"),
        ({"parameters": {"data.init_args.seed": {"value": 3}}}, "set --seed_everything"),
        ({"parameters": {"model.init_args.class_names": {"value": ["a", "b"]}}}, "would be ignored"),
        ({"parameters": {"model.init_args.channels_last": {"value": "true"}}}, "does not arrive, but True"),
        ({"parameters": {"model.init_args.log_sigma_gaze": {"values": [None, 1.0]}}}, "null"),
        ({"parameters": {"model": {"parameters": {"lr": {"value": 1.0}}}}}, "dotted keys"),
        ({"parameters": {"model.init_args.lr": {"min": 0.1, "max": 0.01}}}, "the smaller one first"),
        ({"parameters": {"model.init_args.lr": {"min": "1e-4", "max": "1e-3"}}}, "1.0e-3"),
        ({"parameters": {"staged_training.sizes.gaze.epochs": {"value": 3}}}, "gaze.epochs"),
        ({"parameters": {}}, "no parameters"),
        ({"metric": {"name": "val/auroc_macro", "goal": "maximize"}}, "best/val/auroc_macro"),
        ({"metric": {"name": "best/val/auroc_macro", "goal": "minimize"}}, "goal: maximize"),
        ({"metric": {"name": "best/val/auroc_macro"}}, "a name and a goal"),
        ({"command": ["python"]}, "command cannot stand"),
        # values that the sweep tries are stored as well
        ({"parameters": {"model.init_args.pretrained": {"values": ["scratch", "moco"]}}}, "would be stored at W&B"),
        ({"parameters": {"data.init_args.label_columns": {"value": ["p10000032"]}}}, "would be stored at W&B"),
        ({"parameters": {"data.init_args.root": {"value": "data"}}}, "would be stored at W&B"),
        ({"parameters": {"model.init_args.lr": {"value": 0.1, "note": "as J. Doe says"}}}, "would be stored at W&B"),
        ({"metric": {"name": "runs/a.csv", "goal": "minimize"}}, "would be stored at W&B"),
    ],
)
def test_a_sweep_that_cannot_work_ends_with_status_2_before_it_exists(
    change, message, one_parser, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(wandb, "sweep", lambda *args, **kwargs: pytest.fail("created"))
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(_GOOD | change))
    with pytest.raises(SystemExit) as stop:
        main(["sweep", str(file), "--config", "ggcam_resnet50"])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_the_first_line_and_the_name_of_a_sweep_are_stored_too(one_parser, tmp_path, capsys):
    file = tmp_path / "mine.yaml"
    for first, name in (("films of p10000032", "mine"), ("fine", "p10000032")):
        file.write_text(f"# {first}\n{yaml.safe_dump(_GOOD)}")
        with pytest.raises(SystemExit) as stop:
            main(["sweep", str(file), "--config", "ggcam_resnet50", "--name", name, "--dry-run"])
        assert stop.value.code == 2
        assert "would be stored at W&B" in capsys.readouterr().err


def test_a_rate_of_a_stage_that_does_not_exist_is_refused(one_parser, tmp_path, capsys):
    sweep = read_sweep("cooperative_densenet201")
    sweep["parameters"]["staged_training.sizes.fussion.lr"] = {"value": 0.1}
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({key: sweep[key] for key in ("method", "metric", "parameters")}))
    with pytest.raises(SystemExit) as stop:
        main(["sweep", str(file), "--config", "cooperative_densenet201", "--dry-run"])
    assert stop.value.code == 2
    assert "no stage is called 'fussion'; there are: contrastive" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sweep", "ggcam_resnet5"], "baseline_resnet50"),
        (["sweep", "ggcam_resnet50", "--data.init_args.root=/data"], "would be stored at W&B"),
        (["sweep", "ggcam_resnet50", "--data.init_args.root=data"], "would be stored at W&B"),
        (["sweep", "ggcam_resnet50", "--model.init_args.pretrained=runs/a"], "would be stored at W&B"),
        *(
            (["sweep", "ggcam_resnet50", f"--{argument}"], "would be stored at W&B")
            for argument in (
                "trainer.logger.init_args.acknowledgement=as J. Doe says",
                "data.init_args.label_columns=[p10000032]",
                "data.init_args.references=mine.csv",
                "relations={folder: mine}",
                "anything.api_key=a",
                "p10000032.x=1",
                "broken=[/a",
            )
        ),
        (["sweep", "ggcam_resnet50", "--config", "trainer/gpu"], "where an agent runs"),
        (["sweep", "ggcam_resnet50", "--config", "logger/csv"], "log to W&B"),
        (["sweep", "ggcam_resnet50", "--config", "data/nowhere"], "no data layer"),
        (["sweep", "ggcam_resnet50", "--config", __file__], "a file of this machine"),
        (["sweep", "ggcam_resnet50", "--seed_everything", "3"], "--key=value"),
        (["agent", "a/b/c", "--config", "data/reflacx"], "the sweep says what is trained"),
        (["agent", "a/b/c", "--config", "baseline_resnet50"], "the sweep says what is trained"),
        (["agent", "a/b/c", "--config", "trainer/none"], "no trainer layer"),
        (["agent", "a/b/c", "--run_dir=here"], "a folder of its own"),
        *(
            (["agent", "a/b/c", *given], f"{given[0].partition('=')[0].rstrip('+')} is none of the machine's")
            for given in (
                ["--trainer.logger=false"],
                ["--trainer.logger", "false"],
                ["--trainer.logger.init_args.best_of=null"],
                ["--trainer.callbacks=[]"],
                ["--trainer.callbacks+=EarlyStopping"],
                ["--trainer={logger: false}"],
                ["--experiment=mine"],
                ["--staged_training.sizes.gaze.epochs=1"],
                ["--checkpoint.monitor=val/loss"],
            )
        ),
        *((["agent", sweep], f"{sweep}: a sweep is ID") for sweep in ("a/b/c/d", "a//c", "/c", "a/b/")),
        (["agent", "a/b/c", "--count", "0"], "--count 0"),
        (["agent", "a/b/c", "--launcher", "no_such_launcher -n 2"], "no such program"),
        (["trial", "--config", "ggcam_resnet50"], "use agent"),
    ],
)
def test_what_belongs_elsewhere_ends_with_status_2(arguments, message, one_parser, capsys, monkeypatch):
    monkeypatch.delenv("WANDB_SWEEP_ID", raising=False)
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("trainer: {devices: 2, logger: {class_path: CSVLogger}}", "trainer.logger.class_path"),
        ("trainer: other.yaml", "trainer"),
        ("checkpoint.monitor: val/loss", "checkpoint.monitor"),
        ("experiment: mine", "experiment"),
        ("data: {init_args: {root: /data}}\ntrainer: {devices: 2}\ncheckpointing: 1", None),
        ("", None),
    ],
)
def test_a_file_given_to_an_agent_says_nothing_of_what_the_sweep_says(text, key, tmp_path, capsys, monkeypatch):
    file, asked = tmp_path / "mine.yaml", []
    file.write_text(text)
    monkeypatch.setattr(agent_module, "_run", lambda *args: asked.append(args) or [])
    with pytest.raises(SystemExit) if key else nullcontext() as stop:
        main(["agent", "c", "--config=trainer/gpu", "--config", str(file), "--data.init_args.batch_size=2"])
    if key:
        assert stop.value.code == 2
        assert f"{file}: {key} is none of the machine's" in capsys.readouterr().err
    assert len(asked) == (key is None)


@pytest.mark.parametrize("error", [wandb.errors.CommError("gone"), SweepNotFoundError("gone")])
def test_a_sweep_that_cannot_be_asked_or_was_deleted_ends_its_agent_with_status_2(error, capsys, monkeypatch):
    monkeypatch.setattr(wandb, "agent", MagicMock(side_effect=error))
    with patch.dict(os.environ), pytest.raises(SystemExit) as stop:
        main(["agent", "a/b/c"])
    assert stop.value.code == 2
    assert "W&B: gone" in capsys.readouterr().err


def test_one_misspelt_argument_of_a_trial_ends_it_with_status_2(local, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep1")
    monkeypatch.setenv("WANDB_RUN_ID", "trial1")
    monkeypatch.setenv("GAZE_LIGHTNING_TRIAL_ARGUMENTS", json.dumps([*local, "--data.init_args.rot=/data"]))
    monkeypatch.setenv("GAZE_LIGHTNING_TRIAL_NOTES", str(tmp_path))
    with pytest.raises(SystemExit) as stop:
        main(["trial", "--config=baseline_resnet18", "--config=logger/wandb"])
    assert stop.value.code == 2
    assert "rot" in capsys.readouterr().err
    assert (tmp_path / "trial1.trial").read_text() == "started"


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The stand-in, with two trials; this process and those that it starts find it."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name in ("WANDB_PROJECT", "WANDB_ENTITY", "WANDB_ERROR_REPORTING"):
        monkeypatch.setenv(name, "")  # what wandb and the command set is undone after the test
    for name in ("WANDB_ENTITY", "WANDB_ERROR_REPORTING"):
        monkeypatch.delenv(name)
    with sweep_server(_TRIALS) as started:
        settings = started.environment | {"HOME": str(tmp_path), "WANDB_PROJECT": "thorax"}
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        wandb.teardown()  # what it knows of the environment is as old as its first use
        yield started
        wandb.teardown()


_TRIALS = {
    "good": {"model.init_args.lr": 0.0023, "model.init_args.log_sigma_gaze": -0.5},
    "bad": {"data.init_args.seed": 3},  # fails before anything is imported
}


@pytest.mark.slow
@pytest.mark.ddp
def test_a_real_agent_runs_a_trial_to_its_end_and_names_one_that_fails(server, local, one_parser, tmp_path, capsys):
    main(["sweep", "ggcam_resnet50"])
    assert "agent tester/thorax/sweep1" in capsys.readouterr().out  # the user's project
    assert os.environ["WANDB_ERROR_REPORTING"] == "false"
    script = tmp_path / "launcher"  # in the place of srun
    script.write_text(f'#!/bin/sh\nprintf "%s\\n" "$WANDB_ERROR_REPORTING" >> "{tmp_path}/reporting"\nexec "$@"\n')
    script.chmod(0o755)
    small = [*local, _COARSE, "--trainer.max_epochs=2", "--trainer.devices=2", "--trainer.strategy=ddp"]
    environment = {name: value for name, value in os.environ.items() if name != "WANDB_ERROR_REPORTING"}
    environment |= {"WANDB_MODE": "offline", "PATH": os.defpath}  # no python of ours on PATH
    agent = [sys.executable, "-m", "gaze_lightning", "agent", "tester/thorax/sweep1", "--launcher", str(script)]
    done = subprocess.run([*agent, *small], env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert server.unknown == []
    assert server.waiting == []
    assert done.returncode == 1, done.stderr
    assert "1 trial(s) ended well" in done.stdout
    assert "1 trial(s) failed: bad" in done.stderr
    assert [agent["host"] for agent in server.agents] == ["agent"]  # not the name of this machine
    told = json.dumps([server.sweep, server.requests])
    assert str(tmp_path) not in told  # places stay on the machine
    assert sys.prefix not in told
    assert (tmp_path / "reporting").read_text() == "false\nfalse\n"
    folder = tmp_path / "runs" / "sweeps" / "sweep1"
    assert [path.name for path in folder.iterdir()] == ["good"]  # two processes, one folder
    folder = folder / "good"
    config = yaml.safe_load((folder / "config.yaml").read_text())
    good = _TRIALS["good"]
    assert {key: value_at(config, key) for key in good} == good
    assert config["experiment"] == "ggcam_resnet50"
    log = log_of(folder)  # one run of W&B
    assert log.name == "run-good.wandb"
    records = records_of(log)
    assert records[-1].exit.exit_code == 0  # finished
    assert [row for row in history(records) if "best/val/auroc_macro" in row]
    assert json.loads((folder / "provenance.json").read_text())["entries"][0]["state"] == "finished"
    assert (folder / "checkpoints" / "best.ckpt").is_file()
    assert not (folder / "results.json").exists()


def test_make_gives_places_and_devices_to_the_agent_and_the_rest_to_the_sweep(installed):
    def make(*arguments):
        command = ["make", "-s", "-C", str(Path(__file__).parent.parent), installed, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = make("sweep", "SWEEP=ggcam_resnet50", "DATA=reflacx", "SEED=3", "ARGS=--dry-run")
    assert "sweep|ggcam_resnet50|--config|data/reflacx|--seed_everything=3|--dry-run|" in done.stdout
    done = make("agent", "ID=a/b/c", "COUNT=2", "DATA_ROOT=/my data", "TRAINER=gpu")
    assert "agent|a/b/c|--count|2|--config|trainer/gpu|--data.init_args.root=/my data|" in done.stdout
    assert make("agent").returncode == 2
    done = make("sweep")
    assert done.returncode == 2
    assert "mcgip_moco_resnet18" in done.stderr
