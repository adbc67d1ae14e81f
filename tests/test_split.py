import numpy as np
import pandas as pd
import pytest

from data_modules.errors import DataError
from data_modules.readings import ReadingTable
from data_modules.split import SPLITS, assert_disjoint, assert_filled, assign_split, write_split


def make_table(subjects, labels=None, splits="", label_type="single", n_classes=3):
    n = len(subjects)
    frame = pd.DataFrame(
        {
            "sample_id": [f"s{i}" for i in range(n)],
            "image_id": [f"i{i}" for i in range(n)],
            "image_path": [f"/films/i{i}.png" for i in range(n)],
            "subject": subjects,
            "split": splits,
            "source_row": [f"table.csv row {i + 2}" for i in range(n)],
        }
    )
    labels = np.zeros(n, dtype=np.int64) if labels is None else labels
    return ReadingTable(frame, labels, tuple("abcdefgh"[:n_classes]), label_type, {})


def patients(n=300, seed=0):
    """Patients with one to three readings each, and classes."""
    generator = np.random.default_rng(seed)
    subjects = np.repeat([f"p{i:04d}" for i in range(n)], generator.integers(1, 4, n))
    of_subject = {subject: int(generator.integers(3)) for subject in set(subjects)}
    return subjects.tolist(), np.array([of_subject[subject] for subject in subjects])


def test_stratified_split_keeps_patients_together_and_classes_balanced():
    subjects, labels = patients()
    table = make_table(subjects, labels)
    parts = assign_split(table, "stratified")
    assert_disjoint(table.frame, parts)
    one_each = pd.DataFrame({"subject": subjects, "label": labels, "part": parts}).drop_duplicates("subject")
    shares = pd.crosstab(one_each["label"], one_each["part"], normalize="index")
    for part, share in zip(SPLITS, (0.7, 0.1, 0.2), strict=True):
        assert shares[part].to_numpy() == pytest.approx(share, abs=0.02)


def test_stratified_split_depends_on_the_seed_and_not_on_the_order_of_rows():
    subjects, labels = patients()
    parts = assign_split(make_table(subjects, labels), "stratified")
    order = np.random.default_rng(1).permutation(len(subjects))
    shuffled = assign_split(make_table([subjects[i] for i in order], labels[order]), "stratified")
    np.testing.assert_array_equal(shuffled, parts[order])
    assert (assign_split(make_table(subjects, labels), "stratified", seed=1) != parts).mean() > 0.2


def test_stratified_split_hardly_changes_when_a_patient_is_added():
    subjects, labels = patients()
    parts = assign_split(make_table(subjects, labels), "stratified")
    more = assign_split(make_table([*subjects, "p9999"], np.append(labels, 1)), "stratified")
    assert (more[:-1] != parts).sum() <= 6


def test_stratified_split_of_many_labels_spreads_the_rare_ones():
    generator = np.random.default_rng(0)
    labels = (generator.random((400, 4)) < [0.5, 0.3, 0.05, 0.5]).astype(np.float32)
    labels[generator.random(labels.shape) < 0.1] = np.nan
    parts = assign_split(
        make_table([f"p{i}" for i in range(400)], labels, label_type="multi", n_classes=4), "stratified"
    )
    rare = labels[:, 2] == 1
    assert (parts[rare] == "train").mean() == pytest.approx(0.7, abs=0.05)
    assert (parts[rare] == "test").mean() == pytest.approx(0.2, abs=0.05)


def test_official_split_is_taken_as_it_is():
    splits = ["train", "test", "validate"]
    assert assign_split(make_table(list("abc"), splits=splits), "official").tolist() == splits


def test_official_split_with_gaps_names_the_rows():
    with pytest.raises(DataError, match="1 readings have no official split") as error:
        assign_split(make_table(list("abc"), splits=["train", "", "test"]), "official")
    assert error.value.rows == ("table.csv row 3",)


def test_a_patient_in_two_parts_is_refused_without_naming_the_patient():
    table = make_table(["p10000001", "p10000002", "p10000001"])
    with pytest.raises(DataError, match="1 patients are in more than one part") as error:
        assert_disjoint(table.frame, np.array(["train", "train", "test"]))
    assert error.value.rows == ("table.csv row 2: train", "table.csv row 4: test")
    assert "10000001" not in str(error.value)


def test_a_film_in_two_parts_is_refused():
    frame = make_table(["a", "b"]).frame.assign(image_id="same")
    with pytest.raises(DataError, match="1 films"):
        assert_disjoint(frame, np.array(["train", "test"]))


def test_one_file_under_two_names_in_two_parts_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "b.png").symlink_to(tmp_path / "a.png")
    frame = make_table(["a", "b"]).frame.assign(image_path=[str(tmp_path / name) for name in ("a.png", "b.png")])
    with pytest.raises(DataError, match="1 films"):
        assert_disjoint(frame, np.array(["train", "test"]))


def test_an_empty_part_names_the_filter_that_removed_the_most():
    parts = np.array(["train", "test"])
    assert_filled(parts, ("train", "test"), {})
    with pytest.raises(DataError, match=r"validate.*the most: films missing on disk \(40 readings\)"):
        assert_filled(parts, ("train", "validate"), {"calibration": 3, "films missing on disk": 40})


@pytest.mark.parametrize("key", ["sample_id", "subject"])
def test_split_from_a_file_leaves_out_what_it_does_not_name(tmp_path, key):
    table = make_table(["01", "02", "03"])
    rows = pd.DataFrame({key: table.frame[key].iloc[[2, 0]], "split": ["test", "train"]})
    rows.to_csv(tmp_path / "my split.csv", index=False)
    parts = assign_split(table, "file", file=tmp_path / "my split.csv")
    assert parts.tolist() == ["train", "", "test"]


def test_a_written_split_gives_the_same_split_again(tmp_path):
    subjects, labels = patients(50)
    table = make_table(subjects, labels)
    parts = assign_split(table, "stratified")
    write_split(table.frame.assign(split=parts), tmp_path / "split.csv")
    np.testing.assert_array_equal(assign_split(table, "file", file=tmp_path / "split.csv"), parts)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("subject\na\n", "needs the columns"),
        ("subject,split\na,dev\n", r"must be one of train.*\n  - row 2: 'dev'"),
        ("subject,split\na,p10000001\n", r"row 2: 'p\*+'"),
        ("subject,split\na,train,1\n", "row 2: 3 cells"),
        ("10000001,split\na,train\n", r"it has \*+, split"),
        ("subject,split\nb,train\n", "no subject of this file is among the readings"),
        ("subject,split\na,train\na,test\n", "in more than one part"),
    ],
)
def test_faulty_split_files_are_refused(tmp_path, text, message):
    (tmp_path / "split.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        assign_split(make_table(["a"]), "file", file=tmp_path / "split.csv")


@pytest.mark.parametrize("file", [None, "absent.csv"])
def test_a_split_file_that_is_not_there_says_what_to_set(tmp_path, file):
    with pytest.raises(DataError, match="split_file"):
        assign_split(make_table(["a"]), "file", file=file and tmp_path / file)


def test_ids_of_a_split_file_that_match_no_reading_are_reported_by_row(tmp_path):
    (tmp_path / "split.csv").write_text("subject,split\n10000001,train\na,train\n10000002,test\n")
    with pytest.warns(
        UserWarning, match=r"2 subject\(s\) match no reading and are without effect: rows 2, 4\."
    ) as caught:
        parts = assign_split(make_table(["a"]), "file", file=tmp_path / "split.csv")
    assert parts.tolist() == ["train"]
    assert "1000000" not in str(caught[0].message)
