"""Work shared out over the processor's cores.

A matrix product is quickest when each core multiplies its own small piece out of its own cache.
So the linear-algebra library is held to one thread while our own few threads each work through
strips of an image; NumPy lets go of Python's lock while it multiplies and copies.

How the work is cut never depends on how many threads there are: results are the same to the bit.
"""

import contextlib
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from math import prod

import numpy as np


def available_cores() -> int:
    """How many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_count = 0  # 0: not asked for, so every core this process may use
_pool: ThreadPoolExecutor | None = None
_lock = threading.Lock()
_scratch = threading.local()


def set_num_threads(count: int) -> None:
    """Use `count` threads (at least 1) from now on; the environment's MINSEG_NUM_THREADS does the same."""
    global _count
    if not isinstance(count, int) or count < 1:
        raise ValueError(f"set_num_threads: count must be an int of at least 1, got {count!r}")
    _count = count
    _forget_pool()


def get_num_threads() -> int:
    """How many threads an op may use."""
    if not _count:
        asked = os.environ.get("MINSEG_NUM_THREADS", "")
        set_num_threads(int(asked) if asked.isdigit() and int(asked) else available_cores())
    return _count


def _forget_pool() -> None:
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):  # a forked child inherits the pool but not its threads
    os.register_at_fork(after_in_child=_forget_pool)


def for_each(work: Callable[[int], None], count: int) -> None:
    """Call work(0), work(1), ... work(count - 1), each once, in any order, on several threads."""
    global _pool
    helpers = min(get_num_threads(), count) - 1
    numbers = itertools.count()

    def run() -> None:  # everyone takes the next number until none is left
        while (number := next(numbers)) < count:
            work(number)

    with one_blas_thread():
        futures = []
        try:
            for _ in range(helpers):
                if _pool is None:
                    _pool = ThreadPoolExecutor(get_num_threads() - 1, "minseg")
                futures.append(_pool.submit(run))
        except RuntimeError:  # no threads here (a browser, an interpreter shutting down)
            pass
        try:
            run()
        finally:
            for future in futures:
                if not future.cancel():  # one that never started has nothing left to do
                    future.result()


def scratch(name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """A work array of this thread's own, its contents left over from the last use of that name.

    Fresh memory costs a page fault every 4 KB, more than the arithmetic on it; this is used again.
    """
    buffers = _scratch.__dict__
    nbytes = prod(shape) * dtype.itemsize
    if name not in buffers or buffers[name].nbytes < nbytes:
        buffers[name] = np.empty(nbytes, np.uint8)
    return buffers[name][:nbytes].view(dtype).reshape(shape)


_blas_depth = 0
_blas_controller = None
_blas_limit: contextlib.AbstractContextManager | None = None


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold the linear-algebra library to one thread inside; the last one out restores it."""
    global _blas_depth, _blas_controller, _blas_limit
    with _lock:
        if _blas_depth == 0:
            if _blas_controller is None:
                import threadpoolctl  # imported late: it looks through every loaded library

                _blas_controller = threadpoolctl.ThreadpoolController()
            _blas_limit = _blas_controller.limit(limits=1, user_api="blas")
            _blas_limit.__enter__()
        _blas_depth += 1
    try:
        yield
    finally:
        with _lock:
            _blas_depth -= 1
            if _blas_depth == 0 and _blas_limit is not None:
                _blas_limit.__exit__(None, None, None)
                _blas_limit = None
