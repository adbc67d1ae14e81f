import re

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from callbacks.panel_parts import TRUE, save_png
from callbacks.relation_page import draw_relation_page
from gaze_lightning.gaze import Fixations
from gaze_lightning.gaze.similarity import RelationMatrix
from gaze_lightning.privacy import opaque_id
from gaze_lightning.protocols import TrainingGaze

NAMES = ("Normal", "CHF", "Pneumonia")


def made_up(n=24, threshold=0.8, labels="single", frame=(1024, 1024)):
    rng = np.random.default_rng(0)
    ids = tuple(f"patient-{i:03d}" for i in range(n))
    readings = []
    for i in range(n):
        k = 0 if i == 3 else 4 + i % 5
        x, y = rng.uniform(100, 900, (2, k))
        sigma = np.full(k, 40.0)
        readings.append(Fixations(x, y, rng.uniform(0.1, 1, k), sigma, sigma, np.arange(k) * 0.3))
    similarity = rng.random((n, n), dtype=np.float32)
    similarity = (similarity + similarity.T) / 2
    valid = np.arange(n) != 3
    relations = RelationMatrix.of(ids, valid, similarity, threshold)
    order = rng.permutation(n)  # not the relations' order
    label = np.arange(n) % 4 - 1
    if labels == "multi":
        label = (np.arange(n)[:, None] % (2, 3, 5) == 0).astype(np.float32)
        label[5:8] = np.nan
    gaze = TrainingGaze(
        tuple(ids[i] for i in order),
        tuple(readings[i] for i in order),
        frame,
        order // 2,
        None if labels is None else label[order],
    )
    return gaze, relations, dict(zip(ids, label, strict=True)), dict(zip(ids, np.arange(n) // 2, strict=True))


def panels(figure):
    """Per panel, in reading order: id below, title and colour above, remark; ids as opaque ones."""
    axes = [one for one in figure.axes if one.images]
    texts = [(text, *text.get_position()) for text in figure.texts]
    found = []
    for one in axes:
        box = one.get_position()
        near = [t for t, x, y in texts if abs(x - box.x0) < 1e-6 and 0 < y - box.y1 < 0.03]
        below = [t for t, x, y in texts if abs(x - box.x0) < 1e-6 and 0 < box.y0 - y < 0.03]
        right = [t for t, x, y in texts if abs(x - box.x1) < 1e-6 and 0 < box.y0 - y < 0.03]
        found.append((box, below[0].get_text(), near[0].get_text(), near[0].get_color(), right[0].get_text()))
    return found


@pytest.mark.parametrize("seed", [0, 1])
def test_rows_hold_an_anchor_its_most_similar_readings_and_an_unrelated_one(seed):
    gaze, relations, labels, films = made_up()
    figure = draw_relation_page(gaze, relations, anchors=3, partners=2, seed=seed, class_names=NAMES)
    name_of = {opaque_id(one): one for one in relations.ids}
    row_of = {one: i for i, one in enumerate(relations.ids)}
    rows = {}
    for box, below, title, colour, beside in panels(figure):
        rows.setdefault(round(box.y0, 4), []).append((box.x0, name_of[below], title, colour, beside))
    assert len(rows) == 3
    last = max(x for row in rows.values() for x, *_ in row)
    anchors = []
    for row in rows.values():
        (_, anchor, title, _, count), *others = sorted(row)
        anchors.append(anchor)
        i = row_of[anchor]
        entries = slice(relations.indptr[i], relations.indptr[i + 1])
        related = {
            relations.ids[j]: s for j, s in zip(relations.indices[entries], relations.scores[entries], strict=True)
        }
        assert title == NAMES[labels[anchor]]
        assert count == f"{len(related)} related"
        shown = [one for one in others if one[0] < last]
        assert [one[1] for one in shown] == sorted(related, key=related.get, reverse=True)[:2]
        for _, other, words, colour, beside in shown:
            known = [NAMES[labels[other]]] if labels[other] >= 0 else []
            assert words.split() == [f"{related[other]:.2f}", *known]
            assert (colour == TRUE) == (labels[other] == labels[anchor])
            assert beside == ("same film" if films[other] == films[anchor] else "")
        (unrelated,) = [one[1] for one in others if one[0] == last]
        assert unrelated not in related
        assert films[unrelated] != films[anchor]
        assert relations.valid[row_of[unrelated]]
    assert sorted(labels[anchor] for anchor in anchors) == [0, 1, 2]


def test_the_histogram_counts_every_reading_with_enough_gaze_and_the_summary_says_what_it_shows():
    gaze, relations, _, _ = made_up()
    figure = draw_relation_page(gaze, relations, 1, 1)
    (histogram,) = [axes for axes in figure.axes if not axes.images]
    degrees = relations.degrees[relations.valid]
    heights = {round(bar.get_x() + bar.get_width() / 2): bar.get_height() for bar in histogram.patches}
    assert heights == {d: int((degrees == d).sum()) for d in range(degrees.max() + 1)}
    words = [text.get_text() for text in figure.texts]
    said = {words[i]: words[i + 1] for i in range(len(words) - 1)}
    assert said["readings"] == "24"
    assert said["with enough gaze to compare"] == "23"
    assert said["related pairs"] == str(np.triu(relations.dense(), 1).sum())
    assert said["related readings: mean"] == f"{degrees.mean():.1f}"
    assert said["most"] == str(degrees.max())
    assert said["readings without any"] == f"{100 * np.mean(degrees == 0):.0f} %"
    assert said["similarity above"] == "0.8"


@pytest.mark.parametrize("labels", ["single", "multi", None])
def test_no_real_id_and_nothing_outside_the_page(labels, tmp_path):
    gaze, relations, _, _ = made_up(labels=labels)
    long = "a source with a long name: " + "synthetic phantom, not clinical evidence, " * 4
    for names in (NAMES, ()):
        figure = draw_relation_page(gaze, relations, 2, 2, note=long, class_names=names)
        assert not any("patient" in text.get_text() for text in figure.texts)
        box = figure.bbox
        for text in figure.texts:
            extent = text.get_window_extent()
            assert extent.x0 >= 0
            assert extent.x1 <= box.x1
            assert extent.y0 >= 0
            assert extent.y1 <= box.y1
        shown = any(re.search("Normal|CHF|Pneumonia", text.get_text()) for text in figure.texts)
        assert shown == (labels is not None and bool(names))
    save_png(figure, tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 10_000


def test_the_same_seed_draws_the_same_page_and_heat_maps_stand_on_the_frame(tmp_path):
    gaze, relations, _, _ = made_up(frame=(1024, 2048))
    for name in "ab":
        save_png(draw_relation_page(gaze, relations, anchors=1, partners=1, seed=3), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    figure = draw_relation_page(gaze, relations, anchors=1, partners=1, seed=3)
    axes = figure.axes[0]
    anchor = next(i for i, one in enumerate(gaze.sample_ids) if opaque_id(one) == panels(figure)[0][1])
    circles = axes.collections[0].get_offsets()
    fixations = gaze.gaze[anchor]
    np.testing.assert_allclose(circles, np.stack([fixations.x, fixations.y], 1) * 96 / 2048)
    assert axes.images[0].get_array().shape == (48, 96)
    assert axes.images[0].get_array().sum() == pytest.approx(1)
    assert axes.get_xlim() == (0, 96)
    assert axes.get_ylim() == (48, 0)
    assert to_rgba(axes.images[0].get_cmap()(0.0))[3] == 1  # no film lies below


def test_nothing_related_and_nothing_unrelated_are_drawn_as_they_are():
    gaze, relations, _, _ = made_up(threshold=1.0)
    figure = draw_relation_page(gaze, relations, class_names=NAMES)
    assert any("No reading is related" in text.get_text() for text in figure.texts)
    gaze, relations, _, _ = made_up(n=3, threshold=0.0)
    assert len(panels(draw_relation_page(gaze, relations, partners=4, class_names=NAMES))) == 2 * 3  # all related


def test_wrong_use_is_named():
    gaze, relations, _, _ = made_up()
    with pytest.raises(ValueError, match="anchors is 0"):
        draw_relation_page(gaze, relations, anchors=0)
    fewer = gaze._replace(sample_ids=gaze.sample_ids[1:], gaze=gaze.gaze[1:])
    with pytest.raises(ValueError, match="1 of the 24 related readings"):
        draw_relation_page(fewer, relations)
