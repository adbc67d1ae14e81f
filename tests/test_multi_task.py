"""The tasks that predict a diagnosis and gaze: MT-UNet and the cooperative method."""

import math
import warnings

import pytest
import torch
from pytorch_lightning import LightningDataModule
from torch.nn import functional as F

from gaze_lightning.losses import TripletLoss, label_pairs
from gaze_lightning.protocols import HasLossTerms, MakesCAMs, PredictsSaliency
from gaze_lightning.tasks import Cooperative, MultiTaskUNet
from tests.test_tasks import CLASSES, H, W, loader, make_batch, only_image, trainer

warnings.filterwarnings("ignore", module="pytorch_lightning")

TERMS = ("contrastive", "classify", "saliency", "fusion")
PARTS = {
    "encoder": ("model.encoder",),
    "linear": ("model.linear_head",),
    "decoder": ("model.residual_encoder", "model.decoder", "model.saliency_head"),
    "fusion": ("model.fusion_head",),
}


def cooperative(class_names=CLASSES, **options):
    torch.manual_seed(0)
    return Cooperative(class_names, **({"backbone": "test_resnet", "width": 1 / 16} | options))


def mtunet(class_names=CLASSES, **options):
    torch.manual_seed(0)
    return MultiTaskUNet(class_names, **({"width": 1 / 16} | options))


def unlabelled(batch):
    return {key: value for key, value in batch.items() if key != "label"}


def parts_with_gradient(task):
    moved = {name for name, p in task.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    return {part for part, paths in PARTS.items() if any(name.startswith(paths) for name in moved)}


@pytest.mark.parametrize("make", [cooperative, mtunet])
def test_tasks_fulfil_the_protocols(make):
    task = make()
    assert isinstance(task, MakesCAMs)
    assert isinstance(task, HasLossTerms)
    assert isinstance(task, PredictsSaliency)


@pytest.mark.parametrize("label_type", ["single", "multi"])
@pytest.mark.parametrize("make", [cooperative, mtunet])
def test_prediction_needs_image_and_id_only_and_never_gaze(tmp_path, make, label_type):
    (result,) = trainer(tmp_path).predict(make(label_type=label_type), loader([only_image(make_batch())]))
    assert result["sample_id"] == result["subject"] == ["s0-0", "s0-1", "s0-2", "s0-3"]
    assert result["saliency"].shape == (4, 1, H, W)
    assert result["saliency"].min() >= 0
    torch.testing.assert_close(result["saliency"].sum(dim=(1, 2, 3)), torch.ones(4))
    assert result["probability"].shape == (4, 3)
    assert result["cam"].shape[:2] == (4, 3)
    if label_type == "single":
        torch.testing.assert_close(result["probability"].sum(dim=1), torch.ones(4))


@pytest.mark.parametrize(
    ("term", "parts"),
    [
        ("contrastive", {"encoder"}),
        ("classify", {"encoder", "linear"}),
        ("saliency", {"encoder", "decoder"}),
        ("fusion", {"encoder", "decoder", "fusion"}),
    ],
)
def test_each_term_reaches_the_parts_that_it_should(term, parts):
    task = cooperative()
    task.loss_for(frozenset({term}), make_batch(8)).backward()
    assert parts_with_gradient(task) == parts


def test_terms_are_the_formulas_of_the_method():
    task, batch = cooperative().eval(), make_batch(6)
    output = task.model(batch["image"])
    losses = task.term_losses(frozenset(TERMS), batch)
    embedding = output.features.mean(dim=(2, 3))
    pairs = label_pairs(batch["label"], "single")
    torch.testing.assert_close(losses["contrastive"].loss, TripletLoss()(embedding, pairs))
    torch.testing.assert_close(losses["classify"].loss, F.cross_entropy(output.linear_logits, batch["label"]))
    torch.testing.assert_close(losses["fusion"].loss, F.cross_entropy(output.logits, batch["label"]))
    target, _ = task.gaze_target(batch, (H, W))
    divergence = F.kl_div(output.log_saliency, target, reduction="none").sum(dim=(1, 2, 3)).mean()
    torch.testing.assert_close(losses["saliency"].loss, divergence)
    assert losses["saliency"].n == 6


def test_gaze_target_is_a_density_that_peaks_where_the_gaze_rests():
    batch = make_batch(2)
    batch["fixations"][:, :, :2] = torch.tensor([20.0, 40.0])
    target, has_gaze = cooperative().gaze_target(batch, (H // 2, W // 2))
    assert has_gaze.all()
    torch.testing.assert_close(target.sum(dim=(1, 2, 3)), torch.ones(2))
    peak = divmod(int(target[0, 0].argmax()), W // 2)
    assert peak in {(y, x) for y in (19, 20) for x in (9, 10)}


@pytest.mark.parametrize("make", [cooperative, mtunet])
def test_saliency_and_diagnosis_together_are_the_uncertainty_weighted_loss(make):
    task, batch = make(), make_batch(6)
    with torch.no_grad():
        task.weighting.log_sigma_cls.fill_(0.3)
    names = frozenset({"saliency", "fusion" if isinstance(task, Cooperative) else "classification"})
    task.eval()
    losses = task.term_losses(names, batch)
    divergence = losses["saliency"].loss
    entropy = losses["fusion" if isinstance(task, Cooperative) else "classification"].loss
    sigma = math.exp(0.3)
    expected = entropy / sigma**2 + math.log(1 + sigma) + divergence / 2 + math.log(2)
    torch.testing.assert_close(task.loss_for(names, batch), expected)


def test_other_choices_of_terms_are_summed():
    task, batch = cooperative().eval(), make_batch(6)
    alone = [task.loss_for(frozenset({term}), batch) for term in ("contrastive", "classify")]
    torch.testing.assert_close(task.loss_for(frozenset({"contrastive", "classify"}), batch), sum(alone))


@pytest.mark.parametrize("terms", [{"saliency"}, {"classification"}])
def test_one_term_of_mtunet_is_that_loss_with_a_graph_to_every_parameter(terms):
    task, batch = mtunet(), make_batch(4)
    assert task.active_loss_terms > terms  # what is asked for counts, not what is active
    task.loss_for(frozenset(terms), batch).backward()
    assert all(p.grad is not None for p in task.parameters() if p.requires_grad)
    task.eval()
    expected = task.term_losses(frozenset(terms), batch)[min(terms)].loss
    torch.testing.assert_close(task.loss_for(frozenset(terms), batch), expected)


def test_published_mtunet_has_the_published_number_of_trainable_parameters():
    with torch.device("meta"):
        task = MultiTaskUNet(CLASSES)
    assert sum(p.numel() for p in task.parameters() if p.requires_grad) == 34_632_837


@pytest.mark.parametrize("make", [cooperative, mtunet])
def test_samples_without_gaze_change_nothing_about_the_saliency_loss(make):
    task, batch = make().eval(), make_batch(4)
    half = {key: value[:2] for key, value in batch.items()}
    batch["has_gaze"][2:] = False
    terms = frozenset({"saliency"})
    both = task.term_losses(terms, batch)["saliency"]
    assert both.n == 2
    torch.testing.assert_close(both.loss, task.term_losses(terms, half)["saliency"].loss)
    nobody = make_batch(4, gaze=False)
    loss = task.loss_for(terms, nobody)
    loss.backward()
    assert loss == 0
    assert all(p.grad is None or not p.grad.any() for p in task.parameters())


@pytest.mark.parametrize("contrastive", ["triplet", "supcon"])
def test_a_batch_of_one_class_has_no_contrastive_loss_and_finite_gradients(contrastive):
    task, batch = cooperative(contrastive=contrastive), make_batch(4)
    batch["label"] = torch.zeros(4, dtype=torch.long) if contrastive == "triplet" else torch.arange(4)
    loss = task.loss_for(frozenset({"contrastive"}), batch)
    loss.backward()
    assert loss == 0
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in task.parameters())


def test_the_projection_head_takes_part_in_supcon_only():
    task, batch = cooperative(contrastive="supcon", projection=16), make_batch(6)
    task.loss_for(frozenset({"contrastive"}), batch).backward()
    assert all(p.grad is not None for p in task.projection.parameters())
    assert cooperative(projection=16).projection is None


def test_the_per_row_reading_compares_the_raw_map():
    task, batch = cooperative(backbone="densenet121", embedding="per_row").eval(), make_batch(4)
    taps = task.model.encode(batch["image"])
    pairs = label_pairs(batch["label"], "single")
    expected = TripletLoss()(taps.raw, pairs)
    torch.testing.assert_close(task.loss_for(frozenset({"contrastive"}), batch), expected)
    with pytest.raises(ValueError, match="per_row"):
        cooperative(contrastive="supcon", embedding="per_row")


@pytest.mark.parametrize("label_type", ["single", "multi"])
@pytest.mark.parametrize("terms", [{"contrastive"}, {"classify"}, {"saliency"}, {"fusion"}, {"saliency", "fusion"}])
def test_validation_logs_what_is_announced_and_nothing_else(tmp_path, terms, label_type):
    task, run = cooperative(label_type=label_type), trainer(tmp_path)
    task.active_loss_terms = frozenset(terms)
    batches = [make_batch(6, seed, label_type, gaze=seed != 1) for seed in range(2)]
    run.fit(task, loader(batches), loader(batches))
    logged = {name for name in run.callback_metrics if name.startswith("val/")}
    assert logged == task.logged_values(frozenset(terms))
    assert {f"train/{term}_loss" for term in terms} <= set(run.callback_metrics)
    for term in terms - {"contrastive"}:
        assert math.isfinite(run.callback_metrics[f"val/{term}_loss"]), term


@pytest.mark.parametrize("terms", [{"classification"}, {"saliency"}, {"classification", "saliency"}])
def test_mtunet_logs_what_is_announced_and_nothing_else(tmp_path, terms):
    task, run = mtunet(), trainer(tmp_path)
    task.active_loss_terms = frozenset(terms)
    before = task.weighting.log_sigma_cls.clone()
    batches = [make_batch(6, seed) for seed in range(2)]
    run.fit(task, loader(batches), loader(batches))
    logged = {name for name in run.callback_metrics if name.startswith("val/")}
    assert logged == task.logged_values(frozenset(terms))
    assert (task.weighting.log_sigma_cls == before) == (len(terms) == 1)


def test_validation_loss_is_the_plain_sum_of_the_terms_over_all_samples_with_gaze(tmp_path):
    task, run = cooperative(), trainer(tmp_path)
    task.active_loss_terms = frozenset({"saliency", "fusion"})
    batches = [make_batch(6, 0), make_batch(3, 1), make_batch(6, 2, gaze=False)]
    run.validate(task, loader(batches), verbose=False)
    task.eval()
    with torch.no_grad():
        each = [task.term_losses(task.active_loss_terms, batch) for batch in batches]
    divergence = (6 * each[0]["saliency"].loss + 3 * each[1]["saliency"].loss) / 9
    entropy = sum(n * one["fusion"].loss for n, one in zip((6, 3, 6), each, strict=True)) / 15
    found = run.callback_metrics
    torch.testing.assert_close(found["val/saliency_loss"], divergence)
    torch.testing.assert_close(found["val/fusion_loss"], entropy)
    torch.testing.assert_close(found["val/loss"], divergence + entropy)


@pytest.mark.parametrize("cut", [1, 5, 12])
def test_validation_losses_do_not_depend_on_batches_also_with_unknown_labels(tmp_path, cut):
    task, run = mtunet(label_type="multi"), trainer(tmp_path)
    whole = make_batch(12, 0, "multi")
    whole["label"] = torch.tensor([[1.0, 0.0, math.nan], [math.nan] * 3, [0.0, math.nan, math.nan]]).repeat(4, 1)
    batches = [{key: value[i : i + cut] for key, value in whole.items()} for i in range(0, 12, cut)]
    run.validate(task, loader(batches), verbose=False)
    found = run.callback_metrics
    torch.testing.assert_close(
        found["val/classification_loss"].double(), found["val/nll"].double(), rtol=1e-5, atol=1e-6
    )


def test_a_validation_part_without_gaze_leaves_the_sum_of_the_other_terms(tmp_path):
    task, run = mtunet(), trainer(tmp_path)
    run.validate(task, loader([make_batch(6, gaze=False)]), verbose=False)
    found = run.callback_metrics
    assert math.isnan(found["val/saliency_loss"])
    assert found["val/loss"] == found["val/classification_loss"]


def test_the_gaze_target_is_the_map_of_the_batch_where_the_grids_agree():
    batch = make_batch(3)
    size = tuple(batch["saliency"].shape[-2:])
    assert cooperative().gaze_target(batch, size)[0] is batch["saliency"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: cooperative([], label_type="multi"),
        lambda: mtunet([], label_type="multi"),
        lambda: cooperative(head="none"),
    ],
)
def test_gaze_alone_is_learnt_without_labels(tmp_path, make):
    task, run = make(), trainer(tmp_path)
    assert task.loss_terms == ("saliency",)
    assert task.class_names == []  # callbacks name no classes either
    batches = [unlabelled(make_batch(4, seed)) for seed in range(2)]
    run.fit(task, loader(batches), loader(batches))
    assert {name for name in run.callback_metrics if name.startswith("val/")} == task.logged_values(
        frozenset({"saliency"})
    )
    result = task.test_step(batches[0], 0)
    assert result["probability"].shape == (4, 0)
    assert "cam" not in result
    assert "label" not in result
    assert torch.isfinite(result["values"]["saliency_cc"]).all()
    with pytest.raises(ValueError, match="choose at least one of saliency"):
        task.active_loss_terms = frozenset({"classify"})


@pytest.mark.parametrize("head", ["fusion", "linear"])
def test_the_chosen_head_gives_the_probabilities_and_the_maps(head):
    task, batch = cooperative(head=head).eval(), make_batch()
    with torch.no_grad():
        output, result = task.model(batch["image"]), task.predict_step(batch, 0)
    logits = output.logits if head == "fusion" else output.linear_logits
    torch.testing.assert_close(result["probability"], logits.softmax(dim=1))
    if head == "linear":
        torch.testing.assert_close(result["cam"], output.linear_maps)


def test_a_stage_that_trains_the_linear_head_is_looked_at_through_it():
    task, batch = cooperative().eval(), make_batch()
    task.active_loss_terms = frozenset({"classify"})
    with torch.no_grad():
        output, result = task.model(batch["image"]), task.predict_step(batch, 0)
    torch.testing.assert_close(result["cam"], output.linear_maps)
    task.active_loss_terms = frozenset(task.loss_terms)
    torch.testing.assert_close(task.predict_step(batch, 0)["probability"], output.logits.softmax(dim=1))


def test_test_step_scores_predicted_gaze_and_maps_beside_the_references(tmp_path):
    task, batch = cooperative().eval(), make_batch()
    batch["mean_saliency"] = torch.full_like(batch["saliency"], 1.0)
    batch["mean_saliency"][..., :4, :] = 2.0
    with torch.no_grad():
        result = task.test_step(batch, 0)
    for name in ("saliency_cc", "saliency_kl", "saliency_nss", "mean_map_cc", "centre_nss", "gaze_cc"):
        assert result["values"][name].shape == (4,)
        assert torch.isfinite(result["values"][name]).all(), name
    assert torch.equal(result["label"], batch["label"])


def test_a_planted_spot_is_predicted_after_a_short_training(tmp_path):
    """Gaze rests on the bright spot: the predicted map of unseen films must correlate with it."""
    task = cooperative(head="none", width=1 / 8, optimizer="adamw", lr=3e-3, mean=0.1, std=0.2)
    batches = [make_batch(8, seed, planted=True) for seed in range(12)]
    trainer(tmp_path, max_epochs=4).fit(task, loader(batches))
    new = make_batch(16, 99, planted=True)
    target, _ = task.gaze_target(new, (H, W))
    task.eval()
    with torch.no_grad():
        predicted = task.predict_saliency(new)
    pairs = torch.stack([predicted.flatten(1), target.flatten(1)])
    agreement = [float(torch.corrcoef(pairs[:, i])[0, 1]) for i in range(16)]
    assert sum(agreement) / 16 > 0.4


class Counting(LightningDataModule):
    """Batches as given, with a count of what has gaze."""

    def __init__(self, train, validate):
        super().__init__()
        self.batches = {"train": train, "validate": validate}

    def train_dataloader(self):
        return loader(self.batches["train"])

    def val_dataloader(self):
        return loader(self.batches["validate"])

    def with_gaze(self, part):
        return sum(int(batch["has_gaze"].sum()) for batch in self.batches[part])


@pytest.mark.parametrize("make", [cooperative, mtunet])
def test_predicting_gaze_from_data_without_any_is_refused(tmp_path, make):
    data = Counting([make_batch(4, gaze=False)], [make_batch(4)])
    with pytest.raises(ValueError, match="no training reading has any"):
        trainer(tmp_path).fit(make(), datamodule=data)


@pytest.mark.parametrize("make", [cooperative, mtunet])
def test_what_validation_without_gaze_cannot_say_is_not_announced(tmp_path, make):
    task = make()
    data = Counting([make_batch(4)], [make_batch(4, gaze=False)])
    run = trainer(tmp_path)
    with pytest.warns(UserWarning, match="no validation reading has gaze"):
        run.fit(task, datamodule=data)
    announced = task.logged_values(task.active_loss_terms)
    nan = {name for name, value in run.callback_metrics.items() if name.startswith("val/") and value.isnan()}
    assert not announced & {name for name in nan if "saliency" in name}
    assert "val/loss" in announced
    assert math.isfinite(run.callback_metrics["val/loss"])
    assert not any("saliency" in name or name == "val/loss" for name in task.logged_values(frozenset({"saliency"})))
