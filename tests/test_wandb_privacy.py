"""What an offline W&B run would upload."""

import time

import pytest
import timm
from safetensors.torch import save_file

from gaze_lightning.main import main


def test_offline_wandb_run_holds_scalars_and_no_path_no_id_no_image(
    phantom_root, phantom_arguments, tmp_path, monkeypatch
):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    weights = tmp_path / "p10000032.safetensors"
    save_file(timm.create_model("test_resnet.r160_in1k", in_chans=1, num_classes=0).state_dict(), weights)
    main(
        [
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
            f"--model.init_args.pretrained={weights}",
            "--trainer.limit_train_batches=5",
            "--trainer.max_epochs=2",
            "--trainer.accelerator=cpu",
            "--trainer.enable_progress_bar=false",
            "--cam_logger.every_n_epochs=1",
            f"--run_dir={tmp_path / 'run'}",
        ]
    )
    wandb.finish()
    folder = tmp_path / "run" / "wandb"
    for _ in range(60):  # wandb's own process writes the file a little later
        written = [path for path in folder.glob("offline-run-*/**/*") if path.is_file() and "logs" not in path.parts]
        content = b"".join(path.read_bytes() for path in written)
        if b"auroc_macro" in content:
            break
        time.sleep(0.5)
    assert b"auroc_macro" in content
    assert b"p10000032" not in content
    assert str(tmp_path).encode() not in content.replace(str(tmp_path / "run" / "wandb").encode(), b"")
    assert not [path for path in written if path.suffix in (".png", ".jpg", ".patch", ".py")]
    films = [path.stem for path in phantom_root.glob("physionet.org/files/mimic-cxr-jpg/*/files/*/*/*/*.jpg")]
    assert len(films) > 40
    assert not [film for film in films if film.encode() in content]
