"""Scores from a confusion matrix.

counts[i, j] is the number of pixels of true class i that were called j: rows truth, columns
prediction. For one class k,

    TP = counts[k, k]             of class k, and called k
    FN = the rest of row k        of class k, and called something else
    FP = the rest of column k     called k, and of another class

and every score is a quotient of these. A class may be missing: where its quotient reads 0/0 its score
is NaN, no number, and the mean over the classes leaves it out. (Counting it as 0 or as 1 is done,
too, and gives other figures: a paper has to say.) Such a 0/0 each score has at its own place: recall
where no pixel is of class k, precision where none is called k, IoU where neither is the case.

Source: University of Waterloo, "(Validation) Quality Metrics"; Deep Learning for Vision (2024-2025),
"Compute the accuracy, precision, recall, F1 and IoU at pixel level"; Bonn, MA-INF 4308 (2023),
"Intersection over Union".
"""

import numpy as np


def ratio(above, below):
    """above / below, number by number; NaN, and no warning, where that reads 0/0. Given to you."""
    with np.errstate(invalid="ignore"):
        return np.asarray(above) / np.asarray(below)


# counts is (K, K), int64, with at least one pixel in it. No function changes it.


def pixel_accuracy(counts):
    """The share of all pixels that are right: a number.

    all TP together / all pixels
    """
    ### BEGIN SOLUTION
    return ratio(np.trace(counts), counts.sum())
    ### END SOLUTION


def recall(counts):
    """The share of each class that was found: (K,).

    TP / (TP + FN), and NaN for a class of which there is no pixel
    """
    ### BEGIN SOLUTION
    return ratio(np.diagonal(counts), counts.sum(axis=1))
    ### END SOLUTION


def precision(counts):
    """The share of what was called each class that is right: (K,).

    TP / (TP + FP), and NaN for a class that was never called
    """
    ### BEGIN SOLUTION
    return ratio(np.diagonal(counts), counts.sum(axis=0))
    ### END SOLUTION


def iou(counts):
    """Intersection over union of truth and prediction, for each class: (K,).

    TP / (TP + FP + FN), and NaN for a class of which there is no pixel and which was never called
    """
    ### BEGIN SOLUTION
    hits = np.diagonal(counts)
    union = counts.sum(axis=1) + counts.sum(axis=0) - hits
    return ratio(hits, union)
    ### END SOLUTION


def mean_iou(counts):
    """The mean of the IoU over the classes, those left out whose IoU is NaN: a number.

    Each class weighs the same, whether it has many pixels or few.
    """
    ### BEGIN SOLUTION
    return np.nanmean(iou(counts))
    ### END SOLUTION


### FOR THE TEACHER

from minseg.grading.exercise import call, check, holds, right, wrong
from minseg.metrics import ConfusionMatrix


def library(score):
    """The method of the library's ConfusionMatrix, as a function of the counts."""

    def of_counts(counts):
        matrix = ConfusionMatrix(len(counts))
        matrix.counts += counts
        return getattr(matrix, score)()

    return of_counts


SCORES = ("pixel_accuracy", "recall", "precision", "iou", "mean_iou")
REFERENCE = {score: library(score) for score in SCORES}
HINTS = [
    """
    counts = [[3, 1], [2, 4]]. How many pixels are of class 0? How many were called 0? How many are
    both, and how many at least one of the two?
    """,
    """
    np.diagonal(counts) holds TP of every class. The sum of a row is TP + FN, the sum of a column
    TP + FP: mind which axis sum() takes away. In the sum of both, the TP stand twice. `ratio`
    makes NaN of 0/0, and NumPy has a mean that passes over NaN.
    """,
    """
    pixel_accuracy: ratio(<sum of the diagonal>, <sum of everything>)
    recall:         ratio(np.diagonal(counts), counts.sum(axis=<...>))
    precision:      ratio(np.diagonal(counts), counts.sum(axis=<...>))
    iou:            ratio(<TP>, <row sums> + <column sums> - <...>)
    mean_iou:       np.<...>(iou(counts))
    """,
]


def table(draw, K):
    """A confusion matrix in which rows and columns have different sums."""
    counts = draw.distinct(K, K)
    counts = (counts - counts.min() + 1).astype(np.int64)
    counts[0, 1] += 3 * K * K
    return counts


def without(counts, true=None, called=None):
    """The same, with no pixel of class `true` and none that was called `called`."""
    counts = counts.copy()
    if true is not None:
        counts[true] = 0
    if called is not None:
        counts[:, called] = 0
    return counts


@check("pixel accuracy")
def accuracies(draw):
    yield call("pixel_accuracy", table(draw, 2))
    yield call("pixel_accuracy", table(draw, 4))


@check("recall")
def recalls(draw):
    yield call("recall", table(draw, 2))
    yield call("recall", table(draw, 4))


@check("precision")
def precisions(draw):
    yield call("precision", table(draw, 2))
    yield call("precision", table(draw, 4))


@check("intersection over union")
def ious(draw):
    yield call("iou", table(draw, 2))
    yield call("iou", table(draw, 4))


@check("classes that are missing: NaN for 0/0, and only there")
def missing(draw):
    k = draw.between(0, 2)
    counts = table(draw, 3)
    yield call("iou", without(counts, k, k))
    yield call("recall", without(counts, true=k))
    yield call("precision", without(counts, called=k))
    yield call("iou", without(counts, true=k))  # called, and never rightly: an honest 0
    yield call("iou", without(table(draw, 4), called=k))


@check("the mean IoU, of all classes and of those that occur", points=2)
def means(draw):
    k = draw.between(0, 3)
    yield call("mean_iou", table(draw, 2))
    yield call("mean_iou", table(draw, 3))
    yield call("mean_iou", without(table(draw, 4), k, k))
    yield call("mean_iou", without(table(draw, 4), called=k))


@holds("a perfect prediction scores 1")
def perfect(draw):
    counts = np.diag(1 + draw.labels(3, num_classes=9))
    answers = yield [call(score, counts) for score in SCORES]
    return all((values == 1).all() for (values,) in answers)


@holds("truth and prediction exchanged: recall and precision change places")
def exchanged(draw):
    counts = table(draw, 3)
    (found,), (right_ones,) = yield [call("recall", counts.T), call("precision", counts)]
    return np.allclose(found, right_ones)


@holds("no IoU is larger than the recall or the precision of its class")
def smallest(draw):
    counts = table(draw, 4)
    (overlap,), (found,), (right_ones,) = yield [
        call(score, counts) for score in ("iou", "recall", "precision")
    ]
    return (overlap <= found).all() and (overlap <= right_ones).all()


@wrong("pixel_accuracy", "the mean accuracy, in which each class weighs the same. Pixel accuracy knows "
       "no classes: right pixels over all pixels")  # fmt: skip
def mean_accuracy(counts):
    return ratio(np.diagonal(counts), counts.sum(axis=1)).mean()


@wrong("recall", "precision where recall is asked for: TP over the column. Rows are the truth, and "
       "recall asks how much of the truth was found")  # fmt: skip
def recall_by_columns(counts):
    return ratio(np.diagonal(counts), counts.sum(axis=0))


@wrong("precision", "recall where precision is asked for: TP over the row. Columns are the prediction, "
       "and precision asks how much of the prediction is right")  # fmt: skip
def precision_by_rows(counts):
    return ratio(np.diagonal(counts), counts.sum(axis=1))


@wrong("iou", "TP over the row and the column added, half of F1: the TP stand in both sums, so the "
       "union has them twice")  # fmt: skip
def union_with_hits_twice(counts):
    return ratio(np.diagonal(counts), counts.sum(axis=1) + counts.sum(axis=0))


@wrong("iou", "F1, which is also the Dice score: 2 TP / (2 TP + FP + FN). It ranks predictions as IoU "
       "does, and is never the smaller number of the two")  # fmt: skip
def dice(counts):
    return ratio(2 * np.diagonal(counts), counts.sum(axis=1) + counts.sum(axis=0))


iou_of_nothing_is_0 = wrong(
    "iou",
    "IoU with 0 for a class that is neither in the truth nor in the prediction. Nothing was asked "
    "and nothing missed: 0/0 is no score, and NaN says so",
    {"ratio(hits, union)": "hits / np.maximum(union, 1)"},
)


missing_is_0 = wrong(
    "mean_iou",
    "a mean over all K classes in which a missing one counts as 0. It has to be left out, of the "
    "sum and of the number of classes that you divide by",
    {"np.nanmean(iou(counts))": "np.nan_to_num(iou(counts)).mean()"},
)


missing_is_1 = wrong(
    "mean_iou",
    "a mean over all K classes in which a missing one counts as 1. It has to be left out, of the "
    "sum and of the number of classes that you divide by",
    {"np.nanmean(iou(counts))": "np.nan_to_num(iou(counts), nan=1).mean()"},
)


nan_spreads = wrong(
    "mean_iou",
    "a mean that includes the NaN of missing classes, and so is NaN itself as soon as one class "
    "is missing",
    {"np.nanmean(iou(counts))": "iou(counts).mean()"},
)


weighted = wrong(
    "mean_iou",
    "the frequency weighted IoU: each class counts as it has pixels. In the mean IoU a small "
    "class weighs as much as a large one",
    {"np.nanmean(iou(counts))": "np.nansum(counts.sum(axis=1) * iou(counts)) / counts.sum()"},
)


@wrong("mean_iou", "one IoU of all classes together: TP, FP and FN were added up before dividing. Make "
       "a score of every class first, then the mean of these")  # fmt: skip
def micro(counts):
    hits = np.diagonal(counts).sum()
    return hits / (2 * counts.sum() - hits)


@right("pixel_accuracy", "a loop over the diagonal")
def accuracy_loop(counts):
    return float(sum(counts[k, k] for k in range(len(counts))) / sum(sum(counts)))


@right("recall", "class by class")
def recall_loop(counts):
    scores = []
    for k, row in enumerate(counts):
        scores.append(row[k] / row.sum() if row.any() else float("nan"))
    return np.array(scores)


@right("recall", "rows divided by their sums; float32")
def recall_of_shares(counts):
    rows = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    scores = np.einsum("kk->k", counts / rows).astype(np.float32)
    return np.where(counts.any(axis=1), scores, np.float32("nan"))


@right("precision", "the recall of the table turned over")
def precision_of_the_transpose(counts):
    return recall(counts.T)


@right("precision", "TP and FP from masks")
def precision_masks(counts):
    own = np.eye(len(counts), dtype=bool)
    TP, FP = np.where(own, counts, 0).sum(axis=0), np.where(own, 0, counts).sum(axis=0)
    scores = np.full(len(counts), np.nan)
    np.divide(TP, TP + FP, out=scores, where=TP + FP > 0)
    return scores


@right("iou", "class by class")
def iou_loop(counts):
    scores = np.full(len(counts), np.nan)
    for k in range(len(counts)):
        TP = counts[k, k]
        FN, FP = counts[k].sum() - TP, counts[:, k].sum() - TP
        if TP + FP + FN:
            scores[k] = TP / (TP + FP + FN)
    return scores


@right("iou", "from F1: IoU = F1 / (2 - F1)")
def iou_of_f1(counts):
    f1 = ratio(2 * np.diagonal(counts), counts.sum(axis=1) + counts.sum(axis=0))
    return f1 / (2 - f1)


@right("mean_iou", "sum and number of the classes that occur")
def mean_of_those_that_occur(counts):
    scores = [score for score in iou(counts) if score == score]
    return sum(scores) / len(scores)


@right("mean_iou", "missing classes deleted from the table first; float32")
def table_without_missing(counts):
    occur = counts.any(axis=0) | counts.any(axis=1)
    return iou(counts[occur][:, occur]).astype(np.float32).mean()
