"""The kernel that interpolates bilinearly.

With the right kernel, a transposed convolution of stride s is bilinear interpolation. It is a tent,
1 at its centre and falling to 0 at the next pixel, which is s cells away on the large canvas; in two
dimensions, the product of a tent along the rows and a tent along the columns. For s = 2 it is the
kernel of the lecture's worked example:

    0.25  0.5  0.25
    0.5   1    0.5
    0.25  0.5  0.25

Where the centre falls is a choice, and two are in use. The lecture's kernel has its centre on a
cell. The kernel of the first FCN, made in Caffe, turns n pixels into exactly n s: if s is even, its
centre falls between two cells.

Source: University of Waterloo, "Transpose Convolution and Bilinear Interpolation"; Long, Shelhamer
and Darrell, Fully Convolutional Networks (2015), section 3.3.
"""

import numpy as np


def bilinear_kernel(stride, kind="align_corners"):
    """The kernel with which a transposed convolution of that stride interpolates bilinearly.

        k[u, v] = t[u] t[v],     t[u] = 1 - |u - c| / s,     u, v = 0 .. size - 1

    stride s: an int, 1 or more, in cells. c is the middle of the kernel, and
    kind "align_corners", the lecture's: size 2s - 1;
    kind "caffe", the FCN release's: size 2s - 1 where s is odd, 2s where s is even.
    -> k (size, size), floats (float32 or float64).
    """
    ### BEGIN SOLUTION
    even = kind == "caffe" and stride % 2 == 0
    size = 2 * stride if even else 2 * stride - 1
    centre = (size - 1) / 2
    tent = 1 - abs(np.arange(size) - centre) / stride
    return np.outer(tent, tent)
    ### END SOLUTION


### FOR THE TEACHER

import minseg.functional as F
from minseg.grading.exercise import call, check, holds, right, wrong

REFERENCE = {"bilinear_kernel": F.bilinear_kernel}
HINTS = [
    """
    Take s = 3 and draw the tent over an axis of cells: 1 at its centre, 0 three cells further on
    both sides. On how many cells is it more than 0, if its centre is on a cell? And what does it
    measure on each of them?
    """,
    """
    Make the tent first, in one dimension: the number of its taps, the middle of the places
    0 .. size - 1, the distance of each place from it, divided by s. The kernel is a table of
    products, each entry of the tent with each.
    """,
    """
    size = <depends on kind and on whether stride is even>
    centre = <the middle between 0 and size - 1>
    tent = 1 - abs(np.arange(size) - <...>) / <...>
    return <(size, size): tent[u] * tent[v]>
    """,
]


@check("the lecture's kernel, small strides")
def small(draw):
    yield call("bilinear_kernel", 2)
    yield call("bilinear_kernel", 1)
    yield call("bilinear_kernel", draw.between(3, 7))


@check("the lecture's kernel, larger strides")
def lecture(draw):
    yield call("bilinear_kernel", 3)
    yield call("bilinear_kernel", 4)
    yield call("bilinear_kernel", draw.between(8, 20))


@check("Caffe's kernel, an even stride")
def caffe_even(draw):
    yield call("bilinear_kernel", 2, kind="caffe")
    yield call("bilinear_kernel", 2 * draw.between(2, 9), kind="caffe")


@check("Caffe's kernel, an odd stride")
def caffe_odd(draw):
    yield call("bilinear_kernel", 3, kind="caffe")
    yield call("bilinear_kernel", 1, kind="caffe")
    yield call("bilinear_kernel", 2 * draw.between(2, 9) + 1, kind="caffe")


@check("any stride, both kinds", points=2)
def any_stride(draw):
    yield call("bilinear_kernel", draw.between(9, 12))
    yield call("bilinear_kernel", 2 * draw.between(5, 8), kind="caffe")
    yield call("bilinear_kernel", 2 * draw.between(5, 8) + 1, kind="caffe")


@holds("symmetric: unchanged when transposed, and when turned by 180 degrees")
def symmetric(draw):
    ((k,), (caffe,)) = yield [call("bilinear_kernel", 3), call("bilinear_kernel", 4, "caffe")]
    return all(
        np.allclose(each, each.T) and np.allclose(each, each[::-1, ::-1]) for each in (k, caffe)
    )


@holds("a flat image stays flat: every phase k[r::s, q::s] sums to 1")
def flat(draw):
    asked = [(2, "align_corners"), (3, "align_corners"), (4, "caffe")]
    answers = yield [call("bilinear_kernel", *each) for each in asked]
    return all(
        np.allclose([k[r::s, q::s].sum() for r in range(s) for q in range(s)], 1)
        for (s, _), (k,) in zip(asked, answers, strict=True)
    )


@holds("it makes the lecture's 7 x 7 out of 4 x 4, equal to bilinear interpolation")
def interpolates(draw):
    x = draw.integers(4, 4)
    ((k,),) = yield [call("bilinear_kernel", 2)]
    if k.shape != (3, 3):
        return False
    y = F.conv_transpose2d(x, k.astype(np.float64), stride=2, padding=1)
    return np.allclose(y, F.interpolate(x, size=7, mode="bilinear", align_corners=True), atol=1e-5)


@wrong("bilinear_kernel", "a kernel of 2s taps along a side for every stride and kind. A tent whose "
       "middle is on a cell has an odd number of taps: count them for s = 2")  # fmt: skip
def always_even(stride, kind="align_corners"):
    tent = 1 - abs(np.arange(2 * stride) - (2 * stride - 1) / 2) / stride
    return np.outer(tent, tent)


half_a_cell_off = wrong(
    "bilinear_kernel",
    "a tent whose middle is half a cell off: s - 1/2, right only for a kernel of even size. The "
    "largest entry of a kernel of odd size is 1",
    {"centre = (size - 1) / 2": "centre = stride - 0.5"},
)


sums_to_one = wrong(
    "bilinear_kernel",
    "the kernel divided by its sum. A blur has to sum to 1; here each of the s * s phases has to, "
    "so the whole kernel sums to s * s",
    {"np.outer(tent, tent)": "np.outer(tent, tent) / tent.sum() ** 2"},
)


mean_of_tents = wrong(
    "bilinear_kernel",
    "the mean of the two tents, where their product is asked for. In the corner of the lecture's "
    "kernel stands 0.25 = 0.5 x 0.5",
    {"np.outer(tent, tent)": "(tent[:, None] + tent) / 2"},
)


zero_at_the_ends = wrong(
    "bilinear_kernel",
    "a tent that falls to 0 at its own outermost taps. It reaches 0 one step beyond them, s cells "
    "from the middle, where the next pixel stands",
    {"- centre) / stride": "- centre) / max(centre, 1)"},
)


@wrong("bilinear_kernel", "the lecture's kernel for both kinds. At an even stride Caffe's has one tap "
       "more, and its middle lies between two cells")  # fmt: skip
def one_kind(stride, kind="align_corners"):
    tent = 1 - abs(np.arange(2 * stride - 1) - (stride - 1)) / stride
    return np.outer(tent, tent)


@right("bilinear_kernel", "loops in plain Python")
def plain_loops(stride, kind="align_corners"):
    even = kind == "caffe" and stride % 2 == 0
    size = 2 * stride if even else 2 * stride - 1
    k = np.zeros((size, size))
    for u in range(size):
        for v in range(size):
            down, across = abs(u - (size - 1) / 2), abs(v - (size - 1) / 2)
            k[u, v] = (1 - down / stride) * (1 - across / stride)
    return k


@right("bilinear_kernel", "a box convolved with a box; once more with two halves for an even Caffe")
def boxes(stride, kind="align_corners"):
    box = np.ones(stride)
    tent = np.convolve(box, box) / stride
    if kind == "caffe" and stride % 2 == 0:
        tent = np.convolve(tent, [0.5, 0.5])
    return tent[:, None] * tent


@right("bilinear_kernel", "up and down, joined; float32, Fortran order")
def up_and_down(stride, kind="align_corners"):
    s = stride
    if kind == "caffe" and s % 2 == 0:
        up = (np.arange(s, dtype=np.float32) + 0.5) / s
        tent = np.concatenate([up, up[::-1]])
    else:
        up = np.arange(1, s + 1, dtype=np.float32) / s
        tent = np.concatenate([up, up[-2::-1]])
    return np.asfortranarray(np.outer(tent, tent).astype(np.float32))


@right("bilinear_kernel", "the drawn tent, read off at the cells")
def read_off(stride, kind="align_corners"):
    size = 2 * stride - (stride % 2 if kind == "caffe" else 1)
    places = np.linspace(-(size - 1) / 2, (size - 1) / 2, size)
    tent = np.interp(places, [-stride, 0, stride], [0, 1, 0])
    return np.einsum("u,v->uv", tent, tent)


@right("bilinear_kernel", "what one pixel becomes under interpolation")
def of_an_impulse(stride, kind="align_corners"):
    size = 2 * stride - (stride % 2 if kind == "caffe" else 1)
    rows = np.zeros((size, 3))  # weights of the pixels at -s, 0 and s from the middle
    for u in range(size):
        at = (u - (size - 1) / 2) / stride + 1
        low = min(int(at), 1)
        rows[u, low], rows[u, low + 1] = 1 - (at - low), at - low
    impulse = np.zeros((3, 3))
    impulse[1, 1] = 1
    return rows @ impulse @ rows.T


@right("bilinear_kernel", "the Fourier transform of a box, squared")
def fourier(stride, kind="align_corners"):
    box = np.fft.rfft(np.ones(stride), 4 * stride)
    tent = np.fft.irfft(box * box, 4 * stride)[: 2 * stride - 1] / stride
    if kind == "caffe" and stride % 2 == 0:
        tent = (np.append(tent, 0) + np.append(0, tent)) / 2
    return np.outer(tent, tent)
