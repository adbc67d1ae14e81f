"""What W&B would get, read from the transaction logs of real offline runs; and what it must never get."""

import copy
import csv
import getpass
import json
import math
import os
import pickle
import socket
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
import yaml
from pytorch_lightning.loggers import CometLogger, Logger, WandbLogger
from safetensors.torch import save_file

from callbacks import Stage, StagedCheckpoint
from gaze_lightning.cli import _refuse_sender
from gaze_lightning.errors import ConfigurationError
from gaze_lightning.guarded_wandb import GuardedWandbLogger
from gaze_lightning.main import main
from gaze_lightning.shareable_configuration import LOCAL, shareable_configuration, stays_here
from gaze_lightning.wandb_package import import_wandb
from tests.wandb_records import configuration, findings, history, log_of, records_of, summary

wandb = pytest.importorskip("wandb")


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Every run is offline, quiet, and over when its test is."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    wandb.teardown()  # what it knows of the environment is as old as its first use
    yield
    wandb.teardown()


@pytest.fixture
def logger_in(tmp_path):
    """Make a logger of a run folder; of a source that is open or not."""

    def make(name="20261121-141507-3f2a", open_data=False, **options):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        logger = GuardedWandbLogger(save_dir=str(folder), **options)
        logger.prepare(experiment="ggcam_resnet50", job_type="train", open_data=open_data, source="made-up data")
        return logger

    return make


def finish(*loggers):
    for logger in loggers:
        logger.experiment.finish()


def arguments(phantom_root, tmp_path, *more):
    """A training on the phantom as if it were EGD-CXR, which is not open."""
    return [
        "train",
        "--config=baseline_resnet18",
        "--config=logger/wandb",
        "--config=data/egd_cxr",
        "--config=setting/demo",
        f"--data.init_args.root={phantom_root}",
        f"--data.init_args.cache_dir={tmp_path / 'cache'}",
        "--data.init_args.batch_size=4",
        "--data.init_args.image_size=[48,40]",
        "--model.init_args.backbone=test_resnet.r160_in1k",
        "--model.init_args.output_stride=32",
        "--trainer.limit_train_batches=3",
        "--trainer.max_epochs=2",
        "--trainer.accelerator=cpu",
        "--trainer.enable_progress_bar=false",
        "--cam_logger.every_n_epochs=1",
        f"--run_dir={tmp_path / 'run'}",
        *more,
    ]


def test_a_training_on_data_that_are_not_open_sends_scalars_and_the_method(phantom_root, tmp_path, monkeypatch):
    """Everything a real run would upload is looked at: no path, id, user or host, no file but W&B's own two."""
    monkeypatch.setenv("WANDB_X_STATS_SAMPLING_INTERVAL", "0.2")  # its default, 15 s, is longer than this run
    monkeypatch.setattr("sys.argv", ["gaze-lightning", "train", f"--data.init_args.root={phantom_root}"])
    weights = tmp_path / "p10000032.safetensors"
    save_file(timm.create_model("test_resnet.r160_in1k", in_chans=1, num_classes=0).state_dict(), weights)
    main(arguments(phantom_root, tmp_path, f"--model.init_args.pretrained={weights}"))
    wandb.teardown()
    path = log_of(tmp_path / "run")
    films = [film.stem for film in phantom_root.glob("physionet.org/files/mimic-cxr-jpg/*/files/*/*/*/*.jpg")]
    folders = phantom_root.glob("physionet.org/files/mimic-cxr-jpg/*/files/*/*/*")
    ids = {name for folder in folders for name in (folder.name, folder.parent.name)}
    assert len(films) > 40
    assert len(ids) > 40
    private = [*films, *ids, "p10000032", str(phantom_root), str(tmp_path), str(Path.cwd()), str(Path.home())]
    private += [socket.gethostname(), f"/{getpass.getuser()}", f'"{getpass.getuser()}"', "safetensors"]
    assert findings(path, private) == []
    records = records_of(path)
    (run,) = (record.run for record in records if record.WhichOneof("record_type") == "run")
    assert (run.project, run.run_group, run.job_type, run.display_name) == (
        *("gaze_lightning", "baseline_resnet18", "train", "run"),
    )
    assert (run.host, run.git.commit, run.git.remote_url) == ("", "", "")
    state = json.loads((tmp_path / "run" / "wandb_run.json").read_text())
    assert run.run_id == state["id"]
    assert run.run_id.startswith("baseline_resnet18-run-")

    sent = configuration(records)
    assert sent["model.class_path"] == "gaze_lightning.tasks.Classifier"
    assert sent["data.init_args.batch_size"] == 4
    assert sent["data.init_args.image_size"] == [48, 40]
    assert sent["checkpoint.monitor"] == "val/auroc_macro"
    assert sent["model.init_args.pretrained"] == sent["data.init_args.root"] == sent["checkpoint.dirpath"] == LOCAL
    resolved = shareable_configuration(yaml.safe_load((tmp_path / "run" / "config.yaml").read_text()))
    assert sent == resolved

    rows = history(records)
    best = [row["best/val/auroc_macro"] for row in rows if "best/val/auroc_macro" in row]
    validated = [row["val/auroc_macro"] for row in rows if "val/auroc_macro" in row]
    assert len(best) == len(validated) == 2
    assert best == list(np.maximum.accumulate(validated))
    shown = summary(records)
    assert shown["best/val/auroc_macro"] == max(validated)
    with (tmp_path / "run" / "metrics.csv").open() as file:
        tested = [row["test/auroc_macro"] for row in csv.DictReader(file)][-1]
    assert shown["test/auroc_macro"] == pytest.approx(float(tested))
    assert (tmp_path / "run" / "cams").is_dir()


def test_the_inspection_finds_what_does_not_belong_there(logger_in):
    """Otherwise the test above would prove nothing."""
    logger = logger_in(open_data=True)
    logger.log_image("cams", [np.zeros((4, 4, 3), np.uint8)])
    logger.experiment._run.config.update({"root": "/data/egd"})
    logger.experiment._run.summary["who"] = "subject p10000032"
    finish(logger)
    found = findings(log_of(logger.save_dir), ["/data/egd", "p10000032"])
    for word in ("history: cams", "media/images", "config contains /data/egd", "who is 'subject p10000032'"):
        assert [line for line in found if word in line], word
    clean = logger_in("other")
    clean.log_metrics({"val/loss": 1.0}, 0)
    finish(clean)
    assert findings(log_of(clean.save_dir), ["/data/egd", "p10000032"]) == []


@pytest.mark.parametrize("open_data", [False, True])
def test_only_scalars_leave_by_any_way(logger_in, tmp_path, open_data):
    """Other callbacks may use Lightning's methods or the run of W&B itself: both are guarded."""
    logger = logger_in(open_data=open_data)
    run, image = logger.experiment, np.zeros((4, 4, 3), np.uint8)
    (tmp_path / "file.txt").write_text("ids")
    artifact = wandb.Artifact("weights", "model")
    always = [
        lambda: logger.log_table("ids", ["id"], [["p1"]]),
        lambda: logger.log_text("ids", ["id"], [["p1"]]),
        lambda: logger.log_audio("audio", [image]),
        lambda: logger.log_video("video", [image]),
        lambda: logger.watch(torch.nn.Linear(1, 1)),
        lambda: logger.use_artifact("weights:latest"),
        lambda: logger.log_metrics({"val/id": "p1"}),
        lambda: run.log({"table": wandb.Table(["id"], [["p1"]])}),
        lambda: run.log({"page": wandb.Html("<p>p1</p>")}),
        lambda: run.log({"weights": wandb.Histogram([1.0])}),
        lambda: run.log({"several": [1.0, 2.0]}),
        lambda: run.log({"nested": {"id": "p1"}}),
        lambda: run.log({"none": []}),
        lambda: run.save(str(tmp_path / "file.txt")),
        lambda: run.log_artifact(artifact),
        lambda: run.log_model(str(tmp_path / "file.txt")),
        lambda: run.log_code(str(tmp_path)),
        lambda: run.watch(torch.nn.Linear(1, 1)),
        lambda: run.alert("title", "p1"),
        lambda: run.log({"auroc_p10000032": 1.0}),
        lambda: logger.log_metrics({"val/2d0a8a5c-1b2c3d4e-5f607182": 1.0}),
        lambda: run.summary.update({"who": "p1"}),
        lambda: run.config.update({"root": "p1"}),
        lambda: setattr(run, "notes", "p1"),
        lambda: setattr(run, "tags", ("p1",)),
        lambda: setattr(run, "name", "p1"),
        lambda: setattr(run, "anything_new", "p1"),
    ]
    pictures = [
        lambda: logger.log_image("film", [image]),
        lambda: run.log({"film": wandb.Image(image)}),
        lambda: run.log({"films": [wandb.Image(image)]}),
    ]
    for send in always if open_data else always + pictures:
        with pytest.raises(ConfigurationError, match="Not sent to W&B"):
            send()
    if open_data:
        for send in pictures:
            send()
    assert wandb.run is None  # no global run, through which wandb.log would walk around the guard
    logger.log_metrics({"a": 1, "b": 0.5, "c": np.float32(2), "d": torch.tensor(3.0), "e": True, "f": math.nan}, 7)
    finish(logger)
    *films, row = history(records_of(log_of(logger.save_dir)))
    assert len(films) == (3 if open_data else 0)
    assert math.isnan(row.pop("f"))
    assert row == {"a": 1, "b": 0.5, "c": 2.0, "d": 3.0, "e": True, "trainer/global_step": 7}


def test_a_run_shows_what_it_is_takes_the_filtered_configuration_and_can_be_copied_and_pickled(logger_in, tmp_path):
    logger = logger_in()
    run = logger.experiment
    run.update_config({"data": {"root": str(tmp_path), "p10000032": 1}, "lr": 0.1})
    assert (run.name, run.project) == ("20261121-141507-3f2a", "gaze_lightning")
    assert copy.copy(run).id == copy.deepcopy(run).id == run.id == pickle.loads(pickle.dumps(logger)).version  # noqa: S301
    assert not hasattr(run, "_attach_id")
    finish(logger)
    assert configuration(records_of(log_of(logger.save_dir))) == {"data.root": LOCAL, "lr": 0.1}


@pytest.mark.parametrize(
    "environment",
    [
        {"WANDB_NOTES": "p10000032", "WANDB_TAGS": "p10000032,other"},
        {"SM_TRAINING_ENV": '{"root": "/p10000032"}', "TRAINING_JOB_NAME": "p10000032"},
        {"WANDB_LAUNCH": "true", "WANDB_CONFIG": '{"root": "/p10000032"}'},
    ],
)
@pytest.mark.parametrize("tags", [None, ["mine"]])
def test_what_the_environment_would_add_is_not_sent(logger_in, monkeypatch, environment, tags):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    logger = logger_in(tags=tags)
    logger.log_metrics({"val/loss": 1.0}, 0)
    finish(logger)
    path = log_of(logger.save_dir)
    assert findings(path, ["p10000032"]) == []
    (run,) = (record.run for record in records_of(path) if record.WhichOneof("record_type") == "run")
    assert (run.notes, list(run.tags)) == ("", tags or [])
    assert configuration(records_of(path)) == {}


def test_files_of_settings_that_wandb_would_send_are_refused(logger_in, monkeypatch, tmp_path):
    logger = logger_in()
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "config-defaults.yaml"
    file.write_text("root: {value: /data/p10000032}\n")
    for use in (logger_in, lambda: logger.experiment):
        with pytest.raises(ConfigurationError, match=f"{file}.*rename it"):
            use()
    file.unlink()
    monkeypatch.setenv("WANDB_CONFIG_PATHS", "mine.yaml")
    for use in (logger_in, lambda: logger.experiment):
        with pytest.raises(ConfigurationError, match=r"WANDB_CONFIG_PATHS.*unset it"):
            use()
    monkeypatch.delenv("WANDB_CONFIG_PATHS")
    finish(logger)
    assert configuration(records_of(log_of(logger.save_dir))) == {}


def test_pictures_need_an_option_and_a_written_acknowledgement(logger_in, tmp_path):
    for options in (
        {"log_images_to_cloud": True},
        {"acknowledgement": "why"},
        {"log_images_to_cloud": True, "acknowledgement": " "},
    ):
        with pytest.raises(ConfigurationError, match="both"):
            logger_in(**options)
    allowed = {"log_images_to_cloud": True, "acknowledgement": "the ethics board, for a figure"}
    page = tmp_path / "page.png"
    wandb.Image(np.zeros((4, 4, 3), np.uint8)).image.save(page)
    for _ in range(2):  # the second time, a resumed run: the statement is there already
        logger = logger_in(**allowed)
        logger.share_pictures("cams/test", [page], "CAM panels")
        finish(logger)
    record = tmp_path / logger.save_dir / "cloud_upload_acknowledged.txt"
    (line,) = record.read_text().splitlines()
    assert line.endswith("pictures of made-up data are sent to W&B. Acknowledgement: the ethics board, for a figure")
    logs = list(Path(logger.save_dir).glob("wandb/offline-run-*/files/media/images/cams/test*.png"))
    assert len(logs) == 2
    open_one = logger_in("open", open_data=True)
    finish(open_one)
    assert not (Path(open_one.save_dir) / record.name).exists()


def test_the_command_ends_before_anything_is_made_if_one_of_the_two_is_missing(phantom_root, tmp_path, capsys):
    option = "--trainer.logger.init_args.log_images_to_cloud=true"  # of the last logger
    with pytest.raises(SystemExit) as end:
        main(arguments(phantom_root, tmp_path, option))
    assert end.value.code == 2
    assert "acknowledgement is missing" in capsys.readouterr().err
    assert not list(tmp_path.glob("run/*"))


class OwnComet(CometLogger):
    """Made from a logger of Lightning's that sends elsewhere."""


class OwnLogger(Logger):
    """A user's own; it notes that it was built."""

    built = 0
    name = version = None

    def __init__(self):
        super().__init__()
        type(self).built += 1

    def log_metrics(self, metrics, step=None):
        pass

    def log_hyperparams(self, params):
        pass


@pytest.mark.parametrize(
    "name",
    [
        *("pytorch_lightning.loggers.WandbLogger", "pytorch_lightning.loggers.CometLogger", "MLFlowLogger"),
        f"{__name__}.OwnComet",
    ],
)
def test_lightnings_loggers_that_send_elsewhere_are_refused_before_any_is_built(phantom_root, tmp_path, capsys, name):
    built = OwnLogger.built
    loggers = f"--trainer.logger=[{{class_path: {__name__}.OwnLogger}}, {{class_path: {name}}}]"
    with pytest.raises(SystemExit) as end:
        main(arguments(phantom_root, tmp_path, loggers))
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert f"{name.rpartition('.')[2]} sends" in error
    assert "GuardedWandbLogger" in error
    assert not list(tmp_path.glob("run/*"))
    assert OwnLogger.built == built


def test_a_logger_whose_package_is_not_installed_is_refused_too():
    with pytest.raises(ConfigurationError, match="LitLogger sends"):  # without it jsonargparse refuses it before
        _refuse_sender("pytorch_lightning.loggers.LitLogger")


def test_local_loggers_and_a_users_own_are_taken(phantom_root, tmp_path):
    built = OwnLogger.built
    local = [f"{{class_path: {name}, init_args: {{save_dir: .}}}}" for name in ("CSVLogger", "TensorBoardLogger")]
    loggers = f"--trainer.logger=[{', '.join(local)}, {{class_path: {__name__}.OwnLogger}}]"
    main(["fit", *arguments(phantom_root, tmp_path, loggers, "--trainer.max_epochs=1")[1:]])
    assert OwnLogger.built == built + 1
    assert list((tmp_path / "run").glob("**/metrics.csv"))
    assert list((tmp_path / "run").glob("**/events.out.tfevents*"))


def test_without_an_account_the_command_says_what_to_do(phantom_root, tmp_path, monkeypatch, capsys):
    for name in ("WANDB_MODE", "WANDB_API_KEY", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody listens there
    wandb.teardown()
    with pytest.raises(SystemExit) as end:
        main(arguments(phantom_root, tmp_path))
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert "WANDB_MODE=offline" in error
    assert "wandb login" in error
    assert not list(tmp_path.glob("run/*"))


def test_a_resumed_run_goes_on_with_its_id_and_its_best_values(logger_in):
    checkpoint = SimpleNamespace(monitor="val/auroc_macro", best_model_score=None)
    logger = logger_in(best_of={"val/knn_auroc_macro": "max"})
    for step, (score, knn) in enumerate([(0.6, 0.7), (0.8, 0.9), (0.8, 0.5)]):
        logger.log_metrics({"val/knn_auroc_macro": knn}, step)
        checkpoint.best_model_score = torch.tensor(score, dtype=torch.float64)
        for _ in range(2):  # Lightning calls it for the best and for the last checkpoint
            logger.after_save_checkpoint(checkpoint)
    finish(logger)
    again = logger_in(best_of={"val/knn_auroc_macro": "max"})
    again.log_metrics({"val/knn_auroc_macro": 0.6}, 3)
    again.after_save_checkpoint(checkpoint)
    finish(again)
    assert logger.version == again.version == "ggcam_resnet50-20261121-141507-3f2a"
    logs = sorted(Path(logger.save_dir).glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns)
    rows = [history(records_of(path)) for path in logs]
    assert [[row["best/val/knn_auroc_macro"] for row in one if "val/knn_auroc_macro" in row] for one in rows] == [
        *([0.7, 0.9, 0.9], [0.9]),
    ]
    assert [[row["best/val/auroc_macro"] for row in one if "best/val/auroc_macro" in row] for one in rows] == [
        *([0.6, 0.8, 0.8], [0.8]),
    ]


@pytest.mark.parametrize(
    "checkpoint",
    [
        {"monitor": None, "best_model_score": None},
        {"monitor": "val/loss", "best_model_score": None},
        {"monitor": "val/loss", "best_model_score": torch.tensor(math.nan)},
        {"monitor": "val/loss", "best_model_score": torch.tensor(1.0), "selects_result": False},
    ],
)
def test_no_best_value_is_sent_before_there_is_one_of_the_stage_that_counts(logger_in, checkpoint):
    logger = logger_in()
    logger.log_metrics({"val/loss": 2.0}, 0)
    logger.after_save_checkpoint(SimpleNamespace(**checkpoint))
    finish(logger)
    assert history(records_of(log_of(logger.save_dir))) == [{"val/loss": 2.0, "trainer/global_step": 0}]


def test_the_checkpoint_callback_knows_whose_best_it_has(tmp_path):
    checkpoint = StagedCheckpoint(dirpath=str(tmp_path), monitor="val/loss")
    assert checkpoint.selects_result  # without stages
    counts = []
    for stage, final in ((Stage("a"), False), (Stage("b", select=False), False), (Stage("c"), True)):
        checkpoint.start_stage(stage, final=final, fresh=True)
        resumed = StagedCheckpoint(dirpath=str(tmp_path), monitor="val/loss")
        resumed.load_state_dict(checkpoint.state_dict())
        resumed.start_stage(stage, final=final, fresh=False)
        counts.append((checkpoint.selects_result, resumed.selects_result))
    assert counts == [(False, False), (False, False), (True, True)]
    checkpoint.start_stage(Stage("d", select=False), final=False, fresh=True)
    assert checkpoint.selects_result  # c has selected


def test_the_id_is_the_agents_and_belongs_to_one_folder(logger_in, monkeypatch):
    own = logger_in()
    assert own.experiment.id == "ggcam_resnet50-20261121-141507-3f2a"
    finish(own)
    monkeypatch.setenv("WANDB_RUN_ID", "x1y2z3")
    trial = logger_in("trial")
    assert trial.experiment.id == "x1y2z3"
    finish(trial)
    with pytest.raises(ConfigurationError, match="WANDB_RUN_ID"):
        _ = logger_in().experiment
    monkeypatch.delenv("WANDB_RUN_ID")
    resumed = logger_in("trial")  # outside the agent
    assert resumed.experiment.id == "x1y2z3"
    finish(resumed)


def test_what_a_sweep_has_set_stays(logger_in, monkeypatch, tmp_path):
    sampled = tmp_path / "config.yaml"
    sampled.write_text(yaml.safe_dump({"model.init_args.lr": {"value": 1e-3}}))
    for name, value in {"SWEEP_ID": "abc", "RUN_ID": "trial1", "SWEEP_PARAM_PATH": sampled, "PROJECT": "own"}.items():
        monkeypatch.setenv(f"WANDB_{name}", str(value))
    logger = logger_in(project="another")
    logger.log_configuration({"model": {"init_args": {"lr": 1, "depth": 3}}})
    finish(logger)
    records = records_of(log_of(logger.save_dir))
    (run,) = (record.run for record in records if record.WhichOneof("record_type") == "run")
    assert (run.run_id, run.sweep_id, run.project) == ("trial1", "abc", "own")
    assert configuration(records) == {"model.init_args.lr": 1e-3, "model.init_args.depth": 3}
    for name in ("SWEEP_ID", "RUN_ID", "SWEEP_PARAM_PATH", "PROJECT"):
        monkeypatch.delenv(f"WANDB_{name}")
    wandb.teardown()
    resumed = logger_in()  # by hand, outside the agent: the same run of the same project
    assert (resumed.experiment.id, resumed.experiment.project) == ("trial1", "own")


def test_a_lightning_without_the_option_that_wandb_has_dropped_will_do(logger_in, monkeypatch):
    build = WandbLogger.__init__

    def built(self, **kwargs):
        build(self, **kwargs)
        del self._wandb_init["anonymous"]

    monkeypatch.setattr(WandbLogger, "__init__", built)
    assert "anonymous" not in logger_in()._wandb_init


def test_other_processes_do_not_talk_to_wandb(logger_in, monkeypatch):
    from pytorch_lightning.utilities import rank_zero_only

    monkeypatch.setattr(rank_zero_only, "rank", 1)
    logger = logger_in()
    logger.log_metrics({"val/loss": 1.0}, 0)
    logger.log_configuration({"a": 1})
    logger.after_save_checkpoint(SimpleNamespace(monitor="val/loss", best_model_score=torch.tensor(1.0)))
    logger.finalize("success")
    assert not list(Path(logger.save_dir).iterdir())


@pytest.mark.parametrize(
    ("key", "value", "sent"),
    [
        ("monitor", "val/auroc_macro", "val/auroc_macro"),
        ("class_path", "data_modules.EyeGazeDataModule", "data_modules.EyeGazeDataModule"),
        ("backbone", "test_resnet.r160_in1k", "test_resnet.r160_in1k"),
        ("pretrained", True, True),
        ("pretrained", "resnet_weights", LOCAL),
        ("pretrained", "runs/moco/1/checkpoints/best.ckpt", LOCAL),
        ("root", "egd", LOCAL),
        ("cache_dir", None, None),
        ("anything", "/data/egd", LOCAL),
        ("anything", "runs/x", LOCAL),
        ("anything", "~", LOCAL),
        ("anything", r"C:\data", LOCAL),
        ("anything", "split.csv", LOCAL),
        ("anything", "p10000032", LOCAL),
        ("anything", "2d0a8a5c-1b2c3d4e-5f607182", LOCAL),
        ("held_out", ["runs/a/split.csv", "b.csv"], [LOCAL, LOCAL]),
        ("labels", ["CHF", "Pneumonia"], ["CHF", "Pneumonia"]),
        ("stages", [{"name": "a", "init_from": "b/c"}], [{"name": "a", "init_from": LOCAL}]),
        ("lr", 1e-4, 1e-4),
        ("when", object(), LOCAL),
    ],
)
def test_what_of_a_configuration_is_sent(key, value, sent):
    assert shareable_configuration({"model": {"init_args": {key: value}}}) == {f"model.init_args.{key}": sent}
    assert stays_here(f"model.init_args.{key}", value) == (sent != value)


def test_secrets_free_texts_and_telling_names_are_left_out():
    given = {
        "api_key": "a",
        "token": "b",
        "password": "c",
        "acknowledgement": "Dr X",
        "a/b": 1,
        "p10000032": 2,
        "x": {},
    }
    assert shareable_configuration({"a": given}) == {"a.x": {}}
    assert {key for key, value in given.items() if not stays_here(f"a.{key}", value)} == {"x"}
    assert stays_here("a", given)
    assert not stays_here("a", {"lr": 1e-3, "b": {"c": ["d", 1]}})


def test_error_reports_are_off_unless_they_are_asked_for(monkeypatch):
    for given, expected in (("true", "true"), (None, "false")):
        monkeypatch.setenv("WANDB_ERROR_REPORTING", given or "")
        if given is None:
            monkeypatch.delenv("WANDB_ERROR_REPORTING")
        assert import_wandb() is wandb
        assert os.environ["WANDB_ERROR_REPORTING"] == expected
