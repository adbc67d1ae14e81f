"""Every experiment file, through the command line."""

import json
import logging

import pytest
import torch
import yaml

from gaze_lightning.layers import ROOT, available, resolve, task_of
from gaze_lightning.main import main
from tests.built_only import BuiltOnly
from tests.matrix_cases import PRETRAINING


@pytest.fixture
def no_weights(monkeypatch):
    """Networks keep whatever their memory held: drawing weights takes longer than all else where nothing is run."""
    drawing = [name for name in vars(torch.nn.init) if name.endswith("_") and not name.startswith("_")]
    for name in drawing:
        if name not in ("constant_", "ones_", "zeros_"):
            monkeypatch.setattr(torch.nn.init, name, lambda tensor, *args, **options: tensor)


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Cache of resized films, shared by the experiments."""
    return tmp_path_factory.mktemp("films")


@pytest.fixture
def plain_pages(monkeypatch):
    """Pages of relations and maps have tests of their own; here only that they are written."""
    from matplotlib.figure import Figure

    for name in (
        "gaze_relations.draw_relation_page",
        "global_map_logger.draw_global_map",
        "global_map_logger.draw_evolution",
    ):
        monkeypatch.setattr(f"callbacks.{name}", lambda *given, **options: Figure((1, 1)))


def yaml_of(name):
    return yaml.safe_load((ROOT / f"{name}.yaml").read_text())


def _with_own_network() -> set[str]:
    """The first experiment of each network, with a decoder and without; the others train timm's smallest one here."""
    first: dict[tuple[bool, str], str] = {}
    for name in available():
        decoder = task_of(name) in ("Cooperative", "MultiTaskUNet")
        first.setdefault((decoder, yaml_of(name)["model"].get("init_args", {}).get("backbone", "")), name)
    return set(first.values())


_OWN_NETWORK = _with_own_network()


def given(name):
    """What a user must name for this experiment to run at all."""
    return ["--model.init_args.pretrained=scratch"] if task_of(name) == "PretrainedClassifier" else []


@pytest.mark.parametrize("name", available())
@pytest.mark.usefixtures("plain_pages")
def test_experiment_trains_and_tests_in_its_demo_setting(name, phantom_arguments, films, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    stages = (yaml_of(name).get("staged_training") or {}).get("stages") or []
    names = [stage["name"] for stage in stages]
    staged = "Cooperative" in task_of(name) and names  # the stages say how long, and start from each other's best epoch
    epochs = 3 if names else 1  # GG-CAM's first stage is a share of them
    sizes = ", ".join(f"{stage}: {{epochs: 1, lr: 0.001, image_scale: 0.5}}" for stage in names)
    main(
        [
            "train",
            f"--config={name}",
            *phantom_arguments,
            *given(name),
            *([] if name in _OWN_NETWORK else ["--model.init_args.backbone=test_resnet.r160_in1k"]),
            f"--data.init_args.cache_dir={films}",
            "--data.init_args.batch_size=4",
            "--checkpoint.save_last=false",
            "--cam_logger.on_test=false",  # pages of each task: test_matrix
            "--test_report.n_boot=10",
            f"--relations.folder={tmp_path / 'relations'}",
            "--trainer.limit_train_batches=1",
            f"--staged_training.sizes={{{sizes}}}" if staged else f"--trainer.max_epochs={epochs}",
            "--trainer.accelerator=cpu",
            "--trainer.enable_progress_bar=false",
            f"--runs={tmp_path}",
        ]
    )
    (run,) = (tmp_path / name).iterdir()
    assert (run / "results.json").is_file()
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True, mmap=True)
    results = json.loads((run / "results.json").read_text())
    assert results["n"] == 20
    if staged:
        assert [stage["stage"] for stage in json.loads((run / "stages.json").read_text())] == names
        assert {f"best-{stage}.ckpt" for stage in names[:-1]} <= {path.name for path in (run / "checkpoints").iterdir()}
    if task_of(name) in ("Cooperative", "MultiTaskUNet"):
        assert {"saliency_cc", "saliency_nss_vs_mean_map"} <= set(results["metrics"])
    if task_of(name) in PRETRAINING:
        assert {"auroc_macro", "knn/auroc_macro"} <= set(results["metrics"])
        assert results["classifier"] == "linear probe on frozen features"
        assert (run / "relations.json").is_file() == (
            yaml_of(name)["model"]["init_args"]["positives"] in ("gaze", "shuffled")
        )
    if "ggcam" in name:  # the gaze stage is one of the three epochs, and selection begins after it
        assert "stage 1/2 gaze: epochs 0-0, loss: gaze" in caplog.text
        assert best["epoch"] >= 1


_PAPER_SIZES = {
    "AttentionClassifier": (224, 224),
    "Classifier": (1536, 1280),
    "GGCAM": (1536, 1280),
    "MultiTaskUNet": (640, 512),
    "Cooperative": (640, 512),
} | dict.fromkeys((*PRETRAINING, "PretrainedClassifier"), (224, 224))
_AT_224 = (  # compared with global attention, whose published values are not known
    "baseline_densenet121",
    "baseline_googlenet",
    "baseline_resnet18",
    "baseline_vgg16",
    "global_attention_control_se_resnet18",
)
_PAPER_SIZE_OF = {"baseline_densenet201": (640, 512)} | dict.fromkeys(_AT_224, (224, 224))
_PAPER_RATES = {"efficientnet": 6e-3, "densenet": 1e-4, "mtunet": 1e-4}


_OF_OTHERS = ("Classifier", "GGCAM", "MultiTaskUNet", "Cooperative")
_FIRST = {(task_of(name), _PAPER_SIZE_OF.get(name)): name for name in reversed(available())}.values()
_ALIKE = [name for name in available() if task_of(name) not in _OF_OTHERS or name not in _FIRST]
"""One kind of data is enough for these."""
_OWN_RATES = {"moco": 2e-3, "byol": 2e-5, "simsiam": 0.05, "simclr": 0.075, "finetune": 1e-3, "linear_probe": 1e-3}


@pytest.mark.parametrize(
    ("name", "data"),
    [
        (name, data)
        for name in available()
        for data in (["reflacx"] if name in _ALIKE else ["egd_cxr", "reflacx", "joint"])
    ],
)
@pytest.mark.usefixtures("no_weights")
def test_paper_setting_is_parsed_and_built(name, data, tmp_path):
    layers = resolve([name, f"data/{data}"])
    assert layers.choice["setting"] == "paper"
    files = [argument for file in layers.files for argument in ("--config", str(file))]
    cli = BuiltOnly(
        [
            "fit",
            *files,
            *given(name),
            f"--data.init_args.root={tmp_path}",
            f"--run_dir={tmp_path}",
            "--trainer.accelerator=cpu",
        ]
    )
    size = _PAPER_SIZE_OF.get(name, _PAPER_SIZES[task_of(name)])
    assert cli.datamodule.image_size == size
    rates, rest = (_OWN_RATES, 1e-4) if size == (224, 224) else (_PAPER_RATES, 5e-3)
    rate = next((rate for word, rate in rates.items() if word in name), rest)
    assert cli.model.hparams["lr"] == pytest.approx(rate)
    assert sum(parameter.numel() for parameter in cli.model.parameters()) > 5e6
    assert cli.model.hparams["divide_by_max"] == (task_of(name) not in (*PRETRAINING, "PretrainedClassifier"))


@pytest.mark.parametrize(
    "name", [name for name in available() if task_of(name) in ("AttentionClassifier", "Classifier", "GGCAM")]
)
@pytest.mark.usefixtures("no_weights")
def test_mimic_cxr_has_a_setting_for_its_number_of_films(name, tmp_path):
    files = resolve([name, "data/mimic_cxr"]).files
    arguments = [argument for file in files for argument in ("--config", str(file))]
    cli = BuiltOnly(
        ["fit", *arguments, f"--data.init_args.root={tmp_path}", f"--run_dir={tmp_path}", "--trainer.accelerator=cpu"]
    )
    assert cli.datamodule.image_size == (224, 224)
    assert cli.trainer.max_epochs == 20
    assert cli.model.hparams["lr"] == 1e-4
    assert not any(type(callback).__name__ == "ReloadOnPlateau" for callback in cli.trainer.callbacks)


@pytest.mark.parametrize(
    ("backbone", "data"),
    [("densenet121", "egd_cxr"), ("resnet18", "mimic_cxr"), ("googlenet", "nih_cxr"), ("vgg16", "phantom")],
)
@pytest.mark.usefixtures("no_weights")
def test_global_attention_and_its_baseline_differ_in_attention_only(backbone, data, tmp_path):
    resolved = []
    for arm in ("baseline", "global_attention"):
        files = resolve([f"{arm}_{backbone}", f"data/{data}"]).files
        arguments = [argument for file in files for argument in ("--config", str(file))]
        root = f"--data.init_args.root={tmp_path}"
        cli = BuiltOnly(["fit", *arguments, root, f"--run_dir={tmp_path}", "--trainer.accelerator=cpu"])
        config = cli.config["fit"].clone()
        config.model.class_path = ""
        resolved.append(config)
    plain, attended = resolved
    own = set(attended.model.init_args.keys()) - set(plain.model.init_args.keys())
    assert "attention" in own
    for name in own:
        del attended.model.init_args[name]
    assert plain.model == attended.model
    assert plain.data == attended.data
    assert plain.trainer == attended.trainer
