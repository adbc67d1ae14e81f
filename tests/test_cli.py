"""The command line as a user meets it, in-process."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import timm
import yaml
from safetensors.torch import save_file

from gaze_lightning.main import main

_SMALL = [
    "--model.init_args.backbone=test_resnet.r160_in1k",
    "--model.init_args.output_stride=32",
    "--trainer.limit_train_batches=2",
    "--trainer.max_epochs=3",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
]


@pytest.fixture(scope="module")
def small_data(phantom_arguments, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")

    def arguments(root: Path | None = None) -> list[str]:
        return [
            *(phantom_arguments if root is None else [f"--data.init_args.root={root}"]),
            f"--data.init_args.cache_dir={cache}",
            "--data.init_args.batch_size=4",
            "--data.init_args.image_size=[48,40]",
            "--data.init_args.saliency_size=[24,20]",
        ]

    return arguments


@pytest.fixture(scope="module")
def tiny(small_data):
    """Arguments that make any experiment small: the session's phantom and a few small batches."""

    def arguments(*names: str, root: Path | None = None) -> list[str]:
        layers = [argument for name in names for argument in ("--config", name)]
        return [*layers, *small_data(root), *_SMALL]

    return arguments


@pytest.fixture(scope="module")
def finished_run(tiny, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    main(["train", *tiny("ggcam_resnet50"), f"--runs={runs}"])
    (run,) = (runs / "ggcam_resnet50").iterdir()
    return run


def test_train_leaves_everything_of_the_run_in_its_folder(finished_run):
    for name in (
        "config.yaml",
        "provenance.json",
        "metrics.csv",
        "predictions.csv",
        "results.json",
        "split.csv",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
    ):
        assert (finished_run / name).is_file(), name
    assert list(finished_run.glob("cams/test/*.png"))


def test_every_test_film_is_predicted_once(finished_run):
    predictions = pd.read_csv(finished_run / "predictions.csv", dtype={"sample_id": str})
    split = pd.read_csv(finished_run / "split.csv", dtype=str)
    assert sorted(predictions["sample_id"]) == sorted(split.loc[split["split"] == "test", "sample_id"])


def test_testing_the_finished_run_gives_the_numbers_of_the_training(finished_run):
    main(["test", "--run", str(finished_run), "--trainer.enable_progress_bar=false"])
    (again,) = (finished_run / "test").iterdir()
    assert json.loads((again / "results.json").read_text()) == json.loads((finished_run / "results.json").read_text())


def test_predicting_a_folder_of_films_writes_probabilities_and_overlays(finished_run, phantom_root, tmp_path):
    films = tmp_path / "my films"
    films.mkdir()
    for film in sorted(phantom_root.glob("physionet.org/files/mimic-cxr-jpg/**/*.jpg"))[:3]:
        (films / film.name).write_bytes(film.read_bytes())
    main(["predict", "--run", str(finished_run), "--images", str(films), "--trainer.enable_progress_bar=false"])
    (folder,) = (finished_run / "predict").iterdir()
    table = pd.read_csv(folder / "predictions.csv")
    assert len(table) == 3
    assert table[["prob_Normal", "prob_CHF", "prob_pneumonia"]].sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-5)
    assert len(list(folder.glob("overlays/*.png"))) == 3


def test_resolved_configuration_holds_what_was_asked_for(finished_run):
    config = yaml.safe_load((finished_run / "config.yaml").read_text())
    assert config["data"]["init_args"]["image_size"] == [48, 40]
    assert config["model"]["init_args"]["gaze_target"] == "intended"
    assert config["experiment"] == "ggcam_resnet50"


def test_resolved_configuration_runs_again_in_a_folder_of_its_own(finished_run, tmp_path):
    main(["fit", "--config", str(finished_run / "config.yaml"), f"--runs={tmp_path}"])
    (again,) = (tmp_path / "ggcam_resnet50").iterdir()
    assert (again / "checkpoints" / "best.ckpt").is_file()


def test_command_line_wins_over_the_checkpoint_and_says_so(finished_run, tmp_path):
    with pytest.warns(UserWarning, match=r"lr: 0\.25 here, 0\.001 in the checkpoint"):
        main(["test", "--run", str(finished_run), "--model.init_args.lr=0.25", f"--run_dir={tmp_path}"])
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["model"]["init_args"]["lr"] == 0.25


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--model.init_args.learning_rate=1"], "learning_rate"),
        (["--data.init_args.batchsize=2"], "batchsize"),
        (["--trainer.max_epoch=2"], "max_epoch"),
        (["--model.init_args.lr=fast"], "fast"),
        (["--model.init_args.class_names=[a,b]"], "would be ignored"),
        (["--data.init_args.seed=3"], "--seed_everything"),
    ],
)
def test_misspelt_or_unusable_key_never_runs(tiny, tmp_path, capsys, extra, message):
    with pytest.raises(SystemExit) as stop:
        main(["fit", *tiny("baseline_resnet18"), f"--runs={tmp_path}", *extra])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_unknown_experiment_exits_2_and_lists_the_existing_ones(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", "--config", "ggcam_resnet5"])
    assert stop.value.code == 2
    assert "ggcam_resnet50_released" in capsys.readouterr().err


def test_unknown_name_is_refused_before_torch_is_imported():
    code = (
        "import sys; from gaze_lightning.main import main\n"
        "try: main(['fit', '--config', 'nothing'])\nexcept SystemExit: print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


@pytest.mark.parametrize("name", ["egd_cxr", "reflacx"])
def test_missing_root_names_what_was_looked_for_and_the_variable_to_set(tiny, tmp_path, capsys, name):
    with pytest.raises(SystemExit) as stop:
        main(["fit", *tiny("baseline_resnet18", f"data/{name}", "setting/demo", root=tmp_path), f"--runs={tmp_path}"])
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert "DATA_ROOT" in message
    assert str(tmp_path) in message
    assert not list(tmp_path.glob("baseline_resnet18/*"))


@pytest.mark.parametrize("name", ["egd_cxr", "reflacx"])
def test_credentialed_layouts_train_through_the_same_command(tiny, phantom_root, tmp_path, name):
    main(["train", *tiny("ggcam_resnet50", f"data/{name}", "setting/demo", root=phantom_root), f"--runs={tmp_path}"])
    (run,) = (tmp_path / "ggcam_resnet50").iterdir()
    assert (run / "results.json").is_file()


def test_preview_draws_films_with_fixations_and_maps(small_data, tmp_path):
    picture = tmp_path / "preview.png"
    main(["preview", "--config=data/phantom", *small_data(), "--cases=2", f"--output={picture}"])
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert cv2.imread(str(picture)).std() > 20


def test_phantom_is_written_anywhere_with_any_knob(tmp_path):
    sizes = ["--knobs.n_train=3", "--knobs.n_validate=3", "--knobs.n_test=3", "--knobs.height=96", "--knobs.width=80"]
    main(["phantom", f"--root={tmp_path / 'my phantom'}", *sizes, "--workers=1"])
    assert len(list((tmp_path / "my phantom").glob("physionet.org/files/mimic-cxr-jpg/**/*.jpg"))) >= 9


def test_a_run_is_never_overwritten(finished_run, tiny, capsys):
    before = (finished_run / "results.json").read_bytes()
    with pytest.raises(SystemExit) as stop:
        main(["train", *tiny("baseline_resnet18"), f"--run_dir={finished_run}"])
    assert stop.value.code == 2
    assert "never overwritten" in capsys.readouterr().err
    assert (finished_run / "results.json").read_bytes() == before


def test_linked_key_in_a_file_is_refused_too(tiny, tmp_path, capsys):
    mine = tmp_path / "mine.yaml"
    mine.write_text("model:\n  init_args:\n    label_type: multi\n")
    with pytest.raises(SystemExit) as stop:
        main(["fit", *tiny("baseline_resnet18"), f"--config={mine}", f"--runs={tmp_path}"])
    assert stop.value.code == 2
    assert "label_type would be ignored" in capsys.readouterr().err


def test_validate_prints_its_numbers(finished_run, capsys):
    main(["validate", "--run", str(finished_run), "--trainer.enable_progress_bar=false"])
    assert "val/auroc_macro" in capsys.readouterr().out


def test_layers_can_be_added_to_a_finished_run(finished_run, tmp_path):
    main(["validate", "--run", str(finished_run), "--config", "trainer/cpu", f"--run_dir={tmp_path / 'again'}"])
    assert (tmp_path / "again" / "config.yaml").is_file()


def test_predicting_a_folder_without_a_run_says_what_is_missing(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["predict", "--images", str(tmp_path)])
    assert stop.value.code == 2
    assert "--run" in capsys.readouterr().err


def test_pretrained_file_is_accounted_for_on_the_console_and_zero_matches_stop_the_run(tiny, tmp_path, caplog):
    net = timm.create_model("test_resnet.r160_in1k", in_chans=1, num_classes=0)
    weights = net.state_dict()
    weights.pop(next(iter(weights)))
    save_file(weights, tmp_path / "backbone.safetensors")
    pretrained = f"--model.init_args.pretrained={tmp_path / 'backbone.safetensors'}"
    caplog.set_level(logging.INFO)
    main(["fit", *tiny("baseline_resnet18"), pretrained, f"--run_dir={tmp_path / 'run'}"])
    assert f"Pretrained weights: {len(weights)} matched; 1 missing" in caplog.text
    save_file({"nothing.like.it": weights[next(iter(weights))]}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="another architecture"):
        main(["fit", *tiny("baseline_resnet18"), pretrained.replace("backbone.s", "other.s"), f"--runs={tmp_path}"])


def test_phantom_read_as_a_credentialed_source_is_called_synthetic(tiny, phantom_root, tmp_path):
    main(
        ["fit", *tiny("baseline_resnet18", "data/egd_cxr", "setting/demo", root=phantom_root), f"--run_dir={tmp_path}"]
    )
    main(["test", "--run", str(tmp_path), f"--run_dir={tmp_path / 'tested'}"])
    assert "synthetic" in json.loads((tmp_path / "tested" / "results.json").read_text())["data"]


_STAGED = [
    "--config=cooperative_densenet201",
    "--model.init_args.backbone=test_resnet.r160_in1k",
    "--model.init_args.width=0.0625",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    *(f"--staged_training.sizes.{stage}.epochs=1" for stage in ("contrastive", "classify", "saliency", "fusion")),
]


def test_a_plan_of_stages_that_cannot_work_ends_with_its_reason_alone(small_data, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main(["train", *small_data(), *_STAGED, "--staged_training.sizes.fusion.lr=-1", f"--runs={tmp_path}"])
    assert end.value.code == 2
    assert "stage 'fusion': lr is -1" in capsys.readouterr().err


def test_a_training_that_stops_before_its_last_stage_is_not_tested_as_if_it_were_the_result(
    small_data, tmp_path, caplog
):
    caplog.set_level(logging.INFO)
    main(["train", *small_data(), *_STAGED, "--trainer.max_steps=1", f"--run_dir={tmp_path / 'run'}"])
    assert "Not tested: stage 1 of 4 (contrastive) was not finished" in caplog.text
    assert not (tmp_path / "run" / "results.json").exists()


def test_classes_are_asked_of_data_that_have_them(tmp_path, capsys):
    (tmp_path / "films").mkdir()
    cv2.imwrite(str(tmp_path / "films" / "a.png"), 128 * np.ones((32, 32), np.uint8))
    (tmp_path / "fixations.csv").write_text("image,x,y,duration\nfilms/a.png,4,5,0.3\n")
    data = ["--data.class_path=ManifestDataModule", f"--data.init_args.root={tmp_path}"]
    data += ["--data.init_args.fixations_csv=fixations.csv"]
    with pytest.raises(SystemExit) as end:
        main(["train", "--config=baseline_resnet18", "--config=data/manifest", *data, f"--runs={tmp_path / 'runs'}"])
    assert end.value.code == 2
    assert "learns classes, and these data have no labels" in capsys.readouterr().err
