import copy
import math
import shutil
import warnings

import numpy as np
import pytest
import torch
from pytorch_lightning import Callback
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from torch.nn.functional import normalize

from gaze_lightning.errors import ConfigurationError
from gaze_lightning.evaluation.linear_probe import STRENGTHS
from gaze_lightning.models import MomentumCopy
from gaze_lightning.protocols import HasLossTerms, LearnsFromRelations, OffersTwoViews
from gaze_lightning.tasks import contrastive, representation
from tests.contrastive_data import METHODS, TwoViews, batch_of, collate, equal, fit, make_task, relations, trainer

warnings.filterwarnings("ignore", module="pytorch_lightning")
every_method = pytest.mark.parametrize("name", list(METHODS))


def test_tasks_fulfil_the_protocols():
    for name in METHODS:
        task = make_task(name, positives="gaze")
        assert isinstance(task, HasLossTerms)
        assert isinstance(task, LearnsFromRelations)
        assert task.needs_relations
        assert task.relations_used_as == "gaze"
        assert not make_task(name).needs_relations
        assert not make_task(name, positives="label").needs_relations
        assert any(key.startswith("model.backbone.net.") for key in task.state_dict())
    assert isinstance(TwoViews(), OffersTwoViews)


class Watch(Callback):
    """Parameters after every step of the optimiser."""

    def __init__(self):
        self.online, self.target, self.queue = [], [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.online.append(copy.deepcopy(list(pl_module.model.parameters())))
        self.target.append(copy.deepcopy(list(pl_module.target.module.parameters())))
        if hasattr(pl_module, "queue"):
            self.queue.append(pl_module.queue.identities[:, 0].tolist())


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("name", ["MoCo", "BYOL"])
def test_the_momentum_copy_moves_once_per_step_of_the_optimiser(tmp_path, name, accumulate):
    task, watch = make_task(name), Watch()
    before = [p.clone() for p in task.target.module.parameters()]
    data = TwoViews(batch_size=4, ordered=True)
    fit(task, tmp_path, 2, data=data, callbacks=[watch], accumulate_grad_batches=accumulate)
    steps, step = 8 // accumulate, 0
    for index, (online, target) in enumerate(zip(watch.online, watch.target, strict=True)):
        if (index + 1) % accumulate:
            assert all(torch.equal(a, b) for a, b in zip(before, target, strict=True))
            continue
        m = 0.9 if name == "MoCo" else 1 - 0.1 * (math.cos(math.pi * step / steps) + 1) / 2
        for old, source, new in zip(before, online, target, strict=True):
            torch.testing.assert_close(new, m * old + (1 - m) * source, rtol=0, atol=1e-6)
        before, step = target, step + 1
    assert step == steps
    moved = max(float((a - b).abs().max()) for a, b in zip(watch.target[0], watch.target[-1], strict=True))
    assert moved > 1e-4
    if name == "MoCo":  # once per batch, also where gradients accumulate
        assert watch.queue[0] == [0, 0, 2, 2] + 6 * [-1]
        assert watch.queue[1] == [0, 0, 2, 2, 4, 4, 6, 6, -1, -1]
        assert watch.queue[2] == [10, 10, 2, 2, 4, 4, 6, 6, 8, 8]


def test_byol_needs_to_know_the_length_of_the_training(tmp_path):
    with pytest.raises(ConfigurationError, match="its length is unknown"):
        fit(make_task("BYOL"), tmp_path, -1)
    with pytest.raises(ConfigurationError, match=r"momentum_end is 1\.5"):
        make_task("BYOL", momentum_end=1.5)
    with pytest.raises(ConfigurationError, match="momentum is -1"):
        make_task("MoCo", momentum=-1)
    fit(make_task("BYOL", momentum=1.0), tmp_path, -1, limit_train_batches=1, max_time={"seconds": 0})


@every_method
def test_a_resumed_training_equals_one_that_was_not_interrupted(tmp_path, name):
    options = {"positives": "gaze", "drop_prob": 0.3, "optimizer": "lars", "schedule": "cosine"}
    whole = make_task(name, **options)
    fit(whole, tmp_path, 4, TwoViews(8), relations())
    first = make_task(name, **options)

    class Stop(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            if trainer.current_epoch == 1:
                trainer.save_checkpoint(tmp_path / "kept.ckpt")
                raise KeyboardInterrupt

    with pytest.raises(SystemExit):
        fit(first, tmp_path, 4, TwoViews(8), relations(), callbacks=[Stop()])
    kept = torch.load(tmp_path / "kept.ckpt", weights_only=True)
    assert kept["relations_digest"] == "made up 0.5"
    second = make_task(name, **options)
    second.set_relations(relations())
    trainer(tmp_path, 4).fit(second, datamodule=TwoViews(8), ckpt_path=tmp_path / "kept.ckpt", weights_only=True)
    assert equal(whole.state_dict(), second.state_dict())
    other = make_task(name, **options)
    other.set_relations(relations(threshold=0.6))
    with pytest.raises(ConfigurationError, match=r"relations with the digest made up 0\.5, these have made up 0\.6"):
        trainer(tmp_path, 4).fit(other, datamodule=TwoViews(), ckpt_path=tmp_path / "kept.ckpt", weights_only=True)
    control = make_task(name, **(options | {"positives": "shuffled", "shuffle_seed": 2}))
    assert control.set_relations(relations()).digest == relations().shuffled(2).digest
    with pytest.raises(ConfigurationError, match=r"digest made up 0\.5, these have made up 0\.5-shuffled2"):
        trainer(tmp_path, 4).fit(control, datamodule=TwoViews(), ckpt_path=tmp_path / "kept.ckpt", weights_only=True)


def test_what_is_missing_is_said_before_the_training(tmp_path):
    with pytest.raises(ConfigurationError, match="positives: gaze needs the relations"):
        fit(make_task("SimCLR", positives="gaze"), tmp_path)
    with pytest.raises(ConfigurationError, match="two views of each film"):
        trainer(tmp_path).fit(make_task("SimCLR"), [batch_of()])
    for classes in (0, 63):
        with pytest.raises(ConfigurationError, match=f"1 to 62 classes and needs labels, .* have {classes} classes"):
            make_task("SimCLR", class_names=[f"c{k}" for k in range(classes)], positives="label")
    make_task("SimCLR", class_names=[f"c{k}" for k in range(62)], positives="label")
    for option in ("neighbours", "reference_films", "probe_films"):
        with pytest.raises(ValueError, match=rf"{option} (is )?0\b.*all must be positive"):
            make_task("SimCLR", **{option: 0})
    with pytest.raises(ConfigurationError, match="own_slots"):
        make_task("MoCo", own_slots="maybe")


@pytest.mark.parametrize("name", ["MoCo", "BYOL"])
def test_the_copy_starts_from_pretrained_weights_too(tmp_path, name):
    donor = make_task(name).model.backbone
    torch.nn.init.normal_(next(donor.net.parameters()))
    torch.save(donor.net.state_dict(), tmp_path / "weights.pt")
    task = make_task(name, pretrained=str(tmp_path / "weights.pt"))
    assert not equal(donor.state_dict(), task.model.backbone.state_dict())
    start_fit(task, tmp_path)
    assert equal(donor.state_dict(), task.model.backbone.state_dict())
    assert equal(task.model.state_dict(), task.target.module.state_dict())


def start_fit(task, path):
    """What Lightning calls before the first step of a training that does not resume."""
    task.trainer = trainer(path)
    task.trainer.datamodule = TwoViews()
    task.setup("fit")
    task.on_fit_start()


def pretraining(folder, name="MoCo", **options):
    """The folder of a finished run, whose momentum copy differs from its online network."""
    first = make_task(name, **options)
    for parameter in first.model.parameters():
        torch.nn.init.normal_(parameter)
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").touch()
    stored = {"state_dict": first.state_dict(), "hyper_parameters": dict(first.hparams)}
    torch.save(stored, folder / "checkpoints" / "best.ckpt")
    return first


@pytest.mark.parametrize("inside", ["", "checkpoints/best.ckpt"])
@every_method
def test_a_pretraining_starts_from_the_online_network_of_another_run(tmp_path, name, inside):
    first = pretraining(tmp_path / "run")
    task = make_task(name, pretrained=str(tmp_path / "run" / inside))
    start_fit(task, tmp_path)
    assert equal(task.model.backbone.state_dict(), first.model.backbone.state_dict())
    assert not equal(task.model.backbone.state_dict(), first.target.module.backbone.state_dict())
    for following in (one for one in task.children() if isinstance(one, MomentumCopy)):
        assert equal(following.module.state_dict(), task.model.state_dict())


def test_a_run_of_which_not_everything_fits_starts_nothing(tmp_path):
    pretraining(tmp_path / "run", in_chans=3)
    with pytest.raises(ConfigurationError, match=r"does not fit test_resnet.*1 mismatched"):
        start_fit(make_task("SimCLR", pretrained=str(tmp_path / "run")), tmp_path)
    with pytest.raises(ConfigurationError, match="nowhere does not exist: give the folder"):
        start_fit(make_task("SimCLR", pretrained=str(tmp_path / "nowhere")), tmp_path)


@pytest.mark.parametrize("name", ["MoCo", "SimCLR"])
def test_a_resumed_training_reads_no_weights_and_does_not_need_their_folder(tmp_path, monkeypatch, name):
    pretraining(tmp_path / "run")
    given = {"pretrained": str(tmp_path / "run"), "lr": 0.0}
    run = fit(make_task(name, **given), tmp_path, limit_train_batches=1)
    run.save_checkpoint(tmp_path / "kept.ckpt")
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(ConfigurationError, match="does not exist"):
        fit(make_task(name, **given), tmp_path)
    resumed = make_task(name, **given)
    again = trainer(tmp_path, 2, limit_train_batches=1)
    again.fit(resumed, datamodule=TwoViews(), ckpt_path=tmp_path / "kept.ckpt", weights_only=True)
    assert again.current_epoch == 2
    parameters = dict(resumed.named_parameters())
    assert all(torch.equal(p, parameters[key]) for key, p in run.lightning_module.named_parameters())
    # timm's weights need the network: they are not asked for either
    third = make_task(name, pretrained=True)
    monkeypatch.setattr(contrastive.Backbone, "load_pretrained", lambda self, pretrained: pytest.fail("read"))
    trainer(tmp_path, 3, limit_train_batches=1).fit(
        third, datamodule=TwoViews(), ckpt_path=tmp_path / "kept.ckpt", weights_only=True
    )


def test_lars_adapts_matrices_with_and_without_decay_and_leaves_vectors(tmp_path):
    for decay in (0.0, 0.1):
        task = make_task("SimCLR", optimizer="lars", weight_decay=decay)
        before = {name: p.detach().clone() for name, p in task.named_parameters()}
        gradients = {}

        class Keep(Callback):
            def on_before_optimizer_step(self, trainer, pl_module, optimizer, kept=gradients):
                kept.update({name: p.grad.clone() for name, p in pl_module.named_parameters() if p.grad is not None})

        fit(task, tmp_path, callbacks=[Keep()], limit_train_batches=1)
        for name, after in task.named_parameters():
            if name not in gradients:
                continue
            g, w = gradients[name], before[name]
            if w.ndim > 1:
                rate = 0.001 * w.norm() / (g.norm() + decay * w.norm() + 1e-8)
                g = (g + decay * w) * (rate if float(g.norm()) > 0 else 1.0)
            torch.testing.assert_close(after.detach(), w - 0.05 * g, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(("name", "label_type"), [("SimCLR", "multi"), *((name, "single") for name in METHODS)])
def test_validation_test_and_prediction(tmp_path, name, label_type):
    data = TwoViews(label_type=label_type)
    task = make_task(name, label_type=label_type, positives="gaze", neighbours=3, reference_films=6)
    run = fit(task, tmp_path, data=data, given=relations(), limit_val_batches=1.0, num_sanity_val_steps=1)
    logged = run.callback_metrics
    assert task.logged_values(task.active_loss_terms) <= set(logged)
    assert {"train/loss", "train/gaze_pairs", "train/alignment", "train/embedding_std"} <= set(logged)
    assert all(math.isfinite(value) for value in logged.values())
    assert data.asked == [("train", 6), ("train", 6)]
    model = task.eval()
    with torch.no_grad():
        of = {part: model(collate(data.films[part])["image"]) for part in ("train", "validate", "test")}
    whole = {part: collate(data.films[part]) for part in of}
    # by hand: the three nearest of the first six training films
    right, share = 0, normalize(of["validate"], dim=1) @ normalize(of["train"][:6], dim=1).T
    for row, label in zip(share, whole["validate"]["label"], strict=True):
        votes = torch.zeros(3)
        for j in row.argsort(descending=True)[:3].tolist():
            votes += math.exp(float(row[j]) / 0.07) * torch.eye(3)[j % 3]
        votes /= votes.sum()
        right += (
            float(votes.argmax() == label)
            if label_type == "single"
            else float(((votes >= 0.5) == label).float().mean())
        )
    assert float(logged["val/knn_accuracy"]) == pytest.approx(right / 7, abs=1e-6)

    outputs, probes = [], []

    class Keep(Callback):
        def on_test_batch_end(self, trainer, pl_module, result, batch, batch_idx, dataloader_idx=0):
            outputs.append(result)
            probes.append(pl_module._probe)

    trainer(tmp_path, callbacks=[Keep()]).test(task, datamodule=data, verbose=False)
    assert data.asked[2:] == [("train", 20000), ("validate", None)]
    assert [one for result in outputs for one in result["sample_id"]] == whole["test"]["sample_id"]
    probability = torch.cat([result["probability"] for result in outputs])
    knn = torch.cat([result["extra_probabilities"]["knn"] for result in outputs])
    assert probability.shape == knn.shape == (5, 3)
    if label_type == "single":
        torch.testing.assert_close(probability.sum(1), torch.ones(5, dtype=torch.float64))
        x = of["train"].double().numpy()
        mean, scale = x.mean(0), x.std(0) + (x.std(0) < 1e-12)
        auroc, truth = {}, whole["validate"]["label"].numpy()
        for strength in STRENGTHS:
            sk = LogisticRegression(C=1 / (strength * 16), tol=1e-8, max_iter=5000)
            sk.fit((x - mean) / scale, whole["train"]["label"].numpy())
            said = sk.predict_proba((of["validate"].double().numpy() - mean) / scale)
            auroc[strength] = np.mean([roc_auc_score(truth == k, said[:, k]) for k in range(3)])
            if strength == probes[0].strength:
                expected = torch.from_numpy(sk.predict_proba((of["test"].double().numpy() - mean) / scale))
        torch.testing.assert_close(probability, expected, rtol=0, atol=1e-3)
        assert probes[0].strength == max(auroc, key=lambda strength: (round(auroc[strength], 9), strength))
        assert probes[0].validation_auroc == pytest.approx(auroc[probes[0].strength])
    (first, *_) = trainer(tmp_path).predict(task, datamodule=data)
    assert first["probability"].shape == (2, 0)
    torch.testing.assert_close(first["features"], of["test"][:2])


@pytest.mark.parametrize(("most", "used"), [(None, 16), (9, 9), (100, 16)])
def test_a_test_learns_from_so_many_films_at_most_and_says_so(tmp_path, monkeypatch, most, used):
    fitted, said = [], []
    fit_probe = representation._fit_probe

    def kept(train, *others):
        fitted.append(train)
        return fit_probe(train, *others)

    monkeypatch.setattr(representation, "_fit_probe", kept)
    monkeypatch.setattr(representation, "rank_zero_info", said.append)
    data, task = TwoViews(), make_task("SimCLR", probe_films=most)
    trainer(tmp_path).test(task, datamodule=data, verbose=False)
    assert data.asked == [("train", most), ("validate", None)]
    (bank,) = fitted
    assert bank.features.shape[0] == bank.label.shape[0] == used
    assert len(said) == 1
    assert f"on {bank.features.shape[1]} features of {used} films" in said[0]
    assert "0.0001, 0.001, 0.01, 0.1, 1" in said[0]
    assert len(task.result_notes) == (most == 9)
    assert most != 9 or "from 9 training films" in task.result_notes[0]


def test_data_without_labels_have_health_and_features_only(tmp_path):
    data = TwoViews(labels=False)
    task = make_task("MoCo", class_names=[])
    run = fit(task, tmp_path, data=data, limit_val_batches=1.0)
    assert {name for name in run.callback_metrics if name.startswith("val/")} == task.logged_values(frozenset())
    assert not data.asked
    run = trainer(tmp_path)
    run.test(task, datamodule=data, verbose=False)
    assert run.lightning_module.test_step(collate(data.films["test"]), 0)["probability"].shape == (5, 0)
    # classes, but no film with a label
    task = make_task("MoCo")
    run = fit(task, tmp_path, data=data, limit_val_batches=1.0)
    assert "val/knn_accuracy" not in run.callback_metrics
    with pytest.raises(ConfigurationError, match="linear probe on labelled training films"):
        trainer(tmp_path).test(task, datamodule=data, verbose=False)


def test_a_collapse_is_said_once(tmp_path):
    task = make_task("SimCLR")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(task, tmp_path)
    assert not any("collapsed" in str(one.message) for one in caught)
    task = make_task("SimCLR", lr=0.0)
    last = task.model.projector.layers[-1]
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.ones_(last.bias)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(task, tmp_path, 3)
    assert sum("the projections have collapsed" in str(one.message) for one in caught) == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@every_method
def test_a_step_with_autocast_is_finite(name, dtype):
    task = make_task(name, positives="gaze")
    task.set_relations(relations())
    with torch.autocast("cpu", dtype):
        for _ in range(2):  # the second one with a queue
            contrast = task.contrast(batch_of())
            task.remember(contrast)
    assert contrast.loss.dtype == torch.float32
    assert contrast.related.any()
    contrast.loss.backward()
    gradients = [p.grad for p in task.parameters() if p.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert any(gradient.abs().sum() > 0 for gradient in gradients)
    plain = make_task(name, positives="gaze")
    plain.set_relations(relations())
    for _ in range(2):
        expected = plain.contrast(batch_of())
        plain.remember(expected)
    assert float(contrast.loss.detach()) == pytest.approx(float(expected.loss.detach()), abs=0.2)


def test_it_trains_in_bfloat16(tmp_path):
    for name in METHODS:
        run = fit(make_task(name), tmp_path, precision="bf16-mixed", limit_train_batches=2, limit_val_batches=1.0)
        assert math.isfinite(run.callback_metrics["train/loss"])
