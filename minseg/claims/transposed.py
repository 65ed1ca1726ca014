"""Claims on transposed and fractionally strided convolution: the homework.

Source: University of Waterloo, "Transposed vs Fractionally-strided Convolution".
"""

from collections.abc import Callable
from typing import Any

import numpy as np

import minseg.functional as F
from minseg.claims.claim import WATERLOO, claim, table
from minseg.formal import variables
from minseg.proofs import Verdict, prove

SMALL: dict[str, Any] = dict(x=(3, 4), k=(3, 3))


@claim(
    WATERLOO, "Transposed vs Fractionally-strided Convolution",
    "Transposed convolution equals fractionally strided convolution with the kernel turned by 180 degrees.",
    matters_most=True,
)  # fmt: skip
def transposed_is_fractional() -> Verdict:
    sizes = [dict(x=(3, 4), k=(2, 2)), dict(x=(3, 4), k=(3, 3)), dict(x=(2, 3), k=(4, 3))]
    return prove(
        lambda x, k, stride, padding: F.conv_transpose2d(x, k, stride=stride, padding=padding),
        lambda x, k, stride, padding: F.fractionally_strided_conv2d(
            x, F.rot180(k), stride=stride, padding=padding
        ),
        over=[row for s in sizes for row in table(s, stride=[1, 2, 3], padding=[0, 1])],
    )


@claim(
    WATERLOO, "Fractionally-strided Convolution",
    "Fractionally strided convolution with the same kernel equals transposed convolution.",
    "REFUTED", "The kernel must be turned by 180 degrees; the same one will do only if turning "
    "changes nothing.", matters_most=True,
)  # fmt: skip
def same_kernel() -> Verdict:
    return prove(
        lambda x, k: F.conv_transpose2d(x, k, stride=2),
        lambda x, k: F.fractionally_strided_conv2d(x, k, stride=2),
        x=(4, 4), k=(3, 3),
    )  # fmt: skip


@claim(
    WATERLOO, "Transposed vs Fractionally-strided Convolution",
    "Fractionally strided convolution with the kernel's transpose K^T equals transposed convolution.",
    "REFUTED", "Turning by 180 degrees reverses both axes; transposing mirrors in the diagonal.",
)  # fmt: skip
def transposed_kernel() -> Verdict:
    return prove(
        lambda x, k: F.conv_transpose2d(x, k, stride=2),
        lambda x, k: F.fractionally_strided_conv2d(x, k.T, stride=2),
        **SMALL,
    )


@claim(
    WATERLOO, "Transposed vs Fractionally-strided Convolution",
    "It is enough to flip the kernel along one axis.", "REFUTED", "Both axes must be reversed.",
)  # fmt: skip
def one_axis_flipped() -> Verdict:
    return prove(
        lambda x, k: F.conv_transpose2d(x, k, stride=2),
        lambda x, k: F.fractionally_strided_conv2d(x, k[::-1], stride=2),
        **SMALL,
    )


@claim(
    WATERLOO, "Transposed vs Fractionally-strided Convolution",
    "With the same kernel the two are equal if and only if K == rot180(K).",
    matters_most=True,
)  # fmt: skip
def central_symmetry() -> Verdict:
    return prove(
        lambda x, k, stride: F.conv_transpose2d(x, k, stride=stride),
        lambda x, k, stride: F.fractionally_strided_conv2d(x, k, stride=stride),
        over=[dict(x=(3, 3), k=(n, n), stride=s) for n in (2, 3, 4) for s in (1, 2)],
        where=lambda x, k: (k, F.rot180(k)),
    )


@claim(
    WATERLOO, "Transposed vs Fractionally-strided Convolution",
    "With the same kernel the two are equal if K is symmetric, K == K^T.",
    "REFUTED", "The condition is symmetry about the centre, K == rot180(K).",
)  # fmt: skip
def symmetric_kernel() -> Verdict:
    return prove(
        lambda x, k: F.conv_transpose2d(x, k, stride=2),
        lambda x, k: F.fractionally_strided_conv2d(x, k, stride=2),
        where=lambda x, k: (k, k.T), **SMALL,
    )  # fmt: skip


def _slide_centre(reading: str) -> Callable:
    """The slide's a k[1,1] + b k[-1,1] + c k[1,-1] + d k[-1,-1], k's indices counted from its centre."""

    def formula(x: Any, k: Any) -> Any:
        (a, b), (c, d) = x

        def at(first: int, second: int) -> Any:
            row, column = (second, first) if reading == "column, row" else (first, second)
            return k[1 + row, 1 + column]

        return a * at(1, 1) + b * at(-1, 1) + c * at(1, -1) + d * at(-1, -1)

    return formula


def _centre(x: Any, k: Any) -> Any:
    return F.conv_transpose2d(x, k, stride=2)[2, 2]


@claim(
    WATERLOO, "Transposed vs Fractionally-strided Convolution",
    "The pixel between a, b, c, d is a k[1,1] + b k[-1,1] + c k[1,-1] + d k[-1,-1], the indices of k "
    "being (column, row) from its centre.",
)  # fmt: skip
def slide_formula() -> Verdict:
    return prove(
        _centre,
        _slide_centre("column, row"),
        x=(2, 2),
        k=(3, 3),
        letters=dict(x="abcd"),
        indices="xy",
    )


@claim(
    WATERLOO, "Transposed vs Fractionally-strided Convolution",
    "The same formula holds with k's indices read as (row, column), as NumPy does.",
    "REFUTED", "Read that way the terms of b and c change places.",
)  # fmt: skip
def slide_formula_row_column() -> Verdict:
    return prove(_centre, _slide_centre("row, column"), x=(2, 2), k=(3, 3), letters=dict(x="abcd"))


def _padded_by_hand(x: Any, k: Any, stride: int, border: Callable[[int], int]) -> Any:
    """Zeros between the pixels, a border of zeros (or a crop), then conv2d with the turned kernel."""
    H, W = x.shape
    z = np.zeros(((H - 1) * stride + 1, (W - 1) * stride + 1), x.dtype)
    z[::stride, ::stride] = x
    below, right = border(k.shape[0]), border(k.shape[1])
    return F.conv2d(F.pad(z, (right, right, below, below)), F.rot180(k))


PADDINGS = [
    dict(x=(3, 4), k=(n, n), stride=s, padding=p)
    for n in (3, 5) for s in (1, 2) for p in (0, 1, 2) if p < n
]  # fmt: skip


@claim(
    WATERLOO, "Fractionally-strided Convolution",
    "Cropping p pixels off a transposed convolution means padding by p' = k - 1 - p (in general "
    "d(k - 1) - p) in the fractionally strided one.",
    matters_most=True,
)  # fmt: skip
def padding_law() -> Verdict:
    return prove(
        lambda x, k, stride, padding: F.conv_transpose2d(x, k, stride=stride, padding=padding),
        lambda x, k, stride, padding: _padded_by_hand(x, k, stride, lambda n: n - 1 - padding),
        over=PADDINGS,
    )


@claim(
    WATERLOO, "Fractionally-strided Convolution",
    "With dilation d the equivalent padding is d(k - 1) - p, and output_padding adds zeros at the end.",
)  # fmt: skip
def padding_law_dilated() -> Verdict:
    def left(x: Any, k: Any, **o: Any) -> Any:
        return F.conv_transpose2d(x, k, **o)

    def right(x: Any, k: Any, **o: Any) -> Any:
        return F.fractionally_strided_conv2d(x, F.rot180(k), **o)

    over = table(
        dict(x=(3, 2), k=(3, 2)),
        stride=[2, 3],
        padding=[0, 1],
        dilation=[1, 2],
        output_padding=[0, 1],
    )
    return prove(left, right, over=over)


@claim(
    WATERLOO, "Transposed vs Fractionally-strided Convolution",
    "With many channels the first two axes of the weights are swapped as well.",
)  # fmt: skip
def many_channels() -> Verdict:
    return prove(
        lambda x, k: F.conv_transpose2d(x, k, stride=2),
        lambda x, k: F.fractionally_strided_conv2d(x, F.rot180(k).swapaxes(0, 1), stride=2),
        x=(2, 3, 2, 3), k=(3, 2, 3, 3),
    )  # fmt: skip


def two_formulas() -> str:
    """The homework slide's two formulas for the pixel between a, b, c, d, written down by the code."""
    free = variables(dict(x=(2, 2), k=(3, 3)), letters=dict(x="abcd"))
    x, k = free["x"], free["k"]
    lines = {
        "conv_transpose2d(x, k, stride=2)": F.conv_transpose2d(x, k, stride=2),
        "fractionally_strided_conv2d(x, k, stride=2)": F.fractionally_strided_conv2d(
            x, k, stride=2
        ),
        "fractionally_strided_conv2d(x, rot180(k), stride=2)": F.fractionally_strided_conv2d(
            x, F.rot180(k), stride=2
        ),
    }
    return "\n".join(
        [
            "The pixel between a, b, c, d of x = [[a, b], [c, d]], as the functions that train the",
            "networks write it down when they are run on formal variables:",
            *(f"  {name:<52} {y[2, 2]}" for name, y in lines.items()),
        ]
    )
