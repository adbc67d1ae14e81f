import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gaze_lightning.gaze.similarity import RelationMatrix


@st.composite
def similarities(draw, most=12):
    """Similarities of some readings, with many ties, and which readings are valid."""
    n = draw(st.integers(0, most))
    levels = draw(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=4))
    values = np.random.default_rng(draw(st.integers(0, 2**32))).choice(np.array(levels, dtype=np.float32), (n, n))
    values = np.triu(values, 1) + np.triu(values, 1).T + np.eye(n, dtype=np.float32)
    return values, np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)), dtype=bool)


def ids_of(n):
    return tuple(f"id {i}" for i in range(n))


def random_matrix(n=20, threshold=0.6, seed=0):
    generator = np.random.default_rng(seed)
    values = np.triu(generator.random((n, n), dtype=np.float32), 1)
    return RelationMatrix.of(ids_of(n), generator.random(n) < 0.8, values + values.T, threshold)


@given(similarities(), st.floats(0, 1, width=32), st.integers(1, 5))
def test_pairs_of_one_film_are_left_out_where_films_are_given(drawn, threshold, most):
    values, valid = drawn
    films = np.random.default_rng(most).integers(0, most, len(valid))
    everything = RelationMatrix.of(ids_of(len(valid)), valid, values, threshold).dense()
    found = RelationMatrix.of(ids_of(len(valid)), valid, values, threshold, films=films)
    off = ~np.eye(len(valid), dtype=bool)
    np.testing.assert_array_equal(found.dense() & off, everything & off & (films[:, None] != films))


@given(similarities(), st.floats(-0.5, 1.5, width=32))
def test_the_pairs_are_those_of_a_double_loop(drawn, threshold):
    values, valid = drawn
    matrix = RelationMatrix.of(ids_of(len(valid)), valid, values, threshold, "made of this")
    dense = matrix.dense()
    stored = {}
    for i in range(len(valid)):
        for j, score in zip(
            matrix.indices[matrix.indptr[i] : matrix.indptr[i + 1]],
            matrix.scores[matrix.indptr[i] : matrix.indptr[i + 1]],
            strict=True,
        ):
            stored[i, int(j)] = score
    for i in range(len(valid)):
        for j in range(len(valid)):
            expected = i == j or (valid[i] and valid[j] and values[i, j] > np.float32(threshold))
            assert dense[i, j] == expected
            assert ((i, j) in stored) == (expected and i != j)
            if (i, j) in stored:
                assert stored[i, j] == values[i, j]
    assert (dense == dense.T).all()
    assert (matrix.degrees == dense.sum(1) - 1).all()
    assert matrix.digest == "made of this"


@given(similarities())
def test_a_threshold_of_one_relates_nothing(drawn):
    values, valid = drawn
    matrix = RelationMatrix.of(ids_of(len(valid)), valid, values, 1.0)
    assert (matrix.dense() == np.eye(len(valid), dtype=bool)).all()


def test_the_threshold_is_compared_as_precisely_as_similarities_are():
    for value in (0.1, 0.7):  # float32(0.1) > 0.1, float32(0.7) < 0.7
        values = np.full((2, 2), value, dtype=np.float32)
        matrix = RelationMatrix.of(ids_of(2), np.ones(2, dtype=bool), values, value)
        assert matrix.degrees.tolist() == [0, 0]
        assert matrix.threshold == value


def test_similarities_may_be_a_memory_map(tmp_path):
    values = np.random.default_rng(0).random((9, 9), dtype=np.float32)
    values += values.T
    np.save(tmp_path / "s.npy", values)
    mapped = np.load(tmp_path / "s.npy", mmap_mode="r")
    given = [RelationMatrix.of(ids_of(9), np.ones(9, dtype=bool), one, 1.0) for one in (values, mapped)]
    assert len(given[0].indices) > 0
    assert (given[0].dense() == given[1].dense()).all()


@given(similarities(), st.integers(0, 5))
def test_shuffling_keeps_the_pairs_and_gives_them_to_others(drawn, seed):
    values, valid = drawn
    matrix = RelationMatrix.of(ids_of(len(valid)), valid, values, 0.5, "digest")
    shuffled = matrix.shuffled(seed)
    assert sorted(shuffled.ids) == sorted(matrix.ids)
    assert (shuffled.dense() == matrix.dense()).all()  # only whose row is which has changed
    for row in np.flatnonzero(~valid):
        assert shuffled.ids[row] == matrix.ids[row]
    assert shuffled.digest != matrix.digest
    assert shuffled.ids == matrix.shuffled(seed).ids


def test_shuffled_pairs_are_random():
    """Each pair of valid readings is related about as often as any other, whether the gaze was alike or not."""
    matrix = random_matrix(n=8, threshold=0.5)
    n, times = len(matrix), 3000
    place = {name: i for i, name in enumerate(matrix.ids)}
    count = np.zeros((n, n))
    for seed in range(times):
        shuffled = matrix.shuffled(seed)
        order = [place[name] for name in shuffled.ids]
        count[np.ix_(order, order)] += shuffled.dense()
    both = np.outer(matrix.valid, matrix.valid) & ~np.eye(n, dtype=bool)
    rate = matrix.dense()[both].mean()
    assert 0.2 < rate < 0.8
    assert np.abs(count[both] / times - rate).max() < 6 * np.sqrt(rate * (1 - rate) / times)
    assert count[~both & ~np.eye(n, dtype=bool)].sum() == 0


def test_what_cannot_be_is_refused():
    one = random_matrix()
    parts = {name: getattr(one, name) for name in ("ids", "valid", "indptr", "indices", "scores", "threshold")}
    wrong = {
        "repeated": {"ids": (one.ids[1], *one.ids[1:])},
        "indptr is": {"indptr": one.indptr[:-1]},
        "valid is float64": {"valid": one.valid.astype(float)},
        "does not ascend from 0": {"indptr": np.roll(one.indptr, 1)},
        "leaves the 20 rows": {"indices": one.indices + np.int32(5)},
        "does not ascend in each row": {"indices": one.indices[::-1].copy()},
        "not valid": {"valid": ~one.valid},
        "threshold is NaN": {"threshold": float("nan")},
    }
    for message, change in wrong.items():
        with pytest.raises(ValueError, match=message):
            RelationMatrix(**{**parts, **change})
    pair = {
        "ids": ("a", "b"),
        "valid": np.ones(2, dtype=bool),
        "scores": np.ones(1, dtype=np.float32),
        "threshold": 0.5,
    }
    with pytest.raises(ValueError, match="not symmetric"):
        RelationMatrix(**pair, indptr=np.array([0, 1, 1]), indices=np.array([1], dtype=np.int32))
    with pytest.raises(ValueError, match="with itself"):
        RelationMatrix(**pair, indptr=np.array([0, 1, 1]), indices=np.array([0], dtype=np.int32))
    with pytest.raises(ValueError, match="not symmetric"):
        RelationMatrix.of(ids_of(2), np.ones(2, dtype=bool), np.array([[1, 0.9], [0, 1]], dtype=np.float32), 0.5)
    with pytest.raises(ValueError, match=r"\[3, 3\]"):
        RelationMatrix.of(ids_of(3), np.ones(3, dtype=bool), np.zeros((2, 2), dtype=np.float32), 0.5)
