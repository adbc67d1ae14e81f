import hashlib
import itertools
import math
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from gaze_lightning.losses import LabelPairs, SupConLoss, TripletLoss, label_pairs
from gaze_lightning.metrics import EmbeddingLoss

NAN = math.nan
LABEL = torch.tensor([0, 1, 2, 0, 1, 0, 0, 2, 1])
PAIRS = label_pairs(LABEL, "single")
FINDINGS = torch.tensor([[1, 0], [1, NAN], [0, 1], [0, 0], [0, 0], [1, 1], [0, NAN], [1, 0], [0, 1]])
ALL_ALIKE = label_pairs(torch.zeros(5, dtype=torch.int64), "single")
SEEDS = st.integers(0, 2**31 - 1)


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def literal_triplets(embedding, pairs, margin, reduction, eps=0.0):
    """The released triple loop: every triplet through torch's function, whose distance is over the last axis."""
    terms = []
    for i, j, k in itertools.product(range(len(embedding)), repeat=3):
        if pairs.same[i, j] and pairs.different[i, k]:
            anchor, positive, negative = (embedding[n] for n in (i, j, k))
            terms.append(F.triplet_margin_loss(anchor, positive, negative, margin, eps=eps, reduction="none"))
    terms = torch.stack(terms)
    if reduction == "sum":
        return terms.flatten(1).mean(dim=1).sum() if terms.ndim > 1 else terms.sum()
    return terms.sum() / (terms > 0).sum().clamp(min=1)


def value_and_gradient(loss, embedding):
    embedding = embedding.clone().requires_grad_()
    value = loss(embedding)
    (gradient,) = torch.autograd.grad(value, embedding)
    return value.detach(), gradient


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("shape", [(6,), (3, 2, 4)], ids=["pooled", "per_row"])
@pytest.mark.parametrize("margin", [0.3, 1.0, 50.0])
def test_triplet_loss_and_its_gradient_are_those_of_the_literal_loop(shape, reduction, margin):
    embedding = random(9, *shape)
    value, gradient = value_and_gradient(lambda f: TripletLoss(margin, reduction)(f, PAIRS), embedding)
    expected = value_and_gradient(lambda f: literal_triplets(f, PAIRS, margin, reduction), embedding)
    torch.testing.assert_close((value, gradient), expected, rtol=1e-10, atol=1e-12)
    assert gradient.abs().max() > 0


@pytest.mark.parametrize("shape", [(6,), (3, 2, 4)], ids=["pooled", "per_row"])
def test_torch_s_epsilon_is_all_that_differs_from_the_published_distance(shape):
    embedding = random(9, *shape)
    value = TripletLoss(reduction="sum")(embedding, PAIRS)
    published = literal_triplets(embedding, PAIRS, 1.0, "sum", eps=1e-6)
    assert value.item() != published.item()
    assert value.item() == pytest.approx(published.item(), rel=1e-5)


@settings(deadline=None, max_examples=100)
@given(SEEDS, st.integers(1, 8), st.sampled_from(["mean", "sum"]), st.booleans())
def test_triplet_loss_of_any_labels_and_of_tied_distances_is_that_of_the_literal_loop(seed, samples, reduction, tied):
    embedding = random(samples, 2, seed=seed)
    embedding = embedding.round() if tied else embedding  # whole numbers: distances that repeat, samples that coincide
    generator = torch.Generator().manual_seed(seed)
    label = torch.tensor([0.0, 1.0, NAN])[torch.randint(3, (samples, 2), generator=generator)]
    pairs = label_pairs(label, "multi")
    value = TripletLoss(1.0, reduction)(embedding, pairs)
    if TripletLoss().is_defined(pairs):
        expected = literal_triplets(embedding, pairs, 1.0, reduction)
        assert value.item() == pytest.approx(expected.item(), rel=1e-9, abs=1e-12)
    else:
        assert value.item() == 0


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.permutations(range(9)), st.sampled_from([TripletLoss(), TripletLoss(0.4, "sum"), SupConLoss()]))
def test_the_order_of_the_samples_does_not_matter(seed, order, loss):
    embedding = random(9, 5, seed=seed)
    value, gradient = value_and_gradient(lambda f: loss(f, PAIRS), embedding)
    shuffled = value_and_gradient(lambda f: loss(f, label_pairs(LABEL[order], "single")), embedding[order])
    torch.testing.assert_close((value, gradient[order]), shuffled, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("loss", [TripletLoss(), TripletLoss(reduction="sum"), SupConLoss()])
def test_gradients_pass_the_check_by_finite_differences(loss):
    assert torch.autograd.gradcheck(lambda f: loss(f, PAIRS), random(9, 4).requires_grad_())


@pytest.mark.parametrize(
    ("loss", "embedding", "pairs"),
    [
        (TripletLoss(), random(5, 3), ALL_ALIKE),
        (TripletLoss(), random(5, 2, 3, 4), ALL_ALIKE),
        (TripletLoss(reduction="sum"), random(1, 3), label_pairs(torch.tensor([2]), "single")),
        (TripletLoss(), random(4, 3), label_pairs(torch.arange(4), "single")),
        (SupConLoss(), random(1, 3), label_pairs(torch.tensor([2]), "single")),
        (SupConLoss(), random(4, 3), label_pairs(torch.arange(4), "single")),
        (SupConLoss(), random(3, 3), label_pairs(torch.full((3, 2), NAN), "multi")),
    ],
    ids=["one_class", "one_class_per_row", "one_sample", "no_positive", "supcon_one", "supcon_none", "supcon_unknown"],
)
def test_a_batch_without_a_term_costs_exactly_nothing_and_keeps_the_graph(loss, embedding, pairs):
    assert not loss.is_defined(pairs)
    value, gradient = value_and_gradient(lambda f: loss(f, pairs), embedding)
    assert value.item() == 0
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_triplets_that_are_all_satisfied_cost_exactly_nothing():
    embedding = torch.tensor([[0.0], [0.1], [9.0], [9.1]])
    pairs = label_pairs(torch.tensor([0, 0, 1, 1]), "single")
    value, gradient = value_and_gradient(lambda f: TripletLoss()(f, pairs), embedding)
    assert value.item() == 0
    assert torch.equal(gradient, torch.zeros(4, 1))
    assert TripletLoss().is_defined(pairs)


@pytest.mark.parametrize("loss", [TripletLoss(), TripletLoss(reduction="sum"), SupConLoss()])
@pytest.mark.parametrize("fill", [0.0, 0.7])
def test_samples_that_coincide_have_finite_gradients(loss, fill):
    _, gradient = value_and_gradient(lambda f: loss(f, PAIRS), torch.full((9, 4), fill))
    assert gradient.isfinite().all()
    some = random(9, 4, dtype=torch.float32)
    some[3] = some[0]
    some[1] = some[0]
    some[2] = 0
    value, gradient = value_and_gradient(lambda f: loss(f, PAIRS), some)
    assert value > 0
    assert gradient.isfinite().all()
    assert gradient.abs().max() < 1e3


def test_coinciding_samples_cost_the_margin():
    assert TripletLoss(0.7)(torch.ones(9, 4), PAIRS).item() == pytest.approx(0.7)


@pytest.mark.parametrize("loss", [TripletLoss(), SupConLoss()])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(loss, dtype):
    embedding = random(9, 1920, dtype=torch.float32).to(dtype)
    expected = loss(embedding.float(), PAIRS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(embedding, PAIRS)
    assert value.dtype == torch.float32
    assert value.item() == expected.item()


def test_float32_is_close_to_float64_at_the_published_size():
    label = torch.arange(32) % 3
    embedding, pairs = random(32, 1920).relu(), label_pairs(label, "single")
    exact = value_and_gradient(lambda f: TripletLoss(3.0)(f, pairs), embedding)
    value, gradient = value_and_gradient(lambda f: TripletLoss(3.0)(f, pairs), embedding.float())
    assert value.item() == pytest.approx(exact[0].item(), rel=1e-5)
    assert (gradient - exact[1]).norm() < 1e-4 * exact[1].norm()


def test_many_rows_are_computed_in_parts_with_the_same_result(monkeypatch):
    embedding = random(9, 5, 3, 4)
    whole = value_and_gradient(lambda f: TripletLoss()(f, PAIRS), embedding)
    monkeypatch.setattr("gaze_lightning.losses.triplet._CELLS", 200)  # two rows of 81 cells at a time
    torch.testing.assert_close(value_and_gradient(lambda f: TripletLoss()(f, PAIRS), embedding), whole)


@pytest.mark.parametrize("loss", [TripletLoss(), TripletLoss(reduction="sum"), SupConLoss()])
def test_an_embedding_that_is_not_finite_shows_in_the_loss(loss):
    embedding = random(9, 4)
    embedding[2, 1] = NAN
    assert loss(embedding, PAIRS).isnan()


def literal_supcon(embedding, pairs, temperature):
    """The spec's formula, one exponential at a time."""
    f = embedding.tolist()
    z = [[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in f]
    dot = lambda a, b: sum(x * y for x, y in zip(z[a], z[b], strict=True))  # noqa: E731
    losses = []
    for i in range(len(z)):
        positives = [p for p in range(len(z)) if pairs.same[i, p]]
        known = [a for a in range(len(z)) if pairs.same[i, a] or pairs.different[i, a]]
        if positives:
            share = lambda p, i=i, known=known: (  # noqa: E731
                math.exp(dot(i, p) / temperature) / sum(math.exp(dot(i, a) / temperature) for a in known)
            )
            losses.append(-sum(math.log(share(p)) for p in positives) / len(positives))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
@pytest.mark.parametrize(
    "pairs",
    [
        PAIRS,
        label_pairs(torch.tensor([0, 1, 2, 3, 3, 0, 0, 7, 8]), "single"),
        label_pairs(
            torch.tensor([[1, 0], [1, NAN], [0, 1], [0, 0], [0, 0], [1, 1], [0, NAN], [1, 0], [0, 1]]), "multi"
        ),
    ],
    ids=["all_have_positives", "some_anchors_without", "multi_label_unknowns"],
)
def test_supcon_is_that_of_the_formula(temperature, pairs):
    value = SupConLoss(temperature)(random(9, 4), pairs)
    assert value.item() == pytest.approx(literal_supcon(random(9, 4), pairs, temperature), rel=1e-10)


@pytest.mark.parametrize("samples", [2, 5, 9])
def test_supcon_of_a_single_class_is_that_of_the_formula_and_at_least_the_logarithm_of_the_others(samples):
    pairs, floor = label_pairs(torch.zeros(samples, dtype=torch.int64), "single"), math.log(samples - 1)
    embedding = random(samples, 4)
    value, gradient = value_and_gradient(lambda f: SupConLoss()(f, pairs), embedding)
    assert value.item() == pytest.approx(literal_supcon(embedding, pairs, 0.1), rel=1e-10, abs=1e-12)
    assert value >= floor
    assert gradient.isfinite().all()
    assert (gradient.abs().max() > 1e-3) == (samples > 2)
    alike, still = value_and_gradient(lambda f: SupConLoss()(f, pairs), torch.ones(samples, 4).double())
    assert alike.item() == pytest.approx(floor, abs=1e-12)
    assert still.abs().max() < 1e-10


def test_one_sample_of_another_class_hardly_moves_supcon_s_floor():
    embedding = F.one_hot(torch.tensor([0] * 8 + [1])).double()
    value = SupConLoss(0.1)(embedding, label_pairs(torch.tensor([0] * 8 + [1]), "single"))
    assert value.item() == pytest.approx(math.log(7), abs=1e-4)


def test_supcon_is_the_mean_cross_entropy_of_picking_a_positive_among_the_others():
    embedding = random(9, 6, seed=4)
    z = F.normalize(embedding)
    losses = []
    for i in range(9):
        others = [a for a in range(9) if a != i]
        logits = (z[others] @ z[i] / 0.1).expand(8, 8)
        entropy = F.cross_entropy(logits, torch.arange(8), reduction="none")
        losses.append(entropy[LABEL[others] == LABEL[i]].mean())
    assert SupConLoss(0.1)(embedding, PAIRS).item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-10)


@settings(deadline=None, max_examples=20)
@given(SEEDS, st.floats(0.01, 100))
def test_supcon_does_not_depend_on_the_length_of_embeddings(seed, scale):
    embedding = random(9, 5, seed=seed)
    scaled = embedding * torch.linspace(1, scale, 9, dtype=torch.float64)[:, None]
    assert SupConLoss()(scaled, PAIRS).item() == pytest.approx(SupConLoss()(embedding, PAIRS).item(), rel=1e-9)


def test_pairs_of_exclusive_classes_are_equal_or_unequal():
    same, different = label_pairs(torch.tensor([0, 1, 0]), "single")
    assert same.tolist() == [[False, False, True], [False, False, False], [True, False, False]]
    assert different.tolist() == [[False, True, False], [True, False, True], [False, True, False]]


def agree(a, b):
    """Multi-label: a finding in common, or none in both; of fully known labels."""
    return any(x == y == 1 for x, y in zip(a, b, strict=True)) or not (any(a) or any(b))


def completions(label):
    return itertools.product(*([0, 1] if math.isnan(x) else [x] for x in label))


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 3).flatmap(lambda k: st.lists(st.lists(st.sampled_from([0.0, 1.0, NAN]), min_size=k, max_size=k),
                                                    min_size=1, max_size=6)))  # fmt: skip
def test_multi_label_pairs_are_what_holds_however_the_unknown_entries_turn_out(labels):
    same, different = label_pairs(torch.tensor(labels), "multi")
    for i, j in itertools.product(range(len(labels)), repeat=2):
        outcomes = {agree(a, b) for a in completions(labels[i]) for b in completions(labels[j])}
        assert same[i, j].item() == (i != j and outcomes == {True})
        assert different[i, j].item() == (i != j and outcomes == {False})


@pytest.mark.parametrize(
    ("label", "label_type", "message"),
    [(torch.zeros(3, 2), "single", r"\[B\]"), (torch.zeros(3), "multi", r"\[B, K\]"), (torch.zeros(3), "both", "both")],
)
def test_labels_of_another_kind_are_refused(label, label_type, message):
    with pytest.raises(ValueError, match=message):
        label_pairs(label, label_type)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TripletLoss(margin=0.0), "margin"),
        (lambda: TripletLoss(margin=math.inf), "margin"),
        (lambda: TripletLoss(reduction="max"), "reduction"),
        (lambda: SupConLoss(temperature=0.0), "temperature"),
        (lambda: TripletLoss()(torch.zeros(9, 2, 3), PAIRS), "embedding"),
        (lambda: TripletLoss()(torch.zeros(8, 2), PAIRS), "pairs"),
        (lambda: SupConLoss()(torch.zeros(9, 2, 3, 4), PAIRS), "pool"),
        (lambda: EmbeddingLoss(TripletLoss(), "single").update(torch.zeros(3, 2), LABEL), "9 labels"),
        (lambda: EmbeddingLoss(TripletLoss(), "single").update(torch.zeros(9, 2), LABEL, ["a"]), "1 keys"),
        (lambda: EmbeddingLoss(TripletLoss(), "single", most_samples=1), "most_samples"),
        (lambda: EmbeddingLoss(TripletLoss(), "single", most_rows=0), "most_rows"),
    ],
)
def test_impossible_settings_and_shapes_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("shape", [(6,), (3, 2, 4)], ids=["pooled", "per_row"])
def test_the_metric_is_the_loss_of_all_samples_however_they_were_cut(shape):
    embedding, expected = random(9, *shape), literal_triplets(random(9, *shape), PAIRS, 1.0, "mean")
    for cut in ([9], [4, 5], [1, 3, 5], [1] * 9):
        metric = EmbeddingLoss(TripletLoss(), "single")
        for part, label in zip(embedding.split(cut), LABEL.split(cut), strict=True):
            metric.update(part, label)
        assert metric.compute().item() == pytest.approx(expected.item(), rel=1e-10)
    assert not metric.state_dict()


MANY = torch.arange(200) % 3
KEYS = [f"reading-{i}" for i in range(200)]


def keyed(order, cut, most_samples=20, embedding=None):
    """The metric of samples in this order and in parts of this size."""
    embedding = random(200, 5) if embedding is None else embedding
    metric = EmbeddingLoss(TripletLoss(), "single", most_samples=most_samples)
    for part in torch.as_tensor(order).split(cut):
        metric.update(embedding[part], MANY[part], [KEYS[i] for i in part])
    return metric


@settings(deadline=None, max_examples=30)
@given(st.permutations(range(200)), st.integers(1, 200))
def test_with_keys_a_fixed_choice_of_samples_is_compared_whatever_their_order_and_cut(order, cut):
    smallest = sorted(range(200), key=lambda i: hashed(KEYS[i]))[:20]
    expected = literal_triplets(random(200, 5)[smallest], label_pairs(MANY[smallest], "single"), 1.0, "mean")
    value = keyed(order, cut).compute()
    assert value.item() == pytest.approx(expected.item(), rel=1e-10)
    assert value.item() == keyed(range(200), 7).compute().item()


def hashed(key):
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big", signed=True)


def test_the_choice_is_the_same_in_every_process():
    """Values of ``b2sum -l 64``, not of this process."""
    assert {key: hashed(key) for key in ("reading-1", "Füße")} == {
        "reading-1": 3616756734904810611,
        "Füße": -8110453489790533873,
    }
    metric = EmbeddingLoss(TripletLoss(), "single")
    metric.update(random(2, 3), torch.arange(2), ["reading-1", "Füße"])
    assert metric.key[0].tolist() == [3616756734904810611, -8110453489790533873]


def test_keys_that_are_few_enough_change_nothing_and_repeated_ones_count_once():
    plain = EmbeddingLoss(TripletLoss(), "single")
    plain.update(random(200, 5), MANY)
    assert keyed(range(200), 50, most_samples=200).compute().item() == pytest.approx(plain.compute().item(), rel=1e-10)
    repeated = keyed([*range(200), 0, 1, 2], 50, most_samples=200)
    assert repeated.compute().item() == keyed(range(200), 50, most_samples=200).compute().item()


def test_samples_that_can_no_longer_be_chosen_are_forgotten():
    metric, most = EmbeddingLoss(TripletLoss(), "single", most_samples=20), 0
    for i in range(300):
        metric.update(torch.ones(4, 3), torch.arange(4), [f"{i}-{j}" for j in range(4)])
        most = max(most, sum(map(len, metric.embedding)))
        assert len(metric.embedding) < 12
    assert most <= 2 * 20 + 8


def test_two_ranks_choose_what_one_chooses():
    one = keyed(range(200), 16)
    first, second = keyed(range(0, 200, 2), 16), keyed(range(1, 200, 2), 16)
    first.merge_state(second)
    assert first.compute().item() == one.compute().item()


def test_keys_in_some_calls_only_are_refused():
    for first, then in ((None, KEYS[:9]), (KEYS[:9], None)):
        metric = EmbeddingLoss(TripletLoss(), "single")
        metric.update(random(9, 3), LABEL, first)
        with pytest.raises(ValueError, match="keys came with some samples only"):
            metric.update(random(9, 3), LABEL, then)


def test_of_many_rows_a_fixed_choice_is_compared_and_kept(monkeypatch):
    embedding = random(9, 20, 3, 4)
    rows = embedding.flatten(1, 2)
    values = []
    for most_rows, cells, compared in ((60, 2**24, 60), (7, 2**24, 7), (7, 5 * 81, 5), (7, 1, 1)):
        monkeypatch.setattr("gaze_lightning.metrics.embedding_loss._CELLS", cells)
        for cut in (9, 2):
            metric = EmbeddingLoss(TripletLoss(reduction="sum"), "single", most_rows=most_rows)
            for part, label in zip(embedding.split(cut), LABEL.split(cut), strict=True):
                metric.update(part, label)
            assert metric.embedding[0].shape[1:] == (most_rows, 1, 4)
            values.append(metric.compute().item())
        chosen = torch.randperm(60, generator=torch.Generator().manual_seed(0))[:compared]
        expected = literal_triplets(rows[:, chosen, None], PAIRS, 1.0, "sum")
        assert values[-2:] == pytest.approx([expected.item()] * 2, rel=1e-10)
    assert values[0] == pytest.approx(literal_triplets(embedding, PAIRS, 1.0, "sum").item(), rel=1e-10)


def test_choosing_rows_draws_no_random_number_of_the_run():
    state = torch.get_rng_state()
    EmbeddingLoss(TripletLoss(), "single").update(random(9, 20, 3, 4), LABEL)
    assert torch.equal(torch.get_rng_state(), state)


def test_many_samples_take_seconds_and_little_memory():
    metric = EmbeddingLoss(TripletLoss(), "single")
    start = time.perf_counter()
    for i in range(300):
        metric.update(torch.rand(100, 192), torch.arange(100) % 3, [f"{i}-{j}" for j in range(100)])
    assert metric.compute() > 0
    assert time.perf_counter() - start < 5
    assert sum(part.nbytes for part in metric.embedding) < 1200 * 192 * 4


@pytest.mark.parametrize("loss", [TripletLoss(), SupConLoss()])
def test_the_metric_without_a_valid_pair_is_nan(loss):
    metric = EmbeddingLoss(loss, "single")
    metric.update(random(4, 3), torch.arange(4))
    assert metric.compute().isnan()
    metric.reset()
    metric.update(random(9, 3), LABEL)
    assert metric.compute() > 0


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_the_metric_without_samples_is_nan():
    assert EmbeddingLoss(SupConLoss(), "multi").compute().isnan()


def test_the_metric_keeps_no_graph():
    metric = EmbeddingLoss(TripletLoss(), "single")
    metric.update(random(9, 3).requires_grad_(), LABEL)
    assert not metric.compute().requires_grad


def test_a_triplet_of_one_anchor_can_be_asked_for():
    only = torch.zeros(9, 9, dtype=torch.bool)
    only[4] = True
    pairs = LabelPairs(PAIRS.same & only, PAIRS.different & only)
    value = TripletLoss(reduction="sum")(random(9, 3), pairs)
    assert value.item() == pytest.approx(literal_triplets(random(9, 3), pairs, 1.0, "sum").item(), rel=1e-10)
