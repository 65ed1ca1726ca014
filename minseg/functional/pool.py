"""Pooling: one number for each window, its largest or its mean; and unpooling, the way back.

No loop over pixels and no scattered additions: one slice of the image for each of the KH*KW taps.

Source: Drake University, CS195 (2024), "SegNet" and "PSPNet"; ENSTA Paris, CSC_5RO13, "Unpooling";
Badrinarayanan, Kendall and Cipolla, SegNet (2015), for pooling indices.
"""

from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from minseg import cuda
from minseg.arguments import Pair, array, floats, images, integer, pair
from minseg.backend import Array, array_module
from minseg.channels import empty
from minseg.functional.basic import takes_planes
from minseg.functional.resize import adaptive_matrix, resize
from minseg.strips import Axis
from minseg.tensor import differentiable


class _Tap(NamedTuple):
    """One tap of the window: which outputs it serves, and the pixel it sees from each of them."""

    number: int
    outputs: tuple  # index (:, :, rows, columns) into the (N, C, OH, OW) outputs
    pixels: tuple  # index (:, :, rows, columns) into the (N, C, H, W) image


class _Pooling:
    """The windows of a pooling op on x (N, C, H, W); taps that fall outside the image do not count."""

    def __init__(
        self, name: str, x: Array, kernel_size: Any, stride: Any, padding: Any, dilation: Any,
        ceil_mode: bool,
    ) -> None:  # fmt: skip
        images(name, x)
        self.image: Pair = x.shape[2:]
        self.kernel = pair(name, "kernel_size", kernel_size, 1)
        self.stride = self.kernel if stride is None else pair(name, "stride", stride, 1)
        self.padding = pair(name, "padding", padding, 0)
        self.dilation = pair(name, "dilation", dilation, 1)
        sizes = []
        for n, k, s, p, d in zip(
            self.image, self.kernel, self.stride, self.padding, self.dilation, strict=True
        ):
            reach = d * (k - 1) + 1
            if 2 * p > reach:
                raise ValueError(
                    f"{name}: padding {padding} must be at most half of kernel_size {kernel_size} "
                    f"(with dilation {dilation}), or a window could see nothing but padding"
                )
            room = n + 2 * p - reach
            if room < 0:
                raise ValueError(
                    f"{name}: kernel_size {kernel_size} with dilation {dilation} reaches over {reach} "
                    f"pixels, more than x {x.shape} with padding {padding} has ({n + 2 * p})"
                )
            size = (-(-room // s) if ceil_mode else room // s) + 1
            if ceil_mode and (size - 1) * s >= n + p:
                size -= 1  # the last window must begin inside the image or its padding before it
            sizes.append(size)
        self.size: Pair = (sizes[0], sizes[1])
        for axis, (n, k, d) in enumerate(zip(self.image, self.kernel, self.dilation, strict=True)):
            first = self.first_tap(axis)
            if ((first >= k) | (self.starts(axis) + d * first >= n)).any():
                raise ValueError(
                    f"{name}: with kernel_size {kernel_size}, dilation {dilation} and padding "
                    f"{padding} a window sees nothing of x {x.shape} but padding"
                )

    def starts(self, axis: int) -> np.ndarray:
        """The pixel each window begins at along an axis, negative inside the padding."""
        return np.arange(self.size[axis]) * self.stride[axis] - self.padding[axis]

    def axes(self) -> tuple[Axis, Axis]:
        """How windows read the image, along rows and along columns."""
        sizes = zip(self.padding, self.stride, self.dilation, self.kernel, self.size, strict=True)
        rows, cols = (Axis(-p, s, d, k, n) for p, s, d, k, n in sizes)
        return rows, cols

    def taps(self) -> list[_Tap]:
        """The taps in reading order."""
        taps = []
        for number in range(self.kernel[0] * self.kernel[1]):
            outputs: tuple = (slice(None), slice(None))
            pixels: tuple = (slice(None), slice(None))
            for axis, tap in enumerate(divmod(number, self.kernel[1])):
                s, n = self.stride[axis], self.image[axis]
                offset = self.dilation[axis] * tap - self.padding[axis]
                # outputs i with 0 <= s*i + offset < n
                first = max(0, -(offset // s))
                end = min(self.size[axis], -((offset - n) // s))
                outputs += (slice(first, max(first, end)),)
                start = s * first + offset
                pixels += (slice(start, start + s * (max(first, end) - first), s),)
            if all(part.start < part.stop for part in outputs[2:]):
                taps.append(_Tap(number, outputs, pixels))
        return taps

    @property
    def disjoint(self) -> bool:
        """No pixel lies in two windows."""
        return all(
            s >= d * (k - 1) + 1
            for s, d, k in zip(self.stride, self.dilation, self.kernel, strict=True)
        )

    def first_tap(self, axis: int) -> np.ndarray:
        """For each window along an axis, its first tap inside the image."""
        return np.maximum(0, -(self.starts(axis) // self.dilation[axis]))


@differentiable
@takes_planes(1)
def max_pool2d(
    x: Array,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest number in each window:  y[n,c,i,j] = max over u,v of x[n, c, s*i+d*u-p, s*j+d*v-p]

    x (N, C, H, W) -> (N, C, OH, OW), or one plane (H, W) -> (OH, OW); sizes in pixels, an int or a
    pair. stride is kernel_size where None. Padding never wins. OH = output_size(H, ...), rounded up
    with ceil_mode. With return_indices also where each maximum stood: row * W + column in its own
    plane, int64, as max_unpool2d and PyTorch want it. Of equal maxima the first in reading order
    wins, and it alone receives the gradient. NaN in a window makes its maximum NaN.

    Raises:
        TypeError, ValueError: a window larger than the padded image, a padding of more than half
            the window.

    Source: Drake University, CS195 (2024), "SegNet"; Badrinarayanan et al. (2015), section 3.
    """
    xp = array_module(x)
    windows = _Pooling("max_pool2d", x, kernel_size, stride, padding, dilation, ceil_mode)
    axes = windows.axes()
    if cuda.serves(windows.image, *axes, x):
        y, places = cuda.max_pool(x, *axes)

        def sent_back(dy: Array) -> Array:
            return cuda.max_pool_gradient(dy, places, *axes, windows.image)

        return (y, places.astype(np.int64)) if return_indices else y, (sent_back,)
    KW = windows.kernel[1]
    taps = windows.taps()
    shape = (*x.shape[:2], *windows.size)
    lowest = (
        np.iinfo(x.dtype).min if x.dtype.kind in "iu" else False if x.dtype == bool else -np.inf
    )
    y = xp.full(shape, lowest, x.dtype)
    # winner: the number of the winning tap. It starts at the window's first tap inside the image;
    # later taps have larger numbers, so where one is larger than all before it, the maximum of
    # the two numbers is the new winner, with no branch.
    number_type = np.uint8 if windows.kernel[0] * KW <= 256 else np.int64
    rows, columns = windows.first_tap(0), windows.first_tap(1)
    first = xp.asarray((rows[:, None] * KW + columns).astype(number_type))  # (OH, OW)
    winner = xp.empty(shape, number_type)
    winner[...] = first
    for tap in taps:
        seen, best, number = x[tap.pixels], y[tap.outputs], winner[tap.outputs]
        larger = seen > best
        xp.maximum(number, larger * number_type(tap.number), out=number)
        xp.maximum(best, seen, out=best)

    def grad_x(dy: Array) -> Array:
        dx = xp.zeros(x.shape, dy.dtype)
        for tap in taps:
            won = winner[tap.outputs] == tap.number
            if windows.disjoint:
                dx[tap.pixels] = dy[tap.outputs] * won
            else:
                dx[tap.pixels] += dy[tap.outputs] * won
        return dx

    if not return_indices:
        return y, (grad_x,)
    top, left = xp.asarray(windows.starts(0)), xp.asarray(windows.starts(1))
    tap_row, tap_column = winner // KW, winner % KW
    row = top[:, None] + windows.dilation[0] * tap_row.astype(np.int64)
    column = left + windows.dilation[1] * tap_column.astype(np.int64)
    return (y, row * x.shape[3] + column), (grad_x,)


def _put_last(x: Array, places: Array, size: int) -> tuple[Array, Callable[[Array], Array]]:
    """y (N, C, size) with y[n, c, places[n,c,l]] = x[n,c,l], the last l winning; and its gradient.

    x and places (N, C, L). The gradient takes dy (N, C, size) to dx (N, C, L).
    """
    xp = array_module(x)
    order = xp.broadcast_to(xp.arange(x.shape[2]), places.shape)
    if xp is np:  # NumPy promises that the last of several values stays
        N, C, _ = x.shape
        flat = (places + size * np.arange(N * C).reshape(N, C, 1)).reshape(-1)
        y = empty((N, C, size), x)
        y[...] = 0
        y.reshape(-1)[flat] = x.reshape(-1)

        def grad(dy: Array) -> Array:
            dx = dy.reshape(-1)[flat].reshape(x.shape)
            met = np.zeros(dy.size, bool)
            met[flat] = True
            if np.count_nonzero(met) == flat.size:  # no two went to one place
                return dx
            owner = np.zeros(dy.size, order.dtype)
            owner[flat] = order.reshape(-1)
            return np.where(owner[flat].reshape(x.shape) == order, dx, 0)

        return y, grad
    # CuPy promises nothing, so ask who is last
    owners = cuda.last_owner(places, size)
    y = xp.where(owners < 0, 0, xp.take_along_axis(x, xp.maximum(owners, 0), axis=2))

    def grad_on_card(dy: Array) -> Array:
        stays = xp.take_along_axis(owners, places, axis=2) == order
        return xp.where(stays, xp.take_along_axis(dy, places, axis=2), 0)

    return y, grad_on_card


@differentiable
@takes_planes(2)
def max_unpool2d(
    x: Array,
    indices: Array,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Any:
    """The way back from max_pool2d: each number goes to where its maximum stood, zeros elsewhere.

        y[n, c].flat[indices[n,c,i,j]] = x[n,c,i,j]

    x and indices (N, C, H, W) -> (N, C, OH, OW) with OH = (H - 1) s - 2p + k, or output_size (OH, OW)
    where pooling rounded down; or planes (H, W) -> (OH, OW). Where two indices are equal (windows
    that overlapped) the last one in reading order stays, and it alone has a gradient (PyTorch gives
    one to both).

    Raises:
        TypeError, ValueError: indices of another shape than x, not integers, or outside the output.

    Source: Drake University, CS195 (2024), "SegNet"; Badrinarayanan et al. (2015).
    """
    name = "max_unpool2d"
    xp = array_module(x)
    images(name, x)
    if array(name, "indices", indices).dtype.kind not in "iu" or indices.shape != x.shape:
        raise ValueError(
            f"max_unpool2d: indices must be integers of x's shape {x.shape}, as max_pool2d(..., "
            f"return_indices=True) gives them, got {indices.dtype} of shape {indices.shape}"
        )
    k = pair(name, "kernel_size", kernel_size, 1)
    s = k if stride is None else pair(name, "stride", stride, 1)
    p = pair(name, "padding", padding, 0)
    if output_size is None:
        output_size = tuple(
            (n - 1) * sn - 2 * pn + kn for n, kn, sn, pn in zip(x.shape[2:], k, s, p, strict=True)
        )
    if isinstance(output_size, (tuple, list)):
        output_size = output_size[-2:]  # PyTorch's whole shape (N, C, OH, OW) will do as well
    OH, OW = pair(name, "output_size", output_size, 1)
    low, high = (int(indices.min()), int(indices.max())) if indices.size else (0, 0)
    if low < 0 or high >= OH * OW:
        raise ValueError(
            f"max_unpool2d: indices must lie in 0..{OH * OW - 1}, the pixels of an output plane "
            f"({OH}, {OW}), got {low if low < 0 else high}; if pooling rounded down, pass output_size"
        )
    N, C, H, W = x.shape
    flat = xp.ascontiguousarray(indices).reshape(N, C, H * W)  # so that "last" means reading order
    y, gradient = _put_last(x.reshape(N, C, H * W), flat, OH * OW)

    def grad_x(dy: Array) -> Array:
        return gradient(dy.reshape(N, C, OH * OW)).reshape(x.shape)

    return y.reshape(N, C, OH, OW), (grad_x, None)


@differentiable
@takes_planes(1)
def avg_pool2d(
    x: Array,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """The mean of each window:  y[n,c,i,j] = 1/count * sum over u,v of x[n, c, s*i+u-p, s*j+v-p]

    x (N, C, H, W) -> (N, C, OH, OW), or one plane (H, W) -> (OH, OW). count is the window's size
    with padding counted in, unless count_include_pad is False; or divisor_override. Integers are
    refused, since their mean is none; Fractions give exact means.

    Raises:
        TypeError, ValueError: integers, a window larger than the padded image, a padding of more
            than half the window, divisor_override below 1.

    Source: Drake University, CS195 (2024), "PSPNet".
    """
    xp = array_module(x)
    windows = _Pooling("avg_pool2d", x, kernel_size, stride, padding, 1, ceil_mode)
    floats("avg_pool2d", "x", x)
    counts = []
    for axis in (0, 1):  # how many pixels of a window count, along each axis
        n, p = windows.image[axis], windows.padding[axis]
        start = windows.starts(axis)
        end = np.minimum(
            start + windows.kernel[axis], n + p
        )  # ceil_mode may reach beyond the padding
        counts.append(
            end - start if count_include_pad else np.minimum(end, n) - np.maximum(start, 0)
        )
    count = counts[0][:, None] * counts[1]  # (OH, OW)
    if divisor_override is not None:
        count = np.full_like(count, integer("avg_pool2d", "divisor_override", divisor_override, 1))
    share = np.array([[Fraction(1, int(c)) for c in row] for row in count]).astype(x.dtype)
    share = xp.asarray(share)
    taps = windows.taps()
    total = xp.zeros((*x.shape[:2], *windows.size), x.dtype)
    for tap in taps:
        total[tap.outputs] += x[tap.pixels]

    def grad_x(dy: Array) -> Array:
        dx = xp.zeros(x.shape, dy.dtype)
        dy = dy * share
        for tap in taps:
            dx[tap.pixels] += dy[tap.outputs]
        return dx

    return total * share, (grad_x,)


@differentiable
@takes_planes(1)
def adaptive_avg_pool2d(x: Array, output_size: Any) -> Any:
    """Means over bins that tile the image, however large it is: pyramid pooling's 1, 2, 3, 6.

    Bin i of OH along H covers pixels floor(i H/OH) .. ceil((i+1) H/OH) - 1; bins overlap by a pixel
    where OH does not divide H. x (N, C, H, W) -> (N, C, OH, OW), or one plane (H, W) -> (OH, OW).

    Raises:
        TypeError, ValueError: integers, an output_size below 1.

    Source: Drake University, CS195 (2024), "PSPNet"; Zhao et al., Pyramid Scene Parsing Network
    (2017).
    """
    images("adaptive_avg_pool2d", x)
    floats("adaptive_avg_pool2d", "x", x)
    size = pair("adaptive_avg_pool2d", "output_size", output_size, 1)
    down, across = (adaptive_matrix(n, m, x.dtype) for n, m in zip(x.shape[2:], size, strict=True))
    return resize(x, down, across)


def global_avg_pool2d(x: Any) -> Any:
    """The mean of each whole plane: x (N, C, H, W) -> (N, C, 1, 1), or (H, W) -> (1, 1).

    Raises:
        TypeError, ValueError: as adaptive_avg_pool2d.

    Source: Lin, Chen and Yan, Network In Network (2013).
    """
    return adaptive_avg_pool2d(x, 1)


def global_max_pool2d(x: Any) -> Any:
    """The largest number of each whole plane: x (N, C, H, W) -> (N, C, 1, 1), or (H, W) -> (1, 1).

    Raises:
        TypeError, ValueError: as max_pool2d.

    Source: Oquab et al., Is object localization for free? (2015).
    """
    return max_pool2d(x, x.shape[-2:] if hasattr(x, "shape") else 1)
