"""The phantom's films: determinism, masks, and no way around the lesion to the class."""

from dataclasses import replace
from typing import Literal, get_args

import cv2
import numpy as np
import pytest

from data_modules.phantom.draw import draw_film
from data_modules.phantom.exposure import tag_place
from data_modules.phantom.film import Film, PhantomClass
from data_modules.phantom.knobs import PhantomKnobs

CLASSES: tuple[PhantomClass, ...] = get_args(PhantomClass)
SMALL = PhantomKnobs(height=180, width=150)
PHASE_LABELS = {
    "CHF": {"Enlarged cardiac silhouette", "Pulmonary edema", "Pleural abnormality"},
    "pneumonia": {"Consolidation", "Groundglass opacity"},
    "Normal": set(),
}
DISTRACTORS = {"Lung nodule or mass", "Atelectasis", "Pleural abnormality", "Support devices"}


def film_of(
    diagnosis: PhantomClass, seed: int, knobs: PhantomKnobs = SMALL, split: Literal["train", "test"] = "train"
) -> Film:
    return draw_film(diagnosis, knobs, np.random.default_rng(seed), split)


@pytest.fixture(scope="module")
def films() -> list[Film]:
    return [film_of(CLASSES[seed % 3], seed) for seed in range(60)]


@pytest.mark.parametrize("diagnosis", CLASSES)
def test_same_state_gives_the_same_bytes(diagnosis: PhantomClass) -> None:
    rng = np.random.default_rng(5)
    rng.random(3)
    state = rng.bit_generator.state
    first, after = draw_film(diagnosis, SMALL, rng, "train"), rng.bit_generator.state
    other = np.random.default_rng(0)
    other.bit_generator.state = state
    again = draw_film(diagnosis, SMALL, other, "train")
    assert first.image.tobytes() == again.image.tobytes()
    assert [f.mask.tobytes() for f in first.findings] == [f.mask.tobytes() for f in again.findings]
    assert first.search_regions == again.search_regions
    assert other.bit_generator.state == after
    assert first.image.tobytes() != draw_film(diagnosis, SMALL, rng, "train").image.tobytes()


def test_film_has_the_promised_parts(films: list[Film]) -> None:
    for film in films:
        shape = film.image.shape
        assert film.image.dtype == np.uint8
        assert set(film.anatomy) == {"left_lung", "right_lung", "mediastanum", "aortic_knob"}
        for mask in film.anatomy.values():
            assert mask.shape == shape
            assert mask.dtype == np.bool_
            assert mask.any()
        columns = {name: np.nonzero(mask)[1].mean() for name, mask in film.anatomy.items()}
        assert columns["right_lung"] < columns["mediastanum"] < columns["left_lung"]
        assert 12 <= len(film.search_regions) <= 18
        for x, y in film.search_regions.values():
            assert 0 <= x < shape[1]
            assert 0 <= y < shape[0]
        x1, y1, x2, y2 = film.chest_box
        assert 0 <= x1 < x2 <= shape[1]
        assert 0 <= y1 < y2 <= shape[0]
        lungs = film.anatomy["left_lung"] | film.anatomy["right_lung"]
        assert film.image[lungs].mean() < film.image[film.anatomy["mediastanum"]].mean()  # air is dark


def test_findings_fit_the_class_and_lie_in_the_chest(films: list[Film]) -> None:
    for film in films:
        lungs = film.anatomy["left_lung"] | film.anatomy["right_lung"] | film.anatomy["mediastanum"]
        chest = cv2.dilate(lungs.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
        own = {finding.label for finding in film.findings if finding.of_class}
        assert own <= PHASE_LABELS[film.diagnosis]
        assert bool(own) == (film.diagnosis != "Normal")
        assert {finding.label for finding in film.findings if not finding.of_class} <= DISTRACTORS
        for finding in film.findings:
            assert finding.mask.shape == film.image.shape
            assert finding.mask.any()
            assert 0 <= finding.severity <= 1
            if finding.label != "Support devices":
                assert chest[finding.mask].all()


@pytest.mark.parametrize("diagnosis", ["CHF", "pneumonia"])
def test_contrast_zero_equals_the_normal_film(diagnosis: PhantomClass) -> None:
    for seed in range(6):
        knobs = replace(SMALL, chf_contrast=0.0, pneumonia_contrast=0.0)
        assert np.array_equal(film_of(diagnosis, seed, knobs).image, film_of("Normal", seed, knobs).image)


def test_pneumonia_changes_its_mask_and_grows_with_the_contrast() -> None:
    inside, outside = [], []
    for contrast in (0.8, 1.6, 3.2):
        changes = []
        for seed in range(8):
            film = film_of("pneumonia", seed, replace(SMALL, pneumonia_contrast=contrast))
            change = film.image.astype(int) - film_of("Normal", seed).image.astype(int)
            lesion = next(f.mask for f in film.findings if f.of_class)
            changes.append((change[lesion].mean(), np.abs(change[~lesion]).mean()))
        inside.append(np.mean([c[0] for c in changes]))
        outside.append(np.mean([c[1] for c in changes]))
    assert 0 < inside[0] < inside[1] < inside[2]
    assert all(i > 8 * o for i, o in zip(inside, outside, strict=True))


def test_failure_widens_the_heart_with_the_contrast() -> None:
    widths = []
    for contrast in (0.0, 0.5, 1.0):
        knobs = replace(SMALL, chf_contrast=contrast)
        films = [film_of("CHF", seed, knobs) for seed in range(8)]
        widths.append(np.mean([film.anatomy["mediastanum"].sum() / film.anatomy["mediastanum"].size for film in films]))
    assert widths[0] < widths[1] < widths[2]


def _auroc(score: np.ndarray, label: np.ndarray) -> float:
    difference = score[label == 1][:, None] - score[label == 0][None, :]
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())


def _held_out_scores(features: np.ndarray, label: np.ndarray, folds: int = 5) -> np.ndarray:
    """Ridge logistic regression by Newton steps, scored on the fold left out."""
    scores = np.zeros(len(label))
    for fold in range(folds):
        test = np.arange(len(label)) // 2 % folds == fold
        centre, spread = features[~test].mean(0), features[~test].std(0) + 1e-9
        x = np.c_[(features - centre) / spread, np.ones(len(label))]
        weight = np.zeros(x.shape[1])
        for _ in range(15):
            p = 1 / (1 + np.exp(-x[~test] @ weight))
            hessian = (x[~test] * (p * (1 - p))[:, None]).T @ x[~test] + 2.0 * np.eye(x.shape[1])
            weight -= np.linalg.solve(hessian, x[~test].T @ (p - label[~test]) + 2.0 * weight)
        scores[test] = x[test] @ weight
    return scores


def _statistics(film: Film) -> list[float]:
    h, w = film.image.shape
    distractors = [sum(f.label == label and not f.of_class for f in film.findings) for label in sorted(DISTRACTORS)]
    return [h, w, float(film.image.mean()), *distractors, *(film.extras[name] for name in sorted(film.extras))]


def test_pneumonia_cannot_be_read_from_size_grey_value_or_distractors() -> None:
    tiny = PhantomKnobs(height=120, width=100)
    label = np.arange(160) % 2
    films = [film_of("pneumonia" if y else "Normal", 9000 + i, tiny) for i, y in enumerate(label)]
    features = np.array([_statistics(film) for film in films])
    assert 0.36 < _auroc(_held_out_scores(features, label), label) < 0.64  # standard error about 0.04
    leak = np.c_[features, label + 0.3 * np.random.default_rng(0).normal(size=len(label))]
    assert _auroc(_held_out_scores(leak, label), label) > 0.9  # the probe finds what is there


def test_tag_codes_the_class_as_often_as_the_knob_says() -> None:
    rng = np.random.default_rng(0)
    true = np.arange(3000) % 3
    for split, share in (("train", 0.7 + 0.3 / 3), ("validate", 0.7 + 0.3 / 3), ("test", 1 / 3)):
        places = np.array([tag_place(CLASSES[i], 0.7, split, rng) for i in true])
        assert abs(np.mean(places == true) - share) < 0.03
        assert set(places) == {0, 1, 2}
    assert {tag_place(CLASSES[i], 0.0, "train", rng) for i in true} == {-1}


def test_tag_of_a_drawn_film_follows_the_split() -> None:
    knobs = replace(SMALL, shortcut=1.0)
    assert [film_of(name, 3, knobs).extras["tag_place"] for name in CLASSES] == [0, 1, 2]
    assert len({film_of(name, 3, knobs, "test").extras["tag_place"] for name in CLASSES}) == 1  # the random state's


def test_tag_is_a_bright_patch_at_the_lower_edge() -> None:
    seen = set()
    for seed in range(8):
        tagged, plain = film_of("Normal", seed, replace(SMALL, shortcut=1.0), "test"), film_of("Normal", seed)
        h, w = plain.image.shape
        rows, columns = np.nonzero(tagged.image != plain.image)
        assert rows.min() > 0.94 * h
        assert len(rows) <= 1.2 * 0.05 * w * 0.031 * h + 8
        assert (tagged.image[rows, columns] == 255).all()
        place = int(tagged.extras["tag_place"])
        assert abs(columns.mean() / w - (0.055, 0.5, 0.945)[place]) < 0.03
        seen.add(place)
    assert len(seen) > 1


def test_sizes_vary_and_some_films_are_landscape(films: list[Film]) -> None:
    shapes = {film.image.shape for film in films}
    assert len(shapes) > 15
    assert 0 < np.mean([film.image.shape[1] > film.image.shape[0] for film in films]) < 0.25
    assert {film.view for film in films} == {"AP", "PA"}
