"""Void, class weights, and the gradient of the loss.

Two things stand between softmax cross-entropy and a real data set. Pixels where nobody can say
what they show are labelled void, 255 in Pascal VOC: they have no one-hot vector and must teach
nothing. And where most pixels are background, each class y may get a weight w[y], by which its pixels
count more or less. Both at once: every pixel counts with its weight, void pixels with 0, and the mean
divides by the sum of what counted.

    L = sum over pixels of w[y] * -ln p[y]  /  sum over pixels of w[y]

With the loss you write its gradient, the first one of every training step. Where a whole batch is
void, both sums are 0; then nothing was seen, and the loss and its gradient are 0.

Source: University of Waterloo, "Fully-supervised Semantic Segmentation" and "(Training) Loss:
Cross-Entropy"; ENSTA Paris, CSC_5RO13, "Output encoding and loss functions?".
"""

import numpy as np


def cross_entropy(logits, target, weight=None, ignore_index=255):
    """Softmax cross-entropy, the weighted mean over all pixels that are not void.

        L = sum of w[y] * -ln softmax(logits)[y] / sum of w[y],    both over the pixels with y != void

    logits (N, K, H, W) scores of any size; target (N, H, W) integer labels y: 0..K-1, or ignore_index
    for void, which may be any whole number; weight (K,), or None for all 1.
    -> one number; 0 if every pixel is void. The arguments are not changed.
    """
    ### BEGIN SOLUTION
    weight = np.ones(logits.shape[1]) if weight is None else weight
    counts = target != ignore_index
    label = np.where(counts, target, 0)
    w = counts * weight[label]
    z = logits - logits.max(axis=1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    surprise = -np.take_along_axis(log_p, label[:, None], axis=1)[:, 0]
    return (w * surprise).sum() / w.sum() if counts.any() else 0.0
    ### END SOLUTION


def cross_entropy_gradient(logits, target, weight=None, ignore_index=255):
    """The gradient of that loss in the scores.

        dL/dlogits[n, k, i, j]

    Arguments as above -> an array like logits, (N, K, H, W); 0 in void pixels, and everywhere if
    every pixel is void. To derive it, write ln p[y] = z[y] - ln(sum over k of exp(z[k])) and
    differentiate in z[y] and in the other z[k].
    """
    ### BEGIN SOLUTION
    K = logits.shape[1]
    weight = np.ones(K) if weight is None else weight
    counts = target != ignore_index
    label = np.where(counts, target, 0)
    w = counts * weight[label]
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    one_hot = np.arange(K)[:, None, None] == label[:, None]
    dz = w[:, None] * (p - one_hot)
    return dz / w.sum() if counts.any() else dz
    ### END SOLUTION


### FOR THE TEACHER

import minseg.functional as F
from minseg import Tensor
from minseg.grading.exercise import call, check, holds, right, wrong


def library_gradient(logits, target, weight=None, ignore_index=255):
    leaf = Tensor(logits, requires_grad=True)
    F.cross_entropy(leaf, target, weight, ignore_index).backward()
    return leaf.grad


REFERENCE = {"cross_entropy": F.cross_entropy, "cross_entropy_gradient": library_gradient}
HINTS = [
    """
    Four pixels with losses 1, 2, 3 and 4, of classes 0, 0, 1 and void; weight = [1, 5]. How much
    does each pixel count? What is the sum of all that counts, and what is the loss? Now turn another
    pixel into void: which of the two sums change?
    """,
    """
    A label of 255 must not be used as an index. Put any class in its place, look up the weight, and
    multiply it by 0 there: from then on one array w (N, H, W) says how much each pixel counts. The
    derivative of ln(sum of exp(z)) in z[k] is p[k]; the derivative of z[y] is 1 for k = y, else 0.
    """,
    """
    counts = target != ignore_index
    label = np.where(counts, target, <any class>)
    w = counts * <the weight of each label>
    The loss: the sum of w times -ln p[label], divided by <?>. Its gradient: w, with an axis for the
    classes, times (p - <a 1 at the label, else 0>), divided by the same number.
    Both: 0 if no pixel counts.
    """,
]


def scene(draw, N, K, H, W, void=0, ignore_index=255):
    """Scores (N, K, H, W), and labels of which so many pixels are void and no class is missing that
    has room."""
    labels = np.concatenate([np.arange(K), draw.rng.integers(0, K, N * H * W)])[: N * H * W - void]
    labels = draw.rng.permutation(np.concatenate([labels, np.full(void, ignore_index)]))
    return draw.integers(N, K, H, W, low=-3, high=3), labels.reshape(N, H, W)


def weights(draw, K):
    """K weights, no two alike, and not 1."""
    return 2.0 + draw.rng.permutation(K)


@check("the loss: void pixels do not count")
def void(draw):
    yield call("cross_entropy", *scene(draw, 1, 2, 1, 3, void=1))
    yield call("cross_entropy", *scene(draw, 1, 3, 3, 4, void=5))
    yield call("cross_entropy", *scene(draw, 3, 4, 3, 2, void=6))


@check("the loss: classes have weights")
def weighted(draw):
    yield call("cross_entropy", *scene(draw, 1, 2, 1, 4), weights(draw, 2))
    yield call("cross_entropy", *scene(draw, 1, 3, 2, 4), weight=weights(draw, 3))
    yield call("cross_entropy", *scene(draw, 2, 4, 3, 5, void=8), weight=weights(draw, 4) - 0.5)


@check("the gradient, without void or weights")
def gradient(draw):
    yield call("cross_entropy_gradient", *scene(draw, 1, 2, 1, 1))
    yield call("cross_entropy_gradient", *scene(draw, 1, 2, 1, 3))
    yield call("cross_entropy_gradient", *scene(draw, 2, 4, 3, 2))
    logits, target = scene(draw, 2, 3, 2, 3)
    yield call("cross_entropy_gradient", 400 * logits, target)


@check("the gradient, with void and weights", points=2)
def weighted_gradient(draw):
    yield call("cross_entropy_gradient", *scene(draw, 1, 2, 1, 3, void=1))
    yield call("cross_entropy_gradient", *scene(draw, 1, 2, 1, 3), weights(draw, 2))
    yield call("cross_entropy_gradient", *scene(draw, 2, 4, 3, 4, void=7), weight=weights(draw, 4))


@check("void may have another number")
def other_void(draw):
    for function in ("cross_entropy", "cross_entropy_gradient"):
        few = scene(draw, 1, 2, 1, 3, void=1, ignore_index=-1)
        yield call(function, *few, weights(draw, 2), ignore_index=-1)
    for number in (-1, 0, 7):
        logits, target = scene(draw, 2, 3, 2, 3, void=4, ignore_index=number)
        options = dict(weight=weights(draw, 3), ignore_index=number)
        yield call("cross_entropy", logits, target, **options)
        yield call("cross_entropy_gradient", logits, target, **options)


@check("nothing but void, and void but for one pixel")
def all_void(draw):
    for function in ("cross_entropy", "cross_entropy_gradient"):
        for labelled in (0, 1):
            yield call(function, *scene(draw, 1, 2, 1, 3, void=3 - labelled))
            yield call(function, *scene(draw, 2, 3, 2, 2, void=8 - labelled), weights(draw, 3))


@holds("the gradient adds up to 0 over the classes of each pixel, whatever number void has")
def columns(draw):
    w = weights(draw, 3)
    answers = yield [
        call("cross_entropy_gradient", *scene(draw, 2, 3, 2, 3, 3, number), w, number)
        for number in (255, -1)
    ]
    return all(abs(dz.sum(axis=1)).max() < 1e-6 for (dz,) in answers)


@holds("weights twice as large change nothing")
def twice(draw):
    logits, target = scene(draw, 2, 3, 2, 3, void=3)
    w = weights(draw, 3)
    asked = [call("cross_entropy", logits, target, factor * w) for factor in (1, 2)]
    asked += [call("cross_entropy_gradient", logits, target, factor * w) for factor in (1, 2)]
    (loss,), (same_loss,), (dz,), (same_dz,) = yield asked
    return abs(loss - same_loss) < 1e-5 and abs(dz - same_dz).max() < 1e-5


@holds("poking a score: (L(z + h v) - L(z - h v)) / 2h = <your gradient, v>, L being your loss")
def poking(draw):
    logits, target = scene(draw, 2, 3, 2, 2, void=2)
    v, w, h = draw.normal(*logits.shape), weights(draw, 3), 1e-2
    asked = [call("cross_entropy", logits + step * v, target, w) for step in (h, -h)]
    (after,), (before,), (dz,) = yield [*asked, call("cross_entropy_gradient", logits, target, w)]
    return abs((after - before) / (2 * h) - (dz * v).sum()) < 1e-4


void_is_background = wrong(
    "cross_entropy",
    "a loss for which void is class 0. The network would be taught that all borders are "
    "background; they should teach it nothing",
    {
        "(w * surprise)": "(weight[label] * surprise)",
        "w.sum() if counts.any() else 0.0": "weight[label].sum()",
    },
)


void_is_255 = wrong(
    "cross_entropy",
    "a loss for which 255 is void, whatever ignore_index says. What has its number is "
    "then taken for a class",
    {"target != ignore_index": "target != 255"},
)


mean_of_nothing = wrong(
    "cross_entropy",
    "a mean of nothing, 0/0, where every pixel is void. Nothing was seen, and the loss is "
    "0: one batch of NaN would make all weights NaN",
    {" if counts.any() else 0.0": ""},
)


over_all_pixels = wrong(
    "cross_entropy",
    "the mean over all pixels, void among them. The more void, the smaller that loss, and the "
    "step with it: divide by what counted",
    {"w.sum() if counts.any() else 0.0": "target.size"},
)


over_counted_pixels = wrong(
    "cross_entropy",
    "a weighted sum divided by the number of pixels that count. With weights twice as large it "
    "would be twice the loss; a weighted mean divides by the sum of the weights",
    {"w.sum() if counts.any() else 0.0": "max(1, counts.sum())"},
)


not_divided = wrong(
    "cross_entropy_gradient",
    "the gradient of the sum. The loss is a mean: its denominator divides the gradient as well",
    {"dz / w.sum() if counts.any() else dz": "dz"},
)


gradient_of_nothing = wrong(
    "cross_entropy_gradient",
    "0/0 where every pixel is void. Nothing was seen, and the gradient is 0: one batch of NaN would "
    "make all weights NaN",
    {" if counts.any() else dz": ""},
)


p_in_void = wrong(
    "cross_entropy_gradient",
    "a gradient that is p in void pixels: there is no one-hot label to subtract, but p is left, "
    "and pushes all scores down. A void pixel counts 0, p and all",
    {"w[:, None] * (p - one_hot)": "weight[label][:, None] * (p - one_hot * counts[:, None])"},
)


weight_at_label = wrong(
    "cross_entropy_gradient",
    "a gradient where the weight stands at the label alone, p - w * one-hot. The weight of a "
    "pixel is a factor of its whole loss, so of both parts of the gradient",
    {"w[:, None] * (p - one_hot)": "counts[:, None] * p - w[:, None] * one_hot"},
)


@right("cross_entropy", "pixel by pixel")
def loops(logits, target, weight=None, ignore_index=255):
    loss = total = 0.0
    for n, i, j in np.ndindex(target.shape):
        y = target[n, i, j]
        if y == ignore_index:
            continue
        w = 1.0 if weight is None else weight[y]
        loss += w * (np.logaddexp.reduce(logits[n, :, i, j]) - logits[n, y, i, j])
        total += w
    return loss / total if total > 0 else 0.0


@right("cross_entropy", "only the pixels that count, float32")
def selected(logits, target, weight=None, ignore_index=255):
    counts = target != ignore_index
    if not counts.any():
        return np.zeros((), np.float32)
    z, y = np.moveaxis(logits, 1, -1)[counts].astype(np.float32), target[counts]
    z -= z.max(axis=1, keepdims=True)
    surprise = np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(y)), y]
    return np.float32(np.average(surprise, weights=None if weight is None else weight[y]))


@right("cross_entropy", "class by class")
def class_by_class(logits, target, weight=None, ignore_index=255):
    top = logits.max(axis=1)
    log_sum = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    loss = total = 0.0
    for k in range(logits.shape[1]):
        if k != ignore_index:
            here, w = target == k, 1.0 if weight is None else weight[k]
            loss += w * (log_sum - logits[:, k])[here].sum()
            total += w * here.sum()
    return loss / total if total else 0.0


@right("cross_entropy_gradient", "pixel by pixel, Fortran order")
def gradient_loops(logits, target, weight=None, ignore_index=255):
    dz, total = np.zeros(logits.shape, order="F"), 0.0
    for n, i, j in np.ndindex(target.shape):
        y = target[n, i, j]
        if y != ignore_index:
            w = 1.0 if weight is None else weight[y]
            z = logits[n, :, i, j]
            dz[n, :, i, j] = w * np.exp(z - np.logaddexp.reduce(z))
            dz[n, y, i, j] -= w
            total += w
    return dz / total if total else dz


@right("cross_entropy_gradient", "1 subtracted from p at the label, in place; float32")
def in_place(logits, target, weight=None, ignore_index=255):
    n, i, j = np.nonzero(target != ignore_index)
    y = target[n, i, j]
    w = np.ones(len(y)) if weight is None else weight[y]
    z = logits[n, :, i, j].astype(np.float32)  # one row a pixel that counts
    z = np.exp(z - z.max(axis=1, keepdims=True))
    z /= z.sum(axis=1, keepdims=True)
    z[np.arange(len(y)), y] -= 1
    dz = np.zeros(logits.shape, np.float32)
    dz[n, :, i, j] = z * w[:, None] / max(w.sum(), 1e-30)
    return dz


@right("cross_entropy_gradient", "the chain rule through softmax's Jacobian")
def jacobian(logits, target, weight=None, ignore_index=255):
    K = logits.shape[1]
    label = np.where(target == ignore_index, 0, target)
    w = (target != ignore_index) * (np.ones(K) if weight is None else weight)[label]
    p = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    one_hot = np.moveaxis(np.eye(K)[label], -1, 1)
    # of ln p: d ln p[y] / d z[k] = [k = y] - p[k]
    J = np.eye(K)[:, :, None, None] - p[:, None]  # (N, y, k, H, W)
    return np.einsum("nij,nyij,nykij->nkij", -w / max(w.sum(), 1e-30), one_hot, J)
