"""Non-linearities, one number in, one out; and softmax, from scores to probabilities.

Source: ENSTA Paris, CSC_5RO13, "Output encoding and loss functions?"; University of Waterloo,
"(Training) Loss: Cross-Entropy".
"""

from typing import Any

import numpy as np

from minseg.arguments import array, floats, integer
from minseg.backend import Array, array_module
from minseg.channels import empty
from minseg.tensor import differentiable


@differentiable
def relu(x: Array) -> Any:
    """max(x, 0), any shape; the gradient passes where x > 0 (at 0 it is 0).

    Source: Nair and Hinton, Rectified Linear Units (2010).
    """
    xp = array_module(array("relu", "x", x))
    zero = 0 if x.dtype == object else x.dtype.type(0)
    y = xp.maximum(x, zero, out=empty(x.shape, x))
    return y, (lambda dy: xp.multiply(dy, y > 0, out=empty(dy.shape, dy)),)


@differentiable
def leaky_relu(x: Array, negative_slope: float = 0.01) -> Any:
    """x where x > 0, negative_slope * x elsewhere, any shape.

    Source: Maas, Hannun and Ng, Rectifier nonlinearities improve neural network acoustic models
    (2013).
    """
    array("leaky_relu", "x", x)
    if not isinstance(negative_slope, (int, float)):
        raise TypeError(f"leaky_relu: negative_slope must be a number, got {negative_slope!r}")
    slope = array_module(x).where(x > 0, 1, negative_slope).astype(x.dtype)
    return x * slope, (lambda dy: dy * slope,)


@differentiable
def sigmoid(x: Array) -> Any:
    """1 / (1 + exp(-x)), any shape, written as (1 + tanh(x/2)) / 2 so that no exp overflows.

    Its gradient is y (1 - y).

    Source: ENSTA Paris, CSC_5RO13, "Output encoding and loss functions?".
    """
    y = 0.5 * (1 + array_module(x).tanh(0.5 * array("sigmoid", "x", x)))
    return y, (lambda dy: dy * y * (1 - y),)


@differentiable
def tanh(x: Array) -> Any:
    """The hyperbolic tangent, any shape; its gradient is 1 - y^2.

    Source: calculus.
    """
    y = array_module(x).tanh(array("tanh", "x", x))
    return y, (lambda dy: dy * (1 - y * y),)


def _axis(name: str, x: Array, dim: int) -> int:
    floats(name, "x", array(name, "x", x))
    if not -x.ndim <= integer(name, "dim", dim) < x.ndim:
        raise ValueError(f"{name}: dim {dim} does not exist in shape {x.shape}")
    return dim


@differentiable
def softmax(x: Array, dim: int = 1) -> Any:
    """Scores to probabilities along axis `dim`:  y[k] = exp(x[k]) / sum over j of exp(x[j])

    Any shape, (N, K, H, W) for one distribution per pixel. The largest score is subtracted first,
    which changes nothing and lets no exp overflow. dim is 1, the class axis (PyTorch has no default).

    Raises:
        TypeError, ValueError: no such axis.

    Source: ENSTA Paris, CSC_5RO13, "Output encoding and loss functions?"; University of Waterloo,
    "(Training) Loss: Cross-Entropy".
    """
    axis = _axis("softmax", x, dim)
    y = array_module(x).exp(x - x.max(axis=axis, keepdims=True))
    y /= y.sum(axis=axis, keepdims=True)
    return y, (lambda dy: y * (dy - (dy * y).sum(axis=axis, keepdims=True)),)


@differentiable
def log_softmax(x: Array, dim: int = 1) -> Any:
    """log(softmax(x)) along axis `dim`:  y[k] = x[k] - log(sum over j of exp(x[j])), any shape.

    Raises:
        TypeError, ValueError: no such axis.

    Source: ENSTA Paris, CSC_5RO13, "Output encoding and loss functions?".
    """
    axis = _axis("log_softmax", x, dim)
    xp = array_module(x)
    y = x - x.max(axis=axis, keepdims=True)
    y -= xp.log(xp.exp(y).sum(axis=axis, keepdims=True))
    return y, (lambda dy: dy - xp.exp(y) * dy.sum(axis=axis, keepdims=True),)


@differentiable
def dropout(
    x: Array, p: float = 0.5, training: bool = True, *, rng: np.random.Generator | None = None
) -> Any:
    """Each number is set to 0 with probability p, the others divided by 1 - p; any shape.

    Only while training; otherwise x itself. rng, a numpy Generator, draws on the host, so that a
    seed means the same on every device.

    Raises:
        ValueError: p outside 0..1, or no rng while training.

    Source: Srivastava et al., Dropout (2014).
    """
    array("dropout", "x", x)
    if not isinstance(p, (int, float)) or not 0 <= p <= 1:
        raise ValueError(f"dropout: p is a probability, 0..1, got {p!r}")
    if not training or p == 0:
        return x, (lambda dy: dy,)
    if rng is None:
        raise ValueError("dropout: rng is needed while training, e.g. np.random.default_rng(0)")
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"dropout: rng must be a numpy Generator, got {rng!r}")
    kept = rng.random(x.shape, np.float32) >= p
    scale = (kept / (1 - p) if p < 1 else kept).astype(x.dtype)
    scale = array_module(x).asarray(scale)
    return x * scale, (lambda dy: dy * scale,)
