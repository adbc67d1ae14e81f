"""EyeGaze and REFLACX as one table: patients, films, labels, and what is refused."""

import gzip
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_modules.errors import DataError, collected_faults
from data_modules.joint import JointDataModule
from data_modules.readings import ReadingTable
from data_modules.regions import EllipseRegion
from data_modules.sources import (
    MIMIC_LABELS,
    REFLACX_LABELS,
    FilmIndex,
    locate_egd_cxr,
    locate_films,
    locate_reflacx,
    read_egd_cxr,
    read_reflacx,
)
from data_modules.sources.joint import read_joint
from data_modules.sources.joint_labels import SHEET_RULES, LabelSpace, joint_labels
from tests.trees import SHEET, Egd, MadeUpFilm, Mimic, Reflacx, write_rows

NAN = np.nan
FINDINGS = (
    "consolidation",
    "enlarged_cardiac_silhouette",
    "linear__patchy_atelectasis",
    "lobar__segmental_collapse",
    "not_otherwise_specified_opacity___pleural__parenchymal_opacity__",
    "pleural_effusion_or_thickening",
    "pulmonary_edema__hazy_opacity",
    "normal_anatomically",
    "elevated_hemidiaphragm",
    "hyperaeration",
    "vascular_redistribution",
)
BOX = ["xmin", "ymin", "xmax", "ymax"]
CHEXPERT = ["subject_id", "study_id", *MIMIC_LABELS]


@dataclass
class Film(MadeUpFilm):
    """A film of a patient who may have others."""

    patient: int = 0

    @property
    def subject(self) -> str:
        return f"1{self.patient or self.number:07d}"


NORMAL, FAILURE, PNEUMONIA = Film(1), Film(2), Film(3, split="test")
OTHER, LONE = Film(4, split="test", patient=3), Film(5)
ONE, TWO = "P101R000001", "P101R000002"
SECOND, SOLO = "P300R000003", "P300R000004"


@dataclass
class Tree:
    """EyeGaze reads films 1, 2, 3; REFLACX reads film 2 twice, 4 (of the patient of 3) and 5 (of a new patient)."""

    egd: Egd = field(default_factory=Egd)
    reflacx: Reflacx = field(default_factory=Reflacx)
    studies: list[dict[str, object]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for film, diagnosis in ((NORMAL, "Normal"), (FAILURE, "CHF"), (PNEUMONIA, "pneumonia")):
            self.egd.film(film, diagnosis).update(dict.fromkeys(FINDINGS, 0))
            self.egd.look(film.dicom_id, 10, 20)
            self.egd.look(film.dicom_id, 30, 25)
        for reading, film in ((ONE, FAILURE), (TWO, FAILURE), (SECOND, OTHER), (SOLO, LONE)):
            self.reflacx.reading(reading, film)
            self.reflacx.look(reading, 12, 22)
        self.reflacx.readings[1][0]["Consolidation"] = 4
        self.reflacx.ellipse(ONE, "Consolidation", (5, 5, 20, 20), 4)
        self.reflacx.ellipse(SOLO, "Pleural abnormality", (5, 5, 20, 20), 4)
        for film in (NORMAL, FAILURE, PNEUMONIA, OTHER):
            self.studies.append({"subject_id": film.subject, "study_id": film.study})

    def write(self, root: Path) -> None:
        folder = Mimic([NORMAL, FAILURE, PNEUMONIA, OTHER, LONE]).write(root)
        write_rows(folder / "mimic-cxr-2.0.0-chexpert.csv.gz", CHEXPERT, self.studies)
        egd = self.egd.write(root) if "consolidation" not in self.egd.sheet[0] else self._write_egd(root)
        assert egd.is_dir()
        reflacx = self.reflacx.write(root)
        for reading in self.reflacx.fixations:
            box = dict(zip(BOX, (5, 6, 45, 55), strict=True))
            write_rows(reflacx / "main_data" / reading / "chest_bounding_box.csv", BOX, [box], "\r\n")

    def _write_egd(self, root: Path) -> Path:
        sheet, self.egd.sheet = self.egd.sheet, []
        folder = self.egd.write(root)
        self.egd.sheet = sheet
        write_rows(folder / "master_sheet.csv", [*SHEET, *FINDINGS], sheet)
        return folder


@pytest.fixture
def tree() -> Tree:
    return Tree()


def sources_of(root: Path) -> tuple[ReadingTable, ReadingTable, FilmIndex]:
    films = locate_films(root)
    return read_egd_cxr(locate_egd_cxr(root), films), read_reflacx(locate_reflacx(root), films), films


def read(root: Path, made: Tree, label_space: LabelSpace = "findings", **options: Any) -> ReadingTable:
    made.write(root)
    egd, reflacx, films = sources_of(root)
    return read_joint(egd, reflacx, label_space=label_space, egd_root=locate_egd_cxr(root), films=films, **options)


def labels_of(table: ReadingTable, row: int) -> dict[str, float]:
    assert table.labels is not None
    return dict(zip(table.class_names, table.labels[row].tolist(), strict=True))


def test_readings_keep_their_film_and_patient_and_get_ids_of_their_own(tmp_path: Path, tree: Tree) -> None:
    table = read(tmp_path, tree)
    ids = [f"egd-{film.dicom_id}" for film in (NORMAL, FAILURE, PNEUMONIA)]
    assert table.frame["sample_id"].tolist() == [*ids, *(f"reflacx-{name}" for name in (ONE, TWO, SECOND, SOLO))]
    films = [NORMAL, FAILURE, PNEUMONIA, FAILURE, FAILURE, OTHER, LONE]
    assert table.frame["image_id"].tolist() == [film.dicom_id for film in films]
    assert table.frame["subject"].tolist() == [film.subject for film in films]
    assert table.sources is not None
    assert table.sources.tolist() == ["EyeGaze"] * 3 + ["REFLACX"] * 4
    assert set(table.fixations) == set(table.frame["sample_id"])
    assert table.fixations[ids[0]].x.tolist() == [10.5, 30.5]
    assert set(table.chest_boxes) == {f"reflacx-{name}" for name in (ONE, TWO, SECOND, SOLO)}
    assert table.notes[-1] == "in both EyeGaze and REFLACX: 2 of 3 + 3 patients, 1 of 3 + 3 films"


def test_what_was_left_out_stays_counted_under_its_source(tmp_path: Path, tree: Tree) -> None:
    tree.egd.look(NORMAL.dicom_id, -1, 5)
    tree.reflacx.look(SOLO, 5, 5, xmin_shown_from_image=9, xmax_shown_from_image=9)
    tree.reflacx.readings[1][1]["eye_tracking_data_discarded"] = True
    table = read(tmp_path, tree)
    assert table.excluded == {"REFLACX: readings with discarded eye tracking": 1}
    assert table.excluded_points["EyeGaze: gaze rows off the film"] == 1
    assert table.excluded_points["REFLACX: fixations while nothing of the film was on screen"] == 1
    assert table.rows_read["REFLACX fixations.csv"] == 4
    assert table.rows_read["REFLACX metadata_phase_3.csv"] == 2


@pytest.mark.parametrize(
    ("diagnosis", "cells", "expected"),
    [
        ("CHF", {}, {}),  # all denied
        ("CHF", {"linear__patchy_atelectasis": 1}, {"Atelectasis": 1}),
        ("CHF", {"lobar__segmental_collapse": 1, "linear__patchy_atelectasis": ""}, {"Atelectasis": 1}),
        ("CHF", {"lobar__segmental_collapse": ""}, {"Atelectasis": NAN}),
        ("pneumonia", {"consolidation": 1}, {"Consolidation": 1, "Groundglass opacity": NAN}),
        ("CHF", {"enlarged_cardiac_silhouette": 1}, {"Enlarged cardiac silhouette": 1}),
        ("CHF", {"hyperaeration": 1}, {"High lung volume / emphysema": 1}),
        ("CHF", {"pleural_effusion_or_thickening": 1}, {"Pleural abnormality": 1}),
        ("CHF", {"pulmonary_edema__hazy_opacity": 1}, {"Pulmonary edema": 1, "Groundglass opacity": NAN}),
        ("pneumonia", {"pulmonary_edema__hazy_opacity": 1}, {"Pulmonary edema": NAN, "Groundglass opacity": NAN}),
        ("CHF", {FINDINGS[4]: 1}, {"Groundglass opacity": NAN}),
        ("CHF", {"elevated_hemidiaphragm": 1, "vascular_redistribution": 1}, {}),
        ("CHF", {"consolidation": ""}, {"Consolidation": NAN, "Groundglass opacity": NAN}),
        ("Normal", {"consolidation": "", "hyperaeration": ""}, {}),  # a normal film has none of them
        ("Normal", {"consolidation": 1}, {"Consolidation": NAN}),
    ],
)
def test_findings_of_eyegaze_follow_the_documented_map(
    tmp_path: Path, tree: Tree, diagnosis: str, cells: dict[str, object], expected: dict[str, float]
) -> None:
    tree.egd.sheet[0].update({name: int(name == diagnosis) for name in ("Normal", "CHF", "pneumonia")}, **cells)
    mapped = dict.fromkeys(
        [
            "Atelectasis",
            "Consolidation",
            "Enlarged cardiac silhouette",
            "Groundglass opacity",
            "High lung volume / emphysema",
            "Pleural abnormality",
            "Pulmonary edema",
        ],
        0.0,
    )
    assert set(mapped) == set(SHEET_RULES)
    table = read(tmp_path, tree)
    wanted = dict.fromkeys(REFLACX_LABELS, NAN) | mapped | expected
    found = labels_of(table, 0)
    np.testing.assert_array_equal([found[name] for name in wanted], list(wanted.values()))
    stated = "EyeGaze: 1 finding(s) stated of films of class Normal are taken as unknown"
    assert (stated in table.notes) == (diagnosis == "Normal" and cells.get("consolidation") == 1)


def test_findings_of_reflacx_are_its_own(tmp_path: Path, tree: Tree) -> None:
    table = read(tmp_path, tree)
    assert table.class_names == REFLACX_LABELS
    _, reflacx, _ = sources_of(tmp_path)
    assert table.labels is not None
    np.testing.assert_array_equal(table.labels[3:], reflacx.labels)
    consolidation = REFLACX_LABELS.index("Consolidation")
    assert table.regions[f"reflacx-{ONE}"] == [EllipseRegion(consolidation, "lesion", 5, 5, 20, 20)]
    some = read(tmp_path, tree, labels=["Pneumothorax", "Consolidation"])
    assert some.class_names == ("Pneumothorax", "Consolidation")
    assert labels_of(some, 3) == {"Pneumothorax": 0, "Consolidation": 1}
    assert some.excluded_points["REFLACX: outlines of classes that this label space lacks"] == 1


def test_wrong_cells_and_missing_columns_of_the_sheet_are_named(tmp_path: Path, tree: Tree) -> None:
    tree.egd.sheet[1]["hyperaeration"] = 2
    tree.egd.sheet[2]["consolidation"] = -1
    with pytest.raises(DataError, match=r"master_sheet\.csv: findings must be 0, 1 or blank") as caught:
        read(tmp_path, tree)
    assert caught.value.rows == ("row 3, hyperaeration: 2", "row 4, consolidation: -1")
    for row in tree.egd.sheet:
        for name in FINDINGS:
            del row[name]
    with pytest.raises(DataError, match=r"missing column\(s\): consolidation"):
        read(tmp_path, tree)
    assert read(tmp_path, tree, "egd").class_names == ("Normal", "CHF", "pneumonia")


def test_a_sheet_of_which_no_row_is_left_leaves_findings_unknown(tmp_path: Path, tree: Tree) -> None:
    tree.write(tmp_path)
    egd, reflacx, films = sources_of(tmp_path)
    for row in tree.egd.sheet:
        row["hyperaeration"] = "yes"
    tree.write(tmp_path)
    with collected_faults() as faults:
        table = read_joint(egd, reflacx, label_space="findings", egd_root=locate_egd_cxr(tmp_path), films=films)
    assert len(faults) == 1
    assert faults[0].rows[0] == "row 2, hyperaeration: 'yes'"
    names = list(SHEET_RULES)
    assert np.isnan([labels_of(table, 2)[name] for name in names]).all()
    assert not np.isnan([labels_of(table, 4)[name] for name in ("Atelectasis", "Consolidation")]).any()


def test_a_compressed_sheet_is_read_alike(tmp_path: Path, tree: Tree) -> None:
    plain = read(tmp_path, tree)
    sheet = locate_egd_cxr(tmp_path) / "master_sheet.csv"
    sheet.with_name("master_sheet.csv.gz").write_bytes(gzip.compress(sheet.read_bytes()))
    sheet.unlink()
    egd, reflacx, films = sources_of(tmp_path)
    packed = read_joint(egd, reflacx, label_space="findings", egd_root=locate_egd_cxr(tmp_path), films=films)
    np.testing.assert_array_equal(packed.labels, plain.labels)


@pytest.mark.parametrize("source", ["egd", "reflacx"])
def test_a_wrong_folder_is_answered_with_the_option_that_names_it(tmp_path: Path, tree: Tree, source: str) -> None:
    tree.write(tmp_path)
    options: dict[str, Any] = {f"{source}_root": str(tmp_path / "nowhere")}
    with pytest.raises(DataError, match=rf"data\.init_args\.{source}_root=<folder"):
        module(tmp_path, tmp_path / "cache", **options).read_table()


def test_classes_of_eyegaze_hold_for_all_readings_of_its_films_and_are_unknown_on_others(
    tmp_path: Path, tree: Tree
) -> None:
    table = read(tmp_path, tree, "egd")
    assert table.label_type == "multi"
    np.testing.assert_array_equal(table.labels, [[1, 0, 0], [0, 1, 0], [0, 0, 1], *[[0, 1, 0]] * 2, *[[NAN] * 3] * 2])
    assert "REFLACX: the class of 2 reading(s) is that of EyeGaze for the film" in table.notes
    assert table.regions == {}
    assert table.excluded_points == {
        "EyeGaze: films without the anatomy masks of their class (kept)": 2,
        "REFLACX: outlines of classes that this label space lacks": 2,
    }


def test_labels_of_the_reports_hold_for_all_readings_of_a_film(tmp_path: Path, tree: Tree) -> None:
    tree.studies[0]["No Finding"] = 1
    tree.studies[1].update({"Cardiomegaly": 1, "Edema": -1, "Pneumonia": 0})
    table = read(tmp_path, tree, "chexpert")
    assert table.class_names == MIMIC_LABELS
    assert labels_of(table, 0)["Edema"] == 0
    assert np.isnan(labels_of(table, 0)["Support Devices"])
    for row in (1, 3, 4):  # one film, read in both
        labels = labels_of(table, row)
        assert (labels["Cardiomegaly"], labels["Pneumonia"]) == (1, 0)
        assert np.isnan(labels["Edema"])
    assert labels_of(read(tmp_path, tree, "chexpert", uncertain="positive"), 1)["Edema"] == 1
    assert labels_of(read(tmp_path, tree, "chexpert", blank="negative"), 1)["Fracture"] == 0
    assert np.isnan(list(labels_of(read(tmp_path, tree, "chexpert", blank="negative"), 6).values())).all()
    assert "1 reading(s) of studies without chexpert labels: all labels unknown" in table.notes
    contradiction = "No Finding contradicts a stated finding in the reports of 3 reading(s)"
    assert not any(note.startswith(contradiction) for note in table.notes)
    tree.studies[1]["No Finding"] = 1
    assert any(note.startswith(contradiction) for note in read(tmp_path, tree, "chexpert").notes)
    tree.studies[1]["No Finding"] = ""
    number = MIMIC_LABELS.index("Consolidation")
    assert table.regions == {f"reflacx-{ONE}": [EllipseRegion(number, "lesion", 5, 5, 20, 20)]}
    assert table.excluded_points["REFLACX: outlines of classes that this label space lacks"] == 1
    assert read(tmp_path, tree, "chexpert", labels=["Edema"]).class_names == ("Edema",)


def test_a_report_of_another_patient_is_refused(tmp_path: Path, tree: Tree) -> None:
    tree.studies[1]["subject_id"] = LONE.subject
    with pytest.raises(DataError, match="another patient for a study") as caught:
        read(tmp_path, tree, "chexpert")
    table = "mimic-cxr-2.0.0-chexpert.csv row 3"
    assert caught.value.rows == (
        f"master_sheet.csv row 3, {table}",
        f"metadata_phase_1.csv row 2, {table}",
        f"metadata_phase_1.csv row 3, {table}",
    )


def test_a_film_on_which_the_sources_contradict_each_other_is_named(tmp_path: Path, tree: Tree) -> None:
    tree.write(tmp_path)
    egd, reflacx, films = sources_of(tmp_path)
    frame = reflacx.frame.copy()
    frame.loc[0, "subject"] = LONE.subject
    frame.loc[1, "width"] = 51
    frame.loc[1, "split"] = ""
    wrong = replace(reflacx, frame=frame)
    with pytest.raises(DataError, match="contradict each other about a film") as caught:
        read_joint(egd, wrong, label_space="findings", egd_root=locate_egd_cxr(tmp_path), films=films)
    assert caught.value.rows == (
        "master_sheet.csv row 3: patient, width",
        "metadata_phase_1.csv row 2: patient, width",
        "metadata_phase_1.csv row 3: patient, width",
    )
    with collected_faults() as faults:
        table = read_joint(egd, wrong, label_space="findings", egd_root=locate_egd_cxr(tmp_path), films=films)
    assert len(faults) == 1
    assert table.frame["image_id"].tolist() == [film.dicom_id for film in (NORMAL, PNEUMONIA, OTHER, LONE)]
    assert table.labels is not None
    assert table.sources is not None
    assert len(table.labels) == len(table.sources) == 4


def test_label_spaces_and_labels_are_checked() -> None:
    with pytest.raises(ValueError, match="unknown label_space 'both': choose out of findings, chexpert, egd"):
        joint_labels("both")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"labels \['Effusion'\]; choose out of: Abnormal.*Support devices"):
        joint_labels("findings", ["Effusion"])
    with pytest.raises(ValueError, match="choose out of: Normal, CHF, pneumonia"):
        joint_labels("egd", [])
    assert joint_labels("findings", ["Support devices"]) == ("Support devices",)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def module(root: Path, cache: Path, **options: Any) -> JointDataModule:
    sizes: dict[str, Any] = {"image_size": (48, 40), "saliency_size": (12, 10), "batch_size": 8}
    return JointDataModule(root=str(root), cache_dir=str(cache), **sizes | options)


@pytest.mark.parametrize("seed", range(3))
def test_no_patient_and_no_film_is_in_two_parts_though_both_sources_have_them(
    phantom_root: Path, cache: Path, seed: int
) -> None:
    data = module(phantom_root, cache, split_seed=seed)
    data.setup("fit")
    readings = data.readings
    shared = readings.groupby("image_id")["sample_id"].agg(lambda names: names.str.split("-").str[0].nunique())
    assert (shared == 2).sum() > 20
    for column in ("subject", "image_id"):
        assert (readings.groupby(column)["split"].nunique() == 1).all()
    assert readings["sample_id"].is_unique
    assert set(readings["split"]) == {"train", "validate", "test"}


@pytest.mark.parametrize("label_space", ["findings", "chexpert", "egd"])
def test_batches_of_every_label_space_have_gaze_and_known_and_unknown_labels(
    phantom_root: Path, cache: Path, label_space: LabelSpace
) -> None:
    data = module(phantom_root, cache, label_space=label_space, split="official")
    data.setup("fit")
    batches = [data.on_after_batch_transfer(batch, 0) for batch in data.val_dataloader()]
    labels = torch.cat([batch["label"] for batch in batches])
    assert labels.shape[1] == len(data.class_names)
    assert labels.isnan().any() == (label_space != "egd")  # EyeGaze has all films of the phantom
    assert (labels == 1).any()
    ids = [name for batch in batches for name in batch["sample_id"]]
    has_gaze = torch.cat([batch["has_gaze"] for batch in batches])
    for source in ("egd-", "reflacx-"):
        own = torch.tensor([name.startswith(source) for name in ids])
        assert has_gaze[own].float().mean() > 0.8
    maps = torch.cat([batch["saliency"] for batch in batches])[has_gaze]
    torch.testing.assert_close(maps.sum(dim=(1, 2, 3)), torch.ones(len(maps)))


def test_readers_of_reflacx_become_one_map_beside_the_reader_of_eyegaze(phantom_root: Path, cache: Path) -> None:
    separate, mean = (module(phantom_root, cache, readers=policy) for policy in ("separate", "mean_map"))
    one, other = separate.read_table(), mean.read_table()
    assert mean.gaze_weight == "density"
    assert (one.scan_paths, other.scan_paths) == (True, False)
    assert other.frame["image_id"].value_counts().max() == 2  # EyeGaze's and REFLACX's
    assert one.frame["image_id"].value_counts().max() > 2
    joined = one.frame[one.sources == "REFLACX"].groupby("image_id").size()
    note = f"{(joined > 1).sum()} film(s) have several readings ({joined[joined > 1].sum()} in all)"
    assert any(line.startswith(f"REFLACX: {note}") for line in other.notes)
    counted = module(phantom_root, cache, readers="mean_map", gaze_weight="count")
    assert counted.gaze_weight == "duration"
    table = counted.read_table()
    for name, gaze in table.fixations.items():
        if name.startswith("egd-"):
            assert (gaze.duration == 1).all()


def test_one_reading_of_a_film_is_drawn_per_epoch(phantom_root: Path, cache: Path) -> None:
    data = module(phantom_root, cache, readers="random_reader")
    assert data.reader_policy == "random_reader"
    data.setup("fit")
    train = data.readings[data.readings["split"] == "train"]
    assert len(data.train_dataloader().sampler) == train["image_id"].nunique()  # type: ignore[arg-type]
