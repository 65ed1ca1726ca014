"""Is a gradient right? Is one map the transpose of another? Two questions a computer can answer.

A gradient function takes dL/dy and gives dL/dx: it is the transpose of the derivative. So for any
change v of the input and any weighting dy of the output, both ways round must agree on one number:

    <dy, derivative of f along v>  =  <gradient(dy), v>

The left side needs nothing but f itself, evaluated a little to either side.

Source: Griewank and Walther, Evaluating Derivatives (2008), chapter 3; for the transpose, the
dot-product test of Claerbout, Earth Soundings Analysis (1992).
"""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from minseg.backend import Array, array_module, is_array, to_numpy
from minseg.tensor import Tensor, no_grad


def check_gradient(
    function: Callable,
    *arrays: Any,
    gradient: Callable | None = None,
    rng: np.random.Generator | None = None,
    eps: float = 1e-6,
    tolerance: float = 1e-6,
) -> float:
    """Hold the gradient of every floating input x of `function` against a central difference:

        <dy, f(x + eps v) - f(x - eps v)> / (2 eps)  =  <dx, v>     up to `tolerance`, relative

    with dy (the shape of f's value) and v (the shape of x) drawn from rng, one input at a time.

    arrays: float64 of any shape; integers (labels, indices) are handed on as they are.
    function(*arrays) returns a Tensor, or a tuple of which the first counts: it is called with
    Tensors, and `backward` is checked. With `gradient` it is called with plain arrays and returns
    one; gradient(dy, *arrays) is checked, which returns one dx per input, None where there is none.

    Returns the largest relative error. Where f has a kink (relu at 0, two equal maxima in a window)
    nothing can be checked: choose another point.

    Raises:
        AssertionError: a gradient is wrong; the sentence names input and index, and both values.
        TypeError: inputs that are not float64, or a function that returns no Tensor (array).
        ValueError: a function that returns something else each time, or changes its input.

    Source: Griewank and Walther (2008), chapter 3.

    >>> check_gradient(lambda x: x * x, np.array([1.0, 2.0])) < 1e-6
    True
    """
    subject = _Subject(function, arrays, gradient)
    rng = np.random.default_rng(0) if rng is None else rng
    y = subject.value(subject.inputs)
    subject.call_again(y)

    def draw(like: Array) -> Array:
        return array_module(like).asarray(rng.standard_normal(like.shape))

    dy = draw(y)
    # The value is known to about 16 digits; a smaller change of it is rounding and says nothing.
    rounding = np.finfo(np.float64).eps * _dot(abs(dy), abs(y)) / eps
    largest = 0.0
    for n, dx in subject.gradients(dy).items():
        x, name = subject.inputs[n], subject.names[n]
        if dx.shape != x.shape:
            raise AssertionError(
                f"check_gradient: the gradient of {name} has shape {dx.shape}, "
                f"but {name} has shape {x.shape}"
            )

        def slope(along: Array, n: int = n) -> float:
            there, back = (subject.moved(n, step * along) for step in (eps, -eps))
            return _dot(dy, there - back) / (2 * eps)

        v = draw(x)
        expected, got = slope(v), _dot(dx, v)
        scale = max(abs(expected), abs(got), rounding / tolerance, 1e-300)
        error = abs(expected - got) / scale
        if not error <= tolerance:  # not >: an error of NaN is an error
            index = _wrong_entry(slope, dx, v)
            unit, entry = _unit(x, index), float(dx[index])
            left, right = (
                _dot(dy, subject.moved(n, step * unit) - y) / step for step in (-eps, eps)
            )
            kink = ""
            if abs(right - left) > 1e-3 * max(abs(right), abs(left), abs(entry)):
                kink = f", but f has a kink there, slope {left:.3g} before and {right:.3g} after it"
            raise AssertionError(
                f"check_gradient: the gradient of {name} is wrong: at index {index} a finite "
                f"difference gives {slope(unit):.9g}, the gradient says {entry:.9g}{kink} (along "
                f"a random direction the relative error is {error:.1e}, tolerance {tolerance:.0e})"
            )
        largest = max(largest, error)
    return largest


class _Subject:
    """A function under examination: its inputs, their names, its value and its own gradients."""

    def __init__(self, function: Callable, arrays: tuple, gradient: Callable | None) -> None:
        self.function, self.gradient = function, gradient
        self.inputs = [_plain(array) for array in arrays]
        self.names = _argument_names(function, len(arrays))
        self.floating = [n for n, x in enumerate(self.inputs) if x.dtype.kind == "f"]
        if not self.floating:
            raise TypeError("check_gradient: no input holds floats, so no gradient can be checked")
        for n in self.floating:
            if self.inputs[n].dtype != np.float64:
                raise TypeError(
                    f"check_gradient: {self.names[n]} is {self.inputs[n].dtype}, whose rounding "
                    "hides a wrong gradient; use .astype(np.float64)"
                )

    def call(self, inputs: list[Array]) -> tuple[Any, list[Any]]:
        """The function's first value, and what it was called with: copies, Tensors if floating."""
        given: list[Any] = [x.copy() for x in inputs]
        if self.gradient is None:
            for n in self.floating:
                given[n] = Tensor(given[n], requires_grad=True)
        y = self.function(*given)
        y = y[0] if isinstance(y, tuple) else y
        right = isinstance(y, Tensor) if self.gradient is None else is_array(y) or np.isscalar(y)
        if not right:
            wanted = "a Tensor" if self.gradient is None else "an array"
            plain = is_array(y) and self.gradient is None
            hint = "; pass gradient= to check a function on plain arrays" if plain else ""
            raise TypeError(
                f"check_gradient: the function must return {wanted}, got {type(y).__name__}{hint}"
            )
        return y, given

    def value(self, inputs: list[Array]) -> Array:
        """The function's value as a plain float64 array."""
        with no_grad():
            y = _plain(self.call(inputs)[0])
        if y.dtype != np.float64:
            raise TypeError(
                f"check_gradient: the function returns {y.dtype} for float64 inputs; are its other "
                "arrays, weights say, float32?"
            )
        return y

    def call_again(self, y: Array) -> None:
        """The same call must give the same value, and leave its inputs as they were."""
        with no_grad():
            again, given = self.call(self.inputs)
        again = _plain(again)
        if again.shape != y.shape:
            raise ValueError(
                f"check_gradient: the function returns shape {y.shape} at the first call and "
                f"{again.shape} at the second, for the same input"
            )
        if not np.array_equal(to_numpy(again), to_numpy(y), equal_nan=True):
            raise ValueError(
                "check_gradient: the function is not deterministic: it returns other values at the "
                "second call, for the same input; make its random generator anew inside it"
            )
        for name, before, after in zip(self.names, self.inputs, given, strict=True):
            if not np.array_equal(to_numpy(before), to_numpy(_plain(after)), equal_nan=True):
                raise ValueError(f"check_gradient: the function changes {name} in place")

    def gradients(self, dy: Array) -> dict[int, Array]:
        """The gradient under test of every floating input that has one, by the input's number."""
        if self.gradient is None:
            y, given = self.call(self.inputs)
            if y.requires_grad:  # otherwise it claims to depend on no input
                y.backward(dy)
            zeros = array_module(dy).zeros
            claimed = ((n, given[n].grad) for n in self.floating)
            return {n: zeros(self.inputs[n].shape) if dx is None else dx for n, dx in claimed}
        found = self.gradient(dy.copy(), *(x.copy() for x in self.inputs))
        found = found if isinstance(found, (tuple, list)) else (found,)
        if len(found) != len(self.inputs):
            raise ValueError(
                f"check_gradient: gradient returns {len(found)} arrays for {len(self.inputs)} "
                "inputs; return one for each, None where there is none"
            )
        if all(found[n] is None for n in self.floating):
            raise ValueError("check_gradient: gradient returns None for every floating input")
        return {n: _plain(found[n]) for n in self.floating if found[n] is not None}

    def moved(self, n: int, by: Array) -> Array:
        """The value with input number n moved."""
        x = array_module(by).asarray(self.inputs[n] + by)
        return self.value([*self.inputs[:n], x, *self.inputs[n + 1 :]])


def check_adjoint(
    forward: Callable, adjoint: Callable, x: Any, y: Any, tolerance: float = 1e-12
) -> None:
    """Are two linear maps each other's transpose (adjoint)?

        <forward(x), y>  =  <x, adjoint(y)>

    x of any shape that forward takes, y of the shape of forward(x). Exact where all four arrays
    hold integers, Fractions or formal variables; floats may differ by `tolerance` of the sum of the
    products' sizes (1e-12 suits float64, 1e-5 float32).

    Raises:
        AssertionError: they are not; the sentence says both numbers.
        TypeError, ValueError: a map that returns no array, or an array of another shape.

    Source: Claerbout (1992), the dot-product test.

    >>> check_adjoint(lambda x: x[::-1], lambda y: y[::-1], np.arange(3), np.array([5, 7, 9]))
    """
    x, y = _plain(x), _plain(y)
    forward_x = _image("forward(x)", forward(x.copy()), "y", y)
    adjoint_y = _image("adjoint(y)", adjoint(y.copy()), "x", x)
    there, back = _exact_dot(forward_x, y), _exact_dot(x, adjoint_y)
    if all(array.dtype.kind in "biuO" for array in (x, y, forward_x, adjoint_y)):
        equal = there == back
    else:
        sizes = _dot(abs(forward_x), abs(y)), _dot(abs(x), abs(adjoint_y))
        equal = abs(there - back) <= tolerance * max(sizes)
    if not equal:
        raise AssertionError(
            "check_adjoint: adjoint is not the transpose of forward: "
            f"<forward(x), y> is {there} but <x, adjoint(y)> is {back}"
        )


def _image(what: str, value: Any, other_name: str, other: Array) -> Array:
    """The value of a linear map, when it can be multiplied with `other` entry by entry."""
    value = value.data if isinstance(value, Tensor) else value
    if not is_array(value):
        raise TypeError(f"check_adjoint: {what} must be an array, got {type(value).__name__}")
    if value.shape != other.shape:
        raise ValueError(
            f"check_adjoint: {what} has shape {value.shape}, "
            f"but {other_name} has shape {other.shape}"
        )
    return value


def _plain(value: Any) -> Array:
    """Tensors opened, numbers and lists as arrays."""
    value = value.data if isinstance(value, Tensor) else value
    return value if is_array(value) else np.asarray(value)


def _dot(a: Array, b: Array) -> float:
    """The sum of all products."""
    return float((a * b).sum())


def _exact_dot(a: Array, b: Array) -> Any:
    """The sum of all products; of anything but floats in Python's numbers, which never overflow."""
    if "f" in (a.dtype.kind, b.dtype.kind):
        return _dot(a, b)
    return sum(p * q for p, q in zip(*(to_numpy(c).ravel().tolist() for c in (a, b)), strict=True))


def _argument_names(function: Callable, count: int) -> list[str]:
    """What the function calls its first arguments; "input 0" and so on where it does not say."""
    names = [f"input {n}" for n in range(count)]
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some built-in functions have no signature
        return names
    known = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return (known + names[len(known) :])[:count]


def _unit(x: Array, index: tuple[int, ...]) -> Array:
    """1 at the index and 0 elsewhere, in the shape of x."""
    unit = array_module(x).zeros(x.shape)
    unit[index] = 1
    return unit


def _wrong_entry(slope: Callable[[Array], float], dx: Array, v: Array) -> tuple[int, ...]:
    """The index of an entry where gradient and difference disagree.

    The disagreement along v is a sum over entries: halve them, keep the half with more of it.
    """
    strange = np.flatnonzero(~np.isfinite(to_numpy(dx)))
    entries = strange[:1] if len(strange) else np.arange(dx.size)

    def disagreement(some: np.ndarray) -> float:
        mask = np.isin(np.arange(dx.size), some).astype(np.float64).reshape(dx.shape)
        part = array_module(dx).asarray(mask) * v
        return abs(slope(part) - _dot(dx, part))

    while len(entries) > 1:
        entries = max(np.array_split(entries, 2), key=disagreement)
    return tuple(int(n) for n in np.unravel_index(entries[0], dx.shape))
