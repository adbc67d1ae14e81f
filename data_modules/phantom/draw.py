"""One phantom film from a class, the knobs and a random state."""

from typing import Literal

import numpy as np

from data_modules.phantom.bones import draw_bones
from data_modules.phantom.canvas import Plane, fill, noise
from data_modules.phantom.chest import Chest, sample_chest
from data_modules.phantom.devices import draw_devices
from data_modules.phantom.disease import (
    SEVERITY,
    Effusion,
    draw_failure,
    draw_pneumonia,
    effusion_mask,
    effusion_plane,
    failure_effusions,
)
from data_modules.phantom.distractors import draw_distractors, small_effusion
from data_modules.phantom.exposure import collimate, draw_letters, draw_tag, expose, tag_place
from data_modules.phantom.film import BoolMask, Film, Finding, PhantomClass
from data_modules.phantom.knobs import PhantomKnobs
from data_modules.phantom.places import chest_box, search_regions
from data_modules.phantom.soft import Anatomy, aerated, draw_anatomy, draw_soft
from data_modules.phantom.vessels import draw_vessels

_PARTS = (
    "chest",
    "anatomy",
    "soft",
    "bones",
    "vessels",
    "disease",
    "distractors",
    "devices",
    "exposure",
    "letters",
    "tag",
)
_TYPICAL = {"Normal": 1.0, "CHF": 0.46, "pneumonia": 3.2}  # strength of a finding of severity 1 - 1/e


def draw_film(
    diagnosis: PhantomClass, knobs: PhantomKnobs, rng: np.random.Generator, split: Literal["train", "validate", "test"]
) -> Film:
    """Draw one film.

    Every part of the film has its own random stream, seeded from ``rng``: the same state of ``rng`` gives the same
    patient, distractors and exposure whatever the diagnosis, so a diagnosis of contrast 0 equals the normal film.

    Args:
        diagnosis: class of the film.
        knobs: size, contrasts and shortcut.
        rng: source of all randomness; advanced by a fixed number of draws.
        split: on test films the shortcut tag stands at random.

    Returns:
        Film: image, masks, findings, search regions. Same state of ``rng``, same bytes.
    """
    seeds = rng.integers(0, 2**63, len(_PARTS))
    streams = {name: np.random.default_rng(int(seed)) for name, seed in zip(_PARTS, seeds, strict=True)}
    sick = streams["disease"]
    share = float(sick.uniform(*SEVERITY))
    contrast = {"Normal": 0.0, "CHF": knobs.chf_contrast, "pneumonia": knobs.pneumonia_contrast}[diagnosis]
    strength = contrast * share
    failure = strength if diagnosis == "CHF" else 0.0
    severity = float(1 - np.exp(-strength / _TYPICAL[diagnosis]))

    chest = sample_chest(knobs, streams["chest"], failure)
    anatomy = draw_anatomy(chest, streams["anatomy"])
    extras: dict[str, float] = {"view_ap": float(chest.view == "AP"), "landscape": float(chest.landscape)}
    extras["turn"] = chest.turn
    fluid, findings = _effusions(chest, anatomy, failure, severity, streams, extras)
    air = aerated(anatomy, fluid, chest.frame.unit)
    attenuation = draw_soft(chest, anatomy, air, streams["soft"], extras)
    attenuation += np.float32(0.10) * fluid
    _parenchyma(chest, anatomy, air, streams["vessels"], failure, attenuation)
    draw_bones(chest, streams["bones"], attenuation, anatomy)
    if diagnosis != "Normal":
        draw_signs = draw_failure if diagnosis == "CHF" else draw_pneumonia
        plane, signs = draw_signs(chest, anatomy, air, strength, severity, sick)
        attenuation += plane
        findings = signs + findings
    findings += draw_distractors(chest, anatomy, air, streams["distractors"], attenuation, extras)
    findings += draw_devices(chest, streams["devices"], anatomy.body, attenuation, extras)

    grey = expose(chest, attenuation, streams["exposure"])
    light, exposed = collimate(chest.frame, streams["letters"])
    if light is not None:
        grey *= light
    draw_letters(chest, grey, streams["letters"])
    place = tag_place(diagnosis, knobs.shortcut, split, streams["tag"])
    extras["tag_place"] = float(place)
    if place >= 0:
        draw_tag(grey, place)
    return Film(
        image=np.round(grey * np.float32(255)).astype(np.uint8),
        diagnosis=diagnosis,
        view=chest.view,
        anatomy=_masks(chest, anatomy),
        findings=_visible(findings, exposed),
        search_regions=search_regions(chest),
        chest_box=chest_box(chest),
        extras=extras,
    )


def _effusions(
    chest: Chest,
    anatomy: Anatomy,
    failure: float,
    severity: float,
    streams: dict[str, np.random.Generator],
    extras: dict[str, float],
) -> tuple[Plane, list[Finding]]:
    """Fluid of heart failure and of the distractor, and their findings."""
    fluid = np.zeros((chest.frame.height, chest.frame.width), np.float32)
    small = small_effusion(streams["distractors"])
    extras["small_effusion"] = float(small is not None)
    present: list[tuple[Effusion, float, bool]] = []
    for effusion in failure_effusions(failure, streams["disease"]):
        present.append((effusion, severity, True))
    if small is not None:
        present.append((small, 0.1 + 4 * small.height, False))
    findings: list[Finding] = []
    for effusion, how_sure, of_class in present:
        plane = effusion_plane(chest, anatomy, effusion)
        mask = effusion_mask(plane, anatomy)
        np.maximum(fluid, plane, out=fluid)
        if mask.any():
            findings.append(Finding("Pleural abnormality", mask, how_sure, of_class))
    return fluid, findings


def _parenchyma(
    chest: Chest, anatomy: Anatomy, air: Plane, rng: np.random.Generator, failure: float, attenuation: Plane
) -> None:
    """Vessels and lung texture, in place."""
    size = chest.frame.unit / 310
    shape = (chest.frame.height, chest.frame.width)
    vessels = draw_vessels(chest, rng, anatomy.inside, failure)
    grain = np.float32(0.010) * noise(rng, shape, 3.0 * size) + np.float32(0.012) * noise(rng, shape, 14 * size)
    attenuation += (np.float32(0.115) * vessels + grain) * np.clip(air * np.float32(1.5), 0, 1)


def _masks(chest: Chest, anatomy: Anatomy) -> dict[str, BoolMask]:
    """Anatomy masks under the names of EGD-CXR."""
    box = chest.frame.px(np.array([[-0.9, -0.02], [0.9, -0.02], [0.9, 1.6], [-0.9, 1.6]]))
    middle = (anatomy.cardiac > 127) & (anatomy.body > 127) & (fill(chest.frame.layer(), box) > 127)
    right, left = ((lung > 127) & ~middle for lung in anatomy.lungs)
    return {"left_lung": left, "right_lung": right, "mediastanum": middle, "aortic_knob": anatomy.knob > 127}


def _visible(findings: list[Finding], exposed: BoolMask | None) -> list[Finding]:
    """Findings cut to the exposed part of the film; one that lies wholly outside cannot be reported."""
    if exposed is None:
        return [finding for finding in findings if finding.mask.any()]
    cut = [Finding(f.label, f.mask & exposed, f.severity, f.of_class) for f in findings]
    return [finding for finding in cut if finding.mask.any()]
