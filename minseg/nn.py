"""Layers: an op together with the numbers it learns.

A Module finds its parts by looking at its own attributes: a Parameter is trained, a plain array (a
buffer) is only kept, a Module, or a list of them, is a part of its own. Names and shapes are
PyTorch's, so that weights can be carried across.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

import minseg.functional as F
from minseg.arguments import integer, one_of, pair
from minseg.backend import Array, check_device, is_array, to_device, to_numpy
from minseg.tensor import Tensor


class Parameter(Tensor):
    """A Tensor to be learnt: a leaf that requires its gradient."""

    def __init__(self, data: Any) -> None:
        super().__init__(data, requires_grad=True)


class Module:
    """A part of a network: parameters, buffers and parts, and a `forward` that uses them."""

    training = True
    built: dict[str, Any] | None = None  # how models.build made this network

    def forward(self, *inputs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} defines no forward()")

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        return self.forward(*inputs, **options)

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, "Module"]]:
        """This module and every part of it, with dotted names."""
        yield prefix, self
        for name, value in vars(self).items():
            listed = value if isinstance(value, (list, tuple)) else ()
            parts = {name: value} | {f"{name}.{n}": part for n, part in enumerate(listed)}
            for path, part in parts.items():
                if isinstance(part, Module):
                    yield from part.named_modules(f"{prefix}.{path}" if prefix else path)

    def _named(self, kind: Any) -> Iterator[tuple[str, "Module", str]]:
        for prefix, module in self.named_modules():
            for name, value in vars(module).items():
                if kind(value):
                    yield (f"{prefix}.{name}" if prefix else name), module, name

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Everything that is trained: ("encoder.0.weight", Parameter), ..."""
        for path, module, name in self._named(lambda value: isinstance(value, Parameter)):
            yield path, getattr(module, name)

    def named_buffers(self) -> Iterator[tuple[str, Array]]:
        """Everything that is kept but not trained: running means, running variances."""
        for path, module, name in self._named(is_array):
            yield path, getattr(module, name)

    def parameters(self) -> list[Parameter]:
        """Everything that is trained, without the names; what is used twice is listed once."""
        return list({id(p): p for _, p in self.named_parameters()}.values())

    def zero_grad(self) -> None:
        """Forget all gradients; `backward` adds to what it finds."""
        for parameter in self.parameters():
            parameter.grad = None

    def train(self, mode: bool = True) -> "Module":
        """Training mode: batch normalisation uses the batch's own statistics, dropout drops."""
        for _, module in self.named_modules():
            module.training = mode
        return self

    def eval(self) -> "Module":
        """Evaluation mode: running statistics, nothing dropped."""
        return self.train(False)

    def to(self, device: str) -> "Module":
        """Move every parameter and buffer to "cpu" or "cuda", in place."""
        check_device(device)
        for _, parameter in self.named_parameters():
            parameter.data, parameter.grad = to_device(parameter.data, device), None
        for _, module, name in self._named(is_array):
            setattr(module, name, to_device(getattr(module, name), device))
        return self

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all parameters and buffers on the host, by name."""
        arrays = {name: parameter.data for name, parameter in self.named_parameters()}
        arrays |= dict(self.named_buffers())
        return {name: np.array(to_numpy(array)) for name, array in arrays.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over parameters and buffers by name; nothing changes unless all of them fit.

        Raises:
            ValueError: a name is missing or unknown, or a shape differs; the first five are listed.
        """
        mine = self.state_dict()
        wrong = [f"{name} is missing" for name in mine if name not in state]
        wrong += [f"{name} is unknown" for name in state if name not in mine]
        wrong += [
            f"{name} is {np.shape(state[name])} but should be {array.shape}"
            for name, array in mine.items()
            if name in state and np.shape(state[name]) != array.shape
        ]
        if wrong:
            more = f", and {len(wrong) - 5} more" if len(wrong) > 5 else ""
            raise ValueError("load_state_dict: " + "; ".join(wrong[:5]) + more)

        def taken(name: str, old: Array) -> Array:
            new = np.array(to_numpy(state[name]), dtype=old.dtype)
            return new if isinstance(old, np.ndarray) else to_device(new, "cuda")

        # Read everything before anything is changed.
        parameters = [(p, taken(name, p.data)) for name, p in self.named_parameters()]
        buffers = [(m, n, taken(path, getattr(m, n))) for path, m, n in self._named(is_array)]
        for parameter, data in parameters:
            parameter.data = data
        for module, name, data in buffers:
            setattr(module, name, data)


class Sequential(Module):
    """Parts one after the other, named "0", "1", ..."""

    def __init__(self, *modules: Module) -> None:
        for number, module in enumerate(modules):
            if not isinstance(module, Module):
                raise TypeError(
                    f"Sequential: each part must be a Module, got {type(module).__name__} at {number}"
                )
            setattr(self, str(number), module)

    def __iter__(self) -> Iterator[Module]:
        return iter([part for part in vars(self).values() if isinstance(part, Module)])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __getitem__(self, number: int) -> Module:
        return list(self)[number]

    def forward(self, x: Any) -> Any:
        for module in self:
            x = module(x)
        return x


def initial_weights(
    shape: tuple[int, ...],
    fan_in: float,
    fan_out: float,
    init: str,
    rng: np.random.Generator | None,
) -> np.ndarray:
    """Random float32 weights whose size keeps signals from growing or fading from layer to layer.

    "he": variance 2 / fan_in, for layers before a ReLU (He et al. 2015, equation 10).
    "xavier": variance 2 / (fan_in + fan_out) (Glorot and Bengio 2010, equation 12).
    rng None draws anew each time; hand one through for a network that can be made again.
    """
    one_of("initial_weights", "init", init, ("he", "xavier"))
    variance = 2 / fan_in if init == "he" else 2 / (fan_in + fan_out)
    if rng is not None and not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng must be a numpy Generator, such as default_rng(0), got {rng!r}")
    rng = np.random.default_rng() if rng is None else rng
    return (rng.standard_normal(shape) * np.sqrt(variance)).astype(np.float32)


class Linear(Module):
    """A dense layer, (..., in_features) -> (..., out_features); weight (out, in), bias (out,)."""

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, *,
        init: str = "he", rng: np.random.Generator | None = None,
    ) -> None:  # fmt: skip
        O, C = (integer("Linear", "features", n, 1) for n in (out_features, in_features))
        self.weight = Parameter(initial_weights((O, C), C, O, init, rng))
        self.bias = Parameter(np.zeros(O, np.float32)) if bias else None

    def forward(self, x: Any) -> Any:
        return F.linear(x, self.weight, self.bias)


class Conv2d(Module):
    """Convolution, (N, C, H, W) -> (N, O, OH, OW); weight (O, C/groups, KH, KW), bias (O,)."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1,
        padding: Any = 0, dilation: Any = 1, groups: int = 1, bias: bool = True, *,
        init: str = "he", rng: np.random.Generator | None = None,
    ) -> None:  # fmt: skip
        C, O = _channels("Conv2d", in_channels, out_channels, groups)
        KH, KW = pair("Conv2d", "kernel_size", kernel_size, 1)
        taps = KH * KW / groups
        shape = (O, C // groups, KH, KW)
        self.weight = Parameter(initial_weights(shape, C * taps, O * taps, init, rng))
        self.bias = Parameter(np.zeros(O, np.float32)) if bias else None
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups

    def forward(self, x: Any) -> Any:
        return F.conv2d(
            x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )


class ConvTranspose2d(Module):
    """Transposed convolution, (N, C, H, W) -> (N, O, OH, OW); weight (C, O/groups, KH, KW), bias (O,).

    init="bilinear" begins as bilinear upsampling, channel by channel: the kernel must have size
    2*stride - 1 (the lecture's) or 2*stride - stride % 2 (the FCN release's), with C = O.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1,
        padding: Any = 0, output_padding: Any = 0, groups: int = 1, bias: bool = True,
        dilation: Any = 1, *, init: str = "he", rng: np.random.Generator | None = None,
    ) -> None:  # fmt: skip
        C, O = _channels("ConvTranspose2d", in_channels, out_channels, groups)
        KH, KW = pair("ConvTranspose2d", "kernel_size", kernel_size, 1)
        sh, sw = pair("ConvTranspose2d", "stride", stride, 1)
        shape = (C, O // groups, KH, KW)
        if init == "bilinear":
            weight = _bilinear_weights(shape, (sh, sw), groups)
        else:
            taps = KH * KW / groups
            # Each output pixel hears from one in stride*stride of the kernel's taps.
            weight = initial_weights(shape, C * taps / (sh * sw), O * taps, init, rng)
        self.weight = Parameter(weight)
        self.bias = Parameter(np.zeros(O, np.float32)) if bias else None
        self.stride, self.padding, self.output_padding = stride, padding, output_padding
        self.groups, self.dilation = groups, dilation

    def forward(self, x: Any) -> Any:
        return F.conv_transpose2d(
            x, self.weight, self.bias, self.stride, self.padding, self.output_padding, self.groups,
            self.dilation,
        )  # fmt: skip


def _channels(layer: str, in_channels: Any, out_channels: Any, groups: Any) -> tuple[int, int]:
    integer(layer, "groups", groups, 1)
    for name, value in (("in_channels", in_channels), ("out_channels", out_channels)):
        if integer(layer, name, value, 1) % groups:
            raise ValueError(f"{layer}: {name} ({value}) must be a multiple of groups ({groups})")
    return in_channels, out_channels


def _bilinear_weights(shape: tuple[int, ...], stride: tuple[int, int], groups: int) -> np.ndarray:
    C, O, KH, KW = shape
    s = stride[0]
    kinds = {2 * s - s % 2: "caffe", 2 * s - 1: "align_corners"}  # the same kernel for odd strides
    if stride[0] != stride[1] or KH != KW or KH not in kinds or groups * O != C:
        raise ValueError(
            f"ConvTranspose2d: init='bilinear' needs as many channels out as in, one stride s for "
            f"both axes and kernel_size 2s-1 or 2s-s%2; got kernel_size {(KH, KW)}, stride {stride}, "
            f"{C} channels in, {groups * O} out"
        )
    weight = np.zeros(shape, np.float32)
    for channel in range(C):  # channel c goes to output c alone
        weight[channel, channel % O] = F.bilinear_kernel(s, kinds[KH])
    return weight


class BatchNorm2d(Module):
    """Batch normalisation of (N, C, H, W); weight and bias (C,), running mean and variance (C,)."""

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True
    ) -> None:
        C = integer("BatchNorm2d", "num_features", num_features, 1)
        self.eps, self.momentum = eps, momentum
        self.weight = Parameter(np.ones(C, np.float32)) if affine else None
        self.bias = Parameter(np.zeros(C, np.float32)) if affine else None
        self.running_mean: Array = np.zeros(C, np.float32)
        self.running_var: Array = np.ones(C, np.float32)
        self.num_batches_tracked: Array = np.zeros((), np.int64)

    def forward(self, x: Any) -> Any:
        if getattr(x, "ndim", 4) != 4:
            raise ValueError(f"BatchNorm2d: x must have shape (N, C, H, W), got {x.shape}")
        y = F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training,
            self.momentum, self.eps,
        )  # fmt: skip
        if self.training:
            self.num_batches_tracked += 1
        return y


class ReLU(Module):
    """max(x, 0)."""

    def forward(self, x: Any) -> Any:
        return F.relu(x)


class MaxPool2d(Module):
    """The largest number of each window; with return_indices also where it stood."""

    def __init__(
        self, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
        return_indices: bool = False, ceil_mode: bool = False,
    ) -> None:  # fmt: skip
        self.options = (kernel_size, stride, padding, dilation, ceil_mode, return_indices)

    def forward(self, x: Any) -> Any:
        return F.max_pool2d(x, *self.options)


class MaxUnpool2d(Module):
    """Numbers put back where the maxima stood."""

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0) -> None:
        self.options = (kernel_size, stride, padding)

    def forward(self, x: Any, indices: Any, output_size: Any = None) -> Any:
        return F.max_unpool2d(x, indices, *self.options, output_size)


class Upsample(Module):
    """Nearest or bilinear interpolation to a size or by a factor."""

    def __init__(
        self, size: Any = None, scale_factor: Any = None, mode: str = "nearest",
        align_corners: bool | None = None,
    ) -> None:  # fmt: skip
        self.options = (size, scale_factor, mode, align_corners)

    def forward(self, x: Any) -> Any:
        return F.interpolate(x, *self.options)


class Dropout(Module):
    """Sets each number to 0 with probability p while training."""

    def __init__(self, p: float = 0.5, *, rng: np.random.Generator | None = None) -> None:
        self.p = p
        self.rng = np.random.default_rng() if rng is None else rng

    def forward(self, x: Any) -> Any:
        return F.dropout(x, self.p, self.training, rng=self.rng)
