"""The fast form of a sliding window, for floats on the processor.

The plain definition in windows.py lays every window of every image side by side as columns, nine
times the image for a 3x3 kernel, and multiplies once. Here the same columns are made a strip of
rows at a time, about 2 MB of them, so that they never leave the core's cache and no memory is held.
A test holds each function here to its plain definition.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from minseg.threads import for_each, scratch

STRIP_BYTES = (
    2 << 20
)  # columns per unit of work: 512 KB multiplies too little at a time, 8 MB spills
LEAST_BYTES = 1 << 18  # smaller work is not worth sharing out


class Axis(NamedTuple):
    """One axis of a window: output i reads, at tap t, the source at start + step * i + hop * t."""

    start: int
    step: int
    hop: int
    taps: int
    size: int  # how many outputs

    def reads(self, first: int, last: int) -> tuple[int, int]:
        """The source positions [low, high) that outputs first .. last - 1 read."""
        low = self.start + self.step * first
        return low, self.start + self.step * (last - 1) + self.hop * (self.taps - 1) + 1


class Strip(NamedTuple):
    """A unit of work: some whole images, or some rows of one image."""

    images: slice
    first: int
    last: int


def cut(N: int, numbers: int, height: int, width: int, itemsize: int) -> list[Strip]:
    """The strips of N maps of height x width, with so many numbers to keep at hand for each pixel.

    How they fall depends on sizes alone, never on the number of threads: the same sums every time.
    """
    if N == 0:
        return []
    image_bytes = numbers * height * width * itemsize
    unit = min(STRIP_BYTES, max(LEAST_BYTES, N * image_bytes // 4))
    if image_bytes <= unit:
        images = -(-N // -(-N // (unit // image_bytes)))  # even groups
        return [Strip(slice(n, min(n + images, N)), 0, height) for n in range(0, N, images)]
    rows = max(1, unit * height // image_bytes)
    rows = -(-height // -(-height // rows))  # even strips
    tops = range(0, height, rows)
    return [Strip(slice(n, n + 1), i, min(i + rows, height)) for n in range(N) for i in tops]


def side_by_side(x: np.ndarray, rows: Axis, cols: Axis, first: int, last: int) -> np.ndarray:
    """The windows of output rows first .. last - 1 as columns: x (n, C, H, W) -> (C*taps*taps, L)."""
    n, C, H, W = x.shape
    top, bottom = rows.reads(first, last)
    left, right = cols.reads(0, cols.size)
    if top < 0 or left < 0 or bottom > H or right > W:  # a window reaches over the border: zeros
        padded = scratch("padded", (n, C, bottom - top, right - left), x.dtype)
        padded[...] = 0
        down = slice(max(top, 0), min(bottom, H))
        across = slice(max(left, 0), min(right, W))
        if down.start < down.stop and across.start < across.stop:
            inside_down = slice(down.start - top, down.stop - top)
            inside_across = slice(across.start - left, across.stop - left)
            padded[:, :, inside_down, inside_across] = x[:, :, down, across]
        x = padded
    else:
        x = x[:, :, top:bottom, left:right]
    sn, sc, sh, sw = x.strides
    shape = (C, rows.taps, cols.taps, n, last - first, cols.size)
    strides = (sc, rows.hop * sh, cols.hop * sw, sn, rows.step * sh, cols.step * sw)
    windows = as_strided(x, shape, strides, writeable=False)
    matrix = (C * rows.taps * cols.taps, n * (last - first) * cols.size)
    if windows.flags.c_contiguous:  # a 1x1 window over one image: the image is its own columns
        return windows.reshape(matrix)
    columns = scratch("columns", shape, x.dtype)
    np.copyto(columns, windows)
    return columns.reshape(matrix)


def correlate(
    source: np.ndarray, weights: np.ndarray, rows: Axis, cols: Axis, out: np.ndarray
) -> None:
    """out[n,o,i,j] = sum over c,u,v of weights[o,c,u,v] * source[n, c, where tap (u,v) of (i,j) reads]

    source (N, C, H, W), weights (O, C, taps, taps) -> out (N, O, rows.size, cols.size), in place.

    A kernel of three rows is three kernels of one row, their results added one row apart. So only
    the taps along a row are laid side by side, a third of the copying, and one product serves all
    the kernel's rows at once: with so few output channels its cost is reading the columns.
    """
    N, O = len(source), len(weights)
    beyond = rows.hop * (rows.taps - 1)  # rows that only some of the kernel's rows see
    apart = rows.step == 1 and 2 * beyond <= rows.size
    kernel_rows = rows.taps if apart else 1
    if apart:
        # (O, C, taps, taps) -> (taps, O, C, taps) -> (taps*O, C*taps)
        matrix = weights.transpose(2, 0, 1, 3).reshape(kernel_rows * O, -1)
        taken = rows._replace(taps=1)
    else:
        matrix, taken, beyond = weights.reshape(O, -1), rows, 0
    strips = cut(N, matrix.shape[1] + len(matrix), rows.size, cols.size, source.itemsize)

    def work(number: int) -> None:
        images, first, last = strips[number]
        columns = side_by_side(source[images], taken, cols, first, last + beyond)
        target = out[images, :, first:last]  # (n, O, rows, cols)
        n = len(target)
        if len(matrix) == O and n == 1 and target[0, 0].flags.c_contiguous:
            # (O, CKK) x (CKK, L) -> (O, L), straight into place
            np.matmul(matrix, columns, out=target.reshape(O, -1))
            return
        product = scratch("product", (len(matrix), columns.shape[1]), out.dtype)
        np.matmul(matrix, columns, out=product)  # (taps*O, C*taps) x (C*taps, L) -> (taps*O, L)
        height = last - first
        parts = product.reshape(kernel_rows, O, n, height + beyond, cols.size).swapaxes(1, 2)
        shifted = [parts[u, :, :, rows.hop * u :][:, :, :height] for u in range(kernel_rows)]
        if kernel_rows == 1:
            target[...] = shifted[0]
        else:
            np.add(shifted[0], shifted[1], out=target)
        for part in shifted[2:]:
            target += part

    for_each(work, len(strips))


def correlate_weights(source: np.ndarray, dy: np.ndarray, rows: Axis, cols: Axis) -> np.ndarray:
    """dw[o,c,u,v] = sum over n,i,j of dy[n,o,i,j] * source[n, c, where tap (u,v) of (i,j) reads]

    source (N, C, H, W), dy (N, O, rows.size, cols.size) -> (O, C, taps, taps).
    """
    N, C = source.shape[:2]
    O = dy.shape[1]
    taps = C * rows.taps * cols.taps
    strips = cut(N, taps + O, rows.size, cols.size, source.itemsize)
    parts = np.empty((len(strips), taps, O), source.dtype)

    def work(number: int) -> None:
        images, first, last = strips[number]
        columns = side_by_side(source[images], rows, cols, first, last)
        part = dy[images, :, first:last]  # (n, O, rows, cols)
        if len(part) == 1 and part[0, 0].flags.c_contiguous:
            maps = part.reshape(O, -1)
        else:  # (n, O, rows, cols) -> (O, n, rows, cols) -> (O, L)
            maps = scratch("product", (O, columns.shape[1]), dy.dtype)
            maps.reshape(O, len(part), last - first, cols.size)[...] = part.swapaxes(0, 1)
        # (CKK, L) x (L, O) -> (CKK, O): the long side first is twice as quick as the other way round
        np.matmul(columns, maps.T, out=parts[number])

    for_each(work, len(strips))
    dw = parts.sum(axis=0)  # in strip order, whichever thread was first: the same bits every time
    return np.ascontiguousarray(dw.T).reshape(O, C, rows.taps, cols.taps)


def phases(size: int, taps: int, stride: int, padding: int, dilation: int) -> Iterator[tuple]:
    """How spread reads its source: image positions fall into `stride` classes, each a window of step 1.

    Yields (positions, kernel, axis): the slice of image positions of a class, the slice of kernel
    taps that reach them (turned round), and the Axis by which those positions read the map.
    axis is None where no tap reaches.
    """
    common = int(np.gcd(stride, dilation))
    for phase in range(stride):
        position = (phase - padding) % stride
        outputs = -(-(size - position) // stride)
        if outputs <= 0:
            continue
        positions = slice(position, None, stride)
        reaching = [u for u in range(taps) if (dilation * u - phase) % stride == 0]
        if not reaching:
            yield positions, None, None
            continue
        hop = dilation // common
        # position p = stride*i + dilation*u - padding, so i = (p + padding - dilation*u) / stride
        start = (position + padding - dilation * reaching[-1]) // stride
        kernel = slice(reaching[0], None, stride // common)
        yield positions, kernel, Axis(start, 1, hop, len(reaching), outputs)
