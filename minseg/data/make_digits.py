"""Makes digits.npz from scikit-learn's copy of the UCI handwritten digits.

    python -m minseg.data.make_digits

It needs scikit-learn, which minseg itself does not; the file it makes is part of the package.
"""

from pathlib import Path

import numpy as np


def make(path: Path) -> None:
    """Writes `path`: images uint8 (1797, 8, 8), values 0..16, and labels uint8 (1797,), 0..9."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    np.savez_compressed(
        path, images=digits.images.astype(np.uint8), labels=digits.target.astype(np.uint8)
    )


if __name__ == "__main__":
    make(Path(__file__).with_name("digits.npz"))
