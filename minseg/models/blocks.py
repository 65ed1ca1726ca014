"""What the networks share: the block of convolution, batch normalisation and ReLU, and odd sizes."""

from typing import Any

import numpy as np

import minseg.functional as F
from minseg.arguments import integer
from minseg.nn import BatchNorm2d, Conv2d, ReLU, Sequential


def conv_block(
    C: int, O: int, rng: np.random.Generator, times: int = 2, dilation: int = 1, padding: int = 1
) -> Sequential:
    """Convolution 3x3, batch normalisation, ReLU, `times` times: (N, C, H, W) -> (N, O, H, W).

    The convolution has no bias: batch normalisation would subtract it again.
    """
    layers: list = []
    for n in range(times):
        channels = C if n == 0 else O
        layers += [
            Conv2d(channels, O, 3, 1, padding * dilation, dilation, bias=False, rng=rng),
            BatchNorm2d(O),
            ReLU(),
        ]
    return Sequential(*layers)


DEEPEST = 8  # the coarsest map of a 256 x 256 image is then one pixel; weights grow fourfold each


def check_sizes(model: str, width: int, depth: int, num_classes: int) -> None:
    """Do nothing, or say which of a network's sizes does not fit."""
    for name, value in dict(width=width, depth=depth, num_classes=num_classes).items():
        integer(model, name, value, 1)
    if depth > DEEPEST:
        raise ValueError(f"{model}: depth must be at most {DEEPEST}, got {depth}")


def image_size(model: str, x: Any) -> tuple[int, int]:
    """(H, W) of a batch x (N, C, H, W).

    Raises:
        ValueError: x has not four axes.
    """
    if x.ndim != 4:
        hint = "; add a batch axis: x[None]" if x.ndim == 3 else ""
        raise ValueError(f"{model}: x must have shape (N, C, H, W), got {x.shape}{hint}")
    return x.shape[2:]


def pad_to_multiple(x: Any, multiple: int) -> Any:
    """x (N, C, H, W) with zeros below and to the right, so that `multiple` divides H and W.

    This is how any input size works: a network that halves the image three times sees a multiple of
    8, and its output is cropped back to the input's size.
    """
    H, W = x.shape[2:]
    below, right = -H % multiple, -W % multiple
    return F.pad(x, (0, right, 0, below)) if below or right else x


def crop_to(x: Any, size: tuple[int, int]) -> Any:
    """The top left `size` = (H, W) of x (N, C, ...)."""
    H, W = x.shape[2:]
    return x if size == (H, W) else F.pad(x, (0, size[1] - W, 0, size[0] - H))
