"""Softmax cross-entropy at every pixel.

A network gives K scores to each pixel. Softmax makes them a distribution p over the K classes, and
the loss asks how surprised it is by the true label y: -ln p[y]. Training uses the mean over all
pixels. For one pixel with scores z:

    p[k] = exp(z[k]) / (exp(z[0]) + ... + exp(z[K-1]))

    loss = -ln p[y]

exp(1000) is more than a computer's number can hold, and exp(-1000) is 0, which has no logarithm; the
loss itself is harmless at such scores, a number of about that size. Softmax does not change when the
same number is added to all K scores. That is a way out, if the fraction is never computed.

Source: University of Waterloo, "(Training) Loss: Cross-Entropy"; ENSTA Paris, CSC_5RO13, "Output
encoding and loss functions?".
"""

import numpy as np


def cross_entropy(logits, target):
    """Softmax cross-entropy, the mean over all pixels.

        L = (1 / number of pixels) sum over n, i, j of -ln softmax(logits[n, :, i, j])[target[n, i, j]]

    logits (N, K, H, W) scores; target (N, H, W) integer labels 0..K-1. Instead of H, W there may be
    any number of axes, or none: (N, K) and (N,); (N, K, D) and (N, D); ... The classes are always
    axis 1 of logits.
    -> one number. It is finite, and right, for scores of any size. The arguments are not changed.
    """
    ### BEGIN SOLUTION
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    picked = np.take_along_axis(log_p, target[:, None], axis=1)
    return -picked.mean()
    ### END SOLUTION


### FOR THE TEACHER

import minseg.functional as F
from minseg.grading.exercise import call, check, holds, right, wrong

REFERENCE = {"cross_entropy": F.cross_entropy}
HINTS = [
    """
    One pixel, two classes, scores 1000 and 0. What is p of each, to the last digit a computer has?
    What should the loss be if the label is the second class? Now subtract 1000 from both scores: what
    has become of p, and of ln(exp(0) + exp(-1000))?
    """,
    """
    ln p[y] = z[y] - ln(sum over k of exp(z[k])), and the same with the largest score taken off
    every z first: then no exp is larger than 1, and the sum is at least 1. All of it runs along axis
    1 for all pixels at once (keepdims=True keeps the shapes in step). np.take_along_axis picks the
    label's entry at each pixel; it wants target with an axis of size 1 in the place of the classes.
    """,
    """
    z = logits - <the largest score of each pixel, shape (N, 1, H, W)>
    log_p = z - np.log(<sum over the classes of exp(z), same shape>)
    picked = np.take_along_axis(log_p, <target with a new axis 1>, axis=1)
    then the mean, with its sign.
    """,
]


def scene(draw, *shape, spread=1):
    """Scores of that shape (N, K, ...) and a target that holds at least two classes, if it can."""
    N, K, *rest = shape
    target = draw.labels(N, *rest, num_classes=K)
    if target.size > 1:
        target.reshape(-1)[:2] = draw.rng.permutation(K)[:2]
    return spread * draw.integers(*shape, low=-3, high=3), target


@check("one pixel: how surprised is softmax by the label?")
def one_pixel(draw):
    yield call("cross_entropy", *scene(draw, 1, 2, 1, 1))
    yield call("cross_entropy", *scene(draw, 1, 4, 1, 1))


@check("the mean over the pixels of an image")
def one_image(draw):
    yield call("cross_entropy", *scene(draw, 1, 2, 1, 2))
    yield call("cross_entropy", *scene(draw, 1, 3, 2, 3))
    yield call("cross_entropy", *scene(draw, 1, 5, 4, 3))


@check("several images")
def several_images(draw):
    yield call("cross_entropy", *scene(draw, 2, 3, 1, 2))
    yield call("cross_entropy", *scene(draw, 3, 4, 2, 5))


@check("scores of hundreds and thousands", points=2)
def large(draw):
    yield call("cross_entropy", np.array([1000.0, 0]).reshape(1, 2, 1, 1), np.array([[[1]]]))
    yield call("cross_entropy", np.array([0.0, -2000]).reshape(1, 2, 1, 1), np.array([[[1]]]))
    logits, target = scene(draw, 1, 2, 1, 2)
    yield call("cross_entropy", logits + np.array([0, -2000]), target)  # (1, 2, 1, 2) + (2,)
    yield call("cross_entropy", *scene(draw, 2, 4, 3, 2, spread=500))
    logits, target = scene(draw, 1, 3, 2, 2)
    yield call("cross_entropy", logits - 5000, target)


@check("any number of axes beside the classes")
def any_axes(draw):
    yield call("cross_entropy", *scene(draw, 3, 2))
    yield call("cross_entropy", *scene(draw, 2, 3, 4, spread=0.5))
    yield call("cross_entropy", *scene(draw, 2, 3, 2, 2, 3))


@holds("equal scores give ln K")
def nothing_known(draw):
    ((loss,),) = yield [call("cross_entropy", np.zeros((1, 5, 2, 3)), np.zeros((1, 2, 3), int))]
    return abs(loss - np.log(5)) < 1e-6


@holds("a number added to all scores of a pixel changes nothing")
def shift(draw):
    logits, target = scene(draw, 2, 3, 2, 2)
    moved = logits + draw.normal(2, 1, 2, 2)
    (before,), (after,) = yield [call("cross_entropy", z, target) for z in (logits, moved)]
    return abs(before - after) < 1e-5


@holds("an image twice in the batch: same loss")
def twice(draw):
    logits, target = scene(draw, 1, 3, 2, 2)
    pairs = [(logits, target), tuple(np.concatenate([a, a]) for a in (logits, target))]
    (once,), (again,) = yield [call("cross_entropy", *pair) for pair in pairs]
    return abs(once - again) < 1e-5


@wrong("cross_entropy", "softmax and logarithm as they stand on the slide, without a care for size: exp "
       "of a large score overflows, and what is divided by inf is 0 or no number. Shift the scores of "
       "each pixel first")  # fmt: skip
def no_shift(logits, target):
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return -np.log(np.take_along_axis(p, target[:, None], axis=1)).mean()


@wrong("cross_entropy", "the logarithm of a softmax: the shift keeps exp from overflowing, but a "
       "probability of e^-1000 is stored as 0, and ln 0 is infinite. Take the logarithm on paper "
       "first, and never compute p")  # fmt: skip
def log_of_zero(logits, target):
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    return -np.log(np.take_along_axis(p, target[:, None], axis=1)).mean()


one_shift = wrong(
    "cross_entropy",
    "the loss with one shift for all pixels, by the largest score of the whole array. "
    "On paper it is right, but where all scores of a pixel lie 1000 below that, each exp is stored "
    "as 0, and so is their sum. Every pixel needs its own largest score",
    {"logits.max(axis=1, keepdims=True)": "logits.max()"},
)


softmax_of_one_shift = wrong(
    "cross_entropy",
    "the logarithm of a softmax with one shift for all pixels, by the largest score of "
    "the whole array. Where all scores of a pixel lie 1000 below that, softmax is 0/0. Every pixel "
    "needs its own largest score; and a p that is stored as 0 has no logarithm",
    {
        "logits.max(axis=1, keepdims=True)": "logits.max()",
        "log_p = shifted": "log_p = np.log(np.exp(shifted))",
    },
)


FLOOR = (
    "a loss with a floor under the probability: a small number is added to p, or p is not let below "
    "it, before the logarithm. That hides ln 0, but then the loss cannot grow beyond some value. "
    "Take the logarithm on paper first, and no p is needed"
)
floor_7 = wrong("cross_entropy", FLOOR, {"picked.mean()": "np.log(np.exp(picked) + 1e-7).mean()"})
floor_8 = wrong("cross_entropy", FLOOR, {"picked.mean()": "np.log(np.exp(picked) + 1e-8).mean()"})
floor_9 = wrong("cross_entropy", FLOOR, {"picked.mean()": "np.log(np.exp(picked) + 1e-9).mean()"})
floor_10 = wrong("cross_entropy", FLOOR, {"picked.mean()": "np.log(np.exp(picked) + 1e-10).mean()"})
floor_12 = wrong("cross_entropy", FLOOR, {"picked.mean()": "np.log(np.exp(picked) + 1e-12).mean()"})


last_axis = wrong(
    "cross_entropy",
    "a softmax along the last axis: it shares out the probability among the pixels of a row. Each "
    "pixel has its own distribution, over the classes, which are axis 1",
    {"axis=1, keepdims": "axis=-1, keepdims"},
)


total = wrong(
    "cross_entropy",
    "the sum over the pixels. The slide has it so, but here the mean is asked, which does not "
    "grow with the image",
    {"picked.mean()": "picked.sum()"},
)


mean_of_classes = wrong(
    "cross_entropy",
    "the mean of one mean for each class. Every pixel counts the same here, so a class with many "
    "pixels counts more",
    {"picked.mean()": "np.mean([picked[:, 0][target == k].mean() for k in np.unique(target)])"},
)


@wrong("cross_entropy", "the loss of scores that were reshaped to (pixels, K) as they lie in memory. "
       "There all pixels of class 0 come first: move the class axis to the end beforehand")  # fmt: skip
def reshaped(logits, target):
    rows = logits.reshape(-1, logits.shape[1])
    rows = rows - rows.max(axis=1, keepdims=True)
    log_p = rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))
    return -log_p[np.arange(len(rows)), target.reshape(-1)].mean()


@right("cross_entropy", "pixel by pixel, with math")
def loops(logits, target):
    import math

    total = 0.0
    for n, *place in np.ndindex(target.shape):
        z = [float(score) for score in logits[(n, slice(None), *place)]]
        top = max(z)
        total += top + math.log(sum(math.exp(score - top) for score in z))
        total -= z[target[(n, *place)]]
    return total / target.size


@right("cross_entropy", "logaddexp, and a one-hot label")
def logaddexp(logits, target):
    K = logits.shape[1]
    one_hot = np.moveaxis(np.eye(K)[target], -1, 1)
    return (np.logaddexp.reduce(logits, axis=1) - (one_hot * logits).sum(axis=1)).mean()


@right("cross_entropy", "one row per pixel, Fortran order")
def rows(logits, target):
    z = np.asfortranarray(np.moveaxis(logits, 1, -1).reshape(-1, logits.shape[1]))
    z = z - z.max(axis=1)[:, None]
    return (np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(z)), target.ravel()]).mean()


@right("cross_entropy", "float32")
def single(logits, target):
    z = logits.astype(np.float32)
    z = z - z.max(axis=1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return np.float32(-np.take_along_axis(log_p, target[:, None], axis=1).mean())


@right("cross_entropy", "how far the other scores lie above the label's, one class at a time")
def differences(logits, target):
    z = np.take_along_axis(logits, target[:, None], axis=1)
    loss = np.full(target.shape, -np.inf)
    for k in range(logits.shape[1]):
        loss = np.logaddexp(loss, (logits - z)[:, k])
    return np.array(loss.mean())


@right("cross_entropy", "the two forms of the slide, class by class with einsum")
def einsum(logits, target):
    K = logits.shape[1]
    z = np.moveaxis(logits, 1, 0).reshape(K, -1)
    z = z - np.amax(z, axis=0)
    log_p = z - np.log(np.einsum("kp->p", np.exp(z)))
    one_hot = (np.arange(K)[:, None] == target.reshape(1, -1)).astype(float)
    return -np.einsum("kp,kp->", one_hot, log_p) / target.size
