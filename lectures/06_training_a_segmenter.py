# %% [markdown]
# # 06 Training a segmenter: from noise to labels, and what goes wrong on the way
#
# 40 minutes of reading, 60 seconds of running; reads `minseg/functional/loss.py`,
# `minseg/train.py`, `minseg/data/dataset.py`, `minseg/loops.py`; needs notebook 05 for what
# `backward` does, 04 for mean IoU.
#
# At the end of this notebook you can
#
# - write softmax cross-entropy for every pixel, with class weights and void, and its gradient;
# - run the four stages of training (untrained, overfitted on one image, trained on all, an unseen
#   image) and read from them what is wrong;
# - recognise five classic failures by their pictures, since you will have caused each of them.
#
# Follows: University of Waterloo, "Semantic Segmentation", "Fully-supervised Semantic
# Segmentation", "(Training) Loss: Cross-Entropy", "Assignment 5"; ENSTA Paris, CSC_5RO13, "Output
# encoding and loss functions?", "Training Segmentation Networks"; Deep Learning for Vision
# (2024-2025), "Training".
#
# | on the slides | here | what it is |
# |---|---|---|
# | $\lambda(p)_i$ | `logits`, (N, K, H, W) | the scores of every class at every pixel |
# | $\bar\sigma^p$, $\hat y(p)$, $\hat{\mathbf{Y}}_{i,j}$ | `p`, (N, K, H, W) | softmax of the scores |
# | $\mathbf{y}^p$ | `target`, (N, H, W) | the label of every pixel: 0..K-1, or 255 = void |
# | $\bar{\mathbf{y}}^p$, $y(p)$ | `one_hot`, (N, K, H, W) | the label as a distribution |
# | $\omega_i$ | `weight`, (K,) | how much a pixel of each class counts |
# | "overfit CNN", "fully-trained CNN" | `overfitted`, `trained` | the networks of section 5 |
#
# Sections 1 to 4 each need only this cell; 6 needs 5; 7 stands alone.

# %%
import time
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import minseg.functional as F
from minseg import Tensor, data, loops, models, plot, segmenter
from minseg.check import check_gradient
from minseg.optim import Adam, cosine_schedule
from minseg.segmenter import Segmenter
from minseg.train import evaluate, fit, normalisation

HERE = Path(__file__).parent if "__file__" in globals() else Path.cwd()
VOID = 255

train_set = data.build("digits", "train")  # 2,000 scenes of handwritten digits, 48 x 48
test_set = data.build("digits", "test", length=40)  # other digits, by which nothing is trained
K = train_set.num_classes  # background and ten digits
print(K, "classes:", ", ".join(train_set.class_names))

# %% [markdown]
# ## 1. The loss: one surprise per pixel
#
# A network gives K scores to each pixel. Softmax makes them a distribution, and the loss asks how
# surprised this distribution is by the true label. The slides (Waterloo, "(Training) Loss:
# Cross-Entropy") write it twice: as a cross-entropy with the one-hot label, and as the negative
# logarithm of a single number,
#
# $$-\sum_k \bar{\mathbf{y}}_k^p \ln \bar\sigma_k^p \;=\; -\ln \bar\sigma^p_{\mathbf{y}^p}$$
#
# for a one-hot label has a single 1 in it. The sum runs over all pixels. In loops, as the slides
# have it:


# %%
def summed_loss(sigma, y):
    """sigma (K, H, W) probabilities, y (H, W) labels: both forms of the slide."""
    K, H, W = sigma.shape
    cross_entropy = negative_log_likelihood = 0.0
    for i in range(H):
        for j in range(W):
            one_hot = [float(k == y[i, j]) for k in range(K)]
            for k in range(K):
                cross_entropy += -one_hot[k] * np.log(sigma[k, i, j])
            negative_log_likelihood += -np.log(sigma[y[i, j], i, j])
    return cross_entropy, negative_log_likelihood


rng = np.random.default_rng(6)
logits = rng.standard_normal((1, 4, 3, 5))  # (N, K, H, W): a small image, 3 x 5, four classes
target = rng.integers(0, 4, (1, 3, 5))  # (N, H, W)
p = F.softmax(logits, 1)
assert np.allclose(p.sum(axis=1), 1)

cross_entropy, negative_log_likelihood = summed_loss(p[0], target[0])
print(f"cross-entropy {cross_entropy:.6f}, negative log-likelihood {negative_log_likelihood:.6f}")
assert np.isclose(cross_entropy, negative_log_likelihood)

# %% [markdown]
# Vectorised: pick the true label's probability at each pixel, take logarithms, add. The library's
# op does that from the logits, and in a way that does not overflow (try `1000 * logits`).

# %%
picked = np.take_along_axis(p, target[:, None], axis=1)  # (N, K, H, W) -> (N, 1, H, W)
vectorised = -np.log(picked).sum()
library = F.cross_entropy(logits, target, reduction="sum")
assert np.isclose(vectorised, cross_entropy)
assert np.isclose(library, cross_entropy)
assert np.isclose(loops.cross_entropy(logits, target, reduction="sum"), library)

mean = F.cross_entropy(logits, target)  # what training uses
assert np.isclose(mean, library / 15)
assert np.isfinite(F.cross_entropy(1000 * logits, target))

# %% [markdown]
# The slides sum over pixels, and the library's default is the mean. The two differ by a factor,
# so they have the same minimum; but the gradient has that factor too. A learning rate that suits
# the mean is thousands of times too high for plain gradient descent on the sum over a 48 × 48
# image.

# %% [markdown] tags=["erratum"]
# > **Check this against your slides.** (convention) Deep Learning for Vision (2024-2025), "Training",
# > lets i run to W and j to H in a sum over $\mathbf{Y}_{i,j}$, where other slides of the deck make
# > arrays H × W. In code the first index is the row and runs to H. On square images nobody notices; on
# > 3 × 5 the other reading leaves the array:

# %%
H, W = target[0].shape
try:
    sum(-np.log(p[0, target[0, i, j], i, j]) for i in range(W) for j in range(H))
except IndexError as error:
    print("IndexError:", error)
else:
    raise AssertionError("i ran to W and nothing happened")

# %% [markdown]
# Now a real one. The picture shows a test scene, its truth, the probability that a trained U-Net
# (that of notebook 00) gives to the true class, and the loss of each pixel: a map that is dark
# almost everywhere. Void pixels have loss 0.

# %%
good, _, _ = segmenter.load(HERE / "weights" / "unet-digits.npz")
image, labels = test_set[9]
logits = good.eval()(image[None]).numpy()  # (1, K, H, W)
loss = F.cross_entropy(logits, labels[None], reduction="none")[0]  # (H, W)
p_true = np.where(labels == VOID, np.nan, np.exp(-loss))

figure = Figure(figsize=(8.5, 2.9), layout="constrained")
axes = figure.subplots(1, 4)
axes[0].imshow(image[0], cmap="gray", vmin=0, vmax=1)
plot.show_labels(labels, K, axes[1])
axes[2].set_facecolor("#bbbbbb")  # void
drawn = axes[2].imshow(p_true, cmap="viridis", vmin=0, vmax=1)
figure.colorbar(drawn, ax=axes[2], orientation="horizontal", label="p (grey: void)")
drawn = axes[3].imshow(loss, cmap="magma", vmin=0)
figure.colorbar(drawn, ax=axes[3], orientation="horizontal", label="-ln p")
for ax, title in zip(axes, ("image", "truth", "p of the true class", "loss"), strict=True):
    ax.set(xticks=[], yticks=[], anchor="N")
    ax.set_title(title, fontsize=11)
figure

# %%
hardest = np.sort(loss.ravel())[::-1]
share = hardest[: hardest.size // 20].sum() / hardest.sum()
print(f"the worst 5 % of the pixels have {share:.0%} of the loss")
assert share > 0.5
assert (loss[labels == VOID] == 0).all()

# %% [markdown]
# **Your turn.** A network that knows nothing gives the same score to all classes. What is its
# loss per pixel? Check with `F.cross_entropy(np.zeros((1, K, 2, 2)), np.zeros((1, 2, 2), int))`.
# It is the number that a training should start near; a start far above it means a badly scaled
# last layer.

# %%
assert np.isclose(F.cross_entropy(np.zeros((1, K, 2, 2)), np.zeros((1, 2, 2), int)), np.log(K))

# %% [markdown]
# ## 2. Void
#
# Pascal VOC labels pixels 0..20, and 255 where nobody can say.

# %% [markdown] tags=["erratum"]
# > **Check this against your slides.** (convention) University of Waterloo, "(Training) Loss:
# > Cross-Entropy" counts the network's outputs from 1 to K, while "Fully-supervised Semantic
# > Segmentation" has labels 0..20 and 255. Background needs an output too: indices 0..20, so K = 21.
# > And 255 has no one-hot vector at all; the sum over pixels has to leave void out.

# %%
sigma = np.full((21, 1, 2), 1 / 21)  # (K, H, W) for Pascal VOC
one_way, _ = summed_loss(sigma, np.array([[20, 0]]))
assert np.isclose(one_way, 2 * np.log(21))  # 20 and 0 both have an output

for y in ([[20, 255]], [[20, 21]]):
    try:
        summed_loss(sigma, np.array(y))
    except IndexError as error:
        print("the slide's sum:", error)
    else:
        raise AssertionError("a label without an output went through")

logits = np.zeros((1, 21, 1, 2))
with_void = F.cross_entropy(logits, np.array([[[20, 255]]]))
assert np.isclose(with_void, np.log(21))  # the mean over the one pixel that counts
try:
    F.cross_entropy(logits, np.array([[[20, 21]]]))
except ValueError as error:
    print("the library:    ", error)
else:
    raise AssertionError("label 21 of 21 classes went through")

# %% [markdown]
# **The mean of what?** `reduction="none"` gives one loss per pixel, 0 for void. Its plain `.mean()`
# divides by all pixels, `reduction="mean"` by those that count. A tiny example with six classes,
# equal scores, 200 pixels of which 11 are void:

# %%
target = np.zeros((1, 10, 20), int)
target[0, 4, 3:14] = VOID
logits = np.zeros((1, 6, 10, 20))
each = F.cross_entropy(logits, target, reduction="none")
print(f"none.mean() = {each.mean():.3f}, mean = {F.cross_entropy(logits, target):.3f}")
assert round(each.mean(), 3) == 1.693
assert round(F.cross_entropy(logits, target), 3) == 1.792  # ln 6: void changes nothing
assert np.isclose(each.sum() / (target != VOID).sum(), F.cross_entropy(logits, target))

# %% [markdown]
# The same goes for several batches: the mean of their means is not the mean over all pixels, unless
# each has as many labelled ones.
#
# **Nothing but void.** A random crop can hit a batch without a single labelled pixel. Then the
# mean is 0/0. PyTorch says NaN, and one NaN step ruins all weights. Here the loss is 0 and so is
# the gradient: no evidence, no change. The last cell compares, if PyTorch is installed.

# %%
nothing = np.full((1, 10, 20), VOID)
x = Tensor(logits, requires_grad=True)
loss = F.cross_entropy(x, nothing)
loss.backward()
assert loss.item() == 0
assert (x.grad == 0).all()

try:
    import torch
except ImportError:
    print("PyTorch is not installed; it would say nan")
else:
    theirs = torch.nn.functional.cross_entropy(
        torch.zeros(1, 6, 10, 20), torch.from_numpy(nothing), ignore_index=VOID
    )
    print("PyTorch:", theirs.item(), "  here:", loss.item())
    assert theirs.isnan()

# %% [markdown]
# ## 3. Class weights, and the gradient
#
# ENSTA's slide puts a weight $\omega_i$ on each class. The mean then divides by the sum of the
# weights:
#
# $$L = \frac{\sum_p w_{y}\,(-\ln p_{y})}{\sum_p w_{y}} \qquad
#   \frac{\partial L}{\partial\,\mathrm{logit}_k} = \frac{w_y\,(p_k - [k = y])}{\sum_p w_y}$$
#
# The gradient is as simple as it could be: what the network says, minus what it should say, times
# how much this pixel counts. In void pixels $w = 0$. No pixel pulls harder than its weight,
# however wrong.

# %%
logits = rng.standard_normal((1, 3, 1, 6))  # three classes, a row of six pixels
target = np.array([[[0, 0, 0, 1, 2, VOID]]])
weight = np.array([0.5, 1.0, 2.0])

p = F.softmax(logits, 1)
one_hot = (np.arange(3)[None, :, None, None] == target[:, None]).astype(float)  # void: all 0
w_y = np.where(target == VOID, 0, weight[np.where(target == VOID, 0, target)])[:, None]
by_hand = w_y * (p - one_hot) / w_y.sum()  # (N, 1, H, W) x (N, K, H, W)

x = Tensor(logits, requires_grad=True)
F.cross_entropy(x, target, weight).backward()
print(f"largest difference {abs(x.grad - by_hand).max():.0e}")
assert abs(x.grad - by_hand).max() < 1e-15
error = check_gradient(lambda x: F.cross_entropy(x, target, weight), logits)  # by poking
assert error < 1e-6

# %% [markdown]
# In the picture, a column is a pixel and a row a class: softmax, one-hot label, and the gradient
# (times the sum of weights, 5.5). Each column of the gradient adds up to 0: what one class wins
# the others lose. Counted from 0, column 4, of the class
# with weight 2, pulls hardest; column 5 is void.

# %%
figure = Figure(figsize=(8.5, 2.3), layout="constrained")
shown = {"p": p, "one-hot": one_hot, "w (p - one-hot)": by_hand * w_y.sum()}
for ax, (title, values) in zip(figure.subplots(1, 3), shown.items(), strict=True):
    plot.matrix(values[0, :, 0].round(2), ax, title=title, largest=1)
assert abs(by_hand.sum(axis=1)).max() < 1e-15
assert (by_hand[..., 5] == 0).all()
figure

# %% [markdown]
# **Why weights at all?** Suppose the network cannot see and must give all pixels one distribution
# q. The gradient vanishes where $q_k$ is class k's share of the *weighted* pixels. Without
# weights that is its share of the pixels: background has more than 0.9, and argmax says
# background everywhere. **All black is the best blind answer.** With weights 1/frequency the best
# blind answer is a tie.

# %%
pixels = np.concatenate([train_set[n][1].ravel() for n in range(100)])
frequency = np.bincount(pixels[pixels != VOID], minlength=K) / (pixels != VOID).sum()
print("frequency:", frequency.round(3))
sample = pixels[None, :, None]  # (N, pixels, 1)
for weight in (np.ones(K), 1 / frequency):
    q = weight * frequency / (weight * frequency).sum()
    x = Tensor(np.broadcast_to(np.log(q)[None, :, None, None], (1, K, *sample.shape[1:])).copy(),
               requires_grad=True)  # fmt: skip
    F.cross_entropy(x, sample, weight).backward()
    assert abs(x.grad.sum(axis=(0, 2, 3))).max() < 1e-9  # no better blind answer
    print("best blind answer:", q.round(3))
assert frequency[0] > 0.9
assert np.allclose(q, 1 / K)

# %% [markdown]
# ## 4. Flips, and what bilinear interpolation does to a mask
#
# More data for free: flip, shift, scale (ENSTA, "Training Segmentation Networks", data
# augmentation). Two rules. **One coin for both**: image and mask move together. **Labels are
# names, not amounts**: never average them.
#
# The first rule on a scene of the shapes, in the picture: the scene, the joint flip, and a flip
# of the image alone, each with the labels laid over. The last one would teach the network
# nonsense.

# %%
scene, mask = data.build("shapes", "train")[3]  # (3, H, W), (H, W)
coin = np.random.default_rng(2)  # its first throw is below 1/2: a flip
flipped_scene, flipped_mask = data.flip_horizontal(scene, mask, coin)
assert (flipped_scene == scene[..., ::-1]).all()
assert (flipped_mask == mask[..., ::-1]).all()
assert (flipped_mask[..., ::-1] == mask).all()  # twice is not at all

figure = Figure(figsize=(8.5, 3.1), layout="constrained")
trio = {"as it is": (scene, mask), "both flipped": (flipped_scene, flipped_mask)}
trio["image alone flipped"] = (flipped_scene, mask)
for ax, (title, (one, other)) in zip(figure.subplots(1, 3), trio.items(), strict=True):
    ax.imshow(plot.overlay(one, other, 5, alpha=0.45))
    ax.set_title(title, fontsize=11)
    ax.set(xticks=[], yticks=[])
figure

# %% [markdown]
# Whether a flip keeps labels *true* is a question to the data. A flipped disk is a disk; a flipped
# 2 is not a 2, nor is a flipped "left hand" a left hand. So each data set here names its own:

# %%
assert data.Shapes.augmentations == (data.flip_horizontal,)
assert data.flip_horizontal not in data.Digits.augmentations

# %% [markdown]
# The second rule. Enlarge the row `1 1 5 5` to twice its length. Nearest copies labels. Bilinear
# averages them, and out come 2 and 4: halfway between "zero" and "four" it found a "one" and a
# "three".

# %%
row = np.array([[1.0, 1, 5, 5]])
nearest = F.interpolate(row, size=(1, 8), mode="nearest")
bilinear = F.interpolate(row, size=(1, 8), mode="bilinear")
print("nearest ", nearest[0])
print("bilinear", bilinear[0])
assert set(nearest[0]) == {1, 5}
assert set(bilinear[0]) == {1, 2, 4, 5}

# %% [markdown]
# The same on a whole mask (void set to background first), enlarged from 48 to 72. The picture
# shows nearest, then bilinear rounded to whole labels, where every digit wears a rim of other
# digits. These are valid labels; no check will ever complain.

# %%
_, labels = test_set[5]
plain = np.where(labels == VOID, 0, labels)
nearest = F.interpolate(plain.astype(float), size=72, mode="nearest").astype(int)
bilinear = np.rint(F.interpolate(plain.astype(float), size=72, mode="bilinear")).astype(int)
names = train_set.class_names
invented = sorted(set(bilinear.ravel()) - set(plain.ravel()))
print("in the scene:", ", ".join(names[k] for k in np.unique(plain)))
print("invented:    ", ", ".join(names[k] for k in invented))
assert set(nearest.ravel()) == set(plain.ravel())
assert invented

figure = Figure(figsize=(8.5, 3.9), layout="constrained")
left, right = figure.subplots(1, 2)
plot.show_labels(nearest, K, left, title="nearest")
plot.show_labels(bilinear, K, right, title="bilinear, rounded", class_names=names)
figure

# %% [markdown]
# With void in the mask it is worse, and easier to catch: between 7 and 255 lies 131. The loss
# names the stranger. (JPEG does the same to masks: save them as PNG.) If you want smooth edges,
# interpolate the *one-hot* planes, or the network's scores, and take the argmax afterwards: an
# average of amounts.

# %%
with_void = np.rint(F.interpolate(labels.astype(float), size=72, mode="bilinear")).astype(int)
try:
    F.cross_entropy(np.zeros((1, K, 72, 72)), with_void[None])
except ValueError as error:
    print(error)
else:
    raise AssertionError("labels between 10 and 255 went through")

planes = (np.arange(K)[:, None, None] == plain).astype(float)[None]  # (1, K, H, W)
smooth = F.interpolate(planes, size=72, mode="bilinear")[0].argmax(axis=0)
assert set(smooth.ravel()) == set(plain.ravel())

# %% [markdown]
# ## 5. Four stages
#
# *Needs only the first cell. Slides: "Assignment 5", Waterloo.*
#
# Never start with the long run. The assignment's order finds mistakes when they are cheap:
#
# 1. **untrained**: does anything come out, in the right shape, at the loss of a guess?
# 2. **overfitted on one image**: can it learn at all? A minute at most, and the score must reach 1;
# 3. **trained on all images**, seen on one of them;
# 4. the same network on an image that it **did not see**, the only score to report.
#
# A small U-Net will do, 8 channels at full resolution, 30,000 weights. Background gets the
# weight 0.1 (section 3). One function runs everything below and reports as it goes:

# %%
STEPS = 800  # of the long run
WEIGHT = np.array([0.1] + 10 * [1.0], np.float32)  # background, ten digits
MEAN_STD = normalisation(train_set)


def new_network(class_names=train_set.class_names):
    """A U-Net for grey images with the same untrained weights each time."""
    network = models.build("unet", 1, len(class_names), width=8, depth=3, seed=0)
    return Segmenter(network, class_names, *MEAN_STD)


def learn(network, dataset, steps, lr=1e-2, weight=WEIGHT, batch_size=8, watch=(), every=100):
    """Train `network`; returns the loss of each step, and {name: [(step, mean IoU)]} of `watch`."""
    losses, scores = [], {name: [] for name in watch}
    begun = time.perf_counter()

    def after_step(step, loss):
        losses.append(loss)
        if watch and step % every == 0:
            for name, pictures in watch.items():
                scores[name].append((step, evaluate(network, pictures).mean_iou()))
            line = "   ".join(f"mIoU {name} {score[-1][1]:.3f}" for name, score in scores.items())
            print(f"step {step:>4} of {steps}   loss {loss:.3f}   {line}   "
                  f"{time.perf_counter() - begun:.0f} s", flush=True)  # fmt: skip

    loader = data.Loader(dataset, batch_size)
    schedule = cosine_schedule(lr, steps, warmup=steps // 40)
    fit(network, loader, Adam(network.parameters(), lr), steps, schedule, weight=weight,
        after_step=after_step)  # fmt: skip
    return losses, scores


untrained = new_network()
images, labels = data.Loader(test_set, 8, shuffle=False).batch(0)
logits = untrained(Tensor(images)).numpy()
at_start = F.cross_entropy(logits, labels, WEIGHT)
print(f"shapes {images.shape} -> {logits.shape}; loss {at_start:.2f}, of a guess {np.log(K):.2f}")
assert logits.shape == (8, K, 48, 48)
assert abs(at_start - np.log(K)) < 1

# %% [markdown]
# One image, 150 steps, at twice the rate:

# %%
one_image = data.build("digits", "train", length=1)
overfitted = new_network()
watch = {"that image": one_image, "test": test_set}
one_losses, one_scores = learn(
    overfitted, one_image, 150, lr=2e-2, batch_size=1, watch=watch, every=25
)

# %% [markdown]
# All images, 800 steps of 8 (a third of a minute on a free machine). The 40 training scenes by
# which we watch are among the 2,000.

# %%
trained = new_network()
seen = data.build("digits", "train", length=40)
losses, scores = learn(trained, train_set, STEPS, watch={"train": seen, "test": test_set})

# %% [markdown]
# **The four panels.** In the picture, a row per stage: image, truth, prediction, and errors in
# red. Untrained is confetti. Overfitted is all but perfect, on this image. Fully trained is
# nearly right on an image from the training set, and on one that it never saw.

# %%
stages = {
    "untrained": (untrained, train_set[0]),
    "overfitted": (overfitted, train_set[0]),
    "trained,\nseen": (trained, train_set[0]),
    "trained,\nunseen": (trained, test_set[9]),
}
images = [image for _, (image, _) in stages.values()]
truths = [labels for _, (_, labels) in stages.values()]
predictions = [network.predict(image[None])[0] for network, (image, _) in stages.values()]
figure = plot.prediction_panel(images, truths, predictions, train_set.class_names)
for ax, stage in zip(figure.axes[::4], stages, strict=True):
    ax.set_ylabel(stage, fontsize=11)
figure

# %%
share = evaluate(untrained, test_set).true_pixels
share = share / share.sum()
guess = np.mean(share / K / (share + 1 / K - share / K))  # mean IoU of a roll of the dice
final = {
    "dice": guess,
    "untrained, test": evaluate(untrained, test_set).mean_iou(),
    "overfitted, its image": evaluate(overfitted, one_image).mean_iou(),
    "overfitted, test": evaluate(overfitted, test_set).mean_iou(),
    "trained, seen": scores["train"][-1][1],
    "trained, unseen": scores["test"][-1][1],
}
for name, score in final.items():
    print(f"{name:<22} mean IoU {score:.3f}")
assert abs(final["untrained, test"] - guess) < 0.06  # near chance
assert final["overfitted, its image"] > 0.99
assert final["overfitted, test"] < 0.3  # learnt by heart
assert final["trained, seen"] > final["trained, unseen"] > 0.5

# %% [markdown]
# **The curves.** On the left the loss of each step, logarithmic: the single image sinks below
# 0.01, all images level off near 0.3. On the right, mean IoU: the long run's score on training
# scenes, and on test scenes below it; the overfitted network's score on test scenes never leaves
# the floor.

# %%
figure = Figure(figsize=(8.5, 3.3), layout="constrained")
left, right = figure.subplots(1, 2)
smooth = np.convolve(losses, np.full(20, 1 / 20), "valid")
left.semilogy(losses, color="#0096ff", alpha=0.3, linewidth=1)
left.semilogy(np.arange(19, STEPS), smooth, color="#003cf0", label="all images (mean of 20)")
left.semilogy(one_losses, color="#d27800", label="one image")
left.set(title="training loss", xlabel="step")
right.plot(*zip(*scores["train"], strict=True), "s-", color="#003cf0", label="all: on train")
right.plot(*zip(*scores["test"], strict=True), "o--", color="#003cf0", label="all: on test")
right.plot(*zip(*one_scores["that image"], strict=True), "s-", color="#d27800", label="one: on it")
right.plot(*zip(*one_scores["test"], strict=True), "o--", color="#d27800", label="one: on test")
right.set(title="mean IoU", xlabel="step", ylim=(-0.02, 1.02))
for line in right.lines:
    line.set_markersize(4)
for ax in (left, right):
    ax.grid(color="#dddddd", linewidth=0.7)
    ax.legend(frameon=False, fontsize=9)
figure

# %% [markdown]
# **How to read them.**
#
# | you see | it says | do |
# |---|---|---|
# | one image does not reach 1 | a bug, or a wrong learning rate; more data cannot help | section 6 |
# | train low, test as low | not trained long enough, or too small | more steps, more width |
# | train high, test much lower | learnt by heart | more data, augmentation, fewer steps |
# | loss falls, mean IoU does not move | the loss is content with background | weights; look at each class |
# | loss jumps, or NaN | rate too high | a tenth of it, warm-up |
#
# Mean IoU moves late: the network first sorts ink from paper (the loss falls), and only then
# one digit from another. Our two blue curves end 0.1 apart: the test scenes are written by
# digits the network has not met. One seed is one sample; a difference of 0.03 between two runs is
# noise.
#
# **Your turn.** Overfit on *two* images (`length=2`, same steps). And on one image of which you
# shuffle the labels, `np.random.default_rng(0).permutation`: how far does the loss fall, and
# what does that say about a low training loss?

# %% [markdown]
# ## 6. Five classics, caused on purpose
#
# *Needs section 5.* This wrapper lets us spoil the labels of a data set, and nothing else:


# %%
class Relabelled(data.Dataset):
    """The scenes of `source`, their labels (H, W) put through `rule`."""

    channels = 1

    def __init__(self, source, rule, class_names=train_set.class_names):
        super().__init__(source.split, source.seed, len(source))
        self.source, self.rule, self.class_names = source, rule, class_names
        self.name, self.size = source.name, source.size

    def item(self, index):
        image, labels = self.source.item(index)
        return image, self.rule(labels)


# %% [markdown]
# ### 6.1 All black
#
# The question asked most often about any segmentation code. Task: find the nines, two classes,
# "rest" and "nine". Nines are 1 pixel in 100. The same 100 steps without weights, and with weight
# 20 for a nine:


# %%
def only_nines(labels):
    return np.where(labels == VOID, VOID, labels == 10)


nines_train, nines_test = (
    Relabelled(source, only_nines, ["rest", "nine"]) for source in (train_set, test_set)
)
black, cured = (new_network(["rest", "nine"]) for _ in range(2))
results = {}
for name, network, weight in (("no weights", black, None), ("1 : 30", cured, [1.0, 30.0])):
    weight = None if weight is None else np.array(weight, np.float32)
    nine_losses, _ = learn(network, nines_train, 100, weight=weight)
    results[name] = matrix = evaluate(network, nines_test)
    print(f"{name:<10}   loss {nine_losses[0]:.2f} -> {nine_losses[-1]:.2f}   pixel accuracy "
          f"{matrix.pixel_accuracy():.3f}   nines found {matrix.recall()[1]:.2f}, "
          f"of those called nine are {matrix.precision('zero')[1]:.2f}")  # fmt: skip

assert results["no weights"].recall()[1] < 0.1
assert results["no weights"].pixel_accuracy() > 0.98  # and 99 % right
assert results["1 : 30"].recall()[1] > 0.4

# %% [markdown]
# The loss fell by a factor of ten or more, accuracy is 99 %, and the network is blind: section
# 3's best blind answer. In the picture: a scene with a nine, then the answer without weights
# (black), then with weights, which finds the nine and cries nine at some others too. Weights are
# no free lunch: they buy recall with precision. Milder weights, longer training or both come
# next. `evaluate(...).predicted_single_class()` detects the black one.

# %%
n = next(n for n in range(40) if (nines_test[n][1] == 1).sum() > 20)
image, truth = nines_test[n]
panels = {"truth": truth} | {
    title: network.predict(image[None])[0]
    for title, network in (("no weights", black), ("1 : 30", cured))
}
figure = Figure(figsize=(8.5, 2.5), layout="constrained")
axes = figure.subplots(1, 4)
axes[0].imshow(image[0], cmap="gray", vmin=0, vmax=1)
axes[0].set_title("image", fontsize=11)
axes[0].set(xticks=[], yticks=[])
for ax, (title, answer) in zip(axes[1:], panels.items(), strict=True):
    plot.show_labels(answer, 2, ax, title=title)
handles = plot.legend_handles(["rest", "nine"], has_void=True)
figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
figure

# %% [markdown]
# Other causes of black, so that you do not reach for weights at once: a picture viewer that shows
# labels 0..10 of 255 as black (multiply, or use `plot.show_labels`); masks whose objects are 255
# where the loader expects 1, so all objects are void; `argmax` over the wrong axis; and the next
# one.

# %% [markdown]
# ### 6.2 The learning rate
#
# The same single image, 40 steps, seven rates from 0.00001 to 10. In the picture, the loss after
# 40 steps against the rate, both logarithmic: on the left nothing has happened yet, on the right
# it is thrown about, and the valley between is about two powers of ten wide. Dashed: where all
# started.

# %%
rates = 10.0 ** np.arange(-5, 2)
after = []
for lr in rates:
    rate_losses, _ = learn(new_network(), one_image, 40, lr=float(lr), batch_size=1)
    after.append(np.mean(rate_losses[-5:]))
    print(
        f"rate {lr:g}: loss {rate_losses[0]:.2f} -> {after[-1]:.3f}   highest {max(rate_losses):.1f}"
    )
start = rate_losses[0]
assert after[0] > 0.9 * start  # too low: nothing happens
assert min(after) < 0.3
assert 1e-3 < rates[np.argmin(after)] < 10
assert after[-1] > 2 * min(after)  # too high

figure = Figure(figsize=(6.5, 3), layout="constrained")
ax = figure.subplots()
ax.loglog(rates, after, "o-", color="#003cf0")
ax.axhline(start, color="#888888", linestyle="--", linewidth=1)
ax.set(xlabel="learning rate", ylabel="loss after 40 steps")
ax.grid(color="#dddddd", linewidth=0.7)
figure

# %% [markdown]
# The cure: try powers of ten on one image, which costs seconds, and take a rate somewhat below
# the best; long runs are less patient than short ones. Warm-up (the rate rises over the first
# steps) and decay (it falls along half a cosine) widen the valley. If the loss is not finite,
# `fit` stops *before* the step that would ruin the weights.

# %% [markdown]
# ### 6.3 Labels shifted
#
# A crop cut at the wrong offset, a resize with another convention: the mask sits 3 pixels down
# and to the right. We go on training our good network on such labels for 60 steps, on void that
# was turned into background (6.4), and, to be fair, on right ones.


# %%
def shifted(labels):
    return np.roll(labels, (3, 3), axis=(0, 1))


def void_as_background(labels):
    return np.where(labels == VOID, 0, labels)


def right(labels):
    return labels


def copy_of(network):
    same = new_network()
    same.load_state_dict(network.state_dict())
    return same


test_images, test_labels = (np.stack(arrays) for arrays in zip(*test_set, strict=True))
spoilt = {}
for rule in (right, shifted, void_as_background):
    network = spoilt[rule] = copy_of(trained)
    spoilt_losses, _ = learn(network, Relabelled(train_set, rule), 60, lr=3e-3)
    own, true = (evaluate(network, s).mean_iou() for s in (Relabelled(test_set, rule), test_set))
    print(f"{rule.__name__:<20} loss at the end {np.mean(spoilt_losses[-10:]):.2f}   "
          f"mean IoU on labels made its way {own:.2f}, on true ones {true:.2f}")  # fmt: skip

own, true = (
    evaluate(spoilt[shifted], s).mean_iou() for s in (Relabelled(test_set, shifted), test_set)
)
assert own > true + 0.03

# %% [markdown]
# **A network learns a shift as readily as anything else**; a convolution can move its picture.
# And if your test labels are shifted too, the score will not tell. The eye does: in the picture,
# errors of the network trained on shifted labels are crescents along one diagonal: ink is missing
# at the top left of a stroke and too much at its bottom right. Below it, the network trained on
# right ones.

# %%
n = 9
figure = plot.prediction_panel(
    [test_images[n]] * 2, [test_labels[n]] * 2,
    [spoilt[rule].predict(test_images[[n]])[0] for rule in (shifted, right)], train_set.class_names,
)  # fmt: skip
for ax, name in zip(figure.axes[::4], ("shifted", "right"), strict=True):
    ax.set_ylabel(name, fontsize=11)
figure

# %% [markdown]
# The cure is to look at what the loader hands to the loss, after augmentation, and not at the
# files: `plot.overlay(*data.Loader(...).sample(epoch, index), K)`. A test in one line finds it
# here, where ink is bright: how well does brightness agree with the mask, for each shift of the
# mask?


# %%
def best_shift(dataset, reach=5):
    """The (down, right) move of the labels that puts the brightest pixels under them."""
    pairs = [dataset[n] for n in range(30)]
    moves = [(i, j) for i in range(-reach, reach + 1) for j in range(-reach, reach + 1)]

    def brightness(move):
        masks = (np.roll((y > 0) & (y != VOID), move, (0, 1)) for _, y in pairs)
        return sum(x[0][mask].sum() for (x, _), mask in zip(pairs, masks, strict=True))

    return max(moves, key=brightness)


print(
    "move the labels by",
    best_shift(train_set),
    "and by",
    best_shift(Relabelled(train_set, shifted)),
)
assert best_shift(train_set) == (0, 0)
assert best_shift(Relabelled(train_set, shifted)) == (-3, -3)

# %% [markdown]
# ### 6.4 Void trained as background
#
# A colour table that starts as zeros, and white borders that are not in it: void silently becomes
# class 0. The score with void left out hardly notices, as in the table above. But the objects
# grow thin:

# %%
ring = test_labels == VOID
thin, fair = (
    (spoilt[rule].predict(test_images)[ring] > 0).mean() for rule in (void_as_background, right)
)
print(
    f"of the void pixels are called ink: {fair:.0%} by the right one, {thin:.0%} by the spoilt one"
)
assert thin < fair - 0.15

# %% [markdown]
# The picture: truth with its striped ring of void; the right network, free in the ring, draws the
# stroke as wide as it finds likely; the spoilt one draws it thin. The cure: print `np.unique` of
# your masks before training. If 255 is missing from a data set that has void, ask where it went.

# %%
answers = {rule.__name__: spoilt[rule].predict(test_images[[n]])[0] for rule in spoilt}
panels = {
    "truth": test_labels[n],
    "void left out": answers["right"],
    "void as background": answers["void_as_background"],
}
figure = Figure(figsize=(8.5, 3.1), layout="constrained")
for ax, (title, answer) in zip(figure.subplots(1, 3), panels.items(), strict=True):
    plot.show_labels(answer, K, ax, title=title)
figure

# %% [markdown]
# ### 6.5 Softmax twice
#
# The last layer has a softmax, "since the loss wants probabilities", and the loss takes one
# again. It trains, slowly, and can never be sure: logits between 0 and 1 give no class more than
# $e/(e + K - 1)$. The loss has a floor, and you can compute it.

# %%
sure = np.zeros((1, K, 1, 1))
sure[0, 3] = 50  # a network that is certain of class 3, and right
truth = np.array([[[3]]])
once = F.cross_entropy(sure, truth)
twice = F.cross_entropy(F.softmax(sure, 1), truth)
print(f"softmax once: loss {once:.3f}; twice: {twice:.3f}, though nothing is wrong")
assert once < 1e-9
assert np.isclose(twice, np.log(np.e + K - 1) - 1)

# %% [markdown]
# ## 7. One real photograph
#
# *Stands alone.* No mask ships with the portrait that lies in matplotlib's own sample data (Rear
# Admiral Grace Hopper; U.S. Navy, public domain). So we label it ourselves, the lazy way: some
# **strokes** per class, everything else void. Section 2 makes that a training set: the loss sees
# only the strokes, and the network answers for the rest. Other patches, never shown, are kept for
# the score.

# %%
from matplotlib.cbook import get_sample_data
from PIL import Image

with get_sample_data("grace_hopper.jpg") as file:
    picture = Image.open(file).convert("RGB").resize((128, 150), Image.Resampling.BOX)
photo = np.asarray(picture, np.float32).transpose(2, 0, 1) / 255  # (3, H, W)

PARTS = ["wall", "flag", "skin", "clothes"]
strokes = [  # of each part: (top, bottom, left, right)
    [(4, 8, 96, 124), (60, 64, 100, 124), (10, 40, 112, 114), (30, 75, 99, 101)],
    [(8, 34, 10, 12), (45, 75, 16, 18), (76, 88, 24, 28), (2, 60, 35, 36), (105, 125, 1, 4),
     (70, 72, 2, 12), (4, 7, 52, 55)],
    [(38, 41, 60, 76), (62, 72, 50, 54), (84, 96, 64, 68), (52, 60, 90, 92), (72, 76, 60, 70),
     (44, 52, 64, 66)],
    [(24, 30, 44, 88), (105, 108, 20, 48), (100, 140, 100, 103), (130, 145, 30, 50),
     (113, 117, 64, 68), (90, 100, 51, 53), (123, 127, 24, 38), (125, 129, 86, 108),
     (14, 17, 62, 66), (14, 16, 47, 52)],
]  # fmt: skip
patches = [
    [(80, 86, 112, 124), (20, 50, 103, 109)],
    [(20, 30, 2, 8), (60, 66, 20, 28), (66, 80, 30, 33)],
    [(60, 66, 82, 88), (40, 44, 46, 50), (78, 80, 60, 70)],
    [(110, 120, 84, 98), (30, 34, 40, 46), (100, 106, 75, 78)],
]


class Photo(data.Dataset):
    """One image, labelled in some boxes of each class and void elsewhere."""

    name, class_names, channels, size = "photo", PARTS, 3, (150, 128)

    def __init__(self, boxes):
        super().__init__("train", 0, 1)
        self.labels = np.full(self.size, VOID)
        for label, places in enumerate(boxes):
            for top, bottom, left, right in places:
                self.labels[top:bottom, left:right] = label

    def item(self, index):
        return photo, self.labels


drawn, kept = Photo(strokes), Photo(patches)
print(f"{(drawn.labels != VOID).mean():.0%} of the pixels are labelled")
assert not ((drawn.labels != VOID) & (kept.labels != VOID)).any()

begun = time.perf_counter()
painter = Segmenter(models.build("unet", 3, 4, width=8, depth=4), PARTS, *normalisation(drawn))
loader = data.Loader(drawn, 1, augment=[data.random_crop(96)])  # a window of 96 x 96 at random
schedule = cosine_schedule(1e-2, 150, warmup=10)
fit(painter, loader, Adam(painter.parameters()), 150, schedule)
matrix = evaluate(painter, kept)
print(f"150 steps in {time.perf_counter() - begun:.0f} s")
print(matrix.table())
assert evaluate(painter, drawn).mean_iou() > 0.9
assert matrix.pixel_accuracy() > 0.75

# %% [markdown]
# The picture: the photograph, our strokes (the rest is void), the network's labels for every
# pixel, and these laid over the photograph. Mind where it fails: dark blue of the flag against
# the dark uniform, white collar, hair, for which there is no class. With the strokes as only
# truth it can know colours and textures, not persons; for that one needs many photographs.

# %%
answer = painter.predict(photo[None])[0]
figure = Figure(figsize=(8.5, 3.2), layout="constrained")
axes = figure.subplots(1, 4)
axes[0].imshow(photo.transpose(1, 2, 0))
axes[1].imshow(plot.label_to_rgb(drawn.labels, 4))
axes[2].imshow(plot.label_to_rgb(answer, 4))
axes[3].imshow(plot.overlay(photo, answer, 4))
for ax, title in zip(axes, ("photograph", "strokes", "prediction", "laid over"), strict=True):
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, fontsize=11)
handles = plot.legend_handles(PARTS, has_void=True)
figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False)
figure

# %% [markdown]
# **Your turn.** Take away the last six strokes of "clothes" (all that is light on them: shirt,
# collar, badges), and run the section again. Which class wins them? Then add one stroke where the
# prediction is worst: a few clicks, run, look is how much real data gets labelled.
#
# ## Three questions
#
# 1. Twice as many void pixels in a batch: what happens to the loss with `reduction="mean"`, and with
#    `none.mean()`?
# 2. Overfitting on one image stops at mean IoU 0.6. Name two things that more data could not cure.
# 3. Training labels and test labels are both shifted by 3 pixels. What does the test score show?
#
# <details><summary>Answers</summary>
#
# 1. The mean is over labelled pixels, so nothing happens on average; `none.mean()` shrinks, and the
#    step with it, as if the learning rate fell with every void pixel.
# 2. A bug (labels shifted at random, softmax twice, gradients not zeroed), a learning rate far off, a
#    network too small or with too coarse an output for the shapes; but not too little data.
# 3. Nothing: a network learns the shift, and shifted test labels applaud. Look at overlays.
#
# </details>
#
# **Do next**: the exercise *cross_entropy*, then *void and weights* with its gradient; then
# *train a segmenter*, which asks for a mean IoU on scenes you cannot see.
#
# `python3 start.py exercises` copies the exercises to `minseg_work/exercises/`; `check` with a name says
# what is right, and of a wrong answer what it is. In a notebook: `from minseg.grading import check`.
