"""Made-up gaze and a measure that is easy to follow, for the tests of relations."""

import numpy as np

from gaze_lightning.gaze import Fixations
from gaze_lightning.gaze.similarity import PreparedGaze
from gaze_lightning.gaze.similarity.gaze_similarity import GazeSimilarity
from gaze_lightning.protocols import TrainingGaze


def reading(points):
    x, y = np.asarray(points, dtype=float).reshape(-1, 2).T
    one = np.ones(len(x))
    return Fixations(x, y, one, 20 * one, 20 * one, np.arange(len(x)) / 2)


def made_up_gaze(n=30, seed=0, empty=(), multi=False, films=None):
    """``n`` readings around one of two places, which is their class."""
    generator = np.random.default_rng(seed)
    classes = generator.integers(0, 2, n)
    centres = np.where(classes[:, None] == 0, [300, 300], [700, 600])
    gaze = tuple(reading([] if i in empty else centres[i] + generator.normal(0, 60, (5, 2))) for i in range(n))
    labels = np.eye(2, dtype=np.float32)[classes] if multi else classes.astype(np.int64)
    ids = tuple(f"reading-{i:03d}" for i in range(n))
    films = np.arange(n) if films is None else np.asarray(films)
    return TrainingGaze(ids, gaze, (1024, 1024), films.astype(np.int64), labels)


def reordered(gaze, order):
    return gaze._replace(
        sample_ids=tuple(gaze.sample_ids[i] for i in order),
        gaze=tuple(gaze.gaze[i] for i in order),
        films=gaze.films[list(order)],
        labels=gaze.labels[list(order)],
    )


class Nearness(GazeSimilarity):
    """Similarity falls with the distance of the mean fixations."""

    parallel = True

    def __init__(self, reach: float = 200.0, mirror_invariant: bool = False):
        self.reach = reach
        self.mirror_invariant = mirror_invariant

    def prepare(self, gaze, frame):
        valid = np.array([len(one) > 0 for one in gaze], dtype=bool)
        points = np.array([(one.x.mean(), one.y.mean()) if len(one) else (0, 0) for one in gaze]).reshape(-1, 2)
        return NearnessOf(valid, points, self.reach)


class NearnessOf(PreparedGaze):
    fail_after: int | None = None
    """Raise at the block after so many, as a full disk or a kill would."""

    def __init__(self, valid, points, reach):
        super().__init__(valid)
        self.points, self.reach = points, reach
        self.asked = []

    def block(self, rows, columns):
        if self.fail_after is not None and len(self.asked) >= self.fail_after:
            raise RuntimeError("stopped in the middle")
        self.asked.append((rows, columns))
        distance = np.abs(self.points[rows, None] - self.points[None, columns]).sum(-1)
        values = np.exp(-distance / self.reach).astype(np.float32)
        values[~self.valid[rows]] = 0
        values[:, ~self.valid[columns]] = 0
        index = np.arange(len(self))
        values[index[rows, None] == index[None, columns]] = 1
        return values
