"""The transposed convolution as scatter-add.

A convolution gathers: each output pixel is a weighted sum of the pixels below the kernel. The
transposed convolution scatters: each input pixel multiplies the whole kernel and adds this copy
to the output, s pixels further on for every pixel of the input. The lecture's loop, on one plane
and with stride 1, is the specification:

    for every pixel (i, j) of X:
        Y[i:i+h, j:j+w] += X[i, j] * K

Where copies overlap, they add up. `padding` p then crops p pixels off every side.

Source: University of Waterloo, "Methods for Upsampling".
"""

import numpy as np


def conv_transpose2d(x, w, b=None, stride=1, padding=0):
    """Transposed convolution.

        y[n, o, s*i + u - p, s*j + v - p] += w[c, o, u, v] x[n, c, i, j]   for every n, c, o, i, j, u, v

    and every y[n, o] begins at b[o], or at 0 where b is None.

    x (N, C, H, W), w (C, O, KH, KW), b (O,) or None
    -> (N, O, OH, OW) with OH = (H - 1) s - 2p + KH, and OW alike.
    stride s and padding p are ints, in pixels.
    """
    ### BEGIN SOLUTION
    N, C, H, W = x.shape
    _, O, KH, KW = w.shape
    s, p = stride, padding
    canvas = np.zeros((N, O, (H - 1) * s + KH, (W - 1) * s + KW), x.dtype)
    for i in range(H):
        for j in range(W):
            copies = np.einsum("nc,couv->nouv", x[:, :, i, j], w)
            canvas[:, :, s * i : s * i + KH, s * j : s * j + KW] += copies
    y = canvas[:, :, p : canvas.shape[2] - p, p : canvas.shape[3] - p]
    return y if b is None else y + b[:, None, None]
    ### END SOLUTION


### FOR THE TEACHER

import minseg.functional as F
from minseg.grading.exercise import call, check, holds, right, wrong

REFERENCE = {"conv_transpose2d": F.conv_transpose2d}
HINTS = [
    """
    Take X = [[1, 2]] and K = [[1, 1, 1]] with stride 1. Write the two scaled copies of the kernel
    below each other, the second one pixel further right. What stands in the columns where both lie?
    """,
    """
    Make a canvas of zeros that has room for every copy: (H - 1) s + KH rows. Two loops over the
    pixels of x are enough; what happens to all images, channels and kernel cells at one pixel is
    one einsum, from (N, C) and (C, O, KH, KW) to (N, O, KH, KW). Crop at the end.
    """,
    """
    for i in range(H):
        for j in range(W):
            copies = np.einsum("nc,couv->nouv", x[:, :, i, j], w)
            canvas[:, :, <rows from s*i on>, <columns from s*j on>] += copies
    then leave out p rows and columns on every side (mind p = 0), then add b[:, None, None].
    """,
]


@check("one pixel becomes a scaled copy of the kernel")
def one_pixel(draw):
    yield call("conv_transpose2d", draw.integers(1, 1, 1, 1), draw.integers(1, 1, 1, 3))
    yield call("conv_transpose2d", draw.integers(1, 1, 1, 1), draw.integers(1, 1, 2, 2))
    yield call("conv_transpose2d", draw.integers(1, 1, 1, 1), draw.integers(1, 1, 3, 2))


@check("copies that overlap add up")
def overlap(draw):
    yield call("conv_transpose2d", draw.integers(1, 1, 1, 2), draw.integers(1, 1, 1, 2))
    yield call("conv_transpose2d", draw.integers(1, 1, 2, 2), draw.integers(1, 1, 2, 2))
    yield call("conv_transpose2d", draw.integers(1, 1, 3, 4), draw.integers(1, 1, 3, 2))


@check("stride moves the copies apart")
def strided(draw):
    yield call("conv_transpose2d", draw.integers(1, 1, 1, 2), draw.integers(1, 1, 1, 2), stride=2)
    yield call("conv_transpose2d", draw.integers(1, 1, 2, 2), draw.integers(1, 1, 2, 2), stride=2)
    yield call("conv_transpose2d", draw.integers(1, 1, 2, 3), draw.integers(1, 1, 3, 3), stride=2)
    yield call("conv_transpose2d", draw.integers(1, 1, 3, 2), draw.integers(1, 1, 4, 3), stride=3)


@check("padding crops every side")
def padded(draw):
    p = draw.between(1, 2)
    yield call("conv_transpose2d", draw.integers(1, 1, 2, 2), draw.integers(1, 1, 3, 3), padding=1)
    yield call("conv_transpose2d", draw.integers(1, 1, 3, 4), draw.integers(1, 1, 4, 4), stride=2,
               padding=p)  # fmt: skip


@check("several channels and images, a bias, fractions", points=2)
def channels(draw):
    C, O = draw.one_of((2, 3), (3, 2))
    x, w = draw.integers(2, C, 3, 2), draw.integers(C, O, 2, 3)
    pixels, two = draw.integers(1, 1, 1, 2), draw.integers(1, 2, 1, 1)
    yield call("conv_transpose2d", pixels, two, draw.distinct(2) + 5)
    yield call("conv_transpose2d", pixels + 0.5, draw.integers(1, 1, 1, 2) + 0.5, stride=2)
    yield call("conv_transpose2d", draw.integers(1, 2, 1, 1), draw.integers(2, 1, 2, 2))
    yield call("conv_transpose2d", draw.integers(1, 1, 2, 1), draw.integers(1, 2, 2, 2))
    yield call("conv_transpose2d", x, w, draw.integers(O))
    yield call("conv_transpose2d", x, w, draw.integers(O), stride=2, padding=1)


@holds("shape: (H - 1) s - 2p + KH")
def shape(draw):
    x, w = draw.integers(1, 2, 3, 2), draw.integers(2, 3, 3, 4)
    answers = yield [
        call("conv_transpose2d", x, w, stride=s, padding=p) for s in (1, 2) for p in (0, 1)
    ]
    sizes = [(5, 5), (3, 3), (7, 6), (5, 4)]
    return [y.shape for (y,) in answers] == [(1, 3, *size) for size in sizes]


@holds("linear in x: f(x + z) = f(x) + f(z)")
def linear(draw):
    x, z, w = draw.integers(1, 2, 3, 3), draw.integers(1, 2, 3, 3), draw.integers(2, 1, 2, 2)
    (of_x,), (of_z,), (of_both,) = yield [
        call("conv_transpose2d", each, w, stride=2) for each in (x, z, x + z)
    ]
    return (of_both == of_x + of_z).all()


@holds("adjoint of convolution: <conv(y), x> = <y, yours(x)>")
def adjoint(draw):
    x, w, y = draw.integers(1, 2, 2, 3), draw.integers(2, 3, 3, 3), draw.integers(1, 3, 5, 7)
    ((of_x,),) = yield [call("conv_transpose2d", x, w, stride=2)]
    return (F.conv2d(y, w, stride=2) * x).sum() == (y * of_x).sum()


overwrites = wrong(
    "conv_transpose2d",
    "overwriting instead of adding: where two copies of the kernel overlap, only the later one is "
    "left. The lecture writes +=",
    {"+= copies": "= copies"},
)


overwrites_numbers = wrong(
    "conv_transpose2d",
    "overwriting instead of adding: of all that falls on one pixel of the output, "
    "from copies that overlap and from the channels of x, only the last is left. The lecture "
    "writes +=",
    {"x[:, :, i, j], w)": "x[:, -1:, i, j], w[-1:])", "+= copies": "= copies"},
)


turned = wrong(
    "conv_transpose2d",
    "the transposed convolution with the kernel turned by 180 degrees. Scattering needs no turn: "
    "the copy at pixel (i, j) is X[i, j] * K, as K stands",
    {"x[:, :, i, j], w)": "x[:, :, i, j], w[:, :, ::-1, ::-1])"},
)


one_axis = wrong(
    "conv_transpose2d",
    "a stride along the rows only: the columns still move by one pixel",
    {"(W - 1) * s + KW": "W - 1 + KW", "s * j : s * j + KW": "j : j + KW"},
)


without_stride = wrong(
    "conv_transpose2d",
    "the transposed convolution of stride 1: the copies of two neighbouring pixels "
    "lie one pixel apart, whatever the stride",
    {"s, p = stride, padding": "s, p = 1, padding"},
)


crowded = wrong(
    "conv_transpose2d",
    "a canvas of the right size on which the copies of two neighbouring pixels lie "
    "one pixel apart, whatever the stride",
    {"s * i : s * i + KH, s * j : s * j + KW": "i : i + KH, j : j + KW"},
)


without_bias = wrong(
    "conv_transpose2d",
    "the transposed convolution without its bias: b[o] is added to every pixel of output channel o",
    {"y if b is None else y + b[:, None, None]": "y"},
)


bias_along_columns = wrong(
    "conv_transpose2d",
    "the bias laid along the columns. b has one number for each output channel, which is axis 1 of "
    "the output, but NumPy matches the last axis",
    {"+ b[:, None, None]": "+ b"},
)


crops_all = wrong(
    "conv_transpose2d",
    "what the slice p:-p leaves of the canvas. Without padding it reads 0:0, for -0 "
    "is 0, and nothing is left. Count the end of the crop from the front",
    {"p : canvas.shape[2] - p, p : canvas.shape[3] - p": "p:-p, p:-p"},
)


in_ints = wrong(
    "conv_transpose2d",
    "the right numbers with their fractions cut off: an array of ints has no room "
    "for them. Make the canvas of floats, as np.zeros does if no dtype is named",
    {"x.dtype": "int", "+= copies": "+= copies.astype(int)"},
)


padding_adds = wrong(
    "conv_transpose2d",
    "adding zeros where padding should crop: in a transposed convolution, padding p takes p "
    "pixels off every side",
    {
        "canvas[:, :, p : canvas.shape[2] - p, p : canvas.shape[3] - p]": (
            "np.pad(canvas, ((0, 0), (0, 0), (p, p), (p, p)))"
        )
    },
)


@right("conv_transpose2d", "loops over everything")
def seven_loops(x, w, b=None, stride=1, padding=0):
    N, C, H, W = x.shape
    _, O, KH, KW = w.shape
    s, p = stride, padding
    y = np.zeros((N, O, (H - 1) * s + KH, (W - 1) * s + KW))
    for n, c, i, j in np.ndindex(N, C, H, W):
        for o, u, v in np.ndindex(O, KH, KW):
            y[n, o, s * i + u, s * j + v] += w[c, o, u, v] * x[n, c, i, j]
    y = y[:, :, p : y.shape[2] - p, p : y.shape[3] - p]
    return y if b is None else y + b.reshape(1, -1, 1, 1)


@right("conv_transpose2d", "loops over the kernel, pixels all at once")
def kernel_loops(x, w, b=None, stride=1, padding=0):
    N, C, H, W = x.shape
    _, O, KH, KW = w.shape
    s, p = stride, padding
    y = np.zeros((N, O, (H - 1) * s + KH, (W - 1) * s + KW))
    for u in range(KH):
        for v in range(KW):
            part = np.einsum("nchw,co->nohw", x, w[:, :, u, v])
            y[:, :, u : u + s * H : s, v : v + s * W : s][:, :, :H, :W] += part
    y = y[:, :, p : y.shape[2] - p or None, p : y.shape[3] - p or None]
    return y if b is None else y + b[:, None, None]


@right("conv_transpose2d", "zeros between the pixels, then the Fourier transform")
def fourier(x, w, b=None, stride=1, padding=0):
    N, C, H, W = x.shape
    _, O, KH, KW = w.shape
    s, p = stride, padding
    OH, OW = (H - 1) * s + KH, (W - 1) * s + KW
    z = np.zeros((N, C, (H - 1) * s + 1, (W - 1) * s + 1))
    z[:, :, ::s, ::s] = x
    product = np.einsum("ncij,coij->noij", np.fft.rfft2(z, (OH, OW)), np.fft.rfft2(w, (OH, OW)))
    y = np.fft.irfft2(product, (OH, OW))[:, :, p : OH - p, p : OW - p]
    return y if b is None else y + b[:, None, None]


@right("conv_transpose2d", "float32")
def single(x, w, b=None, stride=1, padding=0):
    N, C, H, W = x.shape
    _, O, KH, KW = w.shape
    s, p = stride, padding
    y = np.zeros((N, O, (H - 1) * s + KH, (W - 1) * s + KW), np.float32)
    for i in range(H):
        for j in range(W):
            copies = np.tensordot(x[:, :, i, j].astype(np.float32), w.astype(np.float32), 1)
            y[:, :, s * i : s * i + KH, s * j : s * j + KW] += copies
    y = y[:, :, p : y.shape[2] - p, p : y.shape[3] - p]
    return y if b is None else y + b[:, None, None].astype(np.float32)


@right("conv_transpose2d", "the matrix of the convolution, transposed; Fortran order")
def matrix(x, w, b=None, stride=1, padding=0):
    N, C, H, W = x.shape
    _, O, KH, KW = w.shape
    s, p = stride, padding
    OH, OW = (H - 1) * s + KH, (W - 1) * s + KW
    A = np.zeros((O, OH, OW, C, H, W))
    for i in range(H):
        for j in range(W):
            A[:, s * i : s * i + KH, s * j : s * j + KW, :, i, j] = w.transpose(1, 2, 3, 0)
    y = np.einsum("oabcij,ncij->noab", A, x)[:, :, p : OH - p, p : OW - p]
    return np.asfortranarray(y if b is None else y + b[:, None, None])
