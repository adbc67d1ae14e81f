import math
import warnings
from dataclasses import replace

import pytest
import torch
from pytorch_lightning import Trainer
from torch.utils.data import DataLoader

from gaze_lightning.protocols import HasLossTerms, MakesCAMs
from gaze_lightning.tasks import GGCAM, Classifier

warnings.filterwarnings("ignore", module="pytorch_lightning")
CLASSES = ["Normal", "CHF", "pneumonia"]
H, W = 96, 64


def make_batch(n=4, seed=0, label_type="single", gaze=True, planted=False):
    """Films with one bright spot; gaze rests on it (``planted``) or anywhere."""
    generator = torch.Generator().manual_seed(seed)
    image = 0.1 * torch.rand(n, 1, H, W, generator=generator)
    spot = torch.stack([16 + 32 * torch.randint(0, 2, (n,), generator=generator) for _ in range(2)], dim=1).float()
    label = torch.arange(n) % 3
    if planted:
        for i in range(n):
            x, y = int(spot[i, 0]), int(spot[i, 1])
            image[i, 0, y - 8 : y + 8, x - 8 : x + 8] += 0.3 * (1 + label[i])
    points = torch.rand(n, 6, 5, generator=generator)
    points[..., 0], points[..., 1] = points[..., 0] * W, points[..., 1] * H
    if planted:
        points[..., :2] = spot[:, None] + 2 * torch.randn(n, 6, 2, generator=generator)
    points[..., 3:] = 5.0
    has_gaze = torch.full((n,), gaze)
    saliency = torch.rand(n, 1, 24, 16, generator=generator) * gaze
    return {
        "image": image,
        "sample_id": [f"s{seed}-{i}" for i in range(n)],
        "subject": [f"p{i}" for i in range(n)],
        "label": label if label_type == "single" else torch.tensor([[1.0, 0.0, math.nan]] * n),
        "has_gaze": has_gaze,
        "fixations": points,
        "fixation_mask": torch.ones(n, 6, dtype=torch.bool) & has_gaze[:, None],
        "saliency": saliency / saliency.sum(dim=(1, 2, 3), keepdim=True).clamp(min=1e-9),
    }


def only_image(batch):
    return {key: batch[key] for key in ("image", "sample_id")}


def loader(batches):
    return DataLoader(batches, batch_size=None, collate_fn=lambda batch: batch)


def trainer(path, **options):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    quiet |= {"enable_model_summary": False, "accelerator": "cpu", "max_epochs": 1, "log_every_n_steps": 1}
    return Trainer(default_root_dir=path, **(quiet | options))


def ggcam(**options):
    torch.manual_seed(0)
    return GGCAM(CLASSES, **({"backbone": "test_resnet"} | options))


def classifier(**options):
    torch.manual_seed(0)
    return Classifier(CLASSES, **({"backbone": "test_resnet"} | options))


def numel(module, trainable=False):
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trainable)


@pytest.mark.parametrize(
    ("options", "extra", "trainable"),
    [
        ({}, 3, 3),
        ({"train_beta": True}, 4, 4),
        ({"gaze_target": "released"}, 3, 2),
        ({"gaze_target": "raw_true"}, 3, 2),
    ],
)
def test_ggcam_has_three_parameters_more_than_the_classifier(options, extra, trainable):
    plain = classifier()
    assert numel(ggcam(**options)) - numel(plain) == extra
    assert numel(ggcam(**options), trainable=True) - numel(plain, trainable=True) == trainable


def test_tasks_fulfil_the_protocols():
    for task in (classifier(), ggcam()):
        assert isinstance(task, MakesCAMs)
        assert isinstance(task, HasLossTerms)
    maps = ggcam().class_activation_maps(only_image(make_batch()))
    assert maps.shape == (4, 3, 3, 2)


@pytest.mark.parametrize("label_type", ["single", "multi"])
@pytest.mark.parametrize("make", [classifier, ggcam])
def test_prediction_needs_image_and_id_only(tmp_path, make, label_type):
    task = make(label_type=label_type)
    (result,) = trainer(tmp_path).predict(task, loader([only_image(make_batch())]))
    assert result["sample_id"] == result["subject"] == ["s0-0", "s0-1", "s0-2", "s0-3"]
    assert result["cam"].shape == (4, 3, 3, 2)
    assert result["cam"].dtype == torch.float32
    logits = result["cam"].mean(dim=(2, 3)) + task.model.head.bias
    expected = logits.softmax(1) if label_type == "single" else 1 / (1 + (-logits).exp())
    torch.testing.assert_close(result["probability"], expected.detach())


@pytest.mark.parametrize("label_type", ["single", "multi"])
@pytest.mark.parametrize("make", [classifier, ggcam])
def test_fit_and_test_on_single_and_multi_label_data_with_and_without_gaze(tmp_path, make, label_type):
    batches = [make_batch(4, seed, label_type, gaze=seed != 1) for seed in range(3)]
    bare = {key: value for key, value in make_batch(4, 3, label_type).items() if key in ("image", "sample_id", "label")}
    task, run = make(label_type=label_type), trainer(tmp_path)
    run.fit(task, loader([*batches, bare]), loader(batches))
    logged = run.callback_metrics
    assert {"train/loss", "train/classification_loss", "val/loss", "val/auroc_macro", "val/cam_cc"} <= set(logged)
    assert math.isfinite(logged["val/loss"])
    assert math.isfinite(logged["val/cam_cc"])
    if make is ggcam:
        assert {"train/gaze_mse", "val/gaze_mse", "train/sigma_c", "train/sigma_d", "train/kappa"} <= set(logged)
    task.eval()
    result = task.test_step(batches[1], 0)
    assert result["label"] is batches[1]["label"]
    assert result["subject"] == batches[1]["subject"]
    assert all(value.shape == (4,) for value in result["values"].values())
    assert result["values"]["gaze_cc"].isnan().all()
    assert task.test_step(batches[0], 0)["values"]["gaze_cc"].isfinite().all()


def test_gaze_mse_is_a_mean_over_samples_with_gaze_only(tmp_path):
    batches = [make_batch(4, 0), make_batch(4, 1, gaze=False)]
    task, run = ggcam(lr=0.0), trainer(tmp_path)
    run.fit(task, loader(batches), loader(batches))
    alone = trainer(tmp_path)
    alone.fit(task, loader(batches[:1]), loader(batches[:1]))
    assert run.callback_metrics["val/gaze_mse"] > 0
    assert float(run.callback_metrics["val/gaze_mse"]) == pytest.approx(
        float(alone.callback_metrics["val/gaze_mse"]), rel=0.05
    )


@pytest.mark.parametrize("terms", [{"gaze"}, {"classification"}, {"gaze", "classification"}])
def test_the_validation_loss_of_ggcam_is_that_of_the_whole_part_however_it_falls_into_batches(tmp_path, terms):
    parts = [make_batch(4, 0), make_batch(4, 1, gaze=False)]
    whole = {
        name: first + second if isinstance(first, list) else torch.cat([first, second])
        for name, first, second in ((name, *(part[name] for part in parts)) for name in parts[0])
    }
    task = ggcam().eval()
    task.active_loss_terms = frozenset(terms)
    found = []
    for batches in ([whole], parts, parts[::-1]):
        run = trainer(tmp_path)
        run.validate(task, loader(batches), verbose=False)
        found.append(float(run.callback_metrics["val/loss"]))
    with torch.no_grad():
        expected = float(task.losses(task.active_loss_terms, whole, *task.outputs(whole)).total)
    assert found == pytest.approx([expected] * 3, rel=1e-4)
    if "gaze" in terms:
        means = [float(task.losses(task.active_loss_terms, part, *task.outputs(part)).total) for part in parts]
        assert sum(means) / 2 != pytest.approx(expected, rel=1e-2), "the difference that must not slip through"


@pytest.mark.parametrize("make", [classifier, ggcam])
def test_validation_losses_count_known_labels_alike_however_they_fall_into_batches(tmp_path, make):
    parts = [make_batch(4, seed, "multi") for seed in range(2)]
    parts[0]["label"] = torch.full((4, 3), math.nan)
    parts[0]["label"][0, 1] = 1.0  # one known entry here, twelve there
    parts[1]["label"] = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]] * 2)
    task = make(label_type="multi").eval()
    found = []
    for batches in (parts, parts[::-1]):
        run = trainer(tmp_path)
        run.validate(task, loader(batches), verbose=False)
        found.append([float(run.callback_metrics[f"val/{name}"]) for name in ("classification_loss", "loss")])
    with torch.no_grad():
        logits = torch.cat([task.outputs(part)[0] for part in parts])
        label = torch.cat([part["label"] for part in parts])
    known = [(x, y) for x, y in zip(logits.flatten().tolist(), label.flatten().tolist(), strict=True) if y == y]
    expected = sum(math.log1p(math.exp(-x if y else x)) for x, y in known) / 13
    assert [loss for loss, _ in found] == pytest.approx([expected] * 2, rel=1e-4)
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-4)
    if make is classifier:
        assert found[0][1] == pytest.approx(expected, rel=1e-4)


def test_a_validation_loss_that_is_no_number_shows(tmp_path, monkeypatch):
    task, losses = classifier().eval(), Classifier.losses

    def broken(task, terms, batch, logits, maps):
        found = losses(task, terms, batch, logits, maps)
        return found if batch["sample_id"][0] == "s0-0" else replace(found, total=found.total * math.nan)

    monkeypatch.setattr(Classifier, "losses", broken)
    run = trainer(tmp_path)
    run.validate(task, loader([make_batch(4, 0), make_batch(4, 1)]), verbose=False)
    assert math.isnan(run.callback_metrics["val/loss"])
    assert math.isfinite(run.callback_metrics["val/classification_loss"])


def test_without_any_gaze_the_validation_loss_of_ggcam_is_that_of_classification(tmp_path):
    task, batch, run = ggcam().eval(), make_batch(gaze=False), trainer(tmp_path)
    run.validate(task, loader([batch]), verbose=False)
    with torch.no_grad():
        expected = task.losses(task.active_loss_terms, batch, *task.outputs(batch)).total
    assert float(run.callback_metrics["val/loss"]) == pytest.approx(float(expected), rel=1e-4)


def test_gaze_target_lies_on_the_grid_of_the_maps_with_maximum_one():
    batch = make_batch()
    batch["fixation_mask"][1] = False
    batch["has_gaze"][1] = False
    target, has_gaze = ggcam().gaze_target_map(batch, (3, 2))
    assert target.shape == (4, 1, 3, 2)
    assert torch.equal(has_gaze, batch["has_gaze"])
    torch.testing.assert_close(target.amax(dim=(1, 2, 3)), torch.tensor([1.0, 0.0, 1.0, 1.0]))
    fine, _ = ggcam().gaze_target_map(batch, (H, W))  # cells of one pixel: a sum of Gaussians at the pixels' centres
    x, y = torch.arange(W) + 0.5, torch.arange(H)[:, None] + 0.5
    literal = sum(
        point[2] * torch.exp(-((x - point[0]) ** 2) / (2 * point[3] ** 2) - (y - point[1]) ** 2 / (2 * point[4] ** 2))
        for point in batch["fixations"][0]
    )
    torch.testing.assert_close(fine[0, 0], literal / literal.max(), rtol=1e-4, atol=1e-5)


def test_flipped_points_give_the_flipped_target():
    batch = make_batch()
    flipped = batch | {"fixations": batch["fixations"].clone()}
    flipped["fixations"][..., 0] = W - flipped["fixations"][..., 0]
    task = ggcam()
    torch.testing.assert_close(
        task.gaze_target_map(flipped, (3, 2))[0], task.gaze_target_map(batch, (3, 2))[0].flip(-1)
    )


def test_joint_loss_is_that_of_the_paper():
    task, batch = ggcam(), make_batch()
    logits, maps = task(batch["image"])
    losses = task.losses(task.active_loss_terms, batch, logits, maps)
    target, _ = task.gaze_target_map(batch, (3, 2))
    a = torch.sigmoid(maps[range(4), batch["label"]])
    gaze = ((a - target[:, 0]) ** 2).mean()
    cls = -logits.log_softmax(1)[range(4), batch["label"]].mean()
    total = cls / math.exp(1.2) + math.log(1 + math.exp(0.6)) + gaze / (2 * math.exp(-2.4)) + math.log1p(math.exp(-1.2))
    torch.testing.assert_close(losses.total, total)
    task.active_loss_terms = frozenset({"gaze"})
    torch.testing.assert_close(task.losses(task.active_loss_terms, batch, logits, maps).total, gaze)
    task.active_loss_terms = frozenset({"classification"})
    torch.testing.assert_close(task.losses(task.active_loss_terms, batch, logits, maps).total, cls)


@pytest.mark.parametrize("terms", [{"gaze"}, {"classification"}, {"gaze", "classification"}])
@pytest.mark.parametrize("gaze", [True, False])
def test_every_trainable_parameter_stays_in_the_graph(terms, gaze):
    task = ggcam()
    task.active_loss_terms = frozenset(terms)
    batch = make_batch(gaze=gaze)
    logits, maps = task(batch["image"])
    task.losses(task.active_loss_terms, batch, logits, maps).total.backward()
    assert [name for name, p in task.named_parameters() if p.requires_grad and p.grad is None] == []
    if not gaze:
        assert task.weighting.log_sigma_gaze.grad.item() == 0


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_gaze_alone_leaves_sigmas_and_class_biases_bit_identical_even_after_joint_steps(tmp_path, optimizer):
    task = ggcam(optimizer=optimizer, weight_decay=0.1, lr=1e-2)
    names = ("weighting.log_sigma_cls", "weighting.log_sigma_gaze", "model.head.bias")
    seen = []

    original = task.on_train_batch_end

    def watch(outputs, batch, batch_idx):
        original(outputs, batch, batch_idx)
        seen.append({name: p.detach().clone() for name, p in task.named_parameters()})
        if batch_idx == 1:  # two joint steps fill the optimiser's momenta
            task.active_loss_terms = frozenset({"gaze"})

    task.on_train_batch_end = watch
    trainer(tmp_path).fit(task, loader([make_batch(seed=seed) for seed in range(5)]))
    for name in names:
        assert not torch.equal(seen[0][name], seen[1][name]), name
        assert all(torch.equal(seen[1][name], later[name]) for later in seen[2:]), name
    for name in ("gaze_loss.kappa", "model.head.weight.weight"):
        assert not torch.equal(seen[1][name], seen[2][name]), name


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_batch_without_gaze_leaves_s_d_and_kappa_bit_identical_in_spite_of_momentum(tmp_path, optimizer):
    task = ggcam(optimizer=optimizer, lr=1e-2)
    seen = []
    original = task.on_train_batch_end

    def watch(outputs, batch, batch_idx):
        original(outputs, batch, batch_idx)
        seen.append({name: p.detach().clone() for name, p in task.named_parameters()})

    task.on_train_batch_end = watch
    batches = [make_batch(seed=seed, gaze=seed not in (2, 3)) for seed in range(5)]
    trainer(tmp_path).fit(task, loader(batches))
    for name in ("weighting.log_sigma_gaze", "gaze_loss.kappa"):
        values = [float(state[name]) for state in seen]
        assert values[1] == values[2] == values[3], name
        assert values[0] != values[1], name
        assert values[3] != values[4], name
    assert not torch.equal(seen[1]["weighting.log_sigma_cls"], seen[2]["weighting.log_sigma_cls"])


@pytest.mark.parametrize("terms", [set(), {"gaze", "style"}])
def test_unknown_or_no_loss_terms_are_refused(terms):
    with pytest.raises(ValueError, match="choose at least one of classification, gaze"):
        ggcam().active_loss_terms = frozenset(terms)


@pytest.mark.parametrize(("backbone", "log_sigma_gaze"), [("test_resnet", -23.0), ("test_efficientnet", -16.0)])
def test_released_initial_sigmas(backbone, log_sigma_gaze):
    weighting = ggcam(backbone=backbone, curriculum="released_init").weighting
    assert (weighting.log_sigma_cls.item(), weighting.log_sigma_gaze.item()) == (7.0, log_sigma_gaze)
    assert ggcam(curriculum="released_init", log_sigma_gaze=-3.0).weighting.log_sigma_gaze.item() == -3.0
    with pytest.raises(ValueError, match="log_sigma_gaze for test_convnext"):
        ggcam(backbone="test_convnext", curriculum="released_init")


@pytest.mark.parametrize(
    ("options", "message"), [({"precision": "bf16-mixed"}, "precision"), ({"gradient_clip_val": 1.0}, "clip")]
)
def test_released_init_refuses_half_precision_and_clipping(tmp_path, options, message):
    batches = loader([make_batch()])
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path, **options).fit(ggcam(curriculum="released_init"), batches)
    trainer(tmp_path, **options).fit(ggcam(), batches)


def test_released_init_trains_in_float32_and_refuses_stages(tmp_path):
    task = ggcam(curriculum="released_init")
    trainer(tmp_path).fit(task, loader([make_batch(seed=seed) for seed in range(3)]))
    assert all(p.isfinite().all() for p in task.parameters())
    with pytest.raises(ValueError, match="first step"):
        task.active_loss_terms = frozenset({"gaze"})


@pytest.mark.parametrize("make", [classifier, ggcam])
def test_checkpoints_hold_plain_values_and_restore_the_task(tmp_path, make):
    task, run = make(lr=1e-2), trainer(tmp_path)
    run.fit(task, loader([make_batch()]))
    run.save_checkpoint(tmp_path / "a.ckpt")
    content = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert content["hyper_parameters"]["class_names"] == CLASSES
    assert content["hyper_parameters"]["lr"] == 1e-2
    again = type(task).load_from_checkpoint(tmp_path / "a.ckpt")
    assert all(torch.equal(value, task.state_dict()[key]) for key, value in again.state_dict().items())


def test_weights_are_read_when_training_starts_and_not_for_a_test(tmp_path):
    source = classifier()
    torch.save(source.model.backbone.net.state_dict(), tmp_path / "w.pt")
    task = Classifier(CLASSES, backbone="test_resnet", pretrained=str(tmp_path / "w.pt"), lr=0.0, optimizer="sgd")
    trainer(tmp_path).fit(task, loader([make_batch()]))
    for (name, p), q in zip(source.model.backbone.named_parameters(), task.model.backbone.parameters(), strict=True):
        assert torch.equal(p, q), name
    gone = Classifier(CLASSES, backbone="test_resnet", pretrained=str(tmp_path / "gone.pt"))
    trainer(tmp_path).predict(gone, loader([only_image(make_batch())]))
    with pytest.raises(FileNotFoundError, match=r"gone\.pt"):
        trainer(tmp_path).fit(gone, loader([make_batch()]))


def test_weight_decay_spares_vectors_and_scalars(tmp_path):
    task, run = ggcam(optimizer="adamw", weight_decay=0.1), trainer(tmp_path)
    run.fit(task, loader([make_batch()]))
    decayed, spared = run.optimizers[0].param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    assert all(p.ndim > 1 for p in decayed["params"])
    inside = {id(p) for p in spared["params"]}
    extras = [*task.weighting.parameters(), task.gaze_loss.kappa, task.model.head.bias]
    assert all(id(p) in inside for p in extras)
    assert len(decayed["params"]) + len(spared["params"]) == len(list(task.parameters()))


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine"])
def test_schedules_rise_and_fall_per_step_over_the_whole_training(tmp_path, schedule):
    task, run, rates = classifier(schedule=schedule, warmup=0.25, lr=1e-2), trainer(tmp_path, max_epochs=4), []
    task.on_before_optimizer_step = lambda optimizer: rates.append(optimizer.param_groups[0]["lr"])
    run.fit(task, loader([make_batch(seed=seed) for seed in range(3)]))
    assert len(rates) == 12
    peak = rates.index(max(rates))
    assert 1 <= peak <= 4
    assert max(rates) == pytest.approx(1e-2, rel=0.1)
    assert rates[-1] < 0.1 * max(rates)
    assert all(a >= b for a, b in zip(rates[peak:], rates[peak + 1 :], strict=False))


def test_a_loss_that_is_not_finite_stops_and_names_the_batch_by_opaque_ids(tmp_path, monkeypatch):
    monkeypatch.setenv("GAZE_LIGHTNING_ID_KEY", "test")
    from gaze_lightning.privacy import opaque_id

    batches = [make_batch(seed=seed) for seed in range(4)]
    batches[2]["image"][0] = math.nan
    with pytest.raises(FloatingPointError) as caught:
        trainer(tmp_path, log_every_n_steps=4).fit(classifier(), loader(batches))
    assert opaque_id("s2-0") in str(caught.value)
    assert "s2-0" not in str(caught.value)
    assert opaque_id("s1-0") not in str(caught.value)


def test_a_classifier_that_learned_nothing_is_announced(tmp_path):
    with pytest.warns(UserWarning, match=r"has not learned.*cam_scale is 'mean'"):
        trainer(tmp_path).fit(classifier(cam_scale="mean", lr=0.0), loader([make_batch()]))


def test_planted_gaze_draws_the_maps_of_held_out_films_to_the_planted_place(tmp_path):
    train = [make_batch(12, seed, planted=True) for seed in range(40)]
    held_out = make_batch(24, 99, planted=True)

    def correlation(task):
        task.eval()
        with torch.no_grad():
            maps = task(held_out["image"])[1][range(24), held_out["label"]].flatten(1)
        target = GGCAM.gaze_target_map(task, held_out, (6, 4))[0].flatten(1)
        return torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(maps, target, strict=True)]).mean()

    guided = ggcam(output_stride=16, lr=3e-3)
    before = correlation(guided)
    trainer(tmp_path).fit(guided, loader(train))
    assert correlation(guided) > max(0.6, before + 0.3)
