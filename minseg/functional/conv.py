"""Convolution, and the two ways to run it backwards as an upsampling.

Every function here is one or two of the three contractions of windows.py, so that each is the
gradient of another: see there.

Source: University of Waterloo, "Methods for Upsampling" and "Transposed vs Fractionally-strided
Convolution"; Drake University, CS195 (2024), "FCN: Upsampling via Transposed Convolution
Operation"; Dumoulin and Visin, A guide to convolution arithmetic (2016).
"""

from fractions import Fraction
from typing import Any

import numpy as np

from minseg.arguments import array, bias, images, integer, one_of, pair
from minseg.backend import Array, array_module
from minseg.functional.basic import takes_planes, together
from minseg.tensor import differentiable
from minseg.windows import Windows


def _kernel(function: str, w: Any, shape: str) -> Array:
    array(function, "w", w, 4, shape)
    if 0 in w.shape:
        raise ValueError(f"{function}: w must hold at least one number, got {w.shape}")
    return w


def _groups(function: str, groups: Any, channels: int, what: str) -> int:
    integer(function, "groups", groups, 1)
    if channels % groups:
        raise ValueError(f"{function}: {what} ({channels}) must be a multiple of groups ({groups})")
    return groups


def _add_bias(y: Array, b: Array | None) -> Array:
    """y (N, O, OH, OW) plus one number per output channel."""
    if b is None:
        return y
    if y.dtype == b.dtype:
        y += b[:, None, None]  # y was made a moment ago and is nobody else's
        return y
    return y + b[:, None, None]


def _grad_bias(dy: Array) -> Array:
    return dy.sum(axis=(0, 2, 3))


@differentiable
@takes_planes(2)
def conv2d(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    """Convolution: a kernel slides over an image and takes a weighted sum of what it covers.

        y[n,o,i,j] = b[o] + sum over c,u,v of w[o,c,u,v] x[n, c, s*i + d*u - p, s*j + d*v - p]

    x (N, C, H, W), w (O, C/groups, KH, KW), b (O,) -> (N, O, OH, OW) with
    OH = floor((H + 2p - d(KH - 1) - 1) / s) + 1; or one plane: x (H, W), w (KH, KW) -> (OH, OW).
    stride s, padding p (of zeros) and dilation d (a trous) in pixels, an int or a pair (vertical,
    horizontal). padding="same" keeps the size at stride 1, "valid" is 0. The kernel is not turned round: in
    mathematics this is cross-correlation; networks, and PyTorch, call it convolution.

    Raises:
        TypeError, ValueError: shapes that do not fit together, or a kernel larger than the image.

    Source: University of Waterloo, "Fully Convolutional Networks (FCNs)"; "DeepLab".
    """
    name = "conv2d"
    images(name, x)
    _kernel(name, w, "(O, C/groups, KH, KW)")
    _groups(name, groups, len(w), "w's output channels")
    if x.shape[1] != w.shape[1] * groups:
        times = f" x {groups} groups" if groups > 1 else ""
        raise ValueError(
            f"conv2d: x has {x.shape[1]} channels but w expects {w.shape[1]}{times} (w is {w.shape})"
        )
    bias(name, b, len(w))
    s, d = pair(name, "stride", stride, 1), pair(name, "dilation", dilation, 1)
    reach = [dn * (k - 1) + 1 for dn, k in zip(d, w.shape[2:], strict=True)]
    if isinstance(padding, str):
        if one_of(name, "padding", padding, ("same", "valid")) == "same" and s != (1, 1):
            raise ValueError(f'conv2d: padding="same" needs stride 1, got stride {stride}')
        same = [
            ((r - 1) // 2, r // 2) for r in reach
        ]  # an even reach pads one more at the far side
        p = (same[0], same[1]) if padding == "same" else ((0, 0), (0, 0))
    else:
        ph, pw = pair(name, "padding", padding, 0)
        p = ((ph, ph), (pw, pw))
    for n, r, (before, after) in zip(x.shape[2:], reach, p, strict=True):
        if r > n + before + after:
            raise ValueError(
                f"conv2d: w {w.shape} with dilation {d} reaches over {r} pixels, more than x "
                f"{x.shape} with padding {padding} has ({n + before + after})"
            )
    windows = Windows(x.shape[2:], w.shape[2:], s, p, d, groups)

    def grad_x_and_w(dy: Array) -> tuple[Array, Array]:  # both read the same columns of dy
        return windows.spread_and_overlap(dy, w, x)

    def grad_w(dy: Array) -> Array:
        return windows.overlap(x, dy)

    gradients = together(grad_x_and_w, grad_w)
    return _add_bias(windows.slide(x, w), b), (*gradients, _grad_bias)


def _transposed_geometry(
    name: str,
    x: Array,
    kernel: tuple,
    stride: Any,
    padding: Any,
    output_padding: Any,
    dilation: Any,
) -> tuple:
    """stride, padding, output_padding, dilation as pairs, and the output's size along both axes:

    OH = (H - 1) s - 2 p + d (KH - 1) + output_padding + 1
    """
    s, p = pair(name, "stride", stride, 1), pair(name, "padding", padding, 0)
    d, extra = pair(name, "dilation", dilation, 1), pair(name, "output_padding", output_padding, 0)
    size = []
    for n, k, sn, pn, dn, en in zip(x.shape[2:], kernel, s, p, d, extra, strict=True):
        if en >= max(sn, dn):
            raise ValueError(
                f"{name}: output_padding must be smaller than stride or dilation, got "
                f"output_padding {output_padding} with stride {stride} and dilation {dilation}"
            )
        size.append((n - 1) * sn - 2 * pn + dn * (k - 1) + en + 1)
    if min(size) < 1:
        raise ValueError(
            f"{name}: padding {padding} crops everything away: x {x.shape} with a kernel {kernel} "
            f"would give an output of size {tuple(size)}"
        )
    return s, p, extra, d, tuple(size)


@differentiable
@takes_planes(2)
def conv_transpose2d(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Any:
    """Transposed convolution: every pixel spreads a copy of the kernel over the output.

        y[n, o, s*i + d*u - p, s*j + d*v - p] += w[c,o,u,v] x[n,c,i,j]     for every n,c,o,i,j,u,v

    and b[o] is added; the lecture writes it Y[i:i+h, j:j+w] += X[i,j] * K. It is the transpose of
    conv2d with the same numbers: same w, read as (its outputs, its inputs, KH, KW).

    x (N, C, H, W), w (C, O/groups, KH, KW), b (O,) -> (N, O, OH, OW) with
    OH = (H - 1) s - 2p + d(KH - 1) + output_padding + 1; or one plane: x (H, W), w (KH, KW).
    padding p crops p pixels off each side; output_padding adds pixels at the bottom and right.

    Raises:
        TypeError, ValueError: shapes that do not fit together, an output_padding not smaller than
            stride or dilation, a padding that leaves nothing.

    Source: University of Waterloo, "Methods for Upsampling"; Drake University, CS195 (2024), "FCN:
    Upsampling via Transposed Convolution Operation"; Long, Shelhamer and Darrell, Fully
    Convolutional Networks (2015), section 3.3.
    """
    name = "conv_transpose2d"
    images(name, x)
    _kernel(name, w, "(C, O/groups, KH, KW)")
    if x.shape[1] != len(w):
        raise ValueError(
            f"conv_transpose2d: x has {x.shape[1]} channels but w expects {len(w)} (w is {w.shape})"
        )
    _groups(name, groups, len(w), "x's channels")
    bias(name, b, w.shape[1] * groups)
    s, p, extra, d, size = _transposed_geometry(
        name, x, w.shape[2:], stride, padding, output_padding, dilation
    )
    # The extra pixels lie beyond the last window, so on that side less is cropped.
    (ph, pw), (eh, ew) = p, extra
    windows = Windows(size, w.shape[2:], s, ((ph, ph - eh), (pw, pw - ew)), d, groups)

    def grad_x_and_w(dy: Array) -> tuple[Array, Array]:  # both read the same columns of dy
        return windows.slide_and_overlap(dy, w, x)

    def grad_w(dy: Array) -> Array:
        return windows.overlap(dy, x)

    gradients = together(grad_x_and_w, grad_w)
    return _add_bias(windows.spread(x, w), b), (*gradients, _grad_bias)


@differentiable
@takes_planes(2)
def fractionally_strided_conv2d(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    dilation: Any = 1,
) -> Any:
    """Fractionally strided convolution: put s - 1 zeros between the pixels, then slide a kernel.

        z[n, c, s*i, s*j] = x[n,c,i,j], 0 elsewhere;     y = conv2d(z padded by d(KH - 1) - p, w, b)

    stride, padding, output_padding and dilation are those of the transposed convolution it should
    equal; w is used as given. Which w makes the two equal is the homework: see rot180.

    x (N, C, H, W), w (O, C, KH, KW), b (O,) -> (N, O, OH, OW), sizes as in conv_transpose2d; or one
    plane: x (H, W), w (KH, KW). A negative d(KH - 1) - p crops.

    Raises:
        TypeError, ValueError: as conv_transpose2d.

    Source: University of Waterloo, "Transposed vs Fractionally-strided Convolution"; Dumoulin and
    Visin (2016), section 4.
    """
    name = "fractionally_strided_conv2d"
    images(name, x)
    _kernel(name, w, "(O, C, KH, KW)")
    if x.shape[1] != w.shape[1]:
        raise ValueError(
            f"{name}: x has {x.shape[1]} channels but w expects {w.shape[1]} (w is {w.shape})"
        )
    bias(name, b, len(w))
    (sh, sw), p, extra, d, _ = _transposed_geometry(
        name, x, w.shape[2:], stride, padding, output_padding, dilation
    )
    N, C, H, W = x.shape
    z = array_module(x).zeros((N, C, (H - 1) * sh + 1, (W - 1) * sw + 1), x.dtype)
    z[:, :, ::sh, ::sw] = x
    (qh, qw) = (dn * (k - 1) - pn for dn, k, pn in zip(d, w.shape[2:], p, strict=True))
    border = ((qh, qh + extra[0]), (qw, qw + extra[1]))
    windows = Windows(z.shape[2:], w.shape[2:], (1, 1), border, d)

    def grad_x(dy: Array) -> Array:
        return windows.spread(dy, w)[:, :, ::sh, ::sw]

    def grad_w(dy: Array) -> Array:
        return windows.overlap(z, dy)

    return _add_bias(windows.slide(z, w), b), (grad_x, grad_w, _grad_bias)


@differentiable
def rot180(w: Array) -> Any:
    """The kernel turned by 180 degrees: both of its last two axes reversed, (..., KH, KW) -> same.

    Not the transpose w.T, which mirrors in the diagonal; and it leaves the channel axes alone.

    Source: University of Waterloo, "Transposed vs Fractionally-strided Convolution".
    """
    if array("rot180", "w", w).ndim < 2:
        raise ValueError(f"rot180: w needs two axes to turn, got shape {w.shape}")
    return w[..., ::-1, ::-1], (lambda dy: dy[..., ::-1, ::-1],)


def bilinear_kernel(
    stride: int, kind: str = "align_corners", dtype: Any = np.float32, exact: bool = False
) -> np.ndarray:
    """The kernel with which a transposed convolution of that stride interpolates bilinearly.

        k[u,v] = t[u] t[v],     t[u] = 1 - |u - c| / s

    kind "align_corners": the lecture's, size 2s - 1, centre c = s - 1. With padding s - 1 it equals
    interpolate(mode="bilinear", align_corners=True) exactly. kind "caffe": the FCN release's, size
    2s - s%2, c = (size - 1) / 2; with padding ceil((s - 1)/2) it equals align_corners=False away from
    the border, and every phase of it sums to 1.

    stride s in pixels -> array (size, size) of `dtype`; with exact=True of Fractions.

    Raises:
        TypeError, ValueError: a stride that is no int or below 1, an unknown kind.

    Source: University of Waterloo, "Transpose Convolution and Bilinear Interpolation";
    Long, Shelhamer and Darrell (2015), section 3.3.
    """
    s = integer("bilinear_kernel", "stride", stride, 1)
    one_of("bilinear_kernel", "kind", kind, ("align_corners", "caffe"))
    size = 2 * s - 1 if kind == "align_corners" else 2 * s - s % 2
    centre = Fraction(size - 1, 2)
    tent = [1 - abs(u - centre) / s for u in range(size)]
    kernel = np.array([[a * b for b in tent] for a in tent], dtype=object)
    return kernel if exact else kernel.astype(dtype)
