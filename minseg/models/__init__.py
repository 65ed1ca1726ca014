"""Networks for segmentation, one a file: FCN, SegNet, U-Net."""

from typing import Any

import numpy as np

from minseg.arguments import integer
from minseg.models.fcn import FCN
from minseg.models.segnet import SegNet
from minseg.models.unet import UNet
from minseg.nn import Module

MODELS = {"fcn": FCN, "segnet": SegNet, "unet": UNet}

__all__ = ["FCN", "MODELS", "SegNet", "UNet", "build"]


def build(
    name: str,
    in_channels: int,
    num_classes: int,
    width: int = 16,
    depth: int = 3,
    seed: int = 0,
    **options: Any,
) -> Module:
    """The network `name` ("fcn", "segnet", "unet"), its weights drawn from `seed`.

    (N, in_channels, H, W) -> (N, num_classes, H, W). width and depth as each network's docstring
    says; options are its own: skips and dilated for fcn, padding for unet. The same seed gives the
    same weights on every machine and device.

    Raises:
        TypeError, ValueError: an unknown name or option, numbers out of range.
    """
    if name not in MODELS:
        raise ValueError(f"models.build: name must be one of {', '.join(MODELS)}, got {name!r}")
    integer("models.build", "seed", seed, 0)
    built = dict(name=name, in_channels=in_channels, num_classes=num_classes, width=width)
    built |= dict(depth=depth, seed=seed, **options)
    rng = np.random.default_rng(seed)
    network = MODELS[name](in_channels, num_classes, width, depth, **options, rng=rng)
    network.built = built  # a checkpoint keeps it, and builds the network anew from it
    return network
