"""Relations of the training readings: found under their name, or built there."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gaze_lightning.errors import ConfigurationError
from gaze_lightning.evaluation.files import replacing
from gaze_lightning.gaze import similarity
from gaze_lightning.gaze.similarity import RelationMatrix
from gaze_lightning.gaze.similarity.gaze_similarity import GazeSimilarity
from gaze_lightning.protocols import TrainingGaze
from gaze_lightning.relations.artefact import Artefact, is_artefact, load_artefact, save_artefact
from gaze_lightning.relations.digest import (
    basis_digest,
    gaze_digest,
    in_order_of_ids,
    measure_digest,
    measure_digest_of,
    relation_digest,
)
from gaze_lightning.relations.lock import building
from gaze_lightning.relations.scores import Scores, opened_scores, opened_valid, similarity_scores
from gaze_lightning.relations.statistics import RelationStatistics
from gaze_lightning.relations.thresholds import Threshold, number_of_pairs

_SCORES, _VALID = "similarity.npy", "valid.npy"


def open_artefact(
    gaze: TrainingGaze,
    measure: GazeSimilarity | None,
    tau: float | None,
    positive_rate: float | None,
    folder: Path,
    file: Path | None = None,
    jobs: int = 0,
    progress: bool = True,
) -> Artefact:
    """Load the relations of these readings, and build them first where they are not there.

    They lie in ``<folder>/<measure>-<digest>-<digest of the gaze>/<threshold>``, so whatever changes the relations
    changes the name. The similarities of all pairs lie beside the thresholds: a second one takes seconds. The rows are
    sorted by id and do not depend on the order of the readings. Pairs of readings of one film are in none of it: they
    are positives anyway.

    Args:
        gaze: the training readings.
        measure: of similarity; with ``file``, None: whichever it has.
        tau: similarity above which a pair is related.
        positive_rate: or the share of pairs that are; exactly one of the two, with ``file`` at most one.
        folder: in which relations are looked for and built.
        file: folder of relations that were built before (or a file in it): only these, or an error.
        jobs: number of threads; 0: one per core.
        progress: whether the building shows how far it has come.

    Raises:
        ConfigurationError: not exactly one threshold; the measure compares scan paths and the readings are none; fewer
            than two films can be compared; ``file`` is of other readings, gaze, measure or threshold; the folder or its
            files cannot be used.
        ValueError: the readings' ids are not distinct.
    """
    gaze = in_order_of_ids(gaze)
    digest = gaze_digest(gaze)
    if measure is not None:
        _refuse_maps(gaze, type(measure).__name__, measure.needs_scan_paths)
    if file is not None:
        given = _given(file, gaze, digest, measure, tau, positive_rate)
        needs = getattr(getattr(similarity, given.measure, None), "needs_scan_paths", False)
        _refuse_maps(gaze, given.measure, bool(needs))
        return _with_statistics(given, gaze)
    asked = Threshold(tau, positive_rate)
    if measure is None:
        raise ConfigurationError(
            "Relations need a measure of gaze similarity, e.g. MapCC, or a file that has been built"
        )
    place = folder / f"{type(measure).__name__}-{measure_digest(measure)}-{digest}"
    target = place / asked.name
    if not is_artefact(target):
        with building(folder / f".{place.name}.lock"):
            if not is_artefact(target):  # another process may have built it meanwhile
                _build(gaze, digest, measure, asked, target, jobs, progress)
    return _with_statistics(load_artefact(target, digest), gaze)


def _build(
    gaze: TrainingGaze, digest: str, measure: GazeSimilarity, asked: Threshold, target: Path, jobs: int, progress: bool
) -> None:
    scores, valid = _scores(gaze, measure, target.parent, jobs, progress)
    threshold = asked.of(scores, valid, gaze.films)
    name = relation_digest(digest, measure_digest(measure), threshold)
    relations = RelationMatrix.of(gaze.sample_ids, valid, scores, threshold, name, gaze.films)
    statistics = RelationStatistics.of(relations, asked, scores, gaze.films, gaze.labels)
    save_artefact(
        Artefact(
            relations=relations,
            measure=type(measure).__name__,
            parameters=measure.parameters,
            version=measure.version,
            asked=asked,
            gaze=digest,
            statistics=statistics,
            folder=target,
        )
    )


def _refuse_maps(gaze: TrainingGaze, measure: str, needs_scan_paths: bool) -> None:
    """Readers joined end to end are no scan path: the saccade from one to the next is nobody's.

    Raises:
        ConfigurationError: the measure compares scan paths, and the readings are none.
    """
    if needs_scan_paths and not gaze.scan_paths:
        raise ConfigurationError(
            f"{measure} compares scan paths, and the gaze of these readings is none: several readers of a film are "
            "joined, or the points are cells of a mean map. Set data.init_args.readers=separate, or one source in "
            "data.init_args.gaze_sources, or data.init_args.gaze_source=own, whichever applies; or compare maps "
            "(measure MapCC)."
        )


def _scores(
    gaze: TrainingGaze, measure: GazeSimilarity, place: Path, jobs: int, progress: bool
) -> tuple[Scores, npt.NDArray[np.bool_]]:
    """Similarities of all pairs and validity: those on disk, or new ones."""
    if (place / _SCORES).is_file() and (place / _VALID).is_file():
        n = len(gaze.sample_ids)
        return opened_scores(place / _SCORES, n), opened_valid(place / _VALID, n)
    prepared = measure.prepare(gaze.gaze, gaze.frame)
    if (enough := int(prepared.valid.sum())) < 2:
        raise ConfigurationError(
            f"{enough} of {len(prepared)} training readings have gaze enough for {type(measure).__name__}; relations "
            "need two. Train without them (positives: none), or choose data or a measure that suit each other."
        )
    if number_of_pairs(prepared.valid, gaze.films) == 0:
        raise ConfigurationError(
            f"The {enough} training readings with gaze enough for {type(measure).__name__} are all of one film; "
            "relations need two. Train without them (positives: none), or choose other data."
        )
    with replacing(place / _VALID) as temporary, temporary.open("wb") as file:
        np.save(file, prepared.valid, allow_pickle=False)
    what = f"Comparing gaze ({type(measure).__name__})"
    scores = similarity_scores(
        prepared, place / _SCORES, parallel=measure.parallel, jobs=jobs, what=what, progress=progress
    )
    return scores, prepared.valid


def _given(
    file: Path,
    gaze: TrainingGaze,
    digest: str,
    measure: GazeSimilarity | None,
    tau: float | None,
    positive_rate: float | None,
) -> Artefact:
    artefact = load_artefact(file)
    missing = len(set(gaze.sample_ids) - set(artefact.relations.ids))
    unknown = len(set(artefact.relations.ids) - set(gaze.sample_ids))
    if missing or unknown:
        raise ConfigurationError(
            f"The relations in {artefact.folder} are of other readings: {missing} of {len(gaze.sample_ids)} training "
            f"readings with gaze are not in them, and {unknown} of their {len(artefact.relations)} are not among the "
            "training readings (another split, or other data). Leave file out, and they are built from these data."
        )
    load_artefact(file, digest)
    wrong = []
    if measure is not None and measure_digest(measure) != measure_digest_of(
        artefact.measure, artefact.parameters, artefact.version
    ):
        wrong.append(
            f"measure {artefact.description} version {artefact.version}, not {type(measure).__name__} with "
            f"{measure.parameters} version {measure.version}"
        )
    if (tau, positive_rate) not in ((None, None), (artefact.asked.tau, artefact.asked.positive_rate)):
        given = Threshold(tau, positive_rate)
        wrong.append(f"threshold {artefact.asked.name}, not {given.name}")
    if wrong:
        raise ConfigurationError(
            f"The relations in {artefact.folder} have {' and '.join(wrong)}: leave file out, or give its own values "
            "(or null) for measure, tau and positive_rate"
        )
    return artefact


def _with_statistics(artefact: Artefact, gaze: TrainingGaze) -> Artefact:
    """The statistics of these films and labels, also where those were others when the relations were built.

    Statistics of an older version, which counted less, are counted again as well.
    """
    if artefact.statistics.basis == basis_digest(gaze.films, gaze.labels):
        return artefact
    path = artefact.folder.parent / _SCORES
    scores = opened_scores(path, len(artefact.relations)) if path.is_file() else None
    statistics = RelationStatistics.of(artefact.relations, artefact.asked, scores, gaze.films, gaze.labels)
    return replace(artefact, statistics=statistics)
