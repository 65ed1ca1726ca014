"""Sliding windows on plain arrays: every convolution of this package, in three words.

For an image x, a kernel w and an output map y, add up x * w * y over every window. That one sum,
linear in each of the three, has three partial derivatives, and they are all there is:

    <y, slide(x, w)>  =  <spread(y, w), x>  =  <overlap(x, y), w>

slide is convolution (a kernel slides over the image), spread is transposed convolution (every pixel
of y spreads a copy of the kernel: `X[i:i+h, j:j+w] += Y[i, j] * K`), overlap is the gradient in
the kernel. Each is the gradient of the others.

Source: University of Waterloo, "Methods for Upsampling" and "Fractionally-strided Convolution";
Dumoulin and Visin, A guide to convolution arithmetic (2016).
"""

from functools import cached_property
from typing import Any

import numpy as np

from minseg import cuda, strips
from minseg.backend import Array, array_module
from minseg.memory import empty

Pair = tuple[int, int]


def output_size(
    n: int, kernel_size: int, stride: int = 1, padding: int = 0, dilation: int = 1
) -> int:
    """How many places a window has along one axis:

        floor((n + 2*padding - dilation*(kernel_size - 1) - 1) / stride) + 1

    n, kernel_size, stride, dilation in pixels, padding in pixels on either side.

    Raises:
        TypeError: an argument that is no int.
        ValueError: a size, kernel, stride or dilation below 1, a negative padding, or a kernel
            that reaches further than the padded image.

    Source: University of Waterloo, "Standard Convolution"; Dumoulin and Visin (2016), relationship
    6.
    """
    named = dict(n=n, kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation)
    for name, value in named.items():
        least = 0 if name == "padding" else 1
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            raise TypeError(f"output_size: {name} must be an int, got {value!r}")
        if value < least:
            raise ValueError(f"output_size: {name} must be at least {least}, got {value}")
    reach = dilation * (kernel_size - 1) + 1
    if reach > n + 2 * padding:
        raise ValueError(
            f"output_size: a kernel that reaches over {reach} pixels does not fit into "
            f"{n + 2 * padding} (n = {n} with padding {padding} on both sides)"
        )
    return (n + 2 * padding - reach) // stride + 1


class Windows:
    """The windows of a (KH, KW) kernel on an (H, W) image, and the three contractions over them.

    Window (i, j) holds the pixels x[s*i + d*u - p, s*j + d*v - p] for u < KH, v < KW; pixels
    outside the image are 0. `padding` is ((top, bottom), (left, right)); negative padding crops.
    With groups, the C channels and O outputs fall into that many blocks that do not see each other.

    Shapes: x (N, C, H, W), w (O, C/groups, KH, KW), y (N, O, OH, OW).
    """

    def __init__(
        self,
        image_size: Pair,
        kernel_size: Pair,
        stride: Pair = (1, 1),
        padding: tuple[Pair, Pair] = ((0, 0), (0, 0)),
        dilation: Pair = (1, 1),
        groups: int = 1,
    ) -> None:
        self.H, self.W = image_size
        self.KH, self.KW = kernel_size
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups
        self.OH, self.OW = (
            (n + before + after - d * (k - 1) - 1) // s + 1
            for n, (before, after), d, k, s in zip(
                image_size, padding, dilation, kernel_size, stride, strict=True
            )
        )

    # The three contractions.

    def slide(self, x: Array, w: Array) -> Array:
        """y[n,o,i,j] = sum over c,u,v of w[o,c,u,v] x[n, c, s*i + d*u - p, s*j + d*v - p]

        x (N, C, H, W), w (O, C/groups, KH, KW) -> (N, O, OH, OW).
        """
        if fast(x, w):
            return self._slide_in_strips(x, w)
        if cuda.serves((self.H, self.W), *self._axes(), x, w):
            return cuda.slide(x, w, *self._axes(), self.groups)
        windows = self.gather(x)  # (C, KH, KW, N, OH, OW)
        y = [
            # (O, CKK) x (CKK, NL) -> (O, NL), a group at a time
            flat(w_block) @ block.reshape(flat(w_block).shape[1], -1)
            for w_block, block in zip(self._split(w), self._split(windows), strict=True)
        ]
        shape = (len(w), len(x), self.OH, self.OW)
        return contiguous(join(y).reshape(shape).swapaxes(0, 1))  # (O, N, ...) -> (N, O, OH, OW)

    def spread(self, y: Array, w: Array) -> Array:
        """x[n, c, s*i + d*u - p, s*j + d*v - p] += w[o,c,u,v] y[n,o,i,j] for every n,o,c,i,j,u,v

        y (N, O, OH, OW), w (O, C/groups, KH, KW) -> (N, C, H, W).
        """
        if fast(y, w):
            return self._spread_in_strips(y, w)
        if cuda.serves((self.H, self.W), *self._axes(), y, w):
            return cuda.spread(y, w, *self._axes(), (self.H, self.W), self.groups)
        maps = y.swapaxes(0, 1)  # (O, N, OH, OW)
        windows = [
            # (CKK, O) x (O, NL) -> (CKK, NL), a group at a time
            flat(w_block).T @ contiguous(block).reshape(len(block), -1)
            for w_block, block in zip(self._split(w), self._split(maps), strict=True)
        ]
        C = w.shape[1] * self.groups
        shape = (C, self.KH, self.KW, len(y), self.OH, self.OW)
        return self.scatter(join(windows).reshape(shape))

    def overlap(self, x: Array, y: Array) -> Array:
        """w[o,c,u,v] = sum over n,i,j of y[n,o,i,j] x[n, c, s*i + d*u - p, s*j + d*v - p]

        x (N, C, H, W), y (N, O, OH, OW) -> (O, C/groups, KH, KW).
        """
        if fast(x, y):
            return self._overlap_in_strips(x, y)
        if cuda.serves((self.H, self.W), *self._axes(), x, y):
            return cuda.overlap(x, y, *self._axes(), self.groups)
        maps = contiguous(y.swapaxes(0, 1))  # (O, N, OH, OW)
        windows = self.gather(x)  # (C, KH, KW, N, OH, OW)
        w = [
            # (O, NL) x (NL, CKK) -> (O, CKK), a group at a time
            map_block.reshape(len(map_block), -1)
            @ block.reshape(len(block) * self.KH * self.KW, -1).T
            for map_block, block in zip(self._split(maps), self._split(windows), strict=True)
        ]
        return join(w).reshape(y.shape[1], x.shape[1] // self.groups, self.KH, self.KW)

    # Two at once, where they read the same columns: the two gradients of a convolution.

    def spread_and_overlap(self, y: Array, w: Array, x: Array) -> tuple[Array, Array]:
        """(spread(y, w), overlap(x, y)): the gradients of slide, from its dy.

        y (N, O, OH, OW), w (O, C/groups, KH, KW), x (N, C, H, W) -> shapes of x and of w.
        """
        if fast(x, w, y) and self.stride == (1, 1) and self.groups == 1:
            dx = empty((len(y), w.shape[1], self.H, self.W), y.dtype)
            (top, _), (left, _) = self.padding
            ((_, _, rows),) = strips.phases(self.H, self.KH, 1, top, self.dilation[0])
            ((_, _, cols),) = strips.phases(self.W, self.KW, 1, left, self.dilation[1])
            turned = w[:, :, ::-1, ::-1].swapaxes(0, 1)  # (O, C, KH, KW) -> (C, O, KH, KW)
            # Where a pixel of dy goes to by a turned tap, x is what that tap of w met it with.
            dw = strips.correlate_both(y, turned, x, rows, cols, dx)
            return dx, contiguous(dw[:, :, ::-1, ::-1].swapaxes(0, 1))
        return self.spread(y, w), self.overlap(x, y)

    def slide_and_overlap(self, x: Array, w: Array, y: Array) -> tuple[Array, Array]:
        """(slide(x, w), overlap(x, y)): the gradients of spread, from its dy.

        x (N, C, H, W), w (O, C/groups, KH, KW), y (N, O, OH, OW) -> shapes of y and of w.
        """
        if not fast(x, w, y) or self.groups != 1:
            return self.slide(x, w), self.overlap(x, y)
        if self._in_phases:
            windows, phases = self._in_phases
            both = windows.slide_and_overlap(phases.of_image(x), phases.of_kernel(w), y)
            return both[0], phases.to_kernel(both[1])
        dy = empty((len(x), len(w), self.OH, self.OW), x.dtype)
        return dy, strips.correlate_both(x, w, y, *self._axes(), dy)

    # Gather and scatter, each the transpose of the other: KH*KW slices, never a loop over pixels.

    def gather(self, x: Array) -> Array:
        """Every window laid out: x (N, C, H, W) -> (C, KH, KW, N, OH, OW)."""
        N, C = x.shape[:2]
        xp = array_module(x)
        padded = xp.zeros((C, N, *self._padded_size), x.dtype)
        image, inside = self._placement
        padded[:, :, inside[0], inside[1]] = x[:, :, image[0], image[1]].swapaxes(0, 1)
        windows = xp.empty((C, self.KH, self.KW, N, self.OH, self.OW), x.dtype)
        for u in range(self.KH):
            for v in range(self.KW):
                windows[:, u, v] = padded[:, :, self._tap(0, u), self._tap(1, v)]
        return windows

    def scatter(self, windows: Array) -> Array:
        """Every window added back where it came from: (C, KH, KW, N, OH, OW) -> (N, C, H, W)."""
        C, N = len(windows), windows.shape[3]
        xp = array_module(windows)
        padded = xp.zeros((C, N, *self._padded_size), windows.dtype)
        for u in range(self.KH):
            for v in range(self.KW):
                padded[:, :, self._tap(0, u), self._tap(1, v)] += windows[:, u, v]
        x = xp.zeros((N, C, self.H, self.W), windows.dtype)
        image, inside = self._placement
        x[:, :, image[0], image[1]] = padded[:, :, inside[0], inside[1]].swapaxes(0, 1)
        return x

    def _tap(self, axis: int, tap: int) -> slice:
        """The padded pixels that tap number `tap` of every window sees, along one axis."""
        first = self.dilation[axis] * tap
        step, count = self.stride[axis], (self.OH, self.OW)[axis]
        return slice(first, first + step * (count - 1) + 1, step)

    @property
    def _padded_size(self) -> Pair:
        (top, bottom), (left, right) = self.padding
        return self.H + top + bottom, self.W + left + right

    @cached_property
    def _placement(self) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Which part of the image lies in the padded image (all, unless cropped), and where there."""
        image = [
            # a crop may be deeper than the image: then nothing of it is left
            slice(min(n, max(0, -before)), max(min(n, max(0, -before)), n - max(0, -after)))
            for n, (before, after) in zip((self.H, self.W), self.padding, strict=True)
        ]
        inside = [
            slice(max(0, before), max(0, before) + part.stop - part.start)
            for part, (before, _) in zip(image, self.padding, strict=True)
        ]
        return (image[0], image[1]), (inside[0], inside[1])

    def _split(self, array: Array) -> list[Array]:
        """The first axis in `groups` equal blocks."""
        size = len(array) // self.groups
        return [array[g * size : (g + 1) * size] for g in range(self.groups)]

    # The fast forms, for floats on the processor: the same sums, a strip of rows at a time.

    def _axes(self) -> tuple[strips.Axis, strips.Axis]:
        """How windows read the image, along rows and along columns."""
        sizes = zip(
            self.padding, self.stride, self.dilation, (self.KH, self.KW), (self.OH, self.OW),
            strict=True,
        )  # fmt: skip
        rows, cols = (strips.Axis(-before, s, d, k, n) for (before, _), s, d, k, n in sizes)
        return rows, cols

    @cached_property
    def _in_phases(self) -> "tuple[Windows, strips.Phases] | None":
        """The same windows with stride 1, over an image taken apart into its phases; None where the
        stride does not divide the kernel, or where there is nothing to gain."""
        (sh, sw), (KH, KW) = self.stride, (self.KH, self.KW)
        if (
            (KH % sh, KW % sw, self.dilation) != (0, 0, (1, 1))
            or sh * sw == KH * KW
            or sh * sw == 1
        ):
            return None
        (top, _), (left, _) = self.padding
        size = self.OH + KH // sh - 1, self.OW + KW // sw - 1
        rows, cols = strips.Axis(-top, sh, 1, sh, size[0]), strips.Axis(-left, sw, 1, sw, size[1])
        windows = Windows(size, (KH // sh, KW // sw), groups=self.groups)
        return windows, strips.Phases(rows, cols, (self.H, self.W))

    def _slide_in_strips(self, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        if self._in_phases:
            windows, phases = self._in_phases
            return windows._slide_in_strips(phases.of_image(x), phases.of_kernel(w))
        y = empty((len(x), len(w), self.OH, self.OW), x.dtype)
        C, O = w.shape[1], len(w) // self.groups
        for g, block in enumerate(self._split(w)):
            source, target = x[:, g * C : (g + 1) * C], y[:, g * O : (g + 1) * O]
            strips.correlate(source, block, *self._axes(), target)
        return y

    def _overlap_in_strips(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        if self._in_phases:
            windows, phases = self._in_phases
            return phases.to_kernel(windows._overlap_in_strips(phases.of_image(x), y))
        C, O = x.shape[1] // self.groups, y.shape[1] // self.groups
        blocks = [
            strips.correlate_weights(
                x[:, g * C : (g + 1) * C], y[:, g * O : (g + 1) * O], *self._axes()
            )
            for g in range(self.groups)
        ]
        return join(blocks)

    def _spread_in_strips(self, y: np.ndarray, w: np.ndarray) -> np.ndarray:
        """No scatter: gather y under the turned kernel, once for each phase of the stride."""
        if self._in_phases:
            windows, phases = self._in_phases
            return phases.to_image(windows._spread_in_strips(y, phases.of_kernel(w)))
        C, O = w.shape[1], len(w) // self.groups
        x = empty((len(y), C * self.groups, self.H, self.W), y.dtype)
        tiles = (self.KH * self.OH, self.KW * self.OW) == (self.H, self.W)
        if tiles and self.stride == (self.KH, self.KW) and self.padding == ((0, 0), (0, 0)):
            for g, block in enumerate(self._split(w)):
                strips.spread_apart(y[:, g * O : (g + 1) * O], block, x[:, g * C : (g + 1) * C])
            return x
        (top, _), (left, _) = self.padding
        vertical = strips.phases(self.H, self.KH, self.stride[0], top, self.dilation[0])
        horizontal = strips.phases(self.W, self.KW, self.stride[1], left, self.dilation[1])
        sideways = list(horizontal)
        for rows_at, taps_down, rows in vertical:
            for cols_at, taps_across, cols in sideways:
                target = x[:, :, rows_at, cols_at]
                if rows is None or cols is None:
                    target[...] = 0
                    continue
                for g, block in enumerate(self._split(w)):
                    # (O, C, taps) -> (C, O, taps turned round)
                    turned = block[:, :, taps_down, taps_across][:, :, ::-1, ::-1].swapaxes(0, 1)
                    source = y[:, g * O : (g + 1) * O]
                    strips.correlate(source, turned, rows, cols, target[:, g * C : (g + 1) * C])
        return x


def flat(w: Array) -> Array:
    """A kernel as a matrix: (O, C, KH, KW) -> (O, C*KH*KW)."""
    return w.reshape(len(w), -1)


def join(blocks: list[Array]) -> Array:
    """Blocks of a grouped result one below the other."""
    return blocks[0] if len(blocks) == 1 else array_module(*blocks).concatenate(blocks)


def contiguous(array: Array) -> Array:
    """The array in C order, so that the next matrix product or reshape copies nothing."""
    return array_module(array).ascontiguousarray(array)


def fast(*arrays: Any) -> bool:
    """Do the strips serve these arrays? They do for NumPy arrays of one float type."""
    return (
        array_module(*arrays) is np
        and arrays[0].dtype in (np.float32, np.float64)
        and all(array.dtype == arrays[0].dtype for array in arrays)
    )
