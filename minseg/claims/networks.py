"""Claims on whole networks: facts that are counted from the layers' shapes, not run.

Source: beside each claim.
"""

import numpy as np

from minseg import anatomy, classics
from minseg.claims.claim import DLV, DRAKE, claim
from minseg.proofs import Verdict


def _counted(facts: dict[str, tuple[int, int]]) -> Verdict:
    """Numbers of the slides beside the numbers counted: {what: (counted, stated)}."""
    wrong = {what: pair for what, pair in facts.items() if pair[0] != pair[1]}
    settled = [f"{what} = {stated:,}" for what, (_, stated) in facts.items()]
    if not wrong:
        return Verdict("PROVED", settled, "counted from the layers' shapes, exactly")
    what, (counted, stated) = next(iter(wrong.items()))
    difference = {
        "where": what, "left": f"{counted:,} counted", "right": f"{stated:,} stated",
        "minus": f"{counted - stated:,}", "run": [], "map": np.ones((1, 1), int),
    }  # fmt: skip
    return Verdict("REFUTED", settled, f"{len(wrong)} of {len(facts)} counts differ", difference)


@claim(
    DLV, '"Convolutionalization" of well-known classification architectures',
    "The receptive fields of FCN-AlexNet, FCN-VGG16 and FCN-GoogLeNet are 355, 404 and 907 pixels.",
)  # fmt: skip
def receptive_fields() -> Verdict:
    stated = {"alexnet": 355, "vgg16": 404, "googlenet": 907}
    return _counted(
        {name: (anatomy.receptive_field(classics.fcn(name)).size, n) for name, n in stated.items()}
    )


@claim(
    DLV, '"Convolutionalization" of well-known classification architectures',
    "They have 57, 134 and 6 million parameters: 56,954,261, 134,346,581 and 5,995,077, with a score "
    "layer for 21 classes and without the upsampling.",
)  # fmt: skip
def parameter_counts() -> Verdict:
    stated = {"alexnet": 56_954_261, "vgg16": 134_346_581, "googlenet": 5_995_077}
    return _counted(
        {name: (anatomy.parameters(classics.fcn(name), 3), n) for name, n in stated.items()}
    )


@claim(
    DLV, "Case study: 3D medical image segmentation",
    "One strided 2-D convolution costs 68.7 GFLOP, its 3-D sister 64 times as much; attention over "
    "64 x 64 x 32 tokens 17.7 TFLOP, in windows of 8 x 8 x 8 only 137.4 GFLOP (a multiply-add is 2).",
)  # fmt: skip
def flop_counts() -> Verdict:
    flat = anatomy.Conv(1024, (2, 2), stride=2, bias=False)
    solid = anatomy.Conv(1024, (2, 2, 2), stride=2, bias=False)
    tokens = (64, 64, 32)
    windows = anatomy.attention_flops(tokens, 256, window=(8, 8, 8))
    return _counted(
        {
            "2-D parameters": (anatomy.parameters([flat], 512), 2_097_152),
            "3-D parameters": (anatomy.parameters([solid], 512), 4_194_304),
            "2-D FLOP": (anatomy.flops([flat], 512, (256, 256)), 68_719_476_736),
            "3-D FLOP": (anatomy.flops([solid], 512, (256, 256, 64)), 4_398_046_511_104),
            "attention FLOP": (anatomy.attention_flops(tokens, 256), 17_660_905_521_152),
            "in windows": (windows, 137_438_953_472),
        }
    )


@claim(
    DRAKE, "FCN: Fully Convolutional Network",
    "Replacing a fully connected layer by a convolution reduces the number of weights.",
    "REFUTED", "The count stays: VGG16's fc6 has 102,764,544 either way. FCN-VGG16 is smaller only "
    "because it scores 21 classes and not 1000.",
)  # fmt: skip
def convolutionalization_saves_weights() -> Verdict:
    dense = anatomy.parameters([anatomy.Dense(4096)], 512, (7, 7))
    convolution = anatomy.parameters([anatomy.Conv(4096, 7)], 512)
    difference = {
        "where": "fc6's weights", "left": f"{dense:,} dense", "right": f"{convolution:,} convolutional",
        "minus": f"{dense - convolution:,}", "run": [], "map": np.ones((1, 1), int),
    }  # fmt: skip
    fewer = convolution < dense
    how = "counted from the layers' shapes, exactly"
    return Verdict(
        "PROVED" if fewer else "REFUTED", ["fc6 of VGG16"], how, {} if fewer else difference
    )
