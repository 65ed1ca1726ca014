"""Batch normalisation: every channel brought to mean 0 and variance 1, then scaled and shifted.

Source: Ioffe and Szegedy, Batch Normalization (2015), algorithm 1.
"""

from typing import Any

from minseg.arguments import array, floats
from minseg.backend import Array, array_module
from minseg.channels import by_channel, dot, empty, total
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
    each = (1, C) + (1,) * (x.ndim - 2)  # per-channel numbers, shaped to broadcast over x
    count = x.size // C
    of_batch = training or running_mean is None
    if of_batch and count < 2:
        raise ValueError(
            f"batch_norm: while training each channel needs more than one value, got x {x.shape}"
        )
    if of_batch:
        mean, var = empty(each, x), empty(each, x)
    else:
        assert running_mean is not None
        assert running_var is not None
        mean, var = running_mean.reshape(each), running_var.reshape(each)
    slope = xp.ones(each, x.dtype) if weight is None else weight.reshape(each)
    shift = xp.zeros(each, x.dtype) if bias is None else bias.reshape(each)
    scale, y = empty(each, x), empty(x.shape, x)

    def normalise(x: Array, y: Array, mean: Array, var: Array, *others: Array) -> None:
        scale, slope, shift = others
        if of_batch:
            mean[...] = total(x) / count
        xp.subtract(x, mean, out=y)
        if of_batch:
            var[...] = dot(y, y) / count
        scale[...] = 1 / xp.sqrt(var + eps)
        y *= scale * slope
        y += shift

    by_channel(normalise, x, y, mean, var, scale, slope, shift)
    if training and running_mean is not None and running_var is not None:
        running_mean += momentum * (mean.reshape(C) - running_mean)
        running_var += momentum * (var.reshape(C) * (count / (count - 1)) - running_var)

    @once
    def gradients(dy: Array) -> tuple[Array, Array, Array]:
        dx, dslope, dshift = empty(x.shape, x), empty(each, x), empty(each, x)

        def of_block(dy: Array, x: Array, dx: Array, *others: Array) -> None:
            mean, scale, slope, dslope, dshift = others
            dshift[...] = total(dy)
            xp.subtract(x, mean, out=dx)
            dslope[...] = dot(dy, dx) * scale
            if of_batch:
                # The mean and the variance move with x as well: what is left of dy is without its
                # part along the constant and along the normalised x.
                dx *= scale * dslope / -count
                dx -= dshift / count
                dx += dy
                dx *= scale * slope
            else:  # constants, not functions of x
                xp.multiply(dy, scale * slope, out=dx)

        by_channel(of_block, dy, x, dx, mean, scale, slope, dslope, dshift)
        return dx, dslope.reshape(C), dshift.reshape(C)

    def grad_x(dy: Array) -> Array:
        return gradients(dy)[0]

    def grad_weight(dy: Array) -> Array:
        return gradients(dy)[1]

    def grad_bias(dy: Array) -> Array:
        return gradients(dy)[2]

    return y, (grad_x, None, None, grad_weight, grad_bias)
