"""How large is the output of a convolution?

A window slides along a line of n pixels. Its kernel_size taps lie `dilation` pixels apart, from one
place to the next it moves on by `stride` pixels, and before the first and behind the last pixel the
line is continued by `padding` zeros. A place counts only if the whole window lies on this longer
line. Here n = 7, kernel_size = 3, stride = 2, padding = 1, which gives 4 places (p is a zero):

    p 0 1 2 3 4 5 6 p
    ^ ^ ^
        ^ ^ ^
            ^ ^ ^
                ^ ^ ^

Write the number of places as one line of arithmetic. You will need it in nearly every exercise.

Source: University of Waterloo, "Standard Convolution".
"""


def output_size(n, kernel_size, stride=1, padding=0, dilation=1):
    """How many places a window has along one axis.

        place i reads the pixels  s*i + d*u - p   for u = 0 ... k-1,
        and i counts from 0 on as long as all of them lie between -p and n - 1 + p

    n, kernel_size k, stride s, padding p (on either side) and dilation d are ints, in pixels; the
    window fits at least once. -> a whole number.
    """
    ### BEGIN SOLUTION
    return (n + 2 * padding - dilation * (kernel_size - 1) - 1) // stride + 1
    ### END SOLUTION


### FOR THE TEACHER

import minseg.functional as F
from minseg.grading.exercise import call, check, holds, right, wrong

REFERENCE = {"output_size": F.output_size}
HINTS = [
    """
    Draw a line of 7 pixels and push a window of 3 along it, pixel by pixel. How many places are
    there? How many with a window of 7? What is left of the answer if it moves 2 pixels at a time?
    """,
    """
    Count what is there (the pixels, and the padding of both sides), take away what the first window
    covers, holes included, and ask how often a whole stride fits into the rest. Mind what Python's
    / and // do, and what they do first.
    """,
    """
    covered = dilation * (kernel_size - 1) + 1
    rest = <all pixels, padded on both sides> - covered
    return <how many whole strides fit into rest> + <the first window itself>
    """,
]


@check("a window moves pixel by pixel")
def pixel_by_pixel(draw):
    k = draw.between(2, 4)
    yield call("output_size", k, k)
    yield call("output_size", k + draw.between(2, 6), k)
    yield call("output_size", 224, 7)


@check("stride: only every s-th place")
def strided(draw):
    s = draw.between(2, 4)
    yield call("output_size", 3 + 2 * draw.between(1, 2) + 1, 3, stride=2)
    yield call("output_size", 2 + s * draw.between(3, 5), 2, stride=s)
    yield call("output_size", 5 + s * draw.between(6, 9) + draw.between(1, s - 1), 5, stride=s)


@check("padding: zeros on both sides")
def padded(draw):
    yield call("output_size", draw.between(4, 6), 3, padding=1)
    yield call("output_size", draw.between(4, 9), 2, padding=draw.between(2, 3))
    yield call("output_size", 48, 7, padding=3)


@check("dilation: taps that lie d pixels apart")
def dilated(draw):
    yield call("output_size", draw.between(6, 9), 3, dilation=2)
    yield call("output_size", draw.between(9, 15), 2, dilation=draw.between(2, 5))
    yield call("output_size", draw.between(40, 60), 5, dilation=draw.between(2, 5))


@check("all at once")
def all_at_once(draw):
    for s, p, d, steps in ((2, 1, 1, 4), (3, 4, 2, 6), (4, 2, 3, 8)):
        k = draw.between(2, 5)
        n = d * (k - 1) + 1 - 2 * p + s * (steps + draw.between(0, 1)) + draw.between(1, s - 1)
        yield call("output_size", n, k, s, p, d)


@holds("pixels of padding are pixels: f(n, k, padding=p) = f(n + 2p, k)")
def padding_is_pixels(draw):
    n, p = draw.between(5, 9), draw.between(1, 3)
    (padded,), (longer,) = yield [
        call("output_size", n, 3, padding=p),
        call("output_size", n + 2 * p, 3),
    ]
    return padded == longer


@holds("one pixel short of a second place there is one place: f(k + s - 1, k, stride=s) = 1")
def one_pixel_short(draw):
    k, s = draw.between(2, 5), draw.between(2, 4)
    ((places,),) = yield [call("output_size", k + s - 1, k, stride=s)]
    return places == 1


@holds("a dilated kernel needs as much room as one of d(k - 1) + 1 taps")
def room(draw):
    n, k, d = draw.between(20, 30), draw.between(2, 4), draw.between(2, 4)
    (dilated,), (filled,) = yield [
        call("output_size", n, k, dilation=d),
        call("output_size", n, d * (k - 1) + 1),
    ]
    return dilated == filled


@wrong("output_size", "the right number for padding on one side only. There are p zeros before the "
       "first pixel, and p more behind the last one")  # fmt: skip
def padded_once(n, kernel_size, stride=1, padding=0, dilation=1):
    return (n + padding - dilation * (kernel_size - 1) - 1) // stride + 1


@wrong("output_size", "rounding up where it should be down: if a part of a stride is left at the "
       "end, no whole window fits there")  # fmt: skip
def rounds_up(n, kernel_size, stride=1, padding=0, dilation=1):
    return -(-(n + 2 * padding - dilation * (kernel_size - 1) - 1) // stride) + 1


@wrong("output_size", "one place too few: you counted the steps from window to window, and the "
       "first window needs no step")  # fmt: skip
def steps_only(n, kernel_size, stride=1, padding=0, dilation=1):
    return (n + 2 * padding - dilation * (kernel_size - 1) - 1) // stride


@wrong("output_size", "what would be right if a kernel with holes covered d k pixels. Draw k = 3, "
       "d = 2: behind the last tap there is no hole")  # fmt: skip
def hole_at_the_end(n, kernel_size, stride=1, padding=0, dilation=1):
    return (n + 2 * padding - dilation * kernel_size) // stride + 1


@wrong("output_size", "the formula without its brackets: Python divides before it subtracts, so "
       "only the 1 in front of // is divided by the stride")  # fmt: skip
def no_brackets(n, kernel_size, stride=1, padding=0, dilation=1):
    return n + 2 * padding - dilation * (kernel_size - 1) - 1 // stride + 1


@wrong("output_size", "the formula without its rounding: a fraction of a window is no window, so "
       "the division is one that rounds down")  # fmt: skip
def fractions(n, kernel_size, stride=1, padding=0, dilation=1):
    return (n + 2 * padding - dilation * (kernel_size - 1) - 1) / stride + 1


@right("output_size", "counts the places in a loop")
def counts(n, kernel_size, stride=1, padding=0, dilation=1):
    places, first = 0, -padding
    while first + dilation * (kernel_size - 1) <= n - 1 + padding:
        places += 1
        first += stride
    return places


@right("output_size", "the length of the range of first pixels")
def length_of_range(n, kernel_size, stride=1, padding=0, dilation=1):
    return len(range(-padding, n + padding - dilation * (kernel_size - 1), stride))


@right("output_size", "NumPy's sliding windows over a line of zeros")
def sliding_windows(n, kernel_size, stride=1, padding=0, dilation=1):
    import numpy as np

    line = np.zeros(n + 2 * padding)
    reach = dilation * (kernel_size - 1) + 1
    return len(np.lib.stride_tricks.sliding_window_view(line, reach)[::stride])


@right("output_size", "floor of a quotient, as a float")
def floor_of_float(n, kernel_size, stride=1, padding=0, dilation=1):
    import numpy as np

    return np.floor((n + 2 * padding - dilation * (kernel_size - 1) - 1) / stride + 1)


@right("output_size", "rounds up how many first pixels there are by strides")
def rounded_up(n, kernel_size, stride=1, padding=0, dilation=1):
    firsts = n + 2 * padding - dilation * (kernel_size - 1)
    return firsts // stride + (firsts % stride > 0)


@right("output_size", "the size of an integer array, int32")
def as_int32(n, kernel_size, stride=1, padding=0, dilation=1):
    import numpy as np

    line = np.convolve(np.ones(n + 2 * padding), np.ones(dilation * (kernel_size - 1) + 1), "valid")
    return np.int32(line[::stride].size)
