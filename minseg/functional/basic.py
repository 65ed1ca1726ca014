"""Arithmetic on arrays, each op with its gradients; it gives Tensor its operators.

Source: ENSTA Paris, CSC_5RO13, "Training Segmentation Networks"; the gradients are calculus.
"""

import builtins
import inspect
import math
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from minseg.arguments import array, integer
from minseg.backend import Array, array_module, is_array
from minseg.tensor import Tensor, differentiable


def unbroadcast(dy: Array, like: Any) -> Array:
    """Broadcasting copies a number; the gradient of a copy is a sum: dy back to the shape of `like`."""
    shape = np.shape(like) if array_module(like) is np else like.shape
    if dy.shape == shape:
        return dy
    dy = dy.sum(axis=tuple(range(dy.ndim - len(shape))))
    copied = tuple(n for n, size in enumerate(shape) if size == 1 and dy.shape[n] != 1)
    return dy.sum(axis=copied, keepdims=True) if copied else dy


def once(function: Callable[[Array], Any]) -> Callable[[Array], Any]:
    """`function`, remembering its last answer: for a sum that several gradients of an op share."""
    last: list[Any] = [None, None]

    def remembering(dy: Array) -> Any:
        if last[0] is not dy:
            last[:] = dy, function(dy)
        return last[1]

    return remembering


def together(
    both: Callable[[Array], tuple[Array, Array]], second: Callable[[Array], Array]
) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """Two gradients that are cheaper together, each as a function of dy: asked for the first, `both`
    keeps the second for when it is asked for; alone, the second is found by itself."""
    kept: list[Array] = []

    def grad_first(dy: Array) -> Array:
        dx, dw = both(dy)
        kept[:] = dy, dw
        return dx

    def grad_second(dy: Array) -> Array:
        of, dw = kept or (None, None)
        kept.clear()
        return dw if of is dy else second(dy)

    return grad_first, grad_second


def takes_planes(count: int) -> Callable:
    """Let an op on batches also take one plane (H, W), as slides write it.

    The op's first `count` arrays are planes together; they are lifted to (1, 1, H, W), and the
    value and gradients brought back.
    """

    def decorate(op: Callable) -> Callable:
        names = list(inspect.signature(op).parameters)[:count]

        @wraps(op)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            given = dict(zip(names, args, strict=False)) | kwargs
            if getattr(given.get(names[0]), "ndim", None) != 2:
                return op(*args, **kwargs)
            for name in names[1:]:
                other: Any = given.get(name)
                if getattr(other, "ndim", 2) != 2:
                    raise ValueError(
                        f"{op.__name__}: {names[0]} is one plane {given[names[0]].shape}, so {name} "
                        f"must have two axes as well, got {other.shape}"
                    )

            def lift(name: str, value: Any) -> Any:
                return value[None, None] if name in names and is_array(value) else value

            value, gradients = op(
                *(lift(names[n] if n < count else "", argument) for n, argument in enumerate(args)),
                **{name: lift(name, argument) for name, argument in kwargs.items()},
            )

            def lower(gradient: Callable, is_plane: bool) -> Callable:
                if is_plane:
                    return lambda dy: gradient(dy[None, None])[0, 0]
                return lambda dy: gradient(dy[None, None])

            lowered = tuple(
                gradient and lower(gradient, n < count) for n, gradient in enumerate(gradients)
            )
            if isinstance(value, tuple):
                return tuple(y[0, 0] for y in value), lowered
            return value[0, 0], lowered

        return wrapper

    return decorate


def _beside(x: Any, y: Any) -> tuple[Any, Any]:
    """A list among the two becomes an array of the other's type: float32 stays float32."""
    if isinstance(y, (list, tuple)):
        return x, np.asarray(y, x.dtype)
    return (np.asarray(x, y.dtype), y) if isinstance(x, (list, tuple)) else (x, y)


@differentiable
def add(x: Any, y: Any) -> Any:
    """x + y, with broadcasting."""
    x, y = _beside(x, y)
    return x + y, (lambda dz: unbroadcast(dz, x), lambda dz: unbroadcast(dz, y))


@differentiable
def subtract(x: Any, y: Any) -> Any:
    """x - y, with broadcasting."""
    x, y = _beside(x, y)
    return x - y, (lambda dz: unbroadcast(dz, x), lambda dz: unbroadcast(-dz, y))


@differentiable
def multiply(x: Any, y: Any) -> Any:
    """x * y, with broadcasting; dx = dz * y, dy = dz * x."""
    x, y = _beside(x, y)
    return x * y, (lambda dz: unbroadcast(dz * y, x), lambda dz: unbroadcast(dz * x, y))


@differentiable
def divide(x: Any, y: Any) -> Any:
    """x / y, with broadcasting; dx = dz / y, dy = -dz * x / y^2."""
    x, y = _beside(x, y)
    return x / y, (
        lambda dz: unbroadcast(dz / y, x),
        lambda dz: unbroadcast(-dz * x / (y * y), y),
    )


@differentiable
def negative(x: Any) -> Any:
    """-x."""
    return -x, (lambda dy: -dy,)


@differentiable
def power(x: Any, exponent: float) -> Any:
    """x ** exponent for a constant exponent; dx = dy * exponent * x^(exponent - 1)."""
    if not isinstance(exponent, (int, float)):
        raise TypeError(
            f"power: exponent must be a Python number, got {type(exponent).__name__}; "
            "for a varying exponent use exp(exponent * log(x))"
        )
    if exponent == 0:  # constant 1: the rule below would say 0 * 0^-1 at x = 0
        return x**exponent, (lambda dy: dy * 0,)
    return x**exponent, (lambda dy: dy * (exponent * x ** (exponent - 1)),)


@differentiable
def exp(x: Any) -> Any:
    """e^x, any shape; dx = dy * e^x.

    Source: calculus; softmax needs it (ENSTA Paris, CSC_5RO13, "Output encoding and loss
    functions?").
    """
    y = array_module(x).exp(array("exp", "x", x))
    return y, (lambda dy: dy * y,)


@differentiable
def log(x: Any) -> Any:
    """Natural logarithm, any shape; dx = dy / x.

    Source: calculus; cross-entropy needs it (University of Waterloo, "(Training) Loss:
    Cross-Entropy").
    """
    return array_module(x).log(array("log", "x", x)), (lambda dy: dy / x,)


@differentiable
def matmul(x: Array, y: Array) -> Any:
    """x @ y for x (..., M, K) and y (..., K, N) -> (..., M, N); dx = dz @ y^T, dy = x^T @ dz.

    Raises:
        ValueError: an input with fewer than two axes, or inner sizes that differ.

    Source: Bonn University, MA-INF 4308 (2023), "Convolutionalization": a dense layer is one of
    these.
    """
    for name, value in (("x", x), ("y", y)):
        if array("matmul", name, value).ndim < 2:
            raise ValueError(f"matmul: {name} needs at least two axes, got shape {value.shape}")
    if x.shape[-1] != y.shape[-2]:
        raise ValueError(
            f"matmul: x has {x.shape[-1]} columns but y has {y.shape[-2]} rows "
            f"(x is {x.shape}, y is {y.shape})"
        )
    return x @ y, (
        lambda dz: unbroadcast(dz @ y.swapaxes(-1, -2), x),  # (M, N) x (N, K) -> (M, K)
        lambda dz: unbroadcast(x.swapaxes(-1, -2) @ dz, y),  # (K, M) x (M, N) -> (K, N)
    )


@differentiable
def linear(x: Array, w: Array, b: Array | None = None) -> Any:
    """y = x w^T + b: a dense layer. x (..., C), w (O, C), b (O,) -> (..., O).

    Raises:
        ValueError: x's last axis is not w's second, or b is not (O,).

    Source: Bonn University, MA-INF 4308 (2023), "Convolutionalization".
    """
    array("linear", "w", w, 2, "(O, C)")
    if array("linear", "x", x).ndim < 1 or x.shape[-1] != w.shape[1]:
        raise ValueError(f"linear: x has shape {x.shape} but w expects (..., {w.shape[1]})")
    if b is not None and array("linear", "b", b).shape != w.shape[:1]:
        raise ValueError(f"linear: b must have shape ({len(w)},), got {b.shape}")
    rows = x.reshape(-1, x.shape[-1])  # (..., C) -> (L, C)
    y = rows @ w.T  # (L, C) x (C, O) -> (L, O)
    y = (y if b is None else y + b).reshape(*x.shape[:-1], len(w))

    def grad_x(dy: Array) -> Array:
        return (dy.reshape(-1, len(w)) @ w).reshape(x.shape)  # (L, O) x (O, C) -> (L, C)

    def grad_w(dy: Array) -> Array:
        return dy.reshape(-1, len(w)).T @ rows  # (O, L) x (L, C) -> (O, C)

    def grad_b(dy: Array) -> Array:
        return dy.reshape(-1, len(w)).sum(axis=0)

    return y, (grad_x, grad_w, grad_b)


def _axes(name: str, x: Array, axis: Any) -> tuple[int, ...]:
    """The axes a reduction runs over, none counted from the end; None means all of them."""
    array(name, "x", x)
    if axis is None:
        return tuple(range(x.ndim))
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    for number in axes:
        if not -x.ndim <= integer(name, "axis", number) < x.ndim:
            raise ValueError(f"{name}: axis {number} does not exist in shape {x.shape}")
    if len({number % x.ndim for number in axes}) < len(axes):
        raise ValueError(f"{name}: axis {axis} names one axis twice")
    return tuple(number % x.ndim for number in axes)


def _kept(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with the reduced axes kept as size 1."""
    return tuple(1 if n in axes else size for n, size in enumerate(shape))


@differentiable
def sum(x: Array, axis: Any = None, keepdims: bool = False) -> Any:
    """Sum over `axis` (an int, a tuple, or None for all); every x gets the sum's gradient.

    x of any shape -> the same without those axes, or with size 1 there if keepdims.
    Source: calculus; it is the transpose of broadcasting.
    """
    axes = _axes("sum", x, axis)

    def grad_x(dy: Array) -> Array:
        return array_module(x).broadcast_to(dy.reshape(_kept(x.shape, axes)), x.shape)

    return x.sum(axis=axes, keepdims=keepdims), (grad_x,)


@differentiable
def mean(x: Array, axis: Any = None, keepdims: bool = False) -> Any:
    """Mean over `axis`; every x gets 1/count of the mean's gradient. Shapes as in sum: any shape in.

    Source: calculus.
    """
    axes = _axes("mean", x, axis)
    count = math.prod(x.shape[n] for n in axes)

    def grad_x(dy: Array) -> Array:
        return array_module(x).broadcast_to(dy.reshape(_kept(x.shape, axes)) / count, x.shape)

    return x.sum(axis=axes, keepdims=keepdims) / count, (grad_x,)


@differentiable
def max(x: Array, axis: Any = None, keepdims: bool = False) -> Any:
    """Largest value over `axis`; of equal ones the first wins, and it alone has a gradient.

    Shapes as in sum: any shape in. (PyTorch's amax shares the gradient among equals.)
    Source: calculus, away from ties.
    """
    axes = _axes("max", x, axis)
    rest = tuple(n for n in range(x.ndim) if n not in axes)
    rows = x.transpose(*rest, *axes)  # (kept..., reduced...)
    rows = rows.reshape(*(x.shape[n] for n in rest), -1)
    y = rows.max(axis=-1)
    if keepdims:
        y = y.reshape(_kept(x.shape, axes))

    def grad_x(dy: Array) -> Array:
        xp = array_module(x)
        first = xp.expand_dims(rows.argmax(axis=-1), -1)
        won = xp.arange(rows.shape[-1]) == first  # (kept..., reduced): true once in each row
        dx = won * xp.expand_dims(dy.reshape(first.shape[:-1]), -1)
        dx = dx.reshape([x.shape[n] for n in (*rest, *axes)])
        return dx.transpose(*[(*rest, *axes).index(n) for n in range(x.ndim)])

    return y, (grad_x,)


@differentiable
def reshape(x: Array, *shape: Any) -> Any:
    """The same numbers in another shape, row by row."""
    new = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
    return x.reshape(new), (lambda dy: dy.reshape(x.shape),)


@differentiable
def transpose(x: Array, *axes: Any) -> Any:
    """The axes in another order; without arguments, reversed."""
    order = axes[0] if len(axes) == 1 and isinstance(axes[0], (tuple, list)) else axes
    order = tuple(order) or tuple(range(x.ndim))[::-1]
    if sorted(integer("transpose", "axes", n) % builtins.max(1, x.ndim) for n in order) != list(
        range(x.ndim)
    ):
        raise ValueError(f"transpose: axes must name each axis of {x.shape} once, got {order}")
    order = tuple(n % x.ndim for n in order)
    back = [order.index(n) for n in range(x.ndim)]
    return x.transpose(order), (lambda dy: dy.transpose(back),)


@differentiable
def getitem(x: Array, index: Any) -> Any:
    """x[index]; the gradient goes back to where the numbers came from, added up where one came twice."""

    def grad_x(dy: Array) -> Array:
        xp = array_module(x)
        parts = index if isinstance(index, tuple) else (index,)
        if all(part is None or part is ... or isinstance(part, (int, slice)) for part in parts):
            dx = xp.zeros(x.shape, dy.dtype)
            dx[index] = dy
            return dx
        positions = xp.arange(x.size).reshape(x.shape)[index].ravel()
        dx = xp.bincount(positions, weights=dy.ravel(), minlength=x.size)
        return dx.astype(dy.dtype).reshape(x.shape)

    return x[index], (grad_x,)


@differentiable
def _concatenate(*arrays: Array, axis: int) -> Any:
    sizes = [x.shape[axis] for x in arrays]
    stops = [int(stop) for stop in np.cumsum(sizes)]

    def part(n: int) -> Callable[[Array], Array]:
        around = (slice(None),) * axis
        return lambda dy: dy[(*around, slice(stops[n] - sizes[n], stops[n]))]

    y = array_module(*arrays).concatenate(arrays, axis)
    return y, tuple(part(n) for n in range(len(arrays)))


def cat(tensors: Any, dim: int = 0) -> Any:
    """Arrays one after another along `dim`: (..., A, ...) and (..., B, ...) -> (..., A + B, ...).

    A U-Net's skip connection is cat([skip, upsampled], dim=1): M + N channels.

    Raises:
        TypeError, ValueError: nothing to concatenate, or shapes that differ outside `dim`.

    Source: University of Waterloo, "U-net: expanding decoder with symmetry"; Ronneberger, Fischer
    and Brox (2015).
    """
    if not isinstance(tensors, (list, tuple)) or not tensors:
        raise TypeError("cat: tensors must be a list or tuple of at least one array")
    arrays = [t.data if isinstance(t, Tensor) else array("cat", "tensors", t) for t in tensors]
    first = arrays[0]
    if not -first.ndim <= integer("cat", "dim", dim) < first.ndim:
        raise ValueError(f"cat: dim {dim} does not exist in shape {first.shape}")
    dim %= first.ndim
    for other in arrays[1:]:
        if _kept(other.shape, (dim,)) != _kept(first.shape, (dim,)):
            raise ValueError(
                f"cat: shapes may differ along dim {dim} only, got {first.shape} and {other.shape}; "
                "crop or pad one of them first"
            )
    return _concatenate(*tensors, axis=dim)


@differentiable
def pad(x: Array, pad: Any, mode: str = "constant", value: float = 0) -> Any:
    """x with a border of `value`: pad = (left, right) or (left, right, top, bottom), in pixels.

    As in PyTorch the last axis comes first. A negative number crops; so crop is pad's transpose.
    x (..., H, W) -> (..., H + top + bottom, W + left + right).

    Raises:
        ValueError: an odd number of entries, more than two for each axis, a crop that leaves nothing.

    Source: University of Waterloo, "Standard Convolution", for zeros around an image.
    """
    array("pad", "x", x)
    if mode != "constant":
        raise ValueError(f'pad: mode must be "constant", got {mode!r}')
    if not isinstance(pad, (tuple, list)) or len(pad) % 2 or len(pad) > 2 * x.ndim:
        raise ValueError(
            f"pad: pad must be (left, right) or (left, right, top, bottom), got {pad!r} "
            f"for x of shape {x.shape}"
        )
    amounts = [integer("pad", "pad", amount) for amount in pad]
    before_after = [(0, 0)] * (x.ndim - len(pad) // 2) + [
        (amounts[n], amounts[n + 1]) for n in range(len(pad) - 2, -1, -2)
    ]
    shape = tuple(n + a + b for n, (a, b) in zip(x.shape, before_after, strict=True))
    if any(new < 0 or (new < 1 <= old) for new, old in zip(shape, x.shape, strict=True)):
        raise ValueError(f"pad: cropping x of shape {x.shape} by {pad} leaves nothing")
    from_x, to_y = [], []
    for n, (before, after) in zip(x.shape, before_after, strict=True):
        low, high = builtins.max(0, -before), n - builtins.max(0, -after)
        from_x.append(slice(low, high))
        to_y.append(slice(low + before, high + before))
    y = array_module(x).full(shape, value, x.dtype)
    y[tuple(to_y)] = x[tuple(from_x)]

    def grad_x(dy: Array) -> Array:
        dx = array_module(dy).zeros(x.shape, dy.dtype)
        dx[tuple(from_x)] = dy[tuple(to_y)]
        return dx

    return y, (grad_x,)


def _swapped(op: Callable) -> Callable:
    return lambda y, x: op(x, y)


def _compare(name: str) -> Callable:
    """A comparison has no gradient: its result is a plain array of true and false."""
    return lambda x, y: getattr(x.data, name)(y.data if isinstance(y, Tensor) else y)


for _name, _op in dict(
    add=add, sub=subtract, mul=multiply, truediv=divide, matmul=matmul, pow=power
).items():
    setattr(Tensor, f"__{_name}__", _op)
    setattr(Tensor, f"__r{_name}__", _swapped(_op))
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(Tensor, f"__{_name}__", _compare(f"__{_name}__"))
setattr(Tensor, "__neg__", negative)  # noqa: B010  (a type checker allows no assignment here)
setattr(Tensor, "__getitem__", getitem)  # noqa: B010
for _op in (sum, mean, max, reshape, transpose, exp, log):
    setattr(Tensor, _op.__name__, _op)
