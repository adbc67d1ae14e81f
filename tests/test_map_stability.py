"""The command ``maps`` and what it computes."""

import io
import json
import math

import cv2
import numpy as np
import pytest
import torch
from rich.console import Console
from scipy.ndimage import gaussian_filter

from callbacks.map_stability_page import draw_stability_page
from gaze_lightning.evaluation.map_run import MapRun
from gaze_lightning.evaluation.map_stability import MapStability, stability_table
from gaze_lightning.main import main

NOTE = "synthetic phantom, version 1: not clinical evidence"


def values(seed, size=(16, 14)):
    return gaussian_filter(np.random.default_rng(seed).random(size), 2).astype(np.float32)


def write(folder, array, cc=0.25, compared=None):
    attention = folder / "attention"
    attention.mkdir(parents=True)
    np.save(attention / "map.npy", array)
    np.save(attention / "compared.npy", np.ones(array.shape, bool) if compared is None else compared)
    gaze = None if cc is None else {"cc": cc, "kl": 1.0}
    (attention / "comparison.json").write_text(json.dumps({"data": NOTE, "mean_gaze": gaze}))


def run(array, cc=0.25, name="a", compared=None):
    compared = np.ones(array.shape, bool) if compared is None else compared
    return MapRun(name, torch.from_numpy(array), torch.from_numpy(compared), cc, NOTE)


def test_correlations_equal_numpys_over_the_pixels_that_all_runs_compare():
    arrays = [values(seed) for seed in range(3)]
    masks = [np.ones((16, 14), bool) for _ in arrays]
    masks[0][:3], masks[2][:, 12:] = False, False
    stability = MapStability.of([run(a, compared=m) for a, m in zip(arrays, masks, strict=True)])
    both = masks[0] & masks[2]
    assert np.array_equal(stability.compared.numpy(), both)
    inside = [a[both].astype(np.float64) for a in arrays]
    matrix = np.corrcoef(inside)
    assert stability.pairs == pytest.approx((matrix[0, 1], matrix[0, 2], matrix[1, 2]))
    others = [(inside[1] + inside[2]) / 2, (inside[0] + inside[2]) / 2, (inside[0] + inside[1]) / 2]
    assert stability.with_others == pytest.approx(
        [np.corrcoef(a, mean)[0, 1] for a, mean in zip(inside, others, strict=True)]
    )
    assert stability.sd == pytest.approx([a.std() for a in inside])


def test_the_same_map_in_all_runs_is_perfectly_stable_whatever_its_scale():
    stability = MapStability.of([run(values(0)), run(2 + 3 * values(0))])
    assert stability.pairs == pytest.approx((1,))


@pytest.mark.parametrize("n", [1, 2])
def test_with_fewer_than_two_other_runs_only_the_pairs_count(n):
    stability = MapStability.of([run(values(seed)) for seed in range(n)])
    assert all(map(math.isnan, stability.with_others))
    titles = [axes.get_title() for axes in draw_stability_page({"a": stability}, note="").axes]
    assert titles == [f"run {i + 1}" for i in range(n)]


def test_a_run_unlike_the_others_is_seen():
    odd = MapStability.of([run(values(0)), run(values(0)), run(1 - values(0))])
    assert odd.with_others[2] == pytest.approx(-1)
    titles = [axes.get_title() for axes in draw_stability_page({"a": odd}, note="").axes]
    assert titles[2] == "run 3   CC \N{MINUS SIGN}1.00"


def printed(arms):
    console = Console(file=io.StringIO(), width=80)
    console.print(stability_table(arms))
    return console.file.getvalue()


def test_the_table_shows_mean_lowest_and_highest_and_says_what_is_missing():
    three = MapStability.of([run(values(seed), cc) for seed, cc in ((0, 0.1), (1, 0.3), (2, math.nan))])
    constant = np.full((16, 14), 0.5, np.float32)
    text = printed(
        {
            "three": three,
            "one": MapStability.of([run(values(0), math.nan)]),
            "even": MapStability.of([run(constant), run(constant)]),
            "partly": MapStability.of([run(constant), run(values(0)), run(values(0))]),
        }
    )
    rows = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in text.splitlines()[1:-1]
    }
    low, high = min(three.pairs), max(three.pairs)
    assert rows["three"][:3] == ["3", f"{sum(three.pairs) / 3:.3f}", f"{low:.3f} to {high:.3f}"]
    assert rows["three"][4] == "0.200 (of 2)"
    assert rows["one"][1:3] == ["n/a", "needs two runs"]
    assert rows["one"][4] == "n/a"
    assert rows["even"][1:3] == ["n/a", "constant maps"]
    assert rows["partly"][1:3] == ["1.000 (of 1)", "1.000 to 1.000"]


def test_maps_of_different_sizes_in_one_arm_are_named():
    with pytest.raises(ValueError, match=r"first 16 x 14, second 8 x 8"):
        MapStability.of([run(values(0), name="first"), run(values(0, (8, 8)), name="second")])


def test_runs_without_a_common_pixel_are_refused():
    left = np.zeros((16, 14), bool)
    left[:, :7] = True
    with pytest.raises(ValueError, match="no pixel"):
        MapStability.of([run(values(0), compared=left), run(values(1), compared=~left)])


def test_texts_of_the_page_do_not_leave_it_or_overlap():
    long = "anchors with the positions of their pixels permuted, seed by seed"
    arms = {long: MapStability.of([run(values(0))]), "b": MapStability.of([run(values(s, (9, 20))) for s in range(4)])}
    for shown in (arms, {long: arms[long]}):
        figure = draw_stability_page(shown, note=f"{NOTE}; {NOTE}")
        figure.canvas.draw()
        renderer = figure.canvas.get_renderer()
        texts = [axes.title for axes in figure.axes] + list(figure.texts)
        boxes = [text.get_window_extent(renderer) for text in texts]
        page = figure.bbox
        assert all(page.x0 <= b.x0 and b.x1 <= page.x1 and page.y0 <= b.y0 and b.y1 <= page.y1 for b in boxes)
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])


def test_the_command_prints_the_table_and_writes_the_page_beside_the_runs(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed in range(2):
        write(tmp_path / f"runs/anchors/{seed}", values(seed))
        write(tmp_path / f"runs/free/{seed}", values(9), cc=None)
    (tmp_path / "runs/anchors/unfinished").mkdir()
    main(["maps", "anchors=runs/anchors/*", "free=runs/free/*"])
    said = capsys.readouterr().out
    assert NOTE in said
    assert "| anchors |    2 |" in said
    assert "Left out: 1 folder without a tested global map." in said
    assert "Picture: runs/maps.png" in said
    assert cv2.imread("runs/maps.png").std() > 0
    main(["maps", "anchors=runs/anchors/*", "--out", "elsewhere/page.png"])
    assert cv2.imread("elsewhere/page.png").std() > 0


@pytest.mark.parametrize(
    ("arms", "words"),
    [
        (["runs/anchors/*"], "write NAME=PATTERN"),
        (["a=runs/nothing/*"], "no tested run with a global map in: a"),
        (["a=runs/anchors/*", "a=runs/anchors/*"], "two arms are called 'a'"),
        (["a=runs/*/*"], "a: maps of different sizes cannot be compared: 0 16 x 14, 1 8 x 8"),
        (["a=runs/old/*"], "no compared.npy and no comparison.json"),
    ],
)
def test_what_cannot_be_compared_ends_with_status_two_and_the_remedy(tmp_path, capsys, monkeypatch, arms, words):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "runs/anchors/0", values(0))
    write(tmp_path / "runs/free/1", values(0, (8, 8)))
    old = tmp_path / "runs/old/2/attention"
    if "old" in arms[0]:
        old.mkdir(parents=True)
        np.save(old / "map.npy", values(0))
    with pytest.raises(SystemExit) as stopped:
        main(["maps", *arms])
    assert stopped.value.code == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_usage_names_the_command(capsys):
    main(["--help"])
    assert "\n  maps " in capsys.readouterr().out
