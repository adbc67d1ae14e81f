from pathlib import Path

import pytest
import yaml

from callbacks import StagedTraining
from gaze_lightning.layers import GROUPS, ROOT, UnknownNameError, available, description, resolve, task_of
from tests.built_only import BuiltOnly


def _names(files):
    return [str(Path(file).relative_to(ROOT).with_suffix("")) for file in files]


def test_experiment_brings_its_layers_in_order():
    assert _names(resolve(["ggcam_resnet50"]).files) == [
        "_base/common",
        "data/phantom",
        "trainer/auto",
        "logger/csv",
        "ggcam_resnet50",
        "setting/demo",
        "setting/demo/GGCAM",
    ]


def test_real_data_default_to_the_paper_setting_and_the_phantom_to_the_demo():
    assert resolve(["ggcam_resnet50"]).choice["setting"] == "demo"
    assert resolve(["ggcam_resnet50", "data/reflacx"]).choice["setting"] == "paper"
    assert resolve(["ggcam_resnet50", "data/reflacx", "setting/demo"]).choice["setting"] == "demo"


def test_what_a_setting_changes_for_task_experiment_and_data_comes_after_it_from_general_to_special():
    files = _names(resolve(["ggcam_efficientnetv2_s", "setting/paper", "data/mimic_cxr"]).files)
    assert [file.removeprefix("setting/paper") for file in files[-5:]] == [
        "",
        "/GGCAM",
        "/ggcam_efficientnetv2_s",
        "/mimic_cxr",
        "/mimic_cxr.GGCAM",
    ]


def test_files_of_a_setting_belong_to_a_task_a_source_or_an_experiment():
    tasks = {task_of(name) for name in available()}
    sources = set(available("data"))
    known = tasks | sources | {f"{source}.{task}" for source in sources for task in tasks} | set(available())
    found = {path.stem for setting in available("setting") for path in (ROOT / "setting" / setting).glob("*.yaml")}
    assert found <= known


def test_files_come_last(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("seed_everything: 3\n")
    assert resolve([str(mine), "baseline_resnet18"]).files[-1] == mine
    assert resolve([str(mine)]).files == (mine,)


@pytest.mark.parametrize("name", ["ggcam_resnet51", "data/reflax", "setting/big", "logger/none"])
def test_unknown_name_lists_the_existing_ones(name):
    with pytest.raises(UnknownNameError) as error:
        resolve([name])
    group = name.partition("/")[0] if "/" in name else None
    assert all(known in str(error.value) for known in available(group))


def test_two_experiments_at_once_are_refused():
    with pytest.raises(UnknownNameError, match="one experiment at a time"):
        resolve(["ggcam_resnet50", "baseline_resnet50"])


@pytest.mark.parametrize("name", available())
def test_experiment_file_is_short_says_what_it_is_and_leaves_other_layers_alone(name):
    text = (ROOT / f"{name}.yaml").read_text()
    assert len(text.splitlines()) <= 40
    assert len(description(name)) > 20
    assert all(description(name) != description(other) for other in available() if other != name)
    assert f"EXP={name}" in text.splitlines()[1]
    assert not {"data", "seed_everything", "run_dir"} & yaml.safe_load(text).keys()


@pytest.mark.parametrize("group", GROUPS)
def test_every_group_has_its_defaults(group):
    default = {"data": "phantom", "trainer": "auto", "logger": "csv", "setting": "demo"}[group]
    assert default in available(group)


def test_one_size_of_a_stage_can_be_changed_alone_from_the_command_line_and_from_a_later_file(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("staged_training: {sizes: {saliency: {epochs: 9}}}\n")
    files = resolve(["cooperative_densenet201", "data/egd_cxr", str(mine)]).files
    arguments = [argument for file in files for argument in ("--config", str(file))]
    arguments += [f"--data.init_args.root={tmp_path}", "--model.init_args.backbone=test_resnet"]
    cli = BuiltOnly(["fit", *arguments, "--staged_training.sizes.fusion.epochs=1", f"--run_dir={tmp_path}"])
    (staged,) = (one for one in cli.trainer.callbacks if isinstance(one, StagedTraining))
    assert [(stage.name, stage.epochs, stage.lr) for stage in staged.stages] == [
        ("contrastive", 50, 1e-4),
        ("classify", 10, 1e-4),
        ("saliency", 9, 1e-4),
        ("fusion", 1, 1e-4),
    ]
    assert (staged.stages[0].batch_size, staged.stages[0].image_scale) == (32, 0.5)
