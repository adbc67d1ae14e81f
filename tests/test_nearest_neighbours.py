import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from gaze_lightning.metrics import NearestNeighbours
from gaze_lightning.metrics.functional import nearest_neighbours


def nearest_neighbour_probabilities(query, *bank, **options):
    return NearestNeighbours(*bank, **options).probabilities(query)


def made_up(n=17, m=40, c=6, k=3):
    g = torch.Generator().manual_seed(0)
    query, bank = torch.randn(n, c, generator=g), torch.randn(m, c, generator=g)
    return query, bank, torch.randint(k, (m,), generator=g)


@pytest.mark.parametrize("cells", [1, 500, 2**24])
@pytest.mark.parametrize(("neighbours", "temperature"), [(1, 0.07), (7, 0.07), (7, 0.5), (40, 0.01), (1000, 0.07)])
def test_single_label_is_scikit_learns_classifier_with_these_weights(monkeypatch, cells, neighbours, temperature):
    monkeypatch.setattr(nearest_neighbours, "_CELLS", cells)
    query, bank, label = made_up()
    said = nearest_neighbour_probabilities(query, 9 * bank, label, neighbours, temperature, 3, "single")
    classifier = KNeighborsClassifier(
        min(neighbours, 40), metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / temperature)
    ).fit(bank.double().numpy(), label.numpy())
    np.testing.assert_allclose(said.numpy(), classifier.predict_proba(query.double().numpy()), atol=2e-5)
    assert said.dtype == torch.float32
    np.testing.assert_allclose(said.sum(1).numpy(), 1, atol=1e-6)


@pytest.mark.parametrize("neighbours", [1, 5, 100])
def test_multi_label_is_the_weighted_mean_over_the_neighbours_whose_label_is_known(neighbours):
    query, bank, _ = made_up()
    g = torch.Generator().manual_seed(1)
    label = torch.where(torch.rand(40, 4, generator=g) < 0.5, torch.nan, (torch.rand(40, 4, generator=g) < 0.3).float())
    label[:, 3] = torch.nan
    label[:6] = torch.nan  # no neighbours: nothing is known of them
    said = nearest_neighbour_probabilities(query, bank, label, neighbours, 0.1, 4, "multi").numpy()
    there = ~np.isnan(label.numpy()).all(axis=1)
    y, b = label.numpy()[there], bank.double().numpy()[there]
    b /= np.linalg.norm(b, axis=1, keepdims=True)
    base_rate_used = 0
    for row, q in zip(said, query.double().numpy(), strict=True):
        cosine = b @ q / np.linalg.norm(q)
        near = np.argsort(-cosine)[:neighbours]
        for k in range(4):
            known = [i for i in near if not np.isnan(y[i, k])]
            if known:
                weights = np.exp(cosine[known] / 0.1)
                expected = (weights * y[known, k]).sum() / weights.sum()
            else:
                expected = 0.5 if k == 3 else np.nanmean(y[:, k])
                base_rate_used += k < 3
            assert row[k] == pytest.approx(expected, abs=1e-5)
    assert (base_rate_used > 0) == (neighbours < 100)


def test_far_neighbours_with_known_labels_are_heard_though_their_weights_vanish():
    bank = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.1]])
    label = torch.tensor([[1.0, torch.nan], [1.0, 0.0], [1.0, 1.0]])
    said = nearest_neighbour_probabilities(torch.tensor([[1.0, 0.0]]), bank, label, 3, 0.001, 2, "multi")
    assert said.tolist() == [[1.0, 0.0]]  # exp(-1000) is 0 in every float


def test_unknown_single_labels_are_no_neighbours():
    query, bank, label = made_up()
    label[::2] = -1
    expected = nearest_neighbour_probabilities(query, bank[1::2], label[1::2], 5, 0.07, 3, "single")
    assert torch.equal(nearest_neighbour_probabilities(query, bank, label, 5, 0.07, 3, "single"), expected)


def test_a_query_in_the_bank_at_low_temperature_gets_its_own_class_and_none_gets_none():
    _, bank, label = made_up()
    said = nearest_neighbour_probabilities(3 * bank, bank, label, 40, 1e-3, 3, "single")
    assert torch.equal(said.argmax(1), label)
    assert nearest_neighbour_probabilities(bank[:0], bank, label, 5, 0.07, 3, "single").shape == (0, 3)


def test_half_precision_and_autocast_change_nothing_but_the_input():
    query, bank, label = made_up()
    expected = nearest_neighbour_probabilities(query.bfloat16().float(), bank, label, 5, 0.07, 3, "single")
    with torch.autocast("cpu", torch.bfloat16):
        said = nearest_neighbour_probabilities(query.bfloat16(), bank, label, 5, 0.07, 3, "single")
    assert torch.equal(said, expected)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"query": torch.ones(2, 5)}, r"\[n, C\] and \[m, C\], got \(2, 5\) and \[m, 6\]"),
        ({"bank": torch.ones(40)}, r"must be \[m, C\]"),
        ({"bank_label": torch.zeros(40, 3).long(), "label_type": "multi"}, "float"),
        ({"neighbours": 0}, "neighbours is 0"),
        ({"temperature": 0.0}, "temperature 0"),
        ({"bank_label": torch.full((40,), -1)}, "none of the 40 embeddings"),
        ({"bank_label": torch.full((40,), 3)}, "a label is 3, but there are 3"),
        ({"bank_label": torch.zeros(39).long()}, r"40 embeddings of the bank have labels \(39,\)"),
        ({"bank_label": torch.zeros(40)}, "float32"),
        ({"bank_label": torch.zeros(40, 2), "label_type": "multi"}, r"float \[n, 3\]"),
        ({"bank": torch.ones(0, 6), "bank_label": torch.zeros(0).long()}, "none of the 0"),
    ],
)
def test_what_does_not_fit_is_named(change, words):
    query, bank, label = made_up()
    given = {"query": query, "bank": bank, "bank_label": label, "neighbours": 5, "temperature": 0.07, "num_classes": 3}
    with pytest.raises(ValueError, match=words):
        nearest_neighbour_probabilities(**{**given, "label_type": "single", **change})


def test_the_bank_is_prepared_once_for_all_queries(monkeypatch):
    query, bank, label = made_up()
    lengths = []
    unit = nearest_neighbours._unit
    monkeypatch.setattr(nearest_neighbours, "_unit", lambda values: lengths.append(len(values)) or unit(values))
    vote = NearestNeighbours(bank, label, 5, 0.07, 3, "single")
    said = torch.cat([vote.probabilities(query[:4]), vote.probabilities(query[4:])])
    assert lengths == [40, 4, 13]
    torch.testing.assert_close(said, nearest_neighbour_probabilities(query, bank, label, 5, 0.07, 3, "single"))
