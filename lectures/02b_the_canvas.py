# %% [markdown]
# # 02b The canvas: transposed convolution, one pixel at a time
#
# 35 minutes of reading, 15 seconds of running; reads `minseg/loops.py`, `minseg/functional/conv.py`
# and `minseg/windows.py`; needs nothing but array slices (02a has the one-dimensional picture).
#
# **When you are through, you can**
#
# - fill a transposed convolution's canvas by hand, and find the mistake when a table is wrong;
# - say which part of the canvas is bilinear interpolation, and write the kernel for any stride;
# - turn the slide's loop over pixels into a fast one, and say when it draws checkerboards.
#
# Follows University of Waterloo, *Semantic Segmentation*, from "Methods for Upsampling" to
# "Transpose Convolution and Bilinear Interpolation"; and Drake University, CS195 (2024), "FCN:
# Upsampling via Transposed Convolution Operation".
#
# | slide | first cells here | library |
# |---|---|---|
# | input image `X` | `X` (H, W) | `x` (N, C, H, W), or one plane (H, W) |
# | kernel `K` | `K` | `w` (C, O, KH, KW), or (KH, KW) |
# | `h`, `w`: size of the kernel | `h`, `w` | `KH`, `KW` (there, `w` is the whole kernel) |
# | output `Y`, "added result" | `Y`, the canvas | `y` |
# | "padding=1" | `canvas[1:-1, 1:-1]` | `padding=1` crops; it adds nothing |

# %%
from math import ceil
from time import perf_counter
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

import minseg.functional as F
from minseg import loops, plot

# %% [markdown]
# ## 1. The slide's function
#
# *Needs: the cell above.*
#
# A convolution **gathers**: it lays the kernel on a window of the image and comes back with one
# number. A transposed convolution **scatters**: it takes one pixel, multiplies the whole kernel by
# it, and adds that little matrix to the output. The image is read pixel by pixel; the output is a
# canvas on which the copies of the kernel pile up.
#
# Here it is with the slide's names, at stride 1. Run it.

# %%
zeros = np.zeros


def transpose_convolution(X, K):
    h, w = K.shape
    Y = zeros((X.shape[0] + h - 1, X.shape[1] + w - 1))
    for i in range(X.shape[0]):
        for j in range(X.shape[1]):
            Y[i : i + h, j : j + w] += X[i, j] * K


X = K = np.array([[0, 1], [2, 3]])
print(transpose_convolution(X, K))

# %% [markdown] tags=["erratum"]
# > **Check this against your slides.** *Drake University, CS195 (2024), "FCN: Upsampling via
# > Transposed Convolution Operation".* The function there ends after its loops, so it fills `Y`,
# > throws it away and gives `None`. It needs `return Y` as its last line (and a `zeros` from
# > NumPy). It also has no stride, no padding and a single channel; the rest of this notebook adds
# > the first two, and section 6 the third.

# %% [markdown]
# `loops.transpose_convolution` is the same function with its last line. The picture shows its work:
# four 3x3 canvases, each with the kernel times one pixel of `X` in the framed 2x2 window, and their
# sum.

# %%
assert transpose_convolution(X, K) is None

Y = loops.transpose_convolution(X, K)
assert Y.tolist() == [[0, 0, 1], [0, 4, 6], [4, 12, 9]]

figure = Figure(figsize=(8.5, 1.8), layout="constrained")
axes = figure.subplots(1, 5)
for (i, j), ax in zip(np.ndindex(2, 2), axes, strict=False):
    one = np.zeros((3, 3), int)
    one[i : i + 2, j : j + 2] = X[i, j] * K
    plot.matrix(one, ax, title=f"X[{i},{j}] K = {X[i, j]} K", highlight=(i, j, 2, 2), largest=12)
plot.matrix(Y, axes[4], title="their sum: Y", largest=12)
figure

# %% [markdown]
# ## 2. The worked example, all sixteen steps
#
# *Needs: the first code cell.*
#
# Waterloo's slides do it with a 4x4 image, a 3x3 kernel and **stride 2**: the next pixel's copy
# lands two cells further on. They show a few of the elements; here are all sixteen. Stride asks for
# one change in the loop, `i` becomes `stride * i` where it points at the canvas, and for a canvas
# of another size:
#
# $$\text{canvas} = (H - 1)\,s + h, \qquad (4 - 1)\cdot 2 + 3 = 9.$$
#
# Each pixel's value is also its number, 0 to 15. So "element 5" is the sixth step.


# %%
class Step(NamedTuple):
    i: int  # the pixel's row
    j: int  # and column
    product: np.ndarray  # pixel x kernel
    canvas: np.ndarray  # after it was added
    reached: np.ndarray  # which cells something was added to by then


def replay(X, K, stride):
    (H, W), (h, w) = X.shape, K.shape
    canvas = np.zeros(((H - 1) * stride + h, (W - 1) * stride + w))
    reached = np.zeros(canvas.shape, bool)
    steps = []
    for i, j in np.ndindex(H, W):
        window = np.s_[stride * i : stride * i + h, stride * j : stride * j + w]
        canvas[window] += X[i, j] * K
        reached[window] = True
        steps.append(Step(i, j, X[i, j] * K, canvas.copy(), reached.copy()))
    return steps


X = np.arange(16.0).reshape(4, 4)
K = np.array([[0.25, 0.5, 0.25], [0.5, 1, 0.5], [0.25, 0.5, 0.25]])
steps = replay(X, K, stride=2)
canvas = steps[-1].canvas

assert len(steps) == 16
assert canvas.shape == (9, 9)
assert (canvas == F.conv_transpose2d(X, K, stride=2)).all()  # the library's op, to the last bit

# %% [markdown]
# The film: on the left the image with its element, and below it **element x kernel**; on the right
# the **added result**, with the window that was just added to in a frame. Cells that no copy has
# reached yet are empty. Step with `<` and `>`, or drag the slider. (If the buttons do nothing, run
# the cell.)


# %%
def painted(step):
    """The canvas after a step, with the cells that nothing has reached left empty."""
    cells = step.canvas.astype(object)
    cells[~step.reached] = ""
    return cells


def frame(step, X, stride):
    i, j = step.i, step.j
    value, number, top = X[i, j], i * X.shape[1] + j + 1, X.max()
    figure = Figure(figsize=(4.2, 2.6), dpi=100)
    upper = figure.add_axes((0.01, 0.54, 0.28, 0.37))
    lower = figure.add_axes((0.01, 0.06, 0.28, 0.37))
    right = figure.add_axes((0.31, 0.02, 0.68, 0.89))
    window = (stride * i, stride * j, *step.product.shape)
    plot.matrix(X, upper, title="image", highlight=(i, j, 1, 1))
    plot.matrix(step.product, lower, title=f"{value:g} x kernel", largest=top)
    plot.matrix(
        painted(step), right, title=f"step {number}: added result", highlight=window, largest=top
    )
    return figure


frames = [frame(step, X, 2) for step in steps]
plot.film(frames)

# %% [markdown]
# The same sixteen frames on paper, from left to right and from top to bottom. Watch the columns
# where two copies meet: `0.25 + 0.5 = 0.75` in step 3 is the first sum of two non-zero numbers.

# %%
plot.filmstrip(frames)

# %% [markdown]
# **Your turn.** `replay(X, K, stride=3)` and then `stride=4`, with a new film of each. At stride 3
# not one cell is added to twice; at 4 there are cells that no pixel ever reaches. What would you
# see in a picture that was upsampled so?

# %% [markdown]
# ## 3. A checksum finds wrong tables
#
# *Needs: section 2.*
#
# Sixteen tables filled by hand want a check. Every pixel adds its value times the sum of the
# kernel, so after each step
#
# $$\text{sum of the canvas} = \text{sum of the kernel} \times \text{sum of the pixels so far},$$
#
# and this kernel sums to 4, which is $s^2$: four output cells for each pixel, none brighter on
# average.

# %%
assert K.sum() == 4
for n, step in enumerate(steps):
    assert step.canvas.sum() == K.sum() * X.ravel()[: n + 1].sum()

printed = {  # cells in which the slides' tables have another number than the code
    ("element x kernel", 5): {(2, 2): 1.5},
    ("added result", 5): {(4, 2): 2.5, (4, 4): 1.5},
    ("added result", 6): {(4, 2): 2.5},
    ("added result", 7): {(4, 2): 2.5},
}
for (table, n), cells in printed.items():
    right = steps[n].product if table == "element x kernel" else steps[n].canvas
    for cell, number in cells.items():
        code = right[cell]
        print(f"element {n}, {table} {cell}: slides {number:g}, code {code:g}")
        assert code == number - 0.25

# The tables before element 5 agree; element 8 and the finished canvas agree again:
assert steps[8].canvas[4, 2] == 4.25 == 2.25 + 2
assert canvas[0].tolist() == [0, 0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 0.75]
assert canvas[4].tolist() == [3, 6, 6.5, 7, 7.5, 8, 8.5, 9, 4.5]
assert canvas[8].tolist() == [3, 6, 6.25, 6.5, 6.75, 7, 7.25, 7.5, 3.75]

# %% [markdown] tags=["erratum"]
# > **Check this against your slides.** *University of Waterloo, "Added Result", element 5, the
# > table "Element x Kernel".* The last row of 5 times the kernel has 1.5 at its right end. The code
# > gives 1.25, as the symmetric kernel must: the row is 1.25, 2.5, 1.25. All the other products in
# > the deck are right.

# %% [markdown] tags=["erratum"]
# > **Check this against your slides.** *University of Waterloo, "Added Result", element 5, the
# > canvas.* Two cells of its row 4 are too large by 0.25. The text has 2.5 in column 2 and 1.5 in column 4;
# > the code gives 2.25 (that is 1 + 1.25) and 1.25. The checksum says so without looking at a cell:
# > the table sums to 60.5, and 4 x (0 + 1 + 2 + 3 + 4 + 5) is 60.

# %% [markdown] tags=["erratum"]
# > **Check this against your slides.** *University of Waterloo, "Added Result", elements 6 and 7.*
# > The 2.5 in row 4, column 2 stays; the code has 2.25 there until element 8 adds 2. The slide
# > after that shows 4.25, which only the right number can give (2.5 + 2 would be 4.5), so the slip
# > ends there and the output image is right.

# %% [markdown]
# The four canvases in question, as the code paints them, with the cells in red frames on which text
# and code disagree: two after element 5, one after 6 and after 7, none after 8.

# %%
figure = Figure(figsize=(8.5, 6.6), layout="constrained")
for n, ax in zip((5, 6, 7, 8), figure.subplots(2, 2).flat, strict=True):
    wrong = [(i, j, 1, 1) for i, j in printed.get(("added result", n), {})]
    plot.matrix(painted(steps[n]), ax, title=f"after element {n}", highlight=wrong, largest=15)
figure

# %% [markdown]
# ## 4. Which part is bilinear?
#
# *Needs: section 2.*
#
# "padding=1" on the slide is not padding as a convolution knows it. A convolution with padding 1
# adds one cell on every side before it starts; run backwards, what was added is taken away. So it
# **crops** one cell off every side of the canvas, and the 9x9 becomes 7x7. Between four pixels in a
# row there are three gaps, so 7 is just what it takes to put one new cell into each gap.
#
# Three panels: the 9x9 canvas with its 7x7 inside framed, that crop, and the image interpolated
# bilinearly to 7x7 with the corner pixels kept in the corners (`align_corners=True`).

# %%
crop = F.conv_transpose2d(X, K, stride=2, padding=1)
bilinear = F.interpolate(X, size=7, mode="bilinear", align_corners=True)
assert (crop == canvas[1:-1, 1:-1]).all()
assert abs(crop - bilinear).max() == 0.0  # not nearly: exactly

figure = Figure(figsize=(8.5, 2.9), layout="constrained")
left, middle, right = figure.subplots(1, 3, width_ratios=[9, 7, 7])
plot.matrix(canvas, left, title="canvas, 9x9", highlight=(1, 1, 7, 7), largest=15)
plot.matrix(crop, middle, title="padding=1: 7x7", largest=15)
plot.matrix(bilinear, right, title="bilinear, 7x7", largest=15)
figure

# %% [markdown] tags=["erratum"]
# > **Check this against your slides.** *University of Waterloo, "Note: this result is equivalent to
# > Bilinear Interpolation".* A simplification: the remark stands beside the 9x9 output image, but
# > it is true of the 7x7 crop only. If bilinear interpolation goes on past the outermost pixel
# > centres in the usual way, by repeating the border, then 29 of the 32 cells of the canvas's outer
# > ring differ from it. (The other three are zeros beside a zero pixel.) Nor is the result the only
# > bilinear one: the other convention, `align_corners=False`, would make 8x8 out of 4x4.

# %%
ring = np.ones((9, 9), bool)
ring[1:-1, 1:-1] = False
clamped = np.pad(crop, 1, mode="edge")  # bilinear, the border repeated
assert ring.sum() == 32
assert (canvas != clamped)[ring].sum() == 29
assert (canvas == clamped)[~ring].all()
assert F.interpolate(X, size=8, mode="bilinear", align_corners=False).shape == (8, 8)

# %% [markdown]
# **Why inside and not on the ring?** Take one dimension. Each pixel spreads a tent `0.5, 1, 0.5`,
# and the tents stand two cells apart. Between two pixels their tents overlap: one falls while the
# next rises, the two weights always add up to 1, and a weighted mean of the two nearest pixels is
# what linear interpolation *is*. Outside the last pixel there is only one tent, falling to 0, as if
# zeros stood there.
#
# On the left the four tents of a row of ones and their sum, which is 1 between the outermost pixels
# and 0.5 on the ring; on the right the same for the row 12, 13, 14, 15. The ring is shaded.

# %%
places = 1 + 2 * np.arange(4)  # where the pixels' centres lie on the canvas
fine = np.linspace(-1, 9, 401)
figure = Figure(figsize=(8.5, 2.7), layout="constrained")
for ax, row in zip(figure.subplots(1, 2), (np.ones(4), X[3]), strict=True):
    tents = row * np.maximum(0, 1 - abs(fine[:, None] - places) / 2)  # (401, 4)
    ax.plot(fine, tents, color="#0096ff", linewidth=1)
    ax.plot(fine, tents.sum(axis=1), color="#d22d00", linewidth=2, label="sum of the tents")
    cells = F.conv_transpose2d(row[None], K[1:2], stride=2)[0]  # (1, 4) and (1, 3) -> (1, 9)
    ax.plot(range(9), cells, "o", color="#23262e", label="the nine cells", markersize=5)
    ax.axvspan(-0.5, 0.5, color="#eeeeee", zorder=0)
    ax.axvspan(7.5, 8.5, color="#eeeeee", zorder=0)
    ax.set(xlabel="cell of the canvas", xticks=range(9), xlim=(-0.5, 8.5), ylim=(0, None))
    ax.set_title("a row of ones" if row[0] == 1 else "the row 12, 13, 14, 15", fontsize=11)
figure.legend(*ax.get_legend_handles_labels(), loc="outside right center", frameon=False)
figure

# %% [markdown]
# In two dimensions the kernel is a tent times a tent, `np.outer([.5, 1, .5], [.5, 1, .5])`, and
# everything above holds along rows and along columns.
#
# One image proves little. But the library runs on formal variables too, and then `==` between the
# two sides is an identity of polynomials: true for **every** 4x4 image.

# %%
from minseg.proofs import prove

exact = F.bilinear_kernel(2, exact=True)  # the same kernel, in Fractions
assert (exact == K).all()
assert (exact == np.outer([0.5, 1, 0.5], [0.5, 1, 0.5])).all()

verdict = prove(
    lambda x: F.conv_transpose2d(x, exact, stride=2, padding=1),
    lambda x: F.interpolate(x, size=7, mode="bilinear", align_corners=True),
    x=(4, 4),
)
assert verdict.holds
print(verdict)

# %% [markdown]
# **Your turn.** Ask `prove` about the whole canvas: leave out `padding=1` on the left and say
# `size=9` on the right. It is refuted, but far more than the ring's 32 cells differ. Where do nine
# cells fall if the first and the last of them must lie on a pixel?

# %% [markdown]
# ## 5. A kernel for any stride
#
# *Needs: the first code cell.*
#
# The slides promise such a kernel for every stride $s$. It is the tent that reaches 0 at the next
# pixel, $s$ cells on:
#
# $$t[u] = 1 - \frac{|u - c|}{s}, \qquad k[u, v] = t[u]\,t[v].$$
#
# Where its centre $c$ falls is a choice, and there are two in use:
#
# | | the lecture's | the FCN release's (Caffe) |
# |---|---|---|
# | size | $2s-1$ | $2s - s \bmod 2$ |
# | centre $c$ | $s-1$, always on a cell | (size - 1)/2, between two cells if $s$ is even |
# | padding | $s-1$ | $\lceil (s-1)/2 \rceil$ |
# | $n$ pixels become | $(n-1)s+1$ | $ns$ |
# | equals bilinear with | `align_corners=True`, everywhere | `align_corners=False`, off the border |
#
# The second gives exactly $s$ cells for each pixel, 4x4 to 8x8, which is what a network wants. Its
# price is the border, where the missing pixels count as zeros.
#
# The tents for strides 2, 3 and 4: the lecture's above with its centre on a cell, Caffe's below. At
# the odd stride the two are the same.

# %%
figure = Figure(figsize=(8.5, 3.4), layout="constrained")
axes = figure.subplots(2, 3, sharey=True)
for row, kind in zip(axes, ("align_corners", "caffe"), strict=True):
    for s, ax in zip((2, 3, 4), row, strict=True):
        kernel = F.bilinear_kernel(s, kind, exact=True)
        size = len(kernel)
        tent = kernel.sum(axis=0) / s  # t[v], because the t[u] sum to s
        at = np.arange(size) - (size - 1) / 2
        ax.fill_between([-s, 0, s], [0, 1, 0], color="#dcefff")
        ax.vlines(at, 0, tent.astype(float), color="#003cf0", linewidth=2)
        ax.plot(at, tent.astype(float), "o", color="#003cf0", markersize=4)
        for place, value in zip(at, tent, strict=True):
            ax.annotate(str(value), (place, float(value) + 0.1), ha="center", fontsize=9)
        name = "lecture" if kind == "align_corners" else "Caffe"
        ax.set_title(f"{name}, stride {s}: {size} taps", fontsize=10)
        ax.set(ylim=(0, 1.35), xlim=(-4, 4), yticks=[0, 1], xticks=[-s, 0, s])
figure

# %% [markdown]
# Now measure both, on an image of noise, for strides 1 to 8: the largest difference to bilinear
# resizing, inside and on the border, and the smallest cell that an image of ones turns into. A
# **phase** of a kernel is every $s$-th of its taps, `k[r::s]`: the ones that one output cell sees.
# Each phase of Caffe's kernel sums to 1, so away from the border a constant image stays constant.


# %%
def phase_sums(kernel, stride):
    """(stride, stride): how much of the kernel an output cell of each phase receives in all."""
    phases = range(stride)
    return np.array([[kernel[r::stride, q::stride].sum() for q in phases] for r in phases])


def resized(x, size, align_corners):
    return F.interpolate(x, size=size, mode="bilinear", align_corners=align_corners)


x = np.random.default_rng(2).normal(size=(12, 12))
print("stride | lecture's: error | Caffe's: inside  border  smallest cell of an image of ones")
for s in range(1, 9):
    y = F.conv_transpose2d(x, F.bilinear_kernel(s, dtype=float), stride=s, padding=s - 1)
    lecture = abs(y - resized(x, y.shape, align_corners=True)).max()

    caffe = F.bilinear_kernel(s, "caffe", exact=True)
    p, k = ceil((s - 1) / 2), caffe.astype(float)
    y = F.conv_transpose2d(x, k, stride=s, padding=p)
    assert y.shape == (12 * s, 12 * s)
    error = abs(y - resized(x, y.shape, align_corners=False))
    off = s // 2  # the border: cells beyond the outermost pixel centres
    inside = error[off : len(error) - off, off : len(error) - off].max()
    corner = F.conv_transpose2d(np.ones((12, 12)), k, stride=s, padding=p).min()
    print(f"{s:6} | {lecture:16.0e} | {inside:15.0e} {error.max():7.2f} {corner:14.4f}")

    assert lecture < 2e-15
    assert inside < 2e-15
    assert (phase_sums(caffe, s) == 1).all()  # Fractions: exactly 1
    assert (phase_sums(F.bilinear_kernel(s, exact=True), s) == 1).all()
    assert np.isclose(corner, ((s + 1) / (2 * s)) ** 2)
    assert s == 1 or 0.35 < error.max() < 1.7
    # At an odd stride the two kernels are one; only the crop differs.
    assert np.array_equal(caffe, F.bilinear_kernel(s, exact=True)) == (s % 2 == 1)

# %% [markdown]
# Read the last column: with stride 2 a white image comes out with corners at 0.5625, that is 0.75 x
# 0.75. Every layer that upsamples so darkens its border, and the next layers have to learn to live
# with it.
#
# **Your turn.** The kernel of stride 2 makes 7 out of 4. Apply it twice and you have 13; the kernel
# of stride 4 makes 13 out of 4 in one go. Are the two results equal? Then try the same with Caffe's
# kernels, 4 to 8 to 16 against 4 to 16. (One of the two pairs agrees; look at the tents to see why
# it must.)

# %% [markdown]
# ## 6. From the slide's loop to a fast one
#
# *Needs: the first code cell.*
#
# Four forms of the same sum. All numbers are small integers, so the results must be **equal**, not
# close.
#
# 1. **The slide's loop**, stride 1: `Y[i:i+h, j:j+w] += X[i,j] * K` for every pixel.
# 2. **With stride**: the window begins at `stride * i`, `stride * j`.
# 3. **Vectorised over pixels**: swap the loops. Fix a tap `K[u, v]` and ask where *all* pixels send
#    it: to cells `u`, `u + s`, `u + 2s` ... One slice, one multiplication, and only `h * w` turns
#    of the loop, however large the image.
# 4. **The batched op**: images (N, C, H, W), a kernel (C, O, KH, KW). For each tap the C channels
#    are mixed into O by a matrix product, then land on the same slice.


# %%
def with_stride(X, K, stride):
    (H, W), (h, w) = X.shape, K.shape
    Y = np.zeros(((H - 1) * stride + h, (W - 1) * stride + w))
    for i in range(H):
        for j in range(W):
            Y[stride * i : stride * i + h, stride * j : stride * j + w] += X[i, j] * K
    return Y


def over_taps(X, K, stride):
    (H, W), (h, w) = X.shape, K.shape
    Y = np.zeros(((H - 1) * stride + h, (W - 1) * stride + w))
    for u in range(h):
        for v in range(w):
            rows = slice(u, u + stride * (H - 1) + 1, stride)
            columns = slice(v, v + stride * (W - 1) + 1, stride)
            Y[rows, columns] += X * K[u, v]
    return Y


def batched(x, w, stride):
    (N, C, H, W), (_, O, KH, KW) = x.shape, w.shape
    y = np.zeros((N, O, (H - 1) * stride + KH, (W - 1) * stride + KW))
    pixels = x.reshape(N, C, H * W)
    for u in range(KH):
        for v in range(KW):
            rows = slice(u, u + stride * (H - 1) + 1, stride)
            columns = slice(v, v + stride * (W - 1) + 1, stride)
            # (O, C) x (N, C, HW) -> (N, O, HW)
            y[:, :, rows, columns] += (w[:, :, u, v].T @ pixels).reshape(N, O, H, W)
    return y


rng = np.random.default_rng(0)
image = rng.integers(-9, 10, (64, 64)).astype(float)
kernel = rng.integers(-9, 10, (4, 4)).astype(float)
x = rng.integers(-9, 10, (4, 16, 64, 64)).astype(float)
w = rng.integers(-9, 10, (16, 16, 4, 4)).astype(float)

slow = loops.transpose_convolution(image, kernel)
assert (with_stride(image, kernel, 1) == slow).all()  # 1 and 2
assert (over_taps(image, kernel, 2) == with_stride(image, kernel, 2)).all()  # 2 and 3
one_by_one = sum(over_taps(x[3, c], w[c, 5], 2) for c in range(16))  # output channel 5 of image 3
y = batched(x, w, 2)
assert (y[3, 5] == one_by_one).all()  # 3 and 4
assert (F.conv_transpose2d(x, w, stride=2) == y).all()  # 4 and the library

# %% [markdown]
# How fast? They do not do the same amount of work, so the bars show nanoseconds for **one**
# multiply-and-add, the best of nine runs on one processor core, on a logarithmic scale. Stride
# costs nothing; taking the loop over pixels away gains a factor of fifty or more, and mixing the
# channels in matrix products several times more.

# %%
from threadpoolctl import threadpool_limits

from minseg import get_num_threads, set_num_threads


def nanoseconds(function, arrays, work):
    times = []
    for _ in range(9):
        begun = perf_counter()
        function(*arrays)
        times.append(perf_counter() - begun)
    return 1e9 * min(times) / work


plane, batch = image.size * kernel.size, x.size * w[0].size  # multiply-and-adds
cores = get_num_threads()
set_num_threads(1)
with threadpool_limits(1):  # NumPy's matrix products too
    timed = {
        "1 slide's loop": nanoseconds(loops.transpose_convolution, (image, kernel), plane),
        "2 with stride": nanoseconds(with_stride, (image, kernel, 2), plane),
        "3 over taps": nanoseconds(over_taps, (image, kernel, 2), plane),
        "4 batched": nanoseconds(batched, (x, w, 2), batch),
        "library": nanoseconds(lambda x, w: F.conv_transpose2d(x, w, stride=2), (x, w), batch),
    }
set_num_threads(cores)

figure = Figure(figsize=(8.5, 2.4), layout="constrained")
ax = figure.subplots()
bars = ax.barh(list(timed), list(timed.values()), color="#0096ff", log=True)
ax.bar_label(bars, [f"{t:.3g} ns" for t in timed.values()], padding=4, fontsize=9)
ax.invert_yaxis()
ax.set_xlim(right=5 * max(timed.values()))
ax.set(xlabel="nanoseconds per multiply-and-add")
ax.spines[["top", "right"]].set_visible(False)
figure

# %% [markdown]
# On one core the library hardly gains on form 4; with more cores it does, for it does not scatter at
# all. It looks at the canvas phase by phase: all cells with the same place in the stride's grid see
# the same taps, so each phase is a small *convolution*. Every cell is then written once, and no two
# cores ever want the same one (`windows.py`, `_spread_in_strips`).
#
# There is also a tempting short form of step 3 that is **wrong**: name all the target cells at
# once, and add to them in one assignment. Where windows overlap a cell is named several times, and
# NumPy keeps only one of the additions.


# %%
def too_clever(X, K, stride):
    (H, W), (h, w) = X.shape, K.shape
    Y = np.zeros(((H - 1) * stride + h, (W - 1) * stride + w))
    i, j, u, v = np.ogrid[:H, :W, :h, :w]
    Y[stride * i + u, stride * j + v] += X[i, j] * K[u, v]
    return Y


stride = 2
wrong = too_clever(image, kernel, stride) != with_stride(image, kernel, stride)
print(f"stride {stride}: {wrong.mean():.0%} of the cells are wrong")

# %% [markdown]
# **Your turn.** Set `stride = 3`, then 4, in the cell above. At 4 not a single cell is wrong: why?
# (A test with the stride equal to the kernel's size would never have found this mistake.)

# %% [markdown]
# ## 7. Why checkerboards appear
#
# *Needs: the first code cell, and `phase_sums` from section 5.*
#
# Upsampled pictures from networks often carry a fine checkerboard. You can see it coming by
# counting how many pixels reach each cell of the canvas. Along one axis a cell sees $\lceil k/s
# \rceil$ or $\lfloor k/s \rfloor$ pixels; if $s$ does not divide $k$ these differ, and the pattern
# repeats with period $s$.
#
# Four pairs of kernel size and stride, and for each canvas cell in a row the number of pixels that
# reach it, the border in grey. Inside, 3 on 2 and 5 on 3 are uneven, with the poorer cells in red; 4
# on 2 and 6 on 3 are even.

# %%
figure = Figure(figsize=(8.5, 2.1), layout="constrained")
for (k, s), ax in zip([(3, 2), (4, 2), (5, 3), (6, 3)], figure.subplots(1, 4), strict=True):
    counts = F.conv_transpose2d(np.ones((1, 6), int), np.ones((1, k), int), stride=s)[0]
    inner = counts[k - 1 : -(k - 1)]
    assert (len(set(inner.tolist())) == 1) == (k % s == 0)
    colors = np.where(counts == ceil(k / s), "#0096ff", "#d22d00")
    colors[: k - 1] = colors[-(k - 1) :] = "#bbbbbb"
    ax.bar(range(len(counts)), counts, color=colors)
    ax.set_title(f"kernel {k}, stride {s}", fontsize=10)
    ax.set(xlabel="cell", yticks=[0, 1, 2], xticks=[0, len(counts) - 1])
    ax.spines[["top", "right"]].set_visible(False)
figure

# %% [markdown]
# In two dimensions the counts multiply, 1 and 2 become 1, 2 and 4, and there is the checkerboard.
# Left: kernel 3, stride 2, a 4x4 image; the inside alternates between 4, 2 and 1. Right: kernel 4;
# every inner cell sees 4 pixels.

# %%
three, four = (
    F.conv_transpose2d(np.ones((4, 4), int), np.ones((k, k), int), stride=2) for k in (3, 4)
)
assert set(three[2:-2, 2:-2].ravel().tolist()) == {1, 2, 4}
assert set(four[2:-2, 2:-2].ravel().tolist()) == {4}

figure = Figure(figsize=(8.5, 3.5), layout="constrained")
left, right = figure.subplots(1, 2)
plot.matrix(three, left, title="kernel 3, stride 2: uneven")
plot.matrix(four, right, title="kernel 4, stride 2: even")
figure

# %% [markdown]
# Counting assumes that all taps weigh the same. What decides in truth are the **phase sums**: a
# constant image comes out constant, off the border, exactly if all of them are equal. So
#
# - the lecture's bilinear kernel has size 3 at stride 2, uneven counts, and **no** checkerboard,
#   for the fewer taps weigh more (1 = 0.5 + 0.5 = 4 x 0.25);
# - kernel 4 with weights drawn at random has even counts and a checkerboard all the same; but
#   training must mend only the weights, not a counting that is against it from the start.

# %%
kernels = {
    "3x3, all equal": np.ones((3, 3)) * 4 / 9,
    "4x4, all equal": np.ones((4, 4)) / 4,
    "4x4, random": np.random.default_rng(7).random((4, 4)) / 2,
    "3x3, bilinear": F.bilinear_kernel(2, dtype=float),
}
for name, kernel in kernels.items():
    constant = F.conv_transpose2d(np.ones((9, 9)), kernel, stride=2)[4:-4, 4:-4]
    sums = phase_sums(kernel, 2)
    tiled = np.tile(sums, (9, 9))[: len(constant), : len(constant)]
    assert np.allclose(constant, tiled)  # 4 is even, so the crop begins at phase 0
    even = np.ptp(sums) < 1e-12
    assert even == (name in ("4x4, all equal", "3x3, bilinear"))
    print(f"{name:15} phase sums {sums.ravel().round(2)}  {'even' if even else 'checkerboard'}")

# %% [markdown]
# A handwritten digit, 8x8, doubled twice with each of them: the two kernels with uneven phase sums
# lay a grid over it, the other two do not.

# %%
from minseg.data import handwritten_digits

digit = handwritten_digits()[0][0].astype(float)  # a zero, (8, 8), grey values 0..1
figure = Figure(figsize=(8.5, 2.1), layout="constrained")
axes = figure.subplots(1, 5)
axes[0].imshow(digit, cmap="gray")
axes[0].set_title("8x8", fontsize=10)
for ax, (name, kernel) in zip(axes[1:], kernels.items(), strict=True):
    twice = F.conv_transpose2d(F.conv_transpose2d(digit, kernel, stride=2), kernel, stride=2)
    ax.imshow(twice, cmap="gray")
    ax.set_title(name, fontsize=10)
for ax in axes:
    ax.set(xticks=[], yticks=[])
figure

# %% [markdown]
# (Observed and explained by Odena, Dumoulin and Olah, "Deconvolution and Checkerboard Artifacts",
# Distill, 2016. Two cures in use: a kernel size that is a multiple of the stride, or bilinear
# resizing first and an ordinary convolution after it.)
#
# **Your turn.** Turn the random 4x4 kernel into one without a checkerboard, changing only four
# numbers: divide each *phase* of it by its sum, `kernel[r::2, q::2] /= ...`. Does the digit look
# good now, or does a constant image tell you too little?

# %% [markdown]
# ## 8. Can a learned kernel do better?
#
# *Needs: the first code cell. A few minutes more, if you like.*
#
# The slides argue that a transposed convolution is at least as good as bilinear interpolation, for
# it can be started there and trained. For one kernel we need no training: the output is *linear* in
# the sixteen weights, so least squares finds the best ones at once. Data: scenes of handwritten
# digits, halved by averaging, then doubled again; the question is how much is lost.

# %%
from minseg import data


def problem(split):
    """What the sixteen weights are multiplied by, (pixels, 16), and the pixels they should give."""
    scenes = data.build("digits", split)
    x = np.stack([scenes[n][0] for n in range(40)]).astype(float)  # (40, 1, 48, 48)
    small = F.avg_pool2d(x, 2)
    taps = np.eye(16).reshape(16, 1, 1, 4, 4)  # sixteen kernels with a single 1
    inside = np.s_[..., 2:-2, 2:-2]  # not on the border, where bilinear would lose by its zeros
    columns = [F.conv_transpose2d(small, tap, stride=2, padding=1)[inside].ravel() for tap in taps]
    return np.stack(columns, axis=1), x[inside].ravel()


A, truth = problem("train")
learned = np.linalg.lstsq(A, truth, rcond=None)[0]
bilinear = F.bilinear_kernel(2, "caffe", dtype=float).ravel()
errors = {}
for split in ("train", "test"):
    A, truth = problem(split)
    for name, weights in (("bilinear", bilinear), ("learned", learned)):
        errors[name, split] = np.mean((A @ weights - truth) ** 2)
        print(f"{split:5}  {name:8}  mean squared error {errors[name, split]:.5f}")
assert errors["learned", "train"] <= errors["bilinear", "train"]  # it cannot be otherwise
assert errors["learned", "test"] < errors["bilinear", "test"]  # this was not sure before

# %% [markdown]
# The two kernels side by side. The learned one has put more weight on its middle: it sharpens,
# which undoes a little of the averaging. On scenes it never saw it is better by some 8 percent:
# learning can help, and bilinear is hard to beat by much.

# %%
figure = Figure(figsize=(8.5, 2.7), layout="constrained")
left, right = figure.subplots(1, 2)
plot.matrix(bilinear.reshape(4, 4), left, title="bilinear (Caffe's, stride 2)", largest=1)
plot.matrix(learned.reshape(4, 4).round(2), right, title="learned by least squares", largest=1)
figure

# %% [markdown]
# ## Three questions
#
# 1. A 5x7 image, kernel 4, stride 3, padding 1: how large is the output?
# 2. Someone upsamples with kernel 5, stride 2, all weights equal. How many pixels reach the inner
#    cells of the canvas, and what is the nearest kernel size without a checkerboard?
# 3. Your framework's `ConvTranspose2d` starts with random weights. You want its first output to be
#    a bilinear doubling, from (H, W) to (2H, 2W). Which kernel size, padding and weights do you
#    give it, and what still goes wrong?
#
# <details><summary>Answers</summary>
#
# 1. The canvas is (5-1)·3+4 = 16 by (7-1)·3+4 = 22; padding crops one from each side: 14x20.
# 2. Three or two along each axis, so 9, 6 or 4; size 4 or 6.
# 3. Size 4, padding 1, Caffe's kernel in the diagonal of the channels, zeros elsewhere:
#    `nn.ConvTranspose2d(C, C, 4, stride=2, padding=1, init="bilinear")`. The outermost ring of
#    cells is too dark, for it sees zeros outside the image.
#
# </details>

# %%
from minseg import nn

assert F.conv_transpose2d(np.ones((5, 7)), np.ones((4, 4)), stride=3, padding=1).shape == (14, 20)
counts = F.conv_transpose2d(np.ones((6, 6), int), np.ones((5, 5), int), stride=2)[4:-4, 4:-4]
assert set(counts.ravel().tolist()) == {4, 6, 9}
layer = nn.ConvTranspose2d(2, 2, 4, stride=2, padding=1, init="bilinear")
image = np.random.default_rng(1).normal(size=(1, 2, 6, 6)).astype(np.float32)
doubled = F.interpolate(image, scale_factor=2, mode="bilinear", align_corners=False)
error = abs(layer(image).numpy() - doubled)
assert error[..., 1:-1, 1:-1].max() < 1e-6 < 0.1 < error.max()

# %% [markdown]
# ## Next
#
# Exercises **conv_transpose2d** (the loop, then stride, padding and channels) and
# **bilinear_kernel**. The next notebook, 03, makes the same canvas by another road, zeros between
# the pixels and an ordinary convolution, and asks what has to happen to the kernel on the way.
#
# `python3 start.py exercises` copies the exercises to `minseg_work/exercises/`; `check` with a name says
# what is right, and of a wrong answer what it is. In a notebook: `from minseg.grading import check`.
