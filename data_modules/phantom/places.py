"""Places that a systematic reading of a chest film visits."""

import numpy as np

from data_modules.phantom.chest import Chest


def search_regions(chest: Chest) -> dict[str, tuple[float, float]]:
    """Name -> (x, y) in film pixels, inside the film. "left" and "right" are the patient's."""
    frame = chest.frame
    places: dict[str, tuple[float, float]] = {
        "aortic_knob": (float(chest.knob[:, 0].max()), 0.25),
        "carina": (0.0, 0.34),
        "heart": (float(chest.heart[:, 0].mean()), float(chest.heart[:, 1].mean())),
        "spine": (0.0, 0.60),
    }
    for side, name in ((0, "right"), (1, "left")):
        sign = 1.0 if side else -1.0
        dome = float(chest.domes[side][1])
        u, v = chest.hila[side].tolist()
        places[f"{name}_apex"] = (sign * 0.19, 0.07)
        places[f"{name}_upper_lung"] = (sign * 0.28, 0.27 * dome / 0.88)
        places[f"{name}_middle_lung"] = (sign * 0.30, 0.52 * dome / 0.88)
        places[f"{name}_lower_lung"] = (sign * 0.31, 0.76 * dome / 0.88)
        places[f"{name}_hilum"] = (u + sign * 0.02, v)
        places[f"{name}_heart_border"] = (
            float(chest.heart[:, 0].max() if side else chest.heart[:, 0].min()),
            dome - 0.14,
        )
        angle = chest.angles[side]
        places[f"{name}_costophrenic_angle"] = (float(angle[0]) - sign * 0.02, float(angle[1]) - 0.03)
    limit = np.array([frame.width, frame.height]) - 1.0
    inside = {name: np.clip(frame.px(np.array(place)), 1.0, limit) for name, place in places.items()}
    return {name: (float(xy[0]), float(xy[1])) for name, xy in inside.items()}


def chest_box(chest: Chest) -> tuple[float, float, float, float]:
    """Box around lungs and heart in film pixels, clipped to the film: xmin, ymin, xmax, ymax."""
    frame = chest.frame
    points = np.clip(
        frame.px(np.concatenate([*chest.lungs, chest.heart])), 0.0, np.array([frame.width, frame.height], np.float64)
    )
    low, high = points.min(axis=0), points.max(axis=0)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])
