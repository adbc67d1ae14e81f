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
from gaze_lightning.tasks import BYOL, ContrastiveTask, MoCo, SimCLR, SimSiam, contrastive, representation
from gaze_lightning.tasks.moco import shuffled_order
from tests.contrastive_data import METHODS, TwoViews, collate, films, make_task, relations, trainer

warnings.filterwarnings("ignore", module="pytorch_lightning")
every_method = pytest.mark.parametrize("name", list(METHODS))


def batch_of(n=8):
    return collate(films("train", n))


def related_in_batch(n=8):
    """``relations`` within the first films as a plain matrix, and which readings are of one film."""
    related = torch.zeros(n, n, dtype=torch.bool)
    for i, j in ((0, 4), (0, 7), (3, 8), (5, 10)):
        if i < n and j < n:
            related[i, j] = related[j, i] = True
    film = torch.arange(n) // 2
    return related & (film[:, None] != film), film[:, None] == film


def fit(task, path, epochs=1, data=None, given=None, **options):
    if given is not None:
        task.set_relations(given)
    run = trainer(path, epochs, **options)
    run.fit(task, datamodule=data or TwoViews())
    return run


def equal(a, b, but=()):
    assert a.keys() == b.keys()
    return all(torch.equal(a[name], b[name]) for name in a if name not in but)


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


@pytest.mark.parametrize("normalise", ["global", "per_anchor"])
@pytest.mark.parametrize("name", ["BYOL", "SimSiam"])
def test_attraction_equals_its_formula(name, normalise):
    task = make_task(name, positives="gaze", normalise=normalise)
    task.set_relations(relations())
    batch = batch_of()
    loss = task.loss_for(frozenset({"contrastive"}), batch)
    related, same = related_in_batch()
    a, b = task.model(batch["image"]).projection, task.model(batch["second_view"]).projection
    target = task.target if name == "BYOL" else task.model
    of_a, of_b = target(batch["image"]).projection, target(batch["second_view"]).projection

    def towards(p, t):
        total, count, means = 0.0, 0, []
        for i in range(8):
            row = [
                float(torch.cosine_similarity(p[i], t[j], dim=0).detach())
                for j in range(8)
                if related[i, j] or same[i, j]
            ]
            total, count = total + sum(row), count + len(row)
            means.append(sum(row) / len(row))
        return -total / count if normalise == "global" else -sum(means) / 8

    scale = {"BYOL": 2.0, "SimSiam": 0.5}[name]
    expected = scale * (towards(task.predictor(a), of_b) + towards(task.predictor(b), of_a))
    assert float(loss.detach()) == pytest.approx(expected, abs=1e-5)
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in task.predictor.parameters() if p.ndim > 1)
    # stop-gradient: the derivative by the networks is that with constant targets
    constant = [t.detach() for t in (of_a, of_b)]
    positive = related | same
    task_grad = [p.grad.clone() for p in task.model.parameters()]
    task.zero_grad()
    again = scale * (
        task.contrastive_loss(task.predictor(task.model(batch["image"]).projection), constant[1], positive)
        + task.contrastive_loss(task.predictor(task.model(batch["second_view"]).projection), constant[0], positive)
    )
    again.backward()
    for one, other in zip(task_grad, task.model.parameters(), strict=True):
        torch.testing.assert_close(one, other.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("gaze_block", ["all", "released"])
def test_simclr_equals_its_formula(gaze_block):
    task = make_task("SimCLR", positives="gaze", gaze_block=gaze_block)
    task.set_relations(relations())
    batch = batch_of()
    z = normalize(task.model(torch.cat([batch["image"], batch["second_view"]])).projection, dim=1).detach()
    related, same = related_in_batch()
    total, count = 0.0, 0
    for a in range(16):
        others = sum(math.exp(float(z[a] @ z[c]) / 0.07) for c in range(16) if c != a)
        for b in range(16):
            gaze = related[a % 8, b % 8] and (gaze_block == "all" or (a < 8 and b < 8))
            if a != b and (same[a % 8, b % 8] or gaze):
                total, count = total - math.log(math.exp(float(z[a] @ z[b]) / 0.07) / others), count + 1
    assert float(task.loss_for(frozenset({"contrastive"}), batch).detach()) == pytest.approx(total / count, rel=1e-5)


@pytest.mark.parametrize("own_slots", ["positive", "negative"])
def test_moco_equals_its_formula_with_a_queue_that_is_partly_filled(own_slots):
    task = make_task("MoCo", positives="gaze", own_slots=own_slots).eval()
    task.set_relations(relations())
    batch = batch_of()
    early = collate(films("train", 12)[5:12])  # films 4 and 6 again, and others; 7 of 10 slots
    task.remember(task.contrast(early))
    contrast = task.contrast(batch)
    q = normalize(task.model(batch["image"]).projection, dim=1).detach()
    k = normalize(task.target(batch["second_view"]).projection, dim=1)
    slots = normalize(task.target(early["second_view"]).projection, dim=1)
    torch.testing.assert_close(task.queue.keys[:7], slots, atol=1e-7, rtol=0)
    related = relations().dense()
    total, count, pairs = 0.0, 0, 0
    for i in range(8):
        logits = [float(q[i] @ k[i]) / 0.2, *(float(q[i] @ slots[m]) / 0.2 for m in range(7))]
        share = [value - math.log(sum(map(math.exp, logits))) for value in logits]
        total, count = total - share[0], count + 1
        for m in range(7):
            own = i // 2 == (m + 5) // 2
            pairs += bool(related[i, m + 5]) and not own
            if (own and own_slots == "positive") or (related[i, m + 5] and not own):
                total, count = total - share[m + 1], count + 1
    assert pairs == 3
    assert int(contrast.related.sum()) == pairs
    assert float(contrast.loss.detach()) == pytest.approx(total / count, rel=1e-6)
    task.remember(contrast)
    assert task.queue.identities[[7, 8, 9, 0, 1, 2, 3, 4], 0].tolist() == batch["film"].tolist()


@pytest.mark.parametrize("groups", [2, 3, 4])
def test_keys_are_encoded_in_groups_of_a_random_order_with_batch_statistics_of_their_own(groups):
    task, batch = make_task("MoCo", key_groups=groups), batch_of()
    assert task.target.training
    whole, copies = copy.deepcopy(task.target), copy.deepcopy(task.target)
    keys = task.contrast(batch).keys
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0)).tolist()
    assert order != list(range(8))
    sizes = {2: [4, 4], 3: [3, 3, 2], 4: [2, 2, 2, 2]}[groups]
    expected, start = torch.zeros(8, 6), 0
    for size in sizes:
        films_of_group = order[start : start + size]
        expected[films_of_group] = normalize(copies(batch["second_view"][films_of_group]).projection, dim=1)
        start += size
    torch.testing.assert_close(keys, expected, rtol=0, atol=1e-6)
    together = normalize(whole(batch["second_view"]).projection, dim=1)
    assert float((keys - together).abs().max()) > 0.01
    assert torch.equal(shuffled_order(8, 0, torch.device("cpu")), torch.tensor(order))


def test_without_batch_norm_groups_of_keys_change_no_loss():
    losses = []
    for groups in (1, 4):
        task = make_task("MoCo", key_groups=groups)
        for module in list(task.modules()):
            for name, child in module.named_children():
                if isinstance(child, torch.nn.BatchNorm2d):
                    setattr(module, name, torch.nn.Identity())
        assert not any("BatchNorm" in type(module).__name__ for module in task.modules())
        task.remember(task.contrast(batch_of()))
        losses.append(float(task.contrast(batch_of(6)).loss.detach()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for groups, films_in_batch in ((4, 3), (4, 1)):  # no group of one film, of which there are no batch statistics
        sizes = []
        task = make_task("MoCo", key_groups=groups).eval()
        task.target.register_forward_pre_hook(lambda module, images, kept=sizes: kept.append(len(images[0])))
        task.contrast(batch_of(films_in_batch))
        assert sizes == [films_in_batch]


def test_batch_statistics_are_shared_by_the_methods_whose_originals_do():
    shares = {method: method.shares_batch_statistics for method in (BYOL, SimSiam, SimCLR, MoCo, ContrastiveTask)}
    assert shares == {BYOL: True, SimSiam: True, SimCLR: True, MoCo: False, ContrastiveTask: False}


@pytest.mark.parametrize(("name", "own"), [*((name, {}) for name in METHODS), ("MoCo", {"own_slots": "negative"})])
def test_without_pairs_it_is_the_plain_method_bit_for_bit(tmp_path, name, own):
    runs = {
        "none": ({}, None),
        "dropped": ({"positives": "gaze", "drop_prob": 1.0}, relations()),
        "tau": ({"positives": "gaze"}, relations(threshold=1.0)),
    }
    states = {}
    for kind, (options, given) in runs.items():
        task = make_task(name, **own, **options)
        start = copy.deepcopy(task.state_dict())
        fit(task, tmp_path, given=given, limit_train_batches=2)
        states[kind] = task.state_dict()
    assert not equal(start, states["none"])
    rows = ["queue.identities"]  # they name the rows of the relations
    assert equal(states["none"], states["dropped"], rows)
    assert equal(states["none"], states["tau"], rows)
    task = make_task(name, positives="gaze", **own)
    fit(task, tmp_path, given=relations(), data=TwoViews(batch_size=8, ordered=True), limit_train_batches=2)
    plain = make_task(name, **own)
    fit(plain, tmp_path, data=TwoViews(batch_size=8, ordered=True), limit_train_batches=2)
    assert not equal(task.model.state_dict(), plain.model.state_dict())


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
