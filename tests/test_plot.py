"""The pictures: right panels and words, colours that stay apart, files that are whole."""

import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import strict_cupy
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from minseg import plot
from minseg.metrics import ConfusionMatrix

NAMES = ["background", "disk", "square", "triangle", "ring"]
GREYS = np.array([[135, 135, 135], [185, 185, 185]])  # void

# What linear RGB becomes for colour-blind eyes: Machado, Oliveira, Fernandes, "A Physiologically-
# based Model for Simulation of Color Vision Deficiency" (2009), severity 1.
EYES = {
    "normal": np.eye(3),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
         [-0.011820, 0.042940, 0.968881]]),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
         [-0.003882, -0.048116, 1.051998]]),
}  # fmt: skip


def lab(colors, eye):
    """sRGB (n, 3) to CIE L*a*b* under D65: equal distances look about equally different."""
    c = np.asarray(colors) / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ EYES[eye].T, 0, 1)
    to_xyz = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
                       [0.0193339, 0.1191920, 0.9503041]])  # fmt: skip
    xyz = linear @ to_xyz.T / to_xyz.sum(axis=1)
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    x, y, z = f.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


def smallest_distance(colors, eye):
    points = lab(colors, eye)
    i, j = np.triu_indices(len(points), 1)
    return np.linalg.norm(points[i] - points[j], axis=1).min()


def scenes(K=5, N=2, H=12, W=16, C=3):
    rng = np.random.default_rng([9, K])
    images = rng.random((N, C, H, W), dtype=np.float32)
    truths = rng.integers(0, K, (N, H, W))
    truths[:, 0] = 255
    predictions = np.where(truths == 255, 0, truths)
    predictions[:, 5] = (predictions[:, 5] + 1) % K
    return images, truths, predictions


def words(figure):
    """Every text of the figure that is shown, axis by axis and in its legends."""
    from matplotlib.text import Text

    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def overlapping(texts, figure):
    """Pairs of texts whose boxes overlap in the drawn figure."""
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in texts]
    return [
        (texts[i].get_text(), texts[j].get_text())
        for i in range(len(boxes))
        for j in range(i)
        if boxes[i].overlaps(boxes[j])
    ]


def inside(texts, figure):
    figure.draw_without_rendering()
    return all(
        figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
        and figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1
        for box in (text.get_window_extent() for text in texts)
    )  # fmt: skip


@pytest.mark.parametrize(("K", "normal", "colour_blind"), [(5, 40, 25), (11, 40, 25), (23, 25, 15)])
def test_class_colors_and_void_stay_apart_for_every_eye(K, normal, colour_blind):
    colors = plot.class_colors(K)
    assert colors.shape == (K, 3)
    assert colors.dtype == np.uint8
    for grey in GREYS:  # the two greys are one thing, void
        shown = np.concatenate([colors, grey[None]])
        assert smallest_distance(shown, "normal") > normal
        assert smallest_distance(shown, "deuteranopia") > colour_blind
        assert smallest_distance(shown, "protanopia") > colour_blind


def test_the_distance_of_this_test_sees_red_and_green_as_colour_blind_eyes_do():
    red_green = np.array([[165, 100, 40], [110, 120, 40]])
    assert smallest_distance(red_green, "normal") > 35
    assert smallest_distance(red_green, "deuteranopia") < 10
    assert smallest_distance([[255, 255, 255], [0, 0, 0]], "normal") == pytest.approx(100, abs=0.01)


def test_a_class_keeps_its_color_whatever_the_number_of_classes():
    many = plot.class_colors(100)
    for K in (1, 2, 5, 23):
        np.testing.assert_array_equal(plot.class_colors(K), many[:K])
    assert not (many[1:] == many[0]).all(axis=1).any()  # the background's color never comes again
    with pytest.raises(ValueError, match="class_colors: num_classes must be at least 1, got 0"):
        plot.class_colors(0)


def test_labels_become_the_colors_of_their_classes_and_void_two_greys():
    labels = np.array([[0, 1, 2, 255], [255, 255, 255, 4]], np.uint8)
    rgb = plot.label_to_rgb(labels, 5)
    assert rgb.shape == (2, 4, 3)
    assert rgb.dtype == np.uint8
    known = labels != 255
    np.testing.assert_array_equal(rgb[known], plot.class_colors(5)[labels[known]])
    assert set(map(tuple, rgb[~known])) == set(map(tuple, GREYS))


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (np.array([[0, 1], [0, 5]]), r"labels is 5 at \(1, 1\), but the classes are 0\.\.4 and"),
        (np.array([[-1, 1]]), r"labels is -1 at \(0, 0\)"),
        (np.zeros((1, 2, 2), int), r"labels must be \(H, W\) integers, got \(1, 2, 2\) int64"),
        (np.zeros((2, 2)), r"labels must be \(H, W\) integers, got \(2, 2\) float64"),
    ],
)
def test_wrong_labels_are_refused_with_a_sentence(labels, sentence):
    with pytest.raises(ValueError, match="label_to_rgb: " + sentence):
        plot.label_to_rgb(labels, 5)


def test_an_overlay_lies_between_the_image_and_its_labels():
    images, truths, _ = scenes()
    image, labels = images[0], truths[0]
    as_bytes = np.rint(255 * image).astype(np.uint8)
    bare = as_bytes.transpose(1, 2, 0)
    colors = plot.label_to_rgb(labels, 5)
    np.testing.assert_array_equal(plot.overlay(image, labels, 5, alpha=0), bare)
    np.testing.assert_array_equal(plot.overlay(as_bytes, labels, 5, alpha=0), bare)
    np.testing.assert_array_equal(plot.overlay(image, labels, 5, alpha=1), colors)
    half = plot.overlay(image, labels, 5).astype(float)
    assert np.abs(half - (bare.astype(float) + colors) / 2).max() <= 0.5


def test_grey_and_normalised_images_are_shown_over_their_whole_range():
    labels = np.zeros((1, 3), int)
    image = np.array([[-2.0, 0.0, 2.0]])  # (H, W)
    for grey in (image, image[None]):
        shown = plot.overlay(grey, labels, 1, alpha=0)
        assert shown.tolist() == [[[0] * 3, [128] * 3, [255] * 3]]
    with pytest.raises(ValueError, match=r"overlay: an image must be \(H, W\).* got \(4, 5, 3\)"):
        plot.overlay(np.zeros((4, 5, 3)), np.zeros((4, 5), int), 1)
    with pytest.raises(ValueError, match=r"overlay: image is \(1, 3\) but labels are \(2, 3\)"):
        plot.overlay(image, np.zeros((2, 3), int), 1)


@pytest.mark.parametrize("C", [1, 3])
def test_a_prediction_panel_has_four_columns_a_row_per_scene_and_names_every_class(C):
    images, truths, predictions = scenes(C=C)
    figure = plot.prediction_panel(images, truths, predictions, NAMES)
    assert isinstance(figure, Figure)
    assert len(figure.axes) == 8
    assert [ax.get_title() for ax in figure.axes[:4]] == ["image", "truth", "prediction", "errors"]
    (legend,) = figure.legends
    assert sorted(text.get_text() for text in legend.get_texts()) == sorted([*NAMES, "void"])
    truth, prediction, errors = (ax.images[0].get_array() for ax in figure.axes[5:8])
    np.testing.assert_array_equal(truth, plot.label_to_rgb(truths[1], 5))
    np.testing.assert_array_equal(prediction, plot.label_to_rgb(predictions[1], 5))
    red = (np.asarray(errors) == (214, 0, 0)).all(axis=2)
    np.testing.assert_array_equal(red, (truths[1] != predictions[1]) & (truths[1] != 255))
    assert figure.axes[7].get_xlabel() == f"{100 / 11:.1f} % wrong"  # one row of 11 labelled ones


def test_void_is_in_the_legend_only_where_it_occurs():
    images, _, predictions = scenes()
    figure = plot.prediction_panel(images, predictions, predictions, NAMES)
    assert "void" not in words(figure)
    assert figure.axes[3].get_xlabel() == "0.0 % wrong"


@pytest.mark.parametrize(
    ("K", "shape"),
    [(2, (1, 64, 64)), (5, (2, 48, 48)), (11, (4, 48, 48)), (11, (2, 90, 30)), (21, (2, 30, 90))],
)
def test_a_prediction_panel_fits_its_850_pixels_without_overlapping_words(K, shape):
    names = ["background", *(f"potted plant {k}" for k in range(1, K))]
    N, H, W = shape
    figure = plot.prediction_panel(*scenes(K, N, H, W), names)
    figure.draw_without_rendering()
    assert figure.bbox.width == 850
    (legend,) = figure.legends
    texts = [*legend.get_texts(), *(ax.title for ax in figure.axes[:4])]
    texts += [ax.xaxis.label for ax in figure.axes if ax.get_xlabel()]
    assert not overlapping(texts, figure)
    assert inside(texts, figure)
    widths = [ax.get_window_extent().width for ax in figure.axes]
    assert min(widths) > 0.8 * 850 / 4  # the pictures get the room
    lowest = min(ax.get_window_extent().y0 for ax in figure.axes)
    assert legend.get_window_extent().y1 < lowest


def test_a_prediction_panel_refuses_scenes_that_do_not_fit_together():
    images, truths, predictions = scenes()
    with pytest.raises(ValueError, match=r"as many of each, at least one; got .*'truths': 1"):
        plot.prediction_panel(images, truths[:1], predictions, NAMES)
    with pytest.raises(ValueError, match=r"image \(12, 16\), truth \(11, 16\) and prediction"):
        plot.prediction_panel(images, truths[:, 1:], predictions, NAMES)
    with pytest.raises(ValueError, match="at least one"):
        plot.prediction_panel([], [], [], NAMES)


def test_device_arrays_are_drawn_too(monkeypatch):
    xp = strict_cupy.install(monkeypatch)
    images, truths, predictions = scenes()
    on_host = plot.prediction_panel(images, truths, predictions, NAMES)
    on_device = plot.prediction_panel(*map(xp.asarray, (images, truths, predictions)), NAMES)
    for one, other in zip(on_host.axes, on_device.axes, strict=True):
        np.testing.assert_array_equal(one.images[0].get_array(), other.images[0].get_array())


def test_a_matrix_shows_every_value_of_any_kind_of_number():
    for array, expected in [
        (np.array([[1, -2], [30, 4]]), ["1", "-2", "30", "4"]),
        (np.array([[0.25, 1 / 3, np.nan]], np.float32), ["0.25", "0.3333", "nan"]),
        (np.array([[Fraction(1, 4), Fraction(2)]], object), ["1/4", "2"]),
        ([[0, 0], [0, 0]], ["0"] * 4),
        (np.array(["x", "y"], object), ["x", "y"]),
    ]:
        figure = plot.matrix(array, title="K")
        (ax,) = figure.axes
        assert [text.get_text() for text in ax.texts] == expected
        assert ax.get_title() == "K"
        assert not overlapping(ax.texts, figure)
        assert inside(ax.texts, figure)


def test_the_values_of_a_large_matrix_in_a_small_panel_do_not_overlap():
    figure = Figure(figsize=(8.5, 3), layout="constrained")
    axes = figure.subplots(1, 3)
    array = np.random.default_rng(1).normal(size=(9, 9)).round(2)
    for ax in axes:
        assert plot.matrix(array, ax) is figure
        assert not overlapping(ax.texts, figure)


def test_a_highlight_frames_its_window():
    figure = plot.matrix(np.arange(16).reshape(4, 4), highlight=(1, 2, 3, 2))
    (frame,) = figure.axes[0].patches
    assert (frame.get_xy(), frame.get_width(), frame.get_height()) == ((1.5, 0.5), 2, 3)
    two = plot.matrix(np.eye(2), highlight=[(0, 0, 1, 1), (1, 0, 1, 2)]).axes[0].patches
    assert [frame.get_xy() for frame in two] == [(-0.5, -0.5), (-0.5, 0.5)]


def test_largest_gives_equal_numbers_of_two_matrices_one_shade():
    shades = [
        plot.matrix(np.array([[1.0, top]]), largest=8).axes[0].images[0].get_array()
        for top in (2, 8)
    ]
    assert [shade.tolist() for shade in shades] == [[[1 / 8, 2 / 8]], [[1 / 8, 1]]]


@pytest.mark.parametrize("array", [5, np.zeros((2, 2, 2)), np.zeros((0, 3))])
def test_what_is_no_matrix_is_refused(array):
    with pytest.raises(ValueError, match=r"matrix: array must be \(ROWS, COLUMNS\), got"):
        plot.matrix(array)


def test_legend_handles_show_each_class_in_its_colour_and_void_striped():
    handles = plot.legend_handles(NAMES)
    assert [patch.get_label() for patch in handles] == NAMES
    shown = [patch.get_facecolor()[:3] for patch in handles]
    np.testing.assert_allclose(shown, plot.class_colors(5) / 255)
    *classes, void = plot.legend_handles(NAMES, has_void=True)
    assert [patch.get_label() for patch in classes] == NAMES
    assert (void.get_label(), bool(void.get_hatch())) == ("void", True)
    greys = [void.get_facecolor()[:3], void.get_edgecolor()[:3]]
    np.testing.assert_allclose(greys, GREYS / 255)


def test_labels_are_shown_with_a_legend_of_their_classes():
    _, truths, _ = scenes(21, H=40, W=40)
    names = [f"class number {k}" for k in range(21)]
    figure = plot.show_labels(truths[0], 21, class_names=names, title="truth")
    (ax,) = figure.axes
    texts = [*ax.get_legend().get_texts(), ax.title]
    assert [text.get_text() for text in texts] == [*names, "void", "truth"]
    assert not overlapping(texts, figure)
    assert inside(texts, figure)
    assert ax.get_window_extent().width > 250
    assert plot.show_labels(truths[0], 21).axes[0].get_legend() is None


def test_training_curves_draw_each_record_where_it_was_measured():
    history = [{"step": s, "loss": 1 / s} for s in range(1, 21)]
    history[9] |= {"pixel_accuracy": 0.8, "mean_iou": 0.4}
    history[19] |= {"pixel_accuracy": 0.9, "mean_iou": 0.6}
    loss, scores = plot.training_curves(history).axes
    assert [loss.get_title(), loss.get_xlabel()] == ["loss", "step"]
    np.testing.assert_allclose(loss.lines[0].get_xydata(), [(s, 1 / s) for s in range(1, 21)])
    lines = {line.get_label(): line.get_xydata().tolist() for line in scores.lines}
    assert lines == {
        "pixel accuracy": [[10, 0.8], [20, 0.9]],
        "mean IoU": [[10, 0.4], [20, 0.6]],
    }
    with pytest.raises(ValueError, match=r'training_curves: history needs records .* "step"'):
        plot.training_curves([])
    with pytest.raises(ValueError, match='"step"'):
        plot.training_curves([{"loss": 1.0}])


def test_the_running_mean_of_a_long_training_passes_through_its_noise():
    history = [{"step": s, "loss": 2.0 + (-1) ** s} for s in range(1, 81)]
    raw, mean = plot.training_curves(history).axes[0].lines
    assert len(raw.get_xdata()) == 80
    np.testing.assert_allclose(mean.get_ydata(), 2.0)
    assert mean.get_xdata()[0] == 2
    assert mean.get_xdata()[-1] == 80


def test_a_confusion_picture_shows_each_rows_shares_and_leaves_absent_classes_blank():
    matrix = ConfusionMatrix(3, class_names=["background", "disk", "ring"])
    matrix.counts += np.array([[3, 1, 0], [0, 0, 0], [0, 0, 7]])
    figure = plot.confusion(matrix)
    (ax,) = figure.axes
    texts = {text.get_position(): text.get_text() for text in ax.texts}
    # Positions are (column, row): (prediction, truth).
    assert texts == {(0, 0): ".75", (1, 0): ".25", (2, 0): "0", (0, 2): "0", (1, 2): "0",
                     (2, 2): "1.00"}  # fmt: skip
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("prediction", "truth")
    assert [tick.get_text() for tick in ax.get_yticklabels()] == matrix.class_names
    bare = plot.confusion(matrix.counts).axes[0]
    assert [tick.get_text() for tick in bare.get_xticklabels()] == ["0", "1", "2"]


@pytest.mark.parametrize("K", [2, 5, 11, 21])
def test_a_confusion_picture_is_readable_up_to_21_classes(K):
    rng = np.random.default_rng(K)
    names = [f"a rather long name {k}" for k in range(K)]
    figure = plot.confusion(rng.integers(0, 100, (K, K)), names)
    (ax,) = figure.axes
    labels = [*ax.get_xticklabels(), *ax.get_yticklabels(), ax.xaxis.label, ax.yaxis.label]
    assert figure.bbox.width <= 850
    assert not overlapping([*ax.texts, *labels, ax.title], figure)
    assert inside([*labels, ax.title], figure)
    assert min(text.get_fontsize() for text in ax.texts) >= 7


@pytest.mark.parametrize(("counts", "names", "sentence"), [
    (np.zeros((2, 3)), None, r"counts must be \(K, K\), got \(2, 3\)"),
    (np.zeros((2, 2)), ["one"], "1 class_names for 2 classes"),
])  # fmt: skip
def test_a_confusion_picture_refuses_what_is_no_confusion_matrix(counts, names, sentence):
    with pytest.raises(ValueError, match="confusion: " + sentence):
        plot.confusion(counts, names)


def test_a_notebook_shows_a_figure_as_a_picture():
    pytest.importorskip("IPython")
    program = (
        "from IPython.core.interactiveshell import InteractiveShell; "
        "shell = InteractiveShell.instance(); "
        "from minseg import plot; "
        "data, _ = shell.display_formatter.format(plot.matrix([[1, 2]])); "
        "assert data['image/png'][1:4] == b'PNG'"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_saved_pictures_are_readable_and_nothing_else_is_left(tmp_path):
    images, truths, predictions = scenes()
    folder = tmp_path / "new folder"
    plot.prediction_panel(images, truths, predictions, NAMES, folder / "scenes.png")
    plot.training_curves([{"step": 1, "loss": 2.0}], str(folder / "curves.png"))
    plot.confusion(np.eye(3, dtype=int), path=folder / "confusion.png")
    plot.save_figure(plot.matrix(np.eye(3)), folder / "matrix.svg")
    assert sorted(path.name for path in folder.iterdir()) == [
        "confusion.png", "curves.png", "matrix.svg", "scenes.png",
    ]  # fmt: skip
    with Image.open(folder / "scenes.png") as picture:
        assert picture.width == 850
        shown = set(map(tuple, np.asarray(picture.convert("RGB")).reshape(-1, 3)))
    assert {tuple(color) for color in plot.class_colors(5)} <= shown
    assert to_rgb("#d60000") in {tuple(np.array(color) / 255) for color in shown}


def test_a_failed_save_leaves_the_old_picture_whole(tmp_path, monkeypatch):
    path = tmp_path / "picture.png"
    path.write_bytes(b"the old picture")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(plot.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        plot.save_figure(plot.matrix(np.eye(2)), path)
    assert path.read_bytes() == b"the old picture"
    assert list(tmp_path.iterdir()) == [path]


def test_importing_plot_does_not_import_matplotlib_and_drawing_needs_no_pyplot():
    program = (
        "import sys; from minseg import plot; assert 'matplotlib' not in sys.modules; "
        "plot.class_colors(3); "
        "assert 'matplotlib' not in sys.modules; "
        "plot.matrix([[1, 2]]); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_matrices_stand_side_by_side_and_the_last_is_framed():
    figure = plot.matrices({"a": np.eye(2), "b": [[1, 2, 3]]}, (4, 2), [(0, 1, 1, 1)])
    assert [axes.get_title() for axes in figure.axes] == ["a", "b"]
    texts = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert texts == [["1", "0", "0", "1"], ["1", "2", "3"]]
    frames = [
        [p for p in axes.patches if p.get_linewidth() == 2.5 and not p.get_fill()]
        for axes in figure.axes
    ]
    assert [len(each) for each in frames] == [0, 1]
    assert frames[1][0].get_xy() == (0.5, -0.5)
