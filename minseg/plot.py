"""Pictures: labels in colours, a matrix with its values, scenes beside their predictions.

Every drawing function returns a matplotlib Figure and keeps no global state; matplotlib is imported
when the first figure is drawn. Several figures of one size make a film: see film.py. The colours
start from Okabe and Ito, "Color Universal Design" (2002), moved and extended until all stay apart
for colour-blind eyes too (a test measures it).
"""

import io
import math
import os
import sys
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minseg.backend import to_numpy
from minseg.files import written_whole
from minseg.film import film, filmstrip

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

__all__ = [
    "class_colors",
    "confusion",
    "film",
    "filmstrip",
    "label_to_rgb",
    "labelled",
    "legend_handles",
    "matrix",
    "overlay",
    "prediction_panel",
    "save_figure",
    "show_labels",
    "training_curves",
]

# Class 0, the background, is nearly black; then the objects, the first ones furthest apart.
_PALETTE = bytes.fromhex(
    "23262e 0096ff ffa53c 965aa5 4bb469 fff000 d22d00 00d2ff f0f096 003cf0 873c2d b4ffd2"
    "8700b4 00ffff 1e69f0 b42d5a ffb496 d2ff69 c396c3 69872d a50078 ff695a 1e96d2"
)
_VOID = np.array([[135, 135, 135], [185, 185, 185]], np.uint8)  # stripes of two greys
_WRONG = np.array([214, 0, 0], np.uint8)
_WIDTH = 8.5  # inches, at 100 dots an inch: what fits a README or a notebook cell


def class_colors(num_classes: int) -> np.ndarray:
    """One colour per class, (K, 3) uint8, to be told apart with colour-blind eyes too.

    Class 0 is dark, as background mostly is. There are 22 colours for objects; after them they
    come round again.
    """
    if num_classes < 1:
        raise ValueError(f"class_colors: num_classes must be at least 1, got {num_classes}")
    palette = np.frombuffer(_PALETTE, np.uint8).reshape(-1, 3)
    objects = np.resize(palette[1:], (num_classes - 1, 3)) if num_classes > 1 else palette[:0]
    return np.concatenate([palette[:1], objects])


def label_to_rgb(labels: Any, num_classes: int, void: int = 255) -> np.ndarray:
    """Each label as the colour of its class: (H, W) integers to (H, W, 3) uint8.

    Void pixels become diagonal stripes of two greys, which no class has.

    Raises:
        ValueError: labels not (H, W) integers, or a label outside 0..K-1 that is not void.
    """
    labels = _plane("label_to_rgb", "labels", labels)
    stranger = (labels != void) & ((labels < 0) | (labels >= num_classes))
    if stranger.any():
        row, column = np.argwhere(stranger)[0]
        raise ValueError(
            f"label_to_rgb: labels is {labels[row, column]} at ({row}, {column}), but the classes "
            f"are 0..{num_classes - 1} and void is {void}"
        )
    rgb = class_colors(num_classes)[np.where(labels == void, 0, labels)]
    return _stripe(rgb, labels == void)


def overlay(
    image: Any, labels: Any, num_classes: int, void: int = 255, alpha: float = 0.5
) -> np.ndarray:
    """(1 - alpha) image + alpha label_to_rgb(labels): the labelling laid over its image.

    Args:
        image: (H, W), (1, H, W) or (3, H, W); uint8, or floats (0..1, otherwise stretched to it).
        labels: (H, W) integers.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: an image of another shape, or whose H, W are not those of the labels.
    """
    rgb = _image_to_rgb("overlay", image)
    colors = label_to_rgb(labels, num_classes, void)
    if rgb.shape != colors.shape:
        raise ValueError(f"overlay: image is {rgb.shape[:2]} but labels are {colors.shape[:2]}")
    return np.rint((1 - alpha) * rgb + alpha * colors.astype(np.float64)).astype(np.uint8)


def legend_handles(class_names: Sequence[str], has_void: bool = False) -> "list[Patch]":
    """One patch per class in its colour, K of them: `figure.legend(handles=legend_handles(names))`.

    has_void: one more patch for void, striped as void pixels are.

    Raises:
        ValueError: no name.
    """
    from matplotlib.patches import Patch

    colors = class_colors(len(class_names)) / 255
    patches = [
        Patch(facecolor=tuple(color), label=name)
        for color, name in zip(colors, class_names, strict=True)
    ]
    if has_void:
        grey, stripes = map(tuple, _VOID / 255)
        patches.append(
            Patch(facecolor=grey, label="void", hatch="/////", edgecolor=stripes, linewidth=0)
        )
    return patches


def show_labels(
    labels: Any,
    num_classes: int,
    ax: "Axes | None" = None,
    *,
    void: int = 255,
    class_names: Sequence[str] | None = None,
    title: str | None = None,
) -> "Figure":
    """A label image (H, W) in the colours of its K classes, with a legend where names are given.

    Raises:
        ValueError: as `label_to_rgb`.
    """
    named = 0 if class_names is None else len(class_names)
    figure, ax = _canvas(ax, (5.0 if named else 3.5, max(3.5, 0.2 * named + 0.6)))
    _show(ax, label_to_rgb(labels, num_classes, void))
    if title:
        ax.set_title(title, fontsize=11)
    if class_names is not None:
        ax.legend(
            handles=legend_handles(class_names, bool((to_numpy(labels) == void).any())),
            loc="center left",
            bbox_to_anchor=(1.02, 0.5),
            frameon=False,
            fontsize=9,
        )
    return figure


def matrix(
    array: Any,
    ax: "Axes | None" = None,
    *,
    title: str | None = None,
    highlight: tuple[int, int, int, int] | list[tuple[int, int, int, int]] | None = None,
    largest: float | None = None,
) -> "Figure":
    """A matrix (ROWS, COLUMNS) with its value in every cell, shaded from blue (-) to orange (+).

    Args:
        array: numbers of any kind: floats (up to 4 digits), ints, Fractions (as 1/4), formal ones.
        ax: where to draw; a figure of its own when None.
        highlight: (row, column, height, width) of a window to frame, or several in a list.
        largest: the absolute value that is shaded fully, the array's own when None; one for all
            frames of a film.

    Raises:
        ValueError: array is not a matrix.
    """
    values = to_numpy(array)
    if values.ndim == 1:
        values = values[None]
    if values.ndim != 2 or values.size == 0:
        raise ValueError(f"matrix: array must be (ROWS, COLUMNS), got {values.shape}")
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Rectangle

    ROWS, COLUMNS = values.shape
    figure, ax = _canvas(ax, (0.62 * COLUMNS + 0.3, 0.5 * ROWS + (0.6 if title else 0.3)))
    # Light colours only, so that black digits stay readable on each of them.
    tints = LinearSegmentedColormap.from_list("tints", ["#8fc8f8", "#ffffff", "#ffd2a0"])
    ax.imshow(_signed_shade(values, largest), cmap=tints, vmin=-1, vmax=1, aspect=0.8)
    texts = {ij: _number(value) for ij, value in np.ndenumerate(values)}
    box = ax.get_position()
    cell = 72 * min(  # points: the width of a cell, whose height is 0.8 of it
        box.width * figure.get_figwidth() / COLUMNS,
        box.height * figure.get_figheight() / ROWS / 0.8,
    )
    size = min(14, 0.35 * cell, 1.35 * cell / max(map(len, texts.values())))
    for (i, j), text in texts.items():
        ax.text(j, i, text, ha="center", va="center", fontsize=size)
    _grid(ax, ROWS, COLUMNS, "#999999")
    windows = [highlight] if isinstance(highlight, tuple) else highlight or []
    for row, column, rows, columns in windows:
        frame = Rectangle((column - 0.5, row - 0.5), columns, rows, fill=False)
        frame.set(edgecolor="#d22d00", linewidth=2.5, clip_on=False)
        ax.add_patch(frame)
    if title:
        ax.set_title(title, fontsize=11)
    return figure


def matrices(
    named: "Mapping[str, Any]",
    size: tuple[float, float],
    highlight: list[tuple[int, int, int, int]] | None = None,
    largest: float | None = None,
) -> "Figure":
    """Matrices in a row, each under its title, in a figure of `size` = (width, height) inches.

    named: {title: array}. highlight: frames in the last of them, as in `matrix`; largest likewise.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    widths = [np.atleast_2d(array).shape[1] for array in named.values()]
    axes = figure.subplots(1, len(named), width_ratios=widths, squeeze=False)[0]
    for ax, (title, array) in zip(axes, named.items(), strict=True):
        frames = highlight if ax is axes[-1] else None
        matrix(array, ax, title=title, highlight=frames, largest=largest)
    return figure


def prediction_panel(
    images: Any,
    truths: Any,
    predictions: Any,
    class_names: Sequence[str],
    path: str | os.PathLike | None = None,
    *,
    void: int = 255,
) -> "Figure":
    """One row per scene: image | truth | prediction | errors (wrong pixels red, void striped grey).

    Args:
        images: (N, C, H, W) with C = 1 or 3, or a list of such images; see `overlay` for values.
        truths, predictions: (N, H, W) integers, or lists of (H, W).
        class_names: the K names, background first.
        path: where to save the picture too, such as "scenes.png".

    Raises:
        ValueError: different numbers of scenes, or sizes that differ within one.
    """
    counts = {"images": len(images), "truths": len(truths), "predictions": len(predictions)}
    if len(set(counts.values())) != 1 or not len(images):
        raise ValueError(f"prediction_panel: needs as many of each, at least one; got {counts}")
    K = len(class_names)
    scenes = []
    for image, truth, prediction in zip(images, truths, predictions, strict=True):
        rgb = _image_to_rgb("prediction_panel", image)
        truth = _plane("prediction_panel", "truths", truth)
        # What is predicted where the truth is void counts nowhere, but it is shown.
        prediction = _plane("prediction_panel", "predictions", prediction)
        if not rgb.shape[:2] == truth.shape == prediction.shape:
            raise ValueError(
                f"prediction_panel: a scene has image {rgb.shape[:2]}, truth {truth.shape} and "
                f"prediction {prediction.shape}; all three need one size"
            )
        scenes.append((rgb, truth, prediction))

    has_void = any((truth == void).any() for _, truth, _ in scenes)
    legend = legend_handles(class_names, has_void)
    columns = _legend_columns([str(patch.get_label()) for patch in legend])
    legend_rows = math.ceil(len(legend) / columns)
    panel = _WIDTH / 4
    heights = [panel * rgb.shape[0] / rgb.shape[1] for rgb, _, _ in scenes]
    figure = _figure((_WIDTH, sum(heights) + 0.24 * len(scenes) + 0.2 * legend_rows + 0.3))
    axes = figure.subplots(len(scenes), 4, squeeze=False, height_ratios=heights)
    for title, ax in zip(("image", "truth", "prediction", "errors"), axes[0], strict=True):
        ax.set_title(title, fontsize=11)
    for row, (rgb, truth, prediction) in zip(axes, scenes, strict=True):
        wrong = (truth != prediction) & (truth != void)
        labelled = int((truth != void).sum())
        _show(row[0], rgb)
        _show(row[1], label_to_rgb(truth, K, void))
        _show(row[2], label_to_rgb(prediction, K, void))
        _show(row[3], _errors(rgb, wrong, truth == void))
        share = wrong.sum() / max(labelled, 1)
        percent = "< 0.1" if 0 < share < 5e-4 else f"{100 * share:.1f}"
        row[3].set_xlabel(f"{percent} % wrong", fontsize=9, color=tuple(_WRONG / 255))
    figure.legend(
        # matplotlib fills a legend column by column; this order makes it read row by row.
        handles=[patch for column in range(columns) for patch in legend[column::columns]],
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        fontsize=9,
        handlelength=1.2,
        handleheight=1.0,
        columnspacing=1.2,
    )
    return _done(figure, path)


def labelled(
    image: Any, labels: Any, class_names: Sequence[str], path: str | os.PathLike | None = None
) -> "Figure":
    """image | labels, with the legend of the classes: what a network sees in a picture.

    Args:
        image: (C, H, W) with C = 1 or 3, or (H, W). labels: (H, W) integers.
        class_names: the K names. path: where to save the picture too.

    Raises:
        ValueError: sizes that differ.
    """
    rgb = _image_to_rgb("labelled", image)
    colors = label_to_rgb(labels, len(class_names))
    if rgb.shape != colors.shape:
        raise ValueError(f"labelled: image is {rgb.shape[:2]} but labels are {colors.shape[:2]}")
    present = [k for k in range(len(class_names)) if (to_numpy(labels) == k).any()]
    legend = [patch for k, patch in enumerate(legend_handles(class_names)) if k in present]
    height = _WIDTH / 2 * rgb.shape[0] / rgb.shape[1]
    figure = _figure((_WIDTH, height + 0.6))
    for ax, picture, title in zip(
        figure.subplots(1, 2), (rgb, colors), ("image", "labels"), strict=True
    ):
        _show(ax, picture)
        ax.set_title(title, fontsize=11)
    figure.legend(
        handles=legend,
        loc="outside lower center",
        ncols=min(6, len(legend)),
        frameon=False,
        fontsize=9,
    )
    return _done(figure, path)


def training_curves(
    history: Sequence[Mapping[str, float]], path: str | os.PathLike | None = None
) -> "Figure":
    """Loss (left), pixel accuracy and mean IoU (right) against the training step.

    Args:
        history: one mapping per record, with "step" and any of "loss", "pixel_accuracy",
            "mean_iou"; records that lack a score leave no point.
        path: where to save the picture too.

    Raises:
        ValueError: no record, or one without "step".
    """
    if not history or any("step" not in record for record in history):
        raise ValueError('training_curves: history needs records that each have a "step"')
    figure = _figure((_WIDTH, 3.2))
    left, right = figure.subplots(1, 2)
    step, loss = _curve(history, "loss")
    window = max(1, len(loss) // 40)
    left.plot(step, loss, color="#0096ff", alpha=0.35 if window > 1 else 1, linewidth=1)
    if window > 1:  # single batches jump up and down; their running mean shows the way
        mean = np.convolve(loss, np.full(window, 1 / window), "valid")
        left.plot(step[window - 1 :], mean, color="#003cf0", label="running mean")
        left.legend(frameon=False, fontsize=9)
    left.set(title="loss", xlabel="step")
    for key, name, color, marker in (
        ("pixel_accuracy", "pixel accuracy", "#d27800", "o"),
        ("mean_iou", "mean IoU", "#003cf0", "s"),
    ):
        step, score = _curve(history, key)
        right.plot(step, score, color=color, marker=marker, markersize=4, label=name)
    right.set(title="scores", xlabel="step", ylim=(-0.02, 1.02))
    right.legend(frameon=False, fontsize=9)
    for ax in (left, right):
        ax.grid(color="#dddddd", linewidth=0.7)
        ax.set_axisbelow(True)
    return _done(figure, path)


def confusion(
    confusion_matrix: Any,
    class_names: Sequence[str] | None = None,
    path: str | os.PathLike | None = None,
) -> "Figure":
    """Where the pixels of each true class went: rows truth, columns prediction, each row sums to 1.

    The diagonal is the recall of each class. An empty row is a class that the truth lacks.

    Args:
        confusion_matrix: a ConfusionMatrix, or its counts (K, K).
        class_names: K names; those of the ConfusionMatrix when None.
        path: where to save the picture too.

    Raises:
        ValueError: counts not (K, K), or not K names.
    """
    counts = np.asarray(getattr(confusion_matrix, "counts", confusion_matrix))
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise ValueError(f"confusion: counts must be (K, K), got {counts.shape}")
    K = len(counts)
    if class_names is None:
        class_names = getattr(confusion_matrix, "class_names", [str(k) for k in range(K)])
    if len(class_names) != K:
        raise ValueError(f"confusion: {len(class_names)} class_names for {K} classes")
    pixels = counts.sum(axis=1, keepdims=True)
    share = counts / np.maximum(pixels, 1)  # (K, K)

    side = min(_WIDTH, max(4.5, 2.6 + 0.55 * K))
    figure = _figure((side, side))
    ax = figure.subplots()
    ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
    size = min(10.0, 0.38 * 72 * (side - 1.6) / K)
    for i, j in np.ndindex(K, K):
        if pixels[i, 0]:
            value = f"{share[i, j]:.2f}".removeprefix("0") if counts[i, j] else "0"
            color = "white" if share[i, j] > 0.55 else "#999999" if share[i, j] < 0.005 else "black"
            ax.text(j, i, value, ha="center", va="center", fontsize=size, color=color)
    _grid(ax, K, K, "white")
    names = [_short(name) for name in class_names]
    ax.set_xticks(range(K), names, rotation=90 if max(map(len, names)) > 3 else 0, fontsize=9)
    ax.set_yticks(range(K), names, fontsize=9)
    ax.set(xlabel="prediction", ylabel="truth")
    ax.set_title("shares of each true class", fontsize=11)
    return _done(figure, path)


def save_figure(figure: "Figure", path: str | os.PathLike) -> Path:
    """Writes the figure to `path`, as PNG, PDF or SVG by its ending, whole or not at all."""
    path = Path(path)
    with written_whole(path) as part:
        figure.savefig(part, format=path.suffix[1:] or "png", dpi=100)
    return path


def _done(figure: "Figure", path: str | os.PathLike | None) -> "Figure":
    if path is not None:
        save_figure(figure, path)
    return figure


def _pictures_in_notebooks() -> None:
    """A notebook shows figures as pictures once it is told how: pyplot does that, and we go without."""
    if "IPython" not in sys.modules:
        return
    from IPython import get_ipython

    def png(figure: "Figure") -> bytes:
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=figure.dpi, bbox_inches="tight")
        return picture.getvalue()

    shell = get_ipython()
    if shell is not None:  # by name, so that matplotlib is not imported before it is used
        shell.display_formatter.formatters["image/png"].for_type_by_name(
            "matplotlib.figure", "Figure", png
        )


def _figure(inches: tuple[float, float]) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=inches, dpi=100, layout="compressed")


def _canvas(ax: "Axes | None", inches: tuple[float, float]) -> "tuple[Figure, Axes]":
    """The given axes and their figure, or new ones."""
    if ax is None:
        figure = _figure(inches)
        return figure, figure.subplots()
    return ax.figure, ax  # type: ignore[return-value]


def _plane(function: str, name: str, labels: Any) -> np.ndarray:
    labels = to_numpy(labels)
    if labels.ndim != 2 or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{function}: {name} must be (H, W) integers, got {labels.shape} {labels.dtype}"
        )
    return labels


def _image_to_rgb(function: str, image: Any) -> np.ndarray:
    """(H, W), (1, H, W) or (3, H, W) of any numbers to (H, W, 3) uint8."""
    image = to_numpy(image)
    image = image[None] if image.ndim == 2 else image
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise ValueError(
            f"{function}: an image must be (H, W), (1, H, W) or (3, H, W), got {image.shape}"
        )
    if image.dtype != np.uint8:
        image = image.astype(np.float64)
        low, high = image.min(), image.max()
        if low < 0 or high > 1:  # a normalised image: its range becomes 0..1
            image = (image - low) / ((high - low) or 1)
        image = np.rint(255 * image).astype(np.uint8)
    return np.repeat(image, 3 // len(image), axis=0).transpose(1, 2, 0)


def _stripe(rgb: np.ndarray, void: np.ndarray) -> np.ndarray:
    row, column = np.nonzero(void)
    rgb[row, column] = _VOID[(row + column) // 2 % 2]
    return rgb


def _errors(rgb: np.ndarray, wrong: np.ndarray, void: np.ndarray) -> np.ndarray:
    """The image faint and grey, wrong pixels red, void striped: (H, W, 3) uint8."""
    grey = rgb.mean(axis=2, keepdims=True)
    faint = np.repeat(255 - 0.35 * (255 - grey), 3, axis=2).astype(np.uint8)
    faint[wrong] = _WRONG
    return _stripe(faint, void)


def _signed_shade(values: np.ndarray, largest: float | None) -> np.ndarray:
    """Every value over the largest absolute one, in -1..1; what is no number becomes 0."""
    shade = np.array([[float(v) if isinstance(v, Real) else 0.0 for v in row] for row in values])
    shade[~np.isfinite(shade)] = 0
    return shade / (largest or np.abs(shade).max() or 1)


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)


def _short(name: str) -> str:
    return name if len(name) <= 20 else name[:19] + "\N{HORIZONTAL ELLIPSIS}"


def _curve(history: Sequence[Mapping[str, float]], key: str) -> tuple[np.ndarray, np.ndarray]:
    points = [(record["step"], record[key]) for record in history if key in record]
    step, value = np.array(points, np.float64).reshape(-1, 2).T
    return step, value


def _show(ax: "Axes", rgb: np.ndarray) -> None:
    ax.imshow(rgb, interpolation="nearest")
    ax.set(xticks=[], yticks=[])


def _grid(ax: "Axes", rows: int, columns: int, color: str) -> None:
    """Lines between the cells of a matrix, and no ticks."""
    ax.set(xticks=[], yticks=[])
    # The outermost lines lie on the edge of the axes, where half of them would be cut off.
    style: dict[str, Any] = dict(color=color, linewidth=0.8, clip_on=False)
    ax.hlines(np.arange(rows + 1) - 0.5, -0.5, columns - 0.5, **style)
    ax.vlines(np.arange(columns + 1) - 0.5, -0.5, rows - 0.5, **style)
    ax.spines[:].set_visible(False)


def _legend_columns(names: Sequence[str]) -> int:
    """Into how many columns a legend of these names goes, read row by row, to fit the width."""
    columns = len(names)
    while columns > 1:
        longest = [max(map(len, names[column::columns])) for column in range(columns)]
        if sum(0.45 + 0.08 * characters for characters in longest) <= _WIDTH:  # inches
            break
        columns -= 1
    rows = math.ceil(len(names) / columns)
    return math.ceil(len(names) / rows)  # rows of about one length


_pictures_in_notebooks()
