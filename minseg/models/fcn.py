"""Fully convolutional network: a classifier made convolutional, its coarse scores upsampled.

Source: Long, Shelhamer and Darrell, Fully Convolutional Networks (2015), figure 3; University of
Waterloo, "Fully Convolutional Networks (FCNs)"; Bonn University, MA-INF 4308 (2023), "Fully
Convolutional Networks (FCN)"; Drake University, CS195 (2024), "FCN: Fully Convolutional Network".
"""

from typing import Any

import numpy as np

import minseg.functional as F
from minseg.arguments import integer
from minseg.models.blocks import check_sizes, conv_block, crop_to, image_size, pad_to_multiple
from minseg.nn import Conv2d, ConvTranspose2d, Module, Sequential


class FCN(Module):
    """FCN: (N, in_channels, H, W) -> (N, num_classes, H, W), for any H and W.

    depth poolings halve the image, with width, 2 width, 4 width, ... channels; a 1x1 convolution
    scores the coarsest map. `skips` finer maps are scored too and added, each after the coarser
    scores were doubled; what is left is upsampled in one go. At depth 3 skips 0, 1, 2 give output
    strides 8, 4, 2: the lecture's FCN-32s, 16s, 8s at toy size. All upsampling is by transposed
    convolution that begins as bilinear interpolation and learns from there.

    dilated: the last pooling is left out and the block after it dilated by 2 instead: the same view
    of the image at twice the resolution.

    An image whose sides are no multiple of 2^depth is filled up with zeros below and to the right,
    and the output cropped.

    Raises:
        TypeError, ValueError: numbers below 1, more skips than maps to skip from.
    """

    def __init__(
        self, in_channels: int, num_classes: int, width: int = 16, depth: int = 3, skips: int = 0,
        dilated: bool = False, *, rng: np.random.Generator | None = None,
    ) -> None:  # fmt: skip
        check_sizes("FCN", width, depth, num_classes)
        poolings = depth - bool(dilated)
        if not 0 <= integer("FCN", "skips", skips) < max(1, poolings):
            raise ValueError(
                f"FCN: skips must lie in 0..{max(0, poolings - 1)} with {poolings} poolings, got {skips}"
            )
        rng = np.random.default_rng() if rng is None else rng
        self.poolings, self.skips = poolings, skips
        channels = [width * 2**n for n in range(depth + 1)]
        self.encoder = Sequential(
            *(
                conv_block(C, O, rng, dilation=2 if n > poolings else 1)
                for n, (C, O) in enumerate(zip([in_channels, *channels], channels, strict=False))
            )
        )
        # Scores of the coarsest map, then of the maps after the finer poolings, as skips need them.
        finer = [channels[n] for n in range(poolings - 1, poolings - 1 - skips, -1)]
        self.score = Sequential(
            *(Conv2d(C, num_classes, 1, init="xavier", rng=rng) for C in [channels[-1], *finer])
        )
        strides = [2] * skips + [2 ** (poolings - skips)]
        self.up = Sequential(*(_bilinear(num_classes, stride) for stride in strides))

    def forward(self, x: Any) -> Any:
        size = image_size("FCN", x)
        x = pad_to_multiple(x, 2**self.poolings)
        maps = []  # the map at each stride 1, 2, 4, ..., before it is pooled
        for number, block in enumerate(self.encoder):
            x = block(x if number == 0 or number > self.poolings else F.max_pool2d(x, 2))
            maps.append(x)
        finer = maps[self.poolings - 1 :: -1]
        scores = self.score[0](maps[-1])
        for number in range(self.skips):
            scores = self.up[number](scores) + self.score[number + 1](finer[number])
        return crop_to(self.up[self.skips](scores), size)


def _bilinear(channels: int, stride: int) -> ConvTranspose2d:
    """Upsampling by `stride` without bias; bilinear, each class by itself, to begin with."""
    size = 2 * stride - stride % 2
    return ConvTranspose2d(
        channels, channels, size, stride, stride // 2, groups=1, bias=False, init="bilinear"
    )
