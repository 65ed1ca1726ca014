"""What a data set is: numbered pairs of an image and a label for each of its pixels.

Source: Waterloo, "Fully-supervised Semantic Segmentation": label 0 is background, 255 is void (the
class of the pixel is not defined; no loss and no metric counts it). ENSTA CSC_5RO13, "Training
Segmentation Networks": data augmentation.
"""

from collections.abc import Callable

import numpy as np

from minseg.arguments import integer

VOID = 255  # the label Pascal VOC gives to pixels whose class is not defined
SPLITS = ("train", "test")

# One number per purpose keeps the random streams of this package apart. None of them is 0: NumPy
# fills short seeds up with zeros, so default_rng([7]) and default_rng([7, 0]) are one stream.
SHAPES, DIGITS, SHUFFLE, AUGMENT = 1, 2, 3, 4

Pair = tuple[np.ndarray, np.ndarray]
Augmentation = Callable[[np.ndarray, np.ndarray, np.random.Generator], Pair]


class Dataset:
    """A sequence of (image, labels), an image being float32 (C, H, W) with values in about [0, 1],
    its labels int64 (H, W) with values 0..K-1, or 255 for void.

    A subclass names itself and its classes, and defines `item(index)`, which depends on nothing
    but the seed, the split and the index: any item can be made again alone, in any order.
    Iteration stops at the end; an index outside raises IndexError.
    """

    name: str
    class_names: list[str]  # the index is the label
    channels: int  # C
    void: int = VOID
    size: tuple[int, int] | None  # (H, W) of every item; None where they differ
    augmentations: tuple[Augmentation, ...] = ()  # what leaves this set's labels true

    def __init__(self, split: str, seed: int, length: int):
        self.split = split
        self.seed = seed
        self.length = length

    @property
    def num_classes(self) -> int:
        """K, background included and void not: a network for this set has outputs (N, K, H, W)."""
        return len(self.class_names)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Pair:
        number = integer(self.name, "index", index)
        if not -self.length <= number < self.length:
            raise IndexError(
                f"{self.name}: there is no item {number}; "
                f"the {self.split} split has {self.length}, from 0 to {self.length - 1}"
            )
        return self.item(number % self.length)

    def item(self, index: int) -> Pair:
        """Item 0 <= index < len(self): image (C, H, W) and labels (H, W)."""
        raise NotImplementedError


class Scenes(Dataset):
    """A data set whose items are drawn, not read: item i comes from its own random stream
    [seed, purpose, split, i]. With another seed every scene is another one, test scenes too.

    Args: split "train" or "test"; size an int or (H, W) in pixels; seed >= 0; length >= 1 items.
    Raises ValueError or TypeError for any other.
    """

    purpose: int
    default_size: int
    default_lengths: tuple[int, int]  # of train and test
    smallest: int  # the side, in pixels, of the smallest scene that still has room

    def __init__(
        self,
        split: str = "train",
        size: int | tuple[int, int] | None = None,
        seed: int = 0,
        length: int | None = None,
    ):
        check_split(self.name, split)
        self.size: tuple[int, int] = check_size(
            self.name, self.default_size if size is None else size, self.smallest
        )
        if length is None:
            length = self.default_lengths[SPLITS.index(split)]
        super().__init__(
            split,
            integer(self.name, "seed", seed, 0),
            integer(self.name, "length", length, 1),
        )

    def item(self, index: int) -> Pair:
        """Scene number `index`: image (C, H, W) and labels (H, W)."""
        stream = [self.seed, self.purpose, SPLITS.index(self.split), index]
        return self.draw(np.random.default_rng(stream))

    def draw(self, rng: np.random.Generator) -> Pair:
        """One scene, made of the random numbers of `rng`: image (C, H, W) and labels (H, W)."""
        raise NotImplementedError


def flip_horizontal(image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Pair:
    """Left becomes right in half of the cases, in the image (C, H, W) and its labels (H, W) alike.
    Not for data where the side matters: a mirrored 2 is no 2."""
    if rng.random() < 0.5:
        return image[..., ::-1], labels[..., ::-1]
    return image, labels


def random_crop(size: int | tuple[int, int] | None = None, pad: int = 0) -> Augmentation:
    """An augmentation which cuts a window of `size` (H, W) pixels out of an image (C, H, W) and
    its labels (H, W), at a place drawn anew each time. size=None keeps the image's own size.

    The image is first framed by `pad` pixels on each side, and further if it is smaller than the
    window: frame pixels are 0 in the image and void in the labels, so they teach nothing.
    Raises ValueError or TypeError for a size below 1 or a negative pad.
    """
    window = None if size is None else check_size("random_crop", size)
    pad = integer("random_crop", "pad", pad, 0)

    def crop(image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Pair:
        H, W = window or labels.shape
        image, labels = frame(image, labels, (H, W), pad)
        top = rng.integers(labels.shape[0] - H + 1)
        left = rng.integers(labels.shape[1] - W + 1)
        return cut(image, labels, top, left, (H, W))

    return crop


def center_crop(image: np.ndarray, labels: np.ndarray, size: tuple[int, int]) -> Pair:
    """The middle `size` (H, W) pixels of an image (C, H, W) and its labels (H, W); where it is
    smaller than that, the frame is 0 in the image and void in the labels."""
    image, labels = frame(image, labels, size)
    top = (labels.shape[0] - size[0]) // 2
    left = (labels.shape[1] - size[1]) // 2
    return cut(image, labels, top, left, size)


def frame(image: np.ndarray, labels: np.ndarray, size: tuple[int, int], pad: int = 0) -> Pair:
    """Image (C, H, W) and labels (H, W) framed by `pad` pixels of 0 and void, or by as many more
    as it takes to hold a window of `size`."""
    rows, columns = (
        (pad + max(0, wanted - present) // 2, pad + (max(0, wanted - present) + 1) // 2)
        for wanted, present in zip(size, labels.shape, strict=True)
    )
    if rows == columns == (0, 0):
        return image, labels
    return (
        np.pad(image, ((0, 0), rows, columns)),
        np.pad(labels, (rows, columns), constant_values=VOID),
    )


def cut(image: np.ndarray, labels: np.ndarray, top: int, left: int, size: tuple[int, int]) -> Pair:
    """The window of `size` (H, W) at row `top`, column `left` of image (C, ., .), labels (., .)."""
    window = np.s_[..., top : top + size[0], left : left + size[1]]
    return image[window], labels[window]


def bilinear_weights(points: np.ndarray, n: int) -> np.ndarray:
    """A[p, i] = max(0, 1 - |points[p] - i|), float32 (P, n): A @ line reads a line of n samples
    at P places between them, and as 0 beyond its ends. A @ plane @ B.T does so in two directions.
    """
    return np.maximum(0, 1 - np.abs(points[:, None] - np.arange(n))).astype(np.float32)


def check_size(function: str, size: int | tuple[int, int], least: int = 1) -> tuple[int, int]:
    """`size`, an int or a pair, as (H, W); TypeError or ValueError if it is neither or below
    `least`."""
    pair = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
    if len(pair) != 2:
        raise ValueError(f"{function}: size must be an integer or (H, W), not {size!r}")
    H, W = (integer(function, "size", side, least) for side in pair)
    return H, W


def check_split(function: str, split: str) -> None:
    """Nothing, or ValueError if `split` is neither "train" nor "test"."""
    if split not in SPLITS:
        raise ValueError(f'{function}: split must be "train" or "test", not {split!r}')
