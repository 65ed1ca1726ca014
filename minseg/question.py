"""One row of what prove() is asked: two functions, the shapes of their arrays, entries made equal.

It runs the functions, each on copies of its own, and tells what a function of the user's did wrong.
"""

import inspect
import math
import traceback
from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from minseg.formal import Formal, FormalRefusedError
from minseg.tensor import Tensor
from minseg.verdict import Arrays

# What is passed on as it is where a table gives a pair; other pairs are the shapes of arrays.
PARAMETERS = {
    "stride", "padding", "dilation", "output_padding", "kernel_size", "size", "output_size",
}  # fmt: skip


class ProofError(ValueError):
    """The question cannot be settled as it was put; the message says what stands in the way."""


class Case:
    """One row of the table: the two functions, the shapes of their arrays, and other arguments."""

    def __init__(
        self, left: Callable, right: Callable, shapes: dict, row: dict[str, Any],
        where: Callable | None,
    ) -> None:  # fmt: skip
        given = shapes | row
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.arguments: dict[str, Any] = {}
        for name, value in given.items():
            is_shape = isinstance(value, (tuple, list)) and name not in PARAMETERS
            if name in shapes or is_shape:
                sizes = value if isinstance(value, (tuple, list)) else (value,)
                if not all(isinstance(n, (int, np.integer)) and n >= 0 for n in sizes):
                    raise ProofError(f"prove: {name} must be a shape such as (4, 4), got {value!r}")
                self.shapes[name] = tuple(int(n) for n in sizes)
            else:
                self.arguments[name] = value
        for side, function in (("left", left), ("right", right)):
            if not callable(function):
                raise ProofError(f"prove: {side} must be a function, got {function!r}")
        if not self.shapes:
            raise ProofError("prove: name at least one array and its shape, such as x=(4, 4)")
        self.left, self.right, self.where = left, right, where

    @property
    def size(self) -> int:
        """How many entries the arrays have together."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def __str__(self) -> str:
        return ", ".join(
            f"{name}={value}" for name, value in (self.shapes | self.arguments).items()
        )

    def run(self, arrays: Arrays) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Both sides on these arrays (each side on copies of its own), with equal shapes."""
        sides = [outputs_of(side, f, arrays, self.arguments) for side, f in self.sides]
        shapes = [[output.shape for output in side] for side in sides]
        if shapes[0] != shapes[1]:
            first, second = (s[0] if len(s) == 1 else s for s in shapes)
            raise ProofError(
                f"prove: for {self} left returns shape {first} and right {second}; sides that are "
                "equal have one shape"
            )
        if not any(math.prod(shape) for shape in shapes[0]):
            raise ProofError(f"prove: for {self} the sides have no outputs, so nothing to settle")
        return sides[0], sides[1]

    @property
    def sides(self) -> tuple[tuple[str, Callable], tuple[str, Callable]]:
        return ("left", self.left), ("right", self.right)

    def numbers(self) -> Arrays:
        """A number for each entry of each array, 0, 1, 2, ..., none shared."""
        stops = np.cumsum([math.prod(shape) for shape in self.shapes.values()])
        return {
            name: np.arange(stop - math.prod(shape), stop).reshape(shape)
            for (name, shape), stop in zip(self.shapes.items(), stops, strict=True)
        }

    @cached_property
    def places(self) -> Arrays:
        """The same, but entries that `where` makes equal share their leader's number."""
        numbers = self.numbers()
        if self.where is None:
            return numbers
        leader = list(range(self.size))

        def find(n: int) -> int:
            while leader[n] != n:
                n = leader[n]
            return n

        # Numbers far apart, so that arithmetic on them is noticed: `where` may only rearrange.
        marks = {name: 10**15 + 10**6 * array for name, array in numbers.items()}
        pairs = apply("where", self.where, marks, {})
        if isinstance(pairs, tuple) and len(pairs) == 2 and not isinstance(pairs[0], tuple):
            pairs = [pairs]
        if not isinstance(pairs, (tuple, list)) or not all(
            isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in pairs
        ):
            raise ProofError("prove: where must return a pair of arrays, or several such pairs")
        for first, second in pairs:
            first, second = np.asarray(first), np.asarray(second)
            if first.shape != second.shape:
                raise ProofError(
                    f"prove: where pairs arrays of shapes {first.shape} and {second.shape}"
                )
            for one, other in zip(first.flat, second.flat, strict=True):
                (a, rest), (b, rest_b) = (divmod(int(m) - 10**15, 10**6) for m in (one, other))
                if rest or rest_b or not (0 <= a < self.size and 0 <= b < self.size):
                    raise ProofError("prove: where may only rearrange its arrays' entries")
                a, b = find(a), find(b)
                leader[max(a, b)] = min(a, b)
        return {
            name: np.array([find(int(n)) for n in array.flat], int).reshape(array.shape)
            for name, array in numbers.items()
        }

    def arrange(self, values: np.ndarray) -> Arrays:
        """values, one per entry, as the named arrays; entries made equal take their leader's."""
        return {
            name: np.asarray(values[numbers], values.dtype) for name, numbers in self.places.items()
        }


def apply(side: str, function: Callable, arrays: Arrays, arguments: dict[str, Any]) -> Any:
    """Call a user's function; whatever it raises is told with the line of theirs where it happened."""
    if side == "where":  # it takes the arrays it speaks of
        arrays = {n: a for n, a in arrays.items() if by_name(function, [n])} or arrays
    copies = {name: array.copy() for name, array in arrays.items()}
    try:
        if by_name(function, arrays):
            return function(**copies, **arguments)
        return function(*copies.values(), **arguments)
    except FormalRefusedError:
        raise
    except Exception as error:
        if any(isinstance(entry, Formal) for array in arrays.values() for entry in array.flat):
            # Numbers may fare better than formal variables; if not, the numbers' error is told.
            raise FormalRefusedError(_why_not_formal(side, error)) from None
        package = str(Path(__file__).parent)
        frames = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if not frame.filename.startswith(package) and "site-packages" not in frame.filename
        ]
        at = (
            f" at line {frames[-1].lineno}: {frames[-1].line}" if frames and frames[-1].line else ""
        )
        shapes = ", ".join(f"{name}={array.shape}" for name, array in arrays.items())
        raise ProofError(
            f"prove: {side}({shapes}) raised {type(error).__name__}: {error}{at}"
        ) from error


def by_name(function: Callable, names: Iterable[str]) -> bool:
    """Has the function parameters of all these names?"""
    try:
        accepted = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
    return all(
        name in accepted and accepted[name].kind is not inspect.Parameter.POSITIONAL_ONLY
        for name in names
    )


def _why_not_formal(side: str, error: Exception) -> str:
    if "dtype('O')" in str(error) and "float" in str(error):
        return (
            f"{side} stores them in an array of floats: np.zeros((h, w)) makes one, "
            "np.zeros(shape, X.dtype) makes one of X's own kind"
        )
    return f"{side} raised {type(error).__name__}: {error}"


def outputs_of(
    side: str, function: Callable, arrays: Arrays, arguments: dict[str, Any]
) -> list[np.ndarray]:
    """A side's outputs as a list of arrays."""
    value = apply(side, function, arrays, arguments)
    values = value if isinstance(value, (tuple, list)) and not is_number(value) else [value]
    outputs = [v.data if isinstance(v, Tensor) else v for v in values]
    for n, output in enumerate(outputs):
        if is_number(output):
            outputs[n] = np.asarray(
                output, object if isinstance(output, (Formal, Fraction)) else None
            )
        elif not isinstance(output, np.ndarray):
            missing = " (is a `return` missing?)" if output is None else ""
            raise ProofError(
                f"prove: {side} must return an array, got {type(output).__name__}{missing}"
            )
        elif isinstance(output, np.ma.MaskedArray):
            raise ProofError(f"prove: {side} must return a plain array, got a masked one")
        odd = [
            v
            for v in outputs[n].flat
            if not is_number(v) or isinstance(v, (np.flexible, np.complexfloating))
        ]
        if odd:
            raise ProofError(
                f"prove: {side} must return an array of numbers, got one of {type(odd[0]).__name__}"
            )
    return [np.array(output) for output in outputs]  # a copy: a side may write into it again


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.generic, Fraction, Formal))
