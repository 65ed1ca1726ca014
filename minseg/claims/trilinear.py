"""Claims on convolution, its gradients and its matrix: all of them one trilinear form.

Source: beside each claim.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

import minseg.functional as F
from minseg.claims.claim import DLV, DRAKE, WATERLOO, claim, table
from minseg.proofs import Verdict, prove
from minseg.tensor import Tensor


def _gradient(op: Callable, which: int, *arrays: Any, **options: Any) -> Callable:
    """The op's own gradient function for its input number `which`."""
    return op.__wrapped__(*arrays, **options)[1][which]  # type: ignore[attr-defined]


@claim(
    DRAKE, "FCN: Upsampling via Transposed Convolution Operation",
    "Convolution, transposed convolution and the gradient in the kernel are the three derivatives of "
    "one sum: <y, slide(x, w)> = <spread(y, w), x> = <overlap(x, y), w>.",
    matters_most=True,
)  # fmt: skip
def one_trilinear_form() -> Verdict:
    def left(x: Any, w: Any, y: Any, stride: int, padding: int) -> Any:
        form = (y * F.conv2d(x, w, stride=stride, padding=padding)).sum()
        return form, form

    def right(x: Any, w: Any, y: Any, stride: int, padding: int) -> Any:
        options = dict(stride=stride, padding=padding)
        return (
            (_gradient(F.conv2d, 0, x, w, **options)(y) * x).sum(),
            (_gradient(F.conv2d, 1, x, w, **options)(y) * w).sum(),
        )

    return prove(
        left, right,
        over=[
            dict(x=(1, 2, 4, 5), w=(2, 2, 3, 2), y=(1, 2, *size), stride=s, padding=p)
            for s, p, size in [(1, 0, (2, 4)), (2, 0, (1, 2)), (2, 1, (2, 3))]
        ],
    )  # fmt: skip


def _as_matrix(k: np.ndarray, size: tuple[int, int], stride: int) -> np.ndarray:
    """Convolution by k as a matrix A (OH*OW, H*W), entry by entry from the definition."""
    H, W = size
    OH, OW = (F.output_size(n, m, stride) for n, m in zip(size, k.shape, strict=True))
    A = np.zeros((OH * OW, H * W), k.dtype)
    for i, j, u, v in np.ndindex(OH, OW, *k.shape):
        A[i * OW + j, (stride * i + u) * W + stride * j + v] = k[u, v]
    return A


@claim(
    WATERLOO, "Transpose Convolution: other names",
    "Convolution is multiplication by a matrix A built from the kernel.",
)  # fmt: skip
def convolution_is_a_matrix() -> Verdict:
    return prove(
        lambda x, k, stride: F.conv2d(x, k, stride=stride).ravel(),
        lambda x, k, stride: _as_matrix(k, x.shape, stride) @ x.ravel(),
        over=[dict(x=(4, 5), k=(3, 2), stride=s) for s in (1, 2)],
    )


@claim(
    WATERLOO, "Transpose Convolution: other names",
    "Transposed convolution is multiplication by A^T, the transpose of the convolution's matrix.",
)  # fmt: skip
def transposed_is_the_transpose() -> Verdict:
    def right(x: Any, k: Any, stride: int) -> Any:
        size = tuple((n - 1) * stride + m for n, m in zip(x.shape, k.shape, strict=True))
        return (_as_matrix(k, size, stride).T @ x.ravel()).reshape(size)

    return prove(
        lambda x, k, stride: F.conv_transpose2d(x, k, stride=stride), right,
        over=[dict(x=(3, 2), k=(3, 2), stride=s) for s in (1, 2, 3)],
    )  # fmt: skip


@claim(
    DLV, "Deconvolution (or transposed convolution)",
    "Transposed convolution is what convolution's backward pass computes.",
)  # fmt: skip
def transposed_is_backward() -> Verdict:
    def left(y: Any, w: Any, stride: int, padding: int) -> Any:
        size = [(n - 1) * stride - 2 * padding + 3 for n in y.shape[2:]]
        x = Tensor(np.zeros((1, w.shape[1], *size), object), requires_grad=True)
        F.conv2d(x, w, stride=stride, padding=padding).backward(y)
        return x.grad

    return prove(
        left,
        lambda y, w, stride, padding: F.conv_transpose2d(y, w, stride=stride, padding=padding),
        over=table(dict(y=(1, 2, 3, 2), w=(2, 2, 3, 3)), stride=[1, 2], padding=[0, 1]),
    )
