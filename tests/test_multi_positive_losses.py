import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from gaze_lightning.errors import ConfigurationError
from gaze_lightning.losses import AttractionLoss, MultiPositiveInfoNCE, MultiPositiveNTXent

SEEDS = st.integers(0, 2**31 - 1)
NORMALISE = ("global", "per_anchor")


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def some(*shape, share=0.5, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < share


def symmetric(n, share=0.5, seed=0):
    upper = some(n, n, share=share, seed=seed).triu(1)
    return upper | upper.T


def films(n, seed=0):
    """Which of ``n`` samples show the same film, when some films come twice or more often."""
    film = torch.randint(max(n - 1, 1), (n,), generator=torch.Generator().manual_seed(seed))
    return film[:, None] == film


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def averaged(terms, normalise, anchors):
    """Mean over all terms (anchor, value), or over anchors of the mean over each one's terms."""
    if normalise == "global":
        return sum(value for _, value in terms) / len(terms)
    of = [[value for anchor, value in terms if anchor == i] for i in range(anchors)]
    return sum(sum(values) / len(values) for values in of) / anchors


def literal_info_nce(query, key, queue, positive, usable, temperature, normalise):
    terms = []
    for i, q in enumerate(query.tolist()):
        logits, y = [cosine(q, key[i].tolist()) / temperature], [1]
        for m, k in enumerate(queue.tolist()):
            if usable[i, m]:
                logits.append(cosine(q, k) / temperature)
                y.append(int(positive[i, m]))
        whole = sum(math.exp(x) for x in logits)
        terms += [(i, -math.log(math.exp(x) / whole)) for x, is_positive in zip(logits, y, strict=True) if is_positive]
    return averaged(terms, normalise, len(query))


def literal_nt_xent(a, b, same, related, temperature, normalise, gaze_block):
    z, n = torch.cat([a, b]).tolist(), len(a)
    terms = []
    for i in range(2 * n):
        whole = sum(math.exp(cosine(z[i], z[c]) / temperature) for c in range(2 * n) if c != i)
        for j in range(2 * n):
            first_views = i < n and j < n
            gaze = related[i % n, j % n] and (gaze_block == "all" or first_views)
            if i != j and (i % n == j % n or same[i % n, j % n] or gaze):
                terms.append((i, -math.log(math.exp(cosine(z[i], z[j]) / temperature) / whole)))
    return averaged(terms, normalise, 2 * n)


def literal_attraction(prediction, target, positive, normalise):
    p, t = prediction.tolist(), target.tolist()
    terms = [(i, -cosine(p[i], t[j])) for i in range(len(p)) for j in range(len(t)) if positive[i, j]]
    return averaged(terms, normalise, len(p))


@settings(deadline=None, max_examples=60)
@given(SEEDS, st.integers(1, 5), st.integers(0, 7), st.sampled_from(NORMALISE), st.sampled_from([0.2, 1.0]))
def test_info_nce_is_the_literal_loop(seed, samples, slots, normalise, temperature):
    query, key, queue = (random(n, 4, seed=seed + i) for i, n in enumerate((samples, samples, slots)))
    positive, usable = some(samples, slots, seed=seed), some(samples, slots, share=0.7, seed=seed + 1)
    value = MultiPositiveInfoNCE(temperature, normalise)(query, key, queue, positive, usable)
    expected = literal_info_nce(query, key, queue, positive, usable, temperature, normalise)
    assert value.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(SEEDS, st.integers(1, 4), st.sampled_from(NORMALISE), st.sampled_from(["all", "released"]), st.floats(0, 1))
def test_nt_xent_is_the_literal_loop(seed, samples, normalise, gaze_block, share):
    a, b = random(samples, 3, seed=seed), random(samples, 3, seed=seed + 1)
    same = films(samples, seed)
    related = symmetric(samples, share, seed) & ~same
    value = MultiPositiveNTXent(0.3, normalise, gaze_block)(a, b, same, related)
    expected = literal_nt_xent(a, b, same, related, 0.3, normalise, gaze_block)
    assert value.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(SEEDS, st.integers(1, 6), st.sampled_from(NORMALISE), st.floats(0, 1))
def test_attraction_is_the_literal_loop_and_lies_between_minus_one_and_one(seed, samples, normalise, share):
    prediction, target = random(samples, 3, seed=seed), random(samples, 3, seed=seed + 1)
    positive = symmetric(samples, share, seed) | torch.eye(samples, dtype=torch.bool)
    value = AttractionLoss(normalise)(prediction, target, positive).item()
    assert value == pytest.approx(literal_attraction(prediction, target, positive, normalise), rel=1e-9, abs=1e-12)
    assert -1 - 1e-12 <= value <= 1 + 1e-12


@pytest.mark.parametrize("normalise", NORMALISE)
def test_without_other_positives_every_loss_is_that_of_its_framework(normalise):
    a, b, queue = random(6, 5), random(6, 5, seed=1), random(9, 5, seed=2)
    q, k, others = (F.normalize(x, dim=1) for x in (a, b, queue))
    nothing, diagonal = torch.zeros(6, 6, dtype=torch.bool), torch.eye(6, dtype=torch.bool)

    moco = torch.cat([(q * k).sum(dim=1, keepdim=True), q @ others.T], dim=1) / 0.2
    expected = F.cross_entropy(moco, torch.zeros(6, dtype=torch.int64))
    slots = torch.zeros(6, 9, dtype=torch.bool)
    torch.testing.assert_close(MultiPositiveInfoNCE(normalise=normalise)(a, b, queue, slots, ~slots), expected)

    z = torch.cat([q, k])
    simclr = (z @ z.T / 0.07).fill_diagonal_(-math.inf)
    expected = F.cross_entropy(simclr, torch.arange(12).roll(6))
    for gaze_block in ("all", "released"):
        loss = MultiPositiveNTXent(normalise=normalise, gaze_block=gaze_block)
        torch.testing.assert_close(loss(a, b, diagonal, nothing), expected)
        torch.testing.assert_close(loss(a, b, nothing, nothing), expected)

    simsiam = -F.cosine_similarity(a, b).mean()
    value = AttractionLoss(normalise)(a, b, diagonal)
    torch.testing.assert_close(value, simsiam)
    torch.testing.assert_close(2 + 2 * value, (q - k).square().sum(dim=1).mean())  # BYOL, equation 2


@pytest.mark.parametrize("normalise", NORMALISE)
def test_slots_that_are_not_usable_never_enter_the_loss(normalise):
    loss, query, key = MultiPositiveInfoNCE(normalise=normalise), random(3, 4), random(3, 4, seed=1)
    queue, usable = random(5, 4, seed=2), torch.tensor([True, True, False, True, False]).expand(3, -1)
    positive = some(3, 5, seed=3)
    positive[:, 2] = True  # and yet not usable
    value = loss(query, key, queue, positive, usable)
    for garbage in (1e30, 0.0, -3.0):
        other = queue.clone()
        other[[2, 4]] = garbage
        assert torch.equal(loss(query, key, other, positive, usable), value)
    full = torch.ones(3, 3, dtype=torch.bool)
    left = [0, 1, 3]
    torch.testing.assert_close(loss(query, key, queue[left], positive[:, left], full), value)
    nothing = torch.zeros(3, 5, dtype=torch.bool)
    assert loss(query, key, queue, positive, nothing).item() == 0  # the key alone is sure to be found


def test_the_total_stands_for_the_number_of_positives():
    query, key, queue = random(4, 3), random(4, 3, seed=1), random(6, 3, seed=2)
    positive, usable = some(4, 6, share=0.3, seed=1), some(4, 6, share=0.8, seed=2)
    whole = MultiPositiveInfoNCE()(query, key, queue, positive, usable)
    total = 4 + (positive & usable).sum()
    halves = [
        MultiPositiveInfoNCE()(query[part], key[part], queue, positive[part], usable[part], total)
        for part in (slice(0, 1), slice(1, 4))
    ]
    torch.testing.assert_close(halves[0] + halves[1], whole)
    assert (positive & usable)[:1].sum() * 3 != (positive & usable)[1:].sum()  # uneven: means of means would differ


def test_global_weighs_anchors_by_their_positives_and_per_anchor_alike():
    query, key, queue = random(2, 3), random(2, 3, seed=1), random(3, 3, seed=2)
    positive = torch.tensor([[True, True, True], [False, False, False]])
    usable = torch.ones(2, 3, dtype=torch.bool)
    one, other = (
        MultiPositiveInfoNCE()(query[i : i + 1], key[i : i + 1], queue, positive[i : i + 1], usable[:1]) for i in (0, 1)
    )
    torch.testing.assert_close(MultiPositiveInfoNCE()(query, key, queue, positive, usable), (4 * one + other) / 5)
    per_anchor = MultiPositiveInfoNCE(normalise="per_anchor")(query, key, queue, positive, usable)
    torch.testing.assert_close(per_anchor, (one + other) / 2)


@pytest.mark.parametrize("gaze_block", ["all", "released"])
def test_positives_of_two_views_are_symmetric_and_without_the_diagonal(gaze_block):
    same = torch.eye(4, dtype=torch.bool)
    same[0, 1] = same[1, 0] = True
    related = torch.zeros(4, 4, dtype=torch.bool)
    related[1, 2] = related[2, 1] = True
    positive = MultiPositiveNTXent(gaze_block=gaze_block).positives(same, related)
    assert torch.equal(positive, positive.T)
    assert not positive.diagonal().any()
    assert positive[range(4), range(4, 8)].all()
    assert positive[[0, 0, 4, 4], [1, 5, 1, 5]].all()
    blocks = [positive[1, 2].item(), positive[1, 6].item(), positive[5, 2].item(), positive[5, 6].item()]
    assert blocks == ([True] * 4 if gaze_block == "all" else [True, False, False, False])


@pytest.mark.parametrize("normalise", NORMALISE)
def test_gradients_are_right(normalise):
    positive, usable = some(3, 4), some(3, 4, share=0.7, seed=1)
    same, related = torch.eye(3, dtype=torch.bool), symmetric(3, seed=2)
    assert positive.any()
    assert not usable.all()
    assert related.any()
    key, queue = random(3, 2, seed=1), random(4, 2, seed=2)
    assert torch.autograd.gradcheck(
        lambda q: MultiPositiveInfoNCE(0.5, normalise)(q, key, queue, positive, usable), random(3, 2).requires_grad_()
    )
    assert torch.autograd.gradcheck(
        lambda a, b: MultiPositiveNTXent(0.5, normalise)(a, b, same, related),
        (random(3, 2).requires_grad_(), random(3, 2, seed=1).requires_grad_()),
    )
    assert torch.autograd.gradcheck(
        lambda p: AttractionLoss(normalise)(p, key, same | related), random(3, 2).requires_grad_()
    )


def test_targets_keys_and_queue_get_no_gradient():
    query, key, queue = (random(n, 4, seed=n).requires_grad_() for n in (2, 2, 3))
    everything = torch.ones(2, 3, dtype=torch.bool)
    (MultiPositiveInfoNCE()(query, key, queue, everything, everything)).backward()
    AttractionLoss()(query, key, torch.ones(2, 2, dtype=torch.bool)).backward()
    assert query.grad.abs().max() > 0
    assert key.grad is None
    assert queue.grad is None


def losses(a, b, queue):
    """All losses of the same samples, with and without something to be masked."""
    n, slots = len(a), len(queue)
    usable = torch.arange(slots) < slots - 1
    same, related = torch.eye(n, dtype=torch.bool), symmetric(n, seed=5)
    for normalise in NORMALISE:
        info_nce = MultiPositiveInfoNCE(normalise=normalise)
        yield info_nce(a, b, queue, some(n, slots, seed=4), usable.expand(n, -1))
        yield info_nce(a, b, queue, some(n, slots, seed=4), torch.zeros(n, slots, dtype=torch.bool))
        yield MultiPositiveNTXent(normalise=normalise)(a, b, same, related)
        yield AttractionLoss(normalise)(a, b, same | related)


def test_losses_stay_in_float32_under_autocast():
    a, b, queue = (random(n, 16, seed=n, dtype=torch.float32) for n in (5, 5, 8))
    expected = list(losses(a, b, queue))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (a @ b.T).dtype == torch.bfloat16
        found = list(losses(a, b, queue))
    for value, other in zip(found, expected, strict=True):
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, other, rtol=1e-6, atol=1e-6)
    for value, other in zip(losses(a.double(), b.double(), queue.double()), expected, strict=True):
        assert value.dtype == torch.float64
        torch.testing.assert_close(value.float(), other)
    assert all(value.dtype == torch.float32 for value in losses(a.bfloat16(), b.bfloat16(), queue))


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e15])
def test_losses_and_gradients_of_extreme_embeddings_are_finite(scale):
    base, queue = random(4, 3, dtype=torch.float32), random(5, 3, seed=1, dtype=torch.float32)
    for index in range(8):
        a = (scale * base).requires_grad_()
        value = list(losses(a, a, queue))[index]
        (gradient,) = torch.autograd.grad(value, a)
        assert value.isfinite()
        assert gradient.isfinite().all()


@pytest.mark.parametrize("normalise", NORMALISE)
def test_losses_follow_a_permutation_and_ignore_lengths(normalise):
    a, b, n = random(5, 4), random(5, 4, seed=1), 5
    order = torch.randperm(n, generator=torch.Generator().manual_seed(1))
    same, related = torch.eye(n, dtype=torch.bool), symmetric(n, seed=2)
    length = random(n, 1, seed=3).exp()
    for loss, arguments in (
        (MultiPositiveNTXent(normalise=normalise), (same, related)),
        (AttractionLoss(normalise), (same | related,)),
    ):
        value = loss(a, b, *arguments)
        moved = loss(a[order], b[order], *(pairs[order][:, order] for pairs in arguments))
        torch.testing.assert_close(moved, value)
        torch.testing.assert_close(loss(length * a, b / length, *arguments), value)


def test_nothing_to_attract_is_zero_with_a_gradient():
    a = random(3, 2).requires_grad_()
    for normalise in NORMALISE:
        value = AttractionLoss(normalise)(a, random(3, 2, seed=1), torch.zeros(3, 3, dtype=torch.bool))
        assert value.item() == 0
        assert not torch.autograd.grad(value, a)[0].any()


def test_extremes_of_attraction():
    a, diagonal = random(4, 3), torch.eye(4, dtype=torch.bool)
    assert AttractionLoss()(a, a, diagonal).item() == pytest.approx(-1)
    assert AttractionLoss()(a, -a, diagonal).item() == pytest.approx(1)


def test_unknown_options_and_other_shapes_are_refused():
    for loss in (MultiPositiveInfoNCE, MultiPositiveNTXent, AttractionLoss):
        with pytest.raises(ConfigurationError, match="normalise is 'mean'"):
            loss(normalise="mean")
    for loss in (MultiPositiveInfoNCE, MultiPositiveNTXent):
        for temperature in (0.0, -1.0, math.inf, math.nan):
            with pytest.raises(ConfigurationError, match="temperature"):
                loss(temperature)
    with pytest.raises(ConfigurationError, match="gaze_block is 'some'"):
        MultiPositiveNTXent(gaze_block="some")
    a, pairs, slots = torch.zeros(2, 3), torch.ones(2, 2).bool(), torch.ones(2, 4).bool()
    for arguments in (
        (a, torch.zeros(2, 4), torch.zeros(4, 3), slots, slots),
        (a, a, torch.zeros(4, 2), slots, slots),
        (a, a, torch.zeros(4, 3), slots[:, :3], slots),
        (a, a, torch.zeros(4, 3), slots, slots[0]),
    ):
        with pytest.raises(ValueError, match="expected"):
            MultiPositiveInfoNCE()(*arguments)
    for arguments in ((a, a[:1], pairs, pairs), (a, a, pairs, slots), (a, a, slots, pairs)):
        with pytest.raises(ValueError, match="expected"):
            MultiPositiveNTXent()(*arguments)
    for arguments in ((a, a[:, :2], pairs), (a, a, slots)):
        with pytest.raises(ValueError, match="expected"):
            AttractionLoss()(*arguments)
