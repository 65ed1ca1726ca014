"""Trains the two one-pixel classifiers of lecture 01, and writes their weights to one-pixel.npz.

    python lectures/weights/make_one_pixel.py

Each looks at a window of a digit scene and names the class of the pixel in its middle. "plain" has
three convolutions and sees 15x15 pixels; "pooled" has a 3x3 pooling of stride 2 after the first of
them and sees 25x25, with fewer weights. It takes some minutes; the notebook only reads the file.

Source: University of Waterloo, "Semantic Segmentation": classify pixels with sliding windows.
"""

from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

import minseg.functional as F
from minseg.data import VOID, Dataset, Digits
from minseg.files import written_whole
from minseg.metrics import ConfusionMatrix
from minseg.nn import Parameter, initial_weights
from minseg.optim import Adam, cosine_schedule
from minseg.tensor import Tensor, no_grad

SEED, WEIGHTS, BATCHES = 0, 1, 2  # [SEED, purpose, ...] is a random stream of its own
WINDOW = {"plain": 15, "pooled": 25}
MAP = {
    "plain": 9,
    "pooled": 7,
}  # the side of the last map in a window: the dense layer reads it all
HIDDEN = {"plain": 24, "pooled": 32}
STEPS = 4000
BATCH = 96  # pixels of ink, and as many of background


def new_weights(kind: str, num_classes: int) -> dict[str, Parameter]:
    """Weights and biases by name, ready to be trained."""
    n = MAP[kind]
    shapes = {
        "conv1": (8, 1, 3, 3),
        "conv2": (16, 8, 3, 3),
        "conv3": (16, 16, 3, 3),
        "dense1": (HIDDEN[kind], 16 * n * n),
        "dense2": (num_classes, HIDDEN[kind]),
    }
    rng = np.random.default_rng([SEED, WEIGHTS, len(kind)])
    weights = {}
    for name, shape in shapes.items():
        fan_in = int(np.prod(shape[1:]))
        weights[f"{name}.weight"] = Parameter(initial_weights(shape, fan_in, 1, "he", rng))
        weights[f"{name}.bias"] = Parameter(np.zeros(shape[0], np.float32))
    return weights


def classify(windows: Tensor, weights: dict[str, Parameter], pool: bool) -> Tensor:
    """The scores of the middle pixel: windows (N, 1, WINDOW, WINDOW) -> (N, K)."""

    def both(name: str) -> tuple[Parameter, Parameter]:
        return weights[f"{name}.weight"], weights[f"{name}.bias"]

    x = F.relu(F.conv2d(windows, *both("conv1")))
    if pool:
        x = F.max_pool2d(x, 3, stride=2)
    x = F.relu(F.conv2d(x, *both("conv2")))
    x = F.relu(F.conv2d(x, *both("conv3")))
    x = x.reshape((len(windows), -1))  # (N, 16, MAP, MAP) -> (N, 16*MAP*MAP)
    return F.linear(F.relu(F.linear(x, *both("dense1"))), *both("dense2"))


def all_windows(dataset: Dataset, window: int) -> tuple[np.ndarray, np.ndarray]:
    """A view of the window around every pixel, zeros outside, (N, H, W, window, window); labels."""
    scenes = [dataset[index] for index in range(len(dataset))]
    framed = np.stack([np.pad(image[0], window // 2) for image, _ in scenes])
    labels = np.stack([labels for _, labels in scenes])
    return sliding_window_view(framed, (window, window), axis=(1, 2)), labels


def train(kind: str) -> dict[str, np.ndarray]:
    """Trained weights of one classifier, float16, for grey values as they are."""
    windows, labels = all_windows(Digits("train", length=3000), WINDOW[kind])
    mean, std = windows[..., 0, 0].mean(), windows[..., 0, 0].std()
    ink, paper = np.argwhere((labels > 0) & (labels != VOID)), np.argwhere(labels == 0)
    weights = new_weights(kind, len(Digits.class_names))
    optimizer = Adam(list(weights.values()))
    schedule = cosine_schedule(2e-3, STEPS, warmup=20)
    for step in range(STEPS):
        rng = np.random.default_rng([SEED, BATCHES, step])
        # Nine pixels in ten are background; a batch has as many of either kind.
        n, i, j = np.concatenate([rng.choice(ink, BATCH), rng.choice(paper, BATCH)]).T
        x = ((windows[n, i, j] - mean) / std)[:, None]  # (N, 1, WINDOW, WINDOW)
        loss = F.cross_entropy(classify(Tensor(x), weights, kind == "pooled"), labels[n, i, j])
        optimizer.lr = schedule(step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (step + 1) % 500 == 0:
            print(f"{kind}: step {step + 1:,} of {STEPS:,}, loss {loss.item():.3f}", flush=True)
    # w (x - mean)/std + b is a convolution of x itself.
    arrays = {name: parameter.data for name, parameter in weights.items()}
    first = arrays["conv1.weight"] / std
    arrays["conv1.bias"] = arrays["conv1.bias"] - mean * first.sum(axis=(1, 2, 3))
    arrays["conv1.weight"] = first
    return {name: array.astype(np.float16) for name, array in arrays.items()}


def score(kind: str, arrays: dict[str, np.ndarray]) -> ConfusionMatrix:
    """Every labelled pixel of 100 test scenes, window by window."""
    windows, labels = all_windows(Digits("test", length=100), WINDOW[kind])
    weights = {name: Parameter(array.astype(np.float32)) for name, array in arrays.items()}
    matrix = ConfusionMatrix(len(Digits.class_names))
    for scene, truth in zip(windows, labels, strict=True):
        with no_grad():
            x = Tensor(scene.reshape(-1, 1, *scene.shape[2:]))
            scores = classify(x, weights, kind == "pooled").numpy()
        matrix.update(truth, scores.argmax(axis=1).reshape(truth.shape))
    return matrix


if __name__ == "__main__":
    saved = {}
    for kind in WINDOW:
        arrays = train(kind)
        matrix = score(kind, arrays)
        print(f"{kind}: pixel accuracy {matrix.pixel_accuracy():.3f}, mIoU {matrix.mean_iou():.3f}")
        saved |= {f"{kind}.{name}": array for name, array in arrays.items()}
    path = Path(__file__).with_name("one-pixel.npz")
    with written_whole(path) as part, open(part, "wb") as file:
        np.savez(file, **saved)
    print(f"{path.name}: {path.stat().st_size:,} bytes")
