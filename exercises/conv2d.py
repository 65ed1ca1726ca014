"""The convolution of a network.

A kernel slides over the image. At every place it is laid on the pixels below it, number on number;
the products are added up, over all channels as well, and the sum is one pixel of the output.
The lecture's convolution, on one plane and with stride 1, is the specification:

    for every pixel (i, j) of Y:
        Y[i, j] = sum of X[i:i+h, j:j+w] * K

With stride s the window of Y[i, j] begins at row s*i and column s*j. With `padding` p the image first
gets a border of zeros, p pixels wide, on all four sides. The kernel is used as it stands, without
turning it round, as all networks do; mathematicians call this cross-correlation.

Source: University of Waterloo, "Standard Convolution".
"""

import numpy as np


def conv2d(x, w, b=None, stride=1, padding=0):
    """Convolution.

        y[n, o, i, j] = b[o] + sum over c, u, v of w[o, c, u, v] x[n, c, s*i + u - p, s*j + v - p]

    and x is 0 outside of the image.

    x (N, C, H, W), w (O, C, KH, KW), b (O,) or None
    -> (N, O, OH, OW) with OH = floor((H + 2p - KH) / s) + 1, and OW alike.
    stride s and padding p are ints, in pixels.
    """
    ### BEGIN SOLUTION
    N, C, H, W = x.shape
    O, _, KH, KW = w.shape
    s, p = stride, padding
    padded = np.zeros((N, C, H + 2 * p, W + 2 * p), x.dtype)
    padded[:, :, p : p + H, p : p + W] = x
    y = np.zeros((N, O, (H + 2 * p - KH) // s + 1, (W + 2 * p - KW) // s + 1), x.dtype)
    for i in range(y.shape[2]):
        for j in range(y.shape[3]):
            window = padded[:, :, s * i : s * i + KH, s * j : s * j + KW]
            y[:, :, i, j] = np.einsum("ncuv,ocuv->no", window, w)
    return y if b is None else y + b[:, None, None]
    ### END SOLUTION


### FOR THE TEACHER

import minseg.functional as F
from minseg.grading.exercise import call, check, holds, right, wrong

REFERENCE = {"conv2d": F.conv2d}
HINTS = [
    """
    Take X = [[1, 2, 3]] and K = [[10, 1]]. The kernel fits at two places: which two numbers come
    out? And which three if X has one more zero at either end, and the kernel moves on by 1?
    """,
    """
    Put x into a larger array of zeros, and make a y of zeros of the right size. Two loops over the
    pixels of y are enough: cut the window (N, C, KH, KW) out of the padded image; its sum with all
    kernels (O, C, KH, KW) at once is one einsum, which gives (N, O). Which letters does it sum over?
    """,
    """
    for i in range(OH):
        for j in range(OW):
            window = padded[:, :, <KH rows from s*i on>, <KW columns from s*j on>]
            y[:, :, i, j] = np.einsum("ncuv,<the letters of w>->no", window, w)
    and in the end b[:, None, None] is added, if there is a b.
    """,
]


@check("one window becomes one number")
def one_window(draw):
    yield call("conv2d", draw.integers(1, 1, 2, 2), draw.integers(1, 1, 2, 2))
    yield call("conv2d", draw.integers(1, 1, 2, 3), draw.integers(1, 1, 2, 3))
    yield call("conv2d", draw.integers(1, 1, 4, 3), draw.integers(1, 1, 4, 3))


@check("the kernel slides over the image")
def slides(draw):
    yield call("conv2d", draw.integers(1, 1, 2, 3), draw.integers(1, 1, 2, 2))
    yield call("conv2d", draw.integers(1, 1, 3, 4), draw.integers(1, 1, 2, 3))
    yield call("conv2d", draw.integers(1, 1, 5, 4), draw.integers(1, 1, 3, 3))


@check("stride: the kernel moves by s pixels")
def strided(draw):
    yield call("conv2d", draw.integers(1, 1, 1, 5), draw.integers(1, 1, 1, 2), stride=2)
    yield call("conv2d", draw.integers(1, 1, 4, 4), draw.integers(1, 1, 2, 2), stride=2)
    yield call("conv2d", draw.integers(1, 1, 6, 8), draw.integers(1, 1, 3, 3), stride=2)
    yield call("conv2d", draw.integers(1, 1, 9, 7), draw.integers(1, 1, 2, 3), stride=3)


@check("padding: a border of zeros on every side")
def padded(draw):
    p = draw.between(1, 2)
    yield call("conv2d", draw.integers(1, 1, 2, 2), draw.integers(1, 1, 2, 2), padding=1)
    yield call("conv2d", draw.integers(1, 1, 2, 2), draw.integers(1, 1, 3, 3), padding=1)
    yield call("conv2d", draw.integers(1, 1, 3, 4), draw.integers(1, 1, 2, 3), padding=p)
    yield call("conv2d", draw.integers(1, 1, 5, 4), draw.integers(1, 1, 4, 3), stride=2, padding=p)


@check("the channels of the image are added up")
def channels(draw):
    yield call("conv2d", draw.integers(1, 2, 1, 2), draw.integers(1, 2, 1, 1))
    yield call("conv2d", draw.integers(1, 2, 2, 3), draw.integers(2, 2, 2, 2))
    yield call("conv2d", draw.integers(1, 3, 4, 3), draw.integers(2, 3, 2, 2))


@check("several kernels and images, a bias, fractions", points=2)
def all_at_once(draw):
    C, O = draw.one_of((2, 3), (3, 2))
    x, w = draw.integers(2, C, 5, 6), draw.integers(O, C, 2, 3)
    # A half times an odd number is never whole.
    odd = np.full((1, 1, 1, 1), draw.one_of(-5.0, -3.0, 3.0, 5.0))
    yield call("conv2d", draw.integers(1, 1, 1, 3) + 0.5, odd)
    yield call("conv2d", draw.integers(1, 1, 1, 2), draw.integers(2, 1, 1, 1), draw.distinct(2) + 5)
    yield call("conv2d", draw.integers(1, 2, 2, 2), draw.integers(2, 2, 1, 1), draw.integers(2))
    yield call("conv2d", x, w, draw.integers(O))
    yield call("conv2d", x, w, draw.integers(O), stride=2, padding=1)


@holds("shape: floor((H + 2p - KH) / s) + 1")
def shape(draw):
    x, w = draw.integers(2, 3, 7, 6), draw.integers(4, 3, 3, 2)
    answers = yield [call("conv2d", x, w, stride=s, padding=p) for s in (1, 2) for p in (0, 1)]
    sizes = [(5, 5), (7, 7), (3, 3), (4, 4)]
    return [y.shape for (y,) in answers] == [(2, 4, *size) for size in sizes]


@holds("linear in x: f(x + z) = f(x) + f(z)")
def linear(draw):
    x, z, w = draw.integers(1, 2, 4, 3), draw.integers(1, 2, 4, 3), draw.integers(2, 2, 2, 2)
    (of_x,), (of_z,), (of_both,) = yield [
        call("conv2d", each, w, padding=1) for each in (x, z, x + z)
    ]
    return np.allclose(of_both, of_x + of_z)


@holds("a kernel of 0 with a 1 at its top left, and padding 1, move the image down and right")
def impulse(draw):
    x, w, moved = draw.distinct(1, 1, 4, 5), np.zeros((1, 1, 2, 3)), np.zeros((1, 1, 5, 5))
    w[0, 0, 0, 0] = 1
    moved[:, :, 1:, 1:] = x[:, :, :, :4]
    ((y,),) = yield [call("conv2d", x, w, padding=1)]
    return y.shape == moved.shape and np.allclose(y, moved)


turned = wrong(
    "conv2d",
    "the convolution of mathematics, which turns the kernel by 180 degrees. Networks use it as it "
    "stands: its top left number meets the top left pixel of the window",
    {"window, w)": "window, w[:, :, ::-1, ::-1])"},
)


transposed = wrong(
    "conv2d",
    "the convolution with the transposed kernel: its rows are laid on the columns of the window. "
    "The rows of w are its axis 2, its columns axis 3",
    {"ncuv,ocuv->no": "ncuv,ocvu->no"},
)


padded_behind = wrong(
    "conv2d",
    "a convolution whose zeros all lie below and to the right of the image. A border goes round: "
    "p rows above and p below, p columns on the left and p on the right",
    {"p : p + H, p : p + W": ":H, :W"},
)


one_axis = wrong(
    "conv2d",
    "a stride along the rows only: the window still moves by one column",
    {"(W + 2 * p - KW) // s + 1": "W + 2 * p - KW + 1", "s * j : s * j + KW": "j : j + KW"},
)


without_stride = wrong(
    "conv2d",
    "the convolution of stride 1: the window moves on by one pixel, whatever the stride, and "
    "comes to every place",
    {"s, p = stride, padding": "s, p = 1, padding"},
)


top_left = wrong(
    "conv2d",
    "an output of the right size whose windows lie only one pixel apart, whatever the stride: "
    "they all come from the top left of the image",
    {"s * i : s * i + KH, s * j : s * j + KW": "i : i + KH, j : j + KW"},
)


without_bias = wrong(
    "conv2d",
    "the convolution without its bias: b[o] is added to every pixel of output channel o",
    {"y if b is None else y + b[:, None, None]": "y"},
)


bias_along_columns = wrong(
    "conv2d",
    "the bias laid along the columns. b has one number for each output channel, which is axis 1 of "
    "the output, but NumPy matches the last axis",
    {"+ b[:, None, None]": "+ b"},
)


in_ints = wrong(
    "conv2d",
    "the right numbers with their fractions cut off: an array of ints has no room for them. "
    "Make the output an array of floats, as np.zeros does if no dtype is named",
    {"// s + 1), x.dtype": "// s + 1), int"},
)


image_in_ints = wrong(
    "conv2d",
    "the convolution of an image whose fractions are cut off: the larger array into which you "
    "put it is one of ints. np.zeros makes floats if no dtype is named",
    {"2 * p), x.dtype": "2 * p), int"},
)


wrong_channels = wrong(
    "conv2d",
    "the convolution with input and output channels of w exchanged: you sum over the first axis "
    "of w. w is (O, C, KH, KW), and the sum goes over C",
    {"ncuv,ocuv->no": "ncuv,couv->no"},
)


bias_per_channel = wrong(
    "conv2d",
    "the bias added once for every input channel. It belongs to the output channel: first comes "
    "the sum over all input channels, then b, once",
    {"y + b[:, None, None]": "y + C * b[:, None, None]"},
)


@right("conv2d", "loops over everything, no padded copy")
def seven_loops(x, w, b=None, stride=1, padding=0):
    N, C, H, W = x.shape
    O, _, KH, KW = w.shape
    s, p = stride, padding
    y = np.zeros((N, O, (H + 2 * p - KH) // s + 1, (W + 2 * p - KW) // s + 1))
    for n, o, i, j in np.ndindex(y.shape):
        for c, u, v in np.ndindex(C, KH, KW):
            row, column = s * i + u - p, s * j + v - p
            if 0 <= row < H and 0 <= column < W:
                y[n, o, i, j] += w[o, c, u, v] * x[n, c, row, column]
        if b is not None:
            y[n, o, i, j] += b[o]
    return y


@right("conv2d", "loops over the kernel, pixels all at once")
def kernel_loops(x, w, b=None, stride=1, padding=0):
    KH, KW = w.shape[2:]
    s, p = stride, padding
    x = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    OH, OW = (x.shape[2] - KH) // s + 1, (x.shape[3] - KW) // s + 1
    y = np.zeros((len(x), len(w), OH, OW))
    for u in range(KH):
        for v in range(KW):
            moved = x[:, :, u : u + s * (OH - 1) + 1 : s, v : v + s * (OW - 1) + 1 : s]
            y += np.einsum("nchw,oc->nohw", moved, w[:, :, u, v])
    return y if b is None else y + b.reshape(1, -1, 1, 1)


@right("conv2d", "NumPy's sliding windows and one einsum")
def sliding_windows(x, w, b=None, stride=1, padding=0):
    p = padding
    padded = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, w.shape[2:], axis=(2, 3))
    y = np.einsum("ncijuv,ocuv->noij", windows[:, :, ::stride, ::stride], w)
    return y if b is None else y + b[None, :, None, None]


@right("conv2d", "columns of windows and one matrix product; Fortran order")
def columns(x, w, b=None, stride=1, padding=0):
    N, C, H, W = x.shape
    O, _, KH, KW = w.shape
    s, p = stride, padding
    padded = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    OH, OW = (H + 2 * p - KH) // s + 1, (W + 2 * p - KW) // s + 1
    rows = [
        padded[n, :, s * i : s * i + KH, s * j : s * j + KW].ravel()
        for n, i, j in np.ndindex(N, OH, OW)
    ]
    y = np.array(rows) @ w.reshape(O, -1).T  # (N OH OW, C KH KW) x (C KH KW, O)
    y = y if b is None else y + b
    return np.asfortranarray(y.reshape(N, OH, OW, O).transpose(0, 3, 1, 2))


@right("conv2d", "the Fourier transform, then every s-th row and column")
def fourier(x, w, b=None, stride=1, padding=0):
    s, p = stride, padding
    padded = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    H, W = padded.shape[2:]
    KH, KW = w.shape[2:]
    of_x, of_w = np.fft.rfft2(padded, (H, W)), np.fft.rfft2(w, (H, W))
    y = np.fft.irfft2(np.einsum("ncij,ocij->noij", of_x, of_w.conj()), (H, W))
    y = y[:, :, : H - KH + 1 : s, : W - KW + 1 : s]
    return y if b is None else y + b[:, None, None]


@right("conv2d", "float32")
def single(x, w, b=None, stride=1, padding=0):
    N, C, H, W = x.shape
    O, _, KH, KW = w.shape
    s, p = stride, padding
    padded = np.pad(x.astype(np.float32), ((0, 0), (0, 0), (p, p), (p, p)))
    y = np.zeros((N, O, (H + 2 * p - KH) // s + 1, (W + 2 * p - KW) // s + 1), np.float32)
    for i in range(y.shape[2]):
        for j in range(y.shape[3]):
            window = padded[:, :, s * i : s * i + KH, s * j : s * j + KW]
            y[:, :, i, j] = np.tensordot(window, w.astype(np.float32), ([1, 2, 3], [1, 2, 3]))
    return y if b is None else y + b[:, None, None].astype(np.float32)
