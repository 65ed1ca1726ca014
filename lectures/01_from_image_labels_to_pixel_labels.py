# %% [markdown]
# # 01 From image labels to pixel labels
#
# 40 minutes of reading, 10 seconds of running; reads `minseg/functional/conv.py`,
# `minseg/functional/basic.py` (`linear`), `minseg/windows.py`, `minseg/anatomy.py`; needs notebook 00
# (what an image and its labels are, output sizes).
#
# A classifier gives one label to a whole image. We want one for every pixel. At the end of this
# notebook you can
#
# - turn a classifier into a network that labels all pixels at once, without training it again, and
#   prove on numbers that it gives exactly what sliding it over the image gives;
# - say what its dense layers become, why any input size will then do, and what a 1 × 1 convolution is;
# - compute a receptive field and measure it, and say what pooling, stride and dilation do to it, and
#   to the resolution.
#
# Follows: University of Waterloo, "Semantic Segmentation", from "Fully-supervised Semantic
# Segmentation" to the slides on the first fully convolutional network; Lab CudaVision MA-INF 4308
# (Bonn, 2023), "Fully Convolutional Networks (FCN)" and "Convolutionalization"; Drake University,
# CS195 (2024), "FCN: Fully Convolutional Network"; Deep Learning for Vision (2024-2025), "How to go
# from classification to semantic segmentation?".
#
# | on the slides | here | what it is |
# |---|---|---|
# | one-pixel classifying network | `classify` | names the class of a window's middle pixel |
# | N × N section of the image | a window, 15 × 15 | what one output sees |
# | last (fully connected) layer | `F.linear`, then `F.conv2d` | `dense1`, `dense2` in our network |
# | 1000 kernels 1 × 1 × 4096 | `w.reshape(O, C, 1, 1)` | a dense layer's matrix, as a kernel |
# | $\bar\sigma^p$, K-class probabilities | `F.softmax(scores)[0, :, i, j]` | for pixel (i, j); sum 1 |
# | receptive field, rf size | `receptive_field(layers)` | how far an output pixel sees |
#
# Every section needs this first cell; which others it needs stands below its title. The picture below it
# shows the scene that we shall label, and its true labels.

# %%
from pathlib import Path
from time import perf_counter

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import minseg.functional as F
from minseg import Tensor, data, plot
from minseg.anatomy import Conv, Dense, Pool, flops, output_sizes, parameters, receptive_field
from minseg.metrics import ConfusionMatrix

HERE = Path(__file__).parent if "__file__" in globals() else Path.cwd()
BLUE, ORANGE = "#0096ff", "#ff7f0e"

scenes = data.build("digits", "test", length=20)
NAMES, K = scenes.class_names, scenes.num_classes  # 11 classes, background first
image, labels = scenes[0]
image = image.astype(np.float64)  # so that "equal" can mean equal to 12 digits


def frame(ax, top, left, size, color):
    """Draw the border of a size x size window."""
    ax.add_patch(Rectangle((left - 0.5, top - 0.5), size, size, fill=False)).set(ec=color, lw=2)


plot.labelled(image, labels, NAMES)


# %% [markdown]
# ## 1. One label, or one for each pixel
#
# As an *image-level* label, our scene has tags: somewhere in it there is a "one", a "three" and a "nine".
# As *pixel labels* it has 48 × 48 numbers. Pascal VOC, the data set on the slides, writes them like
# this: 0 is background, 1 to 20 are the objects, 255 is void, where nobody knows.

# %%
present = np.unique(labels)
print("tags:  ", [NAMES[k] for k in present if k not in (0, 255)])
print("pixels:", {int(k): int((labels == k).sum()) for k in present})
assert sum((labels == k).sum() for k in present) == 48 * 48

# %% [markdown] tags=["erratum"]
# > **Check this against your slides.** (Convention.) University of Waterloo, "Fully-supervised
# > Semantic Segmentation" numbers the labels 0, 1, 2, … with 255 for void; its "(Training) Loss:
# > Cross-Entropy" has probabilities $\bar\sigma_1, \dots, \bar\sigma_K$ and sums over all pixels. To make
# > the two meet, K must count the background (Pascal: K = 21, indices 0 to 20), and the sum must leave
# > out the void pixels: no one-hot vector has a place number 255.

# %% [markdown]
# Six pixels, two of them void, show what the loss does with them (notebook 06 is about it):

# %%
target = np.array([[[0, 15, 255], [20, 255, 7]]])  # (N, H, W): background, person, void, ...
logits = np.random.default_rng([1, 1]).standard_normal((1, 21, 2, 3))  # (N, K, H, W)

one_hot = np.eye(21)  # row k has its 1 at place k
try:
    one_hot[target]
except IndexError as error:
    print("one-hot of 255:", error)

probability = F.softmax(logits)  # sigma-bar: over the K = 21 classes
by_hand = 0.0
for _, i, j in np.ndindex(target.shape):
    if target[0, i, j] != 255:
        by_hand -= np.log(probability[0, target[0, i, j], i, j])
assert np.isclose(F.cross_entropy(logits, target, reduction="sum"), by_hand, rtol=1e-12)
assert np.isclose(F.cross_entropy(logits, target), by_hand / 4, rtol=1e-12)  # a mean over 4, not 6

# %% [markdown]
# ## 2. The naive idea: classify every pixel by a window around it
#
# *How does a classifier of images become a classifier of pixels?* Give it the neighbourhood of a
# pixel, and let it name the pixel in the middle. Do this for every pixel.
#
# Here is such a **one-pixel classifier**, trained on 15 × 15 windows of other digits
# (`lectures/weights/make_one_pixel.py` trains it, in some minutes): three 3 × 3 convolutions, then two
# dense layers. No padding, no pooling, no stride, for now.


# %%
def load(kind):
    """The weights of one classifier, by name."""
    with np.load(HERE / "weights" / "one-pixel.npz", allow_pickle=False) as file:
        names = [name for name in file.files if name.startswith(kind)]
        return {name.removeprefix(f"{kind}."): file[name].astype(np.float64) for name in names}


def convolution(x, w, name, **options):
    """A convolution and its ReLU."""
    return F.relu(F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], **options))


def classify(windows, w):
    """Scores for the middle pixel of every window: (N, 1, 15, 15) -> (N, 11)."""
    x = convolution(windows, w, "conv1")  # (N, 8, 13, 13)
    x = convolution(x, w, "conv2")  # (N, 16, 11, 11)
    x = convolution(x, w, "conv3")  # (N, 16, 9, 9)
    x = x.reshape(len(x), -1)  # (N, 1296)
    x = F.relu(F.linear(x, w["dense1.weight"], w["dense1.bias"]))  # (N, 24)
    return F.linear(x, w["dense2.weight"], w["dense2.bias"])  # (N, 11)


plain = load("plain")
framed = np.pad(image[0], 7)  # (48, 48) -> (62, 62): so that border pixels have windows too
for name, array in plain.items():
    print(f"{name:14} {array.shape}")

# %% [markdown]
# Three windows, and what the classifier makes of them. On the left the scene with the three windows
# framed; then each window, its middle pixel marked, above the probabilities of its classes.

# %%
middles = [(25, 36), (12, 21), (30, 9)]
figure = Figure(figsize=(8.5, 4.2), layout="constrained")
grid = figure.add_gridspec(2, 4, width_ratios=[2, 1, 1, 1])
whole = figure.add_subplot(grid[:, 0])
whole.imshow(image[0], cmap="gray", vmin=0, vmax=1)
whole.set(title="scene", xticks=[], yticks=[])
for column, (i, j) in enumerate(middles, 1):
    window = framed[i : i + 15, j : j + 15]
    frame(whole, i - 7, j - 7, 15, ORANGE)
    ax = figure.add_subplot(grid[0, column])
    ax.imshow(window, cmap="gray", vmin=0, vmax=1)
    frame(ax, 7, 7, 1, ORANGE)
    ax.set(xticks=[], yticks=[])
    ax.set_title(f"around ({i}, {j})", fontsize=10)
    ax = figure.add_subplot(grid[1, column])
    probability = F.softmax(classify(window[None, None], plain))[0]
    ax.barh(range(K), probability, color=BLUE)
    ax.set(xlim=(0, 1), xticks=[0, 1], ylim=(K - 0.4, -0.6))
    ax.set_yticks(range(K), NAMES if column == 1 else [""] * K, fontsize=8)
    ax.set_xlabel("probability", fontsize=9)
figure

# %% [markdown]
# Now for every pixel. First as it is said, one window after the other; then with all windows cut out
# beforehand and classified as one batch. The second is faster, because 2,304 windows share each call
# of a function, but it does the same work.

# %%
start = perf_counter()
slid = np.zeros((K, 48, 48))
for i in range(48):
    for j in range(48):
        window = framed[i : i + 15, j : j + 15]
        slid[:, i, j] = classify(window[None, None], plain)[0]
loop_seconds = perf_counter() - start

start = perf_counter()
windows = np.lib.stride_tricks.sliding_window_view(framed, (15, 15))  # (48, 48, 15, 15), a view
batch = windows.reshape(48 * 48, 1, 15, 15)  # here it is copied, every pixel up to 225 times
at_once = classify(batch, plain).T.reshape(K, 48, 48)  # (2304, 11) -> (11, 48, 48)
batch_seconds = perf_counter() - start

print(f"one window after the other {loop_seconds:.2f} s, one batch {batch_seconds:.2f} s")
assert np.abs(at_once - slid).max() < 1e-12

# %% [markdown]
# The picture: image, truth, the 2,304 answers, and the wrong ones in red.

# %%
plot.prediction_panel([image], [labels], [slid.argmax(axis=0)], NAMES)

# %% [markdown]
# Not bad for a start. But look at the foot of the "nine": seen through a window of 15 × 15 pixels it
# might belong to a "three" or a "five", and so it is called, in specks. Every pixel is classified on its
# own. It does not hear what its neighbours were called, and nothing further away than 7 pixels can
# help.
#
# **Your turn.** Cover part of the image, `image[0, :24] = 0`, and run the section again. Which labels
# below row 24 change, and down to which row? (Work it out first.)

# %% [markdown]
# ## 3. The last layers: dense is convolution
#
# *Needs section 2.*
#
# Convolutions slide over an image of any size. The dense layers do not: `dense1` is a matrix with one
# column for each of the 16 · 9 · 9 = 1,296 numbers that a 15 × 15 window leaves. *What about the last,
# fully connected layer?* No problem. One of its outputs is a sum over the whole map, each number times
# its weight,
#
# $$y_o = b_o + \sum_{c,u,v} w_{o,(c,u,v)} \, x_{c,u,v}$$
#
# and this is a convolution whose kernel is as large as the map, so that there is just one place for
# it. All it takes is to fold each row of the matrix into a kernel: `(24, 1296)` to `(24, 16, 9, 9)`.

# %%
maps = convolution(framed[None, None, 25:40, 36:51], plain, "conv1")  # one window
maps = convolution(convolution(maps, plain, "conv2"), plain, "conv3")  # (1, 16, 9, 9)
matrix, bias = plain["dense1.weight"], plain["dense1.bias"]  # (24, 1296), (24,)
kernels = matrix.reshape(24, 16, 9, 9)

by_hand = np.array([bias[o] + (kernels[o] * maps[0]).sum() for o in range(24)])
dense = F.linear(maps.reshape(1, -1), matrix, bias)  # (1, 24)
folded = F.conv2d(maps, kernels, bias)  # (1, 24, 1, 1)
print("dense", dense.shape, " convolution", folded.shape)
assert np.abs(dense[0] - by_hand).max() < 1e-12
assert np.abs(folded[0, :, 0, 0] - by_hand).max() < 1e-12

# %% [markdown]
# In the picture: one row of the matrix, 1,296 weights, folded into a kernel for 16 channels, 9 × 9
# each. Orange weights speak for this output, purple ones against it.

# %%
figure = Figure(figsize=(8.5, 2.6), layout="constrained")
axes = figure.subplots(2, 8)
limit = np.abs(kernels[3]).max()
for c, ax in enumerate(axes.flat):
    shown = ax.imshow(kernels[3, c], cmap="PuOr_r", vmin=-limit, vmax=limit)
    ax.set(xticks=[], yticks=[])
    ax.set_title(f"channel {c}", fontsize=9)
figure.colorbar(shown, ax=axes, label="weight")
figure

# %% [markdown]
# **Your turn.** The order of the folding matters: `reshape` undoes the flattening of `classify`,
# channels first. A framework that keeps channels last would flatten (9, 9, 16). Fold the matrix in that
# order: which error do you get? (None! The shapes fit. Only the numbers are wrong.)

# %%
channels_last = matrix.reshape(24, 9, 9, 16).transpose(0, 3, 1, 2)  # also (24, 16, 9, 9)
wrong = F.conv2d(maps, channels_last, bias)
assert wrong.shape == folded.shape
assert np.abs(wrong - folded).max() > 0.1

# %% [markdown]
# ### The second dense layer, and what a 1 × 1 convolution is
#
# `dense2` reads the 24 numbers of `dense1`. As a convolution it has 11 kernels of size 1 × 1 for 24
# channels. *What are 1 × 1 convolutions for?* They change the number of channels, by **the same dense
# layer at every pixel**: a product of a matrix with the channels, (O, C) × (C, H·W), exactly.

# %%
rng = np.random.default_rng([1, 2])
x = rng.integers(-9, 10, (1, 24, 5, 7))  # integers, so that equal means equal
w = rng.integers(-9, 10, (11, 24))
convolved = F.conv2d(x, w.reshape(11, 24, 1, 1))  # (1, 11, 5, 7)
per_pixel = w @ x.reshape(24, 5 * 7)  # (11, 24) x (24, 35) -> (11, 35)
assert (convolved.reshape(11, 35) == per_pixel).all()
assert (convolved[0, :, 2, 3] == F.linear(x[0, :, 2, 3], w)).all()  # any one pixel

# %% [markdown]
# ### Does this save weights?
#
# Count them, for the network that everybody converts: VGG16 ends in dense layers 25,088 → 4,096 →
# 4,096 → 1,000, called fc6, fc7 and fc8, after a map of 512 channels, 7 × 7.

# %%
fc6_dense, fc6_conv = parameters([Dense(4096)], 512, 7), parameters([Conv(4096, 7)], 512, 7)
fc8_dense, fc8_conv = parameters([Dense(1000)], 4096, 1), parameters([Conv(1000, 1)], 4096, 1)
print(f"fc6: dense {fc6_dense:,}, convolution {fc6_conv:,}")
print(f"fc8: dense {fc8_dense:,}, convolution {fc8_conv:,}")
assert fc6_dense == fc6_conv == 25088 * 4096 + 4096 == 102_764_544
assert fc8_dense == fc8_conv == 4096 * 1000 + 1000 == 4_097_000

trunk = []  # the 13 convolutions of VGG16, in five groups with a pooling after each
for channels, times in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
    trunk += [Conv(channels, 3, padding=1)] * times + [Pool(2)]
classifier = [*trunk, Dense(4096), Dense(4096), Dense(1000)]
convolutional = [*trunk, Conv(4096, 7), Conv(4096, 1), Conv(1000, 1)]
fcn = [*trunk, Conv(4096, 7), Conv(4096, 1), Conv(21, 1)]  # Pascal VOC's 21 classes
for name, layers in dict(classifier=classifier, convolutional=convolutional, fcn=fcn).items():
    print(f"VGG16, {name:14} {parameters(layers, 3, 224):>12,} weights and biases")
assert parameters(classifier, 3, 224) == parameters(convolutional, 3, 224) == 138_357_544
assert parameters(fcn, 3) == 134_346_581

# %% [markdown] tags=["erratum"]
# > **Check this against your slides.** (Slip.) Drake University, CS195 (2024), "FCN: Fully
# > Convolutional Network" says that removing the fully connected layer reduces the number of weights to
# > be learnt. Convolutionalization keeps every weight: fc6 has 102,764,544 as a matrix and as a 7 × 7
# > kernel. FCN-VGG16 has 134.35 M where VGG16 has 138.36 M for another reason: its last layer names 21
# > classes instead of 1,000. What is gained is not fewer weights, but any input size, and shared work.

# %% [markdown]
# ## 4. All windows at once
#
# *Needs section 2, and the idea of section 3.*
#
# Now all layers are convolutions. Give the network the whole image instead of a window, and every
# kernel slides, the folded dense layers too. Where a window gave one vector of 11 scores, there is now
# a map of them. Pixel (i, j) of this map is computed from the window at (i, j) and from nothing else,
# by the very same sums.


# %%
def fully_convolutional(images, w):
    """All windows at once: (N, 1, H, W) -> (N, 11, H - 14, W - 14)."""
    x = convolution(images, w, "conv1")  # (N, 8, H - 2, W - 2)
    x = convolution(x, w, "conv2")  # (N, 16, H - 4, W - 4)
    x = convolution(x, w, "conv3")  # (N, 16, H - 6, W - 6)
    x = F.relu(F.conv2d(x, w["dense1.weight"].reshape(24, 16, 9, 9), w["dense1.bias"]))
    return F.conv2d(x, w["dense2.weight"].reshape(K, 24, 1, 1), w["dense2.bias"])


start = perf_counter()
scores = fully_convolutional(framed[None, None], plain)  # (1, 11, 48, 48)
fcn_seconds = perf_counter() - start

difference = np.abs(scores[0] - slid).max()
print(f"largest difference to the sliding window: {difference:.1e}")
print(
    f"{loop_seconds:.3f} s window by window, {batch_seconds:.3f} s in a batch, {fcn_seconds:.3f} s"
)
assert scores.shape == (1, K, 48, 48)
assert difference < 1e-12

# %% [markdown]
# The picture says where the output pixels come from: two windows of the framed image, and the two
# output pixels which see just them. The windows overlap, and what they share is computed once.

# %%
figure = Figure(figsize=(8.0, 3.6), layout="constrained")
left_ax, right_ax = figure.subplots(1, 2, width_ratios=[62, 48])
left_ax.imshow(framed, cmap="gray", vmin=0, vmax=1)
left_ax.set_title("the image in its frame of zeros, 62 × 62", fontsize=11)
plot.show_labels(scores[0].argmax(axis=0), K, right_ax, title="the output's labels, 48 × 48")
for (i, j), color in (((30, 9), ORANGE), ((34, 14), BLUE)):
    frame(left_ax, i, j, 15, color)
    frame(right_ax, i, j, 1, color)
left_ax.set(xticks=[], yticks=[])
figure

# %% [markdown]
# How much work is shared? That can be counted, without a clock. Two floating-point operations for
# each weight at each place:

# %%
convolutions = [Conv(8, 3), Conv(16, 3), Conv(16, 3)]
one_window = flops([*convolutions, Dense(24), Dense(K)], in_channels=1, size=15)
whole_image = flops([*convolutions, Conv(24, 9), Conv(K, 1)], in_channels=1, size=62)
ratio = 48 * 48 * one_window / whole_image
print(f"2,304 windows: {48 * 48 * one_window / 1e6:,.0f} million operations")
print(f"all at once:   {whole_image / 1e6:,.0f} million, {ratio:.1f} times less")
assert ratio > 10

# %% [markdown]
# The clock gains more than that: cut out, every pixel is copied 225 times, and the maps of 2,304 windows
# are too large for the processor's caches. A window at a time fits, but then 2,304 times five layers
# have to be called.
#
# ### It can be trained on whole masks
#
# The sum of the losses of all windows is the loss of the map, void pixels left out of both. So instead
# of cutting out pixels, one trains on image and mask: same loss, same gradients, a tenth of the work.

# %%
pixels = batch.reshape(48 * 48, 1, 15, 15)
window_loss = F.cross_entropy(classify(pixels, plain), labels.reshape(-1))  # (2304, 11), (2304,)
map_loss = F.cross_entropy(scores, labels[None])  # (1, 11, 48, 48), (1, 48, 48)
print(f"window by window {window_loss:.12f}\nas one map       {map_loss:.12f}")
assert abs(window_loss - map_loss) < 1e-12

# %% [markdown]
# ## 5. Any input size
#
# *Needs sections 2 and 4.*
#
# A dense layer fixes the size of the input, a kernel does not. A window gives one pixel, so the
# classifier is still in there; a larger scene gives a larger map. Only what is smaller than a window is
# refused.

# %%
window = framed[25:40, 36:51][None, None]
assert fully_convolutional(window, plain).shape == (1, K, 1, 1)
assert (
    np.abs(fully_convolutional(window, plain)[:, :, 0, 0] - classify(window, plain)).max() < 1e-12
)
for H, W in ((15, 15), (16, 40), (62, 62), (200, 90)):
    assert fully_convolutional(np.zeros((1, 1, H, W)), plain).shape == (1, K, H - 14, W - 14)
try:
    classify(np.zeros((1, 1, 62, 62)), plain)
except ValueError as error:
    print("the classifier:", error)
try:
    fully_convolutional(np.zeros((1, 1, 14, 14)), plain)
except ValueError as error:
    print("all windows:   ", error)

# %% [markdown]
# In the picture: a scene three times as wide, and the labels that it gets from the network that learnt
# on 15 × 15 windows.

# %%
wide, _ = data.Digits("test", size=(48, 144))[13]
wide_scores = fully_convolutional(np.pad(wide[None], ((0, 0), (0, 0), (7, 7), (7, 7))), plain)
figure = Figure(figsize=(7.6, 4.3), layout="constrained")
axes = figure.subplots(2, 1)
axes[0].imshow(wide[0], cmap="gray", vmin=0, vmax=1)
axes[0].set(xticks=[], yticks=[])
plot.show_labels(wide_scores[0].argmax(axis=0), K, axes[1], class_names=NAMES)
figure

# %% [markdown]
# **Your turn.** Scenes of `data.Digits("test", size=192)` have four times as many pixels a side. How
# many times as long does the network take: two, four, or sixteen times?

# %% [markdown]
# ## 6. With pooling: every second window, and how to get all of them
#
# *Needs sections 2 and 4.*
#
# So far no pooling and no stride. But a classifier wants them: they let it see further with as few
# weights. Our second one-pixel classifier, `pooled`, has a 3 × 3 max pooling of stride 2 after its first
# convolution, sees 25 × 25 pixels, and has fewer weights than `plain`.

# %%
pooled = load("pooled")
for name, weights in dict(plain=plain, pooled=pooled).items():
    print(f"{name}: {sum(array.size for array in weights.values()):,} weights and biases")


def classify_pooled(windows, w):
    """Scores for the middle pixel of every window: (N, 1, 25, 25) -> (N, 11)."""
    x = convolution(windows, w, "conv1")  # (N, 8, 23, 23)
    x = F.max_pool2d(x, 3, stride=2)  # (N, 8, 11, 11)
    x = convolution(x, w, "conv2")  # (N, 16, 9, 9)
    x = convolution(x, w, "conv3")  # (N, 16, 7, 7)
    x = x.reshape(len(x), -1)  # (N, 784)
    x = F.relu(F.linear(x, w["dense1.weight"], w["dense1.bias"]))  # (N, 32)
    return F.linear(x, w["dense2.weight"], w["dense2.bias"])  # (N, 11)


framed_25 = np.pad(image[0], 12)  # (72, 72)
windows = np.lib.stride_tricks.sliding_window_view(framed_25, (25, 25)).reshape(-1, 1, 25, 25)
every_window = classify_pooled(windows, pooled).T.reshape(K, 48, 48)

# %% [markdown]
# Made convolutional, this network gives a map of 24 × 24, not 48 × 48. Pooling with stride 2 looks only
# at every second place; so what comes out are the windows that begin at even rows and columns, **every
# second window**, exactly.
#
# To get the others too, let the pooling move by 1. Now all its outputs are there, but the next kernel
# must still read every *second* of them, as it learnt to: spread its taps apart, with **dilation 2**, and
# likewise in all layers behind. The French name is *à trous*, with holes. No weight changes.


# %%
def pooled_everywhere(images, w, stride):
    """As trained, with stride 2: every second window. With stride 1, à trous: all of them."""
    dilation = 2 // stride  # what the pooling no longer skips, the kernels behind it must
    x = convolution(images, w, "conv1")
    x = F.max_pool2d(x, 3, stride=stride)
    x = convolution(x, w, "conv2", dilation=dilation)
    x = convolution(x, w, "conv3", dilation=dilation)
    kernels = w["dense1.weight"].reshape(32, 16, 7, 7)
    x = F.relu(F.conv2d(x, kernels, w["dense1.bias"], dilation=dilation))
    return F.conv2d(x, w["dense2.weight"].reshape(K, 32, 1, 1), w["dense2.bias"])


coarse = pooled_everywhere(framed_25[None, None], pooled, stride=2)[0]
fine = pooled_everywhere(framed_25[None, None], pooled, stride=1)[0]
print("stride 2:", coarse.shape, "  stride 1 and dilation 2:", fine.shape)
print(f"every second window: {np.abs(coarse - every_window[:, ::2, ::2]).max():.1e}")
print(f"all windows:         {np.abs(fine - every_window).max():.1e}")
assert np.abs(coarse - every_window[:, ::2, ::2]).max() < 1e-12
assert np.abs(fine - every_window).max() < 1e-12

# %% [markdown]
# The picture: truth, the network as it was trained (24 × 24, its pixels drawn twice as wide), the same
# weights à trous (48 × 48). With 25 × 25 pixels in sight, most of the "nine" is a "nine".

# %%
figure = Figure(figsize=(8.5, 3.2), layout="constrained")
axes = figure.subplots(1, 3)
plot.show_labels(labels, K, axes[0], title="truth, 48 × 48")
plot.show_labels(coarse.argmax(axis=0), K, axes[1], title="stride 2: 24 × 24")
plot.show_labels(fine.argmax(axis=0), K, axes[2], title="à trous: 48 × 48")
figure

# %% [markdown]
# Does it pay to see further? Over 20 test scenes, counted pixel by pixel:


# %%
def score(network, margin):
    """Confusion matrix of a network over the scenes, each framed by `margin` zeros."""
    confusion = ConfusionMatrix(K, class_names=NAMES)
    for scene, truth in scenes:
        scores = network(np.pad(scene, ((0, 0), (margin, margin), (margin, margin)))[None])
        confusion.update(truth, scores[0].argmax(axis=0))
    return confusion


small = score(lambda x: fully_convolutional(x, plain), 7)
large = score(lambda x: pooled_everywhere(x, pooled, stride=1), 12)
print(f"plain,  sees 15 x 15: mIoU {small.mean_iou():.3f}")
print(f"pooled, sees 25 x 25: mIoU {large.mean_iou():.3f}")
assert 0.5 < small.mean_iou() < large.mean_iou()

# %% [markdown]
# (One training of each: a difference of a few hundredths may be luck. Notebook 07 compares networks
# with more care. The U-Net of notebook 00 is above 0.9: it sees further still, and its last layers do
# see what neighbours were taken for.)
#
# ### Where the identity breaks: padding inside the network
#
# Everything above holds because no layer pads. Networks in practice do: `padding=1` keeps a 3 × 3
# convolution's map as large as its input. Then a window on its own has zeros around it in every layer,
# but the same window inside of an image has real neighbours. Let us give our three convolutions that
# padding, and compare the maps of one window with the same place in the maps of the whole image.


# %%
def features_same(x, w):
    """Three convolutions that keep the size: (N, 1, H, W) -> (N, 16, H, W)."""
    for name in ("conv1", "conv2", "conv3"):
        x = convolution(x, w, name, padding="same")
    return x


rows, columns = slice(25, 40), slice(36, 51)
alone = features_same(framed[None, None, rows, columns], plain)  # (1, 16, 15, 15)
inside = features_same(framed[None, None], plain)[:, :, rows, columns]  # the same place
gap = np.abs(alone - inside).max(axis=(0, 1))  # (15, 15), the worst of 16 channels

assert (gap[3:12, 3:12] < 1e-12).all()  # three layers reach in by three pixels, no further
assert gap[0].max() > 0.1
figure = Figure(figsize=(4.6, 3.6), layout="constrained")
ax = figure.subplots()
shown = ax.imshow(gap, cmap="Oranges")
frame(ax, 3, 3, 9, BLUE)
ax.set(xticks=[], yticks=[], title="alone minus inside")
figure.colorbar(shown, label="largest difference of a feature")
figure

# %% [markdown]
# The picture shows how far the two maps of this window are apart: nothing in the middle, framed in
# blue, but a ring of three pixels where the padding got in, one pixel per layer. A dense layer that
# reads all 15 × 15 numbers, ring included, gives other scores for a window than for its place in the
# image (its weights are random here: the question is only whether the two are equal):

# %%
rng = np.random.default_rng([1, 3])
dense = rng.standard_normal((K, 16 * 15 * 15)) / 60
from_window = F.linear(alone.reshape(1, -1), dense)[0]
maps = features_same(framed[None, None], plain)  # (1, 16, 62, 62)
from_image = F.conv2d(maps, dense.reshape(K, 16, 15, 15))[0, :, 25, 36]
print("largest difference of a score:", np.abs(from_window - from_image).max().round(2))
assert np.abs(from_window - from_image).max() > 0.01

# %% [markdown]
# So a fully convolutional network with padding is no sliding window; it is better off, for it sees real
# neighbours wherever there are some. It only means: train it on images, not on cut-out windows.
#
# **Your turn.** Where in the *image* does padding still do harm? Compare `features_same` of the scene
# with the same of the scene in a frame of its own reflection, `np.pad(image, ..., mode="reflect")`.

# %% [markdown]
# ## 7. The receptive field
#
# *Needs sections 2, 4 and 6; from "The formula" on, only the first cell.*
#
# What an output pixel depends on is its **receptive field**. Measure it by poking: change one pixel of
# the image, and see which scores move. Or the other way round, for one output and all pixels at once:
# where is the gradient of its score not zero?

# %%
poked = framed.copy()
poked[32, 43] += 1.0
moved = np.abs(fully_convolutional(poked[None, None], plain) - scores).max(axis=(0, 1))  # (48, 48)
rows, columns = np.nonzero(moved)
print(
    f"rows {rows.min()}..{rows.max()}, columns {columns.min()}..{columns.max()} of the output move"
)
assert rows.max() - rows.min() + 1 == columns.max() - columns.min() + 1 == 15

x = Tensor(framed[None, None], requires_grad=True)
fully_convolutional(x, plain)[0, 2, 25, 36].backward()  # the score of "one" at (25, 36)
pull = x.grad[0, 0]  # (62, 62)
assert (pull[25:40, 36:51] != 0).any()
pull_outside = pull.copy()
pull_outside[25:40, 36:51] = 0
assert (pull_outside == 0).all()  # not a single pixel outside of the window

x = Tensor(framed_25[None, None], requires_grad=True)
pooled_everywhere(x, pooled, stride=1)[0, 2, 25, 36].backward()
pull_pooled = x.grad[0, 0]  # (72, 72)

# %% [markdown]
# In the picture: what moves when one pixel is poked, and what pulls at the score of "one" at one output
# pixel, in the plain network and in the pooled one. The frames have 15, 15 and 25 pixels a side.
# Outside of them all is exactly 0.

# %%
figure = Figure(figsize=(8.5, 3.4), layout="constrained")
axes = figure.subplots(1, 3)
shown = axes[0].imshow(moved, cmap="Oranges", vmin=0)
frame(axes[0], 18, 29, 15, BLUE)
axes[0].set_title("scores that moved", fontsize=11)
figure.colorbar(shown, ax=axes[0], location="bottom", label="largest change of a score")
for ax, gradient, size, title in (
    (axes[1], pull, 15, "gradient, plain"),
    (axes[2], pull_pooled, 25, "gradient, pooled"),
):
    limit = np.abs(gradient).max()
    shown = ax.imshow(gradient, cmap="PuOr_r", vmin=-limit, vmax=limit)
    frame(ax, 25, 36, size, BLUE)
    ax.set_title(title, fontsize=11)
    figure.colorbar(shown, ax=ax, location="bottom", label="d score / d pixel")
for ax in axes:
    ax.set(xticks=[], yticks=[])
figure

# %% [markdown]
# ### The formula
#
# Walk through the layers. A kernel of size $k$ adds $k - 1$ taps to what is seen already; with dilation
# $d$ they lie $d$ apart; and each step between them counts as many pixels of the image as all strides
# before have multiplied up to:
#
# $$r = 1 + \sum_{l} d_l \,(k_l - 1) \prod_{m<l} s_m$$
#
# Pooling counts like a convolution: it too has a window and a stride. To hold the formula against a
# measurement that no ReLU and no maximum can disturb, we put kernels of ones everywhere. Then the
# gradient counts *in how many ways* a pixel reaches the output.


# %%
def paths(layers, n):
    """How many ways lead from each of n x n pixels to the middle of the output? And its size."""
    x = y = Tensor(np.zeros((1, 1, n, n)), requires_grad=True)
    for layer in layers:
        ones = np.ones((1, 1, layer.kernel_size, layer.kernel_size))
        y = F.conv2d(y, ones, None, layer.stride, layer.padding, layer.dilation)
    size = y.shape[2]
    middle = np.zeros(y.shape)
    middle[0, 0, size // 2, size // 2] = 1
    y.backward(middle)
    return x.grad[0, 0], size


conv = Conv(1, 3, padding=1)
stacks = {
    "three convolutions": [conv, conv, conv],
    "pooling after the first": [conv, Pool(3, 2, padding=1), conv, conv],
    "stride 2 in the first": [Conv(1, 3, stride=2, padding=1), conv, conv],
    "dilation 1, 2, 4": [Conv(1, 3, padding=d, dilation=d) for d in (1, 2, 4)],
}
measured = {}
print("                          formula   measured   output of a 32 x 32 image")
for name, layers in stacks.items():
    ways, size = measured[name] = paths(layers, 32)
    by_hand, stride = 1, 1
    for layer in layers:
        by_hand += layer.dilation * (layer.kernel_size - 1) * stride
        stride *= layer.stride
    seen = np.flatnonzero(ways.any(axis=1))
    reach = seen[-1] - seen[0] + 1
    print(f"{name:25} {by_hand:7} {reach:10} {size:10} x {size}")
    assert reach == by_hand == receptive_field(layers).size
    assert size == output_sizes(layers, 32)[-1]
    assert seen[0] == size // 2 * receptive_field(layers).stride + receptive_field(layers).offset

# %% [markdown]
# The picture: the four stacks, all of them with three 3 × 3 convolutions. Colour says in how many ways
# a pixel reaches the middle of the output, in parts of the most; the frame is the formula's.

# %%
figure = Figure(figsize=(8.5, 2.9), layout="constrained")
axes = figure.subplots(1, 4)
for ax, (name, (ways, size)) in zip(axes, measured.items(), strict=True):
    shown = ax.imshow(ways / ways.max(), cmap="Oranges", vmin=0, vmax=1)
    field = receptive_field(stacks[name])
    first = size // 2 * field.stride + field.offset
    frame(ax, first, first, field.size, BLUE)
    ax.set(xticks=[], yticks=[])
    ax.set_title(f"{name}\n{field.size} pixels", fontsize=10)
figure.colorbar(shown, ax=axes, location="bottom", label="ways to the output", fraction=0.08)
figure

# %% [markdown]
# Three things to see.
#
# - Pooling, stride and dilation all widen the field: 7 becomes 13, 11, 15, for no weight more.
# - Pooling and stride pay with resolution: 16 × 16 comes out, and somebody has to upsample it
#   (notebook 02a). Dilation does not: 32 × 32. (It pays with time.)
# - Not all pixels of the field count alike. Of three plain convolutions 49 ways lead from the pixel in
#   the middle, and one from a corner.

# %%
ways, _ = measured["three convolutions"]
assert ways.max() == ways[16, 16] == 49
assert ways[13, 13] == 1
sizes = {name: size for name, (_, size) in measured.items()}
assert sizes["pooling after the first"] == sizes["stride 2 in the first"] == 16
assert sizes["three convolutions"] == sizes["dilation 1, 2, 4"] == 32

# %% [markdown] tags=["erratum"]
# > **Check this against your slides.** (Simplification.) University of Waterloo, "Semantic
# > Segmentation" names pooling, stride and dilation together as operations that generally decrease the
# > output's resolution. Stride does, and pooling by its stride. Dilation does not: with padding
# > $d(k-1)/2$ the map stays as it is, and without padding it only loses its border. The same lecture's
# > slides on "DeepLab" say so.

# %%
x = np.ones((32, 32))
w = np.ones((3, 3))
assert F.conv2d(x, w, stride=2, padding=1).shape == (16, 16)
assert F.max_pool2d(x, 2).shape == (16, 16)
assert F.max_pool2d(x, 3, stride=1, padding=1).shape == (32, 32)  # pooling without stride
assert F.conv2d(x, w, padding=2, dilation=2).shape == (32, 32)
assert F.conv2d(x, w, dilation=2).shape == (28, 28)  # a border of 2, but one output per pixel

# %% [markdown]
# Our two classifiers by the same formula: as large as the windows they were trained on, of course, and
# à trous changes the stride, not the field.

# %%
assert receptive_field([Conv(8, 3), Conv(16, 3), Conv(16, 3), Conv(24, 9), Conv(K, 1)]).size == 15
tail = [Conv(16, 3), Conv(16, 3), Conv(32, 7), Conv(K, 1)]
with_holes = [Conv(16, 3, dilation=2), Conv(16, 3, dilation=2), Conv(32, 7, dilation=2), Conv(K, 1)]
assert receptive_field([Conv(8, 3), Pool(3, 2), *tail])[:2] == (25, 2)  # size, stride
assert receptive_field([Conv(8, 3), Pool(3, 1), *with_holes])[:2] == (25, 1)

# %% [markdown]
# **Your turn.** Three convolutions with dilation 2, 2, 2 instead of 1, 2, 4. The formula says 13. Which
# of the 13 × 13 pixels are really seen? (Draw `paths`. A quarter of them; notebook 08 is about the
# others.)

# %%
ways, _ = paths([Conv(1, 3, padding=2, dilation=2)] * 3, 32)
assert receptive_field([Conv(1, 3, padding=2, dilation=2)] * 3).size == 13
assert (ways > 0).sum() == 7 * 7  # of 13 * 13

# %% [markdown]
# ## Three questions
#
# 1. A classifier for 224 × 224 images has three poolings of stride 2 and no padding. You run its
#    convolutional form on a 232 × 232 image. How many outputs do you get, and which windows are they?
# 2. Why does the map of scores from section 4, trained on whole masks, still classify every pixel on its
#    own? What would have to change so that pixels hear of their neighbours' labels?
# 3. Two 3 × 3 convolutions and one 5 × 5 see equally far. Which has fewer weights, with C channels in
#    and out of every layer?
#
# <details><summary>Answers</summary>
#
# 1. 2 × 2 outputs: the total stride is 8, so the windows begin at 0 and 8 in either direction.
# 2. Each score depends on its window of the *image* alone, whatever the loss. Further layers on top of the
#    scores, or maps at several resolutions that see more (U-Net), let labels agree with each other.
# 3. Two 3 × 3: 18 C² against 25 C². And there is a ReLU in between.
#
# </details>
#
# **Next:** the exercises `conv2d`, `convolutionalize` and `receptive_field`; then notebook 02a, where
# the coarse map of section 6 becomes large again.
#
# `python3 start.py exercises` copies the exercises to `minseg_work/exercises/`; `check` with a name says
# what is right, and of a wrong answer what it is. In a notebook: `from minseg.grading import check`.
