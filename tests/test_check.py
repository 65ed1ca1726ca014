"""The gradient checker and the adjoint test: what they let pass, what they refuse and say."""

import re
from fractions import Fraction

import numpy as np
import pytest

import minseg.functional as F
from minseg.backend import array_module
from minseg.check import check_adjoint, check_gradient
from minseg.tensor import Tensor, differentiable

rng = np.random.default_rng(0)
X = rng.standard_normal((3, 4))
W = rng.standard_normal((4, 5))


def square_with(wrong):
    """x * x with a gradient that `wrong` may spoil."""

    @differentiable
    def square(x):
        return x * x, (lambda dy: wrong(2 * x * dy),)

    return square


def spoilt_at(index, factor):
    def wrong(dx):
        dx[index] *= factor
        return dx

    return wrong


# ---- check_gradient: right and wrong gradients --------------------------------------------------


def test_a_right_gradient_passes_with_an_error_far_below_the_tolerance():
    assert check_gradient(F.matmul, X, W) < 1e-8
    assert check_gradient(square_with(lambda dx: dx), X) < 1e-8


@pytest.mark.parametrize("index", [(0, 0), (1, 2), (2, 3)])
def test_one_wrong_entry_is_found_and_named_with_both_values(index):
    x = np.where(X > 0, X + 1, X - 1)
    with pytest.raises(AssertionError) as failure:
        check_gradient(square_with(spoilt_at(index, 1.001)), x)
    sentence = str(failure.value)
    assert f"the gradient of x is wrong: at index {index} " in sentence
    expected, got = re.search(
        r"difference gives (\S+), the gradient says (\S+) ", sentence
    ).groups()
    assert float(got) == pytest.approx(1.001 * float(expected), rel=1e-6)
    assert "kink" not in sentence


def test_the_sentence_names_the_one_input_whose_gradient_is_wrong():
    @differentiable
    def product(left, right):
        return left @ right, (lambda dy: dy @ right.T, lambda dy: 1.001 * (left.T @ dy))

    with pytest.raises(AssertionError, match="check_gradient: the gradient of right is wrong"):
        check_gradient(product, X, W)
    with pytest.raises(AssertionError, match="the gradient of input 1 is wrong"):
        check_gradient(lambda *arrays: product(*arrays), X, W)


def test_a_gradient_lost_on_the_way_is_a_gradient_of_zero():
    with pytest.raises(AssertionError, match=r"gradient of x is wrong.* the gradient says 0 "):
        check_gradient(lambda x: Tensor(x.data * 2), X)
    with pytest.raises(AssertionError, match=r"gradient of y is wrong.* the gradient says 0 "):
        check_gradient(lambda x, y: x * y.detach(), X, X)


def test_a_gradient_of_zero_where_nothing_changes_is_right():
    assert check_gradient(F.relu, -1 - abs(X)) == 0
    # A shift of all logits changes no probability; the difference sees nothing but rounding.
    assert check_gradient(lambda shift: F.softmax(shift + X), np.array([[0.5]])) <= 1e-6


def test_a_gradient_that_is_not_a_number_is_wrong():
    with pytest.raises(AssertionError, match=r"at index \(2, 1\) .* the gradient says nan"):
        check_gradient(square_with(spoilt_at((2, 1), np.nan)), X)


def test_a_kink_is_named_as_one():
    x = np.array([1.0, 0.0, 2.0])
    with pytest.raises(AssertionError, match=r"at index \(1,\) .* but f has a kink there, slope "):
        check_gradient(F.relu, x)


def test_the_gradient_is_checked_for_random_weights_of_the_output():
    # The sum of a softmax is 1: with dy all ones its gradient is 0 and every wrong gradient passes.
    @differentiable
    def no_softmax(x):
        return np.exp(x) / np.exp(x).sum(axis=1, keepdims=True), (lambda dy: 0 * dy,)

    with pytest.raises(AssertionError, match="gradient of x is wrong"):
        check_gradient(no_softmax, X)


def test_every_input_is_checked_at_its_own_index_even_a_single_number():
    assert check_gradient(lambda x: x * x * x, 3.0) < 1e-8
    with pytest.raises(AssertionError, match=r"at index \(\) a finite difference"):
        check_gradient(square_with(lambda dx: 1.001 * dx), 3.0)


def test_integers_are_handed_on_and_the_first_of_several_values_counts():
    target = np.array([0, 3, 1])
    assert check_gradient(F.cross_entropy, X, target) < 1e-8
    image = np.random.default_rng(1).permutation(36).reshape(1, 1, 6, 6) / 10
    assert check_gradient(lambda x: F.max_pool2d(x, 2, return_indices=True), image) < 1e-8


def test_the_arrays_of_the_caller_are_left_alone():
    x, w = X.copy(), W.copy()
    check_gradient(F.matmul, x, w)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(w, W)


def test_the_same_generator_gives_the_same_error_and_the_default_is_fixed():
    first, second, other = (
        check_gradient(F.matmul, X, W, rng=np.random.default_rng(seed)) for seed in (7, 7, 8)
    )
    assert first == second != other
    assert check_gradient(F.matmul, X, W) == check_gradient(F.matmul, X, W)


def test_gradients_are_checked_where_the_arrays_live(xp):
    x, w = xp.asarray(X), xp.asarray(W)
    assert check_gradient(lambda x, w: F.relu(x @ w), x, w) < 1e-8
    with pytest.raises(AssertionError, match=r"gradient of x is wrong: at index \(1, 2\)"):
        check_gradient(square_with(spoilt_at((1, 2), 1.1)), x)
    assert array_module(x) is xp


# ---- check_gradient: a student's op, with a gradient function of its own ------------------------


def test_an_op_on_plain_arrays_is_checked_with_its_own_gradient_function():
    def scores(x, w):
        return np.tanh(x @ w)

    def gradient(dy, x, w):
        inner = dy * (1 - np.tanh(x @ w) ** 2)
        return inner @ w.T, x.T @ inner

    def wrong(dy, x, w):
        dx, dw = gradient(dy, x, w)
        return dx, 1.001 * dw

    assert check_gradient(scores, X, W, gradient=gradient) < 1e-8
    with pytest.raises(AssertionError, match="the gradient of w is wrong"):
        check_gradient(scores, X, W, gradient=wrong)


def test_one_input_needs_no_tuple_and_none_claims_nothing():
    assert check_gradient(np.sin, X, gradient=lambda dy, x: dy * np.cos(x)) < 1e-8
    assert check_gradient(np.sum, X, gradient=lambda dy, x: dy * np.ones_like(x)) < 1e-8
    assert check_gradient(np.matmul, X, W, gradient=lambda dy, x, w: (dy @ w.T, None)) < 1e-8


def test_a_gradient_of_another_shape_is_wrong():
    with pytest.raises(
        AssertionError, match=r"the gradient of x has shape \(4,\), but x has shape \(3, 4\)"
    ):
        check_gradient(lambda x: x * 2, X, gradient=lambda dy, x: 2 * dy.sum(axis=0))


# ---- check_gradient: functions that cannot be checked -------------------------------------------


def counting():
    """A function that returns another shape at its second call."""
    calls = []

    def function(x):
        calls.append(0)
        return x if len(calls) == 1 else x[:1]

    return function


def in_place(x):
    y = x * 2
    x += 1
    return y


UNCHECKABLE = {
    "no Tensor": (
        lambda: check_gradient(lambda x: None, X),
        TypeError,
        "check_gradient: the function must return a Tensor, got NoneType",
    ),
    "an array for a Tensor": (
        lambda: check_gradient(lambda x: np.sin(x.data), X),
        TypeError,
        "must return a Tensor, got ndarray; pass gradient= to check a function on plain arrays",
    ),
    "no array": (
        lambda: check_gradient(lambda x: [1.0], X, gradient=lambda dy, x: dy),
        TypeError,
        "check_gradient: the function must return an array, got list",
    ),
    "a new shape": (
        lambda: check_gradient(counting(), X),
        ValueError,
        r"returns shape \(3, 4\) at the first call and \(1, 4\) at the second",
    ),
    "chance": (
        lambda: check_gradient(lambda x: F.dropout(x, rng=rng), X),
        ValueError,
        "the function is not deterministic: .* make its random generator anew inside it",
    ),
    "in place": (
        lambda: check_gradient(in_place, X, gradient=lambda dy, x: 2 * dy),
        ValueError,
        "check_gradient: the function changes x in place",
    ),
    "float32": (
        lambda: check_gradient(F.matmul, X, W.astype(np.float32)),
        TypeError,
        r"check_gradient: y is float32, whose rounding .* use .astype\(np.float64\)",
    ),
    "float32 inside": (
        lambda: check_gradient(lambda x: Tensor(x.data.astype(np.float32)), X),
        TypeError,
        "the function returns float32 for float64 inputs",
    ),
    "nothing to check": (
        lambda: check_gradient(F.matmul, np.ones((2, 2), int), np.ones((2, 2), int)),
        TypeError,
        "check_gradient: no input holds floats",
    ),
    "too many gradients": (
        lambda: check_gradient(np.sin, X, gradient=lambda dy, x: (dy, dy)),
        ValueError,
        "gradient returns 2 arrays for 1 inputs",
    ),
    "no gradient at all": (
        lambda: check_gradient(np.sin, X, gradient=lambda dy, x: None),
        ValueError,
        "gradient returns None for every floating input",
    ),
}


@pytest.mark.parametrize("name", UNCHECKABLE)
def test_a_function_that_cannot_be_checked_gets_a_sentence(name):
    call, error, sentence = UNCHECKABLE[name]
    with pytest.raises(error, match=sentence):
        call()


# ---- check_adjoint -----------------------------------------------------------------------------


def test_reversing_is_its_own_transpose_and_shifting_is_not():
    x, y = np.arange(5), np.array([3, 1, 4, 1, 5])
    check_adjoint(lambda x: x[::-1], lambda y: y[::-1], x, y)
    with pytest.raises(
        AssertionError, match=r"<forward\(x\), y> is 33 but <x, adjoint\(y\)> is 21"
    ):
        check_adjoint(lambda x: np.roll(x, 1), lambda y: np.roll(y, 1), x, y)


def test_integers_are_compared_exactly_beyond_the_range_of_int64():
    x = np.array([2**40, 1])
    off_by_one = lambda y: y + np.array([0, 1])  # noqa: E731
    check_adjoint(lambda x: x * 1, lambda y: y * 1, x, x)
    with pytest.raises(AssertionError, match=f"is {2**80 + 1} but .* is {2**80 + 2}"):
        check_adjoint(lambda x: x * 1, off_by_one, x, x)


def test_fractions_are_compared_exactly():
    third = np.array([Fraction(1, 3), Fraction(2, 7)])
    near = Fraction(1, 3) + Fraction(1, 10**30)
    check_adjoint(lambda x: x * Fraction(1, 3), lambda y: y * Fraction(1, 3), third, third)
    with pytest.raises(AssertionError, match="adjoint is not the transpose of forward"):
        check_adjoint(lambda x: x * Fraction(1, 3), lambda y: y * near, third, third)


def test_floats_may_differ_by_rounding_and_no_more():
    y = rng.standard_normal((3, 5))
    check_adjoint(lambda x: x @ W, lambda y: y @ W.T, X, y)
    with pytest.raises(AssertionError, match="not the transpose"):
        check_adjoint(lambda x: x @ W, lambda y: y @ (W.T * (1 + 1e-9)), X, y)
    x, y, w = (array.astype(np.float32) for array in (X, y, W))
    check_adjoint(lambda x: x @ w, lambda y: y @ w.T, x, y, tolerance=1e-5)


def test_convolution_and_transposed_convolution_are_adjoint_on_either_device(xp):
    draw = np.random.default_rng(2)
    x, y, w = (
        xp.asarray(draw.integers(-9, 10, shape))
        for shape in [(2, 3, 7, 8), (2, 4, 3, 4), (4, 3, 3, 3)]
    )
    conv = lambda x: F.conv2d(x, w, stride=2)  # noqa: E731
    back = lambda y: F.conv_transpose2d(y, w, stride=2, output_padding=(0, 1))  # noqa: E731
    with pytest.raises(ValueError, match=r"forward\(x\) has shape .* but y has shape"):
        check_adjoint(conv, back, x, y)
    y = y[..., :3]
    check_adjoint(conv, back, x, y)


def test_maps_that_return_no_array_get_a_sentence():
    with pytest.raises(TypeError, match=r"check_adjoint: adjoint\(y\) must be an array, got list"):
        check_adjoint(lambda x: x, lambda y: y.tolist(), X, X)
    with pytest.raises(
        ValueError, match=r"adjoint\(y\) has shape \(4, 3\), but x has shape \(3, 4\)"
    ):
        check_adjoint(lambda x: x, lambda y: y.T, X, X)
