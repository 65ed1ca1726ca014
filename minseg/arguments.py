"""What every public function does first: look at what it was given, and say clearly what is wrong.

Each check raises before anything is computed, with the function's name, the argument's name, what
came, and what would fit.
"""

from typing import Any

import numpy as np

from minseg.backend import Array, is_array

Pair = tuple[int, int]


def integer(function: str, name: str, value: Any, least: int | None = None) -> int:
    """`value` as an int of at least `least`."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{function}: {name} must be an int, got {value!r}")
    if least is not None and value < least:
        raise ValueError(f"{function}: {name} must be at least {least}, got {value}")
    return int(value)


def pair(function: str, name: str, value: Any, least: int | None = None) -> Pair:
    """An int, or a pair of ints (vertical, horizontal), as a pair."""
    both = value if isinstance(value, (tuple, list)) else (value, value)
    if len(both) != 2:
        raise ValueError(f"{function}: {name} must be an int or a pair of ints, got {value!r}")
    first, second = (integer(function, name, number, least) for number in both)
    return first, second


def array(function: str, name: str, value: Any, ndim: int | None = None, shape: str = "") -> Array:
    """`value` itself, when it is an array of numbers with `ndim` axes (its shape in letters)."""
    if not is_array(value):
        raise TypeError(f"{function}: {name} must be an array, got {type(value).__name__}")
    if value.dtype.kind not in "biufO":
        raise TypeError(f"{function}: {name} must hold real numbers, got dtype {value.dtype}")
    if ndim is not None and value.ndim != ndim:
        hint = ""
        if shape == "(N, C, H, W)":
            hint = " or one plane (H, W)" + ("; add a batch axis: x[None]" * (value.ndim == 3))
        raise ValueError(f"{function}: {name} must have shape {shape}{hint}, got {value.shape}")
    return value


def numbers(function: str, name: str, value: Any) -> Array:
    """`value` as an array: arrays and NumPy's scalars keep their type, Python's numbers and lists of
    them become float32."""
    if not is_array(value):
        python = isinstance(value, (int, float, list, tuple)) and not isinstance(value, np.generic)
        try:
            value = np.asarray(value, np.float32 if python else None)
        except (TypeError, ValueError) as error:
            raise TypeError(f"{function}: {name} must be an array or even lists: {error}") from None
    if value.dtype.kind not in "biufO" or (value.ndim == 0 and value[()] is None):
        came = value.item() if value.ndim == 0 else value.dtype
        raise TypeError(f"{function}: {name} must hold real numbers, got {came!r}")
    return value


def floats(function: str, name: str, value: Array) -> Array:
    """`value` itself, when its numbers can be divided: floats, Fractions or formal variables."""
    if value.dtype.kind not in "fO":
        raise TypeError(
            f"{function}: {name} holds {value.dtype}, and this op divides; "
            "use .astype(np.float32), or Fractions for exact results"
        )
    return value


def images(function: str, x: Any) -> Array:
    """x itself, when it is a batch of images (N, C, H, W) with at least one pixel."""
    array(function, "x", x, 4, "(N, C, H, W)")
    if 0 in x.shape[1:]:
        raise ValueError(f"{function}: x must hold at least one channel and pixel, got {x.shape}")
    return x


def bias(function: str, b: Any, channels: int) -> None:
    """b must be None or one number per output channel."""
    if b is not None and array(function, "b", b).shape != (channels,):
        raise ValueError(
            f"{function}: b must have shape ({channels},), one number per output channel, "
            f"got {b.shape}"
        )


def one_of(function: str, name: str, value: Any, choices: tuple) -> Any:
    """`value` itself, when it is one of `choices`."""
    if value not in choices:
        listed = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"{function}: {name} must be one of {listed}, got {value!r}")
    return value
