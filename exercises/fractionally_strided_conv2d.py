"""Upsampling with zeros and a convolution, and the flip.

A second way to make an image larger with a kernel: pull the pixels apart, s - 1 zeros between
neighbours, and slide the kernel over that, one cell at a time. A step of one cell is a step of 1/s
pixel, hence "fractionally strided".

    Z[s*i, s*j] = X[i, j], zeros elsewhere          (H - 1) s + 1 rows
    a border of zeros around Z, wide enough that the kernel can touch the first pixel with its last
    cell: KH - 1 rows above and below, KW - 1 columns left and right; `padding` p leaves p of them out
    Y = convolution of that with K, stride 1, K as it is

The slides say that this is the transposed convolution under another name. It is, but not with the
same kernel: `kernel_for` gives the one to use. Before you trust yours, try it with `minseg prove`:
write the two sides of what you claim into a file, as `left` and `right`, and it proves or refutes it.
The conv2d that you wrote for notebook 01 may be copied into this file.

Source: University of Waterloo, "Fractionally-strided Convolution", "Transposed vs
Fractionally-strided Convolution".
"""

import numpy as np


def fractionally_strided_conv2d(x, w, b=None, stride=1, padding=0):
    """Fractionally strided convolution, the kernel used as given.

        y[n, o, i, j] = b[o] + sum over c, u, v of w[o, c, u, v] z[n, c, i + u, j + v]

    where z is x with s - 1 zeros between its pixels, and a border of KH - 1 - p rows and
    KW - 1 - p columns of zeros on every side.

    x (N, C, H, W), w (O, C, KH, KW), b (O,) or None
    -> (N, O, OH, OW) with OH = (H - 1) s - 2p + KH, and OW alike: the sizes of the transposed
    convolution of the same stride and padding.
    stride s and padding p are ints, in pixels; p is at most KH - 1 and at most KW - 1.
    """
    ### BEGIN SOLUTION
    N, C, H, W = x.shape
    O, _, KH, KW = w.shape
    s, above, left = stride, KH - 1 - padding, KW - 1 - padding
    z = np.zeros((N, C, (H - 1) * s + 1, (W - 1) * s + 1), x.dtype)
    z[:, :, ::s, ::s] = x
    z = np.pad(z, ((0, 0), (0, 0), (above, above), (left, left)))
    y = np.zeros((N, O, z.shape[2] - KH + 1, z.shape[3] - KW + 1), x.dtype)
    for i in range(y.shape[2]):
        for j in range(y.shape[3]):
            window = z[:, :, i : i + KH, j : j + KW]
            y[:, :, i, j] = np.einsum("ncuv,ocuv->no", window, w)
    return y if b is None else y + b[:, None, None]
    ### END SOLUTION


def kernel_for(w):
    """The kernel with which the function above computes the transposed convolution.

        fractionally_strided_conv2d(x, kernel_for(w), b, s, p) = conv_transpose2d(x, w, b, s, p)

    for every x, b, s and p. conv_transpose2d keeps its kernel as w (C, O, KH, KW), with C channels
    of x and O of the output -> (O, C, KH, KW).
    """
    ### BEGIN SOLUTION
    return w[:, :, ::-1, ::-1].swapaxes(0, 1)
    ### END SOLUTION


### FOR THE TEACHER

import minseg.functional as F
from minseg.grading.exercise import call, check, holds, right, wrong


def turned(w):
    """The kernel of the many-channels claim."""
    return F.rot180(w).swapaxes(0, 1)


def numbered(draw, *shape):
    """The numbers from 1 on, in random order."""
    w = draw.distinct(*shape)
    return w - w.min() + 1


REFERENCE = {
    "fractionally_strided_conv2d": F.fractionally_strided_conv2d,
    "kernel_for": turned,
}
HINTS = [
    """
    One dimension, X = [2, 3] and K = [1, 10, 100], stride 2. Add up the copies 2 * K and 3 * K as a
    transposed convolution does, five cells. Then slide K over 0 0 2 0 3 0 0. In which order must K's
    numbers stand so that the second gives the same five cells as the first?
    """,
    """
    z is an array of zeros into which x goes with a slice that has a step; then np.pad, rows and
    columns by their own widths; then the loops of conv2d with stride 1. For kernel_for ask two
    things apart: where does the entry w[c, o, u, v] go in its plane, and which axis is O's?
    """,
    """
    z = np.zeros((N, C, <rows>, <columns>))
    z[:, :, <every s-th row>, <every s-th column>] = x
    z = np.pad(z, ((0, 0), (0, 0), (<rows>, <rows>), (<columns>, <columns>)))
    for i, j over y:  y[:, :, i, j] = <the sum over the window of z that begins at i, j>
    kernel_for: both of the last two axes <...>, the first two <...>
    """,
]


@check("zeros between the pixels")
def zeros_between(draw):
    one = "fractionally_strided_conv2d"
    yield call(one, draw.integers(1, 1, 1, 2), draw.integers(1, 1, 1, 1), stride=2)
    yield call(one, draw.integers(1, 1, 2, 3), draw.integers(1, 1, 1, 1), stride=3)


@check("a border as wide as the kernel reaches, and the kernel as given")
def border(draw):
    one = "fractionally_strided_conv2d"
    yield call(one, draw.integers(1, 1, 1, 1), numbered(draw, 1, 1, 1, 3))
    yield call(one, draw.integers(1, 1, 1, 2), numbered(draw, 1, 1, 2, 2), stride=2)
    yield call(one, draw.integers(1, 1, 3, 2), draw.integers(1, 1, 4, 3), stride=3)


@check("padding leaves rows and columns of the border out")
def padded(draw):
    one = "fractionally_strided_conv2d"
    yield call(one, draw.integers(1, 1, 2, 2), numbered(draw, 1, 1, 2, 2), stride=2, padding=1)
    yield call(one, draw.integers(1, 1, 3, 4), draw.integers(1, 1, 4, 5), stride=2,
               padding=draw.between(1, 2))  # fmt: skip


@check("several channels and images, a bias, fractions", points=2)
def channels(draw):
    one = "fractionally_strided_conv2d"
    C, O = draw.one_of((2, 3), (3, 2))
    x, w = draw.integers(2, C, 3, 2), draw.integers(O, C, 2, 3)
    pixels = draw.integers(1, 1, 1, 2)
    yield call(one, pixels, draw.integers(2, 1, 1, 1), draw.distinct(2) + 5)
    # A half times an odd number is never whole.
    odd = np.full((1, 1, 1, 1), draw.one_of(-5.0, -3.0, 3.0, 5.0))
    yield call(one, pixels + 0.5, odd, stride=2)
    yield call(one, draw.integers(1, 2, 1, 1), draw.integers(1, 2, 1, 2))
    yield call(one, x, w, draw.integers(O))
    yield call(one, x, w, draw.integers(O), stride=3, padding=1)


@check("the kernel to use, one plane")
def one_plane(draw):
    yield call("kernel_for", numbered(draw, 1, 1, 2, 2))
    yield call("kernel_for", numbered(draw, 1, 1, 3, 3))
    yield call("kernel_for", numbered(draw, 1, 1, 2, 4))


@check("the kernel to use, many channels", points=2)
def many_planes(draw):
    C, O = draw.one_of((2, 3), (3, 2))
    yield call("kernel_for", numbered(draw, 2, 1, 1, 2))
    yield call("kernel_for", numbered(draw, 2, 2, 2, 2) + 0.5)
    yield call("kernel_for", numbered(draw, C, O, 3, 4))


@holds("shape: (H - 1) s - 2p + KH")
def shape(draw):
    x, w = draw.integers(1, 2, 3, 2), draw.integers(3, 2, 3, 4)
    answers = yield [
        call("fractionally_strided_conv2d", x, w, stride=s, padding=p)
        for s in (1, 2)
        for p in (0, 1)
    ]
    sizes = [(5, 5), (3, 3), (7, 6), (5, 4)]
    return [y.shape for (y,) in answers] == [(1, 3, *size) for size in sizes]


@holds("a kernel that is symmetric about its centre: equal to the transposed convolution")
def symmetric(draw):
    x, k = draw.integers(1, 1, 3, 3), draw.integers(1, 1, 3, 3)
    k = k + k[:, :, ::-1, ::-1]
    ((y,),) = yield [call("fractionally_strided_conv2d", x, k, stride=2)]
    return (y == F.conv_transpose2d(x, k, stride=2)).all()


@holds("your kernel in the library's fractionally_strided_conv2d: the transposed convolution")
def flip_claim(draw):
    x, w = draw.integers(1, 2, 3, 3), numbered(draw, 2, 3, 3, 2)
    ((mine,),) = yield [call("kernel_for", w)]
    if mine.shape != (3, 2, 3, 2):
        return False
    y = F.fractionally_strided_conv2d(x, mine.astype(np.float64), stride=2)
    return (y == F.conv_transpose2d(x, w, stride=2)).all()


turns_inside = wrong(
    "fractionally_strided_conv2d",
    "the result with the kernel turned inside. Here the kernel is used as given: kernel_for turns "
    "it, and turning twice is not turning at all",
    {"window, w)": "window, w[:, :, ::-1, ::-1])"},
)


s_zeros = wrong(
    "fractionally_strided_conv2d",
    "the result with s zeros between neighbours, one too many. For stride 1 the image must stay "
    "as it is: s - 1 zeros",
    {"s, above, left = stride": "s, above, left = stride + 1"},
)


border_of_k = wrong(
    "fractionally_strided_conv2d",
    "the result with a border of KH and KW instead of KH - 1 and KW - 1: on its outermost places "
    "the kernel touches no pixel at all",
    {"KH - 1 - padding, KW - 1 - padding": "KH - padding, KW - padding"},
)


border_of_p = wrong(
    "fractionally_strided_conv2d",
    "the result with a border of p. The padding given is that of the transposed convolution, and "
    "crops: the more of it, the narrower the border here",
    {"KH - 1 - padding, KW - 1 - padding": "padding, padding"},
)


without_stride = wrong(
    "fractionally_strided_conv2d",
    "the result without zeros between the pixels, that of stride 1: it "
    "is with s - 1 zeros between them that a step of the kernel is a step of 1/s pixel",
    {"s, above, left = stride": "s, above, left = 1"},
)


without_bias = wrong(
    "fractionally_strided_conv2d",
    "the result without its bias: b[o] is added to every pixel of output channel o",
    {"y if b is None else y + b[:, None, None]": "y"},
)


bias_along_columns = wrong(
    "fractionally_strided_conv2d",
    "the bias laid along the columns. b has one number for each output channel, which is axis 1 of "
    "the output, but NumPy matches the last axis",
    {"+ b[:, None, None]": "+ b"},
)


in_ints = wrong(
    "fractionally_strided_conv2d",
    "the right numbers with their fractions cut off: an array of ints "
    "has no room for them. Make it of floats, as np.zeros does if no dtype is named",
    {"- KW + 1), x.dtype": "- KW + 1), int"},
)


image_in_ints = wrong(
    "fractionally_strided_conv2d",
    "the result for an image whose fractions are cut off: the array with "
    "zeros between its pixels is one of ints. np.zeros makes floats if no dtype is named",
    {"* s + 1), x.dtype": "* s + 1), int"},
)


@wrong("kernel_for", "the kernel that was given, unchanged. Two things have to happen to it: one to "
       "every plane, one to the order of the channels")  # fmt: skip
def as_given(w):
    return w


@wrong("kernel_for", "the kernel unturned, only its channels swapped. That gives the transposed "
       "convolution for kernels symmetric about their centre alone: try 1, 2, ..., 9")  # fmt: skip
def unturned(w):
    return w.transpose(1, 0, 2, 3)


@wrong("kernel_for", "the kernel with its rows in reverse order and its columns as they were: an "
       "upside-down mirror image. The turn reverses both axes")  # fmt: skip
def rows_only(w):
    return w[:, :, ::-1].transpose(1, 0, 2, 3)


@wrong("kernel_for", "the kernel with its columns in reverse order and its rows as they were: a mirror "
       "image. The turn reverses both axes")  # fmt: skip
def columns_only(w):
    return w[:, :, :, ::-1].transpose(1, 0, 2, 3)


@wrong("kernel_for", "the matrix transpose of every plane. The name misleads: a transpose mirrors in "
       "the diagonal, and what is needed takes the first entry of the kernel to its last")  # fmt: skip
def transposed(w):
    return w.transpose(1, 0, 3, 2)


@wrong("kernel_for", "the kernel turned, its channel axes as they were. conv_transpose2d keeps "
       "(C, O, KH, KW), a convolution wants (O, C, KH, KW): with C = O no shape tells you")  # fmt: skip
def channels_unswapped(w):
    return w[:, :, ::-1, ::-1]


@wrong("kernel_for", "the kernel with all four axes reversed: the last channel comes first. Only the "
       "two axes of the plane turn")  # fmt: skip
def all_axes(w):
    return np.flip(w).transpose(1, 0, 2, 3)


@right("fractionally_strided_conv2d", "loops over everything")
def loops_over_everything(x, w, b=None, stride=1, padding=0):
    N, C, H, W = x.shape
    O, _, KH, KW = w.shape
    s, p, q = stride, KH - 1 - padding, KW - 1 - padding
    z = np.zeros((N, C, (H - 1) * s + 1 + 2 * p, (W - 1) * s + 1 + 2 * q))
    for i, j in np.ndindex(H, W):
        z[:, :, p + s * i, q + s * j] = x[:, :, i, j]
    y = np.zeros((N, O, z.shape[2] - KH + 1, z.shape[3] - KW + 1))
    for n, o, i, j in np.ndindex(y.shape):
        for c, u, v in np.ndindex(C, KH, KW):
            y[n, o, i, j] += w[o, c, u, v] * z[n, c, i + u, j + v]
        y[n, o, i, j] += 0 if b is None else b[o]
    return y


@right("fractionally_strided_conv2d", "sliding windows and one einsum; Fortran order")
def sliding(x, w, b=None, stride=1, padding=0):
    N, C, H, W = x.shape
    O, _, KH, KW = w.shape
    z = np.kron(x, np.eye(1, stride * stride).reshape(stride, stride))  # zeros below and right, too
    z = z[:, :, : (H - 1) * stride + 1, : (W - 1) * stride + 1]
    p, q = KH - 1 - padding, KW - 1 - padding
    z = np.pad(z, ((0, 0), (0, 0), (p, p), (q, q)))
    windows = np.lib.stride_tricks.sliding_window_view(z, (KH, KW), axis=(2, 3))
    y = np.einsum("ncijuv,ocuv->noij", windows, w)
    return np.asfortranarray(y if b is None else y + b.reshape(1, O, 1, 1))


@right("fractionally_strided_conv2d", "scattering the turned kernel: a transposed convolution")
def scattered(x, w, b=None, stride=1, padding=0):
    N, C, H, W = x.shape
    O, _, KH, KW = w.shape
    s, p = stride, padding
    canvas = np.zeros((N, O, (H - 1) * s + KH, (W - 1) * s + KW))
    for i, j in np.ndindex(H, W):
        copies = np.einsum("nc,ocuv->nouv", x[:, :, i, j], w[:, :, ::-1, ::-1])
        canvas[:, :, s * i : s * i + KH, s * j : s * j + KW] += copies
    y = canvas[:, :, p : canvas.shape[2] - p, p : canvas.shape[3] - p]
    return y if b is None else y + b[:, None, None]


@right("fractionally_strided_conv2d", "the Fourier transform")
def fourier(x, w, b=None, stride=1, padding=0):
    N, C, H, W = x.shape
    O, _, KH, KW = w.shape
    s, p = stride, padding
    OH, OW = (H - 1) * s + KH, (W - 1) * s + KW
    z = np.zeros((N, C, (H - 1) * s + 1, (W - 1) * s + 1))
    z[:, :, ::s, ::s] = x
    kernel = np.fft.rfft2(w[:, :, ::-1, ::-1], (OH, OW))
    product = np.einsum("ncij,ocij->noij", np.fft.rfft2(z, (OH, OW)), kernel)
    y = np.fft.irfft2(product, (OH, OW))[:, :, p : OH - p, p : OW - p]
    return y if b is None else y + b[:, None, None]


@right("fractionally_strided_conv2d", "the taps of the kernel one after the other; float32")
def taps(x, w, b=None, stride=1, padding=0):
    N, C, H, W = x.shape
    O, _, KH, KW = w.shape
    s, p, q = stride, KH - 1 - padding, KW - 1 - padding
    z = np.zeros((N, C, (H - 1) * s + 1 + 2 * p, (W - 1) * s + 1 + 2 * q), np.float32)
    z[:, :, p : p + (H - 1) * s + 1 : s, q : q + (W - 1) * s + 1 : s] = x
    OH, OW = z.shape[2] - KH + 1, z.shape[3] - KW + 1
    y = np.zeros((O, N, OH, OW), np.float32)
    for u, v in np.ndindex(KH, KW):
        seen = z[:, :, u : u + OH, v : v + OW]
        y += np.tensordot(w[:, :, u, v].astype(np.float32), seen, (1, 1))
    y = y.swapaxes(0, 1)
    return y if b is None else y + b[:, None, None].astype(np.float32)


@right("kernel_for", "entry by entry")
def entry_by_entry(w):
    C, O, KH, KW = w.shape
    k = np.zeros((O, C, KH, KW))
    for c, o, u, v in np.ndindex(C, O, KH, KW):
        k[o, c, KH - 1 - u, KW - 1 - v] = w[c, o, u, v]
    return k


@right("kernel_for", "a quarter turn, twice; float32, Fortran order")
def quarter_turns(w):
    turned = np.rot90(w, 2, axes=(2, 3)).transpose(1, 0, 2, 3)
    return np.asfortranarray(turned.astype(np.float32))


@right("kernel_for", "the numbers of each plane in reverse order")
def reversed_numbers(w):
    C, O, KH, KW = w.shape
    return np.einsum("cok->ock", w.reshape(C, O, KH * KW)[:, :, ::-1]).reshape(O, C, KH, KW)
