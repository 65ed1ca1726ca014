"""U-Net: an encoder that halves the image, a decoder that doubles it, and skips between them.

Source: Ronneberger, Fischer and Brox, U-Net (2015), figure 1; University of Waterloo, "U-net:
expanding decoder with symmetry"; Drake University, CS195 (2024), "U-Net".
"""

from typing import Any

import numpy as np

import minseg.functional as F
from minseg.arguments import one_of
from minseg.models.blocks import check_sizes, conv_block, crop_to, image_size, pad_to_multiple
from minseg.nn import Conv2d, ConvTranspose2d, Module, Sequential


class UNet(Module):
    """U-Net: (N, in_channels, H, W) -> (N, num_classes, H, W), for any H and W.

    width: channels at full resolution, doubled at each of the `depth` resolutions (width 16, depth 3:
    16, 32, 64 channels, two poolings). Each resolution has convolution, batch normalisation and ReLU
    twice; a 2x2 transposed convolution of stride 2 leads up; the encoder's map is concatenated.

    padding="same": maps keep their size; an image whose sides are no multiple of 2^(depth - 1) is
    filled up with zeros below and to the right, and the output cropped. padding="valid": the paper's
    network, each 3x3 convolution takes a pixel off every side and skips are cropped; the image is
    framed in zeros so that the output still has its size. `unpadded` is the paper's own: 572 -> 388.

    Raises:
        TypeError, ValueError: numbers below 1, an unknown padding.
    """

    def __init__(
        self, in_channels: int, num_classes: int, width: int = 16, depth: int = 3,
        padding: str = "same", *, rng: np.random.Generator | None = None,
    ) -> None:  # fmt: skip
        check_sizes("UNet", width, depth, num_classes)
        rng = np.random.default_rng() if rng is None else rng
        self.depth = depth
        self.valid = one_of("UNet", "padding", padding, ("same", "valid")) == "valid"
        channels = [width * 2**n for n in range(depth)]
        pad = 0 if self.valid else 1
        self.encoder = Sequential(
            *(
                conv_block(C, O, rng, padding=pad)
                for C, O in zip([in_channels, *channels], channels, strict=False)
            )
        )
        self.up = Sequential(
            *(ConvTranspose2d(2 * C, C, 2, stride=2, rng=rng) for C in channels[-2::-1])
        )
        self.decoder = Sequential(
            *(conv_block(2 * C, C, rng, padding=pad) for C in channels[-2::-1])
        )
        self.head = Conv2d(width, num_classes, 1, init="xavier", rng=rng)

    def forward(self, x: Any) -> Any:
        H, W = image_size("UNet", x)
        if not self.valid:
            return crop_to(self.unpadded(pad_to_multiple(x, 2 ** (self.depth - 1))), (H, W))
        (above, below), (left, right) = self.frame(H), self.frame(W)
        return crop_to(self.unpadded(F.pad(x, (left, right, above, below))), (H, W))

    def unpadded(self, x: Any) -> Any:
        """The network on an image as it is; valid: (N, C, 572, 572) -> (N, K, 388, 388) at depth 5.

        Raises:
            ValueError: a side that does not halve evenly all the way down.
        """
        for n in x.shape[2:]:
            if self.output_size(n) is None:
                raise ValueError(
                    f"UNet: an image of {tuple(x.shape[2:])} does not halve evenly {self.depth - 1} "
                    "times; call the network itself, which pads, instead of unpadded()"
                )
        skips = []
        for number, block in enumerate(self.encoder):
            x = block(x if number == 0 else F.max_pool2d(x, 2))
            skips.append(x)
        for up, block in zip(self.up, self.decoder, strict=True):
            skips.pop()
            x = up(x)
            x = block(F.cat([_centre(skips[-1], x.shape[2:]), x], dim=1))
        return self.head(x)

    def output_size(self, n: int) -> int | None:
        """How wide the output of `unpadded` is for a side of n pixels; None if that n does not work."""
        lost = 4 if self.valid else 0  # two 3x3 convolutions
        for _ in range(self.depth - 1):
            n -= lost
            if n < 2 or n % 2:
                return None
            n //= 2
        n = (n - lost) * 2 ** (self.depth - 1) - lost * (2 ** (self.depth - 1) - 1)
        return n if n > 0 else None

    def frame(self, n: int) -> tuple[int, int]:
        """Zeros before and after a side of n pixels so that the output covers it and begins with it."""
        total = n
        while (covered := self.output_size(total)) is None or covered < n:
            total += 1
        before = (total - covered) // 2
        return before, total - n - before


def _centre(x: Any, size: tuple[int, int]) -> Any:
    """The middle of x (N, C, H, W), of `size`: where a map that lost its border lies."""
    top, left = ((n - m) // 2 for n, m in zip(x.shape[2:], size, strict=True))
    if (top, left) == (0, 0):
        return x
    return F.pad(x, (-left, left + size[1] - x.shape[3], -top, top + size[0] - x.shape[2]))
