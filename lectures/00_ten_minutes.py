# %% [markdown]
# # 00 Ten minutes: from numbers to labels
#
# 10 minutes of reading, 5 seconds of running; reads `minseg/segmenter.py`, `minseg/loops.py`,
# `minseg/windows.py`; needs no other notebook.
#
# Semantic segmentation gives *every pixel* of an image the name of what it shows. After these ten
# minutes you have
#
# - seen an image and its labels for what they are: two arrays of numbers;
# - let a trained network label scenes that it never saw, and looked at its mistakes;
# - done by hand the operation that such a network repeats, and predicted the size of its output.
#
# Follows all five lectures, most closely Drake University, CS195 (2024), "Semantic Segmentation"
# and "FCN: Upsampling via Transposed Convolution Operation" (its typical 3 × 3 convolution), and
# University of Waterloo, "Fully-supervised Semantic Segmentation".
#
# | on the slides | here | what it is |
# |---|---|---|
# | RGB image | `image`, (C, H, W) | numbers from 0 to 1; C = 3 channels for colour, 1 for grey |
# | target, ground truth, GT mask | `labels`, (H, W) | the class of every pixel; 255 is void |
# | number of classes | `num_classes` | background counts too: here 11 |
# | $X$, $K$, $Y$ | `x`, `w`, `y` | a plane of numbers, a kernel, and what comes out |
# | stride, padding | `stride`, `padding` | $s$ and $p$, in pixels |
#
# Run the cells from top to bottom (Shift+Enter), then change something and run them again. Sections
# 3 and 4 need only this first cell.

# %%
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import minseg.functional as F
from minseg import data, loops, plot, segmenter
from minseg.train import evaluate

HERE = Path(__file__).parent if "__file__" in globals() else Path.cwd()

# %% [markdown]
# ## 1. An image is numbers, and so are its labels
#
# Our scenes hold one to three **real handwritten digits** on noisy paper, 48 × 48 pixels, grey. There
# are 11 classes: 0 is the background, 1 is "zero", 2 is "one", and so on up to 10, "nine".

# %%
scenes = data.build("digits", "test", length=40)  # no digit in them was used in training
image, labels = scenes[5]

print("image ", image.shape, image.dtype, "from", image.min(), "to", image.max())
print("labels", labels.shape, labels.dtype, "with the values", np.unique(labels).tolist())
assert image.shape == (1, 48, 48)
assert labels.shape == (48, 48)

# %% [markdown]
# In the picture: the scene with a "one", a "two" and a "six", and its labels in colours. The orange
# frame marks what the next picture shows from close by.

# %%
top, left, height, width = 12, 23, 9, 14
figure = Figure(figsize=(8.0, 3.3), layout="constrained")
left_ax, right_ax = figure.subplots(1, 2)
left_ax.imshow(image[0], cmap="gray", vmin=0, vmax=1)
left_ax.set_title("image", fontsize=11)
left_ax.set(xticks=[], yticks=[])
plot.show_labels(labels, 11, right_ax, class_names=scenes.class_names, title="labels")
for ax in (left_ax, right_ax):
    frame = Rectangle((left - 0.5, top - 0.5), width, height, fill=False)
    ax.add_patch(frame).set(edgecolor="#ff7f0e", linewidth=2)
figure

# %% [markdown]
# From close by: on top the grey values inside the frame, below them the labels of the same pixels.
# The stroke on the left is the "one", class 2; on the right begins the "two", class 3.

# %%
close = np.s_[top : top + height, left : left + width]
figure = Figure(figsize=(8.5, 7.4), layout="constrained")
upper, lower = figure.subplots(2, 1)
plot.matrix(image[0][close].round(2), upper, title="image: how bright?")
names = np.where(labels == 255, "void", labels.astype(str)).astype(object)
plot.matrix(labels[close] % 255, lower, title="labels: which class?")
for text, name in zip(lower.texts, names[close].ravel(), strict=True):
    text.set_text(name)
figure

# %% [markdown]
# Two things to notice.
#
# - A stroke of the "one" and a stroke of the "two" are equally bright. No threshold on grey values
#   can tell them apart: the answer for a pixel lies in its **neighbourhood**.
# - At the soft edge of the ink nobody can say where the digit ends. These pixels are **void**, 255:
#   they teach nothing in training, and no score counts them.

# %%
ones, twos = image[0][labels == 2], image[0][labels == 3]
print(f"brightness of 'one': {ones.mean():.2f}, of 'two': {twos.mean():.2f}")
assert abs(ones.mean() - twos.mean()) < 0.1  # one class of ink is as bright as the other
print(f"{(labels == 0).mean():.0%} background, {(labels == 255).mean():.0%} void")
assert (labels == 0).mean() > 0.8

# %% [markdown]
# **Your turn.** How many pixels would be right if you answered "background" everywhere? Notebook 04
# is about scores that do not fall for this.

# %% [markdown]
# ## 2. A network labels them
#
# A U-Net, trained for 2,000 steps on other digits (`python3 start.py demo` does the same before your
# eyes). It turns an image into **scores**: 11 numbers for every pixel, one per class. The label is the
# class with the highest score: `argmax`.

# %%
network, record, _ = segmenter.load(HERE / "weights" / "unet-digits.npz")
scores = network.eval()(image[None]).numpy()  # a batch of one: (1, C, H, W) -> (1, K, H, W)
label_by_hand = scores[0].argmax(axis=0)  # (K, H, W) -> (H, W)

print("image", image[None].shape, "-> scores", scores.shape, "-> labels", label_by_hand.shape)
assert scores.shape == (1, 11, 48, 48)
assert (label_by_hand == network.predict(image[None])[0]).all()

row, column = 15, 24  # a pixel of the "one"
for k in np.argsort(scores[0, :, row, column])[::-1][:3]:
    print(f"pixel ({row}, {column}): {network.class_names[k]:>10} {scores[0, k, row, column]:6.1f}")
assert network.class_names[label_by_hand[row, column]] == "one"

# %% [markdown]
# Three scenes, one in each row: image, truth, what the network says, and its errors in red. The
# first two are nearly perfect; in the third it takes a "nine" for a "three", all but a few pixels of
# it. (Look at the image: would you have known?)

# %%
chosen = [5, 8, 24]
images, truths = zip(*(scenes[n] for n in chosen), strict=True)
predictions = network.predict(np.stack(images))
plot.prediction_panel(images, truths, predictions, scenes.class_names)

# %% [markdown]
# Over 40 test scenes, counted pixel by pixel (void left out): the share of pixels that are right, and
# the mean over the classes of intersection over union, **mIoU**, which background cannot make look
# good.

# %%
matrix = evaluate(network, scenes)
print(f"pixel accuracy {matrix.pixel_accuracy():.3f}")
print(f"mean IoU       {matrix.mean_iou():.3f}")
assert matrix.pixel_accuracy() > 0.99
assert 0.90 < matrix.mean_iou() < matrix.pixel_accuracy()

# %% [markdown]
# **Your turn.** Show the network what it was never taught: `image[:, ::-1, ::-1]` is the scene turned
# round; what is the "six" now? And `1 - image`, dark ink on bright paper: one class nearly fills the
# picture. Which one, and can you blame it?

# %% [markdown]
# ## 3. One convolution by hand
#
# All a U-Net does, some dozen times over, is this: lay a small **kernel** on the image, multiply what
# lies on top of each other, add up, write one number down, move on by one pixel. Drake's slide shows
# it for a 3 × 3 kernel, stride 1, padding 1, on a 4 × 4 image:
#
# $$y_{i,j} = \sum_{u=0}^{2} \sum_{v=0}^{2} w_{u,v} \; x_{i+u-1,\; j+v-1}$$
#
# where pixels outside of the image are 0: that is the padding. As a loop:

# %%
x = np.arange(16).reshape(4, 4)
w = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])  # what lies right minus what lies left

framed = np.pad(x, 1)  # (4, 4) -> (6, 6): a border of zeros
y = np.zeros((4, 4), int)
for i in range(4):
    for j in range(4):
        y[i, j] = (framed[i : i + 3, j : j + 3] * w).sum()

# %% [markdown]
# In the picture: the image in its border of zeros, with the kernel's first window framed; the
# kernel; the output, with the number that comes from this window.

# %%
figure = Figure(figsize=(8.5, 2.9), layout="constrained")
axes = figure.subplots(1, 3, width_ratios=[6, 3, 4])
plot.matrix(framed, axes[0], title="x, padding 1", highlight=(0, 0, 3, 3))
plot.matrix(w, axes[1], title="kernel w")
plot.matrix(y, axes[2], title="y", highlight=(0, 0, 1, 1))
figure

# %% [markdown]
# The framed window gives $2 \cdot 1 + 1 \cdot 5 = 7$; all its other products are 0. Inside, every
# output is 8: $x$ is an even slope, the right neighbour is by 2 larger than the left one, and
# $1 + 2 + 1$ times 2 is 8. The large negative numbers on the right are a cliff that is not in the
# image: there the padding begins.
#
# The library has this twice: as loops, to be read (`minseg/loops.py`), and fast, to be used
# (`minseg.functional`). Three ways, one answer:

# %%
assert y[0, 0] == 7
assert (y[1:3, 1:3] == 8).all()
assert (loops.conv2d(x, w, padding=1) == y).all()
assert (F.conv2d(x, w, padding=1) == y).all()
assert F.conv2d(x, w, padding=1).shape == (4, 4)  # 4x4 -> 4x4, as on the slide

# %% [markdown]
# The same kernel on our scene finds upright edges; the picture shows the scene and the answer, orange
# (above zero) where ink begins and purple (below zero) where it ends. Nobody chooses the kernels of a
# U-Net: training finds them, thousands of them. (They also add up over all channels of their input,
# and between two convolutions negative numbers become 0: ReLU.)

# %%
edges = F.conv2d(image[0].astype(float), w.astype(float), padding=1)
figure = Figure(figsize=(7.0, 3.2), layout="constrained")
axes = figure.subplots(1, 2)
axes[0].imshow(image[0], cmap="gray", vmin=0, vmax=1)
shown = axes[1].imshow(edges, cmap="PuOr_r", vmin=-4, vmax=4)
figure.colorbar(shown, ax=axes[1], label="y", shrink=0.9)
for ax, title in zip(axes, ("x", "y = conv2d(x, w, padding=1)"), strict=True):
    ax.set_title(title, fontsize=11)
    ax.set(xticks=[], yticks=[])
figure

# %% [markdown]
# **Your turn.** Take the kernel `[[0, 0, 0], [0, 0, 1], [0, 0, 0]]` and, before you run it, say where
# the image goes: to the left or to the right?

# %%
shift = np.array([[0, 0, 0], [0, 0, 1], [0, 0, 0]])
shifted = F.conv2d(x, shift, padding=1)
assert (shifted[:, :3] == x[:, 1:]).all()  # to the left: y[i, j] is its neighbour x[i, j + 1]
assert (shifted[:, 3] == 0).all()  # and the padding comes in

# %% [markdown]
# ## 4. How large is the output?
#
# The question that is asked most often about convolutions has a one-line answer. Along one axis of
# $n$ pixels, with padding $p$ on both sides, a kernel of size $k$, stride $s$ (by how many pixels it
# moves on) and dilation $d$ (how far its taps lie apart; 1 is the usual kernel):
#
# $$\left\lfloor \frac{n + 2p - d(k-1) - 1}{s} \right\rfloor + 1$$
#
# In words: the first window needs $d(k-1)+1$ pixels; of what remains, every $s$-th pixel gives one
# more window. The picture: every window of a 3-tap kernel on a line of 7 pixels; in the middle with
# stride 2 and a pixel of padding on either side, on the right with dilation 2.


# %%
def draw_windows(ax, n, kernel_size, stride=1, padding=0, dilation=1):
    """The pixels, and below them a line for each window: a square at every pixel that it reads."""
    count = F.output_size(n, kernel_size, stride, padding, dilation)
    for pixel in range(-padding, n + padding):
        inside = 0 <= pixel < n
        color, text = ("#dddddd", "black") if inside else ("white", "#888888")
        ax.add_patch(Rectangle((pixel - 0.5, -0.45), 1, 0.9, facecolor=color, edgecolor="#888888"))
        ax.text(pixel, 0, pixel if inside else 0, ha="center", va="center", color=text)
    for window in range(count):
        taps = [window * stride - padding + dilation * u for u in range(kernel_size)]
        ax.plot([taps[0], taps[-1]], [-1 - window] * 2, color="#0072c3", linewidth=1)
        ax.plot(taps, [-1 - window] * kernel_size, "s", color="#0072c3", markersize=9)
    ax.set(xlim=(-1.7, n + 0.7), ylim=(-5.6, 0.8))
    ax.set_axis_off()
    ax.set_title(
        f"k={kernel_size}, s={stride}, p={padding}, d={dilation}: {count} windows", fontsize=11
    )


figure = Figure(figsize=(8.5, 2.5), layout="constrained")
axes = figure.subplots(1, 3)
draw_windows(axes[0], 7, 3)
draw_windows(axes[1], 7, 3, stride=2, padding=1)
draw_windows(axes[2], 7, 3, dilation=2)
figure

# %% [markdown]
# `output_size` is that line of code. Held against the shapes of real convolutions, for every kernel,
# stride, padding and dilation up to 4 that fits:

# %%
checked = 0
for k, s, p, d in np.ndindex(4, 4, 4, 4):
    k, s, d = k + 1, s + 1, d + 1
    if d * (k - 1) + 1 <= 9 + 2 * p:
        y = F.conv2d(np.ones((9, 9)), np.ones((k, k)), stride=s, padding=p, dilation=d)
        assert y.shape == (F.output_size(9, k, s, p, d),) * 2
        checked += 1
print(checked, "convolutions, all of the predicted size")

assert F.output_size(4, kernel_size=3, padding=1) == 4  # the slide's
assert F.output_size(48, kernel_size=3, padding=1) == 48  # a U-Net's convolutions keep the size,
assert F.output_size(48, kernel_size=2, stride=2) == 24  # and its poolings halve it

# %% [markdown]
# **Your turn.** An image of 200 pixels goes through five poolings (`kernel_size=2, stride=2`). Which
# sizes appear, and what is lost on the way? (`output_size` five times. Notebook 07 brings them back.)

# %% [markdown]
# ## Three questions
#
# 1. Why is an image's label array (H, W) and not (K, H, W), although the network's scores are (K, H, W)?
# 2. Which padding keeps the size for a 5 × 5 kernel at stride 1? And for a 3 × 3 kernel with dilation 2?
# 3. Why can no padding keep the size for a 2 × 2 kernel at stride 1, if both sides get the same?
#
# <details><summary>Answers</summary>
#
# 1. A pixel has exactly one class, so one number says it; before `argmax` the network weighs all K.
# 2. Keeping the size at stride 1 means $2p = d(k-1)$: $p = 2$, in both cases. They reach equally far.
# 3. $2p = d(k-1) = 1$ has no whole solution; one side would need one pixel more than the other.
#
# </details>
#
# **Next:** the exercise `output_size` (one line, three minutes); then notebook 01, where a network
# that knows one label per image learns to give one to every pixel.
#
# `python3 start.py exercises` copies the exercises to `minseg_work/exercises/`; `check` with a name says
# what is right, and of a wrong answer what it is. In a notebook: `from minseg.grading import check`.
