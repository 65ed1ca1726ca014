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
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue


def available_cores() -> int:
    """How many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_count = 0  # 0: not asked for, so every core this process may use
_jobs: SimpleQueue | None = None  # what the helpers, our threads beside the caller's, wait for
_lock = threading.Lock()


def set_num_threads(count: int) -> None:
    """Use `count` threads (at least 1) from now on; the environment's MINSEG_NUM_THREADS does the same."""
    global _count
    if not isinstance(count, int) or count < 1:
        raise ValueError(f"set_num_threads: count must be an int of at least 1, got {count!r}")
    _dismiss_helpers()
    _count = count


def get_num_threads() -> int:
    """How many threads an op may use."""
    if not _count:
        asked = os.environ.get("MINSEG_NUM_THREADS", "")
        set_num_threads(int(asked) if asked.isdigit() and int(asked) else available_cores())
    return _count


def _dismiss_helpers() -> None:
    global _jobs
    if _jobs is not None:
        for _ in range(_count - 1):
            _jobs.put(None)
    _jobs = None


def _forget_helpers() -> None:
    global _jobs, _lock
    _jobs, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):  # a forked child inherits the queue but not who waits for it
    os.register_at_fork(after_in_child=_forget_helpers)


def _help(jobs: SimpleQueue) -> None:
    while (job := jobs.get()) is not None:
        job()
        del job  # while waiting for the next one, hold on to no array


def _helpers() -> SimpleQueue | None:
    """The queue of our helpers, called when first needed; None where there can be no threads."""
    global _jobs
    with _lock:
        if _jobs is None:
            jobs: SimpleQueue = SimpleQueue()
            for n in range(get_num_threads() - 1):
                try:
                    threading.Thread(
                        target=_help, args=(jobs,), name=f"minseg {n}", daemon=True
                    ).start()
                except RuntimeError:  # in a browser, or an interpreter shutting down
                    return None
            _jobs = jobs
        return _jobs


def for_each(work: Callable[[int], None], count: int) -> None:
    """Call work(0), work(1), ... work(count - 1), each once, in any order, on several threads."""
    if count == 0:
        return
    helpers = min(get_num_threads(), count) - 1
    numbers, finished = itertools.count(), itertools.count(1)
    unfinished = threading.Lock()
    unfinished.acquire()
    errors: list[BaseException] = []

    def run() -> None:  # everyone takes the next number until none is left
        while (number := next(numbers)) < count:
            try:
                if not errors:
                    work(number)
            except BaseException as error:
                errors.append(error)
            if next(finished) == count:
                unfinished.release()

    with one_blas_thread():
        if helpers > 0 and (jobs := _helpers()) is not None:
            for _ in range(helpers):
                jobs.put(partial(copy_context().run, run))  # np.errstate holds for them as well
        run()
        unfinished.acquire()  # helpers may still be busy; one that comes too late finds nothing left
    if errors:
        raise errors[0]


_blas_depth = 0
_blas_libraries: list | None = None
_blas_threads: list[int] = []  # what each library had


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold the linear-algebra library to one thread inside; the last one out restores it."""
    global _blas_depth, _blas_libraries, _blas_threads
    with _lock:
        if _blas_libraries is None:
            import threadpoolctl  # imported late: it looks through every loaded library

            loaded = threadpoolctl.ThreadpoolController().lib_controllers
            _blas_libraries = [library for library in loaded if library.user_api == "blas"]
        if _blas_depth == 0:
            _blas_threads = [library.get_num_threads() for library in _blas_libraries]
            for library in _blas_libraries:
                library.set_num_threads(1)
        _blas_depth += 1
    try:
        yield
    finally:
        with _lock:
            _blas_depth -= 1
            if _blas_depth == 0:
                for library, count in zip(_blas_libraries, _blas_threads, strict=True):
                    library.set_num_threads(count)
