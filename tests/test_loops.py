"""Every op of minseg.functional is held to the loop a slide writes for it, on drawn configurations.

Floats to 1e-12 (float64) and 1e-5 (float32) of the largest value, integers and Fractions exactly.
The fast form of the windows is held to their plain definition, and both to the trilinear identity.
"""

import contextlib
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minseg
import minseg.functional as F
from minseg import loops, strips, windows
from minseg.metrics import ConfusionMatrix

TOLERANCE = {"float64": 1e-12, "float32": 1e-5, "int": 0, "Fraction": 0}
ALL_KINDS = tuple(TOLERANCE)
DIVISIBLE = ("float64", "float32", "Fraction")
FLOATS = ("float64", "float32")

drawn = settings(max_examples=100, derandomize=True, deadline=None, database=None)
few = settings(drawn, max_examples=50)
many = settings(drawn, max_examples=400)
seeds = st.integers(0, 2**32 - 1)


def small(low, high):
    return st.integers(low, high)


def pairs(low, high):
    return st.tuples(small(low, high), small(low, high))


def numbers(seed, kind, *shape, ties=False):
    """Random numbers of a kind; with `ties` only five different ones. Odd seeds: Fortran order."""
    rng = np.random.default_rng(seed)
    if kind == "int":
        values = rng.integers(-2, 3, shape) if ties else rng.integers(-99, 100, shape)
    elif kind == "Fraction":
        top = rng.integers(-2, 3, shape) if ties else rng.integers(-99, 100, shape)
        bottom = np.full(shape, 3) if ties else rng.integers(1, 10, shape)
        values = np.empty(shape, object)
        for place in np.ndindex(shape):
            values[place] = Fraction(int(top[place]), int(bottom[place]))
    elif ties:
        values = rng.choice([-np.inf, -1, 0, 0.5, 2], shape).astype(kind)
    else:
        values = rng.standard_normal(shape).astype(kind)
    return np.asfortranarray(values) if seed % 2 else values


def same(actual, expected, tolerance):
    """Equal in shape and dtype, and in value to `tolerance` of the largest expected value."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
    if tolerance:
        error = np.abs(actual - expected).max(initial=0)
        assert error <= tolerance * np.abs(expected).max(initial=0)
    else:
        assert np.array_equal(actual, expected)


def held_to_its_loop(name, tolerance, *arrays, **options):
    """F.name and loops.name give the same on these arguments."""
    actual = getattr(F, name)(*arrays, **options)
    expected = getattr(loops, name)(*arrays, **options)
    same(actual, expected, tolerance)


# Convolution and its two ways back.


@st.composite
def convolutions(draw):
    """Shapes of x, w, b and options of conv2d: strides beyond the kernel, pairs, groups."""
    groups = draw(small(1, 3))
    k, s, p, d = draw(pairs(1, 3)), draw(pairs(1, 4)), draw(pairs(0, 3)), draw(pairs(1, 3))
    size = [
        max(1, dn * (kn - 1) + 1 - 2 * pn) + draw(small(0, 4))
        for kn, pn, dn in zip(k, p, d, strict=True)
    ]
    C, O = draw(small(1, 2)), groups * draw(small(1, 2))
    x, w = (draw(small(1, 3)), groups * C, *size), (O, C, *k)
    return x, w, (O,), dict(stride=s, padding=p, dilation=d, groups=groups)


@st.composite
def transposed_convolutions(draw, most_groups=3):
    """Shapes of x, w, b and options of conv_transpose2d: deep crops, output_padding."""
    groups = draw(small(1, most_groups))
    k, s, d = draw(pairs(1, 4)), draw(pairs(1, 6)), draw(pairs(1, 3))
    size = draw(pairs(1, 4))
    extra = tuple(draw(small(0, max(sn, dn) - 1)) for sn, dn in zip(s, d, strict=True))
    p = tuple(
        draw(small(0, ((n - 1) * sn + dn * (kn - 1) + en) // 2))
        for n, kn, sn, dn, en in zip(size, k, s, d, extra, strict=True)
    )
    C, O = groups * draw(small(1, 2)), draw(small(1, 2))
    x, w = (draw(small(1, 2)), C, *size), (C, O, *k)
    options = dict(stride=s, padding=p, output_padding=extra, dilation=d, groups=groups)
    return x, w, (groups * O,), options


@pytest.mark.parametrize("kind", ALL_KINDS)
@drawn
@given(convolutions(), seeds, st.booleans())
def test_convolution_equals_its_loop(kind, drawing, seed, with_bias):
    x, w, b, options = drawing
    x, w, b = (numbers(seed + n, kind, *shape) for n, shape in enumerate((x, w, b)))
    held_to_its_loop("conv2d", TOLERANCE[kind], x, w, b if with_bias else None, **options)


@pytest.mark.parametrize("kind", ALL_KINDS)
@drawn
@given(transposed_convolutions(), seeds, st.booleans())
def test_transposed_convolution_equals_its_loop(kind, drawing, seed, with_bias):
    x, w, b, options = drawing
    x, w, b = (numbers(seed + n, kind, *shape) for n, shape in enumerate((x, w, b)))
    held_to_its_loop("conv_transpose2d", TOLERANCE[kind], x, w, b if with_bias else None, **options)


@pytest.mark.parametrize("kind", ALL_KINDS)
@drawn
@given(transposed_convolutions(most_groups=1), seeds, st.booleans())
def test_fractionally_strided_convolution_equals_its_loop(kind, drawing, seed, with_bias):
    x, (C, O, *k), b, options = drawing
    del options["groups"]
    x, w, b = (numbers(seed + n, kind, *shape) for n, shape in enumerate((x, (O, C, *k), b)))
    b = b if with_bias else None
    held_to_its_loop("fractionally_strided_conv2d", TOLERANCE[kind], x, w, b, **options)


@few
@given(convolutions(), st.tuples(*[st.sampled_from(["int", "float64"])] * 3), seeds)
def test_integers_and_floats_mix_as_in_the_loop(drawing, kinds, seed):
    *shapes, options = drawing
    x, w, b = (numbers(seed, kind, *shape) for kind, shape in zip(kinds, shapes, strict=True))
    held_to_its_loop("conv2d", 1e-12, x, w, b, **options)


@pytest.mark.parametrize("kind", ["float64", "int"])
def test_no_images_give_no_images(kind):
    x, w = numbers(0, kind, 0, 2, 4, 5), numbers(0, kind, 2, 2, 3, 3)
    for name in ("conv2d", "conv_transpose2d", "fractionally_strided_conv2d"):
        held_to_its_loop(name, 0, x, w)
    assert not windows.Windows((4, 5), (3, 3)).overlap(x, np.zeros((0, 2, 2, 3), x.dtype)).any()


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_a_crop_deeper_than_the_image_leaves_zeros(kind):
    x, w = numbers(0, kind, 1, 1), numbers(2, kind, 1, 1)
    options = dict(stride=6, padding=2, output_padding=5)
    for name in ("conv_transpose2d", "fractionally_strided_conv2d"):
        held_to_its_loop(name, 0, x, w, **options)
        assert not getattr(F, name)(x, w, **options).any()


@drawn
@given(convolutions(), seeds, st.sampled_from(["same", "valid"]))
def test_named_paddings_equal_their_loop(drawing, seed, padding):
    x, w, b, options = drawing
    options |= dict(stride=1, padding=padding)
    for n, (k, d) in enumerate(zip(w[2:], options["dilation"], strict=True)):
        reach = 1 if padding == "same" else d * (k - 1) + 1
        x = (*x[: 2 + n], max(x[2 + n], reach), *x[3 + n :])
    x, w, b = (numbers(seed + n, "int", *shape) for n, shape in enumerate((x, w, b)))
    held_to_its_loop("conv2d", 0, x, w, b, **options)


@drawn
@given(pairs(1, 6), pairs(1, 4), st.data(), seeds)
def test_planes_give_what_the_slides_text_gives(size, kernel, data, seed):
    kernel = tuple(min(k, n) for k, n in zip(kernel, size, strict=True))
    X, K = numbers(seed, "int", *size), numbers(seed + 1, "int", *kernel)
    same(F.conv2d(X, K), loops.convolution(X, K), 0)
    same(F.conv_transpose2d(X, K), loops.transpose_convolution(X, K), 0)
    same(F.rot180(K), loops.rot180(K), 0)
    s = data.draw(small(1, 3))
    Z = np.pad(loops.zero_interleaved(X, s), [(k - 1, k - 1) for k in kernel])
    same(F.fractionally_strided_conv2d(X, K, stride=s), loops.convolution(Z, K), 0)
    for name in ("conv2d", "conv_transpose2d", "fractionally_strided_conv2d"):
        held_to_its_loop(name, 0, X, K, stride=s)


@drawn
@given(small(1, 9), small(1, 4), small(1, 5), small(0, 3), small(1, 3))
def test_output_size_counts_the_places_of_the_window(n, k, s, p, d):
    n = max(n, d * (k - 1) + 1 - 2 * p)
    assert F.output_size(n, k, s, p, d) == len(loops.window_starts(n, k, s, p, d))


@drawn
@given(st.lists(small(1, 4), min_size=2, max_size=4), seeds)
def test_rot180_equals_its_loop_and_leaves_channels_alone(shape, seed):
    held_to_its_loop("rot180", 0, numbers(seed, "int", *shape))


@pytest.mark.parametrize("kind", ALL_KINDS)
@few
@given(st.lists(small(1, 4), min_size=1, max_size=4), small(1, 4), seeds, st.booleans())
def test_linear_equals_its_loop(kind, shape, O, seed, with_bias):
    x, w = numbers(seed, kind, *shape), numbers(seed + 1, kind, O, shape[-1])
    b = numbers(seed + 2, kind, O) if with_bias else None
    held_to_its_loop("linear", TOLERANCE[kind], x, w, b)


# Three words: slide, spread, overlap.


@st.composite
def sliding_windows(draw):
    """Windows, and shapes of x, w, y that fit: padding or cropping on either side, groups."""
    groups, N, C, O = draw(small(1, 2)), draw(small(1, 5)), draw(small(1, 2)), draw(small(1, 2))
    k, s, d = draw(pairs(1, 4)), draw(pairs(1, 4)), draw(pairs(1, 3))
    padding = draw(pairs(-2, 3)), draw(pairs(-2, 3))
    size = tuple(
        max(1, dn * (kn - 1) + 1 - before - after) + draw(small(0, 6))
        for kn, dn, (before, after) in zip(k, d, padding, strict=True)
    )
    g = windows.Windows(size, k, s, padding, d, groups)
    x, w, y = (N, groups * C, *size), (groups * O, C, *k), (N, groups * O, g.OH, g.OW)
    return g, x, w, y


# STRIP_BYTES and LEAST_BYTES, from one row of one image a strip to groups of images.
STRIP_SIZES = [(1, 1), (500, 1), (2000, 2000), (8000, 8000)]
strip_sizes = st.sampled_from(STRIP_SIZES)


@contextlib.contextmanager
def strips_of(strip_bytes, least_bytes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strips, "STRIP_BYTES", strip_bytes)
        patch.setattr(strips, "LEAST_BYTES", least_bytes)
        yield


@contextlib.contextmanager
def the_plain_definition():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "fast", lambda *arrays: False)
        yield


def contractions(g, x, w, y):
    return g.slide(x, w), g.spread(y, w), g.overlap(x, y)


def two_at_once(g, x, w, y):
    return *g.spread_and_overlap(y, w, x), *g.slide_and_overlap(x, w, y)


@pytest.mark.parametrize("kind", FLOATS)
@many
@given(sliding_windows(), seeds, strip_sizes)
def test_strips_equal_the_plain_definition(kind, drawing, seed, sizes):
    g, *shapes = drawing
    x, w, y = (numbers(seed + n, kind, *shape) for n, shape in enumerate(shapes))
    with the_plain_definition():
        expected = contractions(g, x, w, y)
    with strips_of(*sizes):
        in_small_strips = contractions(g, x, w, y)
    for plain, as_usual, small_strips in zip(
        expected, contractions(g, x, w, y), in_small_strips, strict=True
    ):
        same(as_usual, plain, TOLERANCE[kind])
        same(small_strips, plain, TOLERANCE[kind])
    slid, scattered, overlapped = expected
    with strips_of(*sizes):
        pairs = two_at_once(g, x, w, y)
    for got, plain in zip(pairs, (scattered, overlapped, slid, overlapped), strict=True):
        same(got, plain, TOLERANCE[kind])


@pytest.mark.parametrize("kind", FLOATS)
@few
@given(small(1, 3), small(2, 3), small(0, 3), small(0, 3), small(0, 5), seeds)
def test_a_stride_that_divides_the_kernel_takes_the_image_apart(
    kind, N, s, before, after, more, seed
):
    size = (2 * s + more, 3 * s + more)
    g = windows.Windows(size, (2 * s, s), (s, s), ((before, after), (after, before)))
    assert g._in_phases is not None
    shapes = (N, 2, *size), (3, 2, 2 * s, s), (N, 3, g.OH, g.OW)
    x, w, y = (numbers(seed + n, kind, *shape) for n, shape in enumerate(shapes))
    with the_plain_definition():
        expected = contractions(g, x, w, y)
    for got, plain in zip(contractions(g, x, w, y), expected, strict=True):
        same(got, plain, TOLERANCE[kind])


def test_the_strip_sizes_drawn_above_cut_both_rows_and_groups_of_images():
    cuts = []
    for sizes in STRIP_SIZES:
        with strips_of(*sizes):
            cuts += strips.cut(5, 10, 6, 6, 8)  # 5 maps of 6x6 pixels, 2880 bytes each
    assert any(strip.last - strip.first < 6 for strip in cuts)
    assert any(strip.images.stop - strip.images.start > 1 for strip in cuts)


@pytest.mark.parametrize("kind", ["int", "float64"])
@many
@given(sliding_windows(), seeds, strip_sizes)
def test_the_trilinear_identity_is_exact_on_integers(kind, drawing, seed, sizes):
    """<y, slide(x, w)> = <spread(y, w), x> = <overlap(x, y), w>: ints plainly, floats in strips."""
    g, *shapes = drawing
    x, w, y = (numbers(seed + n, "int", *s).astype(kind) for n, s in enumerate(shapes))
    assert windows.fast(x, w, y) == (kind == "float64")
    with strips_of(*sizes):
        slid, scattered, overlapped = contractions(g, x, w, y)
    assert (y * slid).sum() == (scattered * x).sum() == (overlapped * w).sum()


@many
@given(convolutions(), seeds)
def test_transposed_convolution_is_the_adjoint_of_convolution(drawing, seed):
    """<conv2d(x, w), y> = <x, conv_transpose2d(y, w)>; output_padding restores what floor cut."""
    (N, C, *size), w, _, options = drawing
    x, w = numbers(seed, "int", N, C, *size), numbers(seed + 1, "int", *w)
    convolved = F.conv2d(x, w, **options)
    y = numbers(seed + 2, "int", *convolved.shape)
    s, p, d = options["stride"], options["padding"], options["dilation"]
    left_over = tuple(
        (n + 2 * pn - dn * (kn - 1) - 1) % sn
        for n, kn, sn, pn, dn in zip(size, w.shape[2:], s, p, d, strict=True)
    )
    back = F.conv_transpose2d(y, w, output_padding=left_over, **options)
    assert (convolved * y).sum() == (x * back).sum()


@few
@given(sliding_windows(), seeds, strip_sizes)
def test_one_thread_and_two_give_the_same_bits(drawing, seed, sizes):
    g, *shapes = drawing
    x, w, y = (numbers(seed + n, "float32", *shape) for n, shape in enumerate(shapes))
    before = minseg.get_num_threads()
    bits = []
    try:
        for threads in (1, 2):
            minseg.set_num_threads(threads)
            with strips_of(*sizes):
                bits.append([part.tobytes() for part in contractions(g, x, w, y)])
    finally:
        minseg.set_num_threads(before)
    assert bits[0] == bits[1]


# The lecture's worked example and homework.

LECTURE_KERNEL = np.array([[0.25, 0.5, 0.25], [0.5, 1, 0.5], [0.25, 0.5, 0.25]])
LECTURE_OUTPUT = np.array(
    [
        [0, 0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 0.75],
        [0, 0, 0.5, 1, 1.5, 2, 2.5, 3, 1.5],
        [1, 2, 2.5, 3, 3.5, 4, 4.5, 5, 2.5],
        [2, 4, 4.5, 5, 5.5, 6, 6.5, 7, 3.5],
        [3, 6, 6.5, 7, 7.5, 8, 8.5, 9, 4.5],
        [4, 8, 8.5, 9, 9.5, 10, 10.5, 11, 5.5],
        [5, 10, 10.5, 11, 11.5, 12, 12.5, 13, 6.5],
        [6, 12, 12.5, 13, 13.5, 14, 14.5, 15, 7.5],
        [3, 6, 6.25, 6.5, 6.75, 7, 7.25, 7.5, 3.75],
    ]
)
LECTURE_INTERLEAVED = np.array(
    [
        [0, 0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 1, 0, 2, 0, 3, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 0],
        [0, 4, 0, 5, 0, 6, 0, 7, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 0],
        [0, 8, 0, 9, 0, 10, 0, 11, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 0],
        [0, 12, 0, 13, 0, 14, 0, 15, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 0],
    ]
)


@pytest.mark.parametrize("ops", [F, loops], ids=["functional", "loops"])
def test_the_lectures_worked_example_gives_the_slides_numbers_on_every_route(ops):
    X, K = np.arange(16.0).reshape(4, 4), LECTURE_KERNEL
    crop = LECTURE_OUTPUT[1:-1, 1:-1]
    same(ops.conv_transpose2d(X, K, stride=2), LECTURE_OUTPUT, 0)
    same(ops.conv_transpose2d(X, K, stride=2, padding=1), crop, 0)
    same(ops.fractionally_strided_conv2d(X, K, stride=2, padding=1), crop, 0)
    same(ops.fractionally_strided_conv2d(X, K, stride=2), LECTURE_OUTPUT, 0)
    same(ops.interpolate(X, size=7, mode="bilinear", align_corners=True), crop, 0)


def test_the_lectures_zero_interleaved_image_convolved_gives_the_slides_output():
    X = np.arange(16).reshape(4, 4)
    Z = np.pad(loops.zero_interleaved(X, 2), 1)
    same(Z, LECTURE_INTERLEAVED, 0)
    same(loops.convolution(Z, LECTURE_KERNEL), LECTURE_OUTPUT[1:-1, 1:-1], 0)


def test_the_slides_two_by_two_example_returns_its_result():
    X = K = np.array([[0, 1], [2, 3]])
    same(loops.transpose_convolution(X, K), np.array([[0, 0, 1], [0, 4, 6], [4, 12, 9]]), 0)


def test_bilinear_kernel_is_the_lectures_at_stride_2():
    same(F.bilinear_kernel(2, dtype=np.float64), LECTURE_KERNEL, 0)


@pytest.mark.parametrize("stride", range(1, 9))
def test_transposed_convolution_with_the_bilinear_kernel_resizes_with_aligned_corners(stride):
    x = numbers(stride, "Fraction", 3, 4)
    kernel = F.bilinear_kernel(stride, exact=True)
    upsampled = F.conv_transpose2d(x, kernel, stride=stride, padding=stride - 1)
    size = (2 * stride + 1, 3 * stride + 1)
    same(upsampled, F.interpolate(x, size, mode="bilinear", align_corners=True), 0)


@pytest.mark.parametrize("s", range(1, 9))
def test_caffes_kernel_sums_to_1_in_every_phase_and_resizes_all_but_the_border(s):
    kernel = F.bilinear_kernel(s, kind="caffe", exact=True)
    assert kernel.shape == (2 * s - s % 2, 2 * s - s % 2)
    assert all(kernel[i::s, j::s].sum() == 1 for i in range(s) for j in range(s))
    x = numbers(s, "Fraction", 4, 5)
    upsampled = F.conv_transpose2d(x, kernel, stride=s, padding=s // 2)
    resized = F.interpolate(x, scale_factor=s, mode="bilinear", align_corners=False)
    assert upsampled.shape == resized.shape == (4 * s, 5 * s)
    inside = slice(s // 2, -(s // 2) or None)
    same(upsampled[inside, inside], resized[inside, inside], 0)
    assert s == 1 or not np.array_equal(upsampled, resized)


@pytest.mark.parametrize("k", range(2, 6))
@pytest.mark.parametrize("s", range(1, 4))
def test_the_homework_only_the_turned_kernel_makes_both_upsamplings_equal(k, s):
    x, w = numbers(2 * k, "int", 2, 2, 5, 6), numbers(2 * s, "int", 2, 3, k, k)
    for p in range(k):
        transposed = F.conv_transpose2d(x, w, stride=s, padding=p)
        as_given = w.swapaxes(0, 1)  # (C, O, KH, KW) -> (O, C, KH, KW)
        turned = F.rot180(as_given)
        same(F.fractionally_strided_conv2d(x, turned, stride=s, padding=p), transposed, 0)
        same_kernel = F.fractionally_strided_conv2d(x, as_given, stride=s, padding=p)
        assert same_kernel.shape == transposed.shape
        assert not np.array_equal(same_kernel, transposed)


@drawn
@given(transposed_convolutions(most_groups=1), seeds)
def test_the_homework_holds_with_dilation_output_padding_and_bias(drawing, seed):
    x, w, b, options = drawing
    x, w, b = (numbers(seed + n, "int", *shape) for n, shape in enumerate((x, w, b)))
    transposed = F.conv_transpose2d(x, w, b, **options)
    del options["groups"]
    turned = F.rot180(w).swapaxes(0, 1)
    same(F.fractionally_strided_conv2d(x, turned, b, **options), transposed, 0)


# Pooling.


@st.composite
def poolings(draw, dilated=False):
    """Shape of x, and kernel_size, stride, padding, (dilation,) ceil_mode in the ops' own order."""
    k, d = draw(pairs(1, 4)), draw(pairs(1, 3)) if dilated else (1, 1)
    reach = [dn * (kn - 1) + 1 for kn, dn in zip(k, d, strict=True)]
    p = tuple(draw(small(0, min(2, r // 2))) for r in reach)
    s = draw(st.none() | pairs(1, 5))
    # at least d pixels, or a dilated window could step over the whole image
    size = [max(dn, r - 2 * pn) + draw(small(0, 5)) for dn, r, pn in zip(d, reach, p, strict=True)]
    x = (*draw(st.sampled_from([(), (1, 1), (2, 3)])), *size)
    return x, (k, s, p, *((d,) if dilated else ()), draw(st.booleans()))


@pytest.mark.parametrize("kind", ALL_KINDS)
@drawn
@given(poolings(dilated=True), seeds, st.booleans())
def test_max_pooling_and_its_indices_equal_their_loop_with_ties(kind, drawing, seed, ties):
    shape, arguments = drawing
    x = numbers(seed, kind, *shape, ties=ties)
    held_to_its_loop("max_pool2d", 0, x, *arguments)
    y, indices = F.max_pool2d(x, *arguments, return_indices=True)
    expected, expected_indices = loops.max_pool2d(x, *arguments, return_indices=True)
    same(y, expected, 0)
    same(indices, expected_indices, 0)


@pytest.mark.parametrize("kind", ALL_KINDS)
@few
@given(poolings(dilated=True), seeds)
def test_unpooling_equals_its_loop_where_windows_overlapped(kind, drawing, seed):
    shape, arguments = drawing
    k, s, p = arguments[:3]
    _, indices = F.max_pool2d(numbers(seed, kind, *shape), *arguments, return_indices=True)
    x = numbers(seed + 1, kind, *indices.shape)
    indices = np.asfortranarray(indices) if seed % 2 else indices
    held_to_its_loop("max_unpool2d", 0, x, indices, k, s, p, output_size=shape[-2:])


def test_unpooling_keeps_the_last_of_equal_indices_however_the_arrays_lie_in_memory():
    x, indices = np.arange(6.0).reshape(2, 3), np.zeros((2, 3), np.int64)
    for a, b in [(x, indices), (x[::-1, ::-1], indices[::-1, ::-1]), (x.T, indices.T)]:
        assert F.max_unpool2d(a, b, 2)[0, 0] == a[-1, -1]


@few
@given(pairs(1, 4), pairs(2, 3), st.none() | pairs(1, 4), seeds)
def test_unpooling_without_an_output_size_equals_its_loop(size, k, s, seed):
    p = tuple(kn // 2 if n > 1 else 0 for n, kn in zip(size, k, strict=True))
    OH, OW = ((n - 1) * sn - 2 * pn + kn for n, kn, sn, pn in zip(size, k, s or k, p, strict=True))
    x = numbers(seed, "float64", 2, 2, *size)
    if min(OH, OW) > 0:
        indices = np.random.default_rng(seed).integers(0, OH * OW, x.shape)
        held_to_its_loop("max_unpool2d", 0, x, indices, k, s, p)


@pytest.mark.parametrize("kind", DIVISIBLE)
@drawn
@given(poolings(), seeds, st.booleans(), st.sampled_from([None, None, 1, 3]))
def test_average_pooling_equals_its_loop(kind, drawing, seed, count_include_pad, divisor):
    shape, arguments = drawing
    x = numbers(seed, kind, *shape)
    held_to_its_loop("avg_pool2d", TOLERANCE[kind], x, *arguments, count_include_pad, divisor)


@pytest.mark.parametrize("kind", DIVISIBLE)
@few
@given(pairs(1, 7), pairs(1, 8), seeds)
def test_adaptive_and_global_pooling_equal_their_loops(kind, size, output_size, seed):
    x = numbers(seed, kind, 2, 2, *size)
    held_to_its_loop("adaptive_avg_pool2d", TOLERANCE[kind], x, output_size)
    held_to_its_loop("adaptive_avg_pool2d", TOLERANCE[kind], x[0, 0], output_size[0])
    held_to_its_loop("global_avg_pool2d", TOLERANCE[kind], x)
    held_to_its_loop("global_max_pool2d", 0, x)


# Resizing.

resizings = st.one_of(
    st.builds(dict, size=small(1, 9) | pairs(1, 9)),
    st.builds(
        dict,
        scale_factor=st.sampled_from([1, 2, 3, 0.5, 1.5, 2.3, 0.7, 1 / 3, (2, 0.5), (1.25, 3)]),
        recompute_scale_factor=st.sampled_from([None, False, True]),
    ),
)
images = st.sampled_from([(3, 4), (7, 3), (1, 2, 5, 3), (2, 1, 4, 6)])


@pytest.mark.parametrize("kind", ALL_KINDS)
@few
@given(images, resizings, seeds)
def test_nearest_interpolation_equals_its_loop(kind, shape, options, seed):
    held_to_its_loop("interpolate", 0, numbers(seed, kind, *shape), **options)


@pytest.mark.parametrize("align_corners", [None, False, True])
@pytest.mark.parametrize("kind", DIVISIBLE)
@few
@given(images, resizings, seeds)
def test_bilinear_interpolation_equals_its_loop(kind, align_corners, shape, options, seed):
    x = numbers(seed, kind, *shape)
    options |= dict(mode="bilinear", align_corners=align_corners)
    held_to_its_loop("interpolate", TOLERANCE[kind], x, **options)


@pytest.mark.parametrize("align_corners", [False, True])
def test_a_single_pixel_is_resized_to_a_constant(align_corners):
    x = np.array([[Fraction(7, 3)]], dtype=object)
    held_to_its_loop("interpolate", 0, x, size=(3, 2), mode="bilinear", align_corners=align_corners)
    y = F.interpolate(x, size=(3, 2), mode="bilinear", align_corners=align_corners)
    assert (y == x[0, 0]).all()


# From scores to the loss.

batches = st.lists(small(1, 3), max_size=3).map(lambda rest: (2, 3, *rest))


@pytest.mark.parametrize("kind", ALL_KINDS)
@few
@given(batches, seeds, st.booleans())
def test_relu_equals_its_loop(kind, shape, seed, ties):
    held_to_its_loop("relu", 0, numbers(seed, kind, *shape, ties=ties))


@pytest.mark.parametrize("kind", FLOATS)
@few
@given(batches, seeds)
def test_leaky_relu_equals_its_loop(kind, shape, seed):
    held_to_its_loop("leaky_relu", TOLERANCE[kind], numbers(seed, kind, *shape), 0.2)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("kind", FLOATS)
@few
@given(batches, seeds, st.data())
def test_softmax_equals_its_loop_along_every_axis(kind, name, shape, seed, data):
    x = 3 * numbers(seed, kind, *shape)
    held_to_its_loop(name, TOLERANCE[kind], x, data.draw(small(-len(shape), len(shape) - 1)))
    held_to_its_loop(name, TOLERANCE[kind], x)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("kind", FLOATS)
@drawn
@given(
    st.lists(small(1, 3), max_size=3),
    seeds,
    st.sampled_from([0, 0.3, 1]),
    st.sampled_from([None, "random", "only class 1"]),
    st.sampled_from([0.0, 0.1, 1.0]),
    st.sampled_from([(255, np.uint8), (-100, np.int64), (1, np.int32)]),
)
def test_cross_entropy_equals_its_loop(
    kind, reduction, rest, seed, void_share, weights, label_smoothing, void_label
):
    ignore_index, label_type = void_label
    rng = np.random.default_rng(seed)
    N, K = 2, int(rng.integers(1, 5))
    logits = 3 * numbers(seed, kind, N, K, *rest)
    target = rng.integers(0, K, (N, *rest))
    target = np.where(rng.random(target.shape) < void_share, ignore_index, target)
    target = target.astype(label_type)
    weight = None
    if weights:
        weight = (rng.random(K) if weights == "random" else np.arange(K) == 1).astype(kind)
    tolerance = TOLERANCE[kind]
    options = dict(weight=weight, ignore_index=ignore_index, reduction=reduction)
    smoothing = dict(label_smoothing=label_smoothing)
    held_to_its_loop("cross_entropy", tolerance, logits, target, **options, **smoothing)
    held_to_its_loop("nll_loss", tolerance, loops.log_softmax(logits), target, **options)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_a_batch_of_nothing_but_void_has_no_loss(reduction):
    logits, target = numbers(0, "float64", 2, 3, 4, 5), np.full((2, 4, 5), 255)
    held_to_its_loop("cross_entropy", 0, logits, target, reduction=reduction)
    assert not F.cross_entropy(logits, target, reduction=reduction).any()


@pytest.mark.parametrize("kind", FLOATS)
@drawn
@given(batches, seeds, st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_batch_norm_and_its_running_statistics_equal_their_loop(
    kind, shape, seed, training, running, with_weight, with_bias
):
    x = numbers(seed, kind, 4, *shape[1:])
    mean, weight, bias = (numbers(seed + n, kind, 3) for n in (1, 2, 3))
    var = numbers(seed + 4, kind, 3) ** 2 + 0.5
    ours, theirs = ([mean.copy(), var.copy()] if running else [None, None] for _ in range(2))
    rest = (weight if with_weight else None, bias if with_bias else None, training, 0.3, 1e-3)
    expected = loops.batch_norm(x, *theirs, *rest)
    same(F.batch_norm(x, *ours, *rest), expected, TOLERANCE[kind])
    if running:
        for actual, statistic, before in zip(ours, theirs, (mean, var), strict=True):
            same(actual, statistic, TOLERANCE[kind])
            assert np.array_equal(statistic, before) == (not training)


@few
@given(st.lists(small(0, 5), max_size=3), small(1, 5), seeds)
def test_the_confusion_matrix_equals_its_loop(shape, K, seed):
    rng = np.random.default_rng(seed)
    target, prediction = rng.integers(0, K, shape), rng.integers(0, K, shape)
    target = np.where(rng.random(shape) < 0.3, 255, target)
    matrix = ConfusionMatrix(K)
    matrix.update(target, prediction)
    same(matrix.counts, loops.confusion_matrix(target, prediction, K), 0)


def test_every_op_has_a_loop_or_is_one_line_of_numpy():
    one_line = ["cat", "dropout", "exp", "log", "matmul", "max", "mean", "pad", "sigmoid"]
    one_line += ["sum", "tanh"]
    elsewhere = ["bilinear_kernel", "output_size"]  # held to their facts above
    without = [name for name in F.__all__ if not hasattr(loops, name)]
    assert without == sorted(one_line + elsewhere)
