"""Claims on convolution in other words: dilation, dense layers, sliding windows, skips.

Source: beside each claim.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

import minseg.functional as F
from minseg import loops
from minseg.claims.claim import BONN, DRAKE, WATERLOO, claim
from minseg.proofs import Verdict, prove


@claim(
    WATERLOO, "DeepLab",
    "Dilated convolution is convolution with zeros put between the kernel's taps: effective size "
    "k + (k - 1)(d - 1).",
    matters_most=True,
)  # fmt: skip
def dilated_is_zero_stuffed() -> Verdict:
    def right(x: Any, k: Any, dilation: int) -> Any:
        n = k.shape[0] + (k.shape[0] - 1) * (dilation - 1)
        stuffed = np.zeros((n, n), k.dtype)
        stuffed[::dilation, ::dilation] = k
        return F.conv2d(x, stuffed)

    return prove(
        lambda x, k, dilation: F.conv2d(x, k, dilation=dilation), right,
        over=[dict(x=(7, 8), k=(3, 3), dilation=d) for d in (1, 2, 3)],
    )  # fmt: skip


@claim(
    WATERLOO, "Fully Convolutional Networks (FCNs)",
    "A dense layer on C maps of N x N pixels is a convolution with an N x N kernel.",
)  # fmt: skip
def dense_is_convolution() -> Verdict:
    return prove(
        lambda x, w: F.linear(x.reshape(1, -1), w),
        lambda x, w: F.conv2d(x, w.reshape(-1, 2, 3, 3)).reshape(1, -1),
        x=(1, 2, 3, 3), w=(2, 18),
    )  # fmt: skip


@claim(
    BONN, "Convolutionalization",
    "A 1x1 convolution is one dense layer applied at every pixel.",
)  # fmt: skip
def one_by_one_convolution() -> Verdict:
    return prove(
        lambda x, w: F.conv2d(x, w[:, :, None, None]),
        lambda x, w: F.linear(x.transpose(0, 2, 3, 1), w).transpose(0, 3, 1, 2),
        x=(1, 3, 2, 3), w=(2, 3),
    )  # fmt: skip


def _net(x: Any, k1: Any, k2: Any, stride: int = 1, dilation: int = 1, padding: Any = 0) -> Any:
    """Two convolutions, the first with a stride, the second dilated."""
    y = F.conv2d(x, k1, stride=stride, padding=padding)
    return F.conv2d(y, k2, dilation=dilation, padding=padding)


def _windows(x: Any, size: int, apply: Callable) -> Any:
    """apply to every size x size window of x, by itself: the slow way of labelling each pixel."""
    H, W = x.shape[0] - size + 1, x.shape[1] - size + 1
    first = apply(x[:size, :size])
    out = np.zeros((H, W), first.dtype)
    for i, j in np.ndindex(H, W):
        out[i, j] = apply(x[i : i + size, j : j + size])[0, 0]
    return out


NET: dict[str, Any] = dict(x=(7, 7), k1=(2, 2), k2=(3, 3))


@claim(
    WATERLOO, "Fully Convolutional Networks (FCNs)",
    "A network applied to every window by itself gives what the convolutional network gives at once.",
    matters_most=True,
)  # fmt: skip
def sliding_window_is_convolutional() -> Verdict:
    return prove(lambda x, k1, k2: _windows(x, 4, lambda w: _net(w, k1, k2)), _net, **NET)


@claim(
    WATERLOO, "Fully Convolutional Networks (FCNs)",
    "With a stride of s, the convolutional network gives every s-th window.",
)  # fmt: skip
def stride_skips_windows() -> Verdict:
    return prove(
        lambda x, k1, k2: _windows(x, 6, lambda w: _net(w, k1, k2, stride=2))[::2, ::2],
        lambda x, k1, k2: _net(x, k1, k2, stride=2),
        x=(8, 8), k1=(2, 2), k2=(3, 3),
    )  # fmt: skip


@claim(
    WATERLOO, "DeepLab",
    "Leave out the stride, dilate what comes after it, and every window is there (a trous).",
)  # fmt: skip
def a_trous_gives_all_windows() -> Verdict:
    return prove(
        lambda x, k1, k2: _windows(x, 6, lambda w: _net(w, k1, k2, stride=2)),
        lambda x, k1, k2: _net(x, k1, k2, dilation=2),
        x=(8, 8), k1=(2, 2), k2=(3, 3),
    )  # fmt: skip


@claim(
    WATERLOO, "Fully Convolutional Networks (FCNs)",
    "The sliding-window identity also holds for a network with \"same\" padding.",
    "REFUTED", "A window by itself sees zeros where the whole image has pixels.",
)  # fmt: skip
def same_padding_breaks_it() -> Verdict:
    def padded(x: Any, k1: Any, k2: Any) -> Any:
        return F.conv2d(F.conv2d(x, k1, padding="same"), k2)

    return prove(
        lambda x, k1, k2: _windows(x, 3, lambda w: padded(w, k1, k2)), padded,
        x=(5, 5), k1=(3, 3), k2=(3, 3),
    )  # fmt: skip


@claim(
    WATERLOO, "U-net: expanding decoder with symmetry",
    "Concatenation followed by a 1x1 convolution is the sum of two 1x1 convolutions.",
)  # fmt: skip
def skip_concatenation() -> Verdict:
    return prove(
        lambda a, b, w: F.conv2d(F.cat([a, b], dim=1), w),
        lambda a, b, w: F.conv2d(a, w[:, :2]) + F.conv2d(b, w[:, 2:]),
        a=(1, 2, 2, 2), b=(1, 3, 2, 2), w=(2, 5, 1, 1),
    )  # fmt: skip


@claim(
    DRAKE, "FCN: Upsampling via Transposed Convolution Operation",
    "The slide's loop Y[i:i+h, j:j+w] += X[i,j] * K is the op that trains the networks.",
)  # fmt: skip
def slide_loop_is_the_op() -> Verdict:
    return prove(
        loops.transpose_convolution, lambda X, K: F.conv_transpose2d(X, K), X=(4, 3), K=(2, 3)
    )
