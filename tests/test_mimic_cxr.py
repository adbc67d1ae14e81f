"""MIMIC-CXR as a source: labels of studies, views, official split, gaze of other sources on its films."""

from pathlib import Path

import numpy as np
import pytest

from data_modules.errors import DataError, collected_faults
from data_modules.mimic_cxr import MimicCXRDataModule
from data_modules.reader_policy import join_fixations
from data_modules.readings import ReadingTable
from data_modules.sources import (
    MIMIC_LABELS,
    locate_egd_cxr,
    locate_films,
    locate_reflacx,
    read_egd_cxr,
    read_mimic_cxr,
    read_reflacx,
)
from tests.trees import Egd, MadeUpFilm, Mimic, Reflacx

X = float("nan")
FRONTAL = MadeUpFilm(1)
OTHER_VIEW = MadeUpFilm(2, view="LATERAL", case=1)
SECOND = MadeUpFilm(3, view="AP", case=1)
TEST = MadeUpFilm(4, split="test")
TEST_TOO = MadeUpFilm(5, split="test", height=90)
NO_VIEW = MadeUpFilm(6, view="")
UNLABELLED = MadeUpFilm(7, split="validate")
FILMS = [FRONTAL, OTHER_VIEW, SECOND, TEST, TEST_TOO, NO_VIEW, UNLABELLED]


@pytest.fixture
def tree() -> Mimic:
    """Seven films of five studies; one study is in no label table, one has a radiologist's labels."""
    mimic = Mimic(FILMS)
    mimic.label(FRONTAL, Edema=1.0, Pneumonia=-1.0, Support_Devices=0.0)
    mimic.label(TEST, No_Finding=1.0, Support_Devices=1.0)
    mimic.label(TEST_TOO, Edema=0.0)
    mimic.label(NO_VIEW, Edema=1.0)
    for film in (FRONTAL, TEST, TEST_TOO, NO_VIEW, UNLABELLED):
        mimic.label(film, "negbio", Edema=0.0)
    mimic.label(TEST, "radiologist", Edema=1.0, No_Finding=0.0)
    return mimic


def read(root: Path, mimic: Mimic, **options: object) -> ReadingTable:
    mimic.write(root)
    return read_mimic_cxr(locate_films(root), **options)  # type: ignore[arg-type]


def ids(*films: MadeUpFilm) -> list[str]:
    return [film.dicom_id for film in films]


def test_every_frontal_film_is_a_reading_with_the_labels_of_its_study(tmp_path: Path, tree: Mimic) -> None:
    table = read(tmp_path, tree, labels=["Edema", "Pneumonia", "Support Devices", "No Finding"])
    assert table.frame["sample_id"].tolist() == ids(FRONTAL, SECOND, TEST, TEST_TOO)
    assert table.frame["split"].tolist() == ["train", "train", "test", "test"]
    assert table.frame["height"].tolist() == [60, 60, 60, 90]
    assert table.frame["subject"].tolist() == [f.subject for f in (FRONTAL, FRONTAL, TEST, TEST_TOO)]
    assert table.frame["source_row"].iloc[1] == "mimic-cxr-2.0.0-metadata.csv row 4"
    assert table.class_names == ("Edema", "Pneumonia", "Support Devices", "No Finding")
    assert table.label_type == "multi"
    assert table.labels is not None
    assert table.labels.dtype == np.float32
    np.testing.assert_array_equal(table.labels, [[1, X, 0, X], [1, X, 0, X], [0, 0, 1, 1], [0, X, X, X]])
    assert table.excluded == {
        "films of view LATERAL": 1,
        "films without a view": 1,
        "films of studies without chexpert labels": 1,
    }
    assert table.rows_read == {
        "mimic-cxr-2.0.0-metadata.csv": 7,
        "mimic-cxr-2.0.0-split.csv": 7,
        "mimic-cxr-2.0.0-chexpert.csv": 4,
    }


def test_all_labels_come_in_their_own_order(tmp_path: Path, tree: Mimic) -> None:
    table = read(tmp_path, tree, labeller="negbio", uncertain="positive", blank="negative")
    assert table.class_names == MIMIC_LABELS
    assert table.labels is not None
    np.testing.assert_array_equal(table.labels, np.zeros((5, 14)))


def test_the_join_by_study_never_multiplies_films(tmp_path: Path, tree: Mimic) -> None:
    tree.labels["chexpert"].append(dict(tree.labels["chexpert"][0]))
    assert read(tmp_path / "a", tree, views=None).frame["sample_id"].is_unique
    tree.labels["chexpert"][-1]["Edema"] = 0
    with pytest.raises(DataError, match=r"chexpert\.csv: 1 value\(s\) of study_id occur in several rows"):
        read(tmp_path / "b", tree)


def test_views_are_chosen_or_all_taken(tmp_path: Path, tree: Mimic) -> None:
    assert read(tmp_path, tree, views=["LATERAL"]).frame["sample_id"].tolist() == ids(OTHER_VIEW)
    everything = read_mimic_cxr(locate_films(tmp_path), views=None, unlabelled="keep")
    assert everything.frame["sample_id"].tolist() == ids(*FILMS)
    assert everything.excluded == {}
    with pytest.raises(DataError, match=r"no film has ViewPosition PB. The table has: PA, LATERAL, AP, blank\."):
        read_mimic_cxr(locate_films(tmp_path), views=["PB"])


def test_films_without_labels_can_be_kept_for_pre_training(tmp_path: Path, tree: Mimic) -> None:
    table = read(tmp_path, tree, unlabelled="keep")
    assert table.frame["sample_id"].iloc[-1] == UNLABELLED.dicom_id
    assert table.labels is not None
    assert np.isnan(table.labels[-1]).all()
    assert "1 film(s) of studies without chexpert labels: all labels unknown" in table.notes


def test_films_can_be_kept_without_any_label_table(tmp_path: Path, tree: Mimic) -> None:
    del tree.labels["chexpert"]
    with pytest.raises(DataError, match=r"mimic-cxr-2\.0\.0-chexpert\.csv .*Download it"):
        read(tmp_path, tree)
    table = read_mimic_cxr(locate_films(tmp_path), unlabelled="keep")
    assert table.frame["sample_id"].tolist() == ids(FRONTAL, SECOND, TEST, TEST_TOO, UNLABELLED)
    assert table.labels is not None
    assert table.labels.shape == (5, 14)
    assert np.isnan(table.labels).all()
    assert "there is no mimic-cxr-2.0.0-chexpert.csv: no label of it is known" in table.notes
    judged = read_mimic_cxr(locate_films(tmp_path), unlabelled="keep", test_labels="radiologist", labels=["Edema"])
    np.testing.assert_array_equal(judged.labels, [[X], [X], [1], [X]])


def test_test_films_can_have_a_radiologists_labels_and_then_no_others(tmp_path: Path, tree: Mimic) -> None:
    tree.label(FRONTAL, "radiologist", Edema=0.0)
    table = read(tmp_path, tree, test_labels="radiologist", labels=["Edema", "No Finding", "Support Devices"])
    assert table.frame["sample_id"].tolist() == ids(FRONTAL, SECOND, TEST)
    assert table.labels is not None
    np.testing.assert_array_equal(table.labels, [[1, X, 0], [1, X, 0], [1, 0, X]])
    assert table.excluded["test films without a radiologist's labels"] == 1
    assert "labels of 1 test film(s) are a radiologist's, of the reports" in table.notes
    assert "a radiologist's labels of 2 film(s) outside the test part are not used" in table.notes


def test_a_radiologists_labels_do_not_need_the_labellers(tmp_path: Path, tree: Mimic) -> None:
    del tree.labels["chexpert"][1]
    table = read(tmp_path, tree, test_labels="radiologist")
    assert table.frame["sample_id"].tolist() == ids(FRONTAL, SECOND, TEST)


def test_contradicting_studies_are_counted_per_film(tmp_path: Path, tree: Mimic) -> None:
    tree.labels["chexpert"][0]["No Finding"] = 1.0
    table = read(tmp_path, tree, labels=["Edema", "No Finding"])
    assert table.labels is not None
    np.testing.assert_array_equal(table.labels[:2], [[1, X], [1, X]])
    assert any("No Finding contradicts a stated finding on 2 film(s)" in note for note in table.notes)


def test_films_of_which_nothing_is_known_are_counted(tmp_path: Path, tree: Mimic) -> None:
    notes = read(tmp_path, tree, labels=["Fracture", "Pneumonia"]).notes
    assert "none of the labels is known of 3 film(s)" in notes  # that of the healthy study is


def test_all_faults_are_collected_in_one_pass_and_the_sound_films_stay(tmp_path: Path, tree: Mimic) -> None:
    more = [MadeUpFilm(n) for n in range(20, 26)]
    tree = Mimic([*FILMS, *more], labels=tree.labels)
    for film in more:
        tree.label(film, Edema=1.0)
    at = {row["study_id"]: row for row in tree.labels["chexpert"]}
    tree.metadata[7]["Rows"] = -1
    tree.splits[8]["subject_id"] = FRONTAL.subject
    at[more[2].study]["subject_id"] = FRONTAL.subject
    at[more[3].study]["Edema"] = 3
    at[more[4].study]["Edema"] = "many"
    tree.write(tmp_path)
    (locate_films(tmp_path).root / more[5].path).unlink()
    with collected_faults() as faults:
        table = read_mimic_cxr(locate_films(tmp_path))
    assert [fault.rows for fault in faults] == [
        ("row 9",),
        ("row 10 of the former",),
        ("row 10, Edema: 'many'",),
        ("row 9, Edema: 3",),
        ("mimic-cxr-2.0.0-metadata.csv row 11, mimic-cxr-2.0.0-chexpert.csv row 8",),
        ("mimic-cxr-2.0.0-metadata.csv row 14: no file, or an empty one",),
    ]
    assert table.frame["sample_id"].tolist() == ids(FRONTAL, SECOND, TEST, TEST_TOO)
    text = "\n".join(str(fault) for fault in faults)
    assert not any(name in text for film in more for name in (film.dicom_id, film.subject, film.study))


def test_dicom_films_are_read_with_the_tables_or_without_views(tmp_path: Path, tree: Mimic) -> None:
    pytest.importorskip("pydicom")
    folder = tree.write_dicom(tmp_path)
    tables = tree.write(tmp_path / "other")
    films = locate_films(tmp_path, file_format="dicom", tables_root=tables)
    table = read_mimic_cxr(films, labels=["Edema"])
    assert table.frame["sample_id"].tolist() == ids(FRONTAL, SECOND, TEST, TEST_TOO)
    assert table.frame["image_path"].iloc[0] == str(folder / FRONTAL.path.with_suffix(".dcm"))
    with pytest.raises(DataError, match="states neither views nor the official split"):
        read_mimic_cxr(locate_films(tmp_path, file_format="dicom"))


def gaze_on(root: Path) -> None:
    """EGD-CXR on FRONTAL and TEST, REFLACX twice on TEST and once on UNLABELLED."""
    egd, reflacx = Egd(), Reflacx()
    for film in (FRONTAL, TEST):
        egd.film(film, "CHF")
        egd.look(film.dicom_id, 10, 20)
    egd.look(TEST.dicom_id, -1, 20)
    reflacx.reading("P300R000004", TEST, eye_tracking_data_discarded=True)
    for name, film in (("P102R000001", TEST), ("P102R000002", TEST), ("P300R000003", UNLABELLED)):
        reflacx.reading(name, film)
        reflacx.look(name, 30, 40)
        reflacx.look(name, 5, 7)
    egd.write(root)
    reflacx.write(root)


def test_gaze_of_other_sources_goes_to_their_films_and_the_rest_is_counted(tmp_path: Path, tree: Mimic) -> None:
    tree.write(tmp_path)
    gaze_on(tmp_path)
    films = locate_films(tmp_path)
    sources = {
        "egd_cxr": read_egd_cxr(locate_egd_cxr(tmp_path), films),
        "reflacx": read_reflacx(locate_reflacx(tmp_path), films),
    }
    table = read_mimic_cxr(films, gaze=sources)
    assert sorted(table.fixations) == ids(FRONTAL, TEST)
    assert table.fixations[FRONTAL.dicom_id].x.tolist() == [10.5]
    both = [*sources["reflacx"].fixations.values()][:2]
    expected = join_fixations([sources["egd_cxr"].fixations[TEST.dicom_id], *both], (60, 50), "duration")
    for name, values in vars(expected).items():
        np.testing.assert_array_equal(getattr(table.fixations[TEST.dicom_id], name), values)
    assert table.excluded_points["reflacx: readings of films that are not used"] == 1
    assert table.excluded_points["egd_cxr: gaze rows off the film"] == 1  # counted by the source
    assert table.excluded_points["reflacx: readings with discarded eye tracking"] == 1
    assert "gaze of egd_cxr: 2 reading(s) of 2 film(s)" in table.notes
    assert "gaze of reflacx: 2 reading(s) of 1 film(s)" in table.notes
    assert "1 film(s) have several readings: their gaze is the mean of the readers' maps" in table.notes
    assert not table.scan_paths
    alone = {"egd_cxr": sources["egd_cxr"]}
    assert read_mimic_cxr(films, gaze=alone).scan_paths
    assert not read_mimic_cxr(films, gaze=alone, gaze_weight="count").scan_paths
    counted = read_mimic_cxr(films, gaze=sources, gaze_weight="count")
    assert counted.fixations[FRONTAL.dicom_id].duration.tolist() == [1.0]
    assert table.rows_read["master_sheet.csv"] == 2


def test_the_data_module_makes_batches_with_and_without_gaze(tmp_path: Path, tree: Mimic) -> None:
    tree.write(tmp_path)
    gaze_on(tmp_path)
    module = MimicCXRDataModule(
        root=str(tmp_path),
        labels=["Edema", "Support Devices"],
        gaze_sources=["egd_cxr", "reflacx"],
        gaze_weight="count",
        unlabelled="keep",
        image_size=(32, 32),
        saliency_size=(8, 8),
        batch_size=2,
        cache_dir=str(tmp_path / "cache"),
    )
    assert module.gaze_weight == "duration"
    module.prepare_data()
    module.setup("fit")
    module.setup("test")
    assert module.readings["split"].tolist() == ["train", "train", "test", "test", "validate"]
    (train,) = module.train_dataloader()
    (test,) = module.test_dataloader()
    train, test = (module.on_after_batch_transfer(batch, 0) for batch in (train, test))
    assert sorted(train["has_gaze"].tolist()) == [False, True]
    np.testing.assert_array_equal(train["label"], [[1, 0], [1, 0]])
    assert test["sample_id"] == ids(TEST, TEST_TOO)
    assert test["has_gaze"].tolist() == [True, False]
    np.testing.assert_array_equal(test["label"], [[0, 1], [0, X]])
    np.testing.assert_allclose(test["saliency"].sum(dim=(1, 2, 3)), [1, 0], atol=1e-6)


def test_a_radiologists_test_labels_need_the_official_split() -> None:
    with pytest.raises(ValueError, match="official test part only; split is stratified"):
        MimicCXRDataModule(test_labels="radiologist", split="stratified")
