"""How wrong a prediction is: softmax cross-entropy for each pixel, void pixels left out.

Source: University of Waterloo, "(Training) Loss: Cross-Entropy"; ENSTA Paris, CSC_5RO13, "Output
encoding and loss functions?".
"""

import math
from functools import reduce
from operator import sub
from typing import Any

import numpy as np

from minseg.arguments import array, floats, integer, one_of
from minseg.backend import Array, array_module
from minseg.channels import by_channel, empty
from minseg.tensor import differentiable


class _Wanted:
    """What a loss is told about each pixel, checked before anything is computed.

    labels (N, 1, L), void replaced by 0; valid (N, 1, L), false where void; weight (K,).
    """

    def __init__(
        self, name: str, argument: str, scores: Array, target: Any, weight: Any, ignore_index: int,
        reduction: str, smoothing: float,
    ) -> None:  # fmt: skip
        xp = array_module(scores)
        floats(name, argument, array(name, argument, scores))
        if scores.ndim < 2:
            raise ValueError(f"{name}: {argument} must have shape (N, K, ...), got {scores.shape}")
        N, K = scores.shape[:2]
        if array(name, "target", target).dtype.kind not in "iu":
            raise TypeError(f"{name}: target must hold integer labels, got {target.dtype}")
        if target.shape != (N, *scores.shape[2:]):
            raise ValueError(
                f"{name}: target must have shape {(N, *scores.shape[2:])}, one label for each of the "
                f"pixels of {argument} {scores.shape}, got {target.shape}"
            )
        if weight is not None and array(name, "weight", weight).shape != (K,):
            raise ValueError(
                f"{name}: weight must have shape ({K},), one per class, got {weight.shape}"
            )
        one_of(name, "reduction", reduction, ("mean", "sum", "none"))
        if not isinstance(smoothing, (int, float)) or not 0 <= smoothing <= 1:
            raise ValueError(f"{name}: label_smoothing must lie in 0..1, got {smoothing!r}")
        valid = target != integer(name, "ignore_index", ignore_index)
        wrong = valid & ((target < 0) | (target >= K))
        if bool(wrong.any()):
            where = tuple(int(n) for n in np.unravel_index(int(wrong.argmax()), target.shape))
            raise ValueError(
                f"{name}: target holds label {int(target[where])} at {where}, but there are {K} "
                f"classes, 0..{K - 1} (and {ignore_index} for void)"
            )
        L = math.prod(target.shape[1:])
        self.labels = xp.where(valid, target, 0).astype(np.int64).reshape(N, 1, L)
        # Where the score of each pixel's label stands in (N, K, L), counted through.
        self.places = (K * xp.arange(N)[:, None, None] + self.labels) * L + xp.arange(L)
        self.valid = valid.reshape(N, 1, L)
        self.weight = xp.ones(K, scores.dtype) if weight is None else weight.astype(scores.dtype)
        self.shape, self.reduction, self.smoothing = target.shape, reduction, smoothing

    def loss(self, flat: Array, *less: Array) -> Array:
        """- sum over k of t[k] log p[k] at each pixel, reduced; t is one-hot, smoothed, times weight.

        flat (N, K, L) is log p, once all of `less`, each (N, 1, L), is taken off.
        """
        xp = array_module(flat)
        K = flat.shape[1]
        self.label_weight = self.weight[self.labels] * self.valid  # (N, 1, L)
        total = self.label_weight.sum()
        # The denominator of a mean; where all is void 1, so that the loss is 0 and not 0/0.
        self.total = xp.where(total == 0, xp.ones_like(total), total)
        of_label = reduce(sub, less, flat.reshape(-1)[self.places])
        loss = -of_label * self.label_weight  # (N, 1, L)
        if self.smoothing:
            each = (reduce(sub, less, flat) * self.weight.reshape(1, K, 1)).sum(
                axis=1, keepdims=True
            )
            loss = (1 - self.smoothing) * loss - self.smoothing / K * each * self.valid
        if self.reduction == "none":
            return loss.reshape(self.shape)
        return loss.sum() / (self.total if self.reduction == "mean" else 1)

    def share(self) -> Array:
        """The sum of t over the classes: (N, 1, L), the pixel's weight, 0 where void."""
        uniform = self.smoothing * self.weight.mean() * self.valid
        return (1 - self.smoothing) * self.label_weight + uniform

    def minus_one_hot(self, dx: Array, per_pixel: Array) -> None:
        """dx -= t * per_pixel, in place, for dx (N, K, L) and per_pixel (N, 1, L)."""
        K = dx.shape[1]
        if self.smoothing:
            dx -= self.smoothing / K * self.weight.reshape(1, K, 1) * (self.valid * per_pixel)
        own = (1 - self.smoothing) * self.label_weight * per_pixel
        dx.reshape(-1)[self.places] -= own.astype(dx.dtype, copy=False)

    def per_pixel(self, dy: Array) -> Array:
        """The gradient of the reduced loss, handed to each pixel: to broadcast with (N, K, L)."""
        if self.reduction == "none":
            return dy.reshape(self.labels.shape)
        return dy.reshape(1, 1, 1) / (self.total if self.reduction == "mean" else 1)


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
    wanted = _Wanted(
        "cross_entropy", "logits", logits, target, weight, ignore_index, reduction, label_smoothing
    )
    xp = array_module(logits)
    flat = logits.reshape(*logits.shape[:2], wanted.labels.shape[2])  # (N, K, L)
    powers = empty(flat.shape, flat)
    largest, total, log_total = (empty(wanted.labels.shape, flat) for _ in range(3))

    def of_images(flat: Array, powers: Array, *others: Array) -> None:
        largest, total, log_total = others  # (n, 1, L)
        largest[...] = flat.max(axis=1, keepdims=True)  # so that no exponential overflows
        xp.exp(xp.subtract(flat, largest, out=powers), out=powers)
        total[...] = powers.sum(axis=1, keepdims=True)
        xp.log(total, out=log_total)

    by_channel(of_images, flat, powers, largest, total, log_total, axis=0)

    def grad_logits(dy: Array) -> Array:
        # softmax - one-hot, each pixel times its weight
        per_pixel = wanted.per_pixel(dy)
        dx = empty(flat.shape, flat)
        by_channel(lambda p, s, dx: xp.multiply(p, s, out=dx),
                   powers, wanted.share() / total * per_pixel, dx, axis=0)  # fmt: skip
        wanted.minus_one_hot(dx, per_pixel)
        return dx.reshape(logits.shape)

    return wanted.loss(flat, largest, log_total), (grad_logits, None)


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
    log_p = log_probabilities
    wanted = _Wanted(
        "nll_loss", "log_probabilities", log_p, target, weight, ignore_index, reduction, 0.0
    )
    flat = log_p.reshape(*log_p.shape[:2], wanted.labels.shape[2])

    def grad_log_probabilities(dy: Array) -> Array:
        dx = array_module(log_p).zeros(flat.shape, log_p.dtype)
        wanted.minus_one_hot(dx, wanted.per_pixel(dy))
        return dx.reshape(log_p.shape)

    return wanted.loss(flat), (grad_log_probabilities, None)
