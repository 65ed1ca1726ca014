"""Facts about a network without running it: what its pixels see, what it weighs, what it costs.

A network is a list of layers, `[Conv(64, 3, padding=1), Pool(2), Conv(21, 1)]`, or a Module. For a
list everything follows from shapes, and no weight is ever allocated. Sizes are in pixels: an int for
all axes, or a tuple with one number per axis; an image has two axes, a volume three.

Source: Deep Learning for Vision (2024-2025),
"How to go from classification to semantic segmentation?" and "Comparison"; Long, Shelhamer and
Darrell, Fully Convolutional Networks (2015).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from fractions import Fraction
from math import ceil, floor, prod
from typing import Any, NamedTuple, cast

import numpy as np

from minseg import nn
from minseg.arguments import integer, one_of
from minseg.backend import array_module
from minseg.tensor import Tensor, no_grad

Size = int | tuple[int, ...]
Sides = tuple[int | None, ...]  # of a map, along every axis; None where they are not known


@dataclass(frozen=True)
class Layer:
    """A line of a network's description. This one changes nothing."""


@dataclass(frozen=True)
class Conv(Layer):
    """Convolution."""

    out_channels: int
    kernel_size: Size
    stride: Size = 1
    padding: Size = 0
    _: KW_ONLY
    dilation: Size = 1
    groups: int = 1
    bias: bool = True


@dataclass(frozen=True)
class Transposed(Conv):
    """Transposed convolution."""

    output_padding: Size = 0


@dataclass(frozen=True)
class Pool(Layer):
    """Pooling, by maximum or mean. stride None is the kernel's; ceil_mode rounds up, as Caffe does."""

    kernel_size: Size
    stride: Size | None = None
    padding: Size = 0
    _: KW_ONLY
    dilation: Size = 1
    ceil_mode: bool = False


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
        object.__setattr__(self, "lists", tuple(list(part) for part in lists))


Network = Sequence[Layer] | nn.Module


def every_layer(network: Network) -> Iterator[Layer]:
    """The layers in order; in place of Branches, the layers inside them."""
    for layer in describe(network):
        if isinstance(layer, Branches):
            for part in layer.lists:
                yield from every_layer(part)
        else:
            yield layer


class ReceptiveField(NamedTuple):
    """Output pixel o sees `size` input pixels in a row, the first of them at stride*o + offset.

    A negative offset lies in the padding. After upsampling not all pixels see alike: then `size` is the
    widest view, `offset` the earliest, and both stride and offset may be Fractions.
    """

    size: int
    stride: int | Fraction
    offset: int | Fraction


def receptive_field(network: Network, axis: int | None = None) -> ReceptiveField:
    """How many pixels of the input can one pixel of the output depend on, along one axis?

        size = 1 + sum over convolutions and poolings of d(k - 1) * (product of the strides before)

    Gaps left by dilation count as seen. axis (0: vertical) need only be given where the axes differ.

    Raises:
        TypeError, ValueError: no network, a Dense layer, axes that differ.

    Source: Deep Learning for Vision (2024-2025),
    "How to go from classification to semantic segmentation?"; Dumoulin and Visin, A guide to
    convolution arithmetic (2016).
    """
    return _along_axes("receptive_field", network, axis, _field)


def coordinates(network: Network, axis: int | None = None) -> tuple[Fraction, Fraction]:
    """(S, c), exact: output pixel o looks at input coordinate S*o + c, the middle of what it sees.

        convolution, pooling: S = s, c = d(k - 1)/2 - p;    transposed: S = 1/s, c = (p - d(k - 1)/2)/s

    and of two layers in a row, S = S1*S2 and c = c1 + S1*c2.

    Raises:
        TypeError, ValueError: as receptive_field; Branches that look at different places.

    Source: Long, Shelhamer and Darrell (2015), the coordinate maps of their code.
    """
    return _along_axes("coordinates", network, axis, _line)


def crop_offset(from_network: Network, to_network: Network, axis: int | None = None) -> int:
    """How many pixels to drop at the top (left) of one map so that it lies upon another.

        S*(o + k) + c_from = S*o + c_to,    k = (c_to - c_from) / S

    Both networks begin at the same image; [] is the image itself. Negative: crop the other map.

    Raises:
        TypeError, ValueError: as coordinates; strides that differ, maps half a pixel apart.

    Source: Long, Shelhamer and Darrell (2015), the crops 19, 5, 27, 9 and 31 of their networks.
    """
    (S, c), (T, b) = (coordinates(network, axis) for network in (from_network, to_network))
    if S != T:
        raise ValueError(
            f"crop_offset: pixels of from_network lie {S} apart in the image, those of to_network "
            f"{T}; upsample the coarser map first"
        )
    k = (b - c) / S
    if k.denominator > 1:
        raise ValueError(
            f"crop_offset: the maps lie {k} pixels apart, and no crop mends a fraction; look for an "
            "even kernel of stride 1"
        )
    return int(k)


def output_sizes(network: Network, size: Size) -> list:
    """The size of the map after every layer: ints if `size` is an int, else tuples.

        floor((n + 2p - d(k - 1) - 1)/s) + 1;    transposed: (n - 1)s - 2p + d(k - 1) + output_padding + 1

    Raises:
        TypeError, ValueError: no network or size, an image that is too small, axes that differ.

    Source: Drake University, CS195 (2024), "FCN: Fully Convolutional Network".
    """
    layers, sides = _described("output_sizes", network, size)
    after = []
    for layer in layers:
        sides = _step(layer, 0, sides).sides  # with no channels it weighs nothing, but has its size
        if isinstance(size, int) and len(set(sides)) > 1:
            raise ValueError(f"output_sizes: the axes differ after {layer}; give size as a tuple")
        after.append(sides[0] if isinstance(size, int) else sides)
    return after


def parameters(network: Network, in_channels: int | None = None, size: Size | None = None) -> int:
    """How many numbers are learnt; in a convolution, k*k*C/groups*O weights and O biases.

    in_channels and size are the image's. size is needed for Dense only; a Module needs neither.

    Raises:
        TypeError, ValueError: no network or in_channels, groups that do not divide the channels.

    Source: Deep Learning for Vision (2024-2025),
    "How to go from classification to semantic segmentation?" and "Comparison".
    """
    if isinstance(network, nn.Module):
        return sum(parameter.size for parameter in network.parameters())
    layers, sides = _described("parameters", network, size)
    return _walk(layers, integer("parameters", "in_channels", in_channels, 1), sides).parameters


def flops(network: Network, in_channels: int, size: Size) -> int:
    """Floating-point operations for one image; a multiplication and its addition are two.

        2 * weights * (output pixels; of a transposed convolution: input pixels)

    summed over convolutions and dense layers. The zeros of the padding count; biases, normalisation,
    pooling and activations do not. A Module is run once, on zeros, to see what its layers are given.

    Raises:
        TypeError, ValueError: no network, an image that is too small, groups that do not divide the
            channels, a Module with kernels outside Conv2d, ConvTranspose2d and Linear.

    Source: Deep Learning for Vision (2024-2025), "Comparison".
    """
    C = integer("flops", "in_channels", in_channels, 1)
    if isinstance(network, nn.Module):
        return 2 * _products(network, (1, C, *_sides("flops", "size", size, 2)))
    layers, sides = _described("flops", network, size)
    return 2 * _walk(layers, C, sides).products


def attention_flops(tokens: Size, width: int, window: Size | None = None) -> int:
    """FLOPs of self-attention on L tokens of d = width numbers: 8 d^2 L + 4 d L^2.

    The first term is queries, keys, values and output, the second the attention itself. tokens: how
    many, or the sides of their grid. window: the sides of windows that tile the grid, each of which
    attends to itself only.

    Raises:
        TypeError, ValueError: numbers below 1, windows that do not tile the grid.

    Source: Deep Learning for Vision (2024-2025), "Reminder: simplified self-attention".
    """
    grid = _sides("attention_flops", "tokens", tokens, 1)
    tile = grid if window is None else _sides("attention_flops", "window", window, len(grid))
    if len(tile) != len(grid) or any(n % m for n, m in zip(grid, tile, strict=True)):
        raise ValueError(f"attention_flops: windows of {tile} do not tile a grid of {grid} tokens")
    d, L = integer("attention_flops", "width", width, 1), prod(tile)
    return prod(grid) // L * (8 * d**2 * L + 4 * d * L**2)


def convolutional(classifier: Sequence[Layer], size: Size) -> list[Layer]:
    """A classifier of images of that size with each dense layer written as a convolution whose kernel
    covers its map: the same parameters, and any larger image will do.

    Raises:
        TypeError, ValueError: as output_sizes.

    Source: Bonn University, MA-INF 4308 (2023), "Convolutionalization".
    """
    layers, sides = _described("convolutional", classifier, size)
    network: list[Layer] = []
    for layer in layers:
        network.append(Conv(layer.out_features, sides) if isinstance(layer, Dense) else layer)
        sides = _step(layer, 0, sides).sides
    return network


# What a layer looks at, and what it makes of a map


def _along(axis: int, layer: Layer, name: str, absent: int = 1, least: int | None = 1) -> int:
    """One of a layer's sizes, along one axis."""
    value = getattr(layer, name, absent)
    value = value[axis] if isinstance(value, (tuple, list)) else value
    return integer(type(layer).__name__, name, value, least)


def _window(layer: Layer, axis: int) -> tuple[Fraction, Fraction, Fraction]:
    """(s, first, last): output o reads the inputs between s*o + first and s*o + last."""
    if isinstance(layer, Dense):
        raise ValueError(
            f"{layer} sees the whole map, of whatever size; convolutional(layers, size) writes the "
            "same network in convolutions"
        )
    if isinstance(layer, Crop):
        margin = Fraction(_along(axis, layer, "margin", least=None))
        return Fraction(1), margin, margin
    k, d = _along(axis, layer, "kernel_size"), _along(axis, layer, "dilation")
    s = k if getattr(layer, "stride", 1) is None else _along(axis, layer, "stride")
    p = _along(axis, layer, "padding", 0, 0)
    if isinstance(layer, (Transposed, Unpool)):  # input i is spread over o = s*i - p + d*u, u < k
        return Fraction(1, s), Fraction(p - d * (k - 1), s), Fraction(p, s)
    return Fraction(s), Fraction(-p), Fraction(d * (k - 1) - p)


def _line(layers: Iterable[Layer], axis: int) -> tuple[Fraction, Fraction]:
    """Where output o looks, S*o + c: layer upon layer, to the middle of what it reads."""
    S, c = Fraction(1), Fraction(0)
    for layer in layers:
        if isinstance(layer, Branches):
            lines = [_line(part, axis) for part in layer.lists]
            if len(set(lines)) > 1:
                places = " and ".join(f"{s}*o + {middle}" for s, middle in lines)
                raise ValueError(f"Branches: the lists look at different places, {places}")
            s, middle = lines[0]
        else:
            s, first, last = _window(layer, axis)
            middle = (first + last) / 2
        S, c = S * s, c + S * middle
    return S, c


def _seen(layers: Sequence[Layer], first: int, last: int, axis: int) -> tuple[int, int]:
    """The first and the last input pixel that outputs first ... last depend on, layer under layer.

    Of a transposed convolution both strided and dilated, or with a stride beyond its kernel, perhaps
    a pixel more: such an output may hear from no input at all.
    """
    for layer in reversed(layers):
        if isinstance(layer, Branches):
            ends = [_seen(part, first, last, axis) for part in layer.lists]
            first, last = min(low for low, _ in ends), max(high for _, high in ends)
        else:
            s, low, high = _window(layer, axis)
            first, last = ceil(s * first + low), floor(s * last + high)
    return first, last


def _field(layers: Sequence[Layer], axis: int) -> ReceptiveField:
    ups = [layer for layer in every_layer(layers) if isinstance(layer, (Transposed, Unpool))]
    period = prod(_window(layer, axis)[0].denominator for layer in ups)  # then views repeat
    views = [_seen(layers, o, o, axis) for o in range(period + 1)]
    stride = Fraction(views[period][0] - views[0][0], period)
    offset = min(first - stride * o for o, (first, _) in enumerate(views))
    size = max(last - first + 1 for first, last in views)
    return ReceptiveField(size, *(int(n) if n.denominator == 1 else n for n in (stride, offset)))


def _along_axes(function: str, network: Network, axis: int | None, fact: Callable) -> Any:
    """A fact about a network along the axis asked for, or along all axes if they agree."""
    layers, sides = _described(function, network)
    axes = tuple(range(len(sides)))
    asked = axes if axis is None else [one_of(function, "axis", axis, axes)]
    facts = {fact(layers, n) for n in asked}
    if len(facts) > 1:
        raise ValueError(f"{function}: the network differs along its axes; say which: axis=0 or 1")
    return facts.pop()


def _side(layer: Layer, n: int, axis: int) -> int:
    """floor((n - 1 - first - last) / s) + 1 outputs from n pixels, of whatever kind the layer is."""
    s, first, last = _window(layer, axis)
    room = (n - 1 - first - last) / s
    extra = _along(axis, layer, "output_padding", 0, 0)
    if room + extra < 0:
        raise ValueError(f"{layer}: {n} pixels leave no output; give a larger image")
    if not getattr(layer, "ceil_mode", False):
        return floor(room) + 1 + extra
    out = ceil(room) + 1
    return out - (s * (out - 1) + first >= n)  # no window begins beyond the image


class _Step(NamedTuple):
    """The map that comes out of layers, what they weigh, and how often they multiply."""

    channels: int
    sides: Sides
    parameters: int
    products: int  # 0 where the sides are not known


def _walk(layers: Iterable[Layer], C: int, sides: Sides) -> _Step:
    """Layers in a row."""
    parameters = products = 0
    for layer in layers:
        C, sides, more, places = _step(layer, C, sides)
        parameters, products = parameters + more, products + places
    return _Step(C, sides, parameters, products)


def _step(layer: Layer, C: int, sides: Sides) -> _Step:
    """One layer."""
    if isinstance(layer, Branches):
        ends = [_walk(part, C, sides) for part in layer.lists]
        channels, sizes, more, products = zip(*ends, strict=True)
        if len(set(sizes)) > 1:
            raise ValueError(
                f"Branches: maps of {' and '.join(map(str, sizes))} pixels cannot be concatenated; "
                "Crop the larger by crop_offset(its layers, the other's)"
            )
        return _Step(sum(channels), sizes[0], sum(more), sum(products))
    if isinstance(layer, Dense):
        if None in sides:
            raise ValueError(f"{layer} has weights for every pixel it sees: give the image's size")
        O = integer("Dense", "out_features", layer.out_features, 1)
        weights = C * _area(sides) * O
        return _Step(O, (1,) * len(sides), weights + O, weights)
    after = tuple(n and _side(layer, n, axis) for axis, n in enumerate(sides))
    if not isinstance(layer, Conv):
        return _Step(C, after, 2 * C if isinstance(layer, BatchNorm) else 0, 0)
    O, G = (integer("Conv", name, getattr(layer, name), 1) for name in ("out_channels", "groups"))
    if C % G or O % G:
        raise ValueError(f"{layer}: groups must divide the channels, {C} in and {O} out")
    taps = prod(_along(axis, layer, "kernel_size") for axis in range(len(sides)))
    weights = O * C // G * taps
    # A kernel is placed at every output pixel; of a transposed convolution, at every input pixel.
    places = _area(sides if isinstance(layer, Transposed) else after)
    return _Step(O, after, weights + (O if layer.bias else 0), weights * places)


def _area(sides: Sides) -> int:
    return prod(n or 0 for n in sides)


def _sides(function: str, name: str, size: Any, axes: int) -> tuple[int, ...]:
    """A size as one number per axis."""
    sides = size if isinstance(size, tuple) else (size,) * axes
    return tuple(integer(function, name, n, 1) for n in sides)


def _described(function: str, network: Network, size: Any = None) -> tuple[list[Layer], Any]:
    """A network as a list of layers, and the sides of the image."""
    layers = describe(network)
    sizes = [size, *(value for layer in every_layer(layers) for value in vars(layer).values())]
    axes = {len(value) for value in sizes if isinstance(value, tuple)} or {2}
    if len(axes) > 1:
        counts = " and ".join(map(str, sorted(axes)))
        raise ValueError(f"{function}: sizes must agree in their number of axes, got {counts}")
    A = axes.pop()
    return layers, (None,) * A if size is None else _sides(function, "size", size, A)


# Modules


def describe(network: Network) -> list[Layer]:
    """A Sequential of Conv2d, MaxPool2d, BatchNorm2d, ReLU, ... as a list of layers; a list as it is.

    Raises:
        TypeError: anything else: of other Modules only forward() knows in which order the parts run.
    """
    if isinstance(network, (list, tuple)):
        for layer in network:
            if not isinstance(layer, Layer):
                raise TypeError(
                    f"anatomy: a list of layers holds Conv, Pool, Dense, ..., got {layer!r}"
                )
        return list(network)
    kind, module = type(network), cast(Any, network)
    if kind is nn.Sequential:
        return [layer for part in module for layer in describe(part)]
    if kind in (nn.ReLU, nn.Dropout):
        return []
    if kind is nn.BatchNorm2d:
        return [BatchNorm() if module.weight is not None else Layer()]
    if kind is nn.MaxPool2d:
        kernel, stride, padding, dilation, ceil_mode, _ = module.options
        return [Pool(kernel, stride, padding, dilation=dilation, ceil_mode=ceil_mode)]
    if kind in (nn.Conv2d, nn.ConvTranspose2d):
        first, second, *kernel = module.weight.shape
        options = {
            name: getattr(module, name) for name in ("stride", "padding", "dilation", "groups")
        }
        options |= dict(kernel_size=tuple(kernel), bias=module.bias is not None)
        if kind is nn.Conv2d:  # weight (O, C/groups, KH, KW)
            return [Conv(first, **options)]
        options["output_padding"] = module.output_padding  # weight (C, O/groups, KH, KW)
        return [Transposed(second * module.groups, **options)]
    raise TypeError(
        f"anatomy: a network is a list of layers or a Sequential of known Modules, not {kind.__name__}; "
        "where only forward() knows in which order the parts run, write them down as a list"
    )


def _products(network: nn.Module, shape: tuple[int, ...]) -> int:
    """The multiplications of convolutions and dense layers, counted while the network runs on zeros."""
    modules = list({id(module): module for _, module in network.named_modules()}.values())
    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    counted = [module for module in modules if isinstance(module, kinds)]
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1 and all(parameter is not module.weight for module in counted):
            raise ValueError(f"flops: {name} belongs to no Conv2d, ConvTranspose2d or Linear")
    products = []

    def count(module: Any, forward: Callable) -> Callable:
        def counting(x: Any) -> Any:
            y = forward(x)
            # y (O, OH, OW) meets weight[o] (C/groups, KH, KW) at each of its numbers; transposed, it
            # is x (C, H, W) that meets weight[c] (O/groups, KH, KW).
            places = x if isinstance(module, nn.ConvTranspose2d) else y
            products.append(places.size * (module.weight.size // len(module.weight)))
            return y

        return counting

    before = [dict(vars(module)) for module in modules]
    like = next((parameter.data for parameter in network.parameters()), np.zeros(0, np.float32))
    try:
        for module in modules:
            module.training = False  # nothing is dropped, no running mean moves
        for module in counted:
            vars(module)["forward"] = count(module, module.forward)
        with no_grad():
            network(Tensor(array_module(like).zeros(shape, like.dtype)))
    finally:
        for module, state in zip(modules, before, strict=True):
            vars(module).clear()
            vars(module).update(state)
    return sum(products)
