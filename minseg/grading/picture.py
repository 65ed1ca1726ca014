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
        planes = [_plane(array) for array in (want, got)]
        if (wrong is None or np.any(wrong)) and all(plane is not None for plane in planes):
            return _draw(case["call"], planes, wrong)
    return None


def _plane(array: dict[str, Any]) -> np.ndarray | None:
    """The first plane of an array as a matrix, if a person can take it in."""
    if array["values"] is None or np.size(array["values"]) == 0:
        return None
    values = np.array(array["values"], np.float64)
    plane = values.reshape(-1, *values.shape[-2:])[0] if values.ndim >= 2 else values.reshape(1, -1)
    return plane if max(plane.shape) <= CELLS else None


def _draw(title: str, planes: list, wrong: Any) -> "Figure":
    import matplotlib.pyplot as plt
    from matplotlib.patches import Rectangle

    from minseg import plot

    widths = [plane.shape[1] for plane in planes]
    height = max(plane.shape[0] for plane in planes)
    figure, axes = plt.subplots(
        1, 2, figsize=(1.2 + 0.55 * sum(widths), 1.2 + 0.5 * height), width_ratios=widths
    )
    largest = max(float(np.nanmax(np.abs(plane), initial=0)) for plane in planes) or 1.0
    for axis, plane, name in zip(axes, planes, ("expected", "got"), strict=True):
        plot.matrix(plane, axis, title=name, largest=largest)
    if wrong is not None:
        cells = np.array(wrong, bool)
        cells = cells.reshape(-1, *cells.shape[-2:])[0] if cells.ndim >= 2 else cells.reshape(1, -1)
        for i, j in np.argwhere(cells):
            axes[1].add_patch(
                Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, edgecolor="#c0392b", linewidth=3)
            )
    figure.suptitle(title, fontsize=10)
    plt.close(figure)
    return figure
