"""Claims on softmax, the loss and batch normalisation: no polynomials, so compared in float64.

Source: beside each claim.
"""

from typing import Any

import numpy as np

import minseg.functional as F
from minseg.claims.claim import ENSTA, WATERLOO, claim
from minseg.proofs import Verdict, prove
from minseg.tensor import Tensor


@claim(
    WATERLOO, "(Training) Loss: Cross-Entropy",
    "Softmax does not change when the same number is added to every score.",
    "EVIDENCE",
)  # fmt: skip
def softmax_shift() -> Verdict:
    return prove(
        lambda x, c: F.softmax(x, 1), lambda x, c: F.softmax(x + c, 1),
        x=(3, 5, 2), c=(3, 1, 2), analytic=True,
    )  # fmt: skip


@claim(
    ENSTA, "Output encoding and loss functions?",
    "The gradient of weighted cross-entropy is w[y] (softmax - one-hot) / sum of w[y].",
    "EVIDENCE",
)  # fmt: skip
def cross_entropy_gradient() -> Verdict:
    target = np.array([[[0, 2], [255, 1]]])
    weight = np.array([1.0, 2.0, 0.5])

    def left(z: Any) -> Any:
        z = Tensor(z, requires_grad=True)
        F.cross_entropy(z, target, weight).backward()
        return z.grad

    def right(z: Any) -> Any:
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        one_hot = (target[:, None] == np.arange(3)[:, None, None]).astype(float)
        w = (weight[:, None, None] * one_hot).sum(axis=1, keepdims=True)  # 0 where void
        return w * (p - one_hot) / w.sum()

    return prove(left, right, z=(1, 3, 2, 2), analytic=True)


@claim(
    "Ioffe and Szegedy (2015)", "algorithm 1",
    "Batch normalisation's gradient has no part along the constant, and none along the normalised input.",
    "EVIDENCE",
)  # fmt: skip
def batch_norm_gradient() -> Verdict:
    def left(x: Any, dy: Any) -> Any:
        leaf = Tensor(x, requires_grad=True)
        y = F.batch_norm(leaf, None, None, training=True, eps=1e-12)
        y.backward(dy)
        dx: Any = leaf.grad
        return dx.sum(axis=(0, 2)), (dx * y.data).sum(axis=(0, 2))

    return prove(
        left, lambda x, dy: (np.zeros(2), np.zeros(2)), x=(3, 2, 4), dy=(3, 2, 4), analytic=True
    )
