"""Whether EGD-CXR's film coordinates follow from its screen coordinates: an information, never a correction."""

import numpy as np
import numpy.typing as npt
import pandas as pd

SCREEN_COLUMNS = ("FPOGX", "FPOGY")
PAD_COLUMNS = ("image_top_pad", "image_bottom_pad", "image_left_pad", "image_right_pad")

_SCREEN_WIDTH = 1920
_SCREEN_LINES = (1080, 1024)


def screen_agreement(rows: pd.DataFrame, films: pd.DataFrame) -> str:
    """Recompute the film coordinates from the screen and say, in one line, in how many rows they agree within 1 px.

    The authors' mapping (``spec/datasets.md`` section 1) is ``x = columns / (1920 - left - right) * (1920 u - left)``,
    truncated, ``y`` alike. It assumes 1,080 lines, while the script that made the pads assumes 1,024: both are tried.
    They differ only where a film is padded above or below.

    Args:
        rows: gaze rows in use: ``FPOGX, FPOGY`` (fractions of the screen; may be absent), ``X_ORIGINAL, Y_ORIGINAL``
            (film pixels), ``sample`` (index into ``films``).
        films: ``height, width`` and the pads in screen pixels (`PAD_COLUMNS`; may be absent).
    """
    absent = [name for name in SCREEN_COLUMNS if name not in rows] + [name for name in PAD_COLUMNS if name not in films]
    if absent:
        return f"screen and film coordinates not compared: no {', '.join(absent)}"
    if rows.empty:
        return "screen and film coordinates not compared: no gaze"
    film = films.iloc[rows["sample"].to_numpy()]
    top, bottom, left, right = (film[name].to_numpy(dtype=np.float64) for name in PAD_COLUMNS)
    x = _to_film(rows["FPOGX"], _SCREEN_WIDTH, left, right, film["width"])
    near_x = np.abs(x - rows["X_ORIGINAL"].to_numpy()) <= 1  # false where a number is blank
    shares = []
    for lines in _SCREEN_LINES:
        y = _to_film(rows["FPOGY"], lines, top, bottom, film["height"])
        near = near_x & (np.abs(y - rows["Y_ORIGINAL"].to_numpy()) <= 1)
        shares.append(f"{100 * near.mean():.1f} % if the screen has {lines} lines")
    return f"screen and film coordinates agree within 1 px in {' and '.join(shares)} ({len(rows)} gaze rows)"


def _to_film(
    fraction: pd.Series, length: int, before: npt.NDArray[np.float64], after: npt.NDArray[np.float64], size: pd.Series
) -> npt.NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = size.to_numpy(dtype=np.float64) / (length - before - after)
        return np.asarray(np.trunc(scale * (fraction.to_numpy() * length - before)), dtype=np.float64)
