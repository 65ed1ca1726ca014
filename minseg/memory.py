"""Memory for maps: what one step of a training is done with, the next one uses again.

A system hands out fresh memory by pages of 4 KB and clears each when it is first touched. For a map
of a few megabytes that takes longer than the arithmetic on it.
"""

import os
import threading
from collections import deque
from math import prod
from typing import Any

import numpy as np

LEAST_BYTES = 1 << 16  # of smaller arrays the system itself keeps the memory
LINE_BYTES = 64  # memory reaches a core in lines: an array that begins with one is read faster

_scratch = threading.local()


def scratch(name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """A work array of this thread's own, its contents left over from the last use of that name."""
    buffers = _scratch.__dict__
    nbytes = prod(shape) * dtype.itemsize
    if name not in buffers or buffers[name].nbytes < nbytes:
        buffers[name] = _aligned(nbytes)
    return buffers[name][:nbytes].view(dtype).reshape(shape)


def empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """As np.empty: an array of any shape, its contents left over from whatever.

    Its memory is lent again when the last array that looks at it is gone. What is lent and what is
    kept to be lent are together never more than was lent at one time before.
    """
    dtype = np.dtype(dtype)
    nbytes = prod(shape) * dtype.itemsize
    if nbytes < LEAST_BYTES or dtype.hasobject:
        return np.empty(shape, dtype)
    return np.asarray(_Loan(_lender.lend(nbytes), shape, dtype))


def _aligned(nbytes: int) -> np.ndarray:
    memory = np.empty(nbytes + LINE_BYTES, np.uint8)
    first = -memory.__array_interface__["data"][0] % LINE_BYTES
    return memory[first : first + nbytes]


class _Loan:
    """What an array has its memory from; gone with the last array that looks at it."""

    __slots__ = ("__array_interface__", "memory")

    def __init__(self, memory: np.ndarray, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.memory = memory
        self.__array_interface__ = memory.__array_interface__ | dict(shape=shape, typestr=dtype.str)

    def __del__(self) -> None:
        _lender.returned.append(self.memory)


class _Lender:
    """Blocks of memory: some lent, the others kept by size, the size used longest ago first."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.returned: deque[np.ndarray] = deque()  # filled without the lock, whenever a loan ends
        self.kept: dict[int, list[np.ndarray]] = {}
        self.lent_bytes = self.kept_bytes = self.most_lent = 0

    def lend(self, nbytes: int) -> np.ndarray:
        with self.lock:
            while self.returned:
                block = self.returned.popleft()
                self.lent_bytes -= block.nbytes
                self.kept_bytes += block.nbytes
                self.kept.setdefault(block.nbytes, []).append(block)
            memory = self._take(nbytes) if nbytes in self.kept else None
            self.lent_bytes += nbytes
            self.most_lent = max(self.most_lent, self.lent_bytes)
            while self.lent_bytes + self.kept_bytes > self.most_lent:
                self._take(next(iter(self.kept)))
        return _aligned(nbytes) if memory is None else memory

    def _take(self, nbytes: int) -> np.ndarray:
        """A kept block of that size, which becomes the size used last."""
        blocks = self.kept.pop(nbytes)
        if len(blocks) > 1:
            self.kept[nbytes] = blocks
        self.kept_bytes -= nbytes
        return blocks.pop()


_lender = _Lender()


def _unlock() -> None:
    _lender.lock = threading.Lock()


if hasattr(os, "register_at_fork"):  # another thread of the parent may have held the lock
    os.register_at_fork(after_in_child=_unlock)
