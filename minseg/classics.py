"""The lectures' classification networks as lists of layers, and the FCNs that were made of them.

Nothing here is run: anatomy.py counts what these networks weigh, cost and see. The networks that are
trained live in models/.

Source: Deep Learning for Vision (2024-2025),
'"Convolutionalization" of well-known classification architectures'; the papers beside each network.
"""

from dataclasses import replace
from typing import cast

from minseg.anatomy import Branches, Conv, Dense, Layer, Pool, convolutional
from minseg.arguments import one_of


def alexnet(num_classes: int = 1000) -> list[Layer]:
    """AlexNet as Caffe has it, for images of 227 pixels (Krizhevsky et al. 2012, section 3.5)."""
    return [
        Conv(96, 11, 4), Pool(3, 2), Conv(256, 5, padding=2, groups=2), Pool(3, 2),
        Conv(384, 3, padding=1), Conv(384, 3, padding=1, groups=2),
        Conv(256, 3, padding=1, groups=2), Pool(3, 2), Dense(4096), Dense(4096), Dense(num_classes),
    ]  # fmt: skip


def vgg16(num_classes: int = 1000) -> list[Layer]:
    """VGG16, for images of 224 pixels (Simonyan and Zisserman 2015, table 1, column D)."""
    layers: list[Layer] = []
    for channels, times in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        layers += [Conv(channels, 3, padding=1)] * times + [Pool(2, ceil_mode=True)]
    return [*layers, Dense(4096), Dense(4096), Dense(num_classes)]


def googlenet(num_classes: int = 1000) -> list[Layer]:
    """GoogLeNet for images of 224 pixels, no auxiliary classifiers (Szegedy et al. 2015, table 1)."""

    def inception(one: int, three_in: int, three: int, five_in: int, five: int, pool: int) -> Layer:
        return Branches(
            [Conv(one, 1)],
            [Conv(three_in, 1), Conv(three, 3, padding=1)],
            [Conv(five_in, 1), Conv(five, 5, padding=2)],
            [Pool(3, 1, padding=1), Conv(pool, 1)],
        )

    half = Pool(3, 2, ceil_mode=True)
    return [
        Conv(64, 7, 2, padding=3), half, Conv(64, 1), Conv(192, 3, padding=1), half,
        inception(64, 96, 128, 16, 32, 32), inception(128, 128, 192, 32, 96, 64), half,
        inception(192, 96, 208, 16, 48, 64), inception(160, 112, 224, 24, 64, 64),
        inception(128, 128, 256, 24, 64, 64), inception(112, 144, 288, 32, 64, 64),
        inception(256, 160, 320, 32, 128, 128), half, inception(256, 160, 320, 32, 128, 128),
        inception(384, 192, 384, 48, 128, 128), Pool(7, 1), Dense(num_classes),
    ]  # fmt: skip


CLASSIFIERS = {"alexnet": (alexnet, 227), "vgg16": (vgg16, 224), "googlenet": (googlenet, 224)}


def fcn(name: str, num_classes: int = 21, padding: int | None = None) -> list[Layer]:
    """FCN-AlexNet, -VGG16, -GoogLeNet: "alexnet", "vgg16", "googlenet" made convolutional, to the scores.

    padding: of the first convolution, if not the classifier's. Long et al. have 100: then even an
    image of one pixel leaves a map that the 7x7 kernel fits into.

    Raises:
        TypeError, ValueError: an unknown name, numbers out of range.

    Source: Long, Shelhamer and Darrell (2015), table 1.
    """
    classifier, size = CLASSIFIERS[one_of("fcn", "name", name, tuple(CLASSIFIERS))]
    first, *others = convolutional(classifier(num_classes), size)
    return [replace(cast(Conv, first), padding=padding) if padding is not None else first, *others]
