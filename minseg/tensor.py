"""Automatic differentiation: an array that remembers how it was made.

Every op notes its inputs and one gradient function for each. `backward` walks those notes from the
loss to the leaves, each op after all the ops that use its result, and hands every gradient function
the gradient of the op's output: the chain rule, nothing more.

Source: ENSTA Paris, CSC_5RO13, "Training Segmentation Networks"; the rule itself is reverse-mode
differentiation (Griewank and Walther, Evaluating Derivatives, chapter 3).
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from fractions import Fraction
from functools import wraps
from typing import Any

import numpy as np

from minseg.arguments import numbers
from minseg.backend import Array, array_module, is_array, same_device, to_device, to_numpy

_recording: ContextVar[bool] = ContextVar("recording", default=True)


@contextmanager
def no_grad() -> Iterator[None]:
    """Inside, ops are not noted down: less memory, no backward. Holds for this thread or task only."""
    token = _recording.set(False)
    try:
        yield
    finally:
        _recording.reset(token)


class Tensor:
    """An array (any shape, NumPy or CuPy) that can be differentiated.

    data: an array, a number, or nested lists, which become float32.
    requires_grad: collect dL/d(this) in `.grad`, a plain array, when `backward` is called.

    Arithmetic, comparison, indexing, sum, mean, max, reshape and transpose work as in NumPy.
    """

    __array_ufunc__ = None  # NumPy must hand `array + tensor` to us, not take the tensor apart

    def __init__(self, data: Any, requires_grad: bool = False) -> None:
        if isinstance(data, Tensor):
            data = data.data
        data = numbers("Tensor", "data", data)
        if requires_grad and data.dtype.kind not in "fO":
            raise TypeError(
                f"Tensor: only floats have gradients, and data is {data.dtype}; "
                "use data.astype(np.float32), or requires_grad=False"
            )
        self.data: Array = data
        self.requires_grad = requires_grad
        self.grad: Array | None = None
        self._made_by: _Op | None = None  # None for a leaf: nothing made it, so its gradient stays

    shape = property(lambda self: self.data.shape)
    ndim = property(lambda self: self.data.ndim)
    size = property(lambda self: self.data.size)
    dtype = property(lambda self: self.data.dtype)

    def numpy(self) -> np.ndarray:
        """The values as a NumPy array, copied from the card if they are there."""
        return to_numpy(self.data)

    def item(self) -> float:
        """The one value of a Tensor of size 1, as a Python number."""
        return self.data.item()

    def detach(self) -> "Tensor":
        """The same values, forgetting how they were made."""
        return Tensor(self.data)

    def to(self, device: str) -> "Tensor":
        """A leaf with the same values on "cpu" or "cuda"."""
        return Tensor(to_device(self.data, device), self.requires_grad)

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        made_by = f", made by {self._made_by.name}" if self._made_by else ""
        return f"Tensor({self.data!r}{made_by})"

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError(
            "a Tensor cannot be assigned into: backward would see the new values where the old ones "
            "were used; build a new Tensor, or change `.data` of a leaf before it is used"
        )

    def __bool__(self) -> bool:
        return bool(self.data)

    def backward(self, gradient: Any = None) -> None:
        """Add dL/dx to `x.grad` of every leaf x that this Tensor was made from.

        gradient: dL/d(this), of this Tensor's shape; may be left out when it holds one number.
        The notes are used up: a second call needs the forward pass again.

        Raises:
            RuntimeError: nothing here requires a gradient, or the notes are used up already.
            ValueError: `gradient` is missing or has another shape.
        """
        if not self.requires_grad:
            raise RuntimeError("backward: nothing that made this Tensor requires a gradient")
        if gradient is None and self.size != 1:
            raise ValueError(
                f"backward: this Tensor has shape {self.shape}; reduce it to one number "
                "(.sum(), .mean()) or pass gradient, an array of that shape"
            )
        xp = array_module(self.data)
        one = Fraction(1) if self.dtype == object else 1  # exact numbers stay exact when divided
        dy = xp.full_like(self.data, one) if gradient is None else _plain(gradient)
        dy = xp.asarray(dy, dtype=self.dtype)
        if dy.shape != self.shape:
            raise ValueError(f"backward: gradient has shape {dy.shape}, not {self.shape}")

        gradients = {id(self): dy}
        own: set[int] = set()  # sums made here, safe to add to; other gradients are borrowed
        for tensor in _users_first(self):
            dy = gradients.pop(id(tensor))
            if tensor._made_by is None:
                tensor.grad = xp.array(dy if tensor.grad is None else tensor.grad + dy)
                continue
            for x, dx in tensor._made_by.pull_back(dy):
                if id(x) not in gradients:
                    gradients[id(x)] = dx
                elif id(x) in own:
                    gradients[id(x)] += dx
                else:
                    gradients[id(x)] = gradients[id(x)] + dx
                    own.add(id(x))


class _Op:
    """A note of one op: its name, its inputs, and the gradient function of each that needs one."""

    def __init__(self, name: str, inputs: list[tuple[str, Tensor, Callable]]) -> None:
        self.name, self.inputs, self.used = name, inputs, False

    def pull_back(self, dy: Array) -> Iterator[tuple[Tensor, Array]]:
        """From the gradient of the output to (input, its gradient), forgetting each as it goes."""
        self.used = True
        while self.inputs:
            argument, x, gradient = self.inputs.pop(0)
            dx = array_module(x.data).asarray(gradient(dy), dtype=x.dtype)
            if dx.shape != x.shape:
                raise ValueError(
                    f"{self.name}: the gradient of {argument} has shape {dx.shape}, "
                    f"but {argument} has shape {x.shape}"
                )
            yield x, dx


def _users_first(root: Tensor) -> list[Tensor]:
    """Every Tensor under `root` that needs a gradient, each after all Tensors made from it.

    Without that order a Tensor used twice would pass on its gradient before all of it had arrived.
    A stack instead of recursion: a chain of 10,000 ops is no deeper than one of ten.
    """
    finished: list[Tensor] = []
    seen: set[int] = set()
    stack = [(root, False)]
    while stack:
        tensor, inputs_done = stack.pop()
        if inputs_done:
            finished.append(tensor)
        elif id(tensor) not in seen:
            seen.add(id(tensor))
            stack.append((tensor, True))
            op = tensor._made_by
            if op is not None and op.used:
                raise RuntimeError(
                    f"backward: the notes of {op.name} are used up by an earlier backward; "
                    "run the forward pass again, or add up the losses and call backward once"
                )
            stack.extend((x, False) for _, x, _ in (op.inputs if op else ()))
    return finished[::-1]


def differentiable(op: Callable) -> Callable:
    """Make an op on plain arrays accept Tensors: any Tensor in, Tensor out.

    op(*arrays, ...) returns (value, gradients): one function dy -> dx per leading argument, or None
    where there is no gradient. The value may be (y, *extras); extras stay plain arrays.
    """
    parameters = list(inspect.signature(op).parameters.values())
    variadic = parameters[0].kind is inspect.Parameter.VAR_POSITIONAL
    position = {parameter.name: n for n, parameter in enumerate(parameters)}

    @wraps(op)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        given = [*enumerate(args), *((position.get(name, -1), kwargs[name]) for name in kwargs)]
        tensors = [(n, value) for n, value in given if isinstance(value, Tensor)]
        if not tensors:
            return op(*args, **kwargs)[0]
        plain = [_plain(value) for value in args]
        named = {name: _plain(value) for name, value in kwargs.items()}
        same_device(op.__name__, dict(zip(position, plain, strict=False)) | named)
        value, gradients = op(*plain, **named)
        y, *extras = value if isinstance(value, tuple) else (value,)
        result = Tensor(y if is_array(y) else np.asarray(y))
        inputs = []
        for n, x in tensors if _recording.get() else ():
            if x.requires_grad:
                argument = f"input {n}" if variadic else parameters[n].name
                if n >= len(gradients) or gradients[n] is None:
                    raise TypeError(f"{op.__name__} has no gradient for {argument}: detach() it")
                inputs.append((argument, x, gradients[n]))
        if inputs:
            result.requires_grad, result._made_by = True, _Op(op.__name__, inputs)
        return (result, *extras) if extras else result

    return wrapper


def _plain(value: Any) -> Any:
    """A Tensor's array; a NumPy scalar as Python's number, lest np.float64 turn float32 into float64."""
    if isinstance(value, Tensor):
        return value.data
    return value.item() if isinstance(value, np.generic) else value
