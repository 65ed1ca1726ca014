# %% [markdown]
# # 02a Upsampling: from a small map back to a large one
#
# 30 minutes of reading, 5 seconds of running; reads `minseg/functional/resize.py`,
# `minseg/functional/pool.py`, `minseg/loops.py`; needs no other notebook.
#
# A network that looks at a picture makes its maps smaller and smaller. A label for *every pixel*
# needs them large again. At the end of this notebook you can
#
# - write down bed of nails, nearest, bilinear (in both conventions), unpooling and transposed
#   convolution as one matrix each, and say which of them need weights, indices, or nothing;
# - say what `align_corners` changes, and why two programs disagree about "bilinear, twice as
#   large";
# - build the matrix $A$ of a convolution, transpose it, and recognise the transposed convolution.
#
# Follows: University of Waterloo, "Semantic Segmentation", slides "Methods for Upsampling";
# Drake University, CS195 (2024), "PSPNet: interpolation", "SegNet", "FCN: Upsampling via Transposed
# Convolution Operation"; Deep Learning for Vision (2024-2025), "Deconvolution", "Unpooling"; ENSTA
# Paris, CSC_5RO13, "How does the decoder increase the resolution?".
#
# | on the slides | here | what it is |
# |---|---|---|
# | $f$, $Q_{11}, Q_{21}, Q_{12}, Q_{22}$ | `f`, `f[y1, x1]`, `f[y1, x2]`, .. | an image, four pixels |
# | $X$, $K$, $Y$ | `x`, `K` (in the library `w`), `y` | image, kernel, output |
# | pooling indices, remembered locations | `indices` | row × width + column of each maximum |
# | convolution as a matrix | `A`, with `A @ x.ravel()` | a row per output pixel |
#
# Each section stands alone, after this cell:

# %%
from fractions import Fraction

import numpy as np
from matplotlib.figure import Figure

import minseg.functional as F
from minseg import Tensor, loops, plot

BLUE, ORANGE = "#0072c3", "#d27800"


def matrix_of(way, n):
    """The matrix of a linear map on images of one row of n pixels, exact: one column per pixel."""
    pixels = np.array([[Fraction(i == j) for j in range(n)] for i in range(n)])
    return np.array([way(pixel[None])[0] for pixel in pixels]).T  # (new, n)


# %% [markdown]
# ## 1. In one dimension first
#
# Four pixels with the values 1, 3, 2, 4 shall become eight. The picture: these four, and an image
# of eight whose maxima, two by two, they are (one of the six ways will want to know).

# %%
x = np.array([[1, 3, 2, 4]])  # an image of one row: (1, 4)
pooled_from = np.array([[1, 0, 2, 3, 0, 2, 4, 1]])
pooled, stood_at = F.max_pool2d(pooled_from, (1, 2), return_indices=True)
assert (pooled == x).all()
plot.matrices({"x": x, "pooled, it becomes x": pooled_from}, (8.5, 1.1))


# %% [markdown]
# Six ways to make them eight, in exact arithmetic:


# %%
def numbers(*values):  # a kernel of one row, exact
    return np.array([[Fraction(str(value)) for value in values]])


ways = {
    "bed of nails": lambda x: F.conv_transpose2d(x, numbers(1, 0), stride=(1, 2)),
    "nearest": lambda x: F.interpolate(x, size=(1, 8), mode="nearest"),
    "bilinear, align_corners=False": lambda x: F.interpolate(
        x, size=(1, 8), mode="bilinear", align_corners=False
    ),
    "bilinear, align_corners=True": lambda x: F.interpolate(
        x, size=(1, 8), mode="bilinear", align_corners=True
    ),
    "unpooling": lambda x: F.max_unpool2d(x, stood_at, (1, 2)),
    "transposed convolution": lambda x: F.conv_transpose2d(
        x, numbers("1/4", "3/4", "3/4", "1/4"), stride=(1, 2), padding=(0, 1)
    ),
}
exact = numbers(*x[0])
for name, way in ways.items():
    print(f"{name:30}", *(f"{value!s:>5}" for value in way(exact)[0]))

# %% [markdown]
# The picture: six panels, one for each way. Bars are the eight new pixels; orange circles are the
# four old ones, drawn at the place where that way believes them to stand.

# %%
places = {  # where old pixel i stands among the new pixels 0..7
    "bed of nails": 2 * np.arange(4),
    "nearest": 2 * np.arange(4) + 0.5,
    "bilinear, align_corners=False": 2 * np.arange(4) + 0.5,
    "bilinear, align_corners=True": 7 / 3 * np.arange(4),
    "unpooling": stood_at[0],
    "transposed convolution": 2 * np.arange(4) + 0.5,
}
figure = Figure(figsize=(8.5, 4.2), layout="constrained")
for ax, (name, way) in zip(figure.subplots(2, 3, sharey=True).flat, ways.items(), strict=True):
    ax.bar(range(8), way(exact)[0].astype(float), color=BLUE, alpha=0.45, width=0.8)
    ax.plot(places[name], x[0], "o", markerfacecolor="none", color=ORANGE, markeredgewidth=2)
    ax.set_title(name, fontsize=10)
    ax.set(xticks=range(8), xlim=(-0.9, 7.9), ylim=(0, 4.5))
figure

# %% [markdown]
# - **Bed of nails** and **unpooling** place each number once and leave zeros. They differ in
#   *where*: the nail always stands at the first pixel of its pair, the unpooled number where the
#   maximum was.
# - **Nearest** copies, **bilinear** mixes two neighbours (in two dimensions: four).
# - **Transposed convolution** lets each number paint a kernel, two pixels apart, and adds up what
#   overlaps. With this kernel it is bilinear, except at the two ends, where a neighbour is missing
#   and nothing fills in for it. Its kernel can be *learnt*; the others have nothing to learn.

# %%
painted = ways["transposed convolution"](exact)
mixed = ways["bilinear, align_corners=False"](exact)
assert (painted[:, 1:-1] == mixed[:, 1:-1]).all()
assert (painted[:, [0, -1]] == exact[:, [0, -1]] * Fraction(3, 4)).all()  # a quarter is missing

# %% [markdown]
# ### All six are one matrix each
#
# Each way is linear in the image (for unpooling: once the indices are fixed). So each is a matrix
# $A$ with $y = A x$, and column $j$ of it is what comes out for an image that is 1 at pixel $j$ and
# 0 elsewhere: what one pixel *paints*. `matrix_of` asks for the columns one by one, exactly. The
# picture shows the six matrices, eight rows (new pixels) and four columns (old ones) each.

# %%
A = {name: matrix_of(way, 4) for name, way in ways.items()}
for name, way in ways.items():
    assert (A[name] @ exact[0] == way(exact)[0]).all()

figure = Figure(figsize=(8.5, 6.4), layout="constrained")
for ax, (name, array) in zip(figure.subplots(2, 3).flat, A.items(), strict=True):
    plot.matrix(array, ax, title=name, largest=1)
figure

# %% [markdown]
# Read the *rows*: a row says of which old pixels a new one is made. Where a row sums to 1, a flat
# image stays flat. Nails and unpooling have rows that sum to 0 (the holes), and the transposed
# convolution's first and last rows sum to 3/4 (the faded border).

# %%
sums = {name: array.sum(axis=1) for name, array in A.items()}
assert all((sums[name] == 1).all() for name in sums if name.startswith(("nearest", "bilinear")))
assert list(sums["bed of nails"]) == [1, 0] * 4
assert sums["transposed convolution"][0] == Fraction(3, 4)

# %% [markdown]
# **Your turn.** Here is another kernel. Guess before you run: how many pixels come out, and do the
# rows still sum to 1? Then make it `numbers(1, 1)`: which of the six ways have you written?

# %%
your_kernel = numbers("1/2", 1, "1/2")
yours = matrix_of(lambda x: F.conv_transpose2d(x, your_kernel, stride=(1, 2), padding=(0, 1)), 4)
print(yours.shape[0], "pixels; rows sum to", *yours.sum(axis=1))

# %% [markdown]
# (Seven pixels, all rows sum to 1, and every second new pixel is an old one, untouched. This kernel
# is the hero of notebook 02b. `numbers(1, 1)` with this padding is nearest with its ends cut off.)

# %% [markdown]
# ## 2. Bed of nails and nearest
#
# *Needs the first cell. Slides: "Methods for Upsampling", Waterloo.*
#
# The rule in our words: bed of nails puts pixel $(i, j)$ at $(s\,i, s\,j)$ of a canvas of zeros;
# nearest fills the whole $s \times s$ block with it. First as loops:

# %%
X = np.array([[1, 2], [3, 4]])
s = 2

nails = np.zeros((s * X.shape[0], s * X.shape[1]), X.dtype)
nearest = np.zeros_like(nails)
for i in range(X.shape[0]):
    for j in range(X.shape[1]):
        nails[s * i, s * j] = X[i, j]
        nearest[s * i : s * i + s, s * j : s * j + s] = X[i, j]

# %% [markdown]
# Both are "each pixel times a small pattern": a Kronecker product in one NumPy call, and a
# transposed convolution whose stride equals the size of its kernel, so that nothing overlaps.

# %%
nail, block = np.array([[1, 0], [0, 0]]), np.ones((2, 2), int)
for canvas, K in ((nails, nail), (nearest, block)):
    assert (np.kron(X, K) == canvas).all()  # vectorised
    assert (F.conv_transpose2d(X, K, stride=2) == canvas).all()  # the library's op
assert (F.interpolate(X, scale_factor=2, mode="nearest") == nearest).all()

# %% [markdown]
# The picture: the 2 × 2 image, its bed of nails, and its nearest neighbour version.

# %%
plot.matrices({"x": X, "bed of nails": nails, "nearest": nearest}, (8.5, 2.9))

# %% [markdown]
# **Your turn.** Twice as large is easy. What becomes of three pixels that shall be *five*? Run the
# cell, then try 4 to 6 and 5 to 3. The library takes pixel $\lfloor i\,H / OH \rfloor$, as PyTorch
# does: it rounds *down*, so the "nearest" pixel is not always the nearest one.

# %%
five = F.interpolate(np.array([[10, 20, 30]]), size=(1, 5), mode="nearest")
print(five)
assert five.tolist() == [[10, 10, 20, 20, 30]]  # 30 is shown once, the others twice

# %% [markdown]
# ## 3. Bilinear
#
# *Needs the first cell. Slides: "PSPNet: interpolation", Drake.*
#
# A point $(x, y)$ lies between four pixels. The slide goes along $x$ twice, then along $y$ once:
#
# $$f(x, y_1) = (x_2 - x)\, f(Q_{11}) + (x - x_1)\, f(Q_{21}) \qquad
# f(x, y_2) = (x_2 - x)\, f(Q_{12}) + (x - x_1)\, f(Q_{22})$$
#
# $$f(x, y) = (y_2 - y)\, f(x, y_1) + (y - y_1)\, f(x, y_2)$$
#
# with $x_2 - x_1 = y_2 - y_1 = 1$ between neighbouring pixels. `loops.bilinear` is this text:

# %%
f = np.array([[10.0, 20.0], [30.0, 50.0]])  # f[y, x]: Q11 = 10, Q21 = 20, Q12 = 30, Q22 = 50
x1 = y1 = 0
x2 = y2 = 1
px, py = 0.25, 0.5  # the point (x, y)

f_y1 = (x2 - px) * f[y1, x1] + (px - x1) * f[y1, x2]
f_y2 = (x2 - px) * f[y2, x1] + (px - x1) * f[y2, x2]
value = (y2 - py) * f_y1 + (py - y1) * f_y2
print(f_y1, f_y2, value)
assert (f_y1, f_y2, value) == (12.5, 35.0, 23.75)
assert loops.bilinear(f, px, py) == value

# %% [markdown]
# The same as a picture: the square between the four pixels, cut at the point. Each pixel weighs as
# much as the rectangle *opposite* to it, drawn in that pixel's colour.

# %%
figure = Figure(figsize=(4.6, 4.2), layout="constrained")
ax = figure.subplots()
for (row, column), tint in zip(np.ndindex(2, 2), plot.class_colors(5)[1:] / 255, strict=True):
    left, right = (px, 1) if column == 0 else (0, px)  # the rectangle across from this pixel
    top, bottom = (py, 1) if row == 0 else (0, py)
    ax.fill([left, right, right, left], [top, top, bottom, bottom], color=tint, alpha=0.35)
    weight = (right - left) * (bottom - top)
    ax.text((left + right) / 2, (top + bottom) / 2, f"{weight:g}", ha="center", va="center")
    ax.plot(column, row, "o", color=tint, markersize=32, markerfacecolor="white",
            markeredgewidth=4, clip_on=False)  # fmt: skip
    ax.text(column, row, f"{f[row, column]:g}", ha="center", va="center", zorder=3)
ax.plot(px, py, "k+", markersize=14)
ax.set(xlim=(0, 1), ylim=(1, 0), xlabel="x", ylabel="y", xticks=[px], yticks=[py])
ax.set_aspect("equal")
ax.spines[:].set_visible(False)
figure

# %% [markdown]
# The slide's last line is the same as a product: a row vector, a 2 × 2 matrix of the four pixels, a
# column vector. Its matrix has $x$ going *down*. An image in NumPy has $x$ going *across*, so it is
# the transposed one, and forgetting that swaps $Q_{12}$ and $Q_{21}$.

# %%
rng = np.random.default_rng(0)
for _ in range(100):
    f = rng.uniform(-1, 1, (2, 2))
    px, py = rng.uniform(0, 1, 2)
    by_column = np.array([1 - px, px])  # (x2 - x, x - x1): two entries
    by_row = np.array([1 - py, py])  # (y2 - y, y - y1)
    value = loops.bilinear(f, px, py)
    assert abs(by_column @ f.T @ by_row - value) < 1e-14  # the slide's order
    assert abs(by_row @ f @ by_column - value) < 1e-14  # NumPy's order

# %% [markdown]
# ### A whole image: two matrices
#
# Rows and columns are resized apart, so an image needs one small matrix for its height and one for
# its width: $y = A\, x\, B^T$. That is all there is in `functional/resize.py`, backward included
# ($A^T\, dy\, B$). Here on the 4 × 4 image 0..15, exactly:

# %%
x = np.array([[Fraction(4 * i + j) for j in range(4)] for i in range(4)])


def bilinear_matrix(size, align_corners):
    """The matrix that resizes four pixels to `size`."""
    return matrix_of(
        lambda x: F.interpolate(x, size=(1, size), mode="bilinear", align_corners=align_corners),
        4,
    )


to_eight = bilinear_matrix(8, align_corners=False)
to_seven = bilinear_matrix(7, align_corners=True)
eight = F.interpolate(x, size=8, mode="bilinear", align_corners=False)
seven = F.interpolate(x, size=7, mode="bilinear", align_corners=True)
assert (to_eight @ x @ to_eight.T == eight).all()
assert (to_seven @ x @ to_seven.T == seven).all()
assert (loops.interpolate(x, size=8, mode="bilinear", align_corners=False) == eight).all()

# %% [markdown]
# ### Where does a new pixel fall?
#
# This is the whole difference between the two conventions. The picture shows an axis of four old
# pixels, each a box one unit wide with its centre at 0, 1, 2, 3, and below it the eight new
# centres.

# %%
n, new = 4, 8
i = np.arange(new)
aligned = i * (n - 1) / (new - 1)  # align_corners=True: first centre on first centre, last on last
halves = (i + 1 / 2) * n / new - 1 / 2  # False: first edge on first edge, last edge on last edge

figure = Figure(figsize=(8.5, 2.3), layout="constrained")
ax = figure.subplots()
for pixel in range(n):
    ax.fill([pixel - 0.5, pixel + 0.5, pixel + 0.5, pixel - 0.5], [2, 2, 2.6, 2.6],
            facecolor="#ffe3c2", edgecolor=ORANGE)  # fmt: skip
ax.plot(range(n), [2.3] * n, "o", color=ORANGE)
for height, where in ((1.3, aligned), (0.5, halves)):
    ax.vlines(where, height, 2.3, color="#bbbbbb", linewidth=0.7, zorder=0)
    ax.plot(where, [height] * new, "o", color=BLUE)
ax.set(xlim=(-0.7, 3.7), xticks=range(n), ylim=(0.2, 2.8))
ax.set_yticks([2.3, 1.3, 0.5], ["old pixels", "align_corners=True", "align_corners=False"])
ax.spines[:].set_visible(False)
figure

# %% [markdown]
# - **True** stretches the four *centres* over the eight. The step is 3/7, and depends on the sizes.
# - **False** stretches the four *boxes*. The step is exactly 1/2, whatever the size. The outermost
#   new centres fall outside the old ones, and are moved back onto them: the border repeats.
#
# A ramp shows it best, because on a ramp a value *is* a place:

# %%
ramp = np.arange(4.0)[None]
true = F.interpolate(ramp, size=(1, 8), mode="bilinear", align_corners=True)
false = F.interpolate(ramp, size=(1, 8), mode="bilinear", align_corners=False)
assert np.allclose(true, aligned, rtol=0, atol=1e-14)
assert (false == np.clip(halves, 0, 3)).all()
print("True ", *np.round(true[0], 3))
print("False", *false[0])

# %% [markdown]
# Count the different rows of weights: False has two (1/4, 3/4 and 3/4, 1/4) for any number of
# pixels, so away from the border it is a convolution with fixed kernels. True has a new pair of
# weights at every pixel when 4 become 8, but only two kinds (1 and 1/2, 1/2) when 4 become
# **7 = 2 · 4 - 1**: then the step is 1/2 again. That is why a lecture that compares with
# `align_corners=True` shows a 7 × 7 result, and why its kernel has an odd size.


# %%
def kinds_of_rows(matrix):
    """The different sets of weights, wherever in the row they stand; border rows left out."""
    return {tuple(weight for weight in row if weight) for row in matrix[1:-1]}


print("4 to 8, True: ", len(kinds_of_rows(bilinear_matrix(8, align_corners=True))), "kinds of rows")
print("4 to 8, False:", len(kinds_of_rows(to_eight)))
print("4 to 7, True: ", len(kinds_of_rows(to_seven)))
assert len(kinds_of_rows(to_eight)) == len(kinds_of_rows(to_seven)) == 2

# %% [markdown]
# The picture: the 4 × 4 image 0..15 made 7 × 7 with aligned corners, and 8 × 8 without.

# %%
plot.matrices(
    {
        "size=7, align_corners=True": seven.astype(float),
        "size=8, align_corners=False": eight.astype(float),
    },
    (8.5, 3.6),
)

# %% [markdown]
# **Your turn.** One pixel of 16, all others 0. Guess the largest value after each of the two; then
# move the bright pixel to a corner, `spot[0, 0]`, and guess again.

# %%
spot = np.zeros((4, 4))
spot[1, 2] = 16
for size, align_corners in ((7, True), (8, False)):
    larger = F.interpolate(spot, size=size, mode="bilinear", align_corners=align_corners)
    print(f"size={size}, align_corners={align_corners}: largest value {larger.max():g}")

# %% [markdown]
# (16 and 9. With aligned corners, 4 to 7 pixels, each old pixel survives: `seven[::2, ::2]` is the
# image. Without, every new pixel is a mixture and nothing brighter than $(3/4)^2$ of the spot is
# left, except at a corner, where the border repeats.)

# %%
assert (seven[::2, ::2] == x).all()

# %% [markdown]
# ## 4. Unpooling with indices
#
# *Needs the first cell. Slides: "SegNet", Drake; "Unpooling", Deep Learning for Vision; "How does
# the decoder increase the resolution? (2/2)", ENSTA.*
#
# Max pooling keeps the largest of each 2 × 2 window, and writes down where it stood. Unpooling puts
# numbers back to those places, zeros elsewhere. As loops:


# %%
def pool_with_indices(X):
    OH, OW = X.shape[0] // 2, X.shape[1] // 2
    Y, indices = np.zeros((OH, OW), X.dtype), np.zeros((OH, OW), int)
    for i in range(OH):
        for j in range(OW):
            window = X[2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
            u, v = divmod(window.argmax(), 2)  # the first of equal maxima
            Y[i, j] = window[u, v]
            indices[i, j] = (2 * i + u) * X.shape[1] + (2 * j + v)  # row * width + column
    return Y, indices


def unpool(Y, indices, shape):
    X = np.zeros(shape, Y.dtype)
    for i in range(Y.shape[0]):
        for j in range(Y.shape[1]):
            X.flat[indices[i, j]] = Y[i, j]
    return X


x = np.array([[1, 2, 6, 3], [3, 5, 2, 1], [1, 2, 2, 1], [7, 3, 4, 8]])
y, indices = pool_with_indices(x)
unpooled = unpool(y, indices, x.shape)

# %% [markdown]
# Without loops: cut the image into windows, take the maximum over each, and scatter by index.
# The library's ops do this for batches, any window, stride and padding:

# %%
windows = x.reshape(2, 2, 2, 2).swapaxes(1, 2).reshape(2, 2, 4)  # (OH, OW, 4)
scattered = np.zeros(16, x.dtype)
scattered[indices.ravel()] = y.ravel()
assert (windows.max(axis=2) == y).all()
assert (scattered.reshape(4, 4) == unpooled).all()

library_y, library_indices = F.max_pool2d(x, 2, return_indices=True)
assert (library_y == y).all()
assert (library_indices == indices).all()
assert (F.max_unpool2d(y, indices, 2) == unpooled).all()

# %% [markdown]
# The picture: an image, its four maxima, their indices (count the pixels in reading order from 0),
# and the image unpooled from them.

# %%
plot.matrices({"x": x, "pooled": y, "indices": indices, "unpooled": unpooled}, (8.5, 2.4))

# %% [markdown]
# What unpooling keeps, and what it costs:
#
# - pooling an unpooled map gives the map back, and the sum is kept: nothing is lost, nothing added;
# - three pixels in four are 0, a *sparse* map, which the convolutions after it have to fill;
# - there is nothing to learn, and little to store: a window's index is one of four, 2 bits, where
#   keeping the window itself takes four numbers of 32 bits.

# %%
assert (F.max_pool2d(unpooled, 2) == y).all()
assert unpooled.sum() == y.sum()
assert (unpooled == 0).mean() == 3 / 4
assert 4 * 32 // 2 == 64  # times less memory than the maps themselves

# %% [markdown]
# **Your turn.** "Pooling an unpooled map gives the map back": find a map `y` for which it does not.
# (One number is enough. What do SegNet's maps have in common that makes it safe?)

# %%
y = np.array([[5, 6], [7, 8]])  # change me
print(F.max_pool2d(F.max_unpool2d(y, indices, 2), 2))

# %% [markdown]
# <details><summary>One answer</summary>
#
# Any negative number: it is unpooled among zeros, and the zero wins. SegNet pools behind a ReLU,
# where no number is negative. The sum is kept all the same.
# </details>

# %%
negative = np.array([[-5, 6], [7, 8]])
again = F.max_pool2d(F.max_unpool2d(negative, indices, 2), 2)
assert again.tolist() == [[0, 6], [7, 8]]
assert F.max_unpool2d(negative, indices, 2).sum() == negative.sum()

# %% [markdown]
# ### The odd size: a trap
#
# Five pixels pooled by two leave one over. The indices still count in rows of *five*, but two
# windows of two unpool to *four*, and index 12, row 2 of 5, means row 3 of 4. Sometimes the library
# notices, because an index lies outside. Sometimes it cannot. Tell it the size.
#
# The picture: a falling 5 × 5 image; unpooled to 4 × 4, with its second row of numbers pushed out
# of place; and unpooled to 5 × 5, with each number where it came from.

# %%
odd = np.arange(25)[::-1].reshape(5, 5)  # falling: each window's maximum is its top left pixel
y, indices = F.max_pool2d(odd, 2, return_indices=True)
wrong = F.max_unpool2d(y, indices, 2)
right = F.max_unpool2d(y, indices, 2, output_size=(5, 5))
assert (right[right > 0] == odd[right > 0]).all()  # every number is back where it was
assert not (F.max_pool2d(wrong, 2) == y).all()
plot.matrices({"5 x 5": odd, "unpooled: wrong": wrong, "with output_size": right}, (8.5, 2.7))

# %% [markdown]
# ## 5. Convolution is a matrix, and its transpose goes the other way
#
# *Needs the first cell. Slides: "Transpose Convolution: other names", Waterloo; "FCN: Upsampling
# via Transposed Convolution Operation", Drake.*
#
# The library's ops run on letters as well as on numbers. So let a convolution of six pixels with a
# kernel of three write down what it computes, and then its transposed convolution:

# %%
from minseg.formal import variables

letters = variables({"x": (1, 6), "k": (1, 3), "y": (1, 4)})
print("convolution, 6 pixels to 4")
for j, formula in enumerate(F.conv2d(letters["x"], letters["k"])[0]):
    print(f"  y{j} = {formula}")
print("transposed convolution, 4 pixels to 6")
for j, formula in enumerate(F.conv_transpose2d(letters["y"], letters["k"])[0]):
    print(f"  x{j} = {formula}")

# %% [markdown]
# Each line is one row of a matrix. The picture shows both: on the left the convolution's matrix
# $A$, 4 × 6, in which the kernel stands in every row, one step further to the right; on the right
# its transpose $A^T$, 6 × 4, in which the kernel stands in every *column*: each pixel paints it
# once.

# %%
k = ["$k_0$", "$k_1$", "$k_2$"]
drawn = np.full((4, 6), "", object)
for i in range(4):
    drawn[i, i : i + 3] = k
plot.matrices({"$A$: convolution": drawn, "$A^T$: transposed convolution": drawn.T}, (8.5, 3.6))

# %% [markdown]
# A **stride** of 2 leaves out every second row of $A$. In $A^T$ that leaves out every second
# *column*: the kernel is painted two pixels further each time, and the output is larger than the
# input. The picture: seven pixels to three with stride 2, and its transpose, three to seven.

# %%
drawn = np.full((3, 7), "", object)
for i in range(3):
    drawn[i, 2 * i : 2 * i + 3] = k
plot.matrices({"$A$, stride 2": drawn, "$A^T$, stride 2": drawn.T}, (8.5, 3.8))

# %% [markdown]
# ### In two dimensions
#
# Lay the image out in one long column, row after row: `x.ravel()`. Then it is the same. As a loop,
# straight from the definition:

# %%
H, W = 3, 3
K = np.array([[1, 2], [3, 4]])
KH, KW = K.shape
OH, OW = H - KH + 1, W - KW + 1

A = np.zeros((OH * OW, H * W), int)
for i in range(OH):
    for j in range(OW):
        for u in range(KH):
            for v in range(KW):
                A[i * OW + j, (i + u) * W + (j + v)] = K[u, v]

# %% [markdown]
# Without loops: column $n$ of a matrix is what it makes of the $n$-th unit vector, so convolve the
# nine images that have a single 1, as one batch:

# %%
units = np.eye(H * W, dtype=int).reshape(H * W, 1, H, W)  # (9, 1, 3, 3)
columns = F.conv2d(units, K[None, None])  # (9, 1, 2, 2)
assert (columns.reshape(H * W, OH * OW).T == A).all()

# %% [markdown]
# The picture: $A$, 4 × 9, with the kernel 1, 2, 3, 4 in every row, two numbers, a gap to the next
# row of the image, two numbers; and $A^T$, 9 × 4. Zeros are left blank.

# %%
blank = np.where(A == 0, "", A.astype(object))
plot.matrices({"$A$": blank, "$A^T$": blank.T}, (8.5, 4.4))

# %% [markdown]
# Now the sentence that gives transposed convolution its name, exactly, on integers, for the
# slide's loop and for the library's op:

# %%
rng = np.random.default_rng(1)
x = rng.integers(-9, 10, (H, W))
y = rng.integers(-9, 10, (OH, OW))

assert (A @ x.ravel() == loops.convolution(x, K).ravel()).all()
assert (A @ x.ravel() == F.conv2d(x, K).ravel()).all()
assert (A.T @ y.ravel() == loops.transpose_convolution(y, K).ravel()).all()
assert (A.T @ y.ravel() == F.conv_transpose2d(y, K).ravel()).all()

# %% [markdown]
# Nobody computes it like this: $A$ is nearly all zeros. For a 256 × 256 image and a 3 × 3 kernel it
# has $254^2 \cdot 256^2 \approx 4.2$ billion entries for nine different numbers. It is there to
# think with.
#
# **Your turn.** *Transposed* is not *inverse*. Guess whether `back` below looks like `x`; then find
# a kernel (and a stride) for which `F.conv2d(F.conv_transpose2d(y, K, stride=s), K, stride=s)`
# gives `y` back for every `y`.

# %%
back = F.conv_transpose2d(F.conv2d(x, K), K)
assert not (back == x).any()
print(x, back, sep="\n\n")

# %% [markdown]
# <details><summary>One answer</summary>
#
# The nail: `K = [[1, 0], [0, 0]]` with stride 2, placing a number and picking it up again. More
# generally any kernel whose squares add up to 1, with a stride at least its size, so that nothing
# overlaps: then $A A^T$ is the identity. $A^T A$ never is, as long as the map is smaller than the
# image: what pooling or stride has thrown away is gone. That is why the slide "Transpose
# Convolution: other names" calls *deconvolution* a poor name.
# </details>

# %%
nail = np.array([[1, 0], [0, 0]])
y = rng.integers(-9, 10, (3, 3))
assert (F.conv2d(F.conv_transpose2d(y, nail, stride=2), nail, stride=2) == y).all()

# %% [markdown]
# ## 6. The adjoint: the same thing without a matrix
#
# *Needs the first cell.*
#
# $A^T$ is the one matrix for which, for every $x$ and every $y$,
#
# $$\langle A x,\; y \rangle = \langle x,\; A^T y \rangle$$
#
# with $\langle a, b \rangle$ the sum of all products, pixel by pixel. So "is this op the transpose
# of that one?" is a question for two random arrays, and no matrix is built. With everything
# switched on, stride (2, 3), padding (1, 2), dilation (2, 1), it still holds:

# %%
from minseg.check import check_adjoint

rng = np.random.default_rng(2)
x = rng.standard_normal((1, 3, 9, 10))  # (N, C, H, W)
w = rng.standard_normal((4, 3, 3, 3))  # (O, C, KH, KW)
geometry = dict(stride=(2, 3), padding=(1, 2), dilation=(2, 1))
y = rng.standard_normal(F.conv2d(x, w, **geometry).shape)

up = F.conv_transpose2d(y, w, **geometry, output_padding=(0, 2))
left, right = (F.conv2d(x, w, **geometry) * y).sum(), (x * up).sum()
print(f"<Ax, y> = {left:.15f}\n<x, A'y> = {right:.15f}")
assert abs(left - right) < 1e-13 * (abs(x) * abs(up)).sum()

# %% [markdown]
# Why `output_padding=(0, 2)`? Because sizes are rounded down, and with a stride of 3 images of 8, 9
# and 10 columns all give a map of 4. Going back, somebody has to say which of them it was; 8 is
# meant where nobody says so.

# %%
width = [F.output_size(n, 3, stride=3, padding=2) for n in (8, 9, 10, 11)]
assert width == [4, 4, 4, 5]
assert F.conv_transpose2d(y, w, **geometry).shape[3] == 8

# %% [markdown]
# `check_adjoint` asks the same question and raises a sentence where the answer is no. Two pairs
# that are worth knowing: nearest upsampling and *summing* over blocks; unpooling and *gathering*.

# %%
x, y = rng.integers(-9, 10, (3, 4)), rng.integers(-9, 10, (6, 8))
check_adjoint(
    lambda x: F.interpolate(x, scale_factor=2, mode="nearest"),
    lambda y: y.reshape(3, 2, 4, 2).sum(axis=(1, 3)),
    x,
    y,
)
_, indices = F.max_pool2d(y, 2, return_indices=True)
check_adjoint(lambda x: F.max_unpool2d(x, indices, 2), lambda y: y.ravel()[indices], x, y)

# %% [markdown]
# This is also how a network learns through an upsampling. `backward(dy)` on a linear op *is* "apply
# the transpose to `dy`" (notebook 05 builds it). For each of the six ways of section 1, its
# gradient against the transpose of its matrix:

# %%
row_indices = np.array([[0, 3, 5, 6]])
six = {
    "bed of nails": lambda x: F.conv_transpose2d(x, np.array([[1.0, 0.0]]), stride=(1, 2)),
    "nearest": lambda x: F.interpolate(x, size=(1, 8)),
    "halves": lambda x: F.interpolate(x, size=(1, 8), mode="bilinear", align_corners=False),
    "aligned": lambda x: F.interpolate(x, size=(1, 8), mode="bilinear", align_corners=True),
    "unpooling": lambda x: F.max_unpool2d(x, row_indices, (1, 2)),
    "transposed": lambda x: F.conv_transpose2d(
        x, np.array([[0.25, 0.75, 0.75, 0.25]]), stride=(1, 2), padding=(0, 1)
    ),
}
dy = rng.standard_normal((1, 8))
for way in six.values():
    x = Tensor(np.zeros((1, 4)), requires_grad=True)
    way(x).backward(dy)
    columns = np.array([way(unit[None])[0] for unit in np.eye(4)]).T  # the matrix, (8, 4)
    assert np.allclose(x.grad[0], columns.T @ dy[0], rtol=0, atol=1e-14)

# %% [markdown]
# ## 7. On a picture, and where it sits in a network
#
# *Needs the first cell. Slides: "Need for upsampling", Waterloo; "FCNSeg", ENSTA.*
#
# One scene of 64 × 64 pixels, pooled to 8 × 8: that is all a network of output stride 8 knows at
# its coarsest. Back to 64 × 64 in five ways. The picture: the scene; its 8 × 8 version; then each
# way, and below it the mean difference from the scene.

# %%
from minseg import data

image = data.build("shapes", "test")[8][0][0]  # one colour channel, (64, 64)
coarse = F.avg_pool2d(image, 8)
peaks, indices = F.max_pool2d(image, 8, return_indices=True)
nail = np.zeros((8, 8), np.float32)
nail[0, 0] = 1
tent = F.bilinear_kernel(8, kind="caffe")  # (16, 16)
pictures = {
    "scene": image,
    "8 x 8": coarse,
    "bed of nails": F.conv_transpose2d(coarse, nail, stride=8),
    "unpooling (of the maxima)": F.max_unpool2d(peaks, indices, 8),
    "nearest": F.interpolate(coarse, size=64, mode="nearest"),
    "bilinear, aligned": F.interpolate(coarse, size=64, mode="bilinear", align_corners=True),
    "bilinear": F.interpolate(coarse, size=64, mode="bilinear", align_corners=False),
    "transposed convolution": F.conv_transpose2d(coarse, tent, stride=8, padding=4),
}

figure = Figure(figsize=(8.5, 5.2), layout="constrained")
figure.get_layout_engine().set(h_pad=0.12)
for ax, (name, picture) in zip(figure.subplots(2, 4).flat, pictures.items(), strict=True):
    ax.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set_title(name, fontsize=10)
    ax.set(xticks=[], yticks=[])
    if picture.shape == image.shape and picture is not image:
        ax.set_xlabel(f"off by {abs(picture - image).mean():.3f}", fontsize=9)
figure

# %% [markdown]
# The sparse maps are no pictures yet: convolutions must follow. Nearest has blocks, bilinear has
# slopes, and none of them brings back what 8 × 8 numbers do not hold: for that, decoders take *skip
# connections* (notebook 07). The transposed convolution with a bilinear kernel is bilinear but for
# its dark border, and unlike the others it may learn to be something better.

# %%
inside = np.s_[4:-4, 4:-4]
assert np.allclose(
    pictures["transposed convolution"][inside], pictures["bilinear"][inside], rtol=0, atol=1e-6
)
difference = {name: abs(p - image).mean() for name, p in pictures.items() if p.shape == image.shape}
assert max(difference["bilinear"], difference["nearest"]) < difference["bed of nails"] / 3

# %% [markdown]
# In an FCN the order is: the encoder makes a coarse map of features, a 1 × 1 convolution turns them
# into coarse *scores*, one per class, and one large transposed convolution upsamples the scores:

# %%
from minseg import models

net = models.build("fcn", in_channels=3, num_classes=5, width=4, depth=3)
features = Tensor(np.zeros((1, 4 * 2**3, 8, 8), np.float32))  # what the encoder makes of 64 x 64
scores = net.score[0](features)
output = net.up[0](scores)
print("1 x 1 score layer:     ", features.shape, "->", scores.shape)
print("transposed convolution:", scores.shape, "->", output.shape, "with", net.up[0].weight.shape)
assert net.score[0].weight.shape[2:] == (1, 1)
assert scores.shape == (1, 5, 8, 8)  # coarse already
assert output.shape == (1, 5, 64, 64)

# %% [markdown] tags=["erratum"]
# > **Check this against your slides.** ENSTA Paris, CSC_5RO13, slide "FCNSeg": the text has the
# > large transposed convolution produce the coarse map, which is then upsampled. In the code, as in
# > the FCN paper, the map is coarse before, and the transposed convolution is what upsamples it.

# %% [markdown]
# ## Three questions
#
# 1. Which of the six ways of section 1 keep the *sum* of the pixels, and how do you read it off
#    their matrices?
# 2. Two programs resize the same 4 × 4 image to 8 × 8 "bilinearly" and disagree. How can you tell
#    from one row of numbers which convention each of them has?
# 3. Why is a convolution with stride 2 "undone" in *size* by its transpose only up to one pixel,
#    and which argument says which size is meant?
#
# <details><summary>Answers</summary>
#
# 1. Bed of nails and unpooling: their *columns* sum to 1, for a column is what one pixel paints.
#    Nearest, and bilinear without aligned corners, double the sum. With aligned corners inner
#    pixels count for more than outer ones (16/7 and 12/7), and the transposed convolution loses
#    what it paints over the edge.
# 2. Give them the ramp 0, 1, 2, 3. Equal steps of 3/7: aligned corners. Steps of 1/2 with both ends
#    repeated at 0 and 3: not aligned.
# 3. Sizes are rounded down, so images of 2m and 2m + 1 pixels can give maps of the same size.
#    `output_padding` of the transposed convolution (for unpooling: `output_size`) says which one it
#    was.
# </details>
#
# The cell below checks the first answer (it needs section 1).
#
# **Next.** Exercises `max_pool2d` / `max_unpool2d` and `conv_transpose2d`; then notebook 02b, where
# a canvas fills step by step and `bilinear_kernel` gets its numbers.
#
# `python3 start.py exercises` copies the exercises to `minseg_work/exercises/`; `check` with a name says
# what is right, and of a wrong answer what it is. In a notebook: `from minseg.grading import check`.

# %%
columns = {name: matrix_of(way, 4).sum(axis=0) for name, way in ways.items()}
assert [name for name in ways if (columns[name] == 1).all()] == ["bed of nails", "unpooling"]
assert (columns["nearest"] == 2).all()
assert (columns["bilinear, align_corners=False"] == 2).all()
assert list(7 * columns["bilinear, align_corners=True"]) == [12, 16, 16, 12]
assert list(4 * columns["transposed convolution"]) == [7, 8, 8, 7]
