import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gaze_lightning.errors import ConfigurationError
from gaze_lightning.gaze.similarity import RelationMatrix
from gaze_lightning.losses.label_pairs import label_pairs
from gaze_lightning.relations import RelationStatistics, Threshold, similarity_scores, threshold_of
from gaze_lightning.relations.label_agreement import label_agreement
from gaze_lightning.relations.thresholds import order_statistics
from tests.relation_fakes import Nearness, NearnessOf, made_up_gaze


def prepared(n=30, **options):
    gaze = made_up_gaze(n, **options)
    return Nearness().prepare(gaze.gaze, gaze.frame)


def built(one, path, **options):
    return similarity_scores(one, path, **{"parallel": True, "jobs": 2, "progress": False, "side": 7} | options)


def test_every_pair_is_compared_once_and_mirrored(tmp_path):
    one = prepared()
    scores = built(one, tmp_path / "s.npy")
    assert scores.dtype == np.float32
    np.testing.assert_array_equal(scores, prepared().block(slice(0, 30), slice(0, 30)))
    assert len(one.asked) == 5 * 6 // 2
    assert all(rows.start <= columns.start for rows, columns in one.asked)
    assert not scores.flags.writeable
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.npy"]


def test_what_is_complete_is_only_opened(tmp_path):
    built(prepared(), tmp_path / "s.npy")
    again = prepared()
    built(again, tmp_path / "s.npy")
    assert again.asked == []


@pytest.mark.parametrize("jobs", [1, 3])
def test_an_interrupted_build_goes_on_and_ends_with_the_same_bytes(tmp_path, jobs):
    built(prepared(), tmp_path / "whole.npy")
    one = prepared()
    one.fail_after = 6
    with pytest.raises(RuntimeError, match="in the middle"):
        built(one, tmp_path / "s.npy", jobs=jobs)
    assert not (tmp_path / "s.npy").exists()
    rest = prepared()
    built(rest, tmp_path / "s.npy", jobs=jobs)
    assert 0 < len(rest.asked) < 15
    assert (tmp_path / "s.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


_KILLED = """
import os, signal, sys
from pathlib import Path
from tests.relation_fakes import NearnessOf
from tests.test_relations_build import built, prepared

class Killed(NearnessOf):
    def block(self, rows, columns):
        if len(self.asked) == 8:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().block(rows, columns)

one = prepared()
built(Killed(one.valid, one.points, one.reach), Path(sys.argv[1]), jobs=1)
"""


def test_a_killed_build_goes_on(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, str(tmp_path / "s.npy")],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    built(prepared(), tmp_path / "whole.npy")
    rest = prepared()
    built(rest, tmp_path / "s.npy")
    assert len(rest.asked) == 15 - 8
    assert (tmp_path / "s.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


def test_blocks_that_were_lost_or_torn_are_built_again(tmp_path):
    built(prepared(), tmp_path / "whole.npy")
    one = prepared()
    one.fail_after = 10
    with pytest.raises(RuntimeError):
        built(one, tmp_path / "s.npy", jobs=1)
    part, journal = tmp_path / "s.npy.part", tmp_path / "s.npy.journal"
    values = np.load(part, mmap_mode="r+")
    values[3, 3] = 0.5  # in the first block
    values[8, 1] = 0.5  # in the mirror of the second
    del values
    journal.write_bytes(journal.read_bytes()[:-4])  # the tenth block's line is torn
    rest = prepared()
    built(rest, tmp_path / "s.npy", jobs=1)
    assert len(rest.asked) == 15 - 10 + 3
    assert (tmp_path / "s.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


def test_a_beginning_with_another_tiling_is_not_continued(tmp_path):
    one = prepared()
    one.fail_after = 3
    with pytest.raises(RuntimeError):
        built(one, tmp_path / "s.npy", side=5)
    rest = prepared()
    built(rest, tmp_path / "s.npy")
    assert len(rest.asked) == 15


def test_a_measure_that_breaks_its_promise_is_refused(tmp_path):
    class Wrong(NearnessOf):
        def block(self, rows, columns):
            return self.change(super().block(rows, columns))

    one = prepared()
    for change, message in (
        (lambda values: values * 2, r"0\.\d+ to 2\.0: similarities lie in"),
        (lambda values: values * np.float32(np.nan), "nan to nan"),
        (lambda values: values.astype(float), "float64"),
        (lambda values: values[:-1], "expected float32"),
    ):
        wrong = Wrong(one.valid, one.points, one.reach)
        wrong.change = change
        with pytest.raises(ValueError, match=message):
            built(wrong, tmp_path / "s.npy", jobs=1)


def test_a_disk_without_room_is_refused_before_the_work(tmp_path, monkeypatch):
    usage = type("usage", (), {"free": 100})
    monkeypatch.setattr("gaze_lightning.relations.scores.shutil.disk_usage", lambda path: usage)
    with pytest.raises(ConfigurationError, match="choose another folder"):
        built(prepared(), tmp_path / "s.npy")


def test_a_file_that_is_cut_off_is_refused(tmp_path):
    built(prepared(), tmp_path / "s.npy")
    (tmp_path / "s.npy").write_bytes((tmp_path / "s.npy").read_bytes()[:-40])
    with pytest.raises(ConfigurationError, match="delete it"):
        built(prepared(), tmp_path / "s.npy")


def test_progress_in_a_log_is_lines_on_standard_error(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("gaze_lightning.relations.progress._SECONDS", 0.0)
    built(prepared(), tmp_path / "s.npy", progress=True, what="Comparing gaze (Nearness)")
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert lines[0] == "Comparing gaze (Nearness): 435 pairs"
    assert all("of 435" in line and "pairs/s" in line and "min left" in line for line in lines[1:-1])
    assert len(lines) == 1 + 14 + 1
    assert "done in" in lines[-1]
    built(prepared(), tmp_path / "silent.npy")
    assert capsys.readouterr().err == ""


@st.composite
def symmetric(draw):
    n = draw(st.integers(2, 14))
    levels = draw(arrays.arrays(np.float32, draw(st.integers(1, 12)), elements=st.floats(0, 1, width=32)))
    generator = np.random.default_rng(draw(st.integers(0, 1000)))
    values = np.triu(generator.choice(levels, (n, n)), 1)
    valid = generator.random(n) < 0.8
    valid[:2] = True
    return values + values.T + np.eye(n, dtype=np.float32), valid


def off_diagonal(values, valid):
    kept = values[np.ix_(valid, valid)]
    return kept[np.triu_indices(len(kept), 1)]


@given(symmetric())
def test_order_statistics_equal_those_of_a_sort(drawn):
    values, valid = drawn
    wanted = np.sort(off_diagonal(values, valid))
    np.testing.assert_array_equal(order_statistics(values, valid, range(len(wanted))), wanted)


@given(symmetric(), st.floats(0.001, 0.999))
def test_the_threshold_is_the_lowest_that_relates_no_more_than_the_share(drawn, rate):
    values, valid = drawn
    pairs = off_diagonal(values, valid)
    tau = np.float32(threshold_of(values, valid, rate))
    allowed = rate * len(pairs) + 1e-6
    assert (pairs > tau).sum() <= allowed
    lower = pairs[pairs < tau]
    if len(lower):  # any lower one would relate too many
        assert (pairs > lower.max()).sum() > allowed - 1 - 1e-6 or (pairs >= tau).sum() > allowed
        assert (pairs >= tau).sum() > np.floor(allowed)


@given(symmetric(), st.floats(0.001, 0.999), st.integers(1, 6))
def test_pairs_of_one_film_have_no_say_in_the_threshold(drawn, rate, most):
    values, valid = drawn
    films = np.random.default_rng(most).integers(0, most, len(valid))
    kept = np.triu(valid[:, None] & valid & (films[:, None] != films), 1)
    wanted = np.sort(values[kept])
    if not len(wanted):
        with pytest.raises(ValueError, match="0 pairs"):
            threshold_of(values, valid, rate, films)
        return
    np.testing.assert_array_equal(order_statistics(values, valid, range(len(wanted)), films), wanted)
    assert (wanted > np.float32(threshold_of(values, valid, rate, films))).sum() <= rate * len(wanted) + 1e-6
    with pytest.raises(ValueError, match="there is no place"):
        order_statistics(values, valid, [len(wanted)], films)


def test_blocks_of_rows_do_not_change_the_threshold(monkeypatch):
    values = np.triu(np.random.default_rng(1).random((40, 40), dtype=np.float32), 1)
    values += values.T
    valid = np.arange(40) % 5 != 0
    whole = threshold_of(values, valid, 0.1)
    monkeypatch.setattr("gaze_lightning.relations.thresholds._ROWS", 7)
    assert threshold_of(values, valid, 0.1) == whole
    pairs = off_diagonal(values, valid)
    assert (pairs > np.float32(whole)).sum() == int(0.1 * len(pairs))


def test_too_few_readings_have_no_threshold():
    with pytest.raises(ValueError, match="1 valid readings have 0 pairs"):
        threshold_of(np.eye(3, dtype=np.float32), np.array([True, False, False]), 0.5)
    with pytest.raises(ValueError, match="between 0 and 1"):
        threshold_of(np.eye(3, dtype=np.float32), np.ones(3, dtype=bool), 1.0)


@pytest.mark.parametrize(
    ("given_as", "message"),
    [
        ({}, "neither"),
        ({"tau": 0.5, "positive_rate": 0.1}, "tau=0.5 and positive_rate=0.1"),
        ({"tau": -0.1}, "0 or more"),
        ({"tau": float("nan")}, "0 or more"),
        ({"positive_rate": 0.0}, "between 0 and 1"),
        ({"positive_rate": 1.0}, "between 0 and 1"),
    ],
)
def test_a_threshold_is_asked_for_in_one_way(given_as, message):
    with pytest.raises(ConfigurationError, match=message):
        Threshold(**given_as)


@given(st.data())
def test_labels_agree_as_in_the_losses(data):
    n, k = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 3))
    generator = np.random.default_rng(data.draw(st.integers(0, 1000)))
    single = generator.integers(0, 3, n)
    multi = generator.choice(np.array([0, 1, np.nan], dtype=np.float32), (n, k))
    off = ~np.eye(n, dtype=bool)
    for labels, kind in ((single, "single"), (multi, "multi")):
        pairs = label_pairs(torch.from_numpy(labels), kind)
        found = label_agreement(labels, slice(0, n))
        assert (found.same & off == pairs.same.numpy()).all()
        assert (found.different & off == pairs.different.numpy()).all()
        part = label_agreement(labels, slice(1, n))
        assert (part.same == found.same[1:]).all()


def test_unknown_single_labels_are_left_out():
    found = label_agreement(np.array([0, 0, -1, -1]), slice(0, 4))
    assert not found.same[2:].any()
    assert not found.different[2:].any()
    assert not found.different[:, 2:].any()
    assert found.same[0, 1]


def literal(values, valid, threshold, films, labels):
    """Degrees, related pairs, and of related and of all pairs: how many agree and how many are told."""
    n = len(valid)
    degrees, pairs = [0] * n, 0
    related, everything = [0, 0], [0, 0]
    for i in range(n):
        for j in range(n):
            if i == j or not (valid[i] and valid[j]) or films[i] == films[j]:
                continue
            above = values[i, j] > np.float32(threshold)
            degrees[i] += int(above)
            if labels[i] >= 0 and labels[j] >= 0:
                for counts in (everything, related) if above else (everything,):
                    counts[0] += int(labels[i] == labels[j])
                    counts[1] += 1
            pairs += 1
    return [degrees[i] for i in range(n) if valid[i]], pairs // 2, related, everything


@pytest.mark.parametrize("rows", [4, 256])
def test_statistics_equal_those_of_a_double_loop(monkeypatch, rows):
    monkeypatch.setattr("gaze_lightning.relations.statistics._ROWS", rows)
    gaze = made_up_gaze(18, empty=(2, 9), films=[0, 0, 1, 1, *range(2, 16)], seed=4)
    one = Nearness().prepare(gaze.gaze, gaze.frame)
    values = one.block(slice(0, 18), slice(0, 18))
    labels = gaze.labels.copy()
    labels[[1, 7]] = -1
    asked = Threshold(tau=0.5)
    matrix = RelationMatrix.of(gaze.sample_ids, one.valid, values, 0.5)
    found = RelationStatistics.of(matrix, asked, values, gaze.films, labels)
    degrees, pairs, related, everything = literal(values, one.valid, 0.5, gaze.films, labels)
    chosen = found.chosen
    assert (found.readings, found.valid, found.pairs, found.same_film_pairs) == (18, 16, pairs, 1)
    assert pairs == 16 * 15 // 2 - 1  # of the readings of a film, one pair is valid
    assert chosen.pairs == sum(degrees) // 2 > 0
    assert chosen.share == pytest.approx(chosen.pairs / pairs)
    assert chosen.mean == pytest.approx(np.mean(degrees))
    assert (chosen.least, chosen.most) == (min(degrees), max(degrees))
    assert (chosen.low, chosen.median, chosen.high) == pytest.approx(np.quantile(degrees, (0.1, 0.5, 0.9)))
    assert chosen.alone == pytest.approx(np.mean([degree == 0 for degree in degrees]))
    assert chosen.same_class == pytest.approx(related[0] / related[1])
    assert chosen.unknown == (sum(degrees) - related[1]) // 2
    assert found.base_rate == pytest.approx(everything[0] / everything[1])
    assert found.unknown == pairs - everything[1] // 2 > 0
    assert chosen.same_class > found.base_rate  # gaze was planted by class
    kept = {one.asked: one for one in found.candidates}
    assert kept["tau-0.5"] == chosen
    for asked_for, one in kept.items():
        assert literal(values, matrix.valid, one.threshold, gaze.films, labels)[0], asked_for
        assert one.pairs == sum(literal(values, matrix.valid, one.threshold, gaze.films, labels)[0]) // 2
    upper = np.triu(matrix.valid[:, None] & matrix.valid & (gaze.films[:, None] != gaze.films), 1)
    sorted_pairs = np.sort(values[upper])
    assert len(sorted_pairs) == pairs
    assert found.quantiles["0.5"] == sorted_pairs[round(0.5 * (len(sorted_pairs) - 1))]
    alone = RelationStatistics.of(matrix, asked, None, gaze.films, labels)
    assert alone.chosen == chosen
    assert (alone.candidates, alone.quantiles) == ((), {})
    assert RelationStatistics.from_json(found.to_json()) == found


def literal_purity(values, valid, threshold, films, shows):
    """Per class and on average; ``shows(i, k)`` is True, False or None, ``threshold`` None: all pairs."""
    n, found = len(valid), []
    for k in range(3):
        agreeing = told = 0
        for i in range(n):
            for j in range(n):
                if i == j or not (valid[i] and valid[j]) or films[i] == films[j] or shows(i, k) is not True:
                    continue
                if (threshold is None or values[i, j] > np.float32(threshold)) and shows(j, k) is not None:
                    agreeing += shows(j, k)
                    told += 1
        found.append(agreeing / told if told else None)
    known = [share for share in found if share is not None]
    return found, np.mean(known) if known else None


@pytest.mark.parametrize("rows", [4, 256])
@pytest.mark.parametrize("kind", ["single", "multi"])
def test_purity_by_class_equals_that_of_a_double_loop(monkeypatch, kind, rows):
    monkeypatch.setattr("gaze_lightning.relations.statistics._ROWS", rows)
    gaze = made_up_gaze(24, empty=(2, 9), films=[0, 0, 1, 1, *range(2, 22)], seed=4)
    one = Nearness().prepare(gaze.gaze, gaze.frame)
    values = one.block(slice(0, 24), slice(0, 24))
    generator = np.random.default_rng(0)
    if kind == "single":
        labels = np.where(generator.random(24) < 0.2, 2, gaze.labels)
        labels[[1, 7]] = -1

        def shows(i, k):
            return None if labels[i] < 0 else bool(labels[i] == k)

    else:
        labels = generator.choice(np.array([0, 1, np.nan], dtype=np.float32), (24, 3), p=(0.6, 0.3, 0.1))

        def shows(i, k):
            return None if np.isnan(labels[i, k]) else bool(labels[i, k] == 1)

    matrix = RelationMatrix.of(gaze.sample_ids, one.valid, values, 0.5)
    found = RelationStatistics.of(matrix, Threshold(tau=0.5), values, gaze.films, labels)
    shares, mean = literal_purity(values, one.valid, None, gaze.films, shows)
    assert found.classes == pytest.approx(tuple(shares))
    assert found.by_class == pytest.approx(mean)
    for statistics in (found.chosen, *found.candidates):
        shares, mean = literal_purity(values, one.valid, statistics.threshold, gaze.films, shows)
        assert len(statistics.classes) == 3
        for share, expected in zip(statistics.classes, shares, strict=True):
            assert share == (None if expected is None else pytest.approx(expected))
        assert statistics.by_class == (None if mean is None else pytest.approx(mean))
    assert len({statistics.classes for statistics in found.candidates}) > 3
    assert RelationStatistics.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_purity_by_class_sees_through_pairs_of_the_commoner_class():
    # eight films of class 0, all paired with each other; two of class 1, each paired with one of class 0
    labels = np.array([0] * 8 + [1] * 2)
    values = np.zeros((10, 10), dtype=np.float32)
    values[:8, :8] = 1
    values[0, 8] = values[8, 0] = values[1, 9] = values[9, 1] = 1
    ids = tuple(f"reading-{i}" for i in range(10))
    matrix = RelationMatrix.of(ids, np.ones(10, dtype=bool), values, 0.5)
    found = RelationStatistics.of(matrix, Threshold(tau=0.5), None, np.arange(10), labels)
    assert found.chosen.same_class == pytest.approx(28 / 30)
    assert found.base_rate == pytest.approx(29 / 45)
    assert found.chosen.classes == pytest.approx((56 / 58, 0))
    assert found.classes == pytest.approx((7 / 9, 1 / 9))
    assert found.chosen.same_class > found.base_rate + 0.2
    assert found.chosen.by_class == pytest.approx(28 / 58)


def test_without_labels_nothing_is_said_about_classes():
    gaze = made_up_gaze(8)
    one = Nearness().prepare(gaze.gaze, gaze.frame)
    values = one.block(slice(0, 8), slice(0, 8))
    matrix = RelationMatrix.of(gaze.sample_ids, one.valid, values, 0.5)
    found = RelationStatistics.of(matrix, Threshold(tau=0.5), values, gaze.films, None)
    assert found.base_rate is None
    assert found.chosen.same_class is None
    assert (found.by_class, found.classes, found.chosen.by_class, found.chosen.classes) == (None, (), None, ())
