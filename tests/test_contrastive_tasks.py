import copy
import math
import warnings

import pytest
import torch
from pytorch_lightning import Callback
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import normalize

from gaze_lightning.errors import ConfigurationError
from gaze_lightning.protocols import HasLossTerms, LearnsFromRelations, OffersTwoViews
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


@every_method
def test_without_pairs_it_is_the_plain_method_bit_for_bit(tmp_path, name):
    runs = {
        "none": ({}, None),
        "dropped": ({"positives": "gaze", "drop_prob": 1.0}, relations()),
        "tau": ({"positives": "gaze"}, relations(threshold=1.0)),
    }
    states = {}
    for kind, (options, given) in runs.items():
        task = make_task(name, **options)
        start = copy.deepcopy(task.state_dict())
        fit(task, tmp_path, given=given, limit_train_batches=2)
        states[kind] = task.state_dict()
    assert not equal(start, states["none"])
    rows = ["queue.identities"]  # they name the rows of the relations
    assert equal(states["none"], states["dropped"], rows)
    assert equal(states["none"], states["tau"], rows)
    task = make_task(name, positives="gaze")
    fit(task, tmp_path, given=relations(), data=TwoViews(batch_size=8, ordered=True), limit_train_batches=2)
    plain = make_task(name)
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


def test_what_is_missing_is_said_before_the_training(tmp_path):
    with pytest.raises(ConfigurationError, match="positives: gaze needs the relations"):
        fit(make_task("SimCLR", positives="gaze"), tmp_path)
    with pytest.raises(ConfigurationError, match="two views of each film"):
        trainer(tmp_path).fit(make_task("SimCLR"), [batch_of()])
    with pytest.raises(ConfigurationError, match="label needs labels"):
        make_task("SimCLR", class_names=[], positives="label")
    with pytest.raises(ValueError, match="neighbours is 0"):
        make_task("SimCLR", neighbours=0)
    with pytest.raises(ConfigurationError, match="own_slots"):
        make_task("MoCo", own_slots="maybe")


@pytest.mark.parametrize("name", ["MoCo", "BYOL"])
def test_the_copy_starts_from_pretrained_weights_too(tmp_path, name):
    donor = make_task(name).model.backbone
    torch.nn.init.normal_(next(donor.net.parameters()))
    torch.save(donor.net.state_dict(), tmp_path / "weights.pt")
    task = make_task(name, pretrained=str(tmp_path / "weights.pt"))
    assert not equal(donor.state_dict(), task.model.backbone.state_dict())
    task.trainer = trainer(tmp_path)
    task.trainer.datamodule = TwoViews()
    task.setup("fit")
    assert equal(donor.state_dict(), task.model.backbone.state_dict())
    assert equal(task.model.state_dict(), task.target.module.state_dict())


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

    outputs = []

    class Keep(Callback):
        def on_test_batch_end(self, trainer, pl_module, result, batch, batch_idx, dataloader_idx=0):
            outputs.append(result)

    trainer(tmp_path, callbacks=[Keep()]).test(task, datamodule=data, verbose=False)
    assert data.asked[2:] == [("train", None), ("validate", None)]
    assert [one for result in outputs for one in result["sample_id"]] == whole["test"]["sample_id"]
    probability = torch.cat([result["probability"] for result in outputs])
    knn = torch.cat([result["extra_probabilities"]["knn"] for result in outputs])
    assert probability.shape == knn.shape == (5, 3)
    if label_type == "single":
        torch.testing.assert_close(probability.sum(1), torch.ones(5, dtype=torch.float64))
        x = of["train"].double().numpy()
        mean, scale = x.mean(0), x.std(0) + (x.std(0) < 1e-12)
        ways = []
        for strength in (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0):
            sk = LogisticRegression(C=1 / strength, tol=1e-6, max_iter=5000)
            sk.fit((x - mean) / scale, whole["train"]["label"].numpy())
            ways.append(torch.from_numpy(sk.predict_proba((of["test"].double().numpy() - mean) / scale)))
        assert min(float((way - probability).abs().max()) for way in ways) < 1e-2
    (first, *_) = trainer(tmp_path).predict(task, datamodule=data)
    assert first["probability"].shape == (2, 0)
    torch.testing.assert_close(first["features"], of["test"][:2])


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


def test_it_trains_in_bfloat16(tmp_path):
    for name in METHODS:
        run = fit(make_task(name), tmp_path, precision="bf16-mixed", limit_train_batches=2, limit_val_batches=1.0)
        assert math.isfinite(run.callback_metrics["train/loss"])
