"""Facts about a network without running it: what its pixels see, what it weighs, what it costs.

A network is a list of layers, `[Conv(64, 3, padding=1), Pool(2), Conv(21, 1)]`, or a Module. For a
list everything follows from shapes, and no weight is ever allocated. Sizes are in pixels: an int for
all axes, or a tuple with one number per axis; images have two axes, volumes three.

Source: Deep Learning for Vision (2024-2025), "How to go from classification to semantic
segmentation?" and "Comparison"; Long, Shelhamer and Darrell, Fully Convolutional Networks (2015).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from math import floor, prod
from typing import Any, NamedTuple

from minseg import nn
from minseg.arguments import integer, one_of
from minseg.backend import array_module
from minseg.tensor import Tensor, no_grad

Size = int | tuple[int, ...]
Sides = tuple[int | None, ...]  # of a map, one per axis; None where not known


class Layer:
    """One line of a network's description."""

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]
            name, value = field.name, getattr(self, field.name)
            if field.type is bool:
                one_of(type(self).__name__, name, value, (False, True))
            elif value != field.default:
                least = None if name == "margin" else 0 if "padding" in name else 1
                per_axis = isinstance(value, tuple) and field.type is not int
                for number in value if per_axis else (value,):
                    integer(type(self).__name__, name, number, least)


@dataclass(frozen=True)
class Conv(Layer):
    """Convolution."""

    out_channels: int
    kernel_size: Size
    stride: Size = 1
    padding: Size = 0
    dilation: Size = 1
    groups: int = 1
    bias: bool = True


@dataclass(frozen=True)
class Transposed(Layer):
    """Transposed convolution."""

    out_channels: int
    kernel_size: Size
    stride: Size
    padding: Size = 0
    output_padding: Size = 0
    groups: int = 1
    bias: bool = True
    dilation: Size = 1


@dataclass(frozen=True)
class Pool(Layer):
    """Pooling, by maximum or mean; ceil_mode rounds its output size up, as Caffe does."""

    kernel_size: Size
    stride: Size | None = None
    padding: Size = 0
    ceil_mode: bool = False
    dilation: Size = 1


@dataclass(frozen=True)
class Unpool(Layer):
    """Unpooling by the indices of such a Pool; nearest-neighbour upsampling has the same shape."""

    kernel_size: Size
    stride: Size | None = None
    padding: Size = 0


@dataclass(frozen=True)
class Crop(Layer):
    """`margin` pixels cut off every side; a negative margin adds zeros."""

    margin: Size


@dataclass(frozen=True)
class BatchNorm(Layer):
    """Batch normalisation: a weight and a bias per channel."""


@dataclass(frozen=True)
class Dense(Layer):
    """A dense layer on the whole map, flattened; what comes out is a map of one pixel."""

    out_features: int


@dataclass(frozen=True, init=False)
class Branches(Layer):
    """Lists of layers side by side, their outputs concatenated; an empty list hands its input on."""

    lists: tuple[list[Layer], ...]

    def __init__(self, *lists: Sequence[Layer]) -> None:
        checked = tuple(_layers("Branches", part) for part in lists)
        object.__setattr__(self, "lists", checked)


# What one layer, and a row of layers, do


class View(NamedTuple):
    """Output pixel o reads the input between stride*o + first and stride*o + last."""

    stride: Fraction
    first: Fraction
    last: Fraction

    @property
    def centre(self) -> Fraction:
        return (self.first + self.last) / 2


def _window(layer: Any, axis: int) -> tuple[int, int, int, int]:
    """Kernel size k, stride s, padding p, dilation d: output o reads s*o - p + d*u for u < k.

    Transposed and Unpool are the same backwards: output s*o - p + d*u hears from input o.
    """
    if isinstance(layer, Crop):
        return 1, 1, -_along(axis, layer.margin), 1
    defaults = {"kernel_size": 1, "stride": 1, "padding": 0, "dilation": 1}
    k, s, p, d = (_along(axis, getattr(layer, name, defaults[name])) for name in defaults)
    return k, k if s is None else s, p, d


def _along(axis: int, size: Any) -> Any:
    return size[axis] if isinstance(size, tuple) else size


def _view(layers: Iterable[Layer], axis: int) -> View:
    """If pixel i reads S*i + A and o reads i = s*o + a, then o reads S*s*o + (A + S*a), and so on."""
    S, A, B = Fraction(1), Fraction(0), Fraction(0)
    for layer in layers:
        if isinstance(layer, Dense):
            raise ValueError(
                f"{layer} sees the whole map, of whatever size; convolutional(layers, size) writes "
                "the same network in convolutions"
            )
        if isinstance(layer, Branches):
            views = [_view(part, axis) for part in layer.lists]
            s, a, b = views[0].stride, min(v.first for v in views), max(v.last for v in views)
        else:
            k, step, p, d = _window(layer, axis)
            s, a, b = Fraction(step), Fraction(-p), Fraction(d * (k - 1) - p)
        if isinstance(layer, (Transposed, Unpool)):  # i reaches s*i + a to s*i + b: solve for i
            s, a, b = 1 / s, -b / s, -a / s
        S, A, B = S * s, A + S * a, B + S * b
    return View(S, A, B)


def _side(layer: Any, n: int, axis: int) -> int:
    """How many pixels come out along an axis where n go in."""
    k, s, p, d = _window(layer, axis)
    reach = d * (k - 1) + 1
    if isinstance(layer, (Transposed, Unpool)):
        out = (n - 1) * s + reach - 2 * p + _along(axis, getattr(layer, "output_padding", 0))
        if out < 1:
            raise ValueError(f"{layer}: padding {p} crops everything away from a side of {n}")
        return out
    room = n + 2 * p - reach
    if room < 0:
        raise ValueError(
            f"{layer} reaches over {reach} pixels, but a side of {n} with padding {p} has only "
            f"{n + 2 * p}; give a larger image or more padding"
        )
    if not getattr(layer, "ceil_mode", False):
        return room // s + 1
    out = -(-room // s) + 1
    return out - ((out - 1) * s >= n + p)  # no window begins beyond the image


class _Total(NamedTuple):
    """A map, by its channels and sides, and what it took to get there."""

    channels: int
    sides: Sides
    parameters: int = 0
    multiplications: int = 0


def _walk(layers: Iterable[Layer], start: _Total) -> _Total:
    """From the map that goes in to the map that comes out (multiplications: if its sides are known)."""
    C, sides, parameters, multiplications = start
    for layer in layers:
        weights = biases = places = 0
        if isinstance(layer, Branches):
            ends = [_walk(part, _Total(C, sides)) for part in layer.lists]
            if len({end.sides for end in ends}) > 1:
                raise ValueError(
                    "Branches: maps of sizes "
                    + " and ".join(str(end.sides) for end in ends)
                    + " cannot be concatenated; Crop the larger, by what crop_offset says"
                )
            C, sides = sum(end.channels for end in ends), ends[0].sides
            parameters += sum(end.parameters for end in ends)
            multiplications += sum(end.multiplications for end in ends)
            continue
        if isinstance(layer, Dense):
            if None in sides:
                raise ValueError(f"{layer} has weights for every pixel of its map: give size")
            ...
