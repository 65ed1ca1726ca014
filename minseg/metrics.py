"""How good is a labelling? One confusion matrix, and every score computed from it.

Sources: Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation" (CVPR
2015), section 5, "Metrics". Lectures: Waterloo, "Semantic Segmentation", slide "(Validation)
Quality Metrics"; Bonn, Lab CudaVision MA-INF 4308 (2023), slides "Segmentation Accuracy" and
"Intersection over Union"; Deep Learning for Vision (2024-2025), "Compute the accuracy, precision,
recall, F1 and IoU at pixel level".
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np

from minseg.arguments import integer, one_of
from minseg.backend import array_module, to_numpy

Absent = Literal["ignore", "zero", "one"]
_ABSENT_VALUE = {"ignore": np.nan, "zero": 0.0, "one": 1.0}


class ConfusionMatrix:
    """counts[i, j] = number of labelled pixels of true class i that were predicted as class j.

    Rows are the truth, columns the prediction (n_ij of the FCN paper). Pixels whose truth is `void`
    are left out, whatever is predicted there. Matrices of two batches add up to the matrix of both.
    For one class k: TP = counts[k, k], FN = the rest of row k, FP = the rest of column k.

    `absent` of the methods says what a class scores whose formula reads 0/0, and each score has its
    own: IoU and F1 when the class is neither in the truth nor in the prediction, recall when it is
    not in the truth, precision when it is never predicted.
        "ignore": NaN for the class, and the mean is taken over the other classes (default);
        "zero":   0, so that absent classes pull the mean down;
        "one":    1, so that absent classes push it up.
    Truth 0 0 1 1, prediction 0 1 1 1, K = 3: IoU = 1/2, 2/3, 0/0, and the mean IoU is
    0.583 ("ignore"), 0.389 ("zero") or 0.722 ("one"). Always say which one a figure is.

    Attributes:
        counts: (K, K) int64, on the host.

    Raises:
        TypeError: num_classes or void is no int.
        ValueError: num_classes < 1, void is one of the classes, or not K class names.

    Source: FCN paper, section 5, "Metrics".

    >>> matrix = ConfusionMatrix(3)
    >>> matrix.update(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]))
    >>> matrix.counts.tolist()
    [[1, 1, 0], [0, 2, 0], [0, 0, 0]]
    >>> round(matrix.mean_iou(), 3)
    0.583
    """

    def __init__(
        self, num_classes: int, void: int = 255, class_names: Sequence[str] | None = None
    ) -> None:
        K = integer("ConfusionMatrix", "num_classes", num_classes, least=1)
        void = integer("ConfusionMatrix", "void", void)
        if 0 <= void < K:
            raise ValueError(
                f"ConfusionMatrix: void is {void}, which is one of the classes 0..{K - 1}; "
                "give a label outside them, such as -1"
            )
        if class_names is not None and len(class_names) != K:
            raise ValueError(
                f"ConfusionMatrix: class_names has {len(class_names)} names for {K} classes"
            )
        self.num_classes = K
        self.void = void
        self.class_names = [str(k) for k in range(K)] if class_names is None else list(class_names)
        self.counts = np.zeros((K, K), np.int64)

    def update(self, target: Any, prediction: Any) -> None:
        """counts[i, j] += number of pixels with target i and prediction j; void targets left out.

        Args:
            target: true labels 0..K-1 or void, integers, any shape, say (N, H, W); NumPy or CuPy.
            prediction: predicted labels 0..K-1, integers, the same shape (anything where void).

        Raises:
            TypeError: labels that are not integers.
            ValueError: shapes or devices that differ, or a label outside 0..K-1 (the sentence names
                it and its position).
        """
        xp = array_module(target)
        if array_module(prediction) is not xp:
            raise ValueError(
                f"ConfusionMatrix.update: target is a {xp.__name__} array but prediction is a "
                f"{array_module(prediction).__name__} array; move one to the other's device"
            )
        target, prediction = _labels("target", target), _labels("prediction", prediction)
        if target.shape != prediction.shape:
            raise ValueError(
                f"ConfusionMatrix.update: target is {target.shape} but prediction is "
                f"{prediction.shape}; both need one label per pixel"
            )
        K = self.num_classes
        labelled = target != self.void
        self._refuse_strangers(xp, "target", target, labelled)
        self._refuse_strangers(xp, "prediction", prediction, labelled)

        # Each pair (i, j) is the number K i + j, so one histogram counts them all; void pixels go
        # to a bin of their own, which is then cut off.
        pair = xp.where(labelled, K * target + prediction, K * K)
        histogram = xp.bincount(pair.ravel(), minlength=K * K + 1)  # (K K + 1,)
        self.counts += to_numpy(histogram)[: K * K].reshape(K, K)

    def _refuse_strangers(self, xp: Any, name: str, labels: Any, labelled: Any) -> None:
        K = self.num_classes
        stranger = labelled & ((labels < 0) | (labels >= K))
        if stranger.any():
            position = np.unravel_index(int(xp.argmax(stranger)), labels.shape)
            raise ValueError(
                f"ConfusionMatrix.update: {name} is {int(labels[position])} at "
                f"{tuple(map(int, position))}, but the classes are 0..{K - 1}"
                + (f" and void is {self.void}" if name == "target" else "")
            )

    def __add__(self, other: "ConfusionMatrix") -> "ConfusionMatrix":
        """The confusion matrix of both sets of pixels: counts add up."""
        if not isinstance(other, ConfusionMatrix):
            return NotImplemented
        if (self.num_classes, self.void) != (other.num_classes, other.void):
            raise ValueError(
                f"ConfusionMatrix: cannot add {self.num_classes} classes with void {self.void} "
                f"and {other.num_classes} classes with void {other.void}"
            )
        total = ConfusionMatrix(self.num_classes, self.void, self.class_names)
        total.counts = self.counts + other.counts
        return total

    @property
    def hits(self) -> np.ndarray:
        """TP, n_kk: pixels of each class that were found. (K,) int64."""
        return np.diagonal(self.counts)

    @property
    def true_pixels(self) -> np.ndarray:
        """TP + FN, t_k: pixels of each class in the truth. (K,) int64."""
        return self.counts.sum(axis=1)

    @property
    def predicted_pixels(self) -> np.ndarray:
        """TP + FP: pixels of each class in the prediction. (K,) int64."""
        return self.counts.sum(axis=0)

    def pixel_accuracy(self) -> float:
        """sum_k n_kk / sum_k t_k: the share of labelled pixels that are right.

        Says little where one class is everywhere: with objects on 5 % of the pixels, a network
        that answers "background" scores 0.95 (and a mean IoU of 0.475).
        NaN where no pixel is labelled.
        """
        return float(_ratio(self.hits.sum(), self.counts.sum()))

    def recall(self, absent: Absent = "ignore") -> np.ndarray:
        """TP / (TP + FN) = n_kk / t_k: the share of each class that was found. (K,) float64.

        The "per-class accuracy" of the segmentation papers; 0/0 when k is not in the truth.
        """
        return _ratio(self.hits, self.true_pixels, absent)

    def precision(self, absent: Absent = "ignore") -> np.ndarray:
        """TP / (TP + FP): the share of each predicted class that is right. (K,) float64.

        0/0 when k is never predicted.
        """
        return _ratio(self.hits, self.predicted_pixels, absent)

    def iou(self, absent: Absent = "ignore") -> np.ndarray:
        """TP / (TP + FP + FN): overlap over union of truth and prediction. (K,) float64.

        0/0 when k is neither in the truth nor in the prediction; a class that is in the truth and
        never predicted (or the reverse) scores an honest 0.
        """
        return _ratio(self.hits, self.true_pixels + self.predicted_pixels - self.hits, absent)

    def f1(self, absent: Absent = "ignore") -> np.ndarray:
        """2 TP / (2 TP + FP + FN) = 2 IoU / (1 + IoU), also called the Dice score. (K,) float64.

        The harmonic mean of precision and recall; 0/0 exactly where IoU is.
        """
        return _ratio(2 * self.hits, self.true_pixels + self.predicted_pixels, absent)

    def binary_accuracy(self) -> np.ndarray:
        """(TP + TN) / (TP + TN + FP + FN): "k or not k?" answered rightly. (K,) float64.

        The formula of the slide "Segmentation Accuracy" (Bonn, 2023), one class at a time. Every
        wrong pixel is one FP and one FN, so the mean over K classes is 1 - 2 (1 - a) / K with a
        the pixel accuracy: a = 0.523 on 21 classes already reads 0.955.
        """
        total = self.counts.sum()
        wrong = self.true_pixels + self.predicted_pixels - 2 * self.hits  # FN + FP
        return _ratio(total - wrong, np.full(self.num_classes, total))

    def mean_accuracy(self, absent: Absent = "ignore") -> float:
        """(1/K) sum_k n_kk / t_k: the mean of `recall` over the classes."""
        return _mean(self.recall(absent))

    def mean_iou(self, absent: Absent = "ignore") -> float:
        """mIoU = (1/K) sum_k IoU_k, pixels pooled over everything counted so far.

        Pooled means that a class has one IoU for the whole set, to which a large object contributes
        more pixels than a small one; see `per_image_mean_iou` for the other convention.
        """
        return _mean(self.iou(absent))

    def frequency_weighted_iou(self) -> float:
        """sum_k t_k IoU_k / sum_k t_k: each class weighs as much as it has pixels in the truth.

        A class missing from the truth weighs nothing, so no choice of `absent` is needed.
        """
        return float(_ratio((self.true_pixels * self.iou("zero")).sum(), self.counts.sum()))

    def predicted_single_class(self) -> int | None:
        """The only class predicted, although the truth holds another one; otherwise None.

        The field's most asked question, "why is my prediction all black?", as a test.
        """
        predicted = np.flatnonzero(self.predicted_pixels)
        if len(predicted) != 1 or self.hits.sum() == self.counts.sum():
            return None
        return int(predicted[0])

    def table(self) -> str:
        """One line per class and a summary, as ASCII of at most 80 columns; "-" stands for 0/0.

        Columns: class, IoU, precision, recall, pixels in the truth.
        """
        names = [_ascii(name, 28) for name in self.class_names]
        width = max(len(name) for name in [*names, "class"])
        lines = [f"{'class':<{width}}     IoU  precision  recall          pixels"]
        columns = (self.iou(), self.precision(), self.recall(), self.true_pixels)
        for name, iou, precision, recall, pixels in zip(names, *columns, strict=True):
            scores = f"{_score(iou):>8}{_score(precision):>11}{_score(recall):>8}"
            lines.append(f"{name:<{width}}{scores}{pixels:>16,}")
        present = int(np.isfinite(self.iou()).sum())
        lines += [
            "-" * len(lines[0]),
            f"mean IoU {_score(self.mean_iou())} over the {present} of {self.num_classes} classes "
            "that occur",
            f"pixel accuracy {_score(self.pixel_accuracy())}, "
            f"mean accuracy {_score(self.mean_accuracy())}, "
            f"frequency weighted IoU {_score(self.frequency_weighted_iou())}",
        ]
        only = self.predicted_single_class()
        if only is not None:
            lines.append(f"Every pixel is predicted as {names[only]}: this network sees one class.")
        return "\n".join(lines)


def per_image_mean_iou(
    targets: Iterable[Any],
    predictions: Iterable[Any],
    num_classes: int,
    void: int = 255,
    absent: Absent = "ignore",
) -> float:
    """(1/N) sum_n mIoU(image n): the mIoU of each image by itself, then the mean over images.

    Differs from `ConfusionMatrix.mean_iou`, which pools the pixels of all images first. Image 1 has
    one pixel of class 1 in four, which is missed: IoU 3/4 and 0. Image 2 has two, both found: 1 and
    1. Per image: (3/8 + 1) / 2 = 0.6875. Pooled: (5/6 + 2/3) / 2 = 0.75. Per image, missing a small
    object costs as much as missing a large one, and an absent class is one that this image lacks,
    so `absent` matters far more. Papers report the pooled one unless they say otherwise.

    Args:
        targets, predictions: N label images each, (N, H, W) or a list of (H, W) of any sizes.
        num_classes, void, absent: as for `ConfusionMatrix`; in an image of nothing but
            void, every class is absent.

    Raises:
        ValueError, TypeError: as `ConfusionMatrix.update`, or a different number of images.
    """
    targets, predictions = list(targets), list(predictions)
    if len(targets) != len(predictions):
        raise ValueError(
            f"per_image_mean_iou: {len(targets)} targets but {len(predictions)} predictions"
        )
    scores = []
    for target, prediction in zip(targets, predictions, strict=True):
        matrix = ConfusionMatrix(num_classes, void)
        matrix.update(target, prediction)
        scores.append(matrix.mean_iou(absent))
    return _mean(np.array(scores))


def _labels(name: str, labels: Any) -> Any:
    """The labels as int64, so that no arithmetic on them can overflow (uint8: 21 x 20 = 164)."""
    labels = labels if hasattr(labels, "dtype") else np.asarray(labels)
    if np.dtype(labels.dtype).kind not in "iu":
        raise TypeError(
            f"ConfusionMatrix.update: {name} must hold integer labels, got {labels.dtype}"
            + ("; take the argmax of scores over the class axis" if name == "prediction" else "")
        )
    return labels.astype(np.int64)


def _ratio(numerator: Any, denominator: Any, absent: Absent = "ignore") -> np.ndarray:
    """numerator / denominator, and the value that `absent` names where that reads 0/0."""
    one_of("ConfusionMatrix", "absent", absent, tuple(_ABSENT_VALUE))
    empty = np.equal(denominator, 0)
    return np.where(empty, _ABSENT_VALUE[absent], numerator / np.where(empty, 1, denominator))


def _mean(values: np.ndarray) -> float:
    """The mean of the values that are not NaN; NaN when there are none."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")


def _score(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"


def _ascii(name: str, width: int) -> str:
    """The name in ASCII (a Windows console may know no more), shortened to `width` characters."""
    name = name.encode("ascii", "replace").decode()
    return name if len(name) <= width else name[: width - 3] + "..."
