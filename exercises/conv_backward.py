"""The backward pass of a convolution.

On the way forward, a convolution multiplies three things wherever a window stands: a pixel of the
image, a cell of the kernel, and, to first order, the gradient dy of the output pixel that they make:

    S = sum over n, o, c, i, j, u, v of  dy[n, o, i, j] * w[o, c, u, v] * x[n, c, s*i + u - p, s*j + v - p]

S is linear in x and in w, so the gradient of a pixel or of a kernel cell is all that stands beside it
in S. Sort S by pixels, and you have dx; sort it by kernel cells, and you have dw. (s is the stride,
p the padding: pixels outside the image are 0, and nobody wants their gradient.)

Source: University of Waterloo, "Transpose Convolution: other names" (backward convolution).
"""

import numpy as np


def conv2d_backward(dy, x, w, stride=1, padding=0):
    """The gradients of y = conv2d(x, w, b, stride, padding) in x, w and b.

        y[n,o,i,j] = b[o] + sum over c,u,v of w[o,c,u,v] x[n, c, s*i + u - p, s*j + v - p]

        dx = dS/dx,    dw = dS/dw,    db = dL/db        where dy = dL/dy is given

    dy (N, O, OH, OW), x (N, C, H, W), w (O, C, KH, KW); stride s and padding p are ints, in pixels.
    -> a tuple (dx, dw, db) of shapes (N, C, H, W), (O, C, KH, KW) and (O,).
    A pixel that no window saw has gradient 0.
    """
    ### BEGIN SOLUTION
    N, C, H, W = x.shape
    O, _, KH, KW = w.shape
    s, p = stride, padding
    framed = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    d_framed, dw = np.zeros(framed.shape), np.zeros(w.shape)
    for i in range(dy.shape[2]):
        for j in range(dy.shape[3]):
            window = np.s_[:, :, s * i : s * i + KH, s * j : s * j + KW]
            here = dy[:, :, i, j]
            d_framed[window] += np.einsum("no,ocuv->ncuv", here, w)
            dw += np.einsum("no,ncuv->ocuv", here, framed[window])
    dx = d_framed[:, :, p : p + H, p : p + W]
    return dx, dw, dy.sum(axis=(0, 2, 3))
    ### END SOLUTION


### FOR THE TEACHER

import minseg.functional as F
from minseg import Tensor
from minseg.grading.exercise import call, check, holds, right, wrong


def library(dy, x, w, stride=1, padding=0):
    leaves = [Tensor(a, requires_grad=True) for a in (x, w, np.zeros(len(w)))]
    F.conv2d(*leaves, stride, padding).backward(dy)
    return tuple(leaf.grad for leaf in leaves)


REFERENCE = {"conv2d_backward": library}
HINTS = [
    """
    Take the image x = [[1, 2, 3]], the kernel w = [[4, 5]] and dy = [[6, 7]]. Which windows saw the
    pixel 2, and with which kernel cell did each multiply it? Its gradient is the sum of dy times
    kernel cell over these. And the kernel cell 4: which pixels did it meet?
    """,
    """
    Frame x with p zeros and walk over the output pixels (i, j), as the forward pass does. At each,
    dx gets a copy of the kernel times dy at the place of the window, and dw gets the window times
    dy; both with +=. Images and channels are an einsum: (N, O) with (O, C, KH, KW) for the image,
    (N, O) with (N, C, KH, KW) for the kernel. At the end the frame's own gradient is cropped away.
    """,
    """
    for i in range(OH):
        for j in range(OW):
            here = dy[:, :, i, j]
            d_framed[:, :, <rows from s*i on>, <columns from s*j on>] += np.einsum("no,ocuv->ncuv", here, w)
            dw += np.einsum("no,<?>->ocuv", here, <the window of the framed image>)
    then crop d_framed, and sum dy over <which axes?> for db.
    """,
]


def case(draw, x, w, **geometry):
    """A call for an image and a kernel of these shapes, with dy of the shape that fits."""
    N, _, *sides = x
    s, p = geometry.get("stride", 1), geometry.get("padding", 0)
    out = [(n + 2 * p - k) // s + 1 for n, k in zip(sides, w[2:], strict=True)]
    arrays = draw.integers(N, w[0], *out), draw.integers(*x), draw.integers(*w)
    return call("conv2d_backward", *arrays, **geometry)


@check("one window: dx is the kernel, dw the image, each times dy")
def one_window(draw):
    yield case(draw, (1, 1, 1, 2), (1, 1, 1, 2))
    yield case(draw, (1, 1, 3, 2), (1, 1, 3, 2))


@check("where windows overlap, gradients add up")
def overlap(draw):
    yield case(draw, (1, 1, 1, 3), (1, 1, 1, 2))
    yield case(draw, (1, 1, 3, 3), (1, 1, 2, 2))
    yield case(draw, (1, 1, 5, 4), (1, 1, 2, 3))


@check("a stride moves the windows apart; some pixels nobody saw")
def strided(draw):
    yield case(draw, (1, 1, 1, 4), (1, 1, 1, 1), stride=2)
    yield case(draw, (1, 1, 5, 4), (1, 1, 2, 2), stride=2)
    yield case(draw, (1, 1, 7, 6), (1, 1, 3, 2), stride=draw.between(2, 3))


@check("padding: the frame's gradient is cropped away")
def padded(draw):
    yield case(draw, (1, 1, 1, 1), (1, 1, 2, 2), padding=1)
    yield case(draw, (1, 1, 3, 2), (1, 1, 3, 3), padding=1)
    yield case(draw, (1, 1, 4, 5), (1, 1, 3, 4), stride=2, padding=draw.between(1, 2))


@check("several images and channels, fractions", points=2)
def channels(draw):
    C, O = draw.one_of((2, 3), (3, 2))
    yield call("conv2d_backward", *(draw.integers(1, 1, 1, 1) + 0.5 for _ in range(3)))
    yield case(draw, (2, 1, 1, 2), (1, 1, 1, 2))
    yield case(draw, (1, 2, 2, 2), (3, 2, 2, 1))
    yield case(draw, (3, C, 4, 5), (O, C, 3, 2))
    yield case(draw, (2, C, 6, 5), (O, C, 3, 2), stride=2, padding=1)


@holds("shapes: dx like x, dw like w, db (O,)")
def shapes(draw):
    answers = yield [
        case(draw, (2, 3, 5, 4), (2, 3, 3, 2), stride=s, padding=p) for s in (1, 2) for p in (0, 1)
    ]
    sizes = (2, 3, 5, 4), (2, 3, 3, 2), (2,)
    return all((dx.shape, dw.shape, db.shape) == sizes for dx, dw, db in answers)


@holds("dx: <dx, z> = <dy, conv2d(z, w)> for any image z")
def adjoint(draw):
    asked = case(draw, (2, 2, 5, 4), (3, 2, 3, 2), stride=2)
    ((dx, _, _),) = yield [asked]
    (dy, _, w), z = asked.args, draw.integers(2, 2, 5, 4)
    return (dx * z).sum() == (dy * F.conv2d(z, w, stride=2)).sum()


@holds("dw: <dw, v> = <dy, conv2d(x, v)> for any kernel v")
def adjoint_in_the_kernel(draw):
    asked = case(draw, (2, 2, 5, 4), (3, 2, 3, 2), stride=2)
    ((_, dw, _),) = yield [asked]
    (dy, x, _), v = asked.args, draw.integers(3, 2, 3, 2)
    return (dw * v).sum() == (dy * F.conv2d(x, v, stride=2)).sum()


turned = wrong(
    "conv2d_backward",
    "a dx made with the kernel turned by 180 degrees. The pixel under kernel cell (u, v) gets dy "
    "times that same cell: stamping needs no turn. Only if you slide a kernel over a framed dy "
    "instead must it be turned",
    {"here, w)": "here, w[:, :, ::-1, ::-1])"},
)


overwrites = wrong(
    "conv2d_backward",
    "a dx in which the last window that saw a pixel overwrites what the others had handed it. All "
    "windows count: +=",
    {"[window] += ": "[window] = "},
)


overwrites_dw = wrong(
    "conv2d_backward",
    "a dw of the last window alone: it overwrites what the windows before have given. All windows "
    "count: +=",
    {"dw += ": "dw = "},
)


overwrites_both = wrong(
    "conv2d_backward",
    "a dx and a dw in which the last window overwrites what the others have given. All windows "
    "count: +=",
    {"[window] += ": "[window] = ", "dw += ": "dw = "},
)


without_stride = wrong(
    "conv2d_backward",
    "windows one pixel apart, whatever the stride. Those of the forward pass lay a stride apart, and "
    "dx and dw need the same ones",
    {"s, p = stride, padding": "s, p = 1, padding"},
)


stride_forgotten = wrong(
    "conv2d_backward",
    "a dx whose stamps lie one pixel apart. The windows of the forward pass lay a stride apart, "
    "and the gradient goes back to where the pixels came from",
    {"d_framed[window] +=": "d_framed[:, :, i : i + KH, j : j + KW] +="},
)


frame_left = wrong(
    "conv2d_backward",
    "a dx that still has its frame. The padding's zeros were put there by the convolution: x had "
    "no such pixels",
    {"d_framed[:, :, p : p + H, p : p + W]": "d_framed"},
)


crops_all = wrong(
    "conv2d_backward",
    "what the slice p:-p leaves of dx. Without padding it reads 0:0, for -0 is 0, and nothing is "
    "left. Count the end of the crop from the front",
    {"p : p + H, p : p + W": "p:-p, p:-p"},
)


mean_over_images = wrong(
    "conv2d_backward",
    "a dw that is the mean over the images. One kernel served all of them, and gradients of all "
    "uses add up; whether the loss is a mean is dy's affair",
    {"return dx, dw": "return dx, dw / N"},
)


mean_for_bias = wrong(
    "conv2d_backward",
    "a db that is the mean of dy. b[o] is added to every pixel of output channel o, and gradients "
    "of all uses add up",
    {"dy.sum(axis": "dy.mean(axis"},
)


@right("conv2d_backward", "loops over all that S sums")
def loops(dy, x, w, stride=1, padding=0):
    dx, dw, db = np.zeros(x.shape), np.zeros(w.shape), np.zeros(len(w))
    for n, o, i, j in np.ndindex(dy.shape):
        db[o] += dy[n, o, i, j]
        for c, u, v in np.ndindex(w.shape[1:]):
            row, column = stride * i + u - padding, stride * j + v - padding
            if 0 <= row < x.shape[2] and 0 <= column < x.shape[3]:
                dx[n, c, row, column] += dy[n, o, i, j] * w[o, c, u, v]
                dw[o, c, u, v] += dy[n, o, i, j] * x[n, c, row, column]
    return dx, dw, db


@right("conv2d_backward", "kernel cell by kernel cell; Fortran order")
def taps(dy, x, w, stride=1, padding=0):
    s, p = stride, padding
    N, C, H, W = x.shape
    OH, OW = dy.shape[2:]
    framed = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    d_framed, dw = np.zeros(framed.shape, order="F"), np.zeros(w.shape, order="F")
    for u, v in np.ndindex(w.shape[2:]):
        met = np.s_[:, :, u : u + s * OH : s, v : v + s * OW : s]
        d_framed[met] += np.tensordot(dy, w[:, :, u, v], (1, 0)).transpose(0, 3, 1, 2)
        dw[:, :, u, v] = np.tensordot(dy, framed[met], ((0, 2, 3), (0, 2, 3)))
    return d_framed[:, :, p : p + H, p : p + W], dw, np.einsum("noij->o", dy)


@right(
    "conv2d_backward",
    "both as convolutions: the turned kernel over a framed dy with holes; float32",
)
def convolutions(dy, x, w, stride=1, padding=0):
    windows_of = np.lib.stride_tricks.sliding_window_view
    s, p = stride, padding
    (N, _, H, W), (O, _, KH, KW) = x.shape, w.shape
    dy, x, w = (a.astype(np.float32) for a in (dy, x, w))
    holes = np.zeros((N, O, H + 2 * p - KH + 1, W + 2 * p - KW + 1), np.float32)
    holes[:, :, ::s, ::s] = dy
    framed = np.pad(holes, ((0, 0), (0, 0), (KH - 1, KH - 1), (KW - 1, KW - 1)))
    dx = np.einsum("noijuv,ocuv->ncij", windows_of(framed, (KH, KW), (2, 3)), w[:, :, ::-1, ::-1])
    x = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    dw = np.einsum("ncuvij,noij->ocuv", windows_of(x, holes.shape[2:], (2, 3)), holes)
    return dx[:, :, p : p + H, p : p + W], dw, dy.sum(axis=(0, 2, 3))


@right(
    "conv2d_backward", "columns: one matrix product each, and the columns put back where they were"
)
def columns(dy, x, w, stride=1, padding=0):
    N, C, H, W = x.shape
    O, _, KH, KW = w.shape
    OH, OW = dy.shape[2:]
    framed = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    rows = stride * np.arange(OH)[:, None] + np.arange(KH)[:, None, None, None]
    cols = stride * np.arange(OW) + np.arange(KW)[:, None, None]
    gathered = framed[:, :, rows, cols].reshape(N, C * KH * KW, OH * OW)
    flat = dy.reshape(N, O, OH * OW)
    dw = (flat @ gathered.transpose(0, 2, 1)).sum(axis=0).reshape(w.shape)
    back = (w.reshape(O, -1).T @ flat).reshape(N, C, KH, KW, OH, OW)
    d_framed = np.zeros(framed.shape)
    np.add.at(d_framed, (slice(None), slice(None), rows, cols), back)
    return d_framed[:, :, padding : padding + H, padding : padding + W], dw, flat.sum(axis=(0, 2))


@right("conv2d_backward", "the matrix of the convolution, transposed; kernel cells by poking them")
def matrix(dy, x, w, stride=1, padding=0):
    s, p = stride, padding
    (_, C, H, W), (O, _, KH, KW), (OH, OW) = x.shape, w.shape, dy.shape[2:]
    A = np.zeros((O, OH, OW, C, H + 2 * p, W + 2 * p))
    framed = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    dw = np.zeros(w.shape)
    for i, j in np.ndindex(OH, OW):
        A[:, i, j, :, s * i : s * i + KH, s * j : s * j + KW] = w
    for o, c, u, v in np.ndindex(w.shape):
        y = framed[:, c, u : u + s * (OH - 1) + 1 : s, v : v + s * (OW - 1) + 1 : s]
        dw[o, c, u, v] = (dy[:, o] * y).sum()
    dx = np.tensordot(dy, A, ((1, 2, 3), (0, 1, 2)))
    return dx[:, :, p : p + H, p : p + W], dw, dy.sum(axis=3).sum(axis=2).sum(axis=0)


@right("conv2d_backward", "products of Fourier transforms")
def fourier(dy, x, w, stride=1, padding=0):
    s, p = stride, padding
    N, C, H, W = x.shape
    framed = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    holes = np.zeros((N, len(w), *framed.shape[2:]))
    for i, j in np.ndindex(dy.shape[2:]):
        holes[:, :, s * i, s * j] = dy[:, :, i, j]
    size = framed.shape[2:]
    of_x, of_w, of_dy = (np.fft.rfft2(a, size) for a in (framed, w, holes))
    d_framed = np.fft.irfft2(np.einsum("noij,ocij->ncij", of_dy, of_w), size)
    dw = np.fft.irfft2(np.einsum("noij,ncij->ocij", of_dy.conj(), of_x), size)
    dx = d_framed[:, :, p : p + H, p : p + W]
    return dx, dw[:, :, : w.shape[2], : w.shape[3]], dy.sum(axis=(0, 2, 3))
