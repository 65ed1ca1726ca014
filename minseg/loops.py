"""Every op as the slides write it: loops over pixels, with one line of arithmetic inside.

Read this file first. It takes any kind of number (floats, integers, Fractions) and checks nothing.
minseg.functional computes the same values quickly, under the same names and arguments, and a test
holds each of its ops to the loop here.

Sources: Drake University, CS195 (2024), "FCN: Upsampling via Transposed Convolution Operation",
"SegNet", "PSPNet: interpolation"; University of Waterloo, "Semantic Segmentation", "Methods for
Upsampling", "Fractionally-strided Convolution", "(Training) Loss: Cross-Entropy"; ENSTA Paris,
CSC_5RO13, "Output encoding and loss functions?".
"""

from fractions import Fraction
from math import floor
from typing import Any

import numpy as np

# One plane, one kernel, no stride: the slides' own text.


def convolution(X: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Y[i, j] = sum over u, v of K[u, v] X[i+u, j+v]

    X (H, W), K (h, w) -> Y (H - h + 1, W - w + 1).

    Source: Drake University, CS195 (2024), "FCN: Upsampling via Transposed Convolution Operation".
    """
    h, w = K.shape
    Y = np.zeros((X.shape[0] - h + 1, X.shape[1] - w + 1), np.result_type(X, K))
    for i in range(Y.shape[0]):
        for j in range(Y.shape[1]):
            Y[i, j] = (X[i : i + h, j : j + w] * K).sum()
    return Y


def transpose_convolution(X: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Y[i+u, j+v] += K[u, v] X[i, j]: every pixel spreads a copy of the kernel.

    X (H, W), K (h, w) -> Y (H + h - 1, W + w - 1). The slide's text ends without `return Y`.

    Source: Drake University, CS195 (2024), "FCN: Upsampling via Transposed Convolution Operation".
    """
    h, w = K.shape
    Y = np.zeros((X.shape[0] + h - 1, X.shape[1] + w - 1), np.result_type(X, K))
    for i in range(X.shape[0]):
        for j in range(X.shape[1]):
            Y[i : i + h, j : j + w] += X[i, j] * K
    return Y


def zero_interleaved(X: np.ndarray, stride: int) -> np.ndarray:
    """Z[s*i, s*j] = X[i, j], with s - 1 zeros between the pixels.

    X (H, W) -> Z ((H - 1) s + 1, (W - 1) s + 1); stride s in pixels.

    Source: University of Waterloo, "Fractionally-strided Convolution".
    """
    H, W = X.shape
    Z = np.zeros(((H - 1) * stride + 1, (W - 1) * stride + 1), X.dtype)
    for i in range(H):
        for j in range(W):
            Z[stride * i, stride * j] = X[i, j]
    return Z


def rot180(w: np.ndarray) -> np.ndarray:
    """y[u, v] = w[KH-1-u, KW-1-v]: the kernel turned, "flipped both horizontally & vertically".

    w (..., KH, KW) -> same; axes before the last two stay as they are.

    Source: University of Waterloo, "Transposed vs Fractionally-strided Convolution", the homework.
    """
    KH, KW = w.shape[-2:]
    y = np.zeros(w.shape, w.dtype)
    for u in range(KH):
        for v in range(KW):
            y[..., u, v] = w[..., KH - 1 - u, KW - 1 - v]
    return y


# Strides, paddings, dilations, channels and groups. `for n, o, i, j in np.ndindex(y.shape)` is four
# loops, one inside the other.


def pair(value: Any) -> Any:
    """An int, or a pair (vertical, horizontal), as a pair."""
    return value if isinstance(value, (tuple, list)) else (value, value)


def window_starts(
    n: int, k: int, s: int = 1, p: int = 0, d: int = 1, ceil_mode: bool = False
) -> list[int]:
    """The pixel at which each window begins along one axis: -p, s - p, 2s - p, ... while it fits.

    n pixels, kernel size k, stride s, padding p, dilation d. With ceil_mode there is one more,
    which reaches too far, where pixels were left over and it still begins inside the image. How
    many there are is the output size.

    Source: Dumoulin and Visin, A guide to convolution arithmetic (2016), section 2.
    """
    reach = d * (k - 1) + 1
    starts = [start for start in range(-p, n + p, s) if start + reach <= n + p]
    if ceil_mode and starts[-1] + reach < n + p and starts[-1] + s < n:
        starts.append(starts[-1] + s)
    return starts


def pixel(plane: np.ndarray, i: int, j: int) -> Any:
    """plane[i, j], and 0 outside the plane (H, W): padding."""
    H, W = plane.shape
    return plane[i, j] if 0 <= i < H and 0 <= j < W else 0


def conv2d(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> np.ndarray:
    """y[n,o,i,j] = b[o] + sum over c,u,v of w[o,c,u,v] x[n, c, s*i + d*u - p, s*j + d*v - p]

    x (N, C, H, W), w (O, C/groups, KH, KW), b (O,) -> (N, O, OH, OW), or planes x (H, W) and
    w (KH, KW). stride s, padding p and dilation d in pixels, an int or a pair.

    Source: Drake University, CS195 (2024), "FCN: Upsampling via Transposed Convolution Operation";
    dilation: University of Waterloo, "DeepLab".
    """
    if x.ndim == 2:
        return conv2d(x[None, None], w[None, None], b, stride, padding, dilation, groups)[0, 0]
    N, _, H, W = x.shape
    O, C, KH, KW = w.shape  # C channels in each group
    (sh, sw), (dh, dw) = pair(stride), pair(dilation)
    if padding == "same":  # one window per pixel; an even kernel reaches further down and right
        tops = [i - dh * (KH - 1) // 2 for i in range(H)]
        lefts = [j - dw * (KW - 1) // 2 for j in range(W)]
    else:
        ph, pw = pair(0 if padding == "valid" else padding)
        tops, lefts = window_starts(H, KH, sh, ph, dh), window_starts(W, KW, sw, pw, dw)
    y = np.zeros((N, O, len(tops), len(lefts)), np.result_type(x, w))
    for n, o, i, j in np.ndindex(y.shape):
        first = o // (O // groups) * C  # the first channel of o's group
        for c, u, v in np.ndindex(C, KH, KW):
            seen = pixel(x[n, first + c], tops[i] + dh * u, lefts[j] + dw * v)
            y[n, o, i, j] += w[o, c, u, v] * seen
    return y if b is None else y + b[:, None, None]


def conv_transpose2d(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> np.ndarray:
    """y[n, o, s*i + d*u - p, s*j + d*v - p] += w[c,o,u,v] x[n,c,i,j]

    The slide's Y[i:i+h, j:j+w] += X[i,j] * K, on a canvas with output_padding more pixels at the
    bottom and right, off which padding then crops p pixels on every side.
    x (N, C, H, W), w (C, O/groups, KH, KW), b (O,) -> (N, O, OH, OW), or planes x (H, W) and
    w (KH, KW). stride s, padding p and dilation d in pixels, an int or a pair.

    Source: Drake University, CS195 (2024), "FCN: Upsampling via Transposed Convolution Operation";
    University of Waterloo, "Why should transpose convolution work well for upsampling?", element by
    element.
    """
    if x.ndim == 2:
        y = conv_transpose2d(
            x[None, None], w[None, None], b, stride, padding, output_padding, groups, dilation
        )
        return y[0, 0]
    N, C, H, W = x.shape
    _, O, KH, KW = w.shape  # O outputs in each group
    (sh, sw), (dh, dw) = pair(stride), pair(dilation)
    (ph, pw), (eh, ew) = pair(padding), pair(output_padding)
    rh, rw = dh * (KH - 1) + 1, dw * (KW - 1) + 1  # how far the dilated kernel reaches
    size = (H - 1) * sh + rh + eh, (W - 1) * sw + rw + ew
    canvas = np.zeros((N, groups * O, *size), np.result_type(x, w))
    for n, c, i, j in np.ndindex(x.shape):
        group = c // (C // groups)
        for o in range(O):
            Y = canvas[n, group * O + o]
            Y[sh * i : sh * i + rh : dh, sw * j : sw * j + rw : dw] += x[n, c, i, j] * w[c, o]
    y = canvas[:, :, ph : size[0] - ph, pw : size[1] - pw]
    return y if b is None else y + b[:, None, None]


def fractionally_strided_conv2d(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    dilation: Any = 1,
) -> np.ndarray:
    """z[n, c, s*i, s*j] = x[n,c,i,j], zeros between; then y = z convolved with w at stride 1

    padded by q = d(KH - 1) - p on every side and by output_padding more at the bottom and right.
    The arguments are those of the transposed convolution it should equal; w is used as given.
    x (N, C, H, W), w (O, C, KH, KW), b (O,) -> (N, O, OH, OW), or planes x (H, W) and w (KH, KW).

    Source: University of Waterloo, "Fractionally-strided Convolution".
    """
    if x.ndim == 2:
        y = fractionally_strided_conv2d(
            x[None, None], w[None, None], b, stride, padding, output_padding, dilation
        )
        return y[0, 0]
    N, C, H, W = x.shape
    O, _, KH, KW = w.shape
    (sh, sw), (dh, dw) = pair(stride), pair(dilation)
    (ph, pw), (eh, ew) = pair(padding), pair(output_padding)
    z = np.zeros((N, C, (H - 1) * sh + 1, (W - 1) * sw + 1), x.dtype)
    for n, c, i, j in np.ndindex(x.shape):
        z[n, c, sh * i, sw * j] = x[n, c, i, j]
    qh, qw = dh * (KH - 1) - ph, dw * (KW - 1) - pw
    OH = z.shape[2] + 2 * qh + eh - dh * (KH - 1)
    OW = z.shape[3] + 2 * qw + ew - dw * (KW - 1)
    y = np.zeros((N, O, OH, OW), np.result_type(x, w))
    for n, o, i, j in np.ndindex(y.shape):
        for c, u, v in np.ndindex(C, KH, KW):
            y[n, o, i, j] += w[o, c, u, v] * pixel(z[n, c], i + dh * u - qh, j + dw * v - qw)
    return y if b is None else y + b[:, None, None]


def linear(x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
    """y[..., o] = b[o] + sum over c of w[o,c] x[..., c]

    x (..., C), w (O, C), b (O,) -> (..., O).

    Source: Drake University, CS195 (2024), "FCN: Fully Convolutional Network": "edge represents a
    single weight parameter".
    """
    O, C = w.shape
    y = np.zeros((*x.shape[:-1], O), np.result_type(x, w))
    for *place, o in np.ndindex(y.shape):
        for c in range(C):
            y[*place, o] += w[o, c] * x[*place, c]
    return y if b is None else y + b


# Pooling. Each plane is pooled on its own, so x may be one plane (H, W) or a batch (N, C, H, W).


def max_pool2d(
    x: np.ndarray,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """y[i,j] = max over u,v of x[s*i + d*u - p, s*j + d*v - p], pixels outside the image left out

    x (..., H, W) -> (..., OH, OW); with return_indices also row * W + column of each maximum, the
    first in reading order where several are equal.

    Source: Drake University, CS195 (2024), "SegNet".
    """
    H, W = x.shape[-2:]
    (KH, KW), (dh, dw), (ph, pw) = pair(kernel_size), pair(dilation), pair(padding)
    sh, sw = pair(kernel_size if stride is None else stride)
    tops = window_starts(H, KH, sh, ph, dh, ceil_mode)
    lefts = window_starts(W, KW, sw, pw, dw, ceil_mode)
    y = np.zeros((*x.shape[:-2], len(tops), len(lefts)), x.dtype)
    indices = np.zeros(y.shape, np.int64)
    for *plane, i, j in np.ndindex(y.shape):
        largest = None
        for u, v in np.ndindex(KH, KW):
            row, column = tops[i] + dh * u, lefts[j] + dw * v
            if not (0 <= row < H and 0 <= column < W):
                continue
            if largest is None or x[*plane, row, column] > largest:
                largest = x[*plane, row, column]
                indices[*plane, i, j] = row * W + column
        y[*plane, i, j] = largest
    return (y, indices) if return_indices else y


def max_unpool2d(
    x: np.ndarray,
    indices: np.ndarray,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> np.ndarray:
    """y.flat[indices[i,j]] = x[i,j] on every plane, 0 elsewhere

    Of equal indices the last in reading order stays.
    x and indices (..., H, W) -> (..., OH, OW) with OH = (H - 1) s - 2p + k, or output_size.

    Source: Drake University, CS195 (2024), "SegNet".
    """
    H, W = x.shape[-2:]
    (KH, KW), (ph, pw) = pair(kernel_size), pair(padding)
    sh, sw = pair(kernel_size if stride is None else stride)
    OH, OW = output_size or ((H - 1) * sh - 2 * ph + KH, (W - 1) * sw - 2 * pw + KW)
    y = np.zeros((*x.shape[:-2], OH, OW), x.dtype)
    for *plane, i, j in np.ndindex(x.shape):
        row, column = divmod(int(indices[*plane, i, j]), OW)
        y[*plane, row, column] = x[*plane, i, j]
    return y


def avg_pool2d(
    x: np.ndarray,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> np.ndarray:
    """y[i,j] = 1/count * sum over u,v of x[s*i + u - p, s*j + v - p]

    x (..., H, W) -> (..., OH, OW). count is the number of pixels in the window, padding counted in
    unless count_include_pad is False, what lies beyond the padding (ceil_mode) never; or
    divisor_override.

    Source: Drake University, CS195 (2024), "PSPNet", with one window size for the whole image.
    """
    H, W = x.shape[-2:]
    (KH, KW), (ph, pw) = pair(kernel_size), pair(padding)
    sh, sw = pair(kernel_size if stride is None else stride)
    tops = window_starts(H, KH, sh, ph, ceil_mode=ceil_mode)
    lefts = window_starts(W, KW, sw, pw, ceil_mode=ceil_mode)
    y = np.zeros((*x.shape[:-2], len(tops), len(lefts)), x.dtype)
    for *plane, i, j in np.ndindex(y.shape):
        total, count = 0, 0
        for u, v in np.ndindex(KH, KW):
            row, column = tops[i] + u, lefts[j] + v
            if 0 <= row < H and 0 <= column < W:
                total += x[*plane, row, column]
                count += 1
            elif count_include_pad and row < H + ph and column < W + pw:
                count += 1
        y[*plane, i, j] = total / (divisor_override or count)
    return y


def adaptive_avg_pool2d(x: np.ndarray, output_size: Any) -> np.ndarray:
    """y[i,j] = the mean of rows floor(i H/OH) .. ceil((i+1) H/OH) - 1, and of columns likewise

    x (..., H, W) -> (..., OH, OW).

    Source: Drake University, CS195 (2024), "PSPNet": "output maps of 1x1, 2x2, 3x3, 6x6".
    """
    H, W = x.shape[-2:]
    OH, OW = pair(output_size)
    y = np.zeros((*x.shape[:-2], OH, OW), x.dtype)
    for *plane, i, j in np.ndindex(y.shape):
        rows = slice(i * H // OH, -(-(i + 1) * H // OH))
        columns = slice(j * W // OW, -(-(j + 1) * W // OW))
        values = x[*plane, rows, columns]
        y[*plane, i, j] = values.sum() / values.size
    return y


def global_avg_pool2d(x: np.ndarray) -> np.ndarray:
    """The mean of each plane: x (..., H, W) -> (..., 1, 1).

    Source: Lin, Chen and Yan, Network In Network (2013).
    """
    return adaptive_avg_pool2d(x, 1)


def global_max_pool2d(x: np.ndarray) -> np.ndarray:
    """The largest number of each plane: x (..., H, W) -> (..., 1, 1).

    Source: Oquab et al., Is object localization for free? (2015).
    """
    return max_pool2d(x, x.shape[-2:])


# Resizing.


def bilinear(f: np.ndarray, x: Any, y: Any) -> Any:
    """f(x, y) between the four pixels around it, first along x, then along y; x2 - x1 = y2 - y1 = 1

        f(x, y1) = (x2 - x) f(Q11) + (x - x1) f(Q21)
        f(x, y2) = (x2 - x) f(Q12) + (x - x1) f(Q22)
        f(x, y)  = (y2 - y) f(x, y1) + (y - y1) f(x, y2)

    f (H, W) one plane, x and y in pixels to the right and down; the last row and column go on
    beyond the border.

    Source: Drake University, CS195 (2024), "PSPNet: interpolation", "Bilinear Interpolation".
    """
    H, W = f.shape
    x1, y1 = floor(x), floor(y)
    x2, y2 = x1 + 1, y1 + 1
    right, below = min(x2, W - 1), min(y2, H - 1)
    if f.dtype != object:  # Fractions stay exact only among themselves
        x, y = float(x), float(y)
    f_y1 = (x2 - x) * f[y1, x1] + (x - x1) * f[y1, right]
    f_y2 = (x2 - x) * f[below, x1] + (x - x1) * f[below, right]
    return (y2 - y) * f_y1 + (y - y1) * f_y2


def positions(
    n: int, size: Any, factor: Any, mode: str, align_corners: bool, recompute: bool
) -> list[Fraction]:
    """Where each output pixel falls on an axis of n input pixels, exactly.

    size: the number of output pixels; or None, and a factor.
    """
    step = Fraction(n, size) if size else 1 / Fraction(factor).limit_denominator(1000)
    if not size:
        size = floor(n / step)
        step = Fraction(n, size) if recompute else step
    if mode == "nearest":
        return [Fraction(min(floor(i * step), n - 1)) for i in range(size)]
    if align_corners:  # corner pixels fall on corner pixels
        return [Fraction(i * (n - 1), max(size - 1, 1)) for i in range(size)]
    half = Fraction(1, 2)  # the corners of the image fall on the corners of the image
    return [max((i + half) * step - half, Fraction(0)) for i in range(size)]


def interpolate(
    x: np.ndarray,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
) -> np.ndarray:
    """y[i,j] = x at the place where output pixel (i, j) falls: its nearest pixel, or `bilinear`

    x (..., H, W) -> (..., OH, OW); sizes in pixels. Row i falls at floor(i H/OH) when mode is
    "nearest", at i (H-1)/(OH-1) with align_corners=True, at (i + 1/2) H/OH - 1/2 otherwise, but
    not below 0.

    Source: Drake University, CS195 (2024), "PSPNet: interpolation".
    """
    H, W = x.shape[-2:]
    (OH, OW), (fh, fw) = pair(size), pair(scale_factor)
    how = mode, bool(align_corners), bool(recompute_scale_factor)
    rows, columns = positions(H, OH, fh, *how), positions(W, OW, fw, *how)
    y = np.zeros((*x.shape[:-2], len(rows), len(columns)), x.dtype)
    for *plane, i, j in np.ndindex(y.shape):
        if mode == "nearest":
            y[*plane, i, j] = x[*plane, int(rows[i]), int(columns[j])]
        else:
            y[*plane, i, j] = bilinear(x[*plane, :, :], columns[j], rows[i])
    return y


# From scores to the loss.


def relu(x: np.ndarray) -> np.ndarray:
    """y = max(x, 0), any shape.

    Source: Drake University, CS195 (2024), "SegNet", the "convolution-ReLU-max pooling" pipeline.
    """
    y = np.zeros(x.shape, x.dtype)
    for place in np.ndindex(x.shape):
        y[place] = max(x[place], 0)
    return y


def leaky_relu(x: np.ndarray, negative_slope: float = 0.01) -> np.ndarray:
    """y = x where x > 0, negative_slope * x elsewhere, any shape.

    Source: Maas, Hannun and Ng, Rectifier Nonlinearities Improve Neural Network Acoustic Models
    (2013).
    """
    y = np.zeros(x.shape, x.dtype)
    for place in np.ndindex(x.shape):
        y[place] = x[place] if x[place] > 0 else negative_slope * x[place]
    return y


def softmax(x: np.ndarray, dim: int = 1) -> np.ndarray:
    """y[k] = exp(x[k]) / sum over j of exp(x[j]) along axis `dim`, any shape

    As on the slide, so a score above 709 overflows in float64.

    Source: ENSTA Paris, CSC_5RO13, "Output encoding and loss functions?".
    """
    scores = np.moveaxis(x, dim, -1)  # (..., K)
    y = np.zeros(scores.shape, x.dtype)
    for place in np.ndindex(scores.shape[:-1]):
        total = sum(np.exp(score) for score in scores[place])
        for k, score in enumerate(scores[place]):
            y[*place, k] = np.exp(score) / total
    return np.moveaxis(y, -1, dim)


def log_softmax(x: np.ndarray, dim: int = 1) -> np.ndarray:
    """y[k] = log(softmax(x)[k]) along axis `dim`, any shape.

    Source: University of Waterloo, "(Training) Loss: Cross-Entropy".
    """
    return np.log(softmax(x, dim))


def nll_loss(
    log_probabilities: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None = None,
    ignore_index: int = 255,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """L = - sum over pixels and k of w[k] t[k] log p[k]  /  sum over pixels of w[y]

    over the pixels that are not void. t is one-hot, 1 at the pixel's label y; label_smoothing mixes
    that share of the uniform distribution into it. log_probabilities (N, K, ...), target (N, ...),
    weight (K,). reduction "mean" as above (0 where all is void), "sum" without the denominator,
    "none" one loss per pixel.

    Source: University of Waterloo, "(Training) Loss: Cross-Entropy"; weights: ENSTA Paris,
    CSC_5RO13, "Output encoding and loss functions?".
    """
    K = log_probabilities.shape[1]
    dtype = log_probabilities.dtype
    weight = np.ones(K, dtype) if weight is None else weight
    loss = np.zeros(target.shape, dtype)
    total_weight = dtype.type(0)
    for n, *place in np.ndindex(target.shape):
        label = target[n, *place]
        if label == ignore_index:
            continue
        for k in range(K):
            t = (1 - label_smoothing) * (k == label) + label_smoothing / K
            loss[n, *place] -= weight[k] * t * log_probabilities[n, k, *place]
        total_weight += weight[label]
    if reduction == "none":
        return loss
    return loss.sum() / (total_weight or 1) if reduction == "mean" else loss.sum()


def cross_entropy(
    logits: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None = None,
    ignore_index: int = 255,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """L = nll_loss(log p) with p = softmax(logits)

    logits (N, K, ...), target (N, ...), weight (K,) -> one number, or one per pixel: see nll_loss.

    Source: University of Waterloo, "(Training) Loss: Cross-Entropy".
    """
    log_p = log_softmax(logits)
    return nll_loss(log_p, target, weight, ignore_index, reduction, label_smoothing)


def batch_norm(
    x: np.ndarray,
    running_mean: np.ndarray | None,
    running_var: np.ndarray | None,
    weight: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> np.ndarray:
    """y = weight * (x - mean) / sqrt(var + eps) + bias, for each channel

    x (N, C, ...) -> same; the others (C,). While training mean and var are the batch's, and the
    running ones, which serve afterwards, move towards them in place.

    Source: Ioffe and Szegedy, Batch Normalization (2015), algorithms 1 and 2.
    """
    y = np.zeros(x.shape, x.dtype)
    for c in range(x.shape[1]):
        values = x[:, c]  # every pixel of every image: (N, ...)
        count = values.size
        if training or running_mean is None or running_var is None:
            mean = values.sum() / count
            var = ((values - mean) ** 2).sum() / count
        else:
            mean, var = running_mean[c], running_var[c]
        if training and running_mean is not None and running_var is not None:
            unbiased = var * count / (count - 1)
            running_mean[c] = (1 - momentum) * running_mean[c] + momentum * mean
            running_var[c] = (1 - momentum) * running_var[c] + momentum * unbiased
        y[:, c] = (values - mean) / np.sqrt(var + eps)
        if weight is not None:
            y[:, c] *= weight[c]
        if bias is not None:
            y[:, c] += bias[c]
    return y


def confusion_matrix(
    target: np.ndarray, prediction: np.ndarray, num_classes: int, void: int = 255
) -> np.ndarray:
    """counts[i, j] += 1 for every pixel of true class i that was predicted as class j

    target, prediction (any shape, the same) -> (K, K) int64, rows truth, columns prediction; pixels
    whose target is void are left out.

    Source: University of Waterloo, "(Validation) Quality Metrics"; Deep Learning for Vision
    (2024-2025), "Evaluation".
    """
    counts = np.zeros((num_classes, num_classes), np.int64)
    for place in np.ndindex(target.shape):
        if target[place] != void:
            counts[target[place], prediction[place]] += 1
    return counts
