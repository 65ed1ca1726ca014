# %% [markdown]
# # 03 Fractionally strided convolution, and the homework
#
# 25 minutes of reading, 5 seconds of running; reads `minseg/loops.py`, `minseg/functional/conv.py`,
# `minseg/proofs.py` and `minseg/claims/transposed.py`; needs notebook 02b (what a transposed
# convolution does).
#
# There is a second way to make an image larger with a kernel: pull its pixels apart, fill the gaps
# with zeros, and slide the kernel over that. The slides say it is the transposed convolution under
# another name, and ask for a proof. At the end of this notebook you can
#
# - compute a transposed convolution with nothing but zeros and an ordinary convolution: the right
#   kernel, the right padding, the right order of the channels;
# - say exactly for which kernels the careless version is right too, and why the lecture's worked
#   example is one that cannot show a mistake;
# - tell which libraries turn the kernel for you, and start the proof with every doubt about the
#   statement gone.
#
# The proof itself is your homework: this notebook stops at the verdict.
#
# Follows: University of Waterloo, "Semantic Segmentation", slides "Transpose Convolution: other
# names", "Fractionally-strided Convolution" and "Transposed vs Fractionally-strided Convolution";
# Drake University, CS195 (2024), "FCN: Upsampling via Transposed Convolution Operation".
#
# | on the slides | here | what it is |
# |---|---|---|
# | $X$ and $K$, or kernel $k$ | `x`, `k` | image (H, W), kernel (KH, KW) |
# | a, b, c, d | `x[0, 0]`, `x[0, 1]`, `x[1, 0]`, `x[1, 1]` | four neighbouring pixels |
# | zero-interleaved image | `z` | x with s − 1 zeros between its pixels |
# | stride 1/s, "fractional" | `stride=s` | the stride of the transposed convolution |
# | standard, regular convolution | `conv2d` | slides the kernel as it is, without turning it |
# | "transposed" version of k, flipped both ways | `rot180(k)` | k turned by 180 degrees |
# | $k_{1,-1}$, counted from the centre | `k[0, 2]`, counted from a corner | section 3 |
#
# Each section stands alone, after this cell:

# %%
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import minseg.functional as F
from minseg import loops, plot
from minseg.claims import CLAIMS, two_formulas
from minseg.formal import variables
from minseg.proofs import prove

X = np.arange(16.0).reshape(4, 4)  # the slides' image, and their kernel:
K = F.bilinear_kernel(2, dtype=float)  # [[.25, .5, .25], [.5, 1, .5], [.25, .5, .25]]
x = np.arange(1, 17).reshape(4, 4)  # an image and a kernel that hide nothing
k = np.arange(1, 10).reshape(3, 3)


def grey_zeros(ax, pixels):
    """Print what was put in between in grey, and the pixels of the image (True) in bold."""
    for text, is_pixel in zip(ax.texts, pixels.ravel(), strict=True):
        text.set(color="black" if is_pixel else "#8a8a8a", weight="bold" if is_pixel else "normal")


# %% [markdown]
# ## 1. Zeros between the pixels
#
# The slide's recipe for stride s: put s − 1 zeros between neighbouring pixels, then convolve with
# stride 1. A step of one pixel in the new image is a step of 1/s in the old one: hence the name,
# *fractionally strided*. Here is the slide's text as loops, on the slide's image, s = 2. The picture
# shows the image, the image with zeros between its pixels (in bold the pixels), and the same with a
# border of zeros and the kernel's first place framed.

# %%
Z = loops.zero_interleaved(X, stride=2)  # two loops: Z[2*i, 2*j] = X[i, j]
padded = np.pad(Z, 1)
Y = loops.convolution(padded, K)  # the kernel slides over, one pixel at a time
assert (X.shape, Z.shape, padded.shape, Y.shape) == ((4, 4), (7, 7), (9, 9), (7, 7))

is_pixel = np.pad(loops.zero_interleaved(np.ones((4, 4), bool), stride=2), 1)
figure = plot.matrices({"X": X, "Z, zeros between": Z, "and around": padded}, (10, 4.2))
grey_zeros(figure.axes[1], is_pixel[1:-1, 1:-1])
grey_zeros(figure.axes[2], is_pixel)
figure.axes[2].add_patch(Rectangle((-0.5, -0.5), 3, 3, fill=False, edgecolor="#d22d00", lw=2.5))
figure

# %% [markdown]
# Without loops the zeros are one line: a slice with a step on the left of the `=`. The library's op
# is that line and one `conv2d`; its stride and padding are those of the transposed convolution that
# it should equal. All three agree with each other, with the transposed convolution, and, as notebook
# 02b found, with bilinear interpolation. The picture is the slide's 7 × 7 output.


# %%
def fractionally_strided(x, k, stride, border):
    H, W = x.shape
    z = np.zeros(((H - 1) * stride + 1, (W - 1) * stride + 1), x.dtype)
    z[::stride, ::stride] = x  # the zeros stay where nothing is written
    return F.conv2d(np.pad(z, border), k)


assert (fractionally_strided(X, K, stride=2, border=1) == Y).all()
assert (F.fractionally_strided_conv2d(X, K, stride=2, padding=1) == Y).all()
assert (F.conv_transpose2d(X, K, stride=2, padding=1) == Y).all()
assert (F.interpolate(X, size=7, mode="bilinear", align_corners=True) == Y).all()
plot.matrix(Y, title="Y")

# %% [markdown]
# **Your turn.** A flat image of ones, a kernel of 2 × 2 ones, stride 2: the stamps lie side by side,
# and the image stays flat. Make the kernel 3 × 3: on *both* routes it does not. Which stride keeps
# it flat then, and what does the next larger one do? (Section 8 counts.)

# %%
stride, size = 2, 2
flat, kernel = np.ones((3, 3), int), np.ones((size, size), int)
y = F.conv_transpose2d(flat, kernel, stride=stride)
print(y)
assert (fractionally_strided(flat, kernel, stride, border=size - 1) == y).all()

# %% [markdown]
# ## 2. The example that cannot see the mistake
#
# So far so good: the same kernel, the same numbers. Now a kernel that is not so well behaved, the
# numbers 1 to 9. The pictures: the transposed convolution, zeros and the **same** kernel, and the
# difference of the two.

# %%
transposed = F.conv_transpose2d(x, k, stride=2, padding=1)
same_kernel = F.fractionally_strided_conv2d(x, k, stride=2, padding=1)
assert (transposed != same_kernel).any()
plot.matrices(
    {
        "transposed": transposed,
        "zeros, same kernel": same_kernel,
        "difference": transposed - same_kernel,
    },
    (11, 3.4),
)

# %% [markdown]
# Turn the kernel by 180 degrees, and the difference is gone:

# %%
turned_kernel = F.fractionally_strided_conv2d(x, F.rot180(k), stride=2, padding=1)
assert (transposed == turned_kernel).all()
assert (F.rot180(k) == [[9, 8, 7], [6, 5, 4], [3, 2, 1]]).all()

# %% [markdown] tags=["erratum"]
# > **Check this against your slides.** University of Waterloo, "Transpose Convolution: other names":
# > the text puts zeros between the pixels and then convolves with the *same* kernel. In the code
# > that is right only for a kernel that turning by 180 degrees does not change. The kernel of the
# > worked example is one of those, so no number there can show the difference; with the kernel
# > 1, 2, ..., 9 it shows at once. The homework, a few slides on, has it right.

# %% [markdown]
# Which numbers would have been lucky is no longer a question if there are no numbers. `prove` runs
# the very same two functions on *formal variables* x00, x01, ..., k22: each output comes out as a
# polynomial, and two polynomials are equal or they are not. Its verdict on "same kernel" names the
# smallest output that differs and an input to try; the picture has a 1 for each output that differs.

# %%
verdict = prove(
    lambda x, k: F.conv_transpose2d(x, k, stride=2),
    lambda x, k: F.fractionally_strided_conv2d(x, k, stride=2),
    x=(4, 4),
    k=(3, 3),
)
assert verdict.status == "REFUTED"
assert verdict.difference["map"].sum() == 65  # of 9 * 9 outputs
assert not verdict.difference["map"][1::2, 1::2].any()
verdict

# %% [markdown]
# 65 of the 81 outputs differ. The 16 that agree lie on the pixels themselves, where only the
# kernel's centre counts, and the centre stays where it is when a kernel turns.
#
# **Now with your finger on it:** [pages/fractionally_strided.html](pages/fractionally_strided.html)
# is a page that needs nothing but a browser (in JupyterLab, press "Trust HTML" at its top). Point at
# an output, and its pixels, its kernel entries and its two formulas light up; a switch turns the
# kernel, and you see which outputs agree.

# %% [markdown]
# ## 3. The slide's two formulas, written down by the code
#
# The homework slide looks at one pixel only: the one in the middle between four pixels a, b, c, d.
# The pictures: the four pixels with their zeros, the kernel's place framed, and the names of the
# kernel's entries, once as NumPy counts (row, column, from the corner) and once as the slide does.

# %%
letters = variables(dict(x=(2, 2)), letters=dict(x="abcd"))["x"]
grid = np.pad(loops.zero_interleaved(letters, stride=2), 1)
numpy_names = np.array([[f"{u},{v}" for v in range(3)] for u in range(3)])
slide_names = np.array([[f"{v - 1},{u - 1}" for v in range(3)] for u in range(3)])
figure = plot.matrices(
    {
        "a, b, c, d and zeros": grid,
        "k[row, column]": numpy_names,
        "$k_{column, row}$, from the centre": slide_names,
    },
    (9.5, 3.2),
)
grey_zeros(figure.axes[0], np.pad(loops.zero_interleaved(np.ones((2, 2), bool), 2), 1))
figure.axes[0].add_patch(Rectangle((0.5, 0.5), 3, 3, fill=False, edgecolor="#d22d00", lw=2.5))
figure

# %% [markdown]
# And the formulas of that pixel, from the functions that train the networks in notebook 06:

# %%
print(two_formulas())

# %% [markdown]
# The same run again, the kernel's entries named as on the slide. These two lines *are* the slide's:

# %%
free = variables(dict(x=(2, 2), k=(3, 3)), letters=dict(x="abcd"), indices="xy")
first = F.conv_transpose2d(free["x"], free["k"], stride=2)[2, 2]
second = F.fractionally_strided_conv2d(free["x"], free["k"], stride=2)[2, 2]
print("transposed:          ", first)
print("fractionally strided:", second)
assert str(first) == "a*k_{1,1} + b*k_{-1,1} + c*k_{1,-1} + d*k_{-1,-1}"
assert str(second) == "a*k_{-1,-1} + b*k_{1,-1} + c*k_{-1,1} + d*k_{1,1}"

# %% [markdown]
# ### Which reading of the indices is right?
#
# The first index could be the column (as in $k_{x,y}$) or the row (as in `k[row, column]`). Type the
# slide's formulas in, read them both ways, and compare with the code on numbers that cannot agree by
# chance: a, b, c, d = 2, 3, 5, 7 and a kernel of 11, 22, ..., 99.

# %%
a, b, c, d = 2, 3, 5, 7
k11 = 11 * np.arange(1, 10).reshape(3, 3)


def column_row(first, second):  # k_{x,y}: first index to the right, second downwards
    return k11[1 + second, 1 + first]


def row_column(first, second):  # the reading of a NumPy user
    return k11[1 + first, 1 + second]


def slide_transposed(k):
    return a * k(1, 1) + b * k(-1, 1) + c * k(1, -1) + d * k(-1, -1)


def slide_fractional(k):
    return a * k(-1, -1) + b * k(1, -1) + c * k(-1, 1) + d * k(1, 1)


pixels = np.array([[a, b], [c, d]])
by_code = (
    F.conv_transpose2d(pixels, k11, stride=2)[2, 2],
    F.fractionally_strided_conv2d(pixels, k11, stride=2)[2, 2],
)
print(f"{'':18} {'transposed':>10} {'fractional':>10}")
print(f"{'the code':18} {by_code[0]:10} {by_code[1]:10}")
for read in (column_row, row_column):
    name = f"slide, {read.__name__}"
    print(f"{name:18} {slide_transposed(read):10} {slide_fractional(read):10}")
assert by_code == (671, 1199)
assert (slide_transposed(column_row), slide_fractional(column_row)) == (671, 1199)
assert (slide_transposed(row_column), slide_fractional(row_column)) == (759, 1111)

# %% [markdown] tags=["erratum"]
# > **Check this against your slides.** University of Waterloo, "Transposed vs Fractionally-strided
# > Convolution": both formulas are right if $k_{1,-1}$ means one column to the right and one row up,
# > the image processing convention, with y downwards. Read as NumPy's `[row, column]`, the terms of
# > b and c change places, and the numbers above become 759 and 1111 instead of 671 and 1199. Say in
# > your homework which convention you use.

# %% [markdown]
# ## 4. Turned, not transposed
#
# A kernel in the shape of a letter says it all. An image of 2 × 2 ones and a stride of 6 stamp four
# copies of it. The pictures: what the transposed convolution stamps, and what comes out of zeros and
# a convolution with the same kernel, with its transpose, and with the kernel turned by 180 degrees.

# %%
letter = np.array(
    [[1, 1, 1, 1, 0], [1, 0, 0, 0, 0], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 0, 0, 0, 0]]
)
four = np.ones((2, 2), int)
stamps = {
    "transposed convolution": F.conv_transpose2d(four, letter, stride=6),
    "zeros, same kernel": F.fractionally_strided_conv2d(four, letter, stride=6),
    "zeros, K.T": F.fractionally_strided_conv2d(four, letter.T, stride=6),
    "zeros, rot180(K)": F.fractionally_strided_conv2d(four, F.rot180(letter), stride=6),
}
wanted = stamps["transposed convolution"]
assert [bool((y == wanted).all()) for y in stamps.values()] == [True, False, False, True]

figure = Figure(figsize=(9.5, 2.8), layout="constrained")
for ax, (title, y) in zip(figure.subplots(1, 4), stamps.items(), strict=True):
    ax.imshow(y, cmap="Greys", vmin=0, vmax=1.2)
    ax.set_title(title, fontsize=10)
    ax.set(xticks=[], yticks=[])
figure

# %% [markdown]
# Now for *every* kernel of a kind at once. Three kinds of kernel stand in the rows: any kernel, a
# symmetric one (K equals K.T), and one symmetric about its centre (K equals rot180(K)). Three things
# one might do to it stand in the columns. `where=` makes the entries equal that the kind makes
# equal, so each of the nine verdicts is about all kernels of that kind.

# %%
kinds = {
    "any K": None,
    "K == K.T": lambda x, k: (k, k.T),
    "K == rot180(K)": lambda x, k: (k, F.rot180(k)),
}
uses = {"K, the same": lambda k: k, "K.T": lambda k: k.T, "rot180(K)": F.rot180}
table = [
    [
        prove(
            lambda x, k: F.conv_transpose2d(x, k, stride=2),
            lambda x, k, use=use: F.fractionally_strided_conv2d(x, use(k), stride=2),
            where=kind,
            x=(4, 4),
            k=(3, 3),
        )
        for use in uses.values()
    ]
    for kind in kinds.values()
]
holds = np.array([[verdict.holds for verdict in row] for row in table])
assert (holds == [[False, False, True], [False, False, True], [True, False, True]]).all()

# %% [markdown]
# The nine verdicts as a table. Only turning by 180 degrees is right for every kernel; the same kernel
# is right for those with a central symmetry; the transpose is right for no kind here, not even for
# symmetric kernels, which it leaves alone.

# %%
figure = Figure(figsize=(7, 2.6), layout="constrained")
ax = figure.subplots()
ax.set(xlim=(-0.5, 2.5), ylim=(2.5, -0.5))
for (i, j), right in np.ndenumerate(holds):
    color, differ = ("#a9d6f5", "") if right else ("#ffd2a0", f"\n{table[i][j].how}")
    ax.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor=color, edgecolor="white", lw=3))
    ax.text(j, i, table[i][j].status + differ, ha="center", va="center", fontsize=9)
ax.set_xticks(range(3), uses)
ax.set_yticks(range(3), kinds)
ax.xaxis.tick_top()
ax.tick_params(length=0)
ax.spines[:].set_visible(False)
figure

# %% [markdown]
# One kernel of each of the last two kinds, in numbers:

# %%
symmetric = np.array([[1, 2, 3], [2, 4, 5], [3, 5, 6]])
central = np.array([[1, 2, 3], [4, 5, 4], [3, 2, 1]])
assert (symmetric == symmetric.T).all()
assert (central == F.rot180(central)).all()
assert (central != central.T).any()
for name, K3 in {"symmetric": symmetric, "central": central}.items():
    y = F.conv_transpose2d(x, K3, stride=2)
    equal = (y == F.fractionally_strided_conv2d(x, K3, stride=2)).all()
    print(f"{name}: the same kernel is {'right' if equal else 'wrong'}")
    assert equal == (name == "central")

# %% [markdown] tags=["erratum"]
# > **Check this against your slides.** University of Waterloo, "Transposed vs Fractionally-strided
# > Convolution", the homework: the text calls the kernel one must use a "transposed" version of it,
# > and asks for it where the kernel is not symmetric. What it adds in brackets, flipped both
# > horizontally and vertically, is what the code needs: `rot180(K)`, not `K.T`. And the symmetry
# > that counts is the one about the centre: the matrix [[1, 2, 3], [2, 4, 5], [3, 5, 6]] is
# > symmetric and fails with the same kernel; [[1, 2, 3], [4, 5, 4], [3, 2, 1]] is not, and passes.

# %% [markdown]
# Is central symmetry *needed*, or merely enough? `prove` answers that as well: without the condition
# it looks at what the two sides demand of the kernel's entries, and compares.

# %%
print(table[2][0])
assert table[2][0].only_if

# %% [markdown]
# **Your turn.** Find a 3 × 3 kernel, not all of one number, for which `K.T` *is* right and the same
# kernel is wrong. There are many; their symmetry is one you may never have needed.
#
# <details><summary>A way to find out</summary>
#
# `K.T` must be `rot180(K)`. Write that down for the entry in the top left corner, then for its
# neighbours: the mirror is the *other* diagonal, from bottom left to top right. So [[1, 2, 3],
# [4, 5, 2], [6, 4, 1]] passes with `K.T`: try it below.
#
# </details>

# %%
mine = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
y = F.conv_transpose2d(x, mine, stride=2)
print("same:", (y == F.fractionally_strided_conv2d(x, mine, stride=2)).all())
print("K.T: ", (y == F.fractionally_strided_conv2d(x, mine.T, stride=2)).all())

# %% [markdown]
# ## 5. How much border? The padding law
#
# In a transposed convolution, padding p *crops* p pixels off each side of the canvas. In the other
# route, padding p' *adds* p' zeros around z. Which p' belongs to which p? Let the machine search:
# for each kernel size k and padding p, try every border until the two agree.


# %%
def borders_that_fit(k, p, stride=2, dilation=1):
    rng = np.random.default_rng([3, k, p])
    x, w = rng.integers(-9, 10, (5, 5)), rng.integers(-9, 10, (k, k))
    y = F.conv_transpose2d(x, w, stride=stride, padding=p, dilation=dilation)
    z = loops.zero_interleaved(x, stride)
    fit = []
    for border in range(-4, 10):
        if len(z) + 2 * border > dilation * (k - 1):  # else the kernel is larger than the image
            padded = F.pad(z, (border,) * 4)  # a negative border crops
            found = F.conv2d(padded, F.rot180(w), dilation=dilation)
            if found.shape == y.shape and (found == y).all():
                fit.append(border)
    return fit


sizes, paddings = range(1, 6), range(5)
found = [[borders_that_fit(k, p) for p in paddings] for k in sizes]
assert all(len(fit) == 1 for row in found for fit in row)  # one, and only one
border = np.array(found)[..., 0]
assert (border == [[k - 1 - p for p in paddings] for k in sizes]).all()
assert borders_that_fit(k=5, p=1) == [3]
assert borders_that_fit(k=3, p=1, dilation=2) == [2 * (3 - 1) - 1]
assert borders_that_fit(k=3, p=0, dilation=3, stride=3) == [3 * (3 - 1) - 0]

# %% [markdown]
# The table of p': rows are kernel sizes, columns the paddings p of the transposed convolution. Each
# row ends in negative numbers, where z must be cropped. Framed are the places where p' happens to
# equal p.

# %%
figure = plot.matrix(border, title="p', the border of zeros")
ax = figure.axes[0]
ax.set_xticks(paddings, [f"p={p}" for p in paddings])
ax.set_yticks(range(len(sizes)), [f"k={k}" for k in sizes])
ax.tick_params(length=0)
figure.set_size_inches(4.6, 3.6)
for row, column in np.argwhere(border == np.arange(5)):
    ax.add_patch(
        Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="#d22d00", lw=2.5)
    )
assert np.argwhere(border == np.arange(5)).tolist() == [[0, 0], [2, 1], [4, 2]]  # k = 1, 3, 5
figure

# %% [markdown]
# $$p' = k - 1 - p, \qquad \text{with dilation } d: \quad p' = d\,(k - 1) - p$$
#
# The law, settled on formal variables for twelve combinations of size, stride and padding:

# %%
law = CLAIMS["padding-law"].settle()
print(law)
assert law.status == "PROVED"
assert CLAIMS["padding-law-dilated"].settle().status == "PROVED"

# %% [markdown] tags=["erratum"]
# > **Check this against your slides.** University of Waterloo, "Fractionally-strided Convolution":
# > the example says padding=1 for both operators. That is a coincidence of k = 3 and p = 1, where
# > k − 1 − p is 1 again. A 5 × 5 kernel with p = 1 needs a border of 3, and a kernel of even size
# > never has the same number twice.

# %% [markdown]
# `output_padding` is simpler than its reputation: it asks for further rows and columns at the bottom
# and on the right, and z gets that many more zeros there.

# %%
x5, w3 = np.arange(25).reshape(5, 5), np.arange(9).reshape(3, 3)
z = loops.zero_interleaved(x5, 2)
by_hand = F.conv2d(F.pad(z, (1, 2, 1, 2)), F.rot180(w3))  # left, right, top, bottom
assert (by_hand == F.conv_transpose2d(x5, w3, stride=2, padding=1, output_padding=1)).all()
assert by_hand.shape == (10, 10)  # exactly twice as large

# %% [markdown]
# ## 6. Many channels: one more swap
#
# A layer of a network has C channels coming in and O going out. `conv2d` keeps its weights as
# (O, C, KH, KW). `conv_transpose2d` keeps those of the convolution it is the transpose of, which
# goes the other way: (C, O, KH, KW). So on the way from one route to the other the first two axes
# change places, and `rot180` turns the last two.

# %%
rng = np.random.default_rng(3)
maps = rng.integers(-9, 10, (2, 3, 4, 5))  # (N, C, H, W), integers: equal means equal
weights = rng.integers(-9, 10, (3, 6, 3, 3))  # (C, O, KH, KW)
up = F.conv_transpose2d(maps, weights, stride=2, padding=1)  # (N, O, 7, 9)
as_conv = F.rot180(weights).swapaxes(0, 1)  # (O, C, KH, KW)
assert as_conv.shape == (6, 3, 3, 3)
assert (F.fractionally_strided_conv2d(maps, as_conv, stride=2, padding=1) == up).all()
assert CLAIMS["many-channels"].settle().status == "PROVED"

# %% [markdown]
# **Your turn.** Forget the swap below and see what happens: with 3 channels in and 6 out you get a
# sentence. Then set `O = 3`.

# %%
O = 6
w = rng.integers(-9, 10, (3, O, 3, 3))
try:
    y = F.fractionally_strided_conv2d(maps, F.rot180(w), stride=2)
    print("no error; equal:", (y == F.conv_transpose2d(maps, w, stride=2)).all())
except ValueError as error:
    print(error)

# %% [markdown]
# With as many channels in as out nothing complains, every shape is right, and every number is wrong.
# Shapes prove little.

# %% [markdown]
# ## 7. Who turns the kernel?
#
# A mathematician would not have met any of this. What networks (and the slides) call convolution,
# mathematics calls *cross-correlation*: the kernel slides over the image as it is. NumPy has both in
# one dimension, under their mathematical names:

# %%
x1, k1 = np.array([2, 3, 5]), np.array([1, 2, 4])
z1 = np.zeros(5, int)
z1[::2] = x1
canvas = np.zeros(7, int)
for i, value in enumerate(x1):
    canvas[2 * i : 2 * i + 3] += value * k1  # the transposed convolution, in one dimension
print("transposed:       ", canvas)
print("np.convolve:      ", np.convolve(z1, k1))
print("np.correlate:     ", np.correlate(z1, k1, "full"))
print("its kernel turned:", np.correlate(z1, k1[::-1], "full"))
assert (np.convolve(z1, k1) == canvas).all()  # the kernel as given
assert (np.correlate(z1, k1, "full") != canvas).any()
assert (np.correlate(z1, k1[::-1], "full") == canvas).all()

# %% [markdown]
# In two dimensions a convolution in the mathematical sense is what a product of Fourier transforms
# gives. Zeros between the pixels, and that: the transposed convolution, with no turning anywhere.

# %%
Z = loops.zero_interleaved(x, stride=2)  # (7, 7)
size = (9, 9)
product = np.fft.rfft2(Z, size) * np.fft.rfft2(k, size)
true_convolution = np.fft.irfft2(product, size)
assert abs(true_convolution - F.conv_transpose2d(x, k, stride=2)).max() < 1e-9

# %% [markdown] tags=["erratum"]
# > **Check this against your slides.** University of Waterloo, "Transposed vs Fractionally-strided
# > Convolution": "standard convolution" there is the networks' one, a cross-correlation. With the
# > convolution of mathematics the kernel is used as given, and the homework's flip is already
# > inside the operator.

# %% [markdown]
# Libraries made different choices. We fed each of these a kernel 1, 2, ..., 9, stride 2, and
# compared with both routes:
#
# | function | what it computes |
# |---|---|
# | PyTorch 2.13, `torch.nn.functional.conv_transpose2d` | the transposed convolution |
# | TensorFlow 2.21, `tf.nn.conv2d_transpose` | the transposed convolution |
# | Keras 3.15, `keras.ops.conv_transpose` | the transposed convolution, also on JAX |
# | JAX 0.10, `jax.lax.conv_transpose` | zeros between and the **same** kernel |
# | the same with `transpose_kernel=True` | the transposed convolution |
# | minseg, `conv_transpose2d` | the transposed convolution |
#
# Where pads are given as numbers, JAX's are p', the border of z, while PyTorch's padding is p. Neither
# library is wrong: a network that learns its kernel learns it turned. But weights that are carried
# from one to the other must be turned on the way, and a network that starts from bilinear kernels
# will not show at first that you forgot. This is the adapter, and the picture is what happens to an
# image with a kernel that is not symmetric, without it and with it:


# %%
def like_jax(x, k, stride):
    """Zeros between, a border of p', the kernel as it is."""
    z = loops.zero_interleaved(x, stride)
    return F.conv2d(np.pad(z, len(k) - 1), k)


ring = np.array([[0, 1, 1, 0], [1, 0, 0, 1], [1, 0, 0, 1], [0, 1, 1, 0]])
comet = np.array([[0, 0, 0, 0, 3], [0, 0, 0, 2, 0], [0, 0, 1, 0, 0], [0] * 5, [0] * 5])
trained = F.conv_transpose2d(ring, comet, stride=3)
carried = like_jax(ring, comet, stride=3)
adapted = like_jax(ring, F.rot180(comet), stride=3)
assert (adapted == trained).all()
assert (carried != trained).any()

figure = Figure(figsize=(9, 3.2), layout="constrained")
titles = ("where it was trained", "carried over as it is", "carried over, turned")
for ax, y, title in zip(figure.subplots(1, 3), (trained, carried, adapted), titles, strict=True):
    ax.imshow(y, cmap="Greys", vmin=0)
    ax.set_title(title, fontsize=10)
    ax.set(xticks=[], yticks=[])
figure

# %% [markdown] tags=["erratum"]
# > **Check this against your slides.** Drake University, CS195 (2024), "FCN: Upsampling via
# > Transposed Convolution Operation": the text uses transposed convolution and fractionally strided
# > convolution as two names of one operation. They are one operation up to a turn of the kernel by
# > 180 degrees, and libraries that took the second name literally do not turn it.

# %% [markdown]
# ## 8. Why nobody computes it this way
#
# The formulas also say what each route costs. The picture counts the products in each output of the
# transposed convolution: one, two or four. The fractionally strided route does nine everywhere, and
# most of them are with a zero that it put there itself.

# %%
free = variables(dict(x=(4, 4), k=(3, 3)))
formulas = F.conv_transpose2d(free["x"], free["k"], stride=2)  # (9, 9) polynomials
products = np.array([[len(y.polynomial.terms()) for y in row] for row in formulas])
assert products.sum() == 16 * 9  # each pixel meets each entry of the kernel once
assert products.size * 9 == 729
print(f"{products.sum()} products, or {products.size * 9} with the zeros")
plot.matrix(products, title="products per output")

# %% [markdown]
# One in s² pixels of z is no zero, so for large images the zeros cost a factor of about s². (The uneven
# counts, 1, 2, 4, are the reason for the checkerboards of notebook 02b.) A clock agrees; its numbers
# are your machine's:

# %%
from time import perf_counter

rng = np.random.default_rng(0)
large = rng.normal(size=(4, 16, 48, 48)).astype(np.float32)
w = rng.normal(size=(16, 16, 4, 4)).astype(np.float32)
for route in (F.conv_transpose2d, F.fractionally_strided_conv2d):
    times = []
    for _ in range(5):
        start = perf_counter()
        route(large, w, stride=4)
        times.append(perf_counter() - start)
    print(f"{route.__name__:<28} {1000 * min(times):6.1f} ms")

# %% [markdown]
# Then why learn it? Because it explains: the fractional stride, where the padding goes, why the
# output has the size it has. And because hardware and exported networks often offer nothing but
# `conv2d`.

# %% [markdown]
# ## 9. The verdict, and what is left for you
#
# Everything about the statement is settled now: which kernel, which border, which order of channels.
# Here it is once more, on formal variables, over strides 1, 2, 3 and kernels that are not even
# square:

# %%
statement = CLAIMS["transposed-is-fractional"]
print(statement.statement, "\n")
verdict = statement.settle()
print(verdict)
assert verdict.status == "PROVED"
assert len(verdict.settled) == 18

# %% [markdown]
# And its converse: with the same kernel the two are equal *only* if turning changes nothing.

# %%
converse = CLAIMS["central-symmetry"].settle()
print(converse)
assert converse.status == "PROVED"
assert converse.only_if

# %% [markdown]
# PROVED means: for these shapes, for all numbers whatsoever, with no rounding and no luck. It does
# not mean all shapes. No computer run ends with that; an argument about indices does, and it is
# yours to write. Three pieces of advice:
#
# - start in one dimension, without padding, and say what each route puts into output m;
# - the last line of every verdict names the step that is missing;
# - test each line of your proof before you believe it. Put its two sides into a file as `left` and
#   `right`, with `shapes = dict(x=(4, 4), k=(3, 3))`, and run `minseg prove FILE.py`. A wrong index
#   comes back as a counterexample within a second.

# %% [markdown]
# ## Three questions
#
# **1.** The usual learnt upsampling has a 4 × 4 kernel, stride 2 and padding 1. Which border does z
# need, and how large is the output of a 10 × 10 image?
#
# **2.** Is the same kernel right for [[1, 2], [2, 1]]? For [[1, 2], [1, 2]]?
#
# **3.** A friend checks the homework with `np.allclose` on a random image and the kernel
# `F.bilinear_kernel(2)`, and finds that no flip is needed. What went wrong?
#
# <details><summary>Answers</summary>
#
# **1.** p' = k − 1 − p = 4 − 1 − 1 = 2, which is not p. z is 19 × 19, with its border 23 × 23, and the
# output 20 × 20: exactly twice as large, the reason why this is the usual choice.
#
# **2.** Turned by 180 degrees, [[1, 2], [2, 1]] is itself: right. [[1, 2], [1, 2]] becomes
# [[2, 1], [2, 1]]: wrong.
#
# **3.** The bilinear kernel is symmetric about its centre, so it cannot tell the two apart, however
# many random images one tries. A test is only as good as the mistakes it can see.
#
# </details>

# %%
assert F.conv_transpose2d(np.ones((10, 10)), np.ones((4, 4)), stride=2, padding=1).shape == (20, 20)
z = np.pad(loops.zero_interleaved(np.ones((10, 10)), 2), 2)
assert (z.shape, F.conv2d(z, np.ones((4, 4))).shape) == ((23, 23), (20, 20))
assert (F.rot180(np.array([[1, 2], [2, 1]])) == [[1, 2], [2, 1]]).all()
assert (F.rot180(K) == K).all()  # the bilinear kernel

# %% [markdown]
# **The exercise to do next:** `fractionally_strided_conv2d`, with the turn where it belongs, and then
# the written homework. Notebook 04 leaves the kernels alone and asks how good a labelling is.
#
# `python3 start.py exercises` copies the exercises to `minseg_work/exercises/`; `check` with a name says
# what is right, and of a wrong answer what it is. In a notebook: `from minseg.grading import check`.
