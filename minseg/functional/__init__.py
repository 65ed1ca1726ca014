"""Every op of the package, one file per lecture topic: `import minseg.functional as F`.

An op is one function: its formula in the docstring, its value, and one gradient per input, all on
one screen. On plain arrays (NumPy, CuPy, integers, Fractions, formal variables) it returns a plain
array; give it a Tensor and it returns a Tensor.
"""

from minseg.functional.activation import (
    dropout,
    leaky_relu,
    log_softmax,
    relu,
    sigmoid,
    softmax,
    tanh,
)
from minseg.functional.basic import cat, exp, linear, log, matmul, max, mean, pad, sum
from minseg.functional.conv import (
    bilinear_kernel,
    conv2d,
    conv_transpose2d,
    fractionally_strided_conv2d,
    rot180,
)
from minseg.functional.loss import cross_entropy, nll_loss
from minseg.functional.norm import batch_norm
from minseg.functional.pool import (
    adaptive_avg_pool2d,
    avg_pool2d,
    global_avg_pool2d,
    global_max_pool2d,
    max_pool2d,
    max_unpool2d,
)
from minseg.functional.resize import interpolate
from minseg.windows import output_size

__all__ = [
    "adaptive_avg_pool2d",
    "avg_pool2d",
    "batch_norm",
    "bilinear_kernel",
    "cat",
    "conv2d",
    "conv_transpose2d",
    "cross_entropy",
    "dropout",
    "exp",
    "fractionally_strided_conv2d",
    "global_avg_pool2d",
    "global_max_pool2d",
    "interpolate",
    "leaky_relu",
    "linear",
    "log",
    "log_softmax",
    "matmul",
    "max",
    "max_pool2d",
    "max_unpool2d",
    "mean",
    "nll_loss",
    "output_size",
    "pad",
    "relu",
    "rot180",
    "sigmoid",
    "softmax",
    "sum",
    "tanh",
]
