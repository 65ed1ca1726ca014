"""Data to segment: toy scenes that are drawn as they are asked for, and folders of your own.

A data set is a sequence of (image, labels): float32 (C, H, W) and int64 (H, W), 255 for void. A
Loader makes batches of it.
"""

import os
from pathlib import Path

from minseg.data.dataset import VOID, Dataset, Scenes, flip_horizontal, random_crop
from minseg.data.digits import Digits, HardDigits, handwritten_digits
from minseg.data.folder import Folder
from minseg.data.loader import Loader
from minseg.data.shapes import Shapes

DATASETS: dict[str, type[Scenes]] = {kind.name: kind for kind in (Shapes, Digits, HardDigits)}

__all__ = [
    "DATASETS",
    "VOID",
    "Dataset",
    "Digits",
    "Folder",
    "HardDigits",
    "Loader",
    "Shapes",
    "build",
    "flip_horizontal",
    "handwritten_digits",
    "random_crop",
]


def build(
    name: str | os.PathLike[str],
    split: str = "train",
    size: int | tuple[int, int] | None = None,
    seed: int = 0,
    length: int | None = None,
) -> Dataset:
    """The data set "shapes", "digits" or "digits-hard", or the folder at the path `name`: items
    are an image (C, H, W) and its labels (H, W).

    split is "train" or "test"; size the side of its images in pixels, or (H, W); length how many
    items; None means the set's own. Raises ValueError if there is no such data set, split or size.
    """
    if name in DATASETS:
        return DATASETS[str(name)](split, size, seed, length)
    if Path(name).is_dir():
        return Folder(name, split, size, seed, length)
    raise ValueError(
        f"data.build: {str(name)!r} is neither a data set ({', '.join(DATASETS)}) nor a folder "
        "with images/ and masks/"
    )
