"""SegNet: the decoder puts each number back where the encoder's pooling found its maximum.

Source: Badrinarayanan, Kendall and Cipolla, SegNet (2015), figures 2 and 3; Drake University, CS195
(2024), "SegNet".
"""

from typing import Any

import numpy as np

import minseg.functional as F
from minseg.models.blocks import check_sizes, conv_block, crop_to, image_size, pad_to_multiple
from minseg.nn import Conv2d, Module, Sequential


class SegNet(Module):
    """SegNet: (N, in_channels, H, W) -> (N, num_classes, H, W), for any H and W.

    depth poolings with width, 2 width, 4 width, ... channels remember where each maximum stood;
    unpooling needs no weights, only those indices, and the convolutions after it fill the gaps.
    An image whose sides are no multiple of 2^depth is filled up with zeros below and to the right,
    and the output cropped.

    Raises:
        TypeError, ValueError: numbers below 1.
    """

    def __init__(
        self, in_channels: int, num_classes: int, width: int = 16, depth: int = 3,
        *, rng: np.random.Generator | None = None,
    ) -> None:  # fmt: skip
        check_sizes("SegNet", width, depth, num_classes)
        rng = np.random.default_rng() if rng is None else rng
        self.depth = depth
        channels = [width * 2**n for n in range(depth)]
        self.encoder = Sequential(
            *(
                conv_block(C, O, rng)
                for C, O in zip([in_channels, *channels], channels, strict=False)
            )
        )
        down = channels[::-1]
        self.decoder = Sequential(
            *(conv_block(C, O, rng) for C, O in zip(down, [*down[1:], width], strict=True))
        )
        self.head = Conv2d(width, num_classes, 1, init="xavier", rng=rng)

    def forward(self, x: Any) -> Any:
        size = image_size("SegNet", x)
        x = pad_to_multiple(x, 2**self.depth)
        places = []
        for block in self.encoder:
            x, indices = F.max_pool2d(block(x), 2, return_indices=True)
            places.append(indices)
        for block in self.decoder:
            x = block(F.max_unpool2d(x, places.pop(), 2))
        return crop_to(self.head(x), size)
