"""The confusion matrix: counting who was taken for whom.

Every score of a segmentation is computed from one table of counts. Its rows are the truth, its columns
the prediction:

    for every pixel:
        counts[true class, predicted class] += 1

A right pixel is counted on the diagonal. A pixel whose true class nobody knows, along the border of
an object say, carries the label void; it is left out, whatever was predicted there.

Source: University of Waterloo, "(Validation) Quality Metrics" and "Fully-supervised Semantic
Segmentation"; Deep Learning for Vision (2024-2025), "Evaluation".
"""

import numpy as np


def confusion_matrix(target, prediction, num_classes, void=255):
    """How many pixels of each true class were predicted as each class.

        counts[i, j] = number of pixels with target i and prediction j

    target: true labels, 0 .. K - 1 or void, of any shape, say (N, H, W); an array of int64 or uint8.
    prediction: predicted labels, 0 .. K - 1, of the same shape and dtype.
    num_classes: K, an int.
    void: an int, no class: 255 or -1, say.
    -> counts (K, K), whole numbers (int64, say), rows truth, columns prediction. It has a row and a
    column for each of the K classes, whether they occur or not. There may be more than 255 pixels.
    The arguments are not changed.
    """
    ### BEGIN SOLUTION
    counts = np.zeros((num_classes, num_classes), np.int64)
    for i, j in zip(target.ravel(), prediction.ravel(), strict=True):
        if i != void:
            counts[i, j] += 1
    return counts
    ### END SOLUTION


### FOR THE TEACHER

from minseg import loops
from minseg.grading.exercise import call, check, holds, right, wrong

REFERENCE = {"confusion_matrix": loops.confusion_matrix}
HINTS = [
    """
    Truth 0 0 1, prediction 0 1 1, two classes. Draw a table of 2 x 2 and make three strokes in it.
    One pixel was wrong: in which row and which column is its stroke?
    """,
    """
    Begin with zeros, K rows and K columns, of whole numbers that can be large. Go through target and
    prediction side by side, pixel by pixel; a void pixel makes no stroke. Whatever you compute from
    labels that are uint8 is uint8 again: what is 200 + 100 then?
    """,
    """
    counts = np.zeros((<K>, <K>), np.int64)
    for i, j in zip(<all true labels>, <all predicted labels>):
        if i is not <...>:
            counts[<row>, <column>] += 1
    """,
]


def mistaken(draw, num_classes, *shape, dtype=np.int64):
    """Labels with some of class i taken for class j, more often than j for i."""
    target = draw.labels(*shape, num_classes=num_classes)
    prediction = np.where(draw.rng.random(shape) < 0.6, target, (target + 1) % num_classes)
    return target.astype(dtype), prediction.astype(dtype)


@check("a handful of pixels")
def three_pixels(draw):
    i = draw.between(0, 1)
    yield call("confusion_matrix", np.array([i, i, 1 - i]), np.array([i, 1 - i, 1 - i]), 2)
    pairs = np.array([i, i, i, 1 - i]), np.array([1 - i, i, 1 - i, i])
    yield call("confusion_matrix", *pairs, 2)
    i, j, k = draw.rng.permutation(3)
    yield call("confusion_matrix", np.array([i, j, j]), np.array([j, k, j]), 3)
    yield call("confusion_matrix", *mistaken(draw, 4, 8), 4)


@check("label images: rows are the truth")
def images(draw):
    yield call("confusion_matrix", *mistaken(draw, 3, 3, 5), 3)
    yield call("confusion_matrix", *mistaken(draw, 5, 2, 6, 7), 5)


@check("void pixels are left out")
def void(draw):
    i = draw.between(0, 1)
    yield call("confusion_matrix", np.array([i, 255]), np.array([i, 1 - i]), 2)
    yield call("confusion_matrix", np.array([i, -1]), np.array([i, 1 - i]), 2, void=-1)
    target, prediction = mistaken(draw, 4, 2, 5, 6)
    hidden = draw.rng.random(target.shape) < 0.3
    yield call("confusion_matrix", np.where(hidden, 255, target), prediction, 4)
    yield call("confusion_matrix", np.where(hidden, -1, target), prediction, 4, void=-1)


@check("a class that does not occur has its row and column")
def absent(draw):
    i = draw.between(0, 1)
    yield call("confusion_matrix", np.array([[0, i, i]]), np.array([[0, 1 - i, i]]), 3)
    yield call("confusion_matrix", *mistaken(draw, 3, 4, 5), 6)


@check("many pixels, in labels of one byte", points=2)
def one_byte(draw):
    yield call("confusion_matrix", *mistaken(draw, 2, 30, 40, dtype=np.uint8), 2)
    # 17 * 17 pairs of classes are more than a byte can number.
    some = np.repeat(np.array([16, draw.between(14, 15)], np.uint8), 4)
    yield call("confusion_matrix", some, some[::-1], 17)
    yield call("confusion_matrix", *mistaken(draw, 17, 15, 20, dtype=np.uint8), 17)
    target, prediction = mistaken(draw, 3, 30, 40, dtype=np.uint8)
    hidden = draw.rng.random(target.shape) < 0.1
    yield call("confusion_matrix", np.where(hidden, np.uint8(255), target), prediction, 3)


@holds("the counts add up to the number of pixels that are not void, whatever number void has")
def total(draw):
    asked = []
    for number, dtype in ((255, np.uint8), (-1, np.int64)):
        target, prediction = mistaken(draw, 2, 30, 40, dtype=dtype)
        target[0, :30] = number
        asked.append(call("confusion_matrix", target, prediction, 2, void=number))
    answers = yield asked
    return all(counts.sum() == 1170 for (counts,) in answers)


@holds("each row adds up to the pixels of its true class")
def rows(draw):
    target, prediction = mistaken(draw, 3, 4, 5)
    ((counts,),) = yield [call("confusion_matrix", target, prediction, 3)]
    return (counts.sum(axis=1) == np.bincount(target.ravel(), minlength=3)).all()


@holds("two images together: the sum of their matrices")
def additive(draw):
    target, prediction = mistaken(draw, 3, 2, 4, 5)
    (both,), (one,), (other,) = yield [
        call("confusion_matrix", target[n], prediction[n], 3) for n in (slice(None), 0, 1)
    ]
    return (both == one + other).all()


rows_are_prediction = wrong(
    "confusion_matrix",
    "the transpose of the confusion matrix: its rows are the prediction. Precision and recall "
    "would change places, and IoU would not even notice",
    {"counts[i, j] +=": "counts[j, i] +="},
)


void_is_background = wrong(
    "confusion_matrix",
    "a confusion matrix that takes void for class 0. What nobody labelled would count as "
    "background, and each prediction there as right or wrong",
    {"target.ravel()": "np.where(target == void, 0, target).ravel()"},
)


void_is_255 = wrong(
    "confusion_matrix",
    "a confusion matrix for which 255 is void, whatever the argument void says. "
    "With void = -1 such a pixel counts in the last row, where the index -1 leads",
    {"i != void": "i != 255"},
)


@wrong("confusion_matrix", "a matrix in which every pair of classes is counted once, however often it "
       "occurs: counts[t, p] += 1 with arrays t and p adds 1 to each place that they name, not 1 for each "
       "time that they name it")  # fmt: skip
def every_pair_once(target, prediction, num_classes, void=255):
    known = target != void
    counts = np.zeros((num_classes, num_classes), np.int64)
    counts[target[known], prediction[known]] += 1
    return counts


@wrong("confusion_matrix", "the diagonal of the confusion matrix alone. It counts the right pixels; "
       "the wrong ones belong into the table as well, each beside the diagonal")  # fmt: skip
def diagonal_only(target, prediction, num_classes, void=255):
    counts = np.zeros((num_classes, num_classes), np.int64)
    for k in range(num_classes):
        counts[k, k] = ((target == k) & (prediction == k)).sum()
    return counts


counts_in_bytes = wrong(
    "confusion_matrix",
    "counts modulo 256: they are kept in the labels' own dtype, one byte, and begin again at 0 "
    "after 255. There can be as many as there are pixels",
    {"return counts": "return counts.astype(target.dtype)"},
)


@wrong("confusion_matrix", "a histogram of K * target + prediction that was computed in one byte, so "
       "that the number of a pair wrapped at 256. Convert the labels before the product")  # fmt: skip
def pairs_in_bytes(target, prediction, num_classes, void=255):
    known = target != void
    pairs = num_classes * target[known] + prediction[known]
    counts = np.bincount(pairs, minlength=num_classes * num_classes)
    return counts.reshape(num_classes, num_classes)


@wrong("confusion_matrix", "a matrix of only as many classes as the labels show. Matrices of several "
       "images are added up, so all of them need K rows and K columns")  # fmt: skip
def classes_seen(target, prediction, num_classes, void=255):
    known = target != void
    K = int(max(target[known].max(), prediction[known].max())) + 1
    counts = np.zeros((K, K), np.int64)
    for i, j in zip(target[known], prediction[known], strict=True):
        counts[i, j] += 1
    return counts


@right("confusion_matrix", "one mask for each pair of classes")
def masks(target, prediction, num_classes, void=255):
    counts = np.zeros((num_classes, num_classes))
    for i in range(num_classes):
        for j in range(num_classes):
            counts[i, j] = np.sum((target == i) & (prediction == j))
    return counts


@right("confusion_matrix", "a number for each pair, and one histogram")
def histogram(target, prediction, num_classes, void=255):
    known = target != void
    pairs = num_classes * target[known].astype(np.int64) + prediction[known]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


@right("confusion_matrix", "a product of one-hot labels; float32, Fortran order")
def one_hot(target, prediction, num_classes, void=255):
    classes = np.arange(num_classes)
    true = (target.reshape(-1, 1) == classes).astype(np.float32)  # (pixels, K); a void row is 0
    predicted = (prediction.reshape(-1, 1) == classes).astype(np.float32)
    return np.asfortranarray(true.T @ predicted)


@right("confusion_matrix", "add.at, which adds at a place as often as it is named; int32")
def add_at(target, prediction, num_classes, void=255):
    known = target != void
    counts = np.zeros((num_classes, num_classes), np.int32)
    np.add.at(counts, (target[known], prediction[known]), 1)
    return counts


@right("confusion_matrix", "the pairs sorted, then each counted")
def sorted_pairs(target, prediction, num_classes, void=255):
    known = target != void
    pairs = np.stack([target[known], prediction[known]]).astype(np.int64)
    found, number = np.unique(pairs, axis=1, return_counts=True)
    counts = np.zeros((num_classes, num_classes), np.int64)
    counts[found[0], found[1]] = number
    return counts


@right("confusion_matrix", "a two-dimensional histogram of numpy")
def histogram_2d(target, prediction, num_classes, void=255):
    known = target != void
    edges = np.arange(num_classes + 1) - 0.5
    return np.histogram2d(target[known], prediction[known], [edges, edges])[0]
