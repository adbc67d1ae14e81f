import math

import numpy as np
import pytest
import scipy.linalg
import scipy.spatial.distance
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaze_lightning.metrics import EmbeddingHealth, alignment, effective_rank, embedding_std, uniformity
from gaze_lightning.metrics.functional import embedding_health


def embeddings(n=23, d=5, seed=0, **kind):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), **kind) * 3 + 1


def unit(z):
    z = z.double().numpy()
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def test_alignment_is_the_mean_squared_distance_of_unit_pairs():
    a, b = embeddings(seed=0), embeddings(seed=1)
    expected = np.mean([np.sum((x - y) ** 2) for x, y in zip(unit(a), unit(b), strict=True)])
    assert float(alignment(a, b)) == pytest.approx(expected)
    assert float(alignment(a, 7 * a)) == pytest.approx(0, abs=1e-12)
    assert float(alignment(a, -a)) == pytest.approx(4)
    assert float(alignment(torch.eye(4), torch.eye(4).roll(1, 0))) == pytest.approx(2)
    assert math.isnan(alignment(a[:0], b[:0]))
    with pytest.raises(ValueError, match="needs pairs"):
        alignment(a, b[:3])


@pytest.mark.parametrize("rows", [1, 4, 1024])
@pytest.mark.parametrize("t", [2.0, 0.5])
def test_uniformity_is_the_log_mean_over_distinct_pairs_in_blocks_of_any_size(monkeypatch, rows, t):
    monkeypatch.setattr(embedding_health, "_ROWS", rows)
    z = embeddings()
    distance = scipy.spatial.distance.pdist(unit(z), "sqeuclidean")
    assert float(uniformity(z, t)) == pytest.approx(np.log(np.mean(np.exp(-t * distance))))


def test_uniformity_of_collapsed_opposite_and_orthogonal_embeddings():
    assert float(uniformity(torch.ones(6, 3))) == pytest.approx(0, abs=1e-12)
    assert float(uniformity(torch.zeros(6, 3))) == 0
    assert float(uniformity(torch.tensor([[1.0, 0.0], [-5.0, 0.0]]))) == pytest.approx(-8)
    assert float(uniformity(torch.eye(7))) == pytest.approx(-4)  # all distances squared are 2
    assert math.isnan(uniformity(torch.ones(1, 3)))
    with pytest.raises(ValueError, match="t is 0"):
        uniformity(torch.eye(3), 0)


def test_embedding_std_is_one_when_isotropic_and_zero_when_collapsed():
    both_ways = torch.cat([torch.eye(9), -torch.eye(9)])
    assert float(embedding_std(both_ways)) == pytest.approx(1)
    assert float(embedding_std(embeddings(20_000, 16) - 1)) == pytest.approx(1, abs=5e-3)
    assert float(embedding_std(torch.arange(1.0, 8)[:, None] * torch.ones(4))) == pytest.approx(0, abs=1e-12)
    z = embeddings()
    assert float(embedding_std(z)) == pytest.approx(np.mean([np.std(c) for c in unit(z).T]) * math.sqrt(5))
    assert math.isnan(embedding_std(z[:1]))


def test_effective_rank_is_that_of_scipys_singular_values():
    z = embeddings()
    values = scipy.linalg.svdvals(z.double().numpy() - z.double().numpy().mean(axis=0))
    share = values / values.sum()
    assert float(effective_rank(z)) == pytest.approx(np.exp(-(share * np.log(share)).sum()))


def test_effective_rank_of_known_shapes():
    both_ways = torch.cat([torch.eye(9), -torch.eye(9)])
    assert float(effective_rank(both_ways)) == pytest.approx(9)  # nine equal singular values
    line = torch.linspace(-1, 1, 11)[:, None] * torch.tensor([[3.0, 4.0, 0.0]]) + 5
    assert float(effective_rank(line)) == pytest.approx(1, abs=1e-5)
    for constant in (torch.full((8, 3), 0.1), torch.full((8, 3), 0.1, dtype=torch.float64), torch.zeros(8, 3)):
        assert float(effective_rank(constant)) == 0
    assert float(effective_rank(embeddings(2, 40))) == pytest.approx(1)  # two points lie on a line
    assert math.isnan(effective_rank(torch.ones(1, 3)))


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 12), st.integers(1, 8), st.integers(0, 10**6), st.floats(0.1, 100))
def test_ranges_and_invariances(n, d, seed, scale):
    z = embeddings(n, d, seed, dtype=torch.float64)
    rotation = torch.linalg.qr(embeddings(d, d, seed + 1, dtype=torch.float64)).Q
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    assert -8 <= float(uniformity(z)) <= 1e-9
    assert 0 <= float(embedding_std(z)) <= 1 + 1e-9
    assert 1 - 1e-9 <= float(effective_rank(z)) <= min(n - 1, d) + 1e-6
    for function in (uniformity, effective_rank):
        value = float(function(z))
        assert float(function(scale * z @ rotation)) == pytest.approx(value, rel=1e-6, abs=1e-9)
        assert float(function(z[order])) == pytest.approx(value, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("function", [uniformity, embedding_std, effective_rank, lambda z: alignment(z, z.flip(0))])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_that_are_no_embeddings_are_refused_and_halves_are_computed_in_double(function, dtype):
    z = embeddings().to(dtype)
    assert function(z).dtype == torch.float64
    assert float(function(z)) == pytest.approx(float(function(z.double())))
    z[3, 1] = torch.nan
    if function in (uniformity, effective_rank):
        with pytest.raises(ValueError, match="1 of 23 embeddings"):
            function(z)
    else:  # computed in each step of a training: nothing waits for the device there
        assert math.isnan(function(z))
    with pytest.raises(ValueError, match=r"must be \[B, D\]"):
        function(z[0])


def flat(values):
    return {name: float(value) for name, value in values.items()}


def expected(z):
    return {
        "embedding_std": float(embedding_std(z)),
        "uniformity": float(uniformity(z)),
        "effective_rank": float(effective_rank(z)),
    }


def filled(z, keys, batches, **options):
    metric = EmbeddingHealth(**options)
    for batch in batches:
        metric.update(z[batch], [keys[i] for i in batch] if keys else None)
    return metric


def test_the_metric_is_the_functions_over_all_samples_once():
    z, keys = embeddings(), [f"film{i}" for i in range(23)]
    assert flat(filled(z, None, torch.arange(23).split(4)).compute()) == pytest.approx(expected(z))
    repeated = [*range(23), 5, 6]
    assert flat(filled(z, keys, [repeated[:9], repeated[9:]]).compute()) == pytest.approx(expected(z))


def test_the_choice_by_keys_depends_neither_on_batches_nor_on_order_and_bounds_memory():
    z, keys = embeddings(200, 4), [f"film{i}" for i in range(200)]
    one = filled(z, keys, [range(200)], most_samples=16)
    many = filled(z, keys, torch.randperm(200, generator=torch.Generator().manual_seed(1)).split(7), most_samples=16)
    assert flat(one.compute()) == flat(many.compute())
    assert flat(one.compute()) != pytest.approx(expected(z))
    assert sum(map(len, many.embedding)) <= 3 * 16 + 7
    fewer = [flat(filled(z, keys, [range(200)], most_samples=m).compute()) for m in (150, 200, 4096)]
    assert fewer[1] == fewer[2] == pytest.approx(expected(z))
    assert fewer[0]["uniformity"] == pytest.approx(fewer[1]["uniformity"], abs=0.1)


def test_the_metric_names_wrong_use_and_is_undefined_for_fewer_than_two():
    assert all(math.isnan(value) for value in EmbeddingHealth().compute().values())
    one = EmbeddingHealth()
    one.update(embeddings(1), ["a"])
    assert all(math.isnan(value) for value in one.compute().values())
    with pytest.raises(ValueError, match="keys came with some"):
        one.update(embeddings(1))
    with pytest.raises(ValueError, match="2 embeddings and 1 keys"):
        one.update(embeddings(2), ["b"])
    with pytest.raises(ValueError, match=r"\[B, D\]"):
        one.update(torch.ones(2, 3, 4))
    with pytest.raises(ValueError, match="most_samples is 1"):
        EmbeddingHealth(1)
