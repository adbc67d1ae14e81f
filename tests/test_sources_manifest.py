"""Own images and tables: what is read, what is left out, and what is refused; real open data."""

import os
import shutil
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from data_modules.errors import DataError, collected_faults
from data_modules.sources import FixationColumns, read_folder, read_manifest
from tests.trees import write_image

VIEWERS = FixationColumns(duration="seconds", order="order", reader="viewer")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Images a (40 x 30) and b (20 x 50), labels, two viewers."""
    write_image(tmp_path / "films" / "a.png", 40, 30)
    write_image(tmp_path / "films" / "b.jpg", 20, 50)
    (tmp_path / "images.csv").write_text(
        "image,who,part,ill,fluid,kind\nfilms/a.png,007,train,1,,CHF\nfilms/b.jpg,008,test,0,-1,Normal\n"
    )
    (tmp_path / "gaze.csv").write_text(
        "image,viewer,order,x,y,seconds\n"
        "films/b.jpg,v2,0,7,8,0.3\n"
        "films/a.png,v1,1,3,4.25,0.2\n"
        "films/a.png,v1,0,1.5,2,0.1\n"
        "films/a.png,v2,0,5,6,0.4\n"
    )
    return tmp_path


def append(path: Path, *lines: str) -> None:
    path.write_text(path.read_text() + "".join(f"{line}\n" for line in lines))


def test_each_reader_of_an_image_is_a_sample(root: Path) -> None:
    table = read_manifest(
        root,
        Path("images.csv"),
        Path("gaze.csv"),
        subject_column="who",
        split_column="part",
        label_columns=["ill", "fluid"],
        fixation_columns=VIEWERS,
    )
    assert table.frame["sample_id"].tolist() == ["films/a.png#v1", "films/a.png#v2", "films/b.jpg#v2"]
    assert table.frame["subject"].tolist() == ["007", "007", "008"]
    assert table.frame["split"].tolist() == ["train", "train", "test"]
    assert table.frame[["height", "width"]].to_numpy().tolist() == [[40, 30], [40, 30], [20, 50]]
    assert [Path(path).is_file() for path in table.frame["image_path"]] == [True] * 3
    assert table.class_names == ("ill", "fluid")
    assert table.label_type == "multi"
    np.testing.assert_array_equal(table.labels, [[1, np.nan], [1, np.nan], [0, np.nan]])
    first = table.fixations["films/a.png#v1"]
    assert first.x.tolist() == [1.5, 3]
    assert first.y.tolist() == [2, 4.25]
    assert first.duration.tolist() == [0.1, 0.2]
    np.testing.assert_allclose(first.start, [0, 0.1])
    np.testing.assert_allclose(first.sigma_x, 75.5 * 40 / 3072)
    landscape = table.fixations["films/b.jpg#v2"]
    np.testing.assert_allclose(landscape.sigma_x, 75.5 * 1.2 * 50 / 3072)


def test_readers_can_be_merged(root: Path) -> None:
    table = read_manifest(
        root, Path("images.csv"), Path("gaze.csv"), fixation_columns=VIEWERS, readers="merged", class_column="kind"
    )
    assert table.frame["sample_id"].tolist() == ["films/a.png", "films/b.jpg"]
    assert table.class_names == ("CHF", "Normal")
    np.testing.assert_array_equal(table.labels, [0, 1])
    assert table.fixations["films/a.png"].x.tolist() == [1.5, 3, 5]
    np.testing.assert_allclose(table.fixations["films/a.png"].start, [0, 0.1, 0])
    assert not table.scan_paths
    separate = read_manifest(root, Path("images.csv"), Path("gaze.csv"), fixation_columns=VIEWERS, class_column="kind")
    assert separate.scan_paths


def test_images_may_come_from_the_fixations_alone(root: Path) -> None:
    table = read_manifest(root, None, Path("gaze.csv"), fixation_columns=VIEWERS, sigma_px=3.0)
    assert table.labels is None
    assert sorted(table.frame["sample_id"]) == ["films/a.png#v1", "films/a.png#v2", "films/b.jpg#v2"]
    assert table.fixations["films/b.jpg#v2"].sigma_y.tolist() == [3]
    assert "leakage between parts cannot be checked" in table.notes[0]


def test_images_without_gaze_are_kept(root: Path) -> None:
    write_image(root / "films" / "c.png", 10, 10)
    append(root / "images.csv", "films/c.png,009,train,1,0,CHF")
    table = read_manifest(root, Path("images.csv"), Path("gaze.csv"), fixation_columns=VIEWERS, label_columns=["ill"])
    assert table.frame["sample_id"].tolist()[-1] == "films/c.png"
    assert "films/c.png" not in table.fixations
    np.testing.assert_array_equal(table.labels, [[1], [1], [0], [1]])
    alone = read_manifest(root, Path("images.csv"), label_columns=["ill"])
    assert alone.fixations == {}
    assert alone.frame["sample_id"].tolist() == ["films/a.png", "films/b.jpg", "films/c.png"]


def test_fractions_and_whole_pixels_become_continuous_pixels(root: Path) -> None:
    (root / "f.csv").write_text("image,x,y,duration\nfilms/a.png,0.5,0.25,1\nfilms/a.png,1.02,0.5,1\n")
    table = read_manifest(root, None, Path("f.csv"), fixation_columns=FixationColumns(units="fraction"))
    assert table.fixations["films/a.png"].x.tolist() == [15]
    assert table.fixations["films/a.png"].y.tolist() == [10]
    assert table.excluded_points == {"fixations outside the image": 1}
    (root / "p.csv").write_text("image,x,y\nfilms/a.png,3,29\n")
    layout = FixationColumns(duration=None, whole_pixels=True)
    reading = read_manifest(root, None, Path("p.csv"), fixation_columns=layout).fixations["films/a.png"]
    assert (reading.x.tolist(), reading.y.tolist(), reading.duration.tolist()) == ([3.5], [29.5], [1])


def test_wrong_units_are_noticed(root: Path) -> None:
    with pytest.raises(DataError, match=r"looks like pixels, not fractions\. Set .*units to pixels"):
        read_manifest(
            root, None, Path("gaze.csv"), fixation_columns=FixationColumns(duration="seconds", units="fraction")
        )
    (root / "f.csv").write_text("image,x,y,duration\n" + "films/a.png,0.5,0.25,1\n" * 12)
    with pytest.raises(DataError, match="looks like fractions, not pixels"):
        read_manifest(root, None, Path("f.csv"))


def write_gaze(path: Path, *rows: tuple[object, ...], header: str = "image,x,y,duration") -> Path:
    path.write_text("".join(f"{line}\n" for line in (header, *(",".join(map(str, row)) for row in rows))))
    return Path(path.name)


def test_milliseconds_become_seconds(root: Path) -> None:
    gaze = write_gaze(root / "m.csv", ("films/a.png", 3, 4, 250, 1500), header="image,x,y,duration,start")
    layout = FixationColumns(duration_unit="milliseconds", start="start")
    reading = read_manifest(root, None, gaze, fixation_columns=layout).fixations["films/a.png"]
    assert (reading.duration.tolist(), reading.start.tolist()) == ([0.25], [1.5])


def test_positions_on_a_picture_of_another_size_are_scaled_along_each_axis(root: Path) -> None:
    gaze = write_gaze(root / "p.csv", ("films/a.png", 150, 100, 1), ("films/b.jpg", 299, 199, 1))
    layout = FixationColumns(recorded_on=(200, 300))  # a.png has 40 x 30, b.jpg 20 x 50
    table = read_manifest(root, None, gaze, fixation_columns=layout)
    assert table.fixations["films/a.png"].x.tolist() == [15]
    assert table.fixations["films/a.png"].y.tolist() == [20]
    np.testing.assert_allclose(table.fixations["films/b.jpg"].x, 299 / 6)
    np.testing.assert_allclose(table.fixations["films/b.jpg"].y, 19.9)
    whole = FixationColumns(recorded_on=(200, 300), whole_pixels=True)
    np.testing.assert_allclose(
        read_manifest(root, None, gaze, fixation_columns=whole).fixations["films/a.png"].x, 150.5 / 10
    )


LONG = [("films/a.png", n % 30, n % 40, 120 + n) for n in range(30)]
SHORT = [("films/a.png", n % 30, n % 40, 0.2) for n in range(30)]
LARGE = [("films/a.png", 20 + 3 * n, 25 + 5 * n, 0.2) for n in range(40)]
SWAPPED = [("films/a.png", n % 40, n % 29, 0.2) for n in range(80)]


@pytest.mark.parametrize(
    ("rows", "layout", "message", "first"),
    [
        (
            LONG,
            FixationColumns(),
            r"p\.csv: column duration: .*milliseconds.*Set data\.init_args\.fixation_columns\.duration_unit to milli",
            "row 2, duration: 120",
        ),
        (
            SHORT,
            FixationColumns(duration_unit="milliseconds"),
            r"p\.csv: column duration: .*looks like seconds.*Set .*fixation_columns\.duration_unit to seconds",
            "row 2, duration: 0.2",
        ),
        (
            LARGE,
            FixationColumns(),
            r"p\.csv: columns x, y: 37 of 40 fixations lie outside .*reaching 220 x 137.*Set .*recorded_on to its",
            "row 5, x: 29 (width 30), y: 40 (height 40)",
        ),
        (
            SWAPPED,
            FixationColumns(),
            r"p\.csv: columns x, y: 20 of 80 fixations lie .*axes look swapped\..*\{x: y, y: x\}",
            "row 32, x: 30 (width 30), y: 1 (height 40)",
        ),
    ],
)
def test_numbers_that_cannot_be_right_are_refused_with_row_column_and_remedy(
    root: Path, rows: list[tuple[object, ...]], layout: FixationColumns, message: str, first: str
) -> None:
    gaze = write_gaze(root / "p.csv", *rows)
    with pytest.raises(DataError, match=message) as caught:
        read_manifest(root, Path("images.csv"), gaze, fixation_columns=layout)
    assert caught.value.rows[0] == first
    with collected_faults() as faults:
        read_manifest(root, Path("images.csv"), gaze, fixation_columns=layout)
    assert [fault.message for fault in faults] == [caught.value.message]


def test_readings_in_other_units_than_the_table_are_named(root: Path) -> None:
    rows = [("films/a.png", "v1", 3 * n, 4 * n) for n in range(1, 9)]
    rows += [("films/b.jpg", "v1", n / 10, n / 20) for n in range(6)]
    rows += [("films/b.jpg", "v2", 5 * n, 2 * n) for n in range(1, 9)]
    rows += [("films/a.png", "v2", 0.5, 0.5)] * 4  # too few to judge
    gaze = write_gaze(root / "p.csv", *rows, header="image,viewer,x,y")
    layout = FixationColumns(duration=None, reader="viewer")
    with pytest.raises(DataError, match=r"x, y: the coordinates of 1 reading\(s\) .* fractions, not pixels") as caught:
        read_manifest(root, Path("images.csv"), gaze, fixation_columns=layout)
    assert caught.value.rows == ("row 10 and 5 more of the same reading",)
    with collected_faults() as faults:
        table = read_manifest(root, Path("images.csv"), gaze, fixation_columns=layout)
    assert len(faults) == 1
    assert {name: len(gaze) for name, gaze in table.fixations.items() if len(gaze)} == {
        "films/a.png#v1": 8,
        "films/a.png#v2": 4,
        "films/b.jpg#v2": 8,
    }


def test_readings_in_pixels_among_fractions_are_named(root: Path) -> None:
    rows = [("films/a.png", n / 100, n / 100, 0.2) for n in range(90)] + [("films/b.jpg", 9, n, 0.2) for n in range(6)]
    gaze = write_gaze(root / "p.csv", *rows)
    with pytest.raises(DataError, match=r"1 reading\(s\) .* pixels, not fractions") as caught:
        read_manifest(root, Path("images.csv"), gaze, fixation_columns=FixationColumns(units="fraction"))
    assert caught.value.rows == ("row 92 and 5 more of the same reading",)


def test_films_behind_a_link_out_of_the_root_are_refused_with_its_name(root: Path, tmp_path: Path) -> None:
    inside = root / "inside"
    (root / "films").rename(root / "real")
    (root / "films").symlink_to("real")
    assert len(read_manifest(root, Path("images.csv")).frame) == 2, "links within the root are followed"
    inside.mkdir()
    (inside / "films").symlink_to(root / "real")
    shutil.copy(root / "images.csv", inside / "images.csv")
    append(inside / "images.csv", "../real/a.png,1,train,1,1,CHF")
    message = r"2 image\(s\) lie behind a symbolic link that leads out of .*: films\. .* set data\.init_args\.root"
    with pytest.raises(DataError, match=message) as caught:
        read_manifest(inside, Path("images.csv"))
    assert caught.value.rows == ("row 2", "row 3")
    with collected_faults() as faults:
        assert not len(read_manifest(inside, Path("images.csv")).frame)
    assert [fault.rows for fault in faults] == [("row 2", "row 3"), ("row 4",)]


def test_a_few_points_outside_are_no_fault(root: Path) -> None:
    rows = [("films/a.png", n % 30, n % 40, 0.2) for n in range(300)] + [("films/a.png", 31, n, 0.2) for n in range(25)]
    gaze = write_gaze(root / "p.csv", *rows)
    table = read_manifest(root, Path("images.csv"), gaze)
    assert table.excluded_points == {"fixations outside the image": 25}


def test_every_fault_of_a_table_is_collected_and_the_sound_rows_are_read(root: Path) -> None:
    write_image(root / "films" / "c.png", 9, 9)
    append(
        root / "images.csv",
        "films/none.png,1,train,1,1,CHF",
        "../x.png,1,train,1,1,CHF",
        "films/c.png,,train,1,1,CHF",
        "./films/b.jpg,1,train,1,1,CHF",
    )
    with collected_faults() as faults:
        table = read_manifest(
            root, Path("images.csv"), subject_column="who", split_column="part", label_columns=["ill", "fluid"]
        )
    assert [fault.rows for fault in faults] == [("row 5",), ("rows 3, 7",), ("row 4: no such file",), ("row 6",)]
    assert table.frame["sample_id"].tolist() == ["films/a.png"]
    np.testing.assert_array_equal(table.labels, [[1, np.nan]])
    assert dict(table.rows_read) == {"images.csv": 6}


def test_the_rows_read_are_told(root: Path) -> None:
    table = read_manifest(root, Path("images.csv"), Path("gaze.csv"), fixation_columns=VIEWERS)
    assert dict(table.rows_read) == {"images.csv": 2, "gaze.csv": 4}
    assert "leakage" in table.notes[0]


def test_every_fixation_that_is_left_out_is_counted_under_its_reason(root: Path) -> None:
    append(
        root / "gaze.csv",
        "films/z.png,v1,0,1,1,1",
        "films/a.png,v1,2,,1,1",
        "films/a.png,v1,3,1,nan,1",
        "films/a.png,v1,4,30,1,1",
        "films/a.png,v1,5,-0.1,1,1",
        "films/a.png,v1,6,1,1,0",
    )
    table = read_manifest(root, Path("images.csv"), Path("gaze.csv"), fixation_columns=VIEWERS)
    assert table.excluded == {}
    assert table.excluded_points == {
        "fixations of images not listed": 1,
        "fixations with a blank or NaN": 2,
        "fixations outside the image": 2,
        "fixations without a duration": 1,
    }
    assert len(table.fixations["films/a.png#v1"]) == 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("films/none.png,1,train,1,1,CHF", r"images\.csv: 1 image\(s\).*\n  - row 4: no such file"),
        ("images.csv,1,train,1,1,CHF", "row 4: not a readable image"),
        ("../outside.png,1,train,1,1,CHF", r"must be a path below.*\n  - row 4"),
        ("/etc/passwd,1,train,1,1,CHF", r"must be a path below.*\n  - row 4"),
        (",1,train,1,1,CHF", r"must be a path below.*\n  - row 4"),
        ("films/a.png,009,train,1,,CHF", "rows 2, 4 differ in who"),
        (
            "films/a b.png,1,train,2,,CHF",
            r"images\.csv: labels must be 1, 0, -1 or blank\..*label_columns:\n  - row 4, ill: 2",
        ),
        ("films/a b.png,1,train,yes,,CHF", "row 4, ill: 'yes'"),
        ("films/a b.png,1,dev,1,,CHF", r"part must be train.*\n  - row 4"),
        ("films/a b.png,,train,1,,CHF", r"blank who; fill it in:\n  - row 4"),
    ],
)
def test_a_wrong_row_is_named(root: Path, line: str, message: str) -> None:
    write_image(root / "films" / "a b.png", 5, 5)
    append(root / "images.csv", line)
    with pytest.raises(DataError, match=message):
        read_manifest(
            root, Path("images.csv"), subject_column="who", split_column="part", label_columns=["ill", "fluid"]
        )


def test_missing_images_can_be_dropped_and_counted(root: Path) -> None:
    (root / "films" / "a.png").write_bytes(b"")
    table = read_manifest(
        root, Path("images.csv"), Path("gaze.csv"), fixation_columns=VIEWERS, missing="drop", label_columns=["ill"]
    )
    assert table.frame["sample_id"].tolist() == ["films/b.jpg#v2"]
    np.testing.assert_array_equal(table.labels, [[0]])
    assert table.excluded == {"images missing or unreadable": 1}
    assert table.excluded_points == {"fixations of images not listed": 3}


@pytest.mark.parametrize("readers", ["separate", "merged"])
def test_all_fixations_or_all_images_may_be_left_out(root: Path, readers: Literal["separate", "merged"]) -> None:
    (root / "far.csv").write_text("image,viewer,order,x,y,seconds\nfilms/a.png,v1,0,-5,8,0.3\n")
    tables = Path("images.csv"), Path("far.csv")
    table = read_manifest(root, *tables, fixation_columns=VIEWERS, readers=readers)
    assert table.frame["sample_id"].tolist() == ["films/a.png", "films/b.jpg"]
    assert table.fixations == {}
    for name in ("a.png", "b.jpg"):
        (root / "films" / name).unlink()
    table = read_manifest(root, *tables, fixation_columns=VIEWERS, readers=readers, missing="drop")
    assert len(table.frame) == 0
    assert table.excluded == {"images missing or unreadable": 2}


def test_identical_rows_are_merged_and_counted(root: Path) -> None:
    append(root / "images.csv", "films/a.png,007,train,1,,CHF")
    table = read_manifest(root, Path("images.csv"), subject_column="who")
    assert len(table.frame) == 2
    assert table.excluded == {"repeated rows of the images": 1}


def test_an_unknown_class_is_refused_with_the_known_ones(root: Path) -> None:
    with pytest.raises(DataError, match=r"kind must be one of Normal, pneumonia.*\n  - row 2"):
        read_manifest(root, Path("images.csv"), class_column="kind", class_names=["Normal", "pneumonia"])


def test_several_spellings_of_one_image_are_refused(root: Path) -> None:
    append(
        root / "images.csv",
        "./films/a.png,1,train,1,,CHF",
        "films/../films/a.png,2,test,1,,CHF",
        "films/link.jpg,3,test,1,,CHF",
    )
    (root / "films" / "link.jpg").symlink_to(root / "films" / "b.jpg")
    with pytest.raises(DataError, match="the same image file in different ways") as caught:
        read_manifest(root, Path("images.csv"))
    assert caught.value.rows == ("rows 2, 4, 5", "rows 3, 6")


def test_fixations_may_spell_an_image_in_another_way(root: Path) -> None:
    (root / "gaze.csv").write_text((root / "gaze.csv").read_text().replace("films/a.png,v1,1", "./films/a.png,v1,1"))
    for images in (Path("images.csv"), None):
        table = read_manifest(root, images, Path("gaze.csv"), fixation_columns=VIEWERS)
        assert table.frame["image_id"].nunique() == 2
        assert sorted(len(reading) for reading in table.fixations.values()) == [1, 1, 2]
        assert table.excluded_points == {}


def test_readings_with_one_id_are_refused(root: Path) -> None:
    (root / "films" / "a.png#v1").write_bytes((root / "films" / "b.jpg").read_bytes())
    append(root / "images.csv", "films/a.png#v1,1,train,1,,CHF")
    with pytest.raises(DataError, match="same sample_id") as caught:
        read_manifest(root, Path("images.csv"), Path("gaze.csv"), fixation_columns=VIEWERS)
    assert caught.value.rows == ("images.csv row 2", "images.csv row 4")


def test_tables_that_name_images_differently_are_refused(root: Path) -> None:
    (root / "gaze.csv").write_text((root / "gaze.csv").read_text().replace("films/", ""))
    with pytest.raises(DataError, match=r"no image of this table is among the images\. Spell them alike"):
        read_manifest(root, Path("images.csv"), Path("gaze.csv"), fixation_columns=VIEWERS)


def test_contradicting_arguments_are_refused(root: Path) -> None:
    with pytest.raises(ValueError, match="give images_csv, fixations_csv, or both"):
        read_manifest(root)
    with pytest.raises(ValueError, match="not both"):
        read_manifest(root, Path("images.csv"), label_columns=["ill"], class_column="kind")
    with pytest.raises(ValueError, match="whole_pixels contradict"):
        FixationColumns(units="fraction", whole_pixels=True)
    with pytest.raises(ValueError, match="recorded_on contradict"):
        FixationColumns(units="fraction", recorded_on=(10, 10))
    with pytest.raises(ValueError, match=r"recorded_on must be \(height, width\)"):
        FixationColumns(recorded_on=(0, 10))
    with pytest.raises(ValueError, match="columns of images_csv"):
        read_manifest(root, None, Path("gaze.csv"), label_columns=["ill"])
    with pytest.raises(DataError, match=r"images\.csv: missing column\(s\): patient\. The file has: image, who"):
        read_manifest(root, Path("images.csv"), subject_column="patient")


@pytest.fixture
def open_data() -> Path:
    if not os.environ.get("GAZE_OPEN_DATA"):
        pytest.skip("GAZE_OPEN_DATA is not set")
    return Path(os.environ["GAZE_OPEN_DATA"])


OSIE = FixationColumns(duration="duration_s", order="order", reader="viewer")


def test_real_photographs_with_real_gaze_are_read(open_data: Path) -> None:
    root = open_data / "osie_gaze"
    table = read_manifest(root, None, Path("fixations.csv"), fixation_columns=OSIE, sigma_px=23.7)
    assert table.frame["image_id"].nunique() == 200
    assert len(table.frame) == table.frame["sample_id"].nunique()
    assert set(table.frame["height"]) == {600}
    assert set(table.frame["width"]) == {800}
    read = sum(len(reading) for reading in table.fixations.values())
    assert read + sum(table.excluded_points.values()) == 28_209
    assert read > 28_000
    merged = read_manifest(root, None, Path("fixations.csv"), fixation_columns=OSIE, readers="merged")
    assert len(merged.frame) == 200
    assert sum(len(reading) for reading in merged.fixations.values()) == read


def test_real_chest_films_with_labels_are_read(open_data: Path) -> None:
    table = read_manifest(
        open_data / "nih_cxr", Path("labels.csv"), subject_column="patient_id", label_columns=["pneumonia"]
    )
    assert len(table.frame) == 600
    assert table.frame["subject"].nunique() == 407
    assert table.labels is not None
    assert 0.4 < float(table.labels.mean()) < 0.6


def test_a_folder_lists_dicom_films_and_leaves_links_out_where_faults_are_collected(tmp_path: Path) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    for name in ("b.DCM", "a.png", "notes.txt"):
        (folder / name).write_bytes(b"x")
    (tmp_path / "outside.png").write_bytes(b"x")
    (folder / "c.png").symlink_to(tmp_path / "outside.png")
    with pytest.raises(DataError, match="links to places outside the folder"):
        read_folder(folder)
    with collected_faults() as faults:
        table = read_folder(folder)
    assert table.frame["sample_id"].tolist() == ["a.png", "b.DCM"]
    assert faults[0].rows == ("film 3 of 3, sorted by path",)


def test_a_blank_behind_a_patient_makes_no_second_patient(root: Path) -> None:
    write_image(root / "films" / "c.png", 40, 30)
    append(root / "images.csv", "films/c.png,007 ,train,1,,CHF")
    table = read_manifest(root, Path("images.csv"), subject_column="who", label_columns=["ill"])
    assert table.frame["subject"].tolist() == ["007", "008", "007"]


@pytest.mark.parametrize("spelt", ["7", "7.0", "0007"])
def test_patients_that_a_spreadsheet_may_have_made_two_are_refused(root: Path, spelt: str) -> None:
    write_image(root / "films" / "c.png", 40, 30)
    append(root / "images.csv", f"films/c.png,{spelt},train,1,,CHF")
    with pytest.raises(DataError, match="leading zeros") as caught:
        read_manifest(root, Path("images.csv"), subject_column="who", label_columns=["ill"])
    assert caught.value.rows == ("row 2", "row 4")
