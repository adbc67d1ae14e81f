"""The losses of the contrastive tasks against slow literal versions of their formulas."""

import copy
import math

import pytest
import torch
from torch.nn.functional import normalize

from gaze_lightning.tasks import BYOL, ContrastiveTask, MoCo, SimCLR, SimSiam
from gaze_lightning.tasks.moco import shuffled_order
from tests.contrastive_data import METHODS, TwoViews, batch_of, collate, equal, films, fit, make_task, relations


def related_in_batch(n=8):
    """``relations`` within the first films as a plain matrix, and which readings are of one film."""
    related = torch.zeros(n, n, dtype=torch.bool)
    for i, j in ((0, 4), (0, 7), (3, 8), (5, 10)):
        if i < n and j < n:
            related[i, j] = related[j, i] = True
    film = torch.arange(n) // 2
    return related & (film[:, None] != film), film[:, None] == film


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
