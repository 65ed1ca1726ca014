"""Claims on upsampling: the worked canvas, bilinear interpolation, unpooling.

Source: beside each claim.
"""

from fractions import Fraction
from typing import Any

import numpy as np

import minseg.functional as F
from minseg.claims.claim import DRAKE, ENSTA, WATERLOO, claim
from minseg.proofs import Verdict, prove


def _exact(x: np.ndarray) -> np.ndarray:
    """Integers as Fractions, which interpolation may divide; formal variables as they are."""
    return x if x.dtype == object else np.vectorize(Fraction, [object])(x)


@claim(
    WATERLOO, "Methods for Upsampling",
    "The worked 4x4 example: adding up each pixel times the kernel, two apart, gives the 9x9 canvas.",
)  # fmt: skip
def the_worked_canvas() -> Verdict:
    def canvas(x: np.ndarray, k: np.ndarray) -> np.ndarray:
        Y = np.zeros((9, 9), x.dtype)
        for i, j in np.ndindex(4, 4):
            Y[2 * i : 2 * i + 3, 2 * j : 2 * j + 3] += x[i, j] * k
        return Y

    return prove(canvas, lambda x, k: F.conv_transpose2d(x, k, stride=2), x=(4, 4), k=(3, 3))


@claim(
    WATERLOO, "Transpose Convolution and Bilinear Interpolation",
    "With the kernel 1 - |u - (s-1)|/s in both directions and padding s - 1, transposed convolution is "
    "bilinear interpolation (corner pixels on corner pixels), strides 1 to 8.",
    matters_most=True,
)  # fmt: skip
def crop_is_bilinear() -> Verdict:
    def left(x: Any, stride: int) -> Any:
        kernel = F.bilinear_kernel(stride, exact=True)
        return F.conv_transpose2d(x, kernel, stride=stride, padding=stride - 1)

    def right(x: Any, stride: int) -> Any:
        size = [(n - 1) * stride + 1 for n in x.shape]
        return F.interpolate(_exact(x), size, mode="bilinear", align_corners=True)

    return prove(left, right, over=[dict(x=(3, 4), stride=s) for s in range(1, 9)])


@claim(
    WATERLOO, "Transpose Convolution and Bilinear Interpolation",
    "The whole 9x9 canvas of the worked example is the image interpolated bilinearly.",
    "REFUTED", "Only the 7x7 inside is; the outermost ring fades towards zeros.",
)  # fmt: skip
def canvas_is_bilinear() -> Verdict:
    def clamped(x: Any) -> Any:
        framed = _exact(x[np.ix_([0, 0, 1, 2, 3, 3], [0, 0, 1, 2, 3, 3])])
        return F.interpolate(framed, 11, mode="bilinear", align_corners=True)[1:-1, 1:-1]

    return prove(
        lambda x: F.conv_transpose2d(x, F.bilinear_kernel(2, exact=True), stride=2),
        clamped,
        x=(4, 4),
    )


@claim(
    WATERLOO, "Transpose Convolution and Bilinear Interpolation",
    "Every phase of the FCN release's kernel (size 2s - s%2) sums to 1, so a constant stays constant "
    "away from the border.",
)  # fmt: skip
def caffe_phases() -> Verdict:
    def left(c: Any, stride: int) -> Any:
        kernel = F.bilinear_kernel(stride, kind="caffe", exact=True)
        x = np.broadcast_to(c, (5, 5))
        return F.conv_transpose2d(x, kernel, stride=stride)[
            2 * stride : -2 * stride, 2 * stride : -2 * stride
        ]

    def right(c: Any, stride: int) -> Any:
        size = 4 * stride + (2 * stride - stride % 2) - 4 * stride
        return np.broadcast_to(c, (size, size)) + np.zeros((size, size), c.dtype)

    return prove(left, right, over=[dict(c=(1, 1), stride=s) for s in range(1, 9)])


@claim(
    DRAKE, "PSPNet: interpolation",
    "Bilinear interpolation is linear interpolation along rows, then along columns.",
)  # fmt: skip
def bilinear_is_separable() -> Verdict:
    def in_two_steps(x: Any, align_corners: bool) -> Any:
        options = dict(mode="bilinear", align_corners=align_corners)
        across = F.interpolate(_exact(x), (3, 7), **options)
        return F.interpolate(across, (5, 7), **options)

    return prove(
        lambda x, align_corners: F.interpolate(
            _exact(x), (5, 7), mode="bilinear", align_corners=align_corners
        ),
        in_two_steps, over=[dict(x=(3, 4), align_corners=flag) for flag in (True, False)],
    )  # fmt: skip


@claim(
    ENSTA, "How does the decoder increase the resolution? (2/2)",
    "Pooling what was unpooled gives it back: pool(unpool(y)) = y, for numbers of at least 0.",
    "EVIDENCE",
)  # fmt: skip
def pool_after_unpool() -> Verdict:
    places = np.array([[0, 3], [13, 10]])  # one in each 2x2 window of a 4x4 plane
    return prove(
        lambda y: F.max_pool2d(F.max_unpool2d(y, places, 2), 2), lambda y: y, y=(2, 2), least=0
    )


@claim(
    ENSTA, "How does the decoder increase the resolution? (2/2)",
    "Pooling what was unpooled gives it back, whatever the numbers.",
    "REFUTED", "A negative number loses against the zeros around it; after a ReLU there are none.",
)  # fmt: skip
def pool_after_unpool_any_sign() -> Verdict:
    places = np.array([[0, 3], [13, 10]])
    return prove(lambda y: F.max_pool2d(F.max_unpool2d(y, places, 2), 2), lambda y: y, y=(2, 2))
