"""Learning tests: a planted signal is found on held-out phantoms, in seconds. Synthetic, and easy on purpose."""

import json

import pytest

from gaze_lightning.main import main

_EASY = [
    "--data.init_args.n_train=120",
    "--data.init_args.n_validate=12",
    "--data.init_args.n_test=60",
    "--data.init_args.height=96",
    "--data.init_args.width=80",
    "--data.init_args.chf_contrast=1.5",
    "--data.init_args.pneumonia_contrast=10",
    "--data.init_args.gaze_lesion_share=0.8",
    "--data.init_args.gaze_miss_rate=0",
    "--data.init_args.image_size=[60,50]",
    "--data.init_args.saliency_size=[24,20]",
    "--model.init_args.backbone=test_resnet.r160_in1k",
    "--model.init_args.output_stride=16",
    "--model.init_args.lr=0.003",
    "--trainer.max_epochs=12",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--cam_logger.every_n_epochs=0",
    "--cam_logger.on_test=false",
    "--test_report.n_boot=10",
]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Test results of the plain classifier and of GG-CAM on the same easy phantom."""
    folder = tmp_path_factory.mktemp("learning")
    found = {}
    for name in ("baseline_resnet18", "ggcam_resnet50"):
        places = [f"--data.init_args.root={folder / 'phantom'}", f"--data.init_args.cache_dir={folder / 'cache'}"]
        main(["train", f"--config={name}", *_EASY, *places, f"--run_dir={folder / name}"])
        metrics = json.loads((folder / name / "results.json").read_text())["metrics"]
        found[name] = {metric: measured["value"] for metric, measured in metrics.items()}
    return found


def test_plain_classifier_finds_the_planted_signs_on_patients_it_never_saw(results):
    assert results["baseline_resnet18"]["auroc_macro"] > 0.75


def test_guided_maps_agree_with_held_out_gaze_more_than_unguided_ones(results):
    assert results["ggcam_resnet50"]["gaze_cc"] > results["baseline_resnet18"]["gaze_cc"] + 0.1
    assert results["ggcam_resnet50"]["gaze_cc"] > 0.3
