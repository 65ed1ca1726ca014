"""kernels.cu computes what the plain definitions compute, and a card will take it as it is written.

Each test of a value runs on the strict stand-in for CuPy, with the kernels compiled for the processor,
and on a graphics card where there is one.
"""

import ctypes
import importlib.util
import itertools
import mmap
import sys
import tomllib
from pathlib import Path

import cuda_shim
import numpy as np
import pytest
import strict_cupy
from conftest import real_cupy
from hypothesis import given, settings
from hypothesis import strategies as st

import minseg
import minseg.functional as F
from minseg import cuda
from minseg.backend import array_module, to_numpy
from minseg.strips import Axis
from minseg.windows import Windows

ROOT = Path(__file__).parent.parent
CODE = cuda.SOURCE.read_text("utf-8")
REALS = {"float": np.float32, "double": np.float64}
drawn = settings(max_examples=60, derandomize=True, deadline=None, database=None)
on_processor = pytest.mark.skipif(bool(cuda_shim.MISSING), reason=cuda_shim.MISSING)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("strict", marks=[on_processor]),
        pytest.param("cupy", marks=[pytest.mark.gpu]),
    ],
)
def card(request):
    """The strict stand-in with its kernels, and CuPy where there is a card."""
    if request.param == "strict":
        with strict_cupy.installed() as xp:
            yield xp
    else:
        cupy = real_cupy()
        if cupy is None:
            pytest.skip("no CUDA graphics card here")
        yield cupy


# Any windows, even such as reach beyond a cropped or padded image


@st.composite
def window_cases(draw):
    """Windows, N, C per group, O per group, and a seed."""
    H, W = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    KH, KW = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    stride = draw(st.tuples(*[st.integers(1, 3)] * 2))
    dilation = draw(st.tuples(*[st.integers(1, 3)] * 2))
    padding = []
    for n, k, d in zip((H, W), (KH, KW), dilation, strict=True):
        before = draw(st.integers(-2, 5))
        least = d * (k - 1) + 1 - n - before  # so that the kernel fits once
        padding.append((before, draw(st.integers(max(-2, least), max(-2, least) + 4))))
    groups = draw(st.integers(1, 3))
    windows = Windows((H, W), (KH, KW), stride, tuple(padding), dilation, groups)
    counts = [draw(st.integers(low, 3)) for low in (0, 1, 1)]
    return windows, *counts, draw(st.integers(0, 2**32 - 1))


def whole(rng, *shape):
    """Small whole numbers: their sums are exact, in whatever order they are made."""
    return rng.integers(-9, 10, shape)


@pytest.mark.parametrize("dtype", REALS.values())
@pytest.mark.parametrize("column_bytes", [cuda.COLUMN_BYTES, 2000, 1], ids=["all", "some", "row"])
@drawn
@given(case=window_cases())
def test_the_contractions_equal_their_plain_definitions(case, dtype, column_bytes, card):
    windows, N, C, O, seed = case
    rng = np.random.default_rng(seed)
    C, O = C * windows.groups, O * windows.groups
    x = whole(rng, N, C, windows.H, windows.W)
    y = whole(rng, N, O, windows.OH, windows.OW)
    w = whole(rng, O, C // windows.groups, windows.KH, windows.KW)
    rows, cols = windows._axes()
    there = [card.asarray(each.astype(dtype)) for each in (x, y, w)]
    if seed % 2:  # views with gaps
        there = [card.asarray(each.get().swapaxes(0, 1).copy()).swapaxes(0, 1) for each in there]
    size = (windows.H, windows.W)
    assert cuda.serves(size, rows, cols, *there)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(cuda, "COLUMN_BYTES", column_bytes)
        got = [
            cuda.slide(there[0], there[2], rows, cols, windows.groups),
            cuda.spread(there[1], there[2], rows, cols, size, windows.groups),
            cuda.overlap(there[0], there[1], rows, cols, windows.groups),
        ]
    # NumPy's integers take the plain definition
    expected = [windows.slide(x, w), windows.spread(y, w), windows.overlap(x, y)]
    for mine, plain in zip(got, expected, strict=True):
        assert array_module(mine) is card
        np.testing.assert_array_equal(to_numpy(mine), plain.astype(dtype), strict=True)


@pytest.mark.parametrize("dtype", REALS.values())
@drawn
@given(case=window_cases())
def test_gather_and_scatter_equal_numpy_s_to_the_bit(case, dtype, card):
    windows, N, C, _, seed = case
    rng = np.random.default_rng(seed)
    rows, cols = windows._axes()
    x = rng.standard_normal((N, C, windows.H, windows.W)).astype(dtype)
    plain = windows.gather(x)
    columns = cuda.gather(card.asarray(x), rows, cols, 0, rows.size)
    np.testing.assert_array_equal(to_numpy(columns).reshape(plain.shape), plain, strict=True)
    weights = rng.standard_normal(plain.shape).astype(dtype)
    back = card.asarray(np.full_like(x, np.nan))  # every number is written
    flat = card.asarray(weights.reshape(C * windows.KH * windows.KW, -1 if N else 0))
    cuda.scatter(flat, back, rows, cols, 0, rows.size)
    np.testing.assert_array_equal(to_numpy(back), windows.scatter(weights), strict=True)


# Pooling


@st.composite
def pooling_cases(draw):
    """The image (with many equal numbers, infinities and NaN) and max_pool2d's settings."""
    H, W = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    settings = {"ceil_mode": draw(st.booleans())}
    pairs = []
    for n in (H, W):
        d = draw(st.integers(1, 2))
        k = draw(st.integers(1, (n - 1) // d + 1))
        p = draw(st.integers(0, min(d * (k - 1) + 1, n) // 2))
        pairs.append((k, draw(st.integers(1, 4)), p, d))
    names = ("kernel_size", "stride", "padding", "dilation")
    settings |= dict(zip(names, zip(*pairs, strict=True), strict=True))
    shape = draw(st.integers(0, 2)), draw(st.integers(1, 3)), H, W
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = draw(st.sampled_from([[0, 1, 2], [-np.inf, 0, 1, np.nan], [-np.inf]]))
    return rng.choice(values, shape), settings


@pytest.mark.parametrize("dtype", REALS.values())
@drawn
@given(case=pooling_cases())
def test_max_pooling_its_indices_and_its_gradient_equal_numpy_s_to_the_bit(case, dtype, card):
    image, settings = case
    results = []
    for xp in (np, card):
        x = minseg.Tensor(xp.asarray(image.astype(dtype)), requires_grad=True)
        try:
            y, places = F.max_pool2d(x, **settings, return_indices=True)
        except ValueError as refusal:
            results.append(str(refusal))
            continue
        rng = np.random.default_rng(0)
        y.backward(xp.asarray(rng.standard_normal(y.shape).astype(dtype)))
        results.append([to_numpy(each) for each in (y.data, places, x.grad)])
    for plain, mine in zip(*results, strict=True):
        np.testing.assert_array_equal(mine, plain)
        assert isinstance(plain, str) or mine.dtype == plain.dtype


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
@drawn
@given(seed=st.integers(0, 2**32 - 1))
def test_of_several_numbers_unpooled_to_one_pixel_the_last_stays_as_in_numpy(seed, dtype, card):
    rng = np.random.default_rng(seed)
    N, C, H, W = rng.integers([0, 1, 1, 1], [3, 4, 5, 5])
    x = rng.integers(1, 99, (N, C, H, W)).astype(dtype)
    places = rng.integers(0, 6, x.shape).astype(rng.choice([np.int32, np.int64]))
    y, dx = [], []
    for xp in (np, card):
        there = minseg.Tensor(xp.asarray(x), requires_grad=dtype != np.int32)
        up = F.max_unpool2d(there, xp.asarray(places), 2, output_size=(2, 3))
        y.append(to_numpy(up.data))
        if there.requires_grad:
            up.backward(xp.asarray(np.arange(1, 1 + up.data.size).reshape(up.shape).astype(dtype)))
            dx.append(to_numpy(there.grad))
    np.testing.assert_array_equal(y[1], y[0], strict=True)
    assert not dx or (dx[1] == dx[0]).all()


# What is served, and what is launched


def test_only_arrays_of_one_float_type_on_the_card_are_served(card):
    x = card.asarray(np.ones((1, 1, 4, 4), np.float32))
    axis, size = Axis(0, 1, 1, 2, 3), (4, 4)
    assert cuda.serves(size, axis, axis, x, x)
    assert not cuda.serves(size, axis, axis, to_numpy(x))
    assert not cuda.serves(size, axis, axis, x, x.astype(np.float64))
    for other in (np.int64, np.float16, bool):
        assert not cuda.serves(size, axis, axis, x.astype(other))


def test_what_an_int_cannot_count_is_left_to_the_plain_definition(card):
    x = card.asarray(np.ones((1, 1, 4, 4), np.float32))
    axis = Axis(0, 1, 1, 2, 3)
    assert not cuda.serves((1 << 15, 1 << 15), axis, axis, x)
    assert not cuda.serves((4, 4), axis._replace(size=1 << 15), axis._replace(size=1 << 15), x)
    far = F.conv2d(x, card.asarray(np.ones((1, 1, 2, 2), np.float32)), stride=10**12)
    assert to_numpy(far).tolist() == [[[[4.0]]]]


def test_without_images_nothing_is_launched(card, monkeypatch):
    monkeypatch.setattr(cuda, "kernel", None)  # calling it would fail
    x = card.zeros((0, 2, 5, 5), np.float32)
    y = F.conv2d(x, card.ones((3, 2, 3, 3), np.float32))
    assert y.shape == (0, 3, 3, 3)
    assert F.max_pool2d(x, 2).shape == (0, 2, 2, 2)
    assert to_numpy(cuda.overlap(x, y, *[Axis(0, 1, 1, 3, 3)] * 2)).tolist() == (
        np.zeros((3, 2, 3, 3)).tolist()
    )


def test_the_source_is_compiled_once_for_each_float_type(card, monkeypatch):
    made = []
    kind = card.RawModule
    monkeypatch.setattr(
        card, "RawModule", lambda **settings: made.append(settings) or kind(**settings)
    )
    monkeypatch.setattr(cuda, "compiled", cuda.cache(cuda.compiled.__wrapped__))
    monkeypatch.setattr(cuda, "kernel", cuda.cache(cuda.kernel.__wrapped__))
    for dtype in [np.float32, np.float64] * 2:
        x = minseg.Tensor(card.ones((1, 1, 6, 6), dtype), requires_grad=True)
        w = minseg.Tensor(card.ones((1, 1, 3, 3), dtype), requires_grad=True)
        F.max_pool2d(F.conv2d(x, w), 2).sum().backward()
    assert [settings["options"] for settings in made] == [("-DReal=float",), ("-DReal=double",)]


# TF32


def test_tf32_is_off_until_it_is_asked_for(card):
    products = card._core._routines_linalg
    before = products.get_compute_type(np.float32)
    assert before == products.COMPUTE_TYPE_DEFAULT
    try:
        minseg.set_tf32(True)
        assert products.get_compute_type(np.float32) == products.COMPUTE_TYPE_TF32
        assert products.get_compute_type(np.float64) == products.COMPUTE_TYPE_DEFAULT
        minseg.set_tf32(False)
        assert products.get_compute_type(np.float32) == products.COMPUTE_TYPE_DEFAULT
    finally:
        products.set_compute_type(np.float32, before)


@pytest.mark.parametrize("wrong", [1, 0, None, "yes", np.True_])
def test_tf32_is_true_or_false(wrong):
    with pytest.raises(TypeError, match=r"^set_tf32: on must be True or False, got "):
        minseg.set_tf32(wrong)


def test_tf32_without_cupy_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ValueError, match="needs CuPy, which is not installed"):
        minseg.set_tf32(True)


@pytest.mark.gpu
def test_strict_float32_is_near_float64_and_tf32_is_less_so():
    cupy = real_cupy()
    if cupy is None:
        pytest.skip("no CUDA graphics card here")
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((4, 64, 32, 32)), rng.standard_normal((64, 64, 3, 3))
    exact = F.conv2d(x, w, padding=1)

    def error():
        y = F.conv2d(*(cupy.asarray(a.astype(np.float32)) for a in (x, w)), padding=1)
        return np.abs(to_numpy(y) - exact).max() / np.abs(exact).max()

    assert error() < 5e-6
    if int(cupy.cuda.Device().compute_capability) >= 80:
        minseg.set_tf32(True)
        try:
            assert 1e-5 < error() < 5e-3
        finally:
            minseg.set_tf32(False)


# The source itself


def vast(shape, dtype):
    """An array of zeros that takes memory only where it is touched."""
    no_reserve = 0x4000  # Linux's MAP_NORESERVE
    nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    try:
        memory = mmap.mmap(-1, nbytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve)
    except OSError as error:
        pytest.skip(f"no {nbytes} bytes of address space here: {error}")
    return np.frombuffer(memory, dtype).reshape(shape)


def struct(*numbers):
    return (ctypes.c_int * 16)(*numbers)


@on_processor
@pytest.mark.skipif(sys.platform != "linux", reason="needs memory that is not there until touched")
def test_numbers_beyond_two_to_the_31_are_reached():
    N, C = 32769, 65535  # planes of one pixel: 2^31 + 32767 of them
    library = cuda_shim.compiled(CODE, ("-DReal=float",))
    one = Axis(0, 1, 1, 1, 1)
    windows, grid, last = struct(N, C, 1, 1, *one, *one, 0, 1), (1, C, N), (0, C - 1, N - 1)
    x, y, columns = (vast((N * C,), np.float32) for _ in range(3))
    places, owners = vast((N * C,), np.int32), vast((N * C,), np.int32)

    def run(name, *arguments):  # the last block only
        cuda_shim.launch(library, name, grid, (1,), (*arguments, windows), last)

    x[-1] = 7
    run("gather", x, columns)
    assert columns[-1] == 7
    run("scatter", columns, y)
    assert y[-1] == 7
    y[-1], places[-1] = 0, -1
    run("max_pool", x, y, places)
    assert (y[-1], places[-1]) == (7, 0)
    x[-1] = 0
    run("max_pool_gradient", y, places, x)
    assert x[-1] == 7
    owners[-1] = -1
    run("last_owner", vast((N * C,), np.int64), owners)
    assert owners[-1] == 0


@on_processor
@pytest.mark.parametrize("real", REALS)
def test_any_grid_of_any_blocks_gives_the_same_numbers(real):
    rng = np.random.default_rng(0)
    library = cuda_shim.compiled(CODE, (f"-DReal={real}",))
    N, C, H, W = 3, 4, 7, 6
    rows, cols = Axis(-1, 2, 1, 3, 4), Axis(-1, 1, 2, 2, 6)
    windows = struct(N, C, H, W, *rows, *cols, 0, 4)
    x = rng.integers(0, 5, (N, C, H, W)).astype(REALS[real])
    results = []
    for grid, block in itertools.product([(1, 1, 1), (2, 3, 2), (9, 9, 9)], [(1,), (5,), (64,)]):
        columns = np.full((C, 3, 2, N, 4, 6), np.nan, x.dtype)
        back, y, dx = np.full_like(x, np.nan), np.full((N, C, 4, 6), np.nan, x.dtype), x.copy()
        places = np.full(y.shape, -1, np.int32)
        owners = np.full(x.shape, -1, np.int32)
        for name, *arguments in [
            ("gather", x, columns),
            ("scatter", columns, back),
            ("max_pool", x, y, places),
            ("max_pool_gradient", y, places, dx),
            ("last_owner", places.astype(np.int64), owners),
        ]:
            if name == "last_owner":
                arguments[0] = places.astype(np.int64)
            cuda_shim.launch(library, name, grid, block, (*arguments, windows))
        results.append([columns, back, y, places, dx, owners])
    for first, *others in zip(*results, strict=True):
        assert not np.isnan(first).any()
        for other in others:
            np.testing.assert_array_equal(other, first)


def nvrtc():
    """NVIDIA's compiler for CUDA source, from its wheel or from CuPy's, or None."""
    spec = importlib.util.find_spec("nvidia")
    for folder in spec.submodule_search_locations or [] if spec else []:
        names = ("*/lib/libnvrtc.so.1?", "*/bin/**/nvrtc64_??0_0.dll")
        for path in itertools.chain.from_iterable(Path(folder).glob(name) for name in names):
            return ctypes.CDLL(str(path))
    return None


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("architecture", [75, 80, 86, 89, 90, 100, 120])
def test_nvidia_s_compiler_takes_the_source_for_every_card(architecture, real):
    library = nvrtc()
    if library is None:
        pytest.skip("NVIDIA's compiler is not installed (pip install nvidia-cuda-nvrtc)")
    options = [f"--gpu-architecture=sm_{architecture}", "-std=c++17", f"-DReal={real}"]
    program = ctypes.c_void_p()
    name = cuda.SOURCE.name.encode()
    assert not library.nvrtcCreateProgram(ctypes.byref(program), CODE.encode(), name, 0, None, None)
    array = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    failed = library.nvrtcCompileProgram(program, len(options), array)
    size = ctypes.c_size_t()
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    library.nvrtcGetCUBINSize(program, ctypes.byref(size))
    library.nvrtcDestroyProgram(ctypes.byref(program))
    assert (failed, log.value.decode()) == (0, "")  # no warning either
    assert size.value > 1000


def test_the_installed_cupy_has_what_this_needs():
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed", exc_type=ImportError)
    if cupy is strict_cupy.module:
        pytest.skip("CuPy is not installed")
    products = cupy._core._routines_linalg
    kinds = products.COMPUTE_TYPE_DEFAULT, products.COMPUTE_TYPE_TF32
    theirs = strict_cupy.Products
    assert kinds == (theirs.COMPUTE_TYPE_DEFAULT, theirs.COMPUTE_TYPE_TF32)
    assert callable(products.set_compute_type)
    module = cupy.RawModule(code=CODE, options=("-DReal=float",))  # compiled at its first use
    assert callable(module.get_function)


def test_the_source_is_installed_with_the_package():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    patterns = settings["tool"]["setuptools"]["package-data"]["minseg"]
    package = Path(minseg.__file__).parent
    assert any(cuda.SOURCE in package.glob(pattern) for pattern in patterns)
