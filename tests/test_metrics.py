"""The confusion matrix and its scores: against scikit-learn, by hand, and exact identities."""

from fractions import Fraction

import numpy as np
import pytest
import strict_cupy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from minseg.metrics import ConfusionMatrix, per_image_mean_iou

RATIOS = ("recall", "precision", "iou", "f1")


def counted(target, prediction, num_classes, void=255, class_names=None):
    matrix = ConfusionMatrix(num_classes, void, class_names)
    matrix.update(np.asarray(target), np.asarray(prediction))
    return matrix


def from_counts(counts):
    matrix = ConfusionMatrix(len(counts))
    matrix.counts += np.array(counts)
    return matrix


@st.composite
def labellings(draw, void=True):
    """(K, target, prediction): any classes may be absent, targets may be void."""
    K = draw(st.integers(1, 6))
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 5)))
    classes = st.integers(0, K - 1)
    target = draw(arrays(np.int64, shape, elements=classes | st.just(255) if void else classes))
    return K, target, draw(arrays(np.int64, shape, elements=classes))


# 5 labelled classes of which class 3 occurs nowhere, with void.
_rng = np.random.default_rng(3)
TARGET = _rng.choice([0, 1, 2, 4, 255], (4, 12, 13), p=[0.5, 0.2, 0.15, 0.05, 0.1])
PREDICTION = _rng.choice([0, 1, 2, 4], TARGET.shape)
LABELLED = TARGET != 255


def test_counts_by_hand_have_the_truth_in_rows_and_the_prediction_in_columns():
    matrix = counted([[0, 0, 1], [2, 255, 1]], [[0, 2, 1], [2, 0, 0]], 3)
    assert matrix.counts.tolist() == [[1, 0, 1], [1, 1, 0], [0, 0, 1]]
    assert matrix.counts.dtype == np.int64
    assert matrix.recall().tolist() == [1 / 2, 1 / 2, 1]
    assert matrix.precision().tolist() == [1 / 2, 1, 1 / 2]
    assert matrix.iou().tolist() == [1 / 3, 1 / 2, 1 / 2]
    assert matrix.pixel_accuracy() == 3 / 5
    assert matrix.mean_accuracy() == pytest.approx(2 / 3)
    assert matrix.mean_iou() == pytest.approx(4 / 9)
    assert matrix.frequency_weighted_iou() == pytest.approx((2 / 3 + 2 / 2 + 1 / 2) / 5)


def test_the_lecture_exercise_on_accuracy_precision_recall_f1_and_iou():
    TP, FP, FN, TN = 40, 10, 20, 930
    matrix = from_counts([[TN, FP], [FN, TP]])
    assert matrix.binary_accuracy()[1] == 0.97
    assert matrix.precision()[1] == 0.8
    assert matrix.recall()[1] == pytest.approx(2 / 3)
    assert matrix.f1()[1] == pytest.approx(8 / 11)
    assert matrix.iou()[1] == pytest.approx(4 / 7)


def test_counts_equal_scikit_learns_confusion_matrix():
    metrics = pytest.importorskip("sklearn.metrics")
    expected = metrics.confusion_matrix(TARGET[LABELLED], PREDICTION[LABELLED], labels=range(5))
    np.testing.assert_array_equal(counted(TARGET, PREDICTION, 5).counts, expected)


@pytest.mark.parametrize(("absent", "value"), [("ignore", np.nan), ("zero", 0.0), ("one", 1.0)])
def test_class_scores_equal_scikit_learns_for_each_choice_of_absent(absent, value):
    metrics = pytest.importorskip("sklearn.metrics")
    # Class 2 is predicted nowhere and class 4 never true, so that every 0/0 occurs.
    target, prediction = np.where(TARGET == 4, 0, TARGET), np.where(PREDICTION == 2, 4, PREDICTION)
    matrix = counted(target, prediction, 5)
    truth, predicted = target[LABELLED], prediction[LABELLED]
    for name in RATIOS:
        ours = getattr(matrix, name)(absent)
        function = {"iou": "jaccard_score"}.get(name, f"{name}_score")
        # jaccard_score knows 0 and 1 for 0/0, no NaN: NaN is compared on the other classes.
        fill = 0.0 if name == "iou" and absent == "ignore" else value
        theirs = getattr(metrics, function)(
            truth, predicted, labels=range(5), average=None, zero_division=fill
        )
        compared = np.isfinite(ours) if name == "iou" else slice(None)
        np.testing.assert_allclose(ours[compared], theirs[compared], rtol=1e-14, err_msg=name)
    assert np.isnan(matrix.iou()).tolist() == [False, False, False, True, False]
    assert np.isnan(matrix.recall()).tolist() == [False, False, False, True, True]
    assert np.isnan(matrix.precision()).tolist() == [False, False, True, True, False]


def test_mean_iou_over_present_classes_and_over_all_differ_by_their_number():
    metrics = pytest.importorskip("sklearn.metrics")
    matrix = counted(TARGET, PREDICTION, 5)
    truth, predicted = TARGET[LABELLED], PREDICTION[LABELLED]
    over_present = metrics.jaccard_score(truth, predicted, average="macro")
    over_all = metrics.jaccard_score(
        truth, predicted, labels=range(5), average="macro", zero_division=0
    )
    assert matrix.mean_iou() == pytest.approx(over_present, rel=1e-14)
    assert matrix.mean_iou("zero") == pytest.approx(over_all, rel=1e-14)
    assert matrix.mean_iou("zero") == pytest.approx(matrix.mean_iou() * 4 / 5, rel=1e-14)
    assert matrix.mean_iou("one") == pytest.approx(matrix.mean_iou("zero") + 1 / 5, rel=1e-14)


def test_the_docstrings_example_of_an_absent_class():
    matrix = counted([0, 0, 1, 1], [0, 1, 1, 1], 3)
    figures = {absent: round(matrix.mean_iou(absent), 3) for absent in ("ignore", "zero", "one")}
    assert figures == {"ignore": 0.583, "zero": 0.389, "one": 0.722}


@given(labellings())
def test_f1_is_2_iou_over_1_plus_iou_exactly(labelling):
    matrix = counted(labelling[1], labelling[2], labelling[0])
    for k in range(matrix.num_classes):
        hits, true, predicted = (
            int(n[k]) for n in (matrix.hits, matrix.true_pixels, matrix.predicted_pixels)
        )
        if true + predicted:
            iou = Fraction(hits, true + predicted - hits)
            assert matrix.iou()[k] == float(iou)
            assert matrix.f1()[k] == float(2 * iou / (1 + iou))
        else:
            assert np.isnan(matrix.iou()[k])
            assert np.isnan(matrix.f1()[k])


@given(labellings())
def test_micro_averaged_iou_is_a_over_2_minus_a_exactly(labelling):
    matrix = counted(labelling[1], labelling[2], labelling[0])
    hits, total = int(matrix.hits.sum()), int(matrix.counts.sum())
    unions = int((matrix.true_pixels + matrix.predicted_pixels - matrix.hits).sum())
    if total:
        a = Fraction(hits, total)
        assert matrix.pixel_accuracy() == float(a)
        assert Fraction(hits, unions) == a / (2 - a)


@given(labellings())
def test_the_mean_of_binary_accuracies_is_1_minus_2_times_the_error_over_the_classes(labelling):
    matrix = counted(labelling[1], labelling[2], labelling[0])
    if matrix.counts.any():
        expected = 1 - 2 * (1 - matrix.pixel_accuracy()) / matrix.num_classes
        assert matrix.binary_accuracy().mean() == pytest.approx(expected, abs=1e-14)


def test_a_pixel_accuracy_of_0_523_on_21_classes_reads_0_9545_when_averaged_in_binary():
    counts = np.zeros((21, 21), int)
    counts[0, 0], counts[1, 2] = 523, 477
    assert from_counts(counts).binary_accuracy().mean() == pytest.approx(0.95457, abs=1e-5)


@given(labellings(), st.data())
def test_nothing_predicted_in_void_changes_any_count(labelling, data):
    K, target, prediction = labelling
    anything = data.draw(arrays(np.int64, target.shape, elements=st.integers(-3, 300)))
    changed = np.where(target == 255, anything, prediction)
    np.testing.assert_array_equal(
        counted(target, changed, K).counts, counted(target, prediction, K).counts
    )


@given(labellings())
def test_batches_add_up_to_the_whole_set(labelling):
    K, target, prediction = labelling
    whole = counted(target, prediction, K)
    parts = ConfusionMatrix(K)
    total = ConfusionMatrix(K)
    for one_target, one_prediction in zip(target, prediction, strict=True):
        parts.update(one_target, one_prediction)
        total += counted(one_target, one_prediction, K)
    np.testing.assert_array_equal(parts.counts, whole.counts)
    np.testing.assert_array_equal(total.counts, whole.counts)


def test_a_sum_leaves_its_terms_alone_and_keeps_the_names():
    first, second = counted([0], [1], 2, class_names=["sky", "sea"]), counted([1], [1], 2)
    total = first + second
    assert total.counts.tolist() == [[0, 1], [0, 1]]
    assert first.counts.tolist() == [[0, 1], [0, 0]]
    assert total.class_names == ["sky", "sea"]


def test_all_background_with_5_percent_objects_scores_95_47_5_and_90_25():
    matrix = counted(np.repeat([0, 1], [95, 5]), np.zeros(100, int), 2)
    assert matrix.pixel_accuracy() == 0.95
    assert matrix.mean_iou() == 0.475
    assert matrix.frequency_weighted_iou() == pytest.approx(0.9025, abs=1e-15)
    assert matrix.mean_accuracy() == 0.5


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.int32, np.uint32, np.int64])
def test_small_integer_types_do_not_overflow(dtype):
    # K i + j = 21 x 20 + 20 = 440 is more than uint8 or int8 hold.
    labels = np.arange(21, dtype=dtype)
    assert counted(labels, labels, 21, void=-1).counts.tolist() == np.eye(21).tolist()


def test_void_pixels_of_uint8_labels_are_left_out():
    labels = np.array([0, 1, 255], np.uint8)
    assert counted(labels, labels, 2).counts.tolist() == [[1, 0], [0, 1]]


def test_without_a_labelled_pixel_every_score_is_nan_and_nothing_warns():
    for matrix in (ConfusionMatrix(3), counted(np.full((2, 2), 255), np.zeros((2, 2), int), 3)):
        scores = [matrix.pixel_accuracy(), matrix.mean_iou(), matrix.mean_accuracy()]
        scores += [matrix.frequency_weighted_iou(), *matrix.iou(), *matrix.binary_accuracy()]
        assert np.isnan(scores).all()
    empty = np.zeros((0, 4, 4), int)
    assert counted(empty, empty, 3).counts.sum() == 0


def test_per_image_and_pooled_mean_iou_differ_as_the_docstring_says():
    targets = np.array([[[0, 0], [0, 1]], [[0, 0], [1, 1]]])
    predictions = np.array([[[0, 0], [0, 0]], [[0, 0], [1, 1]]])
    assert per_image_mean_iou(targets, predictions, 2) == 0.6875
    assert counted(targets, predictions, 2).mean_iou() == pytest.approx(0.75)


def test_per_image_mean_iou_takes_images_of_any_size_and_leaves_out_those_of_void_only():
    targets = [np.array([[0, 1]]), np.array([[255]]), np.array([[1, 1], [0, 0]])]
    predictions = [np.array([[0, 1]]), np.array([[0]]), np.array([[1, 0], [0, 0]])]
    expected = (1 + (1 / 2 + 2 / 3) / 2) / 2
    assert per_image_mean_iou(targets, predictions, 2) == pytest.approx(expected)
    with pytest.raises(ValueError, match="per_image_mean_iou: 3 targets but 2 predictions"):
        per_image_mean_iou(targets, predictions[:2], 2)


def test_per_image_mean_iou_depends_on_what_an_absent_class_scores():
    targets = predictions = np.array([[[0, 0]], [[0, 1]]])  # image 1 has no class 1
    scores = [per_image_mean_iou(targets, predictions, 2, absent=a) for a in ("ignore", "zero")]
    assert scores == [1.0, 0.75]


@pytest.mark.parametrize(
    ("target", "prediction", "expected"),
    [
        ([0, 1, 2, 255], [0, 0, 0, 1], 0),  # all black: what is predicted in void does not count
        ([0, 0], [1, 1], 1),  # one class everywhere, and the wrong one
        ([0, 0], [0, 0], None),  # one class everywhere, rightly
        ([0, 1], [0, 1], None),
        ([255, 255], [0, 0], None),
    ],
)
def test_a_network_that_predicts_one_class_only_is_named(target, prediction, expected):
    matrix = counted(target, prediction, 3, class_names=["background", "disk", "ring"])
    assert matrix.predicted_single_class() == expected
    assert ("Every pixel is predicted as" in matrix.table()) == (expected is not None)


def test_the_table_is_ascii_and_fits_80_columns_even_for_long_and_foreign_names():
    names = ["background", "caf\u00e9", "x" * 200, "ring"]
    matrix = counted([0, 0, 1, 2], [0, 1, 1, 1], 4, class_names=names)
    matrix.counts[0, 0] += 10**10
    lines = matrix.table().splitlines()
    assert max(map(len, lines)) <= 80
    assert matrix.table().isascii()
    assert lines[0].split() == ["class", "IoU", "precision", "recall", "pixels"]
    assert lines[1].split() == ["background", "1.000", "1.000", "1.000", "10,000,000,002"]
    assert lines[2].split() == ["caf?", "0.333", "0.333", "1.000", "1"]
    assert lines[4].split() == ["ring", "-", "-", "-", "0"]
    assert "over the 3 of 4 classes that occur" in lines[6]


@pytest.mark.parametrize(
    ("target", "prediction", "error", "sentence"),
    [
        ([[0, 1], [7, 0]], [[0, 1], [1, 0]], ValueError,
         r"target is 7 at \(1, 0\), but the classes are 0..4 and void is 255"),
        ([[0, -1]], [[0, 0]], ValueError, r"target is -1 at \(0, 1\)"),
        ([[0, 1]], [[0, 5]], ValueError, r"prediction is 5 at \(0, 1\), but the classes are 0..4$"),
        ([[0, 1]], [[0, 255]], ValueError, r"prediction is 255 at \(0, 1\)"),
        ([[0, 1]], [0, 1], ValueError, r"target is \(1, 2\) but prediction is \(2,\)"),
        ([0.0, 1.0], [0, 1], TypeError, r"target must hold integer labels, got float64"),
        ([0, 1], [0.5, 1], TypeError, r"prediction .* got float64; take the argmax"),
        ([True, False], [0, 1], TypeError, r"target must hold integer labels, got bool"),
    ],
)  # fmt: skip
def test_wrong_labels_are_refused_with_a_sentence_and_nothing_is_counted(
    target, prediction, error, sentence
):
    matrix = ConfusionMatrix(5)
    with pytest.raises(error, match=r"ConfusionMatrix.update: " + sentence):
        matrix.update(np.array(target), np.array(prediction))
    assert not matrix.counts.any()


def test_wrong_arguments_are_refused_with_a_sentence():
    with pytest.raises(ValueError, match="num_classes must be at least 1, got 0"):
        ConfusionMatrix(0)
    with pytest.raises(TypeError, match=r"num_classes must be an int, got 2\.5"):
        ConfusionMatrix(2.5)
    with pytest.raises(ValueError, match=r"void is 255, which is one of the classes 0\.\.299"):
        ConfusionMatrix(300)
    with pytest.raises(ValueError, match="class_names has 1 names for 2 classes"):
        ConfusionMatrix(2, class_names=["background"])
    with pytest.raises(ValueError, match="absent must be one of 'ignore', 'zero', 'one'"):
        ConfusionMatrix(2).mean_iou(absent="nan")
    with pytest.raises(ValueError, match="cannot add 2 classes with void 255 and 3 classes"):
        ConfusionMatrix(2) + ConfusionMatrix(3)
    with pytest.raises(TypeError):
        ConfusionMatrix(2) + 1


def test_counts_on_the_device_equal_counts_on_the_host(monkeypatch):
    xp = strict_cupy.install(monkeypatch)
    matrix = ConfusionMatrix(5)
    matrix.update(xp.asarray(TARGET.astype(np.uint8)), xp.asarray(PREDICTION))
    assert isinstance(matrix.counts, np.ndarray)
    np.testing.assert_array_equal(matrix.counts, counted(TARGET, PREDICTION, 5).counts)
    assert per_image_mean_iou(xp.asarray(TARGET), xp.asarray(PREDICTION), 5) == (
        per_image_mean_iou(TARGET, PREDICTION, 5)
    )


def test_errors_on_the_device_read_as_on_the_host(monkeypatch):
    xp = strict_cupy.install(monkeypatch)
    with pytest.raises(ValueError, match=r"target is 7 at \(0, 1\), but the classes are 0..2"):
        ConfusionMatrix(3).update(xp.asarray(np.array([[0, 7]])), xp.asarray(np.array([[0, 0]])))
    with pytest.raises(ValueError, match="target is a cupy array but prediction is a numpy array"):
        ConfusionMatrix(3).update(xp.asarray(np.array([0])), np.array([0]))


@pytest.mark.gpu
def test_counts_on_a_real_gpu_equal_counts_on_the_host():
    cupy = pytest.importorskip("cupy")
    if not cupy.cuda.is_available():
        pytest.skip("no CUDA device")
    matrix = ConfusionMatrix(5)
    matrix.update(cupy.asarray(TARGET.astype(np.uint8)), cupy.asarray(PREDICTION))
    np.testing.assert_array_equal(matrix.counts, counted(TARGET, PREDICTION, 5).counts)


def test_lists_are_labels_too():
    matrix = ConfusionMatrix(2)
    matrix.update([0, 1], [1, 1])
    assert matrix.counts.tolist() == [[0, 1], [0, 1]]
