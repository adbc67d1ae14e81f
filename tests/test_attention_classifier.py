"""The task of global attention: through the command line on the phantom, and piece by piece."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from pytorch_lightning import Trainer
from torch.nn import functional as F

from data_modules import PhantomDataModule
from data_modules.augment import Augmentation
from gaze_lightning.errors import ConfigurationError
from gaze_lightning.main import main
from gaze_lightning.metrics.attention_agreement import attention_agreement, global_map_values, on_film
from gaze_lightning.models import BatchStackAttention, GlobalAttention
from gaze_lightning.tasks import AttentionClassifier, Classifier
from gaze_lightning.tasks.anchors import make_anchors

SIZE = (48, 40)
_KNOBS = ("n_train", "n_validate", "n_test", "height", "width", "missing_gaze")


@pytest.fixture(scope="module")
def small(phantom_arguments, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return [
        *phantom_arguments,
        f"--data.init_args.cache_dir={cache}",
        "--data.init_args.batch_size=4",
        "--data.init_args.image_size=[48,40]",
        "--data.init_args.saliency_size=[24,20]",
        "--model.init_args.backbone=test_resnet.r160_in1k",
        "--model.init_args.output_stride=32",
        "--model.init_args.n_anchors=16",
        "--model.init_args.schedule=constant",
        "--trainer.max_epochs=2",
        "--trainer.accelerator=cpu",
        "--trainer.enable_progress_bar=false",
        "--test_report.n_boot=10",
    ]


@pytest.fixture(scope="module")
def trained(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    main(["train", "--config=global_attention_resnet18", *small, f"--run_dir={folder}"])
    return folder


@pytest.fixture
def make_data(phantom_root, phantom_knobs, tmp_path):
    knobs = {name: value for name, value in vars(phantom_knobs).items() if name in _KNOBS}

    def make():
        module = PhantomDataModule(
            root=str(phantom_root),
            phantom_seed=phantom_knobs.seed,
            image_size=SIZE,
            saliency_size=(24, 20),
            batch_size=4,
            eval_batch_size=4,
            cache_dir=str(tmp_path / "cache"),
            augmentation=Augmentation(rotate=8, scale=0.1, translate=0.05, flip=0.5),
            **knobs,
        )
        module.prepare_data()
        module.setup("fit")
        return module

    return make


@pytest.fixture
def data(make_data):
    return make_data()


def task_for(data, **options) -> AttentionClassifier:
    torch.manual_seed(3)
    task = AttentionClassifier(
        data.class_names, backbone="test_resnet.r160_in1k", **{"n_anchors": 16, "lr": 1e-2, **options}
    )
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.datamodule = data
    task.trainer = trainer
    task.setup("fit")
    return task


def batches_of(data, n=3):
    loader = data.train_dataloader()
    return [data.on_after_batch_transfer(batch, 0) for batch, _ in zip(loader, range(n), strict=False)]


def test_a_run_keeps_the_map_and_no_film(trained):
    checkpoint = torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)
    weights = checkpoint["state_dict"]
    assert weights["attention.stored_map"].shape == (1, 1, *SIZE)
    assert max(value.numel() for name, value in weights.items() if name.startswith("attention.")) == SIZE[0] * SIZE[1]
    assert not [name for name in weights if "anchors" in name or "mean_gaze" in name]
    assert not [value for value in weights.values() if value.numel() >= 16 * SIZE[0] * SIZE[1] and value.shape[-1] > 7]
    assert len(checkpoint["anchor_digest"]) == 16
    results = json.loads((trained / "results.json").read_text())
    assert {"attention_cc", "attention_kl", "attention_cc_vs_mean_map"} <= set(results["metrics"])
    assert results["metrics"]["attention_cc"]["references"].keys() >= {"mean_map", "centre"}
    metrics = pd.read_csv(trained / "metrics.csv")
    assert metrics["train/attention_mean"].dropna().between(0, 1).all()
    assert {"train/attention_film_cc", "train/attention_gaze_cc", "train/attention_gaze_kl"} <= set(metrics.columns)


def test_prediction_needs_the_run_and_no_training_film(trained, phantom_root, tmp_path):
    films = tmp_path / "films"
    films.mkdir()
    predictions = pd.read_csv(trained / "predictions.csv", dtype={"sample_id": str}).set_index("sample_id")
    for name in predictions.index[:3]:
        (source,) = phantom_root.rglob(f"{name}.jpg")
        shutil.copy(source, films)
    main(["predict", "--run", str(trained), "--images", str(films), f"--run_dir={tmp_path / 'out'}"])
    again = pd.read_csv(tmp_path / "out" / "predictions.csv", dtype={"sample_id": str})
    assert len(again) == 3
    columns = [name for name in again.columns if name.startswith("prob_")]
    for _, row in again.iterrows():
        given = predictions.loc[row["sample_id"].removesuffix(".jpg"), columns].to_numpy(dtype=float)
        assert row[columns].to_numpy(dtype=float) == pytest.approx(given, abs=1e-5)


def test_a_training_goes_on_with_its_own_anchors_only(small, trained, tmp_path, capsys):
    last = trained / "checkpoints" / "last.ckpt"
    arguments = ["fit", "--config=global_attention_resnet18", *small, "--trainer.max_epochs=3", f"--ckpt_path={last}"]
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--model.init_args.anchor_seed=1", f"--run_dir={tmp_path / 'other'}"])
    assert stopped.value.code == 2
    assert "anchors" in capsys.readouterr().err
    main([*arguments, f"--run_dir={tmp_path / 'own'}"])
    assert (tmp_path / "own" / "checkpoints" / "last.ckpt").is_file()


def test_one_task_evaluates_checkpoints_of_other_maps_and_trains_on_its_own_anchors_only(make_data, trained):
    data = make_data()
    best = trained / "checkpoints" / "best.ckpt"
    checkpoint = torch.load(best, weights_only=True)
    task = AttentionClassifier.load_from_checkpoint(best, map_location="cpu", weights_only=True)
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    for _ in range(2):
        trainer.test(task, datamodule=data, ckpt_path=best, verbose=False, weights_only=True)
        assert torch.equal(task.global_map(), checkpoint["state_dict"]["attention.stored_map"][0, 0])
    other = task_for(data, n_anchors=9)
    trainer.test(other, datamodule=data, ckpt_path=best, verbose=False, weights_only=True)
    assert torch.equal(other.global_map(), checkpoint["state_dict"]["attention.stored_map"][0, 0])
    trained_on = make_data()
    task.trainer = trainer
    trainer.datamodule = trained_on
    theta = [parameter.clone() for parameter in task.attention.parameters()]
    task.setup("fit")  # the same films: goes on with what it has learnt
    assert all(torch.equal(p, q) for p, q in zip(task.attention.parameters(), theta, strict=True))
    task._anchor_seed = 1
    with pytest.raises(ConfigurationError, match="digest"):
        task.setup("fit")


def test_a_data_module_moves_its_films_itself_after_the_training(data):
    task = task_for(data)
    assert "warp" in batches_of(data, 1)[0]
    task.teardown("fit")
    assert "warp" not in batches_of(data, 1)[0]


def test_a_handful_of_anchors_is_refused(data):
    with pytest.raises(ConfigurationError, match="single films"):
        task_for(data, n_anchors=3)


def test_the_map_is_the_same_for_all_films_all_batch_sizes_and_any_order(data):
    task = task_for(data).eval()
    (batch,) = batches_of(data, 1)
    image = batch["image"]
    before = task.global_map().clone()
    whole, maps = task(image)
    for rows in ([2, 0, 3, 1], [1], [3, 3, 0]):
        some, some_maps = task(image[rows])
        torch.testing.assert_close(some, whole[rows], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(some_maps, maps[rows], rtol=1e-4, atol=1e-5)
        assert task._weighed_by.shape == (1, 1, *SIZE)
        assert torch.equal(task._weighed_by[0, 0], before)


def test_the_image_loss_alone_moves_the_pixel_classifier_and_the_stored_map_follows(data):
    task = task_for(data).train()
    assert isinstance(task.attention, GlobalAttention)
    before = task.global_map().clone()
    optimizer = torch.optim.SGD(task.parameter_groups(), lr=0.1)
    for batch in batches_of(data):
        assert batch["warp"].shape == (4, 2, 3)
        loss = task.loss_for(task.active_loss_terms, batch)
        literal = F.cross_entropy(task.outputs(batch)[0], batch["label"])
        torch.testing.assert_close(loss, literal, rtol=1e-4, atol=1e-5)  # nothing is added by default
        optimizer.zero_grad()
        loss.backward()
        assert all(parameter.grad.abs().max() > 0 for parameter in task.attention.parameters())
        optimizer.step()
    task._store_map()
    assert not torch.equal(task.global_map(), before)
    assert torch.equal(task.global_map(), task.attention.current_map()[0, 0])


def test_a_map_of_ones_is_the_plain_classifier_on_films_that_the_loader_augments(make_data):
    data = make_data()
    task = task_for(data).eval()
    task.attention.stored_map.fill_(1.0)
    plain = Classifier(data.class_names, backbone="test_resnet.r160_in1k").eval()
    plain.model.load_state_dict(task.model.state_dict())
    for late, early in zip(batches_of(data), batches_of(make_data()), strict=True):
        assert late["sample_id"] == early["sample_id"]
        assert "warp" not in early
        assert not torch.equal(late["image"], early["image"])
        assert torch.equal(late["fixations"], early["fixations"])
        assert torch.equal(task(late["image"])[0], plain(late["image"])[0])
        # cv2 places pixels to 1/32 and rounds grey values, torch does neither
        torch.testing.assert_close(task.outputs(late)[0], plain(early["image"])[0], rtol=0.05, atol=0.02)


def test_a_residual_map_of_zeros_is_the_plain_classifier(data):
    task = task_for(data, fusion="residual").eval()
    task.attention.stored_map.zero_()
    plain = Classifier(data.class_names, backbone="test_resnet.r160_in1k").eval()
    plain.model.load_state_dict(task.model.state_dict())
    image = batches_of(data, 1)[0]["image"]
    assert torch.equal(task(image)[0], plain(image)[0])


@pytest.mark.parametrize("attention", ["anchor_set", "free_mask", "batch_stack"])
def test_a_frozen_map_stays_bit_for_bit_while_the_network_trains(data, attention):
    task = task_for(data, attention=attention).train()
    optimizer = torch.optim.AdamW(task.parameter_groups(), lr=0.1)
    for batch in batches_of(data):  # the optimiser has a momentum when the map freezes
        optimizer.zero_grad()
        task.loss_for(task.active_loss_terms, batch).backward()
        optimizer.step()
    task._store_map()
    task._freeze_epoch = 0
    task.on_train_start()
    before = [parameter.detach().clone() for parameter in task.attention.parameters()]
    stored, first = task.global_map().clone(), next(task.model.parameters()).detach().clone()
    for batch in batches_of(data):
        loss = task.loss_for(task.active_loss_terms, batch)
        optimizer.zero_grad()
        loss.backward()
        assert all(parameter.grad is not None for parameter in task.parameters())  # DDP waits for every one
        task.on_before_optimizer_step(optimizer)
        optimizer.step()
    for parameter, value in zip(task.attention.parameters(), before, strict=True):
        assert torch.equal(parameter, value)
    task._store_map()
    assert torch.equal(task.global_map(), stored)
    assert not torch.equal(next(task.model.parameters()), first)


def test_the_maps_parameters_have_a_rate_of_their_own_and_no_decay(data):
    task = task_for(data, attention_lr=0.3, weight_decay=0.1)
    groups = {group["name"]: group for group in task.parameter_groups()}
    assert groups["attention"]["lr"] == 0.3
    assert groups["attention"]["weight_decay"] == 0
    counted = [id(parameter) for group in groups.values() for parameter in group["params"]]
    assert sorted(counted) == sorted(id(parameter) for parameter in task.parameters())


def test_the_options_of_the_loss_are_what_they_say(data):
    weights = {"sparsity": 0.3, "total_variation": 0.2, "gaze_weight": 0.5}
    task = task_for(data, **weights).eval()
    (batch,) = batches_of(data, 1)
    a, gaze = task.global_map().double(), task.mean_gaze.double()
    q = gaze / gaze.sum()
    p = a / a.sum()
    differences = torch.cat([(a[1:] - a[:-1]).abs().flatten(), (a[:, 1:] - a[:, :-1]).abs().flatten()])
    literal = {
        "sparsity": a.mean(),
        "total_variation": differences.mean(),
        "gaze_weight": (torch.xlogy(q, q) - q * p.log()).sum(),
    }
    plain = F.cross_entropy(task.outputs(batch)[0], batch["label"])
    expected = plain.double() + sum(weight * literal[name] for name, weight in weights.items())
    torch.testing.assert_close(task.loss_for(task.active_loss_terms, batch).double(), expected, rtol=1e-5, atol=1e-6)


def test_the_map_can_start_from_the_mean_gaze(data):
    started = task_for(data, start_from_gaze=True)
    statistics = data.film_statistics()
    values = {
        name: global_map_values(task.global_map(), statistics.mean, statistics.coverage, data.mean_training_gaze())
        for name, task in (("plain", task_for(data)), ("gaze", started))
    }
    assert values["gaze"]["gaze_cc"] > max(0.5, float(values["plain"]["gaze_cc"]) + 0.2)
    assert values["gaze"]["gaze_kl"] < values["plain"]["gaze_kl"]


def test_a_batch_stack_refuses_another_batch_size_and_predicts_single_films(data):
    task = task_for(data, attention="batch_stack").train()
    assert isinstance(task.attention, BatchStackAttention)
    (batch,) = batches_of(data, 1)
    task.outputs(batch)
    with pytest.raises(ConfigurationError, match="batch"):
        task(batch["image"][:3])
    task._store_map()
    task.eval()
    alone = torch.cat([task(film[None])[0] for film in batch["image"]])
    torch.testing.assert_close(alone, task(batch["image"])[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("position", ["stem", "stage1", "stage3"])
def test_the_map_can_act_inside_the_network(data, position):
    task = task_for(data, position=position).train()
    for batch in batches_of(data, 1):
        task.loss_for(task.active_loss_terms, batch).backward()
        assert all(parameter.grad.abs().max() > 0 for parameter in task.attention.parameters())
    task.eval().attention.stored_map.fill_(1.0)
    plain = Classifier(data.class_names, backbone="test_resnet.r160_in1k").eval()
    plain.model.load_state_dict(task.model.state_dict())
    torch.testing.assert_close(task(batch["image"])[0], plain(batch["image"])[0])


def test_local_attention_has_a_map_for_each_film_and_none_for_all(data):
    task = task_for(data, attention="local").eval()
    (batch,) = batches_of(data, 1)
    assert "warp" not in batch  # its map belongs to the augmented film
    task(batch["image"])
    assert task._weighed_by.shape == (4, 1, *SIZE)
    assert task._weighed_by.flatten(1).std(dim=0).max() > 1e-4
    assert task.global_map() is None


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"position": "stage9"}, "stage1"),
        ({"n_anchors": 0}, "n_anchors"),
        ({"max_images": 0}, "max_images"),
        ({"sparsity": -1.0}, "sparsity"),
        ({"sparsity": 1.0, "rescale": True}, "rescale"),
        ({"attention": "local", "freeze_epoch": 2}, "freeze_epoch"),
        ({"attention": "batch_stack", "start_from_gaze": True}, "start_from_gaze"),
    ],
)
def test_what_cannot_be_is_refused(options, word):
    with pytest.raises(ValueError, match=word):
        AttentionClassifier(["a", "b"], backbone="test_resnet.r160_in1k", **options)


def test_a_data_module_without_training_films_is_refused():
    task = AttentionClassifier(["a", "b"], backbone="test_resnet.r160_in1k")
    task.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    with pytest.raises(ConfigurationError, match="training films"):
        task.setup("fit")


def test_controls_change_what_they_say_and_nothing_else(data):
    films = make_anchors(data, "films", 16, 512, 0)
    permuted = make_anchors(data, "permuted", 16, 512, 0)
    noise = make_anchors(data, "noise", 16, 512, 0)
    assert torch.equal(films.images.flatten(1).sort().values, permuted.images.flatten(1).sort().values)
    assert not torch.equal(films.images, permuted.images)
    assert noise.images.shape == films.images.shape
    assert len({films.digest, permuted.digest, noise.digest}) == 3
    mean = make_anchors(data, "mean_film", 16, 512, 0)
    assert mean.images.shape == (1, 1, *SIZE)
    own = data.film_statistics().mean
    expected = (own - own.mean()) / (own - own.mean()).square().mean().sqrt()
    torch.testing.assert_close(mean.images[0, 0], expected)
    compressed = make_anchors(data, "films", None, 4, 0)
    assert compressed.images.shape == (4, 1, *SIZE)
    assert "4 principal images" in compressed.note


def test_agreement_counts_the_film_only():
    generator = torch.Generator().manual_seed(0)
    attention = torch.rand(1, 1, 12, 10, generator=generator)
    batch = {
        "image": torch.zeros(2, 1, 24, 20),
        "saliency": torch.rand(2, 1, 12, 10, generator=generator),
        "film_box": torch.tensor([[0.0, 4.0, 20.0, 20.0], [2.0, 0.0, 18.0, 24.0]]),
    }
    inside = on_film(batch, (12, 10))
    assert inside[0].sum() == 8 * 10
    assert inside[1].sum() == 12 * 8
    batch["saliency"] = batch["saliency"] * inside[:, None].float()
    values = attention_agreement(attention, batch)
    for i in range(2):
        x = (attention[0, 0].double() * inside[i]).numpy().ravel()
        y = batch["saliency"][i, 0].double().numpy().ravel()
        assert float(values["attention_cc"][i]) == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-9)


def test_values_of_a_global_map_are_literal():
    rng = np.random.default_rng(0)
    a, film, gaze = rng.random((6, 5)), rng.random((6, 5)), rng.random((6, 5))
    coverage = (rng.random((6, 5)) > 0.3).astype(float)
    inside = coverage >= 0.5
    values = global_map_values(*(torch.from_numpy(x) for x in (a, film, coverage, gaze)))
    p, q = a[inside] / a[inside].sum(), gaze[inside] / gaze[inside].sum()
    assert float(values["mean"]) == pytest.approx(a.mean(), abs=1e-6)
    assert float(values["film_cc"]) == pytest.approx(np.corrcoef(a[inside], film[inside])[0, 1], abs=1e-6)
    assert float(values["gaze_cc"]) == pytest.approx(np.corrcoef(p, q)[0, 1], abs=1e-6)
    assert float(values["gaze_kl"]) == pytest.approx((q * np.log(q / p)).sum(), abs=1e-5)
