"""The fast form of a sliding window, for floats on the processor.

The plain definition in windows.py lays every window of every image side by side as columns, nine
times the image for a 3x3 kernel, and multiplies once. Here the same columns are made a strip of
rows at a time, about 2 MB of them, so that they never leave the core's cache and no memory is held.
A test holds each function here to its plain definition.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from minseg.memory import empty, scratch
from minseg.threads import for_each

# Columns per unit of work: 512 KB multiplies too little at a time, 8 MB spills.
STRIP_BYTES = 2 << 20
LEAST_BYTES = 1 << 18  # smaller work is not worth sharing out
# OpenBLAS multiplies matrices of up to so many multiplications as they are, where AVX-512 serves it;
# larger ones it packs first, which costs more than it gains where one matrix is slim.
UNPACKED = 1_000_000


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

    def inside(self, tap: int, first: int, last: int, size: int) -> tuple[slice, slice]:
        """Of outputs first .. last - 1, those whose tap falls into a source of `size`; what it sees.

        The first slice counts from `first`; the second is of the source.
        """
        offset = self.start + self.hop * tap
        # outputs i with 0 <= step*i + offset < size
        low = min(max(first, -(offset // self.step)), last)
        high = max(low, min(last, -((offset - size) // self.step)))
        start = self.step * low + offset
        seen = (
            slice(start, start + self.step * (high - low), self.step) if high > low else slice(0, 0)
        )
        return slice(low - first, high - first), seen


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
    height = last - first
    matrix = (C * rows.taps * cols.taps, n * height * cols.size)
    if rows.taps == cols.taps == 1 and n == 1:
        (down, seen_down), (across, seen_across) = (
            rows.inside(0, first, last, H),
            cols.inside(0, 0, cols.size, W),
        )
        seen = x[0, :, seen_down, seen_across]
        if seen.shape == (C, height, cols.size) and seen.flags.c_contiguous:
            return seen.reshape(matrix)  # the image is its own columns
    columns = scratch("columns", (C, rows.taps, cols.taps, n, height, cols.size), x.dtype)
    whole_rows = rows.step == cols.step == 1 and cols.size == W and x[0, 0].flags.c_contiguous
    flat = x.reshape(n, C, -1) if whole_rows else x
    for u in range(rows.taps):
        down, seen_down = rows.inside(u, first, last, H)
        for v in range(cols.taps):
            across, seen_across = cols.inside(v, 0, cols.size, W)
            part = columns[:, u, v]  # (C, n, rows, cols)
            if whole_rows:  # all rows in one piece, shifted; what ran over a row's end is cleared
                shift = seen_down.start * W + cols.start + cols.hop * v
                low = min(max(shift, 0), H * W)
                high = max(low, min(shift + (down.stop - down.start) * W, H * W))
                at = slice(down.start * W + low - shift, down.start * W + high - shift)
                part.reshape(C, n, -1)[:, :, at] = flat[:, :, low:high].swapaxes(0, 1)
            else:
                part[:, :, down, across] = x[:, :, seen_down, seen_across].swapaxes(0, 1)
            # What reaches over the border sees zeros.
            if across.start > 0:
                part[:, :, :, : across.start] = 0
            if across.stop < cols.size:
                part[:, :, :, across.stop :] = 0
        if down.start > 0:
            columns[:, u, :, :, : down.start] = 0
        if down.stop < height:
            columns[:, u, :, :, down.stop :] = 0
    return columns.reshape(matrix)


def pieces(a: int, b: int, L: int) -> int:
    """Into how many equal pieces to cut L, so that products of a x b x piece go unpacked; or 1."""
    count = -(-L * a * b // UNPACKED)
    while count < L and L % count:
        count += 1
    return count if 128 * count <= L else 1


def product(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """out = a @ b: (M, K) x (K, L) -> (M, L), in pieces along L."""
    count = pieces(len(a), len(b), b.shape[1])
    if count > 1:  # (M, K) x (P, K, L/P) -> (P, M, L/P)
        b, out = (m.reshape(len(m), count, -1).swapaxes(0, 1) for m in (b, out))
    np.matmul(a, b, out=out)


def product_over_pixels(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """out = a @ b^T: (M, L) x (N, L) -> (M, N), the longer of the two first is quicker."""
    if len(a) < len(b):
        product_over_pixels(b, a, out.T)
        return
    count = pieces(len(a), len(b), a.shape[1]) if len(a) * len(b) <= 1024 else 1
    if count == 1:
        np.matmul(a, b.T, out=out)
        return
    a, b = (m.reshape(len(m), count, -1).swapaxes(0, 1) for m in (a, b))
    # (P, M, L/P) x (P, L/P, N) -> (P, M, N)
    np.matmul(a, b.swapaxes(1, 2)).sum(axis=0, out=out)


def by_rows(C: int, rows: Axis) -> tuple[int, Axis, int]:
    """A kernel of three rows as three kernels of one row: how many, their Axis, and the rows that
    only some of them see. Where the stride or a small map forbids it, or for so few channels C that the
    products would be slim, the kernel as it is.

    Then only the taps along a row need laying side by side, a third of the copying, and one product
    serves all rows of the kernel, which is quicker: with few channels its cost is reading the columns.
    """
    beyond = rows.hop * (rows.taps - 1)
    if rows.step == 1 and 6 * beyond <= rows.size and C > 4:
        return rows.taps, rows._replace(taps=1), beyond
    return 1, rows, 0


def correlate(
    source: np.ndarray, weights: np.ndarray, rows: Axis, cols: Axis, out: np.ndarray
) -> None:
    """out[n,o,i,j] = sum over c,u,v of weights[o,c,u,v] * source[n, c, where tap (u,v) of (i,j) reads]

    source (N, C, H, W), weights (O, C, taps, taps) -> out (N, O, rows.size, cols.size), in place.
    """
    _over_columns(source, rows, cols, len(weights), weights, out, None)


def correlate_weights(source: np.ndarray, dy: np.ndarray, rows: Axis, cols: Axis) -> np.ndarray:
    """dw[o,c,u,v] = sum over n,i,j of dy[n,o,i,j] * source[n, c, where tap (u,v) of (i,j) reads]

    source (N, C, H, W), dy (N, O, rows.size, cols.size) -> (O, C, taps, taps).
    """
    return _over_columns(source, rows, cols, dy.shape[1], None, None, dy)


def correlate_both(
    source: np.ndarray, weights: np.ndarray, dy: np.ndarray, rows: Axis, cols: Axis, out: np.ndarray
) -> np.ndarray:
    """correlate into `out`, and the result of correlate_weights: the columns are the same, made once."""
    return _over_columns(source, rows, cols, len(weights), weights, out, dy)


def _over_columns(
    source: np.ndarray, rows: Axis, cols: Axis, O: int, weights: np.ndarray | None,
    out: np.ndarray | None, dy: np.ndarray | None,
) -> Any:  # fmt: skip
    """Make the columns of `source`, strip by strip, and multiply: with weights into out, with dy to
    dw, whichever are given."""
    N, C = source.shape[:2]
    kernel_rows, taken, beyond = by_rows(C, rows)
    taps = C * taken.taps * cols.taps
    if weights is not None:
        # (O, C, taps, taps) -> (taps, O, C, taps) -> (taps*O, C*taps), or (O, C*taps*taps)
        matrix = weights.transpose(2, 0, 1, 3) if kernel_rows > 1 else weights
        matrix = matrix.reshape(kernel_rows * O, -1)
    strips = cut(N, taps + kernel_rows * O, rows.size, cols.size, source.itemsize)
    parts = np.empty((0 if dy is None else len(strips), taps, kernel_rows * O), source.dtype)

    def multiply(columns: np.ndarray, target: np.ndarray) -> None:
        """target (n, O, rows, cols) = matrix x columns, the kernel's rows added one apart."""
        n, height = len(target), target.shape[2]
        if len(matrix) == O and n == 1 and target[0, 0].flags.c_contiguous:
            # (O, CKK) x (CKK, L) -> (O, L), straight into place
            product(matrix, columns, target.reshape(O, -1))
            return
        sums = scratch("product", (len(matrix), columns.shape[1]), target.dtype)
        product(matrix, columns, sums)  # (taps*O, C*taps) x (C*taps, L) -> (taps*O, L)
        by_row = sums.reshape(kernel_rows, O, n, height + beyond, cols.size).swapaxes(1, 2)
        shifted = [by_row[u, :, :, rows.hop * u :][:, :, :height] for u in range(kernel_rows)]
        if kernel_rows == 1:
            target[...] = shifted[0]
        else:
            np.add(shifted[0], shifted[1], out=target)
        for part in shifted[2:]:
            target += part

    def multiply_over_pixels(columns: np.ndarray, part: np.ndarray, dw: np.ndarray) -> None:
        """dw (C*taps, taps*O) = columns x part, (O, n, rows, cols), for each row of the kernel."""
        height = part.shape[2]
        if kernel_rows == part.shape[1] == 1 and part[0].flags.c_contiguous:
            maps = part.reshape(O, -1)
        else:  # a copy for each row of the kernel, shifted to where that row stands
            shape = (kernel_rows, *part.shape[:2], height + beyond, cols.size)
            shifted = scratch("product", shape, part.dtype)
            for u in range(kernel_rows):
                top = rows.hop * u
                shifted[u, :, :, top : top + height] = part
                shifted[u, :, :, :top] = 0
                shifted[u, :, :, top + height :] = 0
            maps = shifted.reshape(kernel_rows * O, -1)
        # (C*taps, L) x (L, taps*O) -> (C*taps, taps*O)
        product_over_pixels(columns, maps, dw)

    def work(number: int) -> None:
        images, first, last = strips[number]
        columns = side_by_side(source[images], taken, cols, first, last + beyond)
        if out is not None:
            multiply(columns, out[images, :, first:last])
        if dy is not None:
            multiply_over_pixels(columns, dy[images, :, first:last].swapaxes(0, 1), parts[number])

    for_each(work, len(strips))
    if dy is None:
        return None
    dw = parts.sum(axis=0)  # in strip order, whichever thread was first: the same bits every time
    # (C, taps, taps, O) or, by rows, (C, taps, KH, O) -> (O, C, KH, KW)
    if kernel_rows > 1:
        dw = dw.reshape(C, cols.taps, kernel_rows, O).transpose(3, 0, 2, 1)
    else:
        dw = dw.reshape(C, rows.taps, cols.taps, O).transpose(3, 0, 1, 2)
    return np.ascontiguousarray(dw)


def spread_apart(maps: np.ndarray, weights: np.ndarray, out: np.ndarray) -> None:
    """out[n, c, KH*i + u, KW*j + v] = sum over o of weights[o,c,u,v] * maps[n,o,i,j], in place.

    Spreading with a stride of the kernel's own size: no two copies of the kernel meet.
    maps (N, O, rows, cols), weights (O, C, KH, KW) -> out (N, C, KH*rows, KW*cols).
    """
    N, O, height, width = maps.shape
    C, KH, KW = weights.shape[1:]
    matrix = weights.transpose(2, 3, 1, 0).reshape(-1, O)  # (O, C, KH, KW) -> (KH*KW*C, O)
    rows, cols = Axis(0, 1, 1, 1, height), Axis(0, 1, 1, 1, width)
    strips = cut(N, O + len(matrix), height, width, maps.itemsize)

    def work(number: int) -> None:
        images, first, last = strips[number]
        columns = side_by_side(maps[images], rows, cols, first, last)
        sums = scratch("product", (len(matrix), columns.shape[1]), out.dtype)
        product(matrix, columns, sums)  # (KH*KW*C, O) x (O, L) -> (KH*KW*C, L)
        parts = sums.reshape(KH, KW, C, -1, last - first, width)
        target = out[images, :, KH * first : KH * last]
        for u in range(KH):
            for v in range(KW):
                target[:, :, u::KH, v::KW] = parts[u, v].swapaxes(0, 1)

    for_each(work, len(strips))


class Phases(NamedTuple):
    """An image taken apart: every s-th row and column, s*s small images that are channels of their own.

    A window of stride s takes whole steps on each of them, so that it is a window of stride 1 whose
    kernel is s times smaller: no step is left to read across. rows and cols say which positions the
    phases hold: number t of position i is the image's start + step*i + t, zero outside of it.
    """

    rows: Axis
    cols: Axis
    image: tuple[int, int]

    def places(self) -> Iterator[tuple]:
        """Each phase (r, q), what of it lies in the image, and where there."""
        for r in range(self.rows.taps):
            down, seen_down = self.rows.inside(r, 0, self.rows.size, self.image[0])
            for q in range(self.cols.taps):
                across, seen_across = self.cols.inside(q, 0, self.cols.size, self.image[1])
                yield (r, q), (down, across), (seen_down, seen_across)

    def of_image(self, x: np.ndarray) -> np.ndarray:
        """x (N, C, H, W) -> (N, C*s*s, rows.size, cols.size)."""
        N, C = x.shape[:2]
        size = self.rows.size, self.cols.size
        apart = empty((N, C, self.rows.taps, self.cols.taps, *size), x.dtype)

        def work(n: int) -> None:
            for (r, q), (down, across), (seen_down, seen_across) in self.places():
                part = apart[n, :, r, q]
                if (down.stop - down.start, across.stop - across.start) != size:
                    part[...] = 0
                part[:, down, across] = x[n][:, seen_down, seen_across]

        for_each(work, N)
        return apart.reshape(N, -1, *size)

    def to_image(self, apart: np.ndarray) -> np.ndarray:
        """The way back: (N, C*s*s, rows.size, cols.size) -> (N, C, H, W); 0 where no phase reaches."""
        parts = apart.reshape(len(apart), -1, self.rows.taps, self.cols.taps, *apart.shape[2:])
        x = empty((*parts.shape[:2], *self.image), apart.dtype)
        ends = (axis.start + axis.step * axis.size for axis in (self.rows, self.cols))
        whole = self.rows.start <= 0 >= self.cols.start and all(
            end >= n for end, n in zip(ends, self.image, strict=True)
        )

        def work(n: int) -> None:
            if not whole:
                x[n] = 0
            for (r, q), (down, across), (seen_down, seen_across) in self.places():
                x[n][:, seen_down, seen_across] = parts[n, :, r, q][:, down, across]

        for_each(work, len(x))
        return x

    def of_kernel(self, w: np.ndarray) -> np.ndarray:
        """w (O, C, KH, KW) -> (O, C*s*s, KH/s, KW/s)."""
        O, C, KH, KW = w.shape
        sh, sw = self.rows.taps, self.cols.taps
        apart = w.reshape(O, C, KH // sh, sh, KW // sw, sw).transpose(0, 1, 3, 5, 2, 4)
        return apart.reshape(O, -1, KH // sh, KW // sw)

    def to_kernel(self, apart: np.ndarray) -> np.ndarray:
        """The way back: (O, C*s*s, KH/s, KW/s) -> (O, C, KH, KW)."""
        O, _, k, m = apart.shape
        sh, sw = self.rows.taps, self.cols.taps
        w = apart.reshape(O, -1, sh, sw, k, m).transpose(0, 1, 4, 2, 5, 3)
        return w.reshape(O, -1, k * sh, m * sw)


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
