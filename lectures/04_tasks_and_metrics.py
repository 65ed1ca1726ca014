# %% [markdown]
# # 04 Tasks and metrics: what is asked, and how well it is answered
#
# 40 minutes of reading, 10 seconds of running; reads `minseg/metrics.py`, `minseg/loops.py`,
# `minseg/plot.py`; needs no other notebook.
#
# At the end of this notebook you can
#
# - write one scene down as semantic, instance and panoptic labels, and say what each of them
#   forgets;
# - count a confusion matrix by hand and read accuracy, precision, recall, F1, IoU, mean IoU and
#   frequency weighted IoU off it;
# - recognise four numbers that mislead: accuracy on a rare class, the mean of binary accuracies, a
#   mean per image, and a mean over classes that are not there.
#
# Follows: Deep Learning for Vision (2024-2025), "Segmentation tasks", "Evaluation"; Bonn, Lab
# CudaVision MA-INF 4308 (2023), "Do not confuse...", "Segmentation Accuracy", "Intersection over
# Union"; University of Waterloo, "Semantic Segmentation", "(Validation) Quality Metrics"; Drake
# University, CS195 (2024), the table of FCN's results; ENSTA Paris, CSC_5RO13, "Output encoding and
# loss functions?".
#
# | on the slides | here | what it is |
# |---|---|---|
# | $y \in [1..N_c]^{H \times W}$, target, GT mask | `truth`, (H, W) | a class per pixel; 255 = void |
# | $N_c$, $K$ | `K` | the number of classes, *background included* |
# | $S^k_{gt}$, $S^k_{pred}$ | `truth == k`, `prediction == k` | the pixels of class k, two masks |
# | $n_{ij}$ (FCN paper) | `counts[i, j]` | pixels of class i that were called j |
# | TP, FP, FN, TN | `TP`, `FP`, `FN`, `TN` | four numbers per class |
# | IU, IoU, Jaccard; F1, Dice | `iou`, `f1` | two names each for the same thing |
#
# Each section stands alone, after this cell:

# %%
from fractions import Fraction
from itertools import permutations
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

import minseg.functional as F
from minseg import data, loops, plot, segmenter
from minseg.metrics import ConfusionMatrix, per_image_mean_iou

HERE = Path(__file__).parent if "__file__" in globals() else Path.cwd()
VOID = 255


def show_numbers(labels, ax, K, title=None):
    """A small label image in its colours, with the labels written in."""
    plot.show_labels(labels, K, ax, title=title)
    for (row, column), label in np.ndenumerate(labels):
        color = "white" if label == 0 else "black"
        ax.text(column, row, label, ha="center", va="center", color=color, fontsize=9)


# %% [markdown]
# ## 1. Three tasks, one scene
#
# *Slides: "Segmentation tasks" and the three after it, Deep Learning for Vision; "Do not
# confuse...", Bonn.*
#
# A street, drawn with the keyboard: sky `.`, road `=`, two cars `a` and `b` that touch, and a
# person `p` who stands in front of the second one. Sky and road are **stuff**: no one counts skies.
# Cars and persons are **things**: one, two, three.

# %%
DRAWING = """
................
........p.......
...aaaabpbb.....
..aaaaabpbbb....
.aaaaaabpbbbb...
===a=a==p==b====
================
"""
CLASS_NAMES = ["sky", "road", "car", "person"]
SKY, ROAD, CAR, PERSON = range(4)
CLASS_OF = {".": SKY, "=": ROAD, "a": CAR, "b": CAR, "p": PERSON}
NUMBER_OF = {".": 0, "=": 0, "a": 1, "b": 2, "p": 3}  # 0: stuff has no number

scene = np.array([list(line) for line in DRAWING.split()])  # (H, W) of letters
H, W = scene.shape

# %% [markdown]
# **Semantic**: a class for every pixel, (H, W). **Panoptic**: a class and a number for every pixel,
# (H, W, 2); the number tells one thing from another, and stuff has none.

# %%
semantic = np.vectorize(CLASS_OF.get)(scene)  # (H, W)
number = np.vectorize(NUMBER_OF.get)(scene)  # (H, W)
panoptic = np.stack([semantic, number], axis=2)  # (H, W, 2)
print(semantic)
assert (panoptic[..., 0] == semantic).all()

# %% [markdown]
# **Instance**: a list of things, a class and a mask (H, W) for each. Nothing is said of stuff.
# Masks may overlap: the second car is whole, also where the person hides it. So this one is no
# label image, and nothing in the picture could tell you the hidden pixels; whoever labels it has to
# guess.

# %%
behind_the_person = (scene == "p") & (np.arange(H)[:, None] >= 2)
second_car = (scene == "b") | behind_the_person
instances = [(CAR, scene == "a"), (CAR, second_car), (PERSON, scene == "p")]
covered = sum(mask.astype(int) for _, mask in instances)
assert covered.max() == 2  # one pixel, two things
assert (covered[(semantic == SKY) | (semantic == ROAD)] == 0).all()

# %% [markdown]
# The picture: the scene as a camera sees it, then its semantic labels (the two cars are one blob),
# its instances (three masks, the second car going on behind the person), and its panoptic labels
# (class by colour, number written in).

# %%
look = {".": "#bfe0f5", "=": "#8a8a8a", "a": "#b5402a", "b": "#b5402a", "p": "#f2c14e"}
camera = np.array(
    [[[int(look[c][n : n + 2], 16) for n in (1, 3, 5)] for c in row] for row in scene]
)

figure = Figure(figsize=(8.5, 4.3), layout="constrained")
(image_ax, semantic_ax), (instance_ax, panoptic_ax) = figure.subplots(2, 2)
image_ax.imshow(camera)
image_ax.set_title("image", fontsize=11)
plot.show_labels(semantic, 4, semantic_ax, title="semantic")
instance_ax.imshow(np.full((H, W, 3), 255))
for (label, mask), style in zip(instances, ("//", "\\\\", ".."), strict=True):
    color = plot.class_colors(4)[label] / 255
    for row, column in np.argwhere(mask):
        instance_ax.fill(
            column + np.array([-0.5, 0.5, 0.5, -0.5]), row + np.array([-0.5, -0.5, 0.5, 0.5]),
            facecolor=(*color, 0.45), edgecolor="k", linewidth=0, hatch=style,
        )  # fmt: skip
instance_ax.set_title("instances: three masks", fontsize=11)
plot.show_labels(semantic, 4, panoptic_ax, title="panoptic")
for row, column in np.argwhere(number > 0):
    panoptic_ax.text(column, row, number[row, column], ha="center", va="center", size=9)
for ax in figure.axes:
    ax.set(xticks=[], yticks=[])
colors = plot.class_colors(4) / 255
handles = [Patch(color=color, label=name) for color, name in zip(colors, CLASS_NAMES, strict=True)]
figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
figure

# %% [markdown]
# What each of them forgets: from panoptic to semantic is one slice; there is no way back, since one
# long car has the same semantic labels as two that touch. And panoptic labels hold what is
# *visible*: the covered part of the second car is gone.

# %%
one_long_car = np.where(number == 2, 1, number)
assert (np.stack([semantic, one_long_car], axis=2)[..., 0] == semantic).all()
assert not (one_long_car == number).all()

visible = [(int(semantic[number == n][0]), number == n) for n in (1, 2, 3)]
missing = instances[1][1] & ~visible[1][1]
print("pixels of the second car that only its instance mask knows:", missing.sum())
assert missing.sum() == 4

# %% [markdown]
# ### The numbers mean nothing
#
# **Your turn.** Below the two cars are called 7 and 4. Is it another segmentation? Which of the
# three kinds of labels changes, and should a score notice?

# %%
renumbered = np.select([number == 1, number == 2], [7, 4], number)
assert (renumbered != number).any()
for label, mask in visible:  # the same masks, whatever they are called
    assert any((mask == (renumbered == n)).all() for n in np.unique(renumbered[semantic == label]))

# %% [markdown]
# It is the same one. A loss that compares the first predicted thing with the first true thing, the
# second with the second, and so on, does notice, and it should not. Here a network finds both cars,
# 90 % sure and right everywhere; then the truth's two numbers are swapped. The cure is a
# *matching*: of all ways to pair predictions with truths take the cheapest. (With many things the
# Hungarian algorithm finds it. For two, try them all.)


# %%
def instance_loss(y_hat, y):
    """- sum over instances k, classes i and pixels p of y[k,i,p] log y_hat[k,i,p], weights 1."""
    return -(y * np.log(y_hat)).sum()


def matched_loss(y_hat, y):
    return min(instance_loss(y_hat, y[list(order)]) for order in permutations(range(len(y))))


cars = np.stack([number == 1, number == 2])[:, semantic == CAR]  # (k, p): the pixels of cars
y = np.stack([~cars, cars], axis=1).astype(float)  # (k, i, p): i is "not this car" or "this car"
y_hat = np.where(y == 1, 0.9, 0.1)
swapped = y[[1, 0]]

print(f"in order:  {instance_loss(y_hat, y):.1f}, swapped {instance_loss(y_hat, swapped):.1f}")
print(f"matched:   {matched_loss(y_hat, y):.1f}, swapped {matched_loss(y_hat, swapped):.1f}")
assert np.isclose(instance_loss(y_hat, y), 6.3, atol=0.05)
assert np.isclose(instance_loss(y_hat, swapped), 138.2, atol=0.05)
assert matched_loss(y_hat, y) == matched_loss(y_hat, swapped) == instance_loss(y_hat, y)

# %% [markdown] tags=["erratum"]
# > **Check this against your slides.** ENSTA Paris, CSC_5RO13, slide "Output encoding and loss
# > functions?" (the second of that name): the instance loss sums over instances $k$ and pairs the
# > predicted $k$-th with the true $k$-th. The code gives 6.3 or 138.2 for the same two masks,
# > depending on how they are numbered: without a matching the formula is only half of the loss.

# %% [markdown]
# ### Counting classes: from 0 or from 1
#
# Here, as in Pascal VOC, classes are counted from 0 and 0 is the background: "airplane" is number 1
# of the 21 classes 0..20. Labels counted from 1 are as good, but must not meet the others. It
# fails in two ways, one loud and one silent:

# %%
K = 4
counted_from_1 = semantic + 1
try:
    ConfusionMatrix(K).update(counted_from_1, semantic)
except ValueError as error:
    print(error)

matrix = ConfusionMatrix(K + 1)  # "then there must be five classes": silent
matrix.update(counted_from_1, semantic)
assert matrix.pixel_accuracy() == 0  # a perfect prediction

# %% [markdown] tags=["erratum"]
# > **Check this against your slides.** Deep Learning for Vision (2024-2025), the slides on the
# > three tasks, "Formulation": classes run from 1 to $N_c$. The other lectures' labels, and the
# > code's, run from 0 to $K - 1$. Subtract 1 when you carry labels over, and ask whether background
# > was counted.

# %% [markdown]
# ## 2. The confusion matrix, by hand
#
# *Needs the first cell. Slides: "(Validation) Quality Metrics", Waterloo; the table of results of
# FCN, Drake.*
#
# Every score of this notebook is computed from one table: how many pixels of true class $i$ were
# called class $j$. Here are 24 pixels, three classes, and one pixel whose class nobody knows (void,
# 255). The picture: truth and prediction, labels written in. Count with a pencil before you go on:
# the row of class 1 has four pixels; where did they go?

# %%
truth = np.array(
    [
        [0, 0, 0, 0, 0, 0],
        [0, 1, 1, 0, 2, 2],
        [0, 1, 1, 255, 2, 2],
        [0, 0, 0, 0, 0, 0],
    ]
)
prediction = np.array(
    [
        [0, 0, 0, 0, 0, 0],
        [0, 1, 0, 0, 2, 2],
        [1, 1, 1, 2, 2, 1],
        [0, 0, 0, 0, 0, 0],
    ]
)
K = 3
figure = Figure(figsize=(8.5, 2.9), layout="constrained")
left, right = figure.subplots(1, 2)
show_numbers(truth, left, K, "truth")
show_numbers(prediction, right, K, "prediction")
figure

# %% [markdown]
# As a loop, the way you counted:

# %%
counts = np.zeros((K, K), int)
for i in range(truth.shape[0]):
    for j in range(truth.shape[1]):
        if truth[i, j] != VOID:
            counts[truth[i, j], prediction[i, j]] += 1
print(counts)

# %% [markdown]
# Without loops: call the pair $(i, j)$ by the single number $K i + j$, and make a histogram of
# these numbers. That is the library's way too; `ConfusionMatrix` goes on counting with each
# `update`, batch after batch:

# %%
labelled = truth != VOID
pairs = K * truth[labelled] + prediction[labelled]
assert (np.bincount(pairs, minlength=K * K).reshape(K, K) == counts).all()
assert (loops.confusion_matrix(truth, prediction, K) == counts).all()

matrix = ConfusionMatrix(K)
matrix.update(truth, prediction)
assert (matrix.counts == counts).all()

# %% [markdown]
# For class 1: TP is the cell on the diagonal, FN the rest of its *row* (1s that were called
# something else), FP the rest of its *column* (others that were called 1), TN all that remains. The
# picture: the matrix, rows truth, columns prediction, with class 1's row and column framed.

# %%
figure = plot.matrix(counts, title="rows: truth, columns: prediction",
                     highlight=[(1, 0, 1, 3), (0, 1, 3, 1)])  # fmt: skip
figure.set_size_inches(3.4, 2.8)
figure

# %%
TP = np.diagonal(counts)  # (K,)
FN = counts.sum(axis=1) - TP
FP = counts.sum(axis=0) - TP
TN = counts.sum() - TP - FN - FP
print("class", *range(K), "\nTP   ", *TP, "\nFN   ", *FN, "\nFP   ", *FP, "\nTN   ", *TN)
assert counts.tolist() == [[14, 1, 0], [1, 3, 0], [0, 1, 3]]
assert (TP[1], FN[1], FP[1], TN[1]) == (3, 1, 2, 17)
assert (TP + FN + FP + TN == 23).all()  # 24 pixels, one of them void

# %% [markdown]
# **Your turn.** Truth and prediction are easily swapped. Swap them in `update` (with the void pixel
# made 0 in both) and look which scores change. Guess first: precision? recall? IoU?

# %%
known = np.where(truth == VOID, 0, truth), np.where(truth == VOID, 0, prediction)
right_way, wrong_way = ConfusionMatrix(K), ConfusionMatrix(K)
right_way.update(*known)
wrong_way.update(*reversed(known))
assert (wrong_way.counts == right_way.counts.T).all()
assert (wrong_way.iou() == right_way.iou()).all()
assert (wrong_way.f1() == right_way.f1()).all()
assert (wrong_way.precision() == right_way.recall()).all()

# %% [markdown]
# (IoU and F1 do not notice, precision and recall change places. So a swapped call can live in your
# code for years.)
#
# ## 3. Five scores of one class
#
# *Needs the first cell. Slides: "Compute the accuracy, precision, recall, F1 and IoU at pixel
# level", Deep Learning for Vision; "Segmentation Accuracy", "Intersection over Union", Bonn.*
#
# One object of 60 pixels in an image of 1000; the network says 50 pixels, 40 of which are right.
# The picture: all 1000 pixels in four colours, with their counts. Do the five fractions in your
# head, then run the cell below it.

# %%
truth = np.zeros((25, 40), int)
truth[8:14, 10:20] = 1  # 60 pixels
prediction = np.zeros((25, 40), int)
prediction[10:15, 10:20] = 1  # 50 pixels
kind = np.array([[0, 2], [3, 1]])[truth, prediction]  # TN 0, TP 1, FP 2, FN 3

figure = Figure(figsize=(7, 3.6), layout="constrained")
ax = figure.subplots()
plot.show_labels(kind, 4, ax)
names = ("TN", "TP", "FP", "FN")
handles = [
    Patch(color=plot.class_colors(4)[n] / 255, label=f"{name}: {(kind == n).sum()}")
    for n, name in enumerate(names)
]
figure.legend(handles=handles, loc="outside right center", frameon=False)
figure

# %%
TN, TP, FP, FN = (int((kind == n).sum()) for n in range(4))
assert (TP, FP, FN, TN) == (40, 10, 20, 930)

accuracy = (TP + TN) / (TP + TN + FP + FN)
precision = TP / (TP + FP)  # of what was called the object, how much is?
recall = TP / (TP + FN)  # of the object, how much was found?
f1 = 2 * precision * recall / (precision + recall)  # their harmonic mean
iou = TP / (TP + FP + FN)  # overlap over union
print(
    f"accuracy {accuracy}, precision {precision}, recall {recall:.4f}, F1 {f1:.4f}, IoU {iou:.4f}"
)
assert np.allclose(
    [accuracy, precision, recall, f1, iou], [0.97, 0.80, 0.6667, 0.7273, 0.5714], atol=5e-5
)

# %% [markdown]
# The library, from its confusion matrix; IoU from the two masks, as the slide writes it; and two
# identities. **F1 and IoU** are one number in two dresses,
# $F_1 = 2\,\mathrm{IoU} / (1 + \mathrm{IoU})$, so they never disagree on which of two masks is
# better. **Dice**, $2|A \cap B| / (|A| + |B|)$, is F1.

# %%
matrix = ConfusionMatrix(2)
matrix.update(truth, prediction)
scores = (matrix.precision()[1], matrix.recall()[1], matrix.f1()[1], matrix.iou()[1])
assert np.allclose(scores, (precision, recall, f1, iou), rtol=1e-15)
assert matrix.pixel_accuracy() == accuracy

S_gt, S_pred = truth == 1, prediction == 1
assert iou == (S_gt & S_pred).sum() / (S_gt | S_pred).sum()
assert abs(f1 - 2 * iou / (1 + iou)) < 1e-15
assert abs(f1 - 2 * (S_gt & S_pred).sum() / (S_gt.sum() + S_pred.sum())) < 1e-15

# %% [markdown]
# **Your turn.** Photograph the object from further away: the same 60 pixels in an image of 10,000,
# the same mistakes. Which of the five changes, and does it deserve to?

# %%
extra = 9000  # more pixels of background, all right
print("accuracy was", accuracy, "and is", (TP + TN + extra) / (1000 + extra))

# %% [markdown]
# (Only accuracy, to 0.997: TN stands in no other formula. So accuracy tells more about the
# background than about the object.)
#
# ## 4. Many classes: the four numbers of every table
#
# *Needs the first cell. Slides: the table of results of FCN, Drake; "Intersection over Union",
# Bonn; "(Validation) Quality Metrics", Waterloo.*
#
# With $n_{ij}$ the counts and $t_i = \sum_j n_{ij}$ the pixels of class $i$ in the truth, tables
# print
#
# | name | formula | reads |
# |---|---|---|
# | pixel accuracy | $\sum_i n_{ii} / \sum_i t_i$ | the share of right pixels |
# | mean accuracy | $\frac1K \sum_i n_{ii} / t_i$ | the mean recall |
# | mean IoU | $\frac1K \sum_i n_{ii} / (t_i + \sum_j n_{ji} - n_{ii})$ | each class counts the same |
# | f.w. IoU | $\sum_i t_i\, \mathrm{IoU}_i / \sum_i t_i$ | each class counts as it has pixels |
#
# On section 2's matrix they can be done by hand, so they are done in fractions:

# %%
n = np.array([[14, 1, 0], [1, 3, 0], [0, 1, 3]])
K = len(n)
t = n.sum(axis=1)
hits = [Fraction(int(hit)) for hit in np.diagonal(n)]
iou = [hit / int(t[i] + n[:, i].sum() - n[i, i]) for i, hit in enumerate(hits)]

pixel_accuracy = sum(hits) / int(t.sum())
mean_accuracy = sum(hit / int(t[i]) for i, hit in enumerate(hits)) / K
mean_iou = sum(iou) / K
weighted_iou = sum(int(t[i]) * iou[i] for i in range(K)) / int(t.sum())
print("IoU", *iou, "  mean IoU", mean_iou, "  pixel accuracy", pixel_accuracy)
print("mean accuracy", mean_accuracy, "  frequency weighted IoU", weighted_iou)
assert iou == [Fraction(7, 8), Fraction(1, 2), Fraction(3, 4)]

matrix = ConfusionMatrix(K)
matrix.counts += n
assert np.isclose(matrix.pixel_accuracy(), float(pixel_accuracy), rtol=1e-15)
assert np.isclose(matrix.mean_accuracy(), float(mean_accuracy), rtol=1e-15)
assert np.isclose(matrix.mean_iou(), float(mean_iou), rtol=1e-15)
assert np.isclose(matrix.frequency_weighted_iou(), float(weighted_iou), rtol=1e-15)

# %% [markdown]
# A fifth one turns up now and then, "micro" IoU: add up TP, FP and FN over the classes *before*
# dividing. It holds nothing new: every wrong pixel is one FP and one FN, so with pixel accuracy $a$
# it is $a / (2 - a)$.

# %%
TP, FP, FN = sum(hits), int(n.sum()) - sum(hits), int(n.sum()) - sum(hits)
a = pixel_accuracy
assert a / (2 - a) == TP / (TP + FP + FN)

# %% [markdown]
# ### A real confusion matrix
#
# A small U-Net was trained on scenes of handwritten digits (its weights are in `lectures/weights`).
# Here it must label *harder* scenes than it ever saw: larger digits, up to four, overlapping. The
# picture: four of them.

# %%
net, _, _ = segmenter.load(HERE / "weights" / "unet-digits.npz")
hard = data.build("digits-hard", "test", length=60)
images = np.stack([hard[i][0] for i in range(60)])  # (60, 1, 48, 48)
truths = np.stack([hard[i][1] for i in range(60)])  # (60, 48, 48)
predictions = net.predict(images)
plot.prediction_panel(images[:4], truths[:4], predictions[:4], hard.class_names)

# %%
matrix = ConfusionMatrix(hard.num_classes, class_names=hard.class_names)
matrix.update(truths, predictions)
print(matrix.table())

# %% [markdown]
# One set of predictions, four scores: 0.96, 0.94, 0.75, 0.62, and the first two are mostly
# background. The picture: the confusion matrix, each row divided by its sum, so that the diagonal
# is the recall. Off the diagonal you read *what* it takes for *what*.

# %%
plot.confusion(matrix)

# %%
assert matrix.pixel_accuracy() > 0.9
assert matrix.pixel_accuracy() > matrix.mean_accuracy() > matrix.mean_iou()

# %% [markdown]
# **Your turn.** Which digit is most often called another digit, and which one? Find the pair in the
# picture, then by code: the largest entry of `matrix.counts` off the diagonal, background left out.

# %%
mixed_up = matrix.counts[1:, 1:].copy()
np.fill_diagonal(mixed_up, 0)
i, j = np.unravel_index(mixed_up.argmax(), mixed_up.shape)
print(f"{mixed_up[i, j]} pixels of {hard.class_names[i + 1]} are called {hard.class_names[j + 1]}")

# %% [markdown]
# ## 5. Void
#
# *Needs the first cell. Slides: "Fully-supervised Semantic Segmentation", "(Training) Loss:
# Cross-Entropy", Waterloo.*
#
# Along the border of an object nobody can say what a pixel is. Such pixels are labelled **void**,
# 255. They are in no row of the confusion matrix and in no term of the loss: whatever is predicted
# there is neither right nor wrong. The picture: one scene twice, void striped grey. The two
# predictions differ on every void pixel (background in the first, noise in the second), and their
# errors do not.

# %%
shapes = data.build("shapes", "test", length=100)
image, truth = shapes[8]
K = shapes.num_classes
background = np.where(truth == VOID, 0, truth)
noise = np.where(truth == VOID, np.random.default_rng(0).integers(1, K, truth.shape), truth)
plot.prediction_panel([image, image], [truth, truth], [background, noise], shapes.class_names)

# %%
scores = []
for prediction in (background, noise):
    matrix = ConfusionMatrix(K)
    matrix.update(truth, prediction)
    scores.append(matrix.mean_iou())
assert (background != noise)[truth == VOID].all()
assert scores == [1.0, 1.0]
print(f"{(truth == VOID).mean():.0%} of this scene is void")

# %% [markdown]
# **Your turn.** A table that is made with zeros turns unknown labels into background without a
# word. Here is the U-Net on the digits it was trained for, counted rightly, and with void taken for
# background. Guess how much the mean IoU falls.

# %%
net, _, _ = segmenter.load(HERE / "weights" / "unet-digits.npz")
digits = data.build("digits", "test", length=40)
images, truths = (np.stack(part) for part in zip(*digits, strict=True))
predictions = net.predict(images)
as_background = np.where(truths == VOID, 0, truths)
for name, labels in (("void left out", truths), ("void as background", as_background)):
    matrix = ConfusionMatrix(digits.num_classes)
    matrix.update(labels, predictions)
    print(f"{name:20} mean IoU {matrix.mean_iou():.3f}")

# %% [markdown]
# (To a matrix that takes void for background, a void pixel is a mistake wherever the network paints
# a digit. It was never told what to do there, so it does what it likes: the next cell counts.)

# %%
print(f"{(predictions[truths == VOID] > 0).mean():.0%} of the void pixels are painted as digits")

# %% [markdown]
# ### Void in the loss
#
# The loss of a pixel of class $y$ is $-\ln \bar\sigma_y$. A void pixel has no class, so no one-hot
# vector, so no loss. And for $\bar\sigma_y$ to be an entry of an array, classes must be counted
# from 0. Counted from 1, with $y - 1$ as index, the background's 0 becomes -1, which in NumPy is
# the *last* class:

# %%
try:
    np.eye(21)[VOID]
except IndexError as error:
    print("one-hot of void:", error)

names = ["airplane", "bicycle", "...", "TV monitor"]  # counted from 1, background forgotten
assert names[0 - 1] == "TV monitor"  # and background pixels are trained as TV monitors

rng = np.random.default_rng(0)
logits = rng.standard_normal((1, 21, 4, 5))  # (N, K, H, W)
labels = rng.integers(0, 21, (1, 4, 5))
labels[0, 1, 1:4] = VOID
sigma = F.softmax(logits)
by_hand = 0.0
for i, j in np.ndindex(4, 5):
    if labels[0, i, j] != VOID:
        by_hand -= np.log(sigma[0, labels[0, i, j], i, j])
assert np.isclose(by_hand, F.cross_entropy(logits, labels, reduction="sum"), rtol=1e-14)
assert np.isclose(by_hand / 17, F.cross_entropy(logits, labels), rtol=1e-14)  # 20 pixels, 3 void

# %% [markdown] tags=["erratum"]
# > **Check this against your slides.** University of Waterloo, slide "(Training) Loss:
# > Cross-Entropy" against "Fully-supervised Semantic Segmentation": labels are 0, 1, 2, ... and
# > 255, the prediction is $(\bar\sigma_1, \ldots, \bar\sigma_K)$, and the loss adds up
# > $-\ln \bar\sigma_{y^p}$ over *every* pixel. In the code $K$ counts the background (Pascal VOC:
# > 20 objects, $K = 21$, indices 0..20), and the sum leaves void out.

# %% [markdown]
# ## 6. Accuracy, the trap
#
# *Needs the first cell. Slide: "Segmentation Accuracy", Bonn.*
#
# Objects cover 5 % of the pixels, and the network has learnt one thing: to say "background".

# %%
truth = np.zeros((20, 20), int)
truth[4:9, 6:10] = 1  # 20 of 400 pixels
lazy = np.zeros_like(truth)

matrix = ConfusionMatrix(2, class_names=["background", "object"])
matrix.update(truth, lazy)
print(matrix.table())
assert matrix.pixel_accuracy() == 0.95
assert matrix.mean_iou() == 0.475  # (0.95 + 0) / 2
assert np.isclose(matrix.frequency_weighted_iou(), 0.9025, rtol=1e-15)  # 0.95 squared
assert matrix.predicted_single_class() == 0

# %% [markdown]
# The same on 100 of our toy scenes: the share of background is the accuracy, and its $K$-th part
# the mean IoU.

# %%
shapes = data.build("shapes", "test", length=100)
matrix = ConfusionMatrix(shapes.num_classes)
for _, truth in shapes:
    matrix.update(truth, np.zeros_like(truth))
print(f"accuracy {matrix.pixel_accuracy():.3f}, mean IoU {matrix.mean_iou():.3f}")
assert np.isclose(matrix.mean_iou(), matrix.pixel_accuracy() / 5, rtol=1e-14)

# %% [markdown]
# ### The mean of binary accuracies
#
# (TP + TN) / (TP + TN + FP + FN) is the accuracy of a yes-or-no question: "class $k$ or not?". A
# wrong pixel is one FP, of the class it was called, and one FN, of the class it is; for
# the other $K - 2$ classes it is a TN, rightly answered. So the mean of this score over $K$ classes
# is not the pixel accuracy $a$ but $1 - 2\,(1 - a) / K$:

# %%
K, right, wrong = 21, 523, 477
rng = np.random.default_rng(0)
truth = rng.integers(0, K, right + wrong)
prediction = truth.copy()
prediction[:wrong] = (truth[:wrong] + rng.integers(1, K, wrong)) % K  # another class, any

matrix = ConfusionMatrix(K)
matrix.update(truth, prediction)
a = matrix.pixel_accuracy()
print(f"pixel accuracy {a}, mean of the 21 binary accuracies {matrix.binary_accuracy().mean():.5f}")
assert a == 0.523
assert np.isclose(matrix.binary_accuracy().mean(), 1 - 2 * (1 - a) / K, rtol=1e-14)
assert round(matrix.binary_accuracy().mean(), 5) == 0.95457

# %% [markdown] tags=["erratum"]
# > **Check this against your slides.** Bonn, MA-INF 4308 (2023), slide "Segmentation Accuracy": the
# > formula has TP and TN, and the text has it per class or for everything. With more than two
# > classes these are two scores, and the formula is the first one only: a network that is right on
# > 52.3 % of the pixels reads 95.46 % when its 21 binary accuracies are averaged.

# %% [markdown]
# The picture: the mean of binary accuracies against the pixel accuracy, for 2, 5, 21 and 150
# classes. The more classes, the flatter: with 150, a network that is *never* right scores 98.7 %.

# %%
a = np.linspace(0, 1, 101)
figure = Figure(figsize=(6, 3.6), layout="constrained")
ax = figure.subplots()
for K, color in ((150, "#873c2d"), (21, "#d27800"), (5, "#0072c3"), (2, "#23262e")):
    ax.plot(a, 1 - 2 * (1 - a) / K, color=color, label=f"K = {K}")
ax.plot(0.523, 0.9546, "o", color="#d27800")
ax.annotate("0.523 reads 0.9546", (0.523, 0.9546), (0.1, 0.8), color="#a05a00",
            arrowprops={"arrowstyle": "-", "color": "#d27800"})  # fmt: skip
ax.set(xlabel="pixel accuracy a", ylabel="mean of binary accuracies", xlim=(0, 1), ylim=(0, 1.03))
ax.legend(frameon=False, loc="lower right")
figure

# %% [markdown]
# ## 7. Pooled or per image; and classes that are not there
#
# *Needs the first cell. Slide: "(Validation) Quality Metrics", Waterloo.*
#
# Two images of four pixels. The first has one pixel of class 1, which is missed; the second has
# two, both found. **Pooled**: one confusion matrix for all pixels, then the mean IoU. **Per
# image**: a mean IoU for each image, then the mean over images.

# %%
truths = np.array([[0, 0, 0, 1], [0, 0, 1, 1]])
predictions = np.array([[0, 0, 0, 0], [0, 0, 1, 1]])

pooled = ConfusionMatrix(2)
pooled.update(truths, predictions)
per_image = per_image_mean_iou(truths, predictions, 2)
print(f"pooled {pooled.mean_iou()}, per image {per_image}")
assert np.isclose(pooled.mean_iou(), (5 / 6 + 2 / 3) / 2, rtol=1e-15)  # 0.75
assert per_image == ((3 / 4 + 0) / 2 + 1) / 2 == 0.6875

# %% [markdown]
# ### Does size matter?
#
# *Between* classes it does not: each weighs $1/K$, however small. *Within* a class it does, when
# pixels are pooled. Two images, one with an object of 90 pixels, one with an object of 10, both of
# class 1. One of them is missed:


# %%
def class_1_iou(*pairs):
    matrix = ConfusionMatrix(2)
    for truth, prediction in pairs:
        matrix.update(truth, prediction)
    return matrix.iou()[1]


large, small = np.zeros(200, int), np.zeros(200, int)  # two images
large[:90] = 1  # an object of 90 pixels
small[:10] = 1  # an object of 10
nothing = np.zeros(200, int)

large_found = [(large, large), (small, nothing)]
small_found = [(large, nothing), (small, small)]
print("large one found, small one missed:", class_1_iou(*large_found))
print("small one found, large one missed:", class_1_iou(*small_found))
assert class_1_iou(*large_found) == 0.9
assert class_1_iou(*small_found) == 0.1
for pairs in (large_found, small_found):  # image by image, both are worth the same
    assert np.mean([class_1_iou(pair) for pair in pairs]) == 0.5

# %% [markdown] tags=["erratum"]
# > **Check this against your slides.** University of Waterloo, slide "(Validation) Quality
# > Metrics": of the mean IoU the text says that sizes of objects are irrelevant. That is true from
# > class to class. Inside a class the code gives 0.9 or 0.1, depending on which of two objects is
# > missed. And the formula reads 0/0 for a class that is in neither mask.

# %% [markdown]
# ### A class that is not there
#
# 0/0 needs a decision, and three are in use: leave the class out of the mean, call it 0, call it 1.
# Truth 0 0 1 1, prediction 0 1 1 1, and a third class that never occurs:

# %%
matrix = ConfusionMatrix(3)
matrix.update(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]))
for absent, expected in (("ignore", 0.583), ("zero", 0.389), ("one", 0.722)):
    print(f"{absent:7} {matrix.mean_iou(absent):.3f}")
    assert round(matrix.mean_iou(absent), 3) == expected

# %% [markdown]
# For a whole data set the question hardly arises: each class occurs somewhere. *Per image* it
# arises all the time: an image shows a few of the ten digits. The picture: section 4's predictions,
# the same 60 label images, scored in four ways, all of them called "mean IoU".

# %%
net, _, _ = segmenter.load(HERE / "weights" / "unet-digits.npz")
hard = data.build("digits-hard", "test", length=60)
images, truths = (np.stack(part) for part in zip(*hard, strict=True))
predictions = net.predict(images)
matrix = ConfusionMatrix(hard.num_classes)
matrix.update(truths, predictions)
mean_ious = {"pooled": matrix.mean_iou()}
for absent in ("ignore", "zero", "one"):
    name = f"per image,\nabsent: {absent}"
    mean_ious[name] = per_image_mean_iou(truths, predictions, hard.num_classes, absent=absent)

figure = Figure(figsize=(6.5, 2.6), layout="constrained")
ax = figure.subplots()
bars = ax.bar(mean_ious.keys(), mean_ious.values(), color=["#0072c3"] + 3 * ["#d27800"], width=0.6)
ax.bar_label(bars, fmt="%.2f")
ax.set(ylim=(0, 1), ylabel="mean IoU")
ax.spines[["top", "right"]].set_visible(False)
figure

# %%
assert len({round(score, 2) for score in mean_ious.values()}) == 4
assert mean_ious["per image,\nabsent: zero"] < 0.3 < 0.8 < mean_ious["per image,\nabsent: one"]

# %% [markdown]
# Papers mean *pooled*, unless they say otherwise. **Your turn.** Score the *truth* against itself,
# per image with `absent="zero"`: what does a perfect network get?

# %%
print(per_image_mean_iou(truths, truths, hard.num_classes, absent="zero"))

# %% [markdown]
# ## 8. Counting things instead of pixels
#
# *Needs section 1. Slide: "Evaluation", Deep Learning for Vision.*
#
# A prediction has every class right and takes the two cars for one. Its mean IoU is 1. **Panoptic
# quality** sees it: a predicted segment and a true one of the same class *match* if their IoU is
# above 1/2 (so at most one can), and per class
#
# $$\mathrm{PQ} = \frac{\sum \mathrm{IoU}}{\mathrm{TP} + \mathrm{FP}/2 + \mathrm{FN}/2}
# = \frac{\sum \mathrm{IoU}}{\mathrm{TP}} \cdot
# \frac{\mathrm{TP}}{\mathrm{TP} + \mathrm{FP}/2 + \mathrm{FN}/2}$$
#
# with the sum over the matches: how well they fit, times how many there are (the F1 of segments).


# %%
def matches(truth, prediction, label):
    """The IoUs above 1/2 between segments of one class, and how many segments each side has."""
    true, predicted = (
        [(p == (label, n)).all(axis=2) for n in np.unique(p[p[..., 0] == label][:, 1])]
        for p in (truth, prediction)
    )
    ious = [Fraction(int((a & b).sum()), int((a | b).sum())) for a in true for b in predicted]
    return [iou for iou in ious if iou > Fraction(1, 2)], len(true), len(predicted)


merged = panoptic.copy()
merged[merged[..., 1] == 2, 1] = 1  # both cars are number 1
matrix = ConfusionMatrix(4)
matrix.update(panoptic[..., 0], merged[..., 0])
assert matrix.mean_iou() == 1

ious, T, P = matches(panoptic, merged, CAR)
TP, FP, FN = len(ious), P - len(ious), T - len(ious)
PQ = sum(ious) / (TP + Fraction(FP + FN, 2))
how_well, how_many = sum(ious) / TP, TP / (TP + Fraction(FP + FN, 2))
print(f"cars: PQ {PQ} = {how_well} x {how_many}")
assert PQ == how_well * how_many == Fraction(17, 45)

# %% [markdown]
# **mAP**, the last of the slide's list, is for detectors, whose predictions come with a score. Sort
# them by score; after each one, precision and recall are those of the list so far. *Average
# precision* is the mean precision over recall, each recall taking the best precision still to come;
# mAP is its mean over classes. (Conventions differ here too: some read the curve at 11 or 101 fixed
# recalls.) Five predictions for four true objects; the first, third and fourth are right:

# %%
hit = np.array([1, 0, 1, 1, 0])
objects = 4
precision = np.cumsum(hit) / np.arange(1, 6)
recall = np.cumsum(hit) / objects
best_to_come = np.maximum.accumulate(precision[::-1])[::-1]
average_precision = (best_to_come * np.diff(recall, prepend=0)).sum()
print("precision", *np.round(precision, 2), "  recall", *recall, "  AP", average_precision)
assert average_precision == (1 + 3 / 4 + 3 / 4) / 4 == 0.625

# %% [markdown]
# ## Three questions
#
# 1. Two papers report a mean IoU of 0.70 and 0.72 on the same images. What three things do you ask
#    before you believe the second one is better?
# 2. In a data set of 21 classes, all of which occur, background covers 75 % of the pixels. A
#    network answers "background" everywhere. Give its pixel accuracy, mean accuracy, mean IoU, and
#    mean of binary accuracies.
# 3. A medical paper reports a Dice score of 0.8. What is the IoU?
#
# <details><summary>Answers</summary>
#
# 1. Pooled or per image? What of classes that are absent? What of void pixels? (And then: how many
#    seeds?)
# 2. 0.75; 1/21 = 0.048; 0.75/21 = 0.036; 1 - 2 · 0.25/21 = 0.976.
# 3. $D / (2 - D) = 0.8 / 1.2 = 2/3$.
# </details>
#
# **Next.** Exercises: the confusion matrix, then the metrics from it. After that notebook 05, or 06
# if you want to train.
#
# `python3 start.py exercises` copies the exercises to `minseg_work/exercises/`; `check` with a name says
# what is right, and of a wrong answer what it is. In a notebook: `from minseg.grading import check`.

# %%
share = np.full(21, 0.25 / 20)
share[0] = 0.75
matrix = ConfusionMatrix(21)
matrix.counts[:, 0] = np.rint(8000 * share)
assert matrix.pixel_accuracy() == 0.75
assert np.isclose(matrix.mean_accuracy(), 1 / 21)
assert np.isclose(matrix.mean_iou(), 0.75 / 21)
assert np.isclose(matrix.binary_accuracy().mean(), 1 - 2 * 0.25 / 21)
dice = Fraction(4, 5)
assert dice / (2 - dice) == Fraction(2, 3)
