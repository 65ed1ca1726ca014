"""CUDA kernels run on the processor: g++ compiles the same source, and loops stand in for the threads.

For kernels whose threads do not talk to each other (no shared memory, no __syncthreads); an atomic
is a plain operation, since one thread runs at a time.
"""

import ctypes
import functools
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

MISSING = (
    "g++ is not installed, which compiles the CUDA kernels for the processor"
    if shutil.which("g++") is None
    else "the CUDA kernels are compiled for the processor on Linux and macOS only"
    if sys.platform == "win32"
    else ""
)
MOST_THREADS, MOST_BLOCKS = 1024, (2**31 - 1, 65535, 65535)  # CUDA's limits
FLAGS = ["-O1", "-std=c++17", "-shared", "-fPIC"]

BEFORE = """
#include <algorithm>
#include <tuple>
using std::max;
using std::min;
#define __global__
#define __device__ static inline
#define __restrict__ __restrict
struct Place { unsigned x, y, z; };
static thread_local Place blockIdx, threadIdx, gridDim, blockDim;
static inline int atomicMax(int* place, int value) {
    int before = *place;
    *place = max(before, value);
    return before;
}
"""
AFTER = """
// arguments holds the address of each argument, as cuLaunchKernel wants them
template <class... A, size_t... I>
void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
    kernel(*static_cast<std::remove_reference_t<A>*>(arguments[I])...);
}
template <class... A>
void launch(void (*kernel)(A...), Place grid, Place block, Place from, void** arguments) {
    gridDim = grid, blockDim = block;
    for (unsigned z = from.z; z < grid.z; ++z)
        for (unsigned y = from.y; y < grid.y; ++y)
            for (unsigned x = from.x; x < grid.x; ++x)
                for (unsigned t = 0; t < block.x; ++t) {
                    blockIdx = {x, y, z}, threadIdx = {t, 0, 0};
                    call(kernel, arguments, std::index_sequence_for<A...>());
                }
}
"""


@functools.cache
def _folder() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="cuda_shim")


@functools.cache
def compiled(code: str, options: tuple[str, ...]) -> ctypes.CDLL:
    """The source as a library of the processor's."""
    names = re.findall(r"__global__ void (\w+)\(", code)
    after = AFTER + "".join(
        f'extern "C" void launch_{name}(Place* p, void** arguments)'
        f" {{ launch({name}, p[0], p[1], p[2], arguments); }}\n"
        for name in names
    )
    number = len(list(Path(_folder().name).iterdir()))
    source, library = (Path(_folder().name, f"kernels{number}{end}") for end in (".cpp", ".so"))
    source.write_text(f"{BEFORE}\n#line 1\n{code}\n{after}", encoding="utf-8")
    done = subprocess.run(
        ["g++", *FLAGS, *options, str(source), "-o", str(library)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(library))


def launch(library, name, grid, block, arguments, first_block=(0, 0, 0)):
    """Run a kernel, its blocks one after the other, from first_block on.

    Arguments are NumPy arrays, handed over as pointers, and ctypes values, handed over as they are.
    """
    grid, block = ((*sizes, 1, 1)[:3] for sizes in (grid, block))
    assert block[1:] == (1, 1), "this shim has threads along x only"
    assert block[0] <= MOST_THREADS, f"{block[0]} threads in a block"
    assert all(0 < n <= most for n, most in zip(grid, MOST_BLOCKS, strict=True)), f"grid {grid}"
    held = [
        ctypes.c_void_p(each.ctypes.data) if isinstance(each, np.ndarray) else each
        for each in arguments
    ]
    addresses = (ctypes.c_void_p * len(held))(*map(ctypes.addressof, held))
    places = (ctypes.c_uint * 9)(*grid, *block, *first_block)
    getattr(library, f"launch_{name}")(places, addresses)
