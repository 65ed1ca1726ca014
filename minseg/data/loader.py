"""Batches: a data set dealt out like a deck of cards, shuffled anew for every epoch.

Every card is dealt exactly once an epoch, and which cards meet in a batch changes each time.
Batch t of the training is the same whether or not the steps before it were run, so a training that
was interrupted goes on with the very numbers it would have had.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from minseg.arguments import integer
from minseg.data.dataset import AUGMENT, SHUFFLE, Augmentation, Dataset


class Loader:
    """The batches of a data set: images float32 (N, C, H, W) and labels int64 (N, H, W).

    `augment` is a sequence of functions (image, labels, rng) -> (image, labels), applied in turn to
    every sample; the data set names those that suit it: `augment=dataset.augmentations`. None
    changes nothing. The last batch of an epoch may be smaller, unless drop_last leaves it out.
    len(loader) is the number of batches in an epoch. Raises ValueError or TypeError if an argument
    does not fit, and ValueError if the images of a batch differ in size.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        seed: int = 0,
        augment: Sequence[Augmentation] | None = None,
        shuffle: bool = True,
        drop_last: bool = False,
    ):
        self.dataset = dataset
        self.batch_size = integer("Loader", "batch_size", batch_size, 1)
        self.seed = integer("Loader", "seed", seed, 0)
        if callable(augment) or not all(map(callable, augment or ())):
            raise TypeError(f"Loader: augment must be a sequence of functions, not {augment!r}")
        self.augment = tuple(augment or ())
        self.shuffle = shuffle
        self.drop_last = drop_last
        if len(self) == 0:
            raise ValueError(
                f"Loader: batch_size {batch_size} with drop_last=True leaves no batch of "
                f"{dataset.name}'s {len(dataset)} items"
            )

    def __len__(self) -> int:
        if self.drop_last:
            return len(self.dataset) // self.batch_size
        return -(-len(self.dataset) // self.batch_size)

    def epoch(self, number: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """All batches of epoch `number` >= 0, each (N, C, H, W) and (N, H, W)."""
        first = integer("Loader.epoch", "number", number, 0) * len(self)
        return map(self.batch, range(first, first + len(self)))

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """The batch of training step `step` >= 0, counted through all epochs: images (N, C, H, W)
        and labels (N, H, W). It depends on nothing that ran before."""
        step = integer("Loader.batch", "step", step, 0)
        epoch, position = divmod(step, len(self))
        start = position * self.batch_size
        indices = self.order(epoch)[start : start + self.batch_size]
        images, labels = zip(*(self.sample(epoch, int(i)) for i in indices), strict=True)
        shapes = {image.shape for image in images}
        if len(shapes) > 1:
            raise ValueError(
                f"Loader: {self.dataset.name} has images of different shapes {sorted(shapes)} in "
                "one batch; give the data set a size and the Loader its augmentations, or take "
                "batch_size=1"
            )
        return np.stack(images), np.stack(labels)

    def order(self, epoch: int) -> np.ndarray:
        """The indices of the samples in the order in which an epoch deals them, int (length,)."""
        if not self.shuffle:
            return np.arange(len(self.dataset))
        return np.random.default_rng([self.seed, SHUFFLE, epoch]).permutation(len(self.dataset))

    def sample(self, epoch: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Sample `index` as it is augmented in an epoch: image (C, H, W) and labels (H, W)."""
        image, labels = self.dataset[index]
        rng = np.random.default_rng([self.seed, AUGMENT, epoch, index])
        for change in self.augment:
            image, labels = change(image, labels, rng)
        return image, labels
