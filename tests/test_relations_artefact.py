import io
import json
import multiprocessing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from gaze_lightning.errors import ConfigurationError
from gaze_lightning.relations import (
    gaze_digest,
    load_artefact,
    open_artefact,
    open_relations,
    print_statistics,
    save_artefact,
)
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
    assert len(digests) == 6
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
    assert_equal(open_relations(gaze, Nearness(), 0.5, None, tmp_path), artefact.relations)


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


def _open_in_process(folder, names):
    names.put(opened(made_up_gaze(40), folder).relations.digest)


def test_two_processes_build_once(tmp_path):
    context = multiprocessing.get_context("fork")
    names = context.Queue()
    processes = [context.Process(target=_open_in_process, args=(tmp_path, names)) for _ in range(2)]
    for process in processes:
        process.start()
    found = {names.get(timeout=60) for _ in processes}
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0
    assert found == {opened(made_up_gaze(40), tmp_path).relations.digest}


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
        ({"format": 2}, "has format 2, this version reads 1"),
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


def printed(statistics, width=80):
    console = Console(file=io.StringIO(), width=width)
    print_statistics(statistics, "Nearness(reach=200)", console)
    return console.file.getvalue()


def test_the_table_fits_80_columns(tmp_path):
    gaze = made_up_gaze(300, empty=(4,), films=[0, 0, *range(1, 299)])
    statistics = opened(gaze, tmp_path, tau=None, rate=0.1).statistics
    text = printed(statistics)
    lines = text.splitlines()
    row = next(line for line in lines if line.startswith("rate 10 %"))
    chosen = statistics.chosen
    expected = ["rate", "10", "%", f"{chosen.threshold:.3f}", "10.0%", f"{chosen.mean:.1f}", f"{chosen.least}"]
    expected += [f"{value:.0f}" for value in (chosen.low, chosen.median, chosen.high)] + [f"{chosen.most}"]
    assert row.split()[:11] == expected
    assert len(row.split()) == 13
    assert "299 of 300 readings compared; 1 with too little gaze" in text
    assert "all pairs" in text
    assert "1 pair of readings of one film" in " ".join(text.split())
    assert all(len(line.rstrip()) <= 80 for line in lines)
    none = printed(opened(gaze._replace(labels=None), tmp_path, tau=1.0).statistics)
    assert "No pair is related" in none
    assert "no labels" in none
