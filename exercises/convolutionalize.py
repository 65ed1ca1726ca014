"""A dense layer is a convolution.

The last layer of a classifier reads a map of C channels and KH x KW pixels, flattened: for each of K
classes a row of C*KH*KW weights, one for each number of the map, whose weighted sum is the score.
So it is tied to maps of this size. But a weighted sum of KH x KW pixels is what a kernel takes, so
each row of weights can be folded into a kernel. Then the layer can slide over a map of any size,
and gives the scores of every place. No weight changes, none is lost.

A map is flattened as NumPy does it: channel after channel, in each channel row after row. The number
of row u, column v in channel c stands at place (c * KH + u) * KW + v of the flattened map.

Write both: `convolutionalize` folds the weights, and `dense_everywhere` is what the folded layer must
equal, the slow and certain way: the dense layer itself, on every window of a larger map.

Source: Bonn University, MA-INF 4308 (2023), "Convolutionalization".
"""

import numpy as np


def convolutionalize(w, kernel_size):
    """The weights of a dense layer as kernels of a convolution that gives the same scores.

        kernels[k, c, u, v] = w[k, (c * KH + u) * KW + v]

    w (K, C*KH*KW) and kernel_size, the pair (KH, KW) in pixels -> (K, C, KH, KW).
    The number of channels C follows from the two.
    """
    ### BEGIN SOLUTION
    KH, KW = kernel_size
    return w.reshape(len(w), -1, KH, KW)
    ### END SOLUTION


def dense_everywhere(x, w, kernel_size):
    """The scores of the dense layer for every window of a map.

        y[n, k, i, j] = sum over all entries of w[k] * flattened,
        where flattened is the window x[n, :, i:i+KH, j:j+KW] as one row of C*KH*KW numbers

    x (N, C, H, W), w (K, C*KH*KW) and kernel_size, the pair (KH, KW) in pixels
    -> (N, K, H - KH + 1, W - KW + 1).
    """
    ### BEGIN SOLUTION
    N, C, H, W = x.shape
    KH, KW = kernel_size
    y = np.zeros((N, len(w), H - KH + 1, W - KW + 1), x.dtype)
    for i in range(H - KH + 1):
        for j in range(W - KW + 1):
            flattened = x[:, :, i : i + KH, j : j + KW].reshape(N, C * KH * KW)
            y[:, :, i, j] = flattened @ w.T  # (N, CKK) x (CKK, K) -> (N, K)
    return y
    ### END SOLUTION


### FOR THE TEACHER

import minseg.functional as F
from minseg.grading.exercise import call, check, holds, right, wrong


def folded(w, kernel_size):
    return w.reshape(len(w), -1, *kernel_size)


def convolved(x, w, kernel_size):
    return F.conv2d(x, folded(w, kernel_size))


REFERENCE = {"convolutionalize": folded, "dense_everywhere": convolved}
HINTS = [
    """
    Take a map of 2 channels, 1 row and 3 columns, and number its six entries by channel and column.
    In which order do they stand in x.reshape(6)? So which three of a row's six weights
    belong to channel 1?
    """,
    """
    Folding undoes flattening: w has one axis for (c, u, v) and needs three, in the same order;
    nothing moves in memory. For `dense_everywhere`, two loops over the places (i, j) are enough: cut
    a window out of all images and channels, flatten it to (N, C*KH*KW), and multiply by w, its
    axes exchanged so that those of length C*KH*KW meet.
    """,
    """
    convolutionalize: one reshape, to (<rows of w>, <-1 lets NumPy find C>, <rows>, <columns>).
    dense_everywhere:
    for i in range(<places down>):
        for j in range(<places across>):
            flattened = <the window at (i, j)>.reshape(N, <numbers in a window>)
            y[:, :, i, j] = flattened @ <w, its axes exchanged>
    """,
]


@check("one channel: a row of weights, row after row of the kernel")
def one_channel(draw):
    yield call("convolutionalize", draw.distinct(1, 4), (2, 2))
    yield call("convolutionalize", draw.distinct(1, 6), (2, 3))
    yield call("convolutionalize", draw.distinct(2, 12), (4, 3))


@check("several channels, one after the other", points=2)
def several_channels(draw):
    yield call("convolutionalize", draw.distinct(1, 4), (1, 2))
    yield call("convolutionalize", draw.distinct(2, 2 * 3 * 2) + 0.5, (3, 2))
    yield call("convolutionalize", draw.distinct(3, 4 * 2 * 3), (2, 3))


@check("a map that just fits: the scores of the dense layer")
def just_fits(draw):
    yield call("dense_everywhere", draw.integers(1, 1, 1, 2), draw.integers(2, 2), (1, 2))
    yield call("dense_everywhere", draw.integers(1, 2, 1, 2), draw.integers(2, 4), (1, 2))
    yield call("dense_everywhere", draw.integers(3, 2, 2, 3), draw.integers(2, 12), (2, 3))


@check("a larger map: scores for every window, fractions too")
def larger(draw):
    yield call("dense_everywhere", draw.integers(1, 1, 1, 3), draw.integers(1, 2), (1, 2))
    half, w = draw.integers(1, 1, 1, 3) + 0.5, draw.integers(1, 1) + 0.5
    yield call("dense_everywhere", half, w, (1, 1))
    yield call("dense_everywhere", draw.integers(1, 1, 3, 4), draw.integers(2, 4), (2, 2))
    yield call("dense_everywhere", draw.integers(2, 2, 5, 4), draw.integers(3, 2 * 3 * 2), (3, 2))


@check("kernels of 1 x 1: the same dense layer at every pixel")
def one_by_one(draw):
    yield call("convolutionalize", draw.distinct(2, 3), (1, 1))
    yield call("convolutionalize", draw.distinct(4, 2), (1, 1))
    yield call("dense_everywhere", draw.integers(1, 2, 1, 2), draw.integers(2, 2), (1, 1))
    yield call("dense_everywhere", draw.integers(2, 3, 3, 4), draw.integers(4, 3), (1, 1))


@holds("no weight is lost: the kernels hold the numbers of w")
def same_numbers(draw):
    w = draw.distinct(3, 12)
    ((kernels,),) = yield [call("convolutionalize", w, (2, 3))]
    return (np.sort(kernels, axis=None) == np.sort(w, axis=None)).all()


@holds("your two functions agree: conv2d(x, convolutionalize(w)) = dense_everywhere(x, w)")
def agree(draw):
    x, w = draw.integers(1, 2, 4, 5), draw.integers(3, 2 * 2 * 3)
    (kernels,), (scores,) = yield [
        call("convolutionalize", w, (2, 3)),
        call("dense_everywhere", x, w, (2, 3)),
    ]
    convolved = F.conv2d(x, kernels)
    return convolved.shape == scores.shape and np.allclose(convolved, scores)


@holds("the scores of a window do not depend on the rest of the map")
def own_window(draw):
    x, w = draw.integers(1, 2, 4, 4), draw.integers(3, 2 * 2 * 3)
    (scores,), (alone,) = yield [
        call("dense_everywhere", x, w, (2, 3)),
        call("dense_everywhere", x[:, :, 2:4, 1:4], w, (2, 3)),
    ]
    here = scores[:, :, 2:3, 1:2]
    return here.shape == alone.shape and np.allclose(here, alone)


@wrong("convolutionalize", "folding in the order of a framework that keeps channels last: row, "
       "column, channel. The shapes fit, the scores do not. Here the channel comes first")  # fmt: skip
def channels_last(w, kernel_size):
    KH, KW = kernel_size
    return w.reshape(len(w), KH, KW, -1).transpose(0, 3, 1, 2)


@wrong("convolutionalize", "folding column after column: the order inside of each channel is that of "
       "a transposed kernel. Two neighbours in w are neighbours in a row")  # fmt: skip
def columns_first(w, kernel_size):
    KH, KW = kernel_size
    return w.reshape(len(w), -1, KW, KH).swapaxes(2, 3)


@wrong("convolutionalize", "taking w for its transpose, (C*KH*KW, K): you read one class's weights "
       "down a column. Here a class is a row of w, so axis 0 stays what it is")  # fmt: skip
def transposed(w, kernel_size):
    KH, KW = kernel_size
    return w.reshape(-1, KH, KW, len(w)).transpose(3, 0, 1, 2)


@wrong("convolutionalize", "kernels turned by 180 degrees. A network's convolution does not turn its "
       "kernel, so there is nothing to make up for")  # fmt: skip
def turned(w, kernel_size):
    return w.reshape(len(w), -1, *kernel_size)[:, :, ::-1, ::-1]


windows_channels_last = wrong(
    "dense_everywhere",
    "windows flattened with the channels last, (row, column, channel). The weights in w are in "
    "the order channel, row, column, and must meet their own pixels",
    {".reshape(N, C": ".transpose(0, 2, 3, 1).reshape(N, C"},
)


tiles = wrong(
    "dense_everywhere",
    "the scores of windows that lie side by side, like tiles. A kernel moves on by one pixel, so "
    "the windows overlap, and there are H - KH + 1 of them down",
    {
        "H - KH + 1": "H // KH",
        "W - KW + 1": "W // KW",
        "i : i + KH": "KH * i : KH * i + KH",
        "j : j + KW": "KW * j : KW * j + KW",
    },
)


in_ints = wrong(
    "dense_everywhere",
    "the right numbers with their fractions cut off: an array of ints has no room "
    "for them. Make the output an array of floats, as np.zeros does if no dtype is named",
    {"x.dtype": "int"},
)


@right("convolutionalize", "every weight on its own, its place found by division")
def by_division(w, kernel_size):
    KH, KW = kernel_size
    kernels = np.zeros((len(w), w.shape[1] // (KH * KW), KH, KW))
    for place in range(w.shape[1]):
        c, rest = divmod(place, KH * KW)
        kernels[:, c, rest // KW, rest % KW] = w[:, place]
    return kernels


@right("convolutionalize", "channels cut apart and stacked; Fortran order, float32")
def stacked(w, kernel_size):
    KH, KW = kernel_size
    channels = [w[:, c : c + KH * KW] for c in range(0, w.shape[1], KH * KW)]
    kernels = np.stack([part.reshape(-1, KH, KW) for part in channels], axis=1)
    return np.asfortranarray(kernels.astype(np.float32))


@right("convolutionalize", "places of the entries looked up in an array of indices")
def looked_up(w, kernel_size):
    C = w.shape[1] // np.prod(kernel_size)
    places = np.arange(w.shape[1]).reshape(C, *kernel_size)
    return w[:, places]


@right("dense_everywhere", "loops over everything")
def loops(x, w, kernel_size):
    N, C, H, W = x.shape
    KH, KW = kernel_size
    y = np.zeros((N, len(w), H - KH + 1, W - KW + 1))
    for n, k, i, j in np.ndindex(y.shape):
        for place, (c, u, v) in enumerate(np.ndindex(C, KH, KW)):
            y[n, k, i, j] += w[k, place] * x[n, c, i + u, j + v]
    return y


@right("dense_everywhere", "all windows at once, as one batch")
def one_batch(x, w, kernel_size):
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel_size, axis=(2, 3))
    windows = windows.transpose(0, 2, 3, 1, 4, 5)  # (N, OH, OW, C, KH, KW)
    rows = windows.reshape(*windows.shape[:3], -1)
    return np.asfortranarray((rows @ w.T).transpose(0, 3, 1, 2))


@right("dense_everywhere", "the folded kernels, one tap after the other; float32")
def by_convolution(x, w, kernel_size):
    kernels = convolutionalize(w, kernel_size).astype(np.float32)
    OH, OW = (n - k + 1 for n, k in zip(x.shape[2:], kernel_size, strict=True))
    y = np.zeros((len(x), len(w), OH, OW), np.float32)
    for u, v in np.ndindex(*kernel_size):
        moved = x[:, :, u : u + OH, v : v + OW].astype(np.float32)
        y += np.einsum("nchw,kc->nkhw", moved, kernels[:, :, u, v])
    return y


@right("dense_everywhere", "the folded kernels, by the Fourier transform")
def fourier(x, w, kernel_size):
    H, W = x.shape[2:]
    KH, KW = kernel_size
    kernels = w.reshape(len(w), -1, KH, KW)
    of_x, of_w = np.fft.rfft2(x, (H, W)), np.fft.rfft2(kernels, (H, W))
    y = np.fft.irfft2(np.einsum("ncij,kcij->nkij", of_x, of_w.conj()), (H, W))
    return y[:, :, : H - KH + 1, : W - KW + 1]
