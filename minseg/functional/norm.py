"""Batch normalisation: every channel brought to mean 0 and variance 1, then scaled and shifted.

Source: Ioffe and Szegedy, Batch Normalization (2015), algorithm 1.
"""

from typing import Any

from minseg.arguments import array, floats
from minseg.backend import Array, array_module
from minseg.functional.basic import once
from minseg.tensor import differentiable


@differentiable
def batch_norm(
    x: Array,
    running_mean: Array | None,
    running_var: Array | None,
    weight: Array | None = None,
    bias: Array | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """y = weight * (x - mean) / sqrt(var + eps) + bias,  for each channel

    x (N, C, ...) -> same; the others (C,). While training (or with no running statistics) mean and
    var are the batch's own, over all axes but the channels, and the running ones move towards them
    in place: running += momentum * (batch - running), with the unbiased variance, as in PyTorch.

    Raises:
        TypeError, ValueError: integers, per-channel arrays that are not (C,), one value per channel
            while training, one running statistic without the other.

    Source: Ioffe and Szegedy (2015), algorithm 1; its gradients are those below it.
    """
    name = "batch_norm"
    xp = array_module(x)
    floats(name, "x", array(name, "x", x))
    if x.ndim < 2:
        raise ValueError(f"batch_norm: x must have shape (N, C, ...), got {x.shape}")
    C = x.shape[1]
    for argument, value in dict(
        running_mean=running_mean, running_var=running_var, weight=weight, bias=bias
    ).items():
        if value is not None and array(name, argument, value).shape != (C,):
            raise ValueError(f"batch_norm: {argument} must have shape ({C},), got {value.shape}")
    if not eps > 0:
        raise ValueError(f"batch_norm: eps must be a number above 0, got {eps!r}")
    if (running_mean is None) != (running_var is None):
        raise ValueError("batch_norm: give running_mean and running_var together, or neither")
    axes = (0, *range(2, x.ndim))
    each = (1, C) + (1,) * (x.ndim - 2)  # per-channel numbers, shaped to broadcast over x
    count = x.size // C
    if training or running_mean is None:
        if count < 2:
            raise ValueError(
                f"batch_norm: while training each channel needs more than one value, got x {x.shape}"
            )
        mean = x.sum(axis=axes) / count
        normal = x - mean.reshape(each)
        var = (normal * normal).sum(axis=axes) / count
        if training and running_mean is not None and running_var is not None:
            running_mean += momentum * (mean - running_mean)
            running_var += momentum * (var * (count / (count - 1)) - running_var)
    else:
        normal, var = x - running_mean.reshape(each), running_var
    scale = 1 / xp.sqrt(var + eps)  # (C,)
    normal *= scale.reshape(each)
    y = normal if weight is None else normal * weight.reshape(each)
    if bias is not None:
        y = y + bias.reshape(each)

    sums = once(lambda dy: (dy.sum(axis=axes), (dy * normal).sum(axis=axes)))

    def grad_x(dy: Array) -> Array:
        slope = (scale if weight is None else scale * weight).reshape(each)
        if not (training or running_mean is None):  # constants, not functions of x
            return dy * slope
        # The mean and the variance move with x as well: what is left is dy without its part along
        # the constant and along the normalised x.
        sum_dy, sum_dy_normal = sums(dy)
        dx = normal * (sum_dy_normal / -count).reshape(each)
        dx += dy
        dx -= (sum_dy / count).reshape(each)
        dx *= slope
        return dx

    def grad_weight(dy: Array) -> Array:
        return sums(dy)[1]

    def grad_bias(dy: Array) -> Array:
        return sums(dy)[0]

    return y, (grad_x, None, None, grad_weight, grad_bias)
