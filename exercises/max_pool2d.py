"""Max pooling that remembers where each maximum stood.

Max pooling keeps the largest number of each window and forgets the rest. SegNet's decoder needs one
thing more: the place each maximum came from, so that unpooling can put numbers back there. A place
is one number, counted in reading order over the whole plane of the image: row * width + column.

    for every window:
        Y[i, j]       = its largest number
        indices[i, j] = where in X this number stands

In a plane of two rows, 1 2 6 3 and 3 5 2 1, the left window's maximum is 5, at row 1 and column 1:
index 1 * 4 + 1 = 5. The right window's is 6, at row 0 and column 2: index 2.

Source: Drake University, CS195 (2024), "SegNet"; ENSTA Paris, CSC_5RO13, "How does the decoder
increase the resolution? (2/2)".
"""

import numpy as np


def max_pool2d(x, kernel_size, stride=None):
    """Max pooling, with the places of the maxima.

        y[n, c, i, j] = the largest of x[n, c, s*i + u, s*j + v] over u, v = 0 .. k - 1

    x (N, C, H, W) -> y and indices, both (N, C, OH, OW), OH = floor((H - k) / s) + 1, and OW alike.
    kernel_size k and stride s are ints, in pixels; where stride is None, s = k.
    Rows and columns that fill no whole window are left out.
    indices are whole numbers (int64, say): the row of the maximum times W, plus its column, each
    plane (n, c) counted by itself from 0. Of equal numbers in a window the first in reading order
    wins. Numbers may be negative.
    Return (y, indices).
    """
    ### BEGIN SOLUTION
    N, C, H, W = x.shape
    k = kernel_size
    s = k if stride is None else stride
    OH, OW = (H - k) // s + 1, (W - k) // s + 1
    y = np.zeros((N, C, OH, OW), x.dtype)
    indices = np.zeros((N, C, OH, OW), np.int64)
    for n, c, i, j in np.ndindex(y.shape):
        window = x[n, c, s * i : s * i + k, s * j : s * j + k]
        u, v = divmod(window.argmax(), k)  # argmax takes the first of equal numbers
        y[n, c, i, j] = window[u, v]
        indices[n, c, i, j] = (s * i + u) * W + (s * j + v)
    return y, indices
    ### END SOLUTION


### FOR THE TEACHER

import minseg.functional as F
from minseg.grading.exercise import call, check, holds, right, wrong


def reference(x, kernel_size, stride=None):
    """The library's op returns the places only where asked."""
    return F.max_pool2d(x, kernel_size, stride, return_indices=True)


def positive(draw, *shape):
    """Numbers above 0, no two alike, in random order."""
    x = draw.distinct(*shape)
    return x - x.min() + draw.between(1, 9)


REFERENCE = {"max_pool2d": reference}
HINTS = [
    """
    Take x = [[1, 7, 2, 3], [4, 5, 9, 8]] and windows of two by two. Number the eight pixels 0 to 7
    in reading order. Which two numbers do you keep, and what are the numbers of their pixels?
    """,
    """
    One loop over (n, c, i, j) of the output. Cut the window out of its plane: it is (k, k) and
    begins at row s*i. Its argmax is a place within the window, one of 0 .. k*k - 1: take it apart
    into a row u and a column v (divmod), and add where the window begins.
    """,
    """
    for n, c, i, j in np.ndindex(N, C, OH, OW):
        window = x[n, c, <k rows from s*i on>, <k columns from s*j on>]
        u, v = divmod(<place of the largest in the window>, k)
        y[n, c, i, j] = window[u, v]
        indices[n, c, i, j] = <row in the plane> * W + <column in the plane>
    """,
]


@check("one window: its largest number, and where it stands")
def one_window(draw):
    yield call("max_pool2d", positive(draw, 1, 1, 2, 2), 2)
    yield call("max_pool2d", positive(draw, 1, 1, 3, 3), 3)


@check("windows side by side, places counted over the whole plane")
def side_by_side(draw):
    yield call("max_pool2d", positive(draw, 1, 1, 2, 4), 2)
    yield call("max_pool2d", positive(draw, 1, 1, 4, 6), 2)
    yield call("max_pool2d", positive(draw, 1, 1, 7, 10), 3)


@check("numbers below zero")
def negative(draw):
    yield call("max_pool2d", -positive(draw, 1, 1, 2, 2), 2)
    yield call("max_pool2d", -positive(draw, 1, 1, 4, 6), 2)


@check("of equal numbers, the first in reading order")
def ties(draw):
    yield call("max_pool2d", np.full(8, draw.between(1, 9), float).reshape(1, 1, 2, 4), 2)
    yield call("max_pool2d", draw.labels(1, 1, 6, 9, num_classes=2) + 1.0, 3)


@check("a stride that is not the window's size")
def strided(draw):
    yield call("max_pool2d", positive(draw, 1, 1, 2, 3), 2, 1)
    yield call("max_pool2d", positive(draw, 1, 1, 5, 8), 3, stride=2)
    yield call("max_pool2d", positive(draw, 1, 1, 5, 8), 2, stride=3)


@check("several channels and images, fractions", points=2)
def channels(draw):
    yield call("max_pool2d", positive(draw, 1, 1, 2, 2) + 0.5, 2)
    yield call("max_pool2d", positive(draw, 1, 2, 2, 2), 2)
    yield call("max_pool2d", positive(draw, 2, 1, 2, 4), 2)
    yield call("max_pool2d", positive(draw, 2, 3, 5, 6), 2, stride=draw.one_of(1, 3))


@holds("the number that stands at your index is your maximum")
def at_its_place(draw):
    x = draw.distinct(1, 2, 4, 6)
    ((y, indices),) = yield [call("max_pool2d", x, 2)]
    planes = indices.reshape(1, 2, -1).astype(np.int64)
    return (np.take_along_axis(x.reshape(1, 2, -1), planes, 2) == y.reshape(1, 2, -1)).all()


@holds("100 more in every pixel: 100 more in every maximum, and no index moves")
def shifted(draw):
    x = -positive(draw, 1, 1, 4, 6)
    (y, indices), (more, same) = yield [call("max_pool2d", each, 2) for each in (x, x + 100)]
    return (more == y + 100).all() and (same == indices).all()


@holds("shape: floor((H - k) / s) + 1")
def shape(draw):
    x = draw.distinct(2, 3, 6, 9)
    answers = yield [call("max_pool2d", x, k, s) for k, s in ((3, None), (3, 2), (2, 1))]
    sizes = [(2, 3), (2, 4), (5, 8)]
    return all(
        y.shape == indices.shape == (2, 3, *size)
        for (y, indices), size in zip(answers, sizes, strict=True)
    )


within_window = wrong(
    "max_pool2d",
    "the right maxima with their places inside their own windows. An index counts the pixels of "
    "the whole plane, so it depends on where the window begins",
    {"(s * i + u) * W + (s * j + v)": "u * k + v"},
)


@wrong("max_pool2d", "the last of equal maxima, where the first in reading order is asked for: a "
       "number that is only as large as the best so far must not take its place")  # fmt: skip
def last_of_equals(x, kernel_size, stride=None):
    k, s = kernel_size, stride or kernel_size
    N, C, H, W = x.shape
    y = np.zeros((N, C, (H - k) // s + 1, (W - k) // s + 1))
    indices = np.zeros(y.shape, np.int64)
    for n, c, i, j in np.ndindex(y.shape):
        best = -np.inf
        for row in range(s * i, s * i + k):
            for column in range(s * j, s * j + k):
                if x[n, c, row, column] >= best:
                    best = x[n, c, row, column]
                    indices[n, c, i, j] = row * W + column
        y[n, c, i, j] = best
    return y, indices


over_the_batch = wrong(
    "max_pool2d",
    "places counted through all images and channels. Every plane counts its own pixels from 0: "
    "unpooling looks for them there",
    {"(s * i + u) * W": "((n * C + c) * H + s * i + u) * W"},
)


@wrong("max_pool2d", "a maximum that begins at 0: a window in which all numbers are negative gives 0 "
       "and has no place. Think of what the first number of a window is compared with")  # fmt: skip
def from_zero(x, kernel_size, stride=None):
    k, s = kernel_size, stride or kernel_size
    N, C, H, W = x.shape
    y = np.zeros((N, C, (H - k) // s + 1, (W - k) // s + 1))
    indices = np.zeros(y.shape, np.int64)
    for n, c, i, j in np.ndindex(y.shape):
        for row in range(s * i, s * i + k):
            for column in range(s * j, s * j + k):
                if x[n, c, row, column] > y[n, c, i, j]:
                    y[n, c, i, j] = x[n, c, row, column]
                    indices[n, c, i, j] = row * W + column
    return y, indices


one_axis = wrong(
    "max_pool2d",
    "a stride along the rows only: from one column of windows to the next it still moves by one "
    "pixel",
    {"(W - k) // s + 1": "W - k + 1", "s * j : s * j + k": "j : j + k", "(s * j + v)": "(j + v)"},
)


down_the_columns = wrong(
    "max_pool2d",
    "places counted down the columns. Reading order goes along a row first, so that the next row "
    "begins W pixels later",
    {"(s * i + u) * W + (s * j + v)": "(s * j + v) * H + (s * i + u)"},
)


without_stride = wrong(
    "max_pool2d",
    "pooling of stride k: the windows lie side by side, whatever the stride is",
    {"s = k if stride is None else stride": "s = k"},
)


in_ints = wrong(
    "max_pool2d",
    "maxima with their fractions cut off: the places are ints, but an array of ints has "
    "no room for all numbers of x",
    {"x.dtype": "int"},
)


@right("max_pool2d", "loops over everything, larger than the best so far")
def six_loops(x, kernel_size, stride=None):
    k, s = kernel_size, stride or kernel_size
    N, C, H, W = x.shape
    y = np.full((N, C, (H - k) // s + 1, (W - k) // s + 1), -np.inf)
    indices = np.zeros(y.shape, np.int32)
    for n, c, i, j in np.ndindex(y.shape):
        for u, v in np.ndindex(k, k):
            row, column = s * i + u, s * j + v
            if x[n, c, row, column] > y[n, c, i, j]:
                y[n, c, i, j] = x[n, c, row, column]
                indices[n, c, i, j] = row * W + column
    return y, indices


@right("max_pool2d", "sliding windows")
def sliding(x, kernel_size, stride=None):
    k, s = kernel_size, stride or kernel_size
    N, C, H, W = x.shape
    windows = np.lib.stride_tricks.sliding_window_view(x, (k, k), axis=(2, 3))[:, :, ::s, ::s]
    flat = windows.reshape(*windows.shape[:4], k * k)
    u, v = np.divmod(flat.argmax(axis=4), k)
    rows, columns = s * np.arange(flat.shape[2]), s * np.arange(flat.shape[3])
    return flat.max(axis=4), (rows[:, None] + u) * W + columns + v


@right("max_pool2d", "the taps of the window one after the other, pixels all at once; float32")
def taps(x, kernel_size, stride=None):
    k, s = kernel_size, stride or kernel_size
    N, C, H, W = x.shape
    OH, OW = (H - k) // s + 1, (W - k) // s + 1
    places = np.broadcast_to(np.arange(H * W).reshape(H, W), x.shape)
    y = np.full((N, C, OH, OW), -np.inf, np.float32)
    indices = np.zeros((N, C, OH, OW), np.int64)
    for u, v in np.ndindex(k, k):
        rows, columns = slice(u, u + s * (OH - 1) + 1, s), slice(v, v + s * (OW - 1) + 1, s)
        larger = x[:, :, rows, columns] > y
        y = np.where(larger, x[:, :, rows, columns], y).astype(np.float32)
        indices = np.where(larger, places[:, :, rows, columns], indices)
    return y, indices


@right("max_pool2d", "a table of the pixels of every window; Fortran order")
def table(x, kernel_size, stride=None):
    k, s = kernel_size, stride or kernel_size
    N, C, H, W = x.shape
    OH, OW = (H - k) // s + 1, (W - k) // s + 1
    i, j, u, v = np.ogrid[:OH, :OW, :k, :k]
    pixels = ((s * i + u) * W + s * j + v).reshape(OH * OW, k * k)
    seen = x.reshape(N, C, H * W)[:, :, pixels]  # (N, C, OH OW, k k)
    best = seen.argmax(axis=3)
    indices = pixels[np.arange(OH * OW), best].reshape(N, C, OH, OW)
    return np.asfortranarray(seen.max(axis=3).reshape(N, C, OH, OW)), np.asfortranarray(indices)


@right("max_pool2d", "the maximum first, then the smallest place that holds it")
def two_steps(x, kernel_size, stride=None):
    k, s = kernel_size, stride or kernel_size
    N, C, H, W = x.shape
    y = np.zeros((N, C, (H - k) // s + 1, (W - k) // s + 1))
    indices = np.zeros(y.shape, np.int64)
    places = np.arange(H * W).reshape(H, W)
    for i, j in np.ndindex(y.shape[2:]):
        inside = np.s_[..., s * i : s * i + k, s * j : s * j + k]
        y[:, :, i, j] = x[inside].max(axis=(2, 3))
        holds_it = x[inside] == x[inside].max(axis=(2, 3), keepdims=True)
        indices[:, :, i, j] = np.where(holds_it, places[inside], H * W).min(axis=(2, 3))
    return y, indices


@right("max_pool2d", "columns first, then rows")
def columns_then_rows(x, kernel_size, stride=None):
    k, s = kernel_size, stride or kernel_size
    N, C, H, W = x.shape
    OH, OW = (H - k) // s + 1, (W - k) // s + 1
    widest = np.zeros((N, C, H, OW))
    column = np.zeros((N, C, H, OW), np.int64)
    for j in range(OW):
        part = x[:, :, :, s * j : s * j + k]
        widest[:, :, :, j], column[:, :, :, j] = part.max(axis=3), s * j + part.argmax(axis=3)
    y = np.zeros((N, C, OH, OW))
    indices = np.zeros((N, C, OH, OW), np.int64)
    for i in range(OH):
        part = widest[:, :, s * i : s * i + k]
        row = s * i + part.argmax(axis=2)  # (N, C, OW)
        y[:, :, i] = part.max(axis=2)
        found = np.take_along_axis(column, row[:, :, None], axis=2)[:, :, 0]
        indices[:, :, i] = row * W + found
    return y, indices
