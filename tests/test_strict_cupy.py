"""The stand-in for CuPy runs ordinary array code and refuses what CuPy refuses."""

import copy
import subprocess
import sys
from pathlib import Path

import cuda_shim
import numpy as np
import pytest
import strict_cupy

xp = strict_cupy.module
HOST = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def x():
    return xp.asarray(HOST)


def same(device, host):
    assert isinstance(device, xp.ndarray)
    np.testing.assert_array_equal(device.get(), host, strict=True)


# ---- ordinary code runs, with NumPy's values ------------------------------------------------


@pytest.mark.parametrize(
    "compute",
    [
        lambda m, x: x + 1,
        lambda m, x: 2.0 - x,
        lambda m, x: np.float32(2) * x,
        lambda m, x: x * np.float64(2),  # a NumPy scalar is float64 and says so
        lambda m, x: x @ x.T,
        lambda m, x: -x / 3,
        lambda m, x: (x > 1) & (x != 4),
        lambda m, x: 3 <= x,  # noqa: SIM300
        lambda m, x: x**2,
        lambda m, x: m.exp(x, out=m.empty_like(x)),
        lambda m, x: m.sum(x, axis=0, keepdims=True),
        lambda m, x: m.clip(x, 1, None),
        lambda m, x: m.where(x > 2, x, 0),
        lambda m, x: m.concatenate([x, x], axis=1),
        lambda m, x: m.stack((x, x)),
        lambda m, x: m.pad(x, ((0, 1), (2, 0))),
        lambda m, x: m.einsum("ij,kj->ik", x, x),
        lambda m, x: m.tensordot(x, x, axes=((1,), (1,))),
        lambda m, x: m.bincount(m.asarray([0, 2, 2]), minlength=4),
        lambda m, x: m.zeros((2, 2), dtype=m.float16),
        lambda m, x: m.arange(3) % 2 == 0,
        lambda m, x: m.linalg.solve(x[:, :2] + 1, x[:, 2]),
        lambda m, x: m.take_along_axis(x, m.argmax(x, axis=1)[:, None], axis=1),
        lambda m, x: m.lib.stride_tricks.sliding_window_view(x, (2, 2)),
        lambda m, x: m.lib.stride_tricks.as_strided(x, (2, 2), (12, 8)),
        lambda m, x: m.array([[x[0, 0], 1], [2, 3]]),
        lambda m, x: x.reshape(3, -1).transpose(1, 0).astype(m.float64),
        lambda m, x: x.max(axis=-1) - x.mean(axis=-1),
        lambda m, x: x[..., None, ::-1],
        lambda m, x: x[:, [0, 2]],
        lambda m, x: x[m.asarray([1, 0])],
        lambda m, x: x[x > 1.5],
        lambda m, x: x.nonzero()[0],
        lambda m, x: x.mT.swapaxes(0, 1).ravel(),
        lambda m, x: copy.deepcopy(x),
    ],
)
def test_ordinary_array_code_gives_numpys_values(compute, x):
    same(compute(xp, x), np.asarray(compute(np, HOST.copy())))


def test_attributes_are_those_of_the_array_inside(x):
    assert (x.shape, x.ndim, x.size, x.nbytes, x.strides) == ((2, 3), 2, 6, 24, (12, 4))
    assert x.dtype == xp.float32
    assert x.flags.c_contiguous
    assert x.T.flags.f_contiguous
    assert (len(x), x.tolist()) == (2, HOST.tolist())
    assert [float(row.sum()) for row in x] == [3.0, 12.0]
    assert f"{x.mean():.1f}" == "2.5"
    assert x.device.id == 0


def test_reductions_stay_on_the_device_until_a_number_is_asked_for(x):
    for reduced in (x.sum(), xp.max(x), x[1, 2], xp.allclose(x, x), xp.count_nonzero(x)):
        assert isinstance(reduced, xp.ndarray)
        assert reduced.shape == ()
    assert (float(x.sum()), int(x.max()), x[1, 2].item()) == (15.0, 5, 5.0)
    assert bool(xp.allclose(x, x)) is True


def test_moving_to_the_device_and_back_copies():
    host = HOST.copy()
    device = xp.asarray(host)
    host[:] = 7
    same(device, HOST)
    device.get()[:] = 7
    xp.asnumpy(device)[:] = 7
    same(device, HOST)
    assert xp.asarray(device) is device


def test_views_share_and_in_place_operators_write(x):
    x[0] += 10
    x.T[2] *= 2
    row = x[1]
    row -= 1
    corner = x[0, 0]  # NumPy would give a number here; CuPy gives a view
    corner += 90
    same(x, np.float32([[100, 11, 24], [2, 3, 9]]))
    assert xp.add(x, 1, out=x) is x


def test_stores_take_numbers_and_device_arrays(x):
    x[0, 1:] = xp.asarray([8, 9])
    x[x > 8] = -1
    x[xp.asarray([1, 1])] = 0  # twice the same number is no race
    same(x, np.float32([[0, 8, -1], [0, 0, 0]]))
    xp.put_along_axis(x, xp.asarray([[2], [0]]), xp.asarray([[5.0], [6.0]]), axis=1)
    same(x, np.float32([[0, 8, 5], [6, 0, 0]]))


def test_the_owner_of_an_array_is_found(x):
    assert xp.get_array_module(x, 1) is xp
    assert xp.get_array_module(HOST) is np


def test_a_type_with_its_own_operators_has_the_word(x):
    class Tensor:
        __array_ufunc__ = None

        def __rmul__(self, other):
            return "mine"

    assert x * Tensor() == "mine"


# ---- refusals -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mix",
    [
        lambda x: x + HOST,
        lambda x: HOST + x,
        lambda x: HOST[0, 0:1] * x,
        lambda x: x @ HOST.T,
        lambda x: x == HOST,
        lambda x: HOST < x,  # noqa: SIM300
        lambda x: x == None,  # noqa: E711
        lambda x: x + [1, 2, 3],  # noqa: RUF005
        lambda x: [1, 2, 3] + x,  # noqa: RUF005
        lambda x: x.__iadd__(HOST),
        lambda x: HOST.copy().__iadd__(x),
        lambda x: x.__setitem__(0, HOST[0]),
        lambda x: x.__setitem__(0, [1, 2, 3]),
        lambda x: HOST.copy().__setitem__(0, x[0]),
        lambda x: x[np.array([0, 1])],
        lambda x: x[HOST > 2],
        lambda x: HOST[x > 2],
        lambda x: x.dot(HOST.T),
        lambda x: xp.exp(HOST),
        lambda x: xp.exp([1.0]),
        lambda x: xp.maximum(x, HOST),
        lambda x: xp.add(x, 1, out=np.empty_like(HOST)),
        lambda x: xp.sum(HOST),
        lambda x: xp.mean([1.0, 2.0]),
        lambda x: xp.where(x > 1, x, HOST),
        lambda x: xp.where(True, x, x),
        lambda x: xp.concatenate([x, HOST]),
        lambda x: xp.stack([1.0, 2.0]),
        lambda x: xp.matmul(x, HOST.tolist()),
        lambda x: xp.einsum("ij,ij", x, HOST),
        lambda x: xp.zeros_like(HOST),
        lambda x: xp.full((2, 3), HOST),
    ],
)
def test_host_and_device_never_mix(mix, x):
    with pytest.raises(TypeError):
        mix(x)
    same(x, HOST)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: np.asarray(x),
        lambda x: np.array([x, x]),
        lambda x: np.exp(x),
        lambda x: np.add(1, x),
        lambda x: np.sum(x),
        lambda x: np.concatenate([HOST, x]),
        lambda x: np.shape(x),
        lambda x: np.copyto(np.empty_like(HOST), x),
        lambda x: np.testing.assert_array_equal(x, HOST),
    ],
)
def test_numpy_functions_refuse_device_arrays(call, x):
    with pytest.raises(TypeError):
        call(x)


def test_a_refusal_says_how_to_move_the_array(x):
    with pytest.raises(TypeError, match=r"implicit conversion .* x\.get\(\)"):
        np.asarray(x)
    with pytest.raises(TypeError, match=r"cupy\.where: .* NumPy array \(2, 3\).* cupy\.asarray"):
        xp.where(x > 1, HOST, x)
    with pytest.raises(TypeError, match=r"numpy\.sum was called on a CuPy array"):
        np.sum(x)


@pytest.mark.parametrize(
    "name", ["vecdot", "nditer", "errstate", "block", "insert", "scatter_add", "nonsense"]
)
def test_names_that_cupy_lacks_are_missing(name):
    assert not hasattr(xp, name)
    with pytest.raises(AttributeError, match=rf"CuPy [\d.]+ has no cupy\.{name}"):
        getattr(xp, name)


@pytest.mark.parametrize("name", ["setflags", "ctypes", "resize", "put", "to_device", "base"])
def test_methods_that_cupy_lacks_or_the_stand_in_leaves_out_are_missing(name, x):
    assert not hasattr(x, name)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: xp.exp(x, where=x > 1),
        lambda x: xp.add(x, x, subok=False),
        lambda x: xp.sum(x, where=x > 1),
        lambda x: xp.sum(x, initial=0),
        lambda x: x.max(initial=0),
        lambda x: x.item(0),
        lambda x: xp.clip(x, min=0, max=1),
        lambda x: xp.clip(x, 0),
        lambda x: xp.take_along_axis(x, xp.zeros((2, 1), int)),
        lambda x: xp.lib.stride_tricks.as_strided(x, (2,), (4,), writeable=False),
        lambda x: xp.lib.stride_tricks.sliding_window_view(x, 2, axis=0, writeable=True),
    ],
)
def test_keywords_that_cupy_lacks_are_refused(call, x):
    with pytest.raises(TypeError):
        call(x)


def test_layout_flags_cannot_be_set(x):
    with pytest.raises(AttributeError):
        x.flags.writeable = False
    with pytest.raises(AttributeError):
        x.flags.c_contiguous = False


@pytest.mark.parametrize(
    "make",
    [
        lambda x: xp.asarray(["word"]),
        lambda x: xp.array([None]),
        lambda x: xp.zeros(2, dtype=object),
        lambda x: x.astype(str),
        lambda x: xp.asarray(np.zeros(2, dtype="datetime64[s]")),
    ],
)
def test_only_numbers_live_on_the_device(make, x):
    with pytest.raises(ValueError, match="unsupported dtype"):
        make(x)


def test_a_store_through_duplicate_indices_is_refused(x):
    twice = xp.asarray([0, 0])
    with pytest.raises(ValueError, match="undefined"):
        x[twice] = xp.ones((2, 3))
    with pytest.raises(ValueError, match="undefined"):
        x[1, [2, 2]] = xp.asarray([1.0, 2.0])
    with pytest.raises(ValueError, match="undefined"):
        x[[1, -1]] += 1
    with pytest.raises(ValueError, match="undefined"):
        xp.put_along_axis(x, xp.zeros((2, 2), int), xp.ones((2, 2)), axis=1)
    same(x, HOST)


def test_fancy_indices_out_of_range_are_refused(x):
    outside = xp.asarray([0, 2])
    with pytest.raises(IndexError):
        x[outside]
    with pytest.raises(IndexError):
        x[outside] = 0
    with pytest.raises(IndexError):
        xp.take_along_axis(x, xp.full((2, 1), 3), axis=1)


def test_two_masks_in_one_index_are_refused(x):
    with pytest.raises(IndexError, match="one boolean array"):
        x[xp.asarray([True, False]), xp.asarray([True, False, True])]


def test_a_view_that_overlaps_itself_cannot_be_written(x):
    windows = xp.lib.stride_tricks.as_strided(x, (2, 2, 2), (12, 4, 4))
    same(windows.sum(axis=2), np.float32([[1, 3], [7, 9]]))
    with pytest.raises(ValueError, match="read-only"):
        windows[...] = 0


@pytest.mark.parametrize(
    "use",
    [
        lambda x, n: range(n),
        lambda x, n: x[:n],
        lambda x, n: xp.zeros((n, 2)),
        lambda x, n: xp.arange(n),
        lambda x, n: x.reshape(n, -1),
        lambda x, n: x.sum(axis=n),
        lambda x, n: hash(n),
    ],
)
def test_a_device_array_is_no_python_int(use, x):
    with pytest.raises(TypeError):
        use(x, x[0, 1].astype(int))


@pytest.mark.parametrize("name", ["RawKernel", "ElementwiseKernel", "ReductionKernel", "fuse"])
def test_kernels_say_that_nothing_is_compiled(name):
    with pytest.raises(NotImplementedError, match="compiles no CUDA"):
        getattr(xp, name)("float32 x", "float32 y", "y = x", "copy")


DOUBLE = """
extern "C" __global__ void twice(Real* x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) x[i] *= 2;
}
"""


@pytest.mark.skipif(bool(cuda_shim.MISSING), reason=cuda_shim.MISSING)
def test_a_kernel_of_a_raw_module_runs_in_every_thread_of_every_block(x):
    twice = xp.RawModule(code=DOUBLE, options=("-DReal=float",)).get_function("twice")
    twice((2,), (3,), (x, np.array([5], np.int32)))
    same(x, np.float32([[0, 2, 4], [6, 8, 5]]))
    for wrong in (x.T, HOST, 5, np.int32(5)):
        with pytest.raises((TypeError, ValueError), match=r"cupy\.RawKernel"):
            twice((2,), (3,), (wrong, np.array([5], np.int32)))
    for grid, block in [((1, 65536), (1,)), ((0,), (1,)), ((1,), (1025,))]:
        with pytest.raises(AssertionError):
            twice(grid, block, (x, np.array([5], np.int32)))


@pytest.mark.parametrize("name", ["random", "fft", "put", "vectorize"])
def test_what_the_stand_in_leaves_out_says_so(name):
    with pytest.raises(NotImplementedError, match="does not imitate"):
        getattr(xp, name)


# ---- installing it --------------------------------------------------------------------------


def test_import_cupy_finds_the_stand_in_only_while_it_is_installed():
    before = sys.modules.get("cupy")
    with strict_cupy.installed() as installed:
        import cupy
        import cupy.lib.stride_tricks

        assert cupy is installed is strict_cupy.module
        assert cupy.cuda.is_available()
        assert cupy.cuda.runtime.getDeviceCount() == 1
        with cupy.cuda.Device(0) as device:
            device.synchronize()
        with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="device 0 only"):
            cupy.cuda.Device(1)
    assert sys.modules.get("cupy") is before


def test_names_file_agrees_with_the_installed_cupy():
    script = Path(__file__).with_name("make_cupy_names.py")
    checked = subprocess.run(
        [sys.executable, str(script), "--check"], capture_output=True, text=True, check=False
    )
    if checked.returncode == 2:
        pytest.skip(checked.stdout.strip())
    assert checked.returncode == 0, checked.stdout + checked.stderr
