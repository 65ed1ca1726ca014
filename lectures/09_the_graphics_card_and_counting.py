# %% [markdown]
# # 09 · The graphics card, and counting
#
# *40 minutes of reading, 15 seconds of running. Reads `minseg/anatomy.py`, `minseg/classics.py`,
# `minseg/roofline.py`, `minseg/bench.py`, `minseg/strips.py`, `minseg/threads.py`, `minseg/memory.py`,
# `minseg/cuda.py` and `minseg/kernels.cu`. Needs no other notebook and no graphics card.*
#
# How long does a network take? First we count what it has to do, exactly, without running it. Then we
# measure what the machine in front of you can do at most. Between the two lies fast code: the same
# convolution in several ways, the same numbers at very different speeds, and at the end taken apart for a
# graphics card.
#
# **Afterwards you can**
# - count the parameters and the operations of a layer by hand, and of a network in one line,
# - say of an operation whether it waits for arithmetic or for memory, and draw the roofline,
# - read a CUDA kernel, and explain why ours give the same bits every time.

# %% [markdown]
# ## Slide → code
#
# | on the slides | here | what it is |
# |---|---|---|
# | parameters [1] | `anatomy.parameters(network, in_channels)` | numbers that are learnt |
# | FLOPs [1] | `anatomy.flops(network, in_channels, size)` | floating-point operations, for one image |
# | conv 2D, conv 3D [1] | `Conv(O, (k, k))`, `Conv(O, (k, k, k))` | a size with two axes, or with three |
# | 8d²L + 4dL² [2] | `anatomy.attention_flops(tokens, width)` | self-attention on L tokens of d numbers |
# | X, K, Y [3] | `x`, `w`, `y` | image, kernel, output map |
# | "learnable upsampling" [3] | `Transposed(O, k, stride)` | section 3 counts it |
#
# [1] Deep Learning for Vision (2024-2025), "Comparison". [2] The same, "Reminder: simplified
# self-attention". [3] Drake University, CS195 (2024), "FCN: Upsampling via Transposed Convolution
# Operation".
#
# Counts are the same everywhere, and asserted. Times belong to the machine that ran the notebook, and to
# what else it was doing: they are printed, never asserted, and the text relies on none. Run it, and read
# your own.

# %%
import time
from dataclasses import replace
from fractions import Fraction
from math import prod
from statistics import median
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

import minseg.functional as F
from minseg import anatomy, backend, bench, classics, cuda, loops, memory, models, plot, strips
from minseg.anatomy import BatchNorm, Conv, Dense, Pool, Transposed
from minseg.roofline import breakdown, machine
from minseg.strips import Axis
from minseg.threads import get_num_threads, set_num_threads
from minseg.windows import Windows, flat


def seconds(work, times=5):
    """The median of several runs, after one that does not count."""
    work()
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return median(taken)


# %% [markdown]
# ## 1. One convolution, counted
#
# A kernel is laid on the image once for every pixel of the **output**. There, each of its $k^2 C$ numbers
# is multiplied with a pixel and the product is added to a sum; and there are O kernels:
#
# $$\text{parameters} = k^2 C\, O \;(+\,O \text{ biases}), \qquad
#   \text{FLOPs} = 2 \cdot k^2 C\, O \cdot OH \cdot OW$$
#
# A multiplication and its addition are two operations. Do we believe the formula? Let us hand the slide's
# loop some numbers that keep a tally instead of a value:


# %%
class Tallied:
    """A number without a value, that counts what is done with it."""

    products = additions = 0

    def __mul__(self, other):
        Tallied.products += 1
        return self

    def __add__(self, other):
        Tallied.additions += 1
        return self

    __rmul__, __radd__ = __mul__, __add__


x = np.full((1, 3, 8, 9), Tallied(), object)  # an image of 3 channels, 8 x 9 pixels
w = np.full((4, 3, 3, 3), Tallied(), object)  # 4 kernels of 3 x 3
loops.conv2d(x, w, stride=2)

layer = Conv(4, 3, stride=2, bias=False)
OH, OW = anatomy.output_sizes([layer], (8, 9))[-1]
print(f"output {OH} x {OW}: {Tallied.products} products and {Tallied.additions} additions")
print(f"formula: {2 * 3**2 * 3 * 4 * OH * OW} operations")
assert Tallied.products == Tallied.additions == 3**2 * 3 * 4 * OH * OW
assert anatomy.flops([layer], 3, (8, 9)) == Tallied.products + Tallied.additions

# %% [markdown]
# Now the slide's two layers: 1024 kernels, as wide as their stride, on 512 channels; once on an image of
# 256 × 256, once on a volume of 256 × 256 × 64. In the volume the kernel has twice as many numbers, and
# there are 32 times as many places to lay it.

# %%
plane, volume = (Conv(1024, (2,) * axes, stride=2, bias=False) for axes in (2, 3))
for name, layer, size in (("2-D", plane, (256, 256)), ("3-D", volume, (256, 256, 64))):
    weights, work = anatomy.parameters([layer], 512), anatomy.flops([layer], 512, size)
    print(f"{name}: {weights:>9,} parameters  {work:>17,} FLOPs = {work / 1e9:,.1f} GFLOPs")

assert anatomy.parameters([plane], 512) == 2_097_152
assert anatomy.parameters([volume], 512) == 4_194_304
assert anatomy.flops([plane], 512, (256, 256)) == 68_719_476_736
assert anatomy.flops([volume], 512, (256, 256, 64)) == 4_398_046_511_104 == 64 * 68_719_476_736
with_bias = [anatomy.parameters([replace(layer, bias=True)], 512) for layer in (plane, volume)]
assert with_bias == [2_098_176, 4_195_328]

# %% [markdown] tags=["erratum"]
# > **Check this against your slides.** Deep Learning for Vision (2024-2025), "Comparison": 2.1 and 4.2
# > million parameters. Both are the numbers without a bias, 2,097,152 and 4,194,304; with one bias per
# > kernel they are 2,098,176 and 4,195,328. Rounded, no one can tell. Whoever compares exact counts has to
# > say which; a convolution in front of a batch normalisation has none, for the mean would take it away
# > again. *Kind: convention.*

# %% [markdown]
# ## 2. Whole networks
#
# *Needs section 1.*
#
# A network is a list of layers, so its count is a sum. Three classifiers of the lectures, for one image of
# the size that they were made for, and the U-Net of these notebooks. (A Module is run once, on zeros, to
# see what its layers are given.)

# %%
unet = models.build("unet", in_channels=3, num_classes=5, width=16, depth=3, seed=0)
counts = {}
for name, (classifier, size) in classics.CLASSIFIERS.items():
    layers = classifier()
    counts[name] = anatomy.parameters(layers, 3, size), anatomy.flops(layers, 3, size)
counts["unet, 64 x 64"] = anatomy.parameters(unet), anatomy.flops(unet, 3, 64)
counts["unet, 512 x 512"] = anatomy.parameters(unet), anatomy.flops(unet, 3, 512)
for name, (weights, work) in counts.items():
    print(f"{name:<16}{weights:>12,} parameters {work / 1e9:>7.2f} GFLOPs"
          f"{work / weights:>8,.0f} for each parameter")  # fmt: skip

assert counts["alexnet"] == (60_965_224, 2 * 724_406_816)
assert counts["vgg16"] == (138_357_544, 2 * 15_470_264_320)
assert counts["googlenet"] == (6_998_552, 2 * 1_582_671_872)
assert counts["unet, 512 x 512"][1] == 64 * counts["unet, 64 x 64"][1]  # the same for every pixel

# %% [markdown]
# Papers often count a multiplication and its addition as **one** and still call it a FLOP. GoogLeNet was
# planned for 1.5 billion multiply-adds; we count 1.58 billion products, so 3.17 GFLOPs. Before two
# networks are compared, ask which of the two was counted.
#
# The last column is worth a second look: a parameter of a dense layer works once per image, a parameter of
# a convolution once per pixel. So weights and work sit at opposite ends of a network. The picture shows
# VGG16 block by block: above, each block's share of the parameters; below, its share of the operations.

# %%
layers = classics.vgg16()
blocks, started = {}, 0
for end, layer in enumerate(layers, start=1):
    if isinstance(layer, Pool | Dense):
        name = f"block {len(blocks) + 1}" if isinstance(layer, Pool) else f"dense {len(blocks) - 4}"
        before, after = layers[:started], layers[:end]
        blocks[name] = tuple(
            count(after, 3, 224) - (count(before, 3, 224) if before else 0)
            for count in (anatomy.parameters, anatomy.flops)
        )
        started = end
assert [sum(column) for column in zip(*blocks.values(), strict=True)] == list(counts["vgg16"])

figure = Figure(figsize=(8.5, 3.8), dpi=100, layout="constrained")
titles = "share of the parameters", "share of the operations"
for ax, title, column in zip(figure.subplots(2, 1), titles, zip(*blocks.values(), strict=True),
                             strict=True):  # fmt: skip
    shares = [100 * value / sum(column) for value in column]
    bars = ax.bar(blocks.keys(), shares, color="#0072b2" if "param" in title else "#d27800")
    ax.bar_label(bars, [f"{share:.1f} %" for share in shares], padding=2, fontsize=9)
    ax.set(ylim=(0, 92), yticks=[])
    ax.set_title(title, fontsize=11)
    ax.spines[["top", "right", "left"]].set_visible(False)
dense_weights, dense_work = (
    sum(blocks[f"dense {n}"][which] for n in (1, 2, 3)) / counts["vgg16"][which] for which in (0, 1)
)
assert dense_weights > 0.89
assert dense_work < 0.01
figure

# %% [markdown]
# A segmentation network keeps large maps to the end, so it has few parameters and much work.
#
# One number in such a list is easily wrong by one, and it is the last: how many classes are there?

# %%
for K in (20, 21):
    print(
        f"FCN-VGG16 for {K} classes: {anatomy.parameters(classics.fcn('vgg16', K), 3):,} parameters"
    )
assert anatomy.parameters(classics.fcn("vgg16", 21), 3) == 134_346_581
assert anatomy.parameters(classics.fcn("vgg16", 20), 3) == 134_346_581 - (4096 + 1)

# %% [markdown] tags=["erratum"]
# > **Check this against your slides.** Bonn University, MA-INF 4308 (2023), "Datasets": Pascal VOC has 20
# > classes. For the network there are 21: the background is a class of its own, and needs a kernel of the
# > last layer (4096 weights and a bias in FCN-VGG16) and a row and a column of the confusion matrix. A
# > label of 20 is the last *object*, not one too many. *Kind: convention.*

# %% [markdown]
# ## 3. The same map for less
#
# *Needs section 1.*
#
# From 64 channels to 64, on a map of 56 × 56, there are many ways. A **separable** convolution first gives
# every channel a 3×3 kernel of its own (`groups` = 64), then mixes the channels with 1×1 kernels. A
# **dilated** one has holes (notebook 08).

# %%
same = dict(bias=False)
ways = {
    "3x3": [Conv(64, 3, padding=1, **same)],
    "5x5": [Conv(64, 5, padding=2, **same)],
    "3x3, dilated by 2": [Conv(64, 3, padding=2, dilation=2, **same)],
    "3x3, then 3x3": [Conv(64, 3, padding=1, **same)] * 2,
    "separable 3x3": [Conv(64, 3, padding=1, groups=64, **same), Conv(64, 1, **same)],
}
for name, network in ways.items():
    weights, work = anatomy.parameters(network, 64), anatomy.flops(network, 64, 56)
    sees = anatomy.receptive_field(network).size
    print(f"{name:<20}{weights:>8,} parameters {work / 1e6:>7.1f} MFLOPs   sees {sees} x {sees}")
    assert anatomy.output_sizes(network, 56)[-1] == 56


def cost(name):
    return anatomy.flops(ways[name], 64, 56)


assert cost("3x3, dilated by 2") == cost("3x3")  # holes are free
assert cost("3x3, then 3x3") * 25 == cost("5x5") * 18  # and see as far as 5x5
assert Fraction(cost("separable 3x3"), cost("3x3")) == Fraction(1, 9) + Fraction(1, 64)

# %% [markdown]
# Separable costs $1/k^2 + 1/O$ of the whole, here eight times less. (Is it eight times faster? Section 6.)
#
# A **transposed** convolution turns the count around: there the kernel is laid down once for every pixel of
# the *input*. Notebook 03 computes the same map in another way, by an ordinary convolution on the image
# with zeros between its pixels. What does the detour cost?

# %%
up = Transposed(32, 4, stride=2, padding=1, bias=False)  # doubles the map
assert anatomy.output_sizes([up], 28)[-1] == 56
direct = anatomy.flops([up], 64, 28)
interleaved = 2 * 28 - 1 + 2 * 2  # zeros in between, and a border of k - 1 - p = 2
detour = anatomy.flops([Conv(32, 4, bias=False)], 64, interleaved)
print(f"transposed {direct / 1e6:.1f} MFLOPs, through the zeros {detour / 1e6:.1f} MFLOPs")
assert anatomy.output_sizes([Conv(32, 4, bias=False)], interleaved)[-1] == 56
assert detour == 2**2 * direct

# %% [markdown]
# Four times: three of four products multiply a zero that we put there ourselves.
#
# **Your turn.** Which is cheaper on 56 × 56: a 3×3 convolution from 64 channels to 64, or a "bottleneck" of
# 1×1 to 16 channels, 3×3 on those, and 1×1 back to 64? Guess the factor, then add it to `ways`.
#
# ## 4. Attention, counted
#
# *Needs section 1.*
#
# Attention lets each of L tokens look at all others. A token is a vector of d numbers: a query, a key and
# a value are made from it by three products with (d, d) matrices, and a fourth such product comes at the
# end. In between, every query meets every key, and the weights that come of it mix the values:
#
# $$8 d^2 L \;\;(\text{four products } (L, d) \times (d, d))
#   \;+\; 4 d L^2 \;\;(\text{two products with an } (L, L) \text{ matrix})$$
#
# Here it is as code, with a tally beside each product:


# %%
def product(a, b, tally):
    tally.append(2 * len(a) * a.shape[1] * b.shape[1])  # (M, K) x (K, N): 2 M K N operations
    return a @ b


def attention(tokens, to_query, to_key, to_value, to_output):
    """tokens (L, d), four matrices (d, d) -> (L, d), the weights (L, L), and the FLOPs."""
    tally = []
    q, k, v = (product(tokens, matrix, tally) for matrix in (to_query, to_key, to_value))
    similar = product(q, k.T, tally) / np.sqrt(tokens.shape[1])  # (L, L)
    weights = F.softmax(similar, dim=1)  # each row adds up to 1
    return product(product(weights, v, tally), to_output, tally), weights, sum(tally)


rng = np.random.default_rng([9, 1])
L, d = 48, 256
tokens, matrices = rng.standard_normal((L, d)), rng.standard_normal((4, d, d)) / np.sqrt(d)
y, weights, tallied = attention(tokens, *matrices)
assert tallied == 8 * d**2 * L + 4 * d * L**2 == anatomy.attention_flops(L, d)
assert np.allclose(weights.sum(axis=1), 1)
bare = (tokens @ matrices[0]) @ (tokens @ matrices[1]).T  # the same matrix without either
print(f"row sums: {weights.sum(axis=1)[:3].round(6)}, bare {bare.sum(axis=1)[:3].round(1)}")
print(f"a typical weight, not divided: {bare.std():.1f} = about the root of d = {d}")

# %% [markdown] tags=["erratum"]
# > **Check this against your slides.** ENSTA Paris, CSC_5RO13, "From NL-Means to Self-Attention": the
# > attention matrix is given as the products of queries and keys alone. Two things lie between these and
# > the weights: the division by $\sqrt{d}$ (a product of d terms grows like $\sqrt d$, as printed above,
# > and softmax would see only the largest) and the softmax, after which each row adds up to 1 as the
# > weights of NL-means do. Neither is in the slides' FLOPs; they cost a few $L^2$. *Kind: simplification.*

# %% [markdown]
# The lecture asks for two numbers: a volume of 64 × 64 × 32 tokens with d = 256, once with every token
# looking at all, once in windows of 8 × 8 × 8 (Swin).

# %%
grid = (64, 64, 32)
everywhere = anatomy.attention_flops(grid, 256)
in_windows = anatomy.attention_flops(grid, 256, window=(8, 8, 8))
matrix_everywhere, matrix_in_windows = 4 * prod(grid) ** 2, 4 * prod(grid) * 8**3  # bytes, float32
print(f"everywhere: {everywhere:,} FLOPs, and weights of {matrix_everywhere / 2**30:.0f} GiB")
print(f"in windows: {in_windows:,} FLOPs, and weights of {matrix_in_windows / 2**20:.0f} MiB")
assert everywhere == 17_660_905_521_152
assert in_windows == 137_438_953_472
assert Fraction(everywhere, in_windows) == Fraction(257, 2)  # 128.5 times
assert (matrix_everywhere, matrix_in_windows) == (64 * 2**30, 256 * 2**20)

# %% [markdown]
# 17.7 TFLOPs against 137.4 GFLOPs, and the memory of the weights, which no FLOP count shows, falls as well.
# (`python3 start.py prove flop-counts` lists all counts of that lecture.)
#
# Attention itself does not know where a token lies. What tells it? The parameters of ViT-B/16 do: twelve
# blocks, d = 768, images of 224 × 224 in patches of 16 × 16, one extra token for the class.

# %%
d, places = 768, (224 // 16) ** 2 + 1
parts = {
    "patches to vectors": 16 * 16 * 3 * d + d,
    "class token": d,
    "a vector per place": places * d,
    "12 blocks": 12 * (4 * (d * d + d) + (4 * d * d + 4 * d) + (4 * d * d + d) + 2 * 2 * d),
    "last norm and scores": 2 * d + 1000 * d + 1000,
}
for name, count in parts.items():
    print(f"{name:<22}{count:>12,}")
print(f"{'ViT-B/16':<22}{sum(parts.values()):>12,}")
assert sum(parts.values()) == 86_567_656
assert parts["a vector per place"] == 151_296 == 197 * 768

# %% [markdown] tags=["erratum"]
# > **Check this against your slides.** ENSTA Paris, CSC_5RO13, "Properties of ViT": a patch's embedding is
# > joined by its *relative* position. ViT adds a learned vector for the **absolute** place: a table of 197
# > vectors of 768 numbers, without which the sum above misses the network's 86,567,656 parameters by
# > 151,296. (Swin, in the same family, does learn a number per relative offset in its windows.)
# > *Kind: slip.*

# %% [markdown]
# ## 5. What a machine can do
#
# *Needs nothing.*
#
# A processor does two things: it computes, and it carries numbers from and to memory. Both have a top
# speed. Computing is measured by a large matrix product, the operation that every maker of processors
# tunes for; carrying by a large copy. Here is yours:

# %%
roof = machine()
balance = roof["gflops"] / roof["gigabytes"]
print(f"matrix product {roof['gflops']:.0f} GFLOP/s, copy {roof['gigabytes']:.0f} GB/s, "
      f"{roof['threads']} threads")  # fmt: skip
print(f"in the time of one byte: {balance:.1f} operations; of a float32, read or written: "
      f"{4 * balance:.0f}")  # fmt: skip
for name in ("vgg16", "unet, 64 x 64"):
    print(f"at that speed, {name}: {counts[name][1] / roof['gflops'] / 1e6:.2f} ms for an image")

# %% [markdown]
# The last lines are a wish: no real program is all matrix product. And "memory" is not one thing either.
# Near each core lie small, quick memories, the **caches**, which hold what was used last. The picture shows
# how fast one core copies, by how much is copied over and over: source and copy together, from 16 KB to
# 128 MB. Where the curve falls, a cache has become too small. (At its left end the work is so short that
# calling it takes most of the time.)


# %%
def copy_speed(nbytes):
    """GB/s, read and written, of a copy whose source and target together have so many bytes."""
    source, target = np.ones((2, nbytes // 8), np.float32)
    repeat = max(1, (1 << 23) // nbytes)

    def work():
        for _ in range(repeat):
            np.copyto(target, source)

    return 1e-9 * nbytes * repeat / seconds(work)


sizes = [2**n for n in range(14, 28)]
speeds = [copy_speed(size) for size in sizes]
figure = Figure(figsize=(8.5, 3.2), dpi=100, layout="constrained")
ax = figure.subplots()
ax.semilogx(sizes, speeds, "o-", color="#0072b2", base=2)
ax.set(xlabel="source and copy together", ylabel="GB/s, one core", ylim=(0, 1.1 * max(speeds)))
named = [2**n for n in range(14, 28, 2)]
ax.set_xticks(named, [f"{n >> 10} KB" if n < 1 << 20 else f"{n >> 20} MB" for n in named])
ax.grid(alpha=0.3)
figure

# %% [markdown]
# ## 6. The roofline
#
# *Needs sections 1 and 5.*
#
# An operation's **intensity** is how much it computes for each byte that it moves. A processor that can do
# P operations and carry B bytes in a second cannot be faster than
#
# $$\min(P,\; B \cdot \text{intensity})$$
#
# Drawn over the intensity on logarithmic axes this is a slope with a ceiling: the *roofline*. Left of the
# corner an operation waits for memory, right of it for arithmetic.
#
# Where does a 3×3 convolution from C channels to C stand? Per pixel it computes $18 C^2$ operations. The
# least it must move is its input and its output, 2C numbers of 4 bytes. But the common way lays
# the windows out as columns first (*im2col*), nine numbers for each one of the image, written and read
# again:


# %%
def intensity(C, numbers_moved):
    """Operations per byte of a 3x3 convolution C -> C that moves so many float32 per pixel."""
    return Fraction(18 * C * C, 4 * numbers_moved)


print(f"{'C':>4}{'the least':>12}{'columns':>10}{'rows apart':>12}     your corner: {balance:.1f}")
for C in (3, 16, 64, 256):
    least = intensity(C, C + C)
    columns = intensity(C, C + 9 * C + 9 * C + C)
    rows_apart = intensity(C, C + 3 * C + 3 * C + 3 * C + 3 * C + C)
    print(f"{C:>4}{float(least):>12.1f}{float(columns):>10.1f}{float(rows_apart):>12.1f}")
    assert least == Fraction(9, 4) * C
    assert least == 10 * columns
    assert rows_apart == Fraction(10, 7) * columns
assert Fraction(18, 4 * 2) == Fraction(9, 4)  # one kernel per channel: whatever C is

# %% [markdown]
# Intensity grows with C: every number that is fetched is used by all C kernels. So with few channels a
# convolution waits for memory, and columns make it ten times worse. ("Rows apart" is the subject of the
# next section.) The channelwise half of a separable convolution uses each number for one kernel only: its
# intensity is 9/4 whatever C is. That is the catch in "eight times fewer operations".
#
# The picture shows the operations of `minseg bench` that multiply, forward and backward, under this
# machine's roof; letters are explained at its right. The dashed slope is copying at the speed of the best
# cache (one core, from the picture above): what small maps live under.

# %%
again = (
    machine()
)  # the roof is the best that was ever seen; while something else ran it came out low
for most in ("gflops", "gigabytes"):
    roof[most] = max(roof[most], again[most])
depthwise = bench.Case(
    "conv2d 3x3, one kernel per channel, 64 x 64",
    lambda rng: [rng.standard_normal(s).astype(np.float32) for s in ((8, 16, 64, 64), (16, 1, 3, 3))],
    lambda F, x, w: F.conv2d(x, w, padding=1, groups=16),
    3 * anatomy.flops([Conv(16, 3, padding=1, groups=16)], 16, 64) * 8,
)  # fmt: skip
points = []
for case in [*(each for each in bench.CASES if each.flops), depthwise]:
    run = bench.one_op(bench.Ours(), case)
    times = [sum(run()) for _ in range(12)][2:]
    arrays = case.inputs(np.random.default_rng(0))
    moved = 2 * sum(array.nbytes for array in (*arrays, case.run(F, *arrays)))
    points.append((case.name, case.flops / moved, 1e-9 * case.flops / median(times)))
assert len({case.flops for case in bench.CASES[1:5]}) == 1  # b, c, d, e

figure = Figure(figsize=(10.5, 4.4), dpi=100, layout="constrained")
ax = figure.subplots()
per_byte = np.geomspace(1, 1000, 200)
ax.loglog(per_byte, np.minimum(per_byte * roof["gigabytes"], roof["gflops"]), color="black",
          label="this machine's roof")  # fmt: skip
ax.loglog(per_byte, np.minimum(per_byte * max(speeds), roof["gflops"]), "--", color="#888888",
          label="the same, out of the best cache")  # fmt: skip
for letter, (name, x, y) in zip("abcdefgh", points, strict=True):
    ax.plot(x, y, "o", markersize=12, color="#d27800", label=f"{letter}   {name}")
    ax.text(x, y, letter, ha="center", va="center_baseline", fontsize=9, color="white")
ax.set(xlabel="operations per byte", ylabel="GFLOP/s, forward and backward")
ax.grid(alpha=0.3)
figure.legend(loc="outside right upper", frameon=False, fontsize=9, handlelength=1.4)
figure

# %% [markdown]
# For every letter, read off two things: where the roof above it is (what no code can pass) and how far
# below it lies (what better code could still win; a letter above the roof means that the machine was busy
# while the roof was measured). b, c, d and e do the same number of operations, on maps of different shapes.
# As for h: minseg goes through the groups one after the other, which is much ceremony for little work.
#
# **Your turn.** `python3 start.py bench` measures more carefully, operation by operation, and beside
# PyTorch where that is installed. Which operation of the U-Net's step is furthest from its floor?
#
# ## 7. Several ways to convolve, with the clock
#
# *Needs section 6.*
#
# One job: 8 images of 64 × 64 with 32 channels, 32 kernels of 3×3. Four programs that compute the same
# numbers:
#
# 1. the slide's loop, one multiplication at a time;
# 2. *columns and one product*: lay out all windows side by side, (C·9, pixels), and multiply once by the
#    kernels (O, C·9). This is how `windows.py` defines convolution;
# 3. *rows apart*: lay out only the windows of a single row, (C·3, pixels), a third of the copying. One
#    product makes a map for each of the three kernel rows, and they are added, each shifted by its row;
# 4. the library: the same by *strips* of a few rows, so that the columns never leave the cache.


# %%
def columns_and_one_product(x, w):
    """x (N, C, H, W), w (O, C, KH, KW) -> (N, O, OH, OW)."""
    g = Windows(x.shape[2:], w.shape[2:])
    columns = g.gather(x).reshape(flat(w).shape[1], -1)  # (C*KH*KW, N*OH*OW)
    y = flat(w) @ columns  # (O, CKK) x (CKK, L) -> (O, L)
    return y.reshape(len(w), len(x), g.OH, g.OW).swapaxes(0, 1)


def rows_apart(x, w):
    """The same."""
    N, C, H, W = x.shape
    O, _, KH, KW = w.shape
    columns = Windows((H, W), (1, KW)).gather(x).reshape(C * KW, -1)  # (C*KW, N*H*OW)
    kernel_rows = w.transpose(2, 0, 1, 3).reshape(KH * O, C * KW)
    maps = (kernel_rows @ columns).reshape(KH, O, N, H, -1)  # (KH*O, CKW) x (CKW, L)
    OH = H - KH + 1
    return sum(maps[u, :, :, u : u + OH] for u in range(KH)).swapaxes(0, 1)


rng = np.random.default_rng([9, 2])
x = rng.integers(-9, 10, (8, 32, 64, 64)).astype(np.float32)  # whole numbers: all sums are exact
w = rng.integers(-9, 10, (32, 32, 3, 3)).astype(np.float32)
small = x[:1, :, :5, :14]  # the loop gets 36 pixels, or we would wait for minutes

begun = time.perf_counter()
y_loop = loops.conv2d(small, w)
loop_seconds = time.perf_counter() - begun
y = F.conv2d(x, w)
assert (y_loop == y[:1, :, :3, :12]).all()
assert (columns_and_one_product(x, w) == y).all()
assert (rows_apart(x, w) == y).all()

layer = [Conv(32, 3, bias=False)]
speed = {"the slide's loop": 1e-9 * anatomy.flops(layer, 32, (5, 14)) / loop_seconds}
work = 8 * anatomy.flops(layer, 32, 64)
for name, way in (("columns, one product", columns_and_one_product), ("rows apart", rows_apart),
                  ("the library", F.conv2d)):  # fmt: skip
    speed[name] = 1e-9 * work / seconds(lambda way=way: way(x, w), 9)
for name, gflops in speed.items():
    times = gflops / speed["the slide's loop"]
    print(f"{name:<22}{gflops:>10.4f} GFLOP/s, {times:>9,.0f} times the loop")
whole = 4 * prod((32, 3, 3, 8, 62, 62))
print(f"image {x.nbytes / 1e6:.1f} MB, all its columns {whole / 1e6:.1f} MB")
assert whole == 9 * x[:, :, :62, :62].nbytes

# %% [markdown]
# The asserts say *equal to the last bit*, and may, because the numbers are whole and small: every sum is
# exact, in whatever order it is made.
#
# How long should a strip be? A 3×3 kernel needs two rows beyond the strip's own, so short strips do much
# of the work twice, and give each product too little to multiply; long ones leave the cache.
# The picture shows the library's speed on one image of 384 × 384, one thread, by the bytes of columns and
# product that a strip may have; the dotted line is what `strips.py` uses. The maps are the same each time.

# %%
image = rng.integers(-9, 10, (1, 32, 384, 384)).astype(np.float32)
threads, usual = get_num_threads(), strips.STRIP_BYTES
lengths, speeds_by_strip, answers = [2**n for n in range(17, 26)], [], []
set_num_threads(1)
try:
    for length in lengths:
        strips.STRIP_BYTES = length  # the library's own constant, changed for a moment
        answers.append(F.conv2d(image, w))
        taken = seconds(lambda: F.conv2d(image, w))
        speeds_by_strip.append(1e-9 * anatomy.flops(layer, 32, 384) / taken)
finally:
    strips.STRIP_BYTES = usual
    set_num_threads(threads)
assert all((answer == answers[0]).all() for answer in answers)

figure = Figure(figsize=(8.5, 3), dpi=100, layout="constrained")
ax = figure.subplots()
ax.semilogx(lengths, speeds_by_strip, "o-", color="#0072b2", base=2)
ax.axvline(usual, color="#888888", linestyle=":")
ax.set_xticks(lengths, [f"{n >> 10} KB" if n < 1 << 20 else f"{n >> 20} MB" for n in lengths])
ax.set(
    xlabel="bytes of a strip", ylabel="GFLOP/s, one thread", ylim=(0, 1.1 * max(speeds_by_strip))
)
ax.grid(alpha=0.3)
figure

# %% [markdown]
# **Your turn.** Give `rows_apart` and `columns_and_one_product` an image of 3 channels. One makes a third
# of the other's columns, and yet `by_rows` in `strips.py` refuses it for so few channels. Look at the
# shapes of the two products: how long is each sum?
#
# ## 8. Threads, and Amdahl's law
#
# *Needs section 5.*
#
# Two cores, half the time? If a share p of the work can be divided among n threads and the rest cannot,
# the whole is faster by
#
# $$S(n) = \frac{1}{(1 - p) + p / n} \;<\; \frac{1}{1 - p}$$
#
# Turned around, the time with two threads tells p: $p = 2\,(1 - T_2 / T_1)$. Let us train the U-Net with
# one thread and with two, op by op. (On a busy machine, or one with a single core, p comes out near 0, or
# even below it.)

# %%
step = bench.training_step(bench.Ours())
tables = {1: {}, 2: {}}
try:
    for n in (1, 2) * 4:  # in turns, the best of each: what else the machine does disturbs both
        set_num_threads(n)
        for row in breakdown(step, roof, steps=3):
            tables[n][row["op"]] = min(row["ms"], tables[n].get(row["op"], np.inf))
finally:
    set_num_threads(threads)
print(f"{'milliseconds':<20}{'1 thread':>9}{'2 threads':>11}{'faster':>8}")
for name in sorted(tables[1], key=tables[1].get, reverse=True)[:9]:
    one, two = (tables[n][name] for n in (1, 2))
    print(f"{name:<20}{one:>9.2f}{two:>11.2f}{one / two:>8.2f}")
one, two = (sum(tables[n].values()) for n in (1, 2))
share = 2 * (1 - two / one)
print(f"{'the step':<20}{one:>9.2f}{two:>11.2f}{one / two:>8.2f}   p = {share:.2f}")

# %% [markdown]
# What does not become twice as fast, and why? Some work is done by one thread only: Python itself, the
# optimizer's many small arrays, adding up the strips' partial sums. Some is divided but waits for the same
# memory: two cores do not double what the memory delivers. Small work is not worth sharing out at all. And
# where two "cores" are the two halves of one, they share its arithmetic, too.
#
# The picture shows Amdahl's law for four shares: with p = 0.9, ten times is the end, whatever you buy. The
# dot is the step that was just measured.


# %%
def amdahl(p, n):
    return 1 / ((1 - p) + p / n)


assert np.isclose(amdahl(0.9, 2), 1 / 0.55)
assert amdahl(0.9, 10**9) < 10
assert amdahl(1, 16) == 16

cores = np.arange(1, 33)
figure = Figure(figsize=(8.5, 3.2), dpi=100, layout="constrained")
ax = figure.subplots()
for p, style in ((1, "-"), (0.99, "--"), (0.9, "-."), (0.5, ":")):
    ax.plot(cores, amdahl(p, cores), style, color="#0072b2", label=f"p = {p}")
ax.plot(2, one / two, "o", color="#d27800", markersize=9, label="the step, measured")
ax.set(xlabel="threads", ylabel="times as fast", ylim=(0, 20))
ax.set(xticks=[1, 2, 4, 8, 16, 24, 32], yticks=[1, 5, 10, 15, 20])
ax.grid(alpha=0.3)
ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
figure

# %% [markdown]
# One thing must not change with the threads: the result. Float sums depend on their order (section 10), so
# `strips.cut` cuts the work by sizes alone, never by how many threads there are, and partial sums are added
# in the order of the strips, whichever was finished first. Three steps of training, with one, two and
# three threads, give the same network to the last bit:

# %%
images = rng.standard_normal((4, 3, 64, 64)).astype(np.float32)
labels = rng.integers(0, 5, (4, 64, 64))


def trained(n):
    """All weights of a U-Net after three steps on n threads, as bytes."""
    set_num_threads(n)
    network = models.build("unet", in_channels=3, num_classes=5, width=8, depth=3, seed=0)
    for _ in range(3):
        loss = F.cross_entropy(network(images), labels)
        loss.backward()
        for parameter in network.parameters():
            parameter.data = parameter.data - 0.1 * parameter.grad
            parameter.grad = None
    return b"".join(parameter.numpy().tobytes() for parameter in network.parameters())


try:
    networks = {trained(n) for n in (1, 2, 3)}
finally:
    set_num_threads(threads)
print(f"three trainings, {len(networks)} network of {len(next(iter(networks))):,} bytes")
assert len(networks) == 1

# %% [markdown]
# ## 9. Memory that is lent again
#
# *Needs section 5.*
#
# `y = x + 1` on a large array asks the system for fresh memory. The system hands it out by **pages**, and
# not at once: the first touch of each page stops the program, and the system finds a page and clears it (a
# *page fault*). When the array is gone, so are its pages, and the next step of the training begins anew.
#
# The table shows the same addition into fresh memory, into an array that stays, and into memory lent by
# `memory.py`, which keeps what was returned; with the page faults of one call where the system tells them.
# A page has 4 KB, so 32 MiB are 8,192 of them; some systems give large arrays pages of 2 MB, only 16.

# %%
try:
    from resource import RUSAGE_SELF, getrusage
except ImportError:  # not on Windows

    def faults():
        return float("nan")
else:

    def faults():
        return getrusage(RUSAGE_SELF).ru_minflt


x = np.ones((8, 16, 256, 256), np.float32)  # 32 MiB
kept = np.zeros_like(x)
ways = {
    "fresh memory": lambda: np.add(x, 1),
    "an array that stays": lambda: np.add(x, 1, out=kept),
    "lent memory": lambda: np.add(x, 1, out=memory.empty(x.shape, x.dtype)),
}
for name, way in ways.items():
    taken = seconds(way)
    before = faults()
    way()
    print(f"{name:<22}{1000 * taken:>7.2f} ms {faults() - before:>8.0f} page faults")

first = memory.empty(x.shape, x.dtype)
place = first.ctypes.data
del first  # nobody looks at it any more ...
second = memory.empty(x.shape, x.dtype)
assert second.ctypes.data == place  # ... so the next one of its size gets the same memory
del second

# %% [markdown]
# An addition reads and writes each number once; when the pages have to be found and cleared as well, the
# housekeeping is no small part of it. A network asks for the same sizes in every step, which is
# why lending works: after the first step, nothing is new.
#
# ## 10. The graphics card: one thread per number
#
# *Needs nothing; section 7 for what columns are.*
#
# A graphics card has thousands of small cores and its own, much faster memory. The roofline holds for it as
# for any machine, with other numbers. It is programmed by writing down what **one thread** does, a
# *kernel* (nothing to do with 3×3), and starting it thousands of times at once. `kernels.cu` holds
# minseg's. This is the one that lays windows out as columns:

# %%
code = cuda.SOURCE.read_text("utf-8")
gather_text = code[code.index("// columns[c,u,v") : code.index("// x[n,c,h,w] =")]
print(gather_text)

# %% [markdown]
# `FOR_EACH` gives a thread its work: from the thread's number come an image n, a channel c and an output
# `pixel`. The rest is addresses. Memory is one long row of numbers: x[n, c, h, w] lies at
# ((n·C + c)·H + h)·W + w. An `Axis` says what an output reads: at tap u, output i reads start + step·i +
# hop·u, which is −padding + stride·i + dilation·u. Here is the same text in Python, line by line.


# %%
class Grid(NamedTuple):
    """The kernel's struct Windows."""

    N: int
    C: int
    H: int
    W: int
    rows: Axis
    cols: Axis
    first: int
    last: int


def gather_thread(x, columns, g, n, c, pixel):
    """What one thread does; x and columns are flat, as memory is. Returns the addresses it read."""
    pixels = (g.last - g.first) * g.cols.size
    image = (n * g.C + c) * g.H * g.W
    column = (c * g.rows.taps * g.cols.taps * g.N + n) * pixels + pixel
    top = g.rows.start + g.rows.step * (g.first + pixel // g.cols.size)
    left = g.cols.start + g.cols.step * (pixel % g.cols.size)
    addresses = []
    for u in range(g.rows.taps):
        for v in range(g.cols.taps):
            h, w = top + g.rows.hop * u, left + g.cols.hop * v
            inside = 0 <= h < g.H and 0 <= w < g.W
            columns[column] = x[image + h * g.W + w] if inside else 0
            addresses.append(image + h * g.W + w if inside else None)
            column += g.N * pixels
    return addresses


def grid_of(x, kernel_size, stride=1, padding=0, dilation=1):
    """The plain Windows of the library, and the same geometry as the kernel gets it."""
    twice = (stride, stride), ((padding, padding),) * 2, (dilation, dilation)
    windows = Windows(x.shape[2:], (kernel_size, kernel_size), *twice)
    rows, cols = (
        Axis(-padding, stride, dilation, kernel_size, n) for n in (windows.OH, windows.OW)
    )
    return windows, Grid(*x.shape, rows, cols, 0, windows.OH)


rng = np.random.default_rng([9, 3])
x = rng.standard_normal((2, 3, 7, 8)).astype(np.float32)
windows, g = grid_of(x, 3, stride=2, padding=1, dilation=2)
expected = windows.gather(x)  # (C, KH, KW, N, OH, OW)
columns = np.full(expected.size, np.nan, np.float32)

n, c, pixel = 1, 2, 4
addresses = gather_thread(x.ravel(), columns, g, n, c, pixel)
i, j = divmod(pixel, windows.OW)
one_window = columns.reshape(expected.shape)[c, :, :, n, i, j]
print(f"thread (n={n}, c={c}, pixel={pixel}) reads {addresses}")
print(one_window.round(2))
assert (one_window == expected[c, :, :, n, i, j]).all()
assert np.isnan(columns).sum() == columns.size - 9  # and it wrote nine numbers, no more

# %% [markdown]
# Now all of them. On the card they run in no order that anyone knows, so let us shuffle. There may be fewer
# threads than pixels; then each goes on with the pixel that lies one whole grid further (the last line of
# `FOR_EACH`).


# %%
def launch(thread, g, pixels, seed, blocks=2, threads_per_block=4):
    """Call thread(n, c, pixel) as the card would: all of them, in any order."""
    numbers = [
        (n, c, block * threads_per_block + t)
        for n in range(g.N)
        for c in range(g.C)
        for block in range(blocks)
        for t in range(threads_per_block)
    ]
    for which in np.random.default_rng(seed).permutation(len(numbers)):
        n, c, begin = numbers[which]
        for pixel in range(begin, pixels, blocks * threads_per_block):
            thread(n, c, pixel)


columns = np.full(expected.size, np.nan, np.float32)
flat_x = x.ravel()
launch(lambda *at: gather_thread(flat_x, columns, g, *at), g, windows.OH * windows.OW, seed=1)
assert (columns.reshape(expected.shape) == expected).all()
print(f"{columns.size} numbers by {g.N * g.C * 8} threads in any order: as windows.gather, exactly")

# %% [markdown]
# ### Neighbours read neighbours
#
# A card fetches memory in lines, and is fast when threads with neighbouring numbers want neighbouring
# addresses. That is why a thread belongs to a *pixel* and not, say, to a tap. The picture shows an image of
# 4 × 6 whose pixels hold their own addresses, and the columns of its 3×3 windows, one for each thread.
# Framed on the left is the window of thread 5; on the right what thread 5 reads one after the other (down),
# and what all threads read at the same moment (across): neighbours.

# %%
addresses = np.arange(24)
windows, g = grid_of(addresses.reshape(1, 1, 4, 6), 3)
pixels = windows.OH * windows.OW
columns = np.zeros(9 * pixels, int)
launch(lambda *at: gather_thread(addresses, columns, g, *at), g, pixels, seed=2)
columns = columns.reshape(9, pixels)
assert (np.diff(columns.reshape(9, windows.OH, windows.OW), axis=2) == 1).all()

figure = Figure(figsize=(8.5, 3.8), dpi=100, layout="constrained")
left, right = figure.subplots(1, 2, width_ratios=(6, 8))
plot.matrix(addresses.reshape(4, 6), left, title="image: addresses", highlight=(1, 1, 3, 3))
plot.matrix(columns, right, title="columns: one per thread", highlight=[(0, 5, 9, 1), (4, 0, 1, 8)])
figure

# %% [markdown]
# **Your turn.** Give `grid_of` a stride of 2 and print `np.diff` again. The neighbours' addresses lie 2
# apart: half of every line that is fetched is thrown away. What does a stride of 8 cost?
#
# ### The way back: no two threads write the same number
#
# The gradient goes the other way: every column is added back to where it came from, and windows overlap.
# Written as the slides write it, `X[i:i+h, j:j+w] += ...`, one thread per *window*, several threads
# add to the same pixel. Adding is three steps: read, add, write. If all read before any has written, then
# all but one addition is lost. The picture shows, left, what 3×3 windows of ones must give on a 5 × 5
# image, and right what is left in that worst case.

# %%
windows, g = grid_of(np.zeros((1, 1, 5, 5)), 3)
ones = np.ones((1, 3, 3, 1, windows.OH, windows.OW), int)
right_sum = windows.scatter(ones)[0, 0]
image = np.zeros((5, 5), int)
for u, v in np.ndindex(3, 3):
    for i, j in np.ndindex(windows.OH, windows.OW):
        has_read = 0  # every thread saw the empty image ...
        image[i + u, j + v] = has_read + 1  # ... and writes what it believes
assert right_sum[2, 2] == 9
assert (image == 1).all()

figure = Figure(figsize=(7, 2.8), dpi=100, layout="constrained")
left, right = figure.subplots(1, 2)
plot.matrix(right_sum, left, title="every addition counts", largest=9)
plot.matrix(image, right, title="everyone read first", largest=9)
figure

# %% [markdown]
# One cure is the **atomic** addition, during which the card lets nobody else at the number. Nothing is lost
# any more, but who comes first is still open, and the order matters: float addition rounds after each
# step. Nine numbers, added in a thousand orders:

# %%
terms = rng.standard_normal(9).astype(np.float32)
sums = {np.add.accumulate(rng.permutation(terms))[-1].item() for _ in range(1000)}
print(f"{len(sums)} different sums, from {min(sums):.9f} to {max(sums):.9f}")
assert len(sums) > 1

# %% [markdown]
# So the same training on the same card gives another network each time. The other cure is to turn the
# question round. One thread per **pixel of the image**: it looks up all windows that reach over its pixel,
# adds up what they hold in a fixed order, and writes once. Scattering has become gathering; nobody writes
# where another does, and there is nothing to be atomic. The only difficulty is the question *which outputs
# read position p, and by which tap?*, which is the output-size formula backwards. Here is the kernel's
# text, and the same in Python:

# %%
print(code[code.index("// The outputs whose windows reach") : code.index("// columns[c,u,v")])
print(code[code.index("// x[n,c,h,w] =") : code.index("// y[n,c,i,j] =")])


# %%
def first_reader(a, p):
    beyond = p - a.start - a.hop * (a.taps - 1)
    return 0 if beyond <= 0 else (beyond + a.step - 1) // a.step


def last_reader(a, p):
    behind = p - a.start
    return -1 if behind < 0 else min(behind // a.step, a.size - 1)


def tap(a, i, p):
    apart = p - a.start - a.step * i
    return apart // a.hop if apart % a.hop == 0 else -1


def scatter_thread(columns, x, g, n, c, pixel):
    """One pixel of the image; here for whole images only (first = 0, last = all output rows)."""
    pixels = g.rows.size * g.cols.size
    source = (c * g.rows.taps * g.cols.taps * g.N + n) * pixels
    h, w = divmod(pixel, g.W)
    total = np.float32(0)
    for i in range(last_reader(g.rows, h), first_reader(g.rows, h) - 1, -1):
        u = tap(g.rows, i, h)
        for j in range(last_reader(g.cols, w), first_reader(g.cols, w) - 1, -1):
            v = tap(g.cols, j, w)
            if u >= 0 and v >= 0:
                at = (u * g.cols.taps + v) * g.N * pixels + i * g.cols.size + j
                total += columns[source + at]
    x[(n * g.C + c) * g.H * g.W + pixel] = total


def scattered(values, g, seed):
    x = np.full(g.N * g.C * g.H * g.W, np.nan, np.float32)
    launch(lambda *at: scatter_thread(values.ravel(), x, g, *at), g, g.H * g.W, seed)
    return x.reshape(g.N, g.C, g.H, g.W)


for geometry in (dict(), dict(stride=2, padding=1), dict(stride=2, padding=1, dilation=2)):
    windows, g = grid_of(np.zeros((2, 3, 7, 8)), 3, **geometry)
    whole = rng.integers(-9, 10, (3, 3, 3, 2, windows.OH, windows.OW)).astype(np.float32)
    assert (scattered(whole, g, seed=1) == windows.scatter(whole)).all()  # exact: whole numbers
    values = rng.standard_normal(whole.shape).astype(np.float32)
    assert scattered(values, g, seed=1).tobytes() == scattered(values, g, seed=2).tobytes()
print("as windows.scatter on whole numbers; on floats the same bits, in whatever order threads run")

# %% [markdown]
# (In C, `/` on whole numbers cuts towards zero and Python's `//` goes down. Where a quotient is used here,
# nothing is negative, so they agree.)
#
# ### TF32: fewer digits, more speed
#
# Between gather and scatter stands one matrix product, done by the card's own library. Newer cards have
# units for products of shorter numbers: **TF32** keeps 10 of float32's 23 binary digits after the point.
# Sums stay float32. What does it do to a convolution? Rounding is easy to do by hand, so we can see the
# effect without a card:


# %%
def tf32(x):
    """float32 rounded to 10 binary digits after the point."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x1000) & 0xFFFFE000).astype(np.uint32).view(np.float32)


assert tf32(np.float32([1 + 2**-10]))[0] == 1 + 2**-10  # fits
assert tf32(np.float32([1 + 2**-12]))[0] == 1  # does not
x = rng.standard_normal((1, 64, 32, 32)).astype(np.float32)
w = (rng.standard_normal((64, 64, 3, 3)) / 24).astype(np.float32)
exact = F.conv2d(x.astype(float), w.astype(float))
for name, y in (("float32", F.conv2d(x, w)), ("TF32", F.conv2d(tf32(x), tf32(w)))):
    print(f"{name:<8} largest error {abs(y - exact).max():.0e}, values near {exact.std():.1f}")
rounded = F.conv2d(tf32(x).astype(float), tf32(w).astype(float))
reach = F.conv2d(abs(x).astype(float), abs(w).astype(float))  # sum of |w| |x|
assert (abs(rounded - exact) <= (2 * 2**-11 + 2**-22) * reach).all()

# %% [markdown]
# The assert is the guarantee: each factor is off by at most $2^{-11}$ of itself, so each product by about
# $2^{-10}$. Training mostly bears it; checking a gradient does not. minseg leaves it off until you say
# `minseg.cuda.set_tf32(True)`.
#
# ### On a real card
#
# Where there is a card and CuPy, the next cell runs the same function on it; only the array lives
# elsewhere. **The notebook as it is printed was made on a machine without a card**: the convolution did not
# run on one, and no figure here is a card's. What can be shown without one was shown, that the kernels'
# arithmetic is right; the tests go further and compile `kernels.cu` itself, for the processor.

# %%
x = rng.standard_normal((8, 32, 64, 64)).astype(np.float32)
w = rng.standard_normal((32, 32, 3, 3)).astype(np.float32)
try:
    cupy = backend.cuda_module()
except ValueError as what_is_missing:
    print(f"Not run on this machine. {what_is_missing}")
else:
    x_card, w_card = cupy.asarray(x), cupy.asarray(w)
    y_card = F.conv2d(x_card, w_card, padding=1)
    assert np.allclose(backend.to_numpy(y_card), F.conv2d(x, w, padding=1), rtol=1e-3, atol=1e-3)
    dx, again = (F.conv_transpose2d(y_card, w_card, padding=1) for _ in range(2))
    assert backend.to_numpy(dx).tobytes() == backend.to_numpy(again).tobytes()

    def on_the_card():
        F.conv2d(x_card, w_card, padding=1)
        cupy.cuda.Device().synchronize()  # a launch returns at once: wait for the result

    print(f"the card: {1000 * seconds(on_the_card, 20):.3f} ms")
    print(f"the processor: {1000 * seconds(lambda: F.conv2d(x, w, padding=1), 20):.3f} ms")

# %% [markdown]
# ## Three questions
#
# 1. A 3×3 convolution from 64 channels to 64 on 56 × 56 gets a stride of 2. What happens to its parameters,
#    its FLOPs, and the FLOPs of the layer behind it?
# 2. Two programs add two arrays of 100 MB: one in NumPy, one in hand-tuned machine code. About how much
#    faster can the second be, and which picture above says so?
# 3. Pooling with indices has a gradient, too: every `dy` goes to the pixel where its maximum stood. Which
#    thread should do what, so that no atomic is needed? (`max_pool_gradient` in `kernels.cu`.)
#
# <details><summary>Answers</summary>
#
# 1. The parameters stay, 36,864 without a bias; its FLOPs fall to a quarter, as a quarter of the places is
#    left; so do those of the next layer, which has a map of 28 × 28 to work on.
# 2. Hardly: an addition has an intensity of 1/12 (one operation, three floats moved), far left under the
#    slope of the roofline. Both wait for memory, if NumPy writes into an array that stays (section 9).
# 3. One per pixel of the image. It asks the windows that reach over it whether their maximum stood here,
#    and adds up the `dy` of those that say yes, in a fixed order.
#
# </details>

# %%
before, after = Conv(64, 3, padding=1, bias=False), Conv(64, 3, 2, padding=1, bias=False)
assert anatomy.parameters([before], 64) == anatomy.parameters([after], 64) == 36_864
assert anatomy.flops([before], 64, 56) == 4 * anatomy.flops([after], 64, 56)
assert anatomy.flops([before, before], 64, 56) == 4 * anatomy.flops([after, before], 64, 56)
assert anatomy.flops([before, BatchNorm()], 64, 56) == anatomy.flops([before], 64, 56)

# %% [markdown]
# ## The exercise to do next, and where to go on
#
# `flops`: count the operations of a stack of convolutions, from shapes alone.
#
# `python3 start.py exercises` copies the exercises to `minseg_work/exercises/`; `check` with a name says
# what is right, and of a wrong answer what it is. In a notebook: `from minseg.grading import check`.
#
# This is the last notebook. From here, read: `strips.py` is section 7 in full, 300 lines; `kernels.cu` is
# section 10, and has three more kernels like the two above. `python3 start.py bench` shows where your
# machine loses its time, and every line of it is an invitation. And if you have a card: install CuPy, run
# this notebook again, and find the size at which the card begins to win.
