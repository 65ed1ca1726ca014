"""Arithmetic that no channel asks another about, a block of channels at a time.

Normalisation treats each channel for itself, a loss each image. A block of a few of them stays in a
core's cache from the first reading to the last writing, and every core takes blocks of its own.
"""

from collections.abc import Callable

import numpy as np

from minseg import memory
from minseg.backend import Array, array_module
from minseg.threads import for_each

BLOCK_BYTES = 1 << 20  # of one map: an op keeps two or three of them at hand
LEAST_BYTES = 1 << 20  # a smaller map is not worth sharing out


def empty(shape: tuple[int, ...], like: Array) -> Array:
    """An array of any shape to be filled, of the number type and on the device of `like`."""
    xp = array_module(like)
    return (memory if xp is np else xp).empty(shape, like.dtype)


def by_channel(work: Callable[..., None], *arrays: Array, axis: int = 1) -> None:
    """work(*arrays), a block of channels at a time: work(*(array[:, block] for array in arrays)).

    arrays (N, C, ...) or (1, C, ...), the same C in all; some of them are for `work` to fill. With
    axis=0 they are (N, ...), and the blocks are of whole images.
    """
    x = arrays[0]
    if array_module(x) is not np or x.ndim <= axis or x.nbytes < LEAST_BYTES or x.dtype == object:
        work(*arrays)
        return
    before = (slice(None),) * axis
    C = x.shape[axis]
    blocks = 4 * -(-x.nbytes // (4 * BLOCK_BYTES))  # so that two or four cores finish together
    size = -(-C // min(C, blocks))

    def of_block(number: int) -> None:
        block = (*before, slice(number * size, (number + 1) * size))
        work(*(array[block] for array in arrays))

    for_each(of_block, -(-C // size))


def total(x: Array) -> Array:
    """The sum over each channel: (N, C, ...) -> (1, C, 1, ...)."""
    return dot(x, None)


def dot(x: Array, y: Array | None) -> Array:
    """The sum of x * y over each channel: (N, C, ...), (N, C, ...) -> (1, C, 1, ...)."""
    axes = (0, *range(2, x.ndim))
    if array_module(x) is np and x.dtype.kind == "f" and x.ndim > 2:
        rows = x.reshape(*x.shape[:2], -1)  # (N, C, L); BLAS adds up a row faster than sum does
        other = np.ones(rows.shape[2], x.dtype) if y is None else y.reshape(rows.shape)
        each = np.vecdot(rows, other)  # (N, C)
        return each.sum(axis=0).reshape(1, -1, *(1,) * (x.ndim - 2))
    return (x if y is None else x * y).sum(axis=axes, keepdims=True)
