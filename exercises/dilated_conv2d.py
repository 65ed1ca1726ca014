"""The dilated convolution: a kernel with holes.

The taps of the kernel lie d pixels apart, and what lies between them is neither read nor multiplied. So
the kernel has as many numbers as before and reaches further: k taps with dilation d cover
k + (k - 1)(d - 1) = d(k - 1) + 1 pixels. With d = 1 there are no holes. The lecture's formula, on one
plane, is the specification:

    for every pixel (i, j) of Y and every tap (u, v) of K:
        Y[i, j] += K[u, v] * X[i + d*u, j + d*v]

The kernel still moves by one pixel, so the pixels of Y lie as close as those of X. `padding` p first
gives the image a border of zeros, p pixels wide, on all four sides.

Source: University of Waterloo, "DeepLab".
"""

import numpy as np


def dilated_conv2d(x, w, dilation=1, padding=0):
    """Convolution with a dilated kernel, stride 1.

        y[n, o, i, j] = sum over c, u, v of w[o, c, u, v] x[n, c, i + d*u - p, j + d*v - p]

    and x is 0 outside of the image.

    x (N, C, H, W), w (O, C, KH, KW)
    -> (N, O, OH, OW) with OH = H + 2p - d(KH - 1), and OW alike.
    dilation d >= 1 and padding p are ints, in pixels.
    """
    ### BEGIN SOLUTION
    N, C, H, W = x.shape
    O, _, KH, KW = w.shape
    d, p = dilation, padding
    padded = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    OH, OW = H + 2 * p - d * (KH - 1), W + 2 * p - d * (KW - 1)
    y = np.zeros((N, O, OH, OW), x.dtype)
    for u in range(KH):
        for v in range(KW):
            moved = padded[:, :, d * u : d * u + OH, d * v : d * v + OW]
            y += np.einsum("nchw,oc->nohw", moved, w[:, :, u, v])
    return y
    ### END SOLUTION


### FOR THE TEACHER

import minseg.functional as F
from minseg.grading.exercise import call, check, holds, right, wrong


def reference(x, w, dilation=1, padding=0):
    return F.conv2d(x, w, padding=padding, dilation=dilation)


REFERENCE = {"dilated_conv2d": reference}
HINTS = [
    """
    Take X = [[1, 2, 3, 4, 5, 6]] and K = [[100, 10, 1]] with d = 2. Which three pixels does the first
    output read? How many outputs are there, and which pixels does the last one read?
    """,
    """
    Two ways lead there. By pixel: as in conv2d, but the window of an output is cut with a step, and
    is d(k - 1) + 1 wide before the step thins it out. By tap: each tap (u, v) contributes to all
    outputs at once, the whole padded image, moved by (d*u, d*v), cut to the size of the output,
    times w[:, :, u, v], which is (O, C). The loop then has KH KW turns, however large d is.
    """,
    """
    for u in range(KH):
        for v in range(KW):
            moved = padded[:, :, <OH rows from d*u on>, <OW columns from d*v on>]
            y += <the sum over c of moved (N, C, OH, OW) times w[:, :, u, v] (O, C)>
    """,
]


@check("dilation 1 is the convolution without holes")
def without_holes(draw):
    yield call("dilated_conv2d", draw.integers(1, 1, 2, 3), draw.integers(1, 1, 2, 2))
    yield call("dilated_conv2d", draw.integers(1, 1, 4, 5), draw.integers(1, 1, 3, 2), dilation=1)


@check("one window: the taps lie d pixels apart")
def one_window(draw):
    yield call("dilated_conv2d", draw.integers(1, 1, 1, 3), draw.integers(1, 1, 1, 2), dilation=2)
    yield call("dilated_conv2d", draw.integers(1, 1, 3, 5), draw.integers(1, 1, 2, 3), dilation=2)
    yield call("dilated_conv2d", draw.integers(1, 1, 7, 4), draw.integers(1, 1, 3, 2), dilation=3)


@check("the kernel with holes slides, pixel by pixel")
def slides(draw):
    yield call("dilated_conv2d", draw.integers(1, 1, 1, 4), draw.integers(1, 1, 1, 2), dilation=2)
    yield call("dilated_conv2d", draw.integers(1, 1, 5, 6), draw.integers(1, 1, 2, 2), dilation=2)
    yield call("dilated_conv2d", draw.integers(1, 1, 7, 9), draw.integers(1, 1, 3, 2), dilation=3)


@check("padding: with p = d(k - 1) / 2 the size is kept")
def padded(draw):
    d = draw.between(2, 4)
    yield call("dilated_conv2d", draw.integers(1, 1, 2, 3), draw.integers(1, 1, 3, 3), 2, padding=2)
    yield call("dilated_conv2d", draw.integers(1, 1, 4, 5), draw.integers(1, 1, 3, 3), d, padding=d)
    yield call("dilated_conv2d", draw.integers(1, 1, 5, 6), draw.integers(1, 1, 2, 3), d, padding=2)


@check("several channels, kernels and images, fractions", points=2)
def channels(draw):
    C, O = draw.one_of((2, 3), (3, 2))
    x, w = draw.integers(2, C, 6, 7), draw.integers(O, C, 2, 3)
    yield call("dilated_conv2d", draw.integers(1, 2, 1, 4), draw.integers(1, 2, 1, 2), dilation=2)
    yield call("dilated_conv2d", draw.integers(1, 1, 1, 4) + 0.5, draw.integers(1, 1, 1, 1) + 0.5)
    yield call("dilated_conv2d", x, w, dilation=2)
    yield call("dilated_conv2d", x, w, dilation=3, padding=2)


@holds("shape: H + 2p - d(KH - 1)")
def shape(draw):
    x, w = draw.integers(2, 2, 8, 9), draw.integers(3, 2, 3, 2)
    answers = yield [call("dilated_conv2d", x, w, d, p) for d in (1, 3) for p in (0, 1)]
    sizes = [(6, 8), (8, 10), (2, 6), (4, 8)]
    return [y.shape for (y,) in answers] == [(2, 3, *size) for size in sizes]


@holds("linear in w: f(x, w + v) = f(x, w) + f(x, v)")
def linear(draw):
    x, w, v = draw.integers(1, 2, 6, 7), draw.integers(2, 2, 2, 3), draw.integers(2, 2, 2, 3)
    (of_w,), (of_v,), (of_both,) = yield [
        call("dilated_conv2d", x, each, dilation=2) for each in (w, v, w + v)
    ]
    return np.allclose(of_both, of_w + of_v)


@holds("with d = 2, every second output is the plain convolution of every second pixel")
def every_second(draw):
    x, w = draw.integers(1, 1, 8, 9), draw.integers(1, 1, 2, 3)
    (dilated,), (plain,) = yield [
        call("dilated_conv2d", x, w, dilation=2),
        call("dilated_conv2d", x[:, :, ::2, ::2], w),
    ]
    every = dilated[:, :, ::2, ::2]
    return every.shape == plain.shape and np.allclose(every, plain)


@wrong("dilated_conv2d", "zeros put between the pixels of the image. It is the kernel that has holes; "
       "the image stays as it is, and the output gets smaller, not larger")  # fmt: skip
def dilates_image(x, w, dilation=1, padding=0):
    N, C, H, W = x.shape
    O, _, KH, KW = w.shape
    d, p = dilation, padding
    spread = np.zeros((N, C, d * (H - 1) + 1, d * (W - 1) + 1), x.dtype)
    spread[:, :, ::d, ::d] = x
    padded = np.pad(spread, ((0, 0), (0, 0), (p, p), (p, p)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (KH, KW), axis=(2, 3))
    return np.einsum("ncijuv,ocuv->noij", windows, w)


@wrong("dilated_conv2d", "a convolution whose stride is d. Dilation sets how far the taps lie apart; "
       "the kernel itself still moves by one pixel")  # fmt: skip
def as_stride(x, w, dilation=1, padding=0):
    p = padding
    padded = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, w.shape[2:], axis=(2, 3))
    return np.einsum("ncijuv,ocuv->noij", windows[:, :, ::dilation, ::dilation], w)


without_dilation = wrong(
    "dilated_conv2d",
    "the convolution without holes: the taps lie side by side, whatever the dilation",
    {"d, p = dilation, padding": "d, p = 1, padding"},
)


taps_side_by_side = wrong(
    "dilated_conv2d",
    "an output of the right size made with taps that lie side by side: the dilation must also say "
    "which pixels a tap reads",
    {"d * u : d * u + OH, d * v : d * v + OW": "u : u + OH, v : v + OW"},
)


in_ints = wrong(
    "dilated_conv2d",
    "the right numbers with their fractions cut off: an array of ints has no room for them. Make "
    "the output an array of floats, as np.zeros does if no dtype is named",
    {"return y": "return y.astype(int)"},
)


one_hole_more = wrong(
    "dilated_conv2d",
    "d holes between two taps, where there are d - 1: then the taps lie d + 1 apart, and dilation "
    "1 is no longer the kernel without holes",
    {"d, p = dilation, padding": "d, p = dilation + 1, padding"},
)


hole_at_the_end = wrong(
    "dilated_conv2d",
    "the right values without the last rows and columns: you took d k as the size of the kernel. "
    "Behind its last tap there is no hole",
    {
        "H + 2 * p - d * (KH - 1)": "max(H + 2 * p - d * KH + 1, 0)",
        "W + 2 * p - d * (KW - 1)": "max(W + 2 * p - d * KW + 1, 0)",
    },
)


one_axis = wrong(
    "dilated_conv2d",
    "dilation along the rows only: in every row of the kernel the taps still touch each other",
    {"d * (KW - 1)": "(KW - 1)", "d * v : d * v + OW": "v : v + OW"},
)


turned = wrong(
    "dilated_conv2d",
    "the dilated convolution with the kernel turned by 180 degrees. Networks use it as it stands, "
    "with holes as well as without",
    {"w[:, :, u, v]": "w[:, :, KH - 1 - u, KW - 1 - v]"},
)


@right("dilated_conv2d", "loops over everything, no padded copy")
def seven_loops(x, w, dilation=1, padding=0):
    N, C, H, W = x.shape
    O, _, KH, KW = w.shape
    d, p = dilation, padding
    y = np.zeros((N, O, H + 2 * p - d * (KH - 1), W + 2 * p - d * (KW - 1)))
    for n, o, i, j in np.ndindex(y.shape):
        for c, u, v in np.ndindex(C, KH, KW):
            row, column = i + d * u - p, j + d * v - p
            if 0 <= row < H and 0 <= column < W:
                y[n, o, i, j] += w[o, c, u, v] * x[n, c, row, column]
    return y


@right("dilated_conv2d", "by pixel: windows cut with a step of d; float32")
def stepped_windows(x, w, dilation=1, padding=0):
    N, C, H, W = x.shape
    O, _, KH, KW = w.shape
    d, p = dilation, padding
    padded = np.pad(x.astype(np.float32), ((0, 0), (0, 0), (p, p), (p, p)))
    OH, OW = H + 2 * p - d * (KH - 1), W + 2 * p - d * (KW - 1)
    y = np.zeros((N, O, OH, OW), np.float32)
    for i in range(OH):
        for j in range(OW):
            window = padded[:, :, i : i + d * (KH - 1) + 1 : d, j : j + d * (KW - 1) + 1 : d]
            y[:, :, i, j] = np.tensordot(window, w.astype(np.float32), ([1, 2, 3], [1, 2, 3]))
    return y


@right("dilated_conv2d", "a plain convolution with the zero-stuffed kernel")
def zero_stuffed(x, w, dilation=1, padding=0):
    O, C, KH, KW = w.shape
    d, p = dilation, padding
    stuffed = np.zeros((O, C, d * (KH - 1) + 1, d * (KW - 1) + 1))
    stuffed[:, :, ::d, ::d] = w
    padded = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, stuffed.shape[2:], axis=(2, 3))
    return np.einsum("ncijuv,ocuv->noij", windows, stuffed)


@right("dilated_conv2d", "d * d plain convolutions, each of every d-th pixel, interleaved")
def interleaved(x, w, dilation=1, padding=0):
    N, C, H, W = x.shape
    O, _, KH, KW = w.shape
    d, p = dilation, padding
    padded = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    y = np.zeros((N, O, H + 2 * p - d * (KH - 1), W + 2 * p - d * (KW - 1)))
    for a, b in np.ndindex(min(d, y.shape[2]), min(d, y.shape[3])):
        phase = padded[:, :, a::d, b::d]
        windows = np.lib.stride_tricks.sliding_window_view(phase, (KH, KW), axis=(2, 3))
        y[:, :, a::d, b::d] = np.einsum("ncijuv,ocuv->noij", windows, w)
    return y


@right("dilated_conv2d", "the Fourier transform; Fortran order")
def fourier(x, w, dilation=1, padding=0):
    O, C, KH, KW = w.shape
    d, p = dilation, padding
    padded = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    H, W = padded.shape[2:]
    stuffed = np.zeros((O, C, H, W))
    stuffed[:, :, : d * (KH - 1) + 1 : d, : d * (KW - 1) + 1 : d] = w
    product = np.einsum("ncij,ocij->noij", np.fft.rfft2(padded), np.fft.rfft2(stuffed).conj())
    y = np.fft.irfft2(product, (H, W))[:, :, : H - d * (KH - 1), : W - d * (KW - 1)]
    return np.asfortranarray(y)
