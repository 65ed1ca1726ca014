"""ONNX operators written with minseg: which argument of ours each attribute of theirs is.

One function per operator, returning a tuple of outputs. Its parameters are the operator's inputs in
order, then its attributes by their ONNX names with their ONNX defaults; so an attribute we do not
know is an error, never ignored. (kernel_shape of the convolutions repeats w's shape.) Every number
comes out of a minseg op: here arguments are translated, pixels moved and counted, no more.

Source: ONNX, Operator Schemas, https://onnx.ai/onnx/operators/
"""

import math
from fractions import Fraction
from functools import wraps

import numpy as np

import minseg.functional as F
from minseg.functional.basic import divide

# What each spatial attribute says of an image of one row.
ONE_ROW = {
    "kernel_shape": [1],
    "strides": [1],
    "dilations": [1],
    "output_shape": [1],
    "output_padding": [0],
}


def lines_too(operator):
    """Let an operator on images (N, C, H, W) also take lines (N, C, W), as images of one row."""

    @wraps(operator)
    def wrapper(x, *inputs, **attributes):
        if x.ndim != 3:
            return operator(x, *inputs, **attributes)
        x, *inputs = (a[:, :, None] if a is not None and a.ndim == 3 else a for a in (x, *inputs))
        for name, values in attributes.items():
            if name in ONE_ROW:
                attributes[name] = ONE_ROW[name] + values
        if "pads" in attributes:
            left, right = attributes["pads"]
            attributes["pads"] = [0, left, 0, right]
        return tuple(y[:, :, 0] for y in operator(x, *inputs, **attributes))

    return wrapper


def reach(kernel, dilations):
    """How many pixels a kernel with holes reaches over, along each axis."""
    return [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]


def in_halves(total, auto_pad):
    """Padding shared between both sides; an odd pixel goes to the far side with SAME_UPPER."""
    smaller = [n // 2 for n in total]
    larger = [n - n // 2 for n in total]
    return (*smaller, *larger) if auto_pad == "SAME_UPPER" else (*larger, *smaller)


def borders(x, window, strides, pads, auto_pad):
    """The padding (top, left, bottom, right); SAME means ceil(n / stride) windows per axis."""
    if auto_pad in ("NOTSET", "VALID"):
        return tuple(pads)
    total = [
        max((math.ceil(n / s) - 1) * s + k - n, 0)
        for n, k, s in zip(x.shape[2:], window, strides, strict=True)
    ]
    return in_halves(total, auto_pad)


def padded(x, border, value, most=(math.inf, math.inf)):
    """x and the padding left for the op, which takes equal sides of at most `most` pixels."""
    top, left, bottom, right = border
    if (top, left) == (bottom, right) and top <= most[0] and left <= most[1]:
        return x, (top, left)
    return F.pad(x, (left, right, top, bottom), value=value), (0, 0)


def plane_starts(x, pixels):
    """(N, C, 1, 1): ONNX numbers the pixels of the whole tensor, minseg those of each plane."""
    return pixels * np.arange(x.shape[0] * x.shape[1]).reshape(*x.shape[:2], 1, 1)


@lines_too
def conv(
    x, w, b=None, *, kernel_shape=None, strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1),
    group=1, auto_pad="NOTSET",
):  # fmt: skip
    border = borders(x, reach(w.shape[2:], dilations), strides, pads, auto_pad)
    x, padding = padded(x, border, 0)
    return (F.conv2d(x, w, b, tuple(strides), padding, tuple(dilations), group),)


@lines_too
def conv_transpose(
    x, w, b=None, *, kernel_shape=None, strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1),
    group=1, auto_pad="NOTSET", output_padding=(0, 0), output_shape=None,
):  # fmt: skip
    if auto_pad.startswith("SAME"):
        output_shape = [n * s for n, s in zip(x.shape[2:], strides, strict=True)]
    if output_shape is not None:  # too many pixels are padding, too few are output_padding
        window = reach(w.shape[2:], dilations)
        surplus = [
            (n - 1) * s + k + extra - wanted
            for n, s, k, extra, wanted in zip(
                x.shape[2:], strides, window, output_padding, output_shape, strict=True
            )
        ]
        output_padding = [e + max(-n, 0) for e, n in zip(output_padding, surplus, strict=True)]
        pads = in_halves([max(n, 0) for n in surplus], auto_pad)
    top, left, bottom, right = pads
    equal = (top, left) == (bottom, right)
    y = F.conv_transpose2d(
        x, w, b, tuple(strides), (top, left) if equal else 0, tuple(output_padding), group,
        tuple(dilations),
    )  # fmt: skip
    return (y if equal else F.pad(y, (-left, -right, -top, -bottom)),)


@lines_too
def max_pool(
    x, *, kernel_shape, strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1), ceil_mode=0,
    auto_pad="NOTSET", storage_order=0,
):  # fmt: skip
    H, W = x.shape[2:]
    window = reach(kernel_shape, dilations)
    border = borders(x, window, strides, pads, auto_pad)
    image, padding = padded(x, border, -np.inf, [k // 2 for k in window])
    y, indices = F.max_pool2d(
        image, kernel_shape, strides, padding, dilations, bool(ceil_mode), return_indices=True
    )
    row, column = np.divmod(indices, image.shape[3])
    row, column = row - border[0] + padding[0], column - border[1] + padding[1]
    in_plane = column * H + row if storage_order else row * W + column
    return y, plane_starts(x, H * W) + in_plane


def max_unpool(
    x, indices, output_shape=None, *, kernel_shape, strides=(1, 1), pads=(0, 0, 0, 0)
):  # fmt: skip
    size = [
        (n - 1) * s + k - before - after
        for n, s, k, before, after in zip(
            x.shape[2:], strides, kernel_shape, pads[:2], pads[2:], strict=True
        )
    ]
    in_plane = indices - plane_starts(x, size[0] * size[1])
    y = F.max_unpool2d(x, in_plane, kernel_shape, strides, output_size=size)
    if output_shape is not None:  # the indices still count the pixels of the smaller image
        y = F.pad(y, (0, int(output_shape[3]) - size[1], 0, int(output_shape[2]) - size[0]))
    return (y,)


@lines_too
def average_pool(
    x, *, kernel_shape, strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1), ceil_mode=0,
    auto_pad="NOTSET", count_include_pad=0,
):  # fmt: skip
    border = borders(x, reach(kernel_shape, dilations), strides, pads, auto_pad)
    if list(dilations) != [1, 1]:
        return (dilated_average_pool(x, kernel_shape, strides, border, dilations),)

    def mean(image, padding=0, counting_padding=True):
        return F.avg_pool2d(
            image, kernel_shape, strides, padding, bool(ceil_mode), counting_padding
        )

    image, padding = padded(x, border, 0, [k // 2 for k in kernel_shape])
    if image is x or count_include_pad:
        return (mean(image, padding, bool(count_include_pad)),)
    top, left, bottom, right = border
    share = F.pad(np.ones_like(x), (left, right, top, bottom))  # 1 on a pixel, 0 on padding
    return (divide(mean(image), mean(share)),)


def dilated_average_pool(x, kernel_shape, strides, border, dilations):
    """Every d-th row and column is an image of its own: pool each without holes, and interleave."""
    if any(border) or list(strides) != [1, 1]:
        raise NotImplementedError("dilation together with padding or stride")
    size = [
        F.output_size(n, k, dilation=d)
        for n, k, d in zip(x.shape[2:], kernel_shape, dilations, strict=True)
    ]
    y = np.full((*x.shape[:2], *size), np.nan, x.dtype)
    for row, column in np.ndindex(*dilations):
        lattice = (..., slice(row, None, dilations[0]), slice(column, None, dilations[1]))
        y[lattice] = F.avg_pool2d(x[lattice], kernel_shape, 1)
    return y


def resize(
    x, roi=None, scales=None, sizes=None, *, mode="nearest", axes=(0, 1, 2, 3),
    coordinate_transformation_mode="half_pixel", nearest_mode="round_prefer_floor",
):  # fmt: skip
    H, W = x.shape[2:]
    if sizes is not None:
        by_axis = dict(zip(axes, sizes, strict=True))
        OH, OW = int(by_axis[2]), int(by_axis[3])
        factors, target = None, dict(size=(OH, OW))
    else:
        by_axis = dict(zip(axes, scales, strict=True))
        factors = (float(by_axis[2]), float(by_axis[3]))
        OH, OW = math.floor(H * factors[0]), math.floor(W * factors[1])
        target = dict(scale_factor=factors)

    rule = coordinate_transformation_mode
    if mode == "linear" and rule in ("half_pixel", "align_corners"):
        return (F.interpolate(x, **target, mode="bilinear", align_corners=rule == "align_corners"),)
    if mode == "linear" and rule == "pytorch_half_pixel":  # an output of one pixel is the first one
        x = x[:, :, : 1 if OH == 1 else H, : 1 if OW == 1 else W]
        return (F.interpolate(x, (OH, OW), mode="bilinear", align_corners=False),)
    if (mode, rule, nearest_mode) == ("nearest", "align_corners", "floor") and OH > H and OW > W:
        factors = (Fraction(OH - 1, H - 1), Fraction(OW - 1, W - 1))
        return (F.interpolate(x, scale_factor=factors)[:, :, :OH, :OW],)
    if (mode, rule, nearest_mode) == ("nearest", "half_pixel", "round_prefer_floor"):
        if factors and all(f >= 1 and f.is_integer() for f in factors):
            return (F.interpolate(x, scale_factor=factors),)
        # minseg looks at a pixel's upper left corner, ONNX just before its centre: cut every pixel
        # into 64 x 64, and take the one just before the centre.
        fine = {name: tuple(64 * n for n in both) for name, both in target.items()}
        return (F.interpolate(x, **fine)[:, :, 31::64, 31::64][:, :, :OH, :OW],)
    raise NotImplementedError(f"{mode}, {rule}, {nearest_mode}")


def softmax(x, *, axis=-1):
    return (F.softmax(x, axis),)


def log_softmax(x, *, axis=-1):
    return (F.log_softmax(x, axis),)


def softmax_cross_entropy_loss(scores, labels, weights=None, *, reduction="mean", **ignore_index):
    loss = F.cross_entropy(scores, labels, weights, reduction=reduction, **ignore_index)
    return loss, F.log_softmax(scores, 1)


def negative_log_likelihood_loss(x, target, weight=None, *, reduction="mean", **ignore_index):
    return (F.nll_loss(x, target, weight, reduction=reduction, **ignore_index),)


def batch_normalization(
    x, scale, bias, mean, var, *, epsilon=1e-5, momentum=0.9, training_mode=0, is_test=1
):
    # Here the running variance is the unbiased one, n / (n - 1) times ONNX's: there and back again.
    n = x.size // x.shape[1]
    mean, var = mean.copy(), var * np.float32(n / (n - 1)) if training_mode else var
    y = F.batch_norm(x, mean, var, scale, bias, bool(training_mode), 1 - momentum, epsilon)
    return y, mean, var * np.float32((n - 1) / n)


def leaky_relu(x, *, alpha=0.01):
    return (F.leaky_relu(x, alpha),)


def concat(*arrays, axis):
    return (F.cat(list(arrays), axis),)


def pad(x, pads, value=0.0, axes=None, *, mode="constant"):
    axes = range(x.ndim) if axes is None else [int(n) % x.ndim for n in axes]
    before, after = np.split(np.asarray(pads), 2)
    by_axis = {n: (int(b), int(a)) for n, b, a in zip(axes, before, after, strict=True)}
    # ONNX lists all befores, then all afters; F.pad lists pairs, the last axis first.
    pairs = [by_axis.get(n, (0, 0)) for n in reversed(range(x.ndim))]
    return (F.pad(x, [amount for pair in pairs for amount in pair], mode, float(value)),)


OPERATORS = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "MaxPool": max_pool,
    "MaxUnpool": max_unpool,
    "AveragePool": average_pool,
    "GlobalAveragePool": lambda x: (F.global_avg_pool2d(x),),
    "GlobalMaxPool": lambda x: (F.global_max_pool2d(x),),
    "Resize": resize,
    "Softmax": softmax,
    "LogSoftmax": log_softmax,
    "SoftmaxCrossEntropyLoss": softmax_cross_entropy_loss,
    "NegativeLogLikelihoodLoss": negative_log_likelihood_loss,
    "BatchNormalization": batch_normalization,
    "Relu": lambda x: (F.relu(x),),
    "LeakyRelu": leaky_relu,
    "Sigmoid": lambda x: (F.sigmoid(x),),
    "Tanh": lambda x: (F.tanh(x),),
    "Concat": concat,
    "Pad": pad,
}
