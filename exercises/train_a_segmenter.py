"""Train a segmenter

Now all of it: assemble a network, train it, and label scenes that it has never seen. The scenes are
fields seen from the air, as `fields` below draws them: a meadow, and on it fields with furrows running
across, furrows running down, and trees planted like a chessboard. Light and colours change from
field to field, so brightness says nothing about the class; the pattern does. Where two fields meet,
nobody can say which it is: these pixels are void, 255, and count nowhere.

Your three functions are graded on scenes drawn from a seed that nobody knows, and each time the
classes are numbered anew: 2 may be the meadow. So nothing learnt before is of use; what can be
known is in the images and labels that `train` is given. All of build, train and predict together
have 60 seconds; a small U-Net and a hundred steps of 8 images need about three.

Try it: run this file. It trains on 80 scenes, labels 40 others, and shows the score.

Source: University of Waterloo, "Assignment 5"; Deep Learning for Vision (2024-2025), "Training".
"""

import numpy as np

import minseg.functional as F
from minseg import Tensor, models, no_grad
from minseg.optim import Adam

VOID = 255
CLASSES = ["meadow", "furrows across", "furrows down", "trees"]


def fields(count, height, width, seed):
    """Scenes: images (count, 1, height, width), float32, and labels (count, height, width), int64."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices((height, width)) // 2
    patterns = 0 * rows, rows % 2, columns % 2, (rows + columns) % 2
    images = np.empty((count, 1, height, width), np.float32)
    labels = np.zeros((count, height, width), np.int64)
    for image, label in zip(images[:, 0], labels, strict=True):
        image[:] = rng.uniform(0.2, 0.8)
        for k in (0, *rng.permutation([1, 2, 3])):  # the meadow, and a field of each sort on it
            h, w = rng.integers(9, 16, 2) if k else (height, width)
            top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
            contrast = rng.choice([-1, 1]) * rng.uniform(0.2, 0.4)
            pattern = rng.uniform(0.3, 0.7) + contrast * (patterns[k][:h, :w] - 0.5)
            image[top : top + h, left : left + w] = np.roll(pattern, rng.integers(4, size=2), (0, 1))
            label[top : top + h, left : left + w] = VOID if k else 0
            label[top + 1 : top + h - 1, left + 1 : left + w - 1] = k
        image += 0.05 * rng.standard_normal(image.shape)
    return images, labels


def build(num_classes):
    """A network, not yet trained: (N, 1, H, W) -> scores (N, num_classes, H, W), for any H and W."""
    ### BEGIN SOLUTION
    return models.build("unet", 1, num_classes, width=8, depth=3)
    ### END SOLUTION


def train(network, images, labels):
    """Change the network's weights until it labels images (N, 1, H, W) as labels (N, H, W) say.

    A step: a few images, the loss between their scores and labels, its gradients, the optimiser.
    Returns nothing.
    """
    ### BEGIN SOLUTION
    network.train()
    optimizer = Adam(network.parameters(), lr=1e-2)
    rng = np.random.default_rng(0)
    for _ in range(120):
        batch = rng.choice(len(images), 8, replace=False)
        loss = F.cross_entropy(network(Tensor(images[batch])), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    ### END SOLUTION


def predict(network, images):
    """The label of every pixel: images (N, 1, H, W) -> (N, H, W) integers 0..K-1.

    Mind that batch normalisation works otherwise when training is over.
    """
    ### BEGIN SOLUTION
    network.eval()
    with no_grad():
        scores = network(Tensor(images)).numpy()
    return scores.argmax(axis=1)
    ### END SOLUTION


def segment(images, labels, new_images, num_classes=4):
    """Given: what is graded. Trains on images and labels, and labels new_images."""
    network = build(num_classes)
    train(network, images, labels)
    return predict(network, new_images)


if __name__ == "__main__":
    from minseg.metrics import ConfusionMatrix

    new_images, truth = fields(40, 32, 40, seed=2)
    matrix = ConfusionMatrix(4, class_names=CLASSES)
    matrix.update(truth, segment(*fields(80, 24, 24, seed=1), new_images))
    print(matrix.table())


### FOR THE TEACHER

from minseg import nn
from minseg.grading.exercise import Call, call, check, right, wrong
from minseg.metrics import ConfusionMatrix
from minseg.optim import SGD

PACKAGES = ("numpy", "minseg")
SECONDS = 60
REFERENCE = {"segment": segment}
HINTS = [
    """
    Begin with one image: can your network learn it by heart? Print the loss every ten steps. It
    should start near ln 4 = 1.4 and sink. If it does not move, which of the four lines of a step is
    missing? If it jumps, which number is too large?
    """,
    """
    models.build makes a whole network in one line; notebook 07 says which there are. A step of
    training is loss, zero_grad, backward, step, on a few images chosen at random: notebook 06,
    section 5. F.cross_entropy leaves void out by itself. network.train() before training,
    network.eval() before predicting.
    """,
    """
    optimizer = Adam(network.parameters(), lr=<a power of ten>)
    for _ in range(<a hundred or two>):
        batch = rng.choice(len(images), 8, replace=False)
        loss = F.cross_entropy(network(Tensor(images[batch])), <their labels>)
        then <three lines>
    predict: eval(), the scores of Tensor(images), and their argmax over <which axis?>
    """,
]


def numbered(labels, seed):
    """The labels with the classes numbered in an order that the seed decides; void stays void."""
    numbers = np.full(256, VOID)
    numbers[:4] = np.random.default_rng([*seed, 2]).permutation(4)
    return numbers[labels]


class Training(Call):
    """A call of segment that keeps the seed of its scenes, from which the truth is made afterwards."""

    def __init__(self, draw, height, width):
        self.seed = draw.rng.integers(2**32, size=4).tolist()  # far too many to try
        self.unseen = (40, height, width)
        images, labels = fields(80, 24, 24, [*self.seed, 0])
        new_images, _ = fields(*self.unseen, [*self.seed, 1])
        super().__init__("segment", (images, numbered(labels, self.seed), new_images), {})

    def truth(self):
        return numbered(fields(*self.unseen, [*self.seed, 1])[1], self.seed)
