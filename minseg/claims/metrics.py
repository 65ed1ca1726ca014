"""Claims on metrics: rational functions of counts of pixels, so both sides are multiplied out.

Source: beside each claim.
"""

from typing import Any

import numpy as np

from minseg.claims.claim import BONN, DLV, WATERLOO, claim
from minseg.metrics import ConfusionMatrix
from minseg.proofs import Verdict, prove


@claim(
    DLV, "Evaluation",
    "F1 = 2 IoU / (1 + IoU): with TP, FP, FN pixels, F1 = 2TP/(2TP+FP+FN) and IoU = TP/(TP+FP+FN).",
)  # fmt: skip
def f1_from_iou() -> Verdict:
    def left(n: Any) -> Any:
        tp, fp, fn = n
        return 2 * tp * ((tp + fp + fn) + tp)  # F1's numerator times (1 + IoU)'s, over the rest

    def right(n: Any) -> Any:
        tp, fp, fn = n
        return 2 * tp * (2 * tp + fp + fn)  # 2 IoU's numerator times F1's denominator

    return prove(left, right, n=(3,))


@claim(
    BONN, "Segmentation Accuracy",
    "Over all K classes together, IoU = a / (2 - a), a being the pixel accuracy.",
)  # fmt: skip
def micro_iou() -> Verdict:
    def left(counts: Any) -> Any:  # IoU = hits / (rows + columns - hits), times (2 - a) * total
        hits, total = counts.trace(), counts.sum()
        return hits * (2 * total - hits)

    def right(counts: Any) -> Any:  # a * (rows + columns - hits), times total
        hits = counts.trace()
        union = counts.sum(axis=1).sum() + counts.sum(axis=0).sum() - hits
        return hits * union

    return prove(left, right, counts=(4, 4))


@claim(
    BONN, "Segmentation Accuracy",
    "Averaged over K classes, (TP + TN)/all is 1 - 2(1 - a)/K: high even for a bad network.",
)  # fmt: skip
def mean_binary_accuracy() -> Verdict:
    def left(counts: Any) -> Any:  # K * total * mean of (TP + TN) / total
        total = counts.sum()
        rows, columns, hits = counts.sum(axis=1), counts.sum(axis=0), counts.diagonal()
        return sum(hits[k] + (total - rows[k] - columns[k] + hits[k]) for k in range(len(hits)))

    def right(counts: Any) -> Any:
        return len(counts) * counts.sum() - 2 * (counts.sum() - counts.trace())

    return prove(left, right, counts=(5, 5))


@claim(
    WATERLOO, "(Validation) Quality Metrics",
    "The confusion matrix of two images is the sum of theirs; void pixels change nothing.",
    "EVIDENCE",
)  # fmt: skip
def confusion_matrix_adds_up() -> Verdict:
    def count(target: Any, prediction: Any) -> ConfusionMatrix:
        target = np.where(target % 7 == 6, 255, target % 7 % 4)
        matrix = ConfusionMatrix(4)
        matrix.update(target, prediction % 4)
        return matrix

    return prove(
        lambda t, p: count(t, p).counts,
        lambda t, p: (count(t[0], p[0]) + count(t[1], p[1])).counts,
        t=(2, 5, 6), p=(2, 5, 6), least=0,
    )  # fmt: skip
