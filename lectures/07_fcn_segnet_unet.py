# %% [markdown]
# # 07 FCN, SegNet, U-Net: three ways back to full resolution
#
# 40 minutes of reading, 10 seconds of running; reads `minseg/models/`, `minseg/anatomy.py`,
# `minseg/functional/pool.py`; needs 02a (upsampling), and for the scores 04 (mean IoU).
#
# A classifier's last map is 32 times coarser than the image. At the end of this notebook you can
#
# - build the skip ladder FCN-32s, 16s, 8s, follow 200 pixels through the real FCN and back, and
#   derive its five mysterious crops: 19, 5, 27, 9, 31;
# - say what SegNet's pooling indices keep, what they cost, and what they forget;
# - say which image sizes the paper's U-Net accepts, and why concatenating can do all that adding can.
#
# Follows: Drake University, CS195 (2024), "Popular CNNs for Semantic Segmentation" and the slides
# named FCN, SegNet; Deep Learning for Vision (2024-2025), "FCN, U-Net"; ENSTA Paris, CSC_5RO13,
# "Skip connections", "SegNet", "U-Net"; Bonn, Lab CudaVision MA-INF 4308 (2023), "Problem with FCN",
# "U-Net and Skip Connections"; University of Waterloo, "Semantic Segmentation", "Upsampling using
# skip connections", "Skip connections: concatenation".
#
# | on the slides | here | what it is |
# |---|---|---|
# | FCN-32s, FCN-16s, FCN-8s | `skips=0`, `1`, `2` | scores of so many finer maps are added |
# | max stride, 32 | `stride`, `S`; 8, 4, 2 in our small nets | image pixels per pixel of a map |
# | NUM_OF_CLASSES, 21 | `K` | classes, background included |
# | pooling indices, remembered locations | `indices` | row × width + column of each maximum |
# | $M$, $N$, $M+N$ | channels of the two maps that `F.cat` joins | decoder and encoder |
#
# Each section says which others it needs, after this cell. `LIVE = True` trains the networks of
# section 8 before your eyes (about five minutes on two cores) instead of reading their weights.

# %%
import runpy
from fractions import Fraction
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import minseg.functional as F
from minseg import Tensor, anatomy, classics, data, models, no_grad, plot, segmenter
from minseg.anatomy import BatchNorm, Conv, Crop, Pool, Transposed, Unpool
from minseg.metrics import ConfusionMatrix
from minseg.nn import Parameter
from minseg.optim import Adam
from minseg.train import evaluate

LIVE = False
HERE = Path(__file__).parent if "__file__" in globals() else Path.cwd()
BLUE, ORANGE, GREY = "#0072c3", "#d27800", "#767676"
VOID = 255


def network(name):
    """One of the five networks of section 8, a trained Segmenter, and its record."""
    if LIVE and name not in trained:
        train_one = runpy.run_path(str(HERE / "weights" / "make_comparison.py"))["train_one"]
        print(f"training {name} ...", flush=True)
        trained[name] = train_one(name)
    loaded, record, _ = segmenter.load(HERE / "weights" / f"compare-{name}.npz")
    return trained.get(name, loaded), record


trained = {}  # what was trained live


def label_row(pictures, K, size, class_names=None):
    """Label images in a row, each under its title; with class_names a legend of what occurs."""
    figure = Figure(figsize=size, layout="constrained")
    for ax, (title, labels) in zip(
        figure.subplots(1, len(pictures)), pictures.items(), strict=True
    ):
        plot.show_labels(labels, K, ax, title=title)
    if class_names is not None:
        occurs = np.unique(np.concatenate([labels.ravel() for labels in pictures.values()]))
        colors = plot.class_colors(K) / 255
        for k in occurs[occurs < K]:
            ax.plot([], [], "s", color=colors[k], markersize=8, label=class_names[k])
        if VOID in occurs:
            ax.plot([], [], "s", color="#a0a0a0", markersize=8, label="void (striped)")
        figure.legend(loc="outside lower center", ncols=len(occurs), frameon=False, fontsize=9)
    return figure


# %% [markdown]
# ## 1. What the stride costs
#
# *Slides: "Downsampling = information loss. How to improve the results?", Deep Learning for Vision;
# "Problem with FCN", Bonn.*
#
# Suppose a network were perfect, but had to answer on a coarse map: one cell for every f × f pixels,
# and in it the share of each class. Then the map is upsampled bilinearly and each pixel takes the
# class with the largest score. No network is trained, the truth itself plays the network; such a
# player is called an **oracle**. What does it lose?
#
# $$\hat y = \arg\max_k\; \mathrm{bilinear}_f\big(\mathrm{mean}_{f\times f}\, [\,y = k\,]\big)$$
#
# The picture: a scene of shapes as labelled, and as the oracle gives it back at f = 4, 8 and 16.
# At 8 the ring is a dot and the triangle has lost its corners, at 16 one disk is left.


# %%
def one_hot(labels, K):
    """[y = k], nothing where void: (N, H, W) -> (N, K, H, W)."""
    return (labels[:, None] == np.arange(K)[:, None, None]).astype(np.float32)


def bilinear(scores, f):
    return F.interpolate(scores, scale_factor=f, mode="bilinear", align_corners=False)


def oracle(labels, K, f):
    """Labels as they come back from the grid of stride f: (N, H, W) -> (N, H, W)."""
    coarse = F.avg_pool2d(one_hot(labels, K), f)  # (N, K, H/f, W/f)
    return bilinear(coarse, f).argmax(axis=1)


scenes = {"shapes": data.Shapes("test"), "digits": data.Digits("test", length=100)}
truths = {name: np.stack([labels for _, labels in scenes[name]]) for name in scenes}

SCENE = 3
truth = truths["shapes"][SCENE : SCENE + 1]
pictures = {"truth": truth[0]} | {f"f = {f}": oracle(truth, 5, f)[0] for f in (4, 8, 16)}
label_row(pictures, 5, (8.5, 2.7), scenes["shapes"].class_names)

# %% [markdown]
# The table, over 100 test scenes of each kind; void pixels count nowhere, as always.

# %%
STRIDES = (2, 4, 8, 16)


def score(truth, prediction, K):
    matrix = ConfusionMatrix(K)
    matrix.update(truth, prediction)
    return matrix


bound = {}
print(f"{'mean IoU of the oracle':<24}" + "".join(f"{f'f = {f}':>9}" for f in STRIDES))
for name, labels in truths.items():
    K = scenes[name].num_classes
    for f in STRIDES:
        bound[name, f] = score(labels, oracle(labels, K, f), K).mean_iou()
    print(f"{name:<24}" + "".join(f"{bound[name, f]:9.3f}" for f in STRIDES))

for name in truths:  # each doubling costs more than the one before
    assert 1 >= bound[name, 2] > bound[name, 4] > bound[name, 8] > bound[name, 16]
assert bound["shapes", 4] > 0.98
assert 0.75 < bound["shapes", 8] < 0.88
assert bound["shapes", 16] < 0.5

# %% [markdown]
# On the shapes stride 2 is free and stride 4 nearly so. At stride 8 a fifth of the score is gone
# before any network has made any mistake. The digits suffer more, since a pen stroke is a few
# pixels wide: of the 8 × 8 cells with ink in them, three in ten hold more ink than paper. It is the size
# of things *in cells* that counts.
#
# **Is it a bound?** It is often called one, so let us try to break it. Keep the grid, keep the bilinear
# upsampling, but do not fill the cells with shares: let them be *any* numbers, and look for the best
# ones by gradient descent, scene by scene, with the truth in view.

# %%
FEW, f, K = 20, 8, 5
labels = truths["shapes"][:FEW]
free = Parameter(20 * F.avg_pool2d(one_hot(labels, K), f))  # begins at the oracle's map
optimizer = Adam([free], lr=1.0)
for _ in range(60):
    loss = F.cross_entropy(bilinear(free, f), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

with_shares = score(labels, oracle(labels, K, f), K).mean_iou()
with_any_numbers = score(labels, bilinear(free.data, f).argmax(axis=1), K).mean_iou()
print(f"stride {f}, shares: {with_shares:.3f}; any numbers: {with_any_numbers:.3f}")
assert with_any_numbers > with_shares + 0.1
assert with_any_numbers > 0.93

# %% [markdown]
# So a grid of stride 8 *can* hold borders finer than its cells: where two scores cross, between two
# cell centres, is a real number, and the free map moves the crossing by raising one score. What
# stride takes away is not the border but the *evidence* for it: a network must still know, eight pixels
# apart, where inside the cell the border runs. The oracle says what "the right shares and no more" is
# worth. Remember the 0.41 of the digits at stride 8; in section 8 a network beats it.
#
# **Your turn.** Set `f = 16` in the last cell. Then give the free map 600 steps instead of 60.

# %% [markdown]
# ## 2. The skip ladder
#
# *Slides: "Upsampling using skip connections", Waterloo; "Combine multi-scale predictions to refine",
# Deep Learning for Vision; "FCN semantic segmentation results", Drake. Needs: nothing before.*
#
# In words: score the coarsest map with a 1 × 1 convolution. Double the scores. Score the next finer map
# too, and **add**. Double, add, ... then upsample what is left in one go. Adding needs as many
# channels on either side, so it is *scores*, K channels, that are added, never features.
#
# Our small FCN has three poolings, so its ladder has strides 8, 4, 2 where the paper's has 32, 16, 8.
# Here it goes rung by rung, with the parts of a trained one, on a scene of digits:

# %%
fcn, _ = network("fcn-skips-2")
fcn.eval()
digits = data.Digits("test")
image, truth = digits[9]  # (1, 48, 48) and (48, 48)
K = len(fcn.class_names)

net = fcn.network
with no_grad():
    x = Tensor((image[None] - fcn.mean) / fcn.std)  # (1, 1, 48, 48)
    maps = []
    for number, block in enumerate(net.encoder):
        x = block(x if number == 0 else F.max_pool2d(x, 2))
        maps.append(x)  # strides 1, 2, 4, 8
    at_8 = net.score[0](maps[3])
    at_4 = net.up[0](at_8) + net.score[1](maps[2])
    at_2 = net.up[1](at_4) + net.score[2](maps[1])
    at_1 = net.up[2](at_2)
    same = fcn(Tensor(image[None]))

for name, part in {"features at 8": maps[3], "scores at 8": at_8, "+ 4": at_4, "+ 2": at_2}.items():
    print(f"{name:<14} {part.shape}")
assert at_8.shape == (1, K, 6, 6)
assert np.allclose(at_1.numpy(), same.numpy(), atol=1e-5)  # the library's FCN is these lines

# %% [markdown]
# The picture: the winning class at every rung. The coarse scores know *what*, in 6 × 6 cells; each
# skip brings *where*. (The scores of a lower rung are meant to be added to, so by themselves they
# need not look good.)

# %%
rungs = {"stride 8": at_8, "+ stride 4": at_4, "+ stride 2": at_2, "upsampled": at_1}
winners = {title: rung.numpy()[0].argmax(axis=0) for title, rung in rungs.items()}
label_row({"truth": truth} | winners, K, (8.5, 2.3), digits.class_names)

# %% [markdown]
# Each rung is worth something. Three networks, trained alike on the digits, with 0, 1 and 2 skips,
# on the same scene. The picture: the truth, and what each network makes of it; the strokes get
# their edges back from left to right.

# %%
LADDER = ("fcn-skips-0", "fcn-skips-1", "fcn-skips-2")
views = {"truth": truth}
for name, stride in zip(LADDER, (8, 4, 2), strict=True):
    views[f"stride {stride}"] = network(name)[0].predict(image[None])[0]
label_row(views, K, (8.5, 2.7), digits.class_names)

# %%
ladder = [evaluate(network(name)[0], digits).mean_iou() for name in LADDER]
print("mean IoU with 0, 1, 2 skips: " + ", ".join(f"{value:.3f}" for value in ladder))
assert ladder[0] < ladder[2]

# %% [markdown]
# The paper's own ladder, on a part of Pascal VOC 2011's validation set, as two of the decks quote it
# (we cannot recompute it): pixel accuracy 89.1, 90.0, 90.3 and mean IoU 59.4, 62.4, 62.7 for FCN-32s,
# 16s, 8s. The first skip brings most, there as in many other places; and accuracy hardly moves, since
# borders are few pixels.

# %% [markdown] tags=["erratum"]
# > **Check this against your slides.** ENSTA Paris, CSC_5RO13, "FCNSeg": there the network *ends with a
# > large transposed convolution which produces a coarse map, which is then upsampled*. In the paper and
# > in the code it is the other way round: a **1 × 1 convolution** makes the coarse map of scores, and the
# > **transposed convolution upsamples it**. Above: `net.score[0]` gives 6 × 6, `net.up` makes it larger.
# > (A slip.)

# %%
last_two = [*classics.fcn("vgg16", padding=100), Transposed(21, 64, 32, bias=False)][-2:]
assert last_two[0] == Conv(21, (1, 1))
assert anatomy.output_sizes(last_two, 7) == [
    7,
    256,
]  # coarse after the 1x1 convolution, large after the transposed one

# %% [markdown] tags=["erratum"]
# > **Check this against your slides.** ENSTA Paris, CSC_5RO13, the bibliography: FCN's entry has the
# > authors in the order of the *journal* version (PAMI, 2017) and the venue of the *conference* version
# > (CVPR, 2015), whose order is another. Two papers of one title; the networks and tables here are those
# > of 2015. (A slip.)

# %% [markdown]
# ## 3. 200 × 200 through the real FCN, and back
#
# *Slide: "FCN: Fully Convolutional Network", Drake: how do 200 × 200 × 3 become 200 × 200 ×
# NUM_OF_CLASSES? Needs: nothing before.*
#
# `minseg.anatomy` knows a network as a list of layers and does arithmetic with it; no weight is ever
# allocated (FCN-VGG16 would have half a gigabyte of them). The loop first: every map's side from
# floor((n + 2p − k)/s) + 1, rounded up where Caffe's poolings do, and for the last layer
# (n − 1)s + k.

# %%
full = [*classics.fcn("vgg16", padding=100), Transposed(21, 64, 32, bias=False)]

n, by_hand = 200, []
for layer in full:
    if isinstance(layer, Pool):
        n = -(-n // 2)  # 2x2, stride 2, rounded up
    elif isinstance(layer, Transposed):
        n = (n - 1) * layer.stride + layer.kernel_size
    else:
        k = layer.kernel_size if isinstance(layer.kernel_size, int) else layer.kernel_size[0]
        n = n + 2 * layer.padding - k + 1
    by_hand.append(n)

assert by_hand == anatomy.output_sizes(full, 200)
steps = list(dict.fromkeys(by_hand))
print(" -> ".join(map(str, [200, *steps])))
assert steps == [398, 199, 100, 50, 25, 13, 7, 256]

# %% [markdown]
# The very first convolution has **padding 100**: 200 becomes 398, not 200. Then five poolings, the 7 × 7
# convolution that once was a dense layer (13 → 7), and ×32 back: 256, from which rows and columns
# 19 to 218 are kept. Why the 100? The 7 × 7 kernel needs a map of 7 cells, 7 · 32 = 224 pixels or a
# few less. Without the padding, smaller images fall through the network's floor:


# %%
def goes_through(layers, n):
    try:
        anatomy.output_sizes(layers, n)
    except ValueError:
        return False
    return True


unpadded = classics.fcn("vgg16")
smallest = next(n for n in range(1, 300) if goes_through(unpadded, n))
print("smallest image: with padding 100,", next(n for n in range(1, 300) if goes_through(full, n)))
print("                with padding 1,  ", smallest)
assert goes_through(full, 1)
assert smallest == 193
# The output always covers the image, with at least as much to spare at the end as at the front.
assert min(anatomy.output_sizes(full, n)[-1] - (19 + n) for n in range(1, 500)) == 19

# %% [markdown]
# ## 4. Where does 19 come from?
#
# *Asked about every re-implementation of FCN. Needs: section 3 run.*
#
# Ask where a pixel of a map *looks*: pixel o of a map looks at the image coordinate S·o + c, the
# middle of what it sees. The image itself has S = 1, c = 0. Then every layer moves the pair on:
#
# | layer | S | c |
# |---|---|---|
# | convolution or pooling, k, s, p | S·s | c + S·((k − 1)/2 − p) |
# | transposed convolution, k, s, p | S/s | c + S·(p − (k − 1)/2)/s |
#
# A pooling of 2 × 2 has its middle *between* two pixels, hence the halves. Here is the table in code,
# in fractions:


# %%
def look(line, k, s=1, p=0, transposed=False):
    """(S, c) after one more layer."""
    S, c = line
    middle = Fraction(k - 1, 2) - p
    return (S / s, c - S * middle / s) if transposed else (S * s, c + S * middle)


line = (Fraction(1), Fraction(0))
lines = {}
for number, times in enumerate((2, 2, 3, 3, 3), start=1):
    for conv in range(times):
        line = look(line, k=3, p=100 if (number, conv) == (1, 0) else 1)
    line = lines[f"pool{number}"] = look(line, k=2, s=2)
lines["score"] = look(line, k=7)  # the two 1x1 convolutions after it move nothing
for name, (S, c) in lines.items():
    print(f"{name:<6} pixel o looks at {S!s:>2} o {float(c):+}")
assert lines["score"] == (32, Fraction(25, 2))
assert lines["score"] == anatomy.coordinates(classics.fcn("vgg16", padding=100))

# %% [markdown]
# So the 7 score pixels look at 12.5, 44.5, ... 204.5: evenly spread
# over 0 ... 199, the last a little beyond. Now upsample, and
# compare: two maps of the same S lie on each other once the first is shifted by
# **(c_to − c_from)/S** pixels. That is the crop.


# %%
def crop(of, onto):
    """How many pixels to drop at the top and left of one map, so that it lies on the other."""
    (S, c), (T, b) = of, onto
    assert S == T
    return (b - c) / S


IMAGE = (Fraction(1), Fraction(0))
twice = look(lines["score"], k=4, s=2, transposed=True)  # stride 16
four_times = look(twice, k=4, s=2, transposed=True)  # stride 8
crops = {
    "FCN-32s, the output": crop(look(lines["score"], 64, 32, transposed=True), IMAGE),
    "pool4, to add to": crop(lines["pool4"], twice),
    "FCN-16s, the output": crop(look(twice, 32, 16, transposed=True), IMAGE),
    "pool3, to add to": crop(lines["pool3"], four_times),
    "FCN-8s, the output": crop(look(four_times, 16, 8, transposed=True), IMAGE),
}
for name, pixels in crops.items():
    print(f"{name:<20} {pixels!s:>3}")
assert list(crops.values()) == [19, 5, 27, 9, 31]

# %% [markdown]
# All five, and all whole numbers: the kernels 64, 32, 16, 4 are even, and that is why. The library
# agrees, and with these crops every addition meets maps of one size:

# %%
vgg = classics.fcn("vgg16", padding=100)
pools = [n for n, layer in enumerate(vgg) if isinstance(layer, Pool)]
until_pool3, until_pool4 = vgg[: pools[2] + 1], vgg[: pools[3] + 1]
up2, up8 = Transposed(21, 4, 2, bias=False), Transposed(21, 16, 8, bias=False)
assert anatomy.crop_offset(full, []) == 19
assert anatomy.crop_offset(until_pool4, [*vgg, up2]) == 5
assert anatomy.crop_offset([*vgg, up2, Transposed(21, 32, 16)], []) == 27
assert anatomy.crop_offset(until_pool3, [*vgg, up2, up2]) == 9
assert anatomy.crop_offset([*vgg, up2, up2, up8], []) == 31

side = {3: 50, 4: 25, "score": 7}
assert anatomy.output_sizes(until_pool3, 200)[-1] == side[3]
assert anatomy.output_sizes(until_pool4, 200)[-1] == side[4]
on_16 = (side["score"] - 1) * 2 + 4  # 7 -> 16
on_8 = (on_16 - 1) * 2 + 4  # 16 -> 34
print(f"pool4: {side[4]} rows, 5..{4 + on_16} kept and added to the {on_16} of the scores")
print(f"pool3: {side[3]} rows, 9..{8 + on_8} kept and added to the {on_8} of the scores")
assert (on_16, on_8) == (16, 34)
assert 5 + on_16 <= side[4]
assert 9 + on_8 <= side[3]

# %% [markdown]
# The picture: one row of the image (0 to 199, shaded), and above it where each map's pixels look. Black
# crosses are cropped away: so far out in the padding, there is nothing to label.

# %%
rows = [  # name, (S, c), pixels, first kept, kept
    ("score, 7", lines["score"], 7, 0, 7),
    ("upsampled ×32, 256", look(lines["score"], 64, 32, transposed=True), 256, 19, 200),
    ("pool4, 25", lines["pool4"], 25, 5, 16),
    ("score ×2, 16", twice, 16, 0, 16),
    ("pool3, 50", lines["pool3"], 50, 9, 34),
    ("score ×2 ×2, 34", four_times, 34, 0, 34),
]
figure = Figure(figsize=(8.5, 3.6), layout="constrained")
ax = figure.subplots()
ax.axvspan(-0.5, 199.5, color="#e8e8e8")
for height, (_, (S, c), pixels, first, kept) in enumerate(rows):
    at = float(c) + float(S) * np.arange(pixels)
    marks = dict(markersize=2.5 if pixels > 100 else 5, linestyle="none")
    inside = (np.arange(pixels) >= first) & (np.arange(pixels) < first + kept)
    ax.plot(at[inside], np.full(kept, height), "o", color=BLUE, **marks)
    ax.plot(at[~inside], np.full(pixels - kept, height), "x", color="black", **marks)
ax.set_yticks(range(len(rows)), [name for name, *_ in rows])
ax.set(xlabel="image coordinate (shaded: the image of 200 pixels)", ylim=(-0.6, 5.6))
ax.set_title("where each map's pixels look: kept (blue), cropped (x)", fontsize=11)
figure

# %% [markdown]
# And a check that needs no theory: set one score pixel, o = 3, to 1, upsample by the bilinear kernel, and
# weigh where it went. The centre of mass, less the crop, is where that pixel looks.

# %%
scores = np.zeros((7, 7))
scores[3, 3] = 1
up = F.conv_transpose2d(scores, F.bilinear_kernel(32, "caffe", dtype=float), stride=32)
assert up.shape == (256, 256)
centre = (up.sum(axis=1) * np.arange(256)).sum() / up.sum() - 19
print("centre of mass at", round(centre, 6), "in the image; 32 o + 12.5 =", 32 * 3 + 12.5)
assert np.isclose(centre, 32 * 3 + 12.5)

# %% [markdown]
# **Your turn.** Make the last kernel 65 instead of 64 (`anatomy.crop_offset([*vgg, Transposed(21, 65,
# 32)], [])`). Which sentence do you get, and why can no crop help?

# %% [markdown]
# ## 5. FCN's table, recomputed
#
# *Slide: "FCN, U-Net" with the table of FCN-AlexNet, FCN-VGG16, FCN-GoogLeNet, Deep Learning for
# Vision. Needs: nothing before.*
#
# The rows *parameters*, *rf size*, *max stride* follow from the architectures alone, so we can.

# %%
print(f"{'':<12}{'convolutions':>13}{'parameters':>13}{'receptive field':>17}{'stride':>8}")
found = {}
for name in ("alexnet", "vgg16", "googlenet"):
    layers = classics.fcn(name)  # 21 classes, up to the scores
    convolutions = sum(isinstance(layer, Conv) for layer in anatomy.every_layer(layers))
    field = anatomy.receptive_field(layers)
    found[name] = (convolutions, anatomy.parameters(layers, 3), field.size, field.stride)
    print("FCN-{:<8}{:>13}{:>13,}{:>17}{:>8}".format(name, *found[name]))

assert found["alexnet"] == (8, 56_954_261, 355, 32)
assert found["vgg16"] == (16, 134_346_581, 404, 32)
assert found["googlenet"] == (58, 5_995_077, 907, 32)

# %% [markdown]
# 57M, 134M, 6M and 355, 404, 907: the table is right, with four footnotes that it has no room for.
#
# - The deck quotes 22 convolutional layers for GoogLeNet, the paper's own figure: that is its *depth*,
#   convolutions on the longest way through. Side by side there are 57, and the score layer makes 58.
# - AlexNet's 57M has its convolutions in two groups, as Caffe's model had; ungrouped it is 58M.
# - The upsampling is not counted. A full 64 × 64 kernel from every class to every class adds 1.8M.
# - 907 includes GoogLeNet's last average pooling, 7 × 7 of stride 1. Without it 715.
#
# The accuracies of the same table (mean IU 39.8, 56.0, 42.5) are the paper's own measurements and need
# the data to be measured again; here they are quoted, not checked.

# %%
depth = sum(2 if isinstance(layer, anatomy.Branches) else isinstance(layer, Conv)
            for layer in classics.fcn("googlenet"))  # fmt: skip
assert depth == 22
ungrouped = [
    Conv(layer.out_channels, layer.kernel_size, layer.stride, layer.padding)
    if isinstance(layer, Conv) else layer
    for layer in classics.fcn("alexnet")
]  # fmt: skip
assert anatomy.parameters(ungrouped, 3) == 58_367_381
assert anatomy.parameters([Transposed(21, 64, 32, bias=False)], 21) == 1_806_336
without = [layer for layer in classics.fcn("googlenet") if layer != Pool(7, 1)]
assert anatomy.receptive_field(without).size == 715

# %% [markdown] tags=["erratum"]
# > **Check this against your slides.** Drake University, CS195 (2024), "FCN: Fully Convolutional Network":
# > dense layers are removed, *which reduces the number of weights*. Written as a convolution a dense layer
# > keeps every weight: VGG16's first one has 25,088 × 4,096 + 4,096 = 102,764,544 parameters, and so has
# > the 7 × 7 convolution in its place. FCN-VGG16 is smaller than VGG16 (134.35M against 138.36M) only
# > because 1,000 classes became 21. What is gained is not weights but freedom: any image size. (A slip.)

# %%
dense = anatomy.parameters([anatomy.Dense(4096)], 512, (7, 7))
convolution = anatomy.parameters([Conv(4096, 7)], 512)
assert dense == convolution == 25_088 * 4_096 + 4_096 == 102_764_544
assert anatomy.parameters(classics.vgg16(), 3, 224) == 138_357_544
assert 138_357_544 - 134_346_581 == (1000 - 21) * (4096 + 1)  # the score layer, all of it

# %% [markdown]
# ## 6. SegNet: remember where
#
# *Slides: "SegNet", Drake; "Unpooling", Deep Learning for Vision; "SegNet", ENSTA. Needs: nothing before;
# unpooling as a matrix is in 02a.*
#
# In words: the encoder's pooling keeps, beside each maximum, the place where it stood. The decoder
# puts its numbers at those places, zeros elsewhere, and lets convolutions fill the gaps. The places
# are the only thing that crosses from the encoder to the decoder.
#
# The loop, on one plane:

# %%
x = np.array([[1, 5, 2, 0], [3, 4, 1, 7], [8, 2, 6, 3], [0, 1, 2, 5]])
pooled, places = np.zeros((2, 2), int), np.zeros((2, 2), int)
for i in range(2):
    for j in range(2):
        window = [(row, column) for row in (2 * i, 2 * i + 1) for column in (2 * j, 2 * j + 1)]
        row, column = max(window, key=lambda at: x[at])  # the first of equal ones
        pooled[i, j], places[i, j] = x[row, column], row * 4 + column

decoded = np.array([[10, 20], [30, 40]])  # whatever the decoder has at this resolution
sparse = np.zeros((4, 4), int)
for place, value in zip(places.ravel(), decoded.ravel(), strict=True):
    sparse.flat[place] = value

y, indices = F.max_pool2d(x, 2, return_indices=True)
assert (y == pooled).all()
assert (indices == places).all()
assert (F.max_unpool2d(decoded, indices, 2) == sparse).all()

# %% [markdown]
# The picture: an encoder's map with its maxima framed; the pooled map; the indices (row × 4 + column);
# numbers from the decoder, put back to those very places.

# %%
figure = Figure(figsize=(8.5, 2.5), layout="constrained")
axes = figure.subplots(1, 4, width_ratios=(4, 2, 2, 4))
plot.matrix(x, axes[0], title="x", highlight=[(*divmod(int(at), 4), 1, 1) for at in places.ravel()])
plot.matrix(pooled, axes[1], title="pooled")
plot.matrix(places, axes[2], title="indices")
plot.matrix(sparse, axes[3], title="decoder's 10 .. 40, unpooled")
figure

# %% [markdown]
# What is kept and what is lost, in three lines: pooling undoes unpooling (of positive numbers);
# unpooling does not undo pooling, three numbers in four are gone; and the sum is kept.

# %%
assert (F.max_pool2d(sparse, 2) == decoded).all()
assert not (F.max_unpool2d(y, indices, 2) == x).all()
assert sparse.sum() == decoded.sum()
assert (sparse == 0).mean() == 3 / 4

# %% [markdown]
# **Memory.** A decoder with skips like U-Net's keeps the encoder's maps: four floats per 2 × 2 window and
# channel, 4 · 32 bits. SegNet needs to know which of four won: 2 bits. 128/2 = **64 times less**. Does it
# fit in 2 bits? Pack four windows into a byte, and unpack:

# %%
rng = np.random.default_rng(7)
encoder_map = rng.standard_normal((64, 32, 32), np.float32)  # (C, H, W)
_, indices = F.max_pool2d(encoder_map[None], 2, return_indices=True)  # (1, C, 16, 16)
row, column = indices // 32, indices % 32
which = (2 * (row % 2) + column % 2).astype(np.uint8)  # 0..3: the corner of the window
bits = np.stack([which >> 1, which & 1], axis=-1)  # (1, C, 16, 16, 2)
packed = np.packbits(bits)
print(
    f"map {encoder_map.nbytes:,} bytes; indices packed {packed.nbytes:,}; as int64 {indices.nbytes:,}"
)
assert encoder_map.nbytes == 64 * packed.nbytes

corner = np.unpackbits(packed).reshape(*indices.shape, 2) @ [2, 1]
down, right = np.meshgrid(np.arange(16), np.arange(16), indexing="ij")
again = (2 * down + corner // 2) * 32 + 2 * right + corner % 2
assert (again == indices).all()

# %% [markdown]
# The indices that libraries hand you (ours and PyTorch's) are int64, 8 bytes a window: only **twice** less
# than the map. The 64 is what the idea allows, not what you get without packing. And whose row × width
# + column? Here and in PyTorch it counts within one plane; in ONNX through the whole tensor
# N × C × H × W. Carrying indices from one to the other is a well-known trap.
#
# The whole SegNet on a 256 × 256 image: its trunk is VGG16's 13 convolutions, the decoder their mirror
# image. Unpooling has no parameter at all.

# %%
BLOCKS = ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3)


def segnet(K, norm=()):
    """SegNet on VGG16's trunk, as lists of layers: the encoder, the decoder."""
    encoder, decoder = [], []
    for number, block in enumerate(BLOCKS):
        encoder += [*(part for C in block for part in (Conv(C, 3, padding=1), *norm)), Pool(2)]
        back = (*block[1:], BLOCKS[number - 1][0] if number else K)
        layers = [part for C in back for part in (Conv(C, 3, padding=1), *norm)]
        if number == 0 and norm:
            layers.pop()  # no normalisation of the scores
        decoder = [Unpool(2), *layers, *decoder]
    return encoder, decoder


encoder, decoder = segnet(12)
normed = segnet(12, [BatchNorm()])
assert anatomy.parameters(encoder, 3) == 14_714_688
assert anatomy.parameters(encoder + decoder, 3) == 29_434_060
assert anatomy.parameters([*normed[0], *normed[1]], 3) == 29_449_932
assert anatomy.parameters([Unpool(2)], 64) == 0
assert anatomy.output_sizes(encoder + decoder, 256)[-1] == 256

floats = sum(
    block[-1] * (256 // 2**n) ** 2 for n, block in enumerate(BLOCKS)
)  # before each pooling
print(
    f"maps before the poolings: {4 * floats / 1e6:.1f} MB; which of four won: {floats / 16 / 1e6:.2f} MB"
)
assert (
    4 * floats == 64 * (floats / 4) * 2 / 8
)  # bytes: 4 a float; a quarter as many windows, 2 bits

# %% [markdown]
# ## 7. U-Net: keep everything
#
# *Slides: "Skip connections: concatenation", Waterloo; "U-Net and Skip Connections", Bonn; "U-Net",
# ENSTA. Needs: nothing before.*
#
# U-Net hands the encoder's whole map across: M channels from below and N from the side become M + N, one
# **on top of** the other. The next convolution decides what to do with both. Concatenate-and-convolve is
# the sum of two convolutions, one kernel for each part; so with the right kernel it *is* FCN's addition,
# and with others it is much else:

# %%
rng = np.random.default_rng(0)
below, beside = rng.standard_normal((2, 1, 8, 6, 6))  # M = N = 8 channels
w = rng.standard_normal((5, 16, 3, 3))
together = F.cat([below, beside], dim=1)
assert together.shape == (1, 8 + 8, 6, 6)
parts = F.conv2d(below, w[:, :8]) + F.conv2d(beside, w[:, 8:])
assert np.allclose(F.conv2d(together, w), parts)

adds = np.concatenate([np.eye(8), np.eye(8)], axis=1)[
    :, :, None, None
]  # a 1x1 kernel, (8, 16, 1, 1)
assert np.allclose(F.conv2d(together, adds), below + beside)

# %% [markdown]
# **572 → 388.** The paper's 3 × 3 convolutions have no padding, so each pair costs 4 pixels; and a map
# must be even to be pooled without losing a row. Follow a side of n pixels:


# %%
def trace(n, depth=5):
    """Sides after each pair of convolutions, and what is cropped off the skips; None if n fails."""
    sides, skips, crops = [], [], []
    for _ in range(depth - 1):
        n = F.output_size(F.output_size(n, 3), 3)
        sides.append(n)
        skips.append(n)
        if n % 2:
            return None
        n = F.output_size(n, 2, stride=2)
    n = F.output_size(F.output_size(n, 3), 3)
    sides.append(n)
    for skip in reversed(skips):
        n = 2 * n
        crops.append((skip - n) // 2)
        n = F.output_size(F.output_size(n, 3), 3)
        sides.append(n)
    return sides, crops


sides, crops = trace(572)
print("572 ->", " -> ".join(map(str, sides)), "; skips cropped by", crops)
assert sides == [568, 280, 136, 64, 28, 52, 100, 196, 388]
assert crops == [4, 16, 40, 88]

# %% [markdown]
# The picture: the U. Bars are as wide as the maps after each pair of convolutions, down on the left, up
# on the right; arrows are the skips, with the pixels cropped off each border. The finer the skip, the
# more is cropped: all that the convolutions below it have eaten.

# %%
figure = Figure(figsize=(8.5, 3.6), layout="constrained")
ax = figure.subplots()
down, up = sides[:5], sides[:4:-1]  # one side a level, the finest first
for level, n in enumerate(down):
    ax.barh(level, n, left=-450 - n / 2, height=0.5, color=BLUE)
    ax.text(-450, level - 0.36, n, ha="center", fontsize=10)
for level, (n, pixels) in enumerate(zip(up, reversed(crops), strict=True)):
    ax.barh(level, n, left=450 - n / 2, height=0.5, color=ORANGE)
    ax.text(450, level - 0.36, n, ha="center", fontsize=10)
    start, end = -440 + down[level] / 2, 440 - n / 2
    ax.annotate("", (end, level), (start, level), arrowprops=dict(arrowstyle="->", lw=1.2))
    ax.text((start + end) / 2, level - 0.12, f"− {pixels} a side", ha="center", fontsize=9)
ax.set_yticks(range(5), ["full", "1/2", "1/4", "1/8", "1/16"])
ax.set_xticks([-450, 450], ["down", "up"])
ax.set(ylabel="resolution", xlim=(-760, 680), ylim=(4.5, -0.6))
ax.spines[["top", "right"]].set_visible(False)
figure

# %% [markdown]
# **Which sizes work?** Not 512, not 256. Try them all:

# %%
valid = [n for n in range(185, 1000) if trace(n) and trace(n)[0][-1] > 0]
print(valid[:6], "...", "remainders on division by 16:", {n % 16 for n in valid})
assert valid == [n for n in range(188, 1000) if n % 16 == 12]
assert all(trace(n)[0][-1] == n - 184 for n in valid)

paper = models.UNet(1, 2, width=1, depth=5, padding="valid", rng=np.random.default_rng(0))
assert [n for n in range(185, 1000) if paper.output_size(n)] == valid
assert paper.output_size(572) == 388

# %% [markdown]
# n = 12 mod 16, and 184 pixels less come out. (Why 12? From the bottom up: the map before each pooling is
# even, so n − 4 must be twice a number m, m − 4 twice a number, ...: n = 4 + 2(4 + 2(4 + 2(4 + 2b))) =
# 60 + 16 b, and 60 = 12 mod 16.) Most programs pad instead ("same"): then n need only be a multiple of
# 16, and with a frame of zeros, as `models.UNet` puts around it, any size at all. The size mismatch at
# a skip, a much reported bug of re-implementations, is one of these two rules forgotten.

# %%
small = models.build("unet", in_channels=1, num_classes=2, width=2, depth=5)
with no_grad():
    for n in (33, 47, 64):
        assert small(Tensor(np.zeros((1, 1, n, n), np.float32))).shape == (1, 2, n, n)


def unet(C, depth, norm=()):
    """The paper's U-Net from its top level down, as a list of layers; every level has biases."""
    block = [Conv(C, 3), *norm] * 2
    if depth == 1:
        return block
    below = [Pool(2), *unet(2 * C, depth - 1), Transposed(C, 2, 2)]
    margin = anatomy.crop_offset([], below)
    return [*block, anatomy.Branches([Crop(margin)], below), *block]


layers = [*unet(64, 5), Conv(2, 1)]
print(f"U-Net, 1 channel in, 2 classes: {anatomy.parameters(layers, 1):,} parameters")
assert anatomy.parameters(layers, 1) == 31_030_658
assert anatomy.output_sizes(layers, 572)[-1] == 388
assert [
    anatomy.crop_offset([], [Pool(2), *unet(1, d), Transposed(1, 2, 2)]) for d in (1, 2, 3, 4)
] == crops

# %% [markdown]
# **Your turn.** In `trace`, let the paper's U-Net have `depth=4`. Which n work now? Guess first, with the
# sum in the last paragraph.

# %% [markdown]
# ## 8. The five, side by side
#
# *Slide: "Popular CNNs for Semantic Segmentation", Drake. Needs: sections 1 and 2 run, 6 and 7 read.*
#
# Scenes of real handwritten digits, 48 × 48, 11 classes; 1,200 steps of Adam, 8 scenes each, about a minute
# a network; no digit is in both training and test scenes. `lectures/weights/make_comparison.py` trained
# them; with `LIVE = True` it is done now.
#
# The FCNs have 8, 16, 32, 64 channels from the finest map to the coarsest, SegNet and U-Net 12, 24, 48.
# Why not 8 there, too? They score the *finest* map, the one with fewest channels, and FCN the widest.
# With 8 channels for 11 classes U-Net reached a mean IoU of 0.60, 0.08 and 0.12 from three seeds, and
# SegNet 0.08, 0.11 and 0.08, which is to call everything background. So
# parameters and cost are not equal; the table shows them.

# %%
NAMES = {
    "fcn-skips-0": "FCN, stride 8", "fcn-skips-1": "FCN, stride 4", "fcn-skips-2": "FCN, stride 2",
    "segnet": "SegNet", "unet": "U-Net",
}  # fmt: skip
results, records = {}, {}
print(f"{'':<15}{'parameters':>11}{'MFLOP':>7}{'accuracy':>10}{'mean IoU':>10}   three seeds")
for name, title in NAMES.items():
    net, records[name] = network(name)
    results[name] = evaluate(net, digits)
    weights = sum(parameter.size for parameter in net.parameters())
    cost = anatomy.flops(net.network, 1, 48) / 1e6
    print(
        f"{title:<15}{weights:>11,}{cost:>7.0f}{results[name].pixel_accuracy():>10.3f}"
        f"{results[name].mean_iou():>10.3f}   {records[name]['mean_iou']}"
    )

# %% [markdown]
# The picture: mean IoU on 200 test scenes, one dot for each of three seeds (other first weights, other
# order of the same scenes), the bar being the network that is shipped. Dashed: section 1's oracle at
# stride 8, right shares and bilinear upsampling.

# %%
figure = Figure(figsize=(8.5, 3.2), layout="constrained")
ax = figure.subplots()
for place, name in enumerate(NAMES):
    seeds = records[name]["mean_iou"]
    ax.bar(place, results[name].mean_iou(), color=ORANGE if "fcn" in name else BLUE, alpha=0.45)
    ax.plot(np.full(len(seeds), place), seeds, "ko", markersize=5)
ax.axhline(bound["digits", 8], color="black", linestyle="--", linewidth=1)
ax.text(4.5, bound["digits", 8] + 0.02, "oracle, stride 8", fontsize=9)
ax.set_xticks(range(len(NAMES)), NAMES.values())
ax.set(ylabel="mean IoU, test scenes", xlim=(-0.6, 5.4), ylim=(0, 1))
ax.spines[["top", "right"]].set_visible(False)
figure

# %% [markdown]
# What may be said:
#
# - **The ladder climbs**, and the first skip adds far more than three seeds differ among themselves. The
#   second adds about as much as they do: the luckiest FCN of stride 4 meets the unluckiest of stride 2.
# - **SegNet learns most slowly.** Nothing but 2 bits a window crosses to its decoder, so what a thin stroke
#   looked like must squeeze through 6 × 6 cells of 48 channels, and after unpooling three numbers in four
#   are zero. It is not done after 1,200 steps. (In practice its encoder comes trained on
#   ImageNet, as Waterloo's slide "Common Structure: Encoder/Decoder" says.)
# - **The oracle is beaten**, by a network that has nothing but scores at stride 8. Section 1 showed that a
#   cell may hold more than shares; and here the upsampling is *learnt*, a 16 × 16 kernel from every class
#   to every class, 30,976 weights that can draw a piece of a stroke. Put the bilinear kernel
#   back in their place, and see:

# %%
fcn, _ = network("fcn-skips-0")
learnt = fcn.network.up[0].weight.data
bilinear_16 = F.bilinear_kernel(8, "caffe")  # (16, 16), for each class its own
fcn.network.up[0].weight.data = np.eye(K, dtype=np.float32)[:, :, None, None] * bilinear_16
with_bilinear = evaluate(fcn, digits).mean_iou()
fcn.network.up[0].weight.data = learnt
print(f"FCN, stride 8: learnt kernels {ladder[0]:.3f}; bilinear in their place {with_bilinear:.3f}")
assert learnt.size == 30_976
assert with_bilinear < ladder[0] - 0.2
assert ladder[0] > bound["digits", 8] + 0.1

# %% [markdown]
# (The scores were trained for the learnt kernels, so this says how much *this* network leans on them,
# not how well one trained with bilinear kernels would do.)
#
# What may **not** be said: "U-Net is worse than FCN". By the first seed alone U-Net loses to the FCN of
# stride 8; by the third it beats all. A single training run is one draw of a lottery, and so is a table
# in which every network was trained once. How far apart are three draws of the *same* network?

# %%
spread = {name: max(r["mean_iou"]) - min(r["mean_iou"]) for name, r in records.items()}
for name, title in NAMES.items():
    print(f"{title:<15} largest minus smallest of three seeds: {spread[name]:.3f}")
by_seed = {name: np.array(record["mean_iou"]) for name, record in records.items()}
assert by_seed["fcn-skips-0"].max() < by_seed["fcn-skips-1"].min() <= by_seed["fcn-skips-2"].min()
assert by_seed["unet"][0] < by_seed["fcn-skips-0"].min()
assert by_seed["unet"][2] > by_seed["fcn-skips-2"].max()  # one seed is noise

# %% [markdown]
# Three seeds are few, too, and other sizes, other data and longer training give other orders. The picture:
# one scene, the truth and then each network's labels.

# %%
image, truth = digits[105]
views = {"truth": truth}
views |= {NAMES[name]: network(name)[0].predict(image[None])[0] for name in NAMES}
label_row(views, K, (10, 2.3), digits.class_names)

# %% [markdown]
# And where they are wrong, over all 200 scenes: the share of wrong pixels by distance from the nearest
# void pixel, the pen's soft edge (1: right beside it).

# %%
images, labels = (np.stack(arrays) for arrays in zip(*digits, strict=True))
reached, distance = labels == VOID, np.zeros(labels.shape, int)
for step in range(1, 9):
    grown = reached.copy()
    for here, there in ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[:, :, 1:], np.s_[:, :, :-1])):
        grown[here] |= reached[there]
        grown[there] |= reached[here]
    distance[grown & ~reached] = step
    reached = grown

figure = Figure(figsize=(8.5, 3.2), layout="constrained")
ax = figure.subplots()
wrong = {}
for (name, title), style in zip(NAMES.items(), ("-", "--", ":", "-", "--"), strict=True):
    miss = network(name)[0].predict(images) != labels
    wrong[name] = [100 * miss[distance == step].mean() for step in range(1, 9)]
    ax.plot(
        range(1, 9), wrong[name], style, marker="o", markersize=4, label=title,
        color=ORANGE if "fcn" in name else BLUE,
    )  # fmt: skip
ax.set(xlabel="pixels from the nearest soft edge", ylabel="% of pixels wrong", ylim=(0, None))
ax.legend(frameon=False)
ax.spines[["top", "right"]].set_visible(False)
figure

# %%
for name in LADDER:  # errors live at borders
    assert wrong[name][0] > 2 * wrong[name][-1]
assert wrong["fcn-skips-0"][0] > wrong["fcn-skips-2"][0]  # and skips mend them there

# %% [markdown]
# **Your turn.** Set `LIVE = True` at the top, and in `weights/make_comparison.py` change `STEPS` to
# 200. Which network is furthest along? Is it the one that wins at 1,200?

# %% [markdown]
# ## Three questions
#
# **1.** An image of 500 × 375 goes through FCN-32s with padding 100. How large is the score map, how
# large the upsampled one, and what is kept?
#
# **2.** A friend replaces every unpooling of SegNet by nearest-neighbour upsampling. How many parameters
# change, and what can the network no longer know?
#
# **3.** You have 512 × 512 images and the paper's U-Net without padding. How large an image must you feed
# it to get at least 512 × 512 labels?
#
# <details><summary>Answers</summary>
#
# **1.** 16 × 12, then 544 × 416 (32(n − 1) + 64); rows 19 to 518 and columns 19 to 393 are kept.
#
# **2.** None: both are without parameters. What is gone is which of the four pixels held the maximum, 2
# bits a window and channel: where, within two pixels, the encoder saw what it saw.
#
# **3.** n − 184 ≥ 512 and n = 12 mod 16: 696 is 8 mod 16, so 700, which gives 516. The 94 pixels more
# on every side are usually the image's own, mirrored.
#
# </details>

# %%
sizes = anatomy.output_sizes(full, (500, 375))
assert sizes[-2:] == [(16, 12), (544, 416)]
assert (19 + 500 - 1, 19 + 375 - 1) == (518, 393)
assert next(n for n in range(696, 800) if trace(n)) == 700
assert trace(700)[0][-1] == 516

# %% [markdown]
# **The exercise to do next:** *skip connections*, where you build the ladder yourself; then
# *max_pool2d / max_unpool2d*, and *train a segmenter*. Notebook 08 keeps the resolution in the first place,
# by dilation.
#
# `python3 start.py exercises` copies the exercises to `minseg_work/exercises/`; `check` with a name says
# what is right, and of a wrong answer what it is. In a notebook: `from minseg.grading import check`.
