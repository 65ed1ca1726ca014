# %% [markdown]
# # 05 · Autograd from nothing
#
# *35 minutes of reading, 10 seconds of running. Reads `minseg/tensor.py`, `minseg/check.py` and
# `minseg/functional/conv.py`. Needs notebook 02b only for section 7.*
#
# Training a network means asking, for each of its hundred thousand numbers: if you were a little
# larger, would the loss go up or down, and how fast? One walk backwards through the computation
# answers all of these questions at once. Here you build the machine that does it, and then find a
# surprise inside: the backward pass of a convolution is an old friend.
#
# **Afterwards you can**
# - write an engine that differentiates any program of arithmetic, in about 40 lines,
# - say why gradients must be zeroed, and why the walk needs a topological order,
# - derive the backward pass of a convolution in one line, and check any gradient there is.

# %% [markdown]
# ## Slide → code
#
# | on the slides | here | what it is |
# |---|---|---|
# | "Backprop" [1] | `loss.backward()` | the walk from the loss to the weights |
# | "SGD" [1] | `w -= rate * w.grad`, `minseg.optim.SGD` | one step downhill |
# | loss gradient [2] | `dy`, `dx`, `dw` | dL/dy, dL/dx, dL/dw: shapes of y, x, w |
# | X, K, Y [3] | `x`, `w`, `y` | image, kernel, output map |
# | "Backward convolution" [2] | `F.conv_transpose2d` | section 7 says why it has this name |
# | σ̄ [4] | `p` | softmax of the scores |
#
# [1] Bonn University, MA-INF 4308 (2023), "Fully Convolutional Networks (FCN)". [2] University of
# Waterloo, "Transpose Convolution: other names". [3] Drake University, CS195 (2024), "FCN: Upsampling
# via Transposed Convolution Operation". [4] University of Waterloo, "(Training) Loss: Cross-Entropy".

# %%
import math

import numpy as np
from matplotlib.figure import Figure

import minseg.functional as F
from minseg import Tensor, loops, plot
from minseg.check import check_adjoint, check_gradient
from minseg.claims import CLAIMS
from minseg.tensor import differentiable
from minseg.windows import Windows

# %% [markdown]
# ## 1. One pixel, poked
#
# The smallest training problem of this course: one pixel of brightness $x$, two classes, one weight
# per class. The scores are $z_0 = w_0 x$ and $z_1 = w_1 x$, the pixel's label is 1, and the loss is the
# cross-entropy of the slides, minus the logarithm of the softmax at the label:
#
# $$L = -\ln \frac{e^{z_1}}{e^{z_0} + e^{z_1}} = \ln(e^{z_0} + e^{z_1}) - z_1$$
#
# To learn which way to turn $w_0$ and $w_1$ we may simply poke them. It works, and it costs one run of
# the network per weight: a hundred thousand runs for one step of a small U-Net.


# %%
def loss_of(w0, w1, x):
    z0, z1 = w0 * x, w1 * x
    return math.log(math.exp(z0) + math.exp(z1)) - z1


def poked(number, at, step=1e-6):
    """(L just after - L just before) / distance, for one of the three numbers."""
    after, before = list(at), list(at)
    after[number] += step
    before[number] -= step
    return (loss_of(*after) - loss_of(*before)) / (2 * step)


at = (0.5, 1.0, 2.0)  # w0, w1, x
slopes = [poked(number, at) for number in range(3)]
print(f"L = {loss_of(*at):.4f}")
for name, slope in zip(("w0", "w1", "x "), slopes, strict=True):
    print(f"dL/d{name} = {slope:+.4f}")

# %% [markdown]
# The picture shows the loss around that point as a table: to the right $w_0$ = 0, 0.25, 0.5, 0.75, 1, down
# $w_1$ = 0.5, 0.75, 1, 1.25, 1.5; framed is where we stand. Downhill is to the left and down, by equal
# parts: along each diagonal nothing changes, for only the difference of the two scores counts.

# %%
table = np.array([[loss_of(w0, w1, at[2]) for w0 in (0, 0.25, 0.5, 0.75, 1)]
                  for w1 in (0.5, 0.75, 1, 1.25, 1.5)])  # fmt: skip
assert math.isclose(slopes[0], -slopes[1], rel_tol=1e-6)
plot.matrix(table.round(3), title="loss, w0 to the right, w1 down", highlight=(2, 2, 1, 1))

# %% [markdown]
# ## 2. The engine
#
# *Needs section 1.*
#
# Each operation knows how steep it is: $x \cdot y$ rises by $y$ when $x$ rises by 1, $e^x$ by $e^x$,
# $\ln x$ by $1/x$. So let every number remember **what it was made from, and how steep it is along each
# of these inputs**. Then the gradient of the loss is collected by walking back: each number hands to
# each of its inputs its own gradient times the slope between them. That is the chain rule; there is
# nothing else in this notebook.


# %%
class Value:
    """A number, the inputs it was made from, and its slope along each of them."""

    def __init__(self, data, inputs=(), slopes=(), name=""):
        self.data, self.inputs, self.slopes, self.name = data, inputs, slopes, name
        self.grad = 0.0  # dL/d(this), once backward() has run

    def __add__(self, other):
        other = as_value(other)
        return Value(self.data + other.data, (self, other), (1.0, 1.0), "+")

    def __mul__(self, other):
        other = as_value(other)
        return Value(self.data * other.data, (self, other), (other.data, self.data), "×")

    def __neg__(self):
        return Value(-self.data, (self,), (-1.0,), "neg")

    def __sub__(self, other):
        return self + -as_value(other)

    def exp(self):
        y = math.exp(self.data)
        return Value(y, (self,), (y,), "exp")

    def log(self):
        return Value(math.log(self.data), (self,), (1 / self.data,), "log")

    def backward(self):
        self.grad = 1.0  # dL/dL
        for value in users_first(self):
            for x, slope in zip(value.inputs, value.slopes, strict=True):
                x.grad += slope * value.grad


def as_value(number):
    return number if isinstance(number, Value) else Value(number, name=str(number))


def users_first(root):
    """Every Value under root, each one after all Values made from it."""
    order, seen = [], set()

    def visit(value):
        if value not in seen:
            seen.add(value)
            for x in value.inputs:
                visit(x)
            order.append(value)  # inputs are in before it; reversed, it comes before them

    visit(root)
    return order[::-1]


# %%
def pixel_loss(w0, w1, x):
    """The two scores and the loss, of Values this time."""
    z0, z1 = w0 * x, w1 * x
    L = (z0.exp() + z1.exp()).log() - z1
    z0.name, z1.name, L.name = "z0 = ×", "z1 = ×", "L = +"
    return z0, z1, L


w0, w1, x = leaves = [Value(n, name=name) for n, name in zip(at, ("w0", "w1", "x"), strict=True)]
z0, z1, L = pixel_loss(w0, w1, x)
L.backward()

for value, slope in zip(leaves, slopes, strict=True):
    print(f"dL/d{value.name:<3} = {value.grad:+.4f}   poked {slope:+.4f}")
    assert abs(value.grad - slope) < 1e-8

p = np.exp([z0.data, z1.data]) / np.exp([z0.data, z1.data]).sum()
assert np.allclose([z0.grad, z1.grad], p - [0, 1])  # softmax minus one-hot

# %% [markdown]
# Three pokes, or one walk; with a hundred thousand weights still one walk. And look at the last line:
# the gradient in the scores is *softmax minus one-hot*, $p_0$ and $p_1 - 1$. Nobody told the engine.
#
# ## 3. The graph, drawn
#
# *Needs section 2.*
#
# The picture shows the computation from left to right: a box per number with its value and, below it,
# its gradient; on each arrow its slope. Check one: the gradient of a box is the sum, over all arrows
# that leave it, of slope times gradient at the arrow's end.


# %%
def columns_of(root):
    """The numbers of the graph by column: each as far right as its longest way from a leaf."""
    column = {}
    for value in reversed(users_first(root)):  # inputs first
        column[value] = 1 + max((column[x] for x in value.inputs), default=-1)
    return [[v for v in column if column[v] == n] for n in range(max(column.values()) + 1)]


def draw_graph(root, title):
    figure = Figure(figsize=(10.5, 4.2), dpi=100, layout="constrained")
    ax = figure.subplots()
    centred = dict(ha="center", va="center")
    place = {}
    for across, values in enumerate(columns_of(root)):
        for n, value in enumerate(values):
            heights = [place[x][1] for x in value.inputs]
            down = np.mean(heights) if len(values) == 1 and heights else n - (len(values) - 1) / 2
            place[value] = (across, down)
    for value, end in place.items():
        for x, slope in zip(value.inputs, value.slopes, strict=True):
            start = place[x]
            arrow = dict(arrowstyle="->", color="#888888", shrinkA=28, shrinkB=30)
            ax.annotate("", end, start, arrowprops=arrow)
            along = 0.56 if end[0] - start[0] == 1 else 0.4
            middle = [a + along * (b - a) for a, b in zip(start, end, strict=True)]
            label = dict(boxstyle="round,pad=0.1", facecolor="white", edgecolor="none")
            ax.text(*middle, f"{slope:.2f}", color="#003cf0", fontsize=9, bbox=label, **centred)
        text = f"{value.name}\n{value.data:.3f}\n{value.grad:+.3f}"
        box = dict(boxstyle="round", facecolor="#fff3e0", edgecolor="#996633")
        ax.text(*end, text, fontsize=10, bbox=box, **centred)
    ax.set(xlim=(-0.5, max(a for a, _ in place.values()) + 0.5), ylim=(1.5, -1.5))
    ax.axis("off")
    ax.set_title(title, fontsize=11)
    return figure


draw_graph(L, "each box: name, value, gradient;  on each arrow: its slope")

# %% [markdown]
# **Your turn.** Give the pixel the brightness $x = 0$ (in `at`, in section 1), and run on to here.
# Which gradients vanish, and what does that say about black pixels as teachers? (The slides' networks
# normalise their images first: mean 0, so that few pixels are exactly nothing.)

# %% [markdown]
# ## 4. Why a topological order
#
# *Needs sections 2 and 3.*
#
# The score $z_1$ is used **twice**: inside the softmax and as the label's own score. In the picture two
# arrows leave it and meet again in $L$, a *diamond*. So $z_1$ must wait until both gradients have
# arrived, and only then hand their sum on. An order in which each number comes after all of its users
# is called topological, and `users_first` finds one by depth-first search.
#
# The two classic ways to get this wrong look innocent. Both give right answers on any chain:


# %%
def backward_hasty(value):
    """As soon as something arrives, pass on all that is there."""
    for x, slope in zip(value.inputs, value.slopes, strict=True):
        x.grad += slope * value.grad
        backward_hasty(x)


def backward_overwriting(root):
    """The right order, but a newcomer replaces what had arrived."""
    for value in users_first(root):
        for x, slope in zip(value.inputs, value.slopes, strict=True):
            x.grad = slope * value.grad


def anew(backward):
    """The pixel's graph once more, and its gradients by another way of walking back."""
    copies = [Value(leaf.data, name=leaf.name) for leaf in leaves]
    _, _, L = pixel_loss(*copies)
    L.grad = 1.0
    backward(L)
    return copies, L


print(f"{'right':<21}", "  ".join(f"{v.name} {v.grad:+.3f}" for v in leaves))
for backward in (backward_overwriting, backward_hasty):
    copies, L_hasty = anew(backward)
    print(f"{backward.__name__:<21}", "  ".join(f"{v.name} {v.grad:+.3f}" for v in copies))

assert copies[1].grad > 0 > w1.grad  # the hasty walk has not even the sign of w1 right

# %% [markdown]
# The hasty walk arrives at $z_1$ by its first arrow with +0.731, passes that on, comes back by the
# second arrow with −1, and passes on the *sum so far*, −0.269: the 0.731 went out twice. In the picture
# $w_1$ now has a positive gradient, so training would push the score of the right class **down**.

# %%
draw_graph(L_hasty, "the hasty walk: compare w1 and x with the picture above")

# %% [markdown]
# Could the hasty walk pass on only what is new? That is right: the gradient is the sum over all *paths*
# from the loss to the weight, of the product of the slopes along each. But there are many paths.
# Doubling a number by `v = v + v`, twenty times over, makes 21 numbers, and over a million paths.


# %%
def walks(value):
    """How often a walk along every single path stops at a number."""
    return 1 + sum(walks(x) for x in value.inputs)


v = start = Value(1.0)
for _ in range(14):
    v = v + v
v.backward()
print(
    f"{len(users_first(v))} numbers, {walks(v):,} stops along all paths; dv/dstart = {start.grad:,.0f}"
)
assert start.grad == 2**14
assert walks(v) == 2**15 - 1

# %% [markdown]
# So the topological order is right **and** cheap: every arrow is walked once. In a segmentation network
# diamonds are everywhere: a skip connection is one, and a kernel is used again at every pixel.
#
# **Your turn.** Build a chain of 10,000 additions, `v = v + 1.0`, and call `v.backward()`. What breaks is
# not the mathematics: `visit` calls itself once per operation. `minseg/tensor.py` keeps a stack of its own
# in `_users_first`, and there the same chain is as good as one of ten:

# %%
t = start = Tensor(1.0, requires_grad=True)
for _ in range(10_000):
    t = t + 1.0
t.backward()
assert start.grad == 1.0

# %% [markdown]
# ## 5. Why the gradients must be zeroed
#
# *Needs sections 1 and 2.*
#
# `backward` *adds* to `.grad`, as it must: that is how the two arrows of a diamond meet. It cannot know
# that a new training step has begun. Here is one weight that should become 3, loss $(w-3)^2$, by sixty
# steps downhill; once with the gradient zeroed before each step, once without. The picture shows the
# weight after each step: one curve settles at 3, the other swings between 0 and 6 for ever.


# %%
def descend(zeroing, steps=60, rate=0.1):
    w, path = Value(0.0), []
    for _ in range(steps):
        if zeroing:
            w.grad = 0.0
        L = (w - 3.0) * (w - 3.0)
        L.backward()
        w.data -= rate * w.grad
        path.append(w.data)
    return np.array(path)


zeroed, forgotten = descend(zeroing=True), descend(zeroing=False)
assert abs(zeroed[-1] - 3) < 1e-4
assert np.ptp(forgotten[-20:]) > 5.9  # after forty steps it still swings from one side to the other

figure = Figure(figsize=(8.5, 3), dpi=100, layout="constrained")
ax = figure.subplots()
ax.axhline(3, color="#bbbbbb", linewidth=1)
ax.plot(zeroed, color="#003cf0", label="zeroed before every step")
ax.plot(forgotten, color="#d27800", linestyle="--", label="zeroing forgotten")
ax.set(xlabel="step", ylabel="weight w", ylim=(-0.8, 8.2))
ax.legend(frameon=False, loc="upper right", ncols=2)
figure

# %% [markdown]
# It does not explode, and nothing is random: a gradient that is never zeroed is a velocity that is never
# braked. A swing without friction; with friction it is called *momentum*, and `minseg.optim.SGD` has it
# on purpose (`v = 0.9 v + g`, never 1).
#
# There is a good use of the adding, too. A batch that does not fit into memory can be handed over in
# two halves: two `backward` calls, one step.

# %%
rng = np.random.default_rng([5, 1])
images, truth = rng.random((4, 1, 8, 8)), rng.integers(0, 2, (4, 8, 8))
w = Tensor(rng.standard_normal((2, 1, 3, 3)), requires_grad=True)


def batch_loss(part):
    return F.cross_entropy(F.conv2d(images[part], w, padding=1), truth[part], reduction="sum")


batch_loss(slice(0, 4)).backward()
together, w.grad = w.grad, None  # None is minseg's zero: nothing there yet
batch_loss(slice(0, 2)).backward()
batch_loss(slice(2, 4)).backward()
print("two halves, one after the other: largest difference", abs(w.grad - together).max())
assert np.allclose(w.grad, together, rtol=1e-12)

# %% [markdown]
# And twice over the *same* graph? In our engine the inner numbers still hold the gradients of the first
# walk, and hand them on again: the result is not even twice the right one. minseg uses up its notes as
# it walks (that frees the memory, too), and says so:

# %%
first = w1.grad
L.backward()
print(f"our engine: dL/dw1 = {first:+.3f}, after a second backward() {w1.grad:+.3f}")
assert abs(w1.grad - 2 * first) > 1

loss = batch_loss(slice(0, 4))
loss.backward()
try:
    loss.backward()
except RuntimeError as error:
    print("minseg:", error)

# %% [markdown]
# ## 6. From numbers to arrays
#
# *Needs sections 1 and 2.*
#
# A `Value` per pixel would be right, and slow. `minseg.Tensor` is the same machine for arrays: an op
# notes its inputs, `backward` walks users first. One thing must change. The slope of an array in an
# array is a matrix with an entry for every pair of numbers, and one 3×3 convolution from 32 to 32 maps
# of 64×64 pixels would have

# %%
numbers = 32 * 64 * 64
print(f"{numbers:,} x {numbers:,} slopes: {numbers**2 * 4 / 2**30:.0f} GiB in float32")
assert numbers**2 == 17_179_869_184

# %% [markdown]
# So a note keeps no slopes but, for each input, a **function from dy to dx**: how the op hands gradients
# back. Writing an op means writing its value and these functions. That is all `minseg/functional/`
# contains, and you can add to it:


# %%
@differentiable
def square(x):
    """y = x², dx = dy · 2x."""
    return x * x, (lambda dy: dy * 2 * x,)


t = Tensor([[1.0, -2.0], [3.0, 0.5]], requires_grad=True)
y = square(t)
print(y)
y.sum().backward()
print("t.grad =", t.grad.tolist())
assert (t.grad == 2 * t.numpy()).all()
assert (square(np.array([3, 4])) == [9, 16]).all()  # plain arrays in, plain array out

# %% [markdown]
# Section 2's pixel again, in arrays: the same gradients, and the library's loss gives them as well.

# %%
weights = Tensor(np.array([[0.5], [1.0]]), requires_grad=True)
scores = weights * 2.0  # (2, 1)
loss = F.log(F.exp(scores).sum()) - scores[1, 0]
loss.backward()
print("dL/dw =", weights.grad.ravel())
assert np.allclose(weights.grad.ravel(), slopes[:2])

by_library = Tensor(np.array([[1.0, 2.0]]), requires_grad=True)  # the scores, (N, K)
F.cross_entropy(by_library, np.array([1])).backward()
assert np.allclose(by_library.grad, p - [0, 1])

# %% [markdown]
# ### Is a gradient right?
#
# Poke again, but all entries at once: for a random direction $v$ of the input and a random weighting
# $dy$ of the output, both sides of
#
# $$\left\langle dy,\ \frac{f(x + \varepsilon v) - f(x - \varepsilon v)}{2\varepsilon} \right\rangle
# = \langle dx, v \rangle$$
#
# are one number each. A wrong entry anywhere in dx shows, except by a chance of zero. This is
# `minseg.check.check_gradient`; it found no fault in our square, and finds one of a thousandth:


# %%
@differentiable
def square_but(x):
    return x * x, (lambda dy: dy * 2.002 * x,)


t = rng.standard_normal((3, 4))
print(f"square: relative error {check_gradient(square, t):.0e}")
try:
    check_gradient(square_but, t)
except AssertionError as error:
    print(error)
else:
    raise AssertionError("the wrong gradient went through")

# %% [markdown]
# Why a *random* dy? Many checks take dy = 1 everywhere, that is, they differentiate the sum of the
# output. For softmax the sum is always 1, its true gradient 0, and the worst gradient function of all
# passes:


# %%
@differentiable
def lazy_softmax(x):
    return F.softmax(x), (lambda dy: 0 * dy,)


z = rng.standard_normal((2, 5))
check_gradient(lambda z: lazy_softmax(z).sum(), z)  # dy = 1: no complaint
try:
    check_gradient(lazy_softmax, z)  # dy at random
except AssertionError as error:
    print(error)
else:
    raise AssertionError("the lazy gradient went through")

# %% [markdown]
# And how small should ε be? The picture shows the error of the difference quotient against ε, both axes
# logarithmic: from the right it falls, because a short step follows the curve better; then it rises,
# because the two values hardly differ any more and rounding is all that is left. One-sided differences
# fall with ε, central ones with ε². (A float32 network would have its best point near 0.01, and an error
# of a few digits: this is why gradients are checked in float64.)

# %%
v, weighting = rng.standard_normal((2, *z.shape))
leaf = Tensor(z, requires_grad=True)
F.softmax(leaf).backward(weighting)
exact = (leaf.grad * v).sum()


def f(step):
    return (weighting * F.softmax(z + step * v)).sum()


eps = 10.0 ** np.arange(-14, 0.5, 0.5)
central = np.array([abs((f(e) - f(-e)) / (2 * e) / exact - 1) for e in eps])
one_sided = np.array([abs((f(e) - f(0)) / e / exact - 1) for e in eps])
assert 1e-8 < eps[central.argmin()] < 1e-3
assert central.min() < one_sided.min()

figure = Figure(figsize=(8.5, 3.2), dpi=100, layout="constrained")
ax = figure.subplots()
ax.loglog(eps, one_sided, "s--", color="#d27800", markersize=4, label="one-sided")
ax.loglog(eps, central, "o-", color="#003cf0", markersize=4, label="central")
ax.set(xlabel="step ε", ylabel="relative error of the slope")
ax.grid(color="#dddddd", linewidth=0.7)
ax.legend(frameon=False)
figure

# %% [markdown]
# ## 7. The backward pass of a convolution
#
# *Needs section 6; and 02b, or at least its loop `Y[i:i+h, j:j+w] += X[i,j]*K`.*
#
# The slides call transposed convolution also *backward convolution*, because the gradient of the loss,
# on its way back through a convolution, is put through one (Waterloo, "Transpose Convolution: other
# names"). Here is why, in one line and without a matrix. Take an image x, a kernel w, and an output map
# y of **any** numbers. For every window (i, j) and every tap (u, v), multiply the three numbers that
# meet there, and add everything up:
#
# $$S(x, w, y) = \sum_{i,j} \sum_{u,v} y_{i,j}\; w_{u,v}\; x_{i+u,\,j+v}$$
#
# S is linear in each of the three, so it can be sorted by any of them. Sorted by y, what stands beside
# $y_{i,j}$ is the convolution. Sorted by x, what stands beside a pixel is a sum over all windows that
# saw it. Sorted by w, what stands beside a tap is a sum over all places it was put. One loop does all:


# %%
def trilinear(x, w, y):
    """S, and what stands beside each y, each x and each w in it."""
    S = 0
    beside_y, beside_x, beside_w = np.zeros_like(y), np.zeros_like(x), np.zeros_like(w)
    for i, j in np.ndindex(y.shape):
        for u, v in np.ndindex(w.shape):
            S += y[i, j] * w[u, v] * x[i + u, j + v]
            beside_y[i, j] += w[u, v] * x[i + u, j + v]  # slide:   convolution
            beside_x[i + u, j + v] += y[i, j] * w[u, v]  # spread:  transposed convolution
            beside_w[u, v] += y[i, j] * x[i + u, j + v]  # overlap: image against map
    return S, beside_y, beside_x, beside_w


x, w, y = (rng.integers(-9, 10, size) for size in ((6, 7), (3, 3), (4, 5)))
S, slide, spread, overlap = trilinear(x, w, y)
print(f"S = {S}:  <y, slide> = {(y * slide).sum()}  <spread, x> = {(spread * x).sum()}  "
      f"<overlap, w> = {(overlap * w).sum()}")  # fmt: skip
assert S == (y * slide).sum() == (spread * x).sum() == (overlap * w).sum()

assert (slide == loops.convolution(x, w)).all()
assert (spread == loops.transpose_convolution(y, w)).all()  # the lecture's Y[i:i+h, j:j+w] += ...
assert (overlap == loops.convolution(x, y)).all()  # a convolution as well: y is its kernel

# %% [markdown]
# Now let y be the gradient dy that comes back from the loss. Then S is the loss, to first order, and
# *what stands beside a number is its gradient*. So
#
# | | what it is | in `minseg/windows.py` |
# |---|---|---|
# | forward | y = slide(x, w), convolution | `Windows.slide` |
# | dx | spread(dy, w), **transposed convolution**: each dy stamps the kernel | `Windows.spread` |
# | dw | overlap(x, dy): the image, seen through the map | `Windows.overlap` |
#
# No kernel is turned here, and none is transposed; the indices of S say so. The backward pass of the
# *transposed* convolution needs no new work: it is the same S, with the parts of x and y exchanged.
#
# Put a single 1 into dy, as if the loss were this one output pixel. The picture shows, from left to
# right, the image with the window of that pixel framed, the kernel, dy, and the two gradients: dx is the
# kernel itself, lying where the window was; dw is the piece of image that the window saw.

# %%
dy = np.zeros((4, 5), int)
dy[1, 3] = 1
leaf_x, leaf_w = (Tensor(array.astype(float), requires_grad=True) for array in (x, w))
F.conv2d(leaf_x, leaf_w).backward(dy)


def in_a_row(*panels, cell=0.33, gap=0.3):
    """Matrices (title, array, frame) beside each other, all cells of one size (inches)."""
    sides = [(0.8 * cell * len(array), cell * array.shape[1]) for _, array, _ in panels]
    height, width = max(h for h, _ in sides) + 0.4, sum(w + gap for _, w in sides) + gap
    figure, left = Figure(figsize=(width, height), dpi=100), gap
    for (title, array, frame), (h, w) in zip(panels, sides, strict=True):
        box = left / width, (height - 0.3 - h) / height, w / width, h / height
        plot.matrix(array, figure.add_axes(box), title=title, highlight=frame)
        left += w + gap
    return figure


assert (leaf_x.grad[1:4, 3:6] == w).all()
assert abs(leaf_x.grad).sum() == abs(w).sum()
assert (leaf_w.grad == x[1:4, 3:6]).all()
in_a_row(
    ("x", x, (1, 3, 3, 3)),
    ("w", w, None),
    ("dy", dy, (1, 3, 1, 1)),
    ("dx: the kernel", leaf_x.grad.astype(int), (1, 3, 3, 3)),
    ("dw: the window", leaf_w.grad.astype(int), None),
)

# %% [markdown]
# **Your turn.** Put a second 1 into dy, next to the first. Where do the two stamps add up? That is the
# `+=` of the lecture's loop.
#
# ### With a stride
#
# The gradients of a strided convolution are where home-made libraries go wrong most often. S tells all:
# with stride s the pixel is $x_{si+u,\,sj+v}$. Sorted by x: the stamps lie s apart, a transposed
# convolution **of stride s**. Sorted by w: neighbouring entries of dy meet pixels that are s apart, so
# dw is a convolution of x with dy as its kernel, **with holes**: the forward stride has become a
# dilation (notebook 08). And one more surprise: on 8 pixels a window of 3 fits three times in steps of
# 2, over pixels 0 to 6. Pixel 7 was never seen. Its gradient is 0, and the transposed convolution must be
# told that it exists: this is what `output_padding` is for.

# %%
x, w = rng.integers(-9, 10, (8, 8)).astype(float), rng.integers(-9, 10, (3, 3)).astype(float)
leaf_x, leaf_w = Tensor(x, requires_grad=True), Tensor(w, requires_grad=True)
y = F.conv2d(leaf_x, leaf_w, stride=2)
dy = rng.integers(-9, 10, y.shape).astype(float)
y.backward(dy)

assert (leaf_x.grad == F.conv_transpose2d(dy, w, stride=2, output_padding=1)).all()
assert (leaf_x.grad[7] == 0).all()
assert (leaf_x.grad[:, 7] == 0).all()
assert (leaf_w.grad == F.conv2d(x, dy, dilation=2)[:3, :3]).all()
print("dx: transposed convolution of stride 2; dw: convolution with dy dilated by 2")

# %% [markdown]
# The same holds with channels, padding, dilation and a different stride each way, on whole batches:
# with A the convolution as a matrix, ⟨Ax, y⟩ = ⟨x, Aᵀy⟩ for stride (2, 3), padding (1, 2), dilation
# (2, 1); exactly, because the numbers are integers. The output_padding comes to (0, 2): along one axis
# the windows reach the end, along the other two columns of pixels are left over.

# %%
geometry = dict(stride=(2, 3), padding=(1, 2), dilation=(2, 1))
x, w = rng.integers(-9, 10, (2, 3, 9, 10)), rng.integers(-9, 10, (4, 3, 3, 3))
y = rng.integers(-9, 10, F.conv2d(x, w, **geometry).shape)
check_adjoint(
    lambda x: F.conv2d(x, w, **geometry),
    lambda y: F.conv_transpose2d(y, w, output_padding=(0, 2), **geometry),
    x,
    y,
)
print(f"x {x.shape}, y {y.shape}: conv_transpose2d is the transpose of conv2d, to the last digit")

for name in ("one-trilinear-form", "transposed-is-backward"):  # not for these numbers: for all
    verdict = CLAIMS[name].settle()
    print(f"{verdict.status}: {CLAIMS[name].statement}")
    assert verdict.status == "PROVED"

# %% [markdown]
# The whole op, then, is four lines and a docstring, and `F.conv2d` adds only the checks of its arguments.
# (`Windows` holds the geometry: sizes, stride, padding, dilation.) Believe no gradient unchecked:


# %%
@differentiable
def my_conv2d(x, w, stride=1):
    """x (N, C, H, W), w (O, C, KH, KW) -> (N, O, OH, OW)."""
    windows = Windows(x.shape[2:], w.shape[2:], (stride, stride))

    def grad_x(dy):
        return windows.spread(dy, w)

    def grad_w(dy):
        return windows.overlap(x, dy)

    return windows.slide(x, w), (grad_x, grad_w)


x, w = rng.standard_normal((2, 3, 8, 9)), rng.standard_normal((4, 3, 3, 3))
error = check_gradient(lambda x, w: my_conv2d(x, w, stride=2), x, w)
print(f"both gradients of my_conv2d agree with poking, relative error {error:.0e}")
assert (my_conv2d(x, w, stride=2) == F.conv2d(x, w, stride=2)).all()

# %% [markdown]
# ## 8. The same op, written for PyTorch
#
# *Needs section 7. Where PyTorch is not installed this cell says so, and nothing else is lost.*
#
# PyTorch's engine asks for the same two things, a value and how it hands gradients back; only the
# clothes differ. Side by side:
#
# | | minseg | PyTorch |
# |---|---|---|
# | an op is | a function with `@differentiable` | a subclass of `torch.autograd.Function` |
# | its value | returned first | returned by `forward` |
# | arrays that the way back needs | seen by the inner functions | handed over through `ctx` |
# | its gradients | one function per input | one `backward` for all inputs |
# | an input without gradient | `None` in place of its function | `None` in place of its gradient |
# | how it is called | `my_conv2d(x, w, stride=2)` | `TorchConv.apply(x, w, 2)` |
# | is it right? | `check_gradient` | `torch.autograd.gradcheck` |

# %%
try:
    import torch
except ImportError:
    print("PyTorch is not installed here, so this cell is skipped; minseg does not need it.")
else:

    class TorchConv(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w, stride):
            ctx.save_for_backward(x, w)
            ctx.windows = Windows(x.shape[2:], w.shape[2:], (stride, stride))
            return torch.from_numpy(ctx.windows.slide(x.numpy(), w.numpy()))

        @staticmethod
        def backward(ctx, dy):
            x, w = (saved.numpy() for saved in ctx.saved_tensors)
            dy = dy.numpy()
            dx, dw = ctx.windows.spread(dy, w), ctx.windows.overlap(x, dy)
            return torch.from_numpy(dx), torch.from_numpy(dw), None

    def gradients_of(op):
        """(y, dx, dw) for the loss (y * y).sum(), computed by PyTorch's engine."""
        inputs = [torch.tensor(array, requires_grad=True) for array in (x, w)]
        y = op(*inputs)
        (y * y).sum().backward()
        return [tensor.detach().numpy() for tensor in (y, *(leaf.grad for leaf in inputs))]

    ours = gradients_of(lambda x, w: TorchConv.apply(x, w, 2))
    theirs = gradients_of(lambda x, w: torch.nn.functional.conv2d(x, w, stride=2))
    minseg_x, minseg_w = Tensor(x, requires_grad=True), Tensor(w, requires_grad=True)
    y = my_conv2d(minseg_x, minseg_w, stride=2)
    (y * y).sum().backward()
    for a, b, c in zip(ours, theirs, (y.numpy(), minseg_x.grad, minseg_w.grad), strict=True):
        assert np.allclose(a, b, rtol=1e-10)
        assert np.allclose(b, c, rtol=1e-10)
    inputs = [torch.tensor(array[:1], requires_grad=True) for array in (x, w)]
    assert torch.autograd.gradcheck(lambda x, w: TorchConv.apply(x, w, 2), inputs)
    print("three engines, one answer: minseg, our op inside PyTorch, PyTorch's own conv2d")

# %% [markdown]
# ## 9. A gradient at work
#
# *Needs section 7.*
#
# Training in its smallest form: we are shown an image and what an unknown 3×3 kernel made of it, and find
# the kernel by walking downhill. Loss, zero, back, step: the same four as in `minseg/train.py`. The
# picture shows the kernel after 1, 5 and 100 steps, and the secret one beside it.

# %%
image = rng.standard_normal((24, 24))
secret = np.array([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])
shown = F.conv2d(image, secret)

w = Tensor(np.zeros((3, 3)), requires_grad=True)
kept = {}
for step in range(101):
    difference = F.conv2d(image, w) - shown
    loss = (difference * difference).mean()
    if step in (1, 5, 100):
        kept[step] = w.numpy().round(2)
    w.grad = None  # zero ...
    loss.backward()  # ... walk back ...
    w.data = w.data - 0.2 * w.grad  # ... and step
    if step % 25 == 0:
        print(f"step {step:>3}: loss {loss.item():.2e}")
assert np.allclose(w.numpy(), secret, atol=1e-6)

figure = Figure(figsize=(8.5, 2.1), dpi=100, layout="constrained")
axes = figure.subplots(1, 4)
for ax, (step, kernel) in zip(axes, kept.items(), strict=False):
    plot.matrix(kernel + 0.0, ax, title=f"{step} step{'s'[: step != 1]}")
plot.matrix(secret, axes[3], title="the secret")
figure

# %% [markdown]
# **Your turn.** Replace the image by a constant one, `image = np.ones((24, 24))`. The loss is 0 from the
# first step on, and yet the kernel found is not the secret: the assert fails. What does such an image
# show of a kernel, and what must a picture contain to teach the rest?
#
# ## Three questions
#
# 1. A leaf is used in three places of a network. Must it come in the topological order after all three,
#    or would `.grad +=` be enough for a leaf alone?
# 2. Why does `Tensor.__setitem__` raise an error, where NumPy allows `x[0] = 1`?
# 3. The image itself needs no gradient. What does a convolution save by knowing that?
#
# <details><summary>Answers</summary>
#
# 1. For a leaf `+=` is enough: it hands nothing on, so nobody can read a sum that is not complete. The
#    hasty walk of section 4 fails only where something *inside* the graph is used twice.
# 2. An op that has run keeps the array for its gradient (dx = dy · y needs y). If the array changed
#    afterwards, the gradient would belong to a computation that never took place.
# 3. The whole of `spread(dy, w)`, about a third of the layer's work, and for the first layer on the
#    largest map of all. minseg runs a gradient function only if its input needs it.
#
# </details>
#
# ## The exercises to do next
#
# `engine_backward`: write the walk of section 2 yourself, for any program. Then `conv_backward`: dx and dw
# of a convolution with stride and padding, with S as your only note.
#
# `python3 start.py exercises` copies the exercises to `minseg_work/exercises/`; `check` with a name says
# what is right, and of a wrong answer what it is. In a notebook: `from minseg.grading import check`.
