"""Whether films can be shown in two views."""

from data_modules.augmentation import Augmentation
from data_modules.errors import DataError


def refuse_equal_views(augmentation: Augmentation | None, moves_pixels: bool) -> None:
    """Refuse to show films in two views that could not differ, or that a task would have to move.

    Args:
        augmentation: of training films; None: none.
        moves_pixels: whether the data module moves them.

    Raises:
        DataError: saying what to change.
    """
    if augmentation is None or not augmentation.varies:
        raise DataError(
            "Two views of a film need an augmentation that varies, or both are the same: set "
            "data.init_args.augmentation, e.g. to contrastive."
        )
    if not moves_pixels:
        raise DataError(
            "Two views of a film cannot leave its geometry to the task: a sample has the affine of one view only. Use "
            "one of the two."
        )
