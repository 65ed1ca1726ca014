"""Unpooling: numbers go back to where the maxima stood.

SegNet's decoder makes a small map large again without a single weight: the pooling layer has
written down where each maximum stood, and unpooling puts one number at each of these places. All
other pixels are 0.

    for every pixel (i, j) of X:
        row, column = where the maximum of window (i, j) stood
        Y[row, column] = X[i, j]

A place is one number, counted in reading order over the plane of Y: row * width of Y + column.
So one has to know how wide Y is. Five columns pooled by two leave two, and two windows of two unpool
to four; the places were counted in rows of five, and `output_size` says so.

Source: Drake University, CS195 (2024), "SegNet"; Deep Learning for Vision (2024-2025), "Unpooling".
"""

import numpy as np


def max_unpool2d(x, indices, kernel_size, stride=None, padding=0, output_size=None):
    """Unpooling by indices.

        y[n, c], its pixels counted in reading order, is x[n, c, i, j] at place indices[n, c, i, j]
        for every i and j, and 0 elsewhere

    x and indices (N, C, H, W) -> (N, C, OH, OW). output_size is the pair (OH, OW); where it is None,
    OH = (H - 1) s - 2p + k, and OW alike. kernel_size k, stride s and padding p are ints, in pixels,
    those of the pooling that gave the indices; where stride is None, s = k.
    indices (int64) count each plane (n, c) by itself from 0. x need not be the pooled map: any number
    may go to any place. Where several numbers go to the same place, the last one in reading order
    of x stays.
    """
    ### BEGIN SOLUTION
    N, C, H, W = x.shape
    k, p = kernel_size, padding
    s = k if stride is None else stride
    if output_size is None:
        output_size = ((H - 1) * s - 2 * p + k, (W - 1) * s - 2 * p + k)
    OH, OW = output_size
    y = np.zeros((N, C, OH, OW), x.dtype)
    for n, c, i, j in np.ndindex(x.shape):
        row, column = divmod(indices[n, c, i, j], OW)
        y[n, c, row, column] = x[n, c, i, j]
    return y
    ### END SOLUTION


### FOR THE TEACHER

import minseg.functional as F
from minseg.grading.exercise import call, check, holds, right, wrong

REFERENCE = {"max_unpool2d": F.max_unpool2d}
HINTS = [
    """
    y has 2 rows and 4 columns. Write the places 0 to 7 into its pixels, in reading order. In which
    row and which column is place 6? What would it be if y had 3 columns?
    """,
    """
    First the size of y: output_size, or else the formula for OH and OW. Then zeros of that size, and
    one loop over (n, c, i, j) of x. A place divided by the width of y is its row, and the remainder
    its column. Put, do not add.
    """,
    """
    y = np.zeros((N, C, OH, OW))
    for n, c, i, j in np.ndindex(N, C, H, W):
        row, column = divmod(<place>, <width>)
        y[n, c, <where>] = <which number>
    """,
]


def pooled(draw, N, C, H, W, kernel_size, stride=None):
    """Numbers for every window of an image (H, W), and the places where its maxima stood."""
    y, places = F.max_pool2d(draw.distinct(N, C, H, W), kernel_size, stride, return_indices=True)
    return draw.integers(*y.shape), places


def anywhere(draw, N, C, H, W, among):
    """Places for every number, no two of a plane alike."""
    planes = [draw.rng.permutation(among)[: H * W] for _ in range(N * C)]
    return np.array(planes, np.int64).reshape(N, C, H, W)


@check("one number goes to its place")
def one_number(draw):
    yield call("max_unpool2d", *pooled(draw, 1, 1, 2, 2, 2), 2)
    yield call("max_unpool2d", *pooled(draw, 1, 1, 3, 3, 3), 3)


@check("several numbers, places counted over the whole plane")
def several(draw):
    yield call("max_unpool2d", *pooled(draw, 1, 1, 2, 4, 2), 2)
    yield call("max_unpool2d", *pooled(draw, 1, 1, 4, 6, 2), 2)
    yield call("max_unpool2d", *pooled(draw, 1, 1, 9, 6, 3), 3)


@check("several channels and images, fractions")
def channels(draw):
    yield call("max_unpool2d", draw.integers(1, 1, 1, 1) + 0.5, np.zeros((1, 1, 1, 1), np.int64), 1)
    yield call("max_unpool2d", *pooled(draw, 1, 2, 2, 2, 2), 2)
    yield call("max_unpool2d", *pooled(draw, 2, 1, 2, 4, 2), 2)
    yield call("max_unpool2d", *pooled(draw, 2, 3, 4, 6, 2), 2)


@check("windows that overlap: of several numbers for one place, the last")
def overlap(draw):
    yield call("max_unpool2d", draw.integers(1, 1, 1, 2), np.full((1, 1, 1, 2), 1), 2, 1)
    yield call("max_unpool2d", *pooled(draw, 1, 1, 5, 6, 3, 1), 3, stride=1)
    yield call("max_unpool2d", draw.integers(1, 1, 3, 2), np.full((1, 1, 3, 2), 3), 2, stride=1)


@check("the size: output_size, stride and padding", points=2)
def size(draw):
    # An index of the second row of five pixels, and one of the first, which fit into two rows of four.
    places = np.array([[[[5, 2 + draw.between(0, 1)]]]])
    yield call("max_unpool2d", draw.integers(1, 1, 1, 2), places, 2, output_size=(3, 5))
    yield call("max_unpool2d", *pooled(draw, 2, 2, 5, 7, 2), 2, output_size=(5, 7))
    yield call("max_unpool2d", *pooled(draw, 1, 2, 8, 5, 2, 3), 2, stride=3)
    x, places = draw.integers(1, 2, 3, 4), anywhere(draw, 1, 2, 3, 4, among=5 * 7)
    yield call("max_unpool2d", x, places, 3, stride=2, padding=1)


@holds("the sum is kept: nothing is lost and nothing added")
def sum_kept(draw):
    x, places = pooled(draw, 2, 3, 4, 6, 2)
    ((y,),) = yield [call("max_unpool2d", x, places, 2)]
    return y.sum() == x.sum()


@holds("pooling undoes unpooling, where no number is negative")
def pooling_undoes(draw):
    x, places = pooled(draw, 1, 2, 4, 6, 2)
    ((y,),) = yield [call("max_unpool2d", abs(x), places, 2)]
    return y.shape == (1, 2, 4, 6) and (F.max_pool2d(y, 2) == abs(x)).all()


@holds("shape: (H - 1) s - 2p + k")
def shape(draw):
    x, places = draw.integers(1, 2, 3, 4), anywhere(draw, 1, 2, 3, 4, among=3 * 5)
    asked = [(3, None, 0), (3, 2, 0), (3, 2, 1), (3, 2, 2)]
    answers = yield [call("max_unpool2d", x, places, *geometry) for geometry in asked]
    sizes = [(9, 12), (7, 9), (5, 7), (3, 5)]
    return [y.shape for (y,) in answers] == [(1, 2, *size) for size in sizes]


@wrong("max_unpool2d", "nearest neighbour upsampling: every number fills its whole window. Unpooling "
       "puts it at one pixel, the place its index names, and leaves 0 elsewhere")  # fmt: skip
def fills_the_window(x, indices, kernel_size, stride=None, padding=0, output_size=None):
    k, s, p = kernel_size, stride or kernel_size, padding
    N, C, H, W = x.shape
    OH, OW = output_size or ((H - 1) * s - 2 * p + k, (W - 1) * s - 2 * p + k)
    canvas = np.zeros((N, C, H * (s + k) + OH, W * (s + k) + OW))
    for i, j in np.ndindex(H, W):
        canvas[:, :, s * i : s * i + k, s * j : s * j + k] = x[:, :, i, j, None, None]
    return canvas[:, :, p : p + OH, p : p + OW]


@wrong("max_unpool2d", "a bed of nails: every number at the top left pixel of its window. The "
       "indices say where in the window it belongs")  # fmt: skip
def top_left(x, indices, kernel_size, stride=None, padding=0, output_size=None):
    k, s, p = kernel_size, stride or kernel_size, padding
    N, C, H, W = x.shape
    OH, OW = output_size or ((H - 1) * s - 2 * p + k, (W - 1) * s - 2 * p + k)
    canvas = np.zeros((N, C, H * s + OH + p, W * s + OW + p))
    canvas[:, :, : H * s : s, : W * s : s] = x
    return canvas[:, :, p : p + OH, p : p + OW]


@wrong("max_unpool2d", "unpooling with one count of places for all planes: every number ends up in "
       "the first plane. Each image and each channel counts its own pixels from 0")  # fmt: skip
def one_plane(x, indices, kernel_size, stride=None, padding=0, output_size=None):
    k, s, p = kernel_size, stride or kernel_size, padding
    N, C, H, W = x.shape
    OH, OW = output_size or ((H - 1) * s - 2 * p + k, (W - 1) * s - 2 * p + k)
    y = np.zeros(N * C * OH * OW)
    y[indices.ravel()] = x.ravel()
    return y.reshape(N, C, OH, OW)


down_the_columns = wrong(
    "max_unpool2d",
    "unpooling with places counted down the columns. Reading order goes along a row first",
    {"row, column = divmod": "column, row = divmod", "j], OW)": "j], OH)"},
)


adds_up = wrong(
    "max_unpool2d",
    "unpooling in which numbers that go to the same place add up. A place holds one number: the "
    "last that is put there",
    {"[n, c, row, column] = ": "[n, c, row, column] += "},
)


@wrong("max_unpool2d", "unpooling to the usual size, with zeros put around it afterwards. The indices "
       "were counted in rows of output_size's width, so numbers land in wrong columns")  # fmt: skip
def zeros_afterwards(x, indices, kernel_size, stride=None, padding=0, output_size=None):
    k, s, p = kernel_size, stride or kernel_size, padding
    N, C, H, W = x.shape
    OH, OW = (H - 1) * s - 2 * p + k, (W - 1) * s - 2 * p + k
    y = np.zeros((N, C, OH * OW))
    for n, c, i, j in np.ndindex(x.shape):
        y[n, c, indices[n, c, i, j]] = x[n, c, i, j]
    y = y.reshape(N, C, OH, OW)
    rows, columns = output_size or (OH, OW)
    return np.pad(y, ((0, 0), (0, 0), (0, rows - OH), (0, columns - OW)))


in_ints = wrong(
    "max_unpool2d",
    "the right numbers with their fractions cut off: the places are ints, but an array "
    "of ints has no room for all numbers of x",
    {"x.dtype": "int"},
)


@right("max_unpool2d", "flat planes, one number after the other")
def flat_planes(x, indices, kernel_size, stride=None, padding=0, output_size=None):
    k, s, p = kernel_size, stride or kernel_size, padding
    N, C, H, W = x.shape
    OH, OW = output_size or [(size - 1) * s - 2 * p + k for size in (H, W)]
    y = [[[0.0] * (OH * OW) for _ in range(C)] for _ in range(N)]
    for n in range(N):
        for c in range(C):
            for number, place in zip(x[n, c].flat, indices[n, c].flat, strict=True):
                y[n][c][place] = number
    return np.array(y).reshape(N, C, OH, OW)


@right("max_unpool2d", "all numbers of a plane in one assignment; float32")
def one_assignment(x, indices, kernel_size, stride=None, padding=0, output_size=None):
    k, s, p = kernel_size, stride or kernel_size, padding
    N, C, H, W = x.shape
    OH, OW = output_size or [(size - 1) * s - 2 * p + k for size in (H, W)]
    y = np.zeros((N * C, OH * OW), np.float32)
    for plane, values, places in zip(y, x.reshape(N * C, -1), indices.reshape(N * C, -1),
                                     strict=True):  # fmt: skip
        plane[places] = values
    return y.reshape(N, C, OH, OW)


@right("max_unpool2d", "put_along_axis")
def along_axis(x, indices, kernel_size, stride=None, padding=0, output_size=None):
    k, s, p = kernel_size, stride or kernel_size, padding
    N, C, H, W = x.shape
    OH, OW = output_size or [(size - 1) * s - 2 * p + k for size in (H, W)]
    y = np.zeros((N, C, OH * OW))
    places, values = indices.reshape(N, C, H * W), x.reshape(N, C, H * W)
    np.put_along_axis(y, places, values, axis=2)
    return y.reshape(N, C, OH, OW)


@right("max_unpool2d", "all planes in one array, each place moved to its own plane; Fortran order")
def moved(x, indices, kernel_size, stride=None, padding=0, output_size=None):
    k, s, p = kernel_size, stride or kernel_size, padding
    N, C, H, W = x.shape
    OH, OW = output_size or [(size - 1) * s - 2 * p + k for size in (H, W)]
    first = OH * OW * np.arange(N * C).reshape(N, C, 1, 1)
    y = np.zeros(N * C * OH * OW)
    y[(indices + first).ravel()] = x.ravel()
    return np.asfortranarray(y.reshape(N, C, OH, OW))


@right("max_unpool2d", "every pixel of the output looks for its number, the last first")
def looks_back(x, indices, kernel_size, stride=None, padding=0, output_size=None):
    k, s, p = kernel_size, stride or kernel_size, padding
    N, C, H, W = x.shape
    OH, OW = output_size or [(size - 1) * s - 2 * p + k for size in (H, W)]
    values, places = x.reshape(N, C, -1)[:, :, ::-1], indices.reshape(N, C, -1)[:, :, ::-1]
    hit = places[:, :, None, :] == np.arange(OH * OW)[:, None]  # (N, C, OH OW, HW)
    found = np.take_along_axis(values, hit.argmax(axis=3), axis=2)  # (N, C, OH OW)
    return np.where(hit.any(axis=3), found, 0).reshape(N, C, OH, OW)
