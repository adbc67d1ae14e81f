"""The list of cases: who, which split, which class, read by whom. Drawn from the seed before any film is."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from data_modules.phantom.film import PhantomClass
from data_modules.phantom.knobs import PHANTOM_VERSION, PhantomKnobs

CLASSES: tuple[PhantomClass, ...] = ("Normal", "CHF", "pneumonia")
READERS = 5
"""Readers of the REFLACX format; EGD-CXR has one of its own."""

CALIBRATION_EVERY = 20
"""Films between two showings of the white-dot calibration picture in EGD-CXR."""

Split = Literal["train", "validate", "test"]


@dataclass(frozen=True)
class ReflacxReading:
    """One reading in the REFLACX format.

    Attributes:
        id: ``P<phase><trial:02>R<6 digits>``, ``P300R<6 digits>`` in phase 3; also the name of its folder.
        phase: 1, 2 or 3.
        reader: 1..5, not written anywhere, as in the original.
        discarded: its eye tracking was discarded: no gaze and no transcript, but ellipses and chest box.
    """

    id: str
    phase: int
    reader: int
    discarded: bool


@dataclass(frozen=True)
class Case:
    """One film before it is drawn.

    Attributes:
        index: 1.. in the order of the list; seeds the film.
        dicom_id: five groups of eight hex digits.
        subject_id: eight digits, starting with 1.
        study_id: eight digits, starting with 5.
        split: as in MIMIC-CXR, the same for all films of a patient.
        diagnosis: class of the film.
        sex: ``"F"`` or ``"M"``.
        age: years.
        missing_gaze: no reading of this film has usable gaze.
        session: number of the EGD-CXR recording session.
        media: position in that session, from 0; calibration pictures count.
        calibration: a calibration picture is shown before this film.
        readings: its readings in the REFLACX format.
    """

    index: int
    dicom_id: str
    subject_id: int
    study_id: int
    split: Split
    diagnosis: PhantomClass
    sex: str
    age: int
    missing_gaze: bool
    session: int
    media: int
    calibration: bool
    readings: tuple[ReflacxReading, ...]

    @property
    def folder(self) -> str:
        """``pXX/pXXXXXXXX/sXXXXXXXX``, where MIMIC-CXR keeps the study."""
        patient = f"p{self.subject_id}"
        return f"{patient[:3]}/{patient}/s{self.study_id}"

    def rng(self, seed: int) -> np.random.Generator:
        """The film's own source of randomness: the result does not depend on who draws it or when."""
        return np.random.default_rng([seed, PHANTOM_VERSION, self.index])


def plan_cases(knobs: PhantomKnobs) -> list[Case]:
    """Draw the list of cases.

    Every split holds its number of patients, a tenth of them with a second film. Classes are balanced within each split
    (first and second films alike, to within one film); the two films of a patient may differ in class.

    Args:
        knobs: numbers of patients, ``missing_gaze`` and ``seed`` are used.

    Returns:
        The cases in the order in which EGD-CXR's reader sees them.
    """
    rng = np.random.default_rng([knobs.seed, PHANTOM_VERSION])  # the same as index 0: films count from 1
    splits: list[tuple[Split, int]] = [
        ("train", knobs.n_train),
        ("validate", knobs.n_validate),
        ("test", knobs.n_test),
    ]
    patients = sum(n for _, n in splits)
    subjects = 10_000_000 + rng.choice(10_000_000, size=patients, replace=False)
    sexes = rng.choice(["F", "M"], size=patients)
    ages = np.clip(rng.normal(62, 15, size=patients), 20, 90).astype(int)
    slots: list[tuple[int, Split, PhantomClass]] = []
    first = 0
    for split, n in splits:
        second = first + rng.permutation(n)[: round(0.1 * n)]
        owners = np.concatenate([np.arange(first, first + n), second])
        classes = np.resize(np.arange(3), len(owners))
        classes = np.concatenate([rng.permutation(classes[:n]), rng.permutation(classes[n:])])
        slots += [(int(who), split, CLASSES[k]) for who, k in zip(owners, classes, strict=True)]
        first += n
    order = rng.permutation(len(slots))
    studies = 50_000_000 + rng.choice(10_000_000, size=len(slots), replace=False)
    missing = _exact_share(len(slots), knobs.missing_gaze, rng)
    readings = _plan_readings(len(slots), missing, rng)

    cases = []
    session, media, until = 1, 0, int(rng.integers(28, 45))
    for place, slot in enumerate(order):
        who, split, diagnosis = slots[slot]
        if place and until == 0:
            session, media, until = session + 1, 0, int(rng.integers(28, 45))
        until -= 1
        calibration = place % CALIBRATION_EVERY == 0
        media += calibration
        cases.append(
            Case(
                index=place + 1,
                dicom_id="-".join(f"{part:08x}" for part in rng.integers(2**32, size=5)),
                subject_id=int(subjects[who]),
                study_id=int(studies[place]),
                split=split,
                diagnosis=diagnosis,
                sex=str(sexes[who]),
                age=int(ages[who]),
                missing_gaze=bool(missing[place]),
                session=session,
                media=media,
                calibration=calibration,
                readings=readings[place],
            )
        )
        media += 1
    return cases


def _exact_share(n: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """Bool ``[n]`` with ``round(share * n)`` true entries, at least one where the share is not 0."""
    chosen = np.zeros(n, dtype=bool)
    number = max(round(share * n), 1 if share > 0 and n > 1 else 0)
    chosen[rng.permutation(n)[:number]] = True
    return chosen


def _plan_readings(n: int, missing: np.ndarray, rng: np.random.Generator) -> list[tuple[ReflacxReading, ...]]:
    """Who reads what: a few films by all readers (phases 1 and 2), the others once (phase 3)."""
    several = rng.permutation(np.flatnonzero(~missing))
    in_phase = {1: several[: min(6, n // 9)]}
    in_phase[2] = several[len(in_phase[1]) :][: min(5, n // 9)]
    phases = {int(film): (phase, trial + 1) for phase, films in in_phase.items() for trial, film in enumerate(films)}
    tails = iter(rng.choice(1_000_000, size=n + (READERS - 1) * len(phases), replace=False))
    result: list[tuple[ReflacxReading, ...]] = []
    for film in range(n):
        if film in phases:
            phase, trial = phases[film]
            spoilt = int(rng.integers(1, READERS + 1)) if trial == 1 or rng.random() < 0.1 else 0
            result.append(
                tuple(
                    ReflacxReading(f"P{phase}{trial:02d}R{next(tails):06d}", phase, reader, reader == spoilt)
                    for reader in range(1, READERS + 1)
                )
            )
        else:
            reader = int(rng.integers(1, READERS + 1))
            result.append((ReflacxReading(f"P300R{next(tails):06d}", 3, reader, bool(missing[film])),))
    return result
