"""Train a segmenter.

Now all of it: assemble a network, train it, and label scenes that it has never seen. The scenes are
fields seen from the air, as `fields` below draws them: a meadow, and on it fields with furrows running
across, furrows running down, and trees planted like a chessboard. Light and contrast change from field to
field, so brightness says nothing about the class; the pattern does. Along the edge of a field nobody
can say where it ends: these pixels are void, 255, and count nowhere.

Your three functions are graded on scenes drawn from a seed that nobody knows, and each time the
classes are numbered anew: 2 may be the meadow. So nothing learnt before is of use; what can be
known is in the images and labels that `train` is given. All of build, train and predict together
have 60 seconds; a small U-Net and two hundred steps of 8 images need about three.

Try it: run this file. It trains on 80 scenes, labels 40 others, and shows the score. A mean IoU of
0.70 is asked in the end; aim higher, since other scenes give other scores.

Source: University of Waterloo, "Assignment 5"; Deep Learning for Vision (2024-2025), "Training".
"""

import numpy as np

import minseg.functional as F
from minseg import Tensor, models, no_grad
from minseg.optim import Adam, cosine_schedule

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
        for k in (0, *rng.permutation([1, 2, 3])):  # the meadow, and a field of each sort on it
            h, w = rng.integers(9, 16, 2) if k else (height, width)
            top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
            contrast = rng.choice([-1, 1]) * rng.uniform(0.2, 0.4)
            pattern = np.roll(patterns[k][:h, :w], rng.integers(4, size=2), (0, 1))
            light = rng.uniform(0.3, 0.7) + contrast * (pattern - 0.5)
            image[top : top + h, left : left + w] = light
            label[top : top + h, left : left + w] = VOID if k else 0
            label[top + 1 : top + h - 1, left + 1 : left + w - 1] = k
        image += 0.05 * rng.standard_normal(image.shape)
    return images, labels


def build(num_classes):
    """A network, not yet trained: (N, 1, H, W) -> scores (N, num_classes, H, W), for any H and W."""
    ### BEGIN SOLUTION
    return models.build("unet", 1, num_classes, width=8, depth=2)
    ### END SOLUTION


def train(network, images, labels):
    """Change the network's weights until it labels images (N, 1, H, W) as labels (N, H, W) say.

    A step: a few images, the loss between their scores and labels, its gradients, the optimiser.
    Returns nothing.
    """
    ### BEGIN SOLUTION
    network.train()
    steps = 160
    optimizer, rate = Adam(network.parameters()), cosine_schedule(2e-2, steps, warmup=10)
    rng = np.random.default_rng(0)
    for step in range(steps):
        batch = rng.choice(len(images), 8, replace=False)
        loss = F.cross_entropy(network(Tensor(images[batch])), labels[batch])
        optimizer.lr = rate(step)
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

from minseg.grading.exercise import Call, call, check, holds, right, wrong
from minseg.metrics import ConfusionMatrix

PACKAGES = ("numpy", "minseg", "threadpoolctl")  # minseg needs the last one
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
    for step in range(<a hundred or two>):
        batch = rng.choice(len(images), 8, replace=False)
        loss = F.cross_entropy(network(Tensor(images[batch])), <their labels>)
        then <three lines>
    predict: eval(), the scores of Tensor(images), and their argmax over <which axis?>
    If the score changes from run to run by more than 0.05, let the rate fall towards the end:
    optimizer.lr = rate(step) with cosine_schedule.
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


def reaches(bar):
    """A judge that asks for a mean IoU of at least `bar` on the unseen scenes."""

    def judge(asked, arrays):
        truth = asked.truth()
        shapes = [array.shape for array in arrays]
        if shapes != [truth.shape]:
            return f"returned {shapes[0] if len(shapes) == 1 else shapes}; expected {truth.shape}"
        if arrays[0].dtype.kind not in "iu":
            return f"returned {arrays[0].dtype}; labels are integers (argmax gives them)"
        if arrays[0].min() < 0 or arrays[0].max() > 3:
            return f"returned labels from {arrays[0].min()} to {arrays[0].max()}; there are 0 to 3"
        matrix = ConfusionMatrix(4)
        matrix.update(truth, arrays[0])
        if matrix.mean_iou() >= bar:
            return None
        found = numbered(np.arange(4), asked.seed)  # the number of each of CLASSES
        each = ", ".join(
            f"{matrix.iou()[k]:.2f} {name}" for k, name in zip(found, CLASSES, strict=True)
        )
        only = matrix.predicted_single_class()
        end = "" if only is None else f". Every pixel was called class {only}"
        return f"a mean IoU of {matrix.mean_iou():.2f}, {bar:.2f} is asked (IoU: {each}){end}"

    return judge


@check("trained: mean IoU of at least 0.50 on unseen scenes", points=2, judge=reaches(0.5))
def trained(draw):
    yield Training(draw, 24, 24)


@check("well trained: at least 0.70 on unseen scenes of another size", points=2, judge=reaches(0.7))
def well_trained(draw):
    yield Training(draw, 32, 40)


@holds("by heart: trained on one scene alone, it labels nine pixels in ten of it rightly")
def by_heart(draw):
    images, labels = (np.repeat(a, 16, axis=0) for a in fields(1, 24, 24, draw.between(0, 9999)))
    ((answer,),) = yield [call("segment", images, labels, images[:1])]
    seen = labels[:1] != VOID
    return (answer == labels[:1])[seen].mean() > 0.9


@holds("alone or in company: predict labels a scene alike (batch normalisation, dropout)")
def in_company(draw):
    (images, labels), (new_images, _) = (fields(40, 24, 24, draw.between(0, 9999)) for _ in "ab")
    (together,), (alone,) = yield [
        call("segment", images, labels, new) for new in (new_images, new_images[:1])
    ]
    return (together[:1] == alone).mean() > 0.9


# Wrong answers are not recognised by their output here, so there is nothing to tell them apart by.


@wrong("train", "")
def untrained(network, images, labels):
    network.train()
    for _ in range(20):  # batch normalisation learns its averages, and nothing else
        network(Tensor(images[:16]))


@wrong("train", "")
def on_shuffled_labels(network, images, labels, train=train):
    train(network, images, labels[np.random.default_rng(0).permutation(len(labels))])


@wrong("train", "")
def weights_shuffled(network, images, labels, train=train):
    train(network, images, labels)
    rng = np.random.default_rng(0)
    for parameter in network.parameters():
        parameter.data = rng.permuted(parameter.data.ravel()).reshape(parameter.shape)


@wrong("segment", "")
def one_class(images, labels, new_images, num_classes=4):
    most = np.bincount(labels[labels != VOID]).argmax()
    return np.full((len(new_images), *new_images.shape[2:]), most)


@wrong("segment", "")
def by_brightness(images, labels, new_images, num_classes=4):
    level = np.clip(10 * images[:, 0], 0, 10).astype(int)
    counts = np.zeros((11, num_classes))
    seen = labels != VOID
    np.add.at(counts, (level[seen], labels[seen]), 1)
    return counts.argmax(axis=1)[np.clip(10 * new_images[:, 0], 0, 10).astype(int)]


@right("build", "an FCN with two skips")
def fcn(num_classes):
    return models.build("fcn", 1, num_classes, width=8, depth=3, skips=2)


@right("build", "dilated convolutions at full resolution, layer by layer")
def dilated(num_classes):
    from minseg import nn

    layers, channels = [], 1
    for dilation in (1, 2, 2, 1):
        rng = np.random.default_rng(len(layers))
        conv = nn.Conv2d(channels, 12, 3, 1, dilation, dilation, bias=False, rng=rng)
        layers += [conv, nn.BatchNorm2d(12), nn.ReLU()]
        channels = 12
    head = nn.Conv2d(12, num_classes, 1, init="xavier", rng=np.random.default_rng(99))
    return nn.Sequential(*layers, head)


@right("train", "SGD with momentum, epochs, flips, and a weight for the meadow")
def by_sgd(network, images, labels):
    from minseg.optim import SGD

    counts = np.bincount(labels[labels != VOID], minlength=4)
    weight = (counts.sum() / counts) ** 0.5
    optimizer = SGD(network.parameters(), lr=0.1, momentum=0.9)
    rng = np.random.default_rng(1)
    network.train()
    for epoch in range(14):
        optimizer.lr = 0.1 * (1 - epoch / 14)
        for batch in np.array_split(rng.permutation(len(images)), 10):
            x, y = images[batch], labels[batch]
            if rng.random() < 0.5:
                x, y = x[..., ::-1].copy(), y[..., ::-1].copy()
            optimizer.zero_grad()
            F.cross_entropy(network(Tensor(x)), y, weight.astype(np.float32)).backward()
            optimizer.step()


@right("predict", "one image at a time; uint8, Fortran order")
def one_by_one(network, images):
    network.eval()
    labels = [network(Tensor(image[None])).detach().numpy()[0].argmax(axis=0) for image in images]
    return np.asfortranarray(labels, dtype=np.uint8)


@right("segment", "no gradient: squared random features of 7 x 7 windows, and least squares")
def random_features(images, labels, new_images, num_classes=4):
    w = np.random.default_rng(0).standard_normal((49, 600))

    def features(x):
        x = np.pad(x[:, 0], ((0, 0), (3, 3), (3, 3)), mode="reflect")
        x = np.lib.stride_tricks.sliding_window_view(x, (7, 7), (1, 2)).reshape(-1, 49)
        x = x - x.mean(axis=1, keepdims=True)
        return (x / (x.std(axis=1, keepdims=True) + 0.05) @ w) ** 2

    seen = labels.ravel() != VOID
    A, one_hot = features(images)[seen], np.eye(num_classes)[labels.ravel()[seen]]
    solved = np.linalg.solve(A.T @ A + np.eye(600), A.T @ one_hot)
    answer = (features(new_images) @ solved).argmax(axis=1)
    return answer.reshape(len(new_images), *new_images.shape[2:])
