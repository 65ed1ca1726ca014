"""The fast form of a sliding window on a graphics card: kernels.cu, and cuBLAS between its kernels.

What windows.py defines as gather, one matrix product, scatter is done here in just these three
steps, for CuPy arrays of one float type. Columns are made a few images, or a few rows of one image,
at a time. cuBLAS gets plain matrices without gaps: anything else CuPy copies first, or multiplies
without TF32. The kernels are compiled when first used; CuPy keeps them for each card and on disk.
A test holds each function here to its plain definition, on a card or, without one, with kernels.cu
compiled for the processor.

Source: Chellapilla, Puri and Simard, High Performance Convolutional Neural Networks for Document
Processing (2006), for convolution as one matrix product.
"""

from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from minseg.backend import Array, array_module, cuda_module
from minseg.strips import Axis

SOURCE = Path(__file__).with_name("kernels.cu")
# Columns made at a time: enough to keep a card busy, not to fill it. Not tuned on a card yet.
COLUMN_BYTES = 256 << 20
THREADS = 256  # in a block; fewer for small planes
MOST_BLOCKS = 65535  # CUDA's limit along y and z; the kernels go round again


def set_tf32(on: bool) -> None:
    """Let the card round float32 to 10 binary digits before matrix products (TF32), or, False, not.

    Off unless asked for, here or by CUPY_TF32=1. Cards from compute capability 8.0 on multiply TF32
    faster, with relative errors near 1e-3; sums stay float32. The setting is CuPy's own, for the
    whole process, and serves products of two matrices, which is what convolutions are made of.

    Raises:
        TypeError: `on` is neither True nor False.
        ValueError: there is no card, or no CuPy.

    Source: NVIDIA A100 Tensor Core GPU Architecture (2020), "TensorFloat-32".
    """
    if not isinstance(on, bool):
        raise TypeError(f"set_tf32: on must be True or False, got {on!r}")
    products = cuda_module()._core._routines_linalg
    kind = products.COMPUTE_TYPE_TF32 if on else products.COMPUTE_TYPE_DEFAULT
    products.set_compute_type(np.float32, kind)


def serves(image_size: tuple[int, int], rows: Axis, cols: Axis, *arrays: Any) -> bool:
    """Do the kernels serve these windows and arrays of any shape? They do for CuPy arrays of one float
    type, and planes that an int can count."""
    return (
        array_module(*arrays) is not np
        and arrays[0].dtype in (np.float32, np.float64)
        and all(array.dtype == arrays[0].dtype for array in arrays)
        and max(map(abs, (*rows, *cols))) < 1 << 28
        and max(image_size[0] * image_size[1], rows.size * cols.size) < 1 << 30
    )


# The three contractions; rows and cols say how windows read the image.


def slide(x: Array, w: Array, rows: Axis, cols: Axis, groups: int = 1) -> Array:
    """y[n,o,i,j] = sum over c,u,v of w[o,c,u,v] * x[n, c, where tap (u,v) of (i,j) reads]

    x (N, C, H, W), w (O, C/groups, KH, KW) -> (N, O, OH, OW).
    """
    xp = array_module(x)
    x = xp.ascontiguousarray(x)
    matrix = as_matrix(w)
    O = len(matrix)
    y = xp.empty((len(x), O, rows.size, cols.size), x.dtype)
    for images, first, last in pieces(x.shape, rows, cols, x.itemsize):
        columns = gather(x[images], rows, cols, first, last)
        product = xp.empty((O, columns.shape[1]), x.dtype)
        for out, taken in blocks(O, len(columns), groups):
            # (O, CKK) x (CKK, L) -> (O, L), a group at a time
            xp.matmul(matrix[out], columns[taken], out=product[out])
        target = y[images, :, first:last]  # (n, O, rows, OW)
        target[...] = product.reshape(O, len(target), last - first, cols.size).swapaxes(0, 1)
    return y


def spread(
    y: Array, w: Array, rows: Axis, cols: Axis, image_size: tuple[int, int], groups: int = 1
) -> Array:
    """x[n, c, where tap (u,v) of (i,j) reads] += w[o,c,u,v] * y[n,o,i,j] for every n,o,c,i,j,u,v

    y (N, O, OH, OW), w (O, C/groups, KH, KW) -> (N, C, H, W).
    """
    xp = array_module(y)
    matrix = as_matrix(w)
    O, C = len(matrix), w.shape[1] * groups
    x = xp.empty((len(y), C, *image_size), y.dtype)
    for images, first, last in pieces(x.shape, rows, cols, x.itemsize):
        if first == 0 and last < rows.size:
            x[images] = 0  # the pieces of this image are added up in it
        maps = as_columns(y[images, :, first:last])
        columns = xp.empty((C * rows.taps * cols.taps, maps.shape[1]), y.dtype)
        for out, taken in blocks(O, len(columns), groups):
            # (CKK, O) x (O, L) -> (CKK, L), a group at a time
            xp.matmul(matrix[out].T, maps[out], out=columns[taken])
        scatter(columns, x[images], rows, cols, first, last)
    return x


def overlap(x: Array, y: Array, rows: Axis, cols: Axis, groups: int = 1) -> Array:
    """w[o,c,u,v] = sum over n,i,j of y[n,o,i,j] * x[n, c, where tap (u,v) of (i,j) reads]

    x (N, C, H, W), y (N, O, OH, OW) -> (O, C/groups, KH, KW).
    """
    xp = array_module(x)
    x = xp.ascontiguousarray(x)
    O, C = y.shape[1], x.shape[1]
    w = xp.zeros((O, C // groups * rows.taps * cols.taps), x.dtype)
    for images, first, last in pieces(x.shape, rows, cols, x.itemsize):
        maps = as_columns(y[images, :, first:last])
        columns = gather(x[images], rows, cols, first, last)
        for out, taken in blocks(O, len(columns), groups):
            # (O, L) x (L, CKK) -> (O, CKK), a group at a time
            w[out] += maps[out] @ columns[taken].T
    return w.reshape(O, C // groups, rows.taps, cols.taps)


def pieces(
    shape: tuple[int, ...], rows: Axis, cols: Axis, itemsize: int
) -> list[tuple[slice, int, int]]:
    """(images, first, last): output rows first .. last - 1 of some images, COLUMN_BYTES of columns each.

    shape (N, C, H, W). Whole images, or else rows of a single one.
    """
    N, C = shape[:2]
    row_bytes = max(1, C * rows.taps * cols.taps * cols.size * itemsize)
    most = COLUMN_BYTES // row_bytes  # output rows
    if most >= rows.size:
        images = most // max(1, rows.size)
        return [(slice(n, min(n + images, N)), 0, rows.size) for n in range(0, N, images)]
    most = max(1, most)
    tops = range(0, rows.size, most)
    return [(slice(n, n + 1), i, min(i + most, rows.size)) for n in range(N) for i in tops]


def blocks(O: int, taken: int, groups: int) -> list[tuple[slice, slice]]:
    """For each group its part of the O outputs, and of the rows of columns."""
    o, k = O // groups, taken // groups
    return [(slice(g * o, g * o + o), slice(g * k, g * k + k)) for g in range(groups)]


def as_matrix(w: Array) -> Array:
    """A kernel as a matrix without gaps: (O, C, KH, KW) -> (O, C*KH*KW)."""
    return array_module(w).ascontiguousarray(w).reshape(len(w), -1)


def as_columns(y: Array) -> Array:
    """Maps as a matrix without gaps: (n, O, rows, OW) -> (O, n*rows*OW)."""
    n, O, height, width = y.shape
    maps = array_module(y).ascontiguousarray(y.swapaxes(0, 1))
    return maps.reshape(O, n * height * width)


# The kernels, each as a function. Arrays handed to a kernel must have no gaps: it sees no strides.


def gather(x: Array, rows: Axis, cols: Axis, first: int, last: int) -> Array:
    """The windows of output rows first .. last - 1 as columns: x (N, C, H, W) -> (C*KH*KW, L)."""
    N, C = x.shape[:2]
    pixels = (last - first) * cols.size
    columns = array_module(x).empty((C * rows.taps * cols.taps, N * pixels), x.dtype)
    launch("gather", (x, columns), x.shape, rows, cols, pixels, first, last)
    return columns


def scatter(columns: Array, x: Array, rows: Axis, cols: Axis, first: int, last: int) -> None:
    """Columns (C*KH*KW, L) put where they came from, in place: as the whole of x (N, C, H, W), or, of
    some output rows only, added to it."""
    H, W = x.shape[2:]
    low, high = (0, H) if last - first == rows.size else rows.reads(first, last)
    pixels = max(0, min(high, H) - max(low, 0)) * W
    launch("scatter", (columns, x), x.shape, rows, cols, pixels, first, last)


def max_pool(x: Array, rows: Axis, cols: Axis) -> tuple[Array, Array]:
    """The largest number in each window of x (N, C, H, W), and its place h*W + w as int32, both
    (N, C, OH, OW)."""
    xp = array_module(x)
    shape = (*x.shape[:2], rows.size, cols.size)
    y, places = xp.empty(shape, x.dtype), xp.empty(shape, np.int32)
    arrays = (xp.ascontiguousarray(x), y, places)
    launch("max_pool", arrays, x.shape, rows, cols, rows.size * cols.size)
    return y, places


def max_pool_gradient(
    dy: Array, places: Array, rows: Axis, cols: Axis, image_size: tuple[int, int]
) -> Array:
    """Each dy sent back to where its maximum stood: dy and places (N, C, OH, OW) -> (N, C, H, W)."""
    xp = array_module(dy)
    dx = xp.empty((*dy.shape[:2], *image_size), dy.dtype)
    arrays = (xp.ascontiguousarray(dy), places, dx)
    launch("max_pool_gradient", arrays, dx.shape, rows, cols, dx.shape[2] * dx.shape[3])
    return dx


def last_owner(places: Array, size: int) -> Array:
    """For each of `size` pixels the last l that is sent there, -1 where none is: places (N, C, L) ->
    (N, C, size) int32."""
    xp = array_module(places)
    N, C, L = places.shape
    owners = xp.full((N, C, size), -1, np.int32)
    arrays = (xp.ascontiguousarray(places, np.int64), owners)
    one, line = Axis(0, 1, 1, 1, 1), Axis(0, 1, 1, 1, L)
    launch("last_owner", arrays, (N, C, 1, size), one, line, L)
    return owners


def launch(
    name: str, arrays: tuple[Array, ...], shape: tuple[int, ...], rows: Axis, cols: Axis,
    pixels: int, first: int = 0, last: int = 0,
) -> None:  # fmt: skip
    """Run a kernel on arrays without gaps, one thread for each of so many pixels of every plane.

    shape (N, C, H, W) is the image's.
    """
    N, C = shape[:2]
    if N * C * pixels == 0:
        return
    # struct Windows of kernels.cu, handed over by value: CuPy takes an array of one element for that
    numbers = np.array([*shape, *rows, *cols, first, last], np.int32)
    windows = numbers.view(np.dtype((np.void, numbers.nbytes)))
    threads = min(THREADS, -(-pixels // 32) * 32)
    grid = (-(-pixels // threads), min(C, MOST_BLOCKS), min(N, MOST_BLOCKS))
    real = "double" if arrays[0].dtype == np.float64 else "float"
    kernel(array_module(arrays[0]), name, real)(grid, (threads,), (*arrays, windows))


@cache
def kernel(xp: ModuleType, name: str, real: str) -> Any:
    """A kernel of kernels.cu for "float" or "double"."""
    return compiled(xp, real).get_function(name)


@cache
def compiled(xp: ModuleType, real: str) -> Any:
    """kernels.cu for one float type."""
    code = SOURCE.read_text("utf-8")
    return xp.RawModule(code=code, options=(f"-DReal={real}",))
