"""The lectures' claims, each settled by the code itself: `minseg prove` lists them.

A claim is a sentence of a lecture, a table of shapes, and two functions that should be equal. What is
false stays here as REFUTED, with the right sentence beside it.

Sources: beside each claim, by course and slide title.
"""

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np

import minseg.functional as F
from minseg import anatomy, loops
from minseg.formal import variables
from minseg.metrics import ConfusionMatrix
from minseg.proofs import Verdict, prove
from minseg.tensor import Tensor

WATERLOO = "University of Waterloo"
DRAKE = "Drake University, CS195 (2024)"
BONN = "Bonn University, MA-INF 4308 (2023)"
ENSTA = "ENSTA Paris, CSC_5RO13"
DLV = "Deep Learning for Vision (2024-2025)"


@dataclass(frozen=True)
class Claim:
    """One sentence, where it is said, what the code makes of it, and the right one where it is false."""

    name: str
    course: str
    slide: str
    statement: str
    settle: Callable[[], Verdict]
    expected: str = "PROVED"
    correction: str = ""
    matters_most: bool = False


CLAIMS: dict[str, Claim] = {}


def claim(
    name: str, course: str, slide: str, statement: str, expected: str = "PROVED",
    correction: str = "", matters_most: bool = False,
) -> Callable:  # fmt: skip
    """Enter the function that settles a claim into CLAIMS."""

    def enter(settle: Callable[[], Verdict]) -> Callable[[], Verdict]:
        CLAIMS[name] = Claim(
            name, course, slide, statement, settle, expected, correction, matters_most
        )
        return settle

    return enter


def _table(arrays: dict[str, Any], **parameters: Any) -> list[dict[str, Any]]:
    """All combinations of some parameters, over the same arrays."""
    return [
        dict(zip(parameters, values, strict=True)) | arrays
        for values in product(*parameters.values())
    ]


def _gradient(op: Callable, which: int, *arrays: Any, **options: Any) -> Callable:
    """The op's own gradient function for its input number `which`."""
    return op.__wrapped__(*arrays, **options)[1][which]  # type: ignore[attr-defined]


# Transposed and fractionally strided convolution: the homework.

SMALL: dict[str, Any] = dict(x=(3, 4), k=(3, 3))


@claim(
    "transposed-is-fractional", WATERLOO, "Transposed vs Fractionally-strided Convolution",
    "Transposed convolution equals fractionally strided convolution with the kernel turned by 180 degrees.",
    matters_most=True,
)  # fmt: skip
def _() -> Verdict:
    sizes = [dict(x=(3, 4), k=(2, 2)), dict(x=(3, 4), k=(3, 3)), dict(x=(2, 3), k=(4, 3))]
    return prove(
        lambda x, k, stride, padding: F.conv_transpose2d(x, k, stride=stride, padding=padding),
        lambda x, k, stride, padding: F.fractionally_strided_conv2d(
            x, F.rot180(k), stride=stride, padding=padding
        ),
        over=[row for s in sizes for row in _table(s, stride=[1, 2, 3], padding=[0, 1])],
    )


@claim(
    "same-kernel", WATERLOO, "Fractionally-strided Convolution",
    "Fractionally strided convolution with the same kernel equals transposed convolution.",
    "REFUTED", "The kernel must be turned by 180 degrees; the same one will do only if turning "
    "changes nothing.", matters_most=True,
)  # fmt: skip
def _() -> Verdict:
    return prove(
        lambda x, k: F.conv_transpose2d(x, k, stride=2),
        lambda x, k: F.fractionally_strided_conv2d(x, k, stride=2),
        x=(4, 4), k=(3, 3),
    )  # fmt: skip


@claim(
    "transposed-kernel", WATERLOO, "Transposed vs Fractionally-strided Convolution",
    "Fractionally strided convolution with the kernel's transpose K^T equals transposed convolution.",
    "REFUTED", "Turning by 180 degrees reverses both axes; transposing mirrors in the diagonal.",
)  # fmt: skip
def _() -> Verdict:
    return prove(
        lambda x, k: F.conv_transpose2d(x, k, stride=2),
        lambda x, k: F.fractionally_strided_conv2d(x, k.T, stride=2),
        **SMALL,
    )


@claim(
    "one-axis-flipped", WATERLOO, "Transposed vs Fractionally-strided Convolution",
    "It is enough to flip the kernel along one axis.", "REFUTED", "Both axes must be reversed.",
)  # fmt: skip
def _() -> Verdict:
    return prove(
        lambda x, k: F.conv_transpose2d(x, k, stride=2),
        lambda x, k: F.fractionally_strided_conv2d(x, k[::-1], stride=2),
        **SMALL,
    )


@claim(
    "central-symmetry", WATERLOO, "Transposed vs Fractionally-strided Convolution",
    "With the same kernel the two are equal if and only if K == rot180(K).",
    matters_most=True,
)  # fmt: skip
def _() -> Verdict:
    return prove(
        lambda x, k, stride: F.conv_transpose2d(x, k, stride=stride),
        lambda x, k, stride: F.fractionally_strided_conv2d(x, k, stride=stride),
        over=[dict(x=(3, 3), k=(n, n), stride=s) for n in (2, 3, 4) for s in (1, 2)],
        where=lambda x, k: (k, F.rot180(k)),
    )


@claim(
    "symmetric-kernel", WATERLOO, "Transposed vs Fractionally-strided Convolution",
    "With the same kernel the two are equal if K is symmetric, K == K^T.",
    "REFUTED", "The condition is symmetry about the centre, K == rot180(K).",
)  # fmt: skip
def _() -> Verdict:
    return prove(
        lambda x, k: F.conv_transpose2d(x, k, stride=2),
        lambda x, k: F.fractionally_strided_conv2d(x, k, stride=2),
        where=lambda x, k: (k, k.T), **SMALL,
    )  # fmt: skip


def _slide_centre(reading: str) -> Callable:
    """The slide's a k[1,1] + b k[-1,1] + c k[1,-1] + d k[-1,-1], k's indices counted from its centre."""

    def formula(x: Any, k: Any) -> Any:
        (a, b), (c, d) = x

        def at(first: int, second: int) -> Any:
            row, column = (second, first) if reading == "column, row" else (first, second)
            return k[1 + row, 1 + column]

        return a * at(1, 1) + b * at(-1, 1) + c * at(1, -1) + d * at(-1, -1)

    return formula


def _centre(x: Any, k: Any) -> Any:
    return F.conv_transpose2d(x, k, stride=2)[2, 2]


@claim(
    "slide-formula", WATERLOO, "Transposed vs Fractionally-strided Convolution",
    "The pixel between a, b, c, d is a k[1,1] + b k[-1,1] + c k[1,-1] + d k[-1,-1], the indices of k "
    "being (column, row) from its centre.",
)  # fmt: skip
def _() -> Verdict:
    return prove(
        _centre,
        _slide_centre("column, row"),
        x=(2, 2),
        k=(3, 3),
        letters=dict(x="abcd"),
        indices="xy",
    )


@claim(
    "slide-formula-row-column", WATERLOO, "Transposed vs Fractionally-strided Convolution",
    "The same formula holds with k's indices read as (row, column), as NumPy does.",
    "REFUTED", "Read that way the terms of b and c change places.",
)  # fmt: skip
def _() -> Verdict:
    return prove(_centre, _slide_centre("row, column"), x=(2, 2), k=(3, 3), letters=dict(x="abcd"))


def _padded_by_hand(x: Any, k: Any, stride: int, border: Callable[[int], int]) -> Any:
    """Zeros between the pixels, a border of zeros (or a crop), then conv2d with the turned kernel."""
    H, W = x.shape
    z = np.zeros(((H - 1) * stride + 1, (W - 1) * stride + 1), x.dtype)
    z[::stride, ::stride] = x
    below, right = border(k.shape[0]), border(k.shape[1])
    return F.conv2d(F.pad(z, (right, right, below, below)), F.rot180(k))


PADDINGS = [
    dict(x=(3, 4), k=(n, n), stride=s, padding=p)
    for n in (3, 5) for s in (1, 2) for p in (0, 1, 2) if p < n
]  # fmt: skip


@claim(
    "padding-law", WATERLOO, "Fractionally-strided Convolution",
    "Cropping p pixels off a transposed convolution means padding by p' = k - 1 - p (in general "
    "d(k - 1) - p) in the fractionally strided one.",
    matters_most=True,
)  # fmt: skip
def _() -> Verdict:
    return prove(
        lambda x, k, stride, padding: F.conv_transpose2d(x, k, stride=stride, padding=padding),
        lambda x, k, stride, padding: _padded_by_hand(x, k, stride, lambda n: n - 1 - padding),
        over=PADDINGS,
    )


@claim(
    "padding-law-dilated", WATERLOO, "Fractionally-strided Convolution",
    "With dilation d the equivalent padding is d(k - 1) - p, and output_padding adds zeros at the end.",
)  # fmt: skip
def _() -> Verdict:
    def left(x: Any, k: Any, **o: Any) -> Any:
        return F.conv_transpose2d(x, k, **o)

    def right(x: Any, k: Any, **o: Any) -> Any:
        return F.fractionally_strided_conv2d(x, F.rot180(k), **o)

    over = _table(
        dict(x=(3, 2), k=(3, 2)),
        stride=[2, 3],
        padding=[0, 1],
        dilation=[1, 2],
        output_padding=[0, 1],
    )
    return prove(left, right, over=over)


@claim(
    "many-channels", WATERLOO, "Transposed vs Fractionally-strided Convolution",
    "With many channels the first two axes of the weights are swapped as well.",
)  # fmt: skip
def _() -> Verdict:
    return prove(
        lambda x, k: F.conv_transpose2d(x, k, stride=2),
        lambda x, k: F.fractionally_strided_conv2d(x, F.rot180(k).swapaxes(0, 1), stride=2),
        x=(2, 3, 2, 3), k=(3, 2, 3, 3),
    )  # fmt: skip


# One trilinear form.


@claim(
    "one-trilinear-form", DRAKE, "FCN: Upsampling via Transposed Convolution Operation",
    "Convolution, transposed convolution and the gradient in the kernel are the three derivatives of "
    "one sum: <y, slide(x, w)> = <spread(y, w), x> = <overlap(x, y), w>.",
    matters_most=True,
)  # fmt: skip
def _() -> Verdict:
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
    "convolution-is-a-matrix", WATERLOO, "Transpose Convolution: other names",
    "Convolution is multiplication by a matrix A built from the kernel.",
)  # fmt: skip
def _() -> Verdict:
    return prove(
        lambda x, k, stride: F.conv2d(x, k, stride=stride).ravel(),
        lambda x, k, stride: _as_matrix(k, x.shape, stride) @ x.ravel(),
        over=[dict(x=(4, 5), k=(3, 2), stride=s) for s in (1, 2)],
    )


@claim(
    "transposed-is-the-transpose", WATERLOO, "Transpose Convolution: other names",
    "Transposed convolution is multiplication by A^T, the transpose of the convolution's matrix.",
)  # fmt: skip
def _() -> Verdict:
    def right(x: Any, k: Any, stride: int) -> Any:
        size = tuple((n - 1) * stride + m for n, m in zip(x.shape, k.shape, strict=True))
        return (_as_matrix(k, size, stride).T @ x.ravel()).reshape(size)

    return prove(
        lambda x, k, stride: F.conv_transpose2d(x, k, stride=stride), right,
        over=[dict(x=(3, 2), k=(3, 2), stride=s) for s in (1, 2, 3)],
    )  # fmt: skip


@claim(
    "transposed-is-backward", DLV, "Deconvolution (or transposed convolution)",
    "Transposed convolution is what convolution's backward pass computes.",
)  # fmt: skip
def _() -> Verdict:
    def left(y: Any, w: Any, stride: int, padding: int) -> Any:
        size = [(n - 1) * stride - 2 * padding + 3 for n in y.shape[2:]]
        x = Tensor(np.zeros((1, w.shape[1], *size), object), requires_grad=True)
        F.conv2d(x, w, stride=stride, padding=padding).backward(y)
        return x.grad

    return prove(
        left,
        lambda y, w, stride, padding: F.conv_transpose2d(y, w, stride=stride, padding=padding),
        over=_table(dict(y=(1, 2, 3, 2), w=(2, 2, 3, 3)), stride=[1, 2], padding=[0, 1]),
    )


# Upsampling.


@claim(
    "the-worked-canvas", WATERLOO, "Methods for Upsampling",
    "The worked 4x4 example: adding up each pixel times the kernel, two apart, gives the 9x9 canvas.",
)  # fmt: skip
def _() -> Verdict:
    def canvas(x: np.ndarray, k: np.ndarray) -> np.ndarray:
        Y = np.zeros((9, 9), x.dtype)
        for i, j in np.ndindex(4, 4):
            Y[2 * i : 2 * i + 3, 2 * j : 2 * j + 3] += x[i, j] * k
        return Y

    return prove(canvas, lambda x, k: F.conv_transpose2d(x, k, stride=2), x=(4, 4), k=(3, 3))


@claim(
    "crop-is-bilinear", WATERLOO, "Transpose Convolution and Bilinear Interpolation",
    "With the kernel 1 - |u - (s-1)|/s in both directions and padding s - 1, transposed convolution is "
    "bilinear interpolation (corner pixels on corner pixels), strides 1 to 8.",
    matters_most=True,
)  # fmt: skip
def _() -> Verdict:
    def left(x: Any, stride: int) -> Any:
        kernel = F.bilinear_kernel(stride, exact=True)
        return F.conv_transpose2d(x, kernel, stride=stride, padding=stride - 1)

    def right(x: Any, stride: int) -> Any:
        size = [(n - 1) * stride + 1 for n in x.shape]
        if x.dtype != object:
            x = np.vectorize(Fraction, [object])(x)
        return F.interpolate(x, size, mode="bilinear", align_corners=True)

    return prove(left, right, over=[dict(x=(3, 4), stride=s) for s in range(1, 9)])


@claim(
    "canvas-is-bilinear", WATERLOO, "Transpose Convolution and Bilinear Interpolation",
    "The whole 9x9 canvas of the worked example is the image interpolated bilinearly.",
    "REFUTED", "Only the 7x7 inside is; the outermost ring fades towards zeros.",
)  # fmt: skip
def _() -> Verdict:
    def clamped(x: Any) -> Any:
        framed = x[np.ix_([0, 0, 1, 2, 3, 3], [0, 0, 1, 2, 3, 3])]
        if x.dtype != object:
            framed = np.vectorize(Fraction, [object])(framed)
        return F.interpolate(framed, 11, mode="bilinear", align_corners=True)[1:-1, 1:-1]

    return prove(
        lambda x: F.conv_transpose2d(x, F.bilinear_kernel(2, exact=True), stride=2),
        clamped,
        x=(4, 4),
    )


@claim(
    "caffe-phases", WATERLOO, "Transpose Convolution and Bilinear Interpolation",
    "Every phase of the FCN release's kernel (size 2s - s%2) sums to 1, so a constant stays constant "
    "away from the border.",
)  # fmt: skip
def _() -> Verdict:
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
    "bilinear-is-separable", DRAKE, "PSPNet: interpolation",
    "Bilinear interpolation is linear interpolation along rows, then along columns.",
)  # fmt: skip
def _() -> Verdict:
    def exact(x: Any) -> Any:
        return x if x.dtype == object else np.vectorize(Fraction, [object])(x)

    def in_two_steps(x: Any, align_corners: bool) -> Any:
        options = dict(mode="bilinear", align_corners=align_corners)
        across = F.interpolate(exact(x), (3, 7), **options)
        return F.interpolate(across, (5, 7), **options)

    return prove(
        lambda x, align_corners: F.interpolate(
            exact(x), (5, 7), mode="bilinear", align_corners=align_corners
        ),
        in_two_steps, over=[dict(x=(3, 4), align_corners=flag) for flag in (True, False)],
    )  # fmt: skip


@claim(
    "pool-after-unpool", ENSTA, "How does the decoder increase the resolution? (2/2)",
    "Pooling what was unpooled gives it back: pool(unpool(y)) = y, for numbers of at least 0.",
    "EVIDENCE",
)  # fmt: skip
def _() -> Verdict:
    places = np.array([[0, 3], [13, 10]])  # one in each 2x2 window of a 4x4 plane
    return prove(
        lambda y: F.max_pool2d(F.max_unpool2d(y, places, 2), 2), lambda y: y, y=(2, 2), least=0
    )


@claim(
    "pool-after-unpool-any-sign", ENSTA, "How does the decoder increase the resolution? (2/2)",
    "Pooling what was unpooled gives it back, whatever the numbers.",
    "REFUTED", "A negative number loses against the zeros around it; after a ReLU there are none.",
)  # fmt: skip
def _() -> Verdict:
    places = np.array([[0, 3], [13, 10]])
    return prove(lambda y: F.max_pool2d(F.max_unpool2d(y, places, 2), 2), lambda y: y, y=(2, 2))


# Convolutions in other words.


@claim(
    "dilated-is-zero-stuffed", WATERLOO, "DeepLab",
    "Dilated convolution is convolution with zeros put between the kernel's taps: effective size "
    "k + (k - 1)(d - 1).",
    matters_most=True,
)  # fmt: skip
def _() -> Verdict:
    def right(x: Any, k: Any, dilation: int) -> Any:
        n = k.shape[0] + (k.shape[0] - 1) * (dilation - 1)
        stuffed = np.zeros((n, n), k.dtype)
        stuffed[::dilation, ::dilation] = k
        return F.conv2d(x, stuffed)

    return prove(
        lambda x, k, dilation: F.conv2d(x, k, dilation=dilation), right,
        over=[dict(x=(7, 8), k=(3, 3), dilation=d) for d in (1, 2, 3)],
    )  # fmt: skip


@claim(
    "dense-is-convolution", WATERLOO, "Fully Convolutional Networks (FCNs)",
    "A dense layer on C maps of N x N pixels is a convolution with an N x N kernel.",
)  # fmt: skip
def _() -> Verdict:
    return prove(
        lambda x, w: F.linear(x.reshape(1, -1), w),
        lambda x, w: F.conv2d(x, w.reshape(-1, 2, 3, 3)).reshape(1, -1),
        x=(1, 2, 3, 3), w=(2, 18),
    )  # fmt: skip


@claim(
    "one-by-one-convolution", BONN, "Convolutionalization",
    "A 1x1 convolution is one dense layer applied at every pixel.",
)  # fmt: skip
def _() -> Verdict:
    return prove(
        lambda x, w: F.conv2d(x, w[:, :, None, None]),
        lambda x, w: F.linear(x.transpose(0, 2, 3, 1), w).transpose(0, 3, 1, 2),
        x=(1, 3, 2, 3), w=(2, 3),
    )  # fmt: skip


def _net(x: Any, k1: Any, k2: Any, stride: int = 1, dilation: int = 1, padding: Any = 0) -> Any:
    """Two convolutions, the first with a stride, the second dilated."""
    y = F.conv2d(x, k1, stride=stride, padding=padding)
    return F.conv2d(y, k2, dilation=dilation, padding=padding)


def _windows(x: Any, size: int, apply: Callable) -> Any:
    """apply to every size x size window of x, by itself: the slow way of labelling each pixel."""
    H, W = x.shape[0] - size + 1, x.shape[1] - size + 1
    first = apply(x[:size, :size])
    out = np.zeros((H, W), first.dtype)
    for i, j in np.ndindex(H, W):
        out[i, j] = apply(x[i : i + size, j : j + size])[0, 0]
    return out


NET: dict[str, Any] = dict(x=(7, 7), k1=(2, 2), k2=(3, 3))


@claim(
    "sliding-window-is-convolutional", WATERLOO, "Fully Convolutional Networks (FCNs)",
    "A network applied to every window by itself gives what the convolutional network gives at once.",
    matters_most=True,
)  # fmt: skip
def _() -> Verdict:
    return prove(lambda x, k1, k2: _windows(x, 4, lambda w: _net(w, k1, k2)), _net, **NET)


@claim(
    "stride-skips-windows", WATERLOO, "Fully Convolutional Networks (FCNs)",
    "With a stride of s, the convolutional network gives every s-th window.",
)  # fmt: skip
def _() -> Verdict:
    return prove(
        lambda x, k1, k2: _windows(x, 6, lambda w: _net(w, k1, k2, stride=2))[::2, ::2],
        lambda x, k1, k2: _net(x, k1, k2, stride=2),
        x=(8, 8), k1=(2, 2), k2=(3, 3),
    )  # fmt: skip


@claim(
    "a-trous-gives-all-windows", WATERLOO, "DeepLab",
    "Leave out the stride, dilate what comes after it, and every window is there (a trous).",
)  # fmt: skip
def _() -> Verdict:
    return prove(
        lambda x, k1, k2: _windows(x, 6, lambda w: _net(w, k1, k2, stride=2)),
        lambda x, k1, k2: _net(x, k1, k2, dilation=2),
        x=(8, 8), k1=(2, 2), k2=(3, 3),
    )  # fmt: skip


@claim(
    "same-padding-breaks-it", WATERLOO, "Fully Convolutional Networks (FCNs)",
    "The sliding-window identity also holds for a network with \"same\" padding.",
    "REFUTED", "A window by itself sees zeros where the whole image has pixels.",
)  # fmt: skip
def _() -> Verdict:
    def padded(x: Any, k1: Any, k2: Any) -> Any:
        return F.conv2d(F.conv2d(x, k1, padding="same"), k2)

    return prove(
        lambda x, k1, k2: _windows(x, 3, lambda w: padded(w, k1, k2)), padded,
        x=(5, 5), k1=(3, 3), k2=(3, 3),
    )  # fmt: skip


@claim(
    "skip-concatenation", WATERLOO, "U-net: expanding decoder with symmetry",
    "Concatenation followed by a 1x1 convolution is the sum of two 1x1 convolutions.",
)  # fmt: skip
def _() -> Verdict:
    return prove(
        lambda a, b, w: F.conv2d(F.cat([a, b], dim=1), w),
        lambda a, b, w: F.conv2d(a, w[:, :2]) + F.conv2d(b, w[:, 2:]),
        a=(1, 2, 2, 2), b=(1, 3, 2, 2), w=(2, 5, 1, 1),
    )  # fmt: skip


@claim(
    "slide-loop-is-the-op", DRAKE, "FCN: Upsampling via Transposed Convolution Operation",
    "The slide's loop Y[i:i+h, j:j+w] += X[i,j] * K is the op that trains the networks.",
)  # fmt: skip
def _() -> Verdict:
    return prove(
        loops.transpose_convolution, lambda X, K: F.conv_transpose2d(X, K), X=(4, 3), K=(2, 3)
    )


# Metrics, on counts of pixels: rational functions, so both sides are multiplied out.


@claim(
    "f1-from-iou", DLV, "Evaluation",
    "F1 = 2 IoU / (1 + IoU): with TP, FP, FN pixels, F1 = 2TP/(2TP+FP+FN) and IoU = TP/(TP+FP+FN).",
)  # fmt: skip
def _() -> Verdict:
    def left(n: Any) -> Any:
        tp, fp, fn = n
        return 2 * tp * ((tp + fp + fn) + tp)  # F1's numerator times (1 + IoU)'s, over the rest

    def right(n: Any) -> Any:
        tp, fp, fn = n
        return 2 * tp * (2 * tp + fp + fn)  # 2 IoU's numerator times F1's denominator

    return prove(left, right, n=(3,))


@claim(
    "micro-iou", BONN, "Segmentation Accuracy",
    "Over all K classes together, IoU = a / (2 - a), a being the pixel accuracy.",
)  # fmt: skip
def _() -> Verdict:
    def left(counts: Any) -> Any:  # IoU = hits / (rows + columns - hits), times (2 - a) * total
        hits, total = counts.trace(), counts.sum()
        return hits * (2 * total - hits)

    def right(counts: Any) -> Any:  # a * (rows + columns - hits), times total
        hits = counts.trace()
        union = counts.sum(axis=1).sum() + counts.sum(axis=0).sum() - hits
        return hits * union

    return prove(left, right, counts=(4, 4))


@claim(
    "mean-binary-accuracy", BONN, "Segmentation Accuracy",
    "Averaged over K classes, (TP + TN)/all is 1 - 2(1 - a)/K: high even for a bad network.",
)  # fmt: skip
def _() -> Verdict:
    def left(counts: Any) -> Any:  # K * total * mean of (TP + TN) / total
        total = counts.sum()
        rows, columns, hits = counts.sum(axis=1), counts.sum(axis=0), counts.diagonal()
        return sum(hits[k] + (total - rows[k] - columns[k] + hits[k]) for k in range(len(hits)))

    def right(counts: Any) -> Any:
        return len(counts) * counts.sum() - 2 * (counts.sum() - counts.trace())

    return prove(left, right, counts=(5, 5))


@claim(
    "confusion-matrix-adds-up", WATERLOO, "(Validation) Quality Metrics",
    "The confusion matrix of two images is the sum of theirs; void pixels change nothing.",
    "EVIDENCE",
)  # fmt: skip
def _() -> Verdict:
    def count(target: Any, prediction: Any) -> ConfusionMatrix:
        target = np.where(target % 7 == 6, 255, target % 7 % 4)
        matrix = ConfusionMatrix(4)
        matrix.update(target, prediction % 4)
        return matrix

    return prove(
        lambda t, p: count(t, p).counts,
        lambda t, p: (count(t[0], p[0]) + count(t[1], p[1])).counts,
        t=(2, 5, 6), p=(2, 5, 6), least=0,
    )  # fmt: skip


# What is no polynomial: numbers in float64.


@claim(
    "softmax-shift", WATERLOO, "(Training) Loss: Cross-Entropy",
    "Softmax does not change when the same number is added to every score.",
    "EVIDENCE",
)  # fmt: skip
def _() -> Verdict:
    return prove(
        lambda x, c: F.softmax(x, 1), lambda x, c: F.softmax(x + c, 1),
        x=(3, 5, 2), c=(3, 1, 2), analytic=True,
    )  # fmt: skip


@claim(
    "cross-entropy-gradient", ENSTA, "Output encoding and loss functions?",
    "The gradient of weighted cross-entropy is w[y] (softmax - one-hot) / sum of w[y].",
    "EVIDENCE",
)  # fmt: skip
def _() -> Verdict:
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
    "batch-norm-gradient", "Ioffe and Szegedy (2015)", "algorithm 1",
    "Batch normalisation's gradient has no part along the constant, and none along the normalised input.",
    "EVIDENCE",
)  # fmt: skip
def _() -> Verdict:
    def left(x: Any, dy: Any) -> Any:
        leaf = Tensor(x, requires_grad=True)
        y = F.batch_norm(leaf, None, None, training=True, eps=1e-12)
        y.backward(dy)
        dx: Any = leaf.grad
        return dx.sum(axis=(0, 2)), (dx * y.data).sum(axis=(0, 2))

    return prove(
        left, lambda x, dy: (np.zeros(2), np.zeros(2)), x=(3, 2, 4), dy=(3, 2, 4), analytic=True
    )


# Facts about networks: counted, not run.


def _counted(facts: dict[str, tuple[int, int]]) -> Verdict:
    """Numbers of the slides beside the numbers counted: {what: (counted, stated)}."""
    wrong = {what: pair for what, pair in facts.items() if pair[0] != pair[1]}
    settled = [f"{what} = {stated:,}" for what, (_, stated) in facts.items()]
    if not wrong:
        return Verdict("PROVED", settled, "counted from the layers' shapes, exactly")
    what, (counted, stated) = next(iter(wrong.items()))
    difference = {
        "where": what, "left": f"{counted:,} counted", "right": f"{stated:,} stated",
        "minus": f"{counted - stated:,}", "run": [], "map": np.ones((1, 1), int),
    }  # fmt: skip
    return Verdict("REFUTED", settled, f"{len(wrong)} of {len(facts)} counts differ", difference)


@claim(
    "receptive-fields", DLV, '"Convolutionalization" of well-known classification architectures',
    "The receptive fields of FCN-AlexNet, FCN-VGG16 and FCN-GoogLeNet are 355, 404 and 907 pixels.",
)  # fmt: skip
def _() -> Verdict:
    stated = {"alexnet": 355, "vgg16": 404, "googlenet": 907}
    return _counted(
        {name: (anatomy.receptive_field(anatomy.fcn(name)).size, n) for name, n in stated.items()}
    )


@claim(
    "parameter-counts", DLV, '"Convolutionalization" of well-known classification architectures',
    "They have 57, 134 and 6 million parameters: 56,954,261, 134,346,581 and 5,995,077, with a score "
    "layer for 21 classes and without the upsampling.",
)  # fmt: skip
def _() -> Verdict:
    stated = {"alexnet": 56_954_261, "vgg16": 134_346_581, "googlenet": 5_995_077}
    return _counted(
        {name: (anatomy.parameters(anatomy.fcn(name), 3), n) for name, n in stated.items()}
    )


@claim(
    "flop-counts", DLV, "Case study: 3D medical image segmentation",
    "One strided 2-D convolution costs 68.7 GFLOP, its 3-D sister 64 times as much; attention over "
    "64 x 64 x 32 tokens 17.7 TFLOP, in windows of 8 x 8 x 8 only 137.4 GFLOP (a multiply-add is 2).",
)  # fmt: skip
def _() -> Verdict:
    flat = anatomy.Conv(1024, (2, 2), stride=2, bias=False)
    solid = anatomy.Conv(1024, (2, 2, 2), stride=2, bias=False)
    tokens = (64, 64, 32)
    windows = anatomy.attention_flops(tokens, 256, window=(8, 8, 8))
    return _counted(
        {
            "2-D parameters": (anatomy.parameters([flat], 512), 2_097_152),
            "3-D parameters": (anatomy.parameters([solid], 512), 4_194_304),
            "2-D FLOP": (anatomy.flops([flat], 512, (256, 256)), 68_719_476_736),
            "3-D FLOP": (anatomy.flops([solid], 512, (256, 256, 64)), 4_398_046_511_104),
            "attention FLOP": (anatomy.attention_flops(tokens, 256), 17_660_905_521_152),
            "in windows": (windows, 137_438_953_472),
        }
    )


@claim(
    "convolutionalization-saves-weights", DRAKE, "FCN: Fully Convolutional Network",
    "Replacing a fully connected layer by a convolution reduces the number of weights.",
    "REFUTED", "The count stays: VGG16's fc6 has 102,764,544 either way. FCN-VGG16 is smaller only "
    "because it scores 21 classes and not 1000.",
)  # fmt: skip
def _() -> Verdict:
    dense = anatomy.parameters([anatomy.Dense(4096)], 512, (7, 7))
    convolution = anatomy.parameters([anatomy.Conv(4096, 7)], 512)
    difference = {
        "where": "fc6's weights", "left": f"{dense:,} dense", "right": f"{convolution:,} convolutional",
        "minus": f"{dense - convolution:,}", "run": [], "map": np.ones((1, 1), int),
    }  # fmt: skip
    fewer = convolution < dense
    how = "counted from the layers' shapes, exactly"
    return Verdict(
        "PROVED" if fewer else "REFUTED", ["fc6 of VGG16"], how, {} if fewer else difference
    )


def two_formulas() -> str:
    """The homework slide's two formulas for the pixel between a, b, c, d, written down by the code."""
    free = variables(dict(x=(2, 2), k=(3, 3)), letters=dict(x="abcd"))
    x, k = free["x"], free["k"]
    lines = {
        "conv_transpose2d(x, k, stride=2)": F.conv_transpose2d(x, k, stride=2),
        "fractionally_strided_conv2d(x, k, stride=2)": F.fractionally_strided_conv2d(
            x, k, stride=2
        ),
        "fractionally_strided_conv2d(x, rot180(k), stride=2)": F.fractionally_strided_conv2d(
            x, F.rot180(k), stride=2
        ),
    }
    return "\n".join(
        [
            "The pixel between a, b, c, d of x = [[a, b], [c, d]], as the functions that train the",
            "networks write it down when they are run on formal variables:",
            *(f"  {name:<52} {y[2, 2]}" for name, y in lines.items()),
        ]
    )


def _wrapped(sentence: str) -> str:
    return textwrap.fill(sentence, 98, initial_indent="  ", subsequent_indent="    ")


def overview(everything: bool = False) -> str:
    """The claims with their verdicts, a paragraph each: the eight that matter most, or all."""
    chosen = [c for c in CLAIMS.values() if everything or c.matters_most]
    paragraphs = [two_formulas()]
    for entry in chosen:
        verdict = entry.settle()
        lines = [f"{verdict.status:<9} {entry.name}", _wrapped(entry.statement)]
        if verdict.status == "REFUTED":
            where = verdict.difference["where"]
            sides = (
                f"{where}: left {verdict.difference['left']}, right {verdict.difference['right']}"
            )
            lines.append("  " + textwrap.shorten(sides, 96, placeholder=" ..."))
        if entry.correction:
            lines.append(_wrapped(f"Right is: {entry.correction}"))
        lines.append(f'  {entry.course}, "{entry.slide}"')
        paragraphs.append("\n".join(lines))
    if not everything:
        paragraphs.append(f"{len(CLAIMS) - len(chosen)} more: minseg prove --all")
    paragraphs.append("One at length: minseg prove NAME.  Your own: minseg prove FILE.py")
    return "\n\n".join(paragraphs)


def at_length(name: str) -> str:
    """One claim with all that its verdict says.

    Raises:
        ValueError: no claim has this name; similar ones are listed.
    """
    if name not in CLAIMS:
        import difflib

        near = difflib.get_close_matches(name, CLAIMS, 3, 0.4)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(f"prove: there is no claim {name!r}{hint} (minseg prove --all lists them)")
    entry = CLAIMS[name]
    lines = [
        f'{entry.course}, "{entry.slide}":',
        _wrapped(entry.statement),
        "",
        str(entry.settle()),
    ]
    if entry.correction:
        lines += ["", _wrapped(f"Right is: {entry.correction}")]
    return "\n".join(lines)


def from_file(path: str) -> str:
    """The verdict on a student's own file, which defines left, right, and shapes or over.

        shapes = dict(x=(4, 4), k=(3, 3))
        def left(x, k): ...
        def right(x, k): ...

    where, letters, indices, least and analytic may be defined too, as prove takes them.

    Raises:
        ValueError: the file does not run, or lacks one of these names.
    """
    import runpy

    try:
        names = runpy.run_path(path)
    except Exception as error:
        at = error.__traceback__
        while at is not None and at.tb_next is not None:
            at = at.tb_next
        line = getattr(error, "lineno", None) or (at.tb_lineno if at else "?")
        raise ValueError(
            f"prove: {path} does not run: {type(error).__name__}: {error} (line {line})"
        ) from None
    missing = [name for name in ("left", "right") if not callable(names.get(name))]
    if "shapes" not in names and "over" not in names:
        missing.append("shapes (or over)")
    if missing:
        raise ValueError(
            f"prove: {path} must define {', '.join(missing)}; for example left and right, two "
            "functions of (x, k), and shapes = dict(x=(4, 4), k=(3, 3))"
        )
    options = {
        name: names[name]
        for name in ("over", "where", "letters", "indices", "least", "analytic")
        if name in names
    }
    return str(prove(names["left"], names["right"], **options, **names.get("shapes", {})))
