"""How wrong a prediction is: softmax cross-entropy for each pixel, void pixels left out.

Source: University of Waterloo, "(Training) Loss: Cross-Entropy"; ENSTA Paris, CSC_5RO13, "Output
encoding and loss functions?".
"""

from typing import Any

import numpy as np

from minseg.arguments import array, floats, one_of
from minseg.backend import Array, array_module
from minseg.functional.activation import log_softmax_values
from minseg.tensor import differentiable


def _labels(name: str, scores: Array, target: Any, ignore_index: int) -> tuple[Array, Array]:
    """Labels with void replaced by 0, and which are no void; both (N, 1, L)."""
    xp = array_module(scores)
    if array(name, "target", target).dtype.kind not in "iu":
        raise TypeError(f"{name}: target must hold integer labels, got {target.dtype}")
    if scores.ndim < 2:
        raise ValueError(f"{name}: scores must have shape (N, K, ...), got {scores.shape}")
    N, K = scores.shape[:2]
    if target.shape != (N, *scores.shape[2:]):
        raise ValueError(
            f"{name}: target must have shape {(N, *scores.shape[2:])}, one label for each of the "
            f"scores' {scores.shape} pixels, got {target.shape}"
        )
    valid = target != ignore_index
    wrong = valid & ((target < 0) | (target >= K))
    if bool(wrong.any()):
        where = np.unravel_index(int(wrong.argmax()), target.shape)
        value = int(target[tuple(int(n) for n in where)])
        raise ValueError(
            f"{name}: target holds label {value} at {tuple(int(n) for n in where)}, but there are {K} "
            f"classes, 0..{K - 1} (and {ignore_index} for void)"
        )
    labels = xp.where(valid, target, 0).astype(np.int64)
    return labels.reshape(N, 1, -1), valid.reshape(N, 1, -1)


def _picked_loss(
    name: str, log_p: Array, target: Any, weight: Any, ignore_index: int, reduction: str,
    label_smoothing: float,
) -> tuple:  # fmt: skip
    """loss = - sum over k of t[k] log_p[k], and the wanted distribution t (N, K, L), weights included.

    Returns the reduced loss and a function: gradient of the loss -> (t, that gradient per pixel).
    """
    xp = array_module(log_p)
    one_of(name, "reduction", reduction, ("mean", "sum", "none"))
    floats(name, "scores", log_p)
    labels, valid = _labels(name, log_p, target, ignore_index)
    N, K = log_p.shape[:2]
    if weight is None:
        weight = xp.ones(K, log_p.dtype)
    elif array(name, "weight", weight).shape != (K,):
        raise ValueError(
            f"{name}: weight must have shape ({K},), one per class, got {weight.shape}"
        )
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"{name}: label_smoothing must lie in 0..1, got {label_smoothing}")
    flat = log_p.reshape(N, K, -1)
    label_weight = weight[labels].astype(log_p.dtype) * valid  # (N, 1, L)
    picked = xp.take_along_axis(flat, labels, axis=1)  # (N, 1, L)
    loss = -picked * label_weight
    if label_smoothing:
        smooth = -(flat * weight.reshape(1, K, 1)).sum(axis=1, keepdims=True) * valid
        loss = (1 - label_smoothing) * loss + label_smoothing / K * smooth
    total = label_weight.sum()
    total = xp.where(total == 0, xp.ones_like(total), total)  # nothing but void: 0 / 1
    if reduction == "none":
        loss = loss.reshape(target.shape)
    else:
        loss = loss.sum() / (total if reduction == "mean" else 1)

    def wanted(dy: Array) -> tuple[Array, Array]:
        per_pixel = dy.reshape(N, 1, -1) if reduction == "none" else dy.reshape(1, 1, 1)
        if reduction == "mean":
            per_pixel = per_pixel / total
        t = xp.zeros(flat.shape, log_p.dtype)
        xp.put_along_axis(t, labels, (1 - label_smoothing) * label_weight, axis=1)
        if label_smoothing:
            t += label_smoothing / K * weight.reshape(1, K, 1) * valid
        return t, per_pixel

    return loss, wanted


@differentiable
def cross_entropy(
    logits: Array,
    target: Any,
    weight: Any = None,
    ignore_index: int = 255,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """Softmax cross-entropy, one term per pixel that is not void:

        L = sum over pixels of w[y] * -log softmax(logits)[y]  /  sum over pixels of w[y]

    logits (N, K, ...) of any dimension, target (N, ...) integer labels y in 0..K-1 or ignore_index;
    weight (K,). reduction "mean" as above, "sum" without the denominator, "none" one loss per pixel
    (0 for void), shaped like target. label_smoothing e mixes a share e of the uniform distribution
    into each label. Its gradient in a logit is w[y] (softmax - one-hot) / sum of w[y].

    Two differences from PyTorch: ignore_index is 255, Pascal VOC's void (PyTorch: -100), and a batch
    of nothing but void has loss 0 and gradient 0 (PyTorch: NaN).

    Raises:
        TypeError, ValueError: shapes that do not fit, a label that is neither a class nor void (its
            value and place are named), an unknown reduction.

    Source: University of Waterloo, "(Training) Loss: Cross-Entropy"; ENSTA Paris, CSC_5RO13,
    "Output encoding and loss functions?".
    """
    array("cross_entropy", "logits", logits)
    xp = array_module(logits)
    if logits.ndim < 2:
        raise ValueError(f"cross_entropy: logits must have shape (N, K, ...), got {logits.shape}")
    log_p = log_softmax_values(logits, 1)
    loss, wanted = _picked_loss(
        "cross_entropy", log_p, target, weight, ignore_index, reduction, label_smoothing
    )

    def grad_logits(dy: Array) -> Array:
        t, per_pixel = wanted(dy)
        dx = xp.exp(log_p).reshape(t.shape)
        dx *= t.sum(axis=1, keepdims=True)
        dx -= t
        dx *= per_pixel
        return dx.reshape(logits.shape)

    return loss, (grad_logits, None)


@differentiable
def nll_loss(
    log_probabilities: Array,
    target: Any,
    weight: Any = None,
    ignore_index: int = 255,
    reduction: str = "mean",
) -> Any:
    """Negative log-likelihood: cross_entropy for inputs that went through log_softmax already.

        L = sum over pixels of w[y] * -log_probabilities[y]  /  sum over pixels of w[y]

    log_probabilities (N, K, ...), target (N, ...); arguments and errors as in cross_entropy.

    Source: University of Waterloo, "(Training) Loss: Cross-Entropy".
    """
    array("nll_loss", "log_probabilities", log_probabilities)
    loss, wanted = _picked_loss(
        "nll_loss", log_probabilities, target, weight, ignore_index, reduction, 0.0
    )

    def grad_log_probabilities(dy: Array) -> Array:
        t, per_pixel = wanted(dy)
        return (-t * per_pixel).reshape(log_probabilities.shape)

    return loss, (grad_log_probabilities, None)
