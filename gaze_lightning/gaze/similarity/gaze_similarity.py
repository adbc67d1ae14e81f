"""Measures of how alike the gaze on two films is."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence

from gaze_lightning.gaze.fixations import Fixations
from gaze_lightning.gaze.similarity.prepared_gaze import PreparedGaze


class GazeSimilarity(ABC):
    """Compares readings pairwise.

    Attributes:
        mirror_invariant: Whether mirroring one film alone, with its gaze, leaves all similarities unchanged.
        parallel: Whether blocks gain from several threads; else each block is a matrix product, which has its own.
        needs_scan_paths: Whether readings must be rows of fixations in order of time; else a map's points do as well.
        version: Of the measure's definition: raised by whoever changes what it computes. What was computed with another
            one is not used any more; a new release of the package alone changes nothing.
    """

    mirror_invariant: bool = False
    parallel: bool = False
    needs_scan_paths: bool = False
    version: int = 1

    @property
    def parameters(self) -> dict[str, object]:
        """All arguments of the constructor as plain JSON values: with the class's name they identify the measure."""
        values = {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @abstractmethod
    def prepare(self, gaze: Sequence[Fixations], frame: tuple[int, int]) -> PreparedGaze:
        """Do once per reading what does not depend on the other one.

        Args:
            gaze: ``N`` readings in pixels of the common frame; empty and short ones become invalid.
            frame: Height and width of the frame in pixels.

        Raises:
            ValueError: If the frame has no area.
        """


def check_frame(frame: tuple[int, int]) -> None:
    """Refuse a frame without area.

    Raises:
        ValueError: If a side is not positive.
    """
    if len(frame) != 2 or min(frame) <= 0:
        raise ValueError(f"the common frame must have a positive height and width, got {frame}")
