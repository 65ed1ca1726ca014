"""Upsampling without weights: nearest and bilinear interpolation.

Resizing an image is linear and works on rows and columns apart: two small matrices do it,
y = A x B^T, and their transposes are the gradient.

Source: Drake University, CS195 (2024), "PSPNet: interpolation"; University of Waterloo, "Methods
for Upsampling".
"""

import math
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np

from minseg.arguments import floats, images, one_of, pair
from minseg.backend import Array, array_module
from minseg.functional.basic import takes_planes
from minseg.tensor import differentiable


@lru_cache(maxsize=256)
def interpolation_matrix(
    n: int, size: int, mode: str, align_corners: bool, scale: Fraction, dtype: np.dtype
) -> np.ndarray:
    """The matrix (size, n) that resizes an axis of n pixels to `size`, made exactly and then cast.

    scale: input pixels per output pixel.
    """
    matrix = np.full((size, n), Fraction(0))
    for i in range(size):
        if mode == "nearest":
            matrix[i, min(math.floor(i * scale), n - 1)] = Fraction(1)
            continue
        if align_corners:  # the outermost pixel centres stay where they are
            at = Fraction(i * (n - 1), size - 1) if size > 1 else Fraction(0)
        else:  # the outermost pixel edges stay where they are
            at = max((i + Fraction(1, 2)) * scale - Fraction(1, 2), Fraction(0))
        low = min(math.floor(at), n - 1)
        matrix[i, low] += 1 - (at - low)
        matrix[i, min(low + 1, n - 1)] += at - low
    return matrix.astype(dtype)


@lru_cache(maxsize=256)
def adaptive_matrix(n: int, size: int, dtype: np.dtype) -> np.ndarray:
    """The matrix (size, n) of means over the bins floor(i n/size) .. ceil((i+1) n/size) - 1."""
    matrix = np.full((size, n), Fraction(0))
    for i in range(size):
        first, end = i * n // size, -(-(i + 1) * n // size)
        matrix[i, first:end] = Fraction(1, end - first)
    return matrix.astype(dtype)


def simple_fraction(factor: float | Fraction) -> Fraction:
    """The number meant by a float: 2.3 is 23/10, though the float nearest to it is a little less."""
    factor = factor.item() if isinstance(factor, np.number) else factor
    simple = Fraction(factor).limit_denominator(1000)
    return simple if np.float32(simple) == np.float32(factor) else Fraction(factor)


def resize(x: Array, down: np.ndarray, across: np.ndarray) -> tuple:
    """y = A x B^T on every plane, and its gradient dx = A^T dy B.

    x (N, C, H, W), down A (OH, H), across B (OW, W) -> (N, C, OH, OW).
    """
    xp = array_module(x)
    N, C = x.shape[:2]
    A, B = xp.asarray(down), xp.asarray(across)

    def on_planes(left: Array, planes: Array, right: Array) -> Array:
        # (NCH, W) x (W, OW) -> (NCH, OW), then (OH, H) x (NC, H, OW) -> (NC, OH, OW)
        rows = planes.reshape(-1, right.shape[0]) @ right
        y = left @ rows.reshape(N * C, left.shape[1], right.shape[1])
        return y.reshape(N, C, left.shape[0], right.shape[1])

    return on_planes(A, x, B.T), (lambda dy: on_planes(A.T, dy, B),)


@differentiable
@takes_planes(1)
def interpolate(
    x: Array,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
) -> Any:
    """An image resized: each output pixel is the nearest input pixel, or a mean of the four around it.

        y[i,j] = (1-a)(1-b) x[r,c] + (1-a) b x[r,c+1] + a (1-b) x[r+1,c] + a b x[r+1,c+1]

    where r + a and c + b say where output pixel (i, j) falls in the input: at i (H-1)/(OH-1) with
    align_corners=True (corner pixels fall on corner pixels), at (i + 1/2) H/OH - 1/2, not below 0,
    with False (corners of the image on corners of the image). mode="nearest" takes x[floor(i H/OH)].

    x (N, C, H, W) -> (N, C, OH, OW), or one plane (H, W) -> (OH, OW). Give size, in pixels, or
    scale_factor, an int, float or pair: OH = floor(H * scale_factor), and 1/scale_factor replaces
    H/OH unless recompute_scale_factor. Integers cannot be interpolated bilinearly; Fractions can.
    (PyTorch's nearest ignores the factor, 2.3 say, wherever the size happens to double.)

    Raises:
        TypeError, ValueError: both or neither of size and scale_factor, an unknown mode,
            align_corners with nearest, integers with bilinear.

    Source: Drake University, CS195 (2024), "PSPNet: interpolation"; University of Waterloo,
    "Methods for Upsampling".
    """
    name = "interpolate"
    images(name, x)
    one_of(name, "mode", mode, ("nearest", "bilinear"))
    if (size is None) == (scale_factor is None):
        raise ValueError("interpolate: give either size or scale_factor")
    if mode == "nearest" and align_corners is not None:
        raise ValueError('interpolate: align_corners goes with mode="bilinear" only')
    if mode == "bilinear":
        floats(name, "x", x)
    H, W = x.shape[2:]
    if scale_factor is None:
        new = pair(name, "size", size, 1)
        scales = [Fraction(n, out) for n, out in zip((H, W), new, strict=True)]
    else:
        both = scale_factor if isinstance(scale_factor, (tuple, list)) else (scale_factor,) * 2
        if len(both) != 2 or not all(
            isinstance(f, (int, float, np.number, Fraction)) and 0 < f < math.inf for f in both
        ):
            raise ValueError(
                f"interpolate: scale_factor must be a positive number or a pair, got {scale_factor!r}"
            )
        factors = [simple_fraction(factor) for factor in both]
        new = (math.floor(H * factors[0]), math.floor(W * factors[1]))
        if min(new) < 1:
            raise ValueError(
                f"interpolate: scale_factor {scale_factor} leaves nothing of x {x.shape}"
            )
        scales = [1 / factor for factor in factors]
        if recompute_scale_factor:
            scales = [Fraction(n, out) for n, out in zip((H, W), new, strict=True)]
    down, across = (
        interpolation_matrix(n, out, mode, bool(align_corners), scale, x.dtype)
        for n, out, scale in zip((H, W), new, scales, strict=True)
    )
    return resize(x, down, across)
