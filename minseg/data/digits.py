"""Scenes of real handwritten digits: segmentation and recognition at once, 1,797 digits by hand.

Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine
Learning Repository (1998), the copy in scikit-learn's load_digits; minseg/data/make_digits.py
makes digits.npz from it.
"""

from functools import cache
from pathlib import Path

import numpy as np

from minseg.data.dataset import DIGITS, VOID, Pair, Scenes, bilinear_weights, random_crop

FILE = Path(__file__).with_name("digits.npz")
DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
CLASS_NAMES = ["background", *DIGIT_NAMES]
FIRST_TEST_DIGIT = 1297  # digits 0..1296 are for training, 1297..1796 for testing
INK, PAPER = 0.5, 0.2  # grey above INK is the digit, up to PAPER background, and between them void
NOISE = 0.1  # standard deviation of what is added to the grey values
TRIES = 20  # places tried for a digit that may not overlap, before the scene goes without it


@cache
def handwritten_digits() -> tuple[np.ndarray, np.ndarray]:
    """The 1,797 digits: grey values 0..1, float32 (1797, 8, 8), and which digit each is, 0..9,
    int64 (1797,). Read once; both arrays refuse to be written to."""
    with np.load(FILE, allow_pickle=False) as file:
        images = file["images"].astype(np.float32) / 16
        digits = file["labels"].astype(np.int64)
    images.flags.writeable = digits.flags.writeable = False
    return images, digits


class Digits(Scenes):
    """1 to 3 digits that do not overlap: image (1, H, W), bright ink on dark, and labels (H, W).

    Classes: 0 background, 1 zero, 2 one, .. 10 nine. Void is the pen's soft edge, 0.2 < grey <= 0.5
    before the noise: 6 % of the pixels. Of the others 91 % are background.
    A digit of the training scenes is in no test scene.
    """

    name = "digits"
    class_names = CLASS_NAMES
    channels = 1
    augmentations = (random_crop(pad=4),)  # no flip: a mirrored 2 is no 2
    purpose = DIGITS
    default_size = 48
    default_lengths = (2000, 200)
    smallest = 32
    most = 3  # digits in a scene
    scale = (2.0, 2.75)  # pixels of the scene for one of the 8x8 image
    overlap = False

    def draw(self, rng: np.random.Generator) -> Pair:
        """One scene: image (1, H, W) and labels (H, W)."""
        H, W = self.size
        images, digits = handwritten_digits()
        numbers = (0, FIRST_TEST_DIGIT) if self.split == "train" else (FIRST_TEST_DIGIT, 1797)
        grey = np.zeros((H, W), np.float32)
        classes = np.zeros((H, W), np.int64)  # of the digit whose ink is brightest
        taken = np.zeros((H, W), bool)
        for _ in range(rng.integers(1, self.most + 1)):
            number = rng.integers(*numbers)
            ink = enlarge(images[number], rng.uniform(*self.scale))
            h, w = ink.shape
            for _ in range(TRIES):
                top, left = rng.integers(H - h + 1), rng.integers(W - w + 1)
                box = np.s_[top : top + h, left : left + w]
                if self.overlap or not taken[box].any():
                    brighter = ink > grey[box]
                    grey[box][brighter] = ink[brighter]
                    classes[box][brighter] = digits[number] + 1
                    taken[box] = True
                    break
        labels = np.where(grey > INK, classes, np.where(grey > PAPER, VOID, 0))
        image = grey + NOISE * rng.standard_normal((H, W), np.float32)
        return np.clip(image, 0, 1)[None], labels


class HardDigits(Digits):
    """1 to 4 larger digits that may overlap, the brighter ink on top: image (1, H, W) and labels
    (H, W) as in Digits. 8 % of the pixels are void; of the others 85 % are background."""

    name = "digits-hard"
    most = 4
    scale = (2.2, 3.2)
    overlap = True


def enlarge(image: np.ndarray, scale: float) -> np.ndarray:
    """The 8x8 image made `scale` times as large by bilinear interpolation, what surrounds it being
    0, and cut to the rows and columns that hold ink (grey above PAPER): float32 (h, w)."""
    # Interpolation spreads ink over the 9 cells from -1 to 8.
    points = np.arange(np.ceil(9 * scale)) / scale - 1
    A = bilinear_weights(points, 8)
    grey = A @ image @ A.T  # (P, 8) x (8, 8) x (8, P) -> (P, P)
    ink = grey > PAPER
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    return grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
