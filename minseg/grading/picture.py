"""The failing case of an exercise as a picture: expected, got, and where they differ."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CELLS = 12  # along a side, at most


def picture(said: dict[str, Any]) -> "Figure | None":
    """A figure of the first wrong output of the failing case; None where there is none to draw."""
    case = said["failing"]
    pairs = zip(case["expected"], case["got"], case["wrong"], strict=False) if case else []
    for want, got, wrong in pairs:
        left, right = (_plane(array["values"]) for array in (want, got))
        if (wrong is None or np.any(wrong)) and left is not None and right is not None:
            return _draw(case["call"], left, right, wrong)
    return None


def _plane(values: Any) -> np.ndarray | None:
    """The first plane of an output as a matrix, if a person can take it in."""
    if values is None or np.size(values) == 0:
        return None
    array = np.array(values, np.float64)
    plane = array.reshape(-1, *array.shape[-2:])[0] if array.ndim >= 2 else array.reshape(1, -1)
    return plane if max(plane.shape) <= CELLS else None


def _draw(title: str, want: np.ndarray, got: np.ndarray, wrong: Any) -> "Figure":
    from minseg import plot

    cells = None if wrong is None else _plane(wrong)
    frames = None if cells is None else [(int(i), int(j), 1, 1) for i, j in np.argwhere(cells)]
    largest = max(float(np.nanmax(np.abs(plane), initial=0)) for plane in (want, got)) or 1.0
    size = 1.2 + 0.55 * (want.shape[1] + got.shape[1]), 1.2 + 0.5 * max(len(want), len(got))
    figure = plot.matrices({"expected": want, "got": got}, size, frames, largest)
    figure.suptitle(title, fontsize=10)
    return figure
