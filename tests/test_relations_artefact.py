import io
import json
import multiprocessing
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from gaze_lightning.errors import ConfigurationError
from gaze_lightning.gaze.similarity import MultiMatch
from gaze_lightning.relations import (
    gaze_digest,
    load_artefact,
    open_artefact,
    print_statistics,
    save_artefact,
)
from gaze_lightning.relations.digest import measure_digest
from tests.relation_fakes import Nearness, made_up_gaze, reordered


def opened(gaze, folder, *, measure=None, tau=0.5, rate=None, file=None):
    return open_artefact(gaze, measure or Nearness(), tau, rate, folder, file, jobs=1, progress=False)


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }


def assert_equal(one, other):
    for name in ("ids", "threshold", "digest"):
        assert getattr(one, name) == getattr(other, name)
    for name in ("valid", "indptr", "indices", "scores"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(12)))
def test_relations_do_not_depend_on_the_order_of_the_readings(order, tmp_path_factory):
    gaze = made_up_gaze(12, empty=(4,), multi=True)
    mixed = reordered(gaze, order)
    assert gaze_digest(gaze) == gaze_digest(mixed)
    folders = [tmp_path_factory.mktemp("relations") for _ in range(2)]
    for one, folder in zip((gaze, mixed), folders, strict=True):
        opened(one, folder, rate=0.3, tau=None)
    assert contents(folders[0]) == contents(folders[1])


def test_the_digest_tells_readings_apart():
    gaze = made_up_gaze(5)
    digests = {gaze_digest(gaze)}
    digests.add(gaze_digest(gaze._replace(frame=(512, 1024))))
    digests.add(gaze_digest(gaze._replace(sample_ids=("another", *gaze.sample_ids[1:]))))
    digests.add(gaze_digest(gaze._replace(gaze=(gaze.gaze[1], gaze.gaze[0], *gaze.gaze[2:]))))
    digests.add(gaze_digest(gaze._replace(gaze=(gaze.gaze[0].affine(1, 1, 0.001, 0), *gaze.gaze[1:]))))
    digests.add(gaze_digest(reordered(gaze, range(4))))
    digests.add(gaze_digest(gaze._replace(films=np.array([0, 0, 1, 2, 3]))))
    assert len(digests) == 7
    assert gaze_digest(gaze._replace(films=gaze.films[::-1] + 7)) in digests  # only which are equal counts
    assert gaze_digest(gaze._replace(labels=None)) in digests
    assert all(len(digest) == 16 for digest in digests)


def test_what_was_built_is_what_is_loaded(tmp_path):
    gaze = made_up_gaze(20, empty=(4,))
    artefact = opened(gaze, tmp_path)
    assert artefact.relations.ids == tuple(sorted(gaze.sample_ids))
    assert artefact.relations.valid.sum() == 19
    assert 0 < len(artefact.relations.indices) < 20 * 19
    again = load_artefact(artefact.folder)
    assert_equal(again.relations, artefact.relations)
    assert (again.measure, again.parameters, again.asked, again.gaze, again.statistics, again.code) == (
        artefact.measure,
        artefact.parameters,
        artefact.asked,
        artefact.gaze,
        artefact.statistics,
        artefact.code,
    )
    before = contents(artefact.folder)
    save_artefact(again)
    assert contents(artefact.folder) == before
    meta = json.loads((artefact.folder / "meta.json").read_text())
    assert not any(name in json.dumps(meta) for name in gaze.sample_ids)
    assert meta["statistics"]["readings"] == 20


def test_a_second_threshold_takes_the_similarities_of_the_first(tmp_path, monkeypatch):
    gaze = made_up_gaze(20)
    first = opened(gaze, tmp_path)
    monkeypatch.setattr(Nearness, "prepare", lambda *_: pytest.fail("compared again"))
    second = opened(gaze, tmp_path, tau=None, rate=0.1)
    third = opened(gaze, tmp_path)
    assert first.folder.parent == second.folder.parent
    assert first.folder != second.folder
    assert third.folder == first.folder
    assert second.statistics.chosen.pairs == 19
    assert second.relations.digest != first.relations.digest


def test_another_measure_or_gaze_has_another_name(tmp_path):
    gaze = made_up_gaze(10)
    folders = {opened(gaze, tmp_path).folder}
    folders.add(opened(gaze, tmp_path, measure=Nearness(reach=100.0)).folder)
    folders.add(opened(made_up_gaze(10, seed=1), tmp_path).folder)
    assert len({folder.parent for folder in folders}) == 3


def test_tau_of_one_relates_nothing(tmp_path):
    found = opened(made_up_gaze(10), tmp_path, tau=1.0)
    assert len(found.relations.indices) == 0
    assert found.statistics.chosen.alone == 1


def test_an_interrupted_build_leaves_no_artefact_and_is_finished_later(tmp_path, monkeypatch):
    gaze = made_up_gaze(20)
    whole = opened(gaze, tmp_path / "whole").folder
    with monkeypatch.context() as patch:
        patch.setattr("gaze_lightning.relations.access.save_artefact", lambda artefact: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            opened(gaze, tmp_path / "cut off")
    assert not list((tmp_path / "cut off").rglob("meta.json"))
    folder = opened(gaze, tmp_path / "cut off").folder
    assert contents(folder) == contents(whole)


class Counted(Nearness):
    """Notes its preparations and blocks in a file that two processes share; slow enough that both are at it."""

    log = None

    def prepare(self, gaze, frame):
        _note(self.log, "prepare")
        time.sleep(0.5)
        prepared = super().prepare(gaze, frame)
        block = prepared.block

        def noted(rows, columns):
            _note(self.log, "block")
            return block(rows, columns)

        prepared.block = noted
        return prepared


def _note(log, what):
    with log.open("a") as file:
        file.write(f"{what}\n")


def _open_in_process(folder, names, together):
    Counted.log = folder / "log.txt"
    together.wait(timeout=60)
    names.put(opened(made_up_gaze(40), folder, measure=Counted()).relations.digest)


def test_two_processes_build_once(tmp_path):
    context = multiprocessing.get_context("fork")
    names, together = context.Queue(), context.Barrier(2)
    processes = [context.Process(target=_open_in_process, args=(tmp_path, names, together)) for _ in range(2)]
    for process in processes:
        process.start()
    found = {names.get(timeout=60) for _ in processes}
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0
    assert found == {opened(made_up_gaze(40), tmp_path, measure=Counted()).relations.digest}
    assert (tmp_path / "log.txt").read_text().split() == ["prepare", "block"]


def test_too_little_gaze_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="1 of 4 training readings have gaze enough for Nearness"):
        opened(made_up_gaze(4, empty=(0, 1, 2)), tmp_path)
    assert not list(tmp_path.rglob("*.json"))


def test_ids_must_be_distinct(tmp_path):
    gaze = made_up_gaze(4)
    with pytest.raises(ValueError, match="1 of 4 training readings have the id of another one"):
        opened(gaze._replace(sample_ids=("a", "a", "b", "c")), tmp_path)


def test_a_threshold_and_a_measure_are_needed(tmp_path):
    with pytest.raises(ConfigurationError, match="neither"):
        opened(made_up_gaze(4), tmp_path, tau=None)
    with pytest.raises(ConfigurationError, match="need a measure"):
        open_artefact(made_up_gaze(4), None, 0.5, None, tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="Choose another with folder"):
        opened(made_up_gaze(4), tmp_path / "file" / "relations")


def test_a_given_file_must_be_of_these_readings(tmp_path):
    gaze = made_up_gaze(12)
    built = opened(gaze, tmp_path)
    for file in (built.folder, built.folder / "positives.npz"):
        for threshold in ((None, None), (0.5, None)):
            for measure in (None, Nearness()):
                found = open_artefact(gaze, measure, *threshold, tmp_path / "unused", file)
                assert_equal(found.relations, built.relations)
    assert not (tmp_path / "unused").exists()

    def refused(message, gaze=gaze, measure=None, tau=None, rate=None, file=built.folder):
        with pytest.raises(ConfigurationError, match=message):
            open_artefact(gaze, measure, tau, rate, tmp_path / "unused", file)

    refused(r"0 of 10 .* and 2 of their 12", gaze=reordered(gaze, range(10)))
    more = made_up_gaze(13)
    refused(r"1 of 13 .* and 0 of their 12", gaze=more)
    moved = gaze._replace(gaze=(gaze.gaze[0].affine(1, 1, 1, 0), *gaze.gaze[1:]))
    refused(f"digest {gaze_digest(gaze)}, that of these training readings is {gaze_digest(moved)}", gaze=moved)
    refused("measure Nearness.*reach=200.*not Nearness with .*100", measure=Nearness(100.0))
    refused(r"threshold tau-0\.5, not rate-0\.01", rate=0.01)
    refused("holds no relations", file=tmp_path / "elsewhere")


def test_broken_files_are_refused(tmp_path):
    folder = opened(made_up_gaze(12), tmp_path).folder
    meta, positives = folder / "meta.json", folder / "positives.npz"
    sound, arrays = json.loads(meta.read_text()), positives.read_bytes()
    for change, message in (
        ({"format": 1}, "has format 1, this version reads 2"),
        ({"digest": "0" * 16}, "not of one matrix"),
        ({"readings": 11}, "not of one matrix"),
        ({"statistics": {}}, "cannot be read"),
    ):
        meta.write_text(json.dumps(sound | change))
        with pytest.raises(ConfigurationError, match=message):
            load_artefact(folder)
    meta.write_text("[")
    with pytest.raises(ConfigurationError, match="is not JSON"):
        load_artefact(folder)
    meta.write_text(json.dumps(sound))
    for broken in (arrays[:-50], b"", arrays[:100] + b"xxxx" + arrays[104:]):
        positives.write_bytes(broken)
        with pytest.raises(ConfigurationError, match="delete the folder"):
            load_artefact(folder)
    positives.write_bytes(arrays)
    with pytest.raises(ConfigurationError, match="made from other gaze"):
        load_artefact(folder, "0" * 16)


def test_other_labels_get_statistics_of_their_own(tmp_path):
    gaze = made_up_gaze(20)
    first = opened(gaze, tmp_path)
    other = gaze._replace(labels=None)
    assert opened(other, tmp_path).statistics.base_rate is None
    assert opened(other, tmp_path).statistics.candidates
    assert_equal(opened(other, tmp_path).relations, first.relations)
    assert opened(gaze, tmp_path).statistics == first.statistics


@pytest.mark.parametrize("multi", [False, True])
def test_statistics_of_an_older_version_are_counted_again(tmp_path, multi):
    gaze = made_up_gaze(20, multi=multi)
    built = opened(gaze, tmp_path)
    meta = built.folder / "meta.json"
    content = json.loads(meta.read_text())
    statistics = content["statistics"]
    assert statistics["by_class"] is not None
    for one in (statistics, statistics["chosen"], *statistics["candidates"]):
        del one["by_class"], one["classes"]
    statistics["basis"] = "0" * 16  # as that version named the same films and labels
    meta.write_text(json.dumps(content))
    before = contents(tmp_path)
    old = load_artefact(built.folder)
    assert (old.statistics.by_class, old.statistics.chosen.classes) == (None, ())
    for file in (None, built.folder):
        assert opened(gaze, tmp_path, file=file).statistics == built.statistics
    assert contents(tmp_path) == before  # nothing is compared or written again


def printed(statistics, width=80):
    console = Console(file=io.StringIO(), width=width)
    print_statistics(statistics, "Nearness(reach=200)", console)
    return console.file.getvalue()


def test_the_table_fits_80_columns(tmp_path):
    gaze = made_up_gaze(300, empty=(4,), films=[0, 0, *range(1, 299)])
    gaze = gaze._replace(labels=np.where(np.arange(300) % 10 == 0, 0, gaze.labels))
    statistics = opened(gaze, tmp_path, tau=None, rate=0.1).statistics
    text = printed(statistics)
    lines = text.splitlines()
    row = next(line for line in lines if line.startswith("rate 10 %"))
    chosen = statistics.chosen
    expected = ["rate", "10", "%", f"{chosen.threshold:.3f}", "10.0%", f"{chosen.mean:.1f}"]
    expected += [f"{value:.0f}" for value in (chosen.low, chosen.median, chosen.high)] + [f"{chosen.most}"]
    assert row.split()[:10] == expected
    assert row.split()[11:] == [f"{100 * chosen.same_class:.1f}%", f"{100 * chosen.by_class:.1f}%"]
    chance = next(line for line in lines if line.startswith("all pairs"))
    assert chance.split()[2:] == [f"{100 * statistics.base_rate:.1f}%", f"{100 * statistics.by_class:.1f}%"]
    assert "leaves out" not in text
    assert "299 of 300 readings compared; 1 with too little gaze" in text
    assert "all pairs" in text
    assert "1 pair of readings of one film" in " ".join(text.split())
    assert all(len(line.rstrip()) <= 80 for line in lines)
    none = printed(opened(gaze._replace(labels=None), tmp_path, tau=1.0).statistics)
    assert "No pair is related" in none
    assert "no labels" in none


@pytest.mark.parametrize("low", [112.0, 11112.0])
@pytest.mark.parametrize(
    ("asked", "name"),
    [("rate-0.003", "rate 0.3 %"), ("rate-0.00123", "rate 0.123 %"), ("tau-0.123456", "tau 0.123456")],
)
def test_the_table_of_the_largest_data_fits_too(tmp_path, asked, name, low):
    statistics = opened(made_up_gaze(20), tmp_path).statistics
    numbers = {"share": 0.1, "mean": 14999.9, "low": 112.0, "median": 12333.0, "high": 13888.0, "most": 14999}
    numbers["low"] = low
    large = replace(statistics.chosen, asked=asked, **numbers, alone=0.0012, same_class=0.665, by_class=0.501)
    text = printed(replace(statistics, chosen=large, candidates=(large,)))
    lines = text.splitlines()
    assert all(len(line.rstrip()) <= 80 for line in lines)
    rows = [line for line in lines if line.startswith(f"{name} ")]
    assert len(rows) == 2
    row = rows[0].removeprefix(name)
    assert row.split()[1:] == ["10.0%", "15000", f"{low:.0f}", "12333", "13888", "14999", "0.12%", "66.5%", "50.1%"]


def test_classes_without_partners_are_counted_in_the_notes(tmp_path):
    gaze = made_up_gaze(20)
    labels = gaze.labels.copy()
    scores = Nearness().prepare(gaze.gaze, gaze.frame).block(slice(0, 20), slice(0, 20))
    alone = int(np.argmin((scores > 0.7).sum(axis=1)))
    assert (scores[alone] > 0.7).sum() == 1
    labels[alone] = 2
    statistics = opened(gaze._replace(labels=labels), tmp_path, tau=0.7).statistics
    assert statistics.chosen.classes[2] is None
    assert statistics.classes[2] == 0
    assert "by class of the first row leaves out 1 of the classes" in " ".join(printed(statistics).split())


@pytest.mark.parametrize("broken", ["torn", "short", "kind", "empty"])
def test_a_validity_that_does_not_fit_is_refused_with_its_file(tmp_path, broken):
    gaze = made_up_gaze(12)
    place = opened(gaze, tmp_path).folder.parent
    path = place / "valid.npy"
    if broken == "torn":
        path.write_bytes(path.read_bytes()[:-3])
    elif broken == "empty":
        path.write_bytes(b"")
    else:
        np.save(path, np.ones(11, dtype=bool) if broken == "short" else np.ones(12))
    with pytest.raises(ConfigurationError, match=r"valid\.npy does not say which of 12 readings .*delete it"):
        opened(gaze, tmp_path, tau=0.6)
    path.unlink()
    assert opened(gaze, tmp_path, tau=0.6).relations.valid.all()


def test_pairs_of_one_film_are_in_no_artefact(tmp_path):
    gaze = made_up_gaze(60, films=np.arange(60) // 4)
    gaze = gaze._replace(gaze=tuple(gaze.gaze[i - i % 4] for i in range(60)))  # its four readers look alike: 1.0
    found = opened(gaze, tmp_path, tau=None, rate=0.1)
    relations, films = found.relations, gaze.films
    assert relations.threshold < 1
    rows = np.repeat(np.arange(60), relations.degrees)
    assert (films[rows] != films[relations.indices]).all()
    across = 60 * 59 // 2 - 15 * 6
    assert 0.05 * across < len(relations.indices) // 2 <= 0.1 * across
    assert found.statistics.chosen.pairs == len(relations.indices) // 2
    assert found.statistics.chosen in found.statistics.candidates  # they have the same rule
    shuffled = relations.shuffled(0)
    film_of = dict(zip(gaze.sample_ids, films, strict=True))
    own = np.array([film_of[name] for name in shuffled.ids])
    kept = (own[rows] != own[shuffled.indices]).mean()
    assert kept > 0.9  # nearly as many pairs of different films as with gaze
    renumbered = opened(gaze._replace(films=100 - films), tmp_path, tau=None, rate=0.1)
    assert renumbered.folder == found.folder
    apart = opened(gaze._replace(films=np.arange(60)), tmp_path, tau=None, rate=0.1)
    assert apart.folder != found.folder
    assert len(apart.relations.indices) != len(relations.indices)


def test_readings_of_a_single_film_are_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"The 4 training readings .* are all of one film"):
        opened(made_up_gaze(4, films=[3] * 4), tmp_path)


class Sequential(Nearness):
    needs_scan_paths = True


@pytest.mark.parametrize("measure", [Sequential(), MultiMatch()])
def test_a_measure_of_scan_paths_refuses_joined_readers_before_any_work(tmp_path, measure):
    gaze = made_up_gaze(12)._replace(scan_paths=False)
    with pytest.raises(ConfigurationError, match=r"readers=separate.*gaze_sources.*gaze_source=own.*MapCC"):
        opened(gaze, tmp_path, measure=measure)
    assert not list(tmp_path.iterdir())
    assert opened(gaze, tmp_path).relations.valid.all()  # a map may be of several readers
    assert opened(gaze._replace(scan_paths=True), tmp_path, measure=measure).relations.valid.all()


def test_a_file_of_a_measure_of_scan_paths_refuses_joined_readers_too(tmp_path):
    gaze = made_up_gaze(6)
    built = opened(gaze, tmp_path, measure=MultiMatch())
    assert open_artefact(gaze, None, None, None, tmp_path, built.folder).measure == "MultiMatch"
    with pytest.raises(ConfigurationError, match="MultiMatch compares scan paths"):
        open_artefact(gaze._replace(scan_paths=False), None, None, None, tmp_path, built.folder)


def test_a_refused_build_leaves_no_lock(tmp_path):
    with pytest.raises(ConfigurationError, match="gaze enough"):
        opened(made_up_gaze(4, empty=(0, 1, 2)), tmp_path)
    assert not list(tmp_path.rglob("*.lock"))
    opened(made_up_gaze(4), tmp_path)


def test_the_version_of_the_measure_counts_and_not_that_of_the_package(tmp_path, monkeypatch):
    gaze = made_up_gaze(12)
    first = opened(gaze, tmp_path)
    assert json.loads((first.folder / "meta.json").read_text())["version"] == 1
    for module in ("gaze_lightning", "gaze_lightning.relations.artefact"):
        monkeypatch.setattr(f"{module}.__version__", "99.0.0")
    assert measure_digest(Nearness()) == first.folder.parent.name.split("-")[1]
    assert opened(gaze, tmp_path).folder == first.folder
    with monkeypatch.context() as patch:
        patch.setattr(Nearness, "version", 2)
        second = opened(gaze, tmp_path)
        assert second.folder != first.folder
        assert load_artefact(second.folder).version == 2
        with pytest.raises(ConfigurationError, match=r"version 1, not Nearness with .* version 2"):
            opened(gaze, tmp_path, file=first.folder)
